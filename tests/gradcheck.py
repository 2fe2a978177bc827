"""Derivatives against central differences in float64: one random direction in, one random cotangent out.

For y = f(x), a direction u and a cotangent v, reverse mode says that d/dt <v, f(x + t u)> at 0 is <f'(x)^T v, u>. Both
sides are computed here; the left one by central differences at three steps, extrapolated (Richardson), which leaves an
error of order h^6. The direction has random magnitudes and the signs of the gradient that is checked, so that its terms
do not cancel: a factor of 1.001 is a relative error of 1e-3, whatever the numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from gradtape.ir.build import Builder, Ref
from gradtape.ir.graph import Graph
from gradtape.ir.interp import evaluate_graph
from gradtape.ir.op import OPS
from gradtape.ir.types import TensorType, type_of
from gradtape.ir.verify import verify
from gradtape.passes.autodiff import differentiate

TOLERANCE = 1e-6
STEP = 2.0**-6


class GradientError(AssertionError):
    """A derivative rule disagrees with the differences; says by how much."""


def check(
    function: Callable[..., Any],
    inputs: Sequence[Any],
    attrs: Mapping[str, Any] | None = None,
    *,
    order: int = 1,
    tolerance: float = TOLERANCE,
    step: float = STEP,
    seed: int = 0,
) -> float:
    """Checks the derivative of `function(*inputs, **attrs)` with respect to all float inputs at once.

    function  an Op, or a Python function of Refs; it may return several values.
    inputs    arrays; Python numbers stay literals. Floats are taken in float64. No kink may be nearer than `step`.
    attrs     keyword arguments of the function.
    order     2 checks the derivative of <gradient, w> for a random w instead.

    Returns the relative error; raises GradientError above `tolerance`, or where a gradient is missing or mistyped.
    """
    rng = np.random.default_rng(seed)
    graph, values = scalar_graph(function, inputs, rng, attrs or {})
    wrt = [v.name for v in graph.inputs if v.name.startswith("x") and v.type.is_float]
    if not wrt or not graph.outputs:
        raise ValueError("there is no float input, or no float result")
    for _ in range(order - 1):
        graph = directional(graph, wrt, values, rng)
        if not graph.outputs:  # there is no gradient: order 1 tells whether rightly so
            return 0.0
    return compare(graph, wrt, values, rng, tolerance, step)


def scalar_graph(
    function: Callable[..., Any], inputs: Sequence[Any], rng: np.random.Generator, attrs: Mapping[str, Any]
) -> tuple[Graph, dict[str, np.ndarray]]:
    """The graph with output `loss` = <function(inputs), v> for random v, and the values of its inputs x0, ..., v0."""
    builder = Builder("check")
    values: dict[str, np.ndarray] = {}
    args: list[Any] = []
    for x in inputs:
        if isinstance(x, (bool, int, float)):
            args.append(x)
            continue
        array = np.asarray(x, np.float64 if np.asarray(x).dtype.kind == "f" else None)
        values[f"x{len(args)}"] = array
        args.append(builder.input(f"x{len(args)}", type_of(array)))
    results = function(*args, **attrs)
    loss: Any = None
    for i, result in enumerate(results if isinstance(results, tuple) else (results,)):
        if not result.type.is_float:
            continue
        values[f"v{i}"] = _random(rng, result.shape)
        part = total(result * builder.input(f"v{i}", TensorType("f64", result.shape)))
        loss = part if loss is None else loss + part
    return builder.graph([] if loss is None else [("loss", loss)]), values


def directional(graph: Graph, wrt: Sequence[str], values: dict[str, np.ndarray], rng: np.random.Generator) -> Graph:
    """The graph whose output `loss` is <gradient of the old loss, w> for random w, which join `values`; without outputs
    where there is no gradient."""
    graph = differentiate(graph, "loss", wrt)
    builder = Builder.extending(graph)
    parts = []
    for name in wrt:
        if f"grad:{name}" in dict(graph.outputs):
            values[f"w{name}"] = _random(rng, graph.input(name).type.shape)
            w = builder.input(f"w{name}", TensorType("f64", graph.input(name).type.shape))
            parts.append(total(builder.wrap(graph.output(f"grad:{name}")) * w))
    for part in parts[1:]:
        parts[0] = parts[0] + part
    return builder.graph([("loss", part) for part in parts[:1]])


def compare(
    graph: Graph,
    wrt: Sequence[str],
    values: Mapping[str, np.ndarray],
    rng: np.random.Generator,
    tolerance: float,
    step: float,
) -> float:
    """Holds the gradient of `loss` by the names in `wrt` to differences of the loss along one random direction."""
    results = evaluate_graph(verify(differentiate(graph, "loss", wrt)), values)
    direction: dict[str, np.ndarray] = {}
    slope, magnitude = 0.0, 0.0
    for name in wrt:
        gradient = results.get(f"grad:{name}")
        if gradient is None:  # no path: then nothing may change
            gradient = np.zeros_like(values[name])
        if gradient.shape != values[name].shape or gradient.dtype != values[name].dtype:
            raise GradientError(f"the gradient of {name} is {type_of(gradient)}, {name} is {type_of(values[name])}")
        u = _random(rng, gradient.shape)
        direction[name] = np.where(gradient == 0, u, np.copysign(u, gradient))
        terms = gradient * direction[name]
        slope, magnitude = slope + float(terms.sum()), magnitude + float(np.abs(terms).sum())

    def loss(t: float) -> float:
        moved = {name: values[name] + t * direction[name] for name in wrt}
        return float(evaluate_graph(graph, {**values, **moved})["loss"])

    wide, middle, narrow = ((loss(h) - loss(-h)) / (2 * h) for h in (step, step / 2, step / 4))
    first, second = middle + (middle - wide) / 3, narrow + (narrow - middle) / 3  # errors of order h^4
    differences = second + (second - first) / 15  # of order h^6
    error = abs(slope - differences)
    relative = error / max(magnitude, abs(differences)) if error else 0.0
    if not relative <= tolerance:  # also for NaN
        raise GradientError(
            f"the derivative rule gives {slope:.12g}, differences give {differences:.12g}: "
            f"a relative error of {relative:.3g}, above {tolerance:.3g}"
        )
    return relative


def total(x: Ref) -> Any:
    """The sum of all elements."""
    return OPS["sum"](x, axes=tuple(range(x.ndim)), keepdims=False)


def _random(rng: np.random.Generator, shape: Any) -> np.ndarray:
    """Numbers with magnitudes from 0.5 to 1, so that no term is lost."""
    return rng.choice([-1.0, 1.0], shape) * rng.uniform(0.5, 1.0, shape)
