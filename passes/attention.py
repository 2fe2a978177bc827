"""Attention found in what users write out, and its instructions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..ir.build import Builder
from ..ir.dims import DimLike, DimScope, identical, same_shape
from ..ir.graph import Graph, Literal, Node, Operand, Value
from ..ir.op import OPS
from ..ir.tape import Instr, View
from ..ir.tape import Operand as TapeOperand
from ..ir.types import is_one
from .layout import is_contiguous
from .rewrite import copy_node, rebuild
from .triangle import ABOVE, BELOW, DIAGONAL, UNKNOWN, Regions, triangles

if TYPE_CHECKING:
    from .lower import Lowering

HIDDEN = -1e9  # a score of at most this is that of a position which is masked away
# Positions from which it pays: a step of the L size (256) takes 0.95 of before, of M (64) the same, of S (32) 1.03.
LONG = 96
BLOCK = 96  # rows of scores at a time, eight tiles of twelve
WIDEST = 32  # columns of a panel


# finding it ---------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Found:
    """The operands of an attention: those of the products, the keys as they stand there, turned."""

    q: Value
    turned_k: Value
    v: Value
    scale: float
    causal: bool


def find_attention(graph: Graph) -> Graph:
    """Replaces softmax(q @ k^T * scale) @ v, with or without a causal mask, by the op that keeps no probabilities.

    The scale may be a factor, a divisor or left out, the mask a `where` or a term, on whichever side of a comparison.
    Nobody else may read what is no longer there, and sequences must be long enough.
    """
    if not any(n.op == "softmax" for n in graph.nodes):
        return graph
    search = _Search(graph)
    found = {node: match for node in graph.nodes if (match := search.match(node)) is not None}
    if not found:
        return graph
    new: dict[Value, Any] = {}

    def emit(builder: Builder, node: Node, args: list[Any]) -> Any:
        new.update((o, a) for o, a in zip(node.inputs, args, strict=True) if isinstance(o, Value))
        match = found.get(node)
        if match is None:
            return copy_node(builder, node, args)
        turned = new[match.turned_k]
        axes = (*range(turned.ndim - 2), turned.ndim - 1, turned.ndim - 2)
        k = OPS["permute"](turned, axes=axes)
        operands = (new[match.q], k, new[match.v])
        return OPS["attention"](*operands, scale=match.scale, causal=match.causal)[0]

    return rebuild(graph, emit)


class _Search:
    def __init__(self, graph: Graph) -> None:
        self.producer, self.uses = graph.producers(), graph.uses()
        self.results = {v for v in graph.results() if isinstance(v, Value)}
        self.regions = triangles(graph).regions
        self.sizes = DimScope(dict(graph.symbols))

    def made_by(self, operand: Operand, *ops: str) -> Node | None:
        """The node of one of these ops whose only reader stands here."""
        node = self.producer.get(operand) if isinstance(operand, Value) else None
        if node is None or node.op not in ops or len(self.uses[node.output]) != 1 or node.output in self.results:
            return None
        return node

    def match(self, node: Node) -> _Found | None:
        weights = self.made_by(node.inputs[0], "softmax") if node.op == "matmul" else None
        v = node.inputs[1] if weights is not None else None
        if weights is None or not isinstance(v, Value) or weights.attrs["axis"] != weights.output.type.ndim - 1:
            return None
        scores, causal = self.unmasked(weights.inputs[0])
        scaled = self.made_by(scores, "mul", "div")
        scale = 1.0
        if scaled is not None:
            number = next((o.value for o in scaled.inputs if isinstance(o, Literal)), None)
            if number is None or (scaled.op == "div" and isinstance(scaled.inputs[0], Literal)) or number == 0:
                return None
            scores = next(o for o in scaled.inputs if isinstance(o, Value))
            scale = float(number) if scaled.op == "mul" else 1.0 / float(number)
        product = self.made_by(scores, "matmul")
        if product is None:
            return None
        q, k = product.inputs
        if not isinstance(q, Value) or not isinstance(k, Value):
            return None
        if not same_shape(product.output.type.shape, weights.output.type.shape) or not self.long(k.type.shape[-1]):
            return None
        shapes = [x.type.shape for x in (q, k, v)]
        fits = all(len(s) == len(shapes[0]) >= 2 and same_shape(s[:-2], shapes[0][:-2]) for s in shapes)
        return _Found(q, k, v, scale, causal) if fits else None

    def long(self, positions: DimLike) -> bool:
        """Whether there are many positions, for a symbol as far as the trace has seen it."""
        if not isinstance(positions, int):
            positions = self.sizes.hint(positions) if self.sizes.has_hint(positions) else 0
        return positions >= LONG

    def unmasked(self, scores: Operand) -> tuple[Operand, bool]:
        """Scores without their causal mask, and whether they had one."""
        masked = self.made_by(scores, "where", "add")
        if masked is None or not _hides(self.regions.get(masked.output, UNKNOWN), None):
            return scores, False
        if masked.op == "add":
            for mask, rest in (masked.inputs, masked.inputs[::-1]):
                if isinstance(mask, Value) and _hides(self.regions.get(mask, UNKNOWN), 0):
                    return rest, True
            return scores, False
        assert isinstance(masked.inputs[0], Value)
        chosen = self.regions.get(masked.inputs[0], UNKNOWN)
        first = chosen[BELOW] is True and chosen[DIAGONAL] is True
        return masked.inputs[1 if first else 2], True


def _hides(known: Regions, elsewhere: float | None) -> bool:
    """Whether the positions after a row's own are masked away, and the others are what is said, or anything."""
    above = known[ABOVE]
    return above is not None and above <= HIDDEN and known[DIAGONAL] == known[BELOW] == elsewhere


# its instructions ---------------------------------------------------------------------------------------------------
def attention(to: Lowering, node: Node) -> None:
    _, k, v = operands = [to.operand(o) for o in node.inputs]
    memory = _scratch(k.type.shape[-2], k.type.shape[-1], v.type.shape[-1], forward=True)
    _emit(to, node, operands, "qkvol", memory)


def attention_grad(to: Lowering, node: Node) -> None:
    _, k, v, *_ = operands = [to.operand(o) for o in node.inputs]
    memory = _scratch(k.type.shape[-2], k.type.shape[-1], v.type.shape[-1], forward=False)
    _emit(to, node, operands, "qkvlloqkv", memory)


# the axes that a kind of operand has of (t, s, d, e)
AXES = {"q": (0, 2), "k": (1, 2), "v": (1, 3), "o": (0, 3), "l": (0,)}


def _emit(to: Lowering, node: Node, operands: Sequence[Value], kinds: str, memory: DimLike) -> None:
    values = [*operands, *node.outputs]
    batch = operands[0].type.shape[:-2]
    views = [_rows(to, x) for x in operands]
    for out in node.outputs:
        to.views[out] = to.placed(out)
        if not _unit(to.views[out], out):
            to.views[out] = to.dense(out)
        views.append(to.views[out])
    merged = _merged(batch, views)
    if len(merged) > 2:  # with all dense they are one
        for i, value in enumerate(values):
            if not is_contiguous(views[i].strides, value.type.shape):
                views[i] = to.copied(value) if i < len(operands) else to.dense(value)
                if i >= len(operands):
                    to.views[value] = views[i]
        merged = _merged(batch, views)
    merged = [(1, (0,) * len(views))] * (2 - len(merged)) + merged
    q, k, v = (x.type.shape for x in operands[:3])
    axes = (*(size for size, _ in merged), q[-2], k[-2], q[-1], v[-1])
    placed = []
    for number, (view, kind) in enumerate(zip(views, kinds, strict=True)):
        own: list[DimLike] = [0] * 4
        for axis, stride in zip(AXES[kind], view.strides[len(batch) :], strict=True):
            own[axis] = stride
        if kind != "l":
            own[AXES[kind][1]] = 1
        strides = (*(steps[number] for _, steps in merged), *own)
        mode = "r" if number < len(operands) else "w"
        placed.append(TapeOperand(View(view.buffer, view.offset, strides), mode))
    dtype = operands[0].type.dtype
    scratch = to.buffer("scores", "partial", dtype, memory)
    placed.append(TapeOperand(View(scratch, 0, (0,) * len(axes)), "rw"))
    params = (float(node.attrs["scale"]), int(node.attrs["causal"]), BLOCK)
    to.steps.append(Instr(f"{node.op}_{dtype}", axes, tuple(placed), (0, 1), params, node.location, node.op))


def _rows(to: Lowering, x: Value) -> View:
    """Where x lies, with the elements of a row side by side."""
    view = to.view(x)
    return view if _unit(view, x) else to.copied(x)


def _unit(view: View, x: Value) -> bool:
    return x.type.ndim == 0 or is_one(x.type.shape[-1]) or identical(view.strides[-1], 1)


def _merged(batch: Sequence[DimLike], views: Sequence[View]) -> list[tuple[DimLike, tuple[DimLike, ...]]]:
    """The batch axes with more than one entry, (size, step of every operand); those that step as one are one."""
    axes: list[tuple[DimLike, tuple[DimLike, ...]]] = []
    for axis, size in enumerate(batch):
        steps = tuple(v.strides[axis] for v in views)
        if is_one(size):
            continue
        if axes and all(identical(a, b * size) for a, b in zip(axes[-1][1], steps, strict=True)):
            axes[-1] = (axes[-1][0] * size, steps)
        else:
            axes.append((size, steps))
    return axes


def _scratch(s: DimLike, d: DimLike, e: DimLike, forward: bool) -> DimLike:
    """Elements of a thread's own memory, see runtime/kernels/attention.py: linear in the number of positions."""
    wide, wide_d, wide_e = s + WIDEST - 1, d + WIDEST - 1, e + WIDEST - 1
    if forward:
        return wide * d + wide_e * s + BLOCK * (wide + 1)
    return wide * (d + e) + wide_d * (s + BLOCK) + wide_e * BLOCK + 2 * BLOCK * wide
