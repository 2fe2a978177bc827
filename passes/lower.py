"""Graph -> Tape: gives every value that must exist in memory a buffer, and every group and node its instructions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from ..ir.dims import DimLike, DimScope, Shape, dim_scope, identical, product
from ..ir.graph import Graph, Literal, Node, Number, Value
from ..ir.graph import Operand as GraphOperand
from ..ir.op import OPS
from ..ir.tape import (
    ERROR_WORDS,
    NUMBER,
    Buffer,
    Instr,
    Operand,
    RowProgram,
    Step,
    StopIf,
    Tape,
    View,
    contiguous,
)
from ..ir.types import TensorType, is_one
from .fuse import Group, Partition, fuse, reduction_kind
from .indexing import CHECKING
from .layout import is_contiguous, reshape_strides, source_strides, strided_view
from .nodes import NODES
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


class Lowering:
    """A tape in the making: `views` says where values lie, `steps` what has been decided."""

    def __init__(self, graph: Graph, checks: Sequence[str]) -> None:
        self.graph = graph
        self.checks = checks
        self.constants = dict(graph.constants)
        self.root: Lowering = self
        self.loops = 0  # so far, also inside of one another
        self.producer = graph.producers()
        self.uses = graph.uses()
        self.stopped = not self.may_stop()  # whether nothing can go wrong any more: what is stored may be written
        self.late = late_nodes(graph, not self.stopped)
        self.partition: Partition = fuse(graph, self.late)
        self.triangles = triangles(graph)
        self.buffers: list[Buffer] = []
        self.steps: list[Step] = []
        self.rows: dict[str, RowProgram] = {}
        self.views: dict[Value, View] = {}
        self.store: dict[str, View] = {}  # updated input -> where it lies
        self.error = -1
        self.outputs = {v for _, v in graph.outputs if isinstance(v, Value)}
        self.update_of = {v: name for name, v in graph.updates if isinstance(v, Value)}
        self.group_of = {n: g for g in self.partition.items if isinstance(g, Group) for n in g.nodes}
        self.joined: set[tuple[Node, int]] = set()  # operands of concats that are in their place already

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

    # buffers --------------------------------------------------------------------------------------------------------
    def buffer(self, name: str, segment: str, dtype: str, size: DimLike) -> int:
        self.buffers.append(Buffer(name, segment, dtype, size))
        return len(self.buffers) - 1

    def dense(self, value: Value, segment: str = "arena") -> View:
        index = self.buffer(value.name, segment, value.type.dtype, value.type.size)
        return View(index, 0, contiguous(value.type.shape))

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

    # values ---------------------------------------------------------------------------------------------------------
    def view(self, value: Value) -> View:
        """Where `value` lies; views are worked out, and copied where strides cannot express them."""
        if value in self.views:
            return self.views[value]
        node = self.producer[value]
        if node.op == "constant":
            self.views[value] = View(
                self.buffer(node.attrs["digest"], "const", value.type.dtype, value.type.size),
                0,
                contiguous(value.type.shape),
            )
        elif OPS[node.op].kind == "view" and not (node in self.group_of and node.op != "broadcast_to"):
            source = node.inputs[0]
            if isinstance(source, Literal):
                raise AssertionError(f"a view of a number: {node}")
            base = self.view(source)
            found = strided_view(node, base)
            if found is None:
                base = self.copied(source)
                found = strided_view(node, base)
                assert found is not None, node
            self.views[value] = found
        else:
            self.materialise(value)
        return self.views[value]

    def materialise(self, value: Value) -> None:
        """An inline value (a mask, a scalar) that someone needs in memory after all: a group of its own."""
        node = self.producer[value]
        group = Group([node], value.type.shape, None)
        view = self.dense(value)
        self.emit_rows(group, [(value, view)], [], self.partition.inline - {node})
        self.views[value] = view

    def contiguous_view(self, value: Value) -> View:
        """Where `value` lies row by row: a copy, unless it does already."""
        view, shape = self.view(value), value.type.shape
        return view if is_contiguous(view.strides, shape) else self.copied(value)

    def copied(self, value: Value) -> View:
        """A dense copy of `value`, made once."""
        source = self.view(value)
        target = View(
            self.buffer(f"{value.name}.copy", "arena", value.type.dtype, value.type.size),
            0,
            contiguous(value.type.shape),
        )
        self.copy(source, target, value.type.shape, value.type.dtype)
        return target

    def repeated(self, value: Value, shape: Shape) -> View:
        """A dense copy of `value` broadcast to `shape`."""
        out = Value(f"{value.name}.copy", TensorType(value.type.dtype, shape))
        source = strided_view(Node("broadcast_to", (value,), {"shape": shape}, (out,)), self.view(value))
        assert source is not None
        target = self.dense(out)
        self.copy(source, target, shape, value.type.dtype)
        return target

    def copy(self, source: View, target: View, shape: Shape, dtype: str) -> None:
        value = Value("copy", TensorType(dtype, shape))
        group = Group([], shape, None)
        self.emit_rows(group, [(value, target)], [], set(), {value: source}, label="copy")

    def put(self, value: Value, target: View) -> None:
        """Writes a value to another place; one that is not in memory is made there."""
        node = self.producer.get(value)
        if value not in self.views and node in self.partition.inline:
            self.emit_rows(Group([node], value.type.shape, None), [(value, target)], [], self.partition.inline - {node})
        else:
            self.copy(self.view(value), target, value.type.shape, value.type.dtype)

    def fill(self, target: View, shape: Shape, dtype: str, value: Number = 0) -> None:
        out = Value("filled", TensorType(dtype, shape))
        node = Node("full", (), {"shape": shape, "value": value, "dtype": dtype}, (out,))
        group = Group([node], shape, None)
        self.emit_rows(group, [(out, target)], [], set(), producer={out: node}, label="fill")

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

    def in_place(self, old: Value, new: Value, group: Group) -> bool:
        """Nothing after this group reads the old value, and the group reads it only where it writes it."""
        if not self.in_store(old, self.update_of[new]) or any(OPS[n.op].kind == "reduce" for n in group.nodes):
            return False
        if not self.stopped:  # it comes before the check that may refuse the update
            return False
        same = old.type.shape == new.type.shape
        return all(user in group.nodes and value is old and same for value, user in self.readers_left(old))

    def in_store(self, old: Value, name: str) -> bool:
        """Whether an updated input still lies where its new value has to go."""
        return name in self.store and self.views[old].buffer == self.store[name].buffer

    def readers_left(self, old: Value) -> Iterator[tuple[Value, Node]]:
        """Who reads a value, itself or through a view, from the present item on."""
        done = {id(i) for i in self.partition.items[: self.position]}
        stack: list[Value] = [old]
        while stack:
            value = stack.pop()
            for user in self.uses.get(value, ()):
                if user in self.partition.inline or (OPS[user.op].kind == "view" and user not in self.group_of):
                    if any(v in self.outputs or v in self.update_of for v in user.outputs):
                        yield value, user  # a result is worked out at the end, from the old value
                    stack += user.outputs
                elif id(self.group_of.get(user, user)) not in done:
                    yield value, user

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

    def operand(self, operand: GraphOperand) -> Value:
        if isinstance(operand, Literal):
            raise TypeError(f"a number where an array is needed: {operand.value}")
        return operand

    def fresh(self, node: Node) -> View:
        """Memory for a node's result; the stored array itself, where it is an update and nobody reads the old value."""
        value = node.output
        name = self.update_of.get(value, "")
        free = name and self.stopped and self.in_store(old := self.graph.input(name), name)
        if free and not any(self.readers_left(old)):
            self.views[value] = self.store.pop(name)
        else:
            self.views[value] = self.placed(value)
        return self.views[value]

    def placed(self, value: Value) -> View:
        """Memory for a new value, laid out for its reader: where that is one reshape or permute after the other, so
        that these are views; where it is a concat, weave or unslice, in its place there. Otherwise row-major."""
        users = self.uses.get(value, [])
        if value in self.outputs or value in self.update_of:
            return self.dense(value)
        for user in users:
            if user.op == "concat":
                return self.part_of(user, user.inputs.index(value))
        if len(users) != 1:
            return self.dense(value)
        user = users[0]
        # products and copied rows need a unit stride, which a loop does without
        fits = user.op in ("weave", "unslice") and self.producer.get(value) in self.group_of
        if fits and sum(v is value for v in user.inputs) == 1:
            return self.part_of(user, user.inputs.index(value))
        if user.op in ("permute", "reshape") and user not in self.group_of and user not in self.partition.inline:
            target = self.placed(user.output)
            strides = source_strides(user, target.strides)
            # loops write along the last axis; a product may as well be taken transposed (weight gradients are)
            product_here = value in self.producer and self.producer[value].op == "matmul"
            if strides is not None and any(identical(s, 1) for s in strides[-2 if product_here else -1 :]):
                return View(target.buffer, target.offset, strides)
        return self.dense(value)

    def also_joined(self, value: Value, view: View) -> list[tuple[Value, View]]:
        """The other places of a value that stands in several concats (gradients of gates do): who makes it writes it
        there as well."""
        found = []
        for user in self.uses.get(value, ()):
            for index, operand in enumerate(user.inputs if user.op == "concat" else ()):
                if operand is value and (place := self.part_of(user, index)) != view:
                    found.append((value, place))
                    self.joined.add((user, index))
        return found

    def part_of(self, node: Node, index: int) -> View:
        """The place of an operand of a concat, weave or unslice in the result's memory, where the zeros that an unslice
        has around it are already."""
        if node.output not in self.views:
            self.views[node.output] = self.dense(node.output)
            if node.op == "unslice":
                out = node.output
                self.fill(self.views[out], out.type.shape, out.type.dtype, node.attrs.get("value", 0))
        target, attrs = self.views[node.output], node.attrs
        at, strides = target.offset, target.strides
        if node.op == "concat":
            for operand in node.inputs[:index]:
                at = at + self.operand(operand).type.shape[attrs["axis"]] * strides[attrs["axis"]]
            return View(target.buffer, at, strides)
        start = attrs["start"] if node.op == "unslice" else map(int, np.unravel_index(index, attrs["step"]))
        for first, stride in zip(start, strides, strict=True):
            at = at + first * stride
        return View(target.buffer, at, tuple(s * b for s, b in zip(strides, attrs["step"], strict=True)))

    def viewed(self, value: Value, shape: Shape) -> View:
        """`value` as an array of `shape` (of as many elements) whose last axis has stride 1; a copy where need be."""
        view = self.view(value)
        strides = _dense_rows(value.type.shape, view.strides, shape)
        if strides is None:
            view, strides = self.copied(value), contiguous(shape)
        return View(view.buffer, view.offset, strides)

    def fresh_as(self, value: Value, shape: Shape) -> View:
        """Memory for a node's result, seen as an array of `shape` whose last axis has stride 1."""
        target = self.placed(value)
        strides = _dense_rows(value.type.shape, target.strides, shape)
        if strides is None:
            target, strides = self.dense(value), contiguous(shape)
        self.views[value] = target
        return View(target.buffer, target.offset, strides)

    def zeroed_as(self, value: Value, shape: Shape) -> View:
        """The same, filled with zeros."""
        view = self.fresh_as(value, shape)
        self.fill(self.views[value], value.type.shape, value.type.dtype)
        return view

    def taken_over(self, node: Node, old: Value) -> View:
        """Dense memory for a node's result that holds `old` already: that of `old` itself where nobody else needs it (a
        stored array whose update this is, a temporary), else a copy."""
        out = node.output
        name = self.update_of.get(out)
        own = name is not None and self.graph.input(name) is old and sum(o is old for o in node.inputs) == 1
        if name is not None and own and self.in_place(old, out, Group([node], out.type.shape, None)):
            self.views[out] = self.store.pop(name)
            return self.views[out]
        source = self.producer.get(old)
        single = self.uses[old] == [node] and old not in self.outputs and old not in self.update_of
        if single and source is not None and OPS[source.op].kind not in ("view", "constant"):
            view = self.view(old)
            whole = self.buffers[view.buffer].segment == "arena" and identical(
                self.buffers[view.buffer].size, old.type.size
            )
            if whole and all(map(identical, view.strides, contiguous(old.type.shape))):
                self.views[out] = view
                return view
        self.views[out] = self.dense(out)
        if source is not None and source.op == "full":
            self.fill(self.views[out], out.type.shape, out.type.dtype, source.attrs["value"])
        else:
            self.copy(self.view(old), self.views[out], out.type.shape, out.type.dtype)
        return self.views[out]

    def origin(self, value: Value) -> tuple[str, str]:
        """(the name that the user knows `value` by, or "", and what made it)."""
        node = self.producer.get(value)
        return (value.name, f"input {value.name}") if node is None else ("", f"the result of {node.op}")

    def index_view(self, indices: Value) -> View:
        """Indices as dense i64."""
        view = self.view(indices)
        if indices.type.dtype == "i64" and is_contiguous(view.strides, indices.type.shape):
            return view
        out = Value(f"{indices.name}.i64", TensorType("i64", indices.type.shape))
        cast = Node("cast", (indices,), {"dtype": "i64"}, (out,))
        target = self.dense(out)
        group = Group([cast], indices.type.shape, None)
        self.emit_rows(group, [(out, target)], [], set(), {indices: view}, {out: cast}, label="indices")
        return target

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


def _dense_rows(old: Shape, strides: Sequence[DimLike], new: Shape) -> tuple[DimLike, ...] | None:
    """Strides of `new` over the memory of `old` if the last one is 1, else None."""
    found = reshape_strides(old, strides, new)
    return found if found is not None and (identical(found[-1], 1) or is_one(new[-1])) else None
