"""The op namespace: elements arranged anew (padding, turning, repeating, diagonals). NumPy's names, argument orders and
defaults; PyTorch's where NumPy has no function."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from ..ir.build import Ref
from ..ir.dims import Dim, identical
from ..ir.op import OPS
from ..ir.types import TypeRuleError, broadcast, normalize_axes, normalize_axis
from .apply import public, run, type_of_operand, value
from .functional import (
    Axis,
    broadcast_to,
    concatenate,
    dtype_of,
    expand_dims,
    moveaxis,
    part,
    ravel,
    reshape,
    squeeze,
)
from .indexing import index, take

# around and along -----------------------------------------------------------------------------------------------------
PAD_MODES = ("constant", "edge", "reflect", "symmetric", "wrap")


@public
def pad(x: Any, pad_width: Any, mode: str = "constant", constant_values: float = 0) -> Any:
    """x with elements around it, as np.pad: `pad_width` is (before, after) for each axis, one such pair, or one number,
    for all. mode:

    constant    `constant_values`, one number
    edge        the outermost element
    reflect     mirrored at the outermost element; symmetric: behind it, so that it appears twice; wrap: from the other
                end. Not more elements than x has (for reflect: but one); NumPy would go round several times.
    """
    x = value(x)
    if mode not in PAD_MODES:
        raise TypeRuleError(f"mode is one of {', '.join(PAD_MODES)}, not {mode!r}")
    widths = _pairs(pad_width, x.ndim)
    if mode == "constant":
        shape = tuple(before + d + after for (before, after), d in zip(widths, x.shape, strict=True))
        start = tuple(before for before, _ in widths)
        kind = type_of_operand(x)
        number = {"bool": bool}.get(kind.dtype, float if kind.is_float else int)(constant_values)
        attrs = {} if number == 0 else {"value": number}
        return run(OPS["unslice"], x, shape=shape, start=start, step=(1,) * x.ndim, **attrs)
    for axis, (before, after) in enumerate(widths):
        if not (identical(before, 0) and identical(after, 0)):
            x = _padded(x, axis, before, after, mode)
    return x


def _pairs(pad_width: Any, ndim: int) -> list[tuple[Any, Any]]:
    """(before, after) for every axis."""
    single = isinstance(pad_width, (int, np.integer, Dim))
    given = [pad_width] if single else list(pad_width)
    if given and not single and all(isinstance(p, (int, np.integer, Dim)) for p in given):
        given = [tuple(given)] if len(given) == 2 else given  # one pair for all axes
    pairs = [(p, p) if isinstance(p, (int, np.integer, Dim)) else tuple(p) for p in given]
    pairs = pairs * ndim if len(pairs) == 1 else pairs
    if len(pairs) != ndim or any(len(p) != 2 for p in pairs):
        raise TypeRuleError(f"needs (before, after) for each of the {ndim} axes, got {pad_width}")
    if any(w < 0 for p in pairs for w in p):
        raise TypeRuleError(f"a width of padding is not negative, got {pad_width}; write x[1:] to cut")
    return [(a if isinstance(a, Dim) else int(a), b if isinstance(b, Dim) else int(b)) for a, b in pairs]


def _padded(x: Any, axis: int, before: Any, after: Any, mode: str) -> Any:
    n = x.shape[axis]
    if identical(n, 0):
        raise TypeRuleError(f"axis {axis} has no elements to pad with; mode 'constant' needs none")
    limit = n - 1 if mode == "reflect" else n
    if mode != "edge" and (before > limit or after > limit):
        raise TypeRuleError(f"{mode} takes at most {limit} elements at an end of axis {axis}, got ({before}, {after})")
    if mode == "edge":
        size = [tuple(w if i == axis else d for i, d in enumerate(x.shape)) for w in (before, after)]
        parts = [broadcast_to(part(x, axis, 0, 1), size[0]), x, broadcast_to(part(x, axis, n - 1, n), size[1])]
    elif mode == "wrap":
        parts = [part(x, axis, n - before, n), x, part(x, axis, 0, after)]
    else:
        skip = n - limit  # the outermost element stands once or twice
        parts = [
            flip(part(x, axis, skip, skip + before), axis),
            x,
            flip(part(x, axis, n - skip - after, n - skip), axis),
        ]
    return concatenate([p for p, w in zip(parts, (before, n, after), strict=True) if not identical(w, 0)], axis)


@public
def flip(x: Any, axis: Axis = None) -> Any:
    """x with the order of its elements along `axis` (an int, several, or None for all) reversed."""
    x = value(x)
    axes = normalize_axes(axis, x.ndim)
    start = tuple(d - 1 if i in axes else 0 for i, d in enumerate(x.shape))
    step = tuple(-1 if i in axes else 1 for i in range(x.ndim))
    return run(OPS["slice"], x, start=start, size=tuple(x.shape), step=step)


@public
def roll(x: Any, shift: Any, axis: Axis = None) -> Any:
    """x with its elements moved on by `shift` places along `axis`; those that leave at the end come in at the start.
    Several shifts go with several axes; without an axis x is rolled as if it were flat. A shift may be traced."""
    x = value(x)
    if axis is None:
        return reshape(roll(ravel(x), shift, 0), tuple(x.shape))
    axes = (axis,) if isinstance(axis, (int, np.integer)) else tuple(axis)
    single = isinstance(shift, (int, np.integer, Dim, Ref))
    shifts = (shift,) * len(axes) if single else tuple(shift)
    if len(axes) != len(shifts):
        raise TypeRuleError(f"{len(shifts)} shifts for {len(axes)} axes")
    for by, one in zip(shifts, axes, strict=True):
        x = _rolled(x, by, normalize_axis(one, x.ndim))
    return x


def _rolled(x: Any, shift: Any, axis: int) -> Any:
    size = x.shape[axis]
    if isinstance(shift, Ref):
        place = run(OPS["iota"], shape=(size,), axis=0, dtype="i64")
        return take(x, (place - shift) % size, axis)
    if identical(size, 0) or identical(shift, 0):
        return x
    cut = size - shift if 0 < shift < size else -shift % size
    return concatenate([part(x, axis, cut, size), part(x, axis, 0, cut)], axis)


# repeating ------------------------------------------------------------------------------------------------------------
@public
def tile(x: Any, reps: Any) -> Any:
    """x repeated as a whole: `reps` times along each axis (an int: along the last)."""
    x = value(x)
    reps = (reps,) if isinstance(reps, (int, np.integer, Dim)) else tuple(reps)
    rank = max(len(reps), x.ndim)
    shape = (1,) * (rank - x.ndim) + tuple(x.shape)
    reps = (1,) * (rank - len(reps)) + reps
    wide = tuple(n for r, d in zip(reps, shape, strict=True) for n in (r, d))
    pairs = tuple(n for d in shape for n in (1, d))
    return reshape(broadcast_to(reshape(x, pairs), wide), tuple(r * d for r, d in zip(reps, shape, strict=True)))


@public
def repeat(x: Any, repeats: Any, axis: int | None = None) -> Any:
    """Each element `repeats` times in a row along `axis` (None: of the flattened x). An array gives a number for each;
    it must be known when the program is traced."""
    x = value(x)
    if axis is None:
        x, axis = ravel(x), 0
    axis = normalize_axis(axis, x.ndim)
    if isinstance(repeats, (int, np.integer, Dim)):
        wide = expand_dims(x, axis + 1)
        shape = tuple(repeats if i == axis + 1 else d for i, d in enumerate(wide.shape))
        sizes = tuple(d * repeats if i == axis else d for i, d in enumerate(x.shape))
        return reshape(broadcast_to(wide, shape), sizes)
    if isinstance(repeats, Ref):
        raise TypeRuleError("repeats decide the size of the result, which cannot depend on data: they are not traced")
    counts = np.asarray(repeats)
    if counts.shape not in ((1,), (int(x.shape[axis]),)):
        raise TypeRuleError(f"{counts.size} repeats for the {x.shape[axis]} elements of axis {axis}")
    return take(x, np.repeat(np.arange(int(x.shape[axis])), counts), axis)


@public
def repeat_interleave(x: Any, repeats: Any, dim: int | None = None) -> Any:
    """PyTorch's name for `repeat`."""
    return repeat(x, repeats, dim)


# parts ----------------------------------------------------------------------------------------------------------------
@public
def split_with_sizes(x: Any, split_sizes: Sequence[Any], dim: int = 0) -> list[Any]:
    """Parts of the given sizes along `dim`, which they must fill (PyTorch)."""
    x = value(x)
    dim = normalize_axis(dim, x.ndim)
    cuts: list[Any] = [0]
    for size in split_sizes:
        cuts.append(cuts[-1] + size)
    if not (identical(cuts[-1], x.shape[dim]) or cuts[-1] == x.shape[dim]):
        raise TypeRuleError(f"sizes {tuple(split_sizes)} make {cuts[-1]}, axis {dim} has {x.shape[dim]}")
    return [part(x, dim, a, b) for a, b in pairwise(cuts)]


@public
def unstack(x: Any, axis: int = 0) -> tuple[Any, ...]:
    """The parts of x along `axis`, each without it: the reverse of stack. A symbolic size is pinned."""
    x = value(x)
    axis = normalize_axis(axis, x.ndim)
    return tuple(squeeze(part(x, axis, i, i + 1), axis) for i in range(int(x.shape[axis])))


@public
def diagonal(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    """The elements at [i, i + offset] of two axes, on a new last axis."""
    x = value(x)
    axis1, axis2 = normalize_axis(axis1, x.ndim), normalize_axis(axis2, x.ndim)
    if axis1 == axis2:
        raise TypeRuleError(f"a diagonal lies in two axes, both are {axis1}")
    x = moveaxis(moveaxis(x, axis1, -1), axis2 - (axis2 > axis1), -1)
    *outer, rows, columns = x.shape
    row, column = (0, offset) if offset >= 0 else (-offset, 0)
    if isinstance(rows, int) and isinstance(columns, int):
        length = max(0, min(rows - row, columns - column))
        flat = reshape(x, (*outer, rows * columns))
        first = row * columns + column if length else 0
        start, size = (0,) * len(outer), tuple(outer)
        step = (1,) * len(outer)
        return run(OPS["slice"], flat, start=(*start, first), size=(*size, length), step=(*step, columns + 1))
    length = rows - row if rows - row <= columns - column else columns - column
    place = run(OPS["iota"], shape=(length,), axis=0, dtype="i64")
    return index(x, (..., place + row, place + column))


@public
def diag(x: Any, k: int = 0) -> Any:
    """The k-th diagonal of a matrix, or a square matrix with the elements of a 1-d x on it and zeros beside."""
    x = value(x)
    if x.ndim == 2:
        return diagonal(x, k)
    if x.ndim != 1:
        raise TypeRuleError(f"needs one or two dimensions, got {x.ndim}")
    n = x.shape[0] + abs(k)
    rows, columns = (run(OPS["iota"], shape=(n, n), axis=axis, dtype="i64") for axis in (0, 1))
    padded = pad(x, (max(k, 0), max(-k, 0)))
    return run(OPS["where"], run(OPS["equal"], columns, rows + k), padded, 0)


@public
def diff(x: Any, n: int = 1, axis: int = -1) -> Any:
    """x[i + 1] - x[i] along `axis`, n times over; of bools: whether they differ."""
    x = value(x)
    axis = normalize_axis(axis, x.ndim)
    for _ in range(n):
        size = x.shape[axis]
        if identical(size, 0):
            return x
        after, before = part(x, axis, 1, size), part(x, axis, 0, size - 1)
        x = run(OPS["not_equal" if dtype_of(x) == "bool" else "sub"], after, before)
    return x


@public
def meshgrid(*arrays: Any, indexing: str = "xy") -> tuple[Any, ...]:
    """Coordinate arrays of a grid from 1-d coordinates: with "ij" of shape (n0, n1, ...), with "xy" (n1, n0, ...)."""
    if indexing not in ("xy", "ij"):
        raise TypeRuleError(f'indexing is "xy" or "ij", not {indexing!r}')
    values = [reshape(value(a), (-1,)) for a in arrays]
    rank = len(values)
    places = list(range(rank))
    if indexing == "xy" and rank > 1:
        places[:2] = [1, 0]
    sizes = [values[places.index(i)].shape[0] for i in range(rank)]
    shape = tuple(sizes)
    return tuple(
        broadcast_to(reshape(v, tuple(n if i == at else 1 for i, n in enumerate(sizes))), shape)
        for v, at in zip(values, places, strict=True)
    )


@public
def broadcast_arrays(*arrays: Any) -> list[Any]:
    """All arrays in the shape that they broadcast to together."""
    values = [value(a) for a in arrays]
    shape = broadcast([tuple(v.shape) for v in values])
    return [broadcast_to(v, shape) for v in values]


# of matrices ---------------------------------------------------------------------------------------------------------
def matrix_trace(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    """The sum of a diagonal: np.trace. (`gt.trace` records programs.)"""
    found = diagonal(x, offset, axis1, axis2)
    return run(OPS["sum"], found, axes=(found.ndim - 1,), keepdims=False)


__all__ = [
    "broadcast_arrays", "diag", "diagonal", "diff", "flip", "meshgrid", "pad", "repeat", "repeat_interleave", "roll",
    "split_with_sizes", "tile", "unstack",
]  # fmt: skip
