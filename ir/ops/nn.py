"""Composites: a body of other ops *and* a derivative by hand; a test holds the two together in float64."""

from __future__ import annotations

import numpy as np

from ..dims import require_equal, same_shape
from ..op import no_gradient, op
from ..types import TensorType, TypeRuleError
from .elementwise import equal, erf, exp, log, logical_and, maximum, not_equal, rsqrt, tanh, where
from .functions import isfinite, log1p
from .index import bounded, check_bounds
from .reduce import max_, mean, sum_
from .rules import need_axes, need_axis, need_float
from .shape import iota, reshape


def _along_axis(x, *, axis):
    if not x.is_float:
        raise TypeRuleError(f"needs a float operand, got {x}; write x.astype('float32')")
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
    """(x - mean) / sqrt(var + eps) over axes, also those of batch, group and instance norm; gain and bias come after it"""
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
        # with r = 1/std: dx = r * (g - mean(g) - y * mean(g * y)). By y rather than (x - mean) r: the gain's gradient keeps
        # y anyway, and the forward kernel stored both, which are the same numbers.
        d = x - mean(x, axes=axes, keepdims=True)
        r = rsqrt(mean(d * d, axes=axes, keepdims=True) + eps)
        return (r * (g - mean(g, axes=axes, keepdims=True) - y * mean(g * y, axes=axes, keepdims=True)),)


@op
class rms_norm:
    """x / sqrt(mean(x**2) + eps) over axes"""
    def infer(x, *, axes, eps): return layer_norm.infer(x, axes=axes, eps=eps)
    def ref(x, *, axes, eps): return x / np.sqrt(mean.ref(x * x, axes=axes, keepdims=True) + eps)
    def body(x, *, axes, eps): return x * rsqrt(mean(x * x, axes=axes, keepdims=True) + eps)
    def vjp(g, y, x, *, axes, eps):
        r = rsqrt(mean(x * x, axes=axes, keepdims=True) + eps)
        return (r * (g - y * mean(g * y, axes=axes, keepdims=True)),)


@op
class is_class:
    """whether each of `size` classes, along a new last axis, is the one that the target names: none is where the target is
    `ignore`, and any other target outside of the classes is an error"""
    def infer(target, *, size, ignore=None):
        need_classes(target)
        return TensorType("bool", (*target.shape, size))
    def ref(target, *, size, ignore=None):
        check_bounds("class", target, size, ignore)
        return np.equal(target[..., None], np.arange(size)) & (ignore is None or np.not_equal(target, ignore)[..., None])
    def body(target, *, size, ignore=None):
        named = reshape(bounded(target, size=size, ignore=ignore), shape=(*target.shape, 1))
        found = equal(iota.like(target, shape=(size,), axis=0, dtype="i64"), named)
        return found if ignore is None else logical_and(found, not_equal(named, ignore))
    vjp = no_gradient("the number of a class is not differentiable")


def need_classes(target, name="", scores=None):
    """The target holds class numbers: one for each row of `scores`, whose last axis is that of the classes."""
    if not target.is_integer:
        raise TypeRuleError(f"the target names classes by integers, got {target}; write target.astype('int64')")
    if scores is None:
        return
    rows, moved = scores.shape[:-1], (*scores.shape[:1], *scores.shape[2:])
    fact = f"{name} {scores} need a target {TensorType('i64', rows)}, got {target}"
    if same_shape(target.shape, moved) and not same_shape(moved, rows):
        raise TypeRuleError(f"{fact}; classes are the last axis here: write gt.moveaxis({name}, 1, -1)")
    if same_shape(target.shape, scores.shape):
        raise TypeRuleError(f"{fact}; write target.argmax(-1) for one-hot rows, target.astype('float32') for probabilities")
    if target.ndim != len(rows) or not all(map(require_equal, target.shape, rows)):
        raise TypeRuleError(fact)


@op
class nll_from_logits:
    """-log_softmax(logits)[target], one number per row, 0 where the target is `ignore`; classes are the last axis,
    which stays with size 1"""
    def infer(logits, target, *, ignore=None):
        if not logits.is_float or logits.ndim == 0:
            raise TypeRuleError(f"the logits are float[..., classes], got {logits}")
        need_classes(target, "logits", logits)
        return TensorType(logits.dtype, (*logits.shape[:-1], 1))
    def ref(logits, target, *, ignore=None):
        picked = np.where(is_class.ref(target, size=logits.shape[-1], ignore=ignore), logits, 0).sum(-1, keepdims=True)
        loss = logsumexp.ref(logits, axis=logits.ndim - 1) - picked
        return loss if ignore is None else np.where(np.not_equal(target, ignore)[..., None], loss, 0)
    def body(logits, target, *, ignore=None):
        chosen = is_class(target, size=logits.shape[-1], ignore=ignore)
        picked = sum_(where(chosen, logits, 0.0), axes=(logits.ndim - 1,), keepdims=True)
        return _counted(logsumexp(logits, axis=logits.ndim - 1) - picked, target, ignore)
    def vjp(g, y, logits, target, *, ignore=None):
        chosen = is_class(target, size=logits.shape[-1], ignore=ignore)
        p = exp(logits - logsumexp(logits, axis=logits.ndim - 1))
        return _counted(g, target, ignore) * (p - where(chosen, 1.0, 0.0)), None


def _counted(x, target, ignore):
    """x (..., 1), or 0 where the target does not count."""
    return x if ignore is None else where(not_equal(reshape(target, shape=(*target.shape, 1)), ignore), x, 0.0)


@op
class cross_entropy_from_logits:
    """sum of -q * log_softmax(logits) over the classes, one number per row, for the weights q of the classes: of q = 0
    nothing, also where the logit is -inf; classes are the last axis, which stays with size 1"""
    promote = True
    def infer(logits, q):
        if logits.ndim == 0 or logits.ndim != q.ndim or not all(map(require_equal, logits.shape, q.shape)):
            raise TypeRuleError(f"logits {logits} need a weight for each class, got {q}")
        return TensorType(need_float(logits, q).dtype, (*logits.shape[:-1], 1))
    def ref(logits, q):
        surprise = logsumexp.ref(logits, axis=logits.ndim - 1) - logits
        return np.sum(np.where(q == 0, 0, q * surprise), axis=-1, keepdims=True)
    def body(logits, q):
        surprise = logsumexp(logits, axis=logits.ndim - 1) - logits
        return sum_(where(equal(q, 0.0), 0.0, q * surprise), axes=(logits.ndim - 1,), keepdims=True)
    def vjp(g, y, logits, q):
        top = logsumexp(logits, axis=logits.ndim - 1)
        return g * (exp(logits - top) * sum_(q, axes=(q.ndim - 1,), keepdims=True) - q), g * (top - logits)


@op
class binary_cross_entropy:
    """-t * log(p) - (1 - t) * log(1 - p), with logarithms from -100 up, so that p = 0 and p = 1 have finite losses"""
    promote = True
    infer = need_float
    def ref(p, t): return -t * np.maximum(np.log(p), -100) - (1 - t) * np.maximum(np.log1p(-p), -100)
    def body(p, t): return -t * maximum(log(p), -100.0) - (1.0 - t) * maximum(log1p(-p), -100.0)
    def vjp(g, y, p, t):
        # (p - t) / (p (1 - p)) has a pole where the sigmoid saturates; PyTorch bounds it there
        return g * (p - t) / maximum(p * (1.0 - p), 1e-12), g * (maximum(log1p(-p), -100.0) - maximum(log(p), -100.0))
