"""The op namespace: activations, lookup and attention, with PyTorch's names and formulas."""

from __future__ import annotations

import math
from typing import Any

from ..ir.op import OPS
from ..ir.types import normalize_axis
from . import elementwise as e
from . import functional as f
from .apply import public, run, value
from .generate import indices
from .normalisation import affine
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


# lookup, attention ------------------------------------------------------------------------------------------------
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


__all__ = [
    "embedding", "gelu", "linear", "log_softmax", "scaled_dot_product_attention", "silu", "softmax",
]  # fmt: skip
