"""The contract of the scalar primitives, by examples; test_ops.py holds each op's expression to its reference."""

from typing import Any

import numpy as np
import pytest

from gradtape.ir import scalar
from gradtape.ir.dims import Dim
from gradtape.ir.random import uniform
from gradtape.ir.scalar import PRIMITIVES, PlainScalars

f32, f64, i32, i64 = np.float32, np.float64, np.int32, np.int64
nan, inf = float("nan"), float("inf")
S = PlainScalars("f32")


def test_the_set_is_closed() -> None:
    groups = (
        scalar.FUNCTIONS,
        scalar.NUMBERS,
        scalar.FLOAT_PAIRS,
        scalar.PAIRS,
        scalar.BITS,
        scalar.QUESTIONS,
        scalar.LOGIC,
        scalar.OTHERS,
    )
    assert len(set(PRIMITIVES)) == len(PRIMITIVES) == sum(map(len, groups))
    assert all(callable(getattr(S, name)) for name in PRIMITIVES)
    with pytest.raises(AttributeError, match="gamma is not a scalar primitive; there are abs, acos"):
        S.gamma


EXAMPLES = [
    ("exp", (f32(0),), f32(1)),
    ("erf", (f64(inf),), f64(1)),
    ("erfinv", (f64(0.5),), f64(0.47693627620446987)),
    ("erfinv", (f64(-1),), f64(-inf)),
    ("erfinv", (f64(1.5),), f64(nan)),
    ("log", (f32(-1),), f32(nan)),
    ("log", (f32(0),), f32(-inf)),
    ("sqrt", (f64(-0.0),), f64(-0.0)),
    ("abs", (i32(-3),), i32(3)),
    ("abs", (f32(-0.0),), f32(0.0)),
    ("sign", (f32(-2.5),), f32(-1)),
    ("sign", (f32(nan),), f32(nan)),
    ("sign", (i64(-7),), i64(-1)),
    ("floor", (f32(-1.5),), f32(-2)),
    ("ceil", (f32(-1.5),), f32(-1)),
    ("trunc", (f32(-1.5),), f32(-1)),
    ("round", (f32(2.5),), f32(2)),
    ("round", (f32(3.5),), f32(4)),
    ("round", (f32(-0.5),), f32(-0.0)),
    ("floor", (i64(2**62 + 1),), i64(2**62 + 1)),
    ("round", (i32(7),), i32(7)),
    ("pow", (i32(3), i32(2)), i32(9)),
    ("pow", (i32(3), i32(21)), i32(3**21 % 2**32)),
    ("pow", (i64(-3), i64(41)), i64(2**64 - 3**41 % 2**64)),
    ("pow", (i64(-1), i64(-3)), i64(-1)),
    ("pow", (i64(2), i64(-1)), i64(0)),
    ("pow", (i64(0), i64(-1)), i64(0)),
    ("pow", (f32(0), f32(0)), f32(1)),
    ("pow", (f64(-8), f64(1 / 3)), f64(nan)),
    ("maximum", (f32(nan), f32(1)), f32(nan)),
    ("minimum", (f32(1), f32(nan)), f32(nan)),
    ("maximum", (i64(-1), i64(2)), i64(2)),
    ("atan2", (f32(0.0), f32(-1.0)), f32(np.pi)),
    ("hypot", (f32(3e38), f32(0)), f32(3e38)),
    ("copysign", (f32(2), f32(-0.0)), f32(-2)),
    ("nextafter", (f32(1), f32(2)), f32(1 + 2**-23)),
    ("bitwise_and", (i32(-2), i32(7)), i32(6)),
    ("bitwise_or", (i64(-8), i64(3)), i64(-5)),
    ("bitwise_xor", (i64(5), i64(-1)), i64(-6)),
    ("left_shift", (i32(3), i32(31)), i32(-(2**31))),
    ("left_shift", (i64(3), i64(64)), i64(0)),
    ("left_shift", (i64(3), i64(-1)), i64(0)),
    ("right_shift", (i64(-5), i64(1)), i64(-3)),
    ("right_shift", (i32(-5), i32(32)), i32(-1)),
    ("right_shift", (i32(5), i32(-1)), i32(0)),
    ("divide", (f32(1), f32(0)), f32(inf)),
    ("divide", (i64(7), i64(2)), f32(3.5)),
    ("floor_divide", (i32(-7), i32(2)), i32(-4)),
    ("floor_divide", (i32(7), i32(0)), i32(0)),
    ("floor_divide", (f64(1.0), f64(0.1)), f64(9)),
    ("floor_divide", (f32(inf), f32(1)), f32(nan)),
    ("floor_divide", (f32(1), f32(-inf)), f32(-1)),
    ("remainder", (i32(-7), i32(2)), i32(1)),
    ("remainder", (i32(7), i32(-2)), i32(-1)),
    ("remainder", (i32(7), i32(0)), i32(0)),
    ("remainder", (f32(1), f32(inf)), f32(1)),
    ("remainder", (f32(-1), f32(inf)), f32(inf)),
    ("remainder", (f64(-7.5), f64(2)), f64(0.5)),
    ("equal", (f32(nan), f32(nan)), np.False_),
    ("not_equal", (np.True_, np.False_), np.True_),
    ("isfinite", (i64(3),), np.True_),
    ("isnan", (f32(nan),), np.True_),
    ("isinf", (f64(-inf),), np.True_),
    ("logical_and", (np.True_, np.False_), np.False_),
    ("logical_or", (np.True_, np.False_), np.True_),
    ("logical_not", (np.True_,), np.False_),
    ("where", (np.True_, i64(3), 2.5), f32(3)),
    ("where", (False, f32(3), 2), f32(2)),
    ("cast", (f32(-2.7), "i32"), i32(-2)),
    ("cast", (f64(0.1), "f32"), f32(0.1)),
    ("cast", (f32(nan), "bool"), np.True_),
    ("cast", (np.True_, "f64"), f64(1)),
    ("constant", (3, "f64"), f64(3)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "args", "expected"), EXAMPLES)
def test_examples(name: str, args: tuple, expected: Any) -> None:
    with np.errstate(all="ignore"):
        result = getattr(S, name)(*args)
        arrays = getattr(S, name)(*(np.array([a]) if isinstance(a, np.generic) else a for a in args))
    assert type(result) is type(expected)
    np.testing.assert_array_equal(result, expected)
    assert np.signbit(result) == np.signbit(expected) or expected.dtype.kind != "f" or np.isnan(expected)
    np.testing.assert_array_equal(arrays[0] if np.ndim(arrays) else arrays, expected)


def test_every_kind_of_primitive_has_an_example() -> None:
    tried = {name for name, *_ in EXAMPLES}
    assert set(PRIMITIVES) - set(scalar.FUNCTIONS) - tried == {"index", "dim", "uniform", "random_bits"}


def test_a_python_number_takes_the_dtype_of_what_it_meets() -> None:
    for dtype in (f32, f64):
        assert type(S.maximum(dtype(1), 2)) is dtype
        assert type(S.divide(1.0, dtype(3))) is dtype
        assert type(S.copysign(1.0, dtype(-3))) is dtype
        assert type(0.5 * dtype(1) + 1) is dtype
    assert type(PlainScalars("f64").where(True, 1.0, 0)) is f64
    assert S.divide(1.0, f64(3)) == 1 / 3


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("maximum", (f32(1), f64(2))),
        ("equal", (i32(1), i64(1))),
        ("pow", (f32(2), i64(2))),
        ("exp", (i64(1),)),
        ("atan2", (i64(1), i64(1))),
        ("abs", (np.True_,)),
        ("logical_and", (f32(1), np.True_)),
        ("where", (f32(1), f32(1), f32(2))),
        ("maximum", (np.float16(1), np.float16(2))),
    ],
)
def test_what_no_kernel_could_compute_is_refused(name: str, args: tuple) -> None:
    with pytest.raises(TypeError, match=name):
        getattr(S, name)(*args)


def test_index_dim_and_uniform() -> None:
    index = tuple(np.indices((2, 3)))
    s = PlainScalars("i64", index, {"T": 5})
    np.testing.assert_array_equal(s.index(-1), [[0, 1, 2], [0, 1, 2]])
    np.testing.assert_array_equal(s.index(-2), [[0, 0, 0], [1, 1, 1]])
    assert s.index(-1).dtype == np.int64
    assert s.dim(2 * Dim("T") + 1) == 11
    expected = uniform(3, 4, 7, np.arange(6)).reshape(2, 3)
    np.testing.assert_array_equal(s.uniform(3, 4, 7, (2, 3)), expected)
    assert PlainScalars("f32", (1, 2)).uniform(3, 4, 7, (2, 3)) == expected[1, 2]
    assert s.uniform(3, 4, 7, (2, 3)).dtype == np.float32
    np.testing.assert_array_equal(s.random_bits(3, 4, 7, (2, 3)) >> 8, expected * 2**24)
    assert s.random_bits(3, 4, 7, (2, 3)).dtype == np.int64
    row = PlainScalars("f32", tuple(np.indices((4, 3))), {"T": 3}).uniform(3, 4, 7, (Dim("T"),))
    np.testing.assert_array_equal(row, np.broadcast_to(uniform(3, 4, 7, np.arange(3)), (4, 3)))
