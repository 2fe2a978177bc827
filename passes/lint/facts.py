"""What is known of a cotangent, and how an op's own derivative rule hands it on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ...ir.graph import Literal, Node, Operand, Value
from .along import NONE, Axes, ZeroSum, all_axes, constant_axes, ones, zero_sums
from .derivative import derivative_of
from .intervals import ANY, ZERO, Range, of_number
from .ranges import transfer


@dataclass(frozen=True)
class Fact:
    """What is known of a value or cotangent: the range of its elements, the axes along which it is constant, those over
    which it sums to zero. `zero_by` is the node whose invariance makes it zero, where one does."""

    range: Range = ANY
    constant: Axes = NONE
    sums: tuple[ZeroSum, ...] = ()
    zero_by: Node | None = None


def look_through(node: Node, seeds: Sequence[Fact], known: Callable[[Operand], Fact]) -> list[Fact]:
    """What is known of the cotangents of `node`'s operands, from those of its results: by the op's derivative rule."""
    rule = derivative_of(node)
    if rule is None:
        return [Fact(constant=ones(o.type.shape)) for o in node.inputs]
    env: dict[Operand, Fact] = dict(zip(rule.seeds, seeds, strict=True))
    env.update(zip(rule.results, map(known, node.outputs), strict=True))
    env.update((x, known(o)) for x, o in zip(rule.operands, node.inputs, strict=True) if isinstance(x, Value))
    for n in rule.nodes:
        env[n.output] = _passed_on(n, [_look_up(env, o) for o in n.inputs])
    return [Fact() if p is None else _look_up(env, p) for p in rule.parts]


def number(operand: Literal) -> Fact:
    return Fact(of_number(operand.value))


def _look_up(env: Mapping[Operand, Fact], operand: Operand) -> Fact:
    return number(operand) if isinstance(operand, Literal) else env[operand]


def _passed_on(node: Node, given: Sequence[Fact]) -> Fact:
    """What is known of the result of a node of a derivative rule."""
    shape = node.output.type.shape
    ranges, constant = [f.range for f in given], [f.constant for f in given]
    sums: tuple[ZeroSum, ...] = ()
    if any(f.sums for f in given):
        sums = zero_sums(node, [f.sums for f in given], constant, ranges, shape)
        nothing = next((s for s in sums if not s.axes and s.rows is None), None)
        if nothing is not None:
            return Fact(ZERO, all_axes(shape), zero_by=nothing.by)
    found = transfer(node, node.output, node.inputs, ranges)
    if found == ZERO:
        return Fact(ZERO, all_axes(shape), zero_by=next((f.zero_by for f in given if f.zero_by is not None), None))
    return Fact(found, constant_axes(node, constant, shape), sums)
