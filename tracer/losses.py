"""The op namespace: losses, with PyTorch's names, argument order and formulas. Classes are on the last axis.

reduction: "mean" and "sum" over all elements give a scalar, "none" one number for each. A mean is over what counts:
ignored targets do not, and others as much as their class weighs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ..ir.op import OPS
from ..ir.ops.nn import need_classes
from ..ir.types import TypeRuleError
from . import elementwise as e
from . import functional as f
from .activation import logsigmoid
from .apply import public, run, value
from .functional import _type
from .indexing import take
from .normalisation import pairwise_distance

IGNORED = -100  # PyTorch's number for a target that does not count


# classes ----------------------------------------------------------------------------------------------------------
@public
def cross_entropy(
    logits: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int | None = IGNORED,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Any:
    """-log_softmax(logits)[target]: logits (..., classes), target (...) of integers; or sum(-target *
    log_softmax(logits)) for a float target (..., classes) of probabilities.

    weight (classes,): how much each class counts. ignore_index: a target that does not count (None: every one does);
    others outside of the classes raise IndexError. label_smoothing: the part of the probability that is spread over
    all classes alike (Szegedy, 2015). The mean of probabilities is over all rows, whatever the weights.
    """
    logits, target, weight = value(logits), value(target), _class_weight(weight, logits)
    if not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(f"cross_entropy: label_smoothing lies in [0, 1], got {label_smoothing}")
    if _type(target).is_float:
        q = _need_probabilities(logits, target)
        if label_smoothing:
            q = q * (1.0 - label_smoothing) + label_smoothing / logits.shape[-1]
        loss = run(OPS["cross_entropy_from_logits"], logits, q if weight is None else q * weight)
        return _reduction(loss, logits.shape[:-1], reduction)
    if weight is None and not label_smoothing:
        loss = run(OPS["nll_from_logits"], logits, target, ignore=ignore_index)
        return _reduction(loss, logits.shape[:-1], reduction, _counted(target, None, ignore_index))
    q = f.astype(_chosen("logits", logits, target, ignore_index), f.dtype_of(logits))
    q = q * (1.0 - label_smoothing) + label_smoothing / logits.shape[-1]
    q = _only_counted(q if weight is None else q * weight, f.expand_dims(target, -1), ignore_index)
    loss = run(OPS["cross_entropy_from_logits"], logits, q)
    return _reduction(loss, logits.shape[:-1], reduction, _counted(target, weight, ignore_index))


@public
def nll_loss(
    log_probs: Any, target: Any, weight: Any = None, ignore_index: int | None = IGNORED, reduction: str = "mean"
) -> Any:
    """-log_probs[target]: log_probs (..., classes), target (...) of integers; see `cross_entropy`."""
    log_probs, target, weight = value(log_probs), value(target), _class_weight(weight, log_probs)
    chosen = _chosen("log_probs", log_probs, target, ignore_index)
    loss = -f.sum(f.where(chosen, log_probs if weight is None else log_probs * weight, 0.0), -1)
    return _reduction(loss, log_probs.shape[:-1], reduction, _counted(target, weight, ignore_index))


def _class_weight(weight: Any, scores: Any) -> Any:
    if weight is None:
        return None
    if isinstance(weight, str):
        raise TypeError(f"weight holds a number for each class, got {weight!r}; write reduction={weight!r}")
    weight = value(weight)
    if scores.ndim == 0 or weight.ndim != 1 or weight.shape[0] != scores.shape[-1]:
        raise TypeRuleError(
            f"weight holds a number for each class (the last axis of {_type(scores)}), got {_type(weight)}"
        )
    return _like(scores, weight)


def _need_probabilities(logits: Any, target: Any) -> Any:
    if logits.ndim != target.ndim or any(a != b for a, b in zip(logits.shape, target.shape, strict=True)):
        raise TypeRuleError(
            f"a float target holds a probability for each class, {_type(logits)}, got {_type(target)}; "
            "write target.astype('int64') where it holds the numbers of classes"
        )
    return target


def _chosen(name: str, scores: Any, target: Any, ignore_index: int | None) -> Any:
    """bool (..., classes): the class that each target names."""
    need_classes(_type(target), name, _type(scores))
    return run(OPS["is_class"], target, size=scores.shape[-1], ignore=ignore_index)


def _only_counted(x: Any, target: Any, ignore_index: int | None) -> Any:
    return x if ignore_index is None else f.where(target != ignore_index, x, 0.0)


def _counted(target: Any, weight: Any, ignore_index: int | None) -> Any:
    """What a mean divides by: the number or the weight of the targets that count; None: all of them."""
    if weight is None:
        return None if ignore_index is None else f.sum(target != ignore_index)
    named = target if ignore_index is None else f.where(target != ignore_index, target, 0)
    return f.sum(_only_counted(take(weight, named), target, ignore_index))


# numbers ----------------------------------------------------------------------------------------------------------
@public
def mse_loss(prediction: Any, target: Any, reduction: str = "mean", weight: Any = None) -> Any:
    """(prediction - target)**2, which the mean divides by the sum of the weights; the gradient flows to both."""
    return _of_difference(e.square, prediction, target, reduction, weight)


mse = mse_loss


@public
def l1_loss(prediction: Any, target: Any, reduction: str = "mean", weight: Any = None) -> Any:
    """|prediction - target|; weight as for `mse_loss`"""
    return _of_difference(e.abs, prediction, target, reduction, weight)


@public
def smooth_l1_loss(prediction: Any, target: Any, reduction: str = "mean", beta: float = 1.0) -> Any:
    """d**2 / (2 beta) where d = |prediction - target| < beta, else d - beta / 2 (Girshick, 2015)."""
    if beta < 0.0:
        raise ValueError(f"smooth_l1_loss: beta is at least 0, got {beta}")
    if beta == 0.0:
        return l1_loss(prediction, target, reduction)
    return _of_difference(lambda d: _huber(d, beta) / beta, prediction, target, reduction)


@public
def huber_loss(prediction: Any, target: Any, reduction: str = "mean", delta: float = 1.0, weight: Any = None) -> Any:
    """d**2 / 2 where d = |prediction - target| <= delta, else delta * (d - delta / 2) (Huber, 1964); weight as for
    `mse_loss`."""
    if delta <= 0.0:
        raise ValueError(f"huber_loss: delta is above 0, got {delta}")
    return _of_difference(lambda d: _huber(d, delta), prediction, target, reduction, weight)


def _huber(d: Any, delta: float) -> Any:
    size = e.abs(d)
    return f.where(size <= delta, 0.5 * d * d, delta * (size - 0.5 * delta))


def _of_difference(of: Callable[[Any], Any], prediction: Any, target: Any, reduction: str, weight: Any = None) -> Any:
    prediction, target = _same_rank(prediction, target)
    loss = of(prediction - target)
    if weight is None:
        return _reduction(loss, loss.shape, reduction)
    loss, weight = _same_shape(loss, _like(loss, weight), "weight")
    return _reduction(loss * weight, loss.shape, reduction, f.sum(weight))


@public
def gaussian_nll_loss(
    prediction: Any, target: Any, var: Any, full: bool = False, eps: float = 1e-6, reduction: str = "mean"
) -> Any:
    """(log(var) + (prediction - target)**2 / var) / 2, with var at least eps; full: with the constant log(2 pi) / 2.

    var is a number, or has the shape of the prediction, with 1 for the last axis or without it. As in PyTorch, the
    bound changes its value and not its gradient.
    """
    prediction, target = _same_rank(prediction, target)
    if isinstance(var, (int, float)):
        if var < 0.0:
            raise ValueError(f"gaussian_nll_loss: var is at least 0, got {var}")
        var = max(var, eps)
        log = math.log(var)
    else:
        var = value(var)
        var = f.expand_dims(var, -1) if var.ndim == prediction.ndim - 1 else _same_rank(prediction, var)[1]
        var = var + e.stop_gradient(e.maximum(var, eps) - var)
        log = e.log(var)
    loss = 0.5 * (e.square(prediction - target) / var + log)
    loss = loss + 0.5 * math.log(2.0 * math.pi) if full else loss
    return _reduction(loss, loss.shape, reduction)


@public
def poisson_nll_loss(
    prediction: Any,
    target: Any,
    log_input: bool = True,
    full: bool = False,
    eps: float = 1e-8,
    reduction: str = "mean",
) -> Any:
    """rate - target * log(rate) for the prediction log(rate), or the rate itself with log_input=False (then
    log(rate + eps)). full: with Stirling's formula for log(target!) where the target is above 1."""
    prediction, target = _same_shape(prediction, target)
    if log_input:
        loss = e.exp(prediction) - target * prediction
    else:
        loss = prediction - target * e.log(prediction + eps)
    if full:
        large = f.where(target > 1.0, target, 1.0)
        stirling = large * e.log(large) - large + 0.5 * e.log(2.0 * math.pi * large)
        loss = loss + f.where(target > 1.0, stirling, 0.0)
    return _reduction(loss, loss.shape, reduction)


# probabilities ----------------------------------------------------------------------------------------------------
@public
def binary_cross_entropy(prediction: Any, target: Any, weight: Any = None, reduction: str = "mean") -> Any:
    """-target * log(prediction) - (1 - target) * log(1 - prediction), for probabilities; logarithms end at -100."""
    prediction, target = _same_shape(prediction, target)
    loss = run(OPS["binary_cross_entropy"], prediction, target)
    loss = loss if weight is None else loss * _like(loss, weight)
    return _reduction(loss, loss.shape, reduction)


@public
def binary_cross_entropy_with_logits(
    logits: Any, target: Any, weight: Any = None, reduction: str = "mean", pos_weight: Any = None
) -> Any:
    """log(1 + e**x) - x * target: -log sigmoid(x) where the target is 1, -log(1 - sigmoid(x)) where it is 0.

    weight scales each loss, pos_weight (..., classes) the part of the ones; both broadcast.
    """
    if isinstance(weight, str):
        raise TypeError(f"weight holds numbers, got {weight!r}; write reduction={weight!r}")
    logits, target = _same_shape(logits, target)
    if pos_weight is None:
        loss = e.softplus(logits) - logits * target
    else:
        loss = (1.0 - target) * logits + ((_like(logits, pos_weight) - 1.0) * target + 1.0) * e.softplus(-logits)
    loss = loss if weight is None else loss * _like(loss, weight)
    return _reduction(loss, loss.shape, reduction)


@public
def kl_div(log_probs: Any, target: Any, reduction: str = "mean", log_target: bool = False) -> Any:
    """target * (log(target) - log_probs), 0 for a target of 0; log_target: the target is given as its logarithm.

    "mean" is over all elements; the Kullback-Leibler divergence is reduction="batchmean", the sum divided by the size
    of the first axis.
    """
    log_probs, target = _same_shape(log_probs, target)
    if log_target:
        loss = e.exp(target) * (target - log_probs)
    else:
        positive = target > 0
        entropy = f.where(positive, target * e.log(f.where(positive, target, 1.0)), 0.0)
        loss = entropy - target * log_probs
    if reduction == "batchmean":
        return f.sum(loss) / (loss.shape[0] if loss.ndim else 1)
    return _reduction(loss, loss.shape, reduction)


@public
def soft_margin_loss(prediction: Any, target: Any, reduction: str = "mean") -> Any:
    """log(1 + e**(-target * prediction)) for a target of 1 or -1"""
    prediction, target = _same_shape(prediction, target)
    loss = e.softplus(-target * prediction)
    return _reduction(loss, loss.shape, reduction)


@public
def multilabel_soft_margin_loss(logits: Any, target: Any, weight: Any = None, reduction: str = "mean") -> Any:
    """The mean over the classes (last axis) of -t log sigmoid(x) - (1 - t) log sigmoid(-x), for t of 0 and 1."""
    logits, target = _same_shape(logits, target)
    loss = -(target * logsigmoid(logits) + (1.0 - target) * logsigmoid(-logits))
    loss = f.mean(loss if weight is None else loss * _like(loss, weight), -1)
    return _reduction(loss, loss.shape, reduction)


# margins ----------------------------------------------------------------------------------------------------------
@public
def hinge_embedding_loss(distance: Any, target: Any, margin: float = 1.0, reduction: str = "mean") -> Any:
    """The distance where the target is 1, max(0, margin - distance) where it is -1."""
    distance, target = _same_rank(distance, target)
    loss = f.where(target != -1, distance, 0.0) + f.where(target != 1, e.relu(margin - distance), 0.0)
    return _reduction(loss, loss.shape, reduction)


@public
def margin_ranking_loss(x: Any, y: Any, target: Any, margin: float = 0.0, reduction: str = "mean") -> Any:
    """max(0, margin - target * (x - y)): target 1 wants x above y, -1 the reverse."""
    x, y, target = _same_rank(x, y, target)
    loss = e.relu(margin - target * (x - y))
    return _reduction(loss, loss.shape, reduction)


@public
def cosine_embedding_loss(x: Any, y: Any, target: Any, margin: float = 0.0, reduction: str = "mean") -> Any:
    """1 - cos(x, y) where the target is 1, max(0, cos(x, y) - margin) where it is -1: x, y (N, width) or (width,)."""
    x, y, target = value(x), value(y), value(target)
    if target.ndim != x.ndim - 1 or x.ndim != y.ndim or x.ndim > 2:
        shapes = ", ".join(str(tuple(v.shape)) for v in (x, y, target))
        raise TypeRuleError(f"x and y are (N, width) and the target (N,), or (width,) and (); got {shapes}")
    squares = (f.sum(x * x, -1) + 1e-12) * (f.sum(y * y, -1) + 1e-12)
    cosine = f.sum(x * y, -1) / e.sqrt(squares)
    apart = f.where(target == -1, e.relu(cosine - margin), 0.0)
    loss = f.where(target == 1, 1.0 - cosine, apart)
    return _reduction(loss, loss.shape, reduction)


@public
def triplet_margin_loss(
    anchor: Any,
    positive: Any,
    negative: Any,
    margin: float = 1.0,
    p: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
    reduction: str = "mean",
) -> Any:
    """max(0, d(anchor, positive) - d(anchor, negative) + margin) with `pairwise_distance` d: all (..., width).

    swap: the negative's distance to the anchor or to the positive, whichever is less (Balntas, 2016).
    """
    near = pairwise_distance(anchor, positive, p, eps)
    far = pairwise_distance(anchor, negative, p, eps)
    if swap:
        far = e.minimum(far, pairwise_distance(positive, negative, p, eps))
    loss = e.relu(near - far + margin)
    return _reduction(loss, loss.shape, reduction)


# helpers ----------------------------------------------------------------------------------------------------------
def _same_rank(*arrays: Any) -> tuple[Any, ...]:
    """Arrays that may broadcast, but not (N, 1) against (N,), which would give (N, N)."""
    found = tuple(map(value, arrays))
    if len({x.ndim for x in found}) > 1:
        raise TypeRuleError(f"shapes {' and '.join(str(tuple(x.shape)) for x in found)} differ in rank")
    return found


def _same_shape(x: Any, other: Any, name: str = "target") -> tuple[Any, Any]:
    x, other = value(x), value(other)
    if x.ndim != other.ndim or any(a != b for a, b in zip(x.shape, other.shape, strict=True)):
        raise TypeRuleError(f"{_type(x)} needs a {name} of its shape, got {_type(other)}")
    return x, other


def _like(x: Any, weight: Any) -> Any:
    """Weights in the dtype of what they weigh: an array of Python's floats is float64, and would make all of it so."""
    return f.astype(weight, f.dtype_of(x)) if _type(x).is_float else value(weight)


def _reduction(loss: Any, shape: tuple, reduction: str, counted: Any = None) -> Any:
    """`counted`: what a mean divides by, where that is not the number of elements."""
    if reduction == "mean":
        return f.mean(loss) if counted is None else e.div(f.sum(loss), counted)
    if reduction == "sum":
        return f.sum(loss)
    if reduction == "none":
        return f.reshape(loss, shape)
    raise ValueError(f'reduction is "mean", "sum" or "none", not {reduction!r}')


__all__ = [
    "binary_cross_entropy", "binary_cross_entropy_with_logits", "cosine_embedding_loss", "cross_entropy",
    "gaussian_nll_loss", "hinge_embedding_loss", "huber_loss", "kl_div", "l1_loss", "margin_ranking_loss", "mse",
    "mse_loss", "multilabel_soft_margin_loss", "nll_loss", "poisson_nll_loss", "smooth_l1_loss", "soft_margin_loss",
    "triplet_margin_loss",
]  # fmt: skip
