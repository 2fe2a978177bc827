"""gt.grad and gt.value_and_grad: derivatives of plain functions of arrays, also of derivatives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .compiler import Compiled, GradientError
from .ir.types import DTYPES, shown
from .passes.autodiff import gradients
from .tracer.module import Module
from .tracer.state import current_trace


def value_and_grad(fn: Any, argnums: int | Sequence[int] = 0) -> Callable[..., tuple[Any, Any]]:
    """(value, gradient) of a scalar function of arrays, value first; inside a trace it can be differentiated again.

    argnums: which arguments; an int gives one gradient, several give a tuple. For a Module the gradients are a dict by
    parameter path, and the module's output is the scalar. Raises TypeError where the function returns no float scalar,
    GradientError where it does not depend on an argument.
    """
    if isinstance(fn, Module):
        return Compiled(fn).value_and_grad
    if not callable(fn):
        raise TypeError(f"value_and_grad takes a function, not {shown(fn)}; write gt.value_and_grad(f)(x)")
    numbers = (argnums,) if isinstance(argnums, int) else tuple(argnums)

    def inside(*given: Any) -> tuple[Any, Any]:
        running = current_trace()
        assert running is not None
        builder = running.builder
        args: Any = tuple(a if hasattr(a, "_builder") else builder.wrap(builder.operand(a)) for a in given)
        first = len(builder.nodes)
        for number in numbers:
            if not -len(args) <= number < len(args):
                raise TypeError(f"argnums names argument {number}, and there are {len(args)}")
            if not args[number].type.is_float:
                kind = args[number].type
                raise TypeError(f"argument {number} is {kind}: only floats have a gradient; write x.astype('float32')")
        value: Any = fn(*args)
        if not hasattr(value, "_builder") or value.shape != () or not value.type.is_float:
            write = "; write .sum() or .mean()" if hasattr(value, "_builder") and value.shape != () else ""
            raise TypeError(f"the function must return a float scalar to have a gradient, not {shown(value)}{write}")
        seed = builder.wrap(builder.operand(np.ones((), DTYPES[value.type.dtype])))
        wrt = [args[i]._value for i in numbers]
        found = gradients(builder, builder.nodes[first:], {value._value: seed}, wrt)
        for number, g in zip(numbers, found, strict=True):
            if g is None:
                raise GradientError(f"the function does not depend on argument {number} in a differentiable way")
        return value, found[0] if isinstance(argnums, int) else tuple(found)

    compiled = Compiled(inside)

    def outer(*args: Any) -> tuple[Any, Any]:
        return inside(*args) if current_trace() is not None else compiled.forward(*args)

    return outer


def grad(fn: Any, argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """The gradient of a scalar function of arrays; see `value_and_grad`."""
    both = value_and_grad(fn, argnums)
    return lambda *args: both(*args)[1]
