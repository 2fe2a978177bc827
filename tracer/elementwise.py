"""The op namespace: elementwise functions. Each is its op, on traced values and on arrays; operands are promoted and
broadcast, and a Python number never widens an array."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from ..ir import ops as _ops  # noqa: F401  fills the registry
from ..ir.op import OPS
from ..ir.types import TypeRuleError, promote
from .apply import explained, operand, public, run, type_of_operand, value
from .mistakes import signature_fact


def _elementwise(name: str) -> Callable[..., Any]:
    op = OPS[name]
    operands = inspect.signature(op.ref or op.infer)

    def function(*args: Any, **named: Any) -> Any:
        try:
            given = operands.bind(*args, **named).args
        except TypeError as error:
            raise explained(name, TypeRuleError(signature_fact(function, error)), (*args, *named.values())) from None
        return run(op, *given)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"{op.formula}; elementwise. Operands are promoted and broadcast."
    function.__signature__ = operands  # type: ignore[attr-defined]
    return function


# arithmetic
add = _elementwise("add")
sub = _elementwise("sub")
mul = _elementwise("mul")
div = _elementwise("div")
floor_divide = _elementwise("floor_divide")
remainder = _elementwise("remainder")
neg = _elementwise("neg")


@public
def pow(x: Any, y: Any) -> Any:
    """x ** y; elementwise. Operands are promoted and broadcast. An integer array has no negative powers: TypeError
    for a negative number, and 0 (but for those of 1 and -1) where the exponent is an array."""
    x, y = operand(x), operand(y)
    if isinstance(y, int) and y < 0 and promote([type_of_operand(x)]) in ("i32", "i64"):
        raise TypeRuleError(f"an integer to the power {y} is no integer; write x.astype('float32') ** {y}")
    return run(OPS["pow"], x, y)


square = _elementwise("square")
reciprocal = _elementwise("reciprocal")
abs = _elementwise("abs")
sign = _elementwise("sign")
lerp = _elementwise("lerp")

# exponentials
exp = _elementwise("exp")
exp2 = _elementwise("exp2")
expm1 = _elementwise("expm1")
log = _elementwise("log")
log1p = _elementwise("log1p")
log2 = _elementwise("log2")
log10 = _elementwise("log10")
logaddexp = _elementwise("logaddexp")
sqrt = _elementwise("sqrt")
rsqrt = _elementwise("rsqrt")
hypot = _elementwise("hypot")

# trigonometry
sin = _elementwise("sin")
cos = _elementwise("cos")
tan = _elementwise("tan")
asin = _elementwise("asin")
acos = _elementwise("acos")
atan = _elementwise("atan")
atan2 = _elementwise("atan2")
sinh = _elementwise("sinh")
cosh = _elementwise("cosh")
tanh = _elementwise("tanh")
asinh = _elementwise("asinh")
acosh = _elementwise("acosh")
atanh = _elementwise("atanh")

# activations
relu = _elementwise("relu")
sigmoid = _elementwise("sigmoid")
softplus = _elementwise("softplus")
erf = _elementwise("erf")
erfinv = _elementwise("erfinv")

# rounding, choice
floor = _elementwise("floor")
ceil = _elementwise("ceil")
trunc = _elementwise("trunc")


@public
def round(x: Any, decimals: int = 0) -> Any:
    """x rounded to that many decimals; of two equally near, the one with an even last digit. The gradient is 0."""
    if decimals == 0:
        return run(OPS["round"], x)
    return run(OPS["round"], x * 10.0**decimals) / 10.0**decimals


maximum = _elementwise("maximum")
minimum = _elementwise("minimum")
heaviside = _elementwise("heaviside")
copysign = _elementwise("copysign")
nextafter = _elementwise("nextafter")
stop_gradient = _elementwise("stop_gradient")

# comparison, logic
equal = _elementwise("equal")
not_equal = _elementwise("not_equal")
less = _elementwise("less")
less_equal = _elementwise("less_equal")
greater = _elementwise("greater")
greater_equal = _elementwise("greater_equal")
isnan = _elementwise("isnan")
isinf = _elementwise("isinf")
isfinite = _elementwise("isfinite")
signbit = _elementwise("signbit")
logical_and = _elementwise("logical_and")
logical_or = _elementwise("logical_or")
logical_xor = _elementwise("logical_xor")
logical_not = _elementwise("logical_not")


# bits
def _bits(name: str) -> Callable[..., Any]:
    def function(x: Any, y: Any) -> Any:
        x, y = operand(x), operand(y)
        whole = promote([type_of_operand(x), type_of_operand(y)]) != "bool"
        return run(OPS[f"bitwise_{name}" if whole else f"logical_{name}"], x, y)

    function.__name__ = function.__qualname__ = f"bitwise_{name}"
    function.__doc__ = f"{OPS[f'bitwise_{name}'].formula}; elementwise. Of bools: logical_{name}."
    return public(function)


bitwise_and = _bits("and")
bitwise_or = _bits("or")
bitwise_xor = _bits("xor")
bitwise_left_shift = _elementwise("bitwise_left_shift")
bitwise_right_shift = _elementwise("bitwise_right_shift")


@public
def bitwise_invert(x: Any) -> Any:
    """-1 - x, all bits of an integer turned; elementwise. Of bools: logical_not."""
    x = operand(x)
    return run(OPS["logical_not" if type_of_operand(x).dtype == "bool" else "bitwise_invert"], x)


@public
def positive(x: Any) -> Any:
    """x itself"""
    return value(x)


# the Array API standard's names
subtract, multiply, divide, negative = sub, mul, div, neg
absolute, power, true_divide, arctan2 = abs, pow, div, atan2

__all__ = [
    "abs", "absolute", "acos", "acosh", "add", "arctan2", "asin", "asinh", "atan", "atan2", "atanh", "bitwise_and",
    "bitwise_invert", "bitwise_left_shift", "bitwise_or", "bitwise_right_shift", "bitwise_xor", "ceil", "copysign",
    "cos", "cosh", "div", "divide", "equal", "erf", "erfinv", "exp", "exp2", "expm1", "floor", "floor_divide",
    "greater", "greater_equal", "heaviside", "hypot", "isfinite", "isinf", "isnan", "lerp", "less", "less_equal", "log",
    "log10", "log1p", "log2", "logaddexp", "logical_and", "logical_not", "logical_or", "logical_xor", "maximum",
    "minimum", "mul", "multiply", "neg", "negative", "nextafter", "not_equal", "positive", "pow", "power", "reciprocal",
    "relu", "remainder", "round", "rsqrt", "sigmoid", "sign", "signbit", "sin", "sinh", "sqrt", "square",
    "stop_gradient", "sub", "subtract", "tan", "tanh", "true_divide", "trunc",
]  # fmt: skip
