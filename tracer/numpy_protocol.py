"""NumPy's own functions on traced values: `np.tanh(x @ w)` is traced. A function without a traced form gets
the values (an escape: the gradient ends there), and the ledger says so."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from ..ir.build import Ref
from ..ir.op import OPS, _resolve
from . import arrange, counting, running, sorting
from . import einsum as products
from . import elementwise as e
from . import functional as f
from . import generate as g
from . import indexing as i
from .apply import run
from .escaped import tag_of, tagged
from .source import called
from .state import TraceError

# ufuncs whose op has another name; any other is looked up by its own
_UFUNCS = {
    "subtract": "sub", "multiply": "mul", "divide": "div", "true_divide": "div", "negative": "neg",
    "absolute": "abs", "fabs": "abs", "rint": "round", "arcsin": "asin", "arccos": "acos", "arctan": "atan",
    "arctan2": "atan2", "arcsinh": "asinh", "arccosh": "acosh", "arctanh": "atanh", "left_shift": "bitwise_left_shift",
    "right_shift": "bitwise_right_shift",
}  # fmt: skip
_BY_FUNCTION = {
    "bitwise_and": e.bitwise_and, "bitwise_or": e.bitwise_or, "bitwise_xor": e.bitwise_xor, "invert": e.bitwise_invert,
    "positive": e.positive, "power": e.pow,
}  # fmt: skip
_REDUCTIONS = {"add": f.sum, "multiply": f.prod, "maximum": f.max, "minimum": f.min}
_RUNNING = {
    "add": running.cumsum, "multiply": running.cumprod, "logaddexp": running.logcumsumexp,
    "maximum": lambda x, axis: running.cummax(x, axis).values,
    "minimum": lambda x, axis: running.cummin(x, axis).values,
}  # fmt: skip


def ufunc(function: np.ufunc, method: str, inputs: tuple, kwargs: dict) -> Any:
    """A ufunc (or its `reduce`) on traced values."""
    name = function.__name__
    if kwargs.get("out") is not None:
        _refuse_out(f"numpy.{name}", inputs)
    if method == "at":  # np.add.at(x, i, values)
        _refuse_writing(f"numpy.{name}.at", inputs, f"x = x.at[i].{'add' if name == 'add' else 'set'}(values)")
    if method == "__call__" and not kwargs:
        if name in _BY_FUNCTION:
            return _BY_FUNCTION[name](*inputs)
        op = OPS.get(_UFUNCS.get(name, name))
        if op is not None and (op.kind == "elementwise" or name == "matmul"):
            return run(op, *inputs)
    if method == "reduce" and name in _REDUCTIONS:
        kwargs.setdefault("axis", 0)
        return _REDUCTIONS[name](*inputs, **{k: v for k, v in kwargs.items() if v is not None or k == "axis"})
    if method == "accumulate" and name in _RUNNING:
        return _RUNNING[name](inputs[0], kwargs.get("axis", 0))
    suffix = "" if method == "__call__" else f".{method}"
    full = f"numpy.{name}" if hasattr(np, name) else called() or name  # SciPy's are ufuncs too
    return _escape(getattr(function, method), full + suffix, inputs, kwargs)


def function(func: Callable[..., Any], args: tuple, kwargs: dict) -> Any:
    """A NumPy function that is not a ufunc."""
    traced = _FUNCTIONS.get(func)
    if func in _WRITERS:
        _refuse_writing(_name(func), args, _WRITERS[func])
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


def _refuse_writing(name: str, args: tuple, write: str) -> None:
    target = _resolve(args[0])
    if isinstance(target, Ref):
        trace = target._builder.trace  # type: ignore[attr-defined]
        trace.record("setitem", target, name)
        fact = f"a traced value cannot be assigned in place: {name} would write into {target.type}"
        raise TraceError(trace.at_line(fact, write))


def _reshape(a: Any, shape: Any, order: str = "C") -> Any:
    if order != "C":
        raise TraceError("reshape of a traced value is in row-major order; write x.T.reshape(...) for order='F'")
    return f.reshape(a, shape if isinstance(shape, (tuple, list)) else (shape,))


def _take(a: Any, indices: Any, axis: int | None = None) -> Any:
    return i.take(f.ravel(a), indices) if axis is None else i.take(a, indices, axis)


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


def _vstack(tup: Any) -> Any:
    return f.concatenate([a if np.ndim(a) > 1 else f.reshape(a, 1, -1) for a in map(_resolve, tup)])


def _hstack(tup: Any) -> Any:
    arrays = [_resolve(a) for a in tup]
    return f.concatenate(arrays, 0 if np.ndim(arrays[0]) == 1 else 1)


def _sort(a: Any, axis: int | None = -1, kind: Any = None, *, stable: Any = None) -> Any:
    return sorting.sort(a, axis)


def _argsort(a: Any, axis: int | None = -1, kind: Any = None, *, stable: Any = None) -> Any:
    return sorting.argsort(a, axis)


def _norm(x: Any, axis: f.Axis = None, keepdims: bool = False) -> Any:
    return e.sqrt(f.sum(e.square(x), axis, keepdims))


def _clip(a: Any, a_min: Any = None, a_max: Any = None) -> Any:
    return f.clip(a, a_min, a_max)


_FUNCTIONS: dict[Any, Callable[..., Any]] = {
    np.sum: f.sum, np.mean: f.mean, np.max: f.max, np.amax: f.max, np.min: f.min, np.amin: f.min, np.prod: f.prod,
    np.any: f.any, np.all: f.all, np.argmax: f.argmax, np.argmin: f.argmin,
    np.round: lambda a, decimals=0: e.round(a, decimals),
    np.pad: lambda array, pad_width, mode="constant", *, constant_values=0: arrange.pad(
        array, pad_width, mode, constant_values
    ),
    np.flip: arrange.flip, np.fliplr: lambda m: arrange.flip(m, 1), np.flipud: lambda m: arrange.flip(m, 0),
    np.roll: arrange.roll, np.tile: lambda A, reps: arrange.tile(A, reps), np.repeat: arrange.repeat,
    np.diagonal: arrange.diagonal, np.diag: arrange.diag, np.trace: arrange.matrix_trace,
    np.diff: lambda a, n=1, axis=-1: arrange.diff(a, n, axis), np.broadcast_arrays: arrange.broadcast_arrays,
    np.cumsum: lambda a, axis=None: running.cumsum(a, axis), np.cumprod: lambda a, axis=None: running.cumprod(a, axis),
    np.nansum: lambda a, axis=None, *, keepdims=False: counting.nansum(a, axis, keepdims),
    np.nanmean: lambda a, axis=None, *, keepdims=False: counting.nanmean(a, axis, keepdims),
    np.nan_to_num: lambda x, *, nan=0.0, posinf=None, neginf=None: counting.nan_to_num(x, nan, posinf, neginf),
    np.count_nonzero: lambda a, axis=None, *, keepdims=False: counting.count_nonzero(a, axis, keepdims),
    np.bincount: counting.bincount, np.searchsorted: lambda a, v, side="left": counting.searchsorted(a, v, side),
    np.meshgrid: arrange.meshgrid, np.linspace: g.linspace,
    np.einsum: lambda *operands, optimize=True: products.einsum(*operands, optimize=optimize),
    np.tensordot: lambda a, b, axes=2: products.tensordot(a, b, axes),
    np.inner: lambda a, b: products.tensordot(a, b, ([-1], [-1])),
    np.vdot: lambda a, b: f.matmul(f.ravel(a), f.ravel(b)),
    np.var: lambda a, axis=None, *, ddof=0, keepdims=False: f.var(a, axis, ddof, keepdims),
    np.std: lambda a, axis=None, *, ddof=0, keepdims=False: f.std(a, axis, ddof, keepdims),
    np.reshape: _reshape, np.transpose: _transpose, np.permute_dims: _transpose, np.swapaxes: f.swapaxes,
    np.moveaxis: f.moveaxis, np.expand_dims: f.expand_dims, np.squeeze: f.squeeze, np.ravel: f.ravel,
    np.broadcast_to: lambda array, shape: f.broadcast_to(array, shape),
    np.concatenate: lambda arrays, axis=0: f.concatenate(arrays, axis),
    np.stack: lambda arrays, axis=0: f.stack(arrays, axis),
    np.vstack: _vstack, np.hstack: _hstack,
    np.split: lambda ary, indices_or_sections, axis=0: f.split(ary, indices_or_sections, axis),
    np.where: _where, np.take: _take, np.take_along_axis: i.take_along_axis,
    np.sort: _sort, np.argsort: _argsort, np.median: sorting.median, np.quantile: sorting.quantile,
    np.percentile: lambda a, q, axis=None, keepdims=False: sorting.quantile(a, np.asarray(q) / 100, axis, keepdims),
    np.clip: _clip, np.dot: _dot, np.outer: products.outer, np.linalg.norm: _norm,
    np.tril: lambda m, k=0: g.tril(m, k), np.triu: lambda m, k=0: g.triu(m, k),
    np.zeros_like: lambda a, dtype=None: g.zeros_like(a, dtype),
    np.ones_like: lambda a, dtype=None: g.ones_like(a, dtype),
    np.full_like: lambda a, fill_value, dtype=None: g.full_like(a, fill_value, dtype),
    np.shape: lambda a: a.shape, np.ndim: lambda a: a.ndim, np.size: lambda a: a.size, np.copy: lambda a: a,
}  # fmt: skip

# functions that write into their first argument, and what gives the result as a new value
_WRITERS: dict[Any, str] = {
    np.put_along_axis: "x = gt.put_along_axis(x, indices, values, axis)",
    np.put: "x = x.reshape(-1).at[indices].set(values).reshape(x.shape)",
    np.place: "x = gt.where(mask, values, x)",
    np.putmask: "x = gt.where(mask, values, x)",
    np.copyto: "x = gt.where(mask, values, x), or x = values",
    np.fill_diagonal: "x = gt.where(gt.eye(n) > 0, value, x)",
}
