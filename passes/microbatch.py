"""A step over slices of its batch, one after the other: forward, backward, and gradients that add up.

What belongs to the elements of the batch moves into the body of a loop (`scan`) over its slices, activations and all,
so that memory is needed for one slice only. What is a sum over the batch (the loss, the gradients) is carried from
slice to slice; what needs such a sum, as the optimizer does, follows after the loop. passes/slicing.py says for every
op what becomes of it. The result is that of the whole batch, up to the order in which sums are taken.

A sum that the elements themselves need (how many targets count) is taken before the loop where it takes no more than
elementwise work on the inputs. Otherwise the elements of the batch depend on each other, as in batch norm, and the pass
refuses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..ir.build import Builder, at_line
from ..ir.dims import DimScope, dim_scope, divide, identical
from ..ir.graph import Graph, Literal, Node, Operand, Value
from ..ir.op import OPS
from ..ir.types import TensorType
from .slicing import LATE, SAME, SUM, Along, Cuts, Form, Mixed, flow, is_linear, sliced_attrs, sliced_shape

# Ops that may be done for the whole batch before the loop, beside elementwise ones, views and reductions.
LIGHT = ("bounded", "wrapped", "take", "concat", "unslice", "weave")


class MicrobatchError(ValueError):
    """A program whose batch cannot be cut into slices: its elements depend on each other."""


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
        return _Slicing(graph, batch, slices).run()


class _Slicing:
    """What is in the loop. `forms` of all values; `cuts` of the operands of every node in the loop; `early` are values
    that the elements of the batch need of the whole batch: they are computed before the loop, from the inputs."""

    def __init__(self, graph: Graph, batch: Sequence[str], slices: int) -> None:
        self.graph, self.slices = graph, slices
        self.producer = graph.producers()
        self.order = {node: i for i, node in enumerate(graph.nodes)}
        self.early: set[Value] = set()
        while True:
            known = len(self.early)
            self.forms: dict[Value, Form] = {v: Along(0) if v.name in batch else SAME for v in graph.inputs}
            self.cuts: dict[Node, Cuts] = {}
            self.same_as: dict[Value, Operand] = {}  # what a barrier need not hold back here
            for node in graph.nodes:
                self.forms.update(dict.fromkeys(node.outputs, self.form(node)))
            if len(self.early) == known:  # else earlier nodes may have read one of them as a sum
                break

    # forms ----------------------------------------------------------------------------------------------------------
    def form_of(self, operand: Operand) -> Form:
        return self.forms[operand] if isinstance(operand, Value) else SAME

    def resolved(self, operand: Operand) -> Operand:
        while operand in self.same_as:
            operand = self.same_as[operand]  # type: ignore[index]
        return operand

    def read(self, node: Node) -> list[Value]:
        """The values that a node reads."""
        return [v for v in map(self.resolved, node.inputs) if isinstance(v, Value)]

    def form(self, node: Node) -> Form:
        """The form of a node's results; notes how its operands are cut."""
        if self.early.issuperset(node.outputs):
            return SAME
        forms = [self.form_of(o) for o in node.inputs]
        if node.op == "barrier":  # its first operand, after the others
            if isinstance(forms[0], Along):
                self.cuts[node] = tuple(f if isinstance(f, Along) else None for f in forms)
            elif forms[0] in (SAME, SUM):
                self.same_as[node.output] = node.inputs[0]
            return forms[0]
        if any(isinstance(f, Along) for f in forms):
            for operand in node.values():
                if self.forms[operand] in (SUM, LATE):
                    if not self.is_light(operand):
                        raise self.refusal(node, f"needs {self.told(operand)}")
                    self.early.add(operand)
                    self.forms[operand] = SAME
            try:
                self.cuts[node], form = flow(node, [self.form_of(o) for o in node.inputs])
                return form
            except Mixed as fact:
                if not all(map(self.is_light, node.outputs)):
                    raise self.refusal(node, str(fact)) from None
                self.early.update(node.outputs)
                return SAME
        if LATE in forms:
            return LATE
        if SUM in forms:
            if is_linear(node, forms):
                self.cuts[node] = (None,) * len(forms)
                return SUM
            return LATE
        return SAME

    def is_light(self, value: Value) -> bool:
        """Whether a value takes no more than light work on inputs and on what is the same for every slice."""
        seen: set[Node] = set()
        stack = [value]
        while stack:
            v = stack.pop()
            node = self.producer.get(v)
            if node is None or node in seen or self.forms.get(v) is SAME:
                continue
            if OPS[node.op].kind not in ("elementwise", "view", "reduce", "constant") and node.op not in LIGHT:
                return False
            seen.add(node)
            stack += node.values()
        return True

    def told(self, value: Value) -> str:
        """The sum over the batch that a value is made from."""
        stack, found = [value], self.producer[value]
        while stack:
            v = stack.pop()
            if self.forms[v] is SUM:
                found = self.producer[v]
                break
            stack += [o for o in self.producer[v].values() if self.forms[o] in (SUM, LATE)]
        where = found.location
        return f"the {found.op} over the batch" + (f" that line {where.line} takes" if where else "")

    def refusal(self, node: Node, fact: str) -> MicrobatchError:
        lines = [f"the batch cannot be cut into slices: {node.op} {fact}", *at_line(node.location)]
        return MicrobatchError("\n".join([*lines, "  write gt.compile(...) without memory_budget and microbatch"]))

    # the new graph --------------------------------------------------------------------------------------------------
    def run(self) -> Graph:
        graph = self.graph
        if all(form is not SUM and not isinstance(form, Along) for v, form in self.forms.items() if v in self.producer):
            return graph  # nothing depends on the batch
        builder = Builder(graph.name, scope=DimScope(dict(graph.symbols), list(graph.guards)))
        builder.constants = dict(graph.constants)
        whole = {v: builder.input(v.name, v.type, graph.roles[v.name]) for v in graph.inputs}
        builder._sites = graph.sites()
        loop = _Loop(self, builder, whole)
        with dim_scope(builder.scope):
            late, wanted = self.after()
            loop.record(wanted)
            for node in late:
                loop.emit_whole(node)

            def look_up(operand: Operand) -> Any:
                operand = self.resolved(operand)
                return operand.value if isinstance(operand, Literal) else loop.outside(operand)

            builder.updates = {name: builder.operand(look_up(v)) for name, v in graph.updates}
            return builder.graph([(name, look_up(v)) for name, v in graph.outputs])

    def after(self) -> tuple[list[Node], list[Value]]:
        """The nodes that follow the loop, in order, and what is wanted of the loop."""
        live = {v for v in map(self.resolved, self.graph.results()) if isinstance(v, Value)}
        nodes = []
        for node in reversed(self.graph.nodes):
            if self.forms[node.outputs[0]] is LATE and live.intersection(node.outputs):
                nodes.append(node)
                live.update(self.read(node))
        wanted = [v for n in self.graph.nodes if n in self.cuts for v in n.outputs if v in live]
        return nodes[::-1], wanted


class _Loop:
    """The scan in the making, and the values of the whole batch around it (`whole`)."""

    def __init__(self, plan: _Slicing, around: Builder, whole: dict[Value, Any]) -> None:
        self.plan, self.around, self.whole = plan, around, whole
        self.slices = plan.slices
        self.body = Builder(f"{plan.graph.name}.slice", scope=DimScope(dict(plan.graph.symbols), quiet=True))
        self.body.constants = dict(plan.graph.constants)
        self.body._sites = plan.graph.sites()
        self.consts: dict[Value, Any] = {}  # of the body: what it is given
        self.xs: dict[Value, Any] = {}
        self.inside: dict[tuple[Value, int | None], Any] = {}  # by value, and the axis along which it is cut
        self.round: Any = None

    # the body -------------------------------------------------------------------------------------------------------
    def record(self, wanted: Sequence[Value]) -> None:
        """Emits the loop, with all that it needs before it, and puts the values that are wanted of it into `whole`."""
        live = set(wanted)
        nodes = []
        for node in reversed(self.plan.graph.nodes):
            if node in self.plan.cuts and live.intersection(node.outputs):
                nodes.append(node)
                live.update(self.plan.read(node))
        for node in reversed(nodes):
            self.emit_slice(node)
        sums = [v for v in wanted if self.plan.forms[v] is SUM]
        stacks = [v for v in wanted if v not in sums]
        carries: list[Value] = []
        outputs: list[tuple[str, Value]] = []
        for v in sums:
            carry = self.body.input(f"sum.{v.name}", v.type)
            carries.append(carry._value)
            with self.body.at(self.plan.producer[v]):
                outputs.append((f"sum.{v.name}", (carry + self.inside[v, None])._value))
        outputs += [(f"y.{i}", self.inside[v, self.axis(v)]._value) for i, v in enumerate(stacks)]
        inputs = (*self.consts, *carries, *self.xs)
        used = {n.attrs["digest"] for n in self.body.nodes if n.op == "constant"}
        region = Graph(
            self.body.name,
            inputs,
            {v.name: "input" for v in inputs},
            tuple(self.body.nodes),
            tuple(outputs),
            constants={k: a for k, a in self.body.constants.items() if k in used},
        )
        zeros = [self.zeros(v.type) for v in sums]
        attrs = {"consts": len(self.consts), "carries": len(sums), "length": self.slices, "reverse": False}
        args = [*self.consts.values(), *zeros, *self.xs.values()]
        found = self.around.emit(OPS["scan"], args, attrs, (region,))
        for v, ref in zip([*sums, *stacks], found, strict=True):
            self.whole[v] = ref if v in sums else self.joined(ref, v)

    def axis(self, value: Value) -> int:
        form = self.plan.forms[value]
        assert isinstance(form, Along)
        return form.axis

    def zeros(self, t: TensorType) -> Any:
        value = 0.0 if t.is_float else 0
        return self.around.emit(OPS["full"], (), {"shape": t.shape, "value": value, "dtype": t.dtype})

    def joined(self, stack: Any, value: Value) -> Any:
        """The slices of `value`, which are stacked, as one array."""
        axis = self.axis(value)
        order = [*range(1, axis + 1), 0, *range(axis + 1, stack.ndim)]
        return OPS["reshape"](OPS["permute"](stack, axes=tuple(order)), shape=value.type.shape)

    def emit_slice(self, node: Node) -> None:
        """One node of the loop, on slices."""
        cuts = self.plan.cuts[node]
        pairs = list(zip(node.inputs, cuts, strict=True))
        if node.op == "barrier":
            pairs = [(o, cut) for o, cut in pairs if cut is not None]
        args = [self.operand(o, cut) for o, cut in pairs]
        form = self.plan.forms[node.outputs[0]]
        with self.body.at(node):
            new = self.body.emit(OPS[node.op], args, sliced_attrs(node, form, self.slices), node.regions)
        for value, ref in zip(node.outputs, new if isinstance(new, tuple) else (new,), strict=True):
            self.inside[value, form.axis if isinstance(form, Along) else None] = ref

    def operand(self, operand: Operand, cut: Along | None) -> Any:
        """An operand in the body, cut or whole."""
        operand = self.plan.resolved(operand)
        if isinstance(operand, Literal):
            return operand.value
        key = operand, None if cut is None else cut.axis
        if key not in self.inside:
            self.inside[key] = self.taken_in(operand, cut)
        return self.inside[key]

    def taken_in(self, value: Value, cut: Along | None) -> Any:
        """A value that the loop does not give. Masks and numbers are made inside; random numbers of a slice too, from
        where the slice begins; others come in, whole or slice by slice."""
        node = self.plan.producer.get(value)
        if node is not None and self.made_inside(node, cut):
            return self.make(node, value, cut)
        ref = self.outside(value)
        if cut is None:
            return self.take(self.consts, value, ref, value.type)
        shape = value.type.shape
        part = sliced_shape(shape, cut, self.slices)
        stacked = OPS["reshape"](ref, shape=(*shape[: cut.axis], self.slices, *part[cut.axis :]))
        order = (cut.axis, *(a for a in range(stacked.ndim) if a != cut.axis))
        return self.take(self.xs, value, OPS["permute"](stacked, axes=order), TensorType(value.type.dtype, part))

    def take(self, table: dict[Value, Any], value: Value, ref: Any, kind: TensorType) -> Any:
        inner = self.body.input(f"{'x' if table is self.xs else 'c'}.{len(table)}.{value.name}", kind)
        table[inner._value] = ref
        return inner

    def made_inside(self, node: Node, cut: Along | None) -> bool:
        """Whether a node that is the same for every slice is computed in the body: what is made of indices and numbers
        alone, and elementwise work on something with the size of the batch that need not be stored for it."""
        op = OPS[node.op]
        if cut is None:
            return self.is_free(node)
        if op.random:
            return all(identical(d, 1) for d in node.output.type.shape[: cut.axis])
        if node.op in ("full", "broadcast_to", "iota"):
            return node.op != "iota" or node.attrs["axis"] != cut.axis
        return op.kind == "elementwise" and not op.generator

    def is_free(self, node: Node) -> bool:
        """Whether a value comes from indices, numbers and constants alone, as causal masks do: no kernel stores it."""
        op = OPS[node.op]
        if op.generator or op.kind == "constant":
            return True
        if op.random or op.kind not in ("elementwise", "view"):
            return False
        producers = [self.plan.producer.get(v) for v in self.plan.read(node)]
        return all(p is not None and self.is_free(p) for p in producers)

    def make(self, node: Node, value: Value, cut: Along | None) -> Any:
        """Computes a node that is the same for every slice in the body, cut or whole."""
        attrs = sliced_attrs(node, cut if cut is not None else SAME, self.slices)
        with self.body.at(node):
            if OPS[node.op].random and cut is not None:
                args = [*(self.operand(o, None) for o in node.inputs), self.first(value, cut)]
                return self.body.emit(OPS[node.op], args, attrs)
            args = []
            for o in node.inputs:
                axis = None if cut is None or isinstance(o, Literal) else cut.axis - (value.type.ndim - o.type.ndim)
                whole = axis is None or axis < 0 or identical(o.type.shape[axis], 1)
                args.append(self.operand(o, None if whole else Along(axis, cut.inner)))
            return self.body.emit(OPS[node.op], args, attrs)

    def first(self, value: Value, cut: Along) -> Any:
        """The number of the first element of the present slice, for random numbers."""
        if self.round is None:
            numbers = self.around.emit(OPS["iota"], (), {"shape": (self.slices,), "axis": 0, "dtype": "i64"})
            round_ = Value("round", TensorType("i64", (self.slices,)))
            self.round = self.take(self.xs, round_, numbers, TensorType("i64", ()))
        size = divide(value.type.size, self.slices)
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
        if node.outputs[0] in self.whole:
            return
        inputs = map(self.plan.resolved, node.inputs)
        args = [o.value if isinstance(o, Literal) else self.outside(o) for o in inputs]
        with self.around.at(node):
            new = self.around.emit(OPS[node.op], args, node.attrs, node.regions)
        self.whole.update(zip(node.outputs, new if isinstance(new, tuple) else (new,), strict=True))
