"""The op namespace: lookup and attention, with PyTorch's names and formulas."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..ir.op import OPS
from . import functional as f
from .activation import softmax
from .apply import public, run, value
from .generate import indices
from .normalisation import affine
from .rng import dropout


@public
def embedding(index: Any, weight: Any) -> Any:
    """Rows of a table: index (...) of integers, weight (rows, width) -> (..., width)."""
    return run(OPS["take"], value(weight), value(index))


@public
def linear(x: Any, weight: Any, bias: Any = None) -> Any:
    """x @ weight.T + bias: x (..., in), weight (out, in), bias (out,) -> (..., out)."""
    return affine(f.matmul(x, f.transpose(weight)), None, bias)


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


@public
def cached_attention(q: Any, k: Any, v: Any, position: Any, scale: float | None = None) -> Any:
    """Attention of new rows to a cache: q (B, H, T, D), k (B, H, S, D), v (B, H, S, E) -> (B, H, T, E).

    Row t stands at position + t and sees k and v up to there, as `scaled_dot_product_attention` does with a mask of
    `arange(S) <= position + arange(T)[:, None]`; what lies behind is not read. position: an integer, or an integer
    array without axes, which may be traced. scale: 1 / sqrt(D) by default.
    """
    q, k, v = value(q), value(k), value(v)
    scale = float(q.shape[-1]) ** -0.5 if scale is None else float(scale)
    start = value(position if not isinstance(position, int) else np.asarray(position))
    return run(OPS["cached_attention"], q, k, v, start, scale=scale)


__all__ = ["cached_attention", "embedding", "linear", "scaled_dot_product_attention"]
