"""Scans taken apart and put together again: what the passes over loops stand on, and their simplification.

Taking apart never changes what a loop computes. A result that nobody reads is dropped with all that it alone needs; a
carry that stays what it was is a constant; a stacked result that is a stacked input is that input.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from ..ir.build import Builder, Ref
from ..ir.dims import identical
from ..ir.graph import Graph, Literal, Node, Operand, Value
from ..ir.op import OPS
from ..ir.ops.scan import parts_of
from ..ir.types import TensorType, is_one


class Loop:
    """A scan that is being changed. `consts` and `xs` map the body's inputs to what they are given, `carries` to
    (what they become, their first value); `ys` are the values that are stacked. `last` and `stacked` are what the
    node's results are: carries, and stacked values of the body."""

    def __init__(self, node: Node, args: Iterable[Any]) -> None:
        (body,) = node.regions
        _, inner = parts_of(node)
        given = dict(zip(body.inputs, args, strict=True))
        self.body = body
        self.length, self.reverse = node.attrs["length"], node.attrs["reverse"]
        self.consts: dict[Value, Any] = {v: given[v] for v in inner.consts}
        self.carries: dict[Value, tuple[Operand, Any]] = {
            v: (new, given[v]) for v, new in zip(inner.carries, inner.new, strict=True)
        }
        self.xs: dict[Value, Any] = {v: given[v] for v in inner.xs}
        self.ys: list[Operand] = list(inner.ys)
        self.last, self.stacked = list(inner.carries), list(inner.ys)
        self.nodes: list[Node] = list(body.nodes)
        self.constants = dict(body.constants)
        numbers = [int(v.name) for n in body.nodes for v in n.outputs if v.name.isdigit()]
        self._numbers = max(numbers, default=-1) + 1
        self._taken = {v.name for v in body.inputs}

    def value(self, value_type: TensorType) -> Value:
        """A new value of the body."""
        self._numbers += 1
        return Value(str(self._numbers - 1), value_type)

    def input(self, name: str, value_type: TensorType) -> Value:
        """A new input of the body, to be put into `consts` or `xs`."""
        free = next(n for n in (name, *(f"{name}.{i}" for i in range(len(self._taken) + 1))) if n not in self._taken)
        self._taken.add(free)
        return Value(free, value_type)

    def producers(self) -> dict[Value, Node]:
        return {v: n for n in self.nodes for v in n.outputs}

    def substitute(self, table: dict[Value, Value]) -> None:
        """Puts other values in the place of some, wherever they are read."""
        if not table:
            return

        def resolve(operand: Any) -> Any:
            while isinstance(operand, Value) and operand in table:
                operand = table[operand]
            return operand

        self.nodes = [replace(n, inputs=tuple(map(resolve, n.inputs))) for n in self.nodes]
        self.carries = {v: (resolve(new), init) for v, (new, init) in self.carries.items()}
        self.ys = [resolve(y) for y in self.ys]
        self.stacked = [resolve(y) for y in self.stacked]

    def record(self, builder: Builder) -> tuple[dict[Any, Any], dict[Any, Any]]:
        """Records the loop: the last value of each carry, and each stacked value, by the body's value."""
        ys = list(dict.fromkeys(self.ys))
        if not self.carries and not ys:
            return {}, {}
        inputs = (*self.consts, *self.carries, *self.xs)
        outputs = [(v.name, new) for v, (new, _) in self.carries.items()]
        outputs += [(f"y.{i}", y) for i, y in enumerate(ys)]
        live: set[Any] = {v for _, v in outputs}
        nodes = []
        for node in reversed(self.nodes):
            if live.intersection(node.outputs):
                nodes.append(node)
                live.update(node.values())
        used = {n.attrs["digest"] for n in nodes if n.op == "constant"}
        body = Graph(
            self.body.name,
            inputs,
            {v.name: "input" for v in inputs},
            tuple(reversed(nodes)),
            tuple(outputs),
            constants={k: a for k, a in self.constants.items() if k in used},
        )
        args = [*self.consts.values(), *(init for _, init in self.carries.values()), *self.xs.values()]
        attrs = {
            "consts": len(self.consts),
            "carries": len(self.carries),
            "length": self.length,
            "reverse": self.reverse,
        }
        found = builder.emit(OPS["scan"], args, attrs, (body,))
        count = len(self.carries)
        return dict(zip(self.carries, found, strict=False)), dict(zip(ys, found[count:], strict=True))


# simplification -------------------------------------------------------------------------------------------------------
def tidy(builder: Builder, node: Node, args: list[Any]) -> tuple[Any, ...]:
    """The scan without what it need not carry, read or stack; generators that it reads are made in the body."""
    loop = Loop(node, args)
    same: dict[Any, Any] = {}
    for value, (new, init) in list(loop.carries.items()):
        if new is value:
            del loop.carries[value]
            loop.consts[value] = same[value] = init
    _make_inside(builder, loop)
    _merge_operands(loop)
    given: dict[Any, Any] = {}
    for y in dict.fromkeys(loop.ys):
        if y in loop.xs:
            given[y] = loop.xs[y]
        elif y in loop.consts:
            given[y] = OPS["broadcast_to"](loop.consts[y], shape=(loop.length, *y.type.shape))
    loop.ys = [y for y in loop.ys if y not in given]
    last, stacked = loop.record(builder)
    last, stacked = {**last, **same}, {**stacked, **given}
    return tuple([last[v] for v in loop.last] + [stacked[y] for y in loop.stacked])


def _make_inside(builder: Builder, loop: Loop) -> None:
    """Numbers that are the same everywhere, and indices, cost nothing: the body makes them itself."""
    makers = {v: n for n in builder.nodes for v in n.outputs if OPS[n.op].generator}
    table: dict[Value, Value] = {}
    front: list[Node] = []
    for inputs, stacked in ((loop.consts, False), (loop.xs, True)):
        for value, ref in list(inputs.items()):
            maker = makers.get(ref._value) if isinstance(ref, Ref) and isinstance(ref._value, Value) else None
            if maker is None or (stacked and maker.op != "full"):
                continue
            del inputs[value]
            attrs = {**maker.attrs, "shape": value.type.shape} if stacked else maker.attrs
            table[value] = loop.value(value.type)
            front.append(Node(maker.op, (), attrs, (table[value],), (), maker.location))
    loop.nodes = front + loop.nodes
    loop.substitute(table)


def _merge_operands(loop: Loop) -> None:
    """What comes in twice comes in once; what is the same in every round is a constant."""
    for value, ref in list(loop.xs.items()):
        node = _producer_of(ref)
        if node is None or node.op != "broadcast_to" or not isinstance(node.inputs[0], Value):
            continue
        source = node.inputs[0]
        extra = len(ref.shape) - source.type.ndim
        rest = source.type.shape[1:] if extra == 0 else source.type.shape
        first = extra > 0 or (is_one(source.type.shape[0]) and not is_one(ref.shape[0]))
        whole = len(rest) == value.type.ndim and all(map(identical, rest, value.type.shape))
        if first and whole:
            del loop.xs[value]
            given = ref._builder.wrap(source)
            loop.consts[value] = OPS["reshape"](given, shape=value.type.shape) if extra == 0 else given
    for inputs in (loop.consts, loop.xs):
        seen: dict[Any, Value] = {}
        table: dict[Value, Value] = {}
        for value, ref in list(inputs.items()):
            key = ref._value if isinstance(ref, Ref) else Literal(ref)
            if key in seen:
                table[value] = seen[key]
                del inputs[value]
            seen.setdefault(key, value)
        loop.substitute(table)


def _producer_of(ref: Any) -> Node | None:
    if not isinstance(ref, Ref):
        return None
    return next((n for n in reversed(ref._builder.nodes) if ref._value in n.outputs), None)


def narrow(node: Node, live: set[Value]) -> Node:
    """The scan without the results that are not live, and without what only they need."""
    (body,) = node.regions
    outer, inner = parts_of(node)
    producer = body.producers()
    ys = [i for i, v in enumerate(outer.ys) if v in live]
    carried = {i for i, v in enumerate(outer.new) if v in live}
    needed: set[Value] = set()
    kept: set[Node] = set()
    stack: list[Any] = [inner.ys[i] for i in ys] + [inner.new[i] for i in carried]
    while stack:
        value = stack.pop()
        if not isinstance(value, Value) or value in needed:
            continue
        needed.add(value)
        if value in producer:
            kept.add(producer[value])
            stack += producer[value].values()
        elif value in inner.carries:
            index = inner.carries.index(value)
            carried.add(index)
            stack.append(inner.new[index])
    carries = sorted(carried)
    fixed = [i for i, v in enumerate(inner.consts) if v in needed]
    xs = [i for i, v in enumerate(inner.xs) if v in needed]
    nodes = tuple(n for n in body.nodes if n in kept)
    if len(nodes) == len(body.nodes) and (len(ys), len(carries), len(fixed) + len(xs)) == (
        len(outer.ys), len(outer.new), len(outer.consts) + len(outer.xs),
    ):  # fmt: skip
        return node
    inputs = [inner.consts[i] for i in fixed] + [inner.carries[i] for i in carries] + [inner.xs[i] for i in xs]
    operands = [outer.consts[i] for i in fixed] + [outer.carries[i] for i in carries] + [outer.xs[i] for i in xs]
    count = len(inner.carries)
    chosen = [*carries, *(count + i for i in ys)]
    used = {n.attrs["digest"] for n in nodes if n.op == "constant"}
    region = body.replace(
        inputs=tuple(inputs),
        roles={v.name: "input" for v in inputs},
        nodes=nodes,
        outputs=tuple(body.outputs[i] for i in chosen),
        constants={k: a for k, a in body.constants.items() if k in used},
    )
    attrs = {**node.attrs, "consts": len(fixed), "carries": len(carries)}
    outputs = tuple(node.outputs[i] for i in chosen)
    return replace(node, inputs=tuple(operands), attrs=attrs, outputs=outputs, regions=(region,))
