"""Rebuilding a graph node by node: what every Graph -> Graph pass stands on. Locations are carried along."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..ir.build import Builder
from ..ir.dims import DimScope, dim_scope
from ..ir.graph import Graph, Literal, Node, Operand, Value
from ..ir.op import OPS
from ..ir.types import TensorType


def rebuild(graph: Graph, emit: Callable[[Builder, Node, list[Any]], Any], **changes: Any) -> Graph:
    """A new graph with the same inputs, whose nodes are what `emit(builder, node, args)` makes of each old node.

    `args` are the node's operands in the new graph (Refs, or Python numbers); `emit` returns the replacement: one Ref
    or number, or a tuple of them where the node has several results.
    """
    builder = Builder(graph.name, scope=DimScope(dict(graph.symbols), list(graph.guards)))
    builder.constants = dict(graph.constants)
    env: dict[Value, Any] = {v: builder.input(v.name, v.type, graph.roles[v.name]) for v in graph.inputs}
    sites = [n.attrs["site"] for n in graph.nodes if "site" in n.attrs]
    builder._sites = max(sites, default=-1) + 1

    def look_up(operand: Operand) -> Any:
        return operand.value if isinstance(operand, Literal) else env[operand]

    with dim_scope(builder.scope):
        for node in graph.nodes:
            with builder.at(node):
                new = emit(builder, node, [look_up(o) for o in node.inputs])
            env.update(zip(node.outputs, new if isinstance(new, tuple) else (new,), strict=True))
        builder.updates = {name: builder.operand(look_up(v)) for name, v in graph.updates}
        return builder.graph([(name, look_up(v)) for name, v in graph.outputs], **changes)


def copy_node(builder: Builder, node: Node, args: list[Any]) -> Any:
    """The same op on new operands."""
    return builder.emit(OPS[node.op], args, node.attrs, node.regions)


def expand(graph: Graph) -> Graph:
    """Replaces composite ops by their bodies, also inside bodies. Reductions keep their axes: a reshape drops them, so
    that the axes of all values of a fused group stand in the same place."""

    def emit(builder: Builder, node: Node, args: list[Any]) -> Any:
        op = OPS[node.op]
        if op.body is not None:
            return op.body(*args, **node.attrs)
        if _drops_axes(node):
            kept = op(*args, **{**node.attrs, "keepdims": True})
            return OPS["reshape"](kept, shape=node.output.type.shape)
        return copy_node(builder, node, args)

    while any(OPS[n.op].body is not None or _drops_axes(n) for n in graph.nodes):  # a body may use composites
        graph = rebuild(graph, emit)
    return graph


def _drops_axes(node: Node) -> bool:
    return OPS[node.op].reduce is not None and not node.attrs["keepdims"]


def numbers_as_arrays(graph: Graph) -> Graph:
    """A number that is returned, or that replaces what is stored, becomes an array: a program has nothing else."""
    if not any(isinstance(v, Literal) for v in graph.results()):
        return graph
    builder = Builder.extending(graph)

    def array(operand: Operand, like: TensorType) -> Operand:
        if not isinstance(operand, Literal):
            return operand
        attrs = {"shape": like.shape, "value": operand.value, "dtype": like.dtype}
        return builder.emit(OPS["full"], (), attrs)._value

    outputs = tuple((name, array(v, v.type)) for name, v in graph.outputs)
    updates = tuple((name, array(v, graph.input(name).type)) for name, v in graph.updates)
    return graph.replace(nodes=tuple(builder.nodes), outputs=outputs, updates=updates)


def remove_dead(graph: Graph) -> Graph:
    """Drops nodes that no result needs. Inputs stay: a parameter that is never read is a fact to report."""
    live = {v for v in graph.results() if isinstance(v, Value)}
    kept = []
    for node in reversed(graph.nodes):
        if live.intersection(node.outputs):
            kept.append(node)
            live.update(node.values())
    used = {n.attrs["digest"] for n in kept if n.op == "constant"}
    return graph.replace(nodes=tuple(reversed(kept)), constants={k: v for k, v in graph.constants.items() if k in used})
