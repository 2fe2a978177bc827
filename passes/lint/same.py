"""Which values of a program are equal for all inputs: computed alike from equal operands, or the same elements in the
same shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...ir.dims import Shape, identical, same_shape
from ...ir.graph import Graph, Literal, Node, Operand, Value
from ...ir.op import OPS
from ...ir.types import is_one

COMMUTATIVE = ("add", "mul", "maximum", "minimum", "equal", "not_equal", "logical_and", "logical_or", "hypot")
OF_ONE = ("sum", "mean", "max", "min", "prod", "logsumexp", "any", "all")  # of one element: the element itself
NEUTRAL = {"mul": 1, "div": 1, "add": 0, "sub": 0}  # as the right operand


class Same:
    """`of(x)` is the same operand for all that are equal; `root(x)` also looks through reshapes.

    By `stops` a stop_gradient is what it stops, in value: x - stop_gradient(x) is 0. It has a gradient, which x - x has
    not, so that without `stops` the two are different.
    """

    def __init__(self, graph: Graph, stops: bool = False) -> None:
        self.producer = graph.producers()
        self.views = ("broadcast_to", "cast", "stop_gradient") if stops else ("broadcast_to", "cast")
        self._first: dict[Value, Operand] = {}
        self._numbers: dict[Operand, int] = {}
        known: dict[tuple, Operand] = {}
        for node in graph.nodes:
            if is_closed(node) or OPS[node.op].random:
                continue
            found = self._alias(node)
            if found is None:
                found = known.setdefault(self._key(node), node.output)
            if found is not node.output:
                self._first[node.output] = found

    def of(self, operand: Operand) -> Operand:
        return self._first.get(operand, operand) if isinstance(operand, Value) else operand

    def equal(self, a: Operand, b: Operand) -> bool:
        return self.of(a) == self.of(b)

    def made(self, operand: Operand) -> Node | None:
        """The node that computes `operand`, or the first of its equals."""
        operand = self.of(operand)
        return self.producer.get(operand) if isinstance(operand, Value) else None

    def root(self, operand: Operand) -> Operand:
        """The value that `operand` is a reshape of, or itself."""
        operand = self.of(operand)
        while (node := self.made(operand)) is not None and _reshapes(node):
            operand = self.of(node.inputs[0])
        return operand

    def _key(self, node: Node) -> tuple:
        numbers = [self._numbers.setdefault(self.of(o), len(self._numbers)) for o in node.inputs]
        if node.op in COMMUTATIVE:
            numbers.sort()
        return node.op, tuple(numbers), node.output.type, tuple(node.attrs.items())

    def _alias(self, node: Node) -> Operand | None:
        """What `node` hands on unchanged, if it does."""
        operands = [self.of(o) for o in node.inputs]
        if node.op == "where" and operands[1] == operands[2]:
            return operands[1] if operands[1].type == node.output.type else None
        if not operands or not isinstance(operands[0], Value):
            return None
        x, attrs = operands[0], node.attrs
        if _reshapes(node):
            return self._reshaped(x, node.output.type.shape)
        if x.type != node.output.type:
            return None
        if node.op in self.views:
            return x
        if node.op == "slice":  # of the whole size
            return x if all(identical(s, 1) for s in attrs["step"]) else None
        if node.op == "permute":
            return x if attrs["axes"] == tuple(range(x.type.ndim)) else None
        if node.op == "neg":
            inner = self.made(x)
            return self.of(inner.inputs[0]) if inner is not None and inner.op == "neg" else None
        other = operands[1] if node.op in NEUTRAL else None
        return x if isinstance(other, Literal) and other.value == NEUTRAL[node.op] else None

    def _reshaped(self, x: Operand, shape: Shape) -> Operand | None:
        """`x`, or what it was reshaped from, if that has this shape."""
        while not same_shape(x.type.shape, shape):
            node = self.made(x)
            if node is None or not _reshapes(node):
                return None
            x = self.of(node.inputs[0])
        return x


def is_closed(node: Node) -> bool:
    """Whether nothing is known of what `node` computes: it has several results, or a program inside, or stands for what
    one round of a loop hands to the next."""
    return len(node.outputs) > 1 or bool(node.regions) or "round" in node.attrs


def _reshapes(node: Node) -> bool:
    """Whether the result has the elements of the operand in the same order: also a sum over axes of size 1."""
    if node.op == "reshape":
        return not is_closed(node)
    return node.op in OF_ONE and all(is_one(node.inputs[0].type.shape[a]) for a in reduced_axes(node.attrs))


def reduced_axes(attrs: Mapping[str, Any]) -> tuple[int, ...]:
    """The axes that a reduction, or a function along one axis, runs over."""
    return attrs["axes"] if "axes" in attrs else (attrs["axis"],)
