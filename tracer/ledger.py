"""The boundary with Python. Every value that leaves a traced program is an `Escape`; where what left, or
something computed from it, comes back as a constant, the program is cut: that is a `Reentry`, and it knows
both lines.

What leaves carries a `Tag` (`tracer/escaped.py`) that NumPy calls and arithmetic hand on. A tag is lost where
Python insists on plain objects (`float(x)`, `np.array([...])`, `buffer[i] = x`); then the memory and the
values of what comes back are compared with what left, and the source is read (`tracer/source.py`). `how` says
which of these it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..ir.crossings import Escape, Leaf, Mismatch, Reentry, Refusal, Stale, Store, Write
from ..ir.graph import Value
from ..ir.location import Location, Position
from .source import Origins, Site, sites

MATCHED = 256  # elements of a constant that are compared with escaped values
REMEMBERED = 65536  # elements of one escaped array that are kept for that comparison


class Tag:
    """Where a Python-side value came from. `written` is told when the memory behind it is assigned to."""

    __slots__ = ("ledger", "origins", "written")

    def __init__(
        self, ledger: Ledger, origins: tuple[Escape, ...], written: Callable[[np.ndarray], None] | None = None
    ) -> None:
        self.ledger = ledger
        self.origins = origins
        self.written = written

    @staticmethod
    def join(tags: Iterable[Tag]) -> Tag | None:
        """One tag with the origins of all; None for none."""
        tags = list(tags)
        if len(tags) < 2:
            return tags[0] if tags else None
        return Tag(tags[0].ledger, tuple(dict.fromkeys(o for t in tags for o in t.origins)))


@dataclass
class Ledger:
    """All that crossed the boundary during one trace. `where` gives the user's line, `feeding` the parameters that
    a value is computed from; `cuts` maps the values that a `no_grad` block made constant to the line of that
    block."""

    where: Callable[[], Location | None] = lambda: None
    feeding: Callable[[Value], tuple[str, ...]] = lambda value: ()
    escapes: list[Escape] = field(default_factory=list)
    reentries: list[Reentry] = field(default_factory=list)
    leaves: list[Leaf] = field(default_factory=list)
    stores: list[Store] = field(default_factory=list)
    writes: list[Write] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    mismatches: list[Mismatch] = field(default_factory=list)
    stale: list[Stale] = field(default_factory=list)
    cuts: dict[str, Location | None] = field(default_factory=dict)
    ended: bool = False
    _memory: list[tuple[np.ndarray, Tag]] = field(default_factory=list, repr=False)
    _numbers: list[tuple[np.ndarray, Tag]] = field(default_factory=list, repr=False)
    _left: dict[str, dict[Position, list[Tag]]] = field(default_factory=dict, repr=False)
    _direct: set[tuple[str, Position]] = field(default_factory=set, repr=False)  # not inside of a function called there

    def spot(self) -> dict[str, Any]:
        """file, line, scope and column of the user's code that is running; an empty file where there is none."""
        return place_of(self.where())

    def record(self, kind: str, value: Value, detail: str = "", result: Any = None) -> Escape:
        escape = Escape(kind, value=value, detail=detail, result=result, **self.spot())
        self.escapes.append(escape)
        return escape

    def refuse(self, message: str) -> None:
        """Notes an error of the tracer. One that ends the trace is nobody's to read."""
        self.refusals.append(Refusal(message, **self.spot()))

    def mismatch(self, op: str, operand: int, backward: float, differences: float, defined: str) -> None:
        """Notes a derivative of the user's that is not that of its function."""
        here = self.where()
        file, line = (here.file, here.line) if here is not None else ("", 0)
        self.mismatches.append(Mismatch(op, operand, file, line, backward, differences, defined))

    def remember(self, thing: Any, tag: Tag) -> None:
        """Keeps memory and numbers of what left, to recognise it when it comes back without its tag."""
        if isinstance(thing, np.ndarray):
            self._memory.append((thing, tag))
        telling = telling_numbers(thing)[:REMEMBERED]
        if telling.size:
            self._numbers.append((np.unique(telling), tag))

    def left(self, tag: Tag) -> None:
        """Notes the user's expressions that are running: what they give may be plain, and come from `tag`."""
        for depth, (file, place) in enumerate(sites()):
            self._left.setdefault(file, {}).setdefault(place, []).append(tag)
            if depth == 0:
                self._direct.add((file, place))

    def filled(self, buffer: np.ndarray, tag: Tag) -> None:
        """Remembers a plain array that an escaped value is being written into."""
        self._memory.append((buffer, tag))

    def origin(self, thing: Any, index: int = 0) -> tuple[Tag, str] | None:
        """Where something that enters the program as a constant, as operand `index`, came from, if it had left it,
        and how that is known."""
        tag = getattr(thing, "_tag", None)
        if isinstance(tag, Tag):
            return tag, "tag"
        if isinstance(thing, np.ndarray):
            tag = Tag.join(t for array, t in self._memory if np.may_share_memory(array, thing))
            if tag is not None:
                return tag, "memory"
        numbers = telling_numbers(thing)[:MATCHED] if self._numbers else np.empty(0)
        hits = [(np.isin(numbers, known), t) for known, t in self._numbers] if numbers.size else []
        hits = [(h, t) for h, t in hits if h.any()]
        tag, matched = Tag.join(t for _, t in hits), 0
        if tag is not None:
            matched = int(np.logical_or.reduce([h for h, _ in hits]).sum())
        said = self._from_source(thing, index) if self._left else None
        if tag is not None and 2 * matched >= numbers.size:
            return (tag, "value") if said is None else (Tag.join([tag, said[0]]) or tag, said[1])
        return said

    def chosen(self) -> tuple[Tag, str] | None:
        """Where the index came from by which the user's expression picks something."""
        return self._joined(Origins(self._left).of_index(), last=True) if self._left else None

    def _from_source(self, thing: Any, index: int) -> tuple[Tag, str] | None:
        """What the source says. A number that comes back was made by the last turn of a loop, an array by all."""
        return self._joined(Origins(self._left).of(thing, index), last=not isinstance(thing, np.ndarray))

    def _joined(self, places: list[Site], last: bool) -> tuple[Tag, str] | None:
        """What left at these places: in the last turn of a loop, or in all."""
        found = [self._left[file][place] for file, place in places]
        tag = Tag.join(t for tags in found for t in (tags[-1:] if last else tags))
        direct = any((file, place) in self._direct for file, place in places)
        return None if tag is None else (tag, "source" if direct else "call")


def place_of(where: Location | Escape | None) -> dict[str, Any]:
    """file, line, scope and column, as the records of crossings have them."""
    where = where or Location("", 0)
    return {"file": where.file, "line": where.line, "scope": where.scope, "column": where.column}


def telling_numbers(thing: Any) -> np.ndarray:
    """The floats in `thing` that nobody writes by hand (more than four significant digits), as float64."""
    array = np.asarray(thing).view(np.ndarray)
    if array.dtype.kind != "f":
        return np.empty(0)
    flat = array.reshape(-1).astype(np.float64)
    with np.errstate(all="ignore"):
        scaled = flat * 10.0 ** (3 - np.floor(np.log10(np.abs(flat))))
        # a float32 next to a short decimal is off by up to 2**-24 of it, which must not count as digits
        return flat[np.isfinite(scaled) & (np.abs(scaled - np.rint(scaled)) > 1e-6 * np.abs(scaled))]
