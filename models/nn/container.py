"""Modules made of modules, and changes of shape."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ... import tracer as gt
from ...tracer import Module


class Identity(Module):
    """x"""

    def forward(self, x: Any) -> Any:
        return x


class Flatten(Module):
    """(B, ...) -> (B, product of the rest)"""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, x: Any) -> Any:
        return gt.flatten(x, self.start_dim, self.end_dim)


class Sequential(Module):
    """Modules one after the other. Keys: the number of the module, then its own (`0.weight`)."""

    def __init__(self, *modules: Callable[[Any], Any]) -> None:
        for i, module in enumerate(modules):
            if not callable(module):
                write = "Sequential(*layers)" if isinstance(module, (list, tuple)) else "a Module or a function"
                raise TypeError(f"Sequential: part {i} is a {type(module).__name__}; write {write}")
            setattr(self, str(i), module)

    def _parts(self) -> list[Any]:
        return [part for name, part in vars(self).items() if name.isdigit()]

    def forward(self, x: Any) -> Any:
        for part in self._parts():
            x = part(x)
        return x

    def append(self, module: Callable[[Any], Any]) -> Sequential:
        setattr(self, str(len(self)), module)
        return self

    def __len__(self) -> int:
        return len(self._parts())

    def __iter__(self) -> Iterator[Any]:
        return iter(self._parts())

    def __getitem__(self, i: int) -> Any:
        return self._parts()[i]
