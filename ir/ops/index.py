"""Reading, adding and choosing at elements that integer arrays name. An index out of range is an IndexError: eagerly at
once, in a tape through the error word."""

from __future__ import annotations

import numpy as np

from ..dims import require_equal
from ..op import no_gradient, op
from ..types import TensorType, TypeRuleError
from .rules import need_axis

_INDEX = no_gradient("an index is not differentiable")


def _need_indices(indices):
    if not indices.is_integer:
        raise TypeRuleError(f"indices are integers, got {indices}; write indices.astype('int64')")


def _need_numbers(x):
    if x.dtype == "bool":
        raise TypeRuleError(f"needs numbers to add up, got {x}")


def _check(indices, low, size, of):
    """Raises IndexError for the first index that does not lie in [low, size)."""
    bad = np.asarray(indices)[(indices < low) | (indices >= size)]
    if bad.size:
        raise IndexError(f"index {bad.reshape(-1)[0]} is out of range for {of}")


def _replaced(shape, axis, sizes):
    """`shape` with other sizes, any number of them, in the place of an axis."""
    return (*shape[:axis], *sizes, *shape[axis + 1:])


# rows: one index for everything beside the axis -----------------------------------------------------------------
@op
class take:
    """the parts of a table that indices name along an axis; negative ones count from the end"""
    kind = "kernel"
    def infer(table, indices, *, axis=0):
        _need_indices(indices)
        if table.ndim == 0:
            raise TypeRuleError(f"the table needs at least one axis, got {table}")
        return TensorType(table.dtype, _replaced(table.shape, need_axis(table, axis), indices.shape))
    def ref(table, indices, *, axis=0):
        _check(indices, -table.shape[axis], table.shape[axis], f"a table of {table.shape[axis]} rows")
        return np.take(table, indices, axis)
    def vjp(g, out, table, indices, *, axis=0):
        return scatter_add(indices, g, rows=table.shape[axis], axis=axis), None


@op
class scatter_add:
    """rows added up at indices along an axis, from zeros with `rows` rows: the reverse of take"""
    kind = "kernel"
    def infer(indices, x, *, rows, axis=0):
        _need_indices(indices)
        _need_numbers(x)
        if not isinstance(axis, int) or not 0 <= axis <= x.ndim - indices.ndim:
            raise TypeRuleError(f"axis {axis!r} and the {indices.ndim} axes of the indices do not fit {x}")
        if not all(require_equal(a, b) for a, b in zip(indices.shape, x.shape[axis:], strict=False)):
            raise TypeRuleError(f"needs one row for each index, got {x} for indices {indices} at axis {axis}")
        return TensorType(x.dtype, (*x.shape[:axis], rows, *x.shape[axis + indices.ndim:]))
    def ref(indices, x, *, rows, axis=0):
        _check(indices, -rows, rows, f"a table of {rows} rows")
        before, after = x.shape[:axis], x.shape[axis + indices.ndim:]
        out = np.zeros((rows, *before, *after), x.dtype)
        np.add.at(out, indices.reshape(-1), np.moveaxis(x.reshape((*before, indices.size, *after)), axis, 0))
        return np.moveaxis(out, 0, axis)
    def vjp(g, out, indices, x, *, rows, axis=0): return None, take(g, indices, axis=axis)


# elements: an index of its own for every element of the result --------------------------------------------------
def _need_along(x, indices, axis, what):
    _need_indices(indices)
    need_axis(x, axis)
    sizes = zip(x.shape, indices.shape, strict=False)
    if x.ndim != indices.ndim or not all(i == axis or require_equal(a, b) for i, (a, b) in enumerate(sizes)):
        raise TypeRuleError(f"{what} {x} and indices {indices} may differ along axis {axis} only")


@op
class take_along_axis:
    """out[.., i, ..] = x[.., indices[.., i, ..], ..] along an axis; negative indices count from the end"""
    kind = "kernel"
    def infer(x, indices, *, axis):
        _need_along(x, indices, axis, "the array")
        return TensorType(x.dtype, indices.shape)
    def ref(x, indices, *, axis):
        _check(indices, -x.shape[axis], x.shape[axis], f"axis {axis} of size {x.shape[axis]}")
        return np.take_along_axis(x, indices.astype(np.int64), axis)
    def vjp(g, out, x, indices, *, axis): return add_along_axis(indices, g, size=x.shape[axis], axis=axis), None


@op
class add_along_axis:
    """out[.., indices[.., i, ..], ..] += x[.., i, ..] along an axis, from zeros of a size: the reverse of
    take_along_axis"""
    kind = "kernel"
    def infer(indices, x, *, size, axis):
        _need_along(x, indices, axis, "the summands")
        _need_numbers(x)
        if not require_equal(x.shape[axis], indices.shape[axis]):
            raise TypeRuleError(f"needs one summand for each index, got {x} for indices {indices}")
        return TensorType(x.dtype, _replaced(x.shape, axis, (size,)))
    def ref(indices, x, *, size, axis):
        _check(indices, -size, size, f"axis {axis} of size {size}")
        out = np.zeros(_replaced(x.shape, axis, (size,)), x.dtype)
        place = list(np.indices(x.shape, sparse=True))
        place[axis] = indices
        np.add.at(out, tuple(place), x)
        return out
    def vjp(g, out, indices, x, *, size, axis): return None, take_along_axis(g, indices, axis=axis)


# indices themselves ---------------------------------------------------------------------------------------------
@op
class bounded:
    """the indices themselves, each checked to lie in [0, size) when the program runs; one equal to `ignore` passes"""
    kind = "kernel"
    def infer(indices, *, size, ignore=None):
        _need_indices(indices)
        return TensorType("i64", indices.shape)
    def ref(indices, *, size, ignore=None):
        check_bounds("index", indices, size, ignore)
        return indices
    vjp = _INDEX


@op
class wrapped:
    """indices into an axis of a size, negative ones counted from the end, each checked when the program runs"""
    kind = "kernel"
    def infer(indices, *, size, axis):
        _need_indices(indices)
        return TensorType("i64", indices.shape)
    def ref(indices, *, size, axis):
        _check(indices, -size, size, f"axis {axis} of size {size}")
        return np.where(indices < 0, indices + size, indices)
    vjp = _INDEX


@op
class last_index:
    """for each of `rows` rows the number of the last index that names it, -1 where none does"""
    kind = "kernel"
    def infer(indices, *, rows):
        _need_indices(indices)
        return TensorType("i64", (rows,))
    def ref(indices, *, rows):
        _check(indices, -rows, rows, f"a table of {rows} rows")
        out = np.full(rows, -1)
        np.maximum.at(out, indices.reshape(-1), np.arange(indices.size))
        return out
    vjp = _INDEX


def check_bounds(what, indices, size, ignore):
    bad = (indices < 0) | (indices >= size)
    if ignore is not None:
        bad = bad & (indices != ignore)
    if np.any(bad):
        raise IndexError(f"{what} {np.asarray(indices)[bad].reshape(-1)[0]} is out of range for {size} classes")
