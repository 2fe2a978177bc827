"""The op namespace: normalisation, with PyTorch's names and formulas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..ir.dims import Dim
from ..ir.op import OPS
from ..ir.types import TypeRuleError, normalize_axes
from . import functional as f
from .apply import public, run, value


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


def affine(x: Any, weight: Any, bias: Any) -> Any:
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


__all__ = ["layer_norm", "rms_norm"]
