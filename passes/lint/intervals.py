"""Intervals, and what arithmetic makes of them. The numbers are those of real arithmetic; nothing is said of NaN; 0
times anything counts as 0, and 1 / 0 is inf."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ...ir.op import OPS
from ...ir.types import DTYPES, TensorType

INF = math.inf


class Range(NamedTuple):
    low: float
    high: float

    @property
    def is_constant(self) -> bool:
        """Whether all elements are one number."""
        return self.low == self.high

    def __or__(self, other: Range) -> Range:  # type: ignore[override]
        return Range(min(self.low, other.low), max(self.high, other.high))

    def __contains__(self, x: object) -> bool:
        return self.low <= x <= self.high  # type: ignore[operator]

    def __str__(self) -> str:
        low, high = (f"{end + 0.0:g}" for end in self)  # -0 as 0
        return low if self.is_constant else f"[{low}, {high}]"


ANY, ZERO, ONE, UNIT, POSITIVE = Range(-INF, INF), Range(0, 0), Range(1, 1), Range(0, 1), Range(0, INF)
LIMITS = {name: (float(np.iinfo(t).min), float(np.iinfo(t).max)) for name, t in DTYPES.items() if t.kind == "i"}
LARGEST = {name: float(np.finfo(t).max) for name, t in DTYPES.items() if t.kind == "f"}
SMALLEST = {name: float(np.finfo(t).tiny) for name, t in DTYPES.items() if t.kind == "f"}


def of_type(kind: TensorType) -> Range:
    """Everything that the dtype can hold."""
    return UNIT if kind.dtype == "bool" else Range(*LIMITS[kind.dtype]) if kind.is_integer else ANY


def of_number(x: float) -> Range:
    return ANY if x != x else Range(float(x), float(x))


def of_array(array: np.ndarray) -> Range:
    """From the least to the greatest element; anything where there is none, or NaN."""
    if array.size == 0 or (array.dtype.kind == "f" and np.isnan(array).any()):
        return ANY
    return Range(float(array.min()), float(array.max()))


# arithmetic -----------------------------------------------------------------------------------------------------
def _times(x: float, y: float) -> float:
    return 0.0 if x == 0 or y == 0 else x * y


def add(x: Range, y: Range) -> Range:
    low, high = x.low + y.low, x.high + y.high
    return Range(-INF if low != low else low, INF if high != high else high)  # inf - inf


def neg(x: Range) -> Range:
    return Range(-x.high, -x.low)


def mul(x: Range, y: Range) -> Range:
    ends = [_times(a, b) for a in x for b in y]
    return Range(min(ends), max(ends))


def div(x: Range, y: Range) -> Range:
    if y.low < 0 <= y.high or y == ZERO:
        return ANY
    if y.high < 0:
        return div(neg(x), neg(y))
    # by a number just above 0 the quotient is as large as one likes; inf by inf lies between the others
    ends = [0.0 if a == 0 or b == INF else math.copysign(INF, a) if b == 0 else a / b for a in x for b in y]
    return Range(min(ends), max(ends))


def floor_divide(x: Range, y: Range) -> Range:
    if y.low <= 0 <= y.high:
        return ANY
    low, high = ends("floor", div(x, y))
    negative = x.low < 0 < y.high or y.low < 0 < x.high  # if only just, it is -1
    return Range(min(low, -1.0) if negative else low, high)


def reciprocal(x: Range) -> Range:
    return div(ONE, x)


def magnitude(x: Range) -> Range:
    return Range(max(x.low, -x.high, 0.0), max(-x.low, x.high))


def square(x: Range) -> Range:
    size = magnitude(x)
    return Range(_times(size.low, size.low), _times(size.high, size.high))


def power(x: Range, y: Range) -> Range:
    if not y.is_constant:
        if x.is_constant and x.low > 0:
            found = ends("pow", x, y)
            return found if x.low >= 1 else Range(found.high, found.low)
        return POSITIVE if x.low >= 0 else ANY
    p = y.low
    if p == 0:
        return ONE
    if p < 0:
        return reciprocal(power(x, Range(-p, -p)))
    if p % 2 == 0:
        x = magnitude(x)
    elif p % 1:
        x = Range(max(x.low, 0.0), max(x.high, 0.0))
    return ends("pow", x, y)


def ends(name: str, *operands: Range) -> Range:
    """Of a function that does not decrease: its values at both ends, by its NumPy reference."""
    ref = OPS[name].ref
    assert ref is not None
    with np.errstate(all="ignore"):
        low, high = np.asarray(ref(*(np.array([float(x.low), float(x.high)]) for x in operands)), np.float64)
    return Range(-INF if low != low else float(low), INF if high != high else float(high))


def remainder(x: Range, y: Range) -> Range:
    if y.low > 0:
        return x if x.low >= 0 and x.high < y.low else Range(0, y.high)
    return Range(y.low, 0) if y.high < 0 else ANY


def copysign(x: Range, y: Range) -> Range:
    size = magnitude(x)
    return size if y.low > 0 else neg(size) if y.high < 0 else size | neg(size)


def where(condition: Range, x: Range, y: Range) -> Range:
    return x | y if not condition.is_constant else x if condition.low else y


def lerp(x: Range, y: Range, t: Range) -> Range:
    if t.low >= 0 and t.high <= 1:
        return x | y
    return add(x, mul(t, add(y, neg(x))))


def clip(x: Range, low: Range, high: Range) -> Range:
    return minimum(maximum(x, low), high)


def maximum(x: Range, y: Range) -> Range:
    return Range(max(x.low, y.low), max(x.high, y.high))


def minimum(x: Range, y: Range) -> Range:
    return Range(min(x.low, y.low), min(x.high, y.high))


# comparison -----------------------------------------------------------------------------------------------------
def truth(yes: bool, no: bool) -> Range:
    return ONE if yes else ZERO if no else UNIT


def less(x: Range, y: Range) -> Range:
    return truth(x.high < y.low, x.low >= y.high)


def less_equal(x: Range, y: Range) -> Range:
    return truth(x.high <= y.low, x.low > y.high)


def equal(x: Range, y: Range) -> Range:
    return truth(x == y and x.is_constant, x.high < y.low or y.high < x.low)


def negated(x: Range) -> Range:
    return Range(1 - x.high, 1 - x.low)
