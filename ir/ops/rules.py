"""Type rules that many ops share."""

from __future__ import annotations

from ..op import all_weak
from ..types import TensorType, TypeRuleError, broadcast, promote


def elementwise(*types: TensorType) -> TensorType:
    """Broadcast shape, common dtype."""
    return TensorType(promote(types), broadcast([t.shape for t in types]), weak=all_weak(types))


def need_float(*types: TensorType) -> TensorType:
    """As `elementwise`, for functions that have no integer meaning here."""
    out = elementwise(*types)
    if not out.is_float:
        raise TypeRuleError(f"needs a float operand, got {out}; write x.astype('f32')")
    return out


def need_number(*types: TensorType) -> TensorType:
    out = elementwise(*types)
    if out.dtype == "bool":
        raise TypeRuleError(f"needs numbers, got {out}; write x.astype('f32'), or use & | ~ for logic")
    return out


def compare(x: TensorType, y: TensorType) -> TensorType:
    return TensorType("bool", broadcast([x.shape, y.shape]))


def need_bool(*types: TensorType) -> TensorType:
    out = elementwise(*types)
    if out.dtype != "bool":
        raise TypeRuleError(f"needs bool operands, got {out}; write x != 0")
    return out
