"""The op namespace: order. NaN counts as greater than every number, of equal elements the first stays first; gradients
flow to the elements that were chosen."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from ..ir.build import Ref
from ..ir.dims import product
from ..ir.op import OPS
from ..ir.types import TypeRuleError, normalize_axes, normalize_axis
from .apply import public, run, value
from .elementwise import isnan
from .functional import Axis, as_float, astype, dtype_of, part, ravel, reshape, stack, where


class TopK(NamedTuple):
    """The best elements, the best first, and their indices."""

    values: Any
    indices: Any


@public
def sort(x: Any, axis: int | None = -1, descending: bool = False, *, dim: int | None = None) -> Any:
    """x in order along `axis` (None: flattened); NaN last, or first if `descending`. PyTorch's pair is
    `(sort(x), argsort(x))`."""
    x = value(x)
    ordered = _sorted(x, axis if dim is None else dim, descending)[0]
    return astype(ordered, dtype_of(x))


@public
def argsort(x: Any, axis: int | None = -1, descending: bool = False, *, dim: int | None = None) -> Any:
    """The indices that put x in order along `axis` (None: flattened), int64; equal elements keep their order."""
    return _sorted(value(x), axis if dim is None else dim, descending)[1]


def _sorted(x: Any, axis: int | None, descending: bool) -> tuple[Any, Any]:
    if axis is None:
        x, axis = ravel(x), 0
    return run(OPS["sort"], _number(x), axis=normalize_axis(axis, x.ndim), descending=bool(descending))


def _number(x: Any) -> Any:
    return astype(x, "i32") if dtype_of(x) == "bool" else x


@public
def topk(x: Any, k: int, axis: int = -1, largest: bool = True, sorted: bool = True, *, dim: int | None = None) -> TopK:
    """The k greatest elements along `axis` (the least if not `largest`), the best first, and their indices: a pair
    (values, indices) of x's shape with k in the place of the axis. Of equal elements the first is taken."""
    x = value(x)
    axis = normalize_axis(axis if dim is None else dim, x.ndim)
    if k > x.shape[axis]:
        raise TypeRuleError(f"k = {k} is more than the size of axis {axis}, {x.shape[axis]}")
    values, indices = run(OPS["topk"], _number(x), k=int(k), axis=axis, largest=bool(largest))
    return TopK(astype(values, dtype_of(x)), indices)


@public
def median(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """The middle element over `axis` (an int, several, or None for all), the mean of the two middle ones of an even
    number; NaN where one is. (PyTorch takes the lower of the two.) A symbolic size is pinned."""
    return _quantile(x, 0.5, axis, keepdims)


@public
def quantile(x: Any, q: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """The q-quantile over `axis`, q in [0, 1]: between two neighbours in order by their distance (NumPy's "linear").
    Several q stand on a new first axis. A symbolic size is pinned."""
    if isinstance(q, Ref):
        raise TypeRuleError("q is a number, or several, that is known when the program is traced")
    if np.ndim(q) == 0:
        return _quantile(x, float(q), axis, keepdims)
    return stack([_quantile(x, float(one), axis, keepdims) for one in q])


def _quantile(x: Any, q: float, axis: Axis, keepdims: bool) -> Any:
    x = as_float(x)
    if not 0.0 <= q <= 1.0:
        raise TypeRuleError(f"a quantile lies in [0, 1], got {q}")
    axes = normalize_axes(axis, x.ndim)
    rest = tuple(a for a in range(x.ndim) if a not in axes)
    rows = run(OPS["permute"], x, axes=(*rest, *axes))
    kept = rows.shape[: len(rest)]
    n = int(product(rows.shape[len(rest) :]))
    if n == 0:
        raise TypeRuleError("a quantile of no elements has no value")
    ordered = sort(reshape(rows, (*kept, n)))
    place = q * (n - 1)
    below = math.floor(place)
    out = part(ordered, -1, below, below + 1)
    if place != below:
        out = out + (part(ordered, -1, below + 1, below + 2) - out) * (place - below)
    last = part(ordered, -1, n - 1, n)  # NaN if any element is
    out = where(isnan(last), last, out)
    return reshape(out, tuple(1 if a in axes else d for a, d in enumerate(x.shape) if keepdims or a not in axes))


@public
def nonzero(x: Any, size: Any = None, fill_value: int = 0) -> tuple[Any, ...]:
    """The places where x is not 0, in row-major order: one index array for each axis.

    How many there are depends on data, which no program can have as a size: for a traced x the first `size` are given,
    and `fill_value` where there are fewer (JAX's `jax.numpy.nonzero`).
    """
    x = value(x)
    if size is None:
        if isinstance(x, Ref):
            raise TypeRuleError("how many elements are not 0 depends on data; write gt.nonzero(x, size=n), or gt.where")
        return np.nonzero(x)
    found = ravel(x if dtype_of(x) == "bool" else run(OPS["not_equal"], x, 0))
    total = found.shape[0]
    if size > total:
        raise TypeRuleError(f"size {size} is more than the {total} elements of x")
    order = part(argsort(run(OPS["logical_not"], found)), 0, 0, size)
    held = run(OPS["take"], found, order)
    places = []
    for n in reversed(x.shape):
        places.append(where(held, order % n, fill_value))
        order = order // n
    return tuple(reversed(places))


__all__ = ["TopK", "argsort", "median", "nonzero", "quantile", "sort", "topk"]
