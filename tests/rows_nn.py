"""Rows of ir/ops/nn.py."""

import numpy as np

from cases import FLOATS, INTEGERS, In, case, refused, row
from gradtape.ir.dims import Dim

WIDE = (-3, 3)
T = Dim("T")

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
    "is_class",
    [case(In(shape, 0, 4), size=5) for shape in ((3,), (2, 3), (), (0,))]
    + [case(In((1,), 0, 0), size=1), case(In((T,), 0, 4), sizes={"T": 3}, size=5)]
    + [case(np.array([0, -100, 4, 2]), size=5, ignore=-100), case(In((2, 3), 0, 4), size=5, ignore=2)],
    INTEGERS,
    [refused("f32[3]", r"the target names classes by integers, got f32\[3\]", size=5)],
)
row(
    "nll_from_logits",
    [
        case(In((*shape, 5), *WIDE), In(shape, 0, 4, dtype))
        for shape in ((3,), (2, 3), (), (1,), (0,))
        for dtype in INTEGERS
    ]
    + [case(In((T, 5)), In((T,), 0, 4, "i64"), sizes={"T": 3})]
    # ignored: a number outside of the classes, a class, all of the rows
    + [case(In((6, 5), *WIDE), np.array([0, -100, 4, 2, -100, 0]), ignore=-100)]
    + [case(In((2, 3, 5), *WIDE), In((2, 3), 0, 4, "i64"), ignore=2)]
    + [case(In((2, 5), *WIDE), np.array([-1, -1]), ignore=-1)],
    FLOATS,
    [
        refused("f32[3, 5]; f32[3]", r"the target names classes by integers, got f32\[3\]; write target.astype"),
        refused("f32[3, 5]; i64[4]", r"logits f32\[3, 5\] need a target i64\[3\], got i64\[4\]"),
        refused("f32[3, 5]; i64[3, 1]", r"need a target i64\[3\]"),
        refused("f32[]; i64[]", r"the logits are float\[..., classes\], got f32\[\]"),
        refused("f32[2, 5, 7]; i64[2, 7]", r"classes are the last axis here: write gt.moveaxis\(logits, 1, -1\)"),
        refused("f32[2, 5, 7, 8]; i64[2, 7, 8]", r"need a target i64\[2, 5, 7\], .*moveaxis\(logits, 1, -1\)"),
        refused("f32[3, 5]; i64[3, 5]", r"target.argmax\(-1\) for one-hot rows"),
    ],
)
row(
    "cross_entropy_from_logits",
    [case(In(shape, *WIDE), In(shape, 0.05, 1)) for shape in ((3, 5), (2, 3, 5), (5,), (1, 1), (0, 5))]
    + [case(In((T, 5)), In((T, 5), 0.05, 1), sizes={"T": 3})],
    FLOATS,
    [
        refused("f32[3, 5]; f32[3]", r"logits f32\[3, 5\] need a weight for each class, got f32\[3\]"),
        refused("f32[3, 5]; f32[1, 5]", "need a weight for each class"),
        refused("i64[3, 5]; i64[3, 5]", "needs a float operand"),
    ],
)
row(
    "binary_cross_entropy",  # away from the poles at 0 and 1, where differences are too coarse
    [case(In(shape, 0.25, 0.75), In(shape, 0, 1)) for shape in ((3, 4), (), (1, 1), (0, 3))]
    + [case(In((3, 1), 0.25, 0.75), In((4,), 0, 1))],
    FLOATS,
    [refused("i64[3]; i64[3]", "needs a float operand"), refused("f32[3]; f32[4]", "do not broadcast")],
)
