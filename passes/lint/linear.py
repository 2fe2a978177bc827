"""Sums of values with factors: `x + stop_gradient(q - x)` is stopped(q) + x - stopped(x), however it is written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ...ir.graph import Literal, Node, Operand, Value
from .flow import Flow

DEPTH = 12  # of nodes that are taken apart
MOST = 64  # summands
SUMS = ("add", "sub")
VIEWS = ("reshape", "permute", "broadcast_to", "cast")


@dataclass(frozen=True)
class Term:
    """factor * value; `stopped`: behind a stop_gradient, which is the node `by`."""

    value: Operand
    factor: float
    by: Node | None = None

    @property
    def stopped(self) -> bool:
        return self.by is not None


def terms(flow: Flow, operand: Operand, deep: bool = True) -> list[Term]:
    """What `operand` is the sum of. Without `deep`, operands of sums other than its own are not taken apart."""
    return list(_terms(flow, operand, 1.0, None, DEPTH if deep else 1))[:MOST]


def _terms(flow: Flow, operand: Operand, factor: float, by: Node | None, depth: int) -> Iterator[Term]:
    node = flow.producer.get(operand) if isinstance(operand, Value) else None
    if node is None or depth == 0:
        yield Term(operand, factor, by)
    elif node.op in SUMS:
        left, right = node.inputs
        yield from _terms(flow, left, factor, by, depth - 1)
        yield from _terms(flow, right, -factor if node.op == "sub" else factor, by, depth - 1)
    elif node.op == "stop_gradient":
        yield from _terms(flow, node.inputs[0], factor, by or node, depth - 1)
    elif (scaled := scaled_by(node)) is not None:
        yield from _terms(flow, scaled[0], factor * scaled[1], by, depth - 1)
    else:
        yield Term(operand, factor, by)


def scaled_by(node: Node) -> tuple[Operand, float] | None:
    """(x, c) of a node that is c * x for a number c."""
    if node.op == "neg":
        return node.inputs[0], -1.0
    if node.op not in ("mul", "div"):
        return None
    left, right = node.inputs
    if isinstance(right, Literal) and (node.op == "mul" or right.value):
        return left, float(right.value) if node.op == "mul" else 1.0 / float(right.value)
    if isinstance(left, Literal) and node.op == "mul":
        return right, float(left.value)
    return None


def sums_with(flow: Flow, value: Value) -> Iterator[tuple[Node, Operand, float, float]]:
    """The sums in which `value` is a summand, perhaps with a factor or in another shape: (node, the other operand, the
    factor of `value`, that of the other)."""
    for node in flow.uses.get(value, ()):
        if node.output not in flow.needed:
            continue
        if node.op in SUMS and node.inputs[0] is not node.inputs[1]:
            left, sign = node.inputs[0] is value, -1.0 if node.op == "sub" else 1.0
            yield node, node.inputs[1 if left else 0], 1.0 if left else sign, sign if left else 1.0
        scaled = scaled_by(node)
        if node.op in VIEWS or scaled is not None or _masked(flow, node, value):
            factor = 1.0 if scaled is None else scaled[1]
            for found, other, mine, its in sums_with(flow, node.output):
                yield found, other, mine * factor, its


def _masked(flow: Flow, node: Node, value: Value) -> bool:
    """A product with something that no parameter and no input has a part in, or a choice by it beside 0: dropout."""
    others = [o for o in node.values() if o is not value]
    chosen = node.op == "where" and any(isinstance(o, Literal) and o.value == 0 for o in node.inputs)
    if not (node.op == "mul" or chosen) or len(others) != 1:
        return False
    roles = (flow.graph.roles.get(v.name, "") for v in flow.ancestors(others[0]))
    return all(role in ("", "scalar") for role in roles)


def whole_sum(flow: Flow, node: Node) -> Node:
    """The outermost sum that `node` is a part of, as long as nothing else reads what lies between."""
    while True:
        users = flow.uses.get(node.output, [])
        if len(users) != 1 or users[0].op not in (*SUMS, "neg"):
            return node
        node = users[0]
