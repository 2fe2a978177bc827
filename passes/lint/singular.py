"""Derivatives that are infinite or NaN where a `where` hides the value: 0 times infinity is NaN.

`where(x > 0, sqrt(x), 0)` gives the masked elements the cotangent 0, and sqrt hands on 0 * inf. It is proved by
intervals: what an op is given is looked at twice, for elements that the condition selects and for those that it does
not. Only a condition that keeps a singular place out of the arm is meant; one that has nothing to do with it is not.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

from ...ir.graph import Literal, Node, Operand, Value
from ...ir.op import OPS
from .intervals import INF, ONE, ZERO, Range, of_array, of_number
from .ranges import ranges, transfer

if TYPE_CHECKING:
    from .proofs import Proofs

JUST = 1e-30  # how far beyond a strict bound the next number is taken to be
USUAL = 30.0  # where sigmoid and exp are neither 0 nor infinite
NEAR = 256  # nodes of an arm that are looked at
VIEWS = ("broadcast_to", "reshape", "permute", "cast")

BELOW_ZERO, NOTHING = [Range(-INF, 0)], [Range(0, 0)]
OUTSIDE_ONE = [Range(-INF, -1), Range(1, INF)]
# where the derivative of an op is not finite, in the operand with this number
PLACES: dict[str, tuple[int, list[Range]]] = {
    "sqrt": (0, BELOW_ZERO), "rsqrt": (0, BELOW_ZERO), "div": (1, NOTHING), "reciprocal": (0, NOTHING),
    **dict.fromkeys(("log", "log2", "log10"), (0, NOTHING)), "log1p": (0, [Range(-1, -1)]),
    "asin": (0, OUTSIDE_ONE), "acos": (0, OUTSIDE_ONE), "acosh": (0, [Range(-INF, 1)]),
    "atanh": (0, [Range(-1, -1), Range(1, 1)]),
}  # fmt: skip
LARGEST_EXPONENT = {"f32": math.log(3.4e38), "f64": math.log(1.79e308)}
OVERFLOWS = {"exp": 1.0, "expm1": 1.0, "exp2": math.log(2.0), "sinh": 1.0, "cosh": 1.0}


@dataclass(frozen=True)
class Singular:
    """`node` has no finite derivative for elements that `mask` (a where) hides, or, without a mask, as the parameters
    are at first. `sure` says that every such element spoils the gradient, `likely` that some do."""

    node: Node
    mask: Node | None
    operand: Range
    sure: bool
    likely: bool


def singular_places(node: Node) -> tuple[int, list[Range]] | None:
    """The operand that decides, and where in it the derivative is not finite."""
    if node.op in PLACES:
        return PLACES[node.op]
    if node.op in OVERFLOWS and node.output.type.dtype in LARGEST_EXPONENT:
        return 0, [Range(LARGEST_EXPONENT[node.output.type.dtype] / OVERFLOWS[node.op], INF)]
    power = node.inputs[1] if node.op == "pow" else None
    if not isinstance(power, Literal):
        return None
    p = float(power.value)
    if p == int(p):
        return (0, NOTHING) if p < 0 else None
    return 0, BELOW_ZERO if p < 1 else [Range(-INF, -JUST)]


# what a condition says --------------------------------------------------------------------------------------------
Case = dict[Value, Range]  # what values are in one of several cases


def cases(p: Proofs, condition: Operand, holds: bool) -> list[Case]:
    """What is known of values where `condition` holds, or where it does not: one of these cases is it."""
    node = p.same.made(condition)
    known = {condition: ONE if holds else ZERO} if isinstance(condition, Value) else {}
    if node is None:
        return []
    if node.op == "logical_not":
        return [{**c, **known} for c in cases(p, node.inputs[0], not holds)]
    if node.op in ("logical_and", "logical_or", "bitwise_and", "bitwise_or"):
        parts = [part for o in node.inputs if (part := cases(p, o, holds))]
        both = node.op.endswith("and") == holds  # else one of the two is it
        joined = [_joined(c) for c in product(*parts)] if both and parts else [c for part in parts for c in part]
        return [{**c, **known} for c in joined]
    if node.op == "cast":
        x, c, op = node.inputs[0], 0.0, "not_equal"
    elif node.op in COMPARED:
        x, y, op = *node.inputs, node.op
        if p.range_of(x).is_constant:
            x, y, op = y, x, MIRRORED.get(op, op)
        if not p.range_of(y).is_constant:
            return []
        c = p.range_of(y).low
    else:
        return []
    op = op if holds else NEGATED[op]
    x = p.same.of(x)
    if not isinstance(x, Value) or not math.isfinite(c):
        return []
    own = p.ranges[x]
    found = [r for r in COMPARED[op](c) if r.low <= own.high and own.low <= r.high]
    pieces = [Range(max(r.low, own.low), min(r.high, own.high)) for r in found]
    return [{**case, **known} for piece in pieces for case in _behind(p, x, piece)]


def _joined(found: Sequence[Case]) -> Case:
    """All of these at once."""
    out: Case = {}
    for value, r in (item for case in found for item in case.items()):
        own = out.get(value, r)
        low, high = max(own.low, r.low), min(own.high, r.high)
        out[value] = Range(low, high) if low <= high else r
    return out


COMPARED = {
    "greater": lambda c: [Range(_next(c, 1), INF)],
    "greater_equal": lambda c: [Range(c, INF)],
    "less": lambda c: [Range(-INF, _next(c, -1))],
    "less_equal": lambda c: [Range(-INF, c)],
    "equal": lambda c: [Range(c, c)],
    "not_equal": lambda c: [Range(-INF, _next(c, -1)), Range(_next(c, 1), INF)],
}
MIRRORED = {"greater": "less", "less": "greater", "greater_equal": "less_equal", "less_equal": "greater_equal"}
NEGATED = {
    "greater": "less_equal", "less_equal": "greater", "less": "greater_equal", "greater_equal": "less",
    "equal": "not_equal", "not_equal": "equal",
}  # fmt: skip


def _next(c: float, sign: int) -> float:
    return c + sign * max(abs(c) * 1e-6, JUST)


def _behind(p: Proofs, x: Value, piece: Range) -> Iterator[Case]:
    """`x` in this range, and what it is made of: |z| > 1 says something of z."""
    made = p.same.made(x)
    base = p.same.of(made.inputs[0]) if made is not None and made.op in BACKWARDS else None
    if made is None or not isinstance(base, Value):
        yield {x: piece}
        return
    for own in BACKWARDS[made.op](piece):
        for case in _behind(p, base, own):
            yield {x: piece, **case}


def _root(r: Range) -> Range:
    return Range(math.sqrt(max(r.low, 0.0)), math.sqrt(max(r.high, 0.0)))


BACKWARDS = {
    "abs": lambda r: [r, Range(-r.high, -r.low)],
    "square": lambda r: [_root(r), Range(-_root(r).high, -_root(r).low)],
    "neg": lambda r: [Range(-r.high, -r.low)],
    "sqrt": lambda r: [Range(max(r.low, 0.0) ** 2, INF if r.high > 1e150 else max(r.high, 0.0) ** 2)],
    "cast": lambda r: [r],
    "stop_gradient": lambda r: [r],
}


# what an arm is given ---------------------------------------------------------------------------------------------
def masked(p: Proofs) -> Iterator[Singular]:
    """The ops in the arms of every `where` whose derivative is not finite for elements that are hidden."""
    for node in p.graph.nodes:
        if node.op != "where" or node.output not in p.plain.alive:
            continue
        arms = [(i, _arm(p, node.inputs[i])) for i in (1, 2)]
        if not any(_has_place(n) for _, nodes in arms for n in nodes):
            continue
        for i, nodes in arms:
            shown, hidden = cases(p, node.inputs[0], i == 1), cases(p, node.inputs[0], i == 2)
            if shown and hidden:
                yield from _in_arm(p, node, nodes, shown, hidden)


def _has_place(node: Node) -> bool:
    return node.op == "pow" or node.op in PLACES or node.op in OVERFLOWS


def _arm(p: Proofs, operand: Operand) -> dict[Node, bool]:
    """The elementwise nodes that an arm is made of, in program order, and whether gradient of the arm comes to them."""
    found: dict[Node, bool] = {}
    stack = [(operand, True)]
    while stack and len(found) < NEAR:
        value, reached = stack.pop()
        node = p.plain.producer.get(value) if isinstance(value, Value) else None
        if node is None or not (OPS[node.op].kind == "elementwise" or node.op in VIEWS):
            continue
        if node not in found or (reached and not found[node]):
            found[node] = reached
            stack += [(o, reached and passes) for o, passes in zip(node.inputs, p.plain.passes(node), strict=True)]
    return {node: found[node] for node in sorted(found, key=p.order.__getitem__)}


def _in_arm(
    p: Proofs, mask: Node, nodes: Mapping[Node, bool], shown: Sequence[Case], hidden: Sequence[Case]
) -> Iterator[Singular]:
    inside, outside = ([_ranges_in(p, nodes, case) for case in found] for found in (shown, hidden))
    usual = [_ranges_in(p, nodes, {v: _moderate(r) for v, r in case.items()}) for case in hidden]
    for node, reached in nodes.items():
        places = singular_places(node)
        if places is None or not reached or not _feeds(p, node):
            continue
        operand = p.same.of(node.inputs[places[0]])
        kept = [_range_in(p, operand, env) for env in inside]
        lost = [_range_in(p, operand, env) for env in outside]
        if set(kept) == set(lost) or any(_overlap(r, b) and not _touches(r, b) for r in kept for b in places[1]):
            continue  # the condition keeps nothing out
        met = [r for r in lost if any(_overlap(r, b) for b in places[1])]
        if met:
            whole = p.range_of(operand)
            found = [(r, b) for r in (_range_in(p, operand, env) for env in usual) for b in places[1] if _overlap(r, b)]
            sure = any(b.low <= r.low and r.high <= b.high for r, b in found)
            # a part of the hidden numbers; or a number that many are, for the range of all ends there
            likely = any(not _touches(r, b) or max(r.low, b.low) in whole[:2] for r, b in found)
            yield Singular(node, mask, met[0], sure, likely)


def _feeds(p: Proofs, node: Node) -> bool:
    return any(isinstance(o, Value) and set(p.plain.feeding(o)).intersection(p.trainable) for o in node.inputs)


def _overlap(a: Range, b: Range) -> bool:
    return a.low <= b.high and b.low <= a.high


def _moderate(r: Range) -> Range:
    """Without what only comes by underflow and overflow: sigmoid is 0 from -104 on."""
    return Range(min(-USUAL, r.high) if r.low == -INF else r.low, max(USUAL, r.low) if r.high == INF else r.high)


def _touches(a: Range, b: Range) -> bool:
    """Whether the two have one number in common."""
    return max(a.low, b.low) == min(a.high, b.high)


def _range_in(p: Proofs, operand: Operand, env: Mapping[Any, Range]) -> Range:
    if isinstance(operand, Literal):
        return of_number(operand.value)
    operand = p.same.of(operand)
    return env[operand] if operand in env else p.range_of(operand)


def _ranges_in(p: Proofs, nodes: Iterable[Node], case: Case) -> dict[Value, Range]:
    """The ranges of the values of an arm in one case."""
    env: dict[Any, Range] = {p.same.of(value): r for value, r in case.items()}
    for node in nodes:
        operands = [p.same.of(o) for o in node.inputs]
        for value in node.outputs:
            if p.same.of(value) not in env:
                given = [_range_in(p, o, env) for o in operands]
                env[value] = transfer(node, value, operands, given, p.graph.constants)
    return env


# the first step ---------------------------------------------------------------------------------------------------
def at_first(p: Proofs) -> Iterator[Singular]:
    """Ops whose derivative is not finite for any data as long as the parameters are what they are at first: the norm of
    a vector of zeros."""
    wanted = [n for n in p.graph.nodes if n.op in PLACES or n.op == "pow"]
    wanted = [n for n in wanted if n.output in p.flow.alive and _feeds(p, n)]
    if not wanted:
        return
    start = ranges(p.graph, p.same, {v: of_array(p.arrays[v.name]) for v in p.parameters()})
    for node in wanted:
        places = singular_places(node)
        if places is None:
            continue
        operand = p.same.of(node.inputs[places[0]])
        found = start[operand] if isinstance(operand, Value) else of_number(operand.value)
        if found != p.range_of(operand) and any(b.low <= found.low and found.high <= b.high for b in places[1]):
            yield Singular(node, None, found, True, True)
