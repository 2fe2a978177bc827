"""The op namespace: losses, with PyTorch's names and formulas. Classes are on the last axis."""

from __future__ import annotations

from typing import Any

from ..ir.op import OPS
from ..ir.types import TypeRuleError
from . import elementwise as e
from . import functional as f
from .apply import public, run, value


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
    "binary_cross_entropy_with_logits", "cross_entropy", "l1_loss", "mse", "mse_loss", "nll_loss",
]  # fmt: skip
