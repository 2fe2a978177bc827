"""Elementwise functions of one or two numbers: rounding, powers and logarithms, trigonometric, hyperbolic, questions,
bits."""

from __future__ import annotations

import numpy as np

from ..op import no_gradient, op, zero_gradient
from ..scalar import BITS, FUNCTIONS
from .elementwise import exp, rsqrt, sigmoid, sign
from .rules import float_to_bool, need_float, need_integer, need_number

_STEPS = zero_gradient("rounding is constant but for its jumps")
_QUESTION = zero_gradient("a bool is piecewise constant")
_BITS = no_gradient("the bits of an integer have no derivative")
LOG_2, LOG_10 = 0.6931471805599453, 2.302585092994046


# rounding -------------------------------------------------------------------------------------------------------
@op
class floor:
    """the greatest integer that is not above x"""
    infer = need_number
    def ref(x): return np.floor(x)
    vjp = _STEPS
    def scalar(s, x): return s.floor(x)


@op
class ceil:
    """the least integer that is not below x"""
    infer = need_number
    def ref(x): return np.ceil(x)
    vjp = _STEPS
    def scalar(s, x): return s.ceil(x)


@op
class trunc:
    """x without its fraction"""
    infer = need_number
    def ref(x): return np.trunc(x)
    vjp = _STEPS
    def scalar(s, x): return s.trunc(x)


@op
class round_:
    """the nearest integer; of two, the even one"""
    infer = need_number
    def ref(x): return np.round(x)
    vjp = _STEPS
    def scalar(s, x): return s.round(x)


@op
class heaviside:
    """0 for x < 0, y for x = 0, 1 for x > 0"""
    promote = True
    infer = need_float
    def ref(x, y): return np.heaviside(x, y)
    vjp = zero_gradient("heaviside is constant but for the jump at 0")
    def scalar(s, x, y): return s.where(x > 0, 1.0, s.where(x < 0, 0.0, s.where(s.not_equal(x, x), x, y)))


# powers and logarithms ------------------------------------------------------------------------------------------
@op
class exp2:
    """2 ** x"""
    infer = need_float
    def ref(x): return np.exp2(x)
    def vjp(g, out, x): return (g * out * LOG_2,)
    def scalar(s, x): return s.exp2(x)


@op
class expm1:
    """e ** x - 1, exact for small x"""
    infer = need_float
    def ref(x): return np.expm1(x)
    def vjp(g, out, x): return (g * (out + 1.0),)
    def scalar(s, x): return s.expm1(x)


@op
class log1p:
    """log(1 + x), exact for small x"""
    infer = need_float
    def ref(x): return np.log1p(x)
    def vjp(g, out, x): return (g / (1.0 + x),)
    def scalar(s, x): return s.log1p(x)


@op
class log2:
    """logarithm to base 2"""
    infer = need_float
    def ref(x): return np.log2(x)
    def vjp(g, out, x): return (g / (x * LOG_2),)
    def scalar(s, x): return s.log2(x)


@op
class log10:
    """logarithm to base 10"""
    infer = need_float
    def ref(x): return np.log10(x)
    def vjp(g, out, x): return (g / (x * LOG_10),)
    def scalar(s, x): return s.log10(x)


@op
class logaddexp:
    """log(e ** x + e ** y)"""
    promote = True
    infer = need_float
    def ref(x, y): return np.logaddexp(x, y)
    def vjp(g, out, x, y): return g * sigmoid(x - y), g * sigmoid(y - x)
    def scalar(s, x, y):  # equal infinities have no difference
        return s.where(s.equal(x, y), x + LOG_2, s.maximum(x, y) + s.log1p(s.exp(-s.abs(x - y))))


@op
class hypot:
    """sqrt(x ** 2 + y ** 2), without overflow"""
    promote = True
    infer = need_float
    def ref(x, y): return np.hypot(x, y)
    def vjp(g, out, x, y): return g * x / out, g * y / out
    def scalar(s, x, y): return s.hypot(x, y)


@op
class erfinv:
    """the y with erf(y) = x; infinite at 1 and -1, NaN beyond"""
    infer = need_float
    def ref(x): return FUNCTIONS["erfinv"](x)
    def vjp(g, out, x): return (g * 0.8862269254527580 * exp(out * out),)
    def scalar(s, x): return s.erfinv(x)


# trigonometric --------------------------------------------------------------------------------------------------
@op
class sin:
    """sine"""
    infer = need_float
    def ref(x): return np.sin(x)
    def vjp(g, out, x): return (g * cos(x),)
    def scalar(s, x): return s.sin(x)


@op
class cos:
    """cosine"""
    infer = need_float
    def ref(x): return np.cos(x)
    def vjp(g, out, x): return (-g * sin(x),)
    def scalar(s, x): return s.cos(x)


@op
class tan:
    """tangent"""
    infer = need_float
    def ref(x): return np.tan(x)
    def vjp(g, out, x): return (g * (1.0 + out * out),)
    def scalar(s, x): return s.tan(x)


@op
class asin:
    """the angle in [-pi/2, pi/2] whose sine is x"""
    infer = need_float
    def ref(x): return np.arcsin(x)
    def vjp(g, out, x): return (g * rsqrt((1.0 - x) * (1.0 + x)),)
    def scalar(s, x): return s.asin(x)


@op
class acos:
    """the angle in [0, pi] whose cosine is x"""
    infer = need_float
    def ref(x): return np.arccos(x)
    def vjp(g, out, x): return (-g * rsqrt((1.0 - x) * (1.0 + x)),)
    def scalar(s, x): return s.acos(x)


@op
class atan:
    """the angle in [-pi/2, pi/2] whose tangent is x"""
    infer = need_float
    def ref(x): return np.arctan(x)
    def vjp(g, out, x): return (g / (1.0 + x * x),)
    def scalar(s, x): return s.atan(x)


@op
class atan2:
    """the angle of the point (x, y), given as atan2(y, x), in [-pi, pi]"""
    promote = True
    infer = need_float
    def ref(y, x): return np.arctan2(y, x)
    def vjp(g, out, y, x):
        r2 = x * x + y * y
        return g * x / r2, -g * y / r2
    def scalar(s, y, x): return s.atan2(y, x)


# hyperbolic -----------------------------------------------------------------------------------------------------
@op
class sinh:
    """(e ** x - e ** -x) / 2"""
    infer = need_float
    def ref(x): return np.sinh(x)
    def vjp(g, out, x): return (g * cosh(x),)
    def scalar(s, x): return s.sinh(x)


@op
class cosh:
    """(e ** x + e ** -x) / 2"""
    infer = need_float
    def ref(x): return np.cosh(x)
    def vjp(g, out, x): return (g * sinh(x),)
    def scalar(s, x): return s.cosh(x)


@op
class asinh:
    """log(x + sqrt(x ** 2 + 1))"""
    infer = need_float
    def ref(x): return np.arcsinh(x)
    def vjp(g, out, x): return (g * rsqrt(x * x + 1.0),)
    def scalar(s, x): return s.asinh(x)


@op
class acosh:
    """log(x + sqrt(x ** 2 - 1)), for x >= 1"""
    infer = need_float
    def ref(x): return np.arccosh(x)
    def vjp(g, out, x): return (g * rsqrt((x - 1.0) * (x + 1.0)),)
    def scalar(s, x): return s.acosh(x)


@op
class atanh:
    """log((1 + x) / (1 - x)) / 2"""
    infer = need_float
    def ref(x): return np.arctanh(x)
    def vjp(g, out, x): return (g / ((1.0 - x) * (1.0 + x)),)
    def scalar(s, x): return s.atanh(x)


# activations ----------------------------------------------------------------------------------------------------
@op
class silu:
    """x / (1 + e ** -x)"""
    infer = need_float
    def ref(x): return x / (1.0 + np.exp(-x))
    def vjp(g, out, x):
        p = sigmoid(x)
        return (g * (p + out * (1.0 - p)),)
    def scalar(s, x): return s.divide(x, 1.0 + s.exp(-x))


@op
class softplus:
    """log(1 + e ** x)"""
    infer = need_float
    def ref(x): return np.logaddexp(x, 0)
    def vjp(g, out, x): return (g * sigmoid(x),)
    def scalar(s, x): return s.maximum(x, 0.0) + s.log1p(s.exp(-s.abs(x)))


# signs and questions --------------------------------------------------------------------------------------------
@op
class copysign:
    """|x| with the sign of y (that of a zero counts); gradient 0 where x is 0"""
    promote = True
    infer = need_float
    def ref(x, y): return np.copysign(x, y)
    def vjp(g, out, x, y): return g * sign(x) * sign(out), None
    def scalar(s, x, y): return s.copysign(x, y)


@op
class nextafter:
    """the float next to x on the way to y, x itself where they are equal"""
    promote = True
    infer = need_float
    def ref(x, y): return np.nextafter(x, y)
    def vjp(g, out, x, y): return g, None  # x moved by one spacing
    def scalar(s, x, y): return s.nextafter(x, y)


@op
class signbit:
    """whether x is negative, -0 and NaN with a sign included"""
    def infer(x): return float_to_bool(need_float(x))
    def ref(x): return np.signbit(x)
    vjp = _QUESTION
    def scalar(s, x): return s.copysign(1.0, x) < 0


@op
class isnan:
    """whether x is not a number"""
    infer = float_to_bool
    def ref(x): return np.isnan(x)
    vjp = _QUESTION
    def scalar(s, x): return s.isnan(x)


@op
class isinf:
    """whether x is infinite"""
    infer = float_to_bool
    def ref(x): return np.isinf(x)
    vjp = _QUESTION
    def scalar(s, x): return s.isinf(x)


@op
class isfinite:
    """whether x is neither infinite nor NaN"""
    infer = float_to_bool
    def ref(x): return np.isfinite(x)
    vjp = _QUESTION
    def scalar(s, x): return s.isfinite(x)


# bits -----------------------------------------------------------------------------------------------------------
@op
class bitwise_and:
    """the bits that both integers have"""
    promote = True
    infer = need_integer
    def ref(x, y): return np.bitwise_and(x, y)
    vjp = _BITS
    def scalar(s, x, y): return s.bitwise_and(x, y)


@op
class bitwise_or:
    """the bits that either integer has"""
    promote = True
    infer = need_integer
    def ref(x, y): return np.bitwise_or(x, y)
    vjp = _BITS
    def scalar(s, x, y): return s.bitwise_or(x, y)


@op
class bitwise_xor:
    """the bits that exactly one of the integers has"""
    promote = True
    infer = need_integer
    def ref(x, y): return np.bitwise_xor(x, y)
    vjp = _BITS
    def scalar(s, x, y): return s.bitwise_xor(x, y)


@op
class bitwise_invert:
    """all bits of an integer turned: -1 - x"""
    infer = need_integer
    def ref(x): return np.invert(x)
    vjp = _BITS
    def scalar(s, x): return s.bitwise_xor(x, -1)


@op
class bitwise_left_shift:
    """x * 2 ** y of integers, without the bits that leave; 0 for y < 0 and for all of them"""
    promote = True
    infer = need_integer
    def ref(x, y): return BITS["left_shift"](x, y)
    vjp = _BITS
    def scalar(s, x, y): return s.left_shift(x, y)


@op
class bitwise_right_shift:
    """floor(x / 2 ** y) of integers; the sign, 0 or -1, for y < 0 and for all bits"""
    promote = True
    infer = need_integer
    def ref(x, y): return BITS["right_shift"](x, y)
    vjp = _BITS
    def scalar(s, x, y): return s.right_shift(x, y)
