"""Initialisation: functions that fill a Parameter in place, drawn from the generator that `gt.manual_seed`
seeds.

Fans are those of a weight (out, in, *kernel): fan_in = in * kernel size, fan_out = out * kernel size.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..tracer import Parameter
from ..tracer.rng import fill


def empty(*shape: int, dtype: Any = "float32") -> Parameter:
    """A Parameter of zeros, to be filled."""
    return Parameter(np.zeros(shape, dtype))


def uniform_(parameter: Parameter, low: float = 0.0, high: float = 1.0) -> Parameter:
    """Uniform in [low, high)."""
    return fill(parameter, "uniform", low, high)


def normal_(parameter: Parameter, mean: float = 0.0, std: float = 1.0) -> Parameter:
    """Normal with the given mean and standard deviation."""
    return fill(parameter, "normal", mean, std)


def constant_(parameter: Parameter, value: float) -> Parameter:
    """One number everywhere."""
    return fill(parameter, "constant", value)


def zeros_(parameter: Parameter) -> Parameter:
    return constant_(parameter, 0.0)


def ones_(parameter: Parameter) -> Parameter:
    return constant_(parameter, 1.0)


def xavier_uniform_(parameter: Parameter, gain: float = 1.0) -> Parameter:
    """Uniform in +-gain * sqrt(6 / (fan_in + fan_out)) (Glorot, 2010)."""
    bound = gain * math.sqrt(6.0 / sum(fans(parameter)))
    return uniform_(parameter, -bound, bound)


def kaiming_uniform_(parameter: Parameter, a: float = 0.0) -> Parameter:
    """Uniform in +-sqrt(6 / ((1 + a**2) fan_in)) (He, 2015), for a leaky ReLU of slope a."""
    bound = math.sqrt(6.0 / ((1.0 + a * a) * fans(parameter)[0]))
    return uniform_(parameter, -bound, bound)


def kaiming_normal_(parameter: Parameter, a: float = 0.0) -> Parameter:
    """Normal with standard deviation sqrt(2 / ((1 + a**2) fan_in))."""
    return normal_(parameter, 0.0, math.sqrt(2.0 / ((1.0 + a * a) * fans(parameter)[0])))


def fans(parameter: Parameter) -> tuple[int, int]:
    """(fan_in, fan_out). Raises ValueError for fewer than two dimensions."""
    if parameter.ndim < 2:
        raise ValueError(f"fans need a weight of at least two dimensions, got shape {parameter.shape}")
    kernel = math.prod(parameter.shape[2:])
    return parameter.shape[1] * kernel, parameter.shape[0] * kernel
