"""Straight-through estimators: sums whose value is one thing and whose gradient is another's.
`x + stop_gradient(q - x)` has the value of q and the gradient of x."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ...ir.graph import Node, Value
from .evidence import Evidence
from .flow import Cut, differentiable_operands
from .linear import SUMS, sums_with, terms, whole_sum


@dataclass(frozen=True)
class StraightThrough:
    """`sum` has the value of `shown` and the gradient of `learns`; `stops` are its stop_gradients.

    unreached  trainable parameters of what is shown that nothing else joins to the loss
    reversed   whether the gradient goes to what was computed from the shown value, so that nothing is quantised
    """

    sum: Node
    shown: Value
    learns: Value
    stops: tuple[Node, ...]
    unreached: tuple[str, ...]
    reversed: bool


@dataclass(frozen=True)
class Cancelled:
    """A sum in which `value` and a straight-through of it meet with opposite signs: no gradient is left."""

    sum: Node
    value: Value
    parameters: tuple[str, ...]


def straight_throughs(e: Evidence) -> list[StraightThrough]:
    return e.once("straight", lambda e: list(_found(e)))


def _found(e: Evidence) -> Iterator[StraightThrough]:
    flow, seen = e.flow, set()
    for stop in e.flow.graph.nodes:
        if stop.op != "stop_gradient" or stop.output not in flow.needed:
            continue
        for node, *_ in sums_with(flow, stop.output):
            total = whole_sum(flow, node)
            if total in seen:
                continue
            seen.add(total)
            yield from _of_sum(e, total)


def _of_sum(e: Evidence, total: Node) -> Iterator[StraightThrough]:
    live: dict[Value, float] = {}
    stopped: dict[Value, float] = {}
    stops: dict[Node, None] = {}
    for t in terms(e.flow, total.output):
        if isinstance(t.value, Value):
            side = stopped if t.stopped else live
            side[t.value] = side.get(t.value, 0.0) + t.factor
            if t.by is not None:
                stops[t.by] = None
    net = {v: live.get(v, 0.0) + stopped.get(v, 0.0) for v in (*live, *stopped)}
    alone = sum(f != 0.0 for f in net.values()) == 1 and sum(f != 0.0 for f in live.values()) == 1
    rest = {v: f for v, f in net.items() if f}
    for learns, factor in live.items():
        if factor == 0.0 or stopped.get(learns) != -factor:
            continue
        whole = _whole(e, rest, learns) if len(rest) > 1 and not any(live.get(v) for v in rest) else None
        if whole is not None and not _gives_gradient(e, learns, whole):
            names = [p.path for p in e.dead if p.path in e.flow.parameters_of(whole)]
            yield StraightThrough(total, whole, learns, tuple(stops), tuple(names), True)
        for shown in (v for v, f in stopped.items() if v is not learns and f and net[v]):
            above = e.flow.ancestors(learns)
            turned = alone and shown in above and not _gives_gradient(e, learns, shown)
            names = [p.path for p in e.dead if p.path in e.flow.parameters_of(shown)]
            derived = turned or learns in e.flow.ancestors(shown)
            if derived and (turned or names):
                yield StraightThrough(total, shown, learns, tuple(stops), tuple(names), turned)


def _whole(e: Evidence, parts: dict[Value, float], learns: Value) -> Value | None:
    """What `learns` is computed from that is the sum of these parts: x @ w + b is one value."""
    for value in e.flow.ancestors(learns):
        node = e.flow.producer.get(value)
        if node is not None and node.op in SUMS and value is not learns:
            found = {t.value: t.factor for t in terms(e.flow, value) if not t.stopped}
            if found == parts:
                return value
    return None


def _gives_gradient(e: Evidence, start: Value, to: Value) -> bool:
    """Whether gradient that comes to `start` gets to `to`."""
    seen, stack = {start}, [start]
    while stack:
        value = stack.pop()
        if value is to:
            return True
        node = e.flow.producer.get(value)
        if node is None:
            continue
        for operand, passes in zip(node.inputs, differentiable_operands(node), strict=True):
            if passes and isinstance(operand, Value) and operand not in seen:
                seen.add(operand)
                stack.append(operand)
    return False


def explained_by_straight_through(e: Evidence, cut: Cut) -> set[str]:
    """The parameters that a cut kills within a straight-through, of which GT-B06 speaks."""
    found: set[str] = set()
    for s in straight_throughs(e):
        if isinstance(cut.by, Node) and (cut.by in s.stops or _within(e, cut.by, s)):
            found.update(s.unreached)
    return found


def _within(e: Evidence, node: Node, s: StraightThrough) -> bool:
    """Whether a node lies on the way from the value before the step to the one after it."""
    before, after = (s.shown, s.learns) if s.reversed else (s.learns, s.shown)
    return node.output in e.flow.ancestors(after) and before in e.flow.ancestors(node.output)


def cancelled(e: Evidence) -> Iterator[Cancelled]:
    """Sums of a value with its own straight-through in which the two cancel."""
    seen = set()
    for s in e.once("all straight", lambda e: list(_sums(e))):
        for node, *_ in sums_with(e.flow, s.output):
            total = whole_sum(e.flow, node)
            if total in seen or total.output not in e.flow.alive or total.op not in SUMS:
                continue
            seen.add(total)
            live: dict[Value, list[float]] = {}
            has_stop = False
            for t in terms(e.flow, total.output):
                has_stop |= t.stopped
                if isinstance(t.value, Value) and not t.stopped:
                    live.setdefault(t.value, []).append(t.factor)
            for value, factors in live.items():
                if has_stop and len(factors) > 1 and sum(factors) == 0.0:
                    names = [p.path for p in e.trainable if p.path in e.flow.feeding(value)]
                    if names:
                        yield Cancelled(total, value, tuple(names))


def _sums(e: Evidence) -> Iterator[Node]:
    """The outermost sums with something stopped in them."""
    found: dict[Node, None] = {}
    for stop in e.flow.graph.nodes:
        if stop.op == "stop_gradient" and stop.output in e.flow.needed:
            for node, *_ in sums_with(e.flow, stop.output):
                found[whole_sum(e.flow, node)] = None
    yield from found
