"""Rows by index: reading them (gather, embedding) and adding into them (its derivative)."""

from __future__ import annotations

from ..call import Part
from ..kernel import NUMBERS, Kernel, template


def gather(dtype: str) -> Kernel:
    """out[i, :] = table[index[i], :] for i < count; rows of `width` adjacent elements.

    rows                       of the table; a negative index counts from the end
    table_stride, out_stride   elements from row to row; index_stride: from index to index
    err                        int64[4]: an index out of range is clamped, and the first one noted as
                               (1, node, first + i, index) if err[0] is still 0
    """
    return template("gather", dtype, GATHER_PARAMS, GATHER, (*NUMBERS, "bool"))


def scatter_add(dtype: str) -> Kernel:
    """out[index[i], :] += g[i, :] for i = 0 .. count - 1, in this order; rows of `width` adjacent elements.

    `rows` are those of out. The caller zeroes out, and splits work by columns, so that equal indices never
    meet in two threads. Indices out of range: as for gather.
    """
    return template("scatter_add", dtype, SCATTER_PARAMS, SCATTER, NUMBERS)


def bounded(dtype: str) -> Kernel:
    """out[i] = index[i] for i < count. One outside of [0, size) that is not `ignore` becomes 0, and is noted in err
    as gather does.
    """
    params = "index:i64* out:i64* err:i64* node:i64 size:i64 ignore:i64 count:i64 first:i64"
    pairs = tuple((p, t) for p, t in (item.split(":") for item in params.split()))
    return Kernel("bounded_i64", pairs, f"def bounded_i64({', '.join(p for p, _ in pairs)}):{BOUNDED}")


BOUNDED = """
    for i in range(count):
        value = ld(index, i)
        if (value < 0 or value >= size) and value != ignore:
            if atomic_swap(err, 0, 1):
                st(err, 1, node)
                st(err, 2, first + i)
                st(err, 3, value)
            value = 0
        st(out, i, value)
"""


FIND_ROW = """
    for i in range(count):
        value = ld(index, i * index_stride)
        row = value + rows if value < 0 else value
        if row < 0 or row >= rows:
            if atomic_swap(err, 0, 1):
                st(err, 1, node)
                st(err, 2, first + i)
                st(err, 3, value)
            row = maximum(minimum(row, rows - 1), 0)"""

GATHER_PARAMS = (
    "table:T* index:i64* out:T* err:i64* node:i64 rows:i64 count:i64 width:i64 "
    "table_stride:i64 index_stride:i64 out_stride:i64 first:i64"
)
GATHER = (
    FIND_ROW
    + """
        source = at(table, row * table_stride)
        to = at(out, i * out_stride)
        if rows > 0:
            for j in range(width):
                st(to, j, ld(source, j))
        else:
            for j in range(width):
                st(to, j, T(0))
"""
)

SCATTER_PARAMS = (
    "g:T* index:i64* out:T* err:i64* node:i64 rows:i64 count:i64 width:i64 "
    "g_stride:i64 index_stride:i64 out_stride:i64 first:i64"
)
SCATTER = (
    FIND_ROW
    + """
        source = at(g, i * g_stride)
        to = at(out, row * out_stride)
        if rows > 0:
            for j in range(width):
                st(to, j, ld(to, j) + ld(source, j))
"""
)


def gather_words(part: Part) -> list[int]:
    table, index, out, _ = part.call.slots
    count, width, rows = part.sizes
    strides = [table.strides[2], index.strides[0], out.strides[0]]
    return [*part.pointers, int(part.call.params[0]), rows, count, width, *strides, part.starts[0]]


def scatter_add_words(part: Part) -> list[int]:
    g, index, out, _ = part.call.slots
    count, width, rows = part.sizes
    strides = [g.strides[0], index.strides[0], out.strides[2]]
    return [*part.pointers, int(part.call.params[0]), rows, count, width, *strides, part.starts[0]]


def bounded_words(part: Part) -> list[int]:
    node, size, ignore = part.call.params
    return [*part.pointers, int(node), int(size), int(ignore), part.sizes[0], part.starts[0]]
