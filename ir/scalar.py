"""The closed set of scalar primitives that `scalar(s, ...)` of an op may use, and what they mean in plain Python.

`PlainScalars` is the contract for whoever makes code of an op's scalar expression. Numbers are NumPy's: floats follow
IEEE 754, integers wrap around, an integer division by zero gives 0. Beside the functions there are the operators
+ - * and unary - of numbers, and < <= > >=, which give a bool; a Python number takes the dtype of what it meets.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .dims import DimLike, Shape, evaluate
from .random import philox_u32
from .types import DTYPES


def _erfinv_of_float(x: float) -> float:
    """y with erf(y) = x, by Newton's method from Winitzki's approximation; exact to rounding, also near 1 and -1."""
    size = abs(x)
    if not 0.0 < size < 1.0:
        return x if size == 0.0 else x * math.inf if size == 1.0 else math.nan
    log = math.log((1.0 - size) * (1.0 + size))
    half = 2.0 / (math.pi * 0.147) + log / 2.0
    y = math.sqrt(math.sqrt(half * half - log / 0.147) - half)
    for _ in range(4):
        # 1 - x is exact where erf(y) would lose its digits
        miss = math.erf(y) - size if size < 0.5 else (1.0 - size) - math.erfc(y)
        y -= miss * math.sqrt(math.pi) / 2.0 * math.exp(y * y)
    return math.copysign(y, x)


def power(x: Any, y: Any) -> Any:
    """x ** y. Integers wrap around; to a negative power they are the whole part of 1 / x ** -y, with 0 for 1 / 0: 1 for
    1, 1 or -1 for -1, else 0. (NumPy refuses them, which a kernel cannot.)"""
    x, y = np.asarray(x), np.asarray(y)
    if x.dtype.kind == "f" or y.dtype.kind == "f":
        return np.power(x, y)
    inverse = np.where(np.abs(x) == 1, np.where(y % 2 == 0, 1, x), 0)
    return np.where(y < 0, inverse, np.power(x, np.maximum(y, 0))).astype(np.result_type(x, y))[()]


def _shifted(shift: Callable[[Any, Any], Any], beyond: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
    """A shift by y places; by a negative number of them or all of them, what is left when all bits have gone."""

    def function(x: Any, y: Any) -> Any:
        inside = (y >= 0) & (y < 8 * np.asarray(x).itemsize)
        return np.where(inside, shift(x, np.where(inside, y, 0)), beyond(x)).astype(np.asarray(x).dtype)[()]

    return function


# of one float, giving a float
FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "exp": np.exp, "exp2": np.exp2, "expm1": np.expm1,
    "log": np.log, "log1p": np.log1p, "log2": np.log2, "log10": np.log10, "sqrt": np.sqrt,
    "sin": np.sin, "cos": np.cos, "tan": np.tan, "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan,
    "sinh": np.sinh, "cosh": np.cosh, "tanh": np.tanh, "asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh,
    "erf": np.vectorize(math.erf, otypes=[np.float64]), "erfinv": np.vectorize(_erfinv_of_float, otypes=[np.float64]),
}  # fmt: skip
# of one number, giving a number of its dtype: an integer is its own floor, ceil, trunc and round (half to even)
NUMBERS: dict[str, Callable[[Any], Any]] = {
    "abs": np.abs, "sign": np.sign, "floor": np.floor, "ceil": np.ceil, "trunc": np.trunc, "round": np.round,
}  # fmt: skip
# of two floats of one dtype
FLOAT_PAIRS: dict[str, Callable[[Any, Any], Any]] = {
    "atan2": np.arctan2, "hypot": np.hypot, "copysign": np.copysign, "nextafter": np.nextafter,
}  # fmt: skip
# of two numbers of one dtype; NaN wins in maximum and minimum, floor_divide and remainder follow the divisor's sign
PAIRS: dict[str, Callable[[Any, Any], Any]] = {
    "pow": power, "maximum": np.maximum, "minimum": np.minimum,
    "floor_divide": np.floor_divide, "remainder": np.remainder,
}  # fmt: skip
# of two integers of one dtype
BITS: dict[str, Callable[[Any, Any], Any]] = {
    "bitwise_and": np.bitwise_and, "bitwise_or": np.bitwise_or, "bitwise_xor": np.bitwise_xor,
    "left_shift": _shifted(np.left_shift, np.zeros_like),
    "right_shift": _shifted(np.right_shift, lambda x: np.where(x < 0, -1, 0)),
}  # fmt: skip
# of numbers, giving a bool; an integer is finite
QUESTIONS: dict[str, Callable[..., Any]] = {
    "equal": np.equal, "not_equal": np.not_equal, "isnan": np.isnan, "isinf": np.isinf, "isfinite": np.isfinite,
}  # fmt: skip
LOGIC: dict[str, Callable[..., Any]] = {
    "logical_and": np.logical_and, "logical_or": np.logical_or, "logical_not": np.logical_not,
}  # fmt: skip
OTHERS = ("divide", "where", "cast", "constant", "index", "dim", "uniform", "random_bits")
PRIMITIVES = (*FUNCTIONS, *NUMBERS, *FLOAT_PAIRS, *PAIRS, *BITS, *QUESTIONS, *LOGIC, *OTHERS)


class PlainScalars:
    """The primitives on NumPy scalars, or on arrays of them element by element.

    dtype is that of the op's result: `where` takes its branches to it, and so does `divide` if it is a float. index
    holds the element's index along each axis, last axis last; dims the value of every symbol. What would need another
    dtype than its operands have raises TypeError: a kernel has no such mixture.
    """

    def __init__(self, dtype: str, index: tuple[Any, ...] = (), dims: Mapping[str, int] | None = None) -> None:
        self.dtype = dtype
        self._index = index
        self._dims = dims or {}

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name in FUNCTIONS or name in NUMBERS:
            function, kinds = (FUNCTIONS[name], "f") if name in FUNCTIONS else (NUMBERS[name], "fi")
            return lambda x: self._like(function(self._one(name, x, kinds)), x)
        for table, kinds in ((FLOAT_PAIRS, "f"), (PAIRS, "fi"), (BITS, "i")):
            if name in table:
                return lambda x, y, kinds=kinds: table[name](*self._pair(name, x, y, kinds))
        if name in QUESTIONS:
            function = QUESTIONS[name]
            return lambda *xs: function(*(self._pair(name, *xs, "fib") if len(xs) == 2 else xs))
        if name in LOGIC:
            function = LOGIC[name]
            return lambda *xs: function(*(self._one(name, x, "b") for x in xs))
        raise AttributeError(f"{name} is not a scalar primitive; there are {', '.join(sorted(PRIMITIVES))}")

    def divide(self, x: Any, y: Any) -> Any:
        x, y = self._pair("divide", x, y, "fi")
        if x.dtype.kind == "i":
            x, y = self.cast(x, self.dtype), self.cast(y, self.dtype)
        return np.true_divide(x, y)

    def where(self, condition: Any, x: Any, y: Any) -> Any:
        condition = self._one("where", condition, "b")
        return np.where(condition, self.cast(x, self.dtype), self.cast(y, self.dtype))[()]

    def cast(self, x: Any, dtype: str) -> Any:
        return np.asarray(x).astype(DTYPES[dtype])[()]

    def constant(self, value: Any, dtype: str) -> Any:
        return DTYPES[dtype].type(value)

    def index(self, axis: int) -> Any:
        """The element's index along an axis of its array, counted from the last: -1, -2, ...; i64"""
        return np.asarray(self._index[axis], np.int64)[()]

    def dim(self, dim: DimLike) -> Any:
        """The value of a dimension; i64"""
        return np.int64(evaluate(dim, self._dims))

    def uniform(self, seed: Any, step: Any, site: int, shape: Shape, first: Any = 0) -> Any:
        """The float32 in [0, 1) of this element of an array of `shape`, drawn at `site`."""
        bits = self.random_bits(seed, step, site, shape, first).astype(np.uint32)
        return (bits >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)

    def random_bits(self, seed: Any, step: Any, site: int, shape: Shape, first: Any = 0) -> Any:
        """The 32 random bits of this element of an array of `shape`, drawn at `site`, which begins at element `first`;
        i64 in [0, 2**32)."""
        sizes = tuple(evaluate(d, self._dims) for d in shape)
        number = np.ravel_multi_index(self._index[len(self._index) - len(sizes) :], sizes) if sizes else np.int64(0)
        return philox_u32(int(seed), int(step), site, np.asarray(number + int(first))).astype(np.int64)[()]

    def _one(self, name: str, x: Any, kinds: str) -> Any:
        """x as a NumPy number; a Python number has the dtype of the op's result, or is a condition."""
        known = isinstance(x, (np.generic, np.ndarray))
        value = x if known else self.constant(x, "bool" if kinds == "b" else self.dtype)
        if value.dtype.kind not in kinds or value.dtype not in DTYPES.values():
            raise TypeError(f"{name} of {value.dtype}")
        return value

    def _pair(self, name: str, x: Any, y: Any, kinds: str) -> tuple[Any, Any]:
        """Both as NumPy numbers; a Python number has the dtype of the other."""
        known = [v for v in (x, y) if isinstance(v, (np.generic, np.ndarray))]
        like = known[0].dtype if known else DTYPES[self.dtype]
        if len({v.dtype for v in known}) == 2:
            raise TypeError(f"{name} of {known[0].dtype} and {known[1].dtype}: cast one of them")
        x, y = (v if isinstance(v, (np.generic, np.ndarray)) else like.type(v) for v in (x, y))
        return self._one(name, x, kinds), self._one(name, y, kinds)

    def _like(self, value: Any, x: Any) -> Any:
        return np.asarray(value).astype(self._one("", x, "fi").dtype)[()]
