"""Composites: a body of other ops *and* a derivative by hand; a test holds the two together in float64."""

from __future__ import annotations

import numpy as np

from ..dims import require_equal
from ..op import op
from ..types import TensorType, TypeRuleError
from .elementwise import equal, erf, exp, log, rsqrt, tanh, where
from .functions import isfinite
from .index import bounded
from .reduce import max_, mean, sum_
from .rules import need_axes, need_axis, need_float
from .shape import iota, reshape


def _along_axis(x, *, axis):
    if not x.is_float:
        raise TypeRuleError(f"needs a float operand, got {x}; write x.astype('f32')")
    size = x.shape[need_axis(x, axis)]
    if isinstance(size, int) and size == 0:
        raise TypeRuleError(f"axis {axis} of {x} has no elements")
    return TensorType(x.dtype, x.shape)


@op
class softmax:
    """e**x / sum(e**x) along an axis; a row of -inf only gives NaN, as in NumPy"""
    infer = _along_axis
    def ref(x, *, axis):
        e = np.exp(x - np.max(x, axis=axis, keepdims=True))
        return e / np.sum(e, axis=axis, keepdims=True)
    def body(x, *, axis):
        e = exp(x - max_(x, axes=(axis,), keepdims=True))
        return e / sum_(e, axes=(axis,), keepdims=True)
    def vjp(g, y, x, *, axis): return (y * (g - sum_(g * y, axes=(axis,), keepdims=True)),)


@op
class log_softmax:
    """x - log(sum(e**x)) along an axis"""
    infer = _along_axis
    def ref(x, *, axis): return x - logsumexp.ref(x, axis=axis)
    def body(x, *, axis): return x - logsumexp(x, axis=axis)
    def vjp(g, y, x, *, axis): return (g - exp(y) * sum_(g, axes=(axis,), keepdims=True),)


@op
class logsumexp:
    """log(sum(e**x)) along an axis, which stays with size 1; -inf for a row of -inf only"""
    def infer(x, *, axis):
        _along_axis(x, axis=axis)
        return TensorType(x.dtype, tuple(1 if i == axis else d for i, d in enumerate(x.shape)))
    def ref(x, *, axis):
        top = np.max(x, axis=axis, keepdims=True)
        top = np.where(np.isfinite(top), top, x.dtype.type(0))  # inf - inf would be NaN
        return top + np.log(np.sum(np.exp(x - top), axis=axis, keepdims=True))
    def body(x, *, axis):
        top = max_(x, axes=(axis,), keepdims=True)
        top = where(isfinite(top), top, 0.0)
        return top + log(sum_(exp(x - top), axes=(axis,), keepdims=True))
    def vjp(g, y, x, *, axis): return (g * exp(x - where(equal(y, -np.inf), 0.0, y)),)


@op
class gelu_tanh:
    """x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x**3)))"""
    infer = need_float
    def ref(x): return 0.5 * x * (1.0 + np.tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)))
    def body(x): return 0.5 * x * (1.0 + tanh(0.7978845608028654 * x * (1.0 + 0.044715 * x * x)))
    def vjp(g, y, x):
        t = tanh(0.7978845608028654 * x * (1.0 + 0.044715 * x * x))
        slope = 0.7978845608028654 * (1.0 + 0.134145 * x * x)
        return (g * (0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * slope),)


@op
class gelu_erf:
    """x/2 * (1 + erf(x / sqrt(2)))"""
    infer = need_float
    def ref(x):
        from .elementwise import _erf
        return 0.5 * x * (1.0 + _erf(x * 0.7071067811865476))
    def body(x): return 0.5 * x * (1.0 + erf(x * 0.7071067811865476))
    def vjp(g, y, x):
        density = 0.3989422804014327 * exp(-0.5 * x * x)
        return (g * (0.5 * (1.0 + erf(x * 0.7071067811865476)) + x * density),)


@op
class layer_norm:
    """(x - mean) / sqrt(var + eps) over axes; gain and bias are applied outside"""
    def infer(x, *, axes, eps):
        need_axes(x, axes)
        return need_float(x)
    def ref(x, *, axes, eps):
        d = x - mean.ref(x, axes=axes, keepdims=True)  # np.mean warns of no elements
        return d / np.sqrt(mean.ref(d * d, axes=axes, keepdims=True) + eps)
    def body(x, *, axes, eps):
        d = x - mean(x, axes=axes, keepdims=True)
        return d * rsqrt(mean(d * d, axes=axes, keepdims=True) + eps)
    def vjp(g, y, x, *, axes, eps):
        # with h the normalised x and r = 1/std: dx = r * (g - mean(g) - h * mean(g * h))
        d = x - mean(x, axes=axes, keepdims=True)
        r = rsqrt(mean(d * d, axes=axes, keepdims=True) + eps)
        h = d * r
        return (r * (g - mean(g, axes=axes, keepdims=True) - h * mean(g * h, axes=axes, keepdims=True)),)


@op
class rms_norm:
    """x / sqrt(mean(x**2) + eps) over axes"""
    def infer(x, *, axes, eps): return layer_norm.infer(x, axes=axes, eps=eps)
    def ref(x, *, axes, eps): return x / np.sqrt(mean.ref(x * x, axes=axes, keepdims=True) + eps)
    def body(x, *, axes, eps): return x * rsqrt(mean(x * x, axes=axes, keepdims=True) + eps)
    def vjp(g, y, x, *, axes, eps):
        r = rsqrt(mean(x * x, axes=axes, keepdims=True) + eps)
        h = x * r
        return (r * (g - h * mean(g * h, axes=axes, keepdims=True)),)


@op
class nll_from_logits:
    """-log_softmax(logits)[target], one number per row; classes are the last axis, which stays with size 1"""
    def infer(logits, target):
        if not logits.is_float or logits.ndim == 0:
            raise TypeRuleError(f"the logits are float[..., classes], got {logits}")
        if not target.is_integer:
            raise TypeRuleError(f"the target names classes by integers, got {target}")
        expected = TensorType("i64", logits.shape[:-1])
        if target.ndim != expected.ndim or not all(map(require_equal, target.shape, expected.shape)):
            raise TypeRuleError(f"logits {logits} need a target {expected}, got {target}")
        return TensorType(logits.dtype, (*logits.shape[:-1], 1))
    def ref(logits, target):
        bad = (target < 0) | (target >= logits.shape[-1])
        if np.any(bad):
            raise IndexError(f"class {np.asarray(target)[bad].reshape(-1)[0]} is out of range for {logits.shape[-1]} classes")
        picked = np.take_along_axis(logits, np.asarray(target)[..., None].astype(np.int64), axis=-1)
        return logsumexp.ref(logits, axis=logits.ndim - 1) - picked
    def body(logits, target):
        target = bounded(target, size=logits.shape[-1])
        picked = sum_(where(_chosen(logits, target), logits, 0.0), axes=(logits.ndim - 1,), keepdims=True)
        return logsumexp(logits, axis=logits.ndim - 1) - picked
    def vjp(g, y, logits, target):
        target = bounded(target, size=logits.shape[-1])
        p = exp(logits - logsumexp(logits, axis=logits.ndim - 1))
        return g * (p - where(_chosen(logits, target), 1.0, 0.0)), None


def _chosen(logits, target):
    """bool[..., classes]: the class that the target names."""
    classes = iota.like(logits, shape=logits.shape[-1:], axis=0, dtype=target.type.dtype)
    return classes == reshape(target, shape=(*target.shape, 1))
