"""The op namespace: normalisation, with PyTorch's names and formulas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..ir.dims import Dim, DimLike, divide, product
from ..ir.op import OPS
from ..ir.types import TypeRuleError, normalize_axes
from . import elementwise as e
from . import functional as f
from .apply import public, run, value
from .module import Buffer


# over the last axes -----------------------------------------------------------------------------------------------
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
    return affine(run(OPS["layer_norm"], x, axes=_normalized(x, normalized_shape, axes), eps=eps), weight, bias)


@public
def rms_norm(
    x: Any, normalized_shape: Any = None, weight: Any = None, eps: float | None = None, *, axes: Any = None
) -> Any:
    """x / sqrt(mean(x**2) + eps) * weight over the last axes; eps None is the spacing of 1.0 in x's dtype."""
    x = value(x)
    eps = float(np.finfo(f.numpy_dtype(x)).eps) if eps is None else eps
    return affine(run(OPS["rms_norm"], x, axes=_normalized(x, normalized_shape, axes), eps=eps), weight, None)


def _normalized(x: Any, shape: int | Sequence[int] | None, axes: Any) -> tuple[int, ...]:
    if axes is not None:
        return normalize_axes(axes, x.ndim)
    shape = (x.shape[-1],) if shape is None else (shape,) if isinstance(shape, (int, Dim)) else tuple(shape)
    if len(shape) > x.ndim or any(a != b for a, b in zip(shape, x.shape[x.ndim - len(shape) :], strict=True)):
        raise TypeRuleError(f"normalized_shape {tuple(shape)} is not the end of shape {tuple(x.shape)}")
    return tuple(range(x.ndim - len(shape), x.ndim))


# by channel -------------------------------------------------------------------------------------------------------
@public
def batch_norm(
    x: Any,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: Any = 0.1,
    eps: float = 1e-5,
) -> Any:
    """(x - mean) / sqrt(var + eps) * weight + bias for each channel: x (N, C, ...), all others (C,) (Ioffe, 2015).

    training: mean and var are those of the batch, and the running ones, buffers (`gt.buffer(array)`) or None, move:
    (1 - momentum) * old + momentum * new, where the new variance is the unbiased one, with n - 1. Otherwise mean and
    var are the running ones. Raises ValueError for a batch with one value per channel in training.
    """
    x = value(x)
    _need_channels(x, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias)
    if not training:
        return affine(_by_running(x, running_mean, running_var, eps), _channels(weight, x), _channels(bias, x))
    axes = (0, *range(2, x.ndim))
    _need_several(product(x.shape[a] for a in axes), "batch_norm", "value per channel", x)
    normal = run(OPS["layer_norm"], x, axes=axes, eps=eps)
    _move_running(x, axes, running_mean, running_var, momentum)
    return affine(normal, _channels(weight, x), _channels(bias, x))


@public
def instance_norm(
    x: Any,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    use_input_stats: bool = True,
    momentum: Any = 0.1,
    eps: float = 1e-5,
) -> Any:
    """As `batch_norm`, with mean and var of each channel of each example: x (N, C, ...) (Ulyanov, 2016).

    The running ones move towards the average over the batch; use_input_stats=False puts them in their place.
    Raises ValueError for one value per example and channel.
    """
    x = value(x)
    _need_channels(x, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias)
    if not use_input_stats:
        return affine(_by_running(x, running_mean, running_var, eps), _channels(weight, x), _channels(bias, x))
    axes = tuple(range(2, x.ndim))
    _need_several(product(x.shape[2:]), "instance_norm", "spatial element", x)
    normal = run(OPS["layer_norm"], x, axes=axes, eps=eps)
    _move_running(x, axes, running_mean, running_var, momentum)
    return affine(normal, _channels(weight, x), _channels(bias, x))


@public
def group_norm(x: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    """(x - mean) / sqrt(var + eps) * weight + bias, with mean and var of each example and group of adjacent channels:
    x (N, C, ...), weight and bias (C,) (Wu, 2018)."""
    x = value(x)
    _need_channels(x, weight=weight, bias=bias)
    size = divide(x.shape[1], num_groups)
    if size is None:
        raise TypeRuleError(f"{x.shape[1]} channels (axis 1) do not divide into {num_groups} groups")
    _need_several(x.shape[0] * size * product(x.shape[2:]), "group_norm", "value per channel", x)
    grouped = f.reshape(x, (x.shape[0], num_groups, size, *x.shape[2:]))
    normal = run(OPS["layer_norm"], grouped, axes=tuple(range(2, grouped.ndim)), eps=eps)
    # gain and bias in the shape of the groups: behind the reshape they would be another pass
    of_group = [v if v is None else f.reshape(v, (num_groups, size, *[1] * (x.ndim - 2))) for v in (weight, bias)]
    return f.reshape(affine(normal, *of_group), x.shape)


def affine(x: Any, weight: Any, bias: Any) -> Any:
    """x * weight + bias, where these are given."""
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


def _channels(v: Any, x: Any) -> Any:
    """One number per channel (C,), shaped to meet x (N, C, ...)."""
    return None if v is None else f.reshape(v, (x.shape[1], *[1] * (x.ndim - 2)))


def _need_channels(x: Any, **given: Any) -> None:
    if x.ndim < 2:
        raise TypeRuleError(f"channels are axis 1: x is (N, C, ...), not of {x.ndim} dimensions")
    for name, v in given.items():
        shape = None if v is None else tuple(value(v).shape)
        if shape is not None and (len(shape) != 1 or shape[0] != x.shape[1]):
            raise TypeRuleError(f"x has {x.shape[1]} channels (axis 1), {name} has shape {shape}")


def _need_several(count: DimLike, name: str, what: str, x: Any) -> None:
    """The variance of one number is 0, whatever it is: nothing could be learnt. PyTorch's error."""
    if not count > 1:
        shape = f"({', '.join(map(str, x.shape))})"
        raise ValueError(
            f"{name}: Expected more than 1 {what} when training, got input size {shape}\n"
            "  write a larger batch (drop the last one where it is short), or model.eval()"
        )


def _by_running(x: Any, mean: Any, var: Any, eps: float) -> Any:
    if mean is None or var is None:
        raise TypeRuleError("without the statistics of the batch it needs running_mean and running_var")
    return (x - _channels(mean, x)) * e.rsqrt(_channels(var, x) + eps)


def _move_running(x: Any, axes: tuple[int, ...], running_mean: Any, running_var: Any, momentum: Any) -> None:
    """Moves the running statistics towards those of x over `axes`, averaged over the batch where 0 is not among them.

    Mean and variance are written as in the body of `layer_norm`, so that they are computed once.
    """
    mean = f.mean(x, axes, keepdims=True)
    d = x - mean
    n = product(x.shape[a] for a in axes)
    news = {"running_mean": mean, "running_var": f.mean(d * d, axes, keepdims=True) * n / (n - 1)}
    for (name, new), old in zip(news.items(), (running_mean, running_var), strict=True):
        if old is None:
            continue
        if not isinstance(old, Buffer):
            raise TypeRuleError(f"{name} is updated in training: it is a gt.buffer(array), not {type(old).__name__}")
        new = f.reshape(f.mean(new, 0) if 0 not in axes else new, (x.shape[1],))
        old._assign((1.0 - momentum) * value(old) + momentum * e.stop_gradient(new))


# vectors ----------------------------------------------------------------------------------------------------------
@public
def normalize(x: Any, p: float = 2.0, axis: int = 1, eps: float = 1e-12, *, dim: int | None = None) -> Any:
    """x / max(norm, eps), with the p-norm along `axis`: by default vectors are (N, width, ...)."""
    x = value(x)
    return x / _norm(x, p, axis if dim is None else dim, eps)


@public
def cosine_similarity(x: Any, y: Any, axis: int = 1, eps: float = 1e-8, *, dim: int | None = None) -> Any:
    """sum(x * y) / (max(norm(x), eps) * max(norm(y), eps)) along `axis`; x and y broadcast."""
    x, y = value(x), value(y)
    axis = axis if dim is None else dim
    lengths = _norm(x, 2.0, axis, eps) * _norm(y, 2.0, axis, eps)
    return f.squeeze(f.sum(x * y, axis, keepdims=True) / lengths, axis)


@public
def pairwise_distance(x: Any, y: Any, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Any:
    """The p-norm of x - y + eps along the last axis: x and y (..., width) -> (...), or (..., 1)."""
    distance = _norm(value(x) - value(y) + eps, p, -1, 0.0)
    return distance if keepdim else f.squeeze(distance, -1)


def _norm(x: Any, p: float, axis: int, least: float) -> Any:
    """max(p-norm of x, least) along `axis`, which stays. The least comes before the root, whose slope at 0 is
    infinite."""
    if p == 2.0:
        return e.sqrt(e.maximum(f.sum(x * x, axis, keepdims=True), least * least))
    size = e.abs(x)
    if p == 1.0:
        return e.maximum(f.sum(size, axis, keepdims=True), least)
    if p == np.inf:
        return e.maximum(f.max(size, axis, keepdims=True), least)
    return e.maximum(f.sum(size**p, axis, keepdims=True), least**p) ** (1.0 / p)


__all__ = [
    "batch_norm", "cosine_similarity", "group_norm", "instance_norm", "layer_norm", "normalize", "pairwise_distance",
    "rms_norm",
]  # fmt: skip
