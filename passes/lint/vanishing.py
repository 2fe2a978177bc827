"""Edges along which no gradient runs although the op has a derivative, proved without running anything.

Backward through the program, each op's own derivative rule is looked through with what is known of its operands: their
ranges, the axes along which they are constant, and the axes over which cotangents sum to zero. A softmax does not
change when its row is shifted, so the gradient of its operand sums to zero over the row, and a bias that shifts the
whole row gets none; the same holds of what is normalised, however it is spelled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ...ir.dims import DimLike, bounds, identical, same_shape
from ...ir.graph import Graph, Node, Operand, Value
from .along import Axes, ZeroSum, all_axes, every, ones
from .derivative import differentiable_operands
from .facts import Fact, look_through, number
from .flow import Edge
from .intervals import ZERO, Range, of_number
from .patterns import average_of_one, fixed_sum, invariant_axes, is_step, share, taken_away
from .same import Same

MASKED = -1e4  # a score that is as good as -inf: e**-1e4 is 0

ONE_ELEMENT = ("softmax", "log_softmax", "nll_from_logits", "layer_norm", "var", "std")


@dataclass(frozen=True)
class Vanished:
    """Why no gradient runs along an edge.

    factor     the other factor is 0                saturated  the op is constant over the range of its operand
    mask       a condition that is always the same  single     normalised over an axis of one element
    equal      x - x, x / x, (x - stop(x)) ** 2     shift      `by` takes away what the operand adds
    step       x - x % y, a floor written out       summed     what is normalised is summed up again
    """

    kind: str
    by: Node | None = None


@dataclass(frozen=True)
class _Part:
    """What one reader adds to the cotangent of a value: `rows` (axis, start, stop) where it is zero elsewhere;
    `balanced` are axes over which value times cotangent sums to zero, as it does where the value's scale is lost."""

    fact: Fact
    rows: tuple[int, DimLike, DimLike] | None = None
    balanced: tuple[ZeroSum, ...] = ()


@dataclass
class Vanishing:
    """`edges` carry no gradient; `rows` are the rows of inputs that get none, and what takes it away; `constant` the
    axes along which the gradients of inputs are."""

    edges: dict[Edge, Vanished] = field(default_factory=dict)
    rows: dict[Value, list[ZeroSum]] = field(default_factory=dict)
    constant: dict[Value, Axes] = field(default_factory=dict)


def vanishing(
    graph: Graph,
    roots: Sequence[Value],
    same: Same,
    ranges: Mapping[Value, Range],
    values: Mapping[Value, Range],
    constant: Mapping[Value, Axes],
) -> Vanishing:
    """What the gradient of `roots` does not reach for reasons of arithmetic. `ranges` and `same` are those in which a
    stop_gradient is not what it stops, `values` the ranges in which it is."""
    return _Backward(graph, roots, same, ranges, values, constant).result


class _Backward:
    def __init__(
        self,
        graph: Graph,
        roots: Sequence[Value],
        same: Same,
        ranges: Mapping[Value, Range],
        values: Mapping[Value, Range],
        constant: Mapping[Value, Axes],
    ) -> None:
        self.same, self.ranges, self.values, self.constant = same, ranges, values, constant
        self.result = Vanishing()
        self.parts: dict[Value, list[_Part]] = {}
        for root in roots:
            self.parts.setdefault(root, []).append(_Part(Fact(constant=ones(root.type.shape))))
        for node in reversed(graph.nodes):
            if any(v in self.parts for v in node.outputs):
                self._visit(node)
        for value in graph.inputs:
            total = self._total(value).fact
            self.result.rows[value] = [s for s in total.sums if not s.axes and s.rows]
            self.result.constant[value] = total.constant

    def _total(self, value: Value) -> _Part:
        """The whole cotangent of a value, from what its readers add to it."""
        parts = self.parts.get(value, [])
        if not parts:
            return _Part(Fact(ZERO, all_axes(value.type.shape)))
        if len(parts) == 1 and parts[0].rows is None:
            return parts[0]
        constant = frozenset.intersection(*(p.fact.constant for p in parts))
        sums = every([p.fact.sums for p in parts])
        for i, part in enumerate(parts):
            others = [p.rows for j, p in enumerate(parts) if j != i]
            if part.rows is not None and all(_apart(part.rows, rows) for rows in others):
                sums += tuple(replace(s, rows=part.rows) for s in part.fact.sums if s.rows is None)
        return _Part(Fact(constant=constant, sums=sums), balanced=every([p.balanced for p in parts]))

    def _visit(self, node: Node) -> None:
        passes = differentiable_operands(node)
        totals = [self._total(v) for v in node.outputs]
        facts, skipped = self._facts(node, totals)
        for i, (operand, passed) in enumerate(zip(node.inputs, passes, strict=True)):
            if not passed or not isinstance(operand, Value):
                continue
            why = self._why(node, i, facts[i], totals[0].fact)
            if why is not None:
                self.result.edges[node, i] = why
            elif i not in skipped:
                balanced = self._balanced(node, i, totals[0])
                self.parts.setdefault(operand, []).append(_Part(facts[i], _rows_read(node), balanced))

    # one op -----------------------------------------------------------------------------------------------------------
    def _facts(self, node: Node, totals: Sequence[_Part]) -> tuple[list[Fact], set[int]]:
        """What is known of the cotangents of the operands, and the operands whose share is in another's already."""
        facts, seed = look_through(node, [t.fact for t in totals], self._known), totals[0].fact
        axes, pair = invariant_axes(node), taken_away(self.same, node)
        if axes is not None:
            masked = node.op in ("softmax", "nll_from_logits", "cross_entropy_from_logits")
            facts[0] = _with_sums(facts[0], ZeroSum(axes, node, masked))
        if node.op in ("exp", "exp2"):
            facts[0] = _with_sums(facts[0], *(replace(s, masked=True) for s in totals[0].balanced))
        if node.op == "where":
            for i in (1, 2):
                if self._range(node.inputs[3 - i]).high <= MASKED and _same_shape(node.inputs[i], node.output):
                    facts[i] = _with_sums(facts[i], *(s for s in seed.sums if s.masked))
        if pair is not None:
            i, axes, by = pair
            before = [s for s in seed.sums if s.axes == axes]  # then R(x) gets nothing, and x all of it
            constant = seed.constant if by.op == "mean" else ones(node.inputs[i].type.shape)
            facts[i] = Fact(constant=constant, sums=tuple(before) or (ZeroSum(axes, node),))
            return facts, {1 - i}
        if share(self.same, node) is not None:
            facts[0] = Fact(constant=ones(node.inputs[0].type.shape))
            return facts, {1}
        return facts, set()

    def _known(self, operand: Operand) -> Fact:
        operand = self.same.of(operand)
        return Fact(self.values[operand], self.constant[operand]) if isinstance(operand, Value) else number(operand)

    def _range(self, operand: Operand) -> Range:
        return self.ranges[operand] if isinstance(operand, Value) else of_number(operand.value)

    def _why(self, node: Node, i: int, fact: Fact, seed: Fact) -> Vanished | None:
        """Why no gradient runs from `node` to its i-th operand; None where some may."""
        if self._range(node.inputs[i]).is_constant:
            return None  # what makes it constant stands further up
        if self.ranges[node.output].is_constant:
            return Vanished(self._why_constant(node))
        if fact.zero_by is not None:
            return Vanished("shift", fact.zero_by)
        axes = fixed_sum(self.same, node)
        if axes is not None and axes <= seed.constant:
            return Vanished("summed")
        if is_step(self.same, node, i):
            return Vanished("step")
        if fact.range == ZERO:
            if any(self.values[v].is_constant and not self.ranges[v].is_constant for v in node.values()):
                return Vanished("equal")
            return Vanished("mask" if node.op == "where" else "factor" if node.op in FACTORS else "saturated")
        return None

    def _why_constant(self, node: Node) -> str:
        if node.op in ("sub", "div") and self.same.equal(node.inputs[0], node.inputs[1]):
            return "equal" if average_of_one(self.same, node) is None else "single"
        if node.op in ONE_ELEMENT:
            return "single"
        if node.op in FACTORS and any(self._range(o) == ZERO for o in node.inputs):
            return "factor"
        return "factor" if node.op in ("pow", "div") else "mask" if node.op == "where" else "saturated"

    def _balanced(self, node: Node, i: int, total: _Part) -> tuple[ZeroSum, ...]:
        """Axes over which the i-th operand times its cotangent sums to zero."""
        axes = share(self.same, node) if i == 0 else None
        if axes is not None:
            return (ZeroSum(axes, node),)
        if not total.balanced or not _same_shape(node.inputs[i], node.output):
            return ()
        if node.op == "mul" or (node.op == "div" and i == 0):
            return total.balanced
        if node.op == "where" and i > 0 and self._range(node.inputs[3 - i]) == ZERO:
            return total.balanced
        return ()


FACTORS = ("mul", "matmul", "div", "lerp", "conv", "conv_input", "conv_weight")


def _same_shape(a: Operand, b: Operand) -> bool:
    return same_shape(a.type.shape, b.type.shape)


def _with_sums(fact: Fact, *sums: ZeroSum) -> Fact:
    return replace(fact, sums=(*fact.sums, *sums)) if sums else fact


def _rows_read(node: Node) -> tuple[int, DimLike, DimLike] | None:
    """The rows that a slice along one axis reads."""
    if node.op != "slice":
        return None
    x, out = node.inputs[0].type.shape, node.output.type.shape
    cut = [i for i, (a, b) in enumerate(zip(x, out, strict=True)) if not identical(a, b)]
    if len(cut) != 1 or not identical(node.attrs["step"][cut[0]], 1):
        return None
    start = node.attrs["start"][cut[0]]
    return cut[0], start, start + out[cut[0]]


def _apart(a: tuple[int, DimLike, DimLike], b: tuple[int, DimLike, DimLike] | None) -> bool:
    """Whether two runs of rows have none in common."""
    return b is not None and a[0] == b[0] and (bounds(b[1] - a[2])[0] >= 0 or bounds(a[1] - b[2])[0] >= 0)
