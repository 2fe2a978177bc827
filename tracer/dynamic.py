"""Parts of an array whose place is known only when the program runs: key/value caches, windows over a sequence."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..ir.build import Ref
from ..ir.dims import Dim, identical
from ..ir.op import OPS, _resolve
from ..ir.types import TypeRuleError, normalize_axis
from .apply import operand, public, run, value
from .functional import astype, broadcast_to, dtype_of, part
from .indexing import index


@public
def dynamic_slice(x: Any, start: Any, size: Any, axis: int | None = None) -> Any:
    """A part of x of a fixed size from a start that may be traced: one start and size for each axis, or, with `axis`,
    one number for that axis.

    A negative start counts from the end. As in JAX there is no error for one with which the part would not lie inside:
    it is moved until it does.
    """
    x = value(x)
    starts, sizes = _whole(x, start, size, axis)
    for i, (a, n) in enumerate(zip(starts, sizes, strict=True)):
        x = _windowed(x, a, n, i)
    return x


def _whole(x: Any, start: Any, size: Any, axis: int | None) -> tuple[list[Any], list[Any]]:
    """A start and a size for every axis."""
    if axis is not None:
        axis = normalize_axis(axis, x.ndim)
        starts: list[Any] = [0] * x.ndim
        sizes = list(x.shape)
        starts[axis], sizes[axis] = operand(start), size
    else:
        start = _resolve(start)
        parts = [index(start, i) for i in range(int(start.shape[0]))] if isinstance(start, Ref) else start
        starts, sizes = [operand(part) for part in parts], list(size)
    if len(starts) != x.ndim or len(sizes) != x.ndim:
        raise TypeRuleError(f"needs a start and a size for each of the {x.ndim} axes; or write axis=")
    for i, (n, d) in enumerate(zip(sizes, x.shape, strict=True)):
        if not identical(n, d) and (n > d or n < 0):
            raise TypeRuleError(f"{n} elements do not fit into axis {i} of size {d}")
    return starts, sizes


def _windowed(x: Any, start: Any, size: Any, axis: int) -> Any:
    """x from `start` along one axis."""
    n = x.shape[axis]
    if identical(size, n):
        return x  # whatever the start, only all of it lies inside
    if isinstance(start, (int, np.integer, Dim)):
        start = n + start if start < 0 else start
        start = 0 if start < 0 else n - size if start > n - size else start
        return part(x, axis, start, start + size)
    return run(OPS["dynamic_slice"], x, value(start), size=size, axis=axis)


@public
def dynamic_update_slice(x: Any, update: Any, start: Any, axis: int | None = None) -> Any:
    """x with `update` (of as many axes, none of them longer) in the place of the part of its size from a start that may
    be traced: one start for each axis, or, with `axis`, one for that axis. Starts as for `dynamic_slice`.

    The next value of a buffer, `self.cache = gt.dynamic_update_slice(self.cache, new, position, axis=1)`, is written
    where the old one lies if nothing needs that any more.
    """
    x, update = value(x), value(update)
    if update.ndim != x.ndim:
        raise TypeRuleError(f"the update has {update.ndim} axes, x has {x.ndim}")
    if axis is not None:
        size = update.shape[normalize_axis(axis, x.ndim)]
        update = broadcast_to(update, tuple(_whole(x, start, size, axis)[1]))
        starts, sizes = _whole(x, start, size, axis)
    else:
        starts, sizes = _whole(x, start, update.shape, None)
    axes = [i for i, (n, d) in enumerate(zip(sizes, x.shape, strict=True)) if not identical(n, d)]
    return _replaced(x, astype(update, dtype_of(x)), starts, axes)


def _replaced(x: Any, update: Any, starts: list[Any], axes: list[int]) -> Any:
    """`update` in its place along `axes`: within the part along the first of them, which is then put back."""
    if not axes:
        return update
    axis, rest = axes[0], axes[1:]
    size = update.shape[axis]
    if rest:
        update = _replaced(_windowed(x, starts[axis], size, axis), update, starts, rest)
    start = starts[axis]
    start = value(start if isinstance(start, (Ref, Dim)) else np.asarray(start))
    return run(OPS["dynamic_update_slice"], x, update, start, axis=axis)


__all__ = ["dynamic_slice", "dynamic_update_slice"]
