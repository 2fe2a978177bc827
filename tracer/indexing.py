"""`x[...]`: ints, slices (steps, negative, symbolic bounds), Ellipsis, None, integer arrays, masks that are known; and
the functions that read by index.

A key becomes a `Selection`: slices, reshapes, transposes and at most one `take`, all of them linear in x. Read forwards
they give x[key]; their derivatives, read backwards, put something in the place of x[key] (see update.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..ir.build import Ref
from ..ir.dims import Dim, divide, identical, product, quiet, require_equal, same_shape
from ..ir.op import OPS, Op
from ..ir.types import TensorType, TypeRuleError, broadcast, normalize_axis
from .apply import operand, public, run, type_of_operand, value
from .functional import broadcast_to, dtype_of


# a key --------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Step:
    """`op(x, *indices, **attrs)` on an x of type `before`."""

    op: Op
    before: TensorType
    indices: tuple[Any, ...]
    attrs: dict[str, Any]

    def forwards(self, x: Any) -> Any:
        return run(self.op, x, *self.indices, **self.attrs)

    def backwards(self, v: Any) -> Any:
        assert self.op.vjp is not None
        return self.op.vjp(v, None, self.before, *self.indices, **self.attrs)[0]


@dataclass
class Selection:
    """The steps from an array to a part of it, and the type that they have come to."""

    kind: TensorType
    steps: list[Step] = field(default_factory=list)

    def add(self, name: str, *indices: Any, **attrs: Any) -> None:
        op = OPS[name]
        with quiet():
            after = op.infer(self.kind, *map(type_of_operand, indices), **attrs)
        self.steps.append(Step(op, self.kind, indices, attrs))
        self.kind = TensorType(after.dtype, after.shape)

    def reshape(self, shape: tuple) -> None:
        if not same_shape(shape, self.kind.shape):
            self.add("reshape", shape=shape)

    def permute(self, axes: tuple[int, ...]) -> None:
        if axes != tuple(range(len(axes))):
            self.add("permute", axes=axes)


@public
def index(x: Any, key: Any) -> Any:
    """NumPy's `x[key]`; integer arrays are broadcast together, and their axes stand where NumPy puts them.

    Raises IndexError for an index out of range (for one that is only known when the program runs: then), TypeError for
    a mask that the program computes (the size of the result would depend on data) and for a traced value as the bound
    of a slice.
    """
    for step in selection(x, key).steps:
        x = step.forwards(x)
    return x


def selection(x: Any, key: Any) -> Selection:
    """The steps of `x[key]`."""
    found = Selection(TensorType(dtype_of(x), tuple(x.shape)))
    entries = _full_key(key, x.shape)
    several = any(_is_array(e) for e in entries)
    start: list[Any] = []
    size: list[Any] = []
    step: list[int] = []
    shape: list[Any] = []  # after the slice: without axes taken at an int, with new axes
    arrays: list[tuple[int, int, Any]] = []  # (axis of x, axis of `shape`, the index array)
    advanced: list[int] = []  # entries that NumPy counts among the index arrays
    for number, entry in enumerate(entries):
        if entry is None:
            shape.append(1)
            continue
        axis = len(start)
        n = x.shape[axis]
        if isinstance(entry, slice):
            span = _span(entry, n)
            shape.append(span[1])
        elif _is_array(entry):
            advanced.append(number)
            arrays.append((axis, len(shape), entry))
            span = (0, n, 1)
            shape.append(n)
        else:
            span = (_position(entry, n, axis), 1, 1)
            if several:
                advanced.append(number)
        for part, values in zip(span, (start, size, step), strict=True):
            values.append(part)
    if any(map(_changes, start, size, step, x.shape)):
        found.add("slice", start=tuple(start), size=tuple(size), step=tuple(step))
    found.reshape(tuple(shape))
    if arrays:
        _take(found, arrays, together=advanced[-1] - advanced[0] == len(advanced) - 1)
    return found


def _take(found: Selection, arrays: list[tuple[int, int, Any]], together: bool) -> None:
    """Reads at index arrays: several are one index into their axes, brought side by side and made one. The axes of the
    result stand there, or in front where the arrays are not `together` in the key."""
    axes = [axis for _, axis, _ in arrays]
    first, ndim = axes[0], len(found.kind.shape)
    where = arrays[0][2]
    if len(arrays) > 1:
        rest = [a for a in range(first, ndim) if a not in axes]
        found.permute((*range(first), *axes, *rest))
        sizes = found.kind.shape[first : first + len(axes)]
        where = _flat([(axis, n, entry) for (axis, _, entry), n in zip(arrays, sizes, strict=True)])
        shape = found.kind.shape
        found.reshape((*shape[:first], product(sizes), *shape[first + len(axes) :]))
    found.add("take", where, axis=first)
    if not together:
        inside = range(first, first + where.ndim)
        found.permute((*inside, *(a for a in range(len(found.kind.shape)) if a not in inside)))


def _flat(entries: list[tuple[int, Any, Any]]) -> Any:
    """One index for several (axis, its size, indices): each checked by itself, and counted in row-major order."""
    try:
        broadcast([tuple(e.shape) for _, _, e in entries])
    except TypeRuleError as fact:
        raise TypeRuleError(f"index arrays of {fact}") from None
    flat: Any = None
    for axis, n, entry in entries:
        entry = run(OPS["wrapped"], entry, size=n, axis=axis)
        flat = entry if flat is None else flat * n + entry
    return flat


def _is_array(entry: Any) -> bool:
    return isinstance(entry, (Ref, np.ndarray))


def _full_key(key: Any, shape: tuple) -> list[Any]:
    """One entry for every axis (None beside them): ints, slices, index arrays; the ellipsis and masks written out."""
    entries: list[Any] = []
    dots: list[int] = []
    axis = 0
    parts = [_entry(part) for part in (key if isinstance(key, tuple) else (key,))]
    rest = parts[next((i for i, k in enumerate(parts) if k is Ellipsis), len(parts)) + 1 :]
    behind = sum(_axes_of(k) for k in rest)
    for part in parts:
        if part is None or isinstance(part, slice):
            entries.append(part)
        elif part is Ellipsis:
            dots.append(len(entries))
            axis = len(shape) - behind
            continue
        elif isinstance(part, (int, np.integer, Dim)):
            entries.append(part)
        else:
            entries += _arrays(part, axis, shape)
        axis += _axes_of(part)
    used = sum(e is not None for e in entries)
    if used > len(shape):
        raise IndexError(f"too many indices: {used} for an array of {len(shape)} dimensions")
    if len(dots) > 1:
        raise IndexError("an index has at most one '...'")
    at = dots[0] if dots else len(entries)
    return [*entries[:at], *[slice(None)] * (len(shape) - used), *entries[at:]]


def _entry(part: Any) -> Any:
    """An entry of a key with lists as arrays and parameters resolved; a bool is an array, not an int."""
    if part is None or part is Ellipsis or isinstance(part, (slice, Dim)):
        return part
    return np.asarray(part) if isinstance(part, (bool, np.bool_)) else operand(part)


def _axes_of(part: Any) -> int:
    """How many axes an entry of a key takes."""
    if part is None or part is Ellipsis:
        return 0
    mask = _is_array(part) and dtype_of(part) == "bool"
    return part.ndim if mask else 1


def _arrays(entry: Any, axis: int, shape: tuple) -> list[Any]:
    """The index arrays that an entry stands for: itself, or for a mask the places where it holds."""
    if not _is_array(entry):
        kind = type(entry).__name__
        raise TypeRuleError(
            f"axis {axis} is indexed by {kind}; it takes ints, slices, None, ..., integer arrays, masks"
        )
    kind = dtype_of(entry)
    if kind in ("i32", "i64"):
        return [entry]
    if kind != "bool":
        raise TypeRuleError(f"indices are integers, got {kind}; write index.astype('int64')")
    if isinstance(entry, Ref):
        raise TypeRuleError(
            "a boolean mask selects a number of elements that depends on data; write gt.where(mask, x, 0), or "
            "x[gt.nonzero(mask, size=n)] for at most n of them"
        )
    sizes = shape[axis : axis + entry.ndim]
    if entry.ndim == 0 or len(sizes) != entry.ndim or not all(map(require_equal, entry.shape, sizes)):
        raise IndexError(f"a mask of shape {entry.shape} does not fit the axes from {axis} of shape {tuple(shape)}")
    return list(np.nonzero(entry))


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
        raise TypeRuleError(
            "a traced value cannot bound a slice: the size of the result would depend on data; write "
            "gt.dynamic_slice(x, start, size)"
        )
    bound = bound if isinstance(bound, Dim) else int(bound)
    if isinstance(bound, int) and bound < 0:
        bound = n + bound
    if bound > high:
        return high
    return low if bound < low else bound


# functions that read --------------------------------------------------------------------------------------------------
@public
def take(x: Any, indices: Any, axis: int = 0) -> Any:
    """Parts of x at integer indices along `axis`: out[..., i.., ...] = x[..., indices[i..], ...]. Negative ones count
    from the end; one out of range is an IndexError."""
    x = value(x)
    return run(OPS["take"], x, value(indices), axis=normalize_axis(axis, x.ndim))


@public
def index_select(x: Any, dim: int, index: Any) -> Any:
    """PyTorch's name for `take(x, index, dim)`."""
    return take(x, index, dim)


@public
def take_along_axis(x: Any, indices: Any, axis: int = -1) -> Any:
    """out[.., i, ..] = x[.., indices[.., i, ..], ..]: as many axes as x, which are broadcast beside `axis`. None takes
    from the flattened x. What `argsort` and `argmax(keepdims=True)` return is made for this."""
    x, indices = value(x), value(indices)
    if axis is None:
        x, axis = run(OPS["reshape"], x, shape=(product(x.shape),)), 0
    x, indices, axis = along(x, indices, axis)
    return run(OPS["take_along_axis"], x, indices, axis=axis)


def along(x: Any, indices: Any, axis: int) -> tuple[Any, Any, int]:
    """x and indices with equal sizes beside `axis`."""
    axis = normalize_axis(axis, x.ndim)
    if indices.ndim != x.ndim:
        raise TypeRuleError(
            f"needs an index with as many axes as x, {x.ndim}, got {indices.ndim}; write indices.reshape(...)"
        )
    sizes = [tuple(1 if i == axis else d for i, d in enumerate(a.shape)) for a in (x, indices)]
    beside = broadcast(sizes)

    def spread(a: Any) -> Any:
        shape = tuple(a.shape[axis] if i == axis else d for i, d in enumerate(beside))
        return a if same_shape(shape, a.shape) else broadcast_to(a, shape)

    return spread(x), spread(indices), axis


@public
def gather(x: Any, dim: int, index: Any) -> Any:
    """PyTorch's gather: out[i, j] = x[index[i, j], j] for dim 0. `index` has as many axes as x; along the others it may
    be shorter than x."""
    x, index = value(x), value(index)
    dim = normalize_axis(dim, x.ndim)
    x = cut_beside(x, index, dim, "index")
    return run(OPS["take_along_axis"], x, index, axis=dim)


def cut_beside(x: Any, index: Any, dim: int, what: str) -> Any:
    """The start of x that is as long as `index` along all axes but `dim`."""
    if index.ndim != x.ndim:
        raise TypeRuleError(f"needs an {what} with as many axes as x, {x.ndim}, got {index.ndim}")
    sizes = []
    for i, (n, d) in enumerate(zip(index.shape, x.shape, strict=True)):
        if i != dim and not identical(n, d) and n > d:
            raise TypeRuleError(f"the {what} has size {n} along axis {i}, which is more than {d}")
        sizes.append(d if i == dim else n)
    if same_shape(sizes, x.shape):
        return x
    return run(OPS["slice"], x, start=(0,) * x.ndim, size=tuple(sizes), step=(1,) * x.ndim)


@public
def windows(x: Any, dimension: int, size: int, step: int) -> Any:
    """PyTorch's Tensor.unfold: windows of `size` elements along an axis, one every `step`: (..., n, ...) ->
    (..., (n - size) // step + 1, ..., size)."""
    x = value(x)
    axis = normalize_axis(dimension, x.ndim)
    n = x.shape[axis]
    if size > n or step < 1:
        raise TypeRuleError(f"windows of {size} elements every {step} do not fit into the {n} of axis {axis}")
    first, inside = (run(OPS["iota"], shape=(d,), axis=0, dtype="i64") for d in ((n - size) // step + 1, size))
    found = take(x, run(OPS["reshape"], first, shape=(*first.shape, 1)) * step + inside, axis)
    order = (a for a in range(found.ndim) if a != axis + 1)
    return run(OPS["permute"], found, axes=(*order, axis + 1))


__all__ = ["gather", "index_select", "take", "take_along_axis"]
