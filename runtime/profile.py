"""Where the time of a program goes, as plain data: what each instruction took beside what it had to do."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .peak import Peak


@dataclass(frozen=True)
class Span:
    """What a thread did from `start` to `end`, in seconds from the start of the step: a part of an instruction, with
    the operations and bytes of that part; waiting (kind `wait`, for the instruction that follows); a callback."""

    start: float
    end: float
    thread: int
    instruction: int  # its number in Profile.instructions, -1 for none
    kind: str
    name: str
    scope: str
    flops: int
    bytes: int


@dataclass(frozen=True)
class Work:
    """An instruction of the tape and what it took, over all its rounds where it stands in a loop.

    name       what it computes: the ops of a row program, `matmul`, `finite loss`
    value      the values of the graph that it writes
    file ..    the line and module that it serves; `of` the forward value whose gradient it belongs to
    calls      rounds, per thread that takes part
    flops      operations of all threads (cost.py says what counts)
    bytes      that all threads have to move at least
    seconds    per thread, the median over the repeats
    waits      likewise, for others, before it could begin
    """

    number: int
    kernel: str
    kind: str
    name: str
    value: str
    file: str
    line: int
    scope: str
    of: str
    dtype: str
    axes: tuple[int, ...]
    calls: int
    flops: int
    bytes: int
    seconds: tuple[float, ...]
    waits: tuple[float, ...]

    @property
    def thread_seconds(self) -> float:
        return sum(self.seconds)

    @property
    def where(self) -> str:
        """`gpt.py:38 blocks.0.attn`, empty where unknown."""
        if not self.file:
            return ""
        text = f"{Path(self.file).name}:{self.line} {self.scope}".rstrip()
        return f"{text} (backward)" if self.of else text


@dataclass(frozen=True)
class Kind:
    """All instructions of a kind; `bound` is the least thread-seconds that the machine would need for them."""

    kind: str
    instructions: int
    calls: int
    thread_seconds: float
    flops: int
    bytes: int
    bound: float


@dataclass(frozen=True)
class Profile:
    """Where the time of a program goes. Prints as a table; `trace` writes it for Chrome or Perfetto.

    "of peak" says how near an instruction is to the roofline, and which side of it, arithmetic or memory, is the nearer
    one. More than 100 % of memory: operands were in a cache.

    seconds        a whole call without the clock: inputs copied in, the tape, outputs copied out; the median
    tape_seconds   the tape alone, with the clock in it; the median
    overhead       how much of that the clock takes, on the thread with most marks; spans do not contain it
    instructions   every one of the tape, in order
    spans          of the run in the middle of all by time, by thread and start
    """

    program: str
    entry: str
    threads: int
    repeats: int
    seconds: float
    tape_seconds: float
    overhead: float
    instructions: tuple[Work, ...]
    spans: tuple[Span, ...]
    waiting: tuple[float, ...]  # seconds of each thread at barriers, and before the others have begun or ended
    callbacks: float
    machine: Peak

    @property
    def thread_seconds(self) -> float:
        """Of all threads together, at work or waiting: what shares are shares of."""
        busy = sum(w.thread_seconds for w in self.instructions)
        return busy + sum(self.waiting) + self.callbacks * self.threads

    def bound(self, work: Work) -> float:
        """The least thread-seconds that the machine would need for an instruction: the roofline."""
        return self.machine.bound(work.flops, work.bytes, work.dtype)

    def kinds(self) -> list[Kind]:
        """By kind, the longest first; waiting and callbacks are kinds too."""
        groups: dict[str, list[Work]] = {}
        for work in self.instructions:
            groups.setdefault(work.kind, []).append(work)
        found = [
            Kind(
                kind,
                len(works),
                sum(w.calls for w in works),
                sum(w.thread_seconds for w in works),
                sum(w.flops for w in works),
                sum(w.bytes for w in works),
                sum(map(self.bound, works)),
            )
            for kind, works in groups.items()
        ]
        if any(self.waiting):
            waits = sum(s.kind == "wait" for s in self.spans)
            found.append(Kind("wait", 0, waits, sum(self.waiting), 0, 0, 0.0))
        if self.callbacks:
            calls = sum(s.kind == "callback" for s in self.spans)
            found.append(Kind("callback", 0, calls, self.callbacks * self.threads, 0, 0, 0.0))
        return sorted(found, key=lambda k: -k.thread_seconds)

    def top(self, count: int | None = None) -> list[Work]:
        """The instructions that take longest."""
        return sorted(self.instructions, key=lambda w: -w.thread_seconds)[:count]

    def __str__(self) -> str:
        return "\n".join([*self.head(), "", *_columns(self.kind_rows()), "", *_columns(self.top_rows(20))])

    # tables, for __str__ and the command line
    def head(self) -> list[str]:
        peaks = [f"{self.machine.f32 / 1e9:.0f} GFLOP/s in float32", f"{self.machine.f64 / 1e9:.0f} in float64"]
        return [
            f"{self.program} {self.entry}: {self.seconds * 1e3:.3f} ms, median of {self.repeats}; "
            f"{len(self.instructions)} instructions on {self.threads} threads",
            f"the tape with a clock {self.tape_seconds * 1e3:.3f} ms, of which the clock {self.overhead * 1e3:.3f} ms",
            f"this machine at its best: {', '.join(peaks)}, {self.machine.bandwidth / 1e9:.1f} GB/s",
        ]

    def kind_rows(self) -> list[tuple[str, ...]]:
        """The table by kind, head first. ms: the share of the step's time, all threads taken together."""
        rows: list[tuple[str, ...]] = [("kind", "instructions", "calls", "ms", "share", "GFLOP/s", "GB/s", "of peak")]
        for k in self.kinds():
            figures = self._figures(k.thread_seconds, k.flops, k.bytes, k.bound)
            rows.append((k.kind, str(k.instructions), str(k.calls), *figures))
        return rows

    def top_rows(self, count: int | None = None) -> list[tuple[str, ...]]:
        """The table of the longest instructions, head first."""
        rows: list[tuple[str, ...]] = [
            ("number", "kind", "ms", "share", "GFLOP/s", "GB/s", "of peak", "axes", "what", "where")
        ]
        for w in self.top(count):
            figures = self._figures(w.thread_seconds, w.flops, w.bytes, self.bound(w))
            rows.append((str(w.number), w.kind, *figures, "x".join(map(str, w.axes)), w.name, w.where))
        return rows

    def _figures(self, seconds: float, flops: int, traffic: int, bound: float) -> tuple[str, ...]:
        wall = seconds / self.threads
        share = f"{seconds / self.thread_seconds:.1%}" if self.thread_seconds else ""
        if not wall:
            return (f"{wall * 1e3:.3f}", share, "", "", "")
        rate = f"{flops / wall / 1e9:.1f}" if flops else ""
        moved = f"{traffic / wall / 1e9:.1f}" if traffic else ""
        limit = "memory" if self.machine.memory_bound(flops, traffic) else "flops"
        return (f"{wall * 1e3:.3f}", share, rate, moved, f"{bound / seconds:.0%} {limit}" if bound else "")

    # files
    def to_json(self) -> str:
        """All of it as JSON."""
        return json.dumps(asdict(self))

    def trace(self, path: str | Path) -> None:
        """Writes the spans as a trace file: open it in chrome://tracing or ui.perfetto.dev."""
        Path(path).write_text(json.dumps({"traceEvents": self.events(), "displayTimeUnit": "ms"}), encoding="utf-8")

    def events(self) -> list[dict[str, Any]]:
        """The events of the trace file: one for each span (microseconds), and the names of the threads."""
        events: list[dict[str, Any]] = [
            {"ph": "M", "pid": 0, "name": "process_name", "args": {"name": f"{self.program} {self.entry}"}}
        ]
        for thread in range(self.threads):
            name = "caller" if thread == 0 else f"worker {thread}"
            events.append({"ph": "M", "pid": 0, "tid": thread, "name": "thread_name", "args": {"name": name}})
        for s in self.spans:
            about: dict[str, Any] = {"instruction": s.instruction}
            if s.instruction >= 0:
                work = self.instructions[s.instruction]
                about |= {"value": work.value, "where": work.where, "kernel": work.kernel, "axes": list(work.axes)}
            if s.flops or s.bytes:
                about |= {"flops": s.flops, "bytes": s.bytes}
            events.append(
                {
                    "ph": "X", "pid": 0, "tid": s.thread, "name": s.name, "cat": s.kind,
                    "ts": s.start * 1e6, "dur": (s.end - s.start) * 1e6, "args": about,
                }
            )  # fmt: skip
        return events


TEXTS = ("kind", "axes", "what", "where")  # columns to the left; figures go to the right


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines; columns of numbers to the right."""
    lines = []
    columns = list(zip(*rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    numbers = [column[0] not in TEXTS for column in columns]
    for row in rows:
        cells = [c.rjust(w) if n else c.ljust(w) for c, w, n in zip(row, widths, numbers, strict=True)]
        lines.append("  ".join(cells).rstrip())
    return lines
