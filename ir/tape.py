"""The Tape: a program lowered to instructions over buffers, as plain data. Sizes may still be symbolic.

An instruction iterates over `axes`; each operand says where its element (i0, i1, ...) lies: offset + sum(i * stride) in
its buffer. That one form serves generated row programs and hand-written kernels, and it is all that `runtime/bind.py`
needs to split work over threads, to place barriers and to lay out the arena.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Union

import numpy as np

from .dims import DimLike, Guard, Shape, Symbol
from .graph import Literal
from .location import Location
from .types import TensorType

# where a buffer lives: the model's store (param, buffer, state), bound per call (input, scalar), part of the tape
# (const), the program's arena (arena; partial has one copy a thread), and the error word
SEGMENTS = ("param", "buffer", "state", "input", "scalar", "const", "arena", "partial", "error")

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
    an accumulator row), total (adds to one accumulator).
    """

    result: int
    op: str
    args: tuple[Union[int, Literal], ...]
    dtype: str
    attrs: tuple[tuple[str, object], ...] = ()


@dataclass(frozen=True)
class Section:
    """Statements at one level: `once` (before the rows), `row` (per row) or `loop` (per element of the row; `part` says
    which: all of it, the `head` up to the diagonal, or the `tail` beyond)."""

    level: str
    stmts: tuple[Stmt, ...]
    part: str = ""


@dataclass(frozen=True)
class RowProgram:
    """A loop nest over `outer` axes of rows and `inner` axes within a row; equal programs share one kernel.

    `diagonal` is the access whose index is the last position of a row's head, -1 where rows are not cut.
    """

    outer: int
    inner: int
    accesses: tuple[Access, ...]
    sections: tuple[Section, ...]
    dims: int = 0  # how many dimensions are used as numbers
    diagonal: int = -1

    @property
    def name(self) -> str:
        return "row_" + hashlib.sha256(repr(self).encode()).hexdigest()[:12]

    def __str__(self) -> str:
        lines = [f"row program, {self.outer} outer and {self.inner} inner axes"]
        for i, a in enumerate(self.accesses):
            kind = "index" if a.virtual else a.mode
            lines.append(f"  p{i}: {a.dtype} {kind} strides [{', '.join(a.strides)}]")
        for section in self.sections:
            indent = {"once": 2, "row": 4, "loop": 6}[section.level]
            lines.append(" " * indent + f"{section.level} {section.part}".rstrip())
            for s in section.stmts:
                args = ", ".join(f"v{a}" if isinstance(a, int) else repr(a.value) for a in s.args)
                attrs = " {" + ", ".join(f"{k}={v}" for k, v in s.attrs) + "}" if s.attrs else ""
                lines.append(" " * (indent + 2) + f"v{s.result}: {s.dtype} = {s.op}({args}){attrs}")
        return "\n".join(lines)


# instructions -------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Instr:
    """One kernel call. `splits` are the axes along which threads may share it, best first; `params` what else the
    kernel is told (sizes, numbers, dims). `location` is that of the last node it computes."""

    kernel: str
    axes: tuple[DimLike, ...]
    operands: tuple[Operand, ...]
    splits: tuple[int, ...] = ()
    params: tuple[Union[DimLike, float], ...] = ()
    location: Location | None = None
    label: str = ""


@dataclass(frozen=True)
class StopIf:
    """Ends the run where the error word is set: stands before the first update, so that nothing is lost."""


@dataclass(frozen=True)
class Loop:
    """Repeats `body` `count` times; after every round each (buffer, elements) of `advance` moves on."""

    count: DimLike
    body: tuple[Step, ...]
    advance: tuple[tuple[int, DimLike], ...] = ()


Step = Union[Instr, StopIf, Loop]


@dataclass(frozen=True)
class Tape:
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
        return [s for s in self.steps if isinstance(s, Instr)]

    def __str__(self) -> str:
        lines = [f"tape {self.name}: {len(self.instructions())} instructions, {len(self.rows)} row programs"]
        for i, b in enumerate(self.buffers):
            lines.append(f"  b{i}: {b.dtype}[{b.size}] {b.segment} {b.name}")
        for step in self.steps:
            if isinstance(step, Instr):
                axes = ", ".join(map(str, step.axes))
                where = f"  ; {step.location}" if step.location else ""
                operands = ", ".join(f"{o.mode}:b{o.view.buffer}" for o in step.operands)
                lines.append(f"  {step.kernel} [{axes}] ({operands}) {step.label}{where}")
            else:
                lines.append(f"  {type(step).__name__.lower()}")
        return "\n".join(lines)


def contiguous(shape: Shape) -> tuple[DimLike, ...]:
    """Row-major strides."""
    strides: list[DimLike] = []
    step: DimLike = 1
    for dim in reversed(shape):
        strides.append(step)
        step = step * dim
    return tuple(reversed(strides))
