"""Whether it is harmless that gradient stops at a constant, because the loss does not change with it to first order:
`exp(x - m) / sum(exp(x - m))` is the same for every m, and so is `m + log(sum(exp(x - m)))`.

Two small changes of the constant c are followed through the program: c + t (a shift) and c * e**t (a scale). Each
value either does not change (None), is shifted by k t, is scaled by e**(k t), or changes in another way (Unknown).
`along` maps the axes along which the change differs to those of c. An epsilon beside a scaled value is taken for 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Union

import numpy as np

from ...ir.graph import Literal, Node, Operand, Value
from ...ir.op import OPS
from .flow import Flow

EPSILON = 1e-5  # what is added against division by zero


@dataclass(frozen=True)
class Motion:
    kind: str  # shift, scale
    k: float
    along: tuple[tuple[int, int], ...] = ()

    def times(self, k: float) -> Motion | None:
        return None if abs(self.k * k) < 1e-12 else Motion(self.kind, self.k * k, self.along)

    def as_kind(self, kind: str) -> Motion:
        return Motion(kind, self.k, self.along)

    @property
    def axes(self) -> set[int]:
        return {a for a, _ in self.along}


class Unknown(Exception):
    """The value changes in another way."""


Found = Union[Motion, None]


def is_exact(flow: Flow, constants: Sequence[tuple[Operand, Value | None]]) -> bool:
    """Whether the roots are the same to first order for every value of the constants, which are one number or array.
    Literals come with the result of the node that reads them; one may be the negative of another."""
    return any(_invariant(flow, constants, kind) for kind in ("shift", "scale"))


def _invariant(flow: Flow, constants: Sequence[tuple[Operand, Value | None]], kind: str) -> bool:
    found: dict[Value, Found] = {c: _start(c, kind) for c, _ in constants if isinstance(c, Value)}
    literals = {(user, id(c)): c for c, user in constants if isinstance(c, Literal)}
    first = next(iter(literals.values()), None)
    unknown: set[Value] = set()

    def change(node: Node, operand: Operand) -> Found:
        if isinstance(operand, Value):
            return found.get(operand)
        literal = literals.get((node.output, id(operand)))
        if literal is None or first is None:
            return None
        return Motion(kind, -1.0 if kind == "shift" and literal.value != first.value else 1.0)

    for node in flow.graph.nodes:
        if not flow.needed.intersection(node.outputs):
            continue
        here = [change(node, o) for o in node.inputs]
        lost = any(v in unknown for v in node.values())
        if not lost and all(c is None for c in here):
            continue
        if OPS[node.op].nondiff is not None:  # a step, or a stop_gradient: no gradient is missed behind it
            continue
        try:
            if lost:
                raise Unknown
            found[node.output] = _rule(node, here)
        except Unknown:
            unknown.update(node.outputs)
    return not any(root in unknown or found.get(root) is not None for root in flow.roots)


def _start(constant: Value, kind: str) -> Motion:
    return Motion(kind, 1.0, tuple((i, i) for i, size in enumerate(constant.type.shape) if size != 1))


def _rule(node: Node, here: Sequence[Found]) -> Found:
    rule = _RULES.get(node.op)
    if rule is None:
        raise Unknown
    return rule(node, [_broadcast(node, i, c) for i, c in enumerate(here)])


def _broadcast(node: Node, index: int, change: Found) -> Found:
    """The change of an operand in terms of the axes of the result, for an elementwise op."""
    if change is None or OPS[node.op].kind != "elementwise":
        return change
    moved = len(node.output.type.shape) - len(node.inputs[index].type.shape)
    return Motion(change.kind, change.k, tuple((a + moved, s) for a, s in change.along))


# elementwise ----------------------------------------------------------------------------------------------------------
def _only(kind: str, changes: Sequence[Found]) -> list[Motion]:
    found = [c for c in changes if c is not None]
    if any(c.kind != kind for c in found):
        raise Unknown
    return found


def _combined(kind: str, changes: Sequence[Found], signs: Sequence[float]) -> Found:
    """k of several operands added up; they must change along the same axes."""
    given = [(c, s) for c, s in zip(changes, signs, strict=True) if c is not None]
    found = _only(kind, [c for c, _ in given])
    if len({c.along for c in found}) > 1:
        raise Unknown
    total = sum(c.k * s for c, s in given)
    return None if abs(total) < 1e-12 else Motion(kind, total, found[0].along)


def _all_alike(changes: Sequence[Found]) -> Motion:
    """The change of all operands, which must be one and the same."""
    if None in changes or len(set(changes)) > 1:
        raise Unknown
    assert changes[0] is not None
    return changes[0]


def _sum(sign: float) -> Callable[[Node, Sequence[Found]], Found]:
    def rule(node: Node, changes: Sequence[Found]) -> Found:
        if any(c is not None and c.kind == "scale" for c in changes):
            small = [isinstance(o, Literal) and abs(o.value) <= EPSILON for o in node.inputs]
            return _all_alike([c for c, eps in zip(changes, small, strict=True) if not eps])
        return _combined("shift", changes, (1.0, sign))

    return rule


def _product(sign: float) -> Callable[[Node, Sequence[Found]], Found]:
    def rule(node: Node, changes: Sequence[Found]) -> Found:
        if any(c is not None and c.kind == "shift" for c in changes):
            by = [i.value for i in node.inputs if isinstance(i, Literal)]
            shifted = changes[0] if sign < 0 else next(c for c in changes if c is not None)
            if len(by) != 1 or shifted is None:
                raise Unknown
            return shifted.times(float(by[0]) ** sign if by[0] else 0.0)
        return _combined("scale", changes, (1.0, sign))

    return rule


def _power(node: Node, changes: Sequence[Found]) -> Found:
    exponent = node.inputs[1] if len(node.inputs) > 1 else None
    (change, *others) = changes
    if change is None or change.kind != "scale" or any(others) or not isinstance(exponent, Literal):
        raise Unknown
    return change.times(float(exponent.value))


def _to(kind: str, made: str, k: float = 1.0) -> Callable[[Node, Sequence[Found]], Found]:
    """A function that turns one kind into the other: exp, log."""

    def rule(node: Node, changes: Sequence[Found]) -> Found:
        (change,) = _only(kind, changes)
        return change.as_kind(made).times(k)

    return rule


def _scaled(k: float) -> Callable[[Node, Sequence[Found]], Found]:
    """A function f with f(a x) = a**k f(x) for a > 0."""

    def rule(node: Node, changes: Sequence[Found]) -> Found:
        (change,) = _only("scale", changes)
        return change.times(k)

    return rule


def _negative(node: Node, changes: Sequence[Found]) -> Found:
    (change,) = changes
    return change.times(-1.0) if change is not None and change.kind == "shift" else change


def _choice(node: Node, changes: Sequence[Found]) -> Found:
    """where(condition, a, b), maximum(a, b): like the operands, where these change alike. Beside shifted values -inf,
    and beside scaled ones 0 may stand."""
    operands = list(zip(node.inputs, changes, strict=True))[-2:]
    kinds = {c.kind for _, c in operands if c is not None}
    fixed = {"shift": lambda v: v <= -1e4, "scale": lambda v: v == 0}
    if len(kinds) != 1:
        raise Unknown
    allowed = fixed[next(iter(kinds))]
    return _all_alike([c for o, c in operands if not (isinstance(o, Literal) and c is None and allowed(o.value))])


# along axes -----------------------------------------------------------------------------------------------------------
def _axes(node: Node) -> set[int]:
    ndim = len(node.inputs[0].type.shape)
    given = node.attrs["axes"] if "axes" in node.attrs else (node.attrs["axis"],)
    return {a % ndim for a in given}


def _reduced(kinds: str, gives: str = "") -> Callable[[Node, Sequence[Found]], Found]:
    """Over axes along which the change is the same. `kinds` says what stays as it is; `gives` "None" that nothing of it
    is left."""

    def rule(node: Node, changes: Sequence[Found]) -> Found:
        change, *others = changes
        over = _axes(node)
        if change is None or any(c is not None for c in others) or change.kind not in kinds or change.axes & over:
            raise Unknown
        if gives == "None":
            return None
        if node.attrs.get("keepdims", True):
            return change
        return Motion(change.kind, change.k, tuple((a - sum(o < a for o in over), s) for a, s in change.along))

    return rule


def _spread(k: float) -> Callable[[Node, Sequence[Found]], Found]:
    """var, std: blind to a shift."""

    def rule(node: Node, changes: Sequence[Found]) -> Found:
        kept = _reduced("shift scale")(node, changes)
        return kept.times(k) if kept is not None and kept.kind == "scale" else None

    return rule


def _loss_of_logits(node: Node, changes: Sequence[Found]) -> Found:
    change = changes[0]
    last = len(node.inputs[0].type.shape) - 1
    if change is None or change.kind != "shift" or any(changes[1:]) or last in change.axes:
        raise Unknown
    return None


# views ----------------------------------------------------------------------------------------------------------------
def _permuted(node: Node, changes: Sequence[Found]) -> Found:
    (change,) = changes
    assert change is not None
    order = list(node.attrs["axes"])
    return Motion(change.kind, change.k, tuple(sorted((order.index(a), s) for a, s in change.along)))


def _reshaped(node: Node, changes: Sequence[Found]) -> Found:
    """Only where axes of size 1 come or go, or nothing differs along any."""
    (change,) = changes
    assert change is not None
    if not change.along:
        return change
    old, new = ([i for i, d in enumerate(t.shape) if d != 1] for t in (node.inputs[0].type, node.output.type))
    sizes = [[t.shape[i] for i in axes] for t, axes in ((node.inputs[0].type, old), (node.output.type, new))]
    if sizes[0] != sizes[1]:
        raise Unknown
    at = dict(zip(old, new, strict=True))
    return Motion(change.kind, change.k, tuple((at[a], s) for a, s in change.along))


def _broadcast_to(node: Node, changes: Sequence[Found]) -> Found:
    (change,) = changes
    assert change is not None
    moved = len(node.output.type.shape) - len(node.inputs[0].type.shape)
    return Motion(change.kind, change.k, tuple((a + moved, s) for a, s in change.along))


def _sliced(node: Node, changes: Sequence[Found]) -> Found:
    (change,) = changes
    assert change is not None
    sizes = (node.inputs[0].type.shape, node.output.type.shape)
    if any(sizes[0][a] != sizes[1][a] or node.attrs["step"][a] != 1 for a in change.axes):
        raise Unknown
    return change


def _same(node: Node, changes: Sequence[Found]) -> Found:
    return changes[0]


_RULES: Mapping[str, Callable[[Node, Sequence[Found]], Found]] = {
    "add": _sum(1.0), "sub": _sum(-1.0), "mul": _product(1.0), "div": _product(-1.0), "neg": _negative,
    "pow": _power, "square": _scaled(2.0), "sqrt": _scaled(0.5), "rsqrt": _scaled(-0.5), "reciprocal": _scaled(-1.0),
    "abs": _scaled(1.0), "relu": _scaled(1.0), "exp": _to("shift", "scale"), "log": _to("scale", "shift"),
    "exp2": _to("shift", "scale", float(np.log(2.0))), "log2": _to("scale", "shift", float(1 / np.log(2.0))),
    "where": _choice, "maximum": _choice, "minimum": _choice, "logaddexp": lambda node, c: _all_alike(c),
    "sum": _reduced("scale"), "mean": _reduced("scale shift"), "max": _reduced("scale shift"),
    "min": _reduced("scale shift"), "softmax": _reduced("shift", "None"), "log_softmax": _reduced("shift", "None"),
    "layer_norm": _reduced("shift scale", "None"), "rms_norm": _reduced("scale", "None"),
    "logsumexp": _reduced("shift"), "std": _spread(1.0), "var": _spread(2.0),
    "nll_from_logits": _loss_of_logits, "permute": _permuted, "reshape": _reshaped, "broadcast_to": _broadcast_to,
    "slice": _sliced, "cast": _same,
}  # fmt: skip
