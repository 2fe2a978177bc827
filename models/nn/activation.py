"""Activation functions as modules: PyTorch's names, options and defaults.

`inplace` is taken and does nothing: what is written in place is the compiler's decision.
"""

from __future__ import annotations

from typing import Any

from ... import tracer as gt
from ...tracer import Module
from ..init import constant_, empty
from .function import Function


class Activation(Function):
    """An activation function as a module."""

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in self.options)


# without options --------------------------------------------------------------------------------------------------
class Tanh(Activation):
    """tanh(x)"""

    function = staticmethod(gt.tanh)


class Sigmoid(Activation):
    """1 / (1 + e**-x)"""

    function = staticmethod(gt.sigmoid)


class LogSigmoid(Activation):
    """log(1 / (1 + e**-x))"""

    function = staticmethod(gt.logsigmoid)


class Softsign(Activation):
    """x / (1 + |x|)"""

    function = staticmethod(gt.softsign)


class Tanhshrink(Activation):
    """x - tanh(x)"""

    function = staticmethod(gt.tanhshrink)


class _Inplace(Activation):
    def __init__(self, inplace: bool = False) -> None:
        pass


class ReLU(_Inplace):
    """max(x, 0)"""

    function = staticmethod(gt.relu)


class ReLU6(_Inplace):
    """min(max(x, 0), 6)"""

    function = staticmethod(gt.relu6)


class SiLU(_Inplace):
    """x * sigmoid(x)"""

    function = staticmethod(gt.silu)


class Mish(_Inplace):
    """x * tanh(log(1 + e**x))"""

    function = staticmethod(gt.mish)


class SELU(_Inplace):
    """1.0507 * elu(x, 1.6733), with the constants in full"""

    function = staticmethod(gt.selu)


class Hardsigmoid(_Inplace):
    """min(max(x + 3, 0), 6) / 6"""

    function = staticmethod(gt.hardsigmoid)


class Hardswish(_Inplace):
    """x * min(max(x + 3, 0), 6) / 6"""

    function = staticmethod(gt.hardswish)


# with options -----------------------------------------------------------------------------------------------------
class GELU(Activation):
    """x * Phi(x), or its tanh approximation: see `gt.gelu`."""

    function = staticmethod(gt.gelu)
    options = ("approximate",)

    def __init__(self, approximate: str = "none") -> None:
        self.approximate = approximate


class ELU(Activation):
    """x, or alpha * (e**x - 1) where x <= 0"""

    function = staticmethod(gt.elu)
    options = ("alpha",)

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        self.alpha = alpha


class CELU(Activation):
    """x, or alpha * (e**(x / alpha) - 1) where x <= 0"""

    function = staticmethod(gt.celu)
    options = ("alpha",)

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        self.alpha = alpha


class LeakyReLU(Activation):
    """x, or negative_slope * x where x <= 0"""

    function = staticmethod(gt.leaky_relu)
    options = ("negative_slope",)

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        self.negative_slope = negative_slope


class Softplus(Activation):
    """log(1 + e**(beta x)) / beta; x itself where beta x > threshold."""

    function = staticmethod(gt.softplus)
    options = ("beta", "threshold")

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        self.beta, self.threshold = beta, threshold


class Hardtanh(Activation):
    """x between min_val and max_val, these beyond."""

    function = staticmethod(gt.hardtanh)
    options = ("min_val", "max_val")

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> None:
        self.min_val, self.max_val = min_val, max_val


class Softshrink(Activation):
    """x moved towards 0 by lambd, but not past it."""

    function = staticmethod(gt.softshrink)
    options = ("lambd",)

    def __init__(self, lambd: float = 0.5) -> None:
        self.lambd = lambd


class Hardshrink(Activation):
    """x, or 0 where |x| <= lambd."""

    function = staticmethod(gt.hardshrink)
    options = ("lambd",)

    def __init__(self, lambd: float = 0.5) -> None:
        self.lambd = lambd


class PReLU(Module):
    """x, or weight * x where x <= 0. Key: weight (num_parameters,), one number or one per channel (axis 1)."""

    def __init__(self, num_parameters: int = 1, init: float = 0.25, dtype: Any = "float32") -> None:
        self.weight = constant_(empty(num_parameters, dtype=dtype), init)

    def forward(self, x: Any) -> Any:
        return gt.prelu(x, self.weight)

    def extra_repr(self) -> str:
        return f"num_parameters={self.weight.size}"


# along an axis ----------------------------------------------------------------------------------------------------
class Softmax(Activation):
    """e**x / sum(e**x) along `dim`. (Where PyTorch guesses one for dim=None, it is the last here.)"""

    function = staticmethod(gt.softmax)
    options = ("dim",)

    def __init__(self, dim: int = -1) -> None:
        self.dim = dim


class LogSoftmax(Softmax):
    """x - log(sum(e**x)) along `dim`."""

    function = staticmethod(gt.log_softmax)


class Softmin(Softmax):
    """softmax(-x) along `dim`."""

    function = staticmethod(gt.softmin)


class GLU(Activation):
    """a * sigmoid(b) for the halves a and b of x along `dim`."""

    function = staticmethod(gt.glu)
    options = ("dim",)

    def __init__(self, dim: int = -1) -> None:
        self.dim = dim
