"""The instructions of nodes that work along one axis as a whole: order, running sums and extremes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..ir.dims import DimLike, product
from ..ir.graph import Node, Value
from ..ir.tape import Instr, Operand, View, contiguous
from .indexing import around

if TYPE_CHECKING:
    from .lower import Lowering


def rows_along(to: Lowering, value: Value, axis: int) -> tuple[View, View]:
    """Memory for `value` with `axis` as the innermost: as the value's view, and as a view (rows, elements of a row)."""
    shape = value.type.shape
    moved = (*shape[:axis], *shape[axis + 1 :], shape[axis])
    steps = contiguous(moved)
    buffer = to.buffer(value.name, "arena", value.type.dtype, value.type.size)
    own = View(buffer, 0, (*steps[:axis], steps[-1], *steps[axis:-1]))
    return own, View(buffer, 0, (shape[axis], 1))


def read_along(to: Lowering, x: Value, axis: int) -> View:
    """x as (rows, elements along `axis`); a copy where it does not lie so."""
    rows, n = outside(x, axis), x.type.shape[axis]
    if axis == x.type.ndim - 1:
        return to.viewed(x, (rows, n))
    own, view = rows_along(to, x, axis)
    to.copy(to.view(x), own, x.type.shape, x.type.dtype)
    return view


def outside(x: Value, axis: int) -> DimLike:
    """How many rows lie along an axis."""
    return product(d for i, d in enumerate(x.type.shape) if i != axis)


def sort(to: Lowering, node: Node) -> None:
    x, axis = to.operand(node.inputs[0]), node.attrs["axis"]
    n, dtype = x.type.shape[axis], x.type.dtype
    views = []
    for out in node.outputs:
        to.views[out], view = rows_along(to, out, axis)
        views.append(view)
    to.copy(to.view(x), to.views[node.outputs[0]], x.type.shape, dtype)
    spare = [View(to.buffer("spare", "partial", kind, n), 0, (0, 1)) for kind in (dtype, "i64")]
    operands = tuple(Operand(view, "rw") for view in (*views, *spare))
    kernel = f"sort_descending_{dtype}" if node.attrs["descending"] else f"sort_{dtype}"
    to.steps.append(Instr(kernel, (outside(x, axis), n), operands, (0,), (), node.location, "sort"))


def topk(to: Lowering, node: Node) -> None:
    x, axis = to.operand(node.inputs[0]), node.attrs["axis"]
    n, dtype = x.type.shape[axis], x.type.dtype
    source = read_along(to, x, axis)
    views = []
    for out in node.outputs:
        to.views[out], view = rows_along(to, out, axis)
        views.append(View(view.buffer, 0, (node.attrs["k"], 0, 1)))
    operands = (
        Operand(View(source.buffer, source.offset, (source.strides[0], 1, 0)), "r"),
        *(Operand(view, "rw") for view in views),
    )
    kernel = f"{'top' if node.attrs['largest'] else 'bottom'}_{dtype}"
    axes = (outside(x, axis), n, node.attrs["k"])
    to.steps.append(Instr(kernel, axes, operands, (0,), (), node.location, "topk"))


def running(to: Lowering, node: Node) -> None:
    """cumsum, linear_scan, cummax, cummin: operands and results as (outer, n along the axis, width)."""
    shape = around(node.outputs[0].type.shape, node.attrs["axis"])
    views = [to.viewed(to.operand(o), shape) for o in node.inputs]
    modes = ["r"] * len(views) + ["rw"] * len(node.outputs)
    views += [to.fresh_as(out, shape) for out in node.outputs]
    operands = tuple(
        Operand(View(v.buffer, v.offset, (v.strides[0], v.strides[1], 1)), mode)
        for v, mode in zip(views, modes, strict=True)
    )
    kernel, turned = f"{node.op}_{node.outputs[0].type.dtype}", int(node.attrs.get("reverse", False))
    to.steps.append(Instr(kernel, shape, operands, (0, 2), (turned,), node.location, node.op))


ARRANGING: dict[str, Callable[[Lowering, Node], None]] = {
    "sort": sort,
    "topk": topk,
    "cummax": running,
    "cummin": running,
    "cumsum": running,
    "linear_scan": running,
}
