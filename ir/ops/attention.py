"""Attention as one op, which keeps no matrix of probabilities. `passes/attention.py` finds it in what users write out."""

from __future__ import annotations

import numpy as np

from ..dims import require_equal
from ..op import op
from ..types import TensorType, TypeRuleError
from .elementwise import exp, less_equal, where
from .linalg import swap
from .reduce import sum_
from .shape import iota, reshape


def _need_heads(q, k, v):
    if not q.ndim == k.ndim == v.ndim or q.ndim < 2:
        raise TypeRuleError(f"needs queries, keys and values (..., positions, width), got {q}, {k} and {v}")
    if not q.is_float or not q.dtype == k.dtype == v.dtype:
        raise TypeRuleError(f"needs floats of one dtype, got {q}, {k} and {v}")
    batch = all(require_equal(a, b) and require_equal(a, c)
                for a, b, c in zip(q.shape[:-2], k.shape[:-2], v.shape[:-2], strict=True))
    if not batch or not require_equal(q.shape[-1], k.shape[-1]) or not require_equal(k.shape[-2], v.shape[-2]):
        raise TypeRuleError(f"queries {q}, keys {k} and values {v} do not fit")


def _scores(q, k, scale, causal):
    """q k^T * scale as NumPy arrays, -inf after each row's own position where causal."""
    scores = (q @ np.swapaxes(k, -1, -2)) * q.dtype.type(scale)
    return np.where(np.tri(*scores.shape[-2:], dtype=bool), scores, -np.inf).astype(q.dtype) if causal else scores


def _kept(x, causal):
    """x with zeros after each row's own position, where causal."""
    if not causal:
        return x
    shape = (x.shape[-2], x.shape[-1])
    rows, columns = (iota(shape=shape, axis=a, dtype="i64") for a in (0, 1))
    return where(less_equal(columns, rows), x, 0.0)


def _as_column(x):
    return reshape(x, shape=(*x.shape, 1))


@op
class attention:
    """softmax(q k^T * scale) v along the last two axes, and log(sum(e**(q k^T * scale))) of each row; causal: a row has
    the positions up to its own. No row may be without positions"""
    kind = "kernel"
    def infer(q, k, v, *, scale, causal):
        _need_heads(q, k, v)
        return TensorType(q.dtype, (*q.shape[:-1], v.shape[-1])), TensorType(q.dtype, q.shape[:-1])
    def ref(q, k, v, *, scale, causal):
        scores = _scores(q, k, scale, causal)
        top = np.max(scores, -1, keepdims=True, initial=-np.inf)
        e = np.exp(scores - top)
        total = np.sum(e, -1, keepdims=True)
        return (e @ v) / total, (top + np.log(total))[..., 0]
    def vjp(g, out, q, k, v, *, scale, causal):
        shift = sum_(g[0] * out[0], axes=(q.ndim - 1,), keepdims=False) - g[1]
        return attention_grad(q, k, v, out[1], shift, g[0], scale=scale, causal=causal)


@op
class attention_grad:
    """the gradients of attention by q, k and v: with P = e**(q k^T * scale - lse) and D = scale * P * (g v^T - shift)
    they are D k, D^T q and P^T g; shift = sum(g * out) for each row"""
    kind = "kernel"
    def infer(q, k, v, lse, shift, g, *, scale, causal):
        _need_heads(q, k, v)
        if not all(require_equal(a, b) for x in (lse, shift) for a, b in zip(x.shape, q.shape[:-1], strict=True)):
            raise TypeRuleError(f"needs a number for each row of {q}, got {lse} and {shift}")
        return tuple(TensorType(x.dtype, x.shape) for x in (q, k, v))
    def ref(q, k, v, lse, shift, g, *, scale, causal):
        p = np.exp(_scores(q, k, scale, causal) - lse[..., None])
        d = p * (g @ np.swapaxes(v, -1, -2) - shift[..., None]) * q.dtype.type(scale)
        return d @ k, np.swapaxes(d, -1, -2) @ q, np.swapaxes(p, -1, -2) @ g
    def vjp(gradients, out, q, k, v, lse, shift, g, *, scale, causal):
        a, b, c = gradients
        p = _kept(exp(q @ swap(k) * scale - _as_column(lse)), causal)
        inner = g @ swap(v) - _as_column(shift)
        d = p * inner * scale
        to_d = a @ swap(k) + q @ swap(b)  # d meets k and q
        to_inner = to_d * p * scale
        to_scores = (g @ swap(c) + to_d * inner * scale) * p  # p meets g and d
        rows = q.ndim - 1
        return (
            d @ b + to_scores @ k * scale,
            swap(d) @ a + swap(to_scores) @ q * scale,
            swap(to_inner) @ g,
            -sum_(to_scores, axes=(rows,), keepdims=False),
            -sum_(to_inner, axes=(rows,), keepdims=False),
            p @ c + to_inner @ v,
        )
