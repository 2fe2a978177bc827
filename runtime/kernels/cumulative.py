"""Running sums, linear recurrences and running extremes along an axis: arrays are (outer, n along the axis, width
adjacent elements).

A run from the end is one with pointers to the last row and negative strides.
"""

from __future__ import annotations

from ..call import Part
from ..kernel import FLOATS, NUMBERS, Kernel, template


def cumsum(dtype: str) -> Kernel:
    """out[o, k, j] = x[o, 0, j] + ... + x[o, k, j].

    *_outer, *_row    elements from o to o + 1, and from k to k + 1
    line              1: the width is 1, and sums of float32 are kept in float64; 0: one row is added to the one before
    """
    wide = "f64" if dtype == "f32" else dtype
    return template("cumsum", dtype, CUMSUM_PARAMS, CUMSUM.replace("W(", f"{wide}("), NUMBERS)


CUMSUM_PARAMS = "x:T* out:T* outer:i64 n:i64 width:i64 x_outer:i64 x_row:i64 out_outer:i64 out_row:i64 line:i64"
CUMSUM = """
    for o in range(outer):
        source = at(x, o * x_outer)
        to = at(out, o * out_outer)
        if line:
            total = W(0)
            for k in range(n):
                total = total + W(ld(source, k * x_row))
                st(to, k * out_row, T(total))
        elif n > 0:
            for j in range(width):
                st(to, j, ld(source, j))
            for k in range(1, n):
                for j in range(width):
                    st(to, k * out_row + j, ld(to, (k - 1) * out_row + j) + ld(source, k * x_row + j))
"""


def linear_scan(dtype: str) -> Kernel:
    """out[o, k, j] = a[o, k, j] * out[o, k - 1, j] + b[o, k, j], out[o, 0, j] = b[o, 0, j]; strides as for cumsum."""
    return template("linear_scan", dtype, SCAN_PARAMS, SCAN, NUMBERS)


SCAN_PARAMS = (
    "a:T* b:T* out:T* outer:i64 n:i64 width:i64 a_outer:i64 a_row:i64 b_outer:i64 b_row:i64 "
    "out_outer:i64 out_row:i64 line:i64"
)
SCAN = """
    for o in range(outer):
        factor = at(a, o * a_outer)
        term = at(b, o * b_outer)
        to = at(out, o * out_outer)
        if n > 0:
            if line:
                y = ld(term, 0)
                st(to, 0, y)
                for k in range(1, n):
                    y = T(ld(factor, k * a_row) * y + ld(term, k * b_row))
                    st(to, k * out_row, y)
            else:
                for j in range(width):
                    st(to, j, ld(term, j))
                for k in range(1, n):
                    for j in range(width):
                        before = ld(to, (k - 1) * out_row + j)
                        st(to, k * out_row + j, ld(factor, k * a_row + j) * before + ld(term, k * b_row + j))
"""


def cummax(dtype: str) -> Kernel:
    """out[o, k, j] = the greatest of x[o, :k + 1, j], or NaN where one is; index has the last k at which it is that.
    Strides as for cumsum."""
    return template("cummax", dtype, EXTREME_PARAMS, EXTREME.replace("BETTER", _better(">=", dtype)), NUMBERS)


def cummin(dtype: str) -> Kernel:
    """As cummax, the least."""
    return template("cummin", dtype, EXTREME_PARAMS, EXTREME.replace("BETTER", _better("<=", dtype)), NUMBERS)


def _better(sign: str, dtype: str) -> str:
    """Source: whether v takes the place of `best`. Nothing but another NaN takes the place of NaN."""
    return f"((v {sign} best) | isnan(v))" if dtype in FLOATS else f"(v {sign} best)"


EXTREME_PARAMS = (
    "x:T* out:T* index:i64* outer:i64 n:i64 width:i64 x_outer:i64 x_row:i64 out_outer:i64 out_row:i64 "
    "index_outer:i64 index_row:i64 line:i64"
)
EXTREME = """
    for o in range(outer):
        source = at(x, o * x_outer)
        to = at(out, o * out_outer)
        places = at(index, o * index_outer)
        if n > 0:
            for j in range(width):
                st(to, j, ld(source, j))
                st(places, j, i64(0))
            if line:
                best = ld(source, 0)
                place = i64(0)
                for k in range(1, n):
                    v = ld(source, k * x_row)
                    if BETTER:
                        best = v
                        place = i64(k)
                    st(to, k * out_row, best)
                    st(places, k * index_row, place)
            else:
                for k in range(1, n):
                    for j in range(width):
                        v = ld(source, k * x_row + j)
                        best = ld(to, (k - 1) * out_row + j)
                        hit = BETTER
                        st(to, k * out_row + j, select(hit, v, best))
                        st(places, k * index_row + j, select(hit, i64(k), ld(places, (k - 1) * index_row + j)))
"""


def running_words(part: Part) -> list[int]:
    """The instruction's axes are (outer, n, width); its parameter says whether it runs from the end."""
    outer, n, width = part.sizes
    itemsize = 8 if part.call.instr.kernel.endswith("64") else 4
    pointers, strides = list(part.pointers), []
    for i, slot in enumerate(part.call.slots):
        row = slot.strides[1]
        if part.call.params[0]:
            pointers[i] += max(n - 1, 0) * row * itemsize
            row = -row
        strides += [slot.strides[0], row]
    return [*pointers, outer, n, width, *strides, int(part.call.axes[2] == 1)]
