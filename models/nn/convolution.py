"""Convolution. Channels come first: x (N, C, L) or (N, C, H, W); N may be missing."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from ... import tracer as gt
from ...ir.types import TypeRuleError
from ...tracer import Module, Parameter
from ...tracer.convolution import each
from .. import init

Sizes = int | Sequence[int]


class Conv2d(Module):
    """Weighted sums over windows of height and width, see `gt.conv2d`: (N, C, H, W) -> (N, out, H', W').

    Keys: weight (out, C / groups, *kernel_size), bias (out,). Both start uniform in +-1/sqrt(fan), with fan the size
    of one output's weight.
    """

    axes = 2
    function: Callable[..., Any] = staticmethod(gt.conv2d)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: Sizes | str = 0,
        dilation: Sizes = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        dtype: Any = "float32",
    ) -> None:
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size = _checked(self, in_channels, out_channels, kernel_size, groups, padding_mode)
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups
        self.weight = _weight(out_channels, in_channels // groups, *self.kernel_size, dtype=dtype)
        self.bias = _bias(self.weight, out_channels) if bias else None

    def forward(self, x: Any) -> Any:
        function = type(self).function
        return function(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)

    def extra_repr(self) -> str:
        return _settings(self, stride=1, padding=0, dilation=1, groups=1)


class Conv1d(Conv2d):
    """As Conv2d over a length, see `gt.conv1d`: (N, C, L) -> (N, out, L')."""

    axes = 1
    function = staticmethod(gt.conv1d)


class ConvTranspose2d(Module):
    """The reverse of a Conv2d in shape, see `gt.conv_transpose2d`: (N, C, H, W) -> (N, out, H', W').

    Keys: weight (C, out / groups, *kernel_size), bias (out,). Both start uniform in +-1/sqrt(fan), with fan the size
    of what the weight has for one of its first axis.
    """

    axes = 2
    function: Callable[..., Any] = staticmethod(gt.conv_transpose2d)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: Sizes = 0,
        output_padding: Sizes = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Sizes = 1,
        padding_mode: str = "zeros",
        dtype: Any = "float32",
    ) -> None:
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size = _checked(self, in_channels, out_channels, kernel_size, groups, padding_mode)
        self.stride, self.padding, self.output_padding = stride, padding, output_padding
        self.dilation, self.groups = dilation, groups
        self.weight = _weight(in_channels, out_channels // groups, *self.kernel_size, dtype=dtype)
        self.bias = _bias(self.weight, out_channels) if bias else None

    def forward(self, x: Any) -> Any:
        function = type(self).function
        settings = (self.stride, self.padding, self.output_padding, self.groups, self.dilation)
        return function(x, self.weight, self.bias, *settings)

    def extra_repr(self) -> str:
        return _settings(self, stride=1, padding=0, output_padding=0, groups=1, dilation=1)


class ConvTranspose1d(ConvTranspose2d):
    """As ConvTranspose2d over a length, see `gt.conv_transpose1d`: (N, C, L) -> (N, out, L')."""

    axes = 1
    function = staticmethod(gt.conv_transpose1d)


def _checked(
    layer: Any, in_channels: int, out_channels: int, kernel_size: Sizes, groups: int, padding_mode: str
) -> tuple[int, ...]:
    """The kernel size on each axis; raises where the settings do not go together."""
    name = type(layer).__name__
    if groups < 1 or in_channels % groups or out_channels % groups:
        raise ValueError(f"{name}: {groups} groups do not divide {in_channels} and {out_channels} channels")
    if padding_mode != "zeros":
        raise ValueError(f'{name}: padding_mode is "zeros", got {padding_mode!r}; pad x before the layer')
    try:
        return each("kernel_size", kernel_size, layer.axes)
    except TypeRuleError as fact:
        raise TypeError(f"{name}: {fact}") from None


def _weight(*shape: int, dtype: Any) -> Parameter:
    return init.kaiming_uniform_(init.empty(*shape, dtype=dtype), a=math.sqrt(5))


def _bias(weight: Parameter, size: int) -> Parameter:
    bound = 1.0 / math.sqrt(init.fans(weight)[0])
    return init.uniform_(init.empty(size, dtype=weight.dtype), -bound, bound)


def _settings(layer: Any, **defaults: Any) -> str:
    parts = [str(layer.in_channels), str(layer.out_channels), str(layer.kernel_size)]
    parts += [f"{k}={getattr(layer, k)!r}" for k, default in defaults.items() if getattr(layer, k) != default]
    return ", ".join(parts) + ("" if layer.bias is not None else ", bias=False")
