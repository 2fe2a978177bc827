"""Shape ops: views wherever strides can say it. Also the generators, whose values depend on the index only."""

from __future__ import annotations

import numpy as np

from ..dims import divide, identical, product, require_equal, same_shape
from ..op import no_gradient, op
from ..types import DTYPES, TensorType, TypeRuleError, broadcast
from .rules import known_dtype, need_axis, need_shape


def _list(shape):
    return f"({', '.join(map(str, shape))})"


@op
class reshape:
    """the same elements in row-major order, in another shape"""
    kind = "view"
    def infer(x, *, shape):
        need_shape(shape)
        if not identical(product(shape), x.size) and not require_equal(product(shape), x.size):
            raise TypeRuleError(f"{x} has {x.size} elements, shape {_list(shape)} has {product(shape)}")
        return TensorType(x.dtype, shape)
    def ref(x, *, shape): return np.reshape(x, shape)
    def vjp(g, out, x, *, shape): return (reshape(g, shape=x.shape),)


def infer_minus_one(shape, size):
    """Replaces one -1 in `shape` by what `size` leaves for it."""
    if sum(identical(d, -1) for d in shape) > 1:
        raise TypeRuleError(f"only one -1 in a shape, got {_list(shape)}")
    if not any(identical(d, -1) for d in shape):
        return tuple(shape)
    rest = product(d for d in shape if not identical(d, -1))
    missing = divide(size, rest)
    if missing is None:
        if isinstance(size, int) and isinstance(rest, int):
            raise TypeRuleError(f"{size} elements do not divide into shape {_list(shape)}")
        if size % rest != 0:
            raise TypeRuleError(f"{size} elements do not divide into shape {_list(shape)} for every size: {int(size)} do not")
        missing = size // rest
    return tuple(missing if identical(d, -1) else d for d in shape)


@op
class permute:
    """axes in another order: out.shape[i] = x.shape[axes[i]]"""
    kind = "view"
    def infer(x, *, axes):
        if not isinstance(axes, tuple) or sorted(axes) != list(range(x.ndim)):
            raise TypeRuleError(f"axes {_list(axes)} are not an order of the {x.ndim} axes of {x}")
        return TensorType(x.dtype, tuple(x.shape[a] for a in axes))
    def ref(x, *, axes): return np.transpose(x, axes)
    def vjp(g, out, x, *, axes): return (permute(g, axes=tuple(int(a) for a in np.argsort(axes))),)


@op
class broadcast_to:
    """x repeated along axes of size 1 and new leading axes"""
    kind = "view"
    def infer(x, *, shape):
        result = broadcast([x.shape, need_shape(shape)])
        if len(result) != len(shape) or not all(identical(a, b) for a, b in zip(result, shape, strict=True)):
            raise TypeRuleError(f"{x} does not broadcast to {_list(shape)}")
        return TensorType(x.dtype, shape)
    def ref(x, *, shape): return np.broadcast_to(x, shape)
    def vjp(g, out, x, *, shape): return (g,)  # the sum over the new axes is taken for every op alike


@op
class slice_:
    """size elements of every axis, from start, in steps: x[start], x[start + step], ..."""
    kind = "view"
    def infer(x, *, start, size, step):
        if not len(start) == len(size) == len(step) == x.ndim:
            raise TypeRuleError(f"start, size and step need one entry for each of the {x.ndim} axes")
        _inside(x.shape, start, need_shape(size), step)
        return TensorType(x.dtype, size)
    def ref(x, *, start, size, step): return x[_slices(start, size, step)]
    def vjp(g, out, x, *, start, size, step): return (unslice(g, shape=x.shape, start=start, step=step),)


def _inside(shape, start, size, step):
    """Every element that is taken must exist; where sizes are symbolic, who records the slice has checked it."""
    for axis, (d, a, n, b) in enumerate(zip(shape, start, size, step, strict=True)):
        if isinstance(b, int) and b == 0:
            raise TypeRuleError(f"the step of axis {axis} is 0")
        if not all(isinstance(v, int) for v in (d, a, n, b)) or n == 0:
            continue
        first, last = min(a, a + (n - 1) * b), max(a, a + (n - 1) * b)
        if first < 0 or last >= d:
            raise TypeRuleError(f"elements {first} to {last} of axis {axis} are not all in its size {d}")


def _slices(start, size, step):
    stop = [a + n * b for a, n, b in zip(start, size, step, strict=True)]
    return tuple(
        np.s_[a:(None if e < 0 else e):b] if n else np.s_[0:0]
        for a, e, b, n in zip(start, stop, step, size, strict=True)
    )


@op
class unslice:
    """an array of one value (0) with x put into it at start, in steps: the reverse of slice"""
    kind = "copy"
    def infer(x, *, shape, start, step, value=0):
        if not len(start) == len(shape) == len(step) == x.ndim:
            raise TypeRuleError(f"shape, start and step need one entry for each of the {x.ndim} axes")
        if not isinstance(value, (bool, int, float)):
            raise TypeRuleError(f"the value is a number, not {value!r}")
        _inside(need_shape(shape), start, x.shape, step)
        return TensorType(x.dtype, shape)
    def ref(x, *, shape, start, step, value=0):
        out = np.full(shape, value, x.dtype)
        out[_slices(start, x.shape, step)] = x
        return out
    def vjp(g, out, x, *, shape, start, step, value=0): return (slice_(g, start=start, size=x.shape, step=step),)


@op
class concat:
    """arrays one after the other along an axis"""
    kind = "copy"
    def infer(*xs, axis):
        if not xs:
            raise TypeRuleError("needs at least one array")
        first = xs[0]
        need_axis(first, axis)
        for x in xs[1:]:
            if x.ndim != first.ndim or x.dtype != first.dtype:
                raise TypeRuleError(f"arrays differ in rank or dtype: {first} and {x}")
            for i, (a, b) in enumerate(zip(first.shape, x.shape, strict=True)):
                if i != axis and not require_equal(a, b):
                    raise TypeRuleError(f"sizes of axis {i} differ: {a} and {b}; only axis {axis} may differ")
        total = sum((x.shape[axis] for x in xs[1:]), first.shape[axis])
        return TensorType(first.dtype, (*first.shape[:axis], total, *first.shape[axis + 1:]))
    def ref(*xs, axis): return np.concatenate(xs, axis)
    def vjp(g, out, *xs, axis):
        grads, offset = [], 0
        for x in xs:
            start = tuple(offset if i == axis else 0 for i in range(x.ndim))
            grads.append(slice_(g, start=start, size=x.shape, step=(1,) * x.ndim))
            offset = offset + x.shape[axis]
        return tuple(grads)


@op
class weave:
    """parts between each other's elements: out[a::step] is the part of a, for every a below step, in row-major order"""
    kind = "copy"
    def infer(*parts, shape, step):
        if len(step) != len(need_shape(shape)) or any(not isinstance(s, int) or s < 1 for s in step):
            raise TypeRuleError(f"step is an integer from 1 for each of the axes of {_list(shape)}, got {step}")
        if len(parts) != product(step):
            raise TypeRuleError(f"steps {step} need {product(step)} parts, got {len(parts)}")
        for part, a in zip(parts, np.ndindex(*step), strict=True):
            expected = TensorType(parts[0].dtype, woven_shape(shape, step, a))
            if part.dtype != expected.dtype or not same_shape(part.shape, expected.shape):
                raise TypeRuleError(f"the part that starts at {a} is {expected}, got {part}")
        return TensorType(parts[0].dtype, shape)
    def ref(*parts, shape, step):
        out = np.empty(shape, parts[0].dtype)
        for part, a in zip(parts, np.ndindex(*step), strict=True):
            out[tuple(np.s_[b::s] for b, s in zip(a, step, strict=True))] = part
        return out
    def vjp(g, out, *parts, shape, step):
        starts = [tuple(map(int, a)) for a in np.ndindex(*step)]
        return tuple(slice_(g, start=a, size=p.shape, step=step) for p, a in zip(parts, starts, strict=True))


def woven_shape(shape, step, start):
    """The shape of x[start::step], for x of a shape and starts below the steps."""
    whole = [divide(d, s) for d, s in zip(shape, step, strict=True)]  # of a symbolic size, only if it divides
    return tuple(
        (d - int(a) + s - 1) // s if w is None else w for d, s, a, w in zip(shape, step, start, whole, strict=True)
    )


# generators -----------------------------------------------------------------------------------------------------
@op
class constant:
    """an array that is part of the program"""
    kind = "constant"
    def infer(*, digest, dtype, shape): return TensorType(known_dtype(dtype), need_shape(shape))
    def ref(*, digest, dtype, shape): raise LookupError(f"constant {digest} is resolved by the interpreter")
    vjp = no_gradient("a constant has no inputs")


@op
class full:
    """one number everywhere"""
    generator = True
    def infer(*, shape, value, dtype):
        if not isinstance(value, (bool, int, float)):
            raise TypeRuleError(f"the value is a number, not {value!r}")
        return TensorType(known_dtype(dtype), need_shape(shape))
    def ref(*, shape, value, dtype): return np.full(shape, value, DTYPES[dtype])
    vjp = no_gradient("a constant has no inputs")
    def scalar(s, *, shape, value, dtype): return s.constant(value, dtype)


@op
class iota:
    """the index along one axis"""
    generator = True
    def infer(*, shape, axis, dtype):
        out = TensorType(known_dtype(dtype), need_shape(shape))
        need_axis(out, axis)
        if dtype == "bool":
            raise TypeRuleError("an index is a number, not a bool")
        return out
    def ref(*, shape, axis, dtype):
        line = np.arange(shape[axis], dtype=DTYPES[dtype])
        return np.broadcast_to(line.reshape([-1 if i == axis else 1 for i in range(len(shape))]), shape)
    vjp = no_gradient("an index has no inputs")
    def scalar(s, *, shape, axis, dtype): return s.cast(s.index(axis - len(shape)), dtype)


@op
class dim_scalar:
    """a dimension as a number"""
    generator = True
    def infer(*, value, dtype="f32"): return TensorType(known_dtype(dtype))
    def ref(*, value, dtype="f32"): return DTYPES[dtype].type(value)
    vjp = no_gradient("a dimension has no inputs")
    def scalar(s, *, value, dtype="f32"): return s.cast(s.dim(value), dtype)
