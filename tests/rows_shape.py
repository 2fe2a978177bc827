"""Rows of ir/ops/shape.py: views, copies, generators."""

import numpy as np

from cases import ALL, NUMBERS, In, case, refused, row
from gradtape.ir.dims import Dim
from gradtape.ir.op import OPS

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
        case(In((2, 3)), shape=(4, 5), start=(1, 2), step=(1, 1), value=1),
    ],
    ALL,
    [
        refused("f32[2]", "the value is a number, not 'a'", shape=(3,), start=(0,), step=(1,), value="a"),
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
    "weave",
    [
        case(In((2, 2)), In((2, 2)), shape=(2, 4), step=(1, 2)),
        case(In((2, 3)), In((2, 2)), In((1, 3)), In((1, 2)), shape=(3, 5), step=(2, 2)),
        case(In((3,)), In((2,)), In((2,)), shape=(7,), step=(3,)),
        case(In((1,)), In((0,)), shape=(1,), step=(2,)),
        case(In((0, 2)), In((0, 1)), shape=(0, 3), step=(1, 2)),
        case(In((2, 3)), shape=(2, 3), step=(1, 1)),
        case(In((T,)), In((T,)), sizes={"T": 3}, shape=(2 * T,), step=(2,)),
    ],
    ALL,
    [
        refused("f32[2]; f32[2]", r"steps \(3,\) need 3 parts, got 2", shape=(6,), step=(3,)),
        refused("f32[2]; f32[2]", r"the part that starts at \(0,\) is f32\[3\], got f32\[2\]", shape=(5,), step=(2,)),
        refused("f32[2]; f64[2]", r"the part that starts at \(1,\) is f32\[2\], got f64\[2\]", shape=(4,), step=(2,)),
        refused("f32[2]; f32[2]", "step is an integer from 1 for each of the axes", shape=(4,), step=(0,)),
    ],
)
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
