"""The Tape: a program lowered to instructions over buffers, as plain data. Sizes may still be symbolic.

An instruction iterates over `axes`; each operand says where its element (i0, i1, ...) lies: offset + sum(i * stride) in
its buffer. That one form serves generated row programs and hand-written kernels, and it is all that `runtime/bind.py`
needs to split work over threads, to place barriers and to lay out the arena.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Union

import numpy as np

from .dims import DimLike, Guard, Shape, Symbol
from .display import Displayed
from .graph import Literal, Number
from .location import Location
from .types import TensorType

# where a buffer lives: the model's store (param, buffer, state), bound per call (input, scalar), part of the tape
# (const), the program's arena (arena; partial has one copy a thread), and the error word
SEGMENTS = ("param", "buffer", "state", "input", "scalar", "const", "arena", "partial", "error")

# the first parameter of an instruction that may set the error word: its number, which is known when the tape is bound
NUMBER = -1
ERROR_WORDS = 8  # i64: flag (0 fine, 1 index out of range, 2 not finite), instruction, position, value


@dataclass(frozen=True)
class Buffer:
    """`size` elements of `dtype` in a segment; `name` is the input, constant or value that it holds."""

    name: str
    segment: str
    dtype: str
    size: DimLike


@dataclass(frozen=True)
class View:
    """Elements of a buffer: offset and one stride per axis, in elements."""

    buffer: int
    offset: DimLike
    strides: tuple[DimLike, ...]


@dataclass(frozen=True)
class Operand:
    """A view over the instruction's axes; mode r, w, or rw (also: what is accumulated into)."""

    view: View
    mode: str


# row programs -------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Access:
    """How a row program reaches an operand: per axis stride "0" (broadcast), "1" (unit), on the last axis also a small
    number, or "s" (given at run time).

    A `virtual` access has no memory: its value is the sum of index * stride (iota, the element number of a draw). One
    whose elements lie between those of another (x[1::2] beside x[0::2]) is `shift` elements on from that `base`.
    """

    dtype: str
    strides: tuple[str, ...]
    mode: str
    virtual: bool = False
    base: int = -1
    shift: int = 0


@dataclass(frozen=True)
class Stmt:
    """`result = op(args)`; args are results (ints) or literals, `attrs` as in the graph, plus `access` of load, store.

    Besides scalar ops: load, store, index, dim, reduce_<kind> (in a loop; its result is valid after it), side (adds to
    an accumulator row), total (adds to one accumulator), clear and fold (set and combine an element of an array by the
    `kind` of a reduction).
    """

    result: int
    op: str
    args: tuple[Union[int, Literal], ...]
    dtype: str
    attrs: tuple[tuple[str, object], ...] = ()


@dataclass(frozen=True)
class Section:
    """Statements at one level: `once` (before the rows), `row` (per row) or `loop` (per element of the row; `part` says
    which: all of it, the `head` up to the diagonal, or the `tail` beyond). Of rows side by side, whose lanes are the
    last inner axis: `lane` (per lane) or `loop` (per element of all of them)."""

    level: str
    stmts: tuple[Stmt, ...]
    part: str = ""


@dataclass(frozen=True)
class RowProgram:
    """A loop nest over `outer` axes of rows and `inner` axes within a row; equal programs share one kernel.

    `diagonal` is the access whose index is the last position of a row's head, -1 where rows are not cut. `short`: rows
    are short, so that what is left of one after whole vectors matters.
    """

    outer: int
    inner: int
    accesses: tuple[Access, ...]
    sections: tuple[Section, ...]
    dims: int = 0  # how many dimensions are used as numbers
    diagonal: int = -1
    short: bool = False

    @property
    def name(self) -> str:
        return "row_" + hashlib.sha256(repr(self).encode()).hexdigest()[:12]

    def __str__(self) -> str:
        lines = [f"row program, {self.outer} outer and {self.inner} inner axes"]
        for i, a in enumerate(self.accesses):
            kind = "index" if a.virtual else a.mode
            lines.append(f"  p{i}: {a.dtype} {kind} strides [{', '.join(a.strides)}]")
        for section in self.sections:
            indent = {"once": 2, "row": 4, "lane": 4, "loop": 6}[section.level]
            lines.append(" " * indent + f"{section.level} {section.part}".rstrip())
            for s in section.stmts:
                args = ", ".join(f"v{a}" if isinstance(a, int) else repr(a.value) for a in s.args)
                attrs = " {" + ", ".join(f"{k}={v}" for k, v in s.attrs) + "}" if s.attrs else ""
                lines.append(" " * (indent + 2) + f"v{s.result}: {s.dtype} = {s.op}({args}){attrs}")
        return "\n".join(lines)


# instructions -------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Indexed:
    """What to say of an instruction that met an index out of range: the index array (`name` where it is an input of the
    program, else `origin`) with its shape, and what it indexes: `of` holds a {size}, which is `size`."""

    name: str
    origin: str
    shape: Shape
    of: str
    size: DimLike


@dataclass(frozen=True)
class Instr:
    """One kernel call. `splits` are the axes along which threads may share it, best first; `params` what else the
    kernel is told (sizes, numbers, dims). `location` is that of the last node it computes; `indexed` explains the error
    word of one that checks indices."""

    kernel: str
    axes: tuple[DimLike, ...]
    operands: tuple[Operand, ...]
    splits: tuple[int, ...] = ()
    params: tuple[Union[DimLike, float], ...] = ()
    location: Location | None = None
    label: str = ""
    indexed: Indexed | None = None


@dataclass(frozen=True)
class StopIf:
    """Ends the run where the error word is set: stands before the first update, so that nothing is lost."""


@dataclass(frozen=True)
class Callback:
    """A Python function called between two runs of the threads: it gets copies of `args` (views, or numbers of the
    program) and its results are written to `results`."""

    function: str
    args: tuple[Union[tuple[View, TensorType], Number], ...]
    results: tuple[tuple[View, TensorType], ...]
    location: Location | None = None

    def operands(self) -> list[Operand]:
        read = [Operand(a[0], "r") for a in self.args if isinstance(a, tuple)]
        return [*read, *(Operand(view, "w") for view, _ in self.results)]


@dataclass(frozen=True)
class Loop:
    """Runs `body` `count` times. Inside, `index` is a symbol for the number of the round: the offsets of views may
    depend on it, linearly, and that is how an operand moves on from round to round."""

    index: str
    count: DimLike
    body: tuple[Step, ...]


Step = Union[Instr, StopIf, Callback, Loop]


@dataclass(frozen=True)
class Tape(Displayed):
    """Everything that a run needs but addresses and machine code."""

    name: str
    buffers: tuple[Buffer, ...]
    steps: tuple[Step, ...]
    rows: Mapping[str, RowProgram]
    inputs: tuple[tuple[str, int, TensorType], ...]  # name, buffer, type: what a call brings
    outputs: tuple[tuple[str, View, TensorType], ...]
    symbols: Mapping[str, Symbol] = field(default_factory=dict)
    guards: tuple[Guard, ...] = ()
    constants: Mapping[str, np.ndarray] = field(default_factory=dict)

    def instructions(self) -> list[Instr]:
        """All of them in order, those of loops where the loop stands. What sets the error word gives the number of its
        instruction in this list."""
        return list(_instructions(self.steps))

    def __str__(self) -> str:
        lines = [f"tape {self.name}: {len(self.instructions())} instructions, {len(self.rows)} row programs"]
        for i, b in enumerate(self.buffers):
            lines.append(f"  b{i}: {b.dtype}[{b.size}] {b.segment} {b.name}")
        return "\n".join([*lines, *_lines(self.steps, "  ")])


def _instructions(steps: Sequence[Step]) -> Iterator[Instr]:
    for step in steps:
        if isinstance(step, Loop):
            yield from _instructions(step.body)
        elif isinstance(step, Instr):
            yield step


def _lines(steps: Sequence[Step], indent: str) -> Iterator[str]:
    for step in steps:
        if isinstance(step, Instr):
            axes = ", ".join(map(str, step.axes))
            where = f"  ; {step.location}" if step.location else ""
            operands = ", ".join(f"{o.mode}:b{o.view.buffer}" for o in step.operands)
            yield f"{indent}{step.kernel} [{axes}] ({operands}) {step.label}{where}"
        elif isinstance(step, Loop):
            yield f"{indent}loop {step.index} < {step.count}"
            yield from _lines(step.body, indent + "  ")
        elif isinstance(step, Callback):
            where = f"  ; {step.location}" if step.location else ""
            operands = ", ".join(f"{o.mode}:b{o.view.buffer}" for o in step.operands())
            yield f"{indent}callback {step.function} ({operands}){where}"
        else:
            yield f"{indent}{type(step).__name__.lower()}"


def contiguous(shape: Shape) -> tuple[DimLike, ...]:
    """Row-major strides."""
    strides: list[DimLike] = []
    step: DimLike = 1
    for dim in reversed(shape):
        strides.append(step)
        step = step * dim
    return tuple(reversed(strides))
