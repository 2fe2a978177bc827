"""A Tape made runnable: compiled kernels, memory, and one set of instruction tables per combination of sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..ir.dims import bind_shape, evaluate
from ..ir.host import call_host
from ..ir.tape import ERROR_WORDS, Callback, Indexed, Tape, View
from ..ir.types import DTYPES, TensorType
from . import blas, driver
from .bind import ALIGN, Addresses, Plan, Tables, build_tables, plan
from .cache import Cache
from .codegen import row_kernel
from .kernel import Kernel
from .kernels import kernel_named
from .loader import Loaded, has_wide_vectors, load
from .objects import objects_of
from .threads import ThreadTeam

MAX_BOUND = 64  # combinations of sizes whose tables are kept; the oldest goes first


class IndexOutOfRange(IndexError):
    """An index outside of a table, met while a tape ran; nothing was updated."""


class NotFinite(FloatingPointError):
    """The loss or the gradient norm is NaN or infinite; nothing was updated."""


class GuardViolation(ValueError):
    """The sizes of a call are outside of what the program was traced for."""


def aligned_empty(size: int) -> np.ndarray:
    """`size` bytes of uninitialised memory that start at a cache line."""
    raw = np.empty(size + ALIGN, np.uint8)
    start = -raw.ctypes.data % ALIGN
    return raw[start : start + size]


def aligned_array(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    count = int(np.prod(shape, dtype=np.int64))
    return aligned_empty(max(count, 1) * dtype.itemsize)[: count * dtype.itemsize].view(dtype).reshape(shape)


class Arena:
    """Memory for activations and temporaries, shared by the programs of one model: only one runs at a time."""

    def __init__(self) -> None:
        self.memory = aligned_empty(0)
        self.address = self.memory.ctypes.data
        self.busy = ""  # the callback that holds up the program which runs

    def reserve(self, size: int) -> int:
        """The address of at least `size` bytes; growing moves the arena."""
        if size > self.memory.size:
            self.memory = aligned_empty(size)
            self.address = self.memory.ctypes.data
        return self.address


def kernels_of(tape: Tape) -> list[Kernel]:
    """Every kernel that a tape calls, in a fixed order."""
    names = sorted({i.kernel for i in tape.instructions()})
    return [row_kernel(tape.rows[n]) if n in tape.rows else kernel_named(n) for n in names]


def compile_tape(tape: Tape, cache: Cache | None = None) -> tuple[bytes, ...]:
    """The object code of a tape: an object for each kernel, taken from the cache where it has one."""
    return objects_of(kernels_of(tape), cache)


class _Bound:
    """A program at one combination of sizes."""

    def __init__(self, program: Program, dims: Mapping[str, int]) -> None:
        self.plan: Plan = plan(program.tape, dims, program.threads)
        self.inputs: dict[int, np.ndarray] = {}
        for _, index, value_type in program.tape.inputs:
            if program.tape.buffers[index].segment in ("input", "scalar"):
                shape = tuple(evaluate(d, dims) for d in value_type.shape)
                self.inputs[index] = aligned_array(shape, DTYPES[value_type.dtype])
        called = [(name, index) for name, index, _ in program.tape.inputs if index in self.inputs]
        self.filled = [(name, self.inputs[index]) for name, index in called]
        self.outputs: list[tuple[str, np.ndarray]] = []  # what a run leaves, in place
        self.base = -1
        self.tables: Tables | None = None

    def ready(self, program: Program) -> Tables:
        base = program.arena.reserve(self.plan.arena_bytes)
        if self.tables is None or base != self.base:
            self.base = base
            self.tables = build_tables(program.tape, self.plan, program.addresses(self), program.error.ctypes.data)
            self.outputs = [(name, program.window(self, view, t)) for name, view, t in program.tape.outputs]
        return self.tables


class Program:
    """Runs one tape. `store` maps the names of params, buffers and states to arrays, which updates write in place."""

    def __init__(
        self,
        tape: Tape,
        code: Sequence[bytes],
        store: Mapping[str, np.ndarray],
        threads: int = 1,
        arena: Arena | None = None,
    ) -> None:
        self.tape = tape
        self.store = store
        self.threads = threads
        self.arena = arena or Arena()
        names = {i.kernel for i in tape.instructions()}  # which are those of the symbols
        self.loaded: Loaded = load(code, [*names, *driver.SYMBOLS])
        self.team = ThreadTeam(threads, self.loaded)
        self.error = np.zeros(ERROR_WORDS, np.int64)
        self.constants = {
            i: np.ascontiguousarray(tape.constants[b.name]) for i, b in enumerate(tape.buffers) if b.segment == "const"
        }
        self._bound: dict[tuple[tuple[str, int], ...], _Bound] = {}
        self._by_shapes: dict[tuple[tuple[int, ...], ...], _Bound] = {}
        self._called = [name for name, i, _ in tape.inputs if tape.buffers[i].segment in ("input", "scalar")]
        self._blas = {r: blas.address(r) for r in ("sgemm", "dgemm")}

    def addresses(self, bound: _Bound) -> Addresses:
        buffers = self.tape.buffers

        def address(index: int, thread: int) -> int:
            buffer = buffers[index]
            if buffer.segment in ("input", "scalar"):
                return bound.inputs[index].ctypes.data
            if buffer.segment in ("param", "buffer", "state"):
                return self.store[buffer.name].ctypes.data
            if buffer.segment == "const":
                return self.constants[index].ctypes.data
            if buffer.segment == "error":
                return self.error.ctypes.data
            start = bound.base + bound.plan.offsets[index]
            if buffer.segment == "partial":
                start += thread * bound.plan.sizes[index] * DTYPES[buffer.dtype].itemsize
            return start

        return Addresses(address, self.loaded.address, self._blas, has_wide_vectors())

    def bind(self, inputs: Mapping[str, Any]) -> _Bound:
        """The program at the sizes of `inputs`; raises GuardViolation where it is not valid for them."""
        shapes = tuple(np.shape(inputs[name]) for name in self._called)
        if shapes in self._by_shapes:
            return self._by_shapes[shapes]
        dims: dict[str, int] = {}
        called = [(n, t) for n, i, t in self.tape.inputs if self.tape.buffers[i].segment in ("input", "scalar")]
        for name, value_type in (*called, *called):  # twice: a size such as 2*T may come before T
            misfit = bind_shape(value_type.shape, np.shape(inputs[name]), dims)
            if misfit:
                raise GuardViolation(f"{name}: {value_type} does not fit shape {np.shape(inputs[name])}: {misfit}")
        key = tuple(sorted(dims.items()))
        if key not in self._bound:
            self.check_guards(dims)
            if len(self._bound) >= MAX_BOUND:
                del self._bound[next(iter(self._bound))]
                self._by_shapes.clear()
            self._bound[key] = _Bound(self, dims)
        self._by_shapes[shapes] = self._bound[key]
        return self._bound[key]

    def check_guards(self, dims: Mapping[str, int]) -> None:
        for symbol in self.tape.symbols.values():
            size = dims.get(symbol.name)
            if size is not None and (size < symbol.min or (symbol.max is not None and size > symbol.max)):
                where = next((g.where for g in self.tape.guards if str(g.left) == symbol.name and g.where), "")
                limit = f"{symbol.min} <= {symbol.name}" + (f" <= {symbol.max}" if symbol.max is not None else "")
                raise GuardViolation(
                    f"{symbol.name} = {size}, but the program needs {limit}" + (f" ({where})" if where else "")
                )
        for guard in self.tape.guards:
            if not guard.holds(dims):
                raise GuardViolation(
                    f"the program was traced for {guard}" + (f" ({guard.where})" if guard.where else "")
                )

    def run(self, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """One run: outputs by name, as new arrays. Updates are written to the store.

        Raises IndexOutOfRange or NotFinite, or what a callback raises; the store is then as before.
        """
        bound = self.bind(inputs)
        if self.arena.busy:
            raise RuntimeError(f"the callback {self.arena.busy} calls the compiled model that is waiting for it")
        for name, array in bound.filled:
            np.copyto(array, inputs[name], casting="same_kind")
        tables = bound.ready(self)
        self.error.fill(0)
        self.team.run(tables.entries)
        for pause, entries in tables.rest:
            if self.error[0]:
                break
            self.call_back(bound, pause.step)
            self.team.run(entries)
        if self.error[0]:
            self.fail(bound)
        return {name: array.copy() for name, array in bound.outputs}

    def call_back(self, bound: _Bound, step: Callback) -> None:
        """Calls a Python function between two runs of the threads. Its exceptions say from which line it was called."""
        args = [self.window(bound, *a) if isinstance(a, tuple) else a for a in step.args]
        dims = bound.plan.dims
        types = [TensorType(t.dtype, tuple(evaluate(d, dims) for d in t.shape)) for _, t in step.results]
        self.arena.busy = step.function
        try:
            results = call_host(step.function, args, types)
        except Exception as error:
            if step.location is not None:
                error.add_note(f"in the callback {step.function} at {step.location.file}:{step.location.line}")
            raise
        finally:
            self.arena.busy = ""
        for (view, value_type), result in zip(step.results, results, strict=True):
            self.window(bound, view, value_type)[...] = result

    def fail(self, bound: _Bound) -> None:
        """Raises what the error word says."""
        flag, step, position, value = (int(w) for w in self.error[:4])
        instr = self.tape.instructions()[step]
        where = (
            f"\n  at    {instr.location.file}:{instr.location.line} {instr.location.scope}".rstrip()
            if instr.location
            else ""
        )
        if flag == 2:
            raise NotFinite(f"{instr.label.removeprefix('finite ')} is not finite")
        assert instr.indexed is not None  # kernels that check indices say of what
        raise IndexOutOfRange(self.index_error(instr.indexed, position, value, bound.plan.dims) + where)

    def index_error(self, indexed: Indexed, position: int, value: int, dims: Mapping[str, int]) -> str:
        """`ids[1, 3] = 11 is out of range for tok.weight with 11 rows`."""
        shape = tuple(evaluate(d, dims) for d in indexed.shape)
        place = ", ".join(str(int(i)) for i in np.unravel_index(position, shape))
        what = f"{indexed.name}[{place}]" if place else indexed.name
        if not indexed.name:
            what = f"element [{place}] of {indexed.origin}" if place else indexed.origin
        return f"{what} = {value} is out of range for {indexed.of.format(size=evaluate(indexed.size, dims))}"

    def latest_plan(self) -> Plan | None:
        """What binding decided for the sizes of the latest call with new ones; None before the first call."""
        return next(reversed(self._bound.values())).plan if self._bound else None

    def largest_buffers(self, count: int = 10) -> list[tuple[str, int]]:
        """(name, bytes) of the largest buffers in the arena, at the sizes of the latest binding."""
        bound = self.latest_plan()
        if bound is None:
            return []
        sizes = bound.sizes
        found = [
            (b.name, sizes[i] * DTYPES[b.dtype].itemsize)
            for i, b in enumerate(self.tape.buffers)
            if b.segment in ("arena", "partial")
        ]
        return sorted(found, key=lambda item: (-item[1], item[0]))[:count]

    def window(self, bound: _Bound, view: View, value_type: TensorType) -> np.ndarray:
        """The elements of a view, in place."""
        buffer = self.tape.buffers[view.buffer]
        dtype = DTYPES[buffer.dtype]
        shape = tuple(evaluate(d, bound.plan.dims) for d in value_type.shape)
        strides = tuple(evaluate(s, bound.plan.dims) * dtype.itemsize for s in view.strides)
        offset = evaluate(view.offset, bound.plan.dims) * dtype.itemsize
        if buffer.segment in ("arena", "partial"):
            memory = self.arena.memory[bound.plan.offsets[view.buffer] :]
        elif buffer.segment in ("input", "scalar"):
            memory = bound.inputs[view.buffer]
        elif buffer.segment == "const":
            memory = self.constants[view.buffer]
        else:
            memory = self.store[buffer.name]
        flat = memory.reshape(-1).view(np.uint8)
        if 0 in shape:
            return np.zeros(shape, dtype)
        return np.ndarray(shape, dtype, flat.data, offset, strides)
