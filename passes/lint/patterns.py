"""Functions that do not see a part of what they are given, as ops or written out by hand: a softmax, a normalisation,
x - mean(x), e / sum(e)."""

from __future__ import annotations

from collections.abc import Sequence

from ...ir.dims import same_shape
from ...ir.graph import Literal, Node, Operand, Value
from .along import Axes
from .same import OF_ONE, Same, reduced_axes

INVARIANT = ("softmax", "log_softmax", "nll_from_logits", "cross_entropy_from_logits", "layer_norm", "var", "std")
SHIFTED = ("mean", "max", "min", "logsumexp")  # R(x + c) = R(x) + c, so that x - R(x) does not see c


def invariant_axes(node: Node) -> Axes | None:
    """The axes along which a shift of the first operand of `node` does not change its result."""
    if node.op not in INVARIANT:
        return None
    along = "axes" in node.attrs or "axis" in node.attrs
    return frozenset(reduced_axes(node.attrs) if along else (node.inputs[0].type.ndim - 1,))


def taken_away(same: Same, node: Node) -> tuple[int, Axes, Node] | None:
    """x - R(x) (or R(x) - x) with R a mean, a maximum, ...: which operand is x, the axes of R, and its node."""
    if node.op != "sub":
        return None
    for i in (0, 1):
        by = _reduction_of(same, node.inputs[i], node.inputs[1 - i], SHIFTED)
        if by is not None:
            return i, frozenset(reduced_axes(by.attrs)), by
    return None


def share(same: Same, node: Node) -> Axes | None:
    """The axes of e / sum(e) or e * (1 / sum(e)), which sums to 1 over them (of e / mean(e): to their size)."""
    if node.op not in ("div", "mul"):
        return None
    e, total = node.inputs
    inverse = same.made(same.root(total)) if node.op == "mul" else None
    if node.op == "mul":
        if inverse is None or inverse.op not in ("div", "reciprocal"):
            return None
        if inverse.op == "div" and inverse.inputs[0] != Literal(1.0):
            return None
    by = _reduction_of(same, e, total, ("sum", "mean"), inverse)
    return None if by is None else frozenset(reduced_axes(by.attrs))


def fixed_sum(same: Same, node: Node) -> Axes | None:
    """The axes over which the result of `node` has the same sum whatever it is given: it is normalised."""
    if node.op in ("softmax", "layer_norm"):
        return invariant_axes(node)
    pair = taken_away(same, node)
    if pair is not None:
        return pair[1] if pair[2].op == "mean" else None
    return share(same, node)


def is_step(same: Same, node: Node, i: int) -> bool:
    """Whether the i-th operand of `node` is the x of x - x % y, which is a floor, or the x % y, which y is part of."""
    rest = same.made(node.inputs[1]) if node.op == "sub" else None
    return (
        rest is not None
        and rest.op == "remainder"
        and same.equal(rest.inputs[0], node.inputs[0])
        and (i == 0 or not isinstance(rest.inputs[1], Value))
    )


def average_of_one(same: Same, node: Node) -> Node | None:
    """The reduction over axes of size 1 that one side of x - mean(x), or of x / sum(x), is."""
    for operand in node.inputs:
        made = same.producer.get(operand) if isinstance(operand, Value) else None
        while made is not None and made.op in ("reshape", "broadcast_to"):
            source = made.inputs[0]
            made = same.producer.get(source) if isinstance(source, Value) else None
        if made is not None and made.op in OF_ONE:
            return made
    return None


def _reduction_of(same: Same, x: Operand, r: Operand, ops: Sequence[str], inverse: Node | None = None) -> Node | None:
    """The node that computes `r` (or what `inverse` makes `r` of), if it is one of `ops` of `x`, and `r` is laid out to
    meet x along the axes that are left."""
    if not isinstance(x, Value):
        return None
    spread = same.made(r)
    if spread is not None and spread.op == "broadcast_to" and spread.output.type.ndim == x.type.ndim:
        r = spread.inputs[0]
    by = same.made(same.root(r if inverse is None else inverse.inputs[-1]))
    if by is None or by.op not in ops or not same.equal(by.inputs[0], x):
        return None
    axes, shape = reduced_axes(by.attrs), r.type.shape
    met = (*[1] * (x.type.ndim - len(shape)), *shape)
    return by if same_shape(met, [1 if i in axes else d for i, d in enumerate(x.type.shape)]) else None
