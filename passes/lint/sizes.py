"""Where the size of an axis comes from: an input, and then it is another one with other data, or the model."""

from __future__ import annotations

from ...ir.dims import identical
from ...ir.graph import Graph, Node, Operand, Value
from ...ir.op import OPS
from ...ir.types import is_one
from .along import ALIKE, axis_groups, kept_axes
from .same import reduced_axes


class Sizes:
    def __init__(self, graph: Graph) -> None:
        self.roles, self.producer = graph.roles, graph.producers()

    def is_of_data(self, operand: Operand, axis: int) -> bool:
        """Whether the size of this axis may be that of an input's axis: a batch of one example, a sequence of one
        token. False where parameters, arrays or numbers of the model decide it."""
        return any(self.roles[value.name] == "input" for value, _ in self.origins(operand, axis))

    def origins(self, operand: Operand, axis: int) -> set[tuple[Value, int]]:
        """The axes of inputs and parameters that this one may have its size, and its order, from."""
        found, seen, stack = set(), set(), [(operand, axis)]
        while stack:
            item = stack.pop()
            if item in seen or not isinstance(item[0], Value):
                continue
            seen.add(item)
            node = self.producer.get(item[0])
            if node is None:
                found.add(item)
            else:
                stack += self._sources(node, item[1])
        return found

    def _sources(self, node: Node, axis: int) -> list[tuple[Operand, int]]:
        """The axes of operands from which an axis of the result has its size."""
        op, ndim = OPS[node.op], node.output.type.ndim
        if node.op in ("constant", "full", "iota", "dim_scalar"):
            return []
        x = node.inputs[0]
        if op.kind == "elementwise":
            own = [(o, axis - ndim + o.type.ndim) for o in node.inputs]
            return [(o, a) for o, a in own if a >= 0]
        if node.op in ALIKE:
            return [] if axis in _reduced_to_one(node) else [(x, axis)]
        if op.reduce is not None or node.op in ("mean", "var", "std", "argmax", "argmin"):
            place = kept_axes(x.type.ndim, reduced_axes(node.attrs), node.attrs["keepdims"])
            return [(x, a) for a, b in place.items() if b == axis]
        if node.op == "matmul":
            return _of_product(node, axis)
        if node.op == "permute":
            return [(x, node.attrs["axes"][axis])]
        if node.op == "broadcast_to":
            return [(x, axis - ndim + x.type.ndim)] if axis >= ndim - x.type.ndim else []
        if node.op == "slice":
            return [(x, axis)] if identical(x.type.shape[axis], node.output.type.shape[axis]) else []
        if node.op == "concat":
            return [] if axis == node.attrs["axis"] else [(o, axis) for o in node.inputs]
        if node.op == "reshape":
            if is_one(node.output.type.shape[axis]):  # of any axis of size 1, it cannot be told which
                return [(x, a) for a, d in enumerate(x.type.shape) if is_one(d)]
            groups = axis_groups(x.type.shape, node.output.type.shape)
            return [(x, a) for before, after in groups if axis in after for a in before]
        if node.op == "take":
            taken, rows = node.attrs.get("axis", 0), node.inputs[1].type.ndim
            if taken <= axis < taken + rows:
                return [(node.inputs[1], axis - taken)]
            return [(x, axis if axis < taken else axis - rows + 1)]
        if node.op == "conv":  # batch, channels, places
            return [(x, 0)] if axis == 0 else [(node.inputs[1], 0)] if axis == 1 else [(o, axis) for o in node.inputs]
        if node.op in ("max_pool", "avg_pool"):
            return [(x, axis)]
        return [(o, a) for o in node.inputs for a in range(o.type.ndim)]


def _reduced_to_one(node: Node) -> tuple[int, ...]:
    return reduced_axes(node.attrs) if node.op == "logsumexp" else ()


def _of_product(node: Node, axis: int) -> list[tuple[Operand, int]]:
    x, y = node.inputs
    ndim, columns = node.output.type.ndim, y.type.ndim > 1
    if columns and axis == ndim - 1:
        return [(y, y.type.ndim - 1)]
    if x.type.ndim > 1 and axis == ndim - 1 - columns:
        return [(x, x.type.ndim - 2)]
    batch = ndim - columns - (x.type.ndim > 1)
    own = [(o, axis - batch + o.type.ndim - 2) for o in (x, y)]
    return [(o, a) for o, a in own if a >= 0]
