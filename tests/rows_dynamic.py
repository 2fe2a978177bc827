"""Rows of ir/ops/dynamic.py."""

import numpy as np

from cases import ALL, In, case, refused, row
from gradtape.ir.dims import Dim

T = Dim("T")
START = In((), 0, 3, "i64")
STARTS = [np.array(i, kind) for i, kind in ((2, np.int64), (-2, np.int32), (9, np.int64), (-9, np.int64))]
row(
    "dynamic_slice",
    [
        *(case(In((5, 3)), s, size=2, axis=0) for s in STARTS),
        *(case(In((2, 5, 3)), s, size=3, axis=1) for s in STARTS[:2]),
        case(In((2, 5)), START, size=4, axis=1),
        case(In((1,)), START, size=1, axis=0),
        case(In((5, 3)), START, size=0, axis=0),
        case(In((0, 5)), START, size=2, axis=1),
        case(In((T, 3)), START, sizes={"T": 5}, size=T - 1, axis=0),
    ],
    ALL,
    [
        refused("f32[5]; f32[]", r"the start is an integer array without axes, got f32\[\]", size=2, axis=0),
        refused("f32[5]; i64[1]", r"without axes, got i64\[1\]", size=2, axis=0),
        refused("f32[5]; 2", "a number makes a slice", size=2, axis=0),
        refused("f32[5]; i64[]", r"6 elements do not fit into axis 0 of f32\[5\]", size=6, axis=0),
        refused("f32[5]; i64[]", r"axis 1 is out of range for f32\[5\]", size=2, axis=1),
    ],
)
row(
    "dynamic_update_slice",
    [
        *(case(In((5, 3)), In((2, 3)), s, axis=0) for s in STARTS),
        *(case(In((2, 5, 3)), In((2, 3, 3)), s, axis=1) for s in STARTS[:2]),
        case(In((2, 5)), In((2, 4)), START, axis=1),
        case(In((1,)), In((1,)), START, axis=0),
        case(In((5, 3)), In((0, 3)), START, axis=0),
        case(In((0, 5)), In((0, 2)), START, axis=1),
        case(In((T, 3)), In((2, 3)), START, sizes={"T": 5}, axis=0),
    ],
    ALL,
    [
        refused("f32[5]; f32[2]; f32[]", "the start is an integer array without axes", axis=0),
        refused("f32[5, 3]; f32[2, 2]; i64[]", r"f32\[2, 2\] may differ in the size of axis 0 only", axis=0),
        refused("f32[5]; f64[2]; i64[]", "may differ in the size of axis 0 only", axis=0),
        refused("f32[5]; f32[6]; i64[]", r"6 elements do not fit into axis 0 of f32\[5\]", axis=0),
        refused("f32[5]; f32[2]; i64[]", "axis 2 is out of range", axis=2),
    ],
)
