"""Rows of ir/ops/cumulative.py."""

from dataclasses import replace

import numpy as np

from cases import FLOATS, NUMBERS, Case, In, case, refused, row
from gradtape.ir.dims import Dim

T = Dim("T")
SHAPES = (((5,), 0), ((3, 4), 0), ((3, 4), 1), ((2, 3, 4), 1), ((1,), 0), ((2, 1), 1), ((0, 3), 0), ((0, 3), 1))
ZEROS = np.array([[2.0, 0.0, 3.0, 0.0, 5.0], [0.0, 1.5, -2.0, 4.0, 0.5], [1.0, 2.0, 3.0, 4.0, 0.0]])
OVER = {"axis": 0, "reverse": False}


def cases(operands: int, low: float, high: float) -> list[Case]:
    found = []
    for reverse in (False, True):
        found += [case(*[In(s, low, high)] * operands, axis=a, reverse=reverse) for s, a in SHAPES]
        found.append(case(*[In((2, T, 3), low, high)] * operands, sizes={"T": 4}, axis=1, reverse=reverse))
        found.append(case(*[ZEROS] * operands, axis=1, reverse=reverse))
    return found


AXIS = refused("f32[2, 3]", r"axis 2 is out of range for f32\[2, 3\]", axis=2, reverse=False)
COUNT = refused("bool[3]", r"needs numbers, got bool\[3\]; write x.astype\('int64'\) to count", **OVER)
row("cumsum", cases(1, -3, 3), NUMBERS, [AXIS, COUNT])
row("cumprod", cases(1, 0.5, 2), FLOATS, [AXIS, COUNT])
row(
    "linear_scan",
    cases(2, -1.5, 1.5),
    NUMBERS,
    [
        refused("f32[3]; f32[1]", r"factors f32\[3\] and summands f32\[1\] differ in shape", **OVER),
        refused("f32[2, 3]; f32[2, 3]", "axis 2 is out of range", axis=2, reverse=True),
    ],
)

TIES = np.array([[1.0, 3.0, 3.0, 2.0, 4.0, 4.0], [5.0, 0.0, 5.0, -1.0, -1.0, 6.0]])
NANS = np.array([[1.0, np.nan, 5.0, np.nan, 2.0], [-np.inf, np.inf, -np.inf, np.inf, 1.0]])
for name in ("cummax", "cummin"):
    found = [case(In(s, -9, 9), axis=a) for s, a in SHAPES]
    found += [case(In((2, T, 3), -9, 9), sizes={"T": 4}, axis=1), case(TIES, axis=1), case(NANS, axis=1)]
    wrong = [replace(AXIS, attrs={"axis": 2}), replace(COUNT, attrs={"axis": 0})]
    row(name, found, NUMBERS, wrong, smooth=lambda c: not isinstance(c.inputs[0], np.ndarray))
