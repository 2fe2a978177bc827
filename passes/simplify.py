"""Simplification: algebra by rules that are data, folding of shape ops, common subexpressions, dead code.

A rule is a pair of expressions over `x`, `y`, ... marked exact (bit-equal) or approximate; a test runs both sides.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..ir.build import Builder, Ref, TypeRuleViolation
from ..ir.dims import Shape, identical, same_shape
from ..ir.graph import Graph, Literal, Node, Value
from ..ir.op import OPS
from ..ir.types import is_one
from .loops import tidy
from .rewrite import copy_node, map_regions, rebuild, remove_dead


@dataclass(frozen=True)
class Rule:
    """`before` becomes `after`; the names are operands, the numbers literals."""

    before: str
    after: str
    exact: bool = True


RULES = (
    Rule("mul(x, 1)", "x"),
    Rule("mul(1, x)", "x"),
    Rule("div(x, 1)", "x"),
    Rule("add(x, 0)", "x", exact=False),  # -0.0 + 0 is 0.0
    Rule("add(0, x)", "x", exact=False),
    Rule("sub(x, 0)", "x"),
    Rule("sub(0, x)", "neg(x)", exact=False),  # 0 - 0 is 0.0, its negative -0.0
    Rule("neg(neg(x))", "x"),
    Rule("mul(neg(x), neg(y))", "mul(x, y)"),
    Rule("sub(x, neg(y))", "add(x, y)"),
    Rule("add(x, neg(y))", "sub(x, y)"),
    Rule("mul(x, -1)", "neg(x)"),
    Rule("pow(x, 1)", "x"),
    Rule("pow(x, 2)", "square(x)"),
    Rule("pow(x, 0.5)", "sqrt(x)", exact=False),  # pow(-0.0, 0.5) is 0.0, pow(-inf, 0.5) is inf
    Rule("pow(x, -1)", "reciprocal(x)"),
)


def simplify(graph: Graph) -> Graph:
    """All of it, in one walk and a clean-up; regions first."""
    graph = map_regions(graph, simplify)
    graph = remove_dead(rebuild(graph, _emit))
    return remove_dead(common_subexpressions(slice_operands(graph)))


def slice_operands(graph: Graph) -> Graph:
    """Parts of an elementwise result, where nobody reads the whole and elementwise ops read the parts: its operands are
    cut instead. The gates of a recurrent cell are such parts; they then are not stored before they are cut."""
    uses = graph.uses()
    results = {v for v in graph.results() if isinstance(v, Value)}

    def fusible(node: Node) -> bool:
        return OPS[node.op].kind in ("elementwise", "reduce")

    def cut(node: Node) -> bool:
        users = uses.get(node.output, [])
        return (
            OPS[node.op].kind == "elementwise"
            and not OPS[node.op].random
            and not OPS[node.op].generator
            and node.output not in results
            and bool(users)
            and all(u.op == "slice" and u.output not in results and all(map(fusible, uses[u.output])) for u in users)
        )

    chosen = {node.output: node for node in graph.nodes if len(node.outputs) == 1 and cut(node)}
    if not chosen:
        return graph

    def emit(builder: Builder, node: Node, args: list[Any]) -> Any:
        if node.op != "slice" or node.inputs[0] not in chosen:
            return copy_node(builder, node, args)
        source = _producer(args[0])
        assert source is not None
        parts = [_cut_operand(builder, o, source.output.type.shape, node) for o in source.inputs]
        return builder.emit(OPS[source.op], parts, source.attrs)

    return slice_operands(remove_dead(rebuild(graph, emit)))


def _cut_operand(builder: Builder, operand: Any, shape: Shape, node: Node) -> Any:
    """The part of an operand, which may be broadcast to `shape`, that goes into a slice of the result."""
    if isinstance(operand, Literal):
        return operand.value
    own = operand.type.shape
    extra = len(shape) - len(own)
    attrs = {key: list(node.attrs[key][extra:]) for key in ("start", "size", "step")}
    for axis, (mine, whole) in enumerate(zip(own, shape[extra:], strict=True)):
        if is_one(mine) and not is_one(whole):
            attrs["start"][axis], attrs["size"][axis], attrs["step"][axis] = 0, 1, 1
    return builder.emit(OPS["slice"], (builder.wrap(operand),), attrs)


def _emit(builder: Builder, node: Node, args: list[Any]) -> Any:
    if node.op == "scan":
        return tidy(builder, node, args)
    folded = _fold_shape_op(node, args) if node.op != "add" else _join_slices(node, args)
    if folded is not None:
        return folded
    if not node.regions and any(_is_number(a) or _producer(a) for a in args):
        for rule in _BY_OP.get(node.op, ()):
            env: dict[str, Any] = {}
            if _match(rule[0], node.op, args, env):
                try:
                    new = _build(rule[1], env)
                except TypeRuleViolation:  # an integer has powers, but no reciprocal and no root
                    continue
                if isinstance(new, Ref) and new.type == node.output.type:
                    return new
    return copy_node(builder, node, args)


def _fold_shape_op(node: Node, args: list[Any]) -> Any | None:
    """Shape ops that do nothing, and pairs of them that are one."""
    if node.op not in ("reshape", "permute", "broadcast_to", "cast", "sum", "slice", "wrapped"):
        return None
    x, out = args[0], node.output.type
    if not isinstance(x, Ref):
        return None
    same = same_shape(x.shape, out.shape)
    before = _producer(x)
    if before and before.op == "full" and node.op in ("reshape", "broadcast_to"):
        return OPS["full"].like(x, **{**before.attrs, "shape": out.shape})
    if before and before.op == "iota" and node.op == "reshape":
        return _turned_line(x, before, out.shape)
    if node.op == "wrapped":  # p[arange(n), target]: the first index cannot leave an axis of size n
        count = before.attrs["shape"][before.attrs["axis"]] if before and before.op == "iota" else None
        return x if count is not None and identical(count, node.attrs["size"]) and x.type == out else None
    if node.op == "cast":
        return x if x.type.dtype == out.dtype else None
    if node.op == "sum":
        empty = all(identical(x.shape[a], 1) for a in node.attrs["axes"])
        return OPS["reshape"](x, shape=out.shape) if empty else None
    if node.op in ("reshape", "broadcast_to") and same:
        return x
    if node.op == "slice":
        return x if same and all(s == 0 for s in node.attrs["start"]) and set(node.attrs["step"]) <= {1} else None
    if node.op == "permute":
        axes = node.attrs["axes"]
        if axes == tuple(range(len(axes))):
            return x
        if before and before.op == "permute":
            joined = tuple(before.attrs["axes"][a] for a in axes)
            source = _input(x)
            return source if joined == tuple(range(len(axes))) else OPS["permute"](source, axes=joined)
    if before and before.op == node.op and node.op in ("reshape", "broadcast_to"):
        source = _input(x)
        return source if same_shape(source.shape, out.shape) else OPS[node.op](source, shape=out.shape)
    return None


def _turned_line(x: Ref, line: Node, shape: Shape) -> Any | None:
    """The index along an axis, `arange(T)[:, None]`, as an index from the start: a mask made of it is never stored."""
    wide = [[i for i, d in enumerate(s) if not is_one(d)] for s in (x.shape, shape)]
    if wide[0] != [line.attrs["axis"]] or len(wide[1]) != 1:
        return None
    return OPS["iota"].like(x, **{**line.attrs, "shape": shape, "axis": wide[1][0]})


def _join_slices(node: Node, args: list[Any]) -> Any | None:
    """A sum of `unslice`s that tile one axis is a concat: what the gradient of a split (q, k and v) comes to."""
    parts: list[tuple[Any, Node]] = []
    stack = list(args)
    while stack:
        arg = stack.pop()
        source = _producer(arg)
        if source is None or source.op not in ("add", "unslice"):
            return None
        if source.op == "add":
            stack += [o.value if isinstance(o, Literal) else arg._builder.wrap(o) for o in source.inputs]
        else:
            if source.attrs.get("value", 0) != 0:
                return None
            parts.append((_input(arg), source))
    shape = node.output.type.shape
    if any(set(p.attrs["step"]) != {1} or not same_shape(p.attrs["shape"], shape) for _, p in parts):
        return None
    axes = {i for x, _ in parts for i in range(len(shape)) if not identical(x.shape[i], shape[i])}
    if len(axes) != 1:
        return None
    (axis,) = axes
    at: Any = 0
    ordered = []
    while parts:
        index = next((i for i, (_, part) in enumerate(parts) if identical(part.attrs["start"][axis], at)), None)
        if index is None:
            return None
        ordered.append(parts.pop(index)[0])  # by index: a Ref's == would record a node
        at = at + ordered[-1].shape[axis]
    return OPS["concat"](*ordered, axis=axis) if identical(at, shape[axis]) else None


def _producer(ref: Any) -> Node | None:
    if not isinstance(ref, Ref) or not isinstance(ref._value, Value):
        return None
    return _nodes(ref._builder).get(ref._value)


def _nodes(builder: Builder) -> dict[Value, Node]:
    """Producers of the builder's values, kept on it and brought up to date."""
    table = builder.__dict__.setdefault("_producers", {})
    done = builder.__dict__.setdefault("_producers_done", 0)
    for node in builder.nodes[done:]:
        table.update((v, node) for v in node.outputs)
    builder.__dict__["_producers_done"] = len(builder.nodes)
    return table


def _input(ref: Ref) -> Any:
    node = _producer(ref)
    assert node is not None
    operand = node.inputs[0]
    return operand.value if isinstance(operand, Literal) else ref._builder.wrap(operand)


def _is_number(x: Any) -> bool:
    return isinstance(x, (bool, int, float))


def _number(x: Any) -> Any:
    """The number that an operand is everywhere, or None."""
    if _is_number(x):
        return x
    source = _producer(x)
    return source.attrs["value"] if source is not None and source.op == "full" else None


# rules are parsed once into nested (op, [arguments]), names and numbers ----------------------------------------------
def _parse(text: str) -> Any:
    def walk(e: ast.expr) -> Any:
        if isinstance(e, ast.Call):
            assert isinstance(e.func, ast.Name)
            return (e.func.id, [walk(a) for a in e.args])
        return e.id if isinstance(e, ast.Name) else ast.literal_eval(e)

    return walk(ast.parse(text, mode="eval").body)


_BY_OP: dict[str, list[tuple[Any, Any]]] = {}
for _rule in RULES:
    _pattern = _parse(_rule.before)
    _BY_OP.setdefault(_pattern[0], []).append((_pattern, _parse(_rule.after)))


def _match(pattern: Any, op: str, args: Sequence[Any], env: dict[str, Any]) -> bool:
    name, parts = pattern
    if name != op or len(parts) != len(args):
        return False
    for part, arg in zip(parts, args, strict=True):
        if isinstance(part, str):
            if env.setdefault(part, arg) is not arg:
                return False
        elif isinstance(part, tuple):
            node = _producer(arg)
            if node is None or node.op != part[0]:
                return False
            inner = [o.value if isinstance(o, Literal) else arg._builder.wrap(o) for o in node.inputs]
            if not _match(part, node.op, inner, env):
                return False
        else:
            number = _number(arg)
            if number is None or isinstance(number, bool) or number != part:
                return False
    return True


def _build(pattern: Any, env: dict[str, Any]) -> Any:
    if isinstance(pattern, str):
        return env[pattern]
    if isinstance(pattern, tuple):
        return OPS[pattern[0]](*(_build(p, env) for p in pattern[1]))
    return pattern


# common subexpressions ------------------------------------------------------------------------------------------
def common_subexpressions(graph: Graph) -> Graph:
    """Merges equal nodes. Between forward and backward, elementwise nodes are *not* merged: recomputing them inside
    the backward kernel is cheaper than keeping them in memory; what they feed (a mean, a product) is.

    Equality looks through copies that were kept apart, so that `mean(d * d)` of the backward finds the forward's.
    """
    number: dict[Value, int] = {}  # congruence class of every value
    first: dict[tuple, list[Node]] = {}
    replaced: dict[Value, Value] = {}
    for value in graph.inputs:
        number[value] = len(number)
    counter = len(number)
    for node in graph.nodes:
        operands = tuple(number[o] if isinstance(o, Value) else o for o in node.inputs)
        key = (node.op, operands, tuple(node.attrs.items()))
        if node.regions:
            key = (node, *key)
        twins = first.setdefault(key, [])
        if not twins:
            for value in node.outputs:
                number[value] = counter
                counter += 1
            twins.append(node)
            continue
        for value, twin in zip(node.outputs, twins[0].outputs, strict=True):
            number[value] = number[twin]
        match = next((t for t in twins if _shareable(t, node)), None)
        if match is None:
            twins.append(node)
        else:
            replaced.update(zip(node.outputs, match.outputs, strict=True))
    return _substitute(graph, replaced)


def _shareable(a: Node, b: Node) -> bool:
    op = OPS[a.op]
    if op.kind != "elementwise" or op.generator:
        return True
    return _backward(a) == _backward(b)


def _backward(node: Node) -> bool:
    return bool(node.location and node.location.of)


def _substitute(graph: Graph, replaced: dict[Value, Value]) -> Graph:
    if not replaced:
        return graph

    def resolve(operand: Any) -> Any:
        return replaced.get(operand, operand) if isinstance(operand, Value) else operand

    nodes = tuple(
        Node(n.op, tuple(map(resolve, n.inputs)), n.attrs, n.outputs, n.regions, n.location)
        for n in graph.nodes
        if not any(v in replaced for v in n.outputs)
    )
    return graph.replace(
        nodes=nodes,
        outputs=tuple((name, resolve(v)) for name, v in graph.outputs),
        updates=tuple((name, resolve(v)) for name, v in graph.updates),
    )
