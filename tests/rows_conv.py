"""The rows of ir/ops/conv.py."""

import numpy as np

from cases import FLOATS, In, case, refused, row
from gradtape.ir.dims import Dim

N, L = Dim("N"), Dim("L")
NONE, ONE = ((0, 0), (0, 0)), ((1, 1), (1, 1))

# batch, channels, sizes of x; the weight; what differs from one window a step over both axes
CONVOLUTIONS = [
    ((2, 3, 5, 4), (4, 3, 3, 2), {}),
    ((2, 3, 5, 4), (2, 3, 1, 1), {}),
    ((1, 2, 6, 7), (2, 2, 3, 3), {"stride": (2, 3), "padding": ONE}),
    ((2, 2, 6, 6), (1, 2, 2, 3), {"stride": (2, 1), "padding": ((2, 1), (0, 3)), "dilation": (2, 1)}),
    ((2, 4, 4, 4), (6, 2, 3, 3), {"padding": ONE, "groups": 2}),
    ((2, 3, 4, 4), (3, 1, 2, 2), {"stride": (2, 2), "groups": 3}),
    ((2, 2, 5, 5), (3, 2, 2, 2), {"stride": (3, 3)}),  # strides beyond the kernel: some of x is never read
    ((0, 2, 4, 4), (3, 2, 2, 2), {}),
    ((1, 2, 3, 3), (2, 2, 1, 1), {"padding": ((2, 0), (1, 1))}),  # more padding than the kernel reaches
    ((2, 3, 7), (4, 3, 3), {"stride": (2,), "padding": ((1, 2),)}),
    ((1, 1, 1), (1, 1, 1), {}),
    ((N, 2, 4, 4), (3, 2, 3, 3), {"padding": ONE}),
    ((N, 2, L), (3, 2, 3), {"padding": ((2, 0),)}),
]
SIZES = {"N": 3, "L": 6}


def attrs(w, stride=None, padding=None, dilation=None, groups=1):
    n = len(w) - 2
    return {
        "stride": stride or (1,) * n,
        "padding": padding or ((0, 0),) * n,
        "dilation": dilation or (1,) * n,
        "groups": groups,
    }


def windows(x, w, given):
    """The sizes of the result of a convolution, by its definition."""
    counts = []
    for d, k, s, (a, b), e in zip(x[2:], w[2:], given["stride"], given["padding"], given["dilation"], strict=True):
        wide = d + (a + b - e * (k - 1) - 1)
        counts.append(wide + 1 if s == 1 else wide // s + 1)
    return (x[0], w[0], *counts)


def cases(make):
    return [make(x, w, attrs(w, **more)) for x, w, more in CONVOLUTIONS]


LINE = attrs((1, 1, 1))
row(
    "conv",
    cases(lambda x, w, given: case(In(x), In(w), sizes=SIZES, **given)),
    FLOATS,
    [
        refused("f32[2, 3, 7]; f32[4, 2, 3]", r"x \(2, 3, 7\) has 3 channels, the weight \(4, 2, 3\) is for 2", **LINE),
        refused(
            "f32[2, 3, 7]; f32[4, 2, 3]",
            r"the weight \(4, 2, 3\) in 2 groups is for 4",
            **{**LINE, "groups": 2},
        ),
        refused("f32[2, 3, 7]; f32[4, 3, 8]", "a window of 8 elements .kernel 8, dilation 1. does not fit", **LINE),
        refused(
            "f32[2, 3, 7]; f32[4, 3, 8]",
            "a window of 15 .* does not fit into 7, 9 with its padding",
            **{**LINE, "dilation": (2,), "padding": ((1, 1),)},
        ),
        refused("f32[2, 3]; f32[4, 3, 8]", "a convolution over 1 axes takes x .batch, channels, 1 sizes.", **LINE),
        refused("f32[2, 4, 7]; f32[3, 2, 3]", "3 output channels do not divide into 2 groups", **{**LINE, "groups": 2}),
        refused("f32[2, 4, 7]; f32[3, 2, 3]", "groups is an integer from 1, got 0", **{**LINE, "groups": 0}),
        refused("f32[2, 3, 7]; f32[4, 3, 3]", "the padding is not negative", **{**LINE, "padding": ((-1, 0),)}),
        refused("f32[2, 3, 7]; f32[4, 3, 3]", "are integers from 1, got 3, 0 and 1", **{**LINE, "stride": (0,)}),
        refused("f32[2, 3, 7]; f32[4, 3, 3]", "need one entry for each of the 1 axes", **{**LINE, "dilation": ()}),
        refused("f32[2, 3]; f32[4, 3]", "has 1 to 2 axes, got 0", **attrs((4, 3))),
        refused("f32[2, 3, 7]; f32[0, 3, 3]", r"the weight \(0, 3, 3\) has no elements", **LINE),
        refused("i64[2, 3, 7]; i64[4, 3, 3]", "needs a float operand", **LINE),
    ],
)
row(
    "conv_input",
    cases(lambda x, w, given: case(In(windows(x, w, given)), In(w), sizes=SIZES, size=x[2:], **given)),
    FLOATS,
    [
        refused(
            "f32[2, 4, 5]; f32[4, 3, 3]",
            r"x \(2, 3, 8\) and a weight \(4, 3, 3\) give \(2, 4, 6\), not \(2, 4, 5\)",
            size=(8,),
            **LINE,
        ),
        refused("f32[2]; f32[4, 3, 3]", "takes g .batch, out, sizes.", size=(8,), **LINE),
        refused("i64[2, 4, 6]; i64[4, 3, 3]", "needs a float operand", size=(8,), **LINE),
    ],
)
row(
    "conv_weight",
    cases(lambda x, w, given: case(In(x), In(windows(x, w, given)), sizes=SIZES, kernel=w[2:], **given)),
    FLOATS,
    [
        refused(
            "f32[2, 3, 8]; f32[2, 4, 5]",
            r"x \(2, 3, 8\) and a weight \(4, 3, 3\) give \(2, 4, 6\), not \(2, 4, 5\)",
            kernel=(3,),
            **LINE,
        ),
        refused("f32[2, 3, 8]; f32[2]", "takes x .batch, channels, sizes. and g", kernel=(3,), **LINE),
        refused("i64[2, 3, 8]; i64[2, 4, 6]", "needs a float operand", kernel=(3,), **LINE),
    ],
)


POOLS = [  # x, kernel, stride, padding
    ((2, 3, 4, 6), (2, 2), (2, 2), NONE),
    ((2, 5, 5), (3, 2), (2, 1), ONE),
    ((2, 5, 5), (2, 3), (3, 1), ((1, 0), (0, 2))),
    ((1, 3, 7), (3,), (3,), ((0, 0),)),
    ((0, 2, 4), (2,), (2,), ((0, 0),)),
    ((1, 1), (1,), (1,), ((0, 0),)),
    ((N, 2, 4), (2,), (1,), ((1, 1),)),
]


def pool(x, kernel, stride, padding, **more):
    return case(In(x, -500, 500), sizes=SIZES, kernel=kernel, stride=stride, padding=padding, **more)


def refusals(**more):
    one = {"kernel": (2,), "stride": (2,), "padding": ((0, 0),), **more}
    return [
        refused("f32[4]", "pooling over 1 axes needs a channel axis", **one),
        refused("f32[2, 4]", "is smaller than the window", **{**one, "padding": ((2, 0),)}),
        refused("f32[2, 4]", "a window of 5 elements", **{**one, "kernel": (5,)}),
        refused("f32[2, 4]", "need one entry for each of the 1 axes", **{**one, "stride": (1, 1)}),
        refused("i64[2, 4]", "needs a float operand", **one),
    ]


def apart(x):
    """No two elements so near that a difference step could exchange them."""
    return np.diff(np.sort(np.asarray(x), axis=None)).min(initial=1.0) > 0.05


row(
    "max_pool",
    [
        *(pool(*given, dilation=(1,) * len(given[1])) for given in POOLS),
        pool((2, 7, 6), (2, 3), (2, 1), ONE, dilation=(3, 2)),
    ],
    FLOATS,
    refusals(dilation=(1,)),
    away=apart,
)
row("avg_pool", [pool(*given) for given in POOLS], FLOATS, refusals())
