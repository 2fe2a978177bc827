"""The boundary with Python. Every value that leaves a traced program is an `Escape`; where what left, or
something computed from it, comes back as a constant, the program is cut: that is a `Reentry`, and it knows
both lines.

What leaves carries a `Tag` (`tracer/escaped.py`) that NumPy calls and arithmetic hand on. A tag is lost where
Python insists on plain objects (`float(x)`, `np.array([...])`, `buffer[i] = x`); then the memory and the
values of what comes back are compared with what left. `how` says which of the three it was.
"""

from __future__ import annotations

import ast
import dis
import linecache
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import numpy as np

from ..ir.crossings import Escape, Leaf, Reentry, Refusal, Store, Write
from ..ir.graph import Value
from ..ir.location import Location, is_user_file

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
    """All that crossed the boundary during one trace. `where` gives the user's line; `cuts` maps the values
    that a `no_grad` block made constant to the line of that block."""

    where: Callable[[], Location | None] = lambda: None
    escapes: list[Escape] = field(default_factory=list)
    reentries: list[Reentry] = field(default_factory=list)
    leaves: list[Leaf] = field(default_factory=list)
    stores: list[Store] = field(default_factory=list)
    writes: list[Write] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    cuts: dict[str, Location | None] = field(default_factory=dict)
    _memory: list[tuple[np.ndarray, Tag]] = field(default_factory=list, repr=False)
    _numbers: list[tuple[np.ndarray, Tag]] = field(default_factory=list, repr=False)

    def spot(self) -> dict[str, Any]:
        """file, line, scope and column of the user's code that is running; an empty file where there is none."""
        where = self.where() or Location("", 0)
        return {"file": where.file, "line": where.line, "scope": where.scope, "column": where.column}

    def record(self, kind: str, value: Value, detail: str = "", result: Any = None) -> Escape:
        escape = Escape(kind, value=value, detail=detail, result=result, **self.spot())
        self.escapes.append(escape)
        return escape

    def refuse(self, message: str) -> None:
        """Notes an error of the tracer. One that ends the trace is nobody's to read."""
        self.refusals.append(Refusal(message, **self.spot()))

    def remember(self, thing: Any, tag: Tag) -> None:
        """Keeps memory and numbers of what left, to recognise it when it comes back without its tag."""
        if isinstance(thing, np.ndarray):
            self._memory.append((thing, tag))
        telling = telling_numbers(thing)[:REMEMBERED]
        if telling.size:
            self._numbers.append((np.unique(telling), tag))

    def filled(self, buffer: np.ndarray, tag: Tag) -> None:
        """Remembers a plain array that an escaped value is being written into."""
        self._memory.append((buffer, tag))

    def origin(self, thing: Any) -> tuple[Tag, str] | None:
        """Where something that enters the program as a constant came from, if it had left it, and how that is
        known."""
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
        tag = Tag.join(t for _, t in hits)
        if tag is not None and 2 * np.logical_or.reduce([h for h, _ in hits]).sum() >= numbers.size:
            return tag, "value"
        return None


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


def written_buffer() -> tuple[np.ndarray, str] | None:
    """The array that the user's line is assigning an element of (`out[i, j] = x`), and its name in the
    source.

    NumPy asks a traced value for its number during such an assignment without saying where it goes; the
    interrupted instruction of the calling frame does say it.
    """
    frame = _user_frame()
    if frame is None:
        return None
    code = frame.f_code
    if code.co_code[frame.f_lasti] != dis.opmap["STORE_SUBSCR"]:
        return None
    line, end_line, column, end_column = list(code.co_positions())[frame.f_lasti // 2]
    if line is None or line != end_line or column is None:
        return None
    source = linecache.getline(code.co_filename, line).encode()[column:end_column].decode()
    try:
        target = ast.parse(source.strip(), mode="eval").body
    except SyntaxError:
        return None
    while isinstance(target, ast.Subscript):
        target = target.value
    name = ast.unparse(target)
    found = _look_up(target, frame)
    return (found, name) if isinstance(found, np.ndarray) else None


def _user_frame() -> FrameType | None:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and not is_user_file(frame.f_code.co_filename):
        frame = frame.f_back
    return frame


def _look_up(node: ast.expr, frame: FrameType) -> Any:
    """The object that a name or a chain of attributes stands for in `frame`; None for anything else."""
    if isinstance(node, ast.Name):
        return frame.f_locals.get(node.id, frame.f_globals.get(node.id))
    if isinstance(node, ast.Attribute):
        owner = _look_up(node.value, frame)
        return None if owner is None else getattr(owner, node.attr, None)
    return None
