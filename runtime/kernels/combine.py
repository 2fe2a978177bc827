"""Adding up what threads have summed on their own, in an order that does not depend on which was first."""

from __future__ import annotations

from ..call import Part
from ..kernel import NUMBERS, Kernel, template


def combine(dtype: str) -> Kernel:
    """out[j] = partial[0, j] + partial[1, j] + ... + partial[parts - 1, j] for j < n, added from left to
    right.

    stride: elements from one part to the next. parts = 0 gives zeros.
    """
    return template("combine", dtype, "partial:T* out:T* parts:i64 stride:i64 n:i64", COMBINE, NUMBERS)


COMBINE = """
    for j in range(n):
        st(out, j, T(0))
    for t in range(parts):
        for j in range(n):
            st(out, j, ld(out, j) + ld(partial, t * stride + j))
"""


def combine_words(part: Part) -> list[int]:
    call = part.call
    first = call.slots[0].buffer
    itemsize = 8 if call.instr.kernel.endswith("64") else 4
    base = part.at.buffer(first, 0) + part.starts[0] * itemsize
    return [base, part.pointers[1], call.parts, call.axes[0], part.sizes[0]]
