"""The op namespace: arrays made from sizes. With plain ints the result is a NumPy array; in a traced program
a size may be a Dim (`arange(T)`, `tril(ones((T, T)))`), and then the program makes the array for every size
that it is run with."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..ir.build import Ref
from ..ir.dims import Dim
from ..ir.op import OPS
from ..ir.types import DTYPES, TensorType, TypeRuleError, dtype_name, promote, type_of
from .apply import operand, public, run, type_of_operand, value
from .functional import _shape, astype, dtype_of, where
from .module import Parameter
from .state import current_trace


@public
def full(shape: Any, fill_value: Any, dtype: Any = None) -> Any:
    """`fill_value` everywhere; float32, int64 or bool by the kind of the value unless `dtype` says
    otherwise."""
    sizes = _shape((shape,))
    if any(isinstance(d, int) and d < 0 for d in sizes):
        raise TypeRuleError(f"a shape is made of sizes from 0, got {sizes}")
    name = dtype_name(dtype) if dtype is not None else type_of(fill_value).dtype
    if not isinstance(fill_value, (bool, int, float, np.generic)):
        from .functional import broadcast_to

        return astype(broadcast_to(fill_value, sizes), name)
    if not any(isinstance(d, Dim) for d in sizes):
        return np.full(sizes, fill_value, DTYPES[name])
    return run(OPS["full"], shape=sizes, value=DTYPES[name].type(fill_value).item(), dtype=name)


@public
def zeros(*shape: Any, dtype: Any = "f32") -> Any:
    """Zeros: `zeros((B, T))` or `zeros(B, T)`."""
    return full(_shape(shape), 0.0, dtype)


@public
def ones(*shape: Any, dtype: Any = "f32") -> Any:
    """Ones: `ones((T, T))` or `ones(T, T)`."""
    return full(_shape(shape), 1.0, dtype)


@public
def full_like(x: Any, fill_value: Any, dtype: Any = None) -> Any:
    """`fill_value` in the shape and dtype of x."""
    x = value(x)
    return full(x.shape, fill_value, dtype or dtype_of(x))


@public
def zeros_like(x: Any, dtype: Any = None) -> Any:
    """Zeros in the shape and dtype of x."""
    return full_like(x, 0.0, dtype)


@public
def ones_like(x: Any, dtype: Any = None) -> Any:
    """Ones in the shape and dtype of x."""
    return full_like(x, 1.0, dtype)


@public
def arange(start: Any, stop: Any = None, step: Any = 1, dtype: Any = None) -> Any:
    """start, start + step, ... below stop; `arange(stop)` starts at 0. int64, or float32 if an argument is a
    float."""
    start, stop = (0, start) if stop is None else (start, stop)
    arguments = (start, stop, step)
    if any(isinstance(a, Ref) for a in arguments):
        raise TypeRuleError("the size of arange must not depend on data; take it from a shape: arange(x.shape[0])")
    name = dtype_name(dtype) if dtype is not None else "f32" if any(isinstance(a, float) for a in arguments) else "i64"
    if not any(isinstance(a, Dim) for a in arguments):
        bounds: Any = (start, stop, step)
        return np.arange(*bounds, dtype=DTYPES[name])
    count = stop - start if step == 1 else -((start - stop) // step)
    out = run(OPS["iota"], shape=(count,), axis=0, dtype=name)
    out = out if step == 1 else out * step
    return out if isinstance(start, int) and start == 0 else astype(out + start, name)


@public
def linspace(start: Any, stop: Any, num: Any = 50, endpoint: bool = True, dtype: Any = None) -> Any:
    """`num` numbers from start to stop at equal distances, stop among them or (`endpoint=False`) the next. start and
    stop are numbers or arrays, whose axes come after the first. float32, or the dtype of the arrays."""
    steps = num - 1 if endpoint else num
    start, stop = operand(start), operand(stop)
    kinds = [type_of_operand(v) for v in (start, stop)]
    name = promote([*kinds, TensorType("f32", weak=True)])
    if not any(isinstance(a, (Ref, Dim)) for a in (start, stop, num)):
        line = np.linspace(start, stop, num, endpoint)
        return line.astype(DTYPES[name if dtype is None else dtype_name(dtype)])
    t = run(OPS["iota"], shape=(num, *(1,) * max(k.ndim for k in kinds)), axis=0, dtype=name)
    t = t / (run(OPS["maximum"], steps, 1) if isinstance(steps, Dim) else max(steps, 1))
    out = start * (1.0 - t) + stop * t  # exact at both ends
    return out if dtype is None else astype(out, dtype)


@public
def eye(n: Any, m: Any = None, dtype: Any = "f32") -> Any:
    """The identity matrix (n, n), or ones on the main diagonal of (n, m)."""
    rows, columns = indices((n, n if m is None else m))
    return astype(rows == columns, dtype)


@public
def one_hot(index: Any, num_classes: Any, dtype: Any = "f32") -> Any:
    """1 at the class that `index` names, else 0: index (...) of integers -> (..., num_classes)."""
    from .functional import expand_dims

    index = value(index)
    return astype(expand_dims(index, -1) == arange(num_classes, dtype=dtype_of(index)), dtype)


@public
def tril(x: Any, k: int = 0) -> Any:
    """x (..., n, m) with zeros above the k-th diagonal."""
    x = value(x)
    rows, columns = _matrix_indices(x)
    return where(columns <= rows + k, x, 0)


@public
def triu(x: Any, k: int = 0) -> Any:
    """x (..., n, m) with zeros below the k-th diagonal."""
    x = value(x)
    rows, columns = _matrix_indices(x)
    return where(columns >= rows + k, x, 0)


def _matrix_indices(x: Any) -> list[Any]:
    if x.ndim < 2:
        raise TypeRuleError(f"needs a matrix, got {x.ndim} dimensions")
    return indices(x.shape[-2:], traced=isinstance(x, Ref))


def indices(shape: tuple, traced: bool = False) -> list[Any]:
    """Row and column number of every element of a matrix, int64. In a traced program they are computed, not stored,
    if a size is symbolic or if `traced` asks for it."""
    sizes, trace = _shape(shape), current_trace()
    numbers = [{"shape": sizes, "axis": axis, "dtype": "i64"} for axis in (0, 1)]
    if trace is not None and traced:
        return [trace.builder.emit(OPS["iota"], (), attrs) for attrs in numbers]
    return [run(OPS["iota"], **attrs) for attrs in numbers]


@public
def tensor(data: Any, dtype: Any = None, requires_grad: bool = False) -> Any:
    """A copy of `data` (nested lists, numbers, arrays) as an array, float32 for Python floats; with `requires_grad` a
    Parameter: a leaf that programs which read it can train.

        w = gt.tensor([0.0, 0.0], requires_grad=True)
        step = gt.compile(lambda x, y: gt.mse(x @ w, y), optimizer=gt.SGD(lr=0.1, params=[w]))

    Inside a traced program: a constant of it, also with `requires_grad`, which the lint then speaks of. What had been
    taken out of the program does not become part of it again by this; a traced value is returned as it is.
    """
    trace = current_trace()
    x = value(data)
    if dtype is not None:
        x = astype(x, dtype)
    if trace is None:
        return Parameter(x) if requires_grad else np.array(x, subok=True)
    if not isinstance(x, Ref):
        x = trace.constant(x, requires_grad)
    return x


__all__ = [
    "arange", "eye", "full", "full_like", "linspace", "one_hot", "ones", "ones_like", "tensor", "tril", "triu", "zeros",
    "zeros_like",
]  # fmt: skip
