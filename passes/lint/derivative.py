"""An op's derivative rule as a small program of its own, which the analyses of the lint can look through: so that they
need no table of derivatives beside the one in the registry."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from weakref import WeakKeyDictionary

from ...ir.build import Builder
from ...ir.dims import DimScope, dim_scope, quiet
from ...ir.graph import Literal, Node, Operand, Value
from ...ir.op import OPS, Op
from ..autodiff import Differentiable, fit


@dataclass(frozen=True, eq=False)
class Derivative:
    """`parts` holds a cotangent for each operand of an op, of its type, None where no gradient passes. They are
    computed by `nodes` from stand-ins for the operands, for the results, and for the cotangents of the results
    (`seeds`)."""

    nodes: tuple[Node, ...]
    operands: tuple[Operand, ...]
    results: tuple[Value, ...]
    seeds: tuple[Value, ...]
    parts: tuple[Operand | None, ...]


def derivative_of(node: Node) -> Derivative | None:
    """The derivative of `node`; None where its op has none, or one that cannot be written down from types alone."""
    if node not in _of_nodes:
        op = OPS[node.op]
        types = tuple(o.type for o in node.inputs)
        numbers = tuple(o.value if isinstance(o, Literal) else None for o in node.inputs)
        key = types, tuple(v.type for v in node.outputs), tuple(node.attrs.items()), numbers
        closed = op.vjp is None or node.regions or "round" in node.attrs
        _of_nodes[node] = None if closed else _derivative(op, *key)
    return _of_nodes[node]


_of_nodes: WeakKeyDictionary[Node, Derivative | None] = WeakKeyDictionary()


def differentiable_operands(node: Node) -> tuple[bool, ...]:
    """For each operand of `node`, whether gradient passes to it from the result."""
    op = OPS[node.op]
    floats = tuple(o.type.is_float for o in node.inputs)
    if op.why_not(dict(node.attrs)) is not None or not any(v.type.is_float for v in node.outputs):
        return (False,) * len(floats)
    if node.regions:
        numbers = tuple(o.value if isinstance(o, Literal) else None for o in node.inputs)
        types = tuple(o.type for o in node.inputs)
        return _through_regions(op, types, tuple(node.attrs.items()), numbers, node.regions)
    rule = derivative_of(node)
    return floats if rule is None else tuple(part is not None for part in rule.parts)


@lru_cache(maxsize=4096)
def _through_regions(op: Op, types: tuple, attrs: tuple, numbers: tuple, regions: tuple) -> tuple[bool, ...]:
    """The same for an op with regions: its rule is asked, where it has one; else the nodes inside decide, and all
    floats may pass."""
    floats = tuple(t.is_float for t in types)
    if op.vjp is None:
        return floats
    builder = Builder("ask", scope=DimScope(quiet=True))
    args = [builder.input(f"x{i}", t) if n is None else n for i, (t, n) in enumerate(zip(types, numbers, strict=True))]
    try:
        with dim_scope(builder.scope), quiet():
            out = builder.emit(op, args, dict(attrs), regions)
            outs = out if isinstance(out, tuple) else (out,)
            seeds = tuple(builder.input(f"g{i}", o.type) for i, o in enumerate(outs))
            keywords = op.keywords(dict(attrs), tuple(Differentiable(builder, r) for r in regions))
            parts = op.vjp(seeds, outs, *args, **keywords)
    except Exception:  # a rule that needs more than types
        return floats
    return tuple(p is not None and is_float for p, is_float in zip(parts, floats, strict=True))


@lru_cache(maxsize=4096)
def _derivative(op: Op, types: tuple, results: tuple, attrs: tuple, numbers: tuple) -> Derivative | None:
    assert op.vjp is not None
    builder = Builder("derivative", scope=DimScope(quiet=True))
    args = [builder.input(f"x{i}", t) if n is None else n for i, (t, n) in enumerate(zip(types, numbers, strict=True))]
    outs = [builder.input(f"y{i}", t) for i, t in enumerate(results)]
    seeds = [builder.input(f"g{i}", t) for i, t in enumerate(results)]
    several = len(outs) > 1
    try:
        with dim_scope(builder.scope), quiet():
            parts = op.vjp(seeds if several else seeds[0], outs if several else outs[0], *args, **dict(attrs))
            found = tuple(
                builder.operand(fit(p, t)) if p is not None and t.is_float else None
                for p, t in zip(parts, types, strict=True)
            )
    except Exception:  # a rule that needs more than types
        return None
    return Derivative(
        tuple(builder.nodes),
        tuple(builder.operand(a) for a in args),
        tuple(v._value for v in outs),
        tuple(v._value for v in seeds),
        found,
    )
