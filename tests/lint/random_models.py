"""Random models with all that makes gradients vanish: what layer K proves of them is held against their gradients.

`random_model(seed)` strings together layers of `LAYERS` and a loss of `LOSSES`; everything is float64.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import gradtape as gt
from gradtape.evidence import Subject, evidence_of
from gradtape.ir.interp import Interpreter
from gradtape.linting import program_of
from gradtape.passes.autodiff import differentiate
from gradtape.passes.lint import Evidence

N, D = 3, 4  # rows and width of every activation

Layer = Callable[[Any], Any]
New = Callable[..., gt.Parameter]
LAYERS: dict[str, Callable[[np.random.Generator, New], Layer]] = {}


def layer(make: Callable[[np.random.Generator, New], Layer]) -> Callable[[np.random.Generator, New], Layer]:
    LAYERS[make.__name__] = make
    return make


def small_shape(rng):
    return ((D,), (1,), (), (N, 1))[rng.integers(4)]


@layer
def linear(rng, new):
    w, b = new(D, D), new(D)
    return lambda h: h @ w + b


@layer
def shift(rng, new):
    b = new(*small_shape(rng))
    return lambda h: h + b


@layer
def scale(rng, new):
    a = new(*small_shape(rng))
    return lambda h: h * a


@layer
def softmax(rng, new):
    axis = int(rng.integers(2))
    return lambda h: gt.softmax(h, axis)


@layer
def log_softmax(rng, new):
    axis = int(rng.integers(2))
    return lambda h: gt.log_softmax(h, axis)


@layer
def layer_norm(rng, new):
    axes = ((0,), (1,), (0, 1))[rng.integers(3)]
    return lambda h: gt.layer_norm(h, axes=axes)


@layer
def grouped_norm(rng, new):
    axes = ((1,), (2,), (1, 2))[rng.integers(3)]
    return lambda h: gt.layer_norm(h.reshape(N, 2, 2), axes=axes).reshape(N, D)


@layer
def centred(rng, new):
    axis, of = int(rng.integers(2)), (np.mean, np.max, np.min)[rng.integers(3)]
    return lambda h: h - of(h, axis=axis, keepdims=True)


@layer
def share(rng, new):
    axis, way = int(rng.integers(2)), int(rng.integers(3))

    def run(h):
        top = h.max(axis, keepdims=True)
        e = np.exp(h - (gt.stop_gradient(top) if way == 1 else top))
        total = e.sum(axis, keepdims=True)
        return e * (1.0 / total) if way == 2 else e / total

    return run


@layer
def normal_logs(rng, new):
    return lambda h: h - gt.logsumexp(h, 1, keepdims=True)


@layer
def activation(rng, new):
    return (gt.relu, gt.tanh, gt.gelu, gt.sigmoid, np.square, np.sin, np.abs)[rng.integers(7)]


@layer
def saturated(rng, new):
    way = int(rng.integers(3))
    return (
        lambda h: gt.relu(-gt.relu(h)) + 0.5,
        lambda h: gt.clip(gt.sigmoid(h), 1.5, 2.0),
        lambda h: np.minimum(np.exp(h), 0.7) + 0.1 * h,
    )[way]


@layer
def spread(rng, new):
    axis = int(rng.integers(2))
    return lambda h: h / (h.std(axis, keepdims=True) + 0.1)


@layer
def sums(rng, new):
    axis = int(rng.integers(2))
    return lambda h: h + h.sum(axis, keepdims=True)


@layer
def nothing(rng, new):
    w, zero = new(D, D), (0.0, np.zeros(D), np.array([1.0, 0.0, 0.0, 1.0]))[rng.integers(3)]
    return lambda h: h + zero * (h @ w)


@layer
def chosen(rng, new):
    w, mask = new(D, D), rng.random((N, D)) < 0.5
    return lambda h: gt.where(mask, h @ w, 0.25)


@layer
def by_data(rng, new):
    w = new(D, D)
    return lambda h: gt.where(h > 0, h, h @ w)


@layer
def attention(rng, new):
    q, k, b, causal = new(D, D), new(D, D), new(D), rng.random() < 0.5

    def run(h):
        scores = (h @ q) @ gt.transpose(h @ k + b) * 0.5
        scores = gt.where(np.tri(N) > 0, scores, -np.inf) if causal else scores
        return gt.softmax(scores, -1) @ h

    return run


@layer
def fused_attention(rng, new):
    w, b = new(D, 3 * D), new(3 * D)

    def run(h):
        q, k, v = gt.split(h @ w + b, 3, -1)
        return gt.softmax(q @ gt.transpose(k), -1) @ v

    return run


@layer
def columns(rng, new):
    w, both = new(D, 2 * D), rng.random() < 0.5
    return lambda h: (h @ w)[:, :D] + (np.tanh(h @ w)[:, D:] if both else 0.0)


@layer
def across(rng, new):
    w = new(N, N)
    return lambda h: gt.transpose(gt.transpose(h) @ w)


@layer
def joined(rng, new):
    w = new(2 * D, D)
    return lambda h: gt.concat([h, np.tanh(h)], 1) @ w


@layer
def difference(rng, new):
    way = int(rng.integers(3))
    return (
        lambda h: (h - h) + np.tanh(h),
        lambda h: h + (np.tanh(h) - gt.stop_gradient(np.tanh(h))),
        lambda h: h + (h - gt.stop_gradient(h)) ** 2,
    )[way]


@layer
def low_rank(rng, new):
    a, b = new(D, 2, start=rng.choice(["zero", "random"])), new(2, D, start="zero")
    return lambda h: h + h @ a @ b


@layer
def gate(rng, new):
    g, w = new(start="zero"), new(D, D)
    return lambda h: h + g * (np.tanh(h) @ w)


@layer
def hidden(rng, new):
    w, b, u = new(D, 5), new(5), new(5, D)
    of = (gt.relu, np.tanh, gt.sigmoid)[rng.integers(3)]
    return lambda h: h + of(h @ w + b) @ u


@layer
def magnitudes(rng, new):
    w = new(D)
    return lambda h: h * np.abs(w)


@layer
def one_score(rng, new):
    w = new(D, 1)
    return lambda h: h * gt.softmax(h @ w, -1)


LOSSES: tuple[Callable[[Any, Any], Any], ...] = (
    lambda out, y: ((out - y) ** 2).mean(),
    lambda out, y: (out * y).sum(),
    lambda out, y: out.sum(),
    lambda out, y: gt.cross_entropy(out, np.array([0, 2, 1])),
    lambda out, y: (out**3).mean(),
    lambda out, y: gt.log_softmax(out * 1.0, -1).mean(),
    lambda out, y: (gt.softmax(out, 0) * y).sum(),
)


@dataclass
class Model:
    """A random model, what the lint knows of it, and its gradients."""

    names: tuple[str, ...]
    evidence: Evidence
    _gradient: Any
    _rng: np.random.Generator

    def start(self) -> dict[str, np.ndarray]:
        """The parameters as they are initialised."""
        return {p.path: p.array.copy() for p in self.evidence.params}

    def drawn(self) -> dict[str, np.ndarray]:
        """Parameters drawn at random."""
        return {p.path: 0.7 * self._rng.standard_normal(p.array.shape) for p in self.evidence.params}

    def gradients(self, parameters: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The gradients of all parameters that the loss is joined to, for a new batch."""
        batch = {"x": self._rng.standard_normal((N, 5)), "target": self._rng.standard_normal((N, D))}
        with np.errstate(all="ignore"):
            outputs, _ = Interpreter(self._gradient, {**parameters, **batch}).run()
        return {k.removeprefix("grad:"): v for k, v in outputs.items() if k.startswith("grad:")}


def random_model(seed: int) -> Model:
    rng = np.random.default_rng(seed)
    parameters: list[gt.Parameter] = []

    def new(*shape: int, start: str = "") -> gt.Parameter:
        start = start or rng.choice(["random", "random", "random", "zero", "equal"])
        array = {"zero": np.zeros(shape), "equal": np.full(shape, 0.3)}.get(start, 0.6 * rng.standard_normal(shape))
        parameters.append(gt.Parameter(array))
        return parameters[-1]

    first = new(5, D, start="random")
    names = [list(LAYERS)[rng.integers(len(LAYERS))] for _ in range(int(rng.integers(1, 6)))]
    layers = [LAYERS[name](rng, new) for name in names]

    class Net(gt.Module):
        def __init__(self) -> None:
            self.p = parameters

        def forward(self, x: Any) -> Any:
            return run_all(layers, x @ first)

    loss = LOSSES[rng.integers(len(LOSSES))]
    subject = Subject(Net(), loss, None, (np.ones((N, 5)), np.ones((N, D))))
    traced = subject.trace()
    graph, root = program_of(traced, subject.entry)
    evidence = evidence_of(traced, graph, root, subject.model, None)
    reached = [p.path for p in evidence.params if evidence.flow.reaches(p.path)]
    return Model(tuple(names), evidence, differentiate(graph, "loss", reached), np.random.default_rng(seed + 1))


def run_all(layers: Sequence[Layer], h: Any) -> Any:
    for each in layers:
        h = each(h)
    return h
