"""The op namespace: elementwise functions. Each is its op, on traced values and on arrays; operands are promoted and
broadcast, and a Python number never widens an array."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from ..ir import ops as _ops  # noqa: F401  fills the registry
from ..ir.op import OPS
from ..ir.types import TypeRuleError
from .apply import explained, run
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
pow = _elementwise("pow")
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

# rounding, choice
floor = _elementwise("floor")
ceil = _elementwise("ceil")
trunc = _elementwise("trunc")
round = _elementwise("round")
maximum = _elementwise("maximum")
minimum = _elementwise("minimum")
heaviside = _elementwise("heaviside")
copysign = _elementwise("copysign")
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

# the Array API standard's names
subtract, multiply, divide, negative = sub, mul, div, neg
absolute, power, true_divide, arctan2 = abs, pow, div, atan2

__all__ = [
    "abs", "absolute", "acos", "acosh", "add", "arctan2", "asin", "asinh", "atan", "atan2", "atanh", "ceil",
    "copysign", "cos", "cosh", "div", "divide", "equal", "erf", "exp", "exp2", "expm1", "floor", "floor_divide",
    "greater", "greater_equal", "heaviside", "hypot", "isfinite", "isinf", "isnan", "lerp", "less", "less_equal",
    "log", "log10", "log1p", "log2", "logaddexp", "logical_and", "logical_not", "logical_or", "logical_xor",
    "maximum", "minimum", "mul", "multiply", "neg", "negative", "not_equal", "pow", "power", "reciprocal", "relu",
    "remainder", "round", "rsqrt", "sigmoid", "sign", "signbit", "sin", "sinh", "softplus", "sqrt", "square",
    "stop_gradient", "sub", "subtract", "tan", "tanh", "true_divide", "trunc",
]  # fmt: skip
