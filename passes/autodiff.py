"""Reverse-mode differentiation: walks the nodes backwards, asks each op for its cotangents, sums where paths meet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..ir.build import Builder, Region, source_line
from ..ir.dims import dim_scope, identical, quiet
from ..ir.graph import Graph, Literal, Node, Value
from ..ir.op import OPS, NoGradient
from ..ir.types import TensorType


class GradientError(ValueError):
    """There is no gradient where one is asked for. Where it is compiling that says so, `traced` is the trace, `graph`
    the forward program, and `report` what the lint says of it."""

    traced: Any = None
    graph: Graph | None = None
    report: Any = None


def differentiate(graph: Graph, output: str, wrt: Sequence[str]) -> Graph:
    """`graph` with one more output `grad:<name>` for each input in `wrt` that the scalar `output` depends on.

    An input without a differentiable path has no such output: who calls decides what that means.
    """
    root = graph.output(output)
    builder = Builder.extending(graph)
    if isinstance(root, Literal):
        return graph
    if root.type.shape != () or not root.type.is_float:
        raise TypeError(f"only a float scalar has a gradient here, {output} is {root.type}; sum or average it first")
    with dim_scope(builder.scope):
        seed = OPS["full"].like(builder.wrap(root), shape=(), value=1.0, dtype=root.type.dtype)
        grads = gradients(builder, graph.nodes, {root: seed}, [graph.input(name) for name in wrt])
    named = [(f"grad:{name}", g) for name, g in zip(wrt, grads, strict=True) if g is not None]
    return builder.graph([*((n, builder.wrap(v)) for n, v in graph.outputs), *named])


def gradients(
    builder: Builder, nodes: Sequence[Node], cotangents: Mapping[Value, Any], wrt: Sequence[Value]
) -> list[Any | None]:
    """Records the backward of `nodes` in `builder`, given the cotangents of some values; the gradient of each of `wrt`
    (None where no path leads to it). Fan-in is summed; a cotangent is brought to its value's shape and dtype."""
    active = _depending(nodes, wrt)
    total: dict[Value, Any] = {v: fit(g, v.type) for v, g in cotangents.items()}
    for node in reversed(nodes):
        op = OPS[node.op]
        incoming = [total.get(v) for v in node.outputs]
        rule = op.derive or op.vjp
        if rule is None or all(g is None for g in incoming) or not active.intersection(node.values()):
            continue
        reason = op.why_not(node.attrs)
        if reason is not None:
            raise _no_derivative(node, reason)
        with builder.at(node, serving=True):
            if op.derive is not None:
                _add_up(total, active, node, op.derive(builder, node, incoming, gradients))
                continue
            assert op.vjp is not None
            outs = [builder.wrap(v) for v in node.outputs]
            args = [builder.wrap(v) if isinstance(v, Value) else v.value for v in node.inputs]
            seeds: Any = incoming
            if not op.regions:
                seeds = [_zeros(builder, v.type) if g is None else g for g, v in zip(seeds, node.outputs, strict=True)]
            several = len(outs) > 1 or op.regions
            keywords = op.keywords(node.attrs, tuple(Differentiable(builder, r) for r in node.regions))
            with quiet():
                parts = op.vjp(seeds if several else seeds[0], outs if several else outs[0], *args, **keywords)
            if len(parts) != len(args):
                raise TypeError(f"the derivative of {op.name} gives {len(parts)} cotangents for {len(args)} operands")
            _add_up(total, active, node, parts)
    return [total.get(v) for v in wrt]


class Differentiable(Region):
    """A region in the hands of its op's derivative rule."""

    def pullback(self, args: Sequence[Any], cotangents: Sequence[Any | None]) -> list[Any | None]:
        """Records the region on `args` once more, and its backward: the gradient of each of `args` (None: no path) for
        the cotangents of the region's outputs (None: none came)."""
        first = len(self.builder.nodes)
        total: dict[Value, Any] = {}
        for out, g in zip(self(*args), cotangents, strict=True):
            value = getattr(out, "_value", None)
            if g is not None and isinstance(value, Value):
                total[value] = total[value] + g if value in total else g
        wrt = [getattr(a, "_value", None) for a in args]
        nodes = self.builder.nodes[first:]
        found = iter(gradients(self.builder, nodes, total, [v for v in wrt if isinstance(v, Value)]))
        return [next(found) if isinstance(v, Value) else None for v in wrt]


def _no_derivative(node: Node, reason: NoGradient) -> GradientError:
    """A function of the user's may well have a derivative: to leave it out silently would give wrong gradients."""
    lines = [f"a gradient is needed through a {node.op} that has none: {reason.reason}"]
    if node.location is not None:
        where = node.location
        lines += [f"  at    {where.file}:{where.line}  {where.scope}".rstrip(), f"        {source_line(where)}"]
    return GradientError(
        "\n".join([*lines, "  write vjp=..., or gt.stop_gradient(...) around it where a cut is meant"])
    )


def _add_up(total: dict[Value, Any], active: set[Value], node: Node, parts: Sequence[Any | None]) -> None:
    """Adds the cotangents of a node's operands to those that came on other paths."""
    for operand, part in zip(node.inputs, parts, strict=True):
        if part is None or operand not in active or not isinstance(operand, Value):
            continue
        part = fit(part, operand.type)
        total[operand] = total[operand] + part if operand in total else part


def _depending(nodes: Sequence[Node], wrt: Sequence[Value]) -> set[Value]:
    """Float values that depend on one of `wrt`."""
    active = set(wrt)
    for node in nodes:
        if active.intersection(node.values()):
            active.update(v for v in node.outputs if v.type.is_float)
    return active


def fit(g: Any, target: TensorType) -> Any:
    """The cotangent `g` summed over the axes along which a value of type `target` was broadcast, in its dtype."""
    if not hasattr(g, "type"):
        raise TypeError(f"a derivative rule gave {g!r}, not a traced value")
    extra = g.ndim - target.ndim
    axes = tuple(range(extra)) + tuple(
        extra + i for i, dim in enumerate(target.shape) if identical(dim, 1) and not identical(g.shape[extra + i], 1)
    )
    if axes:
        g = OPS["sum"](g, axes=axes, keepdims=True)
        if extra:
            g = OPS["reshape"](g, shape=target.shape)
    elif not all(identical(a, b) for a, b in zip(g.shape, target.shape, strict=False)) or g.ndim < target.ndim:
        g = OPS["broadcast_to"](g, shape=target.shape)
    return g if g.type.dtype == target.dtype else OPS["cast"](g, dtype=target.dtype)


def _zeros(builder: Builder, t: TensorType) -> Any:
    return builder.emit(OPS["full"], (), {"shape": t.shape, "value": 0.0, "dtype": t.dtype})
