"""gt.grad and gt.value_and_grad: derivatives of plain functions of arrays, also of derivatives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .compiler import Compiled, GradientError
from .entries import is_input
from .ir.graph import Value
from .ir.op import OPS
from .ir.types import DTYPES, shown
from .passes.autodiff import gradients
from .tracer.module import Module
from .tracer.state import current_trace
from .tracer.structure import Structure, changed, flatten


def value_and_grad(fn: Any, argnums: int | Sequence[int] = 0) -> Callable[..., tuple[Any, Any]]:
    """(value, gradient) of a scalar function of arrays, value first; inside a trace it can be differentiated again.

    argnums: which arguments; an int gives one gradient, several give a tuple. The gradient of a tuple, list or dict of
    arrays is one of gradients, zeros for arrays in it that the function does not use. For a Module the gradients are a
    dict by parameter path, and the module's output is the scalar. Raises TypeError where the function returns no float
    scalar, GradientError where it does not depend on an argument.
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

        def traced(a: Any) -> Any:
            fixed = a is None or isinstance(a, (str, bytes))
            return a if hasattr(a, "_builder") or fixed else builder.wrap(builder.operand(a))

        args: Any = tuple(changed(a, is_input, traced) for a in given)
        first = len(builder.nodes)
        wrt: list[Any] = []
        places: list[Structure] = []
        for number in numbers:
            if not -len(args) <= number < len(args):
                raise TypeError(f"argnums names argument {number}, and there are {len(args)}")
            place, leaves = flatten(args[number], str(number), lambda a: hasattr(a, "_builder"))
            for name, leaf in leaves:
                if not leaf.type.is_float:
                    fact = f"argument {name} is {leaf.type}: only floats have a gradient"
                    raise TypeError(f"{fact}; write x.astype('float32')")
            wrt += [leaf._value for _, leaf in leaves]
            places.append(place)

        def or_zeros(g: Any, of: Value) -> Any:  # a part of a container that is not used
            if g is None:
                g = builder.emit(OPS["full"], (), {"shape": of.type.shape, "value": 0.0, "dtype": of.type.dtype})
            return g

        value: Any = fn(*args)
        if not hasattr(value, "_builder") or value.shape != () or not value.type.is_float:
            write = "; write .sum() or .mean()" if hasattr(value, "_builder") and value.shape != () else ""
            raise TypeError(f"the function must return a float scalar to have a gradient, not {shown(value)}{write}")
        seed = builder.wrap(builder.operand(np.ones((), DTYPES[value.type.dtype])))
        found = gradients(builder, builder.nodes[first:], {value._value: seed}, wrt)
        results = []
        for number, place in zip(numbers, places, strict=True):
            own, found = found[: len(place.names)], found[len(place.names) :]
            if all(g is None for g in own):
                raise GradientError(f"the function does not depend on argument {number} in a differentiable way")
            results.append(place.restore(dict(zip(place.names, map(or_zeros, own, wrt), strict=True))))
            wrt = wrt[len(place.names) :]
        return value, results[0] if isinstance(argnums, int) else tuple(results)

    compiled = Compiled(inside)

    def outer(*args: Any) -> tuple[Any, Any]:
        return inside(*args) if current_trace() is not None else compiled.forward(*args)

    return outer


def grad(fn: Any, argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """The gradient of a scalar function of arrays; see `value_and_grad`."""
    both = value_and_grad(fn, argnums)
    return lambda *args: both(*args)[1]
