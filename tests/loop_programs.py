"""Programs with loops, which several tests run: functions of arrays, their derivatives, and derivatives of these."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

import gradtape as gt
from gradtape.ir.build import Builder
from gradtape.ir.graph import Graph
from gradtape.ir.op import OPS
from gradtape.passes.autodiff import differentiate

_RNG = np.random.default_rng(0)
WEIGHTS = {
    "W": _RNG.standard_normal((4, 4)) * 0.5,
    "U": _RNG.standard_normal((3, 4)) * 0.5,
    "h": _RNG.standard_normal((2, 4)),
    "xs": _RNG.standard_normal((5, 2, 3)),
}


def recurrent(W: Any, U: Any, h: Any, xs: Any) -> Any:
    def step(h, x):
        h = gt.tanh(x @ U + h @ W)
        return h, h

    h, ys = gt.scan(step, h, xs)
    return (ys * ys).sum() + h.sum()


def backwards(W: Any, U: Any, h: Any, xs: Any) -> Any:
    """Two carries, one of them a number; nested results; from the last round to the first."""

    def step(carry, x):
        h, n = carry
        h = gt.tanh(x @ U + h @ W * gt.sigmoid(n))
        return (h, n + h.mean()), {"a": h, "b": n}

    (h, n), ys = gt.scan(step, (h, 0.0), xs, reverse=True)
    return (ys["a"] ** 2).sum() + h.sum() + n * n + (ys["b"] ** 3).sum()


def nested(W: Any, U: Any, h: Any, xs: Any) -> Any:
    def outer(h, x):
        def inner(k, _):
            k = gt.tanh(k @ W + x @ U)
            return k, k.sum()

        return gt.scan(inner, h, length=3)

    h, ys = gt.scan(outer, h, xs)
    return (ys * ys).sum() + (h**2).sum()


def noisy(W: Any, U: Any, h: Any, xs: Any) -> Any:
    def step(h, x):
        h = gt.tanh(gt.dropout(x @ U, 0.5) + h @ W)
        return h, h * gt.uniform(h.shape, dtype="f64")

    h, ys = gt.scan(step, h, xs)
    return (ys * ys).sum() + h.sum()


def with_head(W: Any, U: Any, h: Any, xs: Any) -> Any:
    """Products before, in and after the loop, and a softmax."""

    def step(h, x):
        h = gt.tanh((x @ U + 1.0) @ W + h @ W)
        return h, gt.softmax(h @ W + x @ U)

    h, ys = gt.scan(step, h, xs)
    return (ys * ys).sum() + h.sum()


def normalised(W: Any, U: Any, h: Any, xs: Any) -> Any:
    """Reductions along the rows in every round, and no stacked result."""

    def step(h, x):
        return gt.layer_norm(x @ U + gt.softmax(h) @ W, (4,)), None

    h, _ = gt.scan(step, h, xs)
    return (h**3).sum()


def swapping(W: Any, U: Any, h: Any, xs: Any) -> Any:
    """Carries that change places, one that counts, and one that is stacked as it was."""

    def step(carry, x):
        a, b, n = carry
        return (b, a + b * (x @ U), n + 1), (a, n)

    (a, b, n), (ys, ns) = gt.scan(step, (h, h * 0.5, 0), xs)
    return (a * b @ W).sum() + (ys * ns[:, None, None]).sum() + n


PROGRAMS = (recurrent, backwards, nested, noisy, with_head, normalised, swapping)


def program(function: Callable[..., Any], order: int = 1) -> tuple[Graph, Mapping[str, np.ndarray]]:
    """The graph of `function(W, U, h, xs)` with its gradients by all four, and the values of its inputs; order 2: with
    the gradients of the sum of the squares of the gradients instead."""
    graph = gt.trace(function, *WEIGHTS.values()).graph
    names = list(WEIGHTS)
    graph = differentiate(graph, "out", names)
    if order == 2:
        builder = Builder.extending(graph)
        total: Any = None
        for _, value in graph.outputs[1:]:
            g = builder.wrap(value)
            part = OPS["sum"](g * g, axes=tuple(range(g.ndim)), keepdims=False)
            total = part if total is None else total + part
        graph = differentiate(builder.graph([("out", total)]), "out", names)
    scalars = {n: np.int64(7) for n in ("seed", "step") if n in graph.roles}
    return graph, {**WEIGHTS, **scalars}
