"""Prediction and target that broadcast against each other, so that every one meets every other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ...ir.dims import identical
from ...ir.graph import Node, Operand, Value
from ...ir.op import OPS
from ...ir.types import is_one
from .evidence import Evidence

NEAR = 4  # lines
VIEWS = ("reshape", "permute", "broadcast_to", "cast", "slice")


@dataclass(frozen=True)
class Pairing:
    """`node` computes something of a prediction and a target that are both repeated. `reshaped`: somebody has given
    one of them an axis of size 1 before."""

    node: Node
    prediction: str
    target: str
    result: str
    parameters: tuple[str, ...]
    reshaped: bool


def pairings(e: Evidence) -> Iterator[Pairing]:
    """The first op of a loss at which (N, 1) and (N,) become (N, N)."""
    grown: set[Value] = set()  # and what is computed from it: told once
    for node in e.flow.graph.nodes:
        if grown.intersection(node.values()):
            grown.update(node.outputs)
            continue
        found = _pairing(e, node) if OPS[node.op].kind == "elementwise" and node.output in e.flow.alive else None
        if found is not None:
            grown.update(node.outputs)
            yield found


def _pairing(e: Evidence, node: Node) -> Pairing | None:
    values = [o for o in node.inputs if isinstance(o, Value)]
    for prediction in values:
        for target in values:
            if not _crossed(prediction, target) or not _is_prediction(e, prediction) or not _is_target(e, target):
                continue
            added = [_axis_added(e, v) for v in (prediction, target)]
            if all(added) or any(a is not None and _close(a, node) for a in added) or not _only_reduced(e, node):
                return None  # all pairs are meant
            return Pairing(
                node,
                _shape(prediction),
                _shape(target),
                _shape(node.output),
                tuple(p for p in e.flow.feeding(prediction) if p in e.proofs.trainable and e.flow.reaches(p)),
                any(a is not None for a in added),
            )
    return None


def _shape(value: Value) -> str:
    dims = value.type.shape
    return f"({', '.join(map(str, dims))}{',' if len(dims) == 1 else ''})"


def _crossed(a: Value, b: Value) -> bool:
    """Whether each is repeated along an axis where the other has the same size."""
    ndim = max(a.type.ndim, b.type.ndim)
    x, y = ((*[1] * (ndim - v.type.ndim), *v.type.shape) for v in (a, b))
    mine = [i for i in range(ndim) if not is_one(x[i]) and is_one(y[i])]
    yours = [i for i in range(ndim) if not is_one(y[i]) and is_one(x[i])]
    return any(identical(x[i], y[j]) for i in mine for j in yours)


def _is_prediction(e: Evidence, value: Value) -> bool:
    """Whether parameters and inputs take part in it."""
    fed = any(p in e.proofs.trainable for p in e.flow.feeding(value))
    return fed and any(e.graph.roles.get(v.name) == "input" for v in e.flow.ancestors(value))


def _is_target(e: Evidence, value: Value) -> bool:
    """Whether it is an input, taken element by element."""
    if e.flow.parameters_of(value):
        return False
    inputs = 0
    for v in e.flow.ancestors(value):
        node = e.flow.producer.get(v)
        if node is None:
            inputs += e.graph.roles.get(v.name) == "input"
        elif any(True for _ in node.values()) and node.op not in VIEWS and OPS[node.op].kind != "elementwise":
            return False
    return inputs > 0


def _axis_added(e: Evidence, value: Value) -> Node | None:
    """The reshape that has given `value` an axis of size 1, looking through what is elementwise."""
    node = e.flow.producer.get(value)
    while node is not None:
        if node.op == "reshape":
            before, after = (sum(map(is_one, o.type.shape)) for o in (node.inputs[0], node.output))
            if after > before:
                return node
        source: Operand | None = None
        if node.op in VIEWS:
            source = node.inputs[0]
        elif OPS[node.op].kind == "elementwise":
            source = next((o for o in node.values() if o.type.ndim == node.output.type.ndim), None)
        node = e.flow.producer.get(source) if isinstance(source, Value) else None
    return None


def _close(a: Node, b: Node) -> bool:
    """Whether `a` stands in the lines just above `b`, or in the same one."""
    if a.location is None or b.location is None or a.location.file != b.location.file:
        return False
    return 0 <= b.location.line - a.location.line <= NEAR


def _only_reduced(e: Evidence, node: Node) -> bool:
    """Whether nothing but elementwise ops, views and reductions stand between `node` and the loss: it is a part of the
    loss, not of the model."""
    for value in e.flow.descendants(node.output):
        for user in e.flow.uses.get(value, ()):
            if not any(v in e.flow.alive for v in user.outputs):
                continue
            plain = OPS[user.op].kind == "elementwise" or OPS[user.op].reduce is not None
            if not plain and user.op not in (*VIEWS, "mean", "var", "std"):
                return False
    return True
