"""A scan on the tape: a `Loop` whose body is lowered like a graph of its own, over the same buffers.

What the body reads of the round is a view of a stacked array whose offset depends on the number of the round; what it
stacks it writes there in place. A carry lies in one buffer and is updated like a parameter: in place where nothing
reads the old value any more, else copied at the end of the round. A carry that is stacked as well needs neither: its
buffer has one more row than there are rounds, a round reads one row and writes the next, and the stacked results and
the carries that the backward loop reads are both views of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..ir.dims import Dim, DimLike
from ..ir.graph import Node, Value
from ..ir.ops.scan import parts_of
from ..ir.tape import Loop, View, contiguous

if TYPE_CHECKING:
    from .lower import Lowering


def scan(to: Lowering, node: Node) -> None:
    """Buffers and first carries before the loop, the loop, and views of the buffers as the scan's results."""
    (body,) = node.regions
    outer, inner = parts_of(node)
    length = node.attrs["length"]
    index = to.new_loop()
    t: DimLike = Dim.of(index)
    t = length - 1 - t if node.attrs["reverse"] else t

    def part(stack: View) -> View:
        """What a round has of a stacked array."""
        return View(stack.buffer, stack.offset + t * stack.strides[0], stack.strides[1:])

    views = {v: to.view(to.operand(o)) for v, o in zip(inner.consts, outer.consts, strict=True)}
    views |= {v: part(to.view(to.operand(o))) for v, o in zip(inner.xs, outer.xs, strict=True)}
    places: list[tuple[Value, View]] = []  # what the body has to put where
    updates: list[tuple[str, Value]] = []  # carries that lie in one buffer
    for carry, new, init, last in zip(inner.carries, inner.new, outer.carries, outer.new, strict=True):
        if carry in inner.ys or new in inner.ys:
            olds, news, first, to.views[last] = _rows(to, last, carry, length, node.attrs["reverse"])
            views[carry] = part(olds)
            places.append((new, part(news)))
            for y, value in zip(outer.ys, inner.ys, strict=True):
                if value is carry or value is new:
                    to.views.setdefault(y, olds if value is carry else news)
        else:
            first = views[carry] = to.views[last] = to.dense(last)
            updates.append((carry.name, new))
        to.put(to.operand(init), first)
    for y, value in zip(outer.ys, inner.ys, strict=True):
        if y not in to.views:
            to.views[y] = to.placed(y)
            places.append((value, part(to.views[y])))
    steps = to.body(body.replace(outputs=(), updates=tuple(updates)), views, places)
    to.steps.append(Loop(index, length, steps))


def _rows(to: Lowering, last: Value, carry: Value, length: DimLike, reverse: bool) -> tuple[View, View, View, View]:
    """(the carries before each round, after each round, the first one, the last one) as views of one buffer."""
    size = carry.type.size
    inner = contiguous(carry.type.shape)
    rows = to.buffer(f"{last.name}.rounds", "arena", carry.type.dtype, (length + 1) * size)
    low, high = View(rows, 0, (size, *inner)), View(rows, size, (size, *inner))
    ends = View(rows, 0, inner), View(rows, length * size, inner)
    return (high, low, ends[1], ends[0]) if reverse else (low, high, *ends)
