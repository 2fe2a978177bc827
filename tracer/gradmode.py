"""`no_grad`: what is computed inside is a constant for the gradient."""

from __future__ import annotations

from contextlib import ContextDecorator
from typing import Any

from .context import NoGradBlock
from .state import current_trace


def no_grad() -> NoGrad:
    """`with no_grad():` or `@no_grad()`: values from outside enter the block behind a `stop_gradient`, whose
    location is the line of the block. Eagerly it does nothing."""
    return NoGrad()


class NoGrad(ContextDecorator):
    """The block of `no_grad()`. Blocks inside one another are one block."""

    def __init__(self) -> None:
        self._before: list[tuple[Any, NoGradBlock | None]] = []

    def __enter__(self) -> NoGrad:
        trace = current_trace()
        self._before.append((trace, trace.no_grad if trace else None))
        if trace is not None and trace.no_grad is None:
            trace.no_grad = NoGradBlock(trace.location())
        return self

    def __exit__(self, *error: Any) -> None:
        trace, block = self._before.pop()
        if trace is not None:
            trace.no_grad = block
