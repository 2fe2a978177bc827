"""`no_grad`: what is computed inside is a constant for the gradient."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ContextDecorator
from typing import Any

from .context import NoGradBlock
from .state import current_trace


def no_grad(function: Callable[..., Any] | None = None) -> Any:
    """What is computed inside is a constant for the gradient: `with no_grad():`, `@no_grad()` or `@no_grad`.

        with gt.no_grad():
            target = self.teacher(x)

    Values from outside enter the block behind a `stop_gradient`, whose location is the line of the block. Eagerly it
    does nothing: there is no gradient.
    """
    return NoGrad() if function is None else NoGrad()(function)


class NoGrad(ContextDecorator):
    """The block of `no_grad()`. Blocks inside one another are one block."""

    def __init__(self) -> None:
        self._before: list[tuple[Any, NoGradBlock | None]] = []

    def _recreate_cm(self) -> NoGrad:
        return NoGrad()  # a call of a decorated function has a block of its own: two threads may be in it

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
