"""Fusion: partitions a graph into groups that become one loop nest each, and the nodes between them.

A group has a space (the shape it iterates over) and inner axes (what one row spans). In it live full values (the shape
of the space), row values (size 1 along the inner axes), reductions over exactly the inner axes (usable inside the
group), and sums over the outer axes or over everything (accumulated on the side, usable by later groups only).
Generators and scalars are not grouped: every group that needs them computes them again, which costs nothing in memory.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from ..ir.dims import Shape, identical
from ..ir.graph import Graph, Node, Operand, Value
from ..ir.op import OPS
from ..ir.types import is_one

Axes = frozenset[int]  # counted from the end: -1 is the last axis
MAX_INLINE = 12  # nodes of a generator expression (a causal mask has 5) that are computed again rather than stored
MAX_OPERANDS = 24  # loads and stores of one group: beyond it registers spill
MAX_SINGLE_ROW = 4096  # elements of a row that one thread sums up by itself, rather than sharing out the sum


@dataclass(eq=False)
class Group:
    """Nodes in graph order; `inner` None is not decided (a plain elementwise group)."""

    nodes: list[Node]
    space: Shape
    inner: Axes | None
    late: bool = False
    ancestors: set[int] = field(default_factory=set)
    index: int = 0


@dataclass
class Partition:
    """`items`: groups and single nodes in an order that respects dependencies; `inline` nodes are recomputed."""

    items: list[Group | Node]
    inline: set[Node]


def is_inline_candidate(node: Node) -> bool:
    return OPS[node.op].kind == "elementwise" and not OPS[node.op].random


def aligned(shape: Shape, rank: int) -> Shape:
    return (1,) * (rank - len(shape)) + tuple(shape)


def wide_axes(shape: Shape) -> Axes:
    """The axes whose size is not 1."""
    return frozenset(i - len(shape) for i, d in enumerate(shape) if not is_one(d))


def reduced_axes(node: Node) -> Axes:
    """The axes of more than one element that a reduction sums over."""
    shape = node.inputs[0].type.shape
    return frozenset(a - len(shape) for a in node.attrs["axes"]) & wide_axes(shape)


def reduction_kind(node: Node, space: Shape, inner: Axes | None) -> str:
    """`row` (over the inner axes), `side` (a sum over the outer axes), `total` (a sum over all), or `no` place here."""
    axes, wide = reduced_axes(node), wide_axes(space)
    held = wide_axes(node.inputs[0].type.shape)
    within = frozenset() if inner is None else inner & wide
    everything = axes == held and (held == wide or (inner is not None and held == wide - within))
    if node.op == "sum" and everything and (axes != within or not within):
        return "total"
    if held == wide:
        if axes == within:
            return "row"
        if node.op == "sum" and inner is not None and axes == wide - within:
            return "side"
    return "no"


def natural_space(node: Node) -> tuple[Shape, Axes | None]:
    """The space and inner axes that a node has on its own."""
    op = OPS[node.op]
    if op.kind != "reduce":
        return node.output.type.shape, None
    shape = node.inputs[0].type.shape
    axes, wide = reduced_axes(node), wide_axes(shape)
    if node.op == "sum" and axes == wide:
        return shape, None
    if node.op == "sum" and max(wide) not in axes:
        return shape, wide - axes
    return shape, axes


def unify(a: Group, b: Group) -> tuple[Shape, Axes | None] | None:
    """The space of both together, or None where they do not fit."""
    rank = max(len(a.space), len(b.space))
    sa, sb = aligned(a.space, rank), aligned(b.space, rank)
    only_a = frozenset(i - rank for i in range(rank) if is_one(sb[i]) and not is_one(sa[i]))
    only_b = frozenset(i - rank for i in range(rank) if is_one(sa[i]) and not is_one(sb[i]))
    if only_a and only_b:
        return None
    if any(not identical(x, y) and not is_one(x) and not is_one(y) for x, y in zip(sa, sb, strict=True)):
        return None
    if not only_a and not only_b:
        if a.inner is not None and b.inner is not None and a.inner != b.inner:
            return None
        return sa, a.inner if a.inner is not None else b.inner
    large, small, extra, space = (a, b, only_a, sa) if only_a else (b, a, only_b, sb)
    if small.inner is not None and small.inner & wide_axes(small.space):
        return None
    if large.inner is not None and large.inner & wide_axes(space) != extra:
        return None
    if extra == wide_axes(space):  # every element of the small one is a scalar of the large one
        return None
    if large.inner is None and max(extra) != max(wide_axes(space)):  # rows would be columns, read with a stride
        return None
    return space, extra


def _as_rows(group: Group, inner: Axes | None) -> Group:
    """The group of one sum with rows along the axes that it sums over, where these are `inner`: the sum of a softmax
    over an axis that is not the last then joins its maximum. By itself it adds up whole lines of memory."""
    alone = len(group.nodes) == 1 and group.nodes[0].op == "sum"
    return replace(group, inner=inner) if alone and reduced_axes(group.nodes[0]) == inner else group


class _Fuser:
    def __init__(self, graph: Graph, late: set[Node]) -> None:
        self.graph = graph
        self.late = late
        self.producer = graph.producers()
        self.inline = inline_nodes(graph)
        self.group_of: dict[Node, Group] = {}
        self.groups: list[Group] = []
        self.order = {node: i for i, node in enumerate(graph.nodes)}
        self.results = {v for v in graph.results() if isinstance(v, Value)}
        self.uses = graph.uses()

    def leaves(self, operands: Iterable[Operand]) -> list[Value]:
        """The values that operands read, looking through inline nodes."""
        out: list[Value] = []
        for operand in operands:
            if not isinstance(operand, Value):
                continue
            node = self.producer.get(operand)
            if node is not None and node in self.inline:
                out += self.leaves(node.inputs)
            else:
                out.append(operand)
        return out

    def run(self) -> Partition:
        for node in self.graph.nodes:
            if node in self.inline:
                continue
            op = OPS[node.op]
            space, inner = natural_space(node) if op.kind in ("elementwise", "reduce") else ((), None)
            if node.op == "broadcast_to":
                space = node.output.type.shape
            if self.is_single_row(node):
                inner = reduced_axes(node)
            group = Group([node], space, inner, node in self.late, index=len(self.groups))
            self.groups.append(group)
            self.group_of[node] = group
            for leaf in self.leaves(node.inputs):
                source = self.producer.get(leaf)
                if source is not None:
                    before = self.group_of[source]
                    group.ancestors |= before.ancestors | {before.index}
            if not fusible(node):
                continue
            for leaf in reversed(self.leaves(node.inputs)):
                source = self.producer.get(leaf)
                if source is not None and fusible(source):
                    self.try_merge(self.group_of[source], self.group_of[node])
        self.merge_siblings()
        return Partition(self.schedule(), self.inline)

    def is_single_row(self, node: Node) -> bool:
        """A sum over a short array of one axis, if it is used with arrays of that axis: the mean of a layer norm of one
        row. As a row's own sum it stays in one loop nest with them; as a sum over everything it would end the group."""
        if node.op != "sum" or len(reduced_axes(node)) != 1:
            return False
        shape = node.inputs[0].type.shape
        (axis,) = reduced_axes(node)
        size = shape[axis]
        if wide_axes(shape) != {axis} or not isinstance(size, int) or size > MAX_SINGLE_ROW:
            return False
        stack, seen = [node.output], set()
        while stack:
            for user in self.uses.get(stack.pop(), ()):
                if user in seen or not (fusible(user) or user in self.inline):
                    continue
                seen.add(user)
                if wide_axes(user.output.type.shape) == {axis}:
                    return True
                stack += user.outputs if not wide_axes(user.output.type.shape) else ()
        return False

    def merge_siblings(self) -> None:
        """Groups that read the same value and depend on each other in no way: it is then read once."""
        for value, users in self.uses.items():
            if not value.type.shape:
                continue
            groups = []
            for node in users:
                group = self.group_of.get(node)
                if group is not None and fusible(node) and group not in groups:
                    groups.append(group)
            for i, a in enumerate(groups):
                for b in groups[i + 1 :]:
                    current_a, current_b = self.group_of[a.nodes[0]], self.group_of[b.nodes[0]]
                    if current_a is not current_b and current_a.inner == current_b.inner:
                        self.try_merge(current_a, current_b)

    def try_merge(self, a: Group, b: Group) -> bool:
        """Merges b into a where the spaces fit, no cycle arises, and no value is needed before it is complete."""
        if a is b or a.late != b.late:
            return False
        found = unify(a, b) or unify(a, _as_rows(b, a.inner))
        if found is None:
            return False
        space, inner = found
        nodes = sorted({*a.nodes, *b.nodes}, key=self.order.__getitem__)
        if not self.legal(nodes, space, inner) or self.would_cycle(a, b):
            return False
        for node in b.nodes:
            self.group_of[node] = a
        a.nodes, a.space, a.inner = nodes, space, inner
        a.ancestors = (a.ancestors | b.ancestors) - {a.index, b.index}
        self.groups[b.index] = a
        for group in self.live_groups():
            if group is not a and (a.index in group.ancestors or b.index in group.ancestors):
                group.ancestors |= a.ancestors | {a.index}
                group.ancestors.discard(b.index)
        return True

    def live_groups(self) -> list[Group]:
        return [g for i, g in enumerate(self.groups) if g.index == i]

    def would_cycle(self, a: Group, b: Group) -> bool:
        """Whether a path leads from one to the other through a third group."""
        for first, last in ((a, b), (b, a)):
            for node in last.nodes:
                for leaf in self.leaves(node.inputs):
                    source = self.producer.get(leaf)
                    if source is None:
                        continue
                    through = self.group_of[source]
                    if through is not first and through is not last and first.index in through.ancestors:
                        return True
        return False

    def legal(self, nodes: list[Node], space: Shape, inner: Axes | None) -> bool:
        members = set(nodes)
        reads: set[Value] = set()
        incomplete: set[Value] = set()
        for node in nodes:
            if OPS[node.op].kind == "reduce":
                kind = reduction_kind(node, space, inner)
                if kind == "no":
                    return False
                if kind != "row":
                    incomplete.add(node.output)
        for node in nodes:
            for leaf in self.leaves(node.inputs):
                if leaf in incomplete:
                    return False
                if self.producer.get(leaf) not in members:
                    reads.add(leaf)
        writes = sum(
            any(u not in members for u in self.uses.get(v, ())) or v in self.results for n in nodes for v in n.outputs
        )
        return len(reads) + writes <= MAX_OPERANDS

    def schedule(self) -> list[Group | Node]:
        """Groups and nodes in dependency order, early ones first, otherwise as the graph has them."""
        import heapq

        live = self.live_groups()
        waiting: dict[int, set[int]] = {}
        dependents: dict[int, set[int]] = {g.index: set() for g in live}
        for group in live:
            needs = set()
            for node in group.nodes:
                for leaf in self.leaves(node.inputs):
                    source = self.producer.get(leaf)
                    if source is not None and self.group_of[source] is not group:
                        needs.add(self.group_of[source].index)
            waiting[group.index] = needs
            for need in needs:
                dependents[need].add(group.index)

        def priority(group: Group) -> tuple[bool, int, int]:
            return group.late, self.order[group.nodes[-1]], group.index

        heap = [priority(g) for g in live if not waiting[g.index]]
        heapq.heapify(heap)
        items: list[Group | Node] = []
        while heap:
            *_, index = heapq.heappop(heap)
            group = self.groups[index]
            items.append(group if fusible(group.nodes[0]) else group.nodes[0])
            for dependent in sorted(dependents[index]):
                waiting[dependent].discard(index)
                if not waiting[dependent]:
                    heapq.heappush(heap, priority(self.groups[dependent]))
        assert len(items) == len(live), "fusion made a cycle"
        return items


def fusible(node: Node) -> bool:
    return OPS[node.op].kind in ("elementwise", "reduce") or node.op == "broadcast_to"


def inline_nodes(graph: Graph) -> set[Node]:
    """Generators, small expressions of generators (a mask), and scalars computed from scalars."""
    producer = graph.producers()
    cost: dict[Node, int] = {}
    needed = {v for v in graph.results() if isinstance(v, Value)}
    for node in graph.nodes:
        scalar = not wide_axes(node.output.type.shape)
        if not (is_inline_candidate(node) or node.op == "broadcast_to" or (node.op == "reshape" and scalar)):
            continue
        total = 1
        for value in node.values():
            source = producer.get(value)
            if source in cost:
                total += cost[source]
            elif not scalar or wide_axes(value.type.shape):
                break
        else:
            if total <= MAX_INLINE and not any(v in needed for v in node.outputs):
                cost[node] = total
    return set(cost)


def fuse(graph: Graph, late: set[Node] | None = None) -> Partition:
    """Partitions `graph`. Groups with `late` nodes (those that only updates need) are kept apart and come last."""
    return _Fuser(graph, late or set()).run()
