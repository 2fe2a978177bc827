"""What modules without anything of their own are: a function of `gt` and its options."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...tracer import Module


class Function(Module):
    """A function of arrays as a module; `options` names the attributes that are its keyword arguments."""

    function: Callable[..., Any]
    options: tuple[str, ...] = ()

    def forward(self, *arrays: Any) -> Any:
        return type(self).function(*arrays, **{name: getattr(self, name) for name in self.options})
