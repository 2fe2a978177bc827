"""Elementwise ops: one scalar expression each, fusable. Operands are promoted and broadcast; rules for broadcasting
gradients back stand in `passes/autodiff.py`, so that a `vjp` here speaks of single elements."""

from __future__ import annotations

import math

import numpy as np

from ..op import no_gradient, op, zero_gradient
from ..scalar import power
from ..types import DTYPES, TensorType, TypeRuleError, broadcast, promote
from .rules import compare, elementwise, known_dtype, need_bool, need_float, need_number


# arithmetic -----------------------------------------------------------------------------------------------------
@op
class add:
    """x + y"""
    promote = True
    infer = need_number
    def ref(x, y): return np.add(x, y)
    def vjp(g, out, x, y): return g, g
    def scalar(s, x, y): return x + y


@op
class sub:
    """x - y"""
    promote = True
    infer = need_number
    def ref(x, y): return np.subtract(x, y)
    def vjp(g, out, x, y): return g, -g
    def scalar(s, x, y): return x - y


@op
class mul:
    """x * y"""
    promote = True
    infer = need_number
    def ref(x, y): return np.multiply(x, y)
    def vjp(g, out, x, y): return g * y, g * x
    def scalar(s, x, y): return x * y


def _float_quotient(x, y):
    out = need_number(x, y)
    return out if out.is_float else out.with_dtype("f32")


@op
class div:
    """x / y, true division (of integers: in float32)"""
    promote = True
    infer = _float_quotient
    def ref(x, y): return np.true_divide(x, y)
    def vjp(g, out, x, y): return g / y, -g * out / y
    def scalar(s, x, y): return s.divide(x, y)


@op
class floor_divide:
    """the greatest integer that is not above x / y; of integers, 0 where y is 0"""
    promote = True
    infer = need_number
    def ref(x, y): return np.floor_divide(x, y)
    vjp = zero_gradient("floor_divide is constant but for its jumps")
    def scalar(s, x, y): return s.floor_divide(x, y)


@op
class remainder:
    """x - floor(x / y) * y, with the sign of y; of integers, 0 where y is 0"""
    promote = True
    infer = need_number
    def ref(x, y): return np.remainder(x, y)
    def vjp(g, out, x, y): return g, -g * floor_divide(x, y)
    def scalar(s, x, y): return s.remainder(x, y)


@op
class neg:
    """-x"""
    infer = need_number
    def ref(x): return np.negative(x)
    def vjp(g, out, x): return (-g,)
    def scalar(s, x): return -x


@op
class pow_:
    """x ** y; an integer to a negative power is 0, but for those of 1 and -1"""
    promote = True
    infer = need_number
    def ref(x, y): return power(x, y)
    def vjp(g, out, x, y):
        # d/dx = y x^(y-1), which is 0 for 0^0; d/dy = x^y log x, taken as 0 where x <= 0. A number has no derivative, and
        # its logarithm must not become a float32 constant of a float64 program.
        if isinstance(y, (int, float)):
            return g * y * pow_(x, y - 1) if y != 0 else g * 0.0, None
        if isinstance(x, (int, float)):
            return None, g * out * (math.log(x) if x > 0 else 0.0)
        power = where(logical_and(equal(x, 0), equal(y, 0)), 1, y - 1)
        return g * y * pow_(x, power), g * out * log(where(x > 0, x, 1.0))
    def scalar(s, x, y): return s.pow(x, y)


@op
class square:
    """x * x"""
    infer = need_number
    def ref(x): return np.square(x)
    def vjp(g, out, x): return (g * 2.0 * x,)
    def scalar(s, x): return x * x


@op
class reciprocal:
    """1 / x"""
    infer = need_float
    def ref(x): return np.reciprocal(x)
    def vjp(g, out, x): return (-g * out * out,)
    def scalar(s, x): return s.divide(1.0, x)


@op
class abs_:
    """|x|, gradient 0 at 0"""
    infer = need_number
    def ref(x): return np.abs(x)
    def vjp(g, out, x): return (g * sign(x),)
    def scalar(s, x): return s.abs(x)


@op
class sign:
    """-1, 0 or 1"""
    infer = need_number
    def ref(x): return np.sign(x)
    vjp = zero_gradient("sign is constant but for the jump at 0")
    def scalar(s, x): return s.sign(x)


# exponentials ---------------------------------------------------------------------------------------------------
@op
class exp:
    """e ** x"""
    infer = need_float
    def ref(x): return np.exp(x)
    def vjp(g, out, x): return (g * out,)
    def scalar(s, x): return s.exp(x)


@op
class log:
    """natural logarithm"""
    infer = need_float
    def ref(x): return np.log(x)
    def vjp(g, out, x): return (g / x,)
    def scalar(s, x): return s.log(x)


@op
class sqrt:
    """x ** 0.5"""
    infer = need_float
    def ref(x): return np.sqrt(x)
    def vjp(g, out, x): return (g * 0.5 / out,)
    def scalar(s, x): return s.sqrt(x)


@op
class rsqrt:
    """x ** -0.5"""
    infer = need_float
    def ref(x): return 1.0 / np.sqrt(x)
    def vjp(g, out, x): return (g * -0.5 * out / x,)
    def scalar(s, x): return s.divide(1.0, s.sqrt(x))


@op
class tanh:
    """tanh(x)"""
    infer = need_float
    def ref(x): return np.tanh(x)
    def vjp(g, out, x): return (g * (1.0 - out * out),)
    def scalar(s, x): return s.tanh(x)


@op
class sigmoid:
    """1 / (1 + e ** -x)"""
    infer = need_float
    def ref(x): return 1.0 / (1.0 + np.exp(-x))  # overflows to 0, rightly; tanh(x/2)/2 + 1/2 would lose all digits at x << 0
    def vjp(g, out, x): return (g * out * (1.0 - out),)
    def scalar(s, x): return s.divide(1.0, 1.0 + s.exp(-x))


def _erf(x):
    from math import erf as scalar_erf
    return np.vectorize(scalar_erf, otypes=[np.float64])(x)


@op
class erf:
    """2 / sqrt(pi) * integral of e ** -t**2 from 0 to x"""
    infer = need_float
    def ref(x): return _erf(x)
    def vjp(g, out, x): return (g * 1.1283791670955126 * exp(-x * x),)
    def scalar(s, x): return s.erf(x)


@op
class relu:
    """max(x, 0), gradient 0 at 0"""
    infer = need_number
    def ref(x): return np.maximum(x, 0)
    def vjp(g, out, x): return (where(x > 0, g, 0),)
    def scalar(s, x): return s.maximum(x, 0)


# choice ---------------------------------------------------------------------------------------------------------
@op
class maximum:
    """the greater of x and y; NaN where either is; ties share the gradient"""
    promote = True
    infer = need_number
    def ref(x, y): return np.maximum(x, y)
    def vjp(g, out, x, y): return _share(g, x > y, x, y), _share(g, y > x, x, y)
    def scalar(s, x, y): return s.maximum(x, y)


@op
class minimum:
    """the lesser of x and y; NaN where either is; ties share the gradient"""
    promote = True
    infer = need_number
    def ref(x, y): return np.minimum(x, y)
    def vjp(g, out, x, y): return _share(g, x < y, x, y), _share(g, y < x, x, y)
    def scalar(s, x, y): return s.minimum(x, y)


def _share(g, wins, x, y):
    return where(wins, g, where(equal(x, y), g * 0.5, 0.0))


@op
class where:
    """x where the condition holds, else y"""
    def infer(condition, x, y):
        if condition.dtype != "bool":
            raise TypeRuleError(f"the condition is {condition}, not bool; write condition != 0")
        return TensorType(promote([x, y]), broadcast([condition.shape, x.shape, y.shape]))
    def ref(condition, x, y): return np.where(condition, x, y)
    def vjp(g, out, condition, x, y): return None, where(condition, g, 0), where(condition, 0, g)
    def scalar(s, condition, x, y): return s.where(condition, x, y)


@op
class clip:
    """x, but at least low and then at most high; at the bounds the gradient goes to x"""
    promote = True
    infer = need_number
    def ref(x, low, high): return np.minimum(np.maximum(x, low), high)
    def vjp(g, out, x, low, high):
        above = maximum(x, low) > high
        below = logical_and(x < low, logical_not(above))
        return where(logical_or(above, below), 0, g), where(below, g, 0), where(above, g, 0)
    def scalar(s, x, low, high): return s.minimum(s.maximum(x, low), high)


@op
class lerp:
    """x + t * (y - x): x for t = 0, y for t = 1"""
    promote = True
    infer = need_float
    def ref(x, y, t): return x + t * (y - x)
    def vjp(g, out, x, y, t): return g * (1.0 - t), g * t, g * (y - x)
    def scalar(s, x, y, t): return x + t * (y - x)


@op
class cast:
    """x converted to another dtype (float to integer truncates)"""
    def infer(x, *, dtype): return TensorType(known_dtype(dtype), x.shape)
    def ref(x, *, dtype): return np.asarray(x).astype(DTYPES[dtype])
    def vjp(g, out, x, *, dtype):
        return (cast(g, dtype=x.type.dtype) if x.type.is_float and out.type.is_float else None,)
    def scalar(s, x, *, dtype): return s.cast(x, dtype)


@op
class stop_gradient:
    """x, cut out of the gradient on purpose"""
    infer = elementwise
    def ref(x): return np.asarray(x)
    vjp = no_gradient("stop_gradient cuts on purpose")
    def scalar(s, x): return x


# comparison and logic -------------------------------------------------------------------------------------------
_COMPARISON = zero_gradient("a comparison is piecewise constant")


@op
class less:
    """x < y"""
    promote = True
    infer = compare
    def ref(x, y): return np.less(x, y)
    vjp = _COMPARISON
    def scalar(s, x, y): return x < y


@op
class less_equal:
    """x <= y"""
    promote = True
    infer = compare
    def ref(x, y): return np.less_equal(x, y)
    vjp = _COMPARISON
    def scalar(s, x, y): return x <= y


@op
class greater:
    """x > y"""
    promote = True
    infer = compare
    def ref(x, y): return np.greater(x, y)
    vjp = _COMPARISON
    def scalar(s, x, y): return x > y


@op
class greater_equal:
    """x >= y"""
    promote = True
    infer = compare
    def ref(x, y): return np.greater_equal(x, y)
    vjp = _COMPARISON
    def scalar(s, x, y): return x >= y


@op
class equal:
    """x == y"""
    promote = True
    infer = compare
    def ref(x, y): return np.equal(x, y)
    vjp = _COMPARISON
    def scalar(s, x, y): return s.equal(x, y)


@op
class not_equal:
    """x != y"""
    promote = True
    infer = compare
    def ref(x, y): return np.not_equal(x, y)
    vjp = _COMPARISON
    def scalar(s, x, y): return s.not_equal(x, y)


@op
class logical_and:
    """both hold"""
    infer = need_bool
    def ref(x, y): return np.logical_and(x, y)
    vjp = _COMPARISON
    def scalar(s, x, y): return s.logical_and(x, y)


@op
class logical_or:
    """either holds"""
    infer = need_bool
    def ref(x, y): return np.logical_or(x, y)
    vjp = _COMPARISON
    def scalar(s, x, y): return s.logical_or(x, y)


@op
class logical_not:
    """does not hold"""
    infer = need_bool
    def ref(x): return np.logical_not(x)
    vjp = _COMPARISON
    def scalar(s, x): return s.logical_not(x)


@op
class logical_xor:
    """exactly one holds"""
    infer = need_bool
    def ref(x, y): return np.logical_xor(x, y)
    vjp = _COMPARISON
    def scalar(s, x, y): return s.not_equal(x, y)
