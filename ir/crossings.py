"""What crossed the boundary between a traced program and Python: plain records, which the tracer's ledger keeps
(`tracer/ledger.py`) and the lint reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .graph import Operand, Value
from .location import Location


@dataclass(frozen=True)
class Escape:
    """A value that left the traced program.

    kind: bool float int index item data numpy asarray tolist format setitem out; `detail` names the function that
    asked for it, or the buffer that was written (`out[...] = `); `result` is the Python number that came out,
    where it is one (for `bool`: the branch that was taken).
    """

    kind: str
    file: str
    line: int
    scope: str
    value: Value
    detail: str = ""
    result: Any = None
    column: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Reentry:
    """A constant of the program that comes from values that had left it: the graph break is at this line.

    `operand` is the constant (a Value) or Literal; `user` the first node result computed from it, None where
    it is returned as it is. how: `tag` (carried along), `memory` (shares memory), `source` (the code says so),
    `call` (the code has it from a function in which something left), `value` (equal numbers). A `choice` is no
    constant, but an index that was a number: `operand` is what it has picked.
    """

    origins: tuple[Escape, ...]
    file: str
    line: int
    scope: str
    operand: Operand
    user: Value | None
    how: str
    column: int = field(default=0, compare=False)
    choice: bool = False


@dataclass(frozen=True)
class Leaf:
    """`gt.tensor(...)` inside a traced program: a constant; `requires_grad` on it is an error of the
    model."""

    file: str
    line: int
    scope: str
    operand: Operand
    requires_grad: bool
    column: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Stale:
    """A constant of the program that had left an *earlier* trace, at `left`, and was kept: a cache. `parameters`, by
    their names then, are those that it was computed from."""

    file: str
    line: int
    scope: str
    operand: Operand
    left: Escape
    parameters: tuple[str, ...]
    column: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Leak:
    """A traced value of an earlier trace that is used in a later one: `made` and `used` are its lines, `parameters`
    those that it was computed from."""

    made: Location | None
    used: Location | None
    parameters: tuple[str, ...]


@dataclass(frozen=True)
class Store:
    """`module.name = <traced value>`: the value is not there when the compiled program runs. `held_numbers`: the
    attribute held an array or a number before, so that this looks like an update of state."""

    module: str
    name: str
    file: str
    line: int
    scope: str
    held_numbers: bool = False
    column: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Mismatch:
    """A derivative given by the user that is not that of its function: what `backward` and what `differences` give
    along a random direction of operand `operand` (from 1) of the op that this line makes."""

    op: str
    operand: int
    file: str
    line: int
    backward: float
    differences: float
    defined: str


@dataclass(frozen=True)
class Write:
    """`parameter.data[...] = ` while tracing: it happens once, not in every step."""

    parameter: str
    file: str
    line: int
    scope: str
    column: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Refusal:
    """An error that the tracer raised for what the user's code asked; the trace went on, so somebody caught it."""

    message: str
    file: str
    line: int
    scope: str
    column: int = field(default=0, compare=False)
