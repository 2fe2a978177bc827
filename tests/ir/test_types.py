import numpy as np
import pytest

from gradtape.ir.dims import Dim, DimScope, Symbol, dim_scope
from gradtape.ir.types import (
    DTYPES,
    TensorType,
    TypeRuleError,
    broadcast,
    dtype_name,
    known_nonzero,
    normalize_axes,
    normalize_axis,
    parse_type,
    promote,
    type_of,
)

B, T = Dim("B"), Dim("T")


def test_a_type_is_printed_and_read() -> None:
    for text in ("f32[]", "f64[3]", "i64[B, 64, 128]", "bool[B*T + 1, 0]", "i32[2*B - 1]"):
        assert str(parse_type(text)) == text
    assert parse_type(" f32[ B ,3 ] ") == TensorType("f32", (B, 3))
    for text in ("f16[3]", "f32", "f32[3", "f32[3]]", "f32[B C]", "f32[,]", "f32[3.5]", ""):
        with pytest.raises(ValueError):
            parse_type(text)


def test_a_type_knows_itself() -> None:
    t = TensorType("f32", (B, 3))
    assert (t.ndim, str(t.size), t.is_float, t.is_integer) == (2, "3*B", True, False)
    assert str(t.with_dtype("i64")) == "i64[B, 3]"
    assert repr(t) == "f32[B, 3]"


def test_equality_records_nothing() -> None:
    scope = DimScope({"B": Symbol("B", hint=7), "T": Symbol("T", hint=7)})
    with dim_scope(scope):
        assert TensorType("f32", (B, 3)) == TensorType("f32", (Dim("B"), 3))
        assert TensorType("f32", (B, 3)) != TensorType("f32", (T, 3))
        assert TensorType("f32", (B,)) != TensorType("f32", (7,))
        assert TensorType("f32", (3,)) != TensorType("f32", (3, 1))
        assert len({TensorType("f32", (B,)), TensorType("f32", (B,)), TensorType("f32", (T,))}) == 2
    assert TensorType("f32") != TensorType("f32", (), weak=True)
    assert TensorType("f32") != "f32[]"
    assert scope.guards == []


def test_dtype_names() -> None:
    for name, dtype in DTYPES.items():
        for spelling in (name, dtype, dtype.type, str(dtype)):
            assert dtype_name(spelling) == name
    assert [dtype_name(t) for t in (float, int, bool)] == ["f32", "i64", "bool"]
    for wrong in ("float16", np.float16, np.uint8, complex, "rhubarb", None.__class__, object):
        with pytest.raises(TypeError, match="is not one of f32, f64, i32, i64, bool"):
            dtype_name(wrong)


def test_types_of_values() -> None:
    assert type_of(np.zeros((2, 3), np.float32)) == TensorType("f32", (2, 3))
    assert type_of(np.zeros((), np.int32)) == TensorType("i32")
    for weak, dtype in ((True, "bool"), (2, "i64"), (2.5, "f32"), (np.float64(2), "f32"), (np.int32(2), "i64")):
        assert type_of(weak) == TensorType(dtype, (), weak=True)
    with pytest.raises(TypeError, match="complex128"):
        type_of(np.zeros(2, complex))


ARRAYS = ("bool", "i32", "i64", "f32", "f64")
TABLE = """
bool i32  i64  f32  f64
i32  i32  i64  f32  f64
i64  i64  i64  f32  f64
f32  f32  f32  f32  f64
f64  f64  f64  f64  f64
"""


def test_promotion_of_arrays() -> None:
    for a, line in zip(ARRAYS, TABLE.split("\n")[1:-1], strict=True):
        for b, expected in zip(ARRAYS, line.split(), strict=True):
            assert promote([TensorType(a), TensorType(b)]) == expected


@pytest.mark.parametrize(
    ("number", "expected"),
    [(True, "bool i32 i64 f32 f64"), (2, "i64 i32 i64 f32 f64"), (2.5, "f32 f32 f32 f32 f64")],
)
def test_a_python_number_never_widens_an_array(number: object, expected: str) -> None:
    for a, dtype in zip(ARRAYS, expected.split(), strict=True):
        assert promote([TensorType(a), type_of(number)]) == dtype
        assert promote([type_of(number), TensorType(a)]) == dtype


def test_promotion_of_numbers_alone() -> None:
    assert promote([type_of(1), type_of(2.5)]) == "f32"
    assert promote([type_of(True), type_of(2)]) == "i64"


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        ([(2, 3), (3,)], (2, 3)),
        ([(2, 1), (1, 3)], (2, 3)),
        ([(), (2,)], (2,)),
        ([(0, 3), (1, 3)], (0, 3)),
        ([(2, 1, 4), (3, 1), (1,)], (2, 3, 4)),
        ([], ()),
        ([(B, 1), (T,)], (B, T)),
        ([(B, 3), (1, 3)], (B, 3)),
        ([(B, 3), (B, 1), ()], (B, 3)),
    ],
)
def test_broadcasting(shapes: list, expected: tuple) -> None:
    assert TensorType("f32", broadcast(shapes)) == TensorType("f32", expected)


def test_broadcasting_agrees_with_numpy() -> None:
    sizes = [(), (1,), (2,), (0,), (3, 1), (1, 2), (3, 2), (2, 3, 2)]
    for a in sizes:
        for b in sizes:
            try:
                expected = np.broadcast_shapes(a, b)
            except ValueError:
                with pytest.raises(TypeRuleError, match="do not broadcast"):
                    broadcast([a, b])
            else:
                assert broadcast([a, b]) == expected


def test_what_does_not_broadcast() -> None:
    with pytest.raises(TypeRuleError, match=r"shapes \(2, 3\) and \(4\) do not broadcast: 3 and 4 differ"):
        broadcast([(2, 3), (4,)])


def test_a_symbolic_size_is_never_taken_for_one() -> None:
    """Without a hint that says otherwise it equals nothing; with an equal hint it is pinned to the other."""
    with pytest.raises(TypeRuleError, match="B and 3 differ"):
        broadcast([(B,), (3,)])
    scope = DimScope({"B": Symbol("B", hint=3), "T": Symbol("T", hint=5)})
    with dim_scope(scope):
        assert broadcast([(B,), (3,)]) == (3,)
        assert [str(g) for g in scope.guards] == ["B == 3"]
        with pytest.raises(TypeRuleError, match="B and T differ"):
            broadcast([(B,), (T,)])
        assert [str(g) for g in scope.guards] == ["B == 3", "B != T"]


def test_axes() -> None:
    assert normalize_axis(-1, 3) == 2
    assert normalize_axis(np.int64(1), 3) == 1
    assert normalize_axes(None, 3) == (0, 1, 2)
    assert normalize_axes(-1, 3) == (2,)
    assert normalize_axes([-1, 0], 3) == (0, 2)
    assert normalize_axes((), 3) == ()
    for axis, says in (
        (3, "axis 3 is out of range for 3 dimensions"),
        (-4, "axis -4 is out of range"),
        (1.0, "an axis is an int, not 1.0"),
        (True, "an axis is an int, not True"),
    ):
        with pytest.raises(TypeRuleError, match=says):
            normalize_axis(axis, 3)  # type: ignore[arg-type]
    with pytest.raises(TypeRuleError, match=r"an axis appears twice in \(0, -3\)"):
        normalize_axes((0, -3), 3)


def test_sizes_that_cannot_be_zero() -> None:
    assert known_nonzero(3) and not known_nonzero(0) and known_nonzero(B)
    with dim_scope(DimScope({"B": Symbol("B", min=0)})):
        assert not known_nonzero(B)
        assert known_nonzero(B + 1)
