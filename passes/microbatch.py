"""A step over slices of its batch, one after the other: forward, backward, and gradients that add up.

What belongs to the elements of the batch moves into the body of a loop (`scan`) over its slices, activations and all,
so that memory is needed for one slice only. What is a sum over the batch (the loss, the gradients) is carried from
slice to slice; what needs such a sum, as the optimizer does, follows after the loop. passes/slicing.py says for every
op what becomes of it, passes/cutting.py for a program. The result is that of the whole batch, up to the order in which
sums are taken.

A sum that the elements themselves need (how many targets count) is taken before the loop where it takes no more than
elementwise work on the inputs. Otherwise the elements of the batch depend on each other, as in batch norm, and the pass
refuses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..ir.build import Builder
from ..ir.dims import DimScope, Shape, dim_scope, divide
from ..ir.graph import Graph, Literal, Node, Operand, Value
from ..ir.op import OPS
from ..ir.ops.scan import parts_of
from ..ir.types import TensorType
from .cutting import Cutting, MicrobatchError
from .slicing import LATE, SAME, SUM, Along, Form, sliced_attrs, sliced_shape


def microbatch(graph: Graph, batch: Sequence[str], slices: int) -> Graph:
    """`graph` with the inputs named in `batch` cut along their first axis into so many equal slices.

    The graph is expanded (no composite ops). Raises MicrobatchError naming op and line where elements of the batch meet
    otherwise than in sums, ValueError where the batch does not divide into slices.
    """
    if slices < 1:
        raise ValueError(f"a batch is cut into at least one slice, not {slices}")
    for name in batch:
        shape = graph.input(name).type.shape
        if not shape or divide(shape[0], slices) is None:
            raise ValueError(f"{name}: {graph.input(name).type} does not divide into {slices} slices")
    if slices == 1 or not batch:
        return graph
    with dim_scope(DimScope(dict(graph.symbols), quiet=True)):
        forms: dict[Value, Form] = {v: Along(0) if v.name in batch else SAME for v in graph.inputs}
        plan = Cutting(graph, forms)
        return _rebuilt(plan, slices) if plan.cuts else graph


def _rebuilt(plan: Cutting, slices: int) -> Graph:
    """What is the same for every slice, the loop, and what follows."""
    graph = plan.graph
    builder = Builder(graph.name, scope=DimScope(dict(graph.symbols), list(graph.guards)))
    builder.constants = dict(graph.constants)
    whole = {v: builder.input(v.name, v.type, graph.roles[v.name]) for v in graph.inputs}
    builder._sites = graph.sites()
    loop = _Loop(plan, slices, builder, whole)

    def look_up(operand: Operand) -> Any:
        operand = plan.resolved(operand)
        return operand.value if isinstance(operand, Literal) else loop.outside(operand)

    with dim_scope(builder.scope):
        late, wanted = _after(plan)
        loop.record(wanted)
        for node in late:
            loop.emit_whole(node)
        builder.updates = {name: builder.operand(look_up(v)) for name, v in graph.updates}
        return builder.graph([(name, look_up(v)) for name, v in graph.outputs])


def _after(plan: Cutting) -> tuple[list[Node], list[Value]]:
    """The nodes that follow the loop, in order, and what is wanted of the loop."""
    live = {v for v in map(plan.resolved, plan.graph.results()) if isinstance(v, Value)}
    nodes = []
    for node in reversed(plan.graph.nodes):
        if plan.forms[node.outputs[0]] is LATE and live.intersection(node.outputs):
            nodes.append(node)
            live.update(plan.read(node))
    given = [v for n in plan.graph.nodes if n in plan.cuts for v in n.outputs]
    return nodes[::-1], [v for v in given if v in live and plan.forms[v] is not SAME]


class _Slices:
    """Nodes on slices, recorded in `body`. `inside` holds values by themselves and the axis along which they are cut,
    None for whole ones."""

    def __init__(self, plan: Cutting, slices: int) -> None:
        self.plan, self.slices = plan, slices
        self.body = Builder(f"{plan.graph.name}.slice", scope=DimScope(dict(plan.graph.symbols), quiet=True))
        self.body.constants = dict(plan.graph.constants)
        self.body._sites = plan.graph.sites()
        self.inside: dict[tuple[Value, int | None], Any] = {}

    def part(self, t: TensorType, place: Along | None) -> TensorType:
        """The type of a slice."""
        return t if place is None else TensorType(t.dtype, sliced_shape(t.shape, place, self.slices))

    def emit_needed(self, wanted: Sequence[Value]) -> None:
        """All nodes that are done slice by slice and lead to what is wanted."""
        live = set(wanted)
        nodes = []
        for node in reversed(self.plan.graph.nodes):
            if node in self.plan.cuts and live.intersection(node.outputs):
                nodes.append(node)
                live.update(self.plan.read(node))
        for node in reversed(nodes):
            self.emit(node)

    def emit(self, node: Node) -> None:
        """One node on slices."""
        pairs = list(zip(node.inputs, self.plan.cuts[node], strict=True))
        if node.op == "barrier":
            pairs = [(o, cut) for o, cut in pairs if cut is not None]
        args = [self.operand(o, cut) for o, cut in pairs]
        forms = [self.plan.forms[v] for v in node.outputs]
        regions = node.regions
        if node.op == "scan":
            regions = (_Round(self.plan.bodies[node], self.slices, node).graph(),)
        with self.body.at(node):
            new = self.body.emit(OPS[node.op], args, sliced_attrs(node, forms[0], self.slices), regions)
        for value, form, ref in zip(node.outputs, forms, new if isinstance(new, tuple) else (new,), strict=True):
            self.inside[value, form.axis if isinstance(form, Along) else None] = ref

    def operand(self, operand: Operand, cut: Along | None) -> Any:
        """An operand in the body, cut or whole."""
        operand = self.plan.resolved(operand)
        if isinstance(operand, Literal):
            return operand.value
        key = operand, None if cut is None else cut.axis
        if key not in self.inside:
            node = self.plan.producer.get(operand)
            again = node is not None and self.made_again(node, cut)
            self.inside[key] = self.made(node, cut) if again and node is not None else self.given(operand, cut)
        return self.inside[key]

    def made_again(self, node: Node, cut: Along | None) -> bool:
        return self.plan.made_again(node, cut)

    def made(self, node: Node, cut: Along | None) -> Any:
        """A node that is the same for every slice, computed for each."""
        attrs = sliced_attrs(node, cut if cut is not None else SAME, self.slices)
        with self.body.at(node):
            args = [self.operand(o, c) for o, c in zip(node.inputs, self.plan.cut_for(node, cut), strict=True)]
            if OPS[node.op].random and cut is not None:
                args.append(self.first(node.output.type))
            return self.body.emit(OPS[node.op], args, attrs, node.regions)

    def given(self, value: Value, cut: Along | None) -> Any:
        """A value that comes in from outside."""
        raise NotImplementedError

    def first(self, t: TensorType) -> Any:
        """The number of the first element of the present slice among those of an array of random numbers."""
        raise NotImplementedError

    def region(self, inputs: Sequence[Value], outputs: Sequence[tuple[str, Operand]]) -> Graph:
        used = {n.attrs["digest"] for n in self.body.nodes if n.op == "constant"}
        return Graph(
            self.body.name,
            tuple(inputs),
            {v.name: "input" for v in inputs},
            tuple(self.body.nodes),
            tuple(outputs),
            constants={k: a for k, a in self.body.constants.items() if k in used},
        )


class _Loop(_Slices):
    """The loop over the slices in the making, and the values of the whole batch around it (`whole`)."""

    def __init__(self, plan: Cutting, slices: int, around: Builder, whole: dict[Value, Any]) -> None:
        super().__init__(plan, slices)
        self.around, self.whole = around, whole
        self.consts: dict[Value, Any] = {}  # of the body: what it is given
        self.xs: dict[Value, Any] = {}
        self.sums: dict[Value, tuple[Value, Value] | None] = {}  # what is carried: before and after a round
        self.round: Any = None

    def record(self, wanted: Sequence[Value]) -> None:
        """Emits the loop, with all that it needs before it, and puts the values that are wanted of it into `whole`."""
        self.sums = dict.fromkeys(v for v in wanted if self.plan.forms[v] is SUM)
        self.emit_needed(wanted)
        sums, stacks = list(self.sums), [v for v in wanted if v not in self.sums]
        pairs = [pair for pair in self.sums.values() if pair is not None]
        carries = [carry for carry, _ in pairs]
        outputs: list[tuple[str, Operand]] = [(carry.name, new) for carry, new in pairs]
        outputs += [(f"y.{i}", self.inside[v, self.cut(v).axis]._value) for i, v in enumerate(stacks)]
        region = self.region((*self.consts, *carries, *self.xs), outputs)
        zeros = [self.zeros(v.type) for v in sums]
        attrs = {"consts": len(self.consts), "carries": len(sums), "length": self.slices, "reverse": False}
        args = [*self.consts.values(), *zeros, *self.xs.values()]
        found = self.around.emit(OPS["scan"], args, attrs, (region,))
        for v, ref in zip([*sums, *stacks], found, strict=True):
            self.whole[v] = ref if v in self.sums else self.joined(ref, v)

    def emit(self, node: Node) -> None:
        """As in any body; what is wanted as a sum is added up at once, so that it need not be kept."""
        super().emit(node)
        for value in node.outputs:
            if value in self.sums:
                carry = self.body.input(f"sum.{value.name}", value.type)
                with self.body.at(node):
                    self.sums[value] = carry._value, (carry + self.inside[value, None])._value

    def cut(self, value: Value) -> Along:
        form = self.plan.forms[value]
        assert isinstance(form, Along)
        return form

    def zeros(self, t: TensorType) -> Any:
        value = 0.0 if t.is_float else 0
        return self.around.emit(OPS["full"], (), {"shape": t.shape, "value": value, "dtype": t.dtype})

    def joined(self, stack: Any, value: Value) -> Any:
        """The slices of `value`, which are stacked, as one array."""
        place, stacked = self.cut(value), self.split(value.type, self.cut(value))
        axis = place.axis + 1  # (n, ..., outer, rest, ...) -> (..., outer, n, rest, ...)
        apart = OPS["reshape"](stack, shape=(stacked[axis], *stacked[:axis], *stacked[axis + 1 :]))
        order = (*range(1, axis + 1), 0, *range(axis + 1, len(stacked)))
        return OPS["reshape"](OPS["permute"](apart, axes=order), shape=value.type.shape)

    def split(self, t: TensorType, place: Along) -> Shape:
        """The shape of a whole value with the axis of the batch taken apart: outer, slices, and the rest of it."""
        rest = divide(t.shape[place.axis], place.outer * self.slices)
        assert rest is not None
        return (*t.shape[: place.axis], place.outer, self.slices, rest, *t.shape[place.axis + 1 :])

    # what comes in --------------------------------------------------------------------------------------------------
    def given(self, value: Value, cut: Along | None) -> Any:
        """A value that the loop does not give: whole, or slice by slice."""
        ref = self.outside(value)
        if cut is None:
            return self.take(self.consts, value.name, ref, value.type)
        part, stacked = self.part(value.type, cut), OPS["reshape"](ref, shape=self.split(value.type, cut))
        order = (cut.axis + 1, *(a for a in range(stacked.ndim) if a != cut.axis + 1))
        slices = OPS["reshape"](OPS["permute"](stacked, axes=order), shape=(self.slices, *part.shape))
        return self.take(self.xs, value.name, slices, part)

    def take(self, table: dict[Value, Any], name: str, ref: Any, t: TensorType) -> Any:
        inner = self.body.input(f"{'x' if table is self.xs else 'c'}.{len(table)}.{name}", t)
        table[inner._value] = ref
        return inner

    def first(self, t: TensorType) -> Any:
        if self.round is None:
            numbers = self.around.emit(OPS["iota"], (), {"shape": (self.slices,), "axis": 0, "dtype": "i64"})
            self.round = self.take(self.xs, "slice", numbers, TensorType("i64", ()))
        size = divide(t.size, self.slices)
        assert size is not None
        return self.round * size

    # around it ------------------------------------------------------------------------------------------------------
    def outside(self, value: Value) -> Any:
        """A value of the whole batch before the loop, with what it takes to compute it."""
        todo, order, seen = [value], [], set()
        while todo:
            v = todo.pop()
            node = self.plan.producer.get(v)
            if v in self.whole or node in seen:
                continue
            assert node is not None
            seen.add(node)
            order.append(node)
            todo += self.plan.read(node)
        for node in sorted(order, key=self.plan.order.__getitem__):
            self.emit_whole(node)
        return self.whole[value]

    def emit_whole(self, node: Node) -> None:
        """A node on the whole batch."""
        if all(v in self.whole for v in node.outputs):
            return
        inputs = map(self.plan.resolved, node.inputs)
        args = [o.value if isinstance(o, Literal) else self.outside(o) for o in inputs]
        with self.around.at(node):
            new = self.around.emit(OPS[node.op], args, node.attrs, node.regions)
        made = zip(node.outputs, new if isinstance(new, tuple) else (new,), strict=True)
        self.whole |= {v: ref for v, ref in made if v not in self.whole}  # some may have come out of the loop


class _Round(_Slices):
    """The body of a loop over time, on slices: its inputs are cut where cutting.py says, and so is all that follows."""

    def __init__(self, plan: Cutting, slices: int, node: Node) -> None:
        super().__init__(plan, slices)
        self.node = node
        self.body.name = plan.graph.name
        for value in plan.graph.inputs:
            form = plan.forms[value]
            place = form if isinstance(form, Along) else None
            ref = self.body.input(value.name, self.part(value.type, place))
            self.inside[value, None if place is None else place.axis] = ref

    def graph(self) -> Graph:
        forms = self.result_forms()
        self.emit_needed([v for v in map(self.plan.resolved, forms) if isinstance(v, Value)])
        outputs = []
        for name, operand in self.plan.graph.outputs:
            form = forms[operand]
            ref = self.operand(operand, form if isinstance(form, Along) else None)
            outputs.append((name, self.body.operand(ref)))
        return self.region(self.body.inputs, outputs)

    def result_forms(self) -> Mapping[Operand, Form]:
        """Where each result is cut: carries as they come in, others as they are."""
        _, inner = parts_of(self.node)
        forms = {v: self.plan.form_of(v) for _, v in self.plan.graph.outputs}
        return {**forms, **{new: self.plan.forms[c] for c, new in zip(inner.carries, inner.new, strict=True)}}

    def made_again(self, node: Node, cut: Along | None) -> bool:
        return cut is None or self.plan.made_again(node, cut)  # what is the same for every slice stays in its round


__all__ = ["MicrobatchError", "microbatch"]
