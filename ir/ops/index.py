"""Reading and adding at rows that an integer array names."""

from __future__ import annotations

import numpy as np

from ..dims import require_equal
from ..op import no_gradient, op
from ..types import TensorType, TypeRuleError


@op
class take:
    """rows of a table: out[i...] = table[indices[i...]]; negative indices count from the end"""
    kind = "kernel"
    def infer(table, indices):
        if not indices.is_integer:
            raise TypeRuleError(f"indices are integers, got {indices}; write indices.astype('i64')")
        if table.ndim == 0:
            raise TypeRuleError(f"the table needs at least one axis, got {table}")
        return TensorType(table.dtype, (*indices.shape, *table.shape[1:]))
    def ref(table, indices):
        _check_range(indices, len(table))
        return np.take(table, indices, axis=0)
    def vjp(g, out, table, indices): return scatter_add(indices, g, rows=table.shape[0]), None


def _check_range(indices, rows):
    bad = np.asarray(indices)[(indices < -rows) | (indices >= rows)]
    if bad.size:
        raise IndexError(f"index {bad[0]} is out of range for a table of {rows} rows")


@op
class scatter_add:
    """rows added up at indices: out[indices[i...]] += x[i...], from zeros with `rows` rows"""
    kind = "kernel"
    def infer(indices, x, *, rows):
        if not indices.is_integer:
            raise TypeRuleError(f"indices are integers, got {indices}; write indices.astype('i64')")
        if x.dtype == "bool":
            raise TypeRuleError(f"needs numbers to add up, got {x}")
        if x.ndim < indices.ndim or not all(require_equal(a, b) for a, b in zip(indices.shape, x.shape, strict=False)):
            raise TypeRuleError(f"needs one row for each index, got {x} for indices {indices}")
        return TensorType(x.dtype, (rows, *x.shape[indices.ndim:]))
    def ref(indices, x, *, rows):
        _check_range(indices, rows)
        out = np.zeros((rows, *x.shape[indices.ndim:]), x.dtype)
        np.add.at(out, indices.reshape(-1), x.reshape((indices.size, *x.shape[indices.ndim:])))
        return out
    def vjp(g, out, indices, x, *, rows): return None, take(g, indices)


@op
class bounded:
    """the indices themselves, each checked to lie in [0, size) when the program runs; one equal to `ignore` passes"""
    kind = "kernel"
    def infer(indices, *, size, ignore=None):
        if not indices.is_integer:
            raise TypeRuleError(f"indices are integers, got {indices}; write indices.astype('i64')")
        return TensorType("i64", indices.shape)
    def ref(indices, *, size, ignore=None):
        check_bounds("index", indices, size, ignore)
        return indices
    vjp = no_gradient("an index is not differentiable")


def check_bounds(what, indices, size, ignore):
    bad = (indices < 0) | (indices >= size)
    if ignore is not None:
        bad = bad & (indices != ignore)
    if np.any(bad):
        raise IndexError(f"{what} {np.asarray(indices)[bad].reshape(-1)[0]} is out of range for {size} classes")
