"""Activation functions as modules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ... import tracer as gt
from ...tracer import Module


class Activation(Module):
    """An activation function as a module."""

    function: Callable[[Any], Any]

    def forward(self, x: Any) -> Any:
        return type(self).function(x)


class ReLU(Activation):
    """max(x, 0)"""

    function = staticmethod(gt.relu)


class Tanh(Activation):
    """tanh(x)"""

    function = staticmethod(gt.tanh)


class Sigmoid(Activation):
    """1 / (1 + e**-x)"""

    function = staticmethod(gt.sigmoid)


class SiLU(Activation):
    """x * sigmoid(x)"""

    function = staticmethod(gt.silu)


class GELU(Module):
    """x * Phi(x), or its tanh approximation: see `gt.gelu`."""

    def __init__(self, approximate: str = "none") -> None:
        self.approximate = approximate

    def forward(self, x: Any) -> Any:
        return gt.gelu(x, self.approximate)

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"
