"""A program's tables with a clock in them: after every entry one more call notes the time.

The clock is a function of its own object code, called by the driver like a kernel, so that a marked program computes
what the plain one does, with the same barriers and in the same memory. A mark costs some 30 ns, which is measured.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cache

import numpy as np

from . import driver
from .bind import Entries, Plan
from .call import Call, Close, Open, Pause
from .loader import Loaded, load_assembly
from .threads import ThreadTeam, aligned_words

RECORD = 3  # words of a mark: which one, and the two words of a timespec

# `void gt_mark(int64_t *args)`: args[0] is the address of the word that says where the log goes on, args[1] the number
# of the mark, args[2] that of the clock.
CLOCK = """
declare i32 @clock_gettime(i32, ptr)
define void @gt_mark(ptr %args) nounwind {
  %number_at = getelementptr i64, ptr %args, i64 1
  %clock_at = getelementptr i64, ptr %args, i64 2
  %next_word = load i64, ptr %args
  %next = inttoptr i64 %next_word to ptr
  %record = load ptr, ptr %next
  %number = load i64, ptr %number_at
  %clock_word = load i64, ptr %clock_at
  %clock = trunc i64 %clock_word to i32
  store i64 %number, ptr %record
  %time = getelementptr i64, ptr %record, i64 1
  %status = call i32 @clock_gettime(i32 %clock, ptr %time)
  %end = getelementptr i64, ptr %record, i64 3
  store ptr %end, ptr %next
  ret void
}
"""

Marks = tuple[np.ndarray, np.ndarray]  # numbers of marks, and their times in nanoseconds, in order
Row = tuple[str, int, int]  # what an entry of a table is: "call", "barrier" or "other"; its call's number; how often


@cache
def clock() -> Loaded:
    """The clock's machine code. RuntimeError where the system has no clock_gettime."""
    return load_assembly(CLOCK, ["gt_mark"])


def rows_of(plan: Plan, thread: int) -> Iterator[list[Row]]:
    """What stands in a thread's table of each run, row by row, as `bind.build_tables` has written it. The number of a
    barrier is that of the call after it; -1 where there is none."""
    rows: list[Row] = []
    rounds = [1]
    number = 0
    for entry in plan.entries:
        if isinstance(entry, Pause):
            yield rows
            rows = []
            continue
        if plan.threads > 1 and (entry is None or (isinstance(entry, Call) and entry.barrier)):
            rows.append(("barrier", -1 if entry is None else number, rounds[-1]))
        if isinstance(entry, Open):
            rows.append(("other", -1, 1))
            rounds.append(rounds[-1] * max(entry.count, 0))
        elif isinstance(entry, Close):
            rounds.pop()
            rows.append(("other", -1, 1))
        elif entry is None:
            rows.append(("other", -1, 1))
        else:
            if entry.shares[thread] is not None:
                rows.append(("call", number, rounds[-1]))
            number += 1
    yield rows


class Marked:
    """The tables of one run of the threads with marks, and the log of each thread.

    entries   what ThreadTeam.run takes
    rows      per thread: what stands before each mark; mark 0 is the start
    """

    def __init__(self, entries: Entries, rows: Sequence[Sequence[Row]]) -> None:
        self.rows = rows
        self.tables: list[np.ndarray] = []
        self.logs: list[np.ndarray] = []
        self.next: list[np.ndarray] = []
        self.args: list[np.ndarray] = []
        for (address, count), known in zip(entries, rows, strict=True):
            assert count == len(known), "the table is not that of the plan"
            words = (ctypes.c_int64 * (count * driver.WORDS_PER_ENTRY)).from_address(address) if count else ()
            plain = np.array(words, np.int64).reshape(count, driver.WORDS_PER_ENTRY)
            self._add(plain, known)
        self.entries: Entries = [(t.ctypes.data, len(t)) for t in self.tables]

    def _add(self, plain: np.ndarray, rows: Sequence[Row]) -> None:
        marked = [number for number, (kind, _, _) in enumerate(rows) if kind != "other"]
        log = aligned_words(RECORD * (1 + sum(rows[number][2] for number in marked)))
        log[:] = 0  # the pages are there before the clock writes to them
        following = aligned_words(1)
        args = np.zeros((1 + len(marked), RECORD), np.int64)
        args[:, 0], args[:, 2] = following.ctypes.data, time.CLOCK_MONOTONIC
        args[1:, 1] = np.add(marked, 1)
        mark, first = clock().address["gt_mark"], args.ctypes.data
        calls = [(driver.CALL, mark, first + args.strides[0] * i, 0) for i in range(len(args))]
        place = np.cumsum([1, *(1 + (kind != "other") for kind, _, _ in rows)])  # of every row in the new table
        table = [calls[0]]
        later = iter(calls[1:])
        for number, row in enumerate(plain.tolist()):
            if row[0] in (driver.LOOP, driver.END):  # the index of END, and that of LOOP + 1
                row[3] = int(place[row[3] - (row[0] == driver.END)]) + (row[0] == driver.END)
            table.append(tuple(row))
            if rows[number][0] != "other":
                table.append(next(later))
        self.tables.append(np.array(table, np.int64))
        self.logs.append(log)
        self.next.append(following)
        self.args.append(args)

    def run(self, team: ThreadTeam) -> list[Marks]:
        """Runs the tables; the marks of every thread."""
        for log, following in zip(self.logs, self.next, strict=True):
            following[0] = log.ctypes.data
        team.run(self.entries)
        found = []
        for log, following in zip(self.logs, self.next, strict=True):
            records = log[: (int(following[0]) - log.ctypes.data) // 8].reshape(-1, RECORD)
            found.append((records[:, 0].copy(), records[:, 1] * 1_000_000_000 + records[:, 2]))
        return found


def mark_cost(team_code: Mapping[str, int], marks: int = 2000) -> int:
    """Nanoseconds from one mark to the next with nothing in between: the median of `marks`."""
    log = aligned_words(RECORD * marks)
    following = np.array([log.ctypes.data], np.int64)
    args = np.array([following.ctypes.data, 0, time.CLOCK_MONOTONIC], np.int64)
    table = np.zeros((marks, driver.WORDS_PER_ENTRY), np.int64)
    table[:, :3] = driver.CALL, clock().address["gt_mark"], args.ctypes.data
    run = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64)(team_code["gt_run"])
    run(table.ctypes.data, marks)
    records = log.reshape(-1, RECORD)
    return int(np.median(np.diff(records[:, 1] * 1_000_000_000 + records[:, 2])))
