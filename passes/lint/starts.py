"""What the initial values of the parameters decide for ever: zeros that never move, units that stay alike.

Both are proved by induction over the steps: a property of the parameters that their gradients have as well, whatever
the data and the other parameters are, is kept by every update. (An update that adds noise is not meant.)
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ...ir.dims import DimScope, dim_scope
from ...ir.graph import Node, Operand, Value
from .along import NONE, Axes, constant_along, constants, ones
from .facts import Fact, look_through, number
from .flow import Edge, Flow
from .intervals import ZERO, Range
from .ranges import ranges
from .vanishing import vanishing

if TYPE_CHECKING:
    from .proofs import Proofs


@dataclass(frozen=True)
class Stuck:
    """`causes` are zero and stay so; `killed` have no gradient as long as they are. `node` is the first op at which it
    is lost."""

    node: Node
    killed: tuple[str, ...]
    causes: tuple[str, ...]


@dataclass(frozen=True)
class Units:
    """A product over `count` units that are alike; `parameters` on both sides make them so."""

    node: Node
    parameters: tuple[str, ...]
    count: int


# what starts at zero ----------------------------------------------------------------------------------------------
# zeros that never move --------------------------------------------------------------------------------------------
def stuck(p: Proofs) -> list[Stuck]:
    """Parameters that start at zero and never move.

    Of all parameters that are zero, those are taken out again whose gradient may be another number while the rest is
    zero, until none is left to take out. One zero factor (the B of a LoRA) is taken out, two that are multiplied stay.
    """
    zeros = {v for v in p.parameters() if _is_zero(p.arrays[v.name])}
    fixed = {v for v in zeros if v.name not in p.trainable or not p.flow.reaches(v.name)}
    while zeros:
        found = ranges(p.graph, p.alike_in_value, dict.fromkeys(zeros, ZERO))
        closed = _closed_in(p, found)
        if not closed:
            return []
        flow = Flow(p.graph, p.plain.roots, (), {*p.edges, *closed})
        moved = {v for v in zeros - fixed if flow.reaches(v.name)}
        if not moved:
            return _together(p, flow, closed, zeros, found)
        zeros -= moved
    return []


def _is_zero(array: np.ndarray) -> bool:
    return array.size > 0 and not array.flat[0] and not array.any()


def _closed_in(p: Proofs, found: Mapping[Value, Range]) -> list[Edge]:
    """The edges that carry no gradient as long as the ranges are these."""

    def known(operand: Operand) -> Fact:
        operand = p.same.of(operand)
        return Fact(found[operand]) if isinstance(operand, Value) else number(operand)

    closed: list[Edge] = []
    for node in p.graph.nodes:
        alive = any(v in p.flow.alive for v in node.outputs)
        if not alive or not any(found[v] != p.values[v] for v in (*node.values(), *node.outputs)):
            continue
        seeds = [Fact(constant=ones(v.type.shape)) for v in node.outputs]
        facts = zip(p.flow.passes(node), look_through(node, seeds, known), strict=True)
        closed += [(node, i) for i, (passes, fact) in enumerate(facts) if passes and fact.range == ZERO]
    return closed


def _together(
    p: Proofs, flow: Flow, closed: Sequence[Edge], zeros: set[Value], found: Mapping[Value, Range]
) -> list[Stuck]:
    """What is lost at these edges; those that have a parameter in common are one."""
    groups: list[tuple[Node, set[str], set[str]]] = []
    for edge in closed:
        node, killed = edge[0], set(p.killed([edge], flow, p.flow))
        if not killed:
            continue
        causes = _made_zero_by(p, node, zeros, found)
        for group in [g for g in groups if (g[1] | g[2]) & (killed | causes)]:
            groups.remove(group)
            node, killed, causes = group[0], killed | group[1], causes | group[2]
        groups.append((node, killed, causes))
    return [Stuck(node, _in_order(p, killed), _in_order(p, causes)) for node, killed, causes in groups]


def _made_zero_by(p: Proofs, node: Node, zeros: set[Value], found: Mapping[Value, Range]) -> set[str]:
    """Those of the parameters `zeros` that make an operand of `node` zero."""
    causes: set[str] = set()
    seen: set[Operand] = set()
    stack = list(node.inputs)
    while stack:
        value = stack.pop()
        if not isinstance(value, Value) or value in seen or found[value] != ZERO:
            continue
        seen.add(value)
        if value in zeros:
            causes.add(value.name)
        elif value in p.plain.producer:
            stack += p.plain.producer[value].inputs
    return causes


def _in_order(p: Proofs, names: Collection[str]) -> tuple[str, ...]:
    return tuple(name for name in p.arrays if name in names)


# units that stay alike --------------------------------------------------------------------------------------------
def alike(p: Proofs) -> list[Units]:
    """Products over units that start alike and stay so.

    Parameters keep an axis along which they are constant if their gradients are constant along it as long as all of
    them are.
    """
    known = {v: constant_along(p.arrays[v.name]) for v in p.parameters()}
    matrices = (v for v in known if v.type.ndim > 1 and v.name in p.trainable)
    if all(v.type.shape[a] == 1 for v in matrices for a in known[v]):
        return []
    while True:
        constant = constants(p.graph, p.same, known)
        with dim_scope(DimScope(dict(p.graph.symbols), quiet=True)):
            back = vanishing(p.graph, p.plain.roots, p.same, p.ranges, p.values, constant)
        kept = {v: axes & back.constant[v] if v.name in p.trainable else axes for v, axes in known.items()}
        if kept == known:
            break
        known = kept
    found = (_units(p, node, constant, known) for node in p.graph.nodes)
    return [units for units in found if units is not None]


def _units(p: Proofs, node: Node, constant: Mapping[Value, Axes], known: Mapping[Value, Axes]) -> Units | None:
    """A product that sums over units which are all alike, in both factors."""
    if node.op not in ("matmul", "conv") or not any(v in p.flow.alive for v in node.outputs):
        return None
    x, y = node.inputs
    inner = (x.type.ndim - 1, max(y.type.ndim - 2, 0)) if node.op == "matmul" else (1, 1)
    units, names = x.type.shape[inner[0]], set()
    for operand, axis in zip((x, y), inner, strict=True):
        if not isinstance(operand, Value) or axis not in constant.get(operand, NONE):
            return None
        origins = [v for v, a in p.sizes.origins(operand, axis) if v.type.ndim > 1 and a in known.get(v, NONE)]
        side = {v.name for v in origins if v.name in p.trainable and p.flow.reaches(v.name)}
        if not side:
            return None
        names |= side
    return Units(node, _in_order(p, names), units) if isinstance(units, int) and units > 1 else None
