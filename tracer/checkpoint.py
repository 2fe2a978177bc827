"""`checkpoint`: what a function computes is computed again in backward rather than kept."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ..ir.op import OPS
from .region import as_operand, is_operand, operands_of, trace_region
from .state import current_trace
from .structure import Structure, flatten


def checkpoint(function: Callable[..., Any], *args: Any, use_reentrant: bool | None = None, **named: Any) -> Any:
    """`function(*args, **named)`, whose intermediate values are not kept for backward but computed a second time there.

        h = gt.checkpoint(block, h)             # in a model: memory for one block at a time, a third more work

        @gt.checkpoint                          # without arguments: the function that does this
        def block(h): ...

    Values and gradients are those of `function(*args)`; so are its random draws the second time. `function` may be a
    Module, may close over traced values and parameters, may assign to buffers (once, not twice), and returns an array
    or a nested structure with arrays. Eagerly nothing is kept anyway: it just runs. `use_reentrant` is PyTorch's and
    says nothing here.

    Raises TypeError where the function returns no array.
    """
    if args or named:
        return _checkpoint(function, args, named)
    if not callable(function):
        raise TypeError(f"checkpoint takes a function or a Module, not {type(function).__name__}")

    @functools.wraps(function)
    def wrapped(*args: Any, **named: Any) -> Any:
        return _checkpoint(function, args, named)

    return wrapped


def _checkpoint(function: Callable[..., Any], args: tuple, named: dict[str, Any]) -> Any:
    trace = current_trace()
    if trace is None:
        return function(*args, **named)
    arguments, leaves = operands_of(function, args)
    options, more = flatten(named, "named", is_operand)
    operands = {name: as_operand(trace, x) for name, x in (*leaves, *more)}
    structures: list[Structure] = []

    def body(*values: Any) -> dict[str, Any]:
        given = dict(zip(operands, values, strict=True))
        structure, found = flatten(function(*arguments.restore(given), **options.restore(given)), "out", is_operand)
        structures.append(structure)
        return dict(found)

    region = trace_region("checkpoint", body, list(operands.items()))
    if not region.graph.outputs:
        raise TypeError(
            trace.at_line("the function of a checkpoint returns no array", "return what the model goes on with")
        )
    results = trace.builder.emit(OPS["checkpoint"], [*operands.values(), *region.reads], {}, (region.graph,))
    results = results if isinstance(results, tuple) else (results,)
    names = structures[0].names
    for buffer, value in zip(region.updates, results[len(names) :], strict=True):
        trace.update(buffer, value)
    return structures[0].restore(dict(zip(names, results, strict=False)))
