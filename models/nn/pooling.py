"""Pooling over windows of (N, C, L) or (N, C, H, W); N may be missing. No parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ... import tracer as gt
from ...tracer import Module

Sizes = int | Sequence[int]


class MaxPool2d(Module):
    """The greatest element of every window, see `gt.max_pool2d`: (N, C, H, W) -> (N, C, H', W')."""

    function: Callable[..., Any] = staticmethod(gt.max_pool2d)

    def __init__(
        self,
        kernel_size: Sizes,
        stride: Sizes | None = None,
        padding: Sizes = 0,
        dilation: Sizes = 1,
        *,
        ceil_mode: bool = False,
    ) -> None:
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.dilation, self.ceil_mode = padding, dilation, ceil_mode

    def forward(self, x: Any) -> Any:
        function = type(self).function
        return function(x, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)

    def extra_repr(self) -> str:
        return f"{self.kernel_size}, stride={self.stride}, padding={self.padding}"


class MaxPool1d(MaxPool2d):
    """As MaxPool2d over a length, see `gt.max_pool1d`: (N, C, L) -> (N, C, L')."""

    function = staticmethod(gt.max_pool1d)


class AvgPool1d(Module):
    """The mean of every window, see `gt.avg_pool1d`: (N, C, L) -> (N, C, L')."""

    def __init__(
        self,
        kernel_size: Sizes,
        stride: Sizes | None = None,
        padding: Sizes = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.ceil_mode, self.count_include_pad = padding, ceil_mode, count_include_pad

    def forward(self, x: Any) -> Any:
        settings = (self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad)
        return gt.avg_pool1d(x, *settings)

    def extra_repr(self) -> str:
        return f"{self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool2d(AvgPool1d):
    """As AvgPool1d over height and width, see `gt.avg_pool2d`: (N, C, H, W) -> (N, C, H', W')."""

    def __init__(
        self,
        kernel_size: Sizes,
        stride: Sizes | None = None,
        padding: Sizes = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__(kernel_size, stride, padding, ceil_mode, count_include_pad)
        self.divisor_override = divisor_override

    def forward(self, x: Any) -> Any:
        settings = (self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad)
        return gt.avg_pool2d(x, *settings, self.divisor_override)


class AdaptiveAvgPool2d(Module):
    """The means of a grid of parts, see `gt.adaptive_avg_pool2d`: (N, C, H, W) -> (N, C, *output_size)."""

    function: Callable[..., Any] = staticmethod(gt.adaptive_avg_pool2d)

    def __init__(self, output_size: int | Sequence[int | None] | None) -> None:
        self.output_size = output_size

    def forward(self, x: Any) -> Any:
        function = type(self).function
        return function(x, self.output_size)

    def extra_repr(self) -> str:
        return f"{self.output_size}"


class AdaptiveAvgPool1d(AdaptiveAvgPool2d):
    """As AdaptiveAvgPool2d over a length, see `gt.adaptive_avg_pool1d`: (N, C, L) -> (N, C, output_size)."""

    function = staticmethod(gt.adaptive_avg_pool1d)
