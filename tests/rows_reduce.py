"""Rows of ir/ops/reduce.py."""

from dataclasses import replace

import numpy as np

from cases import FLOATS, NUMBERS, Case, In, case, refused, row
from gradtape.ir.dims import Dim

WIDE = (-3, 3)


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
COUNT = refused("bool[3]", r"needs numbers, got bool\[3\]; write x.astype\('int64'\) to count", **OVER)
NOTHING = refused("f32[0, 3]", r"over no elements has no value: f32\[0, 3\] over axes \(0,\)", **OVER)
ZEROS = np.array([[2.0, 0.0, 3.0], [0.0, 0.5, 0.0], [1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
row("sum", reductions(*WIDE), NUMBERS, [*WRONG_AXES, COUNT])
row("prod", [*reductions(0.5, 2), case(ZEROS, axes=(1,), keepdims=False)], NUMBERS, [*WRONG_AXES, COUNT])
for name in ("max", "min"):
    row(name, reductions(-9, 9, empty=False), NUMBERS, [*WRONG_AXES, COUNT, NOTHING])
for name in ("any", "all"):
    wrong = refused("f32[3]", r"needs bool, got f32\[3\]; write x != 0", **OVER)
    row(name, reductions(0, 1), ["bool"], [wrong])

MEAN = refused("i64[3]", r"needs a float operand, got i64\[3\]; write x.astype\('float32'\)", **OVER)
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
