"""`custom_vjp`: a function with a derivative of the user's own."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..ir.build import Ref
from ..ir.dims import same_shape
from ..ir.op import OPS, _resolve
from ..ir.types import DTYPES, TensorType, type_of
from .context import Trace
from .region import as_operand, is_operand, operands_of, trace_region
from .rule_check import Rule, RuleError, by_operand, check_rule, defined_at, kind_of
from .state import current_trace
from .structure import Structure, flatten


def custom_vjp(
    forward: Callable[..., Any] | None = None,
    backward: Callable[..., Any] | None = None,
    *,
    surrogate: bool = False,
    check: bool = True,
) -> Any:
    """A function with its own derivative: `forward(*args) -> (out, saved)`, `backward(saved, g) -> gradients`.

        swish = gt.custom_vjp(swish_forward, swish_backward)

        @gt.custom_vjp
        def cube(x):
            return x**3, x

        @cube.backward
        def cube(x, g):
            return (3 * x**2 * g,)

    forward   what the function computes; `out` is an array or a nested structure of arrays, `saved` anything that
              backward needs (arrays in a structure, numbers, None)
    backward  the gradient of every argument in order, a tuple (for one argument also the gradient itself), of the
              argument's shape and dtype. `g` has the structure of `out`. None says that there is no gradient: for
              integers and Python numbers always, for floats where the result does not depend on them
    surrogate the derivative is meant to differ from that of forward (a straight-through estimator): it is not checked
    check     False leaves the check out

    Both are traced: they compile, fuse and are printed like any code, and backward can be differentiated again. They
    may read nothing but their arguments; arrays and Python numbers that they close over are constants. Where it is
    first traced the rule is compared with finite differences of forward in float64, at drawn arguments.

    Raises RuleError (a TypeError) where the number, shapes, dtypes or values of the gradients are wrong.
    """
    if forward is None:
        return lambda function: CustomVjp(function, backward, surrogate, check)
    return CustomVjp(forward, backward, surrogate, check)


class CustomVjp:
    """What `custom_vjp` makes: a function of arrays or traced values."""

    def __init__(self, forward: Callable, backward: Callable | None, surrogate: bool, check: bool) -> None:
        functools.update_wrapper(self, forward)
        self._forward = forward
        self._backward = backward
        self._surrogate = surrogate
        self._check = check and not surrogate
        self._checked: set[Any] = set()
        self._name = getattr(forward, "__name__", type(forward).__name__).strip("<>")

    def __repr__(self) -> str:
        return f"<custom_vjp {self._name}>"

    def backward(self, function: Callable[..., Any]) -> CustomVjp:
        """`@rule.backward`: sets the derivative, and gives the rule back."""
        self._backward = function
        return self

    def __call__(self, *args: Any, **named: Any) -> Any:
        if self._backward is None:
            raise RuleError(f"{self._name} has no backward; write @{self._name}.backward above def (saved, g)")
        args = self._by_position(args, named)
        trace = current_trace()
        arguments, leaves = operands_of(self._forward, args)
        if trace is None or not any(isinstance(_resolve(x), Ref) for _, x in leaves):
            return self._pair(self._forward(*args))[0]
        return self._traced(trace, arguments, leaves)

    def _by_position(self, args: tuple, named: dict[str, Any]) -> tuple:
        """The arguments in order, defaults filled in: backward gives a gradient for every one."""
        try:
            bound = inspect.signature(self._forward).bind(*args, **named)
        except ValueError:  # a builtin without a signature
            return args
        bound.apply_defaults()
        if bound.kwargs:
            raise TypeError(f"the arguments of {self._name} have a place each, not so {', '.join(bound.kwargs)}")
        return bound.args

    def _pair(self, result: Any) -> tuple[Any, Any]:
        if not isinstance(result, tuple) or len(result) != 2:
            what = f"{len(result)} values" if isinstance(result, tuple) else type(result).__name__
            raise RuleError(
                f"the forward of {self._name} returns (out, saved), not {what}\n  rule  {defined_at(self._forward)}"
            )
        return result

    def _traced(self, trace: Trace, arguments: Structure, leaves: list[tuple[str, Any]]) -> Any:
        operands = {name: as_operand(trace, x) for name, x in leaves}
        structures: list[Structure] = []

        def forward(*values: Any) -> dict[str, Any]:
            result = self._pair(self._forward(*arguments.restore(dict(zip(operands, values, strict=True)))))
            found: dict[str, Any] = {}
            for part, root in zip(result, ("out", "saved"), strict=True):
                structure, values_of_part = flatten(part, root, is_operand)
                structures.append(structure)
                found.update(values_of_part)
            if not structures[0].names:
                raise RuleError(f"the forward of {self._name} returns no array")
            return found

        what = f"the custom_vjp {self._name}"
        ahead = trace_region("forward", forward, list(operands.items()), closed=what)
        out, saved = structures
        types = {name: v.type for name, v in ahead.graph.outputs}
        cotangents = {n: "g" + n.removeprefix("out") for n in out.names if types[n].is_float}
        into = {n: types[n] for n in saved.names} | {g: types[n] for n, g in cotangents.items()}

        def backward(*values: Any) -> dict[str, Any]:
            given = dict(zip(into, values, strict=True))
            g = out.restore({n: given[cotangents[n]] if n in cotangents else None for n in out.names})
            assert self._backward is not None
            return self._gradients(self._backward(saved.restore(given), g), arguments, operands)

        back = trace_region("backward", backward, list(into.items()), closed=what)
        if back.reads:
            raise RuleError(
                f"the backward of {self._name} draws random numbers, which would not be those of forward\n"
                f"  rule  {defined_at(self._backward)}\n  write the draw in forward, and save it"
            )
        if self._check:
            self._compare(trace, arguments, operands)
        attrs = {"name": self._name, "results": len(out.names), "surrogate": self._surrogate}
        results = trace.builder.emit(
            OPS["custom_vjp"], [*operands.values(), *ahead.reads], attrs, (ahead.graph, back.graph)
        )
        results = results if isinstance(results, tuple) else (results,)
        return out.restore(dict(zip(out.names, results, strict=False)))

    def _gradients(self, result: Any, arguments: Structure, operands: Mapping[str, Any]) -> dict[str, Any]:
        """The gradients of float operands as outputs `grad.<number>`, each held to its operand's type."""
        found: dict[str, Any] = {}
        where = f"\n  rule  {defined_at(self._backward)}"
        for index, (name, gradient) in enumerate(by_operand(self._name, self._backward, result, arguments).items()):
            expected = operands[name].type
            if gradient is None:
                continue
            if not expected.is_float:
                raise RuleError(
                    f"the backward of {self._name} gives a gradient for {name}: {expected}, which has none{where}"
                    "\n  write None in its place"
                )
            gradient = _resolve(gradient)
            if isinstance(gradient, (int, float)) and not isinstance(gradient, np.generic):
                gradient = np.asarray(gradient, DTYPES[expected.dtype])
            actual = gradient.type if isinstance(gradient, Ref) else type_of(gradient)
            if TensorType(actual.dtype, actual.shape) != expected:
                fits = same_shape(actual.shape, expected.shape)
                raise RuleError(
                    f"the backward of {self._name} gives {actual} as the gradient of {name}: {expected}{where}\n"
                    f"  write {f'gradient.astype({DTYPES[expected.dtype].name!r})' if fits else _SHAPE}"
                )
            found[f"grad.{index}"] = gradient
        return found

    def _compare(self, trace: Trace, arguments: Structure, operands: Mapping[str, Ref]) -> None:
        """The check against finite differences, once for each kind of arguments."""
        key = kind_of(arguments, operands)
        if key in self._checked:
            return
        assert self._backward is not None
        rule = Rule(self._name, self._forward, self._backward, arguments, self._pair)
        if check_rule(trace, rule, operands, "custom_vjp"):
            self._checked.add(key)


_SHAPE = "gt.sum(gradient, axis) over the axes along which the argument was broadcast"
