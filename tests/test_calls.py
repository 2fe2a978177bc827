"""What a call of a compiled program takes (tuples, lists and dicts of arrays), and what it draws."""

from typing import Any

import numpy as np
import pytest

import gradtape as gt


# nested arguments -----------------------------------------------------------------------------------------------------
class Recurrent(gt.Module):
    def __init__(self) -> None:
        self.cell = gt.nn.LSTM(3, 4)
        self.head = gt.nn.Linear(4, 2)

    def forward(self, x: Any, state: Any, extra: Any = None) -> Any:
        y, state = self.cell(x, state)
        if extra is not None:
            y = y * extra["scale"] + extra["shift"][0]
        return self.head(y), state


def sequence(length: int, batch: int) -> tuple[Any, ...]:
    rng = np.random.default_rng(length)
    x, h, c = (rng.standard_normal(s).astype("f4") for s in ((length, batch, 3), (1, batch, 4), (1, batch, 4)))
    return x, (h, c), {"scale": 2.0, "shift": [np.ones(4, "f4"), None, "as it is"]}


def test_tuples_lists_and_dicts_of_arrays_are_arguments() -> None:
    model = Recurrent()
    program = gt.compile(model, threads=1)
    for length, batch in ((5, 2), (6, 2), (6, 3), (7, 9)):
        x, state, extra = sequence(length, batch)
        for args in ((x, state), (x, list(state)), (x, state, extra)):
            found, (h, c) = program.forward(*args)
            expected, (h2, c2) = model(*args)
            for got, want in ((found, expected), (h, h2), (c, c2)):
                np.testing.assert_allclose(got, want, rtol=2e-5, atol=1e-6)
    assert [len(f.variants) for f in program._programs.families.values()] == [3, 3, 3]  # as sizes became symbolic


def test_a_step_takes_nested_inputs_and_targets() -> None:
    model, spec = Recurrent(), gt.spec((1, "B", 4))
    step = gt.compile(
        model,
        gt.spec(("T", "B", 3)),
        (spec, spec),
        (gt.spec(("T", "B", 2)), {"h": spec}),
        loss=lambda out, target: gt.mse(out[0], target[0]) + gt.mse(out[1][0], target[1]["h"]),
        optimizer=gt.Adam(lr=1e-2),
        threads=1,
    )
    names = [v.name for v in step.graph().inputs][:5]  # type: ignore[union-attr]
    assert names == ["x", "state.0", "state.1", "target.0", "target.1.h"]
    x, state, _ = sequence(5, 2)
    target = (np.ones((5, 2, 2), "f4"), {"h": np.zeros((1, 2, 4), "f4")})
    watched = step.watch(every=2, warn=False)
    losses = [float(step(x, state, target)) for _ in range(4)]
    assert losses == sorted(losses, reverse=True)
    assert len(step._programs.families) == 1 + 1  # the watch takes gradients
    assert watched.seen.looks == 2
    value, grads = step.value_and_grad(x, state, target)
    np.testing.assert_allclose(value, step.evaluate(x, state, target), rtol=1e-6)
    assert len(grads) == 6
    assert not step.lint(x, state, target).findings


def test_what_is_one_array_and_what_holds_several() -> None:
    program = gt.compile(lambda x: x[0] * 2, threads=1)
    np.testing.assert_array_equal(program([[1.0, 2.0], [3.0, 4.0]]), [2, 4])
    np.testing.assert_array_equal(program((1, 2)), 2)
    np.testing.assert_array_equal(program([np.array([1.0]), np.array([[2.0]])]), [2])
    np.testing.assert_array_equal(program((np.ones(2),)), program(np.ones((1, 2))))
    with pytest.raises(TypeError, match=r"argument 0\[1\]: dtype float16 is not one of"):
        program((np.ones(2), np.ones(2, "f2")))


def test_the_gradient_of_a_container_is_one_of_gradients() -> None:
    def f(weights: Any, x: Any) -> Any:
        return (weights["w"] * x[0]).sum() * weights["b"][0]

    weights = {"w": np.ones(3, "f4"), "b": [np.float32(2.0)]}
    value, found = gt.value_and_grad(f)(weights, (np.arange(3.0),))
    assert value == 6 and list(found) == ["w", "b"]
    np.testing.assert_array_equal(found["w"], [0, 2, 4])
    np.testing.assert_array_equal(found["b"], [3])
    both = gt.grad(f, (0, 1))(weights, (np.arange(3.0),))
    np.testing.assert_array_equal(both[1][0], [2, 2, 2])
    twice = gt.grad(lambda w, x: gt.grad(f)(w, x)["w"].sum())(weights, (np.arange(3.0),))
    np.testing.assert_array_equal(twice["b"], [3])
    np.testing.assert_array_equal(twice["w"], np.zeros(3))


# random numbers from call to call -------------------------------------------------------------------------------------
class Dropping(gt.Module):
    def __init__(self) -> None:
        self.w = gt.Parameter(np.ones(64, "f4"))

    def forward(self, x: Any) -> Any:
        return gt.dropout(x * self.w, 0.5, self.training)


def test_every_call_draws_fresh_numbers() -> None:
    gt.manual_seed(5)
    x, y = np.ones(64, "f4"), np.zeros(64, "f4")
    step = gt.compile(Dropping(), loss=gt.mse, optimizer=gt.SGD(lr=0.0), threads=1)
    assert step.seed == 5
    outputs = [step.forward(x, train=True) for _ in range(5)] + [step.value_and_grad(x, y)[1]["w"] for _ in range(5)]
    assert len({(o != 0).tobytes() for o in outputs}) == 10
    np.testing.assert_array_equal(step.forward(x), x)
    step.seed = 5
    np.testing.assert_array_equal(step.forward(x, train=True), outputs[0])
    sample = gt.compile(lambda: gt.normal(8), threads=1)
    assert sample().tobytes() != sample().tobytes()


def test_the_draws_of_steps_do_not_depend_on_other_calls() -> None:
    x, y = np.ones(64, "f4"), np.zeros(64, "f4")
    found = []
    for others in (0, 3):
        step = gt.compile(Dropping(), loss=gt.mse, optimizer=gt.SGD(lr=0.1), threads=1)
        losses = []
        for _ in range(3):
            for _ in range(others):
                step.forward(x, train=True)
            losses.append(float(step(x, y)))
        found.append(losses)
    assert found[0] == found[1] and len(set(found[0])) == 3


# names of arguments ---------------------------------------------------------------------------------------------------
class Shadowing(gt.Module):
    def __init__(self) -> None:
        self.x = gt.Parameter(np.ones(3, "f4"))

    def forward(self, x: Any) -> Any:
        return x * self.x


@pytest.mark.parametrize("target", [Shadowing(), lambda seed: seed * 2.0, lambda *step: step[0] + 1.0])
def test_an_argument_may_be_called_as_something_else_is(target: Any) -> None:
    """Its name gets an underscore; sizes that differ become symbolic all the same."""
    program = gt.compile(target, threads=1)
    for n in (2, 4, 5, 6):
        x = np.ones((n, 3), "f4")
        np.testing.assert_array_equal(program(x), target(x))
    assert [len(family.variants) for family in program._programs.families.values()] == [2]
