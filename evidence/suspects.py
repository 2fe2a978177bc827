"""Which op's derivative is wrong, where the gradient of the program is: each op on the numbers that it had, its rule
against central differences of its forward."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ..ir.build import Builder
from ..ir.dims import dim_scope
from ..ir.graph import Graph, Literal, Node
from ..ir.interp import Interpreter
from ..ir.op import OPS
from ..passes.autodiff import differentiate
from ..passes.lint.evidence import WrongRule

MOST = 200  # kinds of nodes that are tried
STEP = 1e-6  # relative to the numbers; float64 differences are then good to about 1e-9
WRONG = 1e-4  # relative error from which on a rule is wrong: kinks and rounding stay below, a wrong formula does not

Arrays = Mapping[str, np.ndarray]


def wrong_rules(graph: Graph, values: Arrays) -> list[WrongRule]:
    """The nodes whose rule disagrees with its forward: the first of every kind (op, attributes, types) is tried.
    `values` are float64 arrays by the names of the graph's values."""
    found: list[WrongRule] = []
    tried: dict[tuple, list[WrongRule]] = {}
    for node in graph.nodes:
        numbers = tuple(o.value if isinstance(o, Literal) else str(o.type) for o in node.inputs)
        key = (node.op, repr(dict(node.attrs)), numbers)
        if key not in tried and len(tried) < MOST and _has_rule(node):
            try:
                tried[key] = list(_wrong(graph, node, values))
            except Exception:  # a rule that does not even run is told by the gradient itself
                tried[key] = []
        found += [replace(w, at=node.location) for w in tried.get(key, ())]
    return found


def _has_rule(node: Node) -> bool:
    op = OPS[node.op]
    floats = [v.type.dtype for v in (*node.outputs, *node.values()) if v.type.is_float]
    exact = set(floats) == {"f64"} and node.output.type.is_float  # differences of float32 say nothing
    meant = node.attrs.get("surrogate", False) or op.kind == "callback"  # declared to differ, or checked when called
    return op.vjp is not None and exact and not op.random and not meant


def _wrong(graph: Graph, node: Node, values: Arrays) -> Iterator[WrongRule]:
    program, weights = _scalar(graph, node)
    inputs: dict[str, Any] = {v.name: values[v.name] for v in node.values()}
    generator = np.random.default_rng(5)
    inputs |= {name: generator.standard_normal(shape) for name, shape in weights.items()}
    floats = [v for v in dict.fromkeys(node.values()) if v.type.is_float]
    outputs, _ = Interpreter(differentiate(program, "sum", [v.name for v in floats]), inputs).run()
    for v in floats:
        direction = generator.standard_normal(np.shape(inputs[v.name]))
        gradient = outputs.get(f"grad:{v.name}", np.zeros(np.shape(direction)))
        told, terms = float(np.sum(gradient * direction)), float(np.sum(np.abs(gradient * direction)))
        size = STEP * max(1e-2, float(np.median(np.abs(inputs[v.name]))))  # a mask's -1e9 says nothing
        right, left = _slopes(program, inputs, v.name, direction, size)
        middle = (right + left) / 2
        error = abs(middle - told) / max(abs(middle), terms, 1e-12)
        smooth = abs(right - left) <= 1e-2 * abs(middle - told)  # a relu at 0 has two slopes, and its rule takes one
        if error > WRONG and smooth:
            place = next(i for i, o in enumerate(node.inputs, 1) if o is v)
            yield WrongRule(node.op, node.location, place, error)


def _slopes(
    program: Graph, inputs: Mapping[str, Any], name: str, direction: np.ndarray, h: float
) -> tuple[float, float]:
    """The differences to the right and to the left, element by element: a mask's -1e9 would drown them in a sum."""

    def at(t: float) -> dict[str, np.ndarray]:
        return Interpreter(program, {**inputs, name: inputs[name] + t * direction}).run()[0]

    below, here, above = at(-h), at(0.0), at(h)
    weighted = [k for k in here if k != "sum"]
    right = sum(float(np.sum((above[k] - here[k]) * inputs[k])) for k in weighted) / h
    left = sum(float(np.sum((here[k] - below[k]) * inputs[k])) for k in weighted) / h
    return right, left


def _scalar(graph: Graph, node: Node) -> tuple[Graph, dict[str, tuple]]:
    """A program of this node alone, whose results are weighted and summed; each result has the name of its weight. And
    the shapes of the weights."""
    read = tuple(dict.fromkeys(node.values()))
    alone = Graph(node.op, read, {v.name: "input" for v in read}, (node,), (), (), graph.constants)
    builder = Builder.extending(alone)
    weights: dict[str, tuple] = {}
    results: dict[str, Any] = {}
    total: Any = None
    with dim_scope(builder.scope):
        for i, out in enumerate(v for v in node.outputs if v.type.is_float):
            weights[f"weight.{i}"] = tuple(int(d) for d in out.type.shape)
            results[f"weight.{i}"] = builder.wrap(out)
            part = builder.wrap(out) * builder.input(f"weight.{i}", out.type)
            part = OPS["sum"](part, axes=tuple(range(part.ndim)), keepdims=False)
            total = part if total is None else total + part
    return builder.graph([("sum", total), *results.items()]), weights
