"""Tracing a region: a part of a program that stands in a node of it, such as the body of a loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from ..ir.build import Ref
from ..ir.dims import Shape
from ..ir.graph import Attrs, Graph, Value
from ..ir.op import Op, _resolve
from ..ir.types import TensorType
from .context import Trace
from .module import Buffer
from .state import TraceError, current_trace, running
from .structure import Structure
from .tensors import Tensor
from .trace import _argument_names, _flatten_arguments, _unlike_stored


class RegionTrace(Trace):
    """The trace of a region. What it reads of the program around it becomes an input (`closure`); modules, locations,
    the ledger, seed and step, names of values and random sites are those of that program."""

    outer: Trace

    def __init__(self, name: str, outer: Trace) -> None:
        super().__init__(name, outer)
        self.whole = outer.whole
        self.paths, self.ledger, self.strangers = outer.paths, outer.ledger, outer.strangers
        self._scopes = outer._scopes  # the same list: the ledger asks the program around

    def feeding(self, value: Value) -> tuple[str, ...]:
        outside = (self.closure.get(v.name) for v in self._read_by(value))
        found = (n for ref in outside if ref is not None for n in self.outer.feeding(ref._value))  # type: ignore[arg-type]
        return tuple(dict.fromkeys(found))

    def closure_name(self, ref: Ref) -> str:
        """Inputs of the program, such as parameters, keep their names."""
        value = ref._value
        known = isinstance(value, Value) and value.name in ref._builder.roles and value.name not in self.builder.roles
        return value.name if known else super().closure_name(ref)  # type: ignore[union-attr]

    def scalar(self, name: str) -> Tensor:
        return self.read(self.outer.scalar(name))

    def draw(self, op: Op, shape: Shape, attrs: Attrs) -> Tensor:
        """Drawn here, and drawn again wherever the region is computed again; inside of a loop by the loop."""
        return self.read(self.outer.draw(op, shape, attrs)) if self.in_loop() else super().draw(op, shape, attrs)

    def in_loop(self) -> bool:
        return isinstance(self.outer, RegionTrace) and self.outer.in_loop()

    def update(self, buffer: Buffer, value: Any) -> None:
        raise TraceError(
            self.at_line(
                f"a buffer cannot be assigned inside of {self.builder.name}, which is a part of the program",
                "return the new value, and assign it outside",
            )
        )


class BodyTrace(RegionTrace):
    """The trace of a loop's body: `rounds` is how often it runs. Random numbers are drawn for all rounds at once in the
    program around it, and come in as one more stacked input (`drawn`): every round has numbers of its own, and the
    backward loop sees the same ones."""

    def __init__(self, name: str, outer: Trace, rounds: Any) -> None:
        super().__init__(name, outer)
        self.rounds = rounds
        self.drawn: dict[str, Tensor] = {}

    def in_loop(self) -> bool:
        return True

    def draw(self, op: Op, shape: Shape, attrs: Attrs) -> Tensor:
        stacked = self.outer.draw(op, (self.rounds, *shape), attrs)
        name = f"random.{len(self.drawn)}"
        self.drawn[name] = stacked
        return self.input(name, TensorType(stacked.type.dtype, shape), "input", None)

    def concrete(self, tensor: Ref, kind: str) -> Any:
        if tensor._builder is not self.builder:
            return super().concrete(tensor, kind)
        raise TraceError(
            self.at_line(
                f"Python needs the value of a traced value here ({kind}), and in {self.builder.name} it differs from "
                f"round to round: {tensor.type}",
                "keep the value traced (gt.where instead of if)",
            )
        )


class PartTrace(RegionTrace):
    """The trace of a part that runs where it stands. Buffers that it assigns to are `written`: the trace around it has
    to update them."""

    def __init__(self, name: str, outer: Trace) -> None:
        super().__init__(name, outer)
        self.written: dict[int, Buffer] = {}

    def update(self, buffer: Buffer, value: Any) -> None:
        self.stored[id(buffer)] = self.fitted(buffer, value)
        self.written[id(buffer)] = buffer


class ClosedTrace(RegionTrace):
    """The trace of a part that may read its arguments only: `what` it is for, an error says."""

    def __init__(self, name: str, outer: Trace, what: str) -> None:
        super().__init__(name, outer)
        self.what = what

    def enclosed(self, ref: Ref) -> Tensor:
        if ref._value in self._enclosed:
            return self._enclosed[ref._value]
        raise TraceError(
            self.at_line(
                f"{self.what} reads {ref._builder.describe(ref._value)}, which is not one of its arguments: "
                "no gradient would flow to it",
                "the value as one more argument of the rule, with a gradient of its own",
            )
        )

    def update(self, buffer: Buffer, value: Any) -> NoReturn:
        raise TraceError(self.at_line(f"{self.what} assigns to a buffer: it may only compute", "return the new value"))


# parts of functions -------------------------------------------------------------------------------------------------
def is_operand(x: Any) -> bool:
    """What a node reads: traced values, arrays, parameters. Python numbers and Dims stay numbers inside the region."""
    return isinstance(x, (Ref, np.ndarray)) or (hasattr(x, "__array__") and not isinstance(x, np.generic))


def operands_of(fn: Callable[..., Any], args: tuple) -> tuple[Structure, list[tuple[str, Any]]]:
    """How the arguments of `fn` are nested, and those that are operands with their names."""
    return _flatten_arguments(args, _unlike_stored(_argument_names(fn, args, None), set()), is_operand)


def as_operand(trace: Trace, x: Any) -> Tensor:
    """`x` as a value of the running trace; an array becomes a constant of it."""
    x = _resolve(x)
    if isinstance(x, Tensor):
        return x
    constant = trace.builder.wrap(trace.builder.operand(x))
    trace.builder.flush()
    return constant


@dataclass(frozen=True)
class TracedRegion:
    """`graph` takes its arguments, then the values that it `reads` from the program around it; its last outputs are the
    new values of the buffers in `updates`."""

    graph: Graph
    reads: tuple[Tensor, ...]
    updates: tuple[Buffer, ...]


def trace_region(
    name: str,
    fn: Callable[..., Mapping[str, Any]],
    inputs: Sequence[tuple[str, Ref | TensorType]],
    closed: str = "",
) -> TracedRegion:
    """Records `fn(*inputs)`, which gives outputs by name, as a region of the running trace.

    inputs: names with values of the running trace, or with types. `closed` says what the region is for in the error
    that reading any other value is.
    """
    outer = current_trace()
    assert outer is not None
    trace = ClosedTrace(name, outer, closed) if closed else PartTrace(name, outer)
    try:
        with running(trace):
            values = [
                trace.input(n, x.type if isinstance(x, Ref) else x, "input", x if isinstance(x, Ref) else None)
                for n, x in inputs
            ]
            outputs = [(key, _resolve(value)) for key, value in fn(*values).items()]
            buffers = tuple(trace.written.values()) if isinstance(trace, PartTrace) else ()
            outputs += [(f"buffer.{i}", trace.stored[id(b)]) for i, b in enumerate(buffers)]
            graph = trace.builder.graph(outputs, symbols={}, guards=())
            trace.builder.flush()
    finally:
        trace.ended = True
    return TracedRegion(graph, tuple(trace.closure.values()), buffers)
