"""Single values by hand, where a formula has a corner: ties, zeros, infinities, ranges. The rest is in test_ops.py."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gradcheck import check, total
from gradtape.ir import ops as _ops  # noqa: F401  fills the registry
from gradtape.ir.build import Builder
from gradtape.ir.dims import Dim
from gradtape.ir.interp import evaluate_graph
from gradtape.ir.op import OPS
from gradtape.ir.random import uniform
from gradtape.ir.types import TensorType, type_of
from gradtape.passes.autodiff import differentiate
from gradtape.passes.rewrite import expand

inf, nan = float("inf"), float("nan")


def grads(function: Callable[..., Any], *inputs: Any, **attrs: Any) -> list[Any]:
    """The gradient of the sum of the result by each array among the inputs, as lists; None where there is none."""
    builder = Builder("g")
    args = [builder.input(f"x{i}", type_of(x)) if isinstance(x, np.ndarray) else x for i, x in enumerate(inputs)]
    graph = builder.graph([("loss", total(function(*args, **attrs)))])
    names = [v.name for v in graph.inputs]
    values = {f"x{i}": x for i, x in enumerate(inputs) if isinstance(x, np.ndarray)}
    out = evaluate_graph(differentiate(graph, "loss", names), values)
    return [out[f"grad:{n}"].tolist() if f"grad:{n}" in out else None for n in names]


def f(*values: float) -> np.ndarray:
    return np.array(values, np.float64)


@pytest.mark.parametrize(
    ("name", "inputs", "expected"),
    [
        # ties share, so that the gradients add up
        ("maximum", (f(1, 2, 3), f(3, 2, 1)), [[0, 0.5, 1], [1, 0.5, 0]]),
        ("minimum", (f(1, 2, 3), f(3, 2, 1)), [[1, 0.5, 0], [0, 0.5, 1]]),
        ("maximum", (f(0, 1), 0.0), [[0.5, 1]]),
        # at the bounds the gradient goes to x, beyond them to the bound
        ("clip", (f(-2, -1, 0, 1, 2), -1.0, 1.0), [[0, 1, 1, 1, 0]]),
        ("clip", (f(-2, 0, 2), f(-1, -1, -1), f(1, 1, 1)), [[0, 1, 0], [1, 0, 0], [0, 0, 1]]),
        ("clip", (f(0), f(2), f(1)), [[0], [0], [1]]),  # low above high: the result is high
        ("abs", (f(-2, 0, 2),), [[-1, 0, 1]]),
        ("relu", (f(-2, 0, 2, nan),), [[0, 0, 1, 0]]),
        ("pow", (f(0, 0, 0, 2, -2), f(0, 1, 2, 3, 2)), [[0, 1, 0, 12, -4], [0, 0, 0, 8 * np.log(2), 0]]),
        ("pow", (f(0, 2), 0.0), [[0, 0]]),
        ("pow", (f(0, 2), 1.0), [[1, 1]]),
        ("pow", (f(0, -3), 2.0), [[0, -6]]),
        ("pow", (2.0, f(3, 0)), [[8 * np.log(2), np.log(2)]]),
        ("pow", (0.0, f(3, 0)), [[0, 0]]),
        ("pow", (-2.0, f(2)), [[0]]),
        ("copysign", (f(-3, 3, 0), f(1, -1, 1)), [[-1, -1, 0], None]),
        ("remainder", (f(7), f(-2)), [[1], [4]]),
        ("where", (np.array([True, False]), f(1, 2), f(nan, 4)), [None, [1, 0], [0, 1]]),
        ("stop_gradient", (f(1),), [None]),
        ("round", (f(1.4),), [None]),
        ("logaddexp", (f(0, 800, -inf), f(0, -800, 1)), [[0.5, 1, 0], [0.5, 0, 1]]),
        ("softplus", (f(800, -800),), [[1, 0]]),
        ("sigmoid", (f(800, -800),), [[0, 0]]),
    ],
)  # fmt: skip
def test_gradients_at_corners(name: str, inputs: tuple, expected: list) -> None:
    for got, want in zip(grads(OPS[name], *inputs), expected, strict=True):
        assert (got is None) == (want is None)
        if want is not None:
            np.testing.assert_allclose(got, want, rtol=1e-14)


def test_ties_of_a_reduction_share() -> None:
    x = np.array([[1.0, 3.0, 3.0], [5.0, 2.0, nan]])
    assert grads(OPS["max"], x, axes=(1,), keepdims=False) == [[[0, 0.5, 0.5], [0, 0, 0]]]
    assert grads(OPS["min"], -x[:1], axes=(0, 1), keepdims=False) == [[[0, 0.5, 0.5]]]


def test_the_product_of_zeros() -> None:
    x = np.array([[2.0, 3.0, 4.0], [0.0, 3.0, 4.0], [0.0, 0.0, 4.0], [0.0, 0.0, 0.0]])
    assert grads(OPS["prod"], x, axes=(1,), keepdims=False) == [[[12, 8, 6], [12, 0, 0], [0, 0, 0], [0, 0, 0]]]
    for order in (1, 2):
        check(OPS["prod"], [x], {"axes": (1,), "keepdims": False}, order=order, tolerance=1e-12)


def test_a_row_of_minus_infinity() -> None:
    x = np.array([[-inf, -inf], [-inf, 1.0], [inf, 1.0]])
    np.testing.assert_array_equal(OPS["logsumexp"](x, axis=1)[:, 0], [-inf, 1, inf])
    assert grads(OPS["logsumexp"], x[:2], axis=1) == [[[0, 0], [0, 1]]]
    assert np.isnan(OPS["softmax"](x, axis=1)[0]).all()


@pytest.mark.parametrize("name", ["sigmoid", "silu", "softplus"])
def test_float32_keeps_its_digits_where_the_function_is_small(name: str) -> None:
    x = np.array([-20.0, -50.0, -85.0])
    expected = {"sigmoid": np.exp(x), "silu": x * np.exp(x), "softplus": np.exp(x)}[name]
    np.testing.assert_allclose(OPS[name](x.astype(np.float32)), expected, rtol=1e-6)


def test_rounding_is_half_to_even() -> None:
    assert OPS["round"](f(-1.5, -0.5, 0.5, 1.5, 2.5)).tolist() == [-2, 0, 0, 2, 2]
    assert OPS["round"](np.array([2**62 + 1])).tolist() == [2**62 + 1]


def test_integers() -> None:
    a, b = np.array([7, -7, 7, -7, 5]), np.array([2, 2, -2, -2, 0])
    assert OPS["floor_divide"](a, b).tolist() == [3, -4, -4, 3, 0]
    assert OPS["remainder"](a, b).tolist() == [1, 1, -1, -1, 0]
    assert OPS["div"](a, 2).dtype == np.float32 and OPS["div"](a, 2).tolist() == [3.5, -3.5, 3.5, -3.5, 2.5]
    assert OPS["mul"](np.array([2**31 - 1], np.int32), np.array([2], np.int32)).tolist() == [-2]
    assert OPS["sum"](np.array([2**31 - 1, 1], np.int32), axes=(0,), keepdims=False) == -(2**31)


def test_variance() -> None:
    x = f(1, 2, 4)
    for correction, expected in ((0, 14 / 9), (1, 7 / 3), (0.5, 28 / 15)):
        np.testing.assert_allclose(
            OPS["var"](x, axes=(0,), keepdims=False, correction=correction), expected, rtol=1e-15
        )
    for n in (0, 1, 2):
        assert np.isnan(OPS["var"](np.zeros(n), axes=(0,), keepdims=False, correction=n))
        graph = symbolic("var", correction=n)
        if n:
            assert np.isnan(evaluate_graph(expand(graph), {"x": np.zeros(n)})["out"])
    big = 1e8 + f(1, 2, 4)
    np.testing.assert_allclose(OPS["var"](big, axes=(0,), keepdims=False), 14 / 9, rtol=1e-7)


def symbolic(name: str, **attrs: Any) -> Any:
    builder = Builder("symbolic")
    x = builder.input("x", TensorType("f64", (Dim("T"),)))
    return builder.graph([("out", OPS[name](x, axes=(0,), keepdims=False, **attrs))])


@pytest.mark.parametrize("name", ["mean", "var", "std"])
def test_a_symbolic_count_is_a_number_of_the_right_dtype(name: str) -> None:
    """float32 holds no odd number above 2**24."""
    graph = expand(symbolic(name))
    kinds = {n.output.type.dtype for n in graph.nodes}
    assert kinds == {"f64"} and any(n.op == "dim_scalar" for n in graph.nodes)


def test_indices_out_of_range() -> None:
    table = np.arange(6.0).reshape(3, 2)
    for wrong in (3, -4):
        with pytest.raises(IndexError, match=f"index {wrong} is out of range for a table of 3 rows"):
            OPS["take"](table, np.array([0, wrong]))
        with pytest.raises(IndexError, match=f"index {wrong} is out of range for a table of 3 rows"):
            OPS["scatter_add"](np.array([wrong, 0]), table[:2], rows=3)
    assert OPS["take"](table, np.array([-1, 0])).tolist() == [[4, 5], [0, 1]]
    for wrong in (5, -1):
        with pytest.raises(IndexError, match=f"index {wrong} is out of range for 5 classes"):
            OPS["bounded"](np.array([0, wrong]), size=5)
        with pytest.raises(IndexError, match=f"class {wrong} is out of range for 5 classes"):
            OPS["nll_from_logits"](np.zeros((2, 5)), np.array([0, wrong]))


def test_equal_indices_add_up() -> None:
    x = np.array([[1.0], [2.0], [4.0]])
    assert OPS["scatter_add"](np.array([1, 1, -1]), x, rows=3).tolist() == [[0], [3], [4]]
    assert grads(OPS["take"], x, np.array([1, 1, -1])) == [[[0], [2], [1]], None]


def test_draws() -> None:
    draw = OPS["uniform"](3, 4, shape=(50, 40), site=7, dtype="f32")
    np.testing.assert_array_equal(draw.reshape(-1), uniform(3, 4, 7, np.arange(2000)))
    assert draw.dtype == np.float32 and 0 <= draw.min() < 0.01 and 0.99 < draw.max() < 1
    np.testing.assert_array_equal(OPS["uniform"](3, 4, shape=(50, 40), site=7, dtype="f64"), draw.astype(np.float64))
    for other in ({"site": 8}, {"site": 7, "seed": 2}, {"site": 7, "step": 5}):
        attrs = {"seed": 3, "step": 4, **other}
        seed, step = attrs.pop("seed"), attrs.pop("step")
        assert np.mean(OPS["uniform"](seed, step, shape=(50, 40), dtype="f32", **attrs) == draw) < 0.01


def test_no_gradient_for_integers_and_through_them() -> None:
    x = f(1.5, 2.5)
    assert grads(lambda x: OPS["cast"](OPS["cast"](x, dtype="i64"), dtype="f64"), x) == [None]
    assert grads(lambda x: OPS["cast"](OPS["cast"](x, dtype="f32"), dtype="f64") * x, x) == [[3, 5]]
    assert grads(lambda n: OPS["cast"](n, dtype="f64"), np.array([1, 2])) == [None]


def test_a_record_names_itself() -> None:
    assert repr(OPS["square"]) == "<op square: x * x>"
    assert list(OPS["softmax"].signature.parameters) == ["x", "axis"]
    assert OPS["add"](TensorType("f32", (2, 1)), TensorType("f64", (3,))) == TensorType("f64", (2, 3))


def test_a_large_or_odd_number_does_not_warn() -> None:
    assert OPS["full"].eager(shape=(1,), value=1e300, dtype="f32").tolist() == [inf]
    assert OPS["cast"](np.array([1e300]), dtype="f32").tolist() == [inf]
    assert np.isnan(OPS["mean"](np.zeros((0,)), axes=(0,), keepdims=False))
