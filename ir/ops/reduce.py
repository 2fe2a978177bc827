"""Reductions over any axes. `axes` is a sorted tuple of non-negative axes, `keepdims` leaves them with size 1."""

from __future__ import annotations

import numpy as np

from ..dims import Dim, product
from ..op import no_gradient, op, zero_gradient
from ..types import TensorType, TypeRuleError
from .elementwise import equal, logical_or, maximum, not_equal, sqrt, square, where
from .rules import need_axes, need_axis
from .shape import broadcast_to, dim_scalar, iota, reshape


def _reduced(x, axes, keepdims):
    need_axes(x, axes)
    if keepdims:
        return tuple(1 if i in axes else d for i, d in enumerate(x.shape))
    return tuple(d for i, d in enumerate(x.shape) if i not in axes)


def _numeric(x, *, axes, keepdims):
    if x.dtype == "bool":
        raise TypeRuleError(f"needs numbers, got {x}; write x.astype('int64') to count")
    return TensorType(x.dtype, _reduced(x, axes, keepdims))


def _nonempty(x, *, axes, keepdims):
    out = _numeric(x, axes=axes, keepdims=keepdims)
    if any(isinstance(x.shape[a], int) and x.shape[a] == 0 for a in axes):
        raise TypeRuleError(f"a maximum or minimum over no elements has no value: {x} over axes {axes}")
    return out


def _boolean(x, *, axes, keepdims):
    if x.dtype != "bool":
        raise TypeRuleError(f"needs bool, got {x}; write x != 0")
    return TensorType("bool", _reduced(x, axes, keepdims))


def _floating(x, *, axes, keepdims):
    if not x.is_float:
        raise TypeRuleError(f"needs a float operand, got {x}; write x.astype('float32')")
    return TensorType(x.dtype, _reduced(x, axes, keepdims))


def count(x, axes):
    """How many elements are reduced: an int, or of a symbolic size a runtime number in the dtype of x."""
    n = product(x.shape[a] for a in axes)
    return dim_scalar.like(x, value=n, dtype=x.type.dtype) if isinstance(n, Dim) else n


def keep(y, x, axes):
    """The result `y` of a reduction of `x`, with the reduced axes put back as size 1."""
    shape = tuple(1 if i in axes else d for i, d in enumerate(x.shape))
    return y if y.ndim == x.ndim else reshape(y, shape=shape)


@op
class sum_:
    """sum of the elements over axes"""
    reduce = "sum"
    infer = _numeric
    def ref(x, *, axes, keepdims): return np.sum(x, axis=axes, keepdims=keepdims)
    def vjp(g, out, x, *, axes, keepdims): return (broadcast_to(keep(g, x, axes), shape=x.shape),)


@op
class max_:
    """greatest element over axes; NaN where one is; ties share the gradient"""
    reduce = "max"
    infer = _nonempty
    def ref(x, *, axes, keepdims): return np.max(x, axis=axes, keepdims=keepdims)
    def vjp(g, out, x, *, axes, keepdims): return (_to_winners(g, out, x, axes),)


@op
class min_:
    """least element over axes; NaN where one is; ties share the gradient"""
    reduce = "min"
    infer = _nonempty
    def ref(x, *, axes, keepdims): return np.min(x, axis=axes, keepdims=keepdims)
    def vjp(g, out, x, *, axes, keepdims): return (_to_winners(g, out, x, axes),)


def _to_winners(g, out, x, axes):
    hit = equal(x, keep(out, x, axes))
    count = sum_(where(hit, 1.0, 0.0), axes=axes, keepdims=True)
    return where(hit, keep(g, x, axes) / count, 0.0)


@op
class prod:
    """product of the elements over axes; first and second derivative are right where elements are 0, too"""
    reduce = "prod"
    infer = _numeric
    def ref(x, *, axes, keepdims): return np.prod(x, axis=axes, keepdims=keepdims)
    def vjp(g, out, x, *, axes, keepdims):
        # d/dx_i is the product p of the other non-zero elements times that of the other zeros. The latter is 1 for no such
        # zero, the zero itself for one (a value of 0, but not constant), and vanishes with its derivative for more.
        zero = equal(x, 0.0)
        zeros = sum_(where(zero, 1.0, 0.0), axes=axes, keepdims=True)
        zero_sum = sum_(where(zero, x, 0.0), axes=axes, keepdims=True)
        filled = where(zero, 1.0, x)
        p = prod(filled, axes=axes, keepdims=True)
        at_zero = p * where(equal(zeros, 1.0), 1.0, where(equal(zeros, 2.0), zero_sum - x, 0.0))
        elsewhere = p / filled * where(equal(zeros, 0.0), 1.0, where(equal(zeros, 1.0), zero_sum, 0.0))
        return (keep(g, x, axes) * where(zero, at_zero, elsewhere),)


@op
class mean:
    """arithmetic mean over axes"""
    infer = _floating
    def ref(x, *, axes, keepdims): return np.sum(x, axis=axes, keepdims=keepdims) / product(x.shape[a] for a in axes)
    def body(x, *, axes, keepdims): return sum_(x, axes=axes, keepdims=keepdims) / count(x, axes)
    def vjp(g, out, x, *, axes, keepdims): return (broadcast_to(keep(g, x, axes) / count(x, axes), shape=x.shape),)


def _corrected(x, *, axes, keepdims, correction=0): return _floating(x, axes=axes, keepdims=keepdims)


@op
class var:
    """sum((x - mean) ** 2) / (n - correction) over axes of n elements; NaN for n <= correction, as in NumPy"""
    infer = _corrected
    def ref(x, *, axes, keepdims, correction=0):
        d = np.square(x - np.sum(x, axis=axes, keepdims=True) / product(x.shape[a] for a in axes))
        return np.sum(d, axis=axes, keepdims=keepdims) / _freedom(x, axes, correction)
    def body(x, *, axes, keepdims, correction=0):
        d = x - mean(x, axes=axes, keepdims=True)
        return sum_(square(d), axes=axes, keepdims=keepdims) / _freedom(x, axes, correction)
    def vjp(g, out, x, *, axes, keepdims, correction=0):
        d = x - mean(x, axes=axes, keepdims=True)
        return (keep(g, x, axes) * 2.0 / _freedom(x, axes, correction) * d,)


@op
class std:
    """sqrt(var(x)) over axes; where all elements are equal there is no gradient: NaN"""
    infer = _corrected
    def ref(x, *, axes, keepdims, correction=0): return np.sqrt(var.ref(x, axes=axes, keepdims=keepdims, correction=correction))
    def body(x, *, axes, keepdims, correction=0): return sqrt(var(x, axes=axes, keepdims=keepdims, correction=correction))
    def vjp(g, out, x, *, axes, keepdims, correction=0):
        d = x - mean(x, axes=axes, keepdims=True)
        return (keep(g / out, x, axes) / _freedom(x, axes, correction) * d,)


def _freedom(x, axes, correction):
    """n - correction, at least 0: then the quotient is NaN"""
    n = count(x, axes) - correction
    return max(n, 0) if isinstance(n, (int, float)) else maximum(n, 0)


def _index(x, *, axis, keepdims):
    out = _nonempty(x, axes=(need_axis(x, axis),), keepdims=keepdims)
    return out.with_dtype("i64")


@op
class argmax:
    """index of the greatest element along an axis: of the first NaN, else the first of several"""
    infer = _index
    def ref(x, *, axis, keepdims): return np.argmax(x, axis=axis, keepdims=keepdims)
    def body(x, *, axis, keepdims): return _first(x, equal(x, max_(x, axes=(axis,), keepdims=True)), axis, keepdims)
    vjp = no_gradient("its result is an index")


@op
class argmin:
    """index of the least element along an axis: of the first NaN, else the first of several"""
    infer = _index
    def ref(x, *, axis, keepdims): return np.argmin(x, axis=axis, keepdims=keepdims)
    def body(x, *, axis, keepdims): return _first(x, equal(x, min_(x, axes=(axis,), keepdims=True)), axis, keepdims)
    vjp = no_gradient("its result is an index")


def _first(x, hit, axis, keepdims):
    """The least index along `axis` at which `hit` holds or x is NaN: one such always exists."""
    index = iota.like(x, shape=x.shape, axis=axis, dtype="i64")
    return min_(where(logical_or(hit, not_equal(x, x)), index, 2**63 - 1), axes=(axis,), keepdims=keepdims)


@op
class any_:
    """whether any element holds, over axes"""
    reduce = "any"
    infer = _boolean
    def ref(x, *, axes, keepdims): return np.any(x, axis=axes, keepdims=keepdims)
    vjp = zero_gradient("a bool is piecewise constant")


@op
class all_:
    """whether all elements hold, over axes"""
    reduce = "all"
    infer = _boolean
    def ref(x, *, axes, keepdims): return np.all(x, axis=axes, keepdims=keepdims)
    vjp = zero_gradient("a bool is piecewise constant")

