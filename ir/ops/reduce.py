"""Reductions over any axes. `axes` is a sorted tuple of non-negative axes, `keepdims` leaves them with size 1."""

from __future__ import annotations

import numpy as np

from ..dims import product
from ..op import op, zero_gradient
from ..types import TensorType, TypeRuleError
from .elementwise import equal, where
from .shape import broadcast_to, reshape


def _reduced(x, axes, keepdims):
    if not all(isinstance(a, int) and 0 <= a < x.ndim for a in axes):
        raise TypeRuleError(f"axes {axes} are out of range for {x}")
    if keepdims:
        return tuple(1 if i in axes else d for i, d in enumerate(x.shape))
    return tuple(d for i, d in enumerate(x.shape) if i not in axes)


def _numeric(x, *, axes, keepdims):
    if x.dtype == "bool":
        raise TypeRuleError(f"needs numbers, got {x}; write x.astype('i64') to count")
    return TensorType(x.dtype, _reduced(x, axes, keepdims))


def _nonempty(x, *, axes, keepdims):
    if any(isinstance(x.shape[a], int) and x.shape[a] == 0 for a in axes):
        raise TypeRuleError(f"a maximum or minimum over no elements has no value: {x} over axes {axes}")
    return _numeric(x, axes=axes, keepdims=keepdims)


def _boolean(x, *, axes, keepdims):
    if x.dtype != "bool":
        raise TypeRuleError(f"needs bool, got {x}; write x != 0")
    return TensorType("bool", _reduced(x, axes, keepdims))


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
    """product of the elements over axes; the gradient is right where one element is 0, too"""
    reduce = "prod"
    infer = _numeric
    def ref(x, *, axes, keepdims): return np.prod(x, axis=axes, keepdims=keepdims)
    def vjp(g, out, x, *, axes, keepdims):
        # d/dx_i is the product of the others: out / x_i, or with exactly one zero, the product of the non-zeros at it
        zero = equal(x, 0.0)
        zeros = sum_(where(zero, 1.0, 0.0), axes=axes, keepdims=True)
        others = prod(where(zero, 1.0, x), axes=axes, keepdims=True)
        d = where(zero, where(equal(zeros, 1.0), others, 0.0), where(equal(zeros, 0.0), others / where(zero, 1.0, x), 0.0))
        return (keep(g, x, axes) * d,)


@op
class mean:
    """arithmetic mean over axes"""
    def infer(x, *, axes, keepdims):
        if not x.is_float:
            raise TypeRuleError(f"needs a float operand, got {x}; write x.astype('f32')")
        return TensorType(x.dtype, _reduced(x, axes, keepdims))
    def ref(x, *, axes, keepdims): return np.mean(x, axis=axes, keepdims=keepdims)
    def body(x, *, axes, keepdims): return sum_(x, axes=axes, keepdims=keepdims) / product(x.shape[a] for a in axes)
    def vjp(g, out, x, *, axes, keepdims):
        return (broadcast_to(keep(g, x, axes) / product(x.shape[a] for a in axes), shape=x.shape),)


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

