"""Normalisation and dropout."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

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


class _ByChannel(Module):
    """What batch and instance norm share: gain and bias, running statistics, and which ranks they take."""

    ranks: tuple[int, ...] = ()

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        dtype: Any = "float32",
        *,
        bias: bool = True,
    ) -> None:
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        self.weight = init.ones_(init.empty(num_features, dtype=dtype)) if affine else None
        self.bias = init.empty(num_features, dtype=dtype) if affine and bias else None
        self.running_mean = gt.buffer(np.zeros(num_features, dtype)) if track_running_stats else None
        self.running_var = gt.buffer(np.ones(num_features, dtype)) if track_running_stats else None
        self.num_batches_tracked = gt.buffer(np.int64(0)) if track_running_stats else None

    def _check(self, x: Any) -> None:
        if x.ndim not in self.ranks:
            expected = " or ".join(f"{rank}D" for rank in self.ranks)
            raise ValueError(f"{type(self).__name__}: expected {expected} input (got {x.ndim}D input)")

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"track_running_stats={self.track_running_stats}"
        )


class _BatchNorm(_ByChannel):
    def forward(self, x: Any) -> Any:
        self._check(x)
        training = self.training or self.running_mean is None
        momentum: Any = self.momentum
        if self.training and self.running_mean is not None:
            self.num_batches_tracked = self.num_batches_tracked + 1
            if momentum is None:
                momentum = 1.0 / gt.astype(self.num_batches_tracked, self.running_mean.dtype)
        return gt.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, training, momentum, self.eps
        )


class BatchNorm1d(_BatchNorm):
    """(x - mean) / sqrt(var + eps) * weight + bias for each channel: (N, C) or (N, C, L).

    In training mean and var are the batch's, else the running ones, which training moves by `momentum` towards the
    batch's (None: they are the averages of all batches so far). Keys: weight, bias, running_mean, running_var (C,),
    num_batches_tracked. See `gt.batch_norm`.
    """

    ranks = (2, 3)


class BatchNorm2d(_BatchNorm):
    """As BatchNorm1d: (N, C, H, W)."""

    ranks = (4,)


class _InstanceNorm(_ByChannel):
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        dtype: Any = "float32",
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, dtype, bias=bias)

    def forward(self, x: Any) -> Any:
        self._check(x)
        single = x.ndim == self.ranks[0]  # one example, without an axis for the batch
        y = gt.instance_norm(
            gt.expand_dims(x, 0) if single else x,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training or self.running_mean is None,
            self.momentum if self.momentum is not None else 0.0,  # as in PyTorch, which counts no batches here
            self.eps,
        )
        return gt.squeeze(y, 0) if single else y


class InstanceNorm1d(_InstanceNorm):
    """(x - mean) / sqrt(var + eps) * weight + bias for each channel of each example: (N, C, L) or (C, L).

    With track_running_stats, evaluation uses running statistics. Keys: as BatchNorm1d's. See `gt.instance_norm`.
    """

    ranks = (2, 3)


class InstanceNorm2d(_InstanceNorm):
    """As InstanceNorm1d: (N, C, H, W) or (C, H, W)."""

    ranks = (3, 4)


class GroupNorm(Module):
    """(x - mean) / sqrt(var + eps) * weight + bias for each example and group of channels: (N, C, ...). Keys: weight
    and bias (C,)."""

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        dtype: Any = "float32",
        *,
        bias: bool = True,
    ) -> None:
        if num_groups < 1 or num_channels % num_groups:
            raise ValueError(f"num_channels {num_channels} is not a multiple of num_groups {num_groups}")
        self.num_groups, self.num_channels, self.eps, self.affine = num_groups, num_channels, eps, affine
        self.weight = init.ones_(init.empty(num_channels, dtype=dtype)) if affine else None
        self.bias = init.empty(num_channels, dtype=dtype) if affine and bias else None

    def forward(self, x: Any) -> Any:
        return gt.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}"


class Dropout(Module):
    """In training mode each element is 0 with probability p, else x / (1 - p)."""

    function: Callable[..., Any] = staticmethod(gt.dropout)

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        if not 0.0 <= p <= 1.0:
            raise ValueError(f"{type(self).__name__}: a probability lies in [0, 1], got p={p}")
        self.p = p

    def forward(self, x: Any) -> Any:
        return type(self).function(x, self.p, self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}"


class Dropout1d(Dropout):
    """In training mode each channel is 0 with probability p, else x / (1 - p): (N, C, L) or (C, L)."""

    function = staticmethod(gt.dropout1d)


class Dropout2d(Dropout):
    """In training mode each channel of each example is 0 with probability p, else x / (1 - p): (N, C, H, W)."""

    function = staticmethod(gt.dropout2d)
