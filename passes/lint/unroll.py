"""Loops as the flow of gradient sees them: a few rounds in a row, so that a cut in a body is found at its line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ...ir.graph import Graph, Literal, Node, Operand, Value
from ...ir.ops.scan import parts_of
from ...ir.types import TensorType

ROUNDS = 4  # at most: what one carry hands to the next takes a round each


def unrolled(graph: Graph) -> Graph:
    """`graph` with a few rounds of every scan in its place, joined by views. The last round has the body's own values,
    which the ledger knows. What one round hands to the next, takes of a stack and adds to one carries the number of its
    `round`, and counts as any number: so what is known of the values of a round holds for all of them."""
    if not any(n.op == "scan" for n in graph.nodes):
        return graph
    return graph.replace(nodes=tuple(_flat(graph.nodes)), constants=all_constants(graph))


def all_constants(graph: Graph) -> dict[str, np.ndarray]:
    """The arrays of `graph` and of the programs inside of it, by digest."""
    inside = [all_constants(region) for node in graph.nodes for region in node.regions]
    return {digest: array for found in (graph.constants, *inside) for digest, array in found.items()}


def _flat(nodes: tuple[Node, ...]) -> Iterator[Node]:
    for node in nodes:
        yield from _rounds(node) if node.op == "scan" else (node,)


def _rounds(scan: Node) -> Iterator[Node]:
    (body,) = scan.regions
    outer, inner = parts_of(scan)
    state: list[Operand] = list(outer.carries)
    count = min(len(inner.carries) + 1, ROUNDS)
    for number in range(count):
        env: dict[Any, Operand] = dict(zip(inner.consts, outer.consts, strict=True))
        last = number == count - 1

        def own(value: Value, last: bool = last) -> Value:
            return value if last else Value(value.name, value.type)

        for given, carry in zip(state, inner.carries, strict=True):
            env[carry] = own(carry)
            yield _view(scan, given, env[carry], round=number)
        for stack, x in zip(outer.xs, inner.xs, strict=True):
            env[x] = own(x)
            part = Value(x.name, TensorType(x.type.dtype, (1, *x.type.shape)))
            rank = part.type.ndim
            attrs = {"start": (0,) * rank, "size": part.type.shape, "step": (1,) * rank}
            yield Node("slice", (stack,), {**attrs, "round": number}, (part,), (), scan.location)
            yield _view(scan, part, env[x])
        for node in _flat(body.nodes):
            outputs = tuple(map(own, node.outputs))
            yield replace(node, inputs=tuple(_now(env, o) for o in node.inputs), outputs=outputs)
            env.update(zip(node.outputs, outputs, strict=True))
        state = [_now(env, new) for new in inner.new]
        if last:
            for given, result in zip(state, outer.new, strict=True):
                yield _view(scan, given, result)
            for y, result in zip(inner.ys, outer.ys, strict=True):
                if not isinstance(y, Literal):
                    attrs = {"shape": result.type.shape, "round": number}
                    yield Node("broadcast_to", (_now(env, y),), attrs, (result,), (), scan.location)


def _now(env: Mapping[Any, Operand], operand: Operand) -> Operand:
    return env.get(operand, operand)


def _view(scan: Node, source: Operand, result: Operand, **marks: int) -> Node:
    assert isinstance(result, Value)
    return Node("reshape", (source,), {"shape": result.type.shape, **marks}, (result,), (), scan.location)
