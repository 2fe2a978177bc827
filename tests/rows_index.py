"""Rows of ir/ops/index.py."""

import numpy as np

from cases import INTEGERS, NUMBERS, In, case, refused, row


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
    [case(In(shape, 0, 4), size=5) for shape in ((4,), (2, 3), (), (1,), (0,))]
    + [case(In((6,), -1, 4), size=5, ignore=-1), case(np.array([7, 0, 4]), size=5, ignore=7)],
    INTEGERS,
    [refused("f32[4]", "indices are integers", size=5)],
)
