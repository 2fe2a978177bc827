"""The op namespace: random numbers. Every draw is made of one number of 32 bits for each element, which depends on
(seed, step, site, element index) and on nothing else: not on threads, fusion or batch splits (see rng.py).

Distributions with a location and scale are drawn for 0 and 1 and then moved, so that gradients flow to both.
"""

from __future__ import annotations

import math
from typing import Any

from ..ir.build import Ref
from ..ir.op import OPS
from ..ir.types import TypeRuleError, dtype_name, promote
from .apply import operand, public, run, type_of_operand, value
from .elementwise import log, log1p, maximum
from .functional import argmax, astype, broadcast_to, dtype_of
from .rng import draw, uniform


def rand(*shape: Any, dtype: Any = "f32") -> Any:
    """Uniform numbers in [0, 1): PyTorch's and NumPy's name."""
    return uniform(*shape, dtype=dtype)


def randn(*shape: Any, dtype: Any = "f32") -> Any:
    """Normal numbers with mean 0 and deviation 1: PyTorch's and NumPy's name."""
    return normal(*shape, dtype=dtype)


@public
def normal(*shape: Any, loc: Any = 0.0, scale: Any = 1.0, dtype: Any = "f32") -> Any:
    """Normal numbers with mean `loc` and deviation `scale`, which may be arrays and traced.

    sqrt(2) erfinv(x) of x uniform among the 2**24 odd multiples of 2**-24 between -1 and 1: no number is beyond 5.42
    deviations. One draw and no angle, where Box and Muller need two and a cosine.
    """
    u = draw("uniform", shape, dtype=dtype_name(dtype))
    x = u * 2.0 + (2.0**-24 - 1.0)  # exact in float32, never 0, 1 or -1
    return _moved(run(OPS["erfinv"], x) * math.sqrt(2.0), loc, scale)


@public
def exponential(*shape: Any, scale: Any = 1.0, dtype: Any = "f32") -> Any:
    """Exponential numbers with mean `scale`: -scale * log(1 - u)."""
    return _moved(-log1p(-draw("uniform", shape, dtype=dtype_name(dtype))), 0.0, scale)


@public
def gumbel(*shape: Any, loc: Any = 0.0, scale: Any = 1.0, dtype: Any = "f32") -> Any:
    """Gumbel numbers: loc - scale * log(-log(u)), between -2.9 and 16.6 for loc 0 and scale 1."""
    u = maximum(draw("uniform", shape, dtype=dtype_name(dtype)), 2.0**-25)  # of 2**24 values one is 0
    return _moved(-log(-log(u)), loc, scale)


def _moved(z: Any, loc: Any, scale: Any) -> Any:
    z = z if isinstance(scale, float) and scale == 1.0 else z * scale
    return z if isinstance(loc, float) and loc == 0.0 else z + loc


@public
def bernoulli(p: Any = 0.5, shape: Any = None) -> Any:
    """True with probability p, else False: of p's shape, or of `shape`, to which p is broadcast. Its gradient is 0."""
    p = operand(p)
    dtype = promote([type_of_operand(p), type_of_operand(0.5)])
    if shape is None:
        return uniform(type_of_operand(p).shape, dtype=dtype) < p
    return uniform(shape, dtype=dtype) < (broadcast_to(p, shape) if type_of_operand(p).ndim else p)


@public
def randint(low: Any, high: Any = None, shape: Any = (), dtype: Any = "i64") -> Any:
    """Integers from low to high - 1 (`randint(n)`: from 0 to n - 1), each as likely to within (high - low) / 2**32.

    Bounds may be Dims, traced, or arrays that broadcast to `shape`; at most 2**31 values.
    """
    low, high = (0, low) if high is None else (low, high)
    low, count = operand(low), operand(high) - operand(low)
    if isinstance(count, int) and not 0 < count <= 2**31:
        raise TypeRuleError(f"needs 1 to 2**31 values, got {count} from {low} to {high}")
    bits = draw("random_bits", (shape,) if not isinstance(shape, (tuple, list)) else tuple(shape))
    if isinstance(count, Ref) and dtype_of(count) != "i64":
        count = astype(count, "i64")
    numbers = run(OPS["bitwise_right_shift"], bits * count, 32) + low
    return astype(numbers, dtype)


@public
def categorical(logits: Any, axis: int = -1) -> Any:
    """An index along `axis` for each row of logits, index i with probability softmax(logits)[i]; int64.

    The greatest of logits plus Gumbel noise (Gumbel-max). Its gradient is 0.
    """
    logits = value(logits)
    return argmax(logits + gumbel(*logits.shape, dtype=dtype_of(logits)), axis)


__all__ = [
    "bernoulli", "categorical", "exponential", "gumbel", "normal", "rand", "randint", "randn",
]  # fmt: skip
