"""Rebuilding a graph node by node: what every Graph -> Graph pass stands on. Locations are carried along."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

from ..ir.build import Builder, Region
from ..ir.dims import DimScope, dim_scope
from ..ir.graph import Graph, Literal, Node, Operand, Value
from ..ir.op import OPS
from ..ir.types import TensorType
from .loops import narrow


def rebuild(graph: Graph, emit: Callable[[Builder, Node, list[Any]], Any], **changes: Any) -> Graph:
    """A new graph with the same inputs, whose nodes are what `emit(builder, node, args)` makes of each old node.

    `args` are the node's operands in the new graph (Refs, or Python numbers); `emit` returns the replacement: one Ref
    or number, or a tuple of them where the node has several results.
    """
    builder = Builder(graph.name, scope=DimScope(dict(graph.symbols), list(graph.guards)))
    builder.constants = dict(graph.constants)
    env: dict[Value, Any] = {v: builder.input(v.name, v.type, graph.roles[v.name]) for v in graph.inputs}
    builder._sites = graph.sites()

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


def map_regions(graph: Graph, change: Callable[[Graph], Graph]) -> Graph:
    """`graph` with every region replaced by what a pass makes of it, which may use what is known of the sizes around
    it. A region's inputs and outputs stay in their order."""

    def inside(region: Graph) -> Graph:
        changed = change(region.replace(symbols=graph.symbols, guards=graph.guards))
        return changed.replace(symbols={}, guards=())

    if not any(n.regions for n in graph.nodes):
        return graph
    return graph.replace(nodes=tuple(replace(n, regions=tuple(map(inside, n.regions))) for n in graph.nodes))


def expand(graph: Graph) -> Graph:
    """Replaces composite ops by their bodies, also inside bodies and regions. Reductions keep their axes: a reshape
    drops them, so that the axes of all values of a fused group stand in the same place."""

    def emit(builder: Builder, node: Node, args: list[Any]) -> Any:
        op = OPS[node.op]
        if op.body is not None:
            return op.body(*args, **op.keywords(node.attrs, tuple(Region(builder, g) for g in node.regions)))
        if _drops_axes(node):
            kept = op(*args, **{**node.attrs, "keepdims": True})
            return OPS["reshape"](kept, shape=node.output.type.shape)
        return copy_node(builder, node, args)

    while any(OPS[n.op].body is not None or _drops_axes(n) for n in graph.nodes):  # a body may use composites
        graph = rebuild(graph, emit)
    return map_regions(graph, expand)


def without_checkpoints(graph: Graph) -> Graph:
    """Checkpoints replaced by what stands in them, whose values keep their names: what the program computes, for those
    who do not care where it is computed again."""
    replaced: dict[Value, Operand] = {}

    def walk(nodes: Iterable[Node]) -> Iterator[Node]:
        for node in nodes:
            inputs = tuple(replaced.get(o, o) if isinstance(o, Value) else o for o in node.inputs)
            if node.op != "checkpoint":
                regions = tuple(map(without_checkpoints, node.regions))
                yield node if inputs == node.inputs and not regions else replace(node, inputs=inputs, regions=regions)
                continue
            (region,) = node.regions
            constants.update(region.constants)
            replaced.update(zip(region.inputs, inputs, strict=True))
            yield from walk(region.nodes)
            for out, (_, inner) in zip(node.outputs, region.outputs, strict=True):
                replaced[out] = replaced.get(inner, inner) if isinstance(inner, Value) else inner

    if all(n.op != "checkpoint" for n in graph.walk()):
        return graph
    constants = dict(graph.constants)
    nodes = tuple(walk(graph.nodes))
    outputs, updates = (
        tuple((name, replaced.get(v, v) if isinstance(v, Value) else v) for name, v in results)
        for results in (graph.outputs, graph.updates)
    )
    return graph.replace(nodes=nodes, outputs=outputs, updates=updates, constants=constants)


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
    """Drops nodes that no result needs, and what loops do for nothing. Inputs stay: a parameter that is never read is a
    fact to report."""
    live = {v for v in graph.results() if isinstance(v, Value)}
    kept = []
    for node in reversed(graph.nodes):
        if live.intersection(node.outputs):
            node = narrow(node, live) if node.op == "scan" else node
            kept.append(node)
            live.update(node.values())
    used = {n.attrs["digest"] for n in kept if n.op == "constant"}
    return graph.replace(nodes=tuple(reversed(kept)), constants={k: v for k, v in graph.constants.items() if k in used})
