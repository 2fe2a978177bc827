"""Picture -> Picture: less of it. Every function here is pure, and takes the picture that another has made.

All of them are quotients: nodes go into others, edges go with them, and equal edges become one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from .picture import Cluster, Edge, Node, Picture

THROUGH = ("reshape", "permute", "broadcast_to")  # views that only lay out anew
ORDER = ("learns", "frozen", "zero", "left out", "unused", "wrong", "dead")  # of verdicts, from good to bad


def merged(picture: Picture, into: Mapping[str, str], new: Iterable[Node] = ()) -> Picture:
    """`picture` with every node in `into` replaced by the one it goes into: one of `new`, which stands where the first
    of its members did, or one that is there."""
    made = {n.id: n for n in new}
    nodes: dict[str, Node] = {}
    for node in picture.nodes:
        name = into.get(node.id, node.id)
        if name not in nodes:
            nodes[name] = made.get(name) or picture.node[name]
    edges: dict[tuple[str, str, str, str], Edge] = {}
    for edge in picture.edges:
        source, target = into.get(edge.source, edge.source), into.get(edge.target, edge.target)
        if source == target and edge.label != NEXT:
            continue
        kind = "data" if edge.kind == "saved" and nodes[source].phase == nodes[target].phase else edge.kind
        key = (source, target, kind, edge.label)
        if key in edges:
            known = edges[key]
            types = known.type if edge.type in known.type.split(" · ") else f"{known.type} · {edge.type}"
            edges[key] = replace(
                known, type=types, count=known.count + edge.count, broken=known.broken or edge.broken
            )  # fmt: skip
        else:
            edges[key] = replace(edge, source=source, target=target, kind=kind)
    cuts = tuple(
        replace(
            c,
            node=into.get(c.node, c.node),
            path=tuple(dict.fromkeys(into.get(i, i) for i in c.path)),
            targets=tuple(dict.fromkeys(into.get(i, i) for i in c.targets)),
        )
        for c in picture.cuts
    )
    return pruned(picture.replace(nodes=tuple(nodes.values()), edges=tuple(edges.values()), cuts=cuts))


NEXT = "next round"
ALL_UPDATES = "fold:update:"


def pruned(picture: Picture) -> Picture:
    """Without the clusters that hold nothing."""
    held = {c.id for n in picture.nodes for c in picture.around(n.cluster)}
    return picture.replace(clusters=tuple(c for c in picture.clusters if c.id in held))


# modules --------------------------------------------------------------------------------------------------------------
def folded(picture: Picture, closed: Callable[[Cluster], bool]) -> Picture:
    """Every outermost cluster that is `closed` becomes one node for each phase. Marks of cuts stay outside of it."""
    into: dict[str, str] = {}
    groups: dict[str, list[Node]] = {}
    homes: dict[str, Cluster] = {}
    moved: dict[str, str] = {}
    for node in picture.nodes:
        shut = [c for c in picture.around(node.cluster) if closed(c)]
        if not shut:
            continue
        outermost = shut[-1]
        if node.kind == "cut":
            moved[node.id] = outermost.parent
            continue
        name = f"fold:{node.phase}:{outermost.id}"
        into[node.id] = name
        groups.setdefault(name, []).append(node)
        homes[name] = outermost
    new = [_fold(name, homes[name], nodes) for name, nodes in groups.items()]
    nodes = tuple(replace(n, cluster=moved.get(n.id, n.cluster)) for n in picture.nodes)
    return merged(picture.replace(nodes=nodes), into, new)


def _fold(name: str, cluster: Cluster, nodes: Sequence[Node]) -> Node:
    """The node that stands for those of a cluster in one phase."""
    members = tuple(i for n in nodes for i in (n.members or (n.id,)))
    work = [n for n in nodes if n.kind in ("op", "loop", "kernel", "fold", "view")]
    params = [n for n in nodes if n.kind == "param"]
    ops = dict.fromkeys(op for n in work if n.op not in THROUGH for op in _ops(n))
    results = [r for n in nodes for r in _results(n)]
    verdicts = [n.verdict for n in nodes if n.verdict]
    first = (work or list(nodes))[0]
    kernels = dict.fromkeys(k for n in nodes for k in n.kernel.split("; ") if k and not k.startswith("none"))
    # fmt: off
    return Node(
        name, "module", cluster.label, "fold", cluster=cluster.parent, phase=nodes[0].phase,
        file=first.file, line=first.line, scope=first.scope, source=first.source,
        attrs=(
            ("ops", " ".join(ops)), ("parameters", ", ".join(p.label for p in params)),
            ("results", "; ".join(dict.fromkeys(results))),
        ),
        kernel="; ".join(kernels), instructions=tuple(sorted({i for n in nodes for i in n.instructions})),
        verdict=max(verdicts, key=ORDER.index, default=""), because=next((n.because for n in nodes if n.because), ""),
        broken=any(n.broken for n in nodes), members=members,
    )
    # fmt: on


def _ops(node: Node) -> list[str]:
    """The ops that a node stands for; of a derivative the op whose it is."""
    if node.kind == "fold":
        return dict(node.attrs)["ops"].split()
    if node.kind == "kernel":
        return node.label.split() if node.op.startswith("row_") else node.label.split()[:1]
    return [node.label.replace("∂ ", "∂")] if node.op == "derivative" else [node.op]


def _results(node: Node) -> list[str]:
    """What leaves the program through a node."""
    if node.kind == "fold":
        return [r for r in dict(node.attrs)["results"].split("; ") if r]
    return [node.label] if node.kind == "output" else []


def to_depth(picture: Picture, depth: int) -> Picture:
    """Modules and loops nested deeper than `depth` become one node for each phase: 0 leaves none open."""
    return folded(picture, lambda c: c.kind == "update" or picture.level(c.parent) >= depth)


def without_leaves(picture: Picture) -> Picture:
    """Modules that hold no others (layers: what has parameters of its own) become one node for each phase."""
    holding = {c.parent for c in picture.clusters if c.kind != "update"}
    return folded(picture, lambda c: c.kind == "update" or (c.kind == "module" and c.id not in holding))


def without_updates(picture: Picture) -> Picture:
    """The update of every parameter becomes one node, and what all updates share another."""
    return folded(picture, lambda c: c.kind == "update")


def with_one_update(picture: Picture) -> Picture:
    """All that the optimizer does becomes one node."""
    nodes = [n for n in picture.nodes if n.phase == "update" and n.kind != "cut"]
    made = _fold(ALL_UPDATES, Cluster(ALL_UPDATES, "update of all parameters", "update"), nodes)
    return merged(picture, dict.fromkeys((n.id for n in nodes), ALL_UPDATES), [made])


# views and derivatives ------------------------------------------------------------------------------------------------
def without_views(picture: Picture) -> Picture:
    """Reshapes, permutes and broadcasts are left out: what reads one reads what it is a view of."""
    before: dict[str, list[Edge]] = {}
    for edge in picture.edges:
        before.setdefault(edge.target, []).append(edge)
    ends = {c.node for c in picture.cuts} | {i for c in picture.cuts for i in c.targets}
    marked = {e.source for e in picture.edges if e.target in ends}  # the very node of a cut stays
    into: dict[str, str] = {}
    saved: set[str] = set()
    for node in picture.nodes:
        sources = before.get(node.id, [])
        if node.op in THROUGH and node.kind == "view" and len(sources) == 1 and node.id not in ends | marked:
            source = sources[0].source
            into[node.id] = into.get(source, source)
            if sources[0].kind == "saved" or source in saved:
                saved.add(node.id)
    edges = tuple(replace(e, kind="saved") if e.source in saved and e.kind == "data" else e for e in picture.edges)
    return merged(picture.replace(edges=edges), into)


def with_derivatives_gathered(picture: Picture) -> Picture:
    """What computes the gradient of one forward node becomes one node."""
    into: dict[str, str] = {}
    groups: dict[str, list[Node]] = {}
    for node in picture.nodes:
        if node.phase == "backward" and node.serves and node.kind in ("op", "view"):
            name = f"grad:{node.cluster}:{node.serves}"
            into[node.id] = name
            groups.setdefault(name, []).append(node)
    new = []
    for name, nodes in groups.items():
        cluster = Cluster(name, f"∂ {nodes[0].serves_op or nodes[-1].op}", parent=nodes[0].cluster)
        gathered = _fold(name, cluster, nodes)
        new.append(replace(gathered, op="derivative", kind="op", type=nodes[-1].type, serves=nodes[0].serves))
    return merged(picture, into, new)


# repeats --------------------------------------------------------------------------------------------------------------
def with_repeats(picture: Picture) -> Picture:
    """Equal neighbours in a list of modules (`blocks.0`, `blocks.1`, ...) are drawn once. Equal are those whose nodes,
    edges and types are, and that are joined to what is around them in the same way: each to the one before it, or all
    to the same."""
    tried: set[str] = set()
    while True:
        family = next((f for f in _families(picture) if f[0] not in tried), None)
        if family is None:
            return picture
        tried.add(family[0])
        for run in _runs(picture, family):
            picture = _once(picture, run)


def _families(picture: Picture) -> list[list[str]]:
    """The clusters that stand in one list, in their order; outer ones first."""
    lists: dict[tuple[str, str], list[tuple[int, str]]] = {}
    for cluster in picture.clusters:
        own, _, number = cluster.label.rpartition(".")
        if cluster.kind == "module" and number.isdigit():
            lists.setdefault((cluster.parent, own), []).append((int(number), cluster.id))
    found = [[name for _, name in sorted(members)] for members in lists.values() if len(members) > 1]
    return sorted(found, key=lambda f: picture.level(f[0]))


def _runs(picture: Picture, family: Sequence[str]) -> list[list[str]]:
    """The longest stretches of neighbours that are equal and joined in the same way."""
    shapes = [_Shape(picture, name) for name in family]
    found = [[shapes[0]]]
    links: Links | None = None
    for last, shape in pairwise(shapes):
        known, links = links, _links(last, shape) if shape.text == last.text else None
        if links is not None and (len(found[-1]) == 1 or links == known):
            found[-1].append(shape)
        else:
            found.append([shape])
    return [[s.cluster for s in run] for run in found if len(run) > 1]


class _Shape:
    """What a cluster looks like from inside, and where what it reads comes from. `place` numbers its nodes."""

    def __init__(self, picture: Picture, cluster: str) -> None:
        self.cluster = cluster
        nodes = picture.inside(cluster)
        self.place = {n.id: i for i, n in enumerate(nodes)}
        self.outside: dict[Slot, list[str]] = {}
        wires = []
        for edge in picture.edges:
            if edge.target in self.place and edge.source in self.place:
                wires.append((self.place[edge.source], self.place[edge.target], edge.port, edge.type, edge.kind))
            elif edge.target in self.place:
                slot = (self.place[edge.target], edge.port, edge.type)
                self.outside.setdefault(slot, []).append(edge.source)
        inner = [n.cluster.removeprefix(cluster) for n in nodes]
        looks = [(_look(n), c) for n, c in zip(nodes, inner, strict=True)]
        self.text = repr((looks, sorted(wires), [(slot, len(self.outside[slot])) for slot in sorted(self.outside)]))


Slot = tuple[int, int, str]  # a node that reads from outside, by its number, the operand and its type
Links = dict[tuple[Slot, int], tuple[str, int]]


def _look(node: Node) -> tuple:
    attrs = tuple(a for a in node.attrs if a[0] != "writes")
    label = "" if node.kind == "kernel" else node.label
    return (node.op, label, node.kind, node.type, node.phase, attrs, node.verdict, node.broken)


def _links(last: _Shape, shape: _Shape) -> Links | None:
    """For all that both read from outside how the second one has it: from the `same` node as the first, from a node of
    the first (`before`), or as the first has it from the second (`after`: gradients run that way); None where anything
    is otherwise."""
    found: Links = {}
    for slot, sources in shape.outside.items():
        for i, (its, mine) in enumerate(zip(last.outside[slot], sources, strict=True)):
            if its == mine:
                found[slot, i] = ("same", 0)
            elif mine in last.place:
                found[slot, i] = ("before", last.place[mine])
            elif its in shape.place:
                found[slot, i] = ("after", shape.place[its])
            else:
                return None
    return found


def _once(picture: Picture, run: Sequence[str]) -> Picture:
    """The first of a run stands for all."""
    first = picture.inside(run[0])
    into = {n.id: f.id for name in run[1:] for n, f in zip(picture.inside(name), first, strict=True)}
    names = tuple(picture.cluster[name].label for name in run)
    own = names[0].rpartition(".")[0]
    label = f"{own}.{names[0].rpartition('.')[2]} … {names[-1].rpartition('.')[2]}" if own else names[0]
    inside = set(into) | {n.id for n in first}
    home = {n.id: name for name in run for n in picture.inside(name)}
    edges = tuple(
        replace(e, label=e.label or NEXT_BLOCK)
        if e.source in inside and e.target in inside and home[e.source] != home[e.target]
        else e
        for e in picture.edges
    )
    made = merged(picture.replace(edges=edges), into)
    clusters = tuple(
        replace(c, repeats=len(run), names=names, label=label) if c.id == run[0] else c for c in made.clusters
    )
    return made.replace(clusters=clusters)


NEXT_BLOCK = "next block"


# how much to show -----------------------------------------------------------------------------------------------------
MOST = 40  # nodes that a page takes,
ONE_COLUMN = 64  # or where there is no backward beside forward
UPDATES = 8  # nodes of the update among them


def fitting(picture: Picture) -> Picture:
    """As much of a picture as is readable: in full, or with the update as one node; else with layers folded, then whole
    modules, from the inside."""
    if sum(n.phase == "update" for n in picture.nodes) > UPDATES:
        picture = with_one_update(picture)
    deepest = max((picture.level(c.id) for c in picture.clusters), default=0)
    most = ONE_COLUMN if len({n.phase for n in picture.nodes}) == 1 else MOST
    made = picture if len(picture.nodes) <= MOST else without_leaves(picture)
    for depth in range(deepest, -1, -1):
        if len(made.nodes) > most:
            made = to_depth(made, depth)
    return made
