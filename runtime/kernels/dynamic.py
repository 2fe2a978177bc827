"""Copies from and to a place along an axis that is read from memory. Arrays are (outer, rows, width adjacent elements).

start[0] is the first row: a negative one counts from the end, and one with which not all rows lie inside is moved.
"""

from __future__ import annotations

from ..call import Part
from ..kernel import NUMBERS, Kernel, template


def dynamic_read(dtype: str) -> Kernel:
    """out[o, k, :] = x[o, start + first + k, :] for o < outer, k < count.

    rows, total         rows of x, and how many the whole part has; first: where this share of it begins
    *_outer, *_row      elements from o to o + 1, and from row to row
    """
    return template("dynamic_read", dtype, PARAMS, _copy("start_row + k", "k"), (*NUMBERS, "bool"))


def dynamic_write(dtype: str) -> Kernel:
    """out[o, start + first + k, :] = x[o, k, :] for o < outer, k < count; rows are those of out, the rest as above."""
    return template("dynamic_write", dtype, PARAMS, _copy("k", "start_row + k"), (*NUMBERS, "bool"))


PARAMS = (
    "x:T* start:i64* out:T* rows:i64 total:i64 outer:i64 count:i64 width:i64 x_outer:i64 x_row:i64 "
    "out_outer:i64 out_row:i64 first:i64"
)


def _copy(source: str, target: str) -> str:
    return f"""
    start_row = ld(start, 0)
    if start_row < 0:
        start_row = start_row + rows
    start_row = maximum(minimum(start_row, rows - total), 0) + first
    for o in range(outer):
        for k in range(count):
            here = at(x, o * x_outer + ({source}) * x_row)
            there = at(out, o * out_outer + ({target}) * out_row)
            for j in range(width):
                st(there, j, ld(here, j))
"""


def dynamic_words(part: Part) -> list[int]:
    """The instruction's axes are (outer, count, width, rows); the array with the rows steps along the last of them."""
    x, _, out = part.call.slots
    outer, count, width, rows = part.sizes
    strides = [x.strides[0], x.strides[1] + x.strides[3], out.strides[0], out.strides[1] + out.strides[3]]
    return [*part.pointers, rows, part.call.axes[1], outer, count, width, *strides, part.starts[1]]
