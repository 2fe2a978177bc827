"""Arrays with some elements replaced or added to, as new arrays: `x.at[key].set(v)` in JAX's spelling, and the
functions of PyTorch and NumPy that write by index."""

from __future__ import annotations

from typing import Any

from ..ir.build import Ref
from ..ir.dims import identical, product, same_shape
from ..ir.op import OPS, _resolve
from ..ir.tape import contiguous
from ..ir.types import TypeRuleError, broadcast, normalize_axis
from .apply import public, run, value
from .functional import astype, broadcast_to, dtype_of, ravel, reshape, where
from .indexing import Selection, along, cut_beside, index, selection


class At:
    """`x.at[key]`: a part of x that `get`, `set`, `add` and `subtract` read or replace. x itself stays as it is."""

    def __init__(self, x: Any, key: Any = None) -> None:
        self._x, self._key = x, key

    def __getitem__(self, key: Any) -> At:
        return At(self._x, key)

    def get(self) -> Any:
        """x[key]"""
        return index(self._x, self._key)

    def set(self, v: Any) -> Any:
        """x with `v` (broadcast) in the place of x[key]; where an element is named several times the last one stays."""
        return at_set(self._x, self._key, v)

    def add(self, v: Any) -> Any:
        """x with `v` (broadcast) added to x[key]; an element that is named several times is added to as often."""
        return at_add(self._x, self._key, v)

    def subtract(self, v: Any) -> Any:
        """x with `v` subtracted from x[key], as `add` does."""
        return at_add(self._x, self._key, run(OPS["neg"], v))


@public
def at(x: Any) -> At:
    """`at(x)[key].set(v)`: what `x.at[key].set(v)` does on a traced value, on NumPy arrays as well."""
    return At(value(x))


@public
def at_add(x: Any, key: Any, v: Any) -> Any:
    mask = _whole_mask(x, key, v)
    if mask is not None:
        return where(mask, x + v, x)
    chosen = selection(x, key)
    v = _fitted(v, chosen, x)
    for step in reversed(chosen.steps):
        v = step.backwards(v)
    return x + v


@public
def at_set(x: Any, key: Any, v: Any) -> Any:
    mask = _whole_mask(x, key, v)
    if mask is not None:
        return astype(where(mask, v, x), dtype_of(x))
    chosen = selection(x, key)
    v = _fitted(v, chosen, x)
    takes = next((i for i, step in enumerate(chosen.steps) if step.op.name == "take"), len(chosen.steps))
    before, behind = chosen.steps[:takes], chosen.steps[takes + 1 :]
    for step in reversed(behind):
        v = step.backwards(v)
    if takes < len(chosen.steps):
        table = x
        for step in before:
            table = step.forwards(table)
        v = set_rows(table, chosen.steps[takes].indices[0], v, chosen.steps[takes].attrs["axis"])
    if not before:
        return v
    whole = all(step.op.name != "slice" for step in before)
    inside = True if whole else full_of(v, True)
    for step in reversed(before):
        v = step.backwards(v)
        inside = inside if whole else step.backwards(inside)
    return v if whole else where(inside, v, x)


def full_of(like: Any, number: bool | int) -> Any:
    """A number in the shape of `like`."""
    from .generate import full

    return full(tuple(like.shape), number)


def _whole_mask(x: Any, key: Any, v: Any) -> Any:
    """The mask, brought to the axes of x, where the key is one that the program computes and v is one number."""
    mask = _resolve(key)
    if not isinstance(mask, Ref) or dtype_of(mask) != "bool":
        return None
    if value(v).ndim:
        raise TypeRuleError(
            "as many values as a mask holds is a number that depends on data; write gt.where(mask, values, x) with "
            "values for every element"
        )
    if mask.ndim > x.ndim:
        raise TypeRuleError(f"the mask has {mask.ndim} axes, more than the {x.ndim} of x")
    return reshape(mask, (*mask.shape, *(1 for _ in range(x.ndim - mask.ndim))))


def _fitted(v: Any, chosen: Selection, x: Any) -> Any:
    """v in the dtype of x and the shape of the part."""
    shape = chosen.kind.shape
    v = astype(value(v), dtype_of(x))
    try:
        fits = same_shape(broadcast([tuple(v.shape), shape]), shape)
    except TypeRuleError:
        fits = False
    if not fits:
        raise TypeRuleError(f"values of shape {tuple(v.shape)} do not fit a part of shape {shape}")
    return v if same_shape(v.shape, shape) else broadcast_to(v, shape)


def set_rows(table: Any, indices: Any, rows: Any, axis: int) -> Any:
    """`table` with `rows` in the place of table[indices] along `axis`: each row takes the last index that names it."""
    if identical(product(indices.shape), 0):
        return table
    last = run(OPS["last_index"], indices, rows=table.shape[axis])
    shape = rows.shape
    flat = reshape(rows, (*shape[:axis], product(indices.shape), *shape[axis + indices.ndim :]))
    named = reshape(last >= 0, tuple(n if i == axis else 1 for i, n in enumerate(table.shape)))
    return where(named, run(OPS["take"], flat, run(OPS["maximum"], last, 0), axis=axis), table)


@public
def masked_fill(x: Any, mask: Any, value: Any) -> Any:
    """PyTorch's: x with `value` where the mask holds, in x's dtype."""
    return astype(where(mask, value, x), dtype_of(x))


# the functions of NumPy and PyTorch ---------------------------------------------------------------------------------
@public
def put_along_axis(x: Any, indices: Any, values: Any, axis: int) -> Any:
    """x with `values` at `indices` along `axis`, as a new array (NumPy's writes into x): the reverse of
    take_along_axis. Of several values for one element the last one stays."""
    x, indices = value(x), value(indices)
    x, indices, axis = along(x, indices, axis)
    return _put(x, indices, broadcast_to(astype(value(values), dtype_of(x)), tuple(indices.shape)), axis)


def _put(x: Any, indices: Any, values: Any, axis: int) -> Any:
    """Sets elements along an axis as rows of the flattened x."""
    steps = contiguous(tuple(x.shape))
    flat = run(OPS["wrapped"], indices, size=x.shape[axis], axis=axis) * steps[axis]
    for i, step in enumerate(steps):
        if i != axis:
            flat = flat + run(OPS["iota"], shape=tuple(indices.shape), axis=i, dtype="i64") * step
    return reshape(set_rows(ravel(x), ravel(flat), ravel(values), 0), tuple(x.shape))


@public
def scatter(x: Any, dim: int, index: Any, src: Any) -> Any:
    """PyTorch's scatter: x with src[i, j] at [index[i, j], j] for dim 0. `index` may be shorter than x along the other
    axes, `src` longer than `index`; a number is taken everywhere. Of several values for one element the last one stays
    (PyTorch leaves open which)."""
    x, index, dim, src = _scattered(x, dim, index, src)
    part = cut_beside(x, index, dim, "index")
    new = _put(part, index, src, dim)
    return new if part is x else At(x)[tuple(slice(0, n) for n in part.shape)].set(new)


@public
def scatter_add(x: Any, dim: int, index: Any, src: Any) -> Any:
    """PyTorch's scatter_add: x with src[i, j] added at [index[i, j], j] for dim 0; sizes as for `scatter`."""
    x, index, dim, src = _scattered(x, dim, index, src)
    added = run(OPS["add_along_axis"], index, src, size=x.shape[dim], axis=dim)
    if not same_shape(added.shape, x.shape):
        added = run(OPS["unslice"], added, shape=tuple(x.shape), start=(0,) * x.ndim, step=(1,) * x.ndim)
    return x + added


def _scattered(x: Any, dim: int, index: Any, src: Any) -> tuple[Any, Any, int, Any]:
    x, index, src = value(x), value(index), value(src)
    dim = normalize_axis(dim, x.ndim)
    cut_beside(x, index, dim, "index")
    if src.ndim == 0:
        src = broadcast_to(src, tuple(index.shape))
    if src.ndim != index.ndim or any(n > d for n, d in zip(index.shape, src.shape, strict=True)):
        raise TypeRuleError(f"the source has shape {tuple(src.shape)}, less than the index with {tuple(index.shape)}")
    return x, index, dim, astype(at(src)[tuple(slice(0, n) for n in index.shape)].get(), dtype_of(x))


@public
def index_add(x: Any, dim: int, index: Any, source: Any, alpha: float = 1) -> Any:
    """PyTorch's index_add: x with alpha * source added at the rows that the 1-d `index` names along `dim`."""
    x, index, source = value(x), value(index), value(source)
    dim = normalize_axis(dim, x.ndim)
    source = astype(source if alpha == 1 else source * alpha, dtype_of(x))
    return x + run(OPS["scatter_add"], index, source, rows=x.shape[dim], axis=dim)


@public
def segment_sum(data: Any, segment_ids: Any, num_segments: Any) -> Any:
    """JAX's segment_sum: the rows of `data` (n, ...) added up by segment: segment_ids (n,) -> (num_segments, ...)."""
    return run(OPS["scatter_add"], value(segment_ids), value(data), rows=num_segments)


__all__ = ["at", "index_add", "masked_fill", "put_along_axis", "scatter", "scatter_add", "segment_sum"]
