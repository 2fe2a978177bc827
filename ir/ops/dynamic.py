"""Parts of an array whose place along one axis is known only when the program runs. A negative start counts from the end;
one with which the part would not lie inside is moved until it does, as in JAX: there is no error."""

from __future__ import annotations

import numpy as np

from ..dims import require_equal
from ..op import op
from ..types import TensorType, TypeRuleError
from .rules import need_axis
from .shape import full


def _need_start(x, start, size, axis):
    need_axis(x, axis)
    if start.ndim or start.weak or not start.is_integer:
        raise TypeRuleError(f"the start is an integer array without axes, got {start}; a number makes a slice")
    n = x.shape[axis]
    if isinstance(size, int) and (size < 0 or (isinstance(n, int) and size > n)):
        raise TypeRuleError(f"{size} elements do not fit into axis {axis} of {x}")


def _place(x, start, size, axis):
    """The slices of the part."""
    n = x.shape[axis]
    first = min(max(int(start) + n if start < 0 else int(start), 0), n - size)
    return tuple(slice(first, first + size) if i == axis else slice(None) for i in range(x.ndim))


@op
class dynamic_slice:
    """`size` elements along an axis from a start that the program computes"""
    kind = "kernel"
    def infer(x, start, *, size, axis):
        _need_start(x, start, size, axis)
        return TensorType(x.dtype, tuple(size if i == axis else d for i, d in enumerate(x.shape)))
    def ref(x, start, *, size, axis): return x[_place(x, start, size, axis)]
    def vjp(g, out, x, start, *, size, axis):
        zeros = full.like(g, shape=x.shape, value=0.0, dtype=g.type.dtype)
        return dynamic_update_slice(zeros, g, start, axis=axis), None


@op
class dynamic_update_slice:
    """x with `update` in the place of as many elements along an axis, from a start that the program computes"""
    kind = "kernel"
    def infer(x, update, start, *, axis):
        need_axis(x, axis)
        beside = zip(x.shape, update.shape, strict=False)
        if x.dtype != update.dtype or x.ndim != update.ndim or not all(
            i == axis or require_equal(a, b) for i, (a, b) in enumerate(beside)
        ):
            raise TypeRuleError(f"x {x} and its update {update} may differ in the size of axis {axis} only")
        _need_start(x, start, update.shape[axis], axis)
        return TensorType(x.dtype, x.shape)
    def ref(x, update, start, *, axis):
        out = np.array(x)
        out[_place(x, start, update.shape[axis], axis)] = update
        return out
    def vjp(g, out, x, update, start, *, axis):
        zeros = full.like(g, shape=update.shape, value=0.0, dtype=g.type.dtype)
        return (
            dynamic_update_slice(g, zeros, start, axis=axis),
            dynamic_slice(g, start, size=update.shape[axis], axis=axis),
            None,
        )
