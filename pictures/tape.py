"""Tape -> Picture: its instructions, with an edge wherever one reads what another has written; and which instruction
runs which node of a graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from ..ir.graph import Graph, Value
from ..ir.graph import Node as GraphNode
from ..ir.op import OPS
from ..ir.tape import Callback, Instr, Loop, Operand, Step, StopIf, Tape, View
from ..passes.fuse import Group, fuse
from ..passes.lower import late_nodes
from .graph import modules, place, sizes_of
from .picture import Cluster, Edge, Node, Picture

GIVEN = ("input", "param", "buffer", "state", "scalar", "const")  # segments that are there before the first instruction
LAID_OUT = ("view", "copy")  # kinds of readers in whose memory a value may be written at once
AGAIN = "none of its own: computed by every kernel that reads it"
FREE = "none: a view of memory that is there"


def picture_of_tape(tape: Tape) -> Picture:
    """The picture of a tape: what it is given, and its instructions. Buffers are the edges between them."""
    return _Drawing(tape).picture()


class _Drawing:
    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        self.nodes: list[Node] = []
        self.edges: dict[tuple[str, str, int], Edge] = {}
        self.clusters: dict[str, Cluster] = {}
        self.writers: dict[int, dict[View, str]] = {}  # by buffer: who has written which part of it last
        self.number = 0  # of the next step, and
        self.instructions = 0  # of the next instruction, as the tape counts them
        self.given()
        self.run(tape.steps, "")
        self.results()

    # what the program is given --------------------------------------------------------------------------------------
    def given(self) -> None:
        types = {index: value_type for _, index, value_type in self.tape.inputs}
        for index, buffer in enumerate(self.tape.buffers):
            if buffer.segment not in GIVEN:
                continue
            own, _, last = buffer.name.rpartition(".")
            if buffer.segment == "state":
                own = buffer.name.split(".", 2)[2].rpartition(".")[0]
                last = buffer.name.split(".")[1]
            elif buffer.segment not in ("param", "buffer"):
                own, last = "", "constant" if buffer.segment == "const" else buffer.name
            kind, shape = f"{buffer.dtype}[{buffer.size}]", ()
            if index in types:
                kind, shape = str(types[index]), tuple(str(d) for d in types[index].shape)
            phase = "update" if buffer.segment == "state" or buffer.name.startswith("optimizer.") else "forward"
            name = buffer.name if buffer.segment != "const" else f"const:{buffer.name}"
            where = self.module(own) if buffer.segment in ("param", "buffer") else ""
            if buffer.segment == "state":
                where = self.updating(buffer.name.split(".", 2)[2])
            elif phase == "update":
                where = self.optimizer()
            node = Node(name, buffer.segment, last, buffer.segment, kind, shape, where, phase, scope=own)
            self.nodes.append(node)
            self.writers[index] = {View(index, 0, ()): name}

    # the steps ------------------------------------------------------------------------------------------------------
    def run(self, steps: Sequence[Step], outer: str) -> None:
        for step in steps:
            if isinstance(step, Loop):
                path = f"{outer}/@{step.index}".lstrip("/")
                self.clusters[path] = Cluster(path, f"loop, {step.count} rounds", "loop", outer)
                first = self.number
                self.run(step.body, path)
                self.next_rounds(step.body, first)
            else:
                self.step(step, outer)

    def step(self, step: Step, outer: str) -> None:
        assert not isinstance(step, Loop)
        name = f"i{self.number}"
        if isinstance(step, StopIf):
            text = "stop if an index was out of range or a number not finite"
            self.nodes.append(Node(name, "stop_if", "stop if not finite", "kernel", phase="update", formula=text))
            for index, buffer in enumerate(self.tape.buffers):
                if buffer.segment == "error":
                    for source in self.writers.get(index, {}).values():
                        self.edge(source, name, index)
            self.number += 1
            return
        operands = step.operands if isinstance(step, Instr) else step.operands()
        self.reads(name, operands)
        written = [o for o in operands if o.mode != "r" and o.view.buffer >= 0]
        kinds = dict.fromkeys(self.size(o.view.buffer) for o in written if self.segment(o) != "error")
        label = label_of(step)
        kernel = step.kernel if isinstance(step, Instr) else step.function
        where = step.location
        cluster = self.module(where.scope, outer) if where else outer
        axes = ", ".join(map(str, step.axes)) if isinstance(step, Instr) else ""
        attrs = (("axes", axes), ("writes", ", ".join(self.tape.buffers[o.view.buffer].name for o in written)))
        formula = str(self.tape.rows[kernel]) if kernel in self.tape.rows else ""
        instructions = (self.instructions,) if isinstance(step, Instr) else ()
        self.instructions += len(instructions)
        # fmt: off
        self.nodes.append(Node(
            name, kernel, label, "kernel", ", ".join(kinds), (), cluster, "", **place(where),
            serves=where.of if where else "", attrs=attrs, formula=formula, kernel=kernel, instructions=instructions,
        ))
        # fmt: on
        self.writes(name, operands)
        self.number += 1

    def reads(self, name: str, operands: Sequence[Operand], label: str = "") -> None:
        for port, operand in enumerate(operands):
            index = operand.view.buffer
            if operand.mode == "w" or index < 0 or self.segment(operand) == "error":
                continue
            for source in self.writers.get(index, {}).values():
                if source != name or label:
                    self.edge(source, name, index, label, port)

    def writes(self, name: str, operands: Sequence[Operand]) -> None:
        for operand in operands:
            if operand.mode == "r" or operand.view.buffer < 0:
                continue
            parts = self.writers.setdefault(operand.view.buffer, {})
            if operand.mode == "rw" and self.segment(operand) != "error":
                parts.clear()  # what was there has been read, and this is what it became
            key = operand.view if self.segment(operand) != "error" else View(operand.view.buffer, self.number, ())
            parts[key] = name

    def next_rounds(self, body: Sequence[Step], first: int) -> None:
        """What a step of a loop reads that a later one has written comes from the round before."""
        number = first
        for step in body:
            if isinstance(step, Loop):
                number += _count(step.body)
                continue
            if isinstance(step, (Instr, Callback)):
                operands = step.operands if isinstance(step, Instr) else step.operands()
                for port, operand in enumerate(operands):
                    index = operand.view.buffer
                    if operand.mode == "w" or index < 0 or self.segment(operand) == "error":
                        continue
                    for source in self.writers.get(index, {}).values():
                        if source.startswith("i") and source[1:].isdigit() and int(source[1:]) >= number:
                            self.edge(source, f"i{number}", index, "next round", port)
            number += 1

    def edge(self, source: str, target: str, buffer: int, label: str = "", port: int = 0) -> None:
        key = (source, target, buffer)
        if key not in self.edges:
            self.edges[key] = Edge(source, target, self.size(buffer), "data", port, label)

    def segment(self, operand: Operand) -> str:
        return self.tape.buffers[operand.view.buffer].segment

    def size(self, buffer: int) -> str:
        found = self.tape.buffers[buffer]
        return f"{found.dtype}[{found.size}]"

    # what leaves ----------------------------------------------------------------------------------------------------
    def results(self) -> None:
        for name, view, kind in self.tape.outputs:
            own, _, last = name.removeprefix("grad:").rpartition(".")
            gradient = name.startswith("grad:")
            cluster = self.module(own) if gradient else ""
            label = f"gradient of {last}" if gradient else name
            self.nodes.append(Node(f"out:{name}", "output", label, "output", str(kind), (), cluster, "", scope=own))
            for source in self.writers.get(view.buffer, {}).values():
                self.edges[source, f"out:{name}", view.buffer] = Edge(source, f"out:{name}", str(kind))

    # clusters -------------------------------------------------------------------------------------------------------
    def module(self, scope: str, outer: str = "") -> str:
        path = outer
        if outer:
            return path  # a loop's instructions stand side by side
        for part in modules(scope):
            parent, path = path, f"{path}/{part}".lstrip("/")
            self.clusters.setdefault(path, Cluster(path, part, "module", parent))
        return path

    def updating(self, parameter: str) -> str:
        own, _, last = parameter.rpartition(".")
        module = self.module(own)
        path = f"{module}/@update {last}".lstrip("/")
        self.clusters.setdefault(path, Cluster(path, f"update of {last}", "update", module))
        return path

    def optimizer(self) -> str:
        self.clusters.setdefault("@optimizer", Cluster("@optimizer", "optimizer", "update"))
        return "@optimizer"

    def picture(self) -> Picture:
        edges = tuple(self.edges.values())
        phase = phases(self.nodes, edges, self.tape)
        nodes = []
        for node in self.nodes:
            node = replace(node, phase=node.phase or phase[node.id])
            if node.phase == "update" and node.kind in ("kernel", "output") and not node.cluster:
                stored = [e.source for e in edges if e.target == node.id and "." in e.source]
                owners = {n.id for n in self.nodes if n.id in stored and n.kind == "param"}
                where = self.updating(owners.pop()) if len(owners) == 1 else self.optimizer()
                node = replace(node, cluster=where)
            nodes.append(node)
        kind = {n.id: n for n in nodes}
        edges = tuple(
            replace(e, kind="saved")
            if kind[e.target].phase == "backward"
            and kind[e.source].phase == "forward"
            and kind[e.source].kind == "kernel"
            else e
            for e in edges
        )
        clusters = tuple(self.clusters.values())
        return Picture(self.tape.name, "tape", tuple(nodes), edges, clusters, (), sizes_of(self.tape.symbols))


def label_of(step: Instr | Callback) -> str:
    """What an instruction does: the ops of its row program, or the kernel by name without the type."""
    if isinstance(step, Callback):
        return f"callback {step.function}"
    if step.kernel.startswith("row_"):
        return step.label
    name = step.kernel.rpartition("_")[0] or step.kernel
    return name if name in ("combine", "check") else step.label or name


def _count(steps: Sequence[Step]) -> int:
    return sum(_count(s.body) if isinstance(s, Loop) else 1 for s in steps)


def phases(nodes: Sequence[Node], edges: Sequence[Edge], tape: Tape) -> dict[str, str]:
    """The phase of every node: what the outputs need is forward; what serves a gradient, and what that needs, is
    backward; the rest is the update."""
    before: dict[str, list[str]] = {}
    for edge in edges:
        before.setdefault(edge.target, []).append(edge.source)

    def needed(ends: Sequence[str]) -> set[str]:
        seen, stack = set(ends), list(ends)
        while stack:
            for source in before.get(stack.pop(), ()):
                if source not in seen:
                    seen.add(source)
                    stack.append(source)
        return seen

    outputs = [n.id for n in nodes if n.kind == "output"]
    forward = needed([o for o in outputs if not o.startswith("out:grad")])
    derived = [n.id for n in nodes if n.serves and n.id not in forward]
    backward = needed([*derived, *(o for o in outputs if o.startswith("out:grad:"))]) - forward
    rest = "update" if any(isinstance(s, StopIf) for s in tape.steps) else "forward"
    return {n.id: "forward" if n.id in forward else "backward" if n.id in backward else rest for n in nodes}


# which instruction runs which node ------------------------------------------------------------------------------------
def running(graph: Graph, tape: Tape) -> dict[str, tuple[int, ...]]:
    """By the id of a node in the picture of `graph` (at the stage fused) the numbers of the instructions of its tape
    that compute it. What is missing is a view, or computed again wherever it is read."""
    guarded = any(isinstance(s, StopIf) for s in tape.steps)
    stored: dict[Value, list[str]] = {}
    for name, value in graph.updates:
        if isinstance(value, Value):
            stored.setdefault(value, []).append(name)
    return dict(_running(graph, tape, tape.steps, "", late_nodes(graph, guarded), stored, [0]))


def _running(
    graph: Graph,
    tape: Tape,
    steps: Sequence[Step],
    prefix: str,
    late: set[GraphNode],
    stored: Mapping[Value, list[str]],
    number: list[int],
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """`stored` are values that lie where other names say; `number` is that of the next instruction."""
    writing: dict[str, list[int]] = {}
    uses = graph.uses()
    loops = [n for n in graph.nodes if n.op == "scan"]
    for step in steps:
        if isinstance(step, Instr):
            for operand in step.operands:
                if operand.mode != "r" and operand.view.buffer >= 0:
                    name = tape.buffers[operand.view.buffer].name.removesuffix(".part").removesuffix(".rounds")
                    writing.setdefault(name, []).append(number[0])
            number[0] += 1
        elif isinstance(step, Loop):
            node, first = loops.pop(0), number[0]
            (body,) = node.regions
            places: dict[Value, list[str]] = {}
            for (_, value), out in zip(body.outputs, node.outputs, strict=True):
                if isinstance(value, Value):
                    places.setdefault(value, []).extend([out.name, *laid_out(uses, out)])
            yield from _running(body, tape, step.body, f"{prefix}{node.output.name}/", set(), places, number)
            yield prefix + node.output.name, tuple(range(first, number[0]))

    def of(value: Value) -> list[int]:
        """Those that write a value: by its own name, by that of its place, or by that of what it is laid out for."""
        for names in ([value.name, *stored.get(value, ())], laid_out(uses, value)):
            found = [i for name in names for i in writing.get(name, ())]
            if found:
                return found
        return []

    instructions = tape.instructions()
    for item in fuse(graph, late).items:
        if isinstance(item, GraphNode) and OPS[item.op].kind in ("view", "constant"):
            continue
        nodes = item.nodes if isinstance(item, Group) else [item]
        shared = [i for n in nodes for v in n.outputs for i in of(v)]
        rows = [i for i in shared if instructions[i].kernel.startswith("row_")]
        for node in nodes:
            own = [i for v in node.outputs for i in of(v)]
            found = sorted({*(rows if isinstance(item, Group) else ()), *own})
            if found and node.op != "scan":
                yield prefix + node.output.name, tuple(found)


def laid_out(uses: Mapping[Value, list[GraphNode]], value: Value) -> list[str]:
    """The names of what readers of a value make of it in whose memory it may be written at once."""
    readers = [user.output for user in uses.get(value, ()) if OPS[user.op].kind in LAID_OUT]
    return [name for out in readers for name in (out.name, *laid_out(uses, out))]


def with_kernels(picture: Picture, graph: Graph, tape: Tape) -> Picture:
    """`picture` of a graph with the kernels that run its nodes: exactly at the stage fused, whose graph is `graph`;
    before it those that run the same line of the same module in the same phase."""
    known = running(graph, tape)
    instructions = tape.instructions()
    if picture.stage != "fused":
        known = _by_line(picture, graph, known, instructions)
    nodes = []
    for node in picture.nodes:
        if node.id in known:
            found = known[node.id]
            named = dict.fromkeys(_said(instructions[i]) for i in found)
            node = replace(node, kernel="; ".join(named), instructions=found)
        elif picture.stage == "fused" and node.kind == "view":
            node = replace(node, kernel=FREE)
        elif picture.stage == "fused" and node.kind == "op" and OPS.get(node.op):
            node = replace(node, kernel=AGAIN)
        nodes.append(node)
    return picture.replace(nodes=tuple(nodes))


def _said(instruction: Instr) -> str:
    row = instruction.kernel.startswith("row_")
    return f"{instruction.kernel}: {instruction.label}" if row or not instruction.label else instruction.kernel


Key = tuple[str, int, str, bool]


def _by_line(
    picture: Picture, graph: Graph, known: Mapping[str, tuple[int, ...]], instructions: Sequence[Instr]
) -> dict[str, tuple[int, ...]]:
    lines: dict[Key, list[int]] = {}

    def note(nodes: Sequence[GraphNode], prefix: str) -> None:
        for node in nodes:
            if node.location is not None and prefix + node.output.name in known:
                where = node.location
                key = (where.file, where.line, where.scope, bool(where.of))
                lines.setdefault(key, []).extend(known[prefix + node.output.name])
            for region in node.regions:
                note(region.nodes, f"{prefix}{node.output.name}/")

    note(graph.nodes, "")
    found = {}
    for node in picture.nodes:
        every = sorted(set(lines.get((node.file, node.line, node.scope, bool(node.serves)), ())))
        if not every or node.kind not in ("op", "loop"):
            continue
        named = [i for i in every if node.op in instructions[i].label.split() or node.op == instructions[i].label]
        found[node.id] = tuple(named or every)
    return found
