"""A multilayer perceptron."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from .. import tracer as gt
from ..tracer import Module
from .nn import Linear


class MLP(Module):
    """Linear layers of the given sizes with an activation between them: MLP(784, 128, 10) maps (..., 784) to
    (..., 10).

    Keys: layers.0.weight, layers.0.bias, ...
    """

    def __init__(
        self,
        *sizes: int,
        activation: Callable[[Any], Any] = gt.relu,
        bias: bool = True,
        dtype: Any = "float32",
    ) -> None:
        if len(sizes) < 2:
            raise ValueError(f"MLP: needs at least an input and an output size, got {sizes}")
        self.activation = activation
        self.layers = [Linear(m, n, bias, dtype) for m, n in pairwise(sizes)]

    def forward(self, x: Any) -> Any:
        for layer in self.layers[:-1]:
            x = self.activation(layer(x))
        return self.layers[-1](x)
