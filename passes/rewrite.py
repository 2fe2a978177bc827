"""Rebuilding a graph node by node: what every Graph -> Graph pass stands on. Locations are carried along."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..ir.build import Builder, Ref
from ..ir.dims import DimScope, dim_scope
from ..ir.graph import Graph, Literal, Node, Operand, Value
from ..ir.op import OPS


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
    """Replaces composite ops by their bodies, also inside bodies."""

    def emit(builder: Builder, node: Node, args: list[Any]) -> Any:
        op = OPS[node.op]
        if op.body is None:
            return copy_node(builder, node, args)
        first = len(builder.nodes)
        result = op.body(*args, **node.attrs)
        if not any(OPS[n.op].body for n in builder.nodes[first:]):
            return result
        # a body may use composites: rebuild its nodes with their bodies in turn
        inner, builder.nodes = builder.nodes[first:], builder.nodes[:first]
        env: dict[Operand, Any] = {}
        for part in inner:
            parts = [o.value if isinstance(o, Literal) else env[o] if o in env else builder.wrap(o) for o in part.inputs]
            new = emit(builder, part, parts)
            env.update(zip(part.outputs, new if isinstance(new, tuple) else (new,), strict=True))
        single = result if isinstance(result, tuple) else (result,)
        out = tuple(env[r._value] if isinstance(r, Ref) and r._value in env else r for r in single)
        return out if isinstance(result, tuple) else out[0]

    return rebuild(graph, emit)


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
