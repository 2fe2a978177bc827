"""Graph -> Tape: gives every group and node its instructions; places.py gives values their memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ..ir.dims import DimLike, DimScope, dim_scope, identical, product
from ..ir.graph import Graph, Node, Value
from ..ir.op import OPS
from ..ir.tape import (
    ERROR_WORDS,
    NUMBER,
    Instr,
    Operand,
    RowProgram,
    Step,
    StopIf,
    Tape,
    View,
)
from .fuse import Group, fuse, reduction_kind
from .indexing import CHECKING
from .layout import is_contiguous
from .nodes import NODES
from .places import Places
from .rewrite import numbers_as_arrays
from .rows import Place, Rows, build_rows, cut_at_diagonal
from .triangle import triangles


def lower(graph: Graph, checks: Sequence[str] = ()) -> Tape:
    """The tape of an expanded graph. `checks` names scalar outputs that must be finite before anything is updated; an
    index out of range stops it there, too."""
    with dim_scope(DimScope(dict(graph.symbols), quiet=True)):
        return Lowering(numbers_as_arrays(graph), checks).run()


def late_nodes(graph: Graph, guarded: bool) -> set[Node]:
    """The nodes that only updates of parameters and states need: in a guarded program they come after all that may
    fail. New values of buffers are computed early, for they need activations, and are written late; callbacks may fail.
    """
    if not guarded:
        return set()
    live = {v for name, v in graph.outputs if isinstance(v, Value)}
    live |= {v for name, v in graph.updates if isinstance(v, Value) and graph.roles[name] == "buffer"}
    live |= {v for n in graph.nodes if n.op == "callback" for v in n.outputs}
    early = set()
    for node in reversed(graph.nodes):
        if live.intersection(node.outputs):
            early.add(node)
            live.update(node.values())
    return set(graph.nodes) - early


class Lowering(Places):
    """A tape in the making: `steps` says what has been decided."""

    def __init__(self, graph: Graph, checks: Sequence[str]) -> None:
        self.graph = graph
        self.checks = checks
        stopped = not self.may_stop()
        late = late_nodes(graph, not stopped)
        super().__init__(graph, fuse(graph, late), late)
        self.stopped = stopped
        self.constants = dict(graph.constants)
        self.root: Lowering = self
        self.loops = 0  # so far, also inside of one another
        self.triangles = triangles(graph)
        self.rows: dict[str, RowProgram] = {}
        self.error = -1

    def may_stop(self) -> bool:
        """Whether something is updated that a check, an index out of range or a callback must be able to keep."""
        ops = {n.op for n in self.graph.walk()}
        return bool(self.checks) or "callback" in ops or bool(self.graph.updates and ops & CHECKING)

    def safe_from(self) -> int:
        """The position from which on no item can go wrong. What is checked at the end of forward comes before what is
        late, wherever that is."""
        items = self.partition.items
        if self.checks:
            return len(items)
        risky = CHECKING | {"callback"}
        found = (i for i, item in enumerate(items) if isinstance(item, Node) and not risky.isdisjoint(_ops(item)))
        return max(found, default=-1) + 1

    def error_word(self) -> View:
        root = self.root
        if root.error < 0:
            root.error = root.buffer("error", "error", "i64", ERROR_WORDS)
        return View(root.error, 0, (1,))

    # the walk -------------------------------------------------------------------------------------------------------
    def run(self) -> Tape:
        graph = self.graph
        roles = {"input": "input", "param": "param", "buffer": "buffer", "state": "state", "scalar": "scalar"}
        for value in graph.inputs:
            self.views[value] = self.dense(value, roles[graph.roles[value.name]])
        updated = {name for name, _ in graph.updates}
        self.store = {n: self.views[graph.input(n)] for n in updated}
        self.save_old_values(updated)
        safe = self.safe_from()
        if not self.stopped:
            self.error_word()
        for position, item in enumerate(self.partition.items):
            late = item.late if isinstance(item, Group) else item in self.late
            if not self.stopped and (late or position >= safe):
                self.check()
            self.item(position, item)
        for value in self.outputs:
            self.view(value)
        if not self.stopped:
            self.check()
        self.finish_updates()
        outputs = tuple((name, self.view(self.operand(v)), v.type) for name, v in graph.outputs)
        return Tape(
            graph.name,
            tuple(self.buffers),
            tuple(self.steps),
            self.rows,
            tuple((v.name, self.views[v].buffer, v.type) for v in graph.inputs),
            outputs,
            graph.symbols,
            graph.guards,
            self.constants,
        )

    def item(self, position: int, item: Group | Node) -> None:
        self.position = position
        if isinstance(item, Group):
            self.group(item)
        else:
            self.node(item)

    def check(self) -> None:
        for name in self.checks:
            value = self.graph.output(name)
            if isinstance(value, Value):
                view = self.view(value)
                operands = (
                    Operand(View(view.buffer, view.offset, (0,)), "r"),
                    Operand(View(self.error_word().buffer, 0, (0,)), "rw"),
                )
                kernel = f"check_{value.type.dtype}"
                self.steps.append(Instr(kernel, (1,), operands, (), (NUMBER,), label=f"finite {name}"))
        self.steps.append(StopIf())
        self.stopped = True

    def save_old_values(self, updated: set[str]) -> None:
        """An input that is updated and also returned, or that becomes another's new value, is copied first."""
        for value in self.graph.inputs:
            if value.name not in updated:
                continue
            returned = value in self.outputs or value in self.update_of
            if returned or any(OPS[n.op].kind == "view" and self.escapes(n) for n in self.uses.get(value, ())):
                original = self.views[value]
                self.views[value] = self.dense(value)
                self.copy(original, self.views[value], value.type.shape, value.type.dtype)

    def escapes(self, node: Node) -> bool:
        """Whether a view of an updated input is itself a result."""
        out = node.output
        if out in self.outputs or out in self.update_of:
            return True
        return any(OPS[u.op].kind == "view" and self.escapes(u) for u in self.uses.get(out, ()))

    # groups ---------------------------------------------------------------------------------------------------------
    def group(self, group: Group) -> None:
        members = set(group.nodes)
        stores: list[tuple[Value, View]] = []
        sums: list[tuple[Node, View]] = []
        copies: list[tuple[Value, View]] = []
        for node in group.nodes:
            value = node.output
            kind = reduction_kind(node, group.space, group.inner) if OPS[node.op].kind == "reduce" else ""
            if kind in ("side", "total"):
                sums.append((node, self.part(value)))
            elif self.wanted(value, members):
                stores.append((value, self.target(value, group)))
                copies += self.also_joined(value, stores[-1][1])
        if stores or sums:
            self.emit_rows(group, stores + copies, sums, self.partition.inline)
        for value, view in stores:
            self.views[value] = view
        for node, part in sums:
            self.combine(node, part)

    def part(self, value: Value) -> View:
        """Where each thread has its own sum for `value`; `combine` adds them up."""
        return View(self.buffer(f"{value.name}.part", "partial", value.type.dtype, value.type.size), 0, ())

    def combine(self, node: Node, part: View) -> None:
        """Adds up what the threads have summed of a node's result."""
        value = node.output
        view = self.dense(value)
        operands = (Operand(View(part.buffer, 0, (1,)), "r"), Operand(View(view.buffer, view.offset, (1,)), "w"))
        kernel, label = f"combine_{value.type.dtype}", f"combine {value.name}"
        self.steps.append(Instr(kernel, (value.type.size,), operands, (0,), (), node.location, label))
        self.views[value] = view

    def wanted(self, value: Value, members: set[Node]) -> bool:
        if value in self.outputs or value in self.update_of:
            return True
        for user in self.uses.get(value, ()):
            if user in self.partition.inline:
                if any(self.wanted_through(user, members)):
                    return True
            elif user not in members:
                return True
        return False

    def wanted_through(self, inline: Node, members: set[Node]) -> Iterable[bool]:
        for value in inline.outputs:
            yield self.wanted(value, members)

    def target(self, value: Value, group: Group) -> View:
        """A new buffer; or the stored array itself, where an update can be written in place."""
        name = self.update_of.get(value)
        if name is not None:
            old = self.graph.input(name)
            if self.in_place(old, value, group):
                return self.store.pop(name)
        return self.placed(value)

    def finish_updates(self) -> None:
        """Updates that could not be written in place are copied into the store at the end."""
        for name, operand in self.graph.updates:
            if name not in self.store:
                continue
            old = self.graph.input(name)
            self.copy(self.view(self.operand(operand)), self.store[name], old.type.shape, old.type.dtype)

    def emit_rows(
        self,
        group: Group,
        stores: list[tuple[Value, View]],
        sums: list[tuple[Node, View]],
        inline: set[Node],
        views: dict[Value, View] | None = None,
        producer: dict[Value, Node] | None = None,
        label: str = "",
    ) -> None:
        table = producer if producer is not None else ({} if views is not None else self.producer)
        look_up = (lambda v: views[v]) if views is not None else self.view
        rows: Rows = build_rows(group, inline, table, look_up, stores, sums, self.triangles.regions)
        self.rows[rows.program.name] = rows.program
        operands = [self.row_operand(place, rows) for place in rows.places]
        # a row's own reductions and sums over the outer axes need whole rows; a sum over everything does not
        whole = not rows.can_split_inner or any(reduction_kind(n, group.space, group.inner) != "total" for n, _ in sums)
        splits = [*range(rows.program.outer if whole else len(rows.sizes))]
        if rows.lanes:
            splits.append(len(rows.sizes) - 1)
        last = group.nodes[-1] if group.nodes else None
        names = label or " ".join(dict.fromkeys(n.op for n in group.nodes))
        self.steps.append(
            Instr(
                rows.program.name,
                rows.sizes,
                tuple(operands),
                tuple(splits),
                tuple(rows.dims),
                last.location if last else None,
                names,
            )
        )

    def row_operand(self, place: Place, rows: Rows) -> Operand:
        if place.scratch:
            size: DimLike = product(n for n, s in zip(rows.sizes, place.strides, strict=True) if not identical(s, 0))
            buffer = self.buffer("scratch", "partial", place.dtype, size)
            return Operand(View(buffer, 0, place.strides), "rw")
        if place.view is None:
            return Operand(View(-1, 0, place.strides), "r")  # an index: no memory
        return Operand(View(place.view.buffer, place.view.offset, place.strides), place.mode)

    # single nodes ---------------------------------------------------------------------------------------------------
    def node(self, node: Node) -> None:
        if OPS[node.op].kind in ("view", "constant"):
            return  # worked out when someone reads it
        NODES[node.op](self, node)

    def cut_by_readers(self, value: Value) -> bool:
        """Whether every reader stops at the diagonal, so that what lies above it may be anything."""
        regions = self.triangles.regions
        readers = [self.group_of.get(user) for user in self.uses.get(value, ())]
        return all(group is not None and cut_at_diagonal(group, regions) for group in readers)

    def origin(self, value: Value) -> tuple[str, str]:
        """(the name that the user knows `value` by, or "", and what made it)."""
        node = self.producer.get(value)
        return (value.name, f"input {value.name}") if node is None else ("", f"the result of {node.op}")

    # loops ----------------------------------------------------------------------------------------------------------
    def new_loop(self) -> str:
        """The symbol for the number of the round."""
        self.root.loops += 1
        return f"round{self.root.loops}"

    def body(self, graph: Graph, views: Mapping[Value, View], places: Sequence[tuple[Value, View]]) -> tuple[Step, ...]:
        """The steps of a loop's body: `views` says where its inputs lie, `places` where values have to be put; its
        updates are the carries that lie in one buffer."""
        results = tuple((str(i), v) for i, v in enumerate(dict(places)))
        return _Body(self, graph.replace(outputs=results), views, places).steps_of_a_round()


class _Body(Lowering):
    """A loop's body in the making, over the buffers of the tape around it."""

    def __init__(
        self, around: Lowering, graph: Graph, views: Mapping[Value, View], places: Sequence[tuple[Value, View]]
    ) -> None:
        super().__init__(graph, ())
        self.root, self.buffers, self.rows = around.root, around.buffers, around.rows
        self.root.constants.update(graph.constants)
        self.views.update(views)
        self.places = list(places)
        self.place_of: dict[Value, View] = {}
        for value, place in places:
            self.place_of.setdefault(value, place)

    def may_stop(self) -> bool:
        return False  # its updates are the carries of the loop

    def steps_of_a_round(self) -> tuple[Step, ...]:
        updated = {name for name, _ in self.graph.updates}
        self.store = {n: self.views[self.graph.input(n)] for n in updated}
        self.save_old_values(updated)
        for position, item in enumerate(self.partition.items):
            self.item(position, item)
        for value, place in self.places:
            if self.views.get(value) != place:
                self.put(value, place)
        self.finish_updates()
        return tuple(self.steps)

    def dense(self, value: Value, segment: str = "arena") -> View:
        place = self.place_of.get(value)
        if place is not None and value in self.producer and is_contiguous(place.strides, value.type.shape):
            return place
        return super().dense(value, segment)

    def placed(self, value: Value) -> View:
        place = self.place_of.get(value)
        if place is None or value not in self.producer:
            return super().placed(value)
        product_here = self.producer[value].op == "matmul"  # any other kernel takes any strides
        fits = not product_here or any(identical(s, 1) for s in place.strides[-2:])
        return place if fits else super().dense(value)


def _ops(node: Node) -> set[str]:
    """The ops of a node and of all that stands in its regions."""
    return {node.op, *(n.op for region in node.regions for n in region.walk())}
