"""A convolutional classifier of images in one file, read top to bottom.

Shapes: B batch, C channels, H and W height and width, D width of a block, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import tracer as gt
from ..tracer import Module
from .nn import Conv2d, Dropout, Linear


class Block(Module):
    """A convolution that keeps height and width, relu, and the greatest of every 2 x 2 elements."""

    def __init__(self, channels: int, width: int, kernel: int, dtype: Any) -> None:
        self.conv = Conv2d(channels, width, kernel, padding="same", dtype=dtype)

    def forward(self, x: Any) -> Any:  # (B, C, H, W) -> (B, D, H // 2, W // 2)
        return gt.max_pool2d(gt.relu(self.conv(x)), 2)


class CNN(Module):
    """Images (B, channels, *size) -> logits (B, classes).

    size: height and width, or one number for both. widths: channels of each block; every block halves the image.
    Initialisation is that of the layers. Keys: blocks.0.conv.weight, blocks.0.conv.bias, ..., head.weight, head.bias.
    CNN(1, 8, 10) is of the size of scikit-learn's digits, CNN(3, 32, 10, (32, 64, 128)) of CIFAR's images.
    """

    def __init__(
        self,
        channels: int,
        size: int | Sequence[int],
        classes: int,
        widths: Sequence[int] = (32, 64),
        kernel: int = 3,
        dropout: float = 0.0,
        dtype: Any = "float32",
    ) -> None:
        H, W = (size, size) if isinstance(size, int) else size
        if min(H, W) >> len(widths) < 1:
            raise ValueError(f"CNN: {len(widths)} blocks halve an image of {H} x {W} to nothing; give fewer widths")
        self.channels, self.size, self.classes = channels, (H, W), classes
        before = (channels, *widths)
        self.blocks = [Block(c, d, kernel, dtype) for c, d in zip(before, widths, strict=False)]
        self.dropout = Dropout(dropout)
        self.head = Linear(before[-1] * (H >> len(widths)) * (W >> len(widths)), classes, dtype=dtype)

    def forward(self, x: Any) -> Any:  # (B, C, H, W) -> (B, K)
        if x.ndim != 4 or tuple(x.shape[1:]) != (self.channels, *self.size):
            H, W = self.size
            raise ValueError(f"CNN: takes images (B, {self.channels}, {H}, {W}), got ({', '.join(map(str, x.shape))})")
        for block in self.blocks:
            x = block(x)
        return self.head(self.dropout(gt.flatten(x, 1)))
