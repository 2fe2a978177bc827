"""The gradient check itself: what it must find, and what it must leave alone."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gradcheck import GradientError, check
from gradtape.ir import ops as _ops  # noqa: F401  fills the registry
from gradtape.ir.op import OPS, Op
from gradtape.ir.types import TensorType

X = np.random.default_rng(3).uniform(0.5, 2.0, (3, 4))
Y = np.random.default_rng(4).uniform(0.5, 2.0, (4,))


@pytest.fixture
def with_rule(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Callable[..., tuple]], Op]:
    """Gives a registered op another derivative for one test."""

    def replace(name: str, vjp: Callable[..., tuple]) -> Op:
        monkeypatch.setattr(OPS[name], "vjp", vjp)
        return OPS[name]

    return replace


# x * exp(x) * y: value, and what the rule gives for x and y
def product_rule(scale: float = 1.0, sign: float = 1.0, second_term: float = 1.0) -> Callable[..., tuple]:
    def vjp(g: Any, out: Any, x: Any, y: Any) -> tuple:
        exp = OPS["exp"]
        return g * sign * scale * (exp(x) * y + second_term * x * exp(x) * y), g * x * exp(x)

    return vjp


@pytest.fixture
def product(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Op]:
    def make(**wrong: float) -> Op:
        fields = {
            "infer": lambda x, y: TensorType(x.dtype, x.shape),
            "ref": lambda x, y: x * np.exp(x) * y,
            "vjp": product_rule(**wrong),
        }
        op = Op("product_for_test", "x * exp(x) * y", fields)
        monkeypatch.setitem(OPS, op.name, op)
        return op

    return make


def test_a_right_rule_passes_with_room_to_spare(product: Callable[..., Op]) -> None:
    assert check(product(), [X, Y]) < 1e-11
    assert check(product(), [X, Y], order=2) < 1e-10


@pytest.mark.parametrize(
    ("wrong", "at_least"), [({"scale": 1.001}, 5e-4), ({"second_term": 0.0}, 0.2), ({"sign": -1.0}, 1.0)]
)
@pytest.mark.parametrize("seed", range(5))
def test_a_wrong_rule_is_found(product: Callable[..., Op], wrong: dict, at_least: float, seed: int) -> None:
    with pytest.raises(GradientError, match=r"the derivative rule gives .* a relative error of") as error:
        check(product(**wrong), [X, Y], seed=seed)
    assert float(str(error.value).split("error of ")[1].split(",")[0]) > at_least


def test_a_factor_of_one_millionth_is_found_at_a_tolerance_that_right_rules_meet(product: Callable[..., Op]) -> None:
    with pytest.raises(GradientError):
        check(product(scale=1 + 1e-6), [X, Y], tolerance=1e-9)


def test_a_wrong_second_derivative_is_found(with_rule: Callable[..., Op]) -> None:
    """The first is right: sin' = cos, made of a cosine whose own rule has the wrong sign."""
    with_rule("cos", lambda g, out, x: (g * OPS["sin"](x),))
    check(OPS["sin"], [X])
    with pytest.raises(GradientError):
        check(OPS["sin"], [X], order=2)


def test_a_float32_constant_is_found(with_rule: Callable[..., Op]) -> None:
    op = with_rule("log2", lambda g, out, x: (g / (x * float(np.float32(np.log(2.0)))),))
    with pytest.raises(GradientError):
        check(op, [X], tolerance=1e-9)


def test_a_missing_path_is_found(with_rule: Callable[..., Op]) -> None:
    op = with_rule("hypot", lambda g, out, x, y: (g * x / out, None))
    with pytest.raises(GradientError):
        check(op, [X, X[::-1]])
    no_path = with_rule("exp", lambda g, out, x: (None,))
    with pytest.raises(GradientError, match="gives 0"):
        check(no_path, [X])


def test_a_nan_is_found(with_rule: Callable[..., Op]) -> None:
    op = with_rule("exp", lambda g, out, x: (g * OPS["log"](-x),))
    with pytest.raises(GradientError, match="nan"):
        check(op, [X])


def test_a_gradient_left_in_the_broadcast_shape_is_right() -> None:
    """Rules give broadcast shapes; autodiff sums them."""
    assert check(OPS["mul"], [X, Y]) < 1e-11


def test_functions_literals_and_attributes() -> None:
    def loss(x: Any, y: Any) -> Any:
        return OPS["sum"](OPS["tanh"](x * y) / 3.0, axes=(1,), keepdims=False)

    assert check(loss, [X, Y]) < 1e-11
    assert check(OPS["pow"], [X, 2.5]) < 1e-11
    assert check(OPS["softmax"], [X], {"axis": 0}) < 1e-11
    with pytest.raises(ValueError, match="there is no float input, or no float result"):
        check(OPS["take"], [np.arange(3), np.arange(2)])
