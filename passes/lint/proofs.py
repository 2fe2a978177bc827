"""All that layer K can prove of a program, each part when it is first asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ...ir.dims import DimScope, dim_scope
from ...ir.graph import Graph, Node, Operand, Value
from .along import NONE, Axes, constant_along, constants, ones
from .facts import Fact, look_through, number
from .flow import Edge, Flow
from .masks import removed, static_arrays
from .ranges import ZERO, Range, of_number, ranges
from .same import Same
from .sizes import Sizes
from .unread import Unread, unread_rows
from .vanishing import Vanished, Vanishing, vanishing


@dataclass(frozen=True)
class Units:
    """A product over `count` units that are alike; `parameters` on both sides make them so."""

    node: Node
    parameters: tuple[str, ...]
    count: int


@dataclass(frozen=True)
class Loss:
    """Edges at which the gradient of parameters is lost, because of the parameters `causes`."""

    edges: tuple[Edge, ...]
    killed: tuple[str, ...]
    causes: tuple[str, ...] = ()

    @property
    def node(self) -> Node:
        return self.edges[0][0]


class Proofs:
    """`same` equal values, `ranges` intervals, `constant` axes along which values are constant; `edges` those without
    gradient and why; `flow` the flow of gradient without them."""

    def __init__(self, flow: Flow, arrays: dict[str, np.ndarray], trainable: Sequence[str]) -> None:
        self.plain, self.arrays, self.trainable = flow, arrays, trainable
        self.graph: Graph = flow.graph

    @cached_property
    def same(self) -> Same:
        return Same(self.graph)

    @cached_property
    def ranges(self) -> dict[Value, Range]:
        return ranges(self.graph, self.same)

    @cached_property
    def constant(self) -> dict[Value, Axes]:
        return constants(self.graph, self.same)

    @cached_property
    def vanishing(self) -> Vanishing:
        with dim_scope(DimScope(dict(self.graph.symbols), quiet=True)):
            return vanishing(self.graph, self.plain.roots, self.same, self.ranges, self.constant)

    @property
    def edges(self) -> dict[Edge, Vanished]:
        return self.vanishing.edges

    @cached_property
    def flow(self) -> Flow:
        returns = [r for found in self.plain.returns.values() for r in found]
        return Flow(self.graph, self.plain.roots, returns, self.edges) if self.edges else self.plain

    @cached_property
    def sizes(self) -> Sizes:
        return Sizes(self.graph)

    @cached_property
    def static(self) -> dict[Value, np.ndarray]:
        """Arrays that no input takes part in."""
        return static_arrays(self.graph, self.same)

    @cached_property
    def removed(self) -> dict[Value, np.ndarray]:
        """Where scores are masked by -inf for all inputs."""
        return removed(self.graph, self.ranges, self.static)

    @cached_property
    def unread(self) -> list[Unread]:
        return unread_rows(self.plain, self.static)

    def range_of(self, operand: Operand) -> Range:
        return self.ranges[operand] if isinstance(operand, Value) else of_number(operand.value)

    def losses(self, *kinds: str) -> list[Loss]:
        """Where trainable parameters that are joined to the loss lose their gradient for reasons of these kinds: one
        for each node, in program order."""
        by_node: dict[Node, list[int]] = {}
        for (node, i), why in self.edges.items():
            if why.kind in kinds:
                by_node.setdefault(node, []).append(i)
        order = {node: n for n, node in enumerate(self.graph.nodes)}
        found = []
        for node in sorted(by_node, key=order.__getitem__):
            killed = self._killed(self.flow, self.plain, [(node, i) for i in sorted(by_node[node])])
            if killed:
                found.append(Loss(tuple((node, i) for i in sorted(by_node[node])), killed))
        return found

    def _killed(self, flow: Flow, before: Flow, edges: Sequence[Edge]) -> tuple[str, ...]:
        """The trainable parameters that feed these edges, are reached by `before` and not by `flow`."""
        names: dict[str, None] = {}
        for node, i in edges:
            source = node.inputs[i]
            if isinstance(source, Value):
                names.update(dict.fromkeys(flow.feeding(source)))
        return tuple(n for n in names if n in self.trainable and before.reaches(n) and not flow.reaches(n))

    # what starts at zero ----------------------------------------------------------------------------------------------
    @cached_property
    def stuck(self) -> list[Loss]:
        """Parameters that start at zero and never move: as long as all of `causes` are zero, so are their gradients.

        By induction over the steps: of all parameters that are zero, those are taken out again whose gradient may be
        another number while the rest is zero, until none is left to take out. One zero factor (the B of a LoRA) is
        taken out, two that are multiplied stay.
        """
        zeros = {v for v in self._parameters() if self._starts_at_zero(v.name)}
        fixed = {v for v in zeros if v.name not in self.trainable or not self.flow.reaches(v.name)}
        while zeros:
            found = ranges(self.graph, self.same, dict.fromkeys(zeros, ZERO))
            closed = self._closed_in(found)
            if not closed:
                return []
            flow = Flow(self.graph, self.plain.roots, (), {*self.edges, *closed})
            moved = {v for v in zeros - fixed if flow.reaches(v.name)}
            if not moved:
                return self._together(flow, closed, zeros, found)
            zeros -= moved
        return []

    def _parameters(self) -> list[Value]:
        return [v for v in self.graph.inputs if v.name in self.arrays]

    def _starts_at_zero(self, name: str) -> bool:
        array = self.arrays[name]
        return array.size > 0 and not array.flat[0] and not array.any()

    def _closed_in(self, found: Mapping[Value, Range]) -> list[Edge]:
        """The edges that carry no gradient as long as the ranges are these."""

        def known(operand: Operand) -> Fact:
            operand = self.same.of(operand)
            return Fact(found[operand]) if isinstance(operand, Value) else number(operand)

        closed: list[Edge] = []
        for node in self.graph.nodes:
            alive = any(v in self.flow.alive for v in node.outputs)
            if not alive or not any(found[v] != self.ranges[v] for v in (*node.values(), *node.outputs)):
                continue
            seeds = [Fact(constant=ones(v.type.shape)) for v in node.outputs]
            facts = zip(self.flow.passes(node), look_through(node, seeds, known), strict=True)
            closed += [(node, i) for i, (passes, fact) in enumerate(facts) if passes and fact.range == ZERO]
        return closed

    def _together(
        self, flow: Flow, closed: Sequence[Edge], zeros: set[Value], found: Mapping[Value, Range]
    ) -> list[Loss]:
        """The losses at these edges; those that have a parameter in common are one."""
        groups: list[tuple[list[Edge], set[str], set[str]]] = []
        for edge in closed:
            killed = set(self._killed(flow, self.flow, [edge]))
            if not killed:
                continue
            edges, causes = [edge], self._made_zero_by(edge[0], zeros, found)
            for group in [g for g in groups if (g[1] | g[2]) & (killed | causes)]:
                groups.remove(group)
                edges, killed, causes = [*group[0], *edges], killed | group[1], causes | group[2]
            groups.append((edges, killed, causes))
        order = list(self.arrays)
        return [
            Loss(tuple(e), tuple(n for n in order if n in k), tuple(n for n in order if n in c)) for e, k, c in groups
        ]

    def _made_zero_by(self, node: Node, zeros: set[Value], found: Mapping[Value, Range]) -> set[str]:
        """Those of the parameters `zeros` that make an operand of `node` zero."""
        causes, seen, stack = set(), set(), list(node.inputs)
        while stack:
            value = stack.pop()
            if not isinstance(value, Value) or value in seen or found[value] != ZERO:
                continue
            seen.add(value)
            if value in zeros:
                causes.add(value.name)
            elif value in self.plain.producer:
                stack += self.plain.producer[value].inputs
        return causes

    # what starts alike ------------------------------------------------------------------------------------------------
    @cached_property
    def alike(self) -> list[Units]:
        """Products over units that start alike and stay so.

        By induction as above: parameters keep an axis along which they are constant if their gradients are constant
        along it as long as all of them are.
        """
        known = {v: constant_along(self.arrays[v.name]) for v in self._parameters()}
        large = {v: frozenset(a for a in axes if v.type.shape[a] != 1) for v, axes in known.items()}
        if not any(large[v] and v.type.ndim > 1 and v.name in self.trainable for v in known):
            return []
        while True:
            constant = constants(self.graph, self.same, known)
            with dim_scope(DimScope(dict(self.graph.symbols), quiet=True)):
                back = vanishing(self.graph, self.plain.roots, self.same, self.ranges, constant)
            kept = {v: axes & back.constant[v] if v.name in self.trainable else axes for v, axes in known.items()}
            if kept == known:
                break
            known = kept
        found = (self._units(node, constant, known) for node in self.graph.nodes)
        return [units for units in found if units is not None]

    def _units(self, node: Node, constant: Mapping[Value, Axes], known: Mapping[Value, Axes]) -> Units | None:
        """A product x @ y that sums over units which are all alike, in both factors."""
        if node.op != "matmul" or not any(v in self.flow.alive for v in node.outputs):
            return None
        x, y = node.inputs
        units = x.type.shape[-1]
        inner = (x.type.ndim - 1, max(y.type.ndim - 2, 0))
        sides = []
        for operand, axis in zip((x, y), inner, strict=True):
            if not isinstance(operand, Value) or axis not in constant.get(operand, NONE):
                return None
            origins = [v for v, a in self.sizes.origins(operand, axis) if v.type.ndim > 1 and a in known.get(v, NONE)]
            sides.append([v.name for v in origins if v.name in self.trainable and self.flow.reaches(v.name)])
        if not isinstance(units, int) or units < 2 or not all(sides):
            return None
        alike = {*sides[0], *sides[1]}
        return Units(node, tuple(p for p in self.arrays if p in alike), units)
