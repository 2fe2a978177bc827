"""`no_grad`: what is computed inside is a constant for the gradient."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

from ..ir.location import Location
from .context import NoGradBlock
from .state import current_trace

F = TypeVar("F", bound=Callable[..., Any])


def no_grad(function: Callable[..., Any] | None = None) -> Any:
    """What is computed inside is a constant for the gradient: `with no_grad():`, `@no_grad()` or `@no_grad`.

        with gt.no_grad():
            target = self.teacher(x)

    Values from outside enter the block behind a `stop_gradient`, whose location is the line of the block. Eagerly it
    does nothing: there is no gradient.
    """
    return NoGrad() if function is None else NoGrad()(function)


class NoGrad:
    """The block of `no_grad()`. Blocks inside one another are one block."""

    def __init__(self, where: Location | None = None) -> None:
        self._before: list[tuple[Any, NoGradBlock | None]] = []
        self._where = where

    def __call__(self, function: F) -> F:
        """As a decorator: the block is where the function is defined, not where it is called."""
        code = getattr(function, "__code__", None)
        where = None if code is None else Location(code.co_filename, code.co_firstlineno)

        @functools.wraps(function)
        def inside(*args: Any, **kwargs: Any) -> Any:
            with NoGrad(where):
                return function(*args, **kwargs)

        return cast(F, inside)

    def __enter__(self) -> NoGrad:
        trace = current_trace()
        self._before.append((trace, trace.no_grad if trace else None))
        if trace is not None and trace.no_grad is None:
            trace.no_grad = NoGradBlock(self._where or trace.location())
        return self

    def __exit__(self, *error: Any) -> None:
        trace, block = self._before.pop()
        if trace is not None:
            trace.no_grad = block
