"""How every function of the op namespace reaches its op: operands resolved, errors with the user's line, tags
kept."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, TypeVar, cast

import numpy as np

from ..ir.build import Ref, TypeRuleViolation, at_line
from ..ir.dims import Dim
from ..ir.foreign import objection
from ..ir.location import user_location
from ..ir.op import Op, _resolve
from ..ir.types import TensorType, TypeRuleError, shown, type_of
from .escaped import tag_of, tagged
from .mistakes import parameters_of, signature_fact
from .state import current_trace

F = TypeVar("F", bound=Callable[..., Any])


def value(x: Any) -> Any:
    """`x` as something with a shape: a traced value, or an ndarray (lists and Python floats become
    float32)."""
    x = operand(x)
    trace = current_trace()
    if isinstance(x, Dim) and trace is not None:
        return trace.dim_scalar(x, "i64")
    if isinstance(x, Ref) or (isinstance(x, np.ndarray) and x.dtype != object):
        return x
    fact = objection(x)
    if fact is not None:
        raise TypeRuleError(fact)
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
    try:
        array = np.asarray(items)
    except ValueError:
        raise TypeRuleError(f"the lists in {shown(items)} are not equally long") from None
    for item in _flat(items):
        fact = objection(item) if array.dtype.kind not in "fiub" else None
        if fact is not None:
            raise TypeRuleError(fact)
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
    try:
        args = tuple(operand(a) for a in args)
        for arg in args:
            fact = objection(arg)
            if fact is not None:
                raise TypeRuleError(fact)
    except TypeRuleError as fact:
        raise explained(op.name, fact, args) from None
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
        except TypeError as error:
            if type(error) is not TypeError or "\n  at  " in str(error):
                raise
            binding = error.__traceback__ is not None and error.__traceback__.tb_next is None
            fact = signature_fact(function, error) if binding else f"{error}; it takes {parameters_of(function)}"
            raise explained(function.__name__, TypeRuleError(fact), (*args, *kwargs.values())) from None
        except (IndexError, ValueError) as error:
            if type(error) not in (IndexError, ValueError) or "\n  at  " in str(error):
                raise
            fact = type(error)(str(error).removeprefix(f"{function.__name__}: "))
            raise type(error)(explained(function.__name__, fact, (*args, *kwargs.values()))) from None

    return cast(F, call)


def explained(name: str, fact: Exception, args: tuple) -> TypeRuleViolation:
    """The error in the form that all errors have: the fact, the line, the operands."""
    operands = [a for a in _flat(map(_resolve, args)) if isinstance(a, (Ref, np.ndarray))]
    traced = [o for o in operands if isinstance(o, Ref)]
    if traced:
        builder = traced[0]._builder
        return builder.violation(cast(Op, SimpleNamespace(name=name)), [builder.operand(o) for o in traced], fact)
    types = ", ".join(map(shown, operands))
    lines = [f"{name}: {fact}", *at_line(user_location())]
    return TypeRuleViolation("\n".join([*lines, *([f"  with  {types}"] if types else [])]))
