"""Rows of ir/ops/elementwise.py and functions.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cases import ALL, FLOATS, INTEGERS, NUMBERS, elementwise, refused, row

# arithmetic -----------------------------------------------------------------------------------------------------
WIDE = (-3, 3)
NO_BROADCAST = refused("f32[2, 3]; f32[4]", r"shapes \(2, 3\) and \(4\) do not broadcast: 3 and 4 differ")
NO_BOOL = refused("bool[3]", r"needs numbers, got bool\[3\]; write x.astype\('float32'\)")
NO_BOOLS = refused("bool[3]; bool[3]", r"needs numbers, got bool\[3\]")
NEEDS_FLOAT = refused("i64[3]", r"needs a float operand, got i64\[3\]; write x.astype\('float32'\)")
NEEDS_FLOATS = refused("i64[3]; i64[3]", r"needs a float operand, got i64\[3\]")


def not_zero(x: Any) -> Any:
    return np.abs(x) > 0.05


def unary(name: str, low: float, high: float, dtypes: Sequence[str] = FLOATS, **more: Any) -> None:
    """The row of a function of one number."""
    row(name, elementwise((low, high)), dtypes, [NEEDS_FLOAT if dtypes == FLOATS else NO_BOOL], **more)


def binary(name: str, x: tuple, y: tuple, dtypes: Sequence[str] = NUMBERS, **more: Any) -> None:
    """The row of a function of two numbers."""
    wrong = NEEDS_FLOATS if dtypes == FLOATS else NO_BOOLS
    row(name, elementwise(x, y), dtypes, [NO_BROADCAST, wrong], **more)


binary("add", WIDE, WIDE)
binary("sub", WIDE, WIDE)
binary("mul", WIDE, WIDE)
binary("div", WIDE, (1, 3))
binary("floor_divide", WIDE, (1, 3))
binary("remainder", (-3, 4), (1, 3), away=lambda x, y: np.abs(x / y - np.round(x / y)) > 0.05)
binary("pow", (0.5, 3), (0, 3))
unary("neg", *WIDE, NUMBERS)
unary("square", *WIDE, NUMBERS)
unary("abs", *WIDE, NUMBERS, away=not_zero)
unary("sign", *WIDE, NUMBERS)
unary("reciprocal", 0.5, 3)

# exponentials, powers, logarithms -------------------------------------------------------------------------------
for name in ("exp", "exp2", "expm1", "tanh", "sigmoid", "erf", "silu", "softplus", "gelu_tanh", "gelu_erf"):
    unary(name, *WIDE)
unary("erfinv", -0.6, 0.6)
for name in ("log", "log2", "log10", "sqrt", "rsqrt"):
    unary(name, 0.5, 4)
unary("log1p", -0.5, 3)
unary("relu", *WIDE, NUMBERS, away=not_zero)
binary("logaddexp", WIDE, WIDE, FLOATS)
binary("hypot", (0.5, 3), (-3, -0.5), FLOATS)

# trigonometric and hyperbolic -----------------------------------------------------------------------------------
for name in ("sin", "cos", "sinh", "cosh", "asinh", "atan"):
    unary(name, *WIDE)
for name in ("asin", "acos", "atanh", "tan"):
    unary(name, -0.7, 0.7)
unary("acosh", 1.5, 4)
binary("atan2", (0.5, 3), WIDE, FLOATS)

# rounding, signs, questions -------------------------------------------------------------------------------------
for name in ("floor", "ceil", "trunc", "round"):
    unary(name, -4, 4, NUMBERS)
for name in ("isnan", "isinf", "isfinite"):
    unary(name, *WIDE, NUMBERS)
unary("signbit", *WIDE)
binary("copysign", (0.5, 3), (0.5, 3), FLOATS)
binary("heaviside", WIDE, WIDE, FLOATS)
binary("nextafter", WIDE, WIDE, FLOATS)

# bits -----------------------------------------------------------------------------------------------------------
NO_FLOATS = refused("f32[3]; f32[3]", r"needs integers, got f32\[3\]; write x.astype\('int64'\)")
for name in ("bitwise_and", "bitwise_or", "bitwise_xor"):
    row(name, elementwise((-9, 9), (-9, 9)), INTEGERS, [NO_BROADCAST, NO_FLOATS])
for name in ("bitwise_left_shift", "bitwise_right_shift"):
    row(name, elementwise((-9, 9), (-2, 40)), INTEGERS, [NO_BROADCAST, NO_FLOATS])
row("bitwise_invert", elementwise((-9, 9)), INTEGERS, [refused("bool[3]", r"needs integers, got bool\[3\]")])

# choice ---------------------------------------------------------------------------------------------------------
for name in ("maximum", "minimum"):
    binary(name, WIDE, WIDE, away=lambda x, y: np.abs(x - y) > 0.05)
row(
    "where",
    elementwise((0, 1), WIDE, WIDE, dtypes=["bool"]),
    ALL,
    [
        refused("f32[3]; f32[3]; f32[3]", r"the condition is f32\[3\], not bool; write condition != 0"),
        refused("bool[2]; f32[3]; f32[3]", "do not broadcast"),
    ],
)
row(
    "clip",
    elementwise((-3, 3), (-2, -1), (1, 2)),
    NUMBERS,
    [refused("f32[2]; f32[3]; 1.0", "do not broadcast"), refused("bool[3]; False; True", "needs numbers")],
    away=lambda x, low, high: (np.abs(x - low) > 0.05) & (np.abs(x - high) > 0.05),
)
row(
    "lerp",
    elementwise(WIDE, WIDE, (0, 1)),
    FLOATS,
    [refused("f32[2]; f32[3]; 0.5", "do not broadcast"), refused("i64[3]; i64[3]; i64[3]", "needs a float operand")],
)
row(
    "cast",
    [c for dtype in ALL for c in elementwise(WIDE, dtype=dtype)],
    ALL,
    [refused("f32[3]", "dtype 'f16' is not one of f32, f64, i32, i64, bool", dtype="f16")],
    # the integer of a float that is too large for it, or is none, is not defined
    special=lambda x: (x.dtype.kind != "f") | (np.abs(x) < 2**30),
    smooth=lambda c: c.attrs["dtype"] == "f64",
)
row("stop_gradient", elementwise(WIDE), ALL)

# comparison and logic -------------------------------------------------------------------------------------------
for name in ("less", "less_equal", "greater", "greater_equal", "equal", "not_equal"):
    row(name, elementwise(WIDE, WIDE), ALL, [NO_BROADCAST])
for name in ("logical_and", "logical_or", "logical_xor"):
    wrong = refused("f32[3]; bool[3]", r"needs bool operands, got f32\[3\]; write x != 0")
    row(name, elementwise((0, 1), (0, 1), dtypes=["bool", "bool"]), ["bool"], [wrong])
row("logical_not", elementwise((0, 1)), ["bool"], [refused("i32[3]", r"needs bool operands, got i32\[3\]")])
