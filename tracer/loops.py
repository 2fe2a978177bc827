"""`scan`: a loop as one node of a program, however many rounds it has."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..ir.build import Builder, Ref, source_line
from ..ir.dims import Dim, DimLike, require_equal, same_shape
from ..ir.location import Location
from ..ir.op import OPS, _resolve
from ..ir.types import DTYPES, TensorType, TypeRuleError
from . import rng
from .apply import public, value
from .context import Trace
from .escaped import tag_of
from .functional import _type, astype, dtype_of
from .region import BodyTrace
from .state import current_trace, running
from .structure import Slot, Structure, flatten
from .trace import is_array, spec, trace


@public
def scan(
    f: Callable[[Any, Any], Any], init: Any, xs: Any = None, length: int | Dim | None = None, reverse: bool = False
) -> tuple[Any, Any]:
    """(last carry, stacked y) of `carry, y = f(carry, x)` for every x along the first axis of `xs`, as in JAX.

    carry, x and y are arrays, or nested tuples, lists and dicts of them; a carry keeps its shapes and dtypes. With
    `reverse` the last x comes first; y[t] always belongs to x[t]. `length` says how many rounds where there is no xs.
    f may read parameters and other traced values from around it. In a traced program the whole loop is one node, and
    the size of the first axis may be a Dim; on arrays it is a Python loop.

    Raises TypeError where f does not return (carry, y), where a carry changes its type, where xs differ in length.
    """
    carry_tree, carries = flatten(init, "carry", _is_leaf)
    x_tree, stacks = flatten(xs, "x", _is_leaf)
    weak = {name for name, x in carries if isinstance(x, (bool, int, float)) or _wider.get()}
    carries, stacks = ([(name, value(x)) for name, x in leaves] for leaves in (carries, stacks))
    rounds = _rounds(stacks, length)
    outer = current_trace()
    loop = _Loop(f, carry_tree, x_tree, rounds, reverse, weak)
    if outer is None:
        return loop.on_arrays(dict(carries), dict(stacks))
    while True:
        try:
            return loop.record(outer, dict(carries), dict(stacks))
        except _Widened as found:  # init was a Python number: it takes the dtype that f gives it
            carries = [(n, astype(x, found.dtype) if n == found.name else x) for n, x in carries]


def _is_leaf(x: Any) -> bool:
    return isinstance(x, (bool, np.bool_)) or is_array(_resolve(x))


def _rounds(stacks: list[tuple[str, Any]], length: Any) -> DimLike:
    """The number of rounds: that of xs, or `length`."""
    if not stacks and length is None:
        raise TypeRuleError("there is nothing to go along: give xs, or length=")
    for name, x in stacks:
        if x.ndim == 0:
            raise TypeRuleError(f"{name} has no axis to go along: {_type(x)}; what every round reads, f closes over")
    sizes = [(f"{name}: {_type(x)}", x.shape[0]) for name, x in stacks]
    sizes += [] if length is None else [(f"length={length}", length)]
    for what, size in sizes[1:]:
        if not require_equal(size, sizes[0][1]):
            raise TypeRuleError(f"the first axes differ: {sizes[0][0]} has {sizes[0][1]} rounds, {what} has {size}")
    return sizes[0][1]


_wider: ContextVar[bool] = ContextVar("gradtape_wider_carries", default=False)


@contextmanager
def wider_carries() -> Iterator[None]:
    """Inside, a float carry may become float64 in the first round: this is how the lint's probe runs a float32 model in
    float64, whose states still begin as float32 zeros."""
    token = _wider.set(True)
    try:
        yield
    finally:
        _wider.reset(token)


class _Widened(Exception):
    """A carry that began as a Python number has another dtype after the first round."""

    def __init__(self, name: str, dtype: str) -> None:
        self.name, self.dtype = name, dtype


@dataclass
class _Loop:
    """One call of scan; `weak` are the carries that began as Python numbers."""

    f: Callable[[Any, Any], Any]
    carry_tree: Structure
    x_tree: Structure
    rounds: DimLike
    reverse: bool
    weak: set[str]

    # on arrays ------------------------------------------------------------------------------------------------------
    def on_arrays(self, state: dict[str, Any], stacks: Mapping[str, Any]) -> tuple[Any, Any]:
        count = int(self.rounds)
        if count == 0:
            return self.carry_tree.restore(state), self.nothing(state, stacks)
        ys: list[dict[str, Any]] = [{} for _ in range(count)]
        y_tree = Structure(None, ())
        with rng.rounds(count) as begin:
            for t in reversed(range(count)) if self.reverse else range(count):
                begin(t)
                x = self.x_tree.restore({name: stack[t, ...] for name, stack in stacks.items()})
                carry, y = self.pair(self.f(self.carry_tree.restore(state), x))
                state = {name: self.next_state(name, state[name], new) for name, new in self.leaves(carry)}
                self.weak.clear()  # only the first round widens
                y_tree, found = flatten(y, "y", _is_leaf)
                ys[t] = {name: value(part) for name, part in found}
        stacked = {name: np.stack([y[name] for y in ys]) for name in y_tree.names}
        return self.carry_tree.restore(state), y_tree.restore(stacked)

    def next_state(self, name: str, before: Any, x: Any) -> Any:
        x = _resolve(x)
        if isinstance(x, (bool, int, float)) and not isinstance(x, np.generic) and before.ndim == 0:
            x = np.asarray(x, before.dtype)
        x = value(x)
        if _type(x) != _type(before) and not (name in self.weak and x.shape == before.shape):
            raise self.changed(name, _type(before), _type(x))
        return x

    def nothing(self, state: Mapping[str, Any], stacks: Mapping[str, Any]) -> Any:
        """The stacked results of no round: f is traced for their types."""
        parts = {n: spec(x.shape[1:], x.dtype) for n, x in stacks.items()}
        traced = trace(self.f, self.carry_tree.restore(state), self.x_tree.restore(parts), names=["carry", "x"])
        _, y = self.pair(traced.structure.tree)
        kinds = {name: v.type for name, v in traced.graph.outputs}
        empty = {n: np.zeros((0, *t.shape), DTYPES[t.dtype]) for n, t in kinds.items()}
        return Structure(y, ()).restore(empty)

    # traced ---------------------------------------------------------------------------------------------------------
    def record(self, outer: Trace, carries: Mapping[str, Any], stacks: Mapping[str, Any]) -> tuple[Any, Any]:
        builder = outer.builder
        given = {n: _given(builder, x) for n, x in (*carries.items(), *stacks.items())}
        body = BodyTrace(self.name, outer, self.rounds)
        try:
            with running(body):
                inside = {n: body.input(n, given[n].type, "input", None) for n in carries}
                for n in stacks:
                    whole = given[n].type
                    inside[n] = body.input(n, TensorType(whole.dtype, whole.shape[1:]), "input", None)
                carry, y = self.pair(self.f(self.carry_tree.restore(inside), self.x_tree.restore(inside)))
                new = [(n, self.carried(body, n, inside[n].type, x)) for n, x in self.leaves(carry)]
                y_tree, found = flatten(y, "y", _is_leaf)
                ys = [(n, _recorded(body, value(x))) for n, x in found]
                graph = body.builder.graph([*new, *ys], symbols={}, guards=())
        finally:
            body.ended = True
        inputs = {v.name: v for v in graph.inputs}
        order = [*body.closure, *carries, *stacks, *body.drawn]
        graph = graph.replace(inputs=tuple(inputs[n] for n in order))
        args = [*body.closure.values(), *(given[n] for n in (*carries, *stacks)), *body.drawn.values()]
        attrs = {"consts": len(body.closure), "carries": len(carries), "length": self.rounds, "reverse": self.reverse}
        results = builder.emit(OPS["scan"], args, attrs, (graph,))
        last, stacked = results[: len(carries)], results[len(carries) :]
        restored = self.carry_tree.restore(dict(zip(carries, last, strict=True)))
        return restored, y_tree.restore(dict(zip(y_tree.names, stacked, strict=True)))

    def carried(self, body: BodyTrace, name: str, before: TensorType, x: Any) -> Ref:
        x = _resolve(x)
        if isinstance(x, (bool, int, float)) and not isinstance(x, np.generic) and before.ndim == 0:
            x = np.asarray(x, DTYPES[before.dtype])
        new = _recorded(body, value(x))
        after = new.type
        if name in self.weak and same_shape(after.shape, before.shape) and after.dtype != before.dtype:
            raise _Widened(name, after.dtype)
        same = after.dtype == before.dtype and after.ndim == before.ndim
        if not (same and all(require_equal(a, b) for a, b in zip(after.shape, before.shape, strict=True))):
            made = next((n.location for n in body.builder.nodes if new._value in n.outputs), None)
            raise self.changed(name, before, after, made)
        return new

    # what f returns -------------------------------------------------------------------------------------------------
    @property
    def name(self) -> str:
        return getattr(self.f, "__name__", type(self.f).__name__).strip("<>")

    def pair(self, result: Any) -> tuple[Any, Any]:
        if isinstance(result, tuple) and len(result) == 2:
            return result
        what = f"a tuple of {len(result)}" if isinstance(result, tuple) else type(result).__name__
        raise self.error(f"{self.name} must return (carry, y), it returned {what}", "return carry, y")

    def leaves(self, carry: Any) -> list[tuple[str, Any]]:
        """The values of a new carry, which must be nested as the first one is."""
        tree, leaves = flatten(carry, "carry", _is_leaf)
        if tree.tree != self.carry_tree.tree:
            fact = f"{self.name} gets the carry {_shown(self.carry_tree.tree)} and returns {_shown(tree.tree)}"
            raise self.error(fact, "a new carry that is nested like init")
        return leaves

    def changed(self, name: str, before: TensorType, after: TensorType, made: Location | None = None) -> TypeError:
        fact = f"the carry changes its type: {name} is {before} at first, and {after} after {self.name}"
        return self.error(fact, "an init of the type that f returns, or convert in f (astype, broadcast_to)", made)

    def error(self, fact: str, write: str, made: Location | None = None) -> TypeError:
        """With the line where the value was made, or else that of f."""
        code = getattr(self.f, "__code__", None)
        where = made or (Location(code.co_filename, code.co_firstlineno) if code else None)
        lines = [f"scan: {fact}"]
        if where is not None:
            lines += [f"  at    {where.file}:{where.line}" + (f"  {where.scope}" if where.scope else "")]
            lines += [f"        {source_line(where)}"]
        return TypeError("\n".join([*lines, f"  write {write}"]))


def _given(builder: Builder, x: Any) -> Ref:
    """What a loop is given: an array of one number (a state that starts from zeros) is not kept as a constant."""
    if isinstance(x, np.ndarray) and x.size and x.ndim and tag_of(x) is None and (x == x.flat[0]).all():
        attrs = {"shape": x.shape, "value": x.flat[0].item(), "dtype": dtype_of(x)}
        return builder.emit(OPS["full"], (), attrs)
    return builder.wrap(builder.operand(x))


def _recorded(body: BodyTrace, x: Any) -> Ref:
    return body.builder.wrap(body.builder.operand(x if isinstance(x, Ref) else np.asarray(x)))


def _shown(tree: Any) -> str:
    """The structure of a carry: its containers, and the names of the values in them."""
    if isinstance(tree, dict):
        return "{" + ", ".join(f"{k!r}: {_shown(v)}" for k, v in tree.items()) + "}"
    if isinstance(tree, (tuple, list)):
        inside = ", ".join(map(_shown, tree)) + ("," if len(tree) == 1 and isinstance(tree, tuple) else "")
        return f"({inside})" if isinstance(tree, tuple) else f"[{inside}]"
    return tree.name if isinstance(tree, Slot) else repr(tree)
