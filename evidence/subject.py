"""What is examined: a model or function with its loss, optimizer and one call's arrays, run in all the ways that the
layers of evidence need, and left as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..entries import entry_function, graph_name, input_names
from ..ir.dims import Dim, bounds
from ..ir.types import DTYPES
from ..models.optim import Optimizer
from ..tracer import rng
from ..tracer.module import Buffer, Module, Parameter
from ..tracer.structure import changed, flatten
from ..tracer.trace import Spec, Traced, is_array, trace

DRAWN = {"batch": 2, "other": 8}  # sizes of symbolic axes: of the first one, and of those after it


def drawn(spec: Spec, generator: np.random.Generator) -> np.ndarray:
    """An array for a spec: normal floats; integers 0 and 1, which are indices of every table."""
    sizes = [DRAWN["batch"] if i == 0 else DRAWN["other"] for i in range(len(spec.shape))]
    shape = [d if isinstance(d, int) else _within(d, n) for d, n in zip(spec.shape, sizes, strict=True)]
    if spec.dtype in ("f32", "f64"):
        return generator.standard_normal(shape).astype(DTYPES[spec.dtype])
    return generator.integers(0, 2, shape).astype(DTYPES[spec.dtype])


def _within(dim: Dim, size: int) -> int:
    low, high = bounds(dim)
    return max(int(low), size if high is None else int(min(size, high)))


@dataclass
class Subject:
    """`example` is `(*inputs, target)` with a loss, otherwise the inputs: arrays, or specs, for which arrays are
    drawn, and nested tuples, lists and dicts of them."""

    target: Any
    loss: Any
    optimizer: Optimizer | None
    example: tuple[Any, ...]

    def __post_init__(self) -> None:
        generator = np.random.default_rng(3)
        self.example = self.changed(lambda e: drawn(e, generator) if isinstance(e, Spec) else e)

    @property
    def model(self) -> Module | None:
        return self.target if isinstance(self.target, Module) else None

    @property
    def entry(self) -> str:
        return "forward" if self.loss is None else "step"

    @property
    def function(self) -> Any:
        return entry_function(self.target, self.loss, self.entry)

    @property
    def names(self) -> list[str]:
        return input_names(self.target, self.loss, self.entry, len(self.example))

    @property
    def arrays(self) -> list[tuple[str, Any]]:
        """Every array of the example, by the name that its input has."""
        parts = zip(self.names, self.example, strict=True)
        return [leaf for name, part in parts for leaf in flatten(part, name, is_array)[1]]

    def changed(self, change: Callable[[Any], Any]) -> tuple[Any, ...]:
        """The example with other arrays in the same nesting."""
        return changed(self.example, is_array, change)

    def trace(self, train: bool = True, dims: Mapping[str, Mapping[int, Any]] | None = None) -> Traced:
        return trace(
            self.function, *self.example, module=self.model, name=graph_name(self.target), train=train,
            names=self.names, dims=dims,
        )  # fmt: skip

    def parameters(self, traced: Traced) -> dict[str, Parameter]:
        """Every parameter of the program by path, those that no module registers too."""
        named = dict(self.model.named_parameters()) if self.model is not None else {}
        return {**named, **traced.captured}

    def stored(self, traced: Traced) -> dict[str, Parameter | Buffer]:
        return {**self.parameters(traced), **traced.buffers}

    @contextmanager
    def untouched(self, traced: Traced) -> Iterator[None]:
        """Puts parameters, buffers, modes and eager random numbers back as they were."""
        stored = {id(s): (s, s._array, s._array.copy()) for s in self.stored(traced).values()}
        modes = [(m, m.training) for m in (self.model.modules() if self.model is not None else [])]
        eager = (rng._eager.step, rng._eager.site)
        try:
            yield
        finally:
            for item, array, before in stored.values():
                array[...] = before
                item._array = array
            for module, training in modes:
                object.__setattr__(module, "training", training)
            rng._eager.step, rng._eager.site = eager
