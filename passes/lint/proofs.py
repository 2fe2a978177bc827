"""All that layer K can prove of a program, each part when it is first asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ...ir.dims import DimScope, dim_scope
from ...ir.graph import Graph, Node, Operand, Value
from .along import Axes, constants
from .flow import Edge, Flow
from .intervals import Range, of_number
from .masks import removed, static_arrays
from .ranges import ranges
from .same import Same
from .sizes import Sizes
from .starts import Stuck, Units, alike, stuck
from .unread import Unread, unread_rows
from .vanishing import Vanished, Vanishing, vanishing


@dataclass(frozen=True)
class Lost:
    """Edges of a node at which the gradient of the parameters `killed` is lost. What is constant further on, because of
    it, is told here, too."""

    kind: str
    node: Node
    edges: tuple[Edge, ...]
    killed: tuple[str, ...]


class Proofs:
    """`same` equal values, `ranges` intervals, `constant` axes along which values are constant; `edges` those without
    gradient and why; `flow` the flow of gradient without them, `plain` that with them."""

    def __init__(self, graph: Graph, flow: Flow, arrays: dict[str, np.ndarray], trainable: Sequence[str]) -> None:
        self.graph, self.plain, self.arrays, self.trainable = graph, flow, arrays, trainable

    @cached_property
    def same(self) -> Same:
        return Same(self.graph)

    @cached_property
    def ranges(self) -> dict[Value, Range]:
        return ranges(self.graph, self.same)

    @cached_property
    def alike_in_value(self) -> Same:
        stops = any(node.op == "stop_gradient" for node in self.graph.nodes)
        return Same(self.graph, stops=True) if stops else self.same

    @cached_property
    def values(self) -> dict[Value, Range]:
        """As `ranges`, where x - stop_gradient(x) is 0."""
        return self.ranges if self.alike_in_value is self.same else ranges(self.graph, self.alike_in_value)

    @cached_property
    def order(self) -> dict[Node, int]:
        return {node: n for n, node in enumerate(self.graph.nodes)}

    @cached_property
    def constant(self) -> dict[Value, Axes]:
        return constants(self.graph, self.same)

    @cached_property
    def vanishing(self) -> Vanishing:
        with dim_scope(DimScope(dict(self.graph.symbols), quiet=True)):
            return vanishing(self.graph, self.plain.roots, self.same, self.ranges, self.values, self.constant)

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
        return unread_rows(self.graph, self.plain, self.static)

    def range_of(self, operand: Operand) -> Range:
        return self.ranges[operand] if isinstance(operand, Value) else of_number(operand.value)

    def lost(self, *kinds: str) -> list[Lost]:
        """Where trainable parameters that are joined to the loss lose their gradient for reasons of these kinds: one
        for each node, in program order."""
        return [found for found in self._lost if found.kind in kinds]

    @cached_property
    def _lost(self) -> list[Lost]:
        by_node: dict[tuple[Node, str], list[Edge]] = {}
        for edge, why in self.edges.items():
            by_node.setdefault((edge[0], why.kind), []).append(edge)
        killed = {key: self.killed(edges) for key, edges in by_node.items()}
        for key in by_node:  # what is constant because its own operands have lost their gradient is no place of its own
            source = self._made_constant_by(key[0], by_node)
            if source is not None and killed[key]:
                killed[source], killed[key] = (*killed[source], *killed[key]), ()
        found = [Lost(kind, node, tuple(edges), killed[node, kind]) for (node, kind), edges in by_node.items()]
        return sorted((lost for lost in found if lost.killed), key=lambda lost: self.order[lost.node])

    def _made_constant_by(self, node: Node, closed: Mapping[tuple[Node, str], object]) -> tuple[Node, str] | None:
        """The first of the closed edges to which an operand of `node` owes that it is constant."""
        operands = [v for v in node.values() if self.ranges[v].is_constant and self.plain.parameters_of(v)]
        above = {v for operand in operands for v in self.plain.ancestors(operand)}
        return next((key for key in reversed(list(closed)) if key[0] is not node and key[0].output in above), None)

    def killed(self, edges: Sequence[Edge], flow: Flow | None = None, before: Flow | None = None) -> tuple[str, ...]:
        """The trainable parameters that feed these edges, are reached by `before` and not by `flow`."""
        flow, before = flow or self.flow, before or self.plain
        sources = [node.inputs[i] for node, i in edges]
        names = dict.fromkeys(n for s in sources if isinstance(s, Value) for n in flow.feeding(s))
        return tuple(n for n in names if n in self.trainable and before.reaches(n) and not flow.reaches(n))

    def parameters(self) -> list[Value]:
        """The inputs of the program that are parameters of the model."""
        return [v for v in self.graph.inputs if v.name in self.arrays]

    @cached_property
    def stuck(self) -> list[Stuck]:
        return stuck(self)

    @cached_property
    def alike(self) -> list[Units]:
        return alike(self)
