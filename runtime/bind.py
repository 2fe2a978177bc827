"""Tape + sizes + addresses -> instruction tables: one int64 table per thread for the driver.

Pure bookkeeping, without Numba, done once per combination of sizes: how each instruction is shared among threads, where
a barrier is needed, which buffers can share memory, and the argument words of every kernel call.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from math import prod

import numpy as np

from ..ir.dims import evaluate
from ..ir.tape import Callback, Instr, Loop, Operand, Step, StopIf, Tape
from ..ir.types import DTYPES
from . import driver
from .call import Addresses, Call, Close, Entry, Open, Part, Pause, Share, Slot
from .codegen import stride_names
from .kernels import words_of
from .meetings import place_barriers
from .threads import aligned_words

ALIGN = 64  # bytes: a cache line, and the widest vector
SMALL_WORK = 8192  # element steps below which sharing an instruction costs more than it saves
SMALL_GEMM = 65536  # multiply-adds, likewise
# What an element of a kernel by hand costs in steps of an elementwise one (0.5 ns): sorting rows of 1000 takes 45 ns.
STEPS = {"sort": 64, "sort_descending": 64}
# Each thread packs all of the right factor for its rows. With fewer rows than this that costs more than the barriers
# that a division by columns asks for: two threads reach 159 to 188 GFLOP/s on 32 x 512 x 128 and 205 to 244 on
# 64 x 256 x 128.
PACKING_ROWS = 64
# A program that one thread runs in less time than this, in ns by the estimate of `duration`, is not shared: what the
# threads write for each other costs more. A step of 0.14 ms takes 0.25 on two threads, one of 1.47 ms 1.33.
WORTH_SHARING = 300_000
ITEMSIZE = {name: dtype.itemsize for name, dtype in DTYPES.items()}


@dataclass
class Plan:
    """What binding decided, before addresses: the entries in order, buffer sizes and arena offsets."""

    dims: Mapping[str, int]
    threads: int
    entries: list[Entry]
    sizes: list[int]  # elements of each buffer
    offsets: list[int]  # byte offset in the arena, -1 for buffers that live elsewhere
    arena_bytes: int
    lifetimes: dict[int, tuple[int, int]] = field(default_factory=dict)


def plan(tape: Tape, dims: Mapping[str, int], threads: int) -> Plan:
    """Shares, barriers and arena offsets of `tape` for concrete sizes, for at most `threads`. Deterministic."""
    if threads > 1 and duration(tape.steps, dims) < WORTH_SHARING:
        threads = 1
    sizes = [evaluate(b.size, dims) for b in tape.buffers]
    entries = list(_entries(tape.steps, dims, (), threads, tape, count()))
    _count_parts(tape, entries)
    epochs = place_barriers(tape, entries, threads, sizes)
    offsets, total, lifetimes = _lay_out(tape, entries, epochs, sizes, threads)
    return Plan(dims, threads, entries, sizes, offsets, total, lifetimes)


def _entries(
    steps: Sequence[Step],
    dims: Mapping[str, int],
    loops: tuple[str, ...],
    threads: int,
    tape: Tape,
    numbers: Iterator[int],
) -> Iterator[Entry]:
    """The steps with numbers, those of a loop between its Open and its Close. `dims` holds 0 for the `loops` around."""
    for step in steps:
        if isinstance(step, StopIf):
            yield None
        elif isinstance(step, Callback):
            assert not loops, "a callback in a loop"
            yield Pause(step, tuple(_slot(o, dims, loops) for o in step.operands()))
        elif isinstance(step, Loop):
            yield Open(step.index, evaluate(step.count, dims))
            yield from _entries(step.body, {**dims, step.index: 0}, (*loops, step.index), threads, tape, numbers)
            yield Close()
        else:
            axes = tuple(evaluate(d, dims) for d in step.axes)
            slots = tuple(_slot(o, dims, loops) for o in step.operands)
            params = tuple(evaluate(p, dims) if not isinstance(p, float) else p for p in step.params)
            number = next(numbers)
            if any(s.buffer >= 0 and tape.buffers[s.buffer].segment == "error" for s in slots):
                params = (number, *params[1:])
            split, shares = share_out(step, axes, threads)
            yield Call(step, axes, slots, params, split, shares)


def duration(steps: Sequence[Step], dims: Mapping[str, int]) -> float:
    """About how many ns one thread needs: 60 multiply-adds, 7 weights that few rows meet, or 2 elements of a loop to a
    ns."""
    total = 0.0
    for step in steps:
        if isinstance(step, Loop):
            total += evaluate(step.count, dims) * duration(step.body, {**dims, step.index: 0})
        elif isinstance(step, Instr):
            axes = [evaluate(d, dims) for d in step.axes]
            if step.kernel.startswith("conv"):
                axes[3:5] = [1, 1]  # the sizes of x: those of y count
            if step.kernel.startswith(("gather", "scatter", "dynamic")):
                axes[-1] = 1  # the rows of the table: only those that are named are read
            if step.kernel.startswith("attention"):
                axes[4:] = [2 * sum(axes[4:])]  # two products of pairs of positions, five backwards
            if step.kernel.startswith("cached_attention"):
                axes[4:] = [sum(axes[4:])]
            if step.kernel.startswith("thin_gemm"):
                total += prod(axes[:2] + axes[3:]) / 7
            products = step.kernel.startswith(("attention", "cached_attention", "conv", "gemm", "thin_gemm"))
            total += prod(axes) * (1 / 60 if products else STEPS.get(step.kernel.rpartition("_")[0], 1) / 2)
    return total


def _slot(operand: Operand, dims: Mapping[str, int], loops: Sequence[str]) -> Slot:
    view = operand.view
    offset = evaluate(view.offset, dims)
    moved = ((name, evaluate(view.offset, {**dims, name: 1}) - offset) for name in loops)
    rounds = tuple((name, step) for name, step in moved if step)
    return Slot(view.buffer, offset, tuple(evaluate(s, dims) for s in view.strides), operand.mode, rounds)


def share_out(instr: Instr, axes: Sequence[int], threads: int) -> tuple[int, list[Share | None]]:
    """The axis along which the threads share an instruction, and each one's part. Small work stays on one thread."""
    work = STEPS.get(instr.kernel.rpartition("_")[0], 1)
    for size in axes:
        work *= size
    small = SMALL_GEMM if instr.kernel.startswith("gemm") else SMALL_WORK
    candidates = [a for a in instr.splits if axes[a] >= threads]
    if threads == 1 or work < small or not candidates:
        return -1, [(0, 1), *([None] * (threads - 1))]
    if instr.kernel.startswith("gemm") and axes[2] < PACKING_ROWS * threads and axes[3] > axes[2]:
        candidates.sort(key=lambda a: a != 3)
    # an even division first, else the first axis long enough that the remainder does not matter
    even = [a for a in candidates if axes[a] % threads == 0 or axes[a] >= 8 * threads]
    split = even[0] if even else max(candidates, key=lambda a: axes[a])
    edges = [axes[split] * t // threads for t in range(threads + 1)]
    return split, [(edges[t], edges[t + 1] - edges[t]) for t in range(threads)]


def _count_parts(tape: Tape, entries: Sequence[Entry]) -> None:
    """A combine adds up as many parts as threads took part in the sum."""
    parts: dict[int, int] = {}
    for call in (e for e in entries if isinstance(e, Call)):
        for slot in call.slots:
            if slot.buffer >= 0 and tape.buffers[slot.buffer].segment == "partial":
                if call.instr.kernel.startswith("combine"):
                    call.parts = parts[slot.buffer]
                else:
                    parts[slot.buffer] = sum(s is not None for s in call.shares)


def _lay_out(
    tape: Tape, entries: Sequence[Entry], epochs: Sequence[int], sizes: Sequence[int], threads: int
) -> tuple[list[int], int, dict[int, tuple[int, int]]]:
    """Arena offsets: buffers whose lifetimes (in epochs) do not meet may share memory. Largest first, lowest fit."""
    lifetimes = _lifetimes(tape, entries, epochs)
    end = (epochs[-1] if epochs else 0) + 1
    for _, view, _ in tape.outputs:
        if view.buffer in lifetimes:
            lifetimes[view.buffer] = (lifetimes[view.buffer][0], end)

    def size_in_bytes(index: int) -> int:
        buffer = tape.buffers[index]
        copies = threads if buffer.segment == "partial" else 1
        return -(-max(sizes[index], 1) * copies * ITEMSIZE[buffer.dtype] // ALIGN) * ALIGN

    offsets = [-1] * len(tape.buffers)
    placed: list[tuple[int, int, int, int]] = []  # offset, end, first, last
    total = 0
    for index in sorted(lifetimes, key=lambda i: (-size_in_bytes(i), i)):
        first, last = lifetimes[index]
        size = size_in_bytes(index)
        at = 0
        for low, high, born, died in placed:
            if born <= last and first <= died and low < at + size and at < high:
                at = high
        # `placed` is sorted by offset, so one walk finds the lowest gap
        offsets[index] = at
        placed.append((at, at + size, first, last))
        placed.sort()
        total = max(total, at + size)
    return offsets, total, lifetimes


def _lifetimes(tape: Tape, entries: Sequence[Entry], epochs: Sequence[int]) -> dict[int, tuple[int, int]]:
    """First and last epoch of every buffer of the arena. What comes into a loop, goes from round to round, or is used
    after it, lives as long as the loop; a temporary, which every round writes before it reads it, only within it."""
    lifetimes: dict[int, tuple[int, int]] = {}
    uses: dict[int, list[tuple[int, Slot]]] = {}
    for position, call in enumerate(entries):
        for slot in call.slots if isinstance(call, (Call, Pause)) else ():
            if slot.buffer >= 0 and tape.buffers[slot.buffer].segment in ("arena", "partial"):
                uses.setdefault(slot.buffer, []).append((position, slot))
                first, _ = lifetimes.get(slot.buffer, (epochs[position], 0))
                lifetimes[slot.buffer] = (first, epochs[position])
    for start, stop, loop in _loops(entries):
        low, high = epochs[start], epochs[stop]
        for buffer, found in uses.items():
            inside = [slot for position, slot in found if start < position < stop]
            if not inside:
                continue
            first, last = lifetimes[buffer]
            # what a thread adds up or keeps for itself begins anew with every call
            own = tape.buffers[buffer].segment == "partial"
            stays = len(inside) < len(found) or (inside[0].mode != "w" and not own)
            stays |= any(name == loop.index for slot in inside for name, _ in slot.rounds)
            # a thread that is in the next round already is in the first epoch, while others are still in the last
            stays |= low < high == last
            if stays:
                lifetimes[buffer] = (min(first, low), max(last, high))
    return lifetimes


def _loops(entries: Sequence[Entry]) -> Iterator[tuple[int, int, Open]]:
    """(position of the Open, of the Close, the Open) of every loop, inner ones first."""
    stack: list[int] = []
    for position, entry in enumerate(entries):
        if isinstance(entry, Open):
            stack.append(position)
        elif isinstance(entry, Close):
            start = stack.pop()
            opened = entries[start]
            assert isinstance(opened, Open)
            yield start, position, opened


# argument words ------------------------------------------------------------------------------------------------------
def _pointers(tape: Tape, call: Call, thread: int, starts: Sequence[int], at: Addresses) -> list[int]:
    out = []
    for slot in call.slots:
        if slot.buffer < 0:
            out.append(sum(s * i for s, i in zip(slot.strides, starts, strict=True)))
            continue
        buffer = tape.buffers[slot.buffer]
        element = slot.offset + sum(s * i for s, i in zip(slot.strides, starts, strict=True))
        if buffer.segment == "partial":
            element = 0
        out.append(at.buffer(slot.buffer, thread) + element * ITEMSIZE[buffer.dtype])
    return out


def words(tape: Tape, call: Call, thread: int, at: Addresses) -> list[int]:
    """The argument words of one thread's kernel call."""
    starts, sizes = call.part(thread)
    pointers = _pointers(tape, call, thread, starts, at)
    kernel = call.instr.kernel
    if kernel in tape.rows:
        program = tape.rows[kernel]
        strides = [
            slot.strides[axis]
            for slot, access in zip(call.slots, program.accesses, strict=True)
            for axis, kind in enumerate(access.strides)
            if kind == "s"
        ]
        assert len(strides) == len(stride_names(program))
        return [*pointers, *sizes, *strides, *(int(p) for p in call.params)]
    return words_of(kernel)(Part(call, pointers, starts, sizes, at))


Entries = list[tuple[int, int]]  # of a run, per thread: address and length of its table


@dataclass
class Tables:
    """The finished tables: keep `arrays` alive while they run. `entries` are those of the first run; where the tape has
    callbacks, `rest` holds each with the run that follows it."""

    arrays: list[np.ndarray]
    entries: Entries
    rest: list[tuple[Pause, Entries]]


def build_tables(tape: Tape, bound: Plan, at: Addresses, error_address: int) -> Tables:
    """One driver table per thread and run: calls, loops, barriers, and the stop before the first update."""
    shared = aligned_words(8)
    epochs = aligned_words(8 * bound.threads)
    args: list[int] = []
    runs = [[_Table(t) for t in range(bound.threads)]]
    pauses: list[Pause] = []
    for entry in bound.entries:
        threads = runs[-1]
        if isinstance(entry, Pause):
            pauses.append(entry)
            runs.append([_Table(t) for t in range(bound.threads)])
            continue
        if bound.threads > 1 and (entry is None or (isinstance(entry, Call) and entry.barrier)):
            for table in threads:
                table.rows.append((driver.BARRIER, 0, 0, 0))
        for table in threads:
            if entry is None:
                table.rows.append((driver.STOP_IF, error_address, 0, 0))
            elif isinstance(entry, Open):
                table.open(entry)
            elif isinstance(entry, Close):
                table.close()
            elif entry.shares[table.thread] is not None:
                table.rows.append((driver.CALL, at.kernel[entry.instr.kernel], len(args), 0))
                table.advance(tape, entry, len(args))
                args += words(tape, entry, table.thread, at)
    block = np.array(args or [0], np.int64)
    arrays = [shared, epochs, block]
    entries: list[Entries] = []
    for threads in runs:
        entries.append([])
        for table in threads:
            made = table.finished(block.ctypes.data, shared.ctypes.data, bound.threads, epochs.ctypes.data)
            arrays += made
            entries[-1].append((made[0].ctypes.data, len(table.rows)))
    return Tables(arrays, entries[0], list(zip(pauses, entries[1:], strict=True)))


@dataclass
class _Table:
    """The table of one thread in the making: rows (kind, a, b, c) as in driver.py, with positions for addresses."""

    thread: int
    rows: list[tuple[int, int, int, int]] = field(default_factory=list)
    loops: dict[int, str] = field(default_factory=dict)  # row of the LOOP -> its index
    opened: list[int] = field(default_factory=list)
    moves: dict[str, list[tuple[int, int]]] = field(default_factory=dict)  # loop -> (argument word, delta in bytes)

    def open(self, loop: Open) -> None:
        self.opened.append(len(self.rows))
        self.loops[len(self.rows)] = loop.index
        self.moves[loop.index] = []
        self.rows.append((driver.LOOP, loop.count, 0, 0))

    def close(self) -> None:
        start = self.opened.pop()
        kind, total, *_ = self.rows[start]
        self.rows[start] = (kind, total, 0, len(self.rows))
        self.rows.append((driver.END, 0, 0, start + 1))

    def advance(self, tape: Tape, call: Call, first: int) -> None:
        """Notes what a round adds to the pointers of a call, whose argument words begin at `first` (pointers do)."""
        for number, slot in enumerate(call.slots):
            for index, step in slot.rounds:
                self.moves[index].append((first + number, step * ITEMSIZE[tape.buffers[slot.buffer].dtype]))

    def finished(self, args: int, line: int, threads: int, epochs: int) -> list[np.ndarray]:
        """The table, and the lists of pairs that its loops add."""
        table = np.zeros((len(self.rows) + 1, driver.WORDS_PER_ENTRY), np.int64)
        lists = {
            index: np.array([(args + 8 * word, delta) for word, delta in pairs] or [(0, 0)], np.int64)
            for index, pairs in self.moves.items()
        }
        for i, (kind, a, b, c) in enumerate(self.rows):
            if kind == driver.CALL:
                table[i, :3] = kind, a, args + 8 * b
            elif kind == driver.BARRIER:
                table[i] = kind, line, threads, epochs + 64 * self.thread
            elif kind == driver.END:
                index = self.loops[c - 1]
                table[i] = kind, lists[index].ctypes.data, len(self.moves[index]), c
            else:
                table[i] = kind, a, b, c
        return [table, *lists.values()]
