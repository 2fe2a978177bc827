"""Graph -> Picture."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, cached_property
from typing import Any

from ..ir.build import source_line
from ..ir.crossings import Reentry
from ..ir.dims import Symbol
from ..ir.graph import Graph, Literal, Operand, Value
from ..ir.graph import Node as Instruction
from ..ir.location import Location
from ..ir.op import OPS
from ..ir.ops.scan import parts_of
from ..ir.types import TensorType
from .picture import Cluster, Edge, Node, Picture

QUIET = ("digest", "site")  # attributes that tell a reader nothing


def picture_of_graph(graph: Graph, stage: str = "traced", reentries: Sequence[Reentry] = ()) -> Picture:
    """The picture of a graph at a stage. `reentries` are where what had left the program came back as a constant: these
    become broken edges."""
    drawing = _Drawing(graph, stage)
    drawing.body(graph, "", "", {})
    drawing.results()
    drawing.breaks(reentries)
    return drawing.picture()


class _Drawing:
    """A picture in the making. `of` says which node makes a value."""

    def __init__(self, graph: Graph, stage: str) -> None:
        self.graph = graph
        self.stage = stage
        self.phase = phases(graph)
        self.owner = update_owners(graph, self.phase)
        self.constant = independent(graph)
        self.nodes: list[Node] = []
        self.edges: list[Edge] = []
        self.clusters: dict[str, Cluster] = {}
        self.of: dict[Value, str] = {}
        self.computed: set[str] = set()  # nodes that compute in the forward phase

    # the walk -------------------------------------------------------------------------------------------------------
    def body(self, graph: Graph, prefix: str, cluster: str, given: Mapping[Value, str]) -> None:
        """Adds everything of a graph; `given` says which nodes stand for the inputs of a region."""
        for value in graph.inputs:
            if value not in given:
                self.input(graph, value, prefix, cluster)
            else:
                self.of[value] = given[value]
        for node in graph.nodes:
            self.add_node(node, prefix, cluster)

    def input(self, graph: Graph, value: Value, prefix: str, cluster: str) -> None:
        role = graph.roles[value.name]
        own, _, last = value.name.rpartition(".")
        phase = self.phase.get(value, "forward")
        where = cluster
        if role in ("param", "buffer"):
            where = self.module(own)
        elif role == "state":
            where = self.updating(state_of(value.name, graph))
            last = value.name.split(".")[1]
        elif phase == "update":
            where = self.updating(None)
        label = last if role in ("param", "buffer", "state") else value.name
        self.of[value] = prefix + value.name
        # fmt: off
        self.nodes.append(Node(
            prefix + value.name, role, label, role, str(value.type), shape_of(value.type), where, phase, scope=own
        ))
        # fmt: on

    def add_node(self, node: Instruction, prefix: str, outer: str) -> None:
        where, record = node.location, OPS[node.op]
        phase = self.phase.get(node.output, "") or phase_inside(node, outer, self.nodes)
        name = prefix + node.output.name
        scope = self.home_of(node, where)
        cluster = (
            self.module(scope, outer) if outer or phase != "update" else self.updating(self.owner.get(node.output))
        )
        if node.regions:
            cluster = self.loop(node, name, cluster, scope)
            for region in node.regions:
                self.region(node, region, f"{name}/", cluster)
        for i, operand in enumerate(node.inputs if not node.regions else ()):
            self.edge(operand, name, i, phase)
        for value in node.outputs:
            self.of[value] = name
        seen = [v for v in node.values() if self.of[v] in self.computed]
        if phase == "forward" and record.kind != "constant" and (seen or record.kind != "view"):
            self.computed.add(name)  # a view of a parameter is no activation
        types = ", ".join(str(v.type) for v in node.outputs)
        kind = {"view": "view", "constant": "const", "loop": "loop"}.get(record.kind, "op")
        # fmt: off
        self.nodes.append(Node(
            name, node.op, label_of(node), "loop" if node.regions else kind, types, shape_of(node.output.type), cluster,
            phase, **place(where), serves=where.of if where else "", attrs=attributes(node),
            operands=tuple(text_of(o) for o in node.inputs), formula=record.formula, derivative=derivative_of(node.op),
        ))
        # fmt: on

    def region(self, node: Instruction, region: Graph, prefix: str, cluster: str) -> None:
        """A region in its cluster: what goes in, its body, and what comes out into the node that holds it."""
        phase = self.phase.get(node.output, "forward")
        stacked: set[Value] = set()
        if node.op == "scan":
            stacked = {*parts_of(node)[1].carries, *parts_of(node)[1].xs}
        for i, (operand, value) in enumerate(zip(node.inputs, region.inputs, strict=False)):
            if value not in stacked and isinstance(operand, Value):
                self.of[value] = self.of[operand]  # the same value in every round
                continue
            self.of[value] = prefix + value.name
            label = value.name.replace("carry.", "carry ")
            # fmt: off
            self.nodes.append(Node(
                prefix + value.name, "round", label, "op", str(value.type), shape_of(value.type), cluster, phase,
                **place(node.location), operands=(text_of(operand),),
            ))
            # fmt: on
            self.edge(operand, prefix + value.name, i, phase)
        known = {v: self.of[v] for v in region.inputs if v in self.of}
        self.body(region, prefix, cluster, known)
        name = prefix[:-1]
        for i, (_, value) in enumerate(region.outputs):
            self.edge(value, name, i, phase)
        if node.op == "scan":
            inner = parts_of(node)[1]
            for i, (carry, new) in enumerate(zip(inner.carries, inner.new, strict=True)):
                self.edge(new, self.of[carry], i + 1, phase, "next round")

    def edge(self, operand: Operand, target: str, port: int, phase: str, label: str = "") -> None:
        if not isinstance(operand, Value):
            return
        source = self.of[operand]
        kept = phase == "backward" and source in self.computed
        self.edges.append(Edge(source, target, str(operand.type), "saved" if kept else "data", port, label))

    def results(self) -> None:
        """What leaves the program: outputs, gradients, new values."""
        for name, operand in self.graph.outputs:
            self.result(name, operand)
        for name, operand in self.graph.updates:
            self.result(name, operand, f"new {name}")

    def result(self, name: str, operand: Operand, text: str = "") -> None:
        path = name.removeprefix("grad:")
        own, _, last = path.rpartition(".")
        phase = self.phase.get(operand, "forward") if isinstance(operand, Value) else "forward"
        cluster, label = "", name
        if path != name:
            cluster, label, phase = self.module(own), f"gradient of {last}", "backward"
        elif text and self.graph.roles[name] == "buffer":
            cluster, label = self.module(own), f"new {last}"
        elif text:
            cluster = self.updating(state_of(name, self.graph))
            label = f"new {last if self.graph.roles[name] == 'param' else name.split('.')[1]}"
        elif phase == "update":
            cluster = self.updating(None)
        source = operand if isinstance(operand, Value) else None
        kind = str(operand.type)
        self.nodes.append(Node(f"out:{text or name}", "output", label, "output", kind, (), cluster, phase, scope=own))
        if source is not None:
            self.edges.append(Edge(self.of[source], f"out:{text or name}", kind))

    def breaks(self, reentries: Iterable[Reentry]) -> None:
        for reentry in reentries:
            target = reentry.operand if reentry.operand in self.of else reentry.user
            for origin in reentry.origins:
                if isinstance(target, Value) and target in self.of and origin.value in self.of:
                    left, back = place_name(origin.file, origin.line), place_name(reentry.file, reentry.line)
                    text = f"{origin.kind} at {left}" if left == back else f"{origin.kind} at {left}, back at {back}"
                    kind = str(origin.value.type)
                    edge = Edge(self.of[origin.value], self.of[target], kind, "broken", 0, text, True)
                    if edge not in self.edges:
                        self.edges.append(edge)

    # clusters -------------------------------------------------------------------------------------------------------
    def home_of(self, node: Instruction, where: Location | None) -> str:
        """The scope that a node is drawn in: its own; that which all its readers share, for what does not depend on any
        input (a mask that all blocks share once it is computed once)."""
        scope = where.scope if where is not None else ""
        if node.output not in self.constant or node.output not in self.readers:
            return scope
        return common([scope, *self.readers[node.output]])

    @cached_property
    def readers(self) -> Mapping[Value, list[str]]:
        return reader_scopes(self.graph, self.constant)

    def module(self, scope: str, outer: str = "") -> str:
        """The cluster of a module path; inside of a loop that of the part below the loop's own module."""
        parts = modules(scope)
        if outer:
            around = [c for c in outer.split("/") if not c.startswith("@")]
            parts = parts[len(around) :] if parts[: len(around)] == around else ()
        path = outer
        for part in parts:
            path = self.cluster(f"{path}/{part}" if path else part, part, "module", path)
        return path

    def loop(self, node: Instruction, name: str, outer: str, scope: str) -> str:
        label = f"{node.op}, {node.attrs['length']} rounds" if node.op == "scan" else node.op
        path = f"{outer}/@{name.replace('/', '.')}" if outer else f"@{name.replace('/', '.')}"
        return self.cluster(path, label, "loop", outer)

    def updating(self, parameter: str | None) -> str:
        """The cluster of the update of a parameter, or of what all updates share."""
        if parameter is None:
            return self.cluster("@optimizer", "optimizer", "update", "")
        own, _, last = parameter.rpartition(".")
        module = self.module(own)
        return self.cluster(f"{module}/@update {last}".lstrip("/"), f"update of {last}", "update", module)

    def cluster(self, path: str, label: str, kind: str, parent: str) -> str:
        self.clusters.setdefault(path, Cluster(path, label, kind, parent))
        return path

    def picture(self) -> Picture:
        clusters = tuple(self.clusters.values())
        sizes = sizes_of(self.graph.symbols)
        return Picture(self.graph.name, self.stage, tuple(self.nodes), tuple(self.edges), clusters, (), sizes)


def with_served_ops(picture: Picture, traced: Graph) -> Picture:
    """`picture` with the op of the forward node that each backward node serves."""
    ops = {v.name: node.op for node in traced.walk() for v in node.outputs}
    return picture.replace(nodes=tuple(replace(n, serves_op=ops.get(n.serves, "")) for n in picture.nodes))


# what is known of values ----------------------------------------------------------------------------------------------
def phases(graph: Graph) -> dict[Value, str]:
    """forward: what the outputs (but gradients and their norm) and new buffers need, and is no derivative; backward:
    derivatives, and what only they need; update: the rest, which is the optimizer's."""
    own = [v for name, v in graph.outputs if not name.startswith("grad:") and name != "grad_norm"]
    own += [v for name, v in graph.updates if graph.roles[name] == "buffer"]
    derived = {v for n in graph.nodes if n.location and n.location.of for v in n.outputs}
    if not derived and all(graph.roles[name] == "buffer" for name, _ in graph.updates):
        return dict.fromkeys(_values(graph), "forward")
    found: dict[Value, str] = {}
    forward = ancestors(graph, own) - derived
    gradients = [v for name, v in graph.outputs if name.startswith("grad:")]
    backward = ancestors(graph, [*derived, *gradients]) - forward
    read = {v for n in graph.nodes for v in n.values()}
    optimizer = ancestors(graph, [v for name, v in graph.outputs if name == "grad_norm"])
    optimizer |= ancestors(graph, [v for name, v in graph.updates if graph.roles[name] != "buffer"])
    given = dict(zip(graph.inputs, (graph.roles[v.name] for v in graph.inputs), strict=True))
    for value in _values(graph):
        role = given.get(value, "")
        if role == "state" or (role == "scalar" and value.name.startswith("optimizer.")):
            found[value] = "update"
        elif value in forward or role in ("param", "input", "buffer") or (role and value not in read):
            found[value] = "forward"
        elif value in backward:
            found[value] = "backward"
        else:
            found[value] = "update" if value in optimizer else "forward"  # what nobody reads is dead code of forward
    return found


def _values(graph: Graph) -> Iterator[Value]:
    yield from graph.inputs
    for node in graph.nodes:
        yield from node.outputs


def phase_inside(node: Instruction, outer: str, before: Sequence[Node]) -> str:
    """The phase of a node in a region: that of the node that holds it, unless it is itself a derivative."""
    if node.location is not None and node.location.of:
        return "backward"
    return next((n.phase for n in reversed(before) if n.cluster == outer), "forward")


def ancestors(graph: Graph, values: Iterable[Operand]) -> set[Value]:
    """Everything that `values` are computed from, themselves included."""
    needed = {v for v in values if isinstance(v, Value)}
    for node in reversed(graph.nodes):
        if needed.intersection(node.outputs):
            needed.update(node.values())
    return needed


def independent(graph: Graph) -> set[Value]:
    """Values that depend on no input and no draw: masks, ramps, numbers."""
    found: set[Value] = set()
    for node in graph.nodes:
        if not OPS[node.op].random and not node.regions and found.issuperset(node.values()):
            found.update(node.outputs)
    return found


def reader_scopes(graph: Graph, wanted: set[Value]) -> dict[Value, list[str]]:
    """By value the scopes of all that read it, itself or through others of `wanted`."""
    found: dict[Value, list[str]] = {}
    for node in reversed(graph.nodes):
        scope = node.location.scope if node.location else ""
        beyond = [s for v in node.outputs for s in found.get(v, ())] if node.output in wanted else []
        for value in node.values():
            if value in wanted:
                found.setdefault(value, []).extend([scope, *beyond])
    return found


def update_owners(graph: Graph, phase: Mapping[Value, str]) -> dict[Value, str]:
    """Which parameter's update a value belongs to: those of the optimizer that exactly one parameter needs."""
    owners: dict[Value, set[str]] = {}
    for name, operand in graph.updates:
        if isinstance(operand, Value) and graph.roles[name] != "buffer":
            owners.setdefault(operand, set()).add(state_of(name, graph))
    shared = {v for n, v in graph.outputs if isinstance(v, Value)}
    for value in shared:
        owners.setdefault(value, set()).add("")
    for node in reversed(graph.nodes):
        mine = {o for v in node.outputs for o in owners.get(v, ())}
        for value in node.values():
            owners.setdefault(value, set()).update(mine)
    return {v: next(iter(o)) for v, o in owners.items() if len(o) == 1 and "" not in o and phase.get(v) == "update"}


def state_of(name: str, graph: Graph) -> str:
    """The parameter that a state array (`optimizer.<key>.<parameter>`) belongs to; a parameter's own name."""
    if graph.roles.get(name) != "state" or not name.startswith("optimizer."):
        return name
    return name.split(".", 2)[2]


# text -----------------------------------------------------------------------------------------------------------------
def modules(scope: str) -> tuple[str, ...]:
    """The modules of a path: a number belongs to the list before it, `blocks.0.attn` is blocks.0 and attn."""
    parts: list[str] = []
    for part in filter(None, scope.split(".")):
        if part.isdigit() and parts and not parts[-1].rpartition(".")[2].isdigit():
            parts[-1] += f".{part}"
        else:
            parts.append(part)
    return tuple(parts)


def common(scopes: Sequence[str]) -> str:
    """The path of the innermost module that holds all of them."""
    split = [modules(s) for s in scopes]
    shared = []
    for parts in zip(*split, strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return ".".join(shared)


def place(where: Location | None) -> dict[str, Any]:
    """file, line, scope and source of a location, as fields of a Node."""
    if where is None:
        return {}
    return {"file": where.file, "line": where.line, "scope": where.scope, "source": source_line(where)}


def place_name(file: str, line: int) -> str:
    return f"{file.replace(chr(92), '/').rpartition('/')[2]}:{line}"


def sizes_of(symbols: Mapping[str, Symbol]) -> str:
    """The sizes that are not fixed, with their bounds: `B, T ≤ 64`."""
    return ", ".join(s.name if s.max is None else f"{s.name} ≤ {s.max}" for s in symbols.values())


def shape_of(kind: TensorType) -> tuple[str, ...]:
    return tuple(str(d) for d in kind.shape)


def text_of(operand: Operand) -> str:
    return number(operand.value) if isinstance(operand, Literal) else f"%{operand.name}"


def number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def attributes(node: Instruction) -> tuple[tuple[str, str], ...]:
    return tuple((k, value_text(v)) for k, v in node.attrs.items() if k not in QUIET)


def value_text(value: object) -> str:
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(map(value_text, value))}]"
    return number(value)


def label_of(node: Instruction) -> str:
    """The op, with the numbers among its operands: `mul 0.2887`, `1 - x`."""
    literals = [number(o.value) for o in node.inputs if isinstance(o, Literal)]
    if node.op == "full":
        return number(node.attrs["value"])
    if node.op == "constant":
        return "constant"
    return " ".join([node.op, *literals])


@cache
def derivative_of(name: str) -> str:
    """The derivative's rule as it stands in the op's record; for an op without one the reason."""
    record = OPS[name]
    if record.nondiff is not None:
        return f"none, {record.nondiff.kind}: {record.nondiff.reason}"
    rule = record.vjp or record.derive
    if rule is None:
        return ""
    try:
        return textwrap.dedent(inspect.getsource(rule)).rstrip()
    except (OSError, TypeError):  # typed into an interpreter
        return ""
