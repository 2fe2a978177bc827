"""The instructions of nodes that no group takes: products, and copies into parts of an array. Those that read or write
by index stand in indexing.py, those that work along an axis as a whole in arranging.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from ..ir.build import at_line
from ..ir.graph import Literal, Node
from ..ir.tape import Callback, Operand, View
from ..ir.types import broadcast
from .arranging import ARRANGING
from .attention import attention, attention_grad
from .cached import cached_attention
from .conv import conv, conv_input, conv_weight
from .gemm import copied_elements, gemm_instr
from .indexing import INDEXING
from .layout import is_contiguous
from .lower_loop import scan

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
        if not is_contiguous(out.strides, shape):
            out = to.views[node.output] = to.dense(node.output)
        for i, value in enumerate(operands):
            if len(shapes[i]) > 1:
                shapes[i] = (*batch, *shapes[i][-2:])
                views[i] = to.repeated(value, shapes[i])
        found = gemm_instr(node, views[0], views[1], out, (shapes[0], shapes[1], shape))
    assert found is not None, f"no product form for {node}"
    if found.kernel.startswith("gemm"):
        scratch = to.buffer("factor", "partial", node.output.type.dtype, copied_elements(found))
        operand = Operand(View(scratch, 0, (0,) * len(found.axes)), "rw")
        found = replace(found, operands=(*found.operands, operand))
    to.steps.append(found)


def put_together(to: Lowering, node: Node) -> None:
    """Concat, weave and unslice: every operand in its place, unless it was written there."""
    for index, operand in enumerate(node.inputs):
        x = to.operand(operand)
        place, present = to.part_of(node, index), to.view(x)
        if present != place and (node, index) not in to.joined:
            to.copy(present, place, x.type.shape, x.type.dtype)


def callback(to: Lowering, node: Node) -> None:
    if to.root is not to:
        fact = f"the callback {node.attrs['function']} stands in a loop, which runs without Python"
        write = "  write a Python loop, or call it once for all rounds: before the loop, or on its stacked results"
        raise TypeError("\n".join([fact, *at_line(node.location), write]))
    args = tuple(o.value if isinstance(o, Literal) else (to.view(o), o.type) for o in node.inputs)
    for value in node.outputs:
        to.views[value] = to.dense(value)
    results = tuple((to.views[v], v.type) for v in node.outputs)
    to.steps.append(Callback(node.attrs["function"], args, results, node.location))


NODES: dict[str, Callable[[Lowering, Node], None]] = {
    "attention": attention,
    "attention_grad": attention_grad,
    "cached_attention": cached_attention,
    "callback": callback,
    "concat": put_together,
    "conv": conv,
    "conv_input": conv_input,
    "conv_weight": conv_weight,
    "matmul": matmul,
    "scan": scan,
    "unslice": put_together,
    "weave": put_together,
    **INDEXING,
    **ARRANGING,
}
