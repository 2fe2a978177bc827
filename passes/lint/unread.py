"""Which rows of the parameters the loss reads: the rest never gets a gradient.

Backward through the program, every value has for each axis the indices that some reader reads. Where the readers of a
value differ in more than one axis, this is more than what is read, never less.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ...ir.dims import Shape
from ...ir.graph import Graph, Node, Value
from ...ir.op import OPS
from ...ir.types import is_one
from .along import ALIKE, axis_groups, kept_axes
from .flow import Flow
from .same import is_closed, reduced_axes

Read = tuple["np.ndarray | None", ...]  # for each axis the indices that are read, None: all


@dataclass(frozen=True)
class Unread:
    """Rows of a parameter that are never read: `start` to `stop` of `axis` are the first run of `count` rows;
    `node` is what reads the others alone, `direct` whether it reads the parameter itself."""

    name: str
    axis: int
    start: int
    stop: int
    count: int
    node: Node | None
    direct: bool


def unread_rows(graph: Graph, flow: Flow, arrays: Mapping[Value, np.ndarray]) -> list[Unread]:
    """The rows of parameters that the gradient of the roots does not reach, by indexing alone. `arrays` gives those
    index arrays that are part of the program."""
    read: dict[Value, Read] = {v: (None,) * v.type.ndim for v in flow.roots}
    narrow: dict[Value, Node] = {}  # the last node that reads a part of a value
    for node in reversed(graph.nodes):
        out = next((v for v in node.outputs if v in read), None)
        if out is None:
            continue
        passes = flow.passes(node)
        for i, operand in enumerate(node.inputs):
            if not isinstance(operand, Value) or not passes[i]:
                continue
            mine = (None,) * operand.type.ndim if is_closed(node) else _read(node, i, read[out], arrays)
            read[operand] = _joined(read[operand], mine) if operand in read else mine
            if node.op in ("slice", "take") and not is_closed(node):
                narrow[operand] = node
            elif out in narrow:
                narrow[operand] = narrow[out]
    uses = graph.uses()
    found = (_unread(v, read.get(v), narrow.get(v), _readers(v, uses, flow)) for v in graph.inputs)
    return [unread for unread in found if unread is not None and graph.roles[unread.name] == "param"]


def _readers(value: Value, uses: Mapping[Value, list[Node]], flow: Flow) -> list[Node]:
    """The nodes that hand gradient to `value`."""
    return [n for n in uses.get(value, ()) if any(v in flow.alive for v in n.outputs)]


def _unread(value: Value, read: Read | None, node: Node | None, readers: list[Node]) -> Unread | None:
    for axis, mask in enumerate(read or ()):
        if mask is None or mask.all():
            continue
        missing = np.flatnonzero(~mask)
        ends = np.flatnonzero(np.diff(missing) != 1)
        stop = int(missing[ends[0] if len(ends) else -1]) + 1
        direct = all(n.op == "slice" for n in readers)
        return Unread(value.name, axis, int(missing[0]), stop, len(missing), node, direct)
    return None


def _joined(a: Read, b: Read) -> Read:
    return tuple(None if x is None or y is None else x | y for x, y in zip(a, b, strict=True))


def _read(node: Node, i: int, out: Read, arrays: Mapping[Value, np.ndarray]) -> Read:
    """What of its i-th operand `node` reads, for those parts of its result that are read."""
    op, operand = OPS[node.op], node.inputs[i]
    shape, result = operand.type.shape, node.output.type.shape
    everything: Read = (None,) * len(shape)
    if op.kind == "elementwise":
        return _repeated(shape, result, out)
    if node.op in ALIKE:
        along = reduced_axes(node.attrs) if "axes" in node.attrs or "axis" in node.attrs else ()
        return tuple(None if a in along else mask for a, mask in enumerate(out))
    if op.reduce is not None or node.op in ("mean", "var", "std"):
        place = kept_axes(len(shape), reduced_axes(node.attrs), node.attrs["keepdims"])
        return tuple(out[place[a]] if a in place else None for a in range(len(shape)))
    if node.op == "matmul":
        return _of_product(node, i, out)
    if node.op == "permute":
        place = {a: b for b, a in enumerate(node.attrs["axes"])}
        return tuple(out[place[a]] for a in range(len(shape)))
    if node.op == "reshape":
        single = {b[0]: a[0] for b, a in axis_groups(shape, result) if len(b) == len(a) == 1}
        return tuple(out[single[a]] if a in single else None for a in range(len(shape)))
    if node.op == "broadcast_to":
        return _repeated(shape, result, out)
    if node.op == "slice":
        return tuple(_sliced(node, a, out[a]) for a in range(len(shape)))
    if node.op == "unslice":
        return tuple(_placed(node, a, out[a]) for a in range(len(shape)))
    if node.op == "concat":
        return _of_concat(node, i, out)
    if node.op == "take" and i == 0:
        axis, rows = node.attrs.get("axis", 0), node.inputs[1].type.ndim
        return (*out[:axis], _taken(node, axis, arrays), *out[axis + rows :])
    return everything


def _repeated(shape: Shape, result: Shape, out: Read) -> Read:
    move = len(result) - len(shape)
    return tuple(None if is_one(d) else out[a + move] for a, d in enumerate(shape))


def _of_product(node: Node, i: int, out: Read) -> Read:
    x, y = node.inputs
    if x.type.ndim < 2 or y.type.ndim < 2:
        return (None,) * node.inputs[i].type.ndim
    shape = node.inputs[i].type.shape
    move = len(out) - len(shape)
    batch = [None if is_one(d) else out[a + move] for a, d in enumerate(shape[:-2])]
    return (*batch, out[-2], None) if i == 0 else (*batch, None, out[-1])


def _sliced(node: Node, axis: int, mask: np.ndarray | None) -> np.ndarray | None:
    n, size = node.inputs[0].type.shape[axis], node.output.type.shape[axis]
    start, step = node.attrs["start"][axis], node.attrs["step"][axis]
    if not (isinstance(n, int) and isinstance(size, int) and isinstance(start, int) and isinstance(step, int)):
        return None
    rows = start + step * np.arange(size)
    found = np.zeros(n, bool)
    found[rows if mask is None else rows[mask]] = True
    return found


def _placed(node: Node, axis: int, mask: np.ndarray | None) -> np.ndarray | None:
    size, start, step = node.inputs[0].type.shape[axis], node.attrs["start"][axis], node.attrs["step"][axis]
    if mask is None or not (isinstance(size, int) and isinstance(start, int) and isinstance(step, int)):
        return None
    return mask[start + step * np.arange(size)]


def _of_concat(node: Node, i: int, out: Read) -> Read:
    axis = node.attrs["axis"]
    sizes = [o.type.shape[axis] for o in node.inputs]
    mask, found = out[axis], list(out)
    if mask is not None:
        known = all(isinstance(n, int) for n in sizes)
        start = sum(sizes[:i]) if known else 0
        found[axis] = mask[start : start + sizes[i]] if known else None
    return tuple(found)


def _taken(node: Node, axis: int, arrays: Mapping[Value, np.ndarray]) -> np.ndarray | None:
    """The rows of a table that an index array of the program itself reads."""
    table, index = node.inputs
    rows = table.type.shape[axis]
    known = arrays.get(index) if isinstance(index, Value) else None
    if known is None or not isinstance(rows, int):
        return None
    found = np.zeros(rows, bool)
    found[known.reshape(-1)] = True
    return found
