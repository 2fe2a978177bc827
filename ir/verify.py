"""The verifier: what must hold of a Graph, by stage. It re-infers every type rather than trusting it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .dims import Dim, DimScope, dim_scope, quiet, same_shape, symbols_of
from .graph import ROLES, Graph, Node, Value, attr_dims
from .op import OPS, Op
from .text import node_text
from .types import DTYPES, promote

# what must not appear at a stage; every stage contains the demands of `traced`
STAGES: dict[str, dict[str, str]] = {
    "traced": {},
    "differentiated": {},
    "expanded": {"composite": "composites are replaced by their bodies before fusion"},
}
AROUND = 5  # nodes shown before and after the one that is wrong
WIDTH = 200  # characters of a line that an error shows


class VerificationError(ValueError):
    """A graph breaks a rule of its stage: the rule, the node, its line, and the nodes around it."""


def verify(graph: Graph, stage: str = "traced") -> Graph:
    """Returns `graph` if it is well-formed for `stage`, a key of STAGES, else raises VerificationError."""
    _verify(graph, STAGES[stage], set(), DimScope())
    return graph


def _verify(graph: Graph, illegal: dict[str, str], sizes: set[str], around: DimScope) -> None:
    """Of a region, `sizes` are the symbols that the graph around it gives values to, `around` what is known of them."""
    defined: dict[str, Value] = {}
    for value in graph.inputs:
        _define(graph, defined, value, None)
        if graph.roles.get(value.name) not in ROLES:
            role = graph.roles.get(value.name)
            raise _error(graph, None, f"input %{value.name} has no role" + (f", {role!r} is none" if role else ""))
    for name in graph.roles:
        if name not in defined:
            raise _error(graph, None, f"there is a role for %{name}, which is no input")
    sizes = sizes | {d.symbol for v in graph.inputs for d in v.type.shape if isinstance(d, Dim) and d.symbol}
    for value in graph.inputs:
        _check_symbols(graph, None, value, sizes)
    scope = DimScope({**around.symbols, **graph.symbols}, [*around.guards, *graph.guards])
    with dim_scope(scope), quiet():
        for node in graph.nodes:
            _check_node(graph, node, illegal, defined)
            for value in node.outputs:
                _define(graph, defined, value, node)
                _check_symbols(graph, node, value, sizes)
            for region in node.regions:
                _verify(region, illegal, sizes, scope)
    _check_results(graph, defined)


def _check_node(graph: Graph, node: Node, illegal: dict[str, str], defined: dict[str, Value]) -> None:
    if node.op not in OPS:
        raise _error(graph, node, f"there is no op {node.op}")
    op = OPS[node.op]
    if op.kind in illegal:
        raise _error(graph, node, f"{op.kind} op {op.name} is not allowed: {illegal[op.kind]}")
    for operand in node.inputs:
        if isinstance(operand, Value) and defined.get(operand.name) is not operand:
            raise _error(graph, node, f"%{operand.name} is used before it is defined, or is of another graph")
    if op.regions and len(node.regions) != len(op.regions):
        listed = ", ".join(op.regions)
        raise _error(graph, node, f"it holds {len(node.regions)} regions, not {len(op.regions)}: {listed}")
    if op.promote:
        _check_promoted(graph, node, op)
    if node.op == "constant":
        _check_constant(graph, node)
    try:
        inferred = op.infer(*(o.type for o in node.inputs), **op.keywords(node.attrs, node.regions))
    except Exception as fact:  # a type rule may trip in any way over attributes that no builder would make
        kind = "" if isinstance(fact, TypeError) else f"{type(fact).__name__}: "
        raise _error(graph, node, f"its type rule refuses it: {kind}{fact}") from None
    results = inferred if isinstance(inferred, tuple) else (inferred,)
    if len(results) != len(node.outputs):
        raise _error(graph, node, f"it has {len(node.outputs)} results, its type rule gives {len(results)}")
    for value, expected in zip(node.outputs, results, strict=True):
        if value.type.dtype != expected.dtype or not same_shape(value.type.shape, expected.shape):
            raise _error(graph, node, f"%{value.name} is declared {value.type}, its type rule gives {expected}")


def _check_promoted(graph: Graph, node: Node, op: Op) -> None:
    """The builder casts the operands of such an op to their common dtype; kernels rely on it."""
    dtype = promote([o.type for o in node.inputs])
    for operand in node.inputs:
        if isinstance(operand, Value) and operand.type.dtype != dtype:
            raise _error(graph, node, f"operand %{operand.name}: {operand.type} of {op.name} is not cast to {dtype}")


def _check_constant(graph: Graph, node: Node) -> None:
    array = graph.constants.get(node.attrs.get("digest", ""))
    if array is None:
        raise _error(graph, node, f"the graph holds no array for constant {node.attrs.get('digest')!r}")
    shape, dtype = node.attrs.get("shape"), node.attrs.get("dtype", "")
    if array.dtype != DTYPES.get(dtype) or array.shape != shape:
        raise _error(
            graph,
            node,
            f"the constant is {dtype}{list(shape or ())}, its array {array.dtype}{list(array.shape)}",
        )


def _check_symbols(graph: Graph, node: Node | None, value: Value, sizes: set[str]) -> None:
    """Every symbol must be the size of an axis of an input: nothing else gives it a value."""
    dims = [*value.type.shape, *(attr_dims(node.attrs) if node else ())]
    for name in sorted(symbols_of(*dims) - sizes):
        raise _error(graph, node, f"%{value.name}: {value.type} depends on {name}, which is no axis of any input")


def _check_results(graph: Graph, defined: dict[str, Value]) -> None:
    for kind, results in (("output", graph.outputs), ("update", graph.updates)):
        names: set[str] = set()
        for name, operand in results:
            if name in names:
                raise _error(graph, None, f"there are two {kind}s {name}")
            names.add(name)
            if isinstance(operand, Value) and defined.get(operand.name) is not operand:
                raise _error(graph, None, f"{kind} {name}: %{operand.name} is not defined in it")
    for name, operand in graph.updates:
        role = graph.roles.get(name)
        if role not in ("param", "buffer", "state"):
            fact = f"a {role} cannot be updated" if role else "there is no such input"
            raise _error(graph, None, f"update of %{name}: {fact}")
        target = defined[name].type
        if target.dtype != operand.type.dtype or not same_shape(target.shape, operand.type.shape):
            raise _error(graph, None, f"update of %{name}: {target} is replaced by {operand.type}")


def _define(graph: Graph, defined: dict[str, Value], value: Value, node: Node | None) -> None:
    if value.name in defined:
        raise _error(graph, node, f"%{value.name} is defined twice")
    if value.type.dtype not in DTYPES:
        raise _error(graph, node, f"%{value.name} has dtype {value.type.dtype!r}, not one of {', '.join(DTYPES)}")
    for dim in value.type.shape:
        if not isinstance(dim, (int, Dim)) or (isinstance(dim, int) and dim < 0):
            raise _error(graph, node, f"%{value.name} has size {dim!r} in its shape")
    defined[value.name] = value


def _error(graph: Graph, node: Node | None, fact: str) -> VerificationError:
    """The error with the nodes around `node`; without one, of the graph as a whole. Its length is bounded."""
    if node is None:
        return VerificationError(f"graph {graph.name}: {_clip(fact)}")
    at = next((i for i, n in enumerate(graph.nodes) if n is node), 0)
    where = f"\n  from  {node.location.file}:{node.location.line}" if node.location else ""
    lines = [
        f"{node.op}: {_clip(fact)}{where}",
        f"  in graph {graph.name}, node {at + 1} of {len(graph.nodes)}:",
    ]
    for i, text in _nodes(graph, range(max(0, at - AROUND), min(len(graph.nodes), at + AROUND + 1))):
        lines.append(("  > " if i == at else "    ") + _clip(text))
    return VerificationError("\n".join(lines))


def _nodes(graph: Graph, which: range) -> Iterator[tuple[int, str]]:
    for i in which:
        node = graph.nodes[i]
        try:
            yield i, node_text(node, graph.constants)
        except Exception as error:  # the text of a broken node is only shown
            yield i, f"{node.op}: not printable ({error})"


def _clip(text: Any) -> str:
    text = str(text).replace("\n", " ")
    return text if len(text) <= WIDTH else f"{text[:WIDTH]} ... ({len(text)} characters)"
