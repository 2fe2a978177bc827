"""Which halves of matrices are known or never read: what a causal mask makes of an attention.

An abstract interpretation over the last two axes (i, j) of every value, in three regions: above the diagonal (j > i),
on it, and below (j < i). In each region a value is either one known number or anything. A mask such as
`arange(T)[:, None] >= arange(T)` is False above and True elsewhere, however it is spelled; `where(mask, scores, -inf)`
is -inf above, its exponentials are 0 above; so are products with them. Walking back, `scores` themselves are never
read above. A matrix product needs neither the half of a factor that is 0 nor the half of a result that nobody reads.

Zero times anything counts as zero here, and -inf minus anything as -inf: a NaN or infinity in a half that is masked
away need not come through. (Where it was made it does: its row is not finite below the diagonal either.)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Union

import numpy as np

from ..ir.dims import Shape, identical
from ..ir.graph import Graph, Literal, Node, Number, Operand, Value
from ..ir.op import OPS
from ..ir.types import DTYPES, is_one

ABOVE, DIAGONAL, BELOW = 0, 1, 2
Regions = tuple[Union[Number, None], Union[Number, None], Union[Number, None]]  # None: anything
UNKNOWN: Regions = (None, None, None)


@dataclass(frozen=True)
class Ramp:
    """p * i + q * j + r over the last two axes."""

    p: int
    q: int
    r: int


@dataclass(frozen=True)
class Triangles:
    """What is known of a graph's values: `regions` where a number is known, `unread` regions that nobody reads."""

    regions: Mapping[Value, Regions]
    unread: Mapping[Value, frozenset[int]]

    def zero(self, operand: Operand, region: int) -> bool:
        known = self.regions.get(operand, UNKNOWN)[region] if isinstance(operand, Value) else None
        return known is not None and known == 0

    def product(self, node: Node) -> str:
        """The half of a product that need not be computed: "" or one of `HALVES`."""
        x, y = node.inputs
        for half, (what, region) in HALVES.items():
            if what == "out":
                if region in self.unread.get(node.output, ()):
                    return half
            elif self.zero(x if what == "x" else y, region):
                return half
        return ""


# out_lower: columns j <= i of the result are wanted; x_lower: x[i, k] is 0 for k > i; and so on
HALVES = {
    "out_lower": ("out", ABOVE),
    "out_upper": ("out", BELOW),
    "x_lower": ("x", ABOVE),
    "x_upper": ("x", BELOW),
    "y_lower": ("y", ABOVE),
    "y_upper": ("y", BELOW),
}


def triangles(graph: Graph) -> Triangles:
    """What is known of the values of an expanded graph."""
    found = _Forward(graph)
    for node in graph.nodes:
        if len(node.outputs) == 1:
            found.visit(node)
    regions = {v: r for v, r in found.regions.items() if r != UNKNOWN}
    return Triangles(regions, _unread(graph, regions))


class _Forward:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.ramps: dict[Value, Ramp] = {}
        self.regions: dict[Value, Regions] = {}

    def visit(self, node: Node) -> None:
        rule = getattr(self, "_" + node.op, None)
        result: Ramp | Regions | None = None
        if rule is not None:
            result = rule(node)
        elif OPS[node.op].kind == "elementwise" and not OPS[node.op].random:
            result = self.elementwise(node)
        if isinstance(result, Ramp):
            self.ramps[node.output] = result
        elif result is not None:
            self.regions[node.output] = result

    # what an operand is, seen over the axes of `shape` ----------------------------------------------------------------
    def regions_in(self, operand: Operand, shape: Shape) -> Regions:
        if isinstance(operand, Literal):
            return operand.value, operand.value, operand.value
        known = self.regions.get(operand, UNKNOWN)
        return known if uniform(known) or same_matrix(operand.type.shape, shape) else UNKNOWN

    def ramp_in(self, operand: Operand) -> Ramp | None:
        """Ramps do not depend on axes that are repeated, so broadcasting does not change them."""
        if isinstance(operand, Literal):
            return Ramp(0, 0, operand.value) if isinstance(operand.value, int) else None
        known = self.regions.get(operand, UNKNOWN)
        if isinstance(known[0], int) and uniform(known):
            return Ramp(0, 0, known[0])
        return self.ramps.get(operand)

    # generators and views ---------------------------------------------------------------------------------------------
    def _iota(self, node: Node) -> Ramp | Regions:
        axis = node.attrs["axis"] - len(node.attrs["shape"])
        if is_one(node.attrs["shape"][axis]):
            return (0, 0, 0)
        return Ramp(int(axis == -2), int(axis == -1), 0) if axis >= -2 else UNKNOWN

    def _full(self, node: Node) -> Regions:
        return (node.attrs["value"],) * 3

    def _constant(self, node: Node) -> Regions:
        array = self.graph.constants[node.attrs["digest"]]
        if array.ndim < 2 or array.size == 0:
            return UNKNOWN
        i, j = (np.arange(n) for n in array.shape[-2:])
        side = j[None, :] - i[:, None]
        parts = [array[..., where] for where in (side > 0, side == 0, side < 0)]
        found = [p.flat[0].item() if p.size and (p == p.flat[0]).all() else None for p in parts]
        return (found[0], found[1], found[2])

    def _barrier(self, node: Node) -> Ramp | Regions | None:
        x = node.inputs[0]
        assert isinstance(x, Value)
        return self.ramps.get(x) or self.regions.get(x)

    def _broadcast_to(self, node: Node) -> Ramp | Regions | None:
        (x,) = node.inputs
        ramp = self.ramps.get(x) if isinstance(x, Value) else None
        return ramp or self.regions_in(x, node.output.type.shape)

    def _reshape(self, node: Node) -> Ramp | Regions | None:
        x, shape = node.inputs[0], node.output.type.shape
        ramp = self.ramps.get(x) if isinstance(x, Value) else None
        if ramp is None:
            return self.regions_in(x, shape)
        before, after = ([d for d in s if not is_one(d)] for s in (x.type.shape, shape))
        if not (len(before) == len(after) == 1):  # a line that is turned: [T] to [T, 1] or back
            return ramp if same_matrix(x.type.shape, shape) else None
        axis = next(a for a, d in enumerate(shape) if not is_one(d)) - len(shape)
        step = ramp.p + ramp.q
        return Ramp(step if axis == -2 else 0, step if axis == -1 else 0, ramp.r) if axis >= -2 else None

    def _permute(self, node: Node) -> Ramp | Regions | None:
        (x,) = node.inputs
        axes = node.attrs["axes"]
        assert isinstance(x, Value)
        ramp, known = self.ramps.get(x), self.regions.get(x, UNKNOWN)
        if axes[-2:] == (len(axes) - 2, len(axes) - 1):
            return ramp or known
        if axes[-2:] == (len(axes) - 1, len(axes) - 2):
            return Ramp(ramp.q, ramp.p, ramp.r) if ramp else (known[BELOW], known[DIAGONAL], known[ABOVE])
        return None

    def _slice(self, node: Node) -> Ramp | Regions | None:
        (x,) = node.inputs
        assert isinstance(x, Value)
        start, step = node.attrs["start"][-2:], node.attrs["step"][-2:]
        whole = all(identical(a, 0) for a in start) and all(identical(s, 1) for s in step)
        return (self.ramps.get(x) or self.regions.get(x)) if whole else None

    # elementwise ------------------------------------------------------------------------------------------------------
    def elementwise(self, node: Node) -> Ramp | Regions:
        shape = node.output.type.shape
        ramps = [self.ramp_in(o) for o in node.inputs]
        if node.op in COMPARE and all(r is not None for r in ramps):
            a, b = ramps
            assert a is not None and b is not None
            return _compare(node.op, Ramp(a.p - b.p, a.q - b.q, a.r - b.r))
        ramp = _ramp(node, ramps) if any(isinstance(o, Value) and o in self.ramps for o in node.inputs) else None
        if ramp is not None:
            return ramp
        if len(shape) < 2 and not all(isinstance(o, Literal) or o in self.regions for o in node.inputs):
            return UNKNOWN
        known = [self.regions_in(o, shape) for o in node.inputs]
        above, diagonal, below = (_evaluate(node, [k[r] for k in known]) for r in (ABOVE, DIAGONAL, BELOW))
        return above, diagonal, below


COMPARE = ("less", "less_equal", "greater", "greater_equal", "equal", "not_equal")


def _same(a: Number | None, b: Number | None) -> bool:
    return a is not None and b is not None and (a == b or (a != a and b != b)) and type(a) is type(b)


def uniform(known: Regions) -> bool:
    """Whether it is the same number everywhere."""
    return all(_same(k, known[0]) for k in known)


def same_matrix(a: Shape, b: Shape) -> bool:
    return len(a) >= 2 and len(b) >= 2 and all(identical(x, y) for x, y in zip(a[-2:], b[-2:], strict=True))


def _ramp(node: Node, ramps: list[Ramp | None]) -> Ramp | None:
    a, b = (*ramps, None)[:2]
    if a is None:
        return None
    if node.op == "cast":
        return a if node.output.type.dtype != "bool" else None
    if node.op == "neg":
        return Ramp(-a.p, -a.q, -a.r)
    if node.op in ("add", "sub") and b is not None:
        sign = 1 if node.op == "add" else -1
        return Ramp(a.p + sign * b.p, a.q + sign * b.q, a.r + sign * b.r)
    return None


def _compare(name: str, difference: Ramp) -> Regions:
    """left - right = p i + q j + r, compared with 0. Only q (j - i) + r can be told without knowing the sizes."""
    p, q, r = difference.p, difference.q, difference.r
    if p + q != 0:
        return UNKNOWN
    low_above, high_above = (r + q, math.inf) if q > 0 else (-math.inf, r + q) if q < 0 else (r, r)
    low_below, high_below = (-math.inf, r - q) if q > 0 else (r - q, math.inf) if q < 0 else (r, r)
    ranges = ((low_above, high_above), (r, r), (low_below, high_below))

    def truth(low: float, high: float) -> bool | None:
        if name in ("less", "greater_equal"):
            verdict = True if high < 0 else False if low >= 0 else None
            return verdict if name == "less" or verdict is None else not verdict
        if name in ("greater", "less_equal"):
            verdict = True if low > 0 else False if high <= 0 else None
            return verdict if name == "greater" or verdict is None else not verdict
        verdict = False if low > 0 or high < 0 else True if low == high == 0 else None
        return verdict if name == "equal" or verdict is None else not verdict

    above, diagonal, below = (truth(*bounds) for bounds in ranges)
    return above, diagonal, below


def _evaluate(node: Node, known: list[Number | None]) -> Number | None:
    """The number that an elementwise op gives for operands of which some are known."""
    op, values = node.op, known
    if op == "where" and values[0] is not None:
        return values[1] if values[0] else values[2]
    if op == "where" and _same(values[1], values[2]):
        return values[1]
    if op in ("mul", "logical_and") and any(v is not None and v == 0 for v in values):
        return 0.0 if node.output.type.dtype[0] == "f" else 0 if op == "mul" else False
    if op == "logical_or" and any(values):
        return True
    if op in ("add", "sub") and values[0] == -math.inf and values[1] is None:
        return -math.inf
    if op == "add" and values[1] == -math.inf and values[0] is None:
        return -math.inf
    if op == "div" and values[0] is not None and values[0] == 0 and values[1] is None:
        return 0.0
    numbers = [v for v in values if v is not None]
    return folded(node, numbers) if values and len(numbers) == len(values) else None


def folded(node: Node, values: list[Number]) -> Number | None:
    """The number that an elementwise op gives for numbers, each in the dtype of its operand."""
    ref = OPS[node.op].ref
    if ref is None:
        return None
    numbers = [
        v if isinstance(o, Literal) else DTYPES[o.type.dtype].type(v) for o, v in zip(node.inputs, values, strict=True)
    ]
    with np.errstate(all="ignore"):
        result = ref(*numbers, **node.attrs)
    return np.asarray(result).astype(DTYPES[node.output.type.dtype]).item()


def _unread(graph: Graph, regions: Mapping[Value, Regions]) -> dict[Value, frozenset[int]]:
    """The regions, above or below, in which no reader depends on a value."""
    unread: dict[Value, frozenset[int]] = {}
    kept = {v for v in graph.results() if isinstance(v, Value)}
    uses = graph.uses()
    for node in reversed(graph.nodes):
        for value in node.outputs:
            free = {ABOVE, BELOW} if value not in kept and len(value.type.shape) >= 2 else set()
            for user in uses.get(value, ()):
                if free:
                    free &= _ignored(user, value, regions, unread)
            if free and uses.get(value):
                unread[value] = frozenset(free)
    return unread


def _ignored(user: Node, value: Value, regions: Mapping[Value, Regions], unread: Mapping[Value, frozenset[int]]) -> set:
    """The regions of `value` on which what `user` computes, as far as it is read itself, does not depend."""
    if len(user.outputs) != 1:
        return set()
    result = user.output
    later = unread.get(result, frozenset())
    if user.op == "permute":
        axes = user.attrs["axes"]
        if axes[-2:] == (len(axes) - 1, len(axes) - 2):
            return {ABOVE + BELOW - region for region in later}
        return set(later) if axes[-2:] == (len(axes) - 2, len(axes) - 1) else set()
    if not same_matrix(value.type.shape, result.type.shape):
        return set()
    if user.op in ("reshape", "broadcast_to"):
        return set(later)
    if OPS[user.op].kind == "elementwise":
        known = regions.get(result, UNKNOWN)
        if user.op == "div" and user.inputs[1] is value:  # 0 divided by what is left out, and filled with 0, is NaN
            known = UNKNOWN
        return {region for region in (ABOVE, BELOW) if region in later or known[region] is not None}
    return set()
