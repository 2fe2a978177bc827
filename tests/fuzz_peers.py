"""Random programs by another library that differentiates by itself: what it is held to, and what is not compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fuzz_judge import Expected, Shaken, compare, expect
from fuzz_programs import Program, differentiated
from gradtape.ir.graph import Graph

# (graph, values, inputs whose gradients are asked for, and whose second ones) -> outputs, grad:<name>, grad2:<name>
Peer = Callable[[Graph, Mapping[str, Any], tuple[str, ...], tuple[str, ...]], dict[str, Any]]


def held_to(peer: Peer, program: Program) -> Expected:
    """Holds the interpreter's values and gradients of a program to the peer's; of one that has been made smaller, the
    gradients of all float inputs."""
    forward = program.forward or program.graph.replace(updates=())
    wrt = program.wrt or tuple(v.name for v in forward.inputs if v.type.is_float)
    has_loss = any(n == "loss" for n, _ in forward.outputs)
    graph = differentiated(forward, wrt, program.order) if has_loss else forward
    given = dict(graph.outputs)
    asked = tuple(n for n in wrt if f"grad:{n}" in given)
    results = peer(forward, program.values, asked, tuple(n for n in asked if f"grad2:{n}" in given))
    expected = expect(graph, program.values)
    _forget_kinks(graph, program.values, expected)
    expected.results = {n: v for n, v in expected.results.items() if n in results}
    compare(results, expected)
    return expected


def _forget_kinks(graph: Graph, values: Mapping[str, Any], expected: Expected) -> None:
    """At a kink (two equal maxima, a relu of 0) conventions differ: gradients that move when everything moves a little,
    exact numbers too, are not compared."""
    rng = np.random.default_rng(1)
    moved = [_Moved(graph, values, rng).run()[0] for _ in range(6)]
    for name, allowed in expected.allowed.items():
        if name.startswith("grad"):
            want = expected.results[name]
            far = [np.abs(m[name] - want) > 1e-3 * np.maximum(np.abs(want), 1.0) for m in moved]
            expected.allowed[name] = np.where(np.any(far, axis=0), np.nan, allowed)


class _Moved(Shaken):
    """The interpreter on inputs that are moved by 1e-5, zeros and ties too; and so is every result."""

    def __getitem__(self, operand: Any) -> Any:
        value = super().__getitem__(operand)
        if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
            return value
        return value + (1e-5 * self.rng.uniform(-1, 1, value.shape)).astype(value.dtype)
