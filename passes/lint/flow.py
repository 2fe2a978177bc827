"""How gradient flows through a traced graph: what depends on what, what the loss reaches back to, and the edges at
which it stops. Values that left the graph and came back as constants count as dependent, by an edge that carries no
gradient."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Union

from ...ir.crossings import Escape, Reentry
from ...ir.graph import Graph, Node, Value
from ...ir.op import OPS, NoGradient
from .derivative import differentiable_operands
from .unroll import unrolled

Edge = tuple[Node, int]  # from a node to its i-th operand: what gradient runs along


@dataclass(frozen=True)
class Cut:
    """An edge without gradient on the way to the loss: `source` is read by `by` (a node, or the crossing by which it
    came back as a constant), whose result is `target`.

    killed   trainable or not, the parameters that would learn through `source` and have no other way to the loss
    partial  those that have one: a part of their gradient is missing

    "Would": if what lies above `source` and only has to be mended (a value that left and came back, an op whose
    derivative is not written, a step function) were in order. So what a cut kills does not depend on the other cuts.
    """

    source: Value
    by: Union[Node, Reentry]
    target: Value
    killed: tuple[str, ...]
    partial: tuple[str, ...]
    escape: Escape | None = None

    @property
    def reason(self) -> NoGradient | None:
        """Why the op has no derivative, where it is an op that has none."""
        return OPS[self.by.op].why_not(self.by.attrs) if isinstance(self.by, Node) else None


def is_opaque(cut: Cut) -> bool:
    """Whether it is a callback that the gradient stops at."""
    return isinstance(cut.by, Node) and cut.by.op == "callback"


def is_discrete(cut: Cut) -> bool:
    """Whole numbers and truth values of any op; floats of one that has no derivative, which is no cut that is meant."""
    assert isinstance(cut.by, Node)
    if not cut.target.type.is_float:
        return True
    meant = cut.by.op in ("stop_gradient", "callback")
    return not meant and cut.reason is not None and cut.reason.kind == "not differentiable"


class Flow:
    """The flow of gradient from `roots` back to the inputs of `graph`. Parameters are named by their paths. `closed`
    are edges that are known to carry none, whatever the rule of their op says."""

    def __init__(
        self,
        graph: Graph,
        roots: Sequence[Value],
        reentries: Iterable[Reentry] = (),
        closed: Collection[Edge] = (),
    ) -> None:
        self.graph = graph = unrolled(graph)
        self.roots = list(roots)
        self.closed = closed
        self.producer = graph.producers()
        self.uses = graph.uses()
        self.parameters = [v.name for v in graph.inputs if graph.roles[v.name] == "param"]
        self.returns: dict[Value, list[Reentry]] = {}  # by the value that came back, or the one made of a number
        for reentry in reentries:
            target = reentry.operand if isinstance(reentry.operand, Value) else reentry.user
            if target is not None:
                self.returns.setdefault(target, []).append(reentry)
        self.alive = self._alive()
        self.needed = self._needed()
        self._fed, self._would, self._depends = self._marks()

    def passes(self, node: Node) -> tuple[bool, ...]:
        """For each operand of `node`, whether gradient passes to it from the result."""
        passes = differentiable_operands(node)
        return tuple(p and (node, i) not in self.closed for i, p in enumerate(passes)) if self.closed else passes

    def _alive(self) -> dict[Value, int]:
        """Values that the gradient of the roots reaches, with the number of paths."""
        paths: dict[Value, int] = dict.fromkeys(self.roots, 1)
        for node in reversed(self.graph.nodes):
            count = sum(paths.get(v, 0) for v in node.outputs if v.type.is_float)
            if count:
                for operand, passes in zip(node.inputs, self.passes(node), strict=True):
                    if passes and isinstance(operand, Value):
                        paths[operand] = paths.get(operand, 0) + count
        return paths

    def before(self, value: Value) -> list[Value]:
        """What `value` is computed from: its node's operands, or what left the graph and came back as it."""
        node = self.producer.get(value)
        found = list(node.values()) if node is not None else []
        return found + [o.value for r in self.returns.get(value, ()) for o in r.origins]

    def _needed(self) -> set[Value]:
        """Values that the roots depend on in any way."""
        needed: set[Value] = set()
        for root in self.roots:
            needed |= self.ancestors(root, needed)
        return needed

    def ancestors(self, value: Value, known: Iterable[Value] = ()) -> set[Value]:
        """Everything that `value` depends on in any way, itself included; `known` is not entered again."""
        seen, stack = {value, *known}, [value]
        while stack:
            for source in self.before(stack.pop()):
                if source not in seen:
                    seen.add(source)
                    stack.append(source)
        return seen

    def _marks(self) -> tuple[dict[Value, int], dict[Value, int], dict[Value, int]]:
        """For every value the set of parameters (bits) that feed it along edges with gradient, that would if all that
        can be mended were, and that it depends on in any way."""
        index = {name: 1 << i for i, name in enumerate(self.parameters)}
        fed = {v: index[v.name] for v in self.graph.inputs if v.name in index}
        would, depends = dict(fed), dict(fed)

        def come_back(value: Value) -> None:
            for reentry in self.returns.get(value, ()):
                for origin in reentry.origins:
                    if not reentry.choice:
                        would[value] = would.get(value, 0) | would.get(origin.value, 0)
                    depends[value] = depends.get(value, 0) | depends.get(origin.value, 0)

        for node in self.graph.nodes:
            for value in node.values():
                if value not in self.producer:  # a Parameter made in forward, of what had left
                    come_back(value)
            passes = self.passes(node)
            mended = mendable_operands(node)
            for out in node.outputs:
                fed[out] = would[out] = depends[out] = 0
                for operand, passed, mend in zip(node.inputs, passes, mended, strict=True):
                    if isinstance(operand, Value):
                        depends[out] |= depends.get(operand, 0)
                        if out.type.is_float:
                            fed[out] |= fed.get(operand, 0) if passed else 0
                            would[out] |= would.get(operand, 0) if passed or mend else 0
                come_back(out)
        return fed, would, depends

    def _names(self, bits: int) -> list[str]:
        return [name for i, name in enumerate(self.parameters) if bits >> i & 1]

    # questions ------------------------------------------------------------------------------------------------------
    def input(self, path: str) -> Value | None:
        return next((v for v in self.graph.inputs if v.name == path), None)

    def reaches(self, path: str) -> bool:
        """Whether gradient reaches the parameter."""
        value = self.input(path)
        return value is not None and value in self.alive

    def paths(self, path: str) -> int:
        """The number of differentiable paths from the loss to the parameter."""
        value = self.input(path)
        return 0 if value is None else self.alive.get(value, 0)

    def is_needed(self, path: str) -> bool:
        """Whether the loss depends on the parameter in any way."""
        value = self.input(path)
        return value is not None and value in self.needed

    def feeding(self, value: Value) -> list[str]:
        """The parameters that gradient could reach from `value`."""
        return self._names(self._fed.get(value, 0))

    def would_feed(self, value: Value) -> list[str]:
        """The same if all cuts above `value` that only have to be mended were."""
        return self._names(self._would.get(value, 0))

    def parameters_of(self, value: Value) -> list[str]:
        """The parameters that `value` depends on in any way."""
        return self._names(self._depends.get(value, 0))

    def descendants(self, value: Value) -> set[Value]:
        """Everything computed from `value` inside the graph, itself included."""
        seen, stack = {value}, [value]
        while stack:
            for node in self.uses.get(stack.pop(), ()):
                for out in node.outputs:
                    if out not in seen:
                        seen.add(out)
                        stack.append(out)
        return seen

    def cuts(self) -> list[Cut]:
        """Every edge on the way to the loss at which the gradient of some parameter is lost, in program order."""
        found: list[Cut] = []
        for node in self.graph.nodes:
            passes = self.passes(node)
            for out in node.outputs:
                for reentry in self.returns.get(out, ()) if out in self.needed else ():
                    found += [self._cut(o.value, reentry, out, o) for o in reentry.origins]
            if not self.needed.intersection(node.outputs):
                continue
            wanted = [v for v in node.outputs if v in self.needed]
            target = wanted[0]
            if not any(v.type.is_float for v in wanted):  # of topk the indices alone
                passes = (False,) * len(passes)
            for operand, passed in zip(node.inputs, passes, strict=True):
                if isinstance(operand, Value) and not passed:
                    found.append(self._cut(operand, node, target))
        for value in self.graph.inputs:
            for reentry in self.returns.get(value, ()) if value in self.needed else ():
                found += [self._cut(o.value, reentry, value, o) for o in reentry.origins]
        return [c for c in found if c.killed or c.partial]

    def _cut(self, source: Value, by: Union[Node, Reentry], target: Value, escape: Escape | None = None) -> Cut:
        names = self.would_feed(source)
        killed = tuple(n for n in names if not self.reaches(n))
        return Cut(source, by, target, killed, tuple(n for n in names if n not in killed), escape)


MENDABLE = ("not written yet", "zero almost everywhere")


def mendable_operands(node: Node) -> tuple[bool, ...]:
    """For each operand of `node`, whether gradient would pass if a derivative were written, or a step passed on."""
    reason = OPS[node.op].nondiff
    can = reason is not None and reason.kind in MENDABLE
    return tuple(can and o.type.is_float for o in node.inputs)
