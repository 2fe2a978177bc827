"""The instructions of nodes that no group takes: products, rows by index, and copies into parts of an array."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..ir.dims import identical, product
from ..ir.graph import Node
from ..ir.tape import Instr, Operand, View, contiguous
from ..ir.types import broadcast, is_one
from .gemm import gemm_instr

if TYPE_CHECKING:
    from .lower import Lowering


def matmul(to: Lowering, node: Node) -> None:
    operands = [to.operand(o) for o in node.inputs]
    out, shape = to.fresh(node), node.output.type.shape
    views = [to.view(v) for v in operands]
    shapes = [v.type.shape for v in operands]
    half = to.triangles.product(node) if min(map(len, shapes)) >= 2 else ""
    fill = half != "out_lower" or not to.cut_by_readers(node.output)
    found = gemm_instr(node, views[0], views[1], out, (shapes[0], shapes[1], shape), half, fill)
    for i, value in enumerate(operands):
        if found is None:
            views[i] = to.copied(value)
            found = gemm_instr(node, views[0], views[1], out, (shapes[0], shapes[1], shape), half, fill)
    if found is None:  # too many batch axes: with all three dense and in full they are one
        batch = broadcast([s[:-2] for s in shapes])
        out = to.views[node.output] = to.dense(node.output)
        for i, value in enumerate(operands):
            if len(shapes[i]) > 1:
                shapes[i] = (*batch, *shapes[i][-2:])
                views[i] = to.repeated(value, shapes[i])
        found = gemm_instr(node, views[0], views[1], out, (shapes[0], shapes[1], shape))
    assert found is not None, f"no product form for {node}"
    to.steps.append(found)


def take(to: Lowering, node: Node) -> None:
    table, indices = (to.operand(o) for o in node.inputs)
    out = to.views[node.output] = to.dense(node.output)  # the kernel writes whole rows: not into a part of an array
    width = product(table.type.shape[1:])
    source = to.rows_of(table)
    where = to.index_view(indices)
    axes = (product(indices.type.shape), width, table.type.shape[0])
    operands = (
        Operand(View(source.buffer, source.offset, (0, 1, source.strides[0])), "r"),
        Operand(View(where.buffer, where.offset, (1, 0, 0)), "r"),
        Operand(View(out.buffer, 0, (width, 1, 0)), "w"),
        Operand(View(to.error_word().buffer, 0, (0, 0, 0)), "rw"),
    )
    to.steps.append(
        Instr(f"gather_{table.type.dtype}", axes, operands, (0, 1), (len(to.steps),), node.location, "take")
    )


def scatter_add(to: Lowering, node: Node) -> None:
    indices, x = (to.operand(o) for o in node.inputs)
    out = to.views[node.output] = to.dense(node.output)
    shape = node.output.type.shape
    dtype = x.type.dtype
    to.fill(out, shape, dtype)
    width = product(shape[1:])
    view = to.view(x)
    if not all(
        identical(a, b) or is_one(d)
        for a, b, d in zip(view.strides, contiguous(x.type.shape), x.type.shape, strict=True)
    ):
        view = to.copied(x)
    where = to.index_view(indices)
    axes = (product(indices.type.shape), width, shape[0])
    operands = (
        Operand(View(view.buffer, view.offset, (width, 1, 0)), "r"),
        Operand(View(where.buffer, where.offset, (1, 0, 0)), "r"),
        Operand(View(out.buffer, 0, (0, 1, width)), "rw"),
        Operand(View(to.error_word().buffer, 0, (0, 0, 0)), "rw"),
    )
    to.steps.append(Instr(f"scatter_add_{dtype}", axes, operands, (1,), (len(to.steps),), node.location, "scatter_add"))


def bounded(to: Lowering, node: Node) -> None:
    indices = to.operand(node.inputs[0])
    out = to.dense(node.output)
    to.views[node.output] = out
    where = to.index_view(indices)
    axes = (product(indices.type.shape),)
    operands = (
        Operand(View(where.buffer, where.offset, (1,)), "r"),
        Operand(View(out.buffer, 0, (1,)), "w"),
        Operand(View(to.error_word().buffer, 0, (0,)), "rw"),
    )
    params = (len(to.steps), node.attrs["size"])
    to.steps.append(Instr("bounded_i64", axes, operands, (0,), params, node.location, "bounded"))


def unslice(to: Lowering, node: Node) -> None:
    x = to.operand(node.inputs[0])
    shape = node.output.type.shape
    target = to.dense(node.output)
    to.views[node.output] = target
    to.fill(target, shape, x.type.dtype)
    to.copy_into(x, target, node.attrs["start"], node.attrs["step"])


def concat(to: Lowering, node: Node) -> None:
    for index, operand in enumerate(node.inputs):
        x = to.operand(operand)
        place, present = to.part_of(node, index), to.view(x)
        if present != place:
            to.copy(present, place, x.type.shape, x.type.dtype)


NODES: dict[str, Callable[[Lowering, Node], None]] = {
    "matmul": matmul,
    "take": take,
    "scatter_add": scatter_add,
    "bounded": bounded,
    "unslice": unslice,
    "concat": concat,
}
