"""Between which two numbers the elements of every value lie, for all inputs: an interval analysis of a traced graph.

The numbers are those of real arithmetic: rounding may carry an element past a bound by as much as it carries any
result. Nothing is said of NaN and of what is computed from it; 0 times anything counts as 0, and 1 / 0 is inf. Inputs
and parameters may be anything that their dtype can hold; so may the result of an op that is not in the tables here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ...ir.dims import DimLike, DimScope, bounds, dim_scope, product
from ...ir.graph import Graph, Literal, Node, Operand, Value
from ...ir.op import OPS
from ...ir.types import DTYPES, TensorType
from .intervals import (
    ANY,
    INF,
    LARGEST,
    LIMITS,
    ONE,
    POSITIVE,
    SMALLEST,
    UNIT,
    ZERO,
    Range,
    add,
    clip,
    copysign,
    div,
    ends,
    equal,
    floor_divide,
    lerp,
    less,
    less_equal,
    magnitude,
    maximum,
    minimum,
    mul,
    neg,
    negated,
    of_array,
    of_number,
    of_type,
    power,
    reciprocal,
    remainder,
    square,
    truth,
    where,
)  # fmt: skip
from .same import Same, is_closed, reduced_axes

NO_CONSTANTS: Mapping[str, np.ndarray] = {}


def ranges(graph: Graph, same: Same, known: Mapping[Value, Range] | None = None) -> dict[Value, Range]:
    """The range of every value of `graph`; `known` gives those of some inputs, and of values that are known better."""
    known = known or {}
    found = {v: known[v] if v in known else of_type(v.type) for v in graph.inputs}
    with dim_scope(DimScope(dict(graph.symbols), quiet=True)):
        for node in graph.nodes:
            operands = [same.of(o) for o in node.inputs]
            given = [of_number(o.value) if isinstance(o, Literal) else found[o] for o in operands]
            if node.op == "where":
                given = _in_arms(same, operands, given, found)
            for value in node.outputs:
                found[value] = known.get(value) or transfer(node, value, operands, given, graph.constants)
    return found


def _in_arms(
    same: Same, operands: Sequence[Operand], given: Sequence[Range], found: Mapping[Value, Range]
) -> Sequence[Range]:
    """The operands of a where whose condition compares one of its arms with a number: what is chosen lies beyond it."""
    test = same.made(operands[0])
    if test is None or test.op not in ABOVE:
        return given
    x, y = map(same.of, test.inputs)
    is_above = ABOVE[test.op]
    if isinstance(x, Literal):
        x, y, is_above = y, x, not is_above
    bound = of_number(y.value) if isinstance(y, Literal) else found[y]
    if not bound.is_constant:
        return given
    above, below = Range(bound.low, INF), Range(-INF, bound.low)
    chosen = (above, below) if is_above else (below, above)
    arms = [_both(r, c) if o is x else r for o, r, c in zip(operands[1:], given[1:], chosen, strict=True)]
    return [given[0], *arms]


ABOVE = {"greater": True, "greater_equal": True, "less": False, "less_equal": False}


def _both(x: Range, y: Range) -> Range:
    low, high = max(x.low, y.low), min(x.high, y.high)
    return Range(low, high) if low <= high else x


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


# functions ------------------------------------------------------------------------------------------------------
def _within(low: float, high: float) -> Callable[..., Range]:
    return lambda node, *given: Range(low, high)


def _rising(name: str, least: float = -INF, greatest: float = INF) -> Callable[..., Range]:
    """Of a function that does not decrease, for operands from `least` to `greatest`."""

    def rule(node: Node, *given: Range) -> Range:
        if any((x.low < least and x.high <= least) or (x.high > greatest and x.low >= greatest) for x in given):
            return ANY  # NaN
        inside = [Range(min(max(x.low, least), greatest), max(min(x.high, greatest), least)) for x in given]
        return ends(name, *inside)

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
        return truth(0 not in x, x == ZERO)
    return ends("trunc", x) if kind.is_integer and node.inputs[0].type.is_float else x


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
    "floor_divide": _plain(floor_divide),
    "remainder": _plain(remainder),
    "neg": _plain(neg),
    "pow": _plain(power),
    "square": _plain(square),
    "reciprocal": _plain(reciprocal),
    "abs": _plain(magnitude),
    "sign": _rising("sign"),
    "relu": _rising("relu"),
    "maximum": _plain(maximum),
    "minimum": _plain(minimum),
    "clip": _plain(clip),
    "lerp": _plain(lerp),
    "where": _plain(where),
    "cast": _cast,
    "stop_gradient": _first,
    "copysign": _plain(copysign),
    "heaviside": _plain(lambda x, y: ONE if x.low > 0 else ZERO if x.high < 0 else UNIT | y),
    # functions
    **{n: _rising(n) for n in "exp exp2 expm1 tanh sigmoid erf softplus floor ceil trunc round".split()},
    **{n: _rising(n) for n in "sinh asinh atan logaddexp".split()},
    **{n: _rising(n, least=0.0) for n in ("sqrt", "log", "log2", "log10")},
    "log1p": _rising("log1p", least=-1.0),
    "acosh": _rising("acosh", least=1.0),
    "asin": _rising("asin", -1.0, 1.0),
    "atanh": _rising("atanh", -1.0, 1.0),
    "rsqrt": _plain(lambda x: reciprocal(ends("sqrt", Range(max(x.low, 0.0), max(x.high, 0.0))))),
    "acos": _within(0, math.pi),
    "atan2": _within(-math.pi, math.pi),
    "sin": _within(-1, 1),
    "cos": _within(-1, 1),
    "cosh": _plain(lambda x: ends("cosh", magnitude(x))),
    "hypot": _plain(lambda x, y: ends("hypot", magnitude(x), magnitude(y))),
    "silu": _dipping("silu", -1.2784645427610738, -0.2784645427610738),
    "gelu_erf": _dipping("gelu_erf", -0.7517915246935644, -0.16997120747990369),
    "gelu_tanh": _dipping("gelu_tanh", -0.7524614220710162, -0.17004075057125412),
    # comparison
    "less": _plain(less),
    "less_equal": _plain(less_equal),
    "greater": _plain(lambda x, y: less(y, x)),
    "greater_equal": _plain(lambda x, y: less_equal(y, x)),
    "equal": _plain(equal),
    "not_equal": _plain(lambda x, y: negated(equal(x, y))),
    "logical_and": _plain(minimum),
    "logical_or": _plain(maximum),
    "logical_not": _plain(negated),
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
