"""Value types: dtype and shape, printed `f32[B, 64, 128]`; promotion and broadcasting.

Promotion follows the categories bool < integer < float, as PyTorch and JAX do: an integer array never widens a float
one (`i64 + f32` is f32), and a Python number never widens an array (`f32 * 2.0` is f32).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .dims import DimLike, Shape, bounds, identical, parse_dim, product, require_equal, same_shape
from .foreign import dtype_objection

DTYPES: dict[str, np.dtype] = {
    "f32": np.dtype(np.float32),
    "f64": np.dtype(np.float64),
    "i32": np.dtype(np.int32),
    "i64": np.dtype(np.int64),
    "bool": np.dtype(np.bool_),
}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_ORDER = ("bool", "i32", "i64", "f32", "f64")


class TypeRuleError(TypeError):
    """The bare fact that a type rule found wrong; the builder adds operands, line and scope."""


@dataclass(frozen=True)
class TensorType:
    """dtype and shape. `weak` marks a Python number: it takes the dtype of whatever it meets in its category."""

    dtype: str
    shape: Shape = ()
    weak: bool = False

    def __eq__(self, other: object) -> bool:
        """Equal for every value of the symbols; records no guard, unlike `==` of Dims."""
        return (
            isinstance(other, TensorType)
            and (self.dtype, self.weak) == (other.dtype, other.weak)
            and same_shape(self.shape, other.shape)
        )

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> DimLike:
        return product(self.shape)

    @property
    def is_float(self) -> bool:
        return self.dtype in ("f32", "f64")

    @property
    def is_integer(self) -> bool:
        return self.dtype in ("i32", "i64")

    def with_dtype(self, dtype: str) -> TensorType:
        return TensorType(dtype, self.shape)

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]"

    __repr__ = __str__


def dtype_name(dtype: object) -> str:
    """`f32` for np.float32, "float32", "f32", ...; raises TypeRuleError for a dtype that programs do not have."""
    if isinstance(dtype, str) and dtype in DTYPES:
        return dtype
    if isinstance(dtype, type) and dtype in (float, int, bool):
        return {float: "f32", int: "i64", bool: "bool"}[dtype]
    try:
        return _NAMES[np.dtype(dtype)]  # type: ignore[call-overload]
    except (KeyError, TypeError):
        name = dtype.name if isinstance(dtype, np.dtype) else getattr(dtype, "__name__", dtype)
        shown = repr(name) if isinstance(dtype, str) else name
        raise TypeRuleError(f"dtype {shown} is not one of {', '.join(DTYPES)}{dtype_objection(str(name))}") from None


def type_of(array: object) -> TensorType:
    """The type of a NumPy array, of a Python number (weak), or of a NumPy scalar (weak, as a Python number)."""
    if isinstance(array, (bool, np.bool_)):
        return TensorType("bool", (), weak=True)
    if isinstance(array, (int, np.integer)):
        return TensorType("i64", (), weak=True)
    if isinstance(array, (float, np.floating)):
        return TensorType("f32", (), weak=True)
    array = np.asarray(array)
    return TensorType(dtype_name(array.dtype), array.shape)


def shown(x: object) -> str:
    """`x` in an error message: a traced value and an array by their type, anything else as Python shows it."""
    kind = getattr(x, "type", None)
    if isinstance(kind, TensorType):
        return str(kind)
    if isinstance(x, np.ndarray):
        return f"{_NAMES.get(x.dtype, x.dtype)}[{', '.join(map(str, x.shape))}]"
    text = repr(x)
    return text if len(text) < 80 else text[:76] + " ..."


def parse_type(text: str) -> TensorType:
    match = re.fullmatch(r"\s*(\w+)\[(.*)\]\s*", text)
    if not match or match[1] not in DTYPES:
        raise ValueError(f"not a type: {text!r}")
    dims = tuple(parse_dim(d) for d in match[2].split(",")) if match[2].strip() else ()
    return TensorType(match[1], dims)


def promote(types: Sequence[TensorType]) -> str:
    """The common dtype. Python numbers count only where their category is above that of all arrays."""
    strong = [t.dtype for t in types if not t.weak]
    weak = [t.dtype for t in types if t.weak]
    best = max(strong, key=_ORDER.index) if strong else max(weak, key=_ORDER.index)
    for dtype in weak:
        if category(dtype) > category(best):
            best = dtype
    return best


def category(dtype: str) -> int:
    """0 bool, 1 integer, 2 float."""
    return 0 if dtype == "bool" else 1 if dtype in ("i32", "i64") else 2


def broadcast(shapes: Sequence[Shape]) -> Shape:
    """NumPy's broadcasting. A symbolic dimension is never taken for 1."""
    rank = max((len(s) for s in shapes), default=0)
    out: list[DimLike] = []
    for axis in range(-rank, 0):
        size: DimLike = 1
        for shape in shapes:
            if -axis > len(shape):
                continue
            dim = shape[axis]
            if identical(dim, 1):
                continue
            if identical(size, 1):
                size = dim
            elif not identical(size, dim) and not require_equal(size, dim):
                listed = " and ".join(f"({', '.join(map(str, s))})" for s in shapes)
                raise TypeRuleError(f"shapes {listed} do not broadcast: {size} and {dim} differ")
            elif isinstance(dim, int):
                size = dim
        out.append(size)
    return tuple(out)


def normalize_axis(axis: int, ndim: int) -> int:
    if not isinstance(axis, (int, np.integer)) or isinstance(axis, bool):
        raise TypeRuleError(f"an axis is an int, not {shown(axis)}")
    if not -ndim <= axis < ndim:
        raise TypeRuleError(f"axis {axis} is out of range for {ndim} dimensions")
    return int(axis) % ndim


def normalize_axes(axes: int | Sequence[int] | None, ndim: int) -> tuple[int, ...]:
    """Sorted non-negative axes; None is all of them."""
    if axes is None:
        return tuple(range(ndim))
    several = isinstance(axes, (tuple, list, range)) or (isinstance(axes, np.ndarray) and axes.ndim == 1)
    listed: Any = axes if several else (axes,)
    out = tuple(sorted(normalize_axis(a, ndim) for a in listed))
    if len(set(out)) != len(out):
        raise TypeRuleError(f"an axis appears twice in {tuple(listed)}")
    return out


def is_one(dim: DimLike) -> bool:
    return identical(dim, 1)


def known_nonzero(dim: DimLike) -> bool:
    return bounds(dim)[0] > 0
