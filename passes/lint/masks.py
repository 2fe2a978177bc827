"""Arrays that a program computes without its inputs, above all masks, and the scores that they remove."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ...ir.dims import product
from ...ir.graph import Graph, Literal, Node, Operand, Value
from ...ir.interp import concrete, concrete_type
from ...ir.op import OPS
from .intervals import Range
from .patterns import share, taken_away
from .same import Same, is_closed, reduced_axes

LARGEST = 1 << 20  # elements of an array that is computed here
ROWS = ("softmax", "log_softmax", "logsumexp")


def static_arrays(graph: Graph, same: Same) -> dict[Value, np.ndarray]:
    """The arrays of all values that no input takes part in, as far as they are not large. Symbolic sizes are those of
    the trace."""
    dims = {s.name: s.hint for s in graph.symbols.values() if s.hint is not None}
    found: dict[Value, np.ndarray] = {}
    for node in graph.nodes:
        array = _computed(node, found, graph, same, dims)
        if array is not None:
            found[node.output] = array
    return found


def _computed(
    node: Node, known: Mapping[Value, np.ndarray], graph: Graph, same: Same, dims: Mapping[str, int]
) -> np.ndarray | None:
    op = OPS[node.op]
    if is_closed(node) or op.random or (op.ref is None and node.op != "constant"):
        return None
    if not all(isinstance(o, Literal) or o in known for o in node.inputs):
        return None
    if same.of(node.output) is not node.output:
        first = same.of(node.output)
        return known.get(first) if isinstance(first, Value) else None
    if node.op == "constant":
        return graph.constants[node.attrs["digest"]]
    try:
        kind = concrete_type(node.output.type, dims)
    except KeyError:  # a symbol without a size
        return None
    if not 0 < product(kind.shape) <= LARGEST:
        return None
    args = [o.value if isinstance(o, Literal) else known[o] for o in node.inputs]
    return op.reference(kind, *args, **{k: concrete(v, dims) for k, v in node.attrs.items()})


def removed(graph: Graph, ranges: Mapping[Value, Range], arrays: Mapping[Value, np.ndarray]) -> dict[Value, np.ndarray]:
    """Where values are -inf for all inputs: bool arrays that broadcast to their shapes."""
    found: dict[Value, np.ndarray] = {}
    for node in graph.nodes:
        gone = _removed(node, ranges, arrays, found)
        if gone is not None and gone.any():
            found[node.output] = gone
    return found


def _removed(
    node: Node, ranges: Mapping[Value, Range], arrays: Mapping[Value, np.ndarray], known: Mapping[Value, np.ndarray]
) -> np.ndarray | None:
    if is_closed(node):
        return None
    gone = [_of_operand(o, arrays, known) for o in node.inputs]
    if node.op == "where":
        condition = node.inputs[0]
        mask = arrays.get(condition) if isinstance(condition, Value) else None
        if mask is None:  # whichever holds, what both arms remove is gone
            return None if gone[1] is None or gone[2] is None else gone[1] & gone[2]
        return (mask & (False if gone[1] is None else gone[1])) | (~mask & (False if gone[2] is None else gone[2]))
    if node.op in ("add", "sub", "minimum"):
        sides = [g for g in (gone if node.op != "sub" else gone[:1]) if g is not None]
        return None if not sides else sides[0] if len(sides) == 1 else sides[0] | sides[1]
    if node.op in ("mul", "div") and gone[0] is not None:
        factor = node.inputs[1]
        low = factor.value if isinstance(factor, Literal) else ranges[factor].low
        return gone[0] if low > 0 else None
    if node.op == "cast":
        return gone[0]
    if node.op in ("permute", "slice") and gone[0] is not None and gone[0].shape == node.inputs[0].type.shape:
        return np.asarray(OPS[node.op].ref(gone[0], **node.attrs))  # type: ignore[misc]
    return None


def _of_operand(
    operand: Operand, arrays: Mapping[Value, np.ndarray], known: Mapping[Value, np.ndarray]
) -> np.ndarray | None:
    """Where an operand is -inf."""
    if isinstance(operand, Literal):
        return np.array(True) if operand.value == -np.inf else None
    if operand in known:
        return known[operand]
    array = arrays.get(operand)
    return None if array is None or array.dtype.kind != "f" else np.isneginf(array)


def empty_rows(node: Node, gone: Mapping[Value, np.ndarray], same: Same) -> tuple[int, int] | None:
    """How many rows of a softmax, as an op or written out, have nothing left, of how many; None where none has."""
    x: Operand | None = node.inputs[0] if node.op in ROWS else None
    axes = reduced_axes(node.attrs) if x is not None else ()
    pair, parts = taken_away(same, node), share(same, node)
    if pair is not None and pair[2].op in ("max", "logsumexp"):  # -inf less -inf
        x, axes = node.inputs[pair[0]], tuple(pair[1])
    elif parts is not None:  # 0 / 0
        made = same.made(node.inputs[0])
        x, axes = (made.inputs[0], tuple(parts)) if made is not None and made.op == "exp" else (None, ())
    if not isinstance(x, Value) or x not in gone:
        return None
    own = tuple(a - x.type.ndim + gone[x].ndim for a in axes)
    rows = gone[x].all(tuple(a for a in own if a >= 0))
    return (int(rows.sum()), rows.size) if rows.any() else None
