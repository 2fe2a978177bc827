"""`callback`: Python that is called while a compiled program runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from ..ir.build import Ref
from ..ir.dims import dim_scope
from ..ir.host import HostFunction
from ..ir.op import OPS, _resolve
from ..ir.types import DTYPES, dtype_name
from .context import Trace
from .functional import _shape
from .region import as_operand, operands_of
from .rule_check import Rule, by_operand, check_rule, kind_of
from .state import current_trace, running
from .structure import Structure


def callback(
    fn: Callable[..., Any],
    *args: Any,
    shape: Any = None,
    dtype: Any = None,
    vjp: Callable[..., Any] | None = None,
    surrogate: bool = False,
    check: bool = True,
) -> Any:
    """`fn(*args)` by Python, on arrays, whenever the compiled program gets there: for what it cannot trace.

        y = gt.callback(scipy.special.j0, x, vjp=lambda g, y, x: -g * scipy.special.j1(x))

    fn     gets arrays of its own (it may keep and change them); Python numbers, strings and the like among `args` are
           passed on. It must not call the model that is running it, and may be called again or not at all where that
           changes no result: backward of a checkpoint, the search for a NaN, a result that nobody reads
    shape  of the result, sizes may be Dims; default: that of the first array. A list of shapes says that there are
           several results; then `fn` returns a tuple of them
    dtype  of the result, default: that of the first array; for several results one for all, or a list
    vjp    `vjp(g, out, *args)` -> a gradient for every argument, None for what has none, in Python too; for one
           argument also the gradient itself. Without it a gradient that is needed through the callback is an error
           that names the line; `gt.stop_gradient(gt.callback(...))` says that a cut is meant

    Eagerly it calls fn. In a program each result must have the declared shape and dtype, else the call raises
    TypeError. What fn raises reaches the caller of the program; nothing has been updated then.
    """
    trace = current_trace()
    if trace is None:
        return fn(*(_resolve(a) for a in args))
    arguments, leaves = operands_of(fn, args)
    operands = {name: as_operand(trace, x) for name, x in leaves}
    name = getattr(fn, "__name__", type(fn).__name__).strip("<>")
    shapes, dtypes = _results(trace, next(iter(operands.values()), None), shape, dtype)
    function = _Function(fn, arguments, len(shapes))
    rule = None if vjp is None else HostFunction(f"{name}.vjp", _Rule(name, vjp, arguments, dtypes))
    if vjp is not None and check and not surrogate:
        _compare(trace, function, vjp, name, operands)
    attrs = {"function": HostFunction(name, function), "vjp": rule, "shapes": shapes, "dtypes": dtypes}
    return trace.builder.emit(OPS["callback"], list(operands.values()), {**attrs, "site": trace.builder.new_site()})


def _results(trace: Trace, first: Ref | None, shape: Any, dtype: Any) -> tuple[tuple, tuple]:
    """The shapes and dtypes of the results."""
    if isinstance(shape, list) and any(isinstance(s, (tuple, list)) for s in shape):
        shapes = tuple(_shape((s,)) for s in shape)
    elif shape is not None:
        shapes = (_shape((shape,)),)
    elif first is not None:
        shapes = (first.shape,)
    else:
        raise TypeError(trace.at_line("a callback without arrays needs the shape of its result", "shape=(...)"))
    given = dtype if isinstance(dtype, (list, tuple)) else [dtype] * len(shapes)
    if len(given) != len(shapes):
        raise TypeError(trace.at_line(f"{len(shapes)} shapes and {len(given)} dtypes", "one dtype, or one for each"))
    default = first.type.dtype if first is not None else "f32"
    return shapes, tuple(default if d is None else dtype_name(d) for d in given)


@dataclass(frozen=True)
class _Function:
    """The user's function on the operands alone; op namespace calls in it run eagerly."""

    fn: Callable[..., Any]
    arguments: Structure
    results: int

    def __call__(self, *arrays: Any) -> Any:
        with running(None), dim_scope(None):
            return self.fn(*self.restored(arrays))

    def restored(self, arrays: Sequence[Any]) -> Any:
        return self.arguments.restore(dict(zip(self.arguments.names, arrays, strict=True)))


@dataclass(frozen=True)
class _Rule:
    """The user's derivative as the op `callback` calls it: on cotangents of float results, results and operands; it
    gives the gradient of every float operand."""

    name: str
    vjp: Callable[..., Any]
    arguments: Structure
    dtypes: tuple[str, ...]

    def __call__(self, *arrays: Any) -> Any:
        floats = [DTYPES[d].kind == "f" for d in self.dtypes]
        given, rest = iter(arrays[: sum(floats)]), arrays[sum(floats) :]
        g = tuple(next(given) if is_float else None for is_float in floats)
        out, operands = rest[: len(floats)], dict(zip(self.arguments.names, rest[len(floats) :], strict=True))
        with running(None), dim_scope(None):
            one = len(floats) == 1
            result = self.vjp(g[0] if one else g, out[0] if one else out, *self.arguments.restore(operands))
        found = by_operand(self.name, self.vjp, result, self.arguments)
        wanted = [name for name, x in operands.items() if x.dtype.kind == "f"]
        gradients = tuple(np.zeros_like(operands[n]) if found[n] is None else found[n] for n in wanted)
        return gradients if len(wanted) > 1 else gradients[0]


def _compare(trace: Trace, function: _Function, vjp: Callable, name: str, operands: Mapping[str, Ref]) -> None:
    """The check against finite differences, once for each function and kind of arguments."""

    def forward(*args: Any) -> tuple[Any, Any]:
        out = function.fn(*args)
        return out, (out, args)

    def backward(saved: Any, g: Any) -> Any:
        return vjp(g, saved[0], *saved[1])

    try:
        known = _compared.setdefault(function.fn, set())
    except TypeError:  # a callable that cannot be referred to weakly
        known = set()
    key = (vjp, kind_of(function.arguments, operands))
    if key not in known:
        backward.__wrapped__ = vjp  # type: ignore[attr-defined]  # its line is the one to name
        rule = Rule(name, forward, backward, function.arguments, lambda pair: pair)
        if check_rule(trace, rule, operands, "callback"):
            known.add(key)


_compared: WeakKeyDictionary[Callable[..., Any], set[Any]] = WeakKeyDictionary()
