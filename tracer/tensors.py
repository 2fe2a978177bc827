"""`Tensor`: a traced value. It has NumPy's operators, methods and protocols; what needs its number goes to
the ledger."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from ..ir.dims import Dim
from ..ir.graph import Value
from ..ir.op import OPS
from ..ir.types import DTYPES
from . import elementwise as e
from . import functional as f
from . import numpy_protocol
from .indexing import index
from .methods import Methods
from .mistakes import OnlyHere, method_advice
from .state import TraceError, no_gradient_kept
from .update import At

if TYPE_CHECKING:
    from .trace import Trace


class Tensor(OnlyHere, Methods):
    """A value of the program being traced. `shape` holds ints and Dims, `dtype` is NumPy's."""

    __slots__ = ()

    @property
    def trace(self) -> Trace:
        return self._builder.trace  # type: ignore[attr-defined]

    @property
    def dtype(self) -> np.dtype:
        return DTYPES[self.type.dtype]

    @property
    def T(self) -> Any:  # noqa: N802
        """All axes reversed."""
        return f.transpose(self)

    @property
    def requires_grad(self) -> bool:
        return self.type.is_float

    def __pow__(self, other: Any) -> Any:
        return e.pow(self, other) if isinstance(other, int) else super().__pow__(other)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """PyTorch's: it says nothing here, for gt.grad and gt.value_and_grad are told what to differentiate."""
        return self

    @property
    def grad(self) -> NoReturn:
        raise no_gradient_kept("a traced value", "grad")

    # shapes ---------------------------------------------------------------------------------------------------------
    def reshape(self, *shape: Any) -> Any:
        return f.reshape(self, *shape)

    view = reshape

    def transpose(self, *axes: Any) -> Any:
        return f.transpose(self, *axes)

    permute = transpose

    def swapaxes(self, axis1: int, axis2: int) -> Any:
        return f.swapaxes(self, axis1, axis2)

    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> Any:
        return f.flatten(self, start_dim, end_dim)

    def ravel(self) -> Any:
        return f.ravel(self)

    def squeeze(self, axis: f.Axis = None) -> Any:
        return f.squeeze(self, axis)

    def unsqueeze(self, dim: int) -> Any:
        return f.expand_dims(self, dim)

    def expand_dims(self, axis: int) -> Any:
        return f.expand_dims(self, axis)

    def astype(self, dtype: Any, copy: bool = True) -> Any:
        return f.astype(self, dtype)

    def copy(self) -> Tensor:
        return self

    def detach(self) -> Any:
        """PyTorch's name for `stop_gradient`."""
        return e.stop_gradient(self)

    # reductions -----------------------------------------------------------------------------------------------------
    def sum(self, axis: f.Axis = None, keepdims: bool = False, **alias: Any) -> Any:
        return f.sum(self, axis, keepdims, **alias)

    def mean(self, axis: f.Axis = None, keepdims: bool = False, **alias: Any) -> Any:
        return f.mean(self, axis, keepdims, **alias)

    def max(self, axis: f.Axis = None, keepdims: bool = False, **alias: Any) -> Any:
        return f.max(self, axis, keepdims, **alias)

    def min(self, axis: f.Axis = None, keepdims: bool = False, **alias: Any) -> Any:
        return f.min(self, axis, keepdims, **alias)

    def prod(self, axis: f.Axis = None, keepdims: bool = False, **alias: Any) -> Any:
        return f.prod(self, axis, keepdims, **alias)

    def var(self, axis: f.Axis = None, ddof: int = 0, keepdims: bool = False, **alias: Any) -> Any:
        return f.var(self, axis, ddof, keepdims, **alias)

    def std(self, axis: f.Axis = None, ddof: int = 0, keepdims: bool = False, **alias: Any) -> Any:
        return f.std(self, axis, ddof, keepdims, **alias)

    def any(self, axis: f.Axis = None, keepdims: bool = False, **alias: Any) -> Any:
        return f.any(self, axis, keepdims, **alias)

    def all(self, axis: f.Axis = None, keepdims: bool = False, **alias: Any) -> Any:
        return f.all(self, axis, keepdims, **alias)

    # indexing -------------------------------------------------------------------------------------------------------
    def __getitem__(self, key: Any) -> Any:
        result = index(self, key)
        self.trace.chosen(result)
        return result

    @property
    def at(self) -> At:
        """`x.at[key].set(v)`, `.add(v)`: x with that part replaced, as a new value (JAX's spelling)."""
        return At(self)

    def __setitem__(self, key: Any, value: Any) -> NoReturn:
        self.trace.record("setitem", self)
        raise TraceError(
            self.trace.at_line(
                f"a traced value cannot be assigned in place: {self.type}",
                "x = x.at[i].set(new) or x.at[i].add(new), or x = gt.where(mask, new, x)",
            )
        )

    def __len__(self) -> int:
        if self.ndim == 0:
            raise TraceError(self.trace.at_line(f"len() of {self.type}, which has no axes", "x.size, or leave it out"))
        return int(self.shape[0])  # pins a symbolic size, and records the line

    def __iter__(self) -> Iterator[Any]:
        if self.ndim == 0:
            raise TraceError(self.trace.at_line(f"iteration over {self.type}, which has no axes", "x itself"))
        return (self[i] for i in range(len(self)))

    # the exits ------------------------------------------------------------------------------------------------------
    def __bool__(self) -> bool:
        return self.trace.number("bool", self, bool)

    def __float__(self) -> float:
        return self.trace.number("float", self, float)

    def __int__(self) -> int:
        return self.trace.number("int", self, int)

    def __index__(self) -> int:
        if not self.type.is_integer:
            fact = f"{self.type} is no integer, as range(), a shape or an index of a list needs one"
            raise TraceError(self.trace.at_line(fact, "a size such as x.shape[0], or gt.astype(x, 'int64')"))
        return self.trace.number("index", self, np.ndarray.item)

    def __format__(self, form: str) -> str:
        return format(self.trace.number("format", self, np.ndarray.item), form) if form else repr(self)

    def item(self) -> Any:
        return self.trace.escape("item", self).item()

    def tolist(self) -> Any:
        return self.trace.escape("tolist", self).tolist()

    def numpy(self) -> np.ndarray:
        return self.trace.escape("numpy", self)

    @property
    def data(self) -> np.ndarray:
        return self.trace.escape("data", self)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        array = self.trace.escape("asarray", self)
        return array if dtype is None else array.astype(dtype)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        return numpy_protocol.ufunc(ufunc, method, inputs, kwargs)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return numpy_protocol.function(func, args, kwargs)

    def backward(self) -> NoReturn:
        raise TraceError(
            self.trace.at_line(
                f"a traced value has no backward(): {self.type}; the whole step is one program",
                "step = gt.compile(model, loss=..., optimizer=...), or gt.value_and_grad(f)",
            )
        )

    def __copy__(self) -> Tensor:
        return self  # it is never changed

    def __deepcopy__(self, memo: dict) -> Tensor:
        return self

    def __getattr__(self, name: str) -> NoReturn:
        """Names of other libraries: what they are here."""
        if name.startswith("_"):
            raise AttributeError(f"a traced value has no {name}")
        advice = method_advice(name, dir(type(self)))
        raise AttributeError(self.trace.at_line(f"a traced value has no {name}: {self.type}", advice))


def as_tensor(trace: Trace, operand: Value) -> Tensor:
    return Tensor(trace.builder, operand)


__all__ = ["OPS", "Dim", "Tensor", "as_tensor"]
