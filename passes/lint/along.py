"""Along which axes a value is constant (all its slices are equal), and over which its elements sum to zero.

Both are sets of axes counted from the front. `constant_axes` and `zero_sums` give those of a node's result from those
of its operands; what is not known of an op is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ...ir.arrays import constant_along
from ...ir.dims import DimLike, Shape, divide, identical
from ...ir.graph import Graph, Literal, Node, Operand, Value
from ...ir.op import OPS
from ...ir.types import is_one
from .intervals import Range
from .same import Same, is_closed, reduced_axes

Axes = frozenset[int]
NONE: Axes = frozenset()


@dataclass(frozen=True)
class ZeroSum:
    """The elements sum to zero over `axes` together, wherever the other axes stand, because of `by` (a softmax, a
    normalisation). `masked`: they are zero where the value that they belong to is -inf. `rows` (axis, start, stop): it
    is known of these rows alone."""

    axes: Axes
    by: Node
    masked: bool = False
    rows: tuple[int, DimLike, DimLike] | None = None


def ones(shape: Shape) -> Axes:
    return frozenset(i for i, d in enumerate(shape) if is_one(d))


def all_axes(shape: Shape) -> Axes:
    return frozenset(range(len(shape)))


# constant along an axis -----------------------------------------------------------------------------------------
def constants(graph: Graph, same: Same, known: Mapping[Value, Axes] | None = None) -> dict[Value, Axes]:
    """The axes along which every value of `graph` is constant; `known` gives those of some inputs."""
    known = known or {}
    found = {v: known.get(v, NONE) | ones(v.type.shape) for v in graph.inputs}
    for node in graph.nodes:
        given = [NONE if isinstance(o, Literal) else found[o] for o in map(same.of, node.inputs)]
        for value in node.outputs:
            if node.op == "constant":
                found[value] = constant_along(graph.constants[node.attrs["digest"]])
            else:
                found[value] = constant_axes(node, given, value.type.shape)
    return found


def constant_axes(node: Node, given: Sequence[Axes], shape: Shape) -> Axes:
    """The axes of the result, of this shape, along which it is constant."""
    return frozenset(_constant(node, given, shape)) | ones(shape)


# for every axis of channels of the result: (operand, its axis, the axis of the result)
CONVOLUTIONS: dict[str, tuple[tuple[int, int, int], ...]] = {
    "conv": ((1, 0, 1),),
    "conv_input": ((1, 1, 1),),
    "conv_weight": ((1, 1, 0), (0, 1, 1)),
}

# alike along an axis before, alike after, also along the axis that is normalised
ALIKE = ("softmax", "log_softmax", "logsumexp", "layer_norm", "rms_norm", "bounded", "gelu_tanh", "gelu_erf")


def _constant(node: Node, given: Sequence[Axes], shape: Shape) -> Iterator[int]:
    op = OPS[node.op]
    x = node.inputs[0].type.shape if node.inputs else ()
    if node.op == "full":
        yield from range(len(shape))
    elif node.op == "iota":
        yield from (i for i in range(len(shape)) if i != node.attrs["axis"])
    elif op.random or op.generator or is_closed(node):
        return
    elif op.kind == "elementwise":
        yield from _common(node.inputs, given, shape)
    elif op.reduce is not None or node.op in ("mean", "var", "std", "argmax", "argmin"):
        yield from _mapped(given[0], kept_axes(len(x), reduced_axes(node.attrs), node.attrs["keepdims"]))
    elif node.op in ALIKE:
        yield from given[0]
    elif node.op == "nll_from_logits":
        yield from (i for i in range(len(shape) - 1) if i in given[0] and i in given[1])
    elif node.op == "matmul":
        yield from _matmul(node, given, shape)
    elif node.op == "permute":
        yield from (i for i, a in enumerate(node.attrs["axes"]) if a in given[0])
    elif node.op == "reshape":
        for before, after in axis_groups(x, shape):
            if all(a in given[0] for a in before):
                yield from after
    elif node.op == "broadcast_to":
        lead = len(shape) - len(x)
        yield from (i for i, d in enumerate(shape) if i < lead or i - lead in given[0] or is_one(x[i - lead]))
    elif node.op == "slice":
        yield from given[0]
    elif node.op == "unslice":
        yield from (i for i in given[0] if identical(x[i], shape[i]))
    elif node.op == "concat":
        yield from (i for i in range(len(shape)) if i != node.attrs["axis"] and all(i in g for g in given))
    elif node.op == "take":  # the axis becomes those of the indices
        axis, rows = node.attrs.get("axis", 0), node.inputs[1].type.ndim
        yield from (axis + i for i in range(rows) if i in given[1] or axis in given[0])
        yield from (i if i < axis else rows + i - 1 for i in given[0] if i != axis)
    elif node.op == "scatter_add":
        axis, rows = node.attrs.get("axis", 0), node.inputs[0].type.ndim
        yield from (i if i < axis else i - rows + 1 for i in given[1] if i < axis or i >= axis + rows)
    elif node.op in CONVOLUTIONS:
        if 0 in given[0] and node.op != "conv_weight":
            yield 0
        if node.attrs["groups"] == 1:
            yield from (out for operand, own, out in CONVOLUTIONS[node.op] if own in given[operand])
    elif node.op in ("max_pool", "avg_pool"):
        yield from (i for i in given[0] if i < len(shape) - len(node.attrs["kernel"]))
    elif node.op == "weave":
        yield from (i for i, step in enumerate(node.attrs["step"]) if step == 1 and all(i in g for g in given))


def _common(inputs: Sequence[Operand], given: Sequence[Axes], shape: Shape) -> Iterator[int]:
    """The axes along which every operand is constant or repeated."""
    for i in range(len(shape)):
        for operand, axes in zip(inputs, given, strict=True):
            own = i - len(shape) + operand.type.ndim
            if own >= 0 and own not in axes and not is_one(operand.type.shape[own]):
                break
        else:
            yield i


def _matmul(node: Node, given: Sequence[Axes], shape: Shape) -> Iterator[int]:
    x, y = (o.type.shape for o in node.inputs)
    rows, columns = int(len(x) > 1), int(len(y) > 1)
    batch = len(shape) - rows - columns
    for i in range(batch):
        sides = [(axes, s, i - batch + len(s) - 2) for axes, s in zip(given, (x, y), strict=True)]
        if all(a < 0 or a in axes or is_one(s[a]) for axes, s, a in sides):
            yield i
    if rows and len(x) - 2 in given[0]:
        yield batch
    if columns and len(y) - 1 in given[1]:
        yield len(shape) - 1


def kept_axes(ndim: int, reduced: Sequence[int], keepdims: bool) -> dict[int, int]:
    """The place in the result of every axis that a reduction leaves."""
    left = [a for a in range(ndim) if a not in reduced]
    return {a: a if keepdims else i for i, a in enumerate(left)}


def _mapped(axes: Axes, place: dict[int, int]) -> Axes:
    return frozenset(place[a] for a in axes if a in place)


def axis_groups(before: Shape, after: Shape) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Runs of axes that a reshape makes of one another, as short as possible; axes of size 1 belong to none."""
    sides = [[i for i, d in enumerate(s) if not is_one(d)] for s in (before, after)]
    found = []
    while sides[0] and sides[1]:
        taken: list[list[int]] = [[sides[0].pop(0)], [sides[1].pop(0)]]
        p, q = before[taken[0][0]], after[taken[1][0]]
        while not identical(p, q) and (sides[0] or sides[1]):
            # the side that is a factor of the other goes on; where sizes do not tell, both do
            if sides[0] and (not sides[1] or divide(p, q) is None):
                taken[0].append(sides[0].pop(0))
                p = p * before[taken[0][-1]]
            elif sides[1]:
                taken[1].append(sides[1].pop(0))
                q = q * after[taken[1][-1]]
        found.append((tuple(taken[0]), tuple(taken[1])))
    return found


# sums that are zero ---------------------------------------------------------------------------------------------
def zero_sums(
    node: Node, sums: Sequence[tuple[ZeroSum, ...]], constant: Sequence[Axes], ranges: Sequence[Range], shape: Shape
) -> tuple[ZeroSum, ...]:
    """What is known of the sums of the result of a node that is linear in the operands that have some. An empty set of
    axes says that the result itself is zero."""
    given = sums[0] if sums else ()
    if node.op in ("add", "sub"):
        return _both(node, sums, shape)
    if node.op in ("neg", "cast", "stop_gradient"):
        return given
    if node.op in ("mul", "div", "where"):
        return _scaled(node, sums, constant, ranges, shape)
    if node.op in ("sum", "mean"):
        return _reduced(node, given)
    if node.op == "matmul":
        return _product(node, sums, constant, shape)
    if node.op == "permute":
        order = node.attrs["axes"]
        return _moved(given, {a: i for i, a in enumerate(order)})
    if node.op == "broadcast_to":
        return tuple(_shifted(s, len(shape) - node.inputs[0].type.ndim) for s in given)
    if node.op == "reshape":
        return _reshaped(given, axis_groups(node.inputs[0].type.shape, shape))
    if node.op == "slice":
        x = node.inputs[0].type.shape
        whole = frozenset(i for i, (a, b) in enumerate(zip(x, shape, strict=True)) if identical(a, b))
        return tuple(s for s in given if s.axes <= whole and s.rows is None)
    if node.op == "unslice" and not node.attrs.get("value"):  # zeros around it do not change a sum
        return tuple(s for s in given if s.rows is None)
    if node.op == "concat":
        return every(sums)
    return ()


def every(sums: Sequence[tuple[ZeroSum, ...]]) -> tuple[ZeroSum, ...]:
    """What holds of all of several values, and so of their sum: over the axes of one and of the other together."""
    found = sums[0]
    for more in sums[1:]:
        pairs = [(a, b) for a in found for b in more if a.rows is None and b.rows is None]
        both = {a.axes | b.axes: replace(a, axes=a.axes | b.axes, masked=a.masked and b.masked) for a, b in pairs}
        found = tuple(both.values())
    return found


def _both(node: Node, sums: Sequence[tuple[ZeroSum, ...]], shape: Shape) -> tuple[ZeroSum, ...]:
    return every(
        [tuple(_shifted(s, len(shape) - o.type.ndim) for s in g) for o, g in zip(node.inputs, sums, strict=True)]
    )


def _scaled(
    node: Node, sums: Sequence[tuple[ZeroSum, ...]], constant: Sequence[Axes], ranges: Sequence[Range], shape: Shape
) -> tuple[ZeroSum, ...]:
    """One operand has zero sums, and the others are constant along their axes (`where`: or zero)."""
    found = []
    for i, (operand, own) in enumerate(zip(node.inputs, sums, strict=True)):
        if node.op == "div" and i == 1:
            continue
        others = [j for j in range(len(node.inputs)) if j != i]
        if node.op == "where":
            if i == 0 or ranges[3 - i] != Range(0, 0):
                continue
            others = [0]
        free = frozenset(_common([node.inputs[j] for j in others], [constant[j] for j in others], shape))
        found += [s for s in (_shifted(s, len(shape) - operand.type.ndim) for s in own) if s.axes <= free]
    return tuple(found)


def _reduced(node: Node, given: tuple[ZeroSum, ...]) -> tuple[ZeroSum, ...]:
    reduced = reduced_axes(node.attrs)
    place = kept_axes(node.inputs[0].type.ndim, reduced, node.attrs["keepdims"])
    found = []
    for s in given:
        if s.rows is not None and (s.rows[0] in reduced or not s.axes <= frozenset(reduced)):
            continue
        rows = None if s.rows is None else (place[s.rows[0]], *s.rows[1:])
        found.append(ZeroSum(frozenset(place[a] for a in s.axes if a in place), s.by, rows=rows))
    return tuple(found)


def _product(
    node: Node, sums: Sequence[tuple[ZeroSum, ...]], constant: Sequence[Axes], shape: Shape
) -> tuple[ZeroSum, ...]:
    """Over the rows of the left operand, the columns of the right one, and batch axes that the other has not."""
    x, y = (o.type.shape for o in node.inputs)
    if len(x) < 2 or len(y) < 2:
        return ()
    found = []
    for own, other, last, i in ((x, y, len(x) - 1, 0), (y, x, len(y) - 2, 1)):
        move = len(shape) - len(own)
        for s in sums[i]:
            batch = [a for a in s.axes if a < len(own) - 2]
            there = [a + move - len(shape) + len(other) for a in batch]
            alike = all(a < 0 or is_one(other[a]) or a in constant[1 - i] for a in there)
            if last not in s.axes and alike and s.rows is None:
                found.append(ZeroSum(frozenset(a + move for a in s.axes), s.by))
    return tuple(found)


def _moved(given: tuple[ZeroSum, ...], place: dict[int, int]) -> tuple[ZeroSum, ...]:
    return tuple(
        replace(
            s,
            axes=frozenset(place[a] for a in s.axes),
            rows=None if s.rows is None else (place[s.rows[0]], *s.rows[1:]),
        )
        for s in given
    )


def _shifted(s: ZeroSum, by: int) -> ZeroSum:
    rows = None if s.rows is None else (s.rows[0] + by, *s.rows[1:])
    return replace(s, axes=frozenset(a + by for a in s.axes), rows=rows) if by else s


def _reshaped(
    given: tuple[ZeroSum, ...], groups: Sequence[tuple[tuple[int, ...], tuple[int, ...]]]
) -> tuple[ZeroSum, ...]:
    """Where the axes are whole runs of those that the reshape makes of one another."""
    single = {b[0]: a[0] for b, a in groups if len(b) == len(a) == 1}
    found = []
    for s in given:
        whole = [(b, a) for b, a in groups if s.axes.issuperset(b)]
        touched = {a for b, _ in groups for a in b if a in s.axes}
        if touched != {a for b, _ in whole for a in b} or (s.rows is not None and s.rows[0] not in single):
            continue
        rows = None if s.rows is None else (single[s.rows[0]], *s.rows[1:])
        found.append(replace(s, axes=frozenset(a for _, after in whole for a in after), rows=rows))
    return tuple(found)
