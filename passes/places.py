"""Where the values of a tape in the making lie: buffers, views of them, copies, and memory laid out for its reader."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

import numpy as np

from ..ir.dims import DimLike, Shape, identical
from ..ir.graph import Graph, Literal, Node, Number, Value
from ..ir.graph import Operand as GraphOperand
from ..ir.op import OPS
from ..ir.tape import Buffer, Step, View, contiguous
from ..ir.types import TensorType, is_one
from .fuse import Group, Partition
from .layout import is_contiguous, reshape_strides, source_strides, strided_view


class Places(ABC):
    """`views` says where values lie; `partition` in which order, and by which groups, they come to be.

    What is copied or filled becomes a step at once, by `emit_rows`.
    """

    def __init__(self, graph: Graph, partition: Partition, late: set[Node]) -> None:
        self.graph = graph
        self.partition, self.late = partition, late
        self.position = 0  # of the present item
        self.producer = graph.producers()
        self.uses = graph.uses()
        self.buffers: list[Buffer] = []
        self.steps: list[Step] = []
        self.views: dict[Value, View] = {}
        self.store: dict[str, View] = {}  # updated input -> where it lies
        self.outputs = {v for _, v in graph.outputs if isinstance(v, Value)}
        self.update_of = {v: name for name, v in graph.updates if isinstance(v, Value)}
        self.group_of = {n: g for g in partition.items if isinstance(g, Group) for n in g.nodes}
        self.joined: set[tuple[Node, int]] = set()  # operands of concats that are in their place already
        self.stopped = True  # whether nothing can go wrong any more: what is stored may be written

    @abstractmethod
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
        """The loop nest of a group, which writes `stores` and `sums`; `views` and `producer` in place of those of the
        graph."""

    # buffers ----------------------------------------------------------------------------------------------------------
    def buffer(self, name: str, segment: str, dtype: str, size: DimLike) -> int:
        self.buffers.append(Buffer(name, segment, dtype, size))
        return len(self.buffers) - 1

    def dense(self, value: Value, segment: str = "arena") -> View:
        index = self.buffer(value.name, segment, value.type.dtype, value.type.size)
        return View(index, 0, contiguous(value.type.shape))

    # where values lie -------------------------------------------------------------------------------------------------
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

    def operand(self, operand: GraphOperand) -> Value:
        if isinstance(operand, Literal):
            raise TypeError(f"a number where an array is needed: {operand.value}")
        return operand

    # copies -----------------------------------------------------------------------------------------------------------
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

    # memory for new values --------------------------------------------------------------------------------------------
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

    # updates in place -------------------------------------------------------------------------------------------------
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


def _dense_rows(old: Shape, strides: Sequence[DimLike], new: Shape) -> tuple[DimLike, ...] | None:
    """Strides of `new` over the memory of `old` if the last one is 1, else None."""
    found = reshape_strides(old, strides, new)
    return found if found is not None and (identical(found[-1], 1) or is_one(new[-1])) else None
