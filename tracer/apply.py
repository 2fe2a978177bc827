"""How every function of the op namespace reaches its op: operands resolved, errors with the user's line, tags
kept."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, TypeVar, cast

import numpy as np

from ..ir.build import Ref, TypeRuleViolation
from ..ir.dims import Dim
from ..ir.op import Op, _resolve
from ..ir.types import TensorType, TypeRuleError, type_of
from .escaped import tag_of, tagged
from .state import current_trace

F = TypeVar("F", bound=Callable[..., Any])


def value(x: Any) -> Any:
    """`x` as something with a shape: a traced value, or an ndarray (lists and Python floats become
    float32)."""
    x = operand(x)
    trace = current_trace()
    if isinstance(x, Dim) and trace is not None:
        return trace.dim_scalar(x, "i64")
    if isinstance(x, (Ref, np.ndarray)):
        return x
    python_float = isinstance(x, float) and not isinstance(x, np.generic)
    return tagged(np.asarray(x, np.float32 if python_float else None), tag_of(x))


def operand(x: Any) -> Any:
    """What an op takes for `x`: Parameters resolved, a list as an array; numbers stay, and so do Dims in a trace."""
    x = _resolve(x)
    if isinstance(x, Dim):
        return int(x) if current_trace() is None else x
    return from_list(x) if isinstance(x, (list, tuple)) else x


def type_of_operand(x: Any) -> TensorType:
    """The type of what `operand` or `value` gave; a Dim is a number."""
    if isinstance(x, Dim):
        return TensorType("i64", weak=True)
    return x.type if isinstance(x, Ref) else type_of(x)


def from_list(items: Any) -> Any:
    """An array of nested lists: float32 for floats, int64 for integers; traced values inside are stacked."""
    if any(isinstance(_resolve(i), Ref) for i in _flat(items)):
        from .functional import stack

        return stack([value(i) for i in items])
    array = np.asarray(items)
    return tagged(array.astype(np.float32) if array.dtype == np.float64 and _is_python(items) else array, tag_of(items))


def _is_python(items: Any) -> bool:
    return not any(isinstance(i, (np.ndarray, np.generic)) for i in _flat(items))


def _flat(items: Any) -> Iterator[Any]:
    for item in items:
        if isinstance(item, (list, tuple)):
            yield from _flat(item)
        else:
            yield item


def run(op: Op, *args: Any, **attrs: Any) -> Any:
    """Records `op` in the running trace if an operand is traced, or a size that is symbolic is part of it; else runs
    it eagerly."""
    args = tuple(operand(a) for a in args)
    if not any(isinstance(a, Ref) for a in args):
        trace = current_trace()
        if trace is not None and any(_symbolic(a) for a in (*args, *attrs.values())):
            return trace.builder.emit(op, args, attrs)
    try:
        result = op(*args, **attrs)
    except TypeRuleError as fact:  # eager: a traced op raises the violation in full
        raise explained(op.name, fact, args) from None
    return result if _is_traced(result) else tagged(result, tag_of(args))


def _is_traced(result: Any) -> bool:
    return isinstance(result[0] if isinstance(result, tuple) else result, Ref)


def _symbolic(attr: Any) -> bool:
    return isinstance(attr, Dim) or (isinstance(attr, tuple) and any(_symbolic(a) for a in attr))


def public(function: F) -> F:
    """Marks a function of the op namespace: what it finds wrong is told with the user's line and the
    operands."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except TypeRuleError as fact:
            raise explained(function.__name__, fact, (*args, *kwargs.values())) from None

    return cast(F, call)


def explained(name: str, fact: Exception, args: tuple) -> TypeRuleViolation:
    """The error in the form that all errors have: the fact, the line, the operands."""
    operands = [a for a in map(_resolve, args) if isinstance(a, (Ref, np.ndarray))]
    traced = [o for o in operands if isinstance(o, Ref)]
    if traced:
        builder = traced[0]._builder
        return builder.violation(cast(Op, SimpleNamespace(name=name)), [builder.operand(o) for o in traced], fact)
    types = ", ".join(str(type_of(o)) for o in operands)
    return TypeRuleViolation(f"{name}: {fact}" + (f"\n  with  {types}" if types else ""))
