"""Rows side by side: where a row's elements lie far apart and those of its neighbours next to each other, as in a
softmax over an axis that is not the last, neighbouring rows are computed together, each in a lane of its own.

The axis of the neighbours becomes the innermost one of the loop nest. What a row keeps (a maximum, a sum) is then an
array with an element for each lane: `clear` sets it, `fold` combines it with an element of each row, and what comes
after loads it. What was done once for each row is done once for each lane.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count, pairwise

from ..ir.dims import DimLike, Shape, identical, product
from ..ir.op import OPS
from ..ir.tape import Section, Stmt
from .fuse import Group, reduction_kind, wide_axes

FEW = 16  # lanes: with less than a vector of float32 walking along the rows is as good

Strides = Sequence[DimLike]


def lanes_of(group: Group) -> tuple[int, ...]:
    """The axes, from the start, whose elements are lanes: those behind the last axis that a row spans. None where a row
    lies in memory as it is, where nothing is reduced over it, and where rows are added up."""
    rank, wide = len(group.space), wide_axes(group.space)
    inner = (group.inner or frozenset()) & wide
    lanes = tuple(i for i in range(rank) if i - rank in wide and i - rank > max(inner, default=-1))
    size = product(group.space[i] for i in lanes)
    kinds = {reduction_kind(n, group.space, group.inner) for n in group.nodes if OPS[n.op].kind == "reduce"}
    alone = "row" in kinds and kinds <= {"row", "total"}
    return lanes if lanes and alone and not (isinstance(size, int) and size < FEW) else ()


def adjacent(strides: Sequence[Strides], lane: int) -> bool:
    """Whether all that is read and written lies lane by lane in memory, or is the same for all lanes."""
    return all(identical(s[lane], 0) or identical(s[lane], 1) for s in strides)


def as_one(strides: Sequence[Strides], space: Shape, lanes: tuple[int, ...]) -> tuple[int, ...]:
    """The lanes where every operand steps through their axes as through one, else those of the last axis."""
    joined = all(identical(s[a], s[b] * space[b]) for a, b in pairwise(lanes) for s in strides)
    return lanes if joined else lanes[-1:]


def side_by_side(sections: Sequence[Section], array: Callable[[int, str], int]) -> tuple[Section, ...]:
    """The sections with the lanes innermost. `array(result, dtype)` is the access to the array that holds a result."""
    home = {s.result: i for i, section in enumerate(sections) if section.level != "once" for s in section.stmts}
    dtypes = {s.result: s.dtype for section in sections for s in section.stmts}
    used = {(a, i) for i, section in enumerate(sections) for s in section.stmts for a in s.args if isinstance(a, int)}
    kept = {a for a, i in used if home.get(a, i) != i}
    fresh = count(max(dtypes, default=0) + 1)

    def access(result: int) -> tuple[str, int]:
        return "access", array(result, dtypes[result])

    out: list[Section] = []
    for i, section in enumerate(sections):
        if section.level == "once":
            out.append(section)
            continue
        cleared: list[Stmt] = []
        stmts: list[Stmt] = []
        stored: list[Stmt] = []
        loaded: dict[int | object, int] = {}
        for s in section.stmts:
            for a in s.args:
                if isinstance(a, int) and a in kept and home[a] != i and a not in loaded:
                    loaded[a] = next(fresh)
                    stmts.append(Stmt(loaded[a], "load", (), dtypes[a], (access(a),)))
            s = replace(s, args=tuple(loaded.get(a, a) for a in s.args))
            if s.op.startswith("reduce_"):
                attrs = (access(s.result), ("kind", s.op.removeprefix("reduce_")))
                cleared.append(Stmt(next(fresh), "clear", (), s.dtype, attrs))
                stmts.append(replace(s, op="fold", attrs=attrs))
                continue
            stmts.append(s)
            if s.result in kept:
                stored.append(Stmt(next(fresh), "store", (s.result,), s.dtype, (access(s.result),)))
        if cleared:
            out.append(Section("lane", tuple(cleared)))
        out.append(Section("lane" if section.level == "row" else "loop", (*stmts, *stored)))
    return tuple(out)
