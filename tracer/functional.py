"""The op namespace: choice, reductions and shapes. The same functions record on traced values and compute on
NumPy arrays. Names and argument orders are NumPy's; `dim` and `keepdim` are accepted for `axis` and `keepdims`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from ..ir.build import Ref
from ..ir.dims import Dim, divide, product
from ..ir.op import OPS
from ..ir.types import (
    DTYPES,
    TypeRuleError,
    dtype_name,
    normalize_axes,
    normalize_axis,
    promote,
    shown,
)
from .apply import public, run, value
from .apply import type_of_operand as _type
from .elementwise import sqrt

Axis = int | Sequence[int] | None


@public
def where(condition: Any, x: Any, y: Any) -> Any:
    """x where the condition holds, else y. A condition of numbers means `condition != 0`. All three
    broadcast."""
    condition = value(condition)
    if dtype_of(condition) != "bool":
        condition = run(OPS["not_equal"], condition, 0)
    return run(OPS["where"], condition, x, y)


@public
def clip(x: Any, min: Any = None, max: Any = None) -> Any:
    """x, at least `min` and at most `max`; None is no limit."""
    if min is not None:
        x = run(OPS["maximum"], x, min)
    return x if max is None else run(OPS["minimum"], x, max)


@public
def astype(x: Any, dtype: Any) -> Any:
    """x converted; float to integer truncates. The dtype is a NumPy dtype or one of f32 f64 i32 i64 bool."""
    x, name = value(x), dtype_name(dtype)
    return x if dtype_of(x) == name else run(OPS["cast"], x, dtype=name)


@public
def matmul(x: Any, y: Any) -> Any:
    """x @ y: (..., n, k) @ (..., k, m) -> (..., n, m); leading axes broadcast; 1-d operands as in NumPy."""
    return run(OPS["matmul"], x, y)


# reductions -------------------------------------------------------------------------------------------------------
def _reduce(name: str, x: Any, axis: Axis, keepdims: bool, dim: Axis, keepdim: bool) -> Any:
    return run(OPS[name], x, axes=_axes(x, axis, dim), keepdims=bool(keepdims or keepdim))


def _extreme(name: str, x: Any, axis: Axis, keepdims: bool, dim: Axis, keepdim: bool) -> Any:
    if isinstance(axis, (float, Ref, np.ndarray)):
        raise TypeRuleError(f"the axis is {shown(axis)}; for the {name} of two arrays write gt.{name}imum(x, y)")
    return _reduce(name, x, axis, keepdims, dim, keepdim)


def _axes(x: Any, axis: Axis, dim: Axis) -> tuple[int, ...]:
    if axis is not None and dim is not None and axis != -1:  # some functions have -1 for their default
        raise TypeRuleError(f"axis={axis!r} and dim={dim!r} are one argument; write one of them")
    return normalize_axes(axis if dim is None else dim, x.ndim)


@public
def sum(x: Any, axis: Axis = None, keepdims: bool = False, *, dim: Axis = None, keepdim: bool = False) -> Any:
    """Sum over `axis` (an int, several, or None for all). Of bools: their number, int64."""
    x = value(x)
    x = astype(x, "i64") if dtype_of(x) == "bool" else x
    return _reduce("sum", x, axis, keepdims, dim, keepdim)


@public
def mean(x: Any, axis: Axis = None, keepdims: bool = False, *, dim: Axis = None, keepdim: bool = False) -> Any:
    """Arithmetic mean over `axis`; of integers and bools in float32."""
    return _reduce("mean", as_float(x), axis, keepdims, dim, keepdim)


@public
def max(x: Any, axis: Axis = None, keepdims: bool = False, *, dim: Axis = None, keepdim: bool = False) -> Any:
    """Greatest element over `axis`; ties share the gradient."""
    return _extreme("max", value(x), axis, keepdims, dim, keepdim)


@public
def min(x: Any, axis: Axis = None, keepdims: bool = False, *, dim: Axis = None, keepdim: bool = False) -> Any:
    """Least element over `axis`; ties share the gradient."""
    return _extreme("min", value(x), axis, keepdims, dim, keepdim)


@public
def prod(x: Any, axis: Axis = None, keepdims: bool = False, *, dim: Axis = None, keepdim: bool = False) -> Any:
    """Product over `axis`."""
    return _reduce("prod", value(x), axis, keepdims, dim, keepdim)


@public
def any(x: Any, axis: Axis = None, keepdims: bool = False, *, dim: Axis = None, keepdim: bool = False) -> Any:
    """Whether any element over `axis` is true (not 0)."""
    return _reduce("any", _as_bool(x), axis, keepdims, dim, keepdim)


@public
def all(x: Any, axis: Axis = None, keepdims: bool = False, *, dim: Axis = None, keepdim: bool = False) -> Any:
    """Whether all elements over `axis` are true (not 0)."""
    return _reduce("all", _as_bool(x), axis, keepdims, dim, keepdim)


@public
def var(
    x: Any,
    axis: Axis = None,
    ddof: int = 0,
    keepdims: bool = False,
    *,
    dim: Axis = None,
    keepdim: bool = False,
) -> Any:
    """Variance over `axis`: sum((x - mean)**2) / (n - ddof). NumPy's default, ddof=0, is not PyTorch's."""
    x = as_float(x)
    axes, keepdims = _axes(x, axis, dim), keepdims or keepdim
    d = x - mean(x, axes, keepdims=True)
    if ddof == 0:
        return mean(d * d, axes, keepdims)
    return sum(d * d, axes, keepdims) / (product(x.shape[a] for a in axes) - ddof)


@public
def std(
    x: Any,
    axis: Axis = None,
    ddof: int = 0,
    keepdims: bool = False,
    *,
    dim: Axis = None,
    keepdim: bool = False,
) -> Any:
    """Standard deviation over `axis`: sqrt(var(x)). The gradient is infinite where all elements are equal."""
    return sqrt(var(x, axis, ddof, keepdims, dim=dim, keepdim=keepdim))


@public
def argmax(x: Any, axis: int | None = None, keepdims: bool = False, *, dim: int | None = None) -> Any:
    """Index of the greatest element along `axis` (None: of the flattened x), int64; of several, the first."""
    return _arg("argmax", x, axis if dim is None else dim, keepdims)


@public
def argmin(x: Any, axis: int | None = None, keepdims: bool = False, *, dim: int | None = None) -> Any:
    """Index of the least element along `axis` (None: of the flattened x), int64; of several, the first."""
    return _arg("argmin", x, axis if dim is None else dim, keepdims)


def _arg(name: str, x: Any, axis: int | None, keepdims: bool) -> Any:
    x = value(x)
    if axis is not None:
        return run(OPS[name], x, axis=normalize_axis(axis, x.ndim), keepdims=keepdims)
    flat = run(OPS[name], flatten(x), axis=0, keepdims=False)
    return reshape(flat, (1,) * x.ndim) if keepdims else flat


@public
def logsumexp(x: Any, axis: Axis = -1, keepdims: bool = False, *, dim: Axis = None, keepdim: bool = False) -> Any:
    """log(sum(e**x)) over one axis, or over several."""
    x = value(x)
    axes = _axes(x, axis, dim)
    keepdims = keepdims or keepdim
    sizes = tuple(1 if i in axes else d for i, d in enumerate(x.shape) if keepdims or i not in axes)
    if len(axes) != 1:  # several axes, or none, as one, the last
        rest = tuple(a for a in range(x.ndim) if a not in axes)
        x = transpose(x, (*rest, *axes))
        x = reshape(x, (*x.shape[: len(rest)], product(x.shape[len(rest) :])))
        axes = (len(rest),)
    (last,) = axes
    return reshape(run(OPS["logsumexp"], x, axis=last), sizes)


# shapes -----------------------------------------------------------------------------------------------------------
@public
def reshape(x: Any, *shape: Any) -> Any:
    """The same elements in row-major order in another shape: `reshape(x, 2, -1)` or `reshape(x, (2, -1))`."""
    from ..ir.ops.shape import infer_minus_one

    x = value(x)
    return run(OPS["reshape"], x, shape=infer_minus_one(_shape(shape), product(x.shape)))


def _shape(shape: tuple) -> tuple:
    """The shape of `f(2, 3)`, `f((2, 3))` and `f([2, 3])`; sizes are ints or Dims."""
    if len(shape) == 1 and isinstance(shape[0], (tuple, list)):
        shape = tuple(shape[0])
    for size in shape:
        if not isinstance(size, (int, np.integer, Dim)):
            raise TypeRuleError(f"a shape is made of ints and Dims, got {shown(size)}{_instead(size)}")
    return tuple(size if isinstance(size, Dim) else int(size) for size in shape)


def _instead(size: Any) -> str:
    """What to write for something in a shape that is no size."""
    if isinstance(size, (tuple, list)):
        return "; write one shape, and the dtype by name: f((2, 3), dtype='float32')"
    if isinstance(size, (float, np.floating)):
        return "; write n // 2 for a whole quotient"
    return "; the size of a result must not depend on data" if isinstance(size, (Ref, np.ndarray)) else ""


@public
def transpose(x: Any, *axes: Any) -> Any:
    """The axes in another order: out.shape[i] = x.shape[axes[i]]; without `axes` reversed (NumPy's
    meaning)."""
    x = value(x)
    order: Any = axes
    if len(axes) == 1 and (axes[0] is None or isinstance(axes[0], (tuple, list))):
        (order,) = axes
    order = tuple(reversed(range(x.ndim))) if not order else tuple(order)
    if len(order) == 2 and x.ndim != 2:
        raise TypeRuleError(f"two axes {order} for {x.ndim} dimensions; write x.swapaxes({order[0]}, {order[1]})")
    return run(OPS["permute"], x, axes=tuple(normalize_axis(a, x.ndim) for a in order))


permute = transpose


@public
def swapaxes(x: Any, axis1: int, axis2: int) -> Any:
    """x with two axes exchanged."""
    x = value(x)
    a, b = normalize_axis(axis1, x.ndim), normalize_axis(axis2, x.ndim)
    order = list(range(x.ndim))
    order[a], order[b] = b, a
    return run(OPS["permute"], x, axes=tuple(order))


@public
def moveaxis(x: Any, source: int, destination: int) -> Any:
    """x with one axis moved to another place."""
    x = value(x)
    order = [a for a in range(x.ndim) if a != normalize_axis(source, x.ndim)]
    order.insert(normalize_axis(destination, x.ndim), normalize_axis(source, x.ndim))
    return run(OPS["permute"], x, axes=tuple(order))


@public
def expand_dims(x: Any, axis: int | Sequence[int]) -> Any:
    """x with axes of size 1 put in, at `axis` of the result."""
    x = value(x)
    ndim = x.ndim + (1 if isinstance(axis, int) else len(axis))
    axes = normalize_axes(axis, ndim)
    sizes = iter(x.shape)
    return reshape(x, tuple(1 if i in axes else next(sizes) for i in range(ndim)))


@public
def squeeze(x: Any, axis: Axis = None) -> Any:
    """x without axes of size 1: all of them, or those named (which must have size 1)."""
    x = value(x)
    ones = [i for i, d in enumerate(x.shape) if isinstance(d, int) and d == 1]
    axes = ones if axis is None else normalize_axes(axis, x.ndim)
    for a in axes:
        if a not in ones:
            raise TypeRuleError(f"axis {a} has size {x.shape[a]}, not 1")
    return reshape(x, tuple(d for i, d in enumerate(x.shape) if i not in axes))


@public
def flatten(x: Any, start_dim: int = 0, end_dim: int = -1) -> Any:
    """x with the axes from `start_dim` to `end_dim` (inclusive) made one; by default all."""
    x = value(x)
    if x.ndim == 0:
        return reshape(x, (1,))
    a, b = normalize_axis(start_dim, x.ndim), normalize_axis(end_dim, x.ndim)
    return reshape(x, (*x.shape[:a], product(x.shape[a : b + 1]), *x.shape[b + 1 :]))


@public
def ravel(x: Any) -> Any:
    """x with one axis."""
    return flatten(x)


@public
def broadcast_to(x: Any, *shape: Any) -> Any:
    """x repeated along new leading axes and axes of size 1."""
    return run(OPS["broadcast_to"], value(x), shape=_shape(shape))


@public
def concatenate(arrays: Sequence[Any], axis: int = 0, *, dim: int | None = None) -> Any:
    """Arrays one after the other along `axis`, in their common dtype."""
    if isinstance(axis, (Ref, np.ndarray)):
        raise TypeRuleError(f"the axis is {shown(axis)}; the arrays come as one list: concatenate([x, y], axis=0)")
    values = [value(a) for a in arrays]
    if not values:
        raise TypeRuleError("needs at least one array")
    dtype = promote([_type(v) for v in values])
    axis = normalize_axis(axis if dim is None else dim, values[0].ndim)
    return run(OPS["concat"], *(astype(v, dtype) for v in values), axis=axis)


concat = concatenate


@public
def stack(arrays: Sequence[Any], axis: int = 0, *, dim: int | None = None) -> Any:
    """Arrays of one shape along a new axis."""
    values = [value(a) for a in arrays]
    if not values:
        raise TypeRuleError("needs at least one array")
    axis = normalize_axis(axis if dim is None else dim, values[0].ndim + 1)
    return concatenate([expand_dims(v, axis) for v in values], axis)


@public
def split(x: Any, sections: int | Sequence[int], axis: int = 0, *, dim: int | None = None) -> list[Any]:
    """NumPy's split: `sections` equal parts, or cuts before the given indices. (PyTorch's int is the part's
    size.)"""
    x = value(x)
    axis = normalize_axis(axis if dim is None else dim, x.ndim)
    size = x.shape[axis]
    if isinstance(sections, int):
        length = divide(size, sections)
        if length is None:
            raise TypeRuleError(f"axis {axis} of size {size} does not split into {sections} equal parts")
        cuts = [length * i for i in range(sections + 1)]
    else:
        cuts = [0, *sections, size]
    return [part(x, axis, a, b) for a, b in pairwise(cuts)]


def chunk(x: Any, chunks: int, axis: int = 0, *, dim: int | None = None) -> list[Any]:
    """`chunks` equal parts along `axis`."""
    return split(x, chunks, axis, dim=dim)


def part(x: Any, axis: int, start: Any, stop: Any) -> Any:
    """x from start to stop along an axis."""
    axis = normalize_axis(axis, x.ndim)
    begin = tuple(start if i == axis else 0 for i in range(x.ndim))
    size = tuple(stop - start if i == axis else d for i, d in enumerate(x.shape))
    return run(OPS["slice"], x, start=begin, size=size, step=(1,) * x.ndim)


def dtype_of(x: Any) -> str:
    """f32 f64 i32 i64 or bool."""
    return _type(x).dtype


def numpy_dtype(x: Any) -> np.dtype:
    return DTYPES[dtype_of(x)]


def as_float(x: Any) -> Any:
    x = value(x)
    return x if _type(x).is_float else astype(x, "f32")


def _as_bool(x: Any) -> Any:
    x = value(x)
    return x if dtype_of(x) == "bool" else run(OPS["not_equal"], x, 0)


__all__ = [
    "all", "any", "argmax", "argmin", "astype", "broadcast_to", "chunk", "clip", "concat", "concatenate",
    "expand_dims", "flatten", "logsumexp", "matmul", "max", "mean", "min", "moveaxis", "permute",
    "prod", "ravel", "reshape", "split", "squeeze", "stack", "std", "sum", "swapaxes", "transpose",
    "var", "where",
]  # fmt: skip
