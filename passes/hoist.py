"""What a loop computes round by round, and all at once would be cheaper, leaves it.

A product of a stacked input with a constant is one product for all rounds before the loop (the input projections of a
recurrent layer). A result that no carry depends on is one product after it (a head that was written into the body).
And a sum of products over the rounds is one product over the stacked factors: the weight gradients of a recurrent
layer, sum over t of h[t]^T g[t], become one product with an inner axis of rounds times batch.

Elementwise ops stay where they are, with what they are fused with; they leave only on the way of a product.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..ir.build import Builder
from ..ir.graph import Graph, Literal, Node, Operand, Value
from ..ir.op import OPS
from .batch import batched, can_batch, can_sum_products, sum_of_products, sum_rounds
from .fuse import wide_axes
from .loops import Loop
from .rewrite import copy_node, map_regions, rebuild

HEAVY = ("gemm", "kernel")  # kinds of ops that cost more than the memory for stacking their operands


def hoist(graph: Graph) -> Graph:
    """`graph` with the work of its loops divided anew; inner loops first."""

    def emit(builder: Builder, node: Node, args: list[Any]) -> Any:
        return _divide(builder, node, args) if node.op == "scan" else copy_node(builder, node, args)

    graph = map_regions(graph, hoist)
    return rebuild(graph, emit) if any(n.op == "scan" for n in graph.nodes) else graph


def _divide(builder: Builder, node: Node, args: list[Any]) -> tuple[Any, ...]:
    loop = Loop(node, args)
    _before(builder, loop, _summed(loop))
    after = _After(loop)
    sums = [c for c in list(loop.carries) if after.take_sum(c)]
    results = [y for y in dict.fromkeys(loop.ys) if after.take_result(y)]
    loop.ys += after.leaves
    first = {c: loop.carries[c][1] for c in sums}
    for carry in sums:
        after.leave(carry)
    last, stacked = loop.record(builder)
    outside = _Outside(builder, loop, {**{v: (r, False) for v, r in loop.consts.items()},
                                       **{v: (r, True) for v, r in (*loop.xs.items(), *stacked.items())}})  # fmt: skip
    for carry in sums:
        total = last.get(carry, first[carry])
        for term, sign in after.terms[carry]:
            part = outside.summed(term)
            total = total + part if sign > 0 else total - part
        last[carry] = total
    stacked.update((y, outside.all_rounds(y)) for y in results)
    return tuple([last[v] for v in loop.last] + [stacked[y] for y in loop.stacked])


def _summed(loop: Loop) -> set[Node]:
    """The products that only sums over the rounds read: they are left to these."""
    after = _After(loop)
    for carry in loop.carries:
        after.take_sum(carry)
    return {n for n in after.products if len(after.uses.get(n.output, ())) == 1 and n.output not in loop.ys}


def _before(builder: Builder, loop: Loop, left: set[Node]) -> None:
    """What depends on constants and stacked inputs only, but for the nodes that are `left` to others."""
    known = {**{v: (r, False) for v, r in loop.consts.items()}, **{v: (r, True) for v, r in loop.xs.items()}}
    outside = _Outside(builder, loop, known)
    free: dict[Value, bool] = {v: stacked for v, (_, stacked) in known.items()}  # value -> differs from round to round
    table: dict[Value, Value] = {}
    for node in loop.nodes:
        if not all(isinstance(o, Literal) or o in free for o in node.inputs):
            continue
        stacked = [isinstance(o, Value) and free[o] for o in node.inputs]
        if node in left or not can_batch(node, stacked):
            continue
        value = node.output
        free[value] = any(stacked)
        if _leaves(node, any(stacked)):
            ref = outside.value(value)[0]
            inside = loop.input(f"before.{value.name}", value.type)
            (loop.xs if any(stacked) else loop.consts)[inside] = ref
            table[value] = inside
    loop.substitute(table)


def _leaves(node: Node, differs: bool) -> bool:
    """Whether it is worth computing before the loop: products in any case, other ops where every round would repeat
    them for nothing."""
    record = OPS[node.op]
    if record.kind in HEAVY:
        return True
    return not differs and record.kind != "view" and bool(node.inputs) and bool(wide_axes(node.output.type.shape))


@dataclass
class _Outside:
    """Values of the body for all rounds, recorded outside of it. `known`: value -> (what it is, stacked or not)."""

    builder: Builder
    loop: Loop
    known: dict[Value, tuple[Any, bool]]
    producer: dict[Value, Node] = field(init=False)

    def __post_init__(self) -> None:
        self.producer = self.loop.producers()

    def value(self, operand: Operand) -> tuple[Any, bool]:
        if isinstance(operand, Literal):
            return operand.value, False
        if operand not in self.known:
            node = self.producer[operand]
            args, stacked = zip(*map(self.value, node.inputs), strict=True) if node.inputs else ((), ())
            with self.builder.at(node):
                if node.op == "constant":
                    self.builder.constants[node.attrs["digest"]] = self.loop.constants[node.attrs["digest"]]
                ref = batched(self.builder, node, args, stacked, self.loop.length)
            self.known[operand] = ref, any(stacked)
        return self.known[operand]

    def all_rounds(self, operand: Operand) -> Any:
        ref, stacked = self.value(operand)
        return ref if stacked else OPS["broadcast_to"](ref, shape=(self.loop.length, *operand.type.shape))

    def summed(self, value: Operand) -> Any:
        """The sum of a value over all rounds; see `_After.can_sum`."""
        assert isinstance(value, Value)
        node = self.producer[value]
        with self.builder.at(node):
            if node.op == "matmul":
                args, stacked = zip(*map(self.value, node.inputs), strict=True)
                return sum_of_products(self.builder, args, stacked)
            if node.op == "scatter_add":
                return self.builder.emit(OPS[node.op], [self.all_rounds(v) for v in node.values()], node.attrs)
            if OPS[node.op].reduce == "sum":
                (x,) = node.values()
                return sum_rounds(self.all_rounds(x), node.attrs["axes"], value.type.shape)
            args = [self.summed(o) if i == 0 or node.op in ("add", "sub") else self.value(o)[0]
                    for i, o in enumerate(node.inputs)]  # fmt: skip
            return self.builder.emit(OPS[node.op], args, node.attrs)


class _After:
    """What can be computed after a loop. `leaves` are the values that must be stacked for that; `terms` are what a sum
    is made of there, with their signs."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.producer = loop.producers()
        self.uses: dict[Value, list[Node]] = {}
        for node in loop.nodes:
            for value in node.values():
                self.uses.setdefault(value, []).append(node)
        self.leaves: list[Value] = []
        self.products: set[Node] = set()  # what is summed outside
        self.terms: dict[Value, list[tuple[Value, int]]] = {}
        self.rest: dict[Value, list[tuple[Operand, int]]] = {}
        self.differs = self._differing()
        self.carried = self._carried()

    def _differing(self) -> set[Value]:
        """Values that are not the same in every round."""
        found = {*self.loop.carries, *self.loop.xs}
        for node in self.loop.nodes:
            if node.regions or OPS[node.op].random or found.intersection(node.values()):
                found.update(node.outputs)
        return found

    def _carried(self) -> set[Node]:
        """The nodes that a carry depends on."""
        found: set[Node] = set()
        stack: list[Any] = [new for new, _ in self.loop.carries.values()]
        while stack:
            node = self.producer.get(stack.pop())
            if node is not None and node not in found:
                found.add(node)
                stack += node.values()
        return found

    # stacked results ------------------------------------------------------------------------------------------------
    def take_result(self, y: Operand) -> bool:
        """Whether a stacked result is better computed from what it depends on, stacked."""
        if not isinstance(y, Value) or y not in self.producer or not self.heavy(y):
            return False
        self.gather(y)
        self.loop.ys = [v for v in self.loop.ys if v is not y]
        return True

    def heavy(self, value: Operand) -> bool:
        """Whether a product stands between it and the carries, which can be computed after the loop."""
        node = self.producer.get(value) if isinstance(value, Value) else None
        if node is None or node in self.carried or not self.batchable(node):
            return False
        return OPS[node.op].kind in HEAVY or any(self.heavy(o) for o in node.inputs)

    def batchable(self, node: Node) -> bool:
        return can_batch(node, [o in self.differs for o in node.inputs])

    def gather(self, value: Operand) -> None:
        """Notes the values that must be stacked to compute `value` after the loop."""
        if isinstance(value, Literal) or value in self.loop.consts or value in self.loop.xs:
            return
        node = self.producer.get(value)
        through = node is not None and (
            value not in self.differs or self.heavy(value) or (OPS[node.op].kind == "view" and self.batchable(node))
        )
        if through and node is not None and self.batchable(node):
            for operand in node.inputs:
                self.gather(operand)
        elif value not in self.leaves:
            self.leaves.append(value)

    # sums over the rounds -------------------------------------------------------------------------------------------
    def take_sum(self, carry: Value) -> bool:
        """Whether a carry only adds up, and some of what it adds can be summed outside."""
        new = self.loop.carries[carry][0]
        if len(self.uses.get(carry, ())) != 1 or carry in self.loop.ys or new in self.loop.ys:
            return False
        terms = self.addends(new, 1)
        if terms is None or sum(v is carry for v, _ in terms) != 1 or (carry, 1) not in terms:
            return False
        own = [(v, s) for v, s in terms if isinstance(v, Value) and v is not carry and self.can_sum(v)]
        if not own:
            return False
        self.terms[carry] = own
        self.rest[carry] = [(v, s) for v, s in terms if v is not carry and (v, s) not in own]
        for value, _ in own:
            self.gather_sum(value)
        return True

    def addends(self, value: Operand, sign: int) -> list[tuple[Operand, int]] | None:
        """What `value` is the sum of, in the shape of `value`."""
        node = self.producer.get(value) if isinstance(value, Value) else None
        if node is None or node.op not in ("add", "sub") or len(self.uses.get(value, ())) > 1:  # type: ignore[arg-type]
            return [(value, sign)]
        if any(o.type != value.type for o in node.inputs):
            return [(value, sign)]
        left, right = node.inputs
        a, b = self.addends(left, sign), self.addends(right, sign if node.op == "add" else -sign)
        return None if a is None or b is None else a + b

    def can_sum(self, value: Operand) -> bool:
        """Whether the sum over all rounds is a product or a reduction of stacked values, or linear in one."""
        node = self.producer.get(value) if isinstance(value, Value) else None
        if node is None or value not in self.differs:
            return False
        if node.op == "matmul":
            return can_sum_products(node, [o in self.differs for o in node.inputs])
        if node.op == "scatter_add":
            return True
        if OPS[node.op].reduce == "sum":
            return True
        if node.op in ("neg", "permute", "reshape", "broadcast_to"):
            return self.can_sum(node.inputs[0])
        if node.op == "cast":
            return node.inputs[0].type.is_float and node.output.type.is_float and self.can_sum(node.inputs[0])
        if node.op in ("add", "sub"):
            return all(o.type == node.output.type and self.can_sum(o) for o in node.inputs)
        if node.op in ("mul", "div"):
            x, y = node.inputs
            return y not in self.differs and x.type == node.output.type and self.can_sum(x)
        return False

    def gather_sum(self, value: Operand) -> None:
        node = self.producer[value]  # type: ignore[index]
        if node.op == "matmul" or node.op == "scatter_add" or OPS[node.op].reduce == "sum":
            self.products.add(node)
            for operand in node.inputs:
                self.gather(operand)
            return
        for i, operand in enumerate(node.inputs):
            if i == 0 or node.op in ("add", "sub"):
                self.gather_sum(operand)
            else:
                self.gather(operand)

    def leave(self, carry: Value) -> None:
        """Takes what is summed outside out of a carry; where nothing is left, the carry goes."""
        rest = self.rest[carry]
        if not rest:
            del self.loop.carries[carry]
            return
        total: Value = carry
        for value, sign in rest:
            new = self.loop.value(carry.type)
            self.loop.nodes.append(Node("add" if sign > 0 else "sub", (total, value), {}, (new,)))
            total = new
        self.loop.carries[carry] = (total, self.loop.carries[carry][1])
