"""`x[...]` on a traced value: ints, slices (steps, negative, symbolic bounds), Ellipsis, None, integer
arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..ir.build import Ref
from ..ir.dims import Dim, divide, identical, product
from ..ir.op import OPS
from ..ir.types import TypeRuleError
from .apply import operand, public, run
from .functional import dtype_of, reshape, take, where


@public
def index(x: Ref, key: Any) -> Any:
    """NumPy's `x[key]`. Integer arrays may index several neighbouring axes together (`p[arange(n), target]`).

    Raises IndexError for an index out of range, TypeError for a boolean mask (the size of its result would
    depend on data) and for a traced value as the bound of a slice.
    """
    entries = _full_key(key, x.ndim)
    start: list[Any] = []
    size: list[Any] = []
    step: list[int] = []
    shape: list[Any] = []  # after the slice: without axes taken at an int, with new axes
    arrays: list[tuple[int, int, Any]] = []  # (axis in the key, axis of `shape`, the index array)
    ints: list[int] = []
    for entry in entries:
        if entry is None:
            shape.append(1)
            continue
        axis = len(start)
        n = x.shape[axis]
        if isinstance(entry, slice):
            span = _span(entry, n)
            shape.append(span[1])
        elif isinstance(entry, (int, np.integer, Dim)) and not isinstance(entry, bool):
            span = (_position(entry, n, axis), 1, 1)
            ints.append(axis)
        else:
            arrays.append((axis, len(shape), _integers(entry, axis)))
            span = (0, n, 1)
            shape.append(n)
        for part, values in zip(span, (start, size, step), strict=True):
            values.append(part)
    if any(map(_changes, start, size, step, x.shape)):
        x = run(OPS["slice"], x, start=tuple(start), size=tuple(size), step=tuple(step))
    if len(shape) != len(size) or len(ints) > 0:
        x = reshape(x, tuple(shape))
    return _gather(x, arrays, ints) if arrays else x


def _full_key(key: Any, ndim: int) -> list[Any]:
    """One entry for every axis (None beside them): the ellipsis written out."""
    key = list(key) if isinstance(key, tuple) else [key]
    used = sum(k is not None and k is not Ellipsis for k in key)
    if used > ndim:
        raise IndexError(f"too many indices: {used} for an array of {ndim} dimensions")
    dots = [i for i, k in enumerate(key) if k is Ellipsis]
    if len(dots) > 1:
        raise IndexError("an index has at most one '...'")
    at = dots[0] if dots else len(key)
    return [*key[:at], *[slice(None)] * (ndim - used), *key[at + 1 :]]


def _changes(start: Any, size: Any, step: Any, n: Any) -> bool:
    return not (identical(start, 0) and identical(size, n) and step == 1)


def _position(i: Any, n: Any, axis: int) -> Any:
    i = i if isinstance(i, Dim) else int(i)
    at = n + i if i < 0 else i
    if at < 0 or at >= n:
        raise IndexError(f"index {i} is out of range for axis {axis} of size {n}")
    return at


def _span(entry: slice, n: Any) -> tuple[Any, Any, int]:
    """start, size and step of a slice of n elements, clipped as NumPy does. A comparison of Dims records a
    guard."""
    step = 1 if entry.step is None else int(entry.step)
    if step == 0:
        raise TypeRuleError("the step of a slice is not 0")
    first, last = (0, n) if step > 0 else (n - 1, -1)
    low, high = (0, n) if step > 0 else (-1, n - 1)
    start = first if entry.start is None else _clipped(entry.start, n, low, high)
    stop = last if entry.stop is None else _clipped(entry.stop, n, low, high)
    length = stop - start if step > 0 else start - stop
    if length < 0:
        return 0, 0, step
    stride = abs(step)
    whole = divide(length, stride)
    return start, -(-length // stride) if whole is None else whole, step


def _clipped(bound: Any, n: Any, low: Any, high: Any) -> Any:
    bound = operand(bound) if not isinstance(bound, Dim) else bound
    if isinstance(bound, Ref):
        raise TypeRuleError("a traced value cannot bound a slice: the size of the result would depend on data")
    bound = bound if isinstance(bound, Dim) else int(bound)
    if isinstance(bound, int) and bound < 0:
        bound = n + bound
    if bound > high:
        return high
    return low if bound < low else bound


def _integers(entry: Any, axis: int) -> Any:
    entry = operand(entry)
    if not isinstance(entry, (Ref, np.ndarray)):
        kind = type(entry).__name__
        raise TypeRuleError(f"axis {axis} is indexed by {kind}; it takes ints, slices, None, ... and integer arrays")
    kind = dtype_of(entry)
    if kind == "bool":
        raise TypeRuleError(
            "a boolean mask selects a number of elements that depends on data; write gt.where(mask, x, 0)"
        )
    if kind not in ("i32", "i64"):
        raise TypeRuleError(f"indices are integers, got {kind}; write index.astype('i64')")
    return entry


def _gather(x: Any, arrays: list[tuple[int, int, Any]], ints: list[int]) -> Any:
    """Takes rows at index arrays; several of them on neighbouring axes count as one index into these axes
    together."""
    used = sorted([axis for axis, _, _ in arrays] + ints)
    if used != list(range(used[0], used[-1] + 1)):
        raise TypeRuleError("index arrays stand on neighbouring axes; write x.transpose(...) first")
    first = arrays[0][1]
    if len(arrays) == 1:
        return take(x, arrays[0][2], first)
    sizes = x.shape[first : first + len(arrays)]
    flat: Any = 0
    for (_, _, entry), n in zip(arrays, sizes, strict=True):
        flat = flat * n + where(entry < 0, entry + n, entry)
    rest = x.shape[first + len(arrays) :]
    return take(reshape(x, (*x.shape[:first], product(sizes), *rest)), flat, first)
