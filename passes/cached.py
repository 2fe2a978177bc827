"""The instruction of attention to a cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..ir.dims import identical
from ..ir.graph import Node, Value
from ..ir.tape import Instr, Operand, View
from ..ir.types import is_one

if TYPE_CHECKING:
    from .lower import Lowering


def cached_attention(to: Lowering, node: Node) -> None:
    q, k, v, start = (to.operand(o) for o in node.inputs)
    (B, H, T, D), (_, _, S, E) = q.type.shape, v.type.shape
    out = to.fresh(node)
    if not _adjacent(node.output, out):
        out = to.views[node.output] = to.dense(node.output)
    where, dtype = to.index_view(start), node.output.type.dtype
    scratch = to.buffer("scores", "partial", dtype, S)
    sides = [view if _adjacent(x, view := to.view(x)) else to.copied(x) for x in (q, k, v)]
    (q1, q2, q3, _), (k1, k2, k3, _), (v1, v2, v3, _) = (side.strides for side in sides)
    operands = (
        Operand(View(sides[0].buffer, sides[0].offset, (q1, q2, q3, 0, 1, 0)), "r"),
        Operand(View(sides[1].buffer, sides[1].offset, (k1, k2, 0, k3, 1, 0)), "r"),
        Operand(View(sides[2].buffer, sides[2].offset, (v1, v2, 0, v3, 0, 1)), "r"),
        Operand(View(where.buffer, where.offset, (0,) * 6), "r"),
        Operand(View(out.buffer, out.offset, (*out.strides[:3], 0, 0, 1)), "w"),
        Operand(View(scratch, 0, (0,) * 6), "rw"),
    )
    axes, params = (B, H, T, S, D, E), (float(node.attrs["scale"]),)
    to.steps.append(Instr(f"cached_attention_{dtype}", axes, operands, (0, 1, 2), params, node.location, node.op))


def _adjacent(value: Value, view: View) -> bool:
    """Whether the elements of a row lie beside each other."""
    return identical(view.strides[-1], 1) or is_one(value.type.shape[-1])
