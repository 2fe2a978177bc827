"""Rows of ir/ops/cached.py."""

import numpy as np

from cases import FLOATS, In, case, refused, row
from gradtape.ir.dims import Dim

S = Dim("S")


def shapes(b, h, t, s, d, e):
    return In((b, h, t, d), -1, 1), In((b, h, s, d), -1, 1), In((b, h, s, e), -1, 1)


row(
    "cached_attention",
    [
        *(case(*shapes(2, 2, 1, 6, 3, 3), np.array(start), scale=0.5) for start in (0, 3, 5)),
        *(case(*shapes(1, 2, 3, 7, 4, 5), np.array(start, np.int32), scale=1.0) for start in (0, 2, 4)),
        *(case(*shapes(1, 1, 2, 4, 2, 2), np.array(start), scale=0.5) for start in (-9, 9)),  # moved inside
        case(*shapes(1, 1, 1, 1, 1, 1), np.array(0), scale=2.0),
        case(*shapes(1, 1, 0, 3, 2, 2), np.array(0), scale=1.0),
        case(*shapes(0, 2, 1, 3, 2, 2), np.array(0), scale=1.0),
        case(*shapes(1, 2, 2, S, 3, 2), np.array(1), sizes={"S": 5}, scale=0.7),
    ],
    FLOATS,
    [
        refused(
            "f32[1, 2, 3]; f32[1, 2, 3]; f32[1, 2, 3]; i64[]", "float.B, H, positions, width. of one dtype", scale=1.0
        ),
        refused("f32[1, 2, 3, 4]; f32[1, 2, 5, 3]; f32[1, 2, 5, 4]; i64[]", "do not fit", scale=1.0),
        refused("f32[1, 2, 3, 4]; f32[1, 2, 5, 4]; f32[1, 2, 6, 4]; i64[]", "do not fit", scale=1.0),
        refused("f32[1, 2, 3, 4]; f64[1, 2, 5, 4]; f32[1, 2, 5, 4]; i64[]", "of one dtype", scale=1.0),
        refused("f32[1, 2, 3, 4]; f32[1, 2, 5, 4]; f32[1, 2, 5, 4]; f32[]", "the start is an integer array", scale=1.0),
        refused("f32[1, 2, 3, 4]; f32[1, 2, 0, 4]; f32[1, 2, 0, 4]; i64[]", "no positions to attend to", scale=1.0),
    ],
)
