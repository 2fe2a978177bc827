"""One row per op: on what it is tried. Tests that hold for every op walk ROWS; a test fails for an op without a row.

binary("add", (-3, 3), (-3, 3))                     an elementwise op of two numbers from these spans
row("bounded", [case(In((4,), 0, 4), size=5)], INTEGERS, [refused("f32[4]", "indices are integers", size=5)])
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cases import ALL, FLOATS, INTEGERS, NUMBERS, ROWS, Case, In, case, elementwise, refused, row
from gradtape.ir.dims import Dim
from gradtape.ir.op import OPS

__all__ = ["ROWS"]

# arithmetic -----------------------------------------------------------------------------------------------------
WIDE = (-3, 3)
NO_BROADCAST = refused("f32[2, 3]; f32[4]", r"shapes \(2, 3\) and \(4\) do not broadcast: 3 and 4 differ")
NO_BOOL = refused("bool[3]", r"needs numbers, got bool\[3\]; write x.astype\('f32'\)")
NO_BOOLS = refused("bool[3]; bool[3]", r"needs numbers, got bool\[3\]")
NEEDS_FLOAT = refused("i64[3]", r"needs a float operand, got i64\[3\]; write x.astype\('f32'\)")
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
# of integers, NumPy refuses negative exponents
binary("pow", (0.5, 3), (0, 3), special=lambda x, y: (y >= 0) | (y.dtype.kind == "f"))
unary("neg", *WIDE, NUMBERS)
unary("square", *WIDE, NUMBERS)
unary("abs", *WIDE, NUMBERS, away=not_zero)
unary("sign", *WIDE, NUMBERS)
unary("reciprocal", 0.5, 3)

# exponentials, powers, logarithms -------------------------------------------------------------------------------
for name in ("exp", "exp2", "expm1", "tanh", "sigmoid", "erf", "silu", "softplus", "gelu_tanh", "gelu_erf"):
    unary(name, *WIDE)
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


# reductions -----------------------------------------------------------------------------------------------------
def reductions(low: float, high: float, empty: bool = True) -> list[Case]:
    shapes = (((3, 4), (1,)), ((3, 4), (0,)), ((2, 3, 4), (0, 2)), ((2, 3), (0, 1)), ((1, 1), (0,)))
    cases = [
        case(In(shape, low, high), axes=axes, keepdims=keepdims) for shape, axes in shapes for keepdims in (False, True)
    ]
    cases.append(case(In((3,), low, high), axes=(), keepdims=False))
    cases.append(case(In((), low, high), axes=(), keepdims=True))
    cases.append(case(In((0, 3), low, high), axes=(1,), keepdims=False))
    cases.append(case(In((Dim("T"), 3), low, high), sizes={"T": 4}, axes=(0,), keepdims=False))
    return [*cases, case(In((2, 0), low, high), axes=(1,), keepdims=True)] if empty else cases


OVER = {"axes": (0,), "keepdims": False}
WRONG_AXES = [
    refused("f32[2, 3]", r"axes \(2,\) are out of range for f32\[2, 3\]", axes=(2,), keepdims=False),
    refused("f32[2, 3]", r"axes \(-1,\) are out of range", axes=(-1,), keepdims=False),
    refused("f32[2, 3]", r"axes \(1, 0\) are not in order", axes=(1, 0), keepdims=False),
]
COUNT = refused("bool[3]", r"needs numbers, got bool\[3\]; write x.astype\('i64'\) to count", **OVER)
NOTHING = refused("f32[0, 3]", r"over no elements has no value: f32\[0, 3\] over axes \(0,\)", **OVER)
ZEROS = np.array([[2.0, 0.0, 3.0], [0.0, 0.5, 0.0], [1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
row("sum", reductions(*WIDE), NUMBERS, [*WRONG_AXES, COUNT])
row("prod", [*reductions(0.5, 2), case(ZEROS, axes=(1,), keepdims=False)], NUMBERS, [*WRONG_AXES, COUNT])
for name in ("max", "min"):
    row(name, reductions(-9, 9, empty=False), NUMBERS, [*WRONG_AXES, COUNT, NOTHING])
for name in ("any", "all"):
    wrong = refused("f32[3]", r"needs bool, got f32\[3\]; write x != 0", **OVER)
    row(name, reductions(0, 1), ["bool"], [wrong])

MEAN = refused("i64[3]", r"needs a float operand, got i64\[3\]; write x.astype\('f32'\)", **OVER)
SPREAD = [
    case(In(shape), axes=axes, keepdims=keepdims, correction=correction)
    for shape, axes in (((3, 4), (1,)), ((2, 3), (0, 1)), ((0, 3), (1,)))
    for keepdims, correction in ((False, 1), (True, 0), (False, 0.5))
]
SYMBOLIC = case(In((3, Dim("T"))), sizes={"T": 4}, axes=(1,), keepdims=True, correction=1)
ONE = np.array([[2.0]])
row("mean", reductions(*WIDE), FLOATS, [*WRONG_AXES, MEAN])
row("var", [*reductions(*WIDE), *SPREAD, SYMBOLIC], FLOATS, [*WRONG_AXES, MEAN])
row(
    "std",
    [*SPREAD, SYMBOLIC, case(ONE, axes=(0,), keepdims=True)],
    FLOATS,
    [*WRONG_AXES, MEAN],
    smooth=lambda c: c.inputs[0] is not ONE,
)

TIES = np.array([[1.0, np.nan, 5.0, np.nan], [2.0, 7.0, 7.0, 2.0], [-np.inf, np.inf, -np.inf, np.inf]])
for name in ("argmax", "argmin"):
    cases = [
        case(In(shape, -9, 9), axis=axis, keepdims=keepdims)
        for shape, axis in (((3, 4), 0), ((3, 4), 1), ((1,), 0), ((0, 3), 1))
        for keepdims in (False, True)
    ]
    wrong = refused("f32[2, 3]", r"axis 2 is out of range for f32\[2, 3\]", axis=2, keepdims=False)
    row(
        name,
        [*cases, case(TIES, axis=1, keepdims=False)],
        NUMBERS,
        [wrong, replace(NOTHING, attrs={"axis": 0, "keepdims": True})],
    )

# shapes ---------------------------------------------------------------------------------------------------------
T = Dim("T")
row(
    "reshape",
    [
        case(In((2, 3, 4)), shape=(6, 4)),
        case(In((1,)), shape=()),
        case(In(()), shape=(1, 1)),
        case(In((0, 3)), shape=(2, 0)),
        case(In((T, 4)), sizes={"T": 3}, shape=(2 * T, 2)),
    ],
    ALL,
    [
        refused("f32[2, 3]", r"f32\[2, 3\] has 6 elements, shape \(4\) has 4", shape=(4,)),
        refused("f32[2, 3]", "a shape is a tuple of sizes from 0", shape=(-2, -3)),
    ],
)
row(
    "permute",
    [
        case(In((2, 3, 4)), axes=(2, 0, 1)),
        case(In((2, 3)), axes=(1, 0)),
        case(In(()), axes=()),
        case(In((1, 1)), axes=(1, 0)),
        case(In((0, 3)), axes=(1, 0)),
    ],
    ALL,
    [refused("f32[2, 3]", r"axes \(0, 0\) are not an order of the 2 axes of f32\[2, 3\]", axes=(0, 0))],
)
row(
    "broadcast_to",
    [
        case(In((3, 1)), shape=(2, 3, 4)),
        case(In(()), shape=(2, 3)),
        case(In((1,)), shape=(1,)),
        case(In((1, 3)), shape=(0, 3)),
        case(In((0, 1)), shape=(2, 0, 3)),
        case(In((T, 1)), sizes={"T": 3}, shape=(2, T, 4)),
    ],
    ALL,
    [
        refused("f32[3]", r"f32\[3\] does not broadcast to \(1\)", shape=(1,)),
        refused("f32[3]", r"shapes \(3\) and \(4\) do not broadcast", shape=(4,)),
    ],
)
row(
    "slice",
    [
        case(In((5, 6)), start=(1, 0), size=(3, 2), step=(1, 3)),
        case(In((5, 6)), start=(4, 5), size=(5, 3), step=(-1, -2)),
        case(In((5,)), start=(3,), size=(0,), step=(1,)),
        case(In(()), start=(), size=(), step=()),
        case(In((1, 1)), start=(0, 0), size=(1, 1), step=(1, -1)),
        case(In((0, 3)), start=(0, 1), size=(0, 2), step=(1, 1)),
        case(In((T, 3)), sizes={"T": 4}, start=(1, 0), size=(T - 1, 2), step=(1, 1)),
    ],
    ALL,
    [
        refused("f32[5]", "start, size and step need one entry for each of the 1 axes", start=(), size=(2,), step=(1,)),
        refused("f32[5]", "elements 3 to 5 of axis 0 are not all in its size 5", start=(3,), size=(3,), step=(1,)),
        refused("f32[5]", "elements -1 to 1 of axis 0", start=(1,), size=(3,), step=(-1,)),
        refused("f32[5]", "the step of axis 0 is 0", start=(1,), size=(2,), step=(0,)),
    ],
)
row(
    "unslice",
    [
        case(In((3, 2)), shape=(5, 6), start=(1, 0), step=(1, 3)),
        case(In((5, 3)), shape=(5, 6), start=(4, 5), step=(-1, -2)),
        case(In((0,)), shape=(5,), start=(3,), step=(1,)),
        case(In(()), shape=(), start=(), step=()),
        case(In((1, 1)), shape=(1, 2), start=(0, 1), step=(1, 1)),
        case(In((T, 3)), sizes={"T": 4}, shape=(T + 1, 3), start=(1, 0), step=(1, 1)),
    ],
    ALL,
    [
        refused("f32[2]", "need one entry for each of the 1 axes", shape=(3, 3), start=(0,), step=(1,)),
        refused("f32[2]", "elements 2 to 3 of axis 0 are not all in its size 3", shape=(3,), start=(2,), step=(1,)),
    ],
)
row(
    "concat",
    [
        case(In((2, 3)), In((2, 1)), In((2, 2)), axis=1),
        case(In((2,)), In((0,)), axis=0),
        case(In((1, 1)), axis=0),
        case(In((T, 3)), In((2, 3)), sizes={"T": 4}, axis=0),
    ],
    ALL,
    [
        refused("", "needs at least one array", axis=0),
        refused("f32[2]; f64[2]", r"arrays differ in rank or dtype: f32\[2\] and f64\[2\]", axis=0),
        refused("f32[2, 3]; f32[2, 4]", "sizes of axis 1 differ: 3 and 4; only axis 0 may differ", axis=0),
        refused("f32[2]; f32[2]", r"axis -1 is out of range for f32\[2\]", axis=-1),
    ],
)

# generators -----------------------------------------------------------------------------------------------------
SMALL, LARGE = np.array([[1.5, -2.0]], np.float32), np.arange(20, dtype=np.int64)
row(
    "constant",
    [
        case(build=lambda b, a=a: b.wrap(b.constant(a)))
        for a in (SMALL, LARGE, LARGE[:0], np.array(2.5), np.array(True))
    ],
    ["f32"],
    [refused("", "dtype 'f16' is not one of", digest="00", dtype="f16", shape=())],
)
row(
    "full",
    [
        case(shape=shape, value=value, dtype=dtype)
        for shape, value in (((2, 3), 2), ((), -1.0), ((1,), True), ((0, 2), 0))
        for dtype in ALL
    ]
    + [case(shape=(2,), value=value, dtype="f32") for value in (float("nan"), float("-inf"), 1e300)],
    ["f32"],
    [
        refused("", "dtype 'f16' is not one of", shape=(2,), value=0, dtype="f16"),
        refused("", r"a shape is a tuple of sizes from 0, got \(-1,\)", shape=(-1,), value=0, dtype="f32"),
        refused("", "the value is a number, not None", shape=(), value=None, dtype="f32"),
    ],
)
row(
    "iota",
    [
        case(shape=shape, axis=axis, dtype=d)
        for shape, axis in (((3, 4), 0), ((3, 4), 1), ((1,), 0), ((0,), 0))
        for d in NUMBERS
    ]
    + [case(In((T,)), sizes={"T": 4}, build=lambda b, x: OPS["iota"].like(x, shape=(2, T), axis=1, dtype="i64"))],
    ["f32"],
    [
        refused("", r"axis 1 is out of range for i64\[3\]", shape=(3,), axis=1, dtype="i64"),
        refused("", "an index is a number, not a bool", shape=(3,), axis=0, dtype="bool"),
    ],
)
row(
    "dim_scalar",
    [
        case(In((T, 3)), sizes={"T": 4}, build=lambda b, x, a=attrs: OPS["dim_scalar"].like(x, value=2 * T + 1, **a))
        for attrs in ({}, {"dtype": "f64"}, {"dtype": "i64"})
    ],
    ["f32"],
    [refused("", "dtype 'f16' is not one of", value=3, dtype="f16")],
)
SEED = In((), 0, 9, "i64")
row(
    "uniform",
    [case(SEED, SEED, shape=s, site=2, dtype=d) for s in ((3, 4), (), (1, 1), (0, 2)) for d in FLOATS],
    ["i64"],
    [
        refused(
            "f32[]; i64[]",
            r"seed and step are integers without axes, got f32\[\] and i64\[\]",
            shape=(2,),
            site=0,
            dtype="f32",
        ),
        refused("i64[]; i64[]", "draws floats, not i64", shape=(2,), site=0, dtype="i64"),
    ],
)


# rows of tables -------------------------------------------------------------------------------------------------
def indices(shape: tuple, rows: int, dtype: str = "i64") -> In:
    return In(shape, -rows, rows - 1, dtype)


row(
    "take",
    [
        case(In((5, 3)), indices((4,), 5)),
        case(In((5, 3)), indices((2, 4), 5, "i32")),
        case(In((5,)), indices((), 5)),
        case(In((1, 1)), indices((1,), 1)),
        case(In((5, 0)), indices((4,), 5)),
        case(In((5, 3)), indices((0,), 5)),
    ],
    NUMBERS,
    [
        refused("f32[5]; f32[2]", r"indices are integers, got f32\[2\]; write indices.astype\('i64'\)"),
        refused("f32[]; i64[2]", r"the table needs at least one axis, got f32\[\]"),
    ],
)
row(
    "scatter_add",
    [
        case(indices((4,), 5), In((4, 3)), rows=5),
        case(indices((2, 4), 3, "i32"), In((2, 4, 3)), rows=3),
        case(indices((), 5), In(()), rows=5),
        case(indices((1,), 1), In((1, 1)), rows=1),
        case(indices((4,), 5), In((4, 0)), rows=5),
        case(indices((0,), 5), In((0, 3)), rows=5),
    ],
    NUMBERS,
    [
        refused("f32[4]; f32[4]", "indices are integers", rows=5),
        refused("i64[4]; f32[3]", r"needs one row for each index, got f32\[3\] for indices i64\[4\]", rows=5),
        refused("i64[4]; bool[4]", "needs numbers to add up", rows=5),
    ],
)
row(
    "bounded",
    [case(In(shape, 0, 4), size=5) for shape in ((4,), (2, 3), (), (1,), (0,))],
    INTEGERS,
    [refused("f32[4]", "indices are integers", size=5)],
)

# matrix products, composites ------------------------------------------------------------------------------------
MATRICES = """2 3 x 3 4; 3 x 3; 3 x 3 4; 2 3 x 3; 5 2 3 x 3 4; 5 2 3 x 5 3 4; 2 3 x 5 3 4; 2 1 2 3 x 4 3 2; 5 2 3 x 3
              3 x 5 3 4; 0 3 x 3 4; 2 0 x 0 4; 1 1 x 1 1; B T 3 x 3 4; B 2 T x B T 4"""


def _shape(text: str) -> tuple:
    return tuple(int(d) if d.isdigit() else Dim(d) for d in text.split())


PRODUCTS = [[In(_shape(p)) for p in pair.split("x")] for pair in MATRICES.replace("\n", ";").split(";")]
row(
    "matmul",
    [case(*pair, sizes={"B": 2, "T": 4}) for pair in PRODUCTS],
    FLOATS,
    [
        refused("f32[2, 3]; f32[4, 5]", r"inner sizes differ: 3 \(last axis .*f32\[2, 3\]\) and 4 \(second-last axis"),
        refused("f32[2, 3]; f32[4]", r"and 4 \(only axis of the right operand f32\[4\]\)"),
        refused("f32[2, 3]; f32[]", r"at least one axis, got f32\[2, 3\] and f32\[\]; write x \* y"),
        refused("i64[2, 3]; i64[3]", "needs float operands"),
        refused("f32[2, 2, 3]; f32[5, 3, 4]", r"shapes \(2\) and \(5\) do not broadcast"),
    ],
)
ALONG = [((3, 4), 1), ((3, 4), 0), ((2, 3, 4), 1), ((5,), 0), ((1, 1), 1), ((0, 3), 1)]
for name in ("softmax", "log_softmax", "logsumexp"):
    row(
        name,
        [*(case(In(shape, *WIDE), axis=axis) for shape, axis in ALONG), case(In((2, T)), sizes={"T": 4}, axis=1)],
        FLOATS,
        [
            refused("f32[2, 3]", r"axis -1 is out of range for f32\[2, 3\]", axis=-1),
            refused("i64[2, 3]", "needs a float operand", axis=1),
            refused("f32[2, 0]", r"axis 1 of f32\[2, 0\] has no elements", axis=1),
        ],
    )
for name in ("layer_norm", "rms_norm"):
    row(
        name,
        [
            case(In(shape), axes=axes, eps=1e-3)
            for shape, axes in (((3, 4), (1,)), ((2, 3, 4), (1, 2)), ((1, 1), (1,)), ((0, 3), (1,)))
        ]
        + [case(In((2, T)), sizes={"T": 4}, axes=(1,), eps=1e-5)],
        FLOATS,
        [
            refused("i64[2, 3]", "needs a float operand", axes=(1,), eps=1e-5),
            refused("f32[2, 3]", r"axes \(2,\) are out of range", axes=(2,), eps=1e-5),
        ],
    )
row(
    "nll_from_logits",
    [
        case(In((*shape, 5), *WIDE), In(shape, 0, 4, dtype))
        for shape in ((3,), (2, 3), (), (1,), (0,))
        for dtype in INTEGERS
    ]
    + [case(In((T, 5)), In((T,), 0, 4, "i64"), sizes={"T": 3})],
    FLOATS,
    [
        refused("f32[3, 5]; f32[3]", r"the target names classes by integers, got f32\[3\]"),
        refused("f32[3, 5]; i64[4]", r"logits f32\[3, 5\] need a target i64\[3\], got i64\[4\]"),
        refused("f32[3, 5]; i64[3, 1]", r"need a target i64\[3\]"),
        refused("f32[]; i64[]", r"the logits are float\[..., classes\], got f32\[\]"),
    ],
)
