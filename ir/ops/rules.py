"""Type rules that many ops share."""

from __future__ import annotations

from ..op import all_weak
from ..types import DTYPES, TensorType, TypeRuleError, broadcast, promote


def elementwise(*types: TensorType) -> TensorType:
    """Broadcast shape, common dtype."""
    return TensorType(promote(types), broadcast([t.shape for t in types]), weak=all_weak(types))


def need_float(*types: TensorType) -> TensorType:
    """As `elementwise`, for functions that have no integer meaning here."""
    out = elementwise(*types)
    if not out.is_float:
        raise TypeRuleError(f"needs a float operand, got {out}; write x.astype('float32')")
    return out


def need_number(*types: TensorType) -> TensorType:
    out = elementwise(*types)
    if out.dtype == "bool":
        raise TypeRuleError(f"needs numbers, got {out}; write x.astype('float32'), or use & | ~ for logic")
    return out


def need_integer(*types: TensorType) -> TensorType:
    out = elementwise(*types)
    if not out.is_integer:
        raise TypeRuleError(f"needs integers, got {out}; write x.astype('int64')")
    return out


def float_to_bool(x: TensorType) -> TensorType:
    """For questions about a number; an integer is always finite."""
    return TensorType("bool", need_number(x).shape)


def compare(x: TensorType, y: TensorType) -> TensorType:
    return TensorType("bool", broadcast([x.shape, y.shape]))


def need_bool(*types: TensorType) -> TensorType:
    out = elementwise(*types)
    if out.dtype != "bool":
        raise TypeRuleError(f"needs bool operands, got {out}; write x != 0")
    return out


def known_dtype(dtype: object) -> str:
    """A dtype that programs have."""
    if dtype not in DTYPES:
        raise TypeRuleError(f"dtype {dtype!r} is not one of {', '.join(DTYPES)}")
    return str(dtype)


def need_shape(shape: object) -> tuple:
    """A tuple of sizes, none of them negative."""
    if not isinstance(shape, tuple) or any(isinstance(d, int) and d < 0 for d in shape):
        raise TypeRuleError(f"a shape is a tuple of sizes from 0, got {shape}")
    return shape


def need_axis(x: TensorType, axis: object) -> int:
    """An axis of `x`, counted from the front."""
    if not isinstance(axis, int) or isinstance(axis, bool) or not 0 <= axis < x.ndim:
        raise TypeRuleError(f"axis {axis!r} is out of range for {x}")
    return axis


def need_axes(x: TensorType, axes: object) -> tuple[int, ...]:
    """Several axes of `x`: sorted, from the front, each once."""
    if not isinstance(axes, tuple) or not all(isinstance(a, int) and 0 <= a < x.ndim for a in axes):
        raise TypeRuleError(f"axes {axes} are out of range for {x}")
    if list(axes) != sorted(set(axes)):
        raise TypeRuleError(f"axes {axes} are not in order, or name an axis twice")
    return axes
