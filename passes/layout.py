"""Where the elements of a value lie: views as strides, and the one place that decides when a copy is needed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from ..ir.dims import DimLike, Shape, identical, product
from ..ir.graph import Node, Value
from ..ir.tape import View, contiguous
from ..ir.types import is_one


def strided_view(node: Node, source: View) -> View | None:
    """The view that a view op makes of its operand's, or None where strides cannot express it."""
    operand = node.inputs[0]
    assert isinstance(operand, Value)
    shape, attrs = operand.type.shape, node.attrs
    if node.op == "barrier":
        return source
    if node.op == "permute":
        return View(source.buffer, source.offset, tuple(source.strides[a] for a in attrs["axes"]))
    if node.op == "slice":
        offset = source.offset
        for start, stride in zip(attrs["start"], source.strides, strict=True):
            offset = offset + start * stride
        steps = tuple(b * s for b, s in zip(attrs["step"], source.strides, strict=True))
        return View(source.buffer, offset, steps)
    if node.op == "broadcast_to":
        target = attrs["shape"]
        extra = len(target) - len(shape)
        strides: list[DimLike] = [0] * extra
        for i, stride in enumerate(source.strides):
            strides.append(0 if is_one(shape[i]) and not is_one(target[extra + i]) else stride)
        return View(source.buffer, source.offset, tuple(strides))
    if node.op == "reshape":
        found = reshape_strides(shape, source.strides, attrs["shape"])
        return None if found is None else View(source.buffer, source.offset, found)
    raise AssertionError(node.op)


def is_contiguous(strides: Sequence[DimLike], shape: Shape) -> bool:
    """Whether elements lie row by row without gaps; an axis of size 1 may have any stride."""
    return all(is_one(d) or identical(s, c) for d, s, c in zip(shape, strides, contiguous(shape), strict=True))


def reshape_strides(old: Shape, strides: Sequence[DimLike], new: Shape) -> tuple[DimLike, ...] | None:
    """Strides of `new` over the same memory, or None where a copy is needed (of what is dense: never). Sizes may be
    symbolic.

    Runs of old axes and runs of new axes with equal products are matched; within a run the old axes must step as one.
    """
    if is_contiguous(strides, old) or any(identical(d, 0) for d in old):
        return tuple(0 if is_one(d) else s for d, s in zip(new, contiguous(new), strict=True))
    old_axes = [(d, s) for d, s in zip(old, strides, strict=True) if not is_one(d)]
    new_axes = [d for d in new if not is_one(d)]
    out: list[DimLike] = []
    i = j = 0
    while i < len(old_axes) or j < len(new_axes):
        i_end, j_end = i + 1, j + 1
        if i >= len(old_axes) or j >= len(new_axes):
            return None
        while not identical(a := product(d for d, _ in old_axes[i:i_end]), b := product(new_axes[j:j_end])):
            if j_end < len(new_axes) and (i_end >= len(old_axes) or _grows(b, a)):
                j_end += 1
            elif i_end < len(old_axes):
                i_end += 1
            else:
                return None
        run = old_axes[i:i_end]
        for (_, outer_stride), (size, inner_stride) in pairwise(run):
            if not identical(outer_stride, size * inner_stride):
                return None
        inner = run[-1][1]
        out += [step * inner for step in contiguous(tuple(new_axes[j:j_end]))]
        i, j = i_end, j_end
    steps = iter(out)
    return tuple(0 if is_one(d) else next(steps) for d in new)


def _grows(a: DimLike, b: DimLike) -> bool:
    """Whether the product `a` should take another factor to reach `b`: it divides it, as far as can be seen."""
    from ..ir.dims import divide

    if isinstance(a, int) and isinstance(b, int):
        return a < b
    return divide(b, a) is not None


def source_strides(node: Node, target: Sequence[DimLike]) -> tuple[DimLike, ...] | None:
    """The reverse of `strided_view`: strides for the operand of a permute or reshape under which the result has the
    strides `target`; None where there are none."""
    operand = node.inputs[0]
    assert isinstance(operand, Value)
    if node.op == "permute":
        out: list[DimLike] = [0] * operand.type.ndim
        for axis, stride in zip(node.attrs["axes"], target, strict=True):
            out[axis] = stride
        return tuple(out)
    if node.op == "reshape":
        return reshape_strides(node.output.type.shape, target, operand.type.shape)
    return None
