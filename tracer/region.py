"""Tracing a region: a part of a program that stands in a node of it, such as the body of a loop."""

from __future__ import annotations

from typing import Any, NoReturn

from ..ir.build import Ref
from ..ir.dims import Shape
from ..ir.graph import Attrs, Value
from ..ir.op import Op
from ..ir.types import TensorType
from .context import Trace
from .module import Buffer
from .state import TraceError
from .tensors import Tensor


class RegionTrace(Trace):
    """The trace of a region. What it reads of the program around it becomes an input (`closure`); modules, locations,
    the ledger, seed and step are those of that program."""

    outer: Trace

    def __init__(self, name: str, outer: Trace) -> None:
        super().__init__(name, outer)
        self.paths, self.ledger = outer.paths, outer.ledger
        self._scopes = outer._scopes[-1:]

    def closure_name(self, ref: Ref) -> str:
        """Inputs of the program, such as parameters, keep their names."""
        value = ref._value
        known = isinstance(value, Value) and value.name in ref._builder.roles and value.name not in self.builder.roles
        return value.name if known else super().closure_name(ref)  # type: ignore[union-attr]

    def scalar(self, name: str) -> Tensor:
        return self.enclosed(self.outer.scalar(name))

    def draw(self, op: Op, shape: Shape, attrs: Attrs) -> Tensor:
        """Drawn in the program around the region, whose sites are numbered there."""
        return self.enclosed(self.outer.draw(op, shape, attrs))

    def update(self, buffer: Buffer, value: Any) -> NoReturn:
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
