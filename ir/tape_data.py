"""The Tape as plain data and back: lists, dicts, strings and numbers, which JSON writes and reads.

Reading trusts nothing: whatever is not a tape raises Damaged, which says where. Dimensions are ints or text (`4*B*T`),
the arrays of constants travel apart, and the caller says what stands for a location: in a program that was traced again
the same nodes may stand at other lines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import cache, lru_cache
from typing import Any

import numpy as np

from .dims import Dim, DimLike, Guard, Symbol, parse_dim
from .graph import Literal
from .location import Location
from .tape import (
    SEGMENTS,
    Access,
    Buffer,
    Callback,
    Indexed,
    Instr,
    Loop,
    Operand,
    RowProgram,
    Section,
    Step,
    Stmt,
    StopIf,
    Tape,
    View,
)  # fmt: skip
from .types import DTYPES, TensorType

Place = Callable[[Location], Any]  # what stands for a location
Find = Callable[[Any], "Location | None"]  # and what it stands for
DEEPEST = 16  # loops within loops


class Damaged(ValueError):
    """Data that are not what they claim to be; says what is wrong."""


# what there is to write ---------------------------------------------------------------------------------------------
PLAIN = {"str": (str,), "int": (int,), "bool": (bool,), "float": (float,), "int | None": (int, type(None))}


@cache
def plain_fields(kind: type) -> tuple[tuple[str, tuple[type, ...]], ...]:
    """The fields of a dataclass that are numbers, names and truth values, with their types: these are written as they
    are, so that one that is added needs nothing here. A test holds the others against what this file writes."""
    return tuple((f.name, PLAIN[str(f.type)]) for f in fields(kind) if str(f.type) in PLAIN)


def _plain(thing: Any) -> list[Any]:
    return [getattr(thing, name) for name, _ in plain_fields(type(thing))]


def _given(kind: type, data: Any) -> dict[str, Any]:
    """The plain fields of a dataclass, by name."""
    expected = plain_fields(kind)
    values = items(data, len(expected))
    for value, (name, types) in zip(values, expected, strict=True):
        if type(value) not in types:
            raise Damaged(f"{kind.__name__}.{name} is {str(value)[:60]}")
    return {name: value for value, (name, _) in zip(values, expected, strict=True)}


# writing ------------------------------------------------------------------------------------------------------------
def tape_data(tape: Tape, place: Place) -> dict[str, Any]:
    """The tape without the arrays of its constants. Raises TypeError for what has no place in data."""
    return {
        "tape": _plain(tape),
        "buffers": [[_plain(b), _dim(b.size)] for b in tape.buffers],
        "steps": [_step(s, place) for s in tape.steps],
        "rows": {name: _row(row) for name, row in tape.rows.items()},
        "inputs": [[name, index, type_data(t)] for name, index, t in tape.inputs],
        "outputs": [[name, _view(view), type_data(t)] for name, view, t in tape.outputs],
        "symbols": [_plain(s) for s in tape.symbols.values()],
        "guards": [[_plain(g), _dim(g.left), _dim(g.right)] for g in tape.guards],
        "constants": [[name, a.dtype.str, list(a.shape)] for name, a in tape.constants.items()],
    }


def type_data(value_type: TensorType) -> list[Any]:
    return [value_type.dtype, [_dim(d) for d in value_type.shape]]


def _dim(dim: DimLike) -> int | str:
    return str(dim) if isinstance(dim, Dim) else int(dim)


def _view(view: View) -> list[Any]:
    return [view.buffer, _dim(view.offset), [_dim(s) for s in view.strides]]


def _at(location: Location | None, place: Place) -> Any:
    return None if location is None else place(location)


def _step(step: Step, place: Place) -> list[Any]:
    if isinstance(step, StopIf):
        return ["stop"]
    if isinstance(step, Loop):
        return ["loop", _plain(step), _dim(step.count), [_step(s, place) for s in step.body]]
    if isinstance(step, Callback):
        args = [["view", _view(a[0]), type_data(a[1])] if isinstance(a, tuple) else ["number", a] for a in step.args]
        results = [[_view(view), type_data(t)] for view, t in step.results]
        return ["callback", [str(value) for value in _plain(step)], args, results, _at(step.location, place)]
    indexed = step.indexed
    said = None if indexed is None else [_plain(indexed), [_dim(d) for d in indexed.shape], _dim(indexed.size)]
    operands = [[*_view(o.view), o.mode] for o in step.operands]
    params = [p if isinstance(p, float) else _dim(p) for p in step.params]
    axes = [_dim(a) for a in step.axes]
    return ["call", _plain(step), axes, operands, list(step.splits), params, _at(step.location, place), said]


def _row(row: RowProgram) -> list[Any]:
    accesses = [[_plain(a), list(a.strides)] for a in row.accesses]
    return [_plain(row), accesses, [[_plain(s), [_stmt(x) for x in s.stmts]] for s in row.sections]]


def _stmt(stmt: Stmt) -> list[Any]:
    args = [a if isinstance(a, int) else [a.value] for a in stmt.args]
    return [_plain(stmt), args, [[name, _attr(value)] for name, value in stmt.attrs]]


def _attr(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_attr(v) for v in value]
    if isinstance(value, Dim):
        return {"dim": str(value)}
    if value is None or type(value) in (bool, int, float) or isinstance(value, str):
        return value
    raise TypeError(f"an attribute of type {type(value).__name__} has no place in a file")


# reading ------------------------------------------------------------------------------------------------------------
def tape_from(data: Any, constants: Mapping[str, np.ndarray], find: Find) -> Tape:
    """The tape that `tape_data` gave. Raises Damaged."""
    parts = record(data, "tape buffers steps rows inputs outputs symbols guards constants")
    buffers = tuple(_buffer(b) for b in items(parts["buffers"]))
    symbols = [Symbol(**_given(Symbol, s)) for s in items(parts["symbols"])]
    rows = {text(name): _row_from(row) for name, row in entries(parts["rows"])}
    for name, row in rows.items():
        if row.name != name:
            raise Damaged(f"the row program {name} is another one: {row.name}")
    read = _Steps(buffers, rows, find)
    tape = Tape(
        **_given(Tape, parts["tape"]),
        buffers=buffers,
        steps=tuple(read.step(s, DEEPEST) for s in items(parts["steps"])),
        rows=rows,
        inputs=tuple(
            (text(n), read.index(i), type_from(t)) for n, i, t in (items(x, 3) for x in items(parts["inputs"]))
        ),
        outputs=tuple(
            (text(n), read.view(v), type_from(t)) for n, v, t in (items(x, 3) for x in items(parts["outputs"]))
        ),
        symbols={s.name: s for s in symbols},
        guards=tuple(_guard(g) for g in items(parts["guards"])),
        constants=dict(constants),
    )
    held = {b.name for b in buffers if b.segment == "const"}
    if not held <= constants.keys():
        raise Damaged(f"the constants {sorted(held - constants.keys())} are missing")
    return tape


def constants_from(listed: Any, blob: bytes) -> dict[str, np.ndarray]:
    """The arrays of `listed` ([name, dtype, shape] each), which lie one behind another in `blob`."""
    out: dict[str, np.ndarray] = {}
    at = 0
    for entry in items(listed):
        name, dtype, shape = items(entry, 3)
        if text(dtype) not in _DTYPES:
            raise Damaged(f"constant {name!r}: {dtype!r} is no dtype of a program")
        sizes = tuple(number(n, 0) for n in items(shape))
        count = 1
        for size in sizes:
            count *= size
        end = at + count * _DTYPES[dtype].itemsize
        if end > len(blob):
            raise Damaged(f"the data of the constant {name!r} end too early")
        out[text(name)] = np.frombuffer(blob, _DTYPES[dtype], count, at).reshape(sizes)
        at = end
    if at != len(blob):
        raise Damaged("there are more data than constants")
    return out


_DTYPES = {dtype.str: dtype for dtype in DTYPES.values()}


class _Steps:
    """Reads steps, whose operands lie in `buffers` and whose kernels may be `rows`."""

    def __init__(self, buffers: Sequence[Buffer], rows: Mapping[str, RowProgram], find: Find) -> None:
        self.buffers, self.rows, self.find = buffers, rows, find

    def index(self, data: Any) -> int:
        return number(data, 0, len(self.buffers) - 1)

    def view(self, data: Any) -> View:
        buffer, offset, strides = items(data, 3)
        return View(number(buffer, -1, len(self.buffers) - 1), dim(offset), tuple(dim(s) for s in items(strides)))

    def real_view(self, data: Any) -> View:
        view = self.view(data)
        if view.buffer < 0:
            raise Damaged("a view of no buffer")
        return view

    def step(self, data: Any, depth: int) -> Step:
        kind, *rest = items(data) or [None]
        if kind == "stop" and not rest:
            return StopIf()
        if kind == "loop" and depth:
            given, count, body = items(rest, 3)
            steps = tuple(self.step(s, depth - 1) for s in items(body))
            return Loop(**_given(Loop, given), count=dim(count), body=steps)
        if kind == "callback":
            given, args, results, where = items(rest, 4)
            pairs = (items(r, 2) for r in items(results))
            outs = tuple((self.real_view(v), type_from(t)) for v, t in pairs)
            read = tuple(self._argument(a) for a in items(args))
            return Callback(**_given(Callback, given), args=read, results=outs, location=self.location(where))
        if kind == "call":
            return self._call(rest)
        raise Damaged(f"a step of the kind {kind!r}")

    def _argument(self, data: Any) -> Any:
        kind, *rest = items(data) or [None]
        if kind == "view":
            view, value_type = items(rest, 2)
            return self.real_view(view), type_from(value_type)
        if kind == "number" and len(rest) == 1 and type(rest[0]) in (bool, int, float):
            return rest[0]
        raise Damaged("an argument of a callback is a view or a number")

    def _call(self, data: Any) -> Instr:
        given, axes, operands, splits, params, where, indexed = items(data, 7)
        plain = _given(Instr, given)
        sizes = tuple(dim(a) for a in items(axes))
        read = tuple(self._operand(o, len(sizes)) for o in items(operands))
        row = self.rows.get(plain["kernel"])
        if row is not None and (len(row.accesses) != len(read) or row.outer + row.inner != len(sizes)):
            raise Damaged(f"an instruction does not fit its row program {row.name}")
        return Instr(
            **plain,
            axes=sizes,
            operands=read,
            splits=tuple(number(a, 0, len(sizes) - 1) for a in items(splits)),
            params=tuple(p if type(p) is float else dim(p) for p in items(params)),
            location=self.location(where),
            indexed=None if indexed is None else _indexed(indexed),
        )

    def _operand(self, data: Any, axes: int) -> Operand:
        *view, mode = items(data, 4)
        found = self.view(view)
        if len(found.strides) != axes or mode not in ("r", "w", "rw"):
            raise Damaged(f"an operand of {len(found.strides)} strides and mode {mode!r}, over {axes} axes")
        return Operand(found, mode)

    def location(self, data: Any) -> Location | None:
        return None if data is None else self.find(data)


def _indexed(data: Any) -> Indexed:
    given, shape, size = items(data, 3)
    return Indexed(**_given(Indexed, given), shape=tuple(dim(d) for d in items(shape)), size=dim(size))


def _buffer(data: Any) -> Buffer:
    given, size = items(data, 2)
    buffer = Buffer(**_given(Buffer, given), size=dim(size))
    if buffer.segment not in SEGMENTS or buffer.dtype not in DTYPES:
        raise Damaged(f"a buffer of dtype {buffer.dtype!r} in segment {buffer.segment!r}")
    return buffer


def _guard(data: Any) -> Guard:
    given, left, right = items(data, 3)
    guard = Guard(**_given(Guard, given), left=dim(left), right=dim(right))
    if guard.op not in ("==", "!=", "<=", "<"):
        raise Damaged(f"a guard by {guard.op!r}")
    return guard


def _row_from(data: Any) -> RowProgram:
    given, accesses, sections = items(data, 3)
    row = RowProgram(
        **_given(RowProgram, given),
        accesses=tuple(_access(a) for a in items(accesses)),
        sections=tuple(_section(s) for s in items(sections)),
    )
    if row.outer < 0 or row.inner < 0:
        raise Damaged("a row program of fewer than no axes")
    return row


def _access(data: Any) -> Access:
    given, strides = items(data, 2)
    return Access(**_given(Access, given), strides=tuple(text(s) for s in items(strides)))


def _section(data: Any) -> Section:
    given, stmts = items(data, 2)
    return Section(**_given(Section, given), stmts=tuple(_stmt_from(s) for s in items(stmts)))


def _stmt_from(data: Any) -> Stmt:
    given, args, attrs = items(data, 3)
    read = tuple(Literal(_number(a)) if isinstance(a, list) else number(a) for a in items(args))
    named = tuple((text(name), _attr_from(value)) for name, value in (items(a, 2) for a in items(attrs)))
    return Stmt(**_given(Stmt, given), args=read, attrs=named)


def _number(data: Any) -> Any:
    (value,) = items(data, 1)
    if type(value) not in (bool, int, float):
        raise Damaged(f"{value!r} is no number")
    return value


def _attr_from(data: Any) -> Any:
    if isinstance(data, list):
        return tuple(_attr_from(v) for v in data)
    if isinstance(data, dict):
        return dim(record(data, "dim")["dim"])
    return data


def type_from(data: Any) -> TensorType:
    dtype, shape = items(data, 2)
    if text(dtype) not in DTYPES:
        raise Damaged(f"{dtype!r} is no dtype of a program")
    return TensorType(dtype, tuple(dim(d) for d in items(shape)))


# what is expected ---------------------------------------------------------------------------------------------------
def items(data: Any, count: int | None = None) -> list[Any]:
    """A list, of `count` items."""
    if not isinstance(data, list) or (count is not None and len(data) != count):
        raise Damaged(f"expected a list{'' if count is None else f' of {count}'}, found {str(data)[:60]}")
    return data


def entries(data: Any) -> list[tuple[str, Any]]:
    """The items of a dict."""
    if not isinstance(data, dict):
        raise Damaged(f"expected named items, found {str(data)[:60]}")
    return list(data.items())


def record(data: Any, names: str) -> dict[str, Any]:
    """A dict with exactly these keys."""
    if not isinstance(data, dict) or set(data) != set(names.split()):
        raise Damaged(f"expected the fields {names}, found {str(data)[:60]}")
    return data


def text(data: Any) -> str:
    if not isinstance(data, str):
        raise Damaged(f"expected text, found {str(data)[:60]}")
    return data


def number(data: Any, low: int | None = None, high: int | None = None) -> int:
    """An integer within bounds."""
    if type(data) is not int or (low is not None and data < low) or (high is not None and data > high):
        raise Damaged(f"expected a number from {low} to {high}, found {str(data)[:60]}")
    return data


def dim(data: Any) -> DimLike:
    if type(data) is int:
        return data
    if not isinstance(data, str) or len(data) > 1000:
        raise Damaged(f"expected a dimension, found {str(data)[:60]}")
    try:
        return _parsed_dim(data)
    except ValueError as error:
        raise Damaged(str(error)) from None


@lru_cache(maxsize=4096)
def _parsed_dim(data: str) -> DimLike:
    return parse_dim(data)
