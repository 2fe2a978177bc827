"""The check before the first update: is a number finite?"""

from __future__ import annotations

from ..call import Part
from ..kernel import Kernel, template


def check(dtype: str) -> Kernel:
    """Sets the error word to (2, node) if x[0] is NaN or infinite and no error is noted yet."""
    return template("check", dtype, "x:T* err:i64* node:i64", CHECK)


CHECK = """
    if not isfinite(ld(x, 0)):
        if atomic_swap(err, 0, 2):
            st(err, 1, node)
"""


def check_words(part: Part) -> list[int]:
    return [*part.pointers, int(part.call.params[0])]
