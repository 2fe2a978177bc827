"""The op namespace: sums that leave NaN out, how many there are of something, and places in a sorted table."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..ir.build import Ref
from ..ir.dims import require_equal
from ..ir.op import OPS
from ..ir.types import TypeRuleError
from .apply import public, run, value
from .elementwise import isinf, isnan
from .functional import Axis, as_float, astype, dtype_of, expand_dims, numpy_dtype, sum, where


# numbers that are none ------------------------------------------------------------------------------------------------
@public
def nansum(x: Any, axis: Axis = None, keepdims: bool = False, *, dim: Axis = None, keepdim: bool = False) -> Any:
    """Sum over `axis` of the elements that are not NaN; a NaN gets no gradient."""
    x = value(x)
    return sum(where(isnan(x), 0, x), axis, keepdims, dim=dim, keepdim=keepdim)


@public
def nanmean(x: Any, axis: Axis = None, keepdims: bool = False, *, dim: Axis = None, keepdim: bool = False) -> Any:
    """Arithmetic mean over `axis` of the elements that are not NaN; NaN where there are none."""
    x = as_float(x)
    over = {"axis": axis, "keepdims": keepdims, "dim": dim, "keepdim": keepdim}
    count = sum(astype(run(OPS["logical_not"], isnan(x)), dtype_of(x)), **over)
    mean = run(OPS["div"], nansum(x, **over), count)
    return mean


@public
def nan_to_num(x: Any, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None) -> Any:
    """x with numbers in the place of NaN, inf and -inf, by default 0 and the greatest and least of the dtype. What was
    put in gets no gradient."""
    x = value(x)
    if numpy_dtype(x).kind != "f":
        return x
    limits = np.finfo(numpy_dtype(x))
    high, low = (float(limits.max) if posinf is None else posinf), (float(limits.min) if neginf is None else neginf)
    return where(isnan(x), nan, where(isinf(x), where(x > 0, high, low), x))


# how many -------------------------------------------------------------------------------------------------------------
@public
def count_nonzero(x: Any, axis: Axis = None, keepdims: bool = False, *, dim: Axis = None) -> Any:
    """How many elements over `axis` are not 0, int64."""
    x = value(x)
    held = x if dtype_of(x) == "bool" else run(OPS["not_equal"], x, 0)
    return sum(held, axis, keepdims, dim=dim)


@public
def bincount(x: Any, weights: Any = None, minlength: int = 0, *, length: Any = None) -> Any:
    """How often each number 0, 1, 2, ... stands in x (n,), int64, or the sum of its `weights` (n,).

    There are as many bins as the greatest number asks for, at least `minlength`; a program must know how many, and
    takes `length` (JAX's), beyond which a number is an IndexError.
    """
    x = value(x)
    if x.ndim != 1:
        raise TypeRuleError(f"x has one axis, got {x.ndim}; write x.reshape(-1)")
    if length is None:
        if isinstance(x, Ref):
            raise TypeRuleError("how many bins there are depends on data; write gt.bincount(x, length=n)")
        length = max(int(x.max(initial=-1)) + 1, minlength)
    checked = run(OPS["bounded"], x, size=length)
    counted = run(OPS["cast"], run(OPS["equal"], checked, checked), dtype="i64") if weights is None else value(weights)
    return run(OPS["scatter_add"], checked, counted, rows=length)


# places ---------------------------------------------------------------------------------------------------------------
@public
def searchsorted(a: Any, v: Any, side: str = "left", *, right: bool = False) -> Any:
    """Where to put each v into the sorted `a` to keep it sorted, int64: before equal elements, or after them for side
    "right" (PyTorch's right=True). NaN is greater than every number.

    a (n,) and v of any shape, or a (..., n) and v (..., m) with the same leading axes. Every v is compared with all of
    `a`: right for the bins of a histogram or of a spline, slow for a long table.
    """
    a, v = value(a), value(v)
    if side not in ("left", "right"):
        raise TypeRuleError(f'side is "left" or "right", not {side!r}')
    if a.ndim == 0:
        raise TypeRuleError("the table needs an axis, got a number")
    if a.ndim > 1:
        if a.ndim != v.ndim or not all(map(require_equal, a.shape[:-1], v.shape[:-1])):
            raise TypeRuleError("a table of several axes takes values with the same leading axes")
        a = expand_dims(a, -2)
    v = expand_dims(v, -1)
    after = side == "right" or right
    before = run(OPS["less_equal" if after else "less"], a, v)
    if numpy_dtype(v).kind == "f":
        last = isnan(v) if after else run(OPS["logical_and"], isnan(v), run(OPS["logical_not"], isnan(a)))
        before = run(OPS["logical_or"], before, last)
    return sum(before, -1)


__all__ = ["bincount", "count_nonzero", "nan_to_num", "nanmean", "nansum", "searchsorted"]
