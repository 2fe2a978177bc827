"""Normalisation and dropout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ... import tracer as gt
from ...tracer import Module
from .. import init


class LayerNorm(Module):
    """(x - mean) / sqrt(var + eps) * weight + bias over the last axes. Keys: weight and bias,
    `normalized_shape` each."""

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        dtype: Any = "float32",
    ) -> None:
        self.normalized_shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.eps = eps
        shape = self.normalized_shape
        self.weight = init.ones_(init.empty(*shape, dtype=dtype)) if elementwise_affine else None
        self.bias = init.empty(*shape, dtype=dtype) if elementwise_affine and bias else None

    def forward(self, x: Any) -> Any:
        return gt.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}"


class RMSNorm(Module):
    """x / sqrt(mean(x**2) + eps) * weight over the last axes. Key: weight, `normalized_shape`. eps None: that
    of the dtype."""

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        dtype: Any = "float32",
    ) -> None:
        self.normalized_shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.eps = eps
        self.weight = init.ones_(init.empty(*self.normalized_shape, dtype=dtype)) if elementwise_affine else None

    def forward(self, x: Any) -> Any:
        return gt.rms_norm(x, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}"


class Dropout(Module):
    """In training mode each element is 0 with probability p, else x / (1 - p)."""

    def __init__(self, p: float = 0.5) -> None:
        if not 0.0 <= p <= 1.0:
            raise ValueError(f"Dropout: a probability lies in [0, 1], got p={p}")
        self.p = p

    def forward(self, x: Any) -> Any:
        return gt.dropout(x, self.p, self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}"
