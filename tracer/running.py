"""The op namespace: what runs along an axis: sums, products, extremes, linear recurrences."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..ir.dims import identical
from ..ir.op import OPS
from ..ir.types import normalize_axis, promote
from .apply import public, run, type_of_operand, value
from .arrange import broadcast_arrays
from .elementwise import exp, isinf, log, minimum, stop_gradient
from .functional import as_float, astype, concatenate, dtype_of, part, ravel, where


class Running(NamedTuple):
    """The extreme up to each element, and its index."""

    values: Any
    indices: Any


@public
def cumsum(x: Any, axis: int | None = None, *, reverse: bool = False, dim: int | None = None) -> Any:
    """x[0] + ... + x[i] along `axis` (None: of the flattened x); from the end if `reverse`. Of bools: their number,
    int64."""
    x = value(x)
    return _running("cumsum", astype(x, "i64") if dtype_of(x) == "bool" else x, axis if dim is None else dim, reverse)


@public
def cumprod(x: Any, axis: int | None = None, *, reverse: bool = False, dim: int | None = None) -> Any:
    """x[0] * ... * x[i] along `axis` (None: of the flattened x); from the end if `reverse`. The gradient is right at
    zeros too."""
    x = value(x)
    return _running("cumprod", astype(x, "i64") if dtype_of(x) == "bool" else x, axis if dim is None else dim, reverse)


def _running(name: str, x: Any, axis: int | None, reverse: bool) -> Any:
    if axis is None:
        x, axis = ravel(x), 0
    return run(OPS[name], x, axis=normalize_axis(axis, x.ndim), reverse=bool(reverse))


@public
def linear_scan(a: Any, b: Any, axis: int = 0, *, reverse: bool = False) -> Any:
    """y[i] = a[i] * y[i - 1] + b[i] along `axis`, y[0] = b[0]: moving averages, discounted sums, linear recurrences.
    From the end if `reverse`: y[i] = a[i] * y[i + 1] + b[i]. a and b are broadcast."""
    a, b = broadcast_arrays(a, b)
    dtype = promote([type_of_operand(a), type_of_operand(b)])
    axis = normalize_axis(axis, b.ndim)
    return run(OPS["linear_scan"], astype(a, dtype), astype(b, dtype), axis=axis, reverse=bool(reverse))


@public
def cummax(x: Any, axis: int | None = None, *, dim: int | None = None) -> Running:
    """The greatest of x[0], ..., x[i] along `axis` (None: of the flattened x) and its index, of equals the last: a pair
    (values, indices), as PyTorch's. NaN from the first NaN on. Gradients flow to the elements that were greatest."""
    return _extremes("cummax", x, axis if dim is None else dim)


@public
def cummin(x: Any, axis: int | None = None, *, dim: int | None = None) -> Running:
    """As cummax, the least."""
    return _extremes("cummin", x, axis if dim is None else dim)


def _extremes(name: str, x: Any, axis: int | None) -> Running:
    x = value(x)
    if axis is None:
        x, axis = ravel(x), 0
    number = astype(x, "i32") if dtype_of(x) == "bool" else x
    values, indices = run(OPS[name], number, axis=normalize_axis(axis, x.ndim))
    return Running(astype(values, dtype_of(x)), indices)


@public
def logcumsumexp(x: Any, axis: int | None = None, *, dim: int | None = None) -> Any:
    """log(e**x[0] + ... + e**x[i]) along `axis` (None: of the flattened x), without overflow."""
    x = as_float(x)
    axis = axis if dim is None else dim
    if axis is None:
        x, axis = ravel(x), 0
    axis = normalize_axis(axis, x.ndim)
    n = x.shape[axis]
    if identical(n, 0):
        return x
    # with m the running maximum, y = m + log z where z[i] = z[i - 1] e**(m[i - 1] - m[i]) + e**(x[i] - m[i]) >= 1. Any
    # m gives the same y, so that none of the gradient goes through it. Where all were -inf, z is 0.
    m = stop_gradient(cummax(x, axis).values)
    m = where(isinf(m), 0.0, m)
    before = concatenate([part(m, axis, 0, 1), part(m, axis, 0, n - 1)], axis)
    z = linear_scan(exp(minimum(before - m, 0.0)), exp(x - m), axis)
    nothing = run(OPS["equal"], z, 0.0)
    return where(nothing, x, m + log(where(nothing, 1.0, z)))


__all__ = ["cummax", "cummin", "cumprod", "cumsum", "linear_scan", "logcumsumexp"]
