"""Rows of ir/ops/index.py."""

import numpy as np

from cases import INTEGERS, NUMBERS, In, case, refused, row
from gradtape.ir.dims import Dim

T = Dim("T")
NOT_INTEGERS = r"indices are integers, got f32\[2\]; write indices.astype\('int64'\)"


def indices(shape: tuple, rows: int, dtype: str = "i64") -> In:
    return In(shape, -rows, rows - 1, dtype)


# rows -----------------------------------------------------------------------------------------------------------
row(
    "take",
    [
        case(In((5, 3)), indices((4,), 5)),
        case(In((5, 3)), indices((2, 4), 5, "i32")),
        case(In((5,)), indices((), 5)),
        case(In((1, 1)), indices((1,), 1)),
        case(In((5, 0)), indices((4,), 5)),
        case(In((5, 3)), indices((0,), 5)),
        case(In((2, 5, 3)), indices((4,), 5), axis=1),
        case(In((2, 3, 5)), indices((2, 2), 5), axis=2),
        case(In((2, 5)), indices((), 5), axis=1),
        case(In((0, 5, 3)), indices((4,), 5), axis=1),
        case(In((2, T, 3)), indices((T,), 3), sizes={"T": 3}, axis=1),
    ],
    NUMBERS,
    [
        refused("f32[5]; f32[2]", NOT_INTEGERS),
        refused("f32[]; i64[2]", r"the table needs at least one axis, got f32\[\]"),
        refused("f32[5]; i64[2]", r"axis 1 is out of range for f32\[5\]", axis=1),
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
        case(indices((7,), 3), In((2, 7, 3)), rows=3, axis=1),
        case(indices((2, 2), 3), In((4, 2, 2)), rows=3, axis=1),
        case(indices((T,), 3), In((2, T)), sizes={"T": 3}, rows=T, axis=1),
    ],
    NUMBERS,
    [
        refused("f32[2]; f32[2]", NOT_INTEGERS, rows=5),
        refused("i64[4]; f32[3]", r"needs one row for each index, got f32\[3\] for indices i64\[4\]", rows=5),
        refused("i64[4]; bool[4]", "needs numbers to add up", rows=5),
        refused("i64[4]; f32[3, 4]", r"axis 2 and the 1 axes of the indices do not fit f32\[3, 4\]", rows=5, axis=2),
    ],
)

# elements -------------------------------------------------------------------------------------------------------
row(
    "take_along_axis",
    [
        case(In((5, 3)), indices((4, 3), 5), axis=0),
        case(In((2, 5, 3)), indices((2, 7, 3), 5, "i32"), axis=1),
        case(In((3, 5)), indices((3, 2), 5), axis=1),
        case(In((1,)), indices((1,), 1), axis=0),
        case(In((3, 0)), indices((3, 0), 5), axis=1),
        case(In((0, 5)), indices((0, 2), 5), axis=1),
        case(In((T, 5)), indices((T, 2), 5), sizes={"T": 3}, axis=1),
    ],
    NUMBERS,
    [
        refused("f32[5]; f32[2]", NOT_INTEGERS, axis=0),
        refused(
            "f32[5, 3]; i64[2]", r"the array f32\[5, 3\] and indices i64\[2\] may differ along axis 0 only", axis=0
        ),
        refused("f32[5, 3]; i64[2, 4]", "may differ along axis 0 only", axis=0),
        refused("f32[5]; i64[5]", r"axis 1 is out of range for f32\[5\]", axis=1),
    ],
)
row(
    "add_along_axis",
    [
        case(indices((4, 3), 5), In((4, 3)), size=5, axis=0),
        case(indices((2, 7, 3), 3, "i32"), In((2, 7, 3)), size=3, axis=1),
        case(indices((3, 4), 2), In((3, 4)), size=2, axis=1),
        case(indices((1,), 1), In((1,)), size=1, axis=0),
        case(indices((3, 0), 5), In((3, 0)), size=5, axis=1),
        case(indices((T, 4), 3), In((T, 4)), sizes={"T": 3}, size=T, axis=1),
    ],
    NUMBERS,
    [
        refused("f32[2]; f32[2]", NOT_INTEGERS, size=5, axis=0),
        refused("i64[4]; f32[3]", r"one summand for each index, got f32\[3\] for indices i64\[4\]", size=5, axis=0),
        refused("i64[4]; bool[4]", "needs numbers to add up", size=5, axis=0),
        refused("i64[4, 2]; f32[4, 3]", "may differ along axis 0 only", size=5, axis=0),
    ],
)

# indices themselves ---------------------------------------------------------------------------------------------
SHAPES = ((4,), (2, 3), (), (1,), (0,))
NO_INDEX = r"indices are integers, got f32\[4\]"
row(
    "bounded",
    [case(In(shape, 0, 4), size=5) for shape in SHAPES]
    + [case(In((6,), -1, 4), size=5, ignore=-1), case(np.array([7, 0, 4]), size=5, ignore=7)],
    INTEGERS,
    [refused("f32[4]", NO_INDEX, size=5)],
)
row(
    "wrapped",
    [
        *(case(In(shape, -5, 4), size=5, axis=1) for shape in SHAPES),
        case(In((T, 2), -3, 2), sizes={"T": 3}, size=T, axis=0),
    ],
    INTEGERS,
    [refused("f32[4]", NO_INDEX, size=5, axis=1)],
)
row(
    "last_index",
    [*(case(In(shape, -5, 4), rows=5) for shape in SHAPES), case(In((T, 2), -3, 2), sizes={"T": 3}, rows=2 * T)],
    INTEGERS,
    [refused("f32[4]", NO_INDEX, rows=5)],
)
