"""The instructions of nodes that read or add by index. Arrays are seen as (outer, rows along the axis, width)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..ir.dims import DimLike, Shape, product
from ..ir.graph import Node, Value
from ..ir.tape import NUMBER, Indexed, Instr, Operand, View, contiguous

if TYPE_CHECKING:
    from .lower import Lowering


NO_INDEX = -(2**63)  # what no index is


def around(shape: Shape, axis: int, inside: int = 1) -> tuple[DimLike, DimLike, DimLike]:
    """A shape as three sizes: before the axes from `axis` to `axis + inside`, these, and behind them."""
    return product(shape[:axis]), product(shape[axis : axis + inside]), product(shape[axis + inside :])


def emit(
    to: Lowering,
    node: Node,
    kernel: str,
    axes: Sequence[DimLike],
    operands: Sequence[Operand],
    splits: tuple[int, ...],
    indices: Value,
    of: str,
    size: DimLike,
    params: Sequence[DimLike] = (),
) -> None:
    """An instruction that checks `indices` into `size` elements of `of`; its last operand is the error word, its first
    parameter its own number."""
    error = Operand(View(to.error_word().buffer, 0, (0,) * len(axes)), "rw")
    indexed = Indexed(*to.origin(indices), indices.type.shape, of, size)
    params = (NUMBER, *params)
    label = f"{node.op}"
    to.steps.append(Instr(kernel, tuple(axes), (*operands, error), splits, params, node.location, label, indexed))


def take(to: Lowering, node: Node) -> None:
    table, indices = (to.operand(o) for o in node.inputs)
    axis = node.attrs.get("axis", 0)
    outer, rows, width = around(table.type.shape, axis)
    count = product(indices.type.shape)
    source = to.viewed(table, (outer, rows, width))
    where = to.index_view(indices)
    out = to.fresh_as(node.output, (outer, count, width))
    operands = (
        Operand(View(source.buffer, source.offset, (source.strides[0], 0, 1, source.strides[1])), "r"),
        Operand(View(where.buffer, where.offset, (0, 1, 0, 0)), "r"),
        Operand(View(out.buffer, out.offset, (out.strides[0], out.strides[1], 1, 0)), "w"),
    )
    of = _rows_of(to, table, axis)
    axes = (outer, count, width, rows)
    emit(to, node, f"gather_{table.type.dtype}", axes, operands, (1, 2, 0), indices, of, rows)


def _rows_of(to: Lowering, table: Value, axis: int) -> str:
    name, origin = to.origin(table)
    return (
        f"{name or origin} with {{size}} rows" if axis == 0 else f"axis {axis} of {name or origin} with size {{size}}"
    )


def scatter_add(to: Lowering, node: Node) -> None:
    indices, x = (to.operand(o) for o in node.inputs)
    axis = node.attrs.get("axis", 0)
    outer, count, width = around(x.type.shape, axis, indices.type.ndim)
    rows = node.attrs["rows"]
    source = to.viewed(x, (outer, count, width))
    where = to.index_view(indices)
    out = to.zeroed_as(node.output, (outer, rows, width))
    operands = (
        Operand(View(source.buffer, source.offset, (source.strides[0], source.strides[1], 1, 0)), "r"),
        Operand(View(where.buffer, where.offset, (0, 1, 0, 0)), "r"),
        Operand(View(out.buffer, out.offset, (out.strides[0], 0, 1, out.strides[1])), "rw"),
    )
    axes = (outer, count, width, rows)
    emit(to, node, f"scatter_add_{x.type.dtype}", axes, operands, (2, 0), indices, "{size} rows", rows)


def take_along_axis(to: Lowering, node: Node) -> None:
    x, indices = (to.operand(o) for o in node.inputs)
    axis = node.attrs["axis"]
    outer, rows, width = around(x.type.shape, axis)
    shape = (outer, indices.type.shape[axis], width)
    source, out = to.viewed(x, (outer, rows, width)), to.fresh_as(node.output, shape)
    operands = (
        Operand(View(source.buffer, source.offset, (source.strides[0], 0, 1, source.strides[1])), "r"),
        _dense_index(to, indices, shape),
        Operand(View(out.buffer, out.offset, (out.strides[0], out.strides[1], 1, 0)), "w"),
    )
    of = f"axis {axis} of size {{size}}"
    emit(to, node, f"gather_along_{x.type.dtype}", (*shape, rows), operands, (0, 1, 2), indices, of, rows)


def add_along_axis(to: Lowering, node: Node) -> None:
    indices, x = (to.operand(o) for o in node.inputs)
    axis, rows = node.attrs["axis"], node.attrs["size"]
    shape = around(x.type.shape, axis)
    source, out = to.viewed(x, shape), to.zeroed_as(node.output, (shape[0], rows, shape[2]))
    operands = (
        Operand(View(source.buffer, source.offset, (source.strides[0], source.strides[1], 1, 0)), "r"),
        _dense_index(to, indices, shape),
        Operand(View(out.buffer, out.offset, (out.strides[0], 0, 1, out.strides[1])), "rw"),
    )
    of = f"axis {axis} of size {{size}}"
    emit(to, node, f"scatter_add_along_{x.type.dtype}", (*shape, rows), operands, (0, 2), indices, of, rows)


def _dense_index(to: Lowering, indices: Value, shape: Shape) -> Operand:
    where = to.index_view(indices)
    return Operand(View(where.buffer, where.offset, (*contiguous(shape), 0)), "r")


def bounded(to: Lowering, node: Node) -> None:
    """`bounded`, and `wrapped`, which counts negative indices from the end."""
    indices, size = to.operand(node.inputs[0]), node.attrs["size"]
    where = to.index_view(indices)
    out = to.fresh_as(node.output, (product(indices.type.shape),))
    operands = (
        Operand(View(where.buffer, where.offset, (1,)), "r"),
        Operand(View(out.buffer, out.offset, (1,)), "w"),
    )
    classes = node.op == "bounded"
    of = "{size} classes" if classes else f"axis {node.attrs['axis']} of size {{size}}"
    axes = (product(indices.type.shape),)
    ignore = node.attrs.get("ignore")
    params = (0 if classes else -size, size, NO_INDEX if ignore is None else ignore)
    emit(to, node, "bounded_i64", axes, operands, (0,), indices, of, size, params)


def last_index(to: Lowering, node: Node) -> None:
    indices, rows = to.operand(node.inputs[0]), node.attrs["rows"]
    where = to.index_view(indices)
    out = to.fresh_as(node.output, (rows,))
    operands = (
        Operand(View(where.buffer, where.offset, (1, 0)), "r"),
        Operand(View(out.buffer, out.offset, (0, 1)), "w"),
    )
    axes = (product(indices.type.shape), rows)
    emit(to, node, "last_index_i64", axes, operands, (), indices, "{size} rows", rows)


def dynamic_slice(to: Lowering, node: Node) -> None:
    x, start = (to.operand(o) for o in node.inputs)
    axis = node.attrs["axis"]
    outer, rows, width = around(x.type.shape, axis)
    shape = (outer, node.attrs["size"], width)
    source, where = to.viewed(x, (outer, rows, width)), to.index_view(start)
    out = to.fresh_as(node.output, shape)
    operands = (
        Operand(View(source.buffer, source.offset, (source.strides[0], 0, 1, source.strides[1])), "r"),
        Operand(View(where.buffer, where.offset, (0, 0, 0, 0)), "r"),
        Operand(View(out.buffer, out.offset, (out.strides[0], out.strides[1], 1, 0)), "w"),
    )
    kernel = f"dynamic_read_{x.type.dtype}"
    to.steps.append(Instr(kernel, (*shape, rows), operands, (0, 1, 2), (), node.location, "dynamic_slice"))


def dynamic_update_slice(to: Lowering, node: Node) -> None:
    x, update, start = (to.operand(o) for o in node.inputs)
    axis = node.attrs["axis"]
    outer, rows, width = around(x.type.shape, axis)
    shape = around(update.type.shape, axis)
    source, where = to.viewed(update, shape), to.index_view(start)
    out = to.taken_over(node, x)
    steps = contiguous((outer, rows, width))
    operands = (
        Operand(View(source.buffer, source.offset, (source.strides[0], source.strides[1], 1, 0)), "r"),
        Operand(View(where.buffer, where.offset, (0, 0, 0, 0)), "r"),
        Operand(View(out.buffer, out.offset, (steps[0], 0, 1, steps[1])), "rw"),
    )
    kernel = f"dynamic_write_{x.type.dtype}"
    to.steps.append(Instr(kernel, (*shape, rows), operands, (0, 1, 2), (), node.location, "dynamic_update_slice"))


INDEXING: dict[str, Callable[[Lowering, Node], None]] = {
    "take": take,
    "scatter_add": scatter_add,
    "take_along_axis": take_along_axis,
    "add_along_axis": add_along_axis,
    "bounded": bounded,
    "wrapped": bounded,
    "last_index": last_index,
    "dynamic_slice": dynamic_slice,
    "dynamic_update_slice": dynamic_update_slice,
}

# those that may find an index out of range
CHECKING = INDEXING.keys() - {"dynamic_slice", "dynamic_update_slice"}
