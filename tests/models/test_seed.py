"""The seed experiment: a small GPT whose every parameter is reached, whose gradients are right, which learns a batch.

Vocabulary 65, width 128, separate q, k and v, 4 heads, batch 2, length 32; one block (21 parameters) and two.
Everything is asked of the interpreter, run on the traced and differentiated graph, and of the compiled tape.
"""

from functools import cached_property

import numpy as np
import pytest

import gradtape as gt
from finite_differences import probes, wrong
from gradtape.ir.interp import evaluate_graph
from gradtape.passes.autodiff import differentiate

VOCAB, WIDTH, HEADS, BATCH, LENGTH = 65, 128, 4, 2, 32
DEPTHS = (1, 2)


def build(depth, dtype="float32"):
    gt.manual_seed(0)
    return gt.models.GPT(VOCAB, 64, WIDTH, depth=depth, heads=HEADS, tied=False, qkv="separate", dtype=dtype)


def batch():
    rng = np.random.default_rng(0)
    return rng.integers(0, VOCAB, (BATCH, LENGTH)), rng.integers(0, VOCAB, (BATCH, LENGTH))


def is_key_bias(name):
    """The key bias adds the same number q.b to all scores of a row, and softmax does not see it: its gradient is 0."""
    return name.endswith("attn.k.bias")


class Interpreted:
    """Loss and gradients by the interpreter, on a graph that no pass but autodiff has touched."""

    def __init__(self, model, x, y):
        traced = gt.trace(lambda idx, target: gt.cross_entropy(model(idx), target), x, y, module=model)
        self.traced = traced
        self.graph = differentiate(traced.graph, "out", list(traced.parameters))

    def value_and_grad(self, x, y):
        out = evaluate_graph(self.graph, self.traced.bind(x, y))
        return out["out"], {k.removeprefix("grad:"): v for k, v in out.items() if k.startswith("grad:")}


class Seed:
    """One float64 model with its gradients by both ways; weights away from their regular start, biases not 0."""

    def __init__(self, depth):
        self.model = build(depth, "float64")
        self.parameters = dict(self.model.named_parameters())
        rng = np.random.default_rng(depth)
        for parameter in self.parameters.values():
            parameter.data[...] += 0.05 * rng.standard_normal(parameter.shape)
        self.x, self.y = batch()
        interpreted = Interpreted(self.model, self.x, self.y).value_and_grad(self.x, self.y)
        compiled = gt.compile(self.model, loss=gt.cross_entropy).value_and_grad(self.x, self.y)
        self.results = {"interpreted": interpreted, "compiled": compiled}

    @cached_property
    def probes(self):
        rng = np.random.default_rng(1)
        largest = {name: int(np.argmax(np.abs(g))) for name, g in self.results["compiled"][1].items()}
        return {n: probes(self.losses, p.data, [largest[n]], rng) for n, p in self.parameters.items()}

    def losses(self):
        return gt.cross_entropy(self.model(self.x), self.y, reduction="none")


@pytest.fixture(scope="module", params=DEPTHS, ids=lambda d: f"depth{d}")
def seed(request):
    return Seed(request.param)


def test_the_model_has_the_parameters_of_the_experiment():
    assert [len(build(depth).parameters()) for depth in DEPTHS] == [21, 37]


def test_logits(seed):
    eager = seed.model(seed.x)
    assert eager.shape == (2, 32, 65) and eager.dtype == np.float64
    traced = gt.trace(seed.model, seed.x, train=False)
    interpreted = traced.structure.restore(evaluate_graph(traced.graph, traced.bind(seed.x)))
    compiled = gt.compile(seed.model).forward(seed.x)
    for logits in (interpreted, compiled):
        assert logits.shape == (2, 32, 65)
        np.testing.assert_allclose(logits, eager, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("way", ["interpreted", "compiled"])
def test_every_parameter_is_reached(seed, way):
    loss, grads = seed.results[way]
    np.testing.assert_allclose(loss, seed.losses().mean(), rtol=1e-12)
    assert list(grads) == list(seed.parameters)
    for name, gradient in grads.items():
        if not is_key_bias(name):
            # Unused positions of the position table and tokens that the batch lacks are the only zeros.
            rows = np.abs(gradient).reshape(len(gradient), -1).max(1)
            expected = {"pos.weight": LENGTH, "tok.weight": len(np.unique(seed.x))}.get(name, len(gradient))
            assert np.count_nonzero(rows) == expected, name


@pytest.mark.parametrize("way", ["interpreted", "compiled"])
def test_every_gradient_agrees_with_finite_differences_through_the_eager_model(seed, way):
    _, grads = seed.results[way]
    errors = {n: wrong(found, grads[n]) for n, found in seed.probes.items() if not is_key_bias(n)}
    assert len(errors) == len(seed.parameters) - len(seed.model.blocks)
    assert {name: error for name, error in errors.items() if error} == {}


def test_the_comparison_would_notice_a_gradient_that_is_wrong_by_a_hundred_thousandth(seed):
    for name, gradient in seed.results["compiled"][1].items():
        if not is_key_bias(name):
            assert wrong(seed.probes[name], gradient * (1.0 + 1e-5)), name


@pytest.mark.parametrize("way", ["interpreted", "compiled"])
def test_the_gradient_of_the_key_bias_is_the_zero_that_it_must_be(seed, way):
    _, grads = seed.results[way]
    for i in range(len(seed.model.blocks)):
        query, key = (np.abs(grads[f"blocks.{i}.attn.{part}.bias"]).max() for part in "qk")
        assert key <= 1e-12 * query
        moved = seed.parameters[f"blocks.{i}.attn.k.bias"].data
        before, loss = moved.copy(), seed.losses()
        moved += 1.0
        np.testing.assert_allclose(seed.losses(), loss, rtol=1e-12)
        moved[...] = before


@pytest.mark.parametrize("way", ["interpreted", "compiled"])
def test_float32_gradients_agree_with_float64_and_show_noise_for_the_key_bias(way):
    x, y = batch()
    exact = gt.compile(build(1, "float64"), loss=gt.cross_entropy).value_and_grad(x, y)[1]
    model = build(1)
    single = gt.compile(model, loss=gt.cross_entropy) if way == "compiled" else Interpreted(model, x, y)
    for name, gradient in single.value_and_grad(x, y)[1].items():
        assert gradient.dtype == np.float32
        if is_key_bias(name):
            query = np.abs(exact[name.replace(".k.", ".q.")]).max()
            assert 0 < np.abs(gradient).max() <= 1e-5 * query  # nothing but rounding
        else:
            error = np.linalg.norm(gradient - exact[name]) / np.linalg.norm(exact[name])
            assert error <= 1e-5, name


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("threads", [1, 2])
def test_a_hundred_adam_steps_learn_one_batch(depth, threads):
    model = build(depth)
    before = model.state_dict()
    x, y = batch()
    step = gt.compile(model, loss=gt.cross_entropy, optimizer=gt.Adam(lr=1e-3), threads=threads)
    losses = [step(x, y) for _ in range(100)]
    assert 3.0 < losses[0] < 4.5 and losses[-1] < 0.05
    after = model.state_dict()
    moved = {name: np.abs(after[name] - before[name]).max() for name in before}
    assert [name for name, size in moved.items() if size < 1e-3 and not is_key_bias(name)] == []
    # Adam divides the key bias's noise by its own size: it drifts, far below what learns
    assert all(size < 1e-3 for name, size in moved.items() if is_key_bias(name))


@pytest.mark.parametrize("depth", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_hundred_adam_steps_interpreted(depth):
    """The same by the interpreter and the optimizer run eagerly: no pass but autodiff, no tape, no kernel."""
    x, y = batch()
    model, compiled_model = build(depth), build(depth)
    interpreted, optimizer = Interpreted(model, x, y), gt.Adam(lr=1e-3)
    parameters = dict(model.named_parameters())
    states = {name: optimizer.init(p.data) for name, p in parameters.items()}
    step = gt.compile(compiled_model, loss=gt.cross_entropy, optimizer=gt.Adam(lr=1e-3))
    for number in range(1, 101):
        loss, grads = interpreted.value_and_grad(x, y)
        for name, parameter in parameters.items():
            scalars = {"lr": 1e-3, "step": float(number)}
            parameter.data[...], states[name] = optimizer.update(parameter.data, grads[name], states[name], scalars)
        np.testing.assert_allclose(step(x, y), loss, rtol=1e-4 if number <= 10 else 5e-2)
    assert loss < 0.05


@pytest.mark.parametrize("position", [1, 17, 31])
def test_the_causal_mask_lets_nothing_from_the_future_through(position):
    model, (x, _) = build(2), batch()
    changed = x.copy()
    changed[:, position] = (changed[:, position] + 1) % VOCAB
    traced = gt.trace(model, x, train=False)
    ways = {
        "interpreted": lambda ids: evaluate_graph(traced.graph, traced.bind(ids))["out"],
        "compiled": gt.compile(model).forward,
        "eager": model,
    }
    for way, run in ways.items():
        one, other = run(x), run(changed)
        np.testing.assert_array_equal(one[:, :position], other[:, :position], err_msg=way)
        assert np.all(np.abs(one[:, position:] - other[:, position:]).max(-1) > 0), way


def test_the_loss_at_a_position_has_no_gradient_at_later_ones():
    """The mask's other side: the gradient of the first positions' loss is exactly 0 for every later position."""
    model, (x, y) = build(2), batch()

    def of_the_first(model, idx, target):
        return gt.mean(gt.cross_entropy(model(idx), target, reduction="none")[:, :9])

    first = gt.objective(of_the_first)
    _, grads = gt.compile(model, loss=first).value_and_grad(x, y)
    assert np.all(grads["pos.weight"][9:] == 0)
    assert np.all(np.abs(grads["pos.weight"][:9]).max(1) > 0)
