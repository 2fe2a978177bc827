"""float32 functions and Philox in LLVM, without branches or calls, so that loops over them vectorise; and the power of
integers, which is a loop.

Built with `llvmlite.ir` into one module of `alwaysinline` functions `gt.<name>.f32`, which `jit.py` links to
every kernel. They carry no fast-math flags: range reduction and special values depend on the order written
here. Largest errors, over every 255th float32: exp 0.98, exp2 0.93, expm1 1.40, log 0.78, log1p 1.44, log2
1.68, log10 1.85, tanh 2.48, erf 5.41 ulp. Coefficients: exp and log from Cephes, erf (rational) from Eigen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, Union

import numpy as np
from llvmlite import ir

from ..ir.random import MULTIPLY, ROUNDS, WEYL

Llvm = Any  # llvmlite is not annotated
F32, F64, I32, I64 = ir.FloatType(), ir.DoubleType(), ir.IntType(32), ir.IntType(64)


Number: TypeAlias = Union[float, "Value"]


class Value:
    """An LLVM float or integer in a function under construction, with Python's operators."""

    def __init__(self, builder: Llvm, llvm: Llvm) -> None:
        self.builder = builder
        self.llvm = llvm

    def _constant(self, x: Number) -> Llvm:
        if isinstance(x, Value):
            return x.llvm
        if self.llvm.type == F32:
            return ir.Constant(F32, float(np.float32(x)))
        if self.llvm.type == F64:
            return ir.Constant(F64, float(x))
        return ir.Constant(self.llvm.type, int(x))

    def _binary(self, float_op: str, int_op: str, a: Number, b: Number) -> Value:
        op = getattr(self.builder, float_op if self.llvm.type in (F32, F64) else int_op)
        return Value(self.builder, op(self._constant(a), self._constant(b)))

    def __add__(self, other: Number) -> Value:
        return self._binary("fadd", "add", self, other)

    def __sub__(self, other: Number) -> Value:
        return self._binary("fsub", "sub", self, other)

    def __mul__(self, other: Number) -> Value:
        return self._binary("fmul", "mul", self, other)

    def __neg__(self) -> Value:
        return Value(self.builder, self.builder.fneg(self.llvm))

    def __truediv__(self, other: Number) -> Value:
        return self._binary("fdiv", "sdiv", self, other)

    def __and__(self, other: Number) -> Value:
        return self._binary("", "and_", self, other)

    def __or__(self, other: Number) -> Value:
        return self._binary("", "or_", self, other)

    def __xor__(self, other: Number) -> Value:
        return self._binary("", "xor", self, other)

    def __lshift__(self, other: Number) -> Value:
        return self._binary("", "shl", self, other)

    def __rshift__(self, other: Number) -> Value:
        """arithmetic: keeps the sign"""
        return self._binary("", "ashr", self, other)

    def high(self, bits: int) -> Value:
        """logical shift to the right"""
        return self._binary("", "lshr", self, bits)

    def where(self, how: str, other: Number, yes: Number, no: Number) -> Value:
        """yes if self <how> other else no; how: LLVM's fcmp predicate (o: false for NaN, u: true)"""
        b = self.builder
        ordered = b.fcmp_ordered if how[0] == "o" else b.fcmp_unordered
        symbol = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "=="}[how[1:]]
        test = ordered(symbol, self.llvm, self._constant(other))
        return Value(b, b.select(test, self._constant(yes), self._constant(no)))

    def clamp(self, low: float, high: float) -> Value:
        """min(max(self, low), high), NaN kept"""
        up = self.where("olt", low, low, self)
        return up.where("ogt", high, high, up)

    def through(self, intrinsic: str) -> Value:
        """LLVM's own function of that name"""
        declared = self.builder.module.declare_intrinsic(f"llvm.{intrinsic}", [self.llvm.type])
        return Value(self.builder, self.builder.call(declared, [self.llvm]))

    def magnitude(self) -> Value:
        return (self.bits() & 0x7FFFFFFF).as_float()

    def with_sign_of(self, other: Value) -> Value:
        """a self >= 0 with the sign of other"""
        return (self.bits() | (other.bits() & -0x80000000)).as_float()

    def bits(self) -> Value:
        return Value(self.builder, self.builder.bitcast(self.llvm, I32))

    def as_float(self) -> Value:
        """the float32 with these bits"""
        return Value(self.builder, self.builder.bitcast(self.llvm, F32))

    def to_float(self) -> Value:
        """the integer as a float32 (signed)"""
        return Value(self.builder, self.builder.sitofp(self.llvm, F32))

    def to(self, kind: ir.IntType) -> Value:
        """the integer truncated, or extended by zeros"""
        op = self.builder.trunc if kind.width < self.llvm.type.width else self.builder.zext
        return self if kind == self.llvm.type else Value(self.builder, op(self.llvm, kind))


def fma(a: Value, b: Number, c: Number) -> Value:
    return Value(a.builder, a.builder.fma(a.llvm, a._constant(b), a._constant(c)))


def horner(x: Value, coefficients: tuple[float, ...]) -> Value:
    """Polynomial in x, highest power first."""
    result = fma(x, coefficients[0], coefficients[1])
    for c in coefficients[2:]:
        result = fma(result, x, c)
    return result


def power_of_two(n: Value) -> Value:
    """2**n for an int32 n in [-126, 127]"""
    return ((n + 127) << 23).as_float()


LOG2_E = 1.44269504088896341
LN2_HIGH, LN2_LOW = 0.693359375, -2.12194440e-4  # ln 2 in two parts; n * LN2_HIGH is exact
ROUND = 12582912.0  # 1.5 * 2**23: x + ROUND rounds x to an integer, which then stands in the low bits
ROUND_BITS = 0x4B400000
EXP = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)


def _reduce(x: Value) -> tuple[Value, Value]:
    """(n, r - 1 + ...): int32 n = round(x / ln 2) and e**r - 1 for the remainder r = x - n ln 2"""
    rounded = fma(x, LOG2_E, ROUND)
    n = rounded - ROUND
    r = fma(n, -LN2_LOW, fma(n, -LN2_HIGH, x))
    return rounded.bits() - ROUND_BITS, fma(horner(r, EXP), r * r, r)


def _scale(p: Value, n: Value) -> Value:
    """p * 2**n in two steps, so that results below the normal range and overflow come out right"""
    half = n >> 1
    return p * power_of_two(half) * power_of_two(n - half)


def exp(x: Value) -> Value:
    n, p = _reduce(x.clamp(-104.0, 89.0))  # beyond: exactly 0, and infinity
    return _scale(p + 1.0, n)


def expm1(x: Value) -> Value:
    n, p = _reduce(x.clamp(-20.0, 89.0))
    s = power_of_two(n - 1)
    return fma(s, p, s - 0.5) * 2.0


def exp2(x: Value) -> Value:
    x = x.clamp(-151.0, 129.0)
    rounded = x + ROUND
    r = x - (rounded - ROUND)
    # Cephes exp2f: 2**r - 1 over r
    p = horner(r, (1.535336188319500e-4, 1.339887440266574e-3, 9.618437357674640e-3, 5.550332471162809e-2,
                   2.402264791363012e-1, 6.931472028550421e-1))  # fmt: skip
    return _scale(fma(p, r, 1.0), rounded.bits() - ROUND_BITS)


SQRT_HALF_BITS = 0x3F3504F3
LOG = (7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1,
       -1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1)  # fmt: skip


def _split(x: Value) -> tuple[Value, Value, Value, Value]:
    """(e, f, z, q) with x = 2**e (1 + f), 1 + f in [sqrt(1/2), sqrt 2), z = f f, log(1 + f) = f - z/2 + q"""
    tiny = 2.0**-126
    bits = x.where("olt", tiny, x * 2.0**23, x).bits() - SQRT_HALF_BITS
    e = (bits >> 23).to_float() + x.where("olt", tiny, -23.0, 0.0)
    f = ((bits & 0x7FFFFF) + SQRT_HALF_BITS).as_float() - 1.0
    z = f * f
    return e, f, z, horner(f, LOG) * f * z


def _log_limits(x: Value, finite: Value) -> Value:
    """log's values at 0, below, at infinity and NaN"""
    inner = x.where("olt", np.inf, finite, x)
    return x.where("ogt", 0.0, inner, x.where("oeq", 0.0, -np.inf, np.nan))


def log(x: Value) -> Value:
    e, f, z, q = _split(x)
    return _log_limits(x, fma(e, LN2_HIGH, f + fma(z, -0.5, fma(e, LN2_LOW, q))))


def log2(x: Value) -> Value:
    e, f, z, q = _split(x)
    return _log_limits(x, fma(f + fma(z, -0.5, q), LOG2_E, e))


def log10(x: Value) -> Value:
    e, f, z, q = _split(x)
    high, low = 0.301025390625, 4.6050389811952113e-6  # log10(2); e * high is exact
    return _log_limits(x, fma(e, high, fma(f + fma(z, -0.5, q), 0.43429448190325182765, e * low)))


def log1p(x: Value) -> Value:
    u = x + 1.0
    whole = log(u)
    # what rounding 1 + x lost, to first order
    precise = whole + (x - (u - 1.0)) / u
    return u.where("ogt", 0.0, u.where("olt", np.inf, precise, whole), whole)


def tanh(x: Value) -> Value:
    # u / (2 - u) with u = 1 - exp(-2 |x|) in [0, 1]: exactly 1 from about 9 on. A rational approximation is
    # faster (0.24 against 0.30 ns), but stops short of 1 by 3e-7, which 1 + tanh in GELU makes visible.
    size = x.magnitude()
    n, p = _reduce(size.where("ogt", 10.0, 10.0, size) * -2.0)
    s = power_of_two(n)
    u = fma(-s, p, -s + 1.0)
    return (u / (-u + 2.0)).with_sign_of(x)


def erf(x: Value) -> Value:
    x = x.clamp(-4.0, 4.0)
    s = x * x
    p = horner(s, (-2.72614225801306e-10, 2.77068142495902e-08, -2.10102402082508e-06, -5.69250639462346e-05,
                   -7.34990630326855e-04, -2.95459980854025e-03, -1.60960333262415e-02))  # fmt: skip
    q = horner(s, (-1.45660718464996e-05, -2.13374055278905e-04, -1.68282697438203e-03, -7.37332916720468e-03,
                   -1.42647390514189e-02))  # fmt: skip
    return (x * (p / q)).clamp(-1.0, 1.0)


# Giles, "Approximating the erfinv function" (2010), in w = -log(1 - x * x): single precision in one table for w < 5 and
# one in sqrt(w) beyond, double precision in three (w < 6.25, w < 16). Arguments are shifted to the middle of their
# range. Largest errors: 3.2 ulp in float32, 4 in float64.
ERFINV_32 = (
    (2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087, -0.00125372503, -0.00417768164,
     0.246640727, 1.50140941),
    (-0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773, -0.0076224613, 0.00943887047,
     1.00167406, 2.83297682),
)  # fmt: skip
ERFINV_64 = (
    (-3.6444120640178196996e-21, -1.685059138182016589e-19, 1.2858480715256400167e-18, 1.115787767802518096e-17,
     -1.333171662854620906e-16, 2.0972767875968561637e-17, 6.6376381343583238325e-15, -4.0545662729752068639e-14,
     -8.1519341976054721522e-14, 2.6335093153082322977e-12, -1.2975133253453532498e-11, -5.4154120542946279317e-11,
     1.051212273321532285e-09, -4.1126339803469836976e-09, -2.9070369957882005086e-08, 4.2347877827932403518e-07,
     -1.3654692000834678645e-06, -1.3882523362786468719e-05, 0.0001867342080340571352, -0.00074070253416626697512,
     -0.0060336708714301490533, 0.24015818242558961693, 1.6536545626831027356),
    (2.2137376921775787049e-09, 9.0756561938885390979e-08, -2.7517406297064545428e-07, 1.8239629214389227755e-08,
     1.5027403968909827627e-06, -4.013867526981545969e-06, 2.9234449089955446044e-06, 1.2475304481671778723e-05,
     -4.7318229009055733981e-05, 6.8284851459573175448e-05, 2.4031110387097893999e-05, -0.0003550375203628474796,
     0.00095328937973738049703, -0.0016882755560235047313, 0.0024914420961078508066, -0.0037512085075692412107,
     0.005370914553590063617, 1.0052589676941592334, 3.0838856104922207635),
    (-2.7109920616438573243e-11, -2.5556418169965252055e-10, 1.5076572693500548083e-09, -3.7894654401267369937e-09,
     7.6157012080783393804e-09, -1.4960026627149240478e-08, 2.9147953450901080826e-08, -6.7711997758452339498e-08,
     2.2900482228026654717e-07, -9.9298272942317002539e-07, 4.5260625972231537039e-06, -1.9681778105531670567e-05,
     7.5995277030017761139e-05, -0.00021503011930044477347, -0.00013871931833623122026, 1.0103004648645343977,
     4.8499064014085844221),
)  # fmt: skip


def erfinv(x: Value) -> Value:
    inside = (-x + 1.0) * (x + 1.0)
    if x.llvm.type == F32:
        w = -log(inside)
        near, far = ERFINV_32
        p = w.where("olt", 5.0, horner(w - 2.5, near), horner(w.through("sqrt") - 3.0, far))
    else:
        w = -inside.through("log")
        root = w.through("sqrt")
        near, middle, far = ERFINV_64
        p = w.where("olt", 16.0, horner(root - 3.25, middle), horner(root - 5.0, far))
        p = w.where("olt", 6.25, horner(w - 3.125, near), p)
    at_one = inside.where("oeq", 0.0, np.inf, p)  # x is 1 or -1, and w infinite
    return x * at_one


def philox(seed: Value, step: Value, site: Value, index: Value) -> Value:
    """First word of Philox4x32-10, as an int64 in [0, 2**32); see ir/random.py."""
    c0, c1, c2, c3 = index.to(I32), index.high(32).to(I32), step.to(I32), site.to(I32)
    k0, k1 = seed.to(I32), seed.high(32).to(I32)
    for _ in range(ROUNDS):
        first, second = c0.to(I64) * MULTIPLY[0], c2.to(I64) * MULTIPLY[1]
        c0, c1, c2, c3 = (
            second.high(32).to(I32) ^ c1 ^ k0, second.to(I32),
            first.high(32).to(I32) ^ c3 ^ k1, first.to(I32),
        )  # fmt: skip
        k0, k1 = k0 + WEYL[0], k1 + WEYL[1]
    return c0.to(I64)


def uniform32(seed: Value, step: Value, site: Value, index: Value) -> Value:
    """24 bits of philox over 2**24; they fit a signed int32, whose conversion vectorises"""
    return philox(seed, step, site, index).to(I32).high(8).to_float() * 2.0**-24


def integer_power(builder: Llvm, x: Llvm, y: Llvm) -> None:
    """The body of `gt.ipow(i64 x, i64 y)`: squares x for every bit of y. See `power` in ir/scalar.py."""
    zero, one = ir.Constant(I64, 0), ir.Constant(I64, 1)
    entry, function = builder.block, builder.function
    test, body, end = (function.append_basic_block(name) for name in ("test", "body", "end"))
    builder.branch(test)
    builder.position_at_end(test)
    square, left, product = (builder.phi(I64) for _ in range(3))
    builder.cbranch(builder.icmp_signed(">", left, zero), body, end)
    builder.position_at_end(body)
    odd = builder.icmp_signed("!=", builder.and_(left, one), zero)
    times = builder.select(odd, builder.mul(product, square), product)
    for value, start, step in (
        (square, x, builder.mul(square, square)),
        (left, y, builder.ashr(left, one)),
        (product, one, times),
    ):
        value.add_incoming(start, entry)
        value.add_incoming(step, body)
    builder.branch(test)
    builder.position_at_end(end)
    even = builder.icmp_signed("==", builder.and_(y, one), zero)
    unit = builder.or_(builder.icmp_signed("==", x, one), builder.icmp_signed("==", x, ir.Constant(I64, -1)))
    inverse = builder.select(unit, builder.select(even, one, x), zero)
    builder.ret(builder.select(builder.icmp_signed("<", y, zero), inverse, product))


FLOAT_FUNCTIONS = (exp, expm1, exp2, log, log1p, log2, log10, tanh, erf, erfinv)


def module_text() -> str:
    """LLVM assembly of all functions: `gt.<name>.f32(float)`, `gt.erfinv.f64`, `gt.philox` and `gt.uniform32` (of four
    i64), `gt.ipow`."""
    module = ir.Module("gradtape.polynomials")

    def declare(name: str, result: ir.Type, args: list[ir.Type]) -> tuple[Llvm, Llvm]:
        function = ir.Function(module, ir.FunctionType(result, args), name)
        function.linkage = "linkonce_odr"
        function.attributes.add("alwaysinline")
        function.attributes.add("nounwind")
        return ir.IRBuilder(function.append_basic_block("entry")), function.args

    def define(name: str, formula: Callable[..., Value], result: ir.Type, args: list[ir.Type]) -> None:
        builder, values = declare(name, result, args)
        builder.ret(formula(*(Value(builder, v) for v in values)).llvm)

    for formula in FLOAT_FUNCTIONS:
        define(f"gt.{formula.__name__}.f32", formula, F32, [F32])
    define("gt.erfinv.f64", erfinv, F64, [F64])
    define("gt.philox", philox, I64, [I64] * 4)
    define("gt.uniform32", uniform32, F32, [I64] * 4)
    builder, (x, y) = declare("gt.ipow", I64, [I64, I64])
    integer_power(builder, x, y)
    return str(module)
