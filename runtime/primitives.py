"""What the primitives mean, in plain Python and NumPy: the reference that compiled ones are tested against.

`run_plain` executes any kernel's source with them, so that a wrong result can be told apart from a wrong
compiler. Floats are NumPy scalars (float32 stays float32), integers Python ints, booleans Python bools.
"""

from __future__ import annotations

import ctypes
import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..ir.random import philox_u32
from ..ir.scalar import BITS, FUNCTIONS, power
from .kernel import POINTERS, SCALARS, Kernel
from .tiles import LANES, MODES, SHAPES


class Pointer:
    """A C pointer in Python: a 1-d array and an offset in elements. Access outside raises IndexError."""

    __slots__ = ("array", "offset")

    def __init__(self, array: np.ndarray, offset: int = 0) -> None:
        if array.ndim != 1:
            raise ValueError(f"a Pointer needs a 1-d array, not one of shape {array.shape}")
        self.array = array
        self.offset = offset

    def index(self, i: int) -> int:
        where = self.offset + int(i)
        if not 0 <= where < len(self.array):
            raise IndexError(f"element {where} of a buffer of {len(self.array)}")
        return where


def ld(p: Pointer, i: int) -> Any:
    """p[i]; from u8* a bool"""
    value = p.array[p.index(i)]
    if p.array.dtype == np.uint8:
        return bool(value)
    return value if p.array.dtype.kind == "f" else int(value)


def st(p: Pointer, i: int, v: Any) -> None:
    """p[i] = v, cast to the pointee's type; a bool (v != 0) for u8*"""
    casts = {"uint8": boolean, "int32": i32, "int64": i64, "float32": f32, "float64": f64}
    p.array[p.index(i)] = casts[p.array.dtype.name](v)


def at(p: Pointer, n: int) -> Pointer:
    """p advanced by n elements"""
    return Pointer(p.array, p.offset + int(n))


def words(address: int) -> Pointer:
    """the 64-bit integers at an address (a kernel's i64* from a number)"""
    return Pointer(np.ctypeslib.as_array((ctypes.c_int64 * (1 << 20)).from_address(int(address))))


f32, f64 = np.float32, np.float64


def i64(x: Any) -> int:
    return int(x)  # towards zero, as the machine's conversion does


def i32(x: Any) -> int:
    return (int(x) + 2**31) % 2**32 - 2**31


def boolean(x: Any) -> bool:
    return bool(x != 0)


def fma(a: Any, b: Any, c: Any) -> Any:
    """a * b + c, rounded once"""
    wide = np.float64 if type(a) is np.float32 else np.longdouble
    return type(a)(wide(a) * wide(b) + wide(c))


def _through_math(function: Callable[..., float]) -> Callable[..., Any]:
    """A function of Python's math module for NumPy scalars: in float64, rounded to the argument's type."""

    def evaluate(*args: Any) -> Any:
        return type(args[0])(function(*map(float, args)))

    return evaluate


sqrt, exp, expm1, exp2, log, log1p, log2, log10 = (
    np.sqrt, np.exp, np.expm1, np.exp2, np.log, np.log1p, np.log2, np.log10
)  # fmt: skip
sin, cos, tan, asin, acos, atan = np.sin, np.cos, np.tan, np.arcsin, np.arccos, np.arctan
sinh, cosh, tanh, asinh, acosh, atanh = np.sinh, np.cosh, np.tanh, np.arcsinh, np.arccosh, np.arctanh
erf, erfinv = _through_math(math.erf), _through_math(FUNCTIONS["erfinv"])
floor, ceil, trunc, rint, copysign, nextafter, pow, atan2, hypot = (
    np.floor, np.ceil, np.trunc, np.rint, np.copysign, np.nextafter, np.power, np.arctan2, np.hypot
)  # fmt: skip


def _keep_int(function: Callable[..., Any]) -> Callable[..., Any]:
    """The NumPy function, with Python ints for Python ints."""

    def evaluate(*args: Any) -> Any:
        value = function(*args)
        return int(value) if isinstance(args[0], int) else value

    return evaluate


fabs, sign = _keep_int(np.abs), _keep_int(np.sign)
maximum, minimum = _keep_int(np.maximum), _keep_int(np.minimum)  # NaN wins
fmax, fmin = np.fmax, np.fmin  # NaN loses


def ipow(x: int, y: int) -> int:
    """x ** y of 64-bit integers, see `ir.scalar.power`"""
    return int(power(np.int64(x), np.int64(y)))


def shl(x: int, y: int) -> int:
    """the 64 bits of x moved up by y places; 0 for y outside of [0, 64)"""
    return int(BITS["left_shift"](np.int64(x), np.int64(y)))


def shr(x: int, y: int) -> int:
    """the 64 bits of x moved down by y places, filled up with its sign; only that for y outside of [0, 64)"""
    return int(BITS["right_shift"](np.int64(x), np.int64(y)))


def select(c: Any, a: Any, b: Any) -> Any:
    """a if c else b; both sides are evaluated"""
    return a if c else b


def isnan(x: Any) -> bool:
    return bool(np.isnan(x))


def isinf(x: Any) -> bool:
    return bool(np.isinf(x))


def isfinite(x: Any) -> bool:
    return bool(np.isfinite(x))


def philox(seed: int, step: int, site: int, index: int) -> int:
    """random 32 bits of element `index` at a site in a step, as an integer in [0, 2**32)"""
    return int(philox_u32(seed, step, site, np.array([index]))[0])


def uniform32(seed: int, step: int, site: int, index: int) -> np.float32:
    """uniform in [0, 1): the upper 24 bits of philox, over 2**24"""
    return f32((philox(seed, step, site, index) >> 8) * 2.0**-24)


def atomic_add(p: Pointer, v: int) -> int:
    """p[0] += v as one step, sequentially consistent; the value before"""
    before = ld(p, 0)
    st(p, 0, before + int(v))
    return before


def atomic_load(p: Pointer) -> int:
    return ld(p, 0)


def atomic_store(p: Pointer, v: int) -> None:
    st(p, 0, v)


def atomic_swap(p: Pointer, expected: int, new: int) -> bool:
    """if p[0] == expected: p[0] = new, as one step; whether it was so"""
    found = ld(p, 0) == expected
    if found:
        st(p, 0, new)
    return found


def pause() -> None:
    """a hint to the CPU that this is a waiting loop"""


def yield_cpu() -> None:
    """let another thread of the machine run"""
    getattr(os, "sched_yield", lambda: None)()


def short_loop() -> None:
    """the loop around has few rounds: what is left of them after whole vectors is one more vector, masked"""


# Functions that plain programs may `call` by a number in place of an address.
_callable: dict[int, Callable[[int], None]] = {}


def call(address: int, args: int) -> None:
    """call `void f(int64_t *args)` at an address"""
    _callable[address](args)


def _matrix(p: Pointer, rows: int, columns: int, step: int) -> np.ndarray:
    """The rows x columns numbers that lie `step` apart from row to row."""
    if rows <= 0 or columns <= 0:
        return np.zeros((max(rows, 0), max(columns, 0)), p.array.dtype)
    p.index((rows - 1) * step + columns - 1)
    size = p.array.itemsize
    return np.lib.stride_tricks.as_strided(p.array[p.offset :], (rows, columns), (step * size, size))


def gemm_call(fn, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc):
    """c[m, n] = alpha * op(a) @ op(b) + beta * c, row-major; fn, the address of cblas, is not used here"""
    left = _matrix(a, k, m, lda).T if ta else _matrix(a, m, k, lda)
    right = _matrix(b, n, k, ldb).T if tb else _matrix(b, k, n, ldb)
    out = _matrix(c, m, n, ldc)
    out[...] = alpha * (left @ right) + (beta * out if beta != 0 else 0)


def tile(number, k, a, a_step, b, b_step, c, c_step, d, d_step, add, columns):
    """c[r, j] = sum over p of a[r, p] b[p, j] + d[r, j], see tiles.py"""
    mode, (rows, _) = MODES[number // len(SHAPES)], SHAPES[number % len(SHAPES)]
    left = _matrix(a, rows, k, a_step) if mode == "rows" else _matrix(a, k, rows, a_step).T
    total = left @ _matrix(b, k, columns, b_step)
    _matrix(c, rows, columns, c_step)[...] = total + _matrix(d, rows, columns, d_step) if add else total


def transpose(x: Pointer, step: int, out: Pointer, to: int) -> None:
    """out[j, i] = x[i, j] for a square block of as many rows as a vector has lanes"""
    lanes = LANES["f32" if x.array.dtype == np.float32 else "f64"]
    for i in range(lanes):
        for j in range(lanes):
            st(out, j * to + i, ld(x, i * step + j))


def environment() -> dict[str, Any]:
    """The names a kernel source may use, with their plain meaning."""
    return {name: globals()[name] for name in NAMES} | CONSTANTS


# To be written inside a cast: f32(inf).
CONSTANTS = {"inf": math.inf, "nan": math.nan}
NAMES = """
ld st at words f32 f64 i64 i32 boolean
fma sqrt exp expm1 exp2 log log1p log2 log10 tanh erf erfinv
sin cos tan asin acos atan sinh cosh asinh acosh atanh pow atan2 hypot ipow shl shr
floor ceil trunc rint fabs sign copysign nextafter maximum minimum fmax fmin
select isnan isinf isfinite philox uniform32
atomic_add atomic_load atomic_store atomic_swap pause yield_cpu call short_loop gemm_call tile transpose
""".split()


def run_plain(
    kernel: Kernel,
    args: Sequence[Any],
    functions: Mapping[str, Callable[..., Any]] | None = None,
    calls: Mapping[int, Callable[[int], None]] | None = None,
) -> Any:
    """Run a kernel's source as plain Python.

    args       one per parameter: for a pointer a 1-d array of its dtype or a Pointer, else a number.
    functions  further names the source uses; calls: what `call(number, args)` runs.
    """
    converted: list[Any] = []
    for (name, type_), value in zip(kernel.params, args, strict=True):
        if type_ in POINTERS:
            pointer = value if isinstance(value, Pointer) else Pointer(value)
            if pointer.array.dtype != POINTERS[type_] and not (type_ == "u8*" and pointer.array.dtype == bool):
                raise TypeError(f"{kernel.name}: {name} is {type_}, the array is {pointer.array.dtype}")
            if pointer.array.dtype == bool:
                pointer = Pointer(pointer.array.view(np.uint8), pointer.offset)
            converted.append(pointer)
        else:
            converted.append(int(value) if type_ in ("i64", "i32") else getattr(np, SCALARS[type_])(value))
    kernel.tree  # noqa: B018  (checks that source and params agree)
    scope = environment() | dict(functions or {})
    exec(compile(kernel.source, f"<kernel {kernel.name}>", "exec"), scope)
    _callable.update(calls or {})
    with np.errstate(all="ignore"):
        return scope[kernel.name](*converted)
