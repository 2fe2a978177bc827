"""Rows of ir/ops/sort.py."""

from typing import Any

import numpy as np

from cases import NUMBERS, Case, In, case, refused, row
from gradtape.ir.dims import Dim

T = Dim("T")
# more than one run of the merge, ties, both zeros, infinities, several NaNs
SPECIAL = np.array([[1, np.nan, -np.inf, 0, -0.0, 1, np.inf, np.nan, 2, 1, -3, 0, 5, -np.inf, 1, 1, 7, -0.0, 0.5, 1]])
TIES = In((3, 41), -2, 2, "i64")
LONG = np.random.default_rng(0).permutation(140).reshape(2, 70) * 0.7


def apart(x: Any) -> Any:
    """No two elements of a drawn array are so near that a step of the differences could exchange them."""
    drawn = x.dtype.kind == "f" and x.size not in (SPECIAL.size, LONG.size)
    return np.diff(np.sort(x.reshape(-1))) > 0.05 if drawn else True


def cases(**attrs: Any) -> list[Case]:
    found = [case(In(shape, -9, 9), axis=axis, **attrs) for shape, axis in SHAPES]
    return [*found, case(In((3, T), -9, 9), sizes={"T": 5}, axis=1, **attrs)]


SHAPES = (((7,), 0), ((3, 4), 0), ((3, 4), 1), ((2, 3, 4), 1), ((1,), 0), ((1, 1), 1))
WRONG = [
    refused("f32[2, 3]", r"axis 2 is out of range for f32\[2, 3\]", axis=2, descending=False),
    refused("bool[3]", r"needs numbers to put in order, got bool\[3\]; write x.astype", axis=0, descending=False),
]
row(
    "sort",
    [
        c
        for descending in (False, True)
        for c in (
            *cases(descending=descending),
            case(In((0, 3)), axis=0, descending=descending),
            case(In((0, 3)), axis=1, descending=descending),
            *(case(x, axis=1, descending=descending) for x in (LONG, TIES, SPECIAL)),
        )
    ],
    NUMBERS,
    WRONG,
    away=apart,
    smooth=lambda c: c.inputs[0] is not TIES and c.inputs[0] is not SPECIAL,
)
row(
    "topk",
    [
        c
        for largest in (False, True)
        for c in (
            *(case(In(s, -9, 9), axis=a, k=1, largest=largest) for s, a in SHAPES),
            *(case(x, axis=1, k=k, largest=largest) for x in (LONG, TIES, SPECIAL) for k in (1, 2, 7, 20)),
            case(In((3, T), -9, 9), sizes={"T": 5}, axis=1, k=3, largest=largest),
            case(In((4, 3), -9, 9), axis=0, k=4, largest=largest),
            case(In((0, 3)), axis=1, k=2, largest=largest),
            case(In((2, 3)), axis=1, k=0, largest=largest),
        )
    ],
    NUMBERS,
    [
        refused("f32[2, 3]", "k is an int from 0 to the size of axis 1, 3; got 4", axis=1, k=4, largest=True),
        refused("f32[2, 3]", "got -1", axis=1, k=-1, largest=True),
        refused("f32[2, 3]", "axis 2 is out of range", axis=2, k=1, largest=True),
        refused("bool[3]", "needs numbers to put in order", axis=0, k=1, largest=True),
    ],
    away=apart,
    smooth=lambda c: c.inputs[0] is not TIES and c.inputs[0] is not SPECIAL,
)
