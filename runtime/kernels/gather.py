"""Elements by index: reading them, adding into them (its derivative), and checking the indices themselves.

A kernel whose index is out of range notes the first one in `err` (int64[4]) as (1, node, first + its number, index) if
err[0] is still 0, and goes on with the nearest that is in range. A negative index counts from the end.
"""

from __future__ import annotations

from textwrap import indent

from ..call import Part
from ..kernel import NUMBERS, Kernel, template


def find_row(number: str, place: str, depth: int) -> str:
    """Source that sets `row` in [0, rows) from index number `number`, which stands at `place`."""
    return indent(
        f"""value = ld(index, {place})
row = value + rows if value < 0 else value
if row < 0 or row >= rows:
    if atomic_swap(err, 0, 1):
        st(err, 1, node)
        st(err, 2, first + {number})
        st(err, 3, value)
    row = maximum(minimum(row, rows - 1), 0)
""",
        "    " * depth,
    )


# rows: one index for everything beside the axis ---------------------------------------------------------------------
def gather(dtype: str) -> Kernel:
    """out[o, i, :] = table[o, index[i], :] for o < outer, i < count; rows of `width` adjacent elements.

    rows                       of the table along the axis
    *_outer, *_stride          elements from o to o + 1, and from row to row; index_stride: from index to index
    """
    return template("gather", dtype, GATHER_PARAMS, GATHER, (*NUMBERS, "bool"))


def scatter_add(dtype: str) -> Kernel:
    """out[o, index[i], :] += g[o, i, :] for o < outer, i = 0 .. count - 1, in this order; of `width` adjacent elements.

    `rows` are those of out. The caller zeroes out, and splits work by outer or by columns, so that equal indices never
    meet in two threads.
    """
    return template("scatter_add", dtype, SCATTER_PARAMS, SCATTER, NUMBERS)


GATHER_PARAMS = (
    "table:T* index:i64* out:T* err:i64* node:i64 rows:i64 outer:i64 count:i64 width:i64 "
    "table_outer:i64 table_stride:i64 index_stride:i64 out_outer:i64 out_stride:i64 first:i64"
)
GATHER = f"""
    for o in range(outer):
        for i in range(count):
{find_row("i", "i * index_stride", 3)}
            source = at(table, o * table_outer + row * table_stride)
            to = at(out, o * out_outer + i * out_stride)
            if rows > 0:
                for j in range(width):
                    st(to, j, ld(source, j))
            else:
                for j in range(width):
                    st(to, j, T(0))
"""

SCATTER_PARAMS = GATHER_PARAMS.replace("table", "g")
SCATTER = f"""
    for o in range(outer):
        for i in range(count):
{find_row("i", "i * index_stride", 3)}
            source = at(g, o * g_outer + i * g_stride)
            to = at(out, o * out_outer + row * out_stride)
            if rows > 0:
                for j in range(width):
                    st(to, j, ld(to, j) + ld(source, j))
"""


def rows_words(part: Part) -> list[int]:
    """The instruction's axes are (outer, count, width, rows). The table steps along its rows, x of a scatter_add along
    its count, and out the other way round: what is not stepped along has stride 0."""
    x, index, out, _ = part.call.slots
    outer, count, width, rows = part.sizes
    strides = [x.strides[0], x.strides[1] + x.strides[3], index.strides[1]]
    strides += [out.strides[0], out.strides[1] + out.strides[3]]
    return [*part.pointers, int(part.call.params[0]), rows, outer, count, width, *strides, part.starts[1]]


# elements: an index of its own for every element --------------------------------------------------------------------
def gather_along(dtype: str) -> Kernel:
    """out[o, i, j] = x[o, index[o, i, j], j] for o < outer, i < count, j < width.

    rows              of x along the axis; the elements of a row are adjacent
    *_outer, *_row    elements from o to o + 1, and from i to i + 1
    """
    return template("gather_along", dtype, ALONG_PARAMS, GATHER_ALONG, (*NUMBERS, "bool"))


def scatter_add_along(dtype: str) -> Kernel:
    """out[o, index[o, i, j], j] += x[o, i, j] for o < outer, i = 0 .. count - 1, j < width.

    `rows` are those of out along the axis. The caller zeroes out, and splits work by o or j.
    """
    return template("scatter_add_along", dtype, ALONG_PARAMS, SCATTER_ALONG, NUMBERS)


ALONG_PARAMS = (
    "x:T* index:i64* out:T* err:i64* node:i64 rows:i64 outer:i64 count:i64 width:i64 x_outer:i64 x_row:i64 "
    "index_outer:i64 index_row:i64 out_outer:i64 out_row:i64 first:i64"
)
ALONG = f"""
    for o in range(outer):
        for i in range(count):
            for j in range(width):
{find_row("o * index_outer + i * index_row + j", "o * index_outer + i * index_row + j", 4)}"""
GATHER_ALONG = (
    ALONG
    + """
                to = o * out_outer + i * out_row + j
                if rows > 0:
                    st(out, to, ld(x, o * x_outer + row * x_row + j))
                else:
                    st(out, to, T(0))
"""
)
SCATTER_ALONG = (
    ALONG
    + """
                to = o * out_outer + row * out_row + j
                if rows > 0:
                    st(out, to, ld(out, to) + ld(x, o * x_outer + i * x_row + j))
"""
)


def along_words(part: Part) -> list[int]:
    """The instruction's axes are (outer, count, width, rows); indices are dense."""
    x, index, out, _ = part.call.slots
    outer, count, width, rows = part.sizes
    strides = [x.strides[0], x.strides[1] + x.strides[3], index.strides[0], index.strides[1]]
    strides += [out.strides[0], out.strides[1] + out.strides[3]]
    first = sum(start * step for start, step in zip(part.starts, index.strides, strict=True))
    return [*part.pointers, int(part.call.params[0]), rows, outer, count, width, *strides, first]


# indices themselves -------------------------------------------------------------------------------------------------
def bounded(dtype: str) -> Kernel:
    """out[i] = index[i] for i < count if it is `ignore` or lies in [low, rows), plus rows if it is negative; else as
    for gather."""
    params = "index:i64* out:i64* err:i64* node:i64 low:i64 rows:i64 ignore:i64 count:i64 first:i64"
    return template("bounded", dtype, params, BOUNDED, ("i64",))


BOUNDED = f"""
    for i in range(count):
        if ld(index, i) == ignore:
            st(out, i, ignore)
        else:
            if ld(index, i) < low:
                if atomic_swap(err, 0, 1):
                    st(err, 1, node)
                    st(err, 2, first + i)
                    st(err, 3, ld(index, i))
{find_row("i", "i", 3)}
            st(out, i, row)
"""


def bounded_words(part: Part) -> list[int]:
    return [*part.pointers, *(int(p) for p in part.call.params), part.sizes[0], part.starts[0]]


def last_index(dtype: str) -> Kernel:
    """out[r] = the greatest i < count with index[i] = r, or -1, for r < rows."""
    params = "index:i64* out:i64* err:i64* node:i64 rows:i64 count:i64 first:i64"
    return template("last_index", dtype, params, LAST_INDEX, ("i64",))


LAST_INDEX = f"""
    for r in range(rows):
        st(out, r, -1)
    for i in range(count):
{find_row("i", "i", 2)}
        if rows > 0:
            st(out, row, i)
"""


def last_index_words(part: Part) -> list[int]:
    count, rows = part.sizes
    return [*part.pointers, int(part.call.params[0]), rows, count, 0]
