"""Running sums and products along an axis, the linear recurrence that contains both, and running extremes."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from ..dims import identical, same_shape
from ..op import op
from ..types import TensorType, TypeRuleError
from .elementwise import equal, where
from .index import add_along_axis
from .rules import need_axis
from .shape import iota, slice_, unslice


def _running(x, *, axis, reverse):
    need_axis(x, axis)
    if x.dtype == "bool":
        raise TypeRuleError(f"needs numbers, got {x}; write x.astype('int64') to count")
    return TensorType(x.dtype, x.shape)


def _along(function, x, axis, reverse):
    """A NumPy function that runs along an axis, from its end if `reverse`."""
    turned = np.flip(x, axis) if reverse else x
    out = function(turned, axis=axis, dtype=x.dtype)
    return np.flip(out, axis) if reverse else out


def _ends(x, axis, reverse):
    """(where a run along the axis begins, how many elements there are)"""
    n = x.shape[axis]
    return (n - 1 if reverse else 0), n


def _moved(x, axis, by):
    """out[i] = x[i + by] along an axis for by = 1 or -1, and 0 where there is none."""
    n = x.shape[axis]
    if identical(n, 0):
        return x
    begin, end = ([p if i == axis else 0 for i in range(x.ndim)] for p in ((1, 0) if by > 0 else (0, 1)))
    size = tuple(n - 1 if i == axis else d for i, d in enumerate(x.shape))
    step = (1,) * x.ndim
    return unslice(slice_(x, start=tuple(begin), size=size, step=step), shape=x.shape, start=tuple(end), step=step)


@op
class cumsum:
    """out[i] = x[0] + ... + x[i] along an axis; reverse: x[i] + ... + x[n - 1]"""
    kind = "kernel"
    infer = _running
    def ref(x, *, axis, reverse): return _along(np.cumsum, x, axis, reverse)
    def vjp(g, out, x, *, axis, reverse): return (cumsum(g, axis=axis, reverse=not reverse),)


@op
class linear_scan:
    """y[i] = a[i] * y[i - 1] + b[i] along an axis, y[0] = b[0]; reverse: y[i] = a[i] * y[i + 1] + b[i] from the end"""
    kind = "kernel"
    promote = True
    def infer(a, b, *, axis, reverse):
        if not same_shape(a.shape, b.shape):
            raise TypeRuleError(f"factors {a} and summands {b} differ in shape")
        return _running(b.with_dtype(a.dtype), axis=axis, reverse=reverse)
    def ref(a, b, *, axis, reverse):
        a, b = (np.moveaxis(v, axis, 0) for v in (a, b))
        y = np.array(b)
        order = range(len(y))[::-1] if reverse else range(len(y))
        for before, i in pairwise(order):
            y[i] = a[i] * y[before] + b[i]
        return np.moveaxis(y, 0, axis)
    def vjp(g, y, a, b, *, axis, reverse):
        # with t[i] the cotangent of y[i], which acts on y[i + 1] as well: t[i] = g[i] + a[i + 1] t[i + 1]
        ahead = -1 if reverse else 1
        t = linear_scan(_moved(a, axis, ahead), g, axis=axis, reverse=not reverse)
        return t * _moved(y, axis, -ahead), t


@op
class cumprod:
    """out[i] = x[0] * ... * x[i] along an axis; reverse: x[i] * ... * x[n - 1]"""
    infer = _running
    def ref(x, *, axis, reverse): return _along(np.cumprod, x, axis, reverse)
    def body(x, *, axis, reverse):
        first, n = _ends(x, axis, reverse)
        if identical(n, 0):
            return x
        start = tuple(first if i == axis else 0 for i in range(x.ndim))
        size = tuple(1 if i == axis else d for i, d in enumerate(x.shape))
        step = (1,) * x.ndim
        begin = unslice(slice_(x, start=start, size=size, step=step), shape=x.shape, start=start, step=step)
        return linear_scan(x, begin, axis=axis, reverse=reverse)
    def vjp(g, out, x, *, axis, reverse):
        # d out[j] / d x[i] is the product of what comes before i and of x[i + 1] ... x[j]: right at zeros too
        ahead = -1 if reverse else 1
        place = iota.like(x, shape=x.shape, axis=axis, dtype="i64")
        before = where(equal(place, _ends(x, axis, reverse)[0]), 1.0, _moved(out, axis, -ahead))
        return (before * linear_scan(_moved(x, axis, ahead), g, axis=axis, reverse=not reverse),)


def _record(x, *, axis):
    return _running(x, axis=axis, reverse=False), TensorType("i64", x.shape)


def _latest(best, x, axis):
    """(running best, the last place up to each element at which x is that)"""
    places = np.arange(x.shape[axis]).reshape(-1, *(1,) * (x.ndim - axis - 1))
    return best, np.maximum.accumulate(np.where((x == best) | (x != x), places, 0), axis)


@op
class cummax:
    """out[i] = max(x[0], ..., x[i]) along an axis, NaN from the first NaN on, and the index that it has: of equals the last"""
    kind = "kernel"
    infer = _record
    def ref(x, *, axis): return _latest(np.maximum.accumulate(x, axis), x, axis)
    def vjp(g, out, x, *, axis): return (add_along_axis(out[1], g[0], size=x.shape[axis], axis=axis),)


@op
class cummin:
    """out[i] = min(x[0], ..., x[i]) along an axis, NaN from the first NaN on, and the index that it has: of equals the last"""
    kind = "kernel"
    infer = _record
    def ref(x, *, axis): return _latest(np.minimum.accumulate(x, axis), x, axis)
    def vjp(g, out, x, *, axis): return (add_along_axis(out[1], g[0], size=x.shape[axis], axis=axis),)
