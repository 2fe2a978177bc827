"""Tape + sizes + addresses -> instruction tables: one int64 table per thread for the driver.

Pure bookkeeping, without Numba, done once per combination of sizes: how each instruction is shared among threads, where
a barrier is needed, which buffers can share memory, and the argument words of every kernel call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..ir.dims import DimLike, evaluate
from ..ir.tape import Instr, StopIf, Tape
from ..ir.types import DTYPES
from . import driver
from .call import Addresses, Call, Part, Share, Slot
from .codegen import stride_names
from .kernels import words_of
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
ITEMSIZE = {name: dtype.itemsize for name, dtype in DTYPES.items()}


@dataclass
class Plan:
    """What binding decided, before addresses: calls in order (None is a StopIf), buffer sizes and arena offsets."""

    dims: Mapping[str, int]
    threads: int
    calls: list[Call | None]
    sizes: list[int]  # elements of each buffer
    offsets: list[int]  # byte offset in the arena, -1 for buffers that live elsewhere
    arena_bytes: int
    lifetimes: dict[int, tuple[int, int]] = field(default_factory=dict)


def plan(tape: Tape, dims: Mapping[str, int], threads: int) -> Plan:
    """Shares, barriers and arena offsets of `tape` for concrete sizes. Deterministic."""

    def value(dim: DimLike) -> int:
        return evaluate(dim, dims)

    sizes = [value(b.size) for b in tape.buffers]
    calls: list[Call | None] = []
    for step in tape.steps:
        if isinstance(step, StopIf):
            calls.append(None)
            continue
        assert isinstance(step, Instr), step
        axes = tuple(map(value, step.axes))
        slots = tuple(
            Slot(o.view.buffer, value(o.view.offset), tuple(map(value, o.view.strides)), o.mode) for o in step.operands
        )
        params = tuple(value(p) if not isinstance(p, float) else p for p in step.params)
        split, shares = share_out(step, axes, threads)
        calls.append(Call(step, axes, slots, params, split, shares))
    _count_parts(tape, calls)
    epochs = _place_barriers(tape, calls, threads, sizes)
    offsets, total, lifetimes = _lay_out(tape, calls, epochs, sizes, threads)
    return Plan(dims, threads, calls, sizes, offsets, total, lifetimes)


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


def _count_parts(tape: Tape, calls: Sequence[Call | None]) -> None:
    """A combine adds up as many parts as threads took part in the sum."""
    parts: dict[int, int] = {}
    for call in calls:
        if call is None:
            continue
        for slot in call.slots:
            if slot.buffer >= 0 and tape.buffers[slot.buffer].segment == "partial":
                if call.instr.kernel.startswith("combine"):
                    call.parts = parts[slot.buffer]
                else:
                    parts[slot.buffer] = sum(s is not None for s in call.shares)


def _regions(tape: Tape, call: Call, thread: int, sizes: Sequence[int]) -> list[tuple[int, int, int, bool]]:
    """(buffer, first, last, writes) of what a thread touches in a call."""
    starts, counts = call.part(thread)
    regions = []
    for slot in call.slots:
        if slot.buffer < 0 or tape.buffers[slot.buffer].segment == "error":
            continue
        if tape.buffers[slot.buffer].segment == "partial":
            size = sizes[slot.buffer]
            low, high = thread * size, (thread + 1) * size - 1
            if call.instr.kernel.startswith("combine"):
                low, high = 0, call.parts * size - 1
        else:
            low, high = slot.hull(starts, counts)
        regions.append((slot.buffer, low, high, "w" in slot.mode))
    return regions


def _place_barriers(tape: Tape, calls: Sequence[Call | None], threads: int, sizes: Sequence[int]) -> list[int]:
    """Marks the calls before which threads must meet: where one touches what another wrote, or writes what another
    touched, since the last meeting. Returns the epoch (number of meetings so far) of every call."""
    epochs: list[int] = []
    epoch = 0
    touched: dict[int, list[tuple[int, int, int, bool]]] = {}  # buffer -> (thread, first, last, writes)
    for position, call in enumerate(calls):
        if call is None:
            # every thread must see the same error word
            epoch += 1
            touched = {}
            epochs.append(position if threads == 1 else epoch)
            continue
        mine = [(t, *r) for t in range(threads) if call.shares[t] is not None for r in _regions(tape, call, t, sizes)]
        conflict = any(
            t != other and (writes or wrote) and low <= last and first <= high
            for t, buffer, low, high, writes in mine
            for other, first, last, wrote in touched.get(buffer, ())
        )
        if conflict:
            call.barrier = True
            epoch += 1
            touched = {}
        for t, buffer, low, high, writes in mine:
            touched.setdefault(buffer, []).append((t, low, high, writes))
        epochs.append(position if threads == 1 else epoch)
    return epochs


def _lay_out(
    tape: Tape, calls: Sequence[Call | None], epochs: Sequence[int], sizes: Sequence[int], threads: int
) -> tuple[list[int], int, dict[int, tuple[int, int]]]:
    """Arena offsets: buffers whose lifetimes (in epochs) do not meet may share memory. Largest first, lowest fit."""
    lifetimes: dict[int, tuple[int, int]] = {}
    for call, epoch in zip(calls, epochs, strict=True):
        for slot in call.slots if call is not None else ():
            if slot.buffer >= 0 and tape.buffers[slot.buffer].segment in ("arena", "partial"):
                first, _ = lifetimes.get(slot.buffer, (epoch, epoch))
                lifetimes[slot.buffer] = (first, epoch)
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


@dataclass
class Tables:
    """The finished tables: keep `arrays` alive while they run. `entries` per thread: (address, number of entries)."""

    arrays: list[np.ndarray]
    entries: list[tuple[int, int]]


def build_tables(tape: Tape, bound: Plan, at: Addresses, error_address: int) -> Tables:
    """One driver table per thread: calls, barriers, and the stop before the first update."""
    threads = bound.threads
    shared = aligned_words(8)
    epochs = aligned_words(8 * threads)
    args: list[int] = []
    rows: list[list[tuple[int, int, int]]] = [[] for _ in range(threads)]
    for call in bound.calls:
        if call is None or call.barrier:
            for t in range(threads):
                if threads > 1:
                    rows[t].append((driver.BARRIER, t, 0))
                if call is None:
                    rows[t].append((driver.STOP_IF, error_address, 0))
            if call is None:
                continue
        for t in range(threads):
            if call.shares[t] is not None:
                rows[t].append((driver.CALL, at.kernel[call.instr.kernel], len(args)))
                args += words(tape, call, t, at)
    block = np.array(args or [0], np.int64)
    arrays = [shared, epochs, block]
    entries = []
    for t in range(threads):
        table = np.zeros((len(rows[t]) + 1, driver.WORDS_PER_ENTRY), np.int64)
        for i, (kind, a, b) in enumerate(rows[t]):
            if kind == driver.CALL:
                table[i, :3] = kind, a, block.ctypes.data + 8 * b
            elif kind == driver.BARRIER:
                table[i] = kind, shared.ctypes.data, threads, epochs.ctypes.data + 64 * t
            else:
                table[i, :2] = kind, a
        arrays.append(table)
        entries.append((table.ctypes.data, len(rows[t])))
    return Tables(arrays, entries)
