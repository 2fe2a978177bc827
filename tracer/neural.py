"""The op namespace: activations, normalisations, attention and losses, with PyTorch's names and formulas."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..ir.dims import Dim
from ..ir.op import OPS
from ..ir.types import TypeRuleError, normalize_axes, normalize_axis
from . import elementwise as e
from . import functional as f
from .apply import public, run, value
from .generate import indices
from .rng import dropout


# activations ------------------------------------------------------------------------------------------------------
@public
def softmax(x: Any, axis: int = -1, *, dim: int | None = None) -> Any:
    """e**x / sum(e**x) along `axis`. A row of -inf only gives NaN."""
    x = value(x)
    return run(OPS["softmax"], x, axis=normalize_axis(axis if dim is None else dim, x.ndim))


@public
def log_softmax(x: Any, axis: int = -1, *, dim: int | None = None) -> Any:
    """x - log(sum(e**x)) along `axis`."""
    x = value(x)
    return run(OPS["log_softmax"], x, axis=normalize_axis(axis if dim is None else dim, x.ndim))


@public
def gelu(x: Any, approximate: str = "none") -> Any:
    """x * Phi(x) with the normal distribution function Phi; "tanh": x/2 * (1 + tanh(sqrt(2/pi) (x + 0.044715
    x**3)))."""
    if approximate not in ("none", "tanh"):
        raise ValueError(f'gelu: approximate is "none" or "tanh", not {approximate!r}')
    return run(OPS["gelu_erf" if approximate == "none" else "gelu_tanh"], x)


@public
def silu(x: Any) -> Any:
    """x * sigmoid(x)"""
    x = value(x)
    return x * e.sigmoid(x)


# normalisation ----------------------------------------------------------------------------------------------------
@public
def layer_norm(
    x: Any,
    normalized_shape: Any = None,
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
    *,
    axes: Any = None,
) -> Any:
    """(x - mean) / sqrt(var + eps) * weight + bias over the last axes, those of `normalized_shape`, or over
    `axes`."""
    x = value(x)
    return _affine(run(OPS["layer_norm"], x, axes=_normalized(x, normalized_shape, axes), eps=eps), weight, bias)


@public
def rms_norm(
    x: Any, normalized_shape: Any = None, weight: Any = None, eps: float | None = None, *, axes: Any = None
) -> Any:
    """x / sqrt(mean(x**2) + eps) * weight over the last axes; eps None is the spacing of 1.0 in x's dtype."""
    x = value(x)
    eps = float(np.finfo(f.numpy_dtype(x)).eps) if eps is None else eps
    return _affine(run(OPS["rms_norm"], x, axes=_normalized(x, normalized_shape, axes), eps=eps), weight, None)


def _normalized(x: Any, shape: int | Sequence[int] | None, axes: Any) -> tuple[int, ...]:
    if axes is not None:
        return normalize_axes(axes, x.ndim)
    shape = (x.shape[-1],) if shape is None else (shape,) if isinstance(shape, (int, Dim)) else tuple(shape)
    if len(shape) > x.ndim or any(a != b for a, b in zip(shape, x.shape[x.ndim - len(shape) :], strict=True)):
        raise TypeRuleError(f"normalized_shape {tuple(shape)} is not the end of shape {tuple(x.shape)}")
    return tuple(range(x.ndim - len(shape), x.ndim))


def _affine(x: Any, weight: Any, bias: Any) -> Any:
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


# lookup, attention ------------------------------------------------------------------------------------------------
@public
def embedding(index: Any, weight: Any) -> Any:
    """Rows of a table: index (...) of integers, weight (rows, width) -> (..., width)."""
    return run(OPS["take"], value(weight), value(index))


@public
def linear(x: Any, weight: Any, bias: Any = None) -> Any:
    """x @ weight.T + bias: x (..., in), weight (out, in), bias (out,) -> (..., out)."""
    return _affine(f.matmul(x, f.transpose(weight)), None, bias)


@public
def scaled_dot_product_attention(
    q: Any,
    k: Any,
    v: Any,
    mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
) -> Any:
    """softmax(q @ k^T * scale + mask) @ v: q (..., T, C), k (..., S, C), v (..., S, D) -> (..., T, D).

    `mask` (broadcast to (..., T, S)) is added, or where it is bool, False hides a position; `is_causal` hides
    the positions after each row's own. scale: 1 / sqrt(C) by default.
    """
    q, k, v = value(q), value(k), value(v)
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    scores = (q @ f.swapaxes(k, -1, -2)) * scale  # (..., T, S)
    if is_causal:
        rows, columns = indices(scores.shape[-2:], traced=True)
        scores = f.where(columns <= rows, scores, -math.inf)
    if mask is not None:
        mask = value(mask)
        scores = f.where(mask, scores, -math.inf) if f.dtype_of(mask) == "bool" else scores + mask
    return dropout(softmax(scores, -1), dropout_p) @ v


# losses -----------------------------------------------------------------------------------------------------------
@public
def cross_entropy(logits: Any, target: Any, reduction: str = "mean") -> Any:
    """-log_softmax(logits)[target]: logits (..., classes), target (...) of integers.

    reduction: "mean" and "sum" over all rows give a scalar, "none" gives (...).
    """
    logits = value(logits)
    return _reduction(run(OPS["nll_from_logits"], logits, target), logits.shape[:-1], reduction)


@public
def nll_loss(log_probs: Any, target: Any, reduction: str = "mean") -> Any:
    """-log_probs[target]: log_probs (..., classes), target (...) of integers."""
    from .generate import arange

    log_probs, target = value(log_probs), value(target)
    chosen = f.expand_dims(target, -1) == arange(log_probs.shape[-1], dtype=f.dtype_of(target))
    return _reduction(-f.sum(f.where(chosen, log_probs, 0.0), -1), log_probs.shape[:-1], reduction)


@public
def mse_loss(prediction: Any, target: Any, reduction: str = "mean") -> Any:
    """(prediction - target)**2; the gradient flows to both."""
    return _elementwise_loss("mse_loss", prediction, target, e.square, reduction)


mse = mse_loss


@public
def l1_loss(prediction: Any, target: Any, reduction: str = "mean") -> Any:
    """|prediction - target|"""
    return _elementwise_loss("l1_loss", prediction, target, e.abs, reduction)


@public
def binary_cross_entropy_with_logits(logits: Any, target: Any, reduction: str = "mean") -> Any:
    """log(1 + e**x) - x * target: -log sigmoid(x) where the target is 1, -log(1 - sigmoid(x)) where it is 0."""
    logits, target = value(logits), value(target)
    loss = e.softplus(logits) - logits * target
    return _reduction(loss, loss.shape, reduction)


def _elementwise_loss(name: str, prediction: Any, target: Any, of: Any, reduction: str) -> Any:
    prediction, target = value(prediction), value(target)
    if prediction.ndim != target.ndim:  # (N, 1) against (N,) would broadcast to (N, N)
        raise TypeRuleError(f"shapes {tuple(prediction.shape)} and {tuple(target.shape)} differ in rank")
    loss = of(prediction - target)
    return _reduction(loss, loss.shape, reduction)


def _reduction(loss: Any, shape: tuple, reduction: str) -> Any:
    if reduction == "mean":
        return f.mean(loss)
    if reduction == "sum":
        return f.sum(loss)
    if reduction == "none":
        return f.reshape(loss, shape)
    raise ValueError(f'reduction is "mean", "sum" or "none", not {reduction!r}')


__all__ = [
    "binary_cross_entropy_with_logits", "cross_entropy", "embedding", "gelu", "l1_loss", "layer_norm", "linear",
    "log_softmax", "mse", "mse_loss", "nll_loss", "rms_norm", "scaled_dot_product_attention", "silu", "softmax",
]  # fmt: skip
