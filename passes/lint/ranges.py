"""Between which two numbers the elements of every value lie, for all inputs: an interval analysis of a traced graph.

The numbers are those of real arithmetic: rounding may carry an element past a bound by as much as it carries any
result. Nothing is said of NaN and of what is computed from it; 0 times anything counts as 0, and 1 / 0 is inf. Inputs
and parameters may be anything that their dtype can hold; so may the result of an op that is not in the tables here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ...ir.dims import DimLike, DimScope, bounds, dim_scope, product
from ...ir.graph import Graph, Literal, Node, Operand, Value
from ...ir.op import OPS
from ...ir.types import DTYPES, TensorType
from .same import Same, is_closed, reduced_axes

INF = math.inf


class Range(NamedTuple):
    low: float
    high: float

    @property
    def is_constant(self) -> bool:
        """Whether all elements are one number."""
        return self.low == self.high

    def __or__(self, other: Range) -> Range:  # type: ignore[override]
        return Range(min(self.low, other.low), max(self.high, other.high))

    def __contains__(self, x: object) -> bool:
        return self.low <= x <= self.high  # type: ignore[operator]

    def __str__(self) -> str:
        low, high = (f"{end + 0.0:g}" for end in self)  # -0 as 0
        return low if self.is_constant else f"[{low}, {high}]"


NO_CONSTANTS: Mapping[str, np.ndarray] = {}
ANY, ZERO, ONE, UNIT, POSITIVE = Range(-INF, INF), Range(0, 0), Range(1, 1), Range(0, 1), Range(0, INF)
LIMITS = {name: (float(np.iinfo(t).min), float(np.iinfo(t).max)) for name, t in DTYPES.items() if t.kind == "i"}
LARGEST = {name: float(np.finfo(t).max) for name, t in DTYPES.items() if t.kind == "f"}
SMALLEST = {name: float(np.finfo(t).tiny) for name, t in DTYPES.items() if t.kind == "f"}


def of_type(kind: TensorType) -> Range:
    """Everything that the dtype can hold."""
    return UNIT if kind.dtype == "bool" else Range(*LIMITS[kind.dtype]) if kind.is_integer else ANY


def of_number(x: float) -> Range:
    return ANY if x != x else Range(float(x), float(x))


def of_array(array: np.ndarray) -> Range:
    """From the least to the greatest element; anything where there is none, or NaN."""
    if array.size == 0 or (array.dtype.kind == "f" and np.isnan(array).any()):
        return ANY
    return Range(float(array.min()), float(array.max()))


def ranges(graph: Graph, same: Same, known: Mapping[Value, Range] | None = None) -> dict[Value, Range]:
    """The range of every value of `graph`; `known` gives those of some inputs, and of values that are known better."""
    known = known or {}
    found = {v: known[v] if v in known else of_type(v.type) for v in graph.inputs}
    with dim_scope(DimScope(dict(graph.symbols), quiet=True)):
        for node in graph.nodes:
            operands = [same.of(o) for o in node.inputs]
            given = [of_number(o.value) if isinstance(o, Literal) else found[o] for o in operands]
            for value in node.outputs:
                found[value] = known.get(value) or transfer(node, value, operands, given, graph.constants)
    return found


def transfer(
    node: Node,
    result: Value,
    operands: Sequence[Operand],
    given: Sequence[Range],
    constants: Mapping[str, np.ndarray] = NO_CONSTANTS,
) -> Range:
    """The range of a result of `node`, from those of its operands; equal operands are the same object."""
    if node.op == "constant" and node.attrs["digest"] in constants:
        return of_array(constants[node.attrs["digest"]])
    rule = None if is_closed(node) else RULES.get(node.op)
    if rule is None:
        return of_type(result.type)
    if node.op in OF_EQUALS and operands[0] is operands[1]:
        return _held(OF_EQUALS[node.op](given[0]), result.type, node.op)
    return _held(rule(node, *given), result.type, node.op)


WRAPS = ("add", "sub", "mul", "neg", "abs", "square", "pow", "floor_divide", "sum", "prod", "cast")


def _held(found: Range, kind: TensorType, op: str) -> Range:
    """What becomes of the range in the dtype: integers wrap around, floats end in infinity and in 0."""
    low, high = found
    if kind.dtype == "bool":
        return found
    if kind.is_integer:
        least, greatest = LIMITS[kind.dtype]  # 2**63 - 1 is rounded to 2**63
        inside = least < low and high < greatest if op in WRAPS else least <= low and high <= greatest
        return found if inside else Range(least, greatest)
    largest, smallest = LARGEST[kind.dtype], SMALLEST[kind.dtype]
    low = -INF if low < -largest else 0.0 if 0 < low < smallest else min(low, largest)
    high = INF if high > largest else 0.0 if -smallest < high < 0 else max(high, -largest)
    return Range(low, high)


# arithmetic -----------------------------------------------------------------------------------------------------
def _times(x: float, y: float) -> float:
    return 0.0 if x == 0 or y == 0 else x * y


def add(x: Range, y: Range) -> Range:
    low, high = x.low + y.low, x.high + y.high
    return Range(-INF if low != low else low, INF if high != high else high)  # inf - inf


def neg(x: Range) -> Range:
    return Range(-x.high, -x.low)


def mul(x: Range, y: Range) -> Range:
    ends = [_times(a, b) for a in x for b in y]
    return Range(min(ends), max(ends))


def div(x: Range, y: Range) -> Range:
    if y.low < 0 <= y.high or y == ZERO:
        return ANY
    if y.high < 0:
        return div(neg(x), neg(y))
    # by a number just above 0 the quotient is as large as one likes; inf by inf lies between the others
    ends = [0.0 if a == 0 or b == INF else math.copysign(INF, a) if b == 0 else a / b for a in x for b in y]
    return Range(min(ends), max(ends))


def _floor_divide(x: Range, y: Range) -> Range:
    if y.low <= 0 <= y.high:
        return ANY
    low, high = _ends("floor", div(x, y))
    negative = x.low < 0 < y.high or y.low < 0 < x.high  # if only just, it is -1
    return Range(min(low, -1.0) if negative else low, high)


def reciprocal(x: Range) -> Range:
    return div(ONE, x)


def magnitude(x: Range) -> Range:
    return Range(max(x.low, -x.high, 0.0), max(-x.low, x.high))


def square(x: Range) -> Range:
    size = magnitude(x)
    return Range(_times(size.low, size.low), _times(size.high, size.high))


def power(x: Range, y: Range) -> Range:
    if not y.is_constant:
        if x.is_constant and x.low > 0:
            ends = _ends("pow", x, y)
            return ends if x.low >= 1 else Range(ends.high, ends.low)
        return POSITIVE if x.low >= 0 else ANY
    p = y.low
    if p == 0:
        return ONE
    if p < 0:
        return reciprocal(power(x, Range(-p, -p)))
    if p % 2 == 0:
        x = magnitude(x)
    elif p % 1:
        x = Range(max(x.low, 0.0), max(x.high, 0.0))
    return _ends("pow", x, y)


def _ends(name: str, *operands: Range) -> Range:
    """Of a function that does not decrease: its values at both ends, by its NumPy reference."""
    ref = OPS[name].ref
    assert ref is not None
    with np.errstate(all="ignore"):
        low, high = np.asarray(ref(*(np.array([float(x.low), float(x.high)]) for x in operands)), np.float64)
    return Range(-INF if low != low else float(low), INF if high != high else float(high))


def _remainder(x: Range, y: Range) -> Range:
    if y.low > 0:
        return x if x.low >= 0 and x.high < y.low else Range(0, y.high)
    return Range(y.low, 0) if y.high < 0 else ANY


def _copysign(x: Range, y: Range) -> Range:
    size = magnitude(x)
    return size if y.low > 0 else neg(size) if y.high < 0 else size | neg(size)


def _where(condition: Range, x: Range, y: Range) -> Range:
    return x | y if not condition.is_constant else x if condition.low else y


def _lerp(x: Range, y: Range, t: Range) -> Range:
    if t.low >= 0 and t.high <= 1:
        return x | y
    return add(x, mul(t, add(y, neg(x))))


def _clip(x: Range, low: Range, high: Range) -> Range:
    return minimum(maximum(x, low), high)


def maximum(x: Range, y: Range) -> Range:
    return Range(max(x.low, y.low), max(x.high, y.high))


def minimum(x: Range, y: Range) -> Range:
    return Range(min(x.low, y.low), min(x.high, y.high))


# comparison -----------------------------------------------------------------------------------------------------
def _truth(yes: bool, no: bool) -> Range:
    return ONE if yes else ZERO if no else UNIT


def less(x: Range, y: Range) -> Range:
    return _truth(x.high < y.low, x.low >= y.high)


def less_equal(x: Range, y: Range) -> Range:
    return _truth(x.high <= y.low, x.low > y.high)


def equal(x: Range, y: Range) -> Range:
    return _truth(x == y and x.is_constant, x.high < y.low or y.high < x.low)


def _not(x: Range) -> Range:
    return Range(1 - x.high, 1 - x.low)


# functions ------------------------------------------------------------------------------------------------------
def _within(low: float, high: float) -> Callable[..., Range]:
    return lambda node, *given: Range(low, high)


def _rising(name: str, least: float = -INF, greatest: float = INF) -> Callable[..., Range]:
    """Of a function that does not decrease, for operands from `least` to `greatest`."""

    def rule(node: Node, *given: Range) -> Range:
        if any((x.low < least and x.high <= least) or (x.high > greatest and x.low >= greatest) for x in given):
            return ANY  # NaN
        inside = [Range(min(max(x.low, least), greatest), max(min(x.high, greatest), least)) for x in given]
        return _ends(name, *inside)

    return rule


def _dipping(name: str, dip: float, least: float) -> Callable[..., Range]:
    """Of an activation that falls from 0 to `least` at `dip`, and rises from there."""

    def rule(node: Node, x: Range) -> Range:
        op = OPS[name]
        of = op.ref or op.body
        assert of is not None
        with np.errstate(all="ignore"):
            ends = [0.0 if e == -INF else INF if e == INF else float(of(np.float64(e))) for e in x]
        low = least if x.low < dip < x.high else min(ends)
        return Range(low, max(ends))

    return rule


# many elements --------------------------------------------------------------------------------------------------
def _count(node: Node) -> Range:
    """How many elements each result of a reduction is made of."""
    shape = node.inputs[0].type.shape
    return _size(product(shape[a] for a in reduced_axes(node.attrs)))


def _size(dim: DimLike) -> Range:
    low, high = bounds(dim)
    return Range(max(low, 0.0), high)


def _sum(node: Node, x: Range) -> Range:
    n = _count(node)
    return mul(x, n) if n.high > 0 else ANY  # of no elements: 0, which says nothing about other sizes


def _prod(node: Node, x: Range) -> Range:
    if x.is_constant and x.low in (0, 1):
        return x
    return UNIT if x.low >= 0 and x.high <= 1 else Range(1, INF) if x.low >= 1 else POSITIVE if x.low >= 0 else ANY


def _matmul(node: Node, x: Range, y: Range) -> Range:
    n = _size(node.inputs[0].type.shape[-1])
    return mul(mul(x, y), n) if n.high > 0 else ANY


def _bilinear(node: Node, x: Range, y: Range) -> Range:
    """Sums of products, of some number of them"""
    return mul(mul(x, y), POSITIVE)


def _spread(node: Node, x: Range) -> Range:
    """var and std: 0 of one element, or of equal ones"""
    equal_ones = _count(node) == ONE or (x.is_constant and math.isfinite(x.low))
    return ZERO if equal_ones and not node.attrs.get("correction") else POSITIVE


def _normalised(centred: bool) -> Callable[..., Range]:
    """x / sqrt(mean(x**2) + eps), with or without the mean subtracted: at most sqrt(n) of n elements"""

    def rule(node: Node, x: Range) -> Range:
        n = _count(node).high
        if (centred and (n == 1 or (x.is_constant and math.isfinite(x.low)))) or x == ZERO:
            return ZERO
        return Range(-math.sqrt(n) if centred or x.low < 0 else 0.0, math.sqrt(n)) if n else ANY

    return rule


def _softmax(node: Node, x: Range) -> Range:
    return ONE if _count(node) == ONE else UNIT


def _log_softmax(node: Node, x: Range) -> Range:
    return ZERO if _count(node) == ONE else Range(-INF, 0)


def _logsumexp(node: Node, x: Range) -> Range:
    n = _count(node)
    return Range(x.low + math.log(max(n.low, 1)), x.high + math.log(n.high) if n.high < INF else INF)


def _surprise(node: Node, logits: Range, target: Range) -> Range:
    return ZERO if _size(node.inputs[0].type.shape[-1]) == ONE else POSITIVE


def _index(node: Node, *given: Range) -> Range:
    return Range(0, min(_count(node).high - 1, LIMITS["i64"][1]))


def _full(node: Node) -> Range:
    with np.errstate(over="ignore"):
        return of_number(DTYPES[node.attrs["dtype"]].type(node.attrs["value"]).item())


def _bounded(node: Node, x: Range) -> Range:
    inside = Range(max(x.low, 0), min(x.high, _size(node.attrs["size"]).high - 1))
    ignored = node.attrs.get("ignore")
    return inside if ignored is None else inside | of_number(ignored)


def _iota(node: Node) -> Range:
    last = max(_size(node.attrs["shape"][node.attrs["axis"]]).high - 1, 0)
    return Range(0, min(last, LIMITS["i32"][1] if node.attrs["dtype"] == "i32" else LIMITS["i64"][1]))


def _cast(node: Node, x: Range) -> Range:
    kind = node.output.type
    if kind.dtype == "bool":
        return _truth(0 not in x, x == ZERO)
    return _ends("trunc", x) if kind.is_integer and node.inputs[0].type.is_float else x


def _hull(node: Node, *given: Range) -> Range:
    return Range(min(x.low for x in given), max(x.high for x in given))


def _first(node: Node, x: Range, *rest: Range) -> Range:
    return x


def _plain(function: Callable[..., Range]) -> Callable[..., Range]:
    return lambda node, *given: function(*given)


HALF_PI = math.pi / 2

# of x op x, which is more than the ranges of both would say
OF_EQUALS: dict[str, Callable[[Range], Range]] = {
    "sub": lambda x: ZERO,
    "div": lambda x: ONE,
    "mul": square,
    "less": lambda x: ZERO,
    "greater": lambda x: ZERO,
    "maximum": lambda x: x,
    "minimum": lambda x: x,
}


RULES: dict[str, Callable[..., Range]] = {
    # arithmetic
    "add": _plain(add),
    "sub": _plain(lambda x, y: add(x, neg(y))),
    "mul": _plain(mul),
    "div": _plain(div),
    "floor_divide": _plain(_floor_divide),
    "remainder": _plain(_remainder),
    "neg": _plain(neg),
    "pow": _plain(power),
    "square": _plain(square),
    "reciprocal": _plain(reciprocal),
    "abs": _plain(magnitude),
    "sign": _rising("sign"),
    "relu": _rising("relu"),
    "maximum": _plain(maximum),
    "minimum": _plain(minimum),
    "clip": _plain(_clip),
    "lerp": _plain(_lerp),
    "where": _plain(_where),
    "cast": _cast,
    "stop_gradient": _first,
    "copysign": _plain(_copysign),
    "heaviside": _plain(lambda x, y: ONE if x.low > 0 else ZERO if x.high < 0 else UNIT | y),
    # functions
    **{n: _rising(n) for n in "exp exp2 expm1 tanh sigmoid erf softplus floor ceil trunc round".split()},
    **{n: _rising(n) for n in "sinh asinh atan logaddexp".split()},
    **{n: _rising(n, least=0.0) for n in ("sqrt", "log", "log2", "log10")},
    "log1p": _rising("log1p", least=-1.0),
    "acosh": _rising("acosh", least=1.0),
    "asin": _rising("asin", -1.0, 1.0),
    "atanh": _rising("atanh", -1.0, 1.0),
    "rsqrt": _plain(lambda x: reciprocal(_ends("sqrt", Range(max(x.low, 0.0), max(x.high, 0.0))))),
    "acos": _within(0, math.pi),
    "atan2": _within(-math.pi, math.pi),
    "sin": _within(-1, 1),
    "cos": _within(-1, 1),
    "cosh": _plain(lambda x: _ends("cosh", magnitude(x))),
    "hypot": _plain(lambda x, y: _ends("hypot", magnitude(x), magnitude(y))),
    "silu": _dipping("silu", -1.2784645427610738, -0.2784645427610738),
    "gelu_erf": _dipping("gelu_erf", -0.7517915246935644, -0.16997120747990369),
    "gelu_tanh": _dipping("gelu_tanh", -0.7524614220710162, -0.17004075057125412),
    # comparison
    "less": _plain(less),
    "less_equal": _plain(less_equal),
    "greater": _plain(lambda x, y: less(y, x)),
    "greater_equal": _plain(lambda x, y: less_equal(y, x)),
    "equal": _plain(equal),
    "not_equal": _plain(lambda x, y: _not(equal(x, y))),
    "logical_and": _plain(minimum),
    "logical_or": _plain(maximum),
    "logical_not": _plain(_not),
    # shapes and generators
    **dict.fromkeys("reshape permute broadcast_to slice take".split(), _first),
    "unslice": lambda node, x: x | of_number(node.attrs.get("value", 0)),
    "concat": _hull,
    "full": _full,
    "iota": _iota,
    "dim_scalar": lambda node: _size(node.attrs["value"]),
    "uniform": _within(0, 1),
    "bounded": _bounded,
    "take_along_axis": _first,
    "dynamic_slice": _first,
    "dynamic_update_slice": _plain(lambda x, update, start: x | update),
    "weave": _hull,
    "scatter_add": _plain(lambda index, x: Range(-INF if x.low < 0 else 0, INF if x.high > 0 else 0)),
    # reductions and products
    "sum": _sum,
    **dict.fromkeys(("mean", "max", "min"), _first),
    **{n: lambda node, x: x if _count(node).low > 0 else UNIT for n in ("any", "all")},
    "prod": _prod,
    "var": _spread,
    "std": _spread,
    "argmax": _index,
    "argmin": _index,
    "matmul": _matmul,
    "softmax": _softmax,
    "log_softmax": _log_softmax,
    "logsumexp": _logsumexp,
    "layer_norm": _normalised(centred=True),
    "rms_norm": _normalised(centred=False),
    "nll_from_logits": _surprise,
    "cross_entropy_from_logits": lambda node, x, q: _surprise(node, x, q) if q.low >= 0 else ANY,
    "conv": _bilinear,
    "conv_input": _bilinear,
    "conv_weight": _bilinear,
    "max_pool": _first,
    "avg_pool": _plain(lambda x: x | ZERO),
}  # fmt: skip
