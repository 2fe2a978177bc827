"""Profiles a program: its instructions with a clock between them.

The program runs as it always does, on its threads, in its memory and with its barriers, from tables that also note the
time after every entry (clock.py). Plain and marked runs take turns; what they have updated is put back at the end.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import Any

import numpy as np

from ..ir.tape import Instr, Tape
from .call import Call, Close, Open
from .clock import Marked, Marks, mark_cost, rows_of
from .cost import cost, kind_of
from .peak import peak
from .profile import Profile, Span, Work
from .program import Program

STORED = ("param", "buffer", "state")

# One run of the tape is as many runs of the threads as it has callbacks, and one more. Of each, of each thread: marks.
Run = list[list[Marks]]


def measure(program: Program, inputs: Mapping[str, Any], repeats: int, entry: str = "") -> Profile:
    """Profiles a program on `inputs`. What it updates goes on from run to run, as in training, and is put back bit by
    bit at the end, also after an error; what a callback's Python has done stays.

    Raises what Program.run raises, and ValueError for less than one repeat.
    """
    if repeats < 1:
        raise ValueError(f"repeats is at least 1, not {repeats}")
    kept = {name: program.store[name].copy() for name in _updated(program.tape)}
    try:
        return _Measured(program, inputs, repeats).profile(entry)
    finally:
        for name, array in kept.items():
            program.store[name][...] = array


def _updated(tape: Tape) -> list[str]:
    """The names of stored arrays that a run may write."""
    written = {o.view.buffer for i in tape.instructions() for o in i.operands if "w" in o.mode and o.view.buffer >= 0}
    return [tape.buffers[b].name for b in sorted(written) if tape.buffers[b].segment in STORED]


class _Measured:
    """The runs of a profile, and what is read off them."""

    def __init__(self, program: Program, inputs: Mapping[str, Any], repeats: int) -> None:
        self.program = program
        program.run(inputs)  # the threads are up, the memory is there, and errors are raised
        self.bound = program.bind(inputs)
        tables = self.bound.ready(program)
        self.plan = self.bound.plan
        self.threads = self.plan.threads
        self.calls = [e for e in self.plan.entries if isinstance(e, Call)]
        self.costs = [[cost(program.tape, call, t) for t in range(self.threads)] for call in self.calls]
        self.pauses = [pause for pause, _ in tables.rest]
        rows = list(zip(*(rows_of(self.plan, t) for t in range(self.threads)), strict=True))
        entries = [tables.entries, *(e for _, e in tables.rest)]
        self.marked = [Marked(e, r) for e, r in zip(entries, rows, strict=True)]
        self.mark = mark_cost(program.loaded.address)
        self.plain: list[float] = []
        self.runs: list[Run] = []
        for _ in range(repeats):
            start = time.perf_counter()
            program.run(inputs)
            self.plain.append(time.perf_counter() - start)
            self.runs.append(self.run())

    def run(self) -> Run:
        """As Program.run, on inputs that are in their place already."""
        self.program.error[:] = 0
        found = [self.marked[0].run(self.program.team)]
        for pause, marked in zip(self.pauses, self.marked[1:], strict=True):
            if self.program.error[0]:
                break
            self.program.call_back(self.bound, pause.step)
            found.append(marked.run(self.program.team))
        if self.program.error[0]:
            self.program.fail(self.bound)
        return found

    def profile(self, entry: str) -> Profile:
        lengths = [(_edges(run[-1])[1] - _edges(run[0])[0]) * 1e-9 for run in self.runs]
        middle = sorted(range(len(lengths)), key=lengths.__getitem__)[len(lengths) // 2]
        busy, waits, idle = (np.median(a, axis=0) for a in zip(*map(self.sums, self.runs), strict=True))
        works = [self.work(n, often, busy[n], waits[n]) for n, often in enumerate(self.rounds())]
        marks = max(sum(len(run[t][0]) for run in self.runs[middle]) for t in range(self.threads))
        return Profile(
            program=self.program.tape.name,
            entry=entry,
            threads=self.threads,
            repeats=len(self.runs),
            seconds=median(self.plain),
            tape_seconds=lengths[middle],
            overhead=marks * self.mark * 1e-9,
            instructions=tuple(works),
            spans=tuple(sorted(self.spans(self.runs[middle], works), key=lambda s: (s.thread, s.start))),
            waiting=tuple((waits.sum(axis=0) + idle).tolist()),
            callbacks=median(_between(run) for run in self.runs),
            machine=peak(self.threads),
        )

    def rounds(self) -> list[int]:
        """How often each call is made."""
        rounds, found = [1], []
        for entry in self.plan.entries:
            if isinstance(entry, Open):
                rounds.append(rounds[-1] * max(entry.count, 0))
            elif isinstance(entry, Close):
                rounds.pop()
            elif isinstance(entry, Call):
                found.append(rounds[-1])
        return found

    def work(self, number: int, calls: int, busy: np.ndarray, waits: np.ndarray) -> Work:
        tape, call = self.program.tape, self.calls[number]
        instr, at = call.instr, call.instr.location
        return Work(
            number=number,
            kernel=instr.kernel,
            kind=kind_of(tape, instr),
            name=instr.label or instr.kernel,
            value=", ".join(_written(tape, instr)),
            file=at.file if at else "",
            line=at.line if at else 0,
            scope=at.scope if at else "",
            of=at.of if at else "",
            dtype=_dtype(tape, instr),
            axes=call.axes,
            calls=calls,
            flops=calls * sum(f for f, _ in self.costs[number]),
            bytes=calls * sum(b for _, b in self.costs[number]),
            seconds=tuple(busy.tolist()),
            waits=tuple(waits.tolist()),
        )

    def sums(self, run: Run) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Seconds of a run: [call, thread] at work, [call, thread] waiting before it, [thread] waiting otherwise."""
        shape = len(self.calls) + 1, self.threads  # the last row is for number -1: waits that are before no call
        busy, waits, idle = np.zeros(shape), np.zeros(shape), np.zeros(self.threads)
        for phase, marked in zip(run, self.marked, strict=True):
            start, end = _edges(phase)
            for thread, (marks, times) in enumerate(phase):
                at_work = np.array([kind == "call" for kind, _, _ in marked.rows[thread]], bool)[marks[1:] - 1]
                numbers = np.array([number for _, number, _ in marked.rows[thread]], np.int64)[marks[1:] - 1]
                seconds = np.maximum(np.diff(times) - self.mark, 0) * 1e-9
                np.add.at(busy[:, thread], numbers[at_work], seconds[at_work])
                np.add.at(waits[:, thread], numbers[~at_work], seconds[~at_work])
                idle[thread] += (times[0] - start + end - times[-1]) * 1e-9
        return busy[:-1], waits[:-1], idle + waits[-1]

    def spans(self, run: Run, works: Sequence[Work]) -> list[Span]:
        zero, before = _edges(run[0])
        found = []

        def add(start: int, end: int, thread: int, number: int, kind: str, name: str, scope: str) -> None:
            flops, moved = (0, 0) if kind in ("wait", "callback") else self.costs[number][thread]
            times = (start - zero) * 1e-9, (end - zero) * 1e-9
            found.append(Span(*times, thread, number, kind, name, scope, flops, moved))

        for number, (phase, marked) in enumerate(zip(run, self.marked, strict=True)):
            start, end = _edges(phase)
            if number:
                step = self.pauses[number - 1].step
                scope = step.location.scope if step.location else ""
                add(before, start, 0, -1, "callback", step.function, scope)
            before = end
            for thread, (marks, times) in enumerate(phase):
                if times[0] > start:
                    add(start, int(times[0]), thread, -1, "wait", "wait to begin", "")
                for mark, a, b in zip(marks[1:].tolist(), times[:-1].tolist(), times[1:].tolist(), strict=True):
                    kind, call, _ = marked.rows[thread][mark - 1]
                    a = min(a + self.mark, b)
                    if kind == "call":
                        add(a, b, thread, call, works[call].kind, works[call].name, works[call].scope)
                    elif call < 0:
                        add(a, b, thread, -1, "wait", "wait", "")
                    else:
                        add(a, b, thread, call, "wait", f"wait for {works[call].name}", works[call].scope)
                if times[-1] < end:
                    add(int(times[-1]), end, thread, -1, "wait", "wait at the end", "")
        return found


def _edges(phase: Sequence[Marks]) -> tuple[int, int]:
    """When the first thread has begun and the last one ended, in nanoseconds."""
    return int(min(times[0] for _, times in phase)), int(max(times[-1] for _, times in phase))


def _between(run: Run) -> float:
    """Seconds in callbacks, the way to Python and back included."""
    edges = list(map(_edges, run))
    return sum(start - end for (_, end), (start, _) in pairwise(edges)) * 1e-9


def _written(tape: Tape, instr: Instr) -> list[str]:
    """Names of what an instruction writes; sums of a thread count where there is nothing else."""
    buffers = [tape.buffers[o.view.buffer] for o in instr.operands if "w" in o.mode and o.view.buffer >= 0]
    results = [b.name for b in buffers if b.segment not in ("partial", "error")]
    return list(dict.fromkeys(results or [b.name for b in buffers if b.segment == "partial" and b.name != "scratch"]))


def _dtype(tape: Tape, instr: Instr) -> str:
    """f64 for an instruction that computes in float64."""
    dtypes = {tape.buffers[o.view.buffer].dtype for o in instr.operands if o.view.buffer >= 0}
    return "f64" if "f64" in dtypes else "f32"
