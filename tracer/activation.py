"""The op namespace: activations, with PyTorch's names, options and formulas.

Where a branch is not taken its argument is replaced by 0 first: e**x that overflows there would make the gradient NaN.
"""

from __future__ import annotations

from typing import Any

from ..ir.op import OPS
from ..ir.types import TypeRuleError, normalize_axis
from . import elementwise as e
from . import functional as f
from .apply import public, run, value

SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805  # Klambauer et al., 2017: mean 0 and variance 1 stay


# along an axis ----------------------------------------------------------------------------------------------------
@public
def softmax(x: Any, axis: int = -1, *, dim: int | None = None) -> Any:
    """e**x / sum(e**x) along `axis`. A row of -inf only gives NaN."""
    x = value(x)
    return run(OPS["softmax"], x, axis=normalize_axis(axis if dim is None else dim, x.ndim))


@public
def log_softmax(x: Any, axis: int = -1, *, dim: int | None = None) -> Any:
    """x - log(sum(e**x)) along `axis`."""
    x = value(x)
    return run(OPS["log_softmax"], x, axis=normalize_axis(axis if dim is None else dim, x.ndim))


@public
def softmin(x: Any, axis: int = -1, *, dim: int | None = None) -> Any:
    """softmax(-x) along `axis`."""
    return softmax(-value(x), axis, dim=dim)


@public
def glu(x: Any, axis: int = -1, *, dim: int | None = None) -> Any:
    """a * sigmoid(b) for the halves a and b of x along `axis`, whose size is even (Dauphin, 2016)."""
    a, b = f.split(value(x), 2, axis, dim=dim)
    return a * e.sigmoid(b)


# smooth -----------------------------------------------------------------------------------------------------------
@public
def gelu(x: Any, approximate: str = "none") -> Any:
    """x * Phi(x) with the normal distribution function Phi; "tanh": x/2 * (1 + tanh(sqrt(2/pi) (x + 0.044715
    x**3)))."""
    if approximate not in ("none", "tanh"):
        raise ValueError(f'gelu: approximate is "none" or "tanh", not {approximate!r}')
    return run(OPS["gelu_erf" if approximate == "none" else "gelu_tanh"], x)


@public
def silu(x: Any) -> Any:
    """x * sigmoid(x)"""
    x = value(x)
    return x * e.sigmoid(x)


@public
def mish(x: Any) -> Any:
    """x * tanh(log(1 + e**x))"""
    x = value(x)
    return x * e.tanh(e.softplus(x))


@public
def softplus(x: Any, beta: float = 1.0, threshold: float = 20.0) -> Any:
    """log(1 + e**(beta x)) / beta; x itself where beta x > threshold."""
    x = value(x)
    return f.where(x * beta > threshold, x, e.softplus(x * beta) / beta)


@public
def softsign(x: Any) -> Any:
    """x / (1 + |x|)"""
    x = value(x)
    return x / (1.0 + e.abs(x))


@public
def logsigmoid(x: Any) -> Any:
    """log(1 / (1 + e**-x)), exact where the sigmoid is 0 or 1"""
    return -e.softplus(-value(x))


@public
def tanhshrink(x: Any) -> Any:
    """x - tanh(x)"""
    x = value(x)
    return x - e.tanh(x)


@public
def elu(x: Any, alpha: float = 1.0) -> Any:
    """x, or alpha * (e**x - 1) where x <= 0"""
    x = value(x)
    positive = x > 0
    return f.where(positive, x, alpha * e.expm1(f.where(positive, 0.0, x)))


@public
def selu(x: Any) -> Any:
    """1.0507 * elu(x, 1.6733), with the constants in full"""
    return SELU_SCALE * elu(x, SELU_ALPHA)


@public
def celu(x: Any, alpha: float = 1.0) -> Any:
    """x, or alpha * (e**(x / alpha) - 1) where x <= 0: its slope is continuous for every alpha"""
    x = value(x)
    positive = x > 0
    return f.where(positive, x, alpha * e.expm1(f.where(positive, 0.0, x) / alpha))


# piecewise linear -------------------------------------------------------------------------------------------------
@public
def leaky_relu(x: Any, negative_slope: float = 0.01) -> Any:
    """x, or negative_slope * x where x <= 0"""
    x = value(x)
    return f.where(x > 0, x, negative_slope * x)


@public
def prelu(x: Any, weight: Any) -> Any:
    """x, or weight * x where x <= 0: weight holds one number, or one for each channel (axis 1) of x."""
    x, weight = value(x), value(weight)
    channels = x.shape[1] if x.ndim > 1 else 1
    if weight.ndim > 1 or (weight.size != 1 and weight.size != channels):
        raise TypeRuleError(
            f"the weight has shape {tuple(weight.shape)}; it is (1,), or ({channels},) for the channels"
        )
    if weight.ndim == 1 and x.ndim > 1:
        weight = f.reshape(weight, (weight.shape[0], *[1] * (x.ndim - 2)))
    return f.where(x > 0, x, weight * x)


@public
def hardtanh(x: Any, min_val: float = -1.0, max_val: float = 1.0) -> Any:
    """x between min_val and max_val, these beyond; at the bounds the gradient is 0"""
    if min_val > max_val:
        raise ValueError(f"hardtanh: min_val is at most max_val, got {min_val} and {max_val}")
    x = value(x)
    return f.where(x <= min_val, min_val, f.where(x >= max_val, max_val, x))


@public
def relu6(x: Any) -> Any:
    """min(max(x, 0), 6)"""
    return hardtanh(x, 0.0, 6.0)


@public
def hardsigmoid(x: Any) -> Any:
    """min(max(x + 3, 0), 6) / 6"""
    return hardtanh(value(x) + 3.0, 0.0, 6.0) / 6.0


@public
def hardswish(x: Any) -> Any:
    """x * min(max(x + 3, 0), 6) / 6"""
    x = value(x)
    return x * hardtanh(x + 3.0, 0.0, 6.0) / 6.0


@public
def softshrink(x: Any, lambd: float = 0.5) -> Any:
    """x moved towards 0 by lambd, but not past it"""
    if lambd < 0:
        raise ValueError(f"softshrink: lambd is at least 0, got {lambd}")
    x = value(x)
    return f.where(x > lambd, x - lambd, f.where(x < -lambd, x + lambd, 0.0 * x))


@public
def hardshrink(x: Any, lambd: float = 0.5) -> Any:
    """x, or 0 where |x| <= lambd"""
    x = value(x)
    return f.where(e.abs(x) <= lambd, 0.0, x)


__all__ = [
    "celu", "elu", "gelu", "glu", "hardshrink", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "log_softmax",
    "logsigmoid", "mish", "prelu", "relu6", "selu", "silu", "softmax", "softmin", "softplus", "softshrink", "softsign",
    "tanhshrink",
]  # fmt: skip
