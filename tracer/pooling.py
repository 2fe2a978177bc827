"""The op namespace: pooling, with PyTorch's names, argument order and defaults. x is (N, C, L) or (N, C, H, W), N may
be missing."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from ..ir.dims import divide
from ..ir.op import OPS
from ..ir.types import TypeRuleError
from . import functional as f
from .apply import public, run, value
from .convolution import AXES, Sizes, check_fit, each
from .elementwise import maximum, minimum
from .generate import arange


@public
def max_pool1d(
    x: Any,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
) -> Any:
    """The greatest element of every window: (N, C, L) -> (N, C, (L + 2 padding - dilation (kernel_size - 1) - 1) //
    stride + 1).

    stride None is kernel_size. The padding, at most half of the kernel, is -inf. ceil_mode rounds the division up: a
    last window that is not whole counts too, if it starts in x or its left padding. Of several greatest elements the
    first gets the gradient.
    """
    return _max_pool(1, x, kernel_size, stride, padding, dilation, ceil_mode)


@public
def max_pool2d(
    x: Any,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
) -> Any:
    """As max_pool1d over height and width: (N, C, H, W) -> (N, C, H', W')."""
    return _max_pool(2, x, kernel_size, stride, padding, dilation, ceil_mode)


@public
def avg_pool1d(
    x: Any,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Any:
    """The mean of every window: (N, C, L) -> (N, C, (L + 2 padding - kernel_size) // stride + 1).

    stride None is kernel_size. Zeros of the padding, at most half of the kernel, count as elements unless
    count_include_pad is False. ceil_mode as in max_pool1d; what lies beyond the padding never counts.
    """
    return _avg_pool(1, x, kernel_size, stride, padding, ceil_mode, count_include_pad, None)


@public
def avg_pool2d(
    x: Any,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Any:
    """As avg_pool1d over height and width: (N, C, H, W) -> (N, C, H', W'). divisor_override: the sum of every window
    divided by this number."""
    return _avg_pool(2, x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


@public
def adaptive_avg_pool1d(x: Any, output_size: int) -> Any:
    """The means of `output_size` parts: (N, C, L) -> (N, C, output_size). Part i is [floor(i L / output_size),
    ceil((i + 1) L / output_size)): parts are equal where output_size divides L, and overlap where it does not."""
    return _adaptive(1, x, output_size)


@public
def adaptive_avg_pool2d(x: Any, output_size: int | Sequence[int | None] | None) -> Any:
    """As adaptive_avg_pool1d over height and width: (N, C, H, W) -> (N, C, *output_size); None keeps a size."""
    return _adaptive(2, x, output_size)


def _max_pool(n: int, x: Any, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool) -> Any:
    x, kernel, steps, edges = _windows(n, x, kernel_size, stride, padding, each("dilation", dilation, n), ceil_mode)
    spread = each("dilation", dilation, n)
    return run(OPS["max_pool"], x, kernel=kernel, stride=steps, padding=edges, dilation=spread)


def _avg_pool(
    n: int, x: Any, kernel_size: Any, stride: Any, padding: Any, ceil_mode: bool, include_pad: bool, divisor: Any
) -> Any:
    x, kernel, steps, edges = _windows(n, x, kernel_size, stride, padding, (1,) * n, ceil_mode)
    out = run(OPS["avg_pool"], x, kernel=kernel, stride=steps, padding=edges)
    if divisor is not None:
        if not isinstance(divisor, (int, np.integer)) or divisor == 0:
            raise TypeRuleError(f"divisor_override is an integer other than 0, got {divisor!r}")
        return out * (prod(kernel) / int(divisor))
    for axis, (k, s, (before, after)) in enumerate(zip(kernel, steps, edges, strict=True), -n):
        if before == after == 0 or (include_pad and before == after):
            continue
        # how many elements of x, or of x and its padding, each window has along this axis
        first = arange(out.shape[axis]) * s - before
        low, high = (-before, x.shape[axis] + before) if include_pad else (0, x.shape[axis])
        count = f.astype(minimum(first + k, high) - maximum(first, low), f.dtype_of(x))
        out = out * (k / f.reshape(count, (-1, *(1,) * (-axis - 1))))
    return out


def _windows(
    n: int, x: Any, kernel_size: Any, stride: Any, padding: Any, dilation: tuple, ceil_mode: bool
) -> tuple[Any, tuple, tuple, tuple]:
    """x, kernel, stride, (before, after) on each axis; with ceil_mode `after` reaches to the end of the last window."""
    x = value(x)
    if x.ndim not in (n + 1, n + 2):
        raise TypeRuleError(f"x is {AXES[n]}, or that without the batch, got ({', '.join(map(str, x.shape))})")
    kernel = each("kernel_size", kernel_size, n)
    steps = kernel if stride is None else each("stride", stride, n)
    pads = each("padding", padding, n)
    if any(not 0 <= 2 * p <= k for p, k in zip(pads, kernel, strict=True)):
        raise TypeRuleError(f"the padding is at least 0 and at most half of the kernel {kernel}, got {pads}")
    edges = tuple((p, p) for p in pads)
    sizes = x.shape[x.ndim - n :]
    if ceil_mode:
        edges = tuple(map(_ceiled, sizes, kernel, steps, pads, dilation))
    check_fit(sizes, kernel, edges, dilation)
    return x, kernel, steps, edges


def _ceiled(size: Any, kernel: int, stride: int, pad: int, dilation: int) -> tuple[int, int]:
    span, size = dilation * (kernel - 1) + 1, int(size)
    if stride < 1 or size + 2 * pad < span:
        return pad, pad  # wrong in itself: the op says so
    last = -(-(size + 2 * pad - span) // stride)
    if last * stride >= size + pad:  # it would start in the padding behind x
        last -= 1
    return pad, max(pad, last * stride + span - size - pad)


def _adaptive(n: int, x: Any, output_size: Any) -> Any:
    x = value(x)
    if x.ndim not in (n + 1, n + 2):
        raise TypeRuleError(f"x is {AXES[n]}, or that without the batch, got ({', '.join(map(str, x.shape))})")
    given = tuple(output_size) if isinstance(output_size, (tuple, list)) else (output_size,) * n
    sizes = x.shape[x.ndim - n :]
    if len(given) != n or not all(g is None or (isinstance(g, (int, np.integer)) and g > 0) for g in given):
        raise TypeRuleError(f"output_size is a number from 1 or None, for each of the {n} axes, got {output_size!r}")
    wanted = tuple(d if g is None else int(g) for d, g in zip(sizes, given, strict=True))
    if wanted == (1,) * n:
        return f.mean(x, tuple(range(-n, 0)), keepdims=True)
    parts = [divide(d, m) for d, m in zip(sizes, wanted, strict=True)]
    if all(isinstance(p, int) for p in parts):
        kernel = tuple(p for p in parts if isinstance(p, int))
        return run(OPS["avg_pool"], x, kernel=kernel, stride=kernel, padding=((0, 0),) * n)
    for axis, (d, m) in enumerate(zip(sizes, given, strict=True), -n):
        if m is not None:
            shares = _shares(int(d), int(m), f.numpy_dtype(x))
            x = f.swapaxes(f.matmul(f.swapaxes(x, axis, -1), shares), axis, -1)
    return x


def _shares(size: int, parts: int, dtype: np.dtype) -> np.ndarray:
    """(size, parts): what each element adds to the mean of each part."""
    first = np.arange(parts) * size // parts
    end = -(-(np.arange(parts) + 1) * size // parts)
    places = np.arange(size)[:, None]
    return ((places >= first) & (places < end)).astype(dtype) / (end - first).astype(dtype)


__all__ = [
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "avg_pool1d", "avg_pool2d", "max_pool1d", "max_pool2d",
]  # fmt: skip
