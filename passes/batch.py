"""One op on all rounds of a loop at once: operands that differ from round to round are stacked along a first axis.

`batched` knows elementwise ops, views, reductions, products, and rows by index; for others the loop has to run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..ir.build import Builder
from ..ir.dims import DimLike, Shape, identical
from ..ir.graph import Literal, Node
from ..ir.op import OPS


def can_batch(node: Node, stacked: Sequence[bool]) -> bool:
    """Whether `batched` knows the op; `stacked` says which operands differ from round to round."""
    record = OPS[node.op]
    if node.regions or record.random or len(node.outputs) != 1:
        return False
    if not any(stacked):
        return True
    if record.kind == "elementwise" or record.reduce is not None:
        return True
    if node.op in ("matmul", "concat"):
        return not any(isinstance(o, Literal) or o.type.ndim < 2 for o in node.inputs) or node.op == "concat"
    if node.op == "take":
        return not stacked[0]
    return node.op in ("reshape", "permute", "broadcast_to", "slice", "unslice", "bounded")


def batched(builder: Builder, node: Node, args: Sequence[Any], stacked: Sequence[bool], rounds: DimLike) -> Any:
    """What `node` gives for operands of which some are stacked: stacked too, if any is. Needs `can_batch`."""
    op, attrs, shape = OPS[node.op], dict(node.attrs), node.output.type.shape
    if not any(stacked):
        return builder.emit(op, args, attrs)
    if op.kind == "elementwise" or node.op == "matmul":
        rank = max(o.type.ndim for o in node.inputs)
        return builder.emit(op, [_aligned(a, rank) if s else a for a, s in zip(args, stacked, strict=True)], attrs)
    if op.reduce is not None:
        attrs["axes"] = tuple(a + 1 for a in attrs["axes"])
    elif node.op in ("reshape", "broadcast_to"):
        attrs["shape"] = (rounds, *shape)
        args = [_aligned(args[0], len(shape)) if node.op == "broadcast_to" else args[0]]
    elif node.op == "permute":
        attrs["axes"] = (0, *(a + 1 for a in attrs["axes"]))
    elif node.op == "slice":
        attrs = {"start": (0, *attrs["start"]), "size": (rounds, *attrs["size"]), "step": (1, *attrs["step"])}
    elif node.op == "unslice":
        attrs = {"start": (0, *attrs["start"]), "shape": (rounds, *attrs["shape"]), "step": (1, *attrs["step"])}
    elif node.op == "concat":
        attrs["axis"] += 1
        args = [
            a if s else OPS["broadcast_to"](a, shape=(rounds, *o.type.shape))
            for a, s, o in zip(args, stacked, node.inputs, strict=True)
        ]
    return builder.emit(op, args, attrs)


def _aligned(x: Any, rank: int) -> Any:
    """A stacked operand whose rounds stand before all axes of values of `rank` axes."""
    shape = x.shape
    if len(shape) - 1 == rank:
        return x
    return OPS["reshape"](x, shape=(shape[0], *(1,) * (rank + 1 - len(shape)), *shape[1:]))


def can_sum_products(node: Node, stacked: Sequence[bool]) -> bool:
    """Whether the sum over all rounds of a product is one product."""
    x, y = (o.type.shape for o in node.inputs)
    if min(len(x), len(y)) < 2:
        return False
    return not all(stacked) or (len(x) == len(y) and all(map(identical, x[:-2], y[:-2])))


def sum_of_products(builder: Builder, args: Sequence[Any], stacked: Sequence[bool]) -> Any:
    """sum over t of x[t] @ y[t] as one product whose inner axis also goes over t; a factor that is the same in every
    round is taken out of the sum."""
    x, y = args
    if not all(stacked):
        x, y = (sum_rounds(a, (), a.shape[1:]) if s else a for a, s in zip(args, stacked, strict=True))
        return builder.emit(OPS["matmul"], (x, y), {})
    (rounds, *batch, m, k), n = x.shape, y.shape[-1]
    b = len(batch)
    middle = tuple(range(1, b + 1))
    # (t, ..., m, k) -> (..., m, t, k), and (t, ..., k, n) -> (..., t, k, n)
    x = OPS["permute"](x, axes=(*middle, b + 1, 0, b + 2))
    y = OPS["permute"](y, axes=(*middle, 0, b + 1, b + 2))
    x = OPS["reshape"](x, shape=(*batch, m, rounds * k))
    y = OPS["reshape"](y, shape=(*batch, rounds * k, n))
    return builder.emit(OPS["matmul"], (x, y), {})


def sum_rounds(x: Any, axes: Sequence[int], shape: Shape) -> Any:
    """The sum of stacked values over all rounds and over `axes` of each."""
    total = OPS["sum"](x, axes=(0, *(a + 1 for a in axes)), keepdims=True)
    return OPS["reshape"](total, shape=shape)
