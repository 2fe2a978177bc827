"""Convolutions as calls of the block kernel of runtime/kernels/conv.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..ir.dims import DimLike, divide, product
from ..ir.graph import Node, Value
from ..ir.tape import Instr, Operand, View, contiguous
from .layout import is_contiguous

if TYPE_CHECKING:
    from .lower import Lowering

AXES = 2  # of the kernel; a convolution over one has a leading axis of size 1
# Memory of each thread's own, in elements: the patches of a box of windows and what else its product needs (a megabyte
# of float32, half of a second-level cache; figures in docs/decisions.md), what its windows see of one channel, and what
# is touched beyond the end of either, because runs are copied in whole vectors.
SCRATCH, LINES, BEYOND = 1 << 18, 1 << 16, 16


def conv(to: Lowering, node: Node) -> None:
    x, w = (to.operand(o) for o in node.inputs)
    shape = node.output.type.shape
    # outputs before images: the product of many images is then written where it stays
    strides = contiguous((shape[1], shape[0], *shape[2:]))
    y = View(to.dense(node.output).buffer, 0, (strides[1], strides[0], *strides[2:]))
    instr = _instr(to, node, (x, w, node.output), (_without_gaps(to, x, 1), to.contiguous_view(w), y), "rrw", (0, 1, 6))
    to.views[node.output] = y
    to.steps.append(instr)


def conv_input(to: Lowering, node: Node) -> None:
    y, w = (to.operand(o) for o in node.inputs)
    x = to.dense(node.output)
    views = (x, to.contiguous_view(w), _without_gaps(to, y, AXES))
    instr = _instr(to, node, (node.output, w, y), views, "wrr", (0, 1, 2))
    to.views[node.output] = x
    to.steps.append(instr)


def conv_weight(to: Lowering, node: Node) -> None:
    """Threads share the images, or the rows of windows, each with a sum of its own."""
    x, y = (to.operand(o) for o in node.inputs)
    part = to.part(node.output)
    views = (_without_gaps(to, x, 1), part, _without_gaps(to, y, AXES))
    to.steps.append(_instr(to, node, (x, node.output, y), views, "rwr", (0, 6)))
    to.combine(node, part)


WHAT = {"conv": 0, "conv_input": 1, "conv_weight": 2}


def _without_gaps(to: Lowering, value: Value, axes: int) -> View:
    """Where `value` lies, so many of its last axes row by row: a copy, unless they do already."""
    view, first = to.view(value), max(2, value.type.ndim - axes)
    return view if is_contiguous(view.strides[first:], value.type.shape[first:]) else to.copied(value)


def _instr(
    to: Lowering,
    node: Node,
    values: tuple[Value, Value, Value],
    views: tuple[View, View, View],
    modes: str,
    splits: tuple[int, ...],
) -> Instr:
    """The call for x, weight and y, over the axes (images, groups, channels, 2 sizes of x, outputs, 2 of y, 2 of the
    weight): channels and outputs are those of a group."""
    (xs, ws, ys), attrs = (v.type.shape for v in values), node.attrs
    outputs = divide(ws[0], attrs["groups"])
    assert outputs is not None, node
    axes = (xs[0], attrs["groups"], ws[1], *_two(xs[2:], 1), outputs, *_two(ys[2:], 1), *_two(ws[2:], 1))
    x, w, y, none = views[0].strides, contiguous(ws), views[2].strides, (0,) * AXES
    strides = (
        (x[0], ws[1] * x[1], x[1], *_two(x[2:], 0), 0, *none, *none),
        (0, outputs * w[0], w[1], *none, w[0], *none, *_two(w[2:], 0)),
        (y[0], outputs * y[1], 0, *none, y[1], *_two(y[2:], 0), *none),
    )
    dtype, rows = node.output.type.dtype, product(ws[1:]) + outputs
    spans = [d * (k - 1) + 1 for k, d in zip(ws[2:], attrs["dilation"], strict=True)]
    wide = [d + a + b for d, (a, b) in zip(xs[2:], attrs["padding"], strict=True)]
    scratch = _own(to, "scratch", dtype, rows * ys[0] * product(ys[2:]), SCRATCH + rows)
    lines = _own(to, "lines", dtype, ys[0] * product(wide), LINES + product(spans))
    operands = [Operand(View(v.buffer, v.offset, s), m) for v, s, m in zip(views, strides, modes, strict=True)]
    operands += [Operand(View(buffer, 0, (0,) * len(axes)), "rw") for buffer in (scratch, lines)]
    before = [a for a, _ in attrs["padding"]]
    geometry = (*_two(attrs["stride"], 1), *_two(attrs["dilation"], 1), *_two(before, 0))
    params = (WHAT[node.op], *geometry, SCRATCH, LINES)
    return Instr(f"conv_{dtype}", axes, tuple(operands), splits, params, node.location, node.op)


def _own(to: Lowering, name: str, dtype: str, needed: DimLike, most: DimLike) -> int:
    """Memory of each thread's own: what is needed, but no more than `most`."""
    known = isinstance(needed, int) and isinstance(most, int)
    return to.buffer(name, "partial", dtype, (min(needed, most) if known else most) + BEYOND)


def _two(values: Sequence[DimLike], fill: int) -> tuple[DimLike, ...]:
    return (fill,) * (AXES - len(values)) + tuple(values)
