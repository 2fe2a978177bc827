"""The op namespace: convolution, with PyTorch's names, argument order and defaults.

Channels come first: x (N, C, L) or (N, C, H, W), N may be missing. Weights (out, C / groups, K..), of transposed
convolutions (C, out / groups, K..).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..ir.dims import identical, require_equal
from ..ir.op import OPS
from ..ir.types import TypeRuleError
from . import functional as f
from .apply import public, run, value
from .arrange import pad
from .generate import arange
from .indexing import take

Sizes = int | Sequence[int]
AXES = {1: "(batch, channels, length)", 2: "(batch, channels, height, width)"}


@public
def conv1d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Sizes = 1,
    padding: Sizes | str = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Any:
    """out[n, o, i] = bias[o] + sum over c, k of x[n, c, i * stride + k * dilation - padding] * weight[o, c, k].

    x (N, C, L), weight (out, C / groups, K), bias (out,) -> (N, out, (L + 2 padding - dilation (K - 1) - 1) // stride
    + 1). padding: zeros on both sides, "valid" (none), or "same": the result has x's length (stride 1 only).
    """
    return _convolve(1, x, weight, bias, stride, padding, dilation, groups)


@public
def conv2d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Sizes = 1,
    padding: Sizes | str = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Any:
    """As conv1d over height and width: x (N, C, H, W), weight (out, C / groups, K, L) -> (N, out, H', W')."""
    return _convolve(2, x, weight, bias, stride, padding, dilation, groups)


@public
def conv_transpose1d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Sizes = 1,
    padding: Sizes = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
) -> Any:
    """out[n, o, j] = bias[o] + the sum of x[n, c, i] * weight[c, o, k] with i * stride + k * dilation - padding = j.

    What conv1d of these settings does to a gradient. x (N, C, L), weight (C, out / groups, K), bias (out,) -> (N, out,
    (L - 1) stride - 2 padding + dilation (K - 1) + output_padding + 1); output_padding is below the stride.
    """
    return _transposed(1, x, weight, bias, stride, padding, output_padding, groups, dilation)


@public
def conv_transpose2d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Sizes = 1,
    padding: Sizes = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
) -> Any:
    """As conv_transpose1d over height and width: (N, C, H, W), weight (C, out / groups, K, L) -> (N, out, H', W')."""
    return _transposed(2, x, weight, bias, stride, padding, output_padding, groups, dilation)


@public
def unfold(x: Any, kernel_size: Sizes, dilation: Sizes = 1, padding: Sizes = 0, stride: Sizes = 1) -> Any:
    """The windows of an image as columns: x (N, C, H, W) -> (N, C K L, number of windows), channels outermost, then the
    place in the window; N may be missing. A product with them is a convolution (conv2d does not make them)."""
    x = value(x)
    if x.ndim not in (3, 4):
        raise TypeRuleError(f"x is {AXES[2]}, or that without the batch, got {_sized(x)}")
    kernel, spread = each("kernel_size", kernel_size, 2), each("dilation", dilation, 2)
    steps, pads = each("stride", stride, 2), each("padding", padding, 2)
    x = pad(x, (*((0, 0),) * (x.ndim - 2), *((p, p) for p in pads)))
    *outer, height, width = x.shape
    if min(*kernel, *steps, *spread) < 1:
        raise TypeRuleError(f"kernel {kernel}, stride {steps} and dilation {spread} are numbers from 1")
    at = []
    for n, k, s, e in zip((height, width), kernel, steps, spread, strict=True):
        span = e * (k - 1) + 1
        if span > n:
            raise TypeRuleError(f"a window of {span} elements (kernel {k}, dilation {e}) does not fit into {n}")
        first = arange((n - span) // s + 1) * s
        at.append(f.reshape(arange(k) * e, -1, 1) + first)  # (place in the window, window)
    rows, columns = at
    flat = f.reshape(rows, rows.shape[0], 1, -1, 1) * width + f.reshape(columns, 1, columns.shape[0], 1, -1)
    found = take(f.reshape(x, (*outer, height * width)), flat, -1)  # (..., C, K, L, windows down, windows across)
    *batch, channels = outer
    return f.reshape(found, (*batch, channels * kernel[0] * kernel[1], -1))


def _convolve(n: int, x: Any, weight: Any, bias: Any, stride: Sizes, padding: Any, dilation: Sizes, groups: int) -> Any:
    x, weight, single = _operands(n, x, weight)
    steps, spread = each("stride", stride, n), each("dilation", dilation, n)
    if isinstance(padding, str):
        edges = _named_padding(padding, weight.shape[2:], steps, spread)
    else:
        edges = tuple((p, p) for p in each("padding", padding, n))
    _check_channels(x, weight.shape[1] * groups, groups, single)
    check_fit(x.shape[2:], weight.shape[2:], edges, spread)
    out = run(OPS["conv"], x, weight, stride=steps, padding=edges, dilation=spread, groups=groups)
    return _finish(out, bias, single)


def _transposed(
    n: int,
    x: Any,
    weight: Any,
    bias: Any,
    stride: Sizes,
    padding: Any,
    output_padding: Sizes,
    groups: int,
    dilation: Sizes,
) -> Any:
    x, weight, single = _operands(n, x, weight)
    if isinstance(padding, str):
        raise TypeRuleError(f"the padding of a transposed convolution is a number, one for each axis, not {padding!r}")
    steps, spread, pads = each("stride", stride, n), each("dilation", dilation, n), each("padding", padding, n)
    extra = each("output_padding", output_padding, n)
    if any(not 0 <= e < s for e, s in zip(extra, steps, strict=True)):
        raise TypeRuleError(f"output_padding is at least 0 and below the stride, got {extra} for stride {steps}")
    _check_channels(x, weight.shape[0], groups, single)
    kernel = weight.shape[2:]
    size = tuple(
        (d - 1) * s - 2 * p + e * (k - 1) + more + 1
        for d, s, p, e, k, more in zip(x.shape[2:], steps, pads, spread, kernel, extra, strict=True)
    )
    for axis, d in enumerate(size):
        if d < 1:
            raise TypeRuleError(f"nothing is left of axis {axis + 2}: its size would be {d}; less padding")
    edges = tuple((p, p) for p in pads)
    out = run(OPS["conv_input"], x, weight, size=size, stride=steps, padding=edges, dilation=spread, groups=groups)
    return _finish(out, bias, single)


def _operands(n: int, x: Any, weight: Any) -> tuple[Any, Any, bool]:
    """x with a batch axis, the weight, and whether x had none."""
    x, weight = value(x), value(weight)
    if x.ndim not in (n + 1, n + 2):
        raise TypeRuleError(f"x is {AXES[n]}, or that without the batch, got {_sized(x)}")
    if weight.ndim != n + 2:
        raise TypeRuleError(f"the weight is (out, channels / groups, {n} kernel sizes), got {_sized(weight)}")
    single = x.ndim == n + 1
    return (f.reshape(x, (1, *x.shape)) if single else x), weight, single


def _finish(out: Any, bias: Any, single: bool) -> Any:
    """The result with its bias, without the batch axis where x had none."""
    if bias is not None:
        bias = value(bias)
        if bias.ndim != 1 or not require_equal(bias.shape[0], out.shape[1]):
            raise TypeRuleError(f"the bias is one number for each of the {out.shape[1]} outputs, got {_sized(bias)}")
        out = out + f.reshape(bias, (bias.shape[0], *(1,) * (out.ndim - 2)))
    return f.reshape(out, out.shape[1:]) if single else out


def _check_channels(x: Any, channels: Any, groups: Any, single: bool) -> None:
    if not isinstance(groups, (int, np.integer)) or groups < 1 or require_equal(x.shape[1], channels):
        return  # what is wrong with the groups the op says
    hint = ""
    if identical(x.shape[-1], channels):
        axes = range(x.ndim - 1) if single else range(x.ndim)
        hint = f"; channels come first: write x.transpose{(*axes[: not single], axes[-1], *axes[not single : -1])}"
    elif single and identical(channels, 1):
        hint = "; where the axis of the channels is missing write x[:, None]"
    parts = f" in {groups} groups" if groups > 1 else ""
    raise TypeRuleError(f"x has {x.shape[1]} channels, the weight{parts} takes {channels}{hint}")


def check_fit(sizes: Any, kernel: Any, edges: Any, dilation: Any) -> None:
    """Of a symbolic size: that a window fits becomes a guard of the program. Numbers are the op's to judge."""
    for d, k, (before, after), e in zip(sizes, kernel, edges, dilation, strict=True):
        wide, span = d + before + after, e * (k - 1) + 1
        if not isinstance(wide, int) and wide < span:
            raise TypeRuleError(f"a window of {span} elements (kernel {k}, dilation {e}) does not fit into {d}")


def _named_padding(name: str, kernel: Any, stride: tuple, dilation: tuple) -> tuple[tuple[int, int], ...]:
    if name == "valid":
        return ((0, 0),) * len(kernel)
    if name != "same":
        raise TypeRuleError(f'padding is a number, one for each axis, "same" or "valid", got {name!r}')
    if any(s != 1 for s in stride):
        raise TypeRuleError(f'padding "same" needs stride 1, got {stride}; write the number of zeros')
    reach = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    return tuple((r // 2, r - r // 2) for r in reach)


def each(name: str, given: Any, n: int) -> tuple[int, ...]:
    """One number for every axis: of `3`, `(3,)` for all, or of `(3, 2)`."""
    sizes = (given,) * n if isinstance(given, (int, np.integer)) else given
    if isinstance(sizes, (tuple, list)) and len(sizes) == 1:
        sizes = (*sizes,) * n
    whole = isinstance(sizes, (tuple, list)) and all(isinstance(s, (int, np.integer)) for s in sizes)
    if not whole or len(sizes) != n:
        wanted = "an integer" if n == 1 else f"an integer, or one for each of the {n} axes"
        raise TypeRuleError(f"{name} is {wanted}, got {given!r}")
    return tuple(map(int, sizes))


def _sized(x: Any) -> str:
    return f"({', '.join(map(str, x.shape))})"


__all__ = ["conv1d", "conv2d", "conv_transpose1d", "conv_transpose2d", "unfold"]
