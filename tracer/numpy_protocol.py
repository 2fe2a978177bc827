"""NumPy's own functions on traced values: `np.tanh(x @ w)` is traced. A function without a traced form gets
the values (an escape: the gradient ends there), and the ledger says so."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from ..ir.build import Ref
from ..ir.op import OPS, _resolve
from . import elementwise as e
from . import functional as f
from . import generate as g
from .apply import run
from .escaped import tag_of, tagged
from .source import called
from .state import TraceError

# ufuncs whose op has another name; any other is looked up by its own
_UFUNCS = {
    "subtract": "sub", "multiply": "mul", "divide": "div", "true_divide": "div", "negative": "neg", "power": "pow",
    "absolute": "abs", "fabs": "abs", "bitwise_and": "logical_and", "bitwise_or": "logical_or", "rint": "round",
    "bitwise_xor": "logical_xor", "invert": "logical_not", "arcsin": "asin", "arccos": "acos", "arctan": "atan",
    "arctan2": "atan2", "arcsinh": "asinh", "arccosh": "acosh", "arctanh": "atanh",
}  # fmt: skip
_REDUCTIONS = {"add": f.sum, "multiply": f.prod, "maximum": f.max, "minimum": f.min}


def ufunc(function: np.ufunc, method: str, inputs: tuple, kwargs: dict) -> Any:
    """A ufunc (or its `reduce`) on traced values."""
    name = function.__name__
    if kwargs.get("out") is not None:
        _refuse_out(f"numpy.{name}", inputs)
    if method == "__call__" and not kwargs:
        if name == "positive":
            return _resolve(inputs[0])
        op = OPS.get(_UFUNCS.get(name, name))
        if op is not None and (op.kind == "elementwise" or name == "matmul"):
            return run(op, *inputs)
    if method == "reduce" and name in _REDUCTIONS:
        kwargs.setdefault("axis", 0)
        return _REDUCTIONS[name](*inputs, **{k: v for k, v in kwargs.items() if v is not None or k == "axis"})
    suffix = "" if method == "__call__" else f".{method}"
    full = f"numpy.{name}" if hasattr(np, name) else called() or name  # SciPy's are ufuncs too
    return _escape(getattr(function, method), full + suffix, inputs, kwargs)


def function(func: Callable[..., Any], args: tuple, kwargs: dict) -> Any:
    """A NumPy function that is not a ufunc."""
    traced = _FUNCTIONS.get(func)
    if kwargs.get("out") is not None:
        _refuse_out(_name(func), args)
    if traced is not None:
        try:
            inspect.signature(traced).bind(*args, **kwargs)
        except TypeError:  # an argument that our function does not have, such as `initial=`
            traced = None
    return _escape(func, _name(func), args, kwargs) if traced is None else traced(*args, **kwargs)


def _name(func: Callable[..., Any]) -> str:
    return f"{getattr(func, '__module__', 'numpy')}.{getattr(func, '__name__', func)}"


def _escape(func: Callable[..., Any], name: str, args: tuple, kwargs: dict) -> Any:
    args, kwargs = _concrete((args, kwargs), name)
    tag = tag_of((args, kwargs))
    return tagged(func(*args, **kwargs), tag)


def _concrete(thing: Any, name: str) -> Any:
    """(Nested) arguments with every traced value replaced by its number."""
    thing = _resolve(thing)
    if isinstance(thing, Ref):
        return thing._builder.trace.escape("numpy", thing, name)  # type: ignore[attr-defined]
    if type(thing) in (list, tuple):
        return type(thing)(_concrete(t, name) for t in thing)
    if type(thing) is dict:
        return {k: _concrete(v, name) for k, v in thing.items()}
    return thing


def _refuse_out(name: str, args: tuple) -> None:
    traced = next(a for a in map(_resolve, args) if isinstance(a, Ref))
    trace = traced._builder.trace  # type: ignore[attr-defined]
    trace.record("out", traced, name)
    raise TraceError(
        trace.at_line(
            f"{name} would write the traced value {traced.type} into a NumPy array", "x = x + y, without out="
        )
    )


def _reshape(a: Any, shape: Any, order: str = "C") -> Any:
    if order != "C":
        raise TraceError("reshape of a traced value is in row-major order; write x.T.reshape(...) for order='F'")
    return f.reshape(a, shape if isinstance(shape, (tuple, list)) else (shape,))


def _take(a: Any, indices: Any, axis: int | None = None) -> Any:
    return f.take(f.ravel(a), indices) if axis is None else f.take(a, indices, axis)


def _transpose(a: Any, axes: Any = None) -> Any:
    return f.transpose(a) if axes is None else f.transpose(a, tuple(axes))


def _where(condition: Any, x: Any, y: Any) -> Any:
    return f.where(condition, x, y)


def _dot(a: Any, b: Any) -> Any:
    a, b = _resolve(a), _resolve(b)
    if np.ndim(a) == 0 or np.ndim(b) == 0:
        return a * b
    if np.ndim(b) > 2:
        raise TraceError("np.dot of a traced value takes at most a matrix on the right; write a @ b")
    return f.matmul(a, b)


def _outer(a: Any, b: Any) -> Any:
    return f.reshape(a, -1, 1) * f.reshape(b, 1, -1)


def _vstack(tup: Any) -> Any:
    return f.concatenate([a if np.ndim(a) > 1 else f.reshape(a, 1, -1) for a in map(_resolve, tup)])


def _hstack(tup: Any) -> Any:
    arrays = [_resolve(a) for a in tup]
    return f.concatenate(arrays, 0 if np.ndim(arrays[0]) == 1 else 1)


def _norm(x: Any, axis: f.Axis = None, keepdims: bool = False) -> Any:
    return e.sqrt(f.sum(e.square(x), axis, keepdims))


def _clip(a: Any, a_min: Any = None, a_max: Any = None) -> Any:
    return f.clip(a, a_min, a_max)


_FUNCTIONS: dict[Any, Callable[..., Any]] = {
    np.sum: f.sum, np.mean: f.mean, np.max: f.max, np.amax: f.max, np.min: f.min, np.amin: f.min, np.prod: f.prod,
    np.any: f.any, np.all: f.all, np.argmax: f.argmax, np.argmin: f.argmin, np.round: lambda a: e.round(a),
    np.flip: f.flip, np.pad: f.pad,
    np.roll: lambda a, shift, axis: f.roll(a, shift, axis),
    np.var: lambda a, axis=None, *, ddof=0, keepdims=False: f.var(a, axis, ddof, keepdims),
    np.std: lambda a, axis=None, *, ddof=0, keepdims=False: f.std(a, axis, ddof, keepdims),
    np.reshape: _reshape, np.transpose: _transpose, np.permute_dims: _transpose, np.swapaxes: f.swapaxes,
    np.moveaxis: f.moveaxis, np.expand_dims: f.expand_dims, np.squeeze: f.squeeze, np.ravel: f.ravel,
    np.broadcast_to: lambda array, shape: f.broadcast_to(array, shape),
    np.concatenate: lambda arrays, axis=0: f.concatenate(arrays, axis),
    np.stack: lambda arrays, axis=0: f.stack(arrays, axis),
    np.vstack: _vstack, np.hstack: _hstack,
    np.split: lambda ary, indices_or_sections, axis=0: f.split(ary, indices_or_sections, axis),
    np.where: _where, np.take: _take, np.clip: _clip, np.dot: _dot, np.outer: _outer, np.linalg.norm: _norm,
    np.tril: lambda m, k=0: g.tril(m, k), np.triu: lambda m, k=0: g.triu(m, k),
    np.zeros_like: lambda a, dtype=None: g.zeros_like(a, dtype),
    np.ones_like: lambda a, dtype=None: g.ones_like(a, dtype),
    np.full_like: lambda a, fill_value, dtype=None: g.full_like(a, fill_value, dtype),
    np.shape: lambda a: a.shape, np.ndim: lambda a: a.ndim, np.size: lambda a: a.size, np.copy: lambda a: a,
}  # fmt: skip
