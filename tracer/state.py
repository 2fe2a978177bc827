"""Which trace is running: one per thread and context, so that two threads can trace at the same time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .trace import Trace

_current: ContextVar[Trace | None] = ContextVar("gradtape_trace", default=None)


class TraceError(TypeError):
    """The model's Python asks for something that a traced program cannot do; the message says what to
    write. The running trace remembers it: user code may catch it and go on with something else."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        trace = current_trace()
        if trace is not None:
            trace.ledger.refuse(message)


def current_trace() -> Trace | None:
    """The innermost running trace of this context; None where model code runs eagerly."""
    return _current.get()


@contextmanager
def running(trace: Trace | None) -> Iterator[None]:
    """Makes `trace` the current one; None: the code inside runs eagerly. Restores the earlier one at the
    end."""
    token = _current.set(trace)
    try:
        yield
    finally:
        _current.reset(token)


def no_gradient_kept(what: str, name: str) -> AttributeError:
    """The error for PyTorch's `x.grad`, `x.backward()` and the like."""
    return AttributeError(
        f"{what} has no {name}: gradients are returned, not kept\n"
        "  write value, gradient = gt.value_and_grad(f)(x), or step = gt.compile(model, loss=..., optimizer=...)"
    )
