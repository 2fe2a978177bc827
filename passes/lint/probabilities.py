"""Probabilities that are taken for logits: what a softmax or a sigmoid has made goes into another one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ...ir.graph import Literal, Node, Operand, Value
from .evidence import Evidence
from .intervals import UNIT
from .patterns import share, taken_away

LOSSES = {
    "nll_from_logits": "cross_entropy",
    "cross_entropy_from_logits": "cross_entropy",
    "log_softmax": "log_softmax",
}
VIEWS = ("reshape", "permute", "broadcast_to", "slice", "cast")
BCE = "binary_cross_entropy_with_logits"


@dataclass(frozen=True)
class Squashed:
    """`first` makes probabilities, by `name`; `second`, a part of `loss` ("": another op), applies `again` to them."""

    first: Node
    name: str
    second: Node
    loss: str
    again: str
    parameters: tuple[str, ...]


def squashed_twice(e: Evidence) -> Iterator[Squashed]:
    """Every place where logits are expected and probabilities are given."""
    for node in e.flow.graph.nodes:
        if not any(v in e.flow.alive for v in node.outputs):
            continue
        for logits, loss, again in _expected(e, node):
            made = _probabilities(e, logits)
            if made is None:
                continue
            first, name = made
            fed = [p for p in e.flow.feeding(first.output) if p in e.proofs.trainable and e.flow.reaches(p)]
            if fed:
                second = node if loss else _made_by(e, node.inputs[0]) or node
                yield Squashed(first, name, second, loss, again, tuple(fed))


def _expected(e: Evidence, node: Node) -> Iterator[tuple[Operand, str, str]]:
    """The operands of `node` that should be logits: with the loss, and what it applies to them."""
    if node.op in LOSSES:
        yield node.inputs[0], LOSSES[node.op], "softmax"
    elif node.op == "sub":
        pair = taken_away(e.proofs.same, node)
        if pair is not None and pair[2].op == "logsumexp":
            yield node.inputs[pair[0]], "log_softmax", "softmax"
    elif node.op in ("log", "binary_cross_entropy"):  # of probabilities: those must not come from probabilities
        made = _made_by(e, node.inputs[0])
        if made is not None and made.op in ("softmax", "sigmoid"):
            yield made.inputs[0], "", made.op
    else:
        x = _softplus_of(e, node)
        logits = None if x is None else _without_sign(e, x)
        if logits is not None and _meets_a_target(e, logits, x):
            yield logits, BCE, "sigmoid"


def _probabilities(e: Evidence, operand: Operand) -> tuple[Node, str] | None:
    """The node that makes `operand`, and how, if its elements lie between 0 and 1 as probabilities do."""
    made = _made_by(e, operand)
    if made is None:
        return None
    if made.op in ("softmax", "sigmoid"):
        return made, made.op
    if share(e.proofs.same, made) is not None and e.proofs.range_of(made.output).low >= 0:
        return made, "softmax"
    found = e.proofs.range_of(made.output)
    inside = UNIT.low <= found.low and found.high <= UNIT.high and not found.is_constant
    return (made, "a function with values between 0 and 1") if inside else None


def _made_by(e: Evidence, operand: Operand) -> Node | None:
    """The node behind `operand`, through views."""
    made = e.proofs.same.made(operand)
    while made is not None and made.op in VIEWS:
        made = e.proofs.same.made(made.inputs[0])
    return made


def _softplus_of(e: Evidence, node: Node) -> Operand | None:
    """x of log(1 + e**x), in any of its spellings."""
    if node.op == "softplus":
        return node.inputs[0]
    if node.op == "logaddexp":
        return next((x for x, y in (node.inputs, node.inputs[::-1]) if y == Literal(0.0)), None)
    exp = e.proofs.same.made(node.inputs[0]) if node.op in ("log1p", "log") else None
    if exp is not None and node.op == "log":
        if exp.op != "add" or Literal(1.0) not in exp.inputs:
            return None
        exp = e.proofs.same.made(next((o for o in exp.inputs if o != Literal(1.0)), Literal(1.0)))
    return exp.inputs[0] if exp is not None and exp.op == "exp" else None


def _without_sign(e: Evidence, x: Operand) -> Operand:
    """x of -x, of -|x|, and of a target times x."""
    made = e.proofs.same.made(x)
    if made is not None and made.op in ("neg", "abs"):
        return _without_sign(e, made.inputs[0])
    if made is not None and made.op == "mul":
        for factor, other in (made.inputs, made.inputs[::-1]):
            if _is_target(e, factor):
                return _without_sign(e, other)
    return x


def _meets_a_target(e: Evidence, logits: Operand, x: Operand | None) -> bool:
    """Whether the logits are multiplied with a target, or also taken with the other sign: then this is a loss."""
    same = e.proofs.same
    for node in e.flow.graph.nodes:
        if node.op == "mul":
            for factor, other in (node.inputs, node.inputs[::-1]):
                if _is_target(e, factor) and same.equal(_without_sign(e, other), logits):
                    return True
        other = _softplus_of(e, node)
        if (
            other is not None
            and x is not None
            and not same.equal(other, x)
            and same.equal(_without_sign(e, other), logits)
        ):
            return True
    return False


def _is_target(e: Evidence, operand: Operand) -> bool:
    """Whether an input takes part in it, and no parameter."""
    if not isinstance(operand, Value) or e.flow.parameters_of(operand):
        return False
    return any(e.graph.roles.get(v.name) == "input" for v in e.flow.ancestors(operand))
