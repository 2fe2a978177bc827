"""The threads of a step: the caller and n - 1 workers, each running its own table of the same program.

A worker spends its life in one compiled call without the GIL (driver.WORK): it spins on its mailbox for some
tens of microseconds, runs what is posted, and spins again; steps that follow each other closely never reach
Python there. After that time it sleeps on a lock until the next run wakes it. Work is posted only while every
worker is known to be awake, in one compiled call together with the caller's own share, so that no exception
can come between.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import threading
import weakref
from collections.abc import Sequence

import numpy as np

from . import driver
from .loader import Loaded

# Turns for which a worker waits for more work without yielding; a pause takes 10 to 60 ns.
IDLE_SPINS = 200
# Turns for which a woken worker is awaited before Python has another look: some milliseconds.
PATIENCE = 20_000

_LINE_WORDS = 8  # int64 words in a cache line
_KERNEL = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_RUN = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64)

_teams: weakref.WeakSet[ThreadTeam] = weakref.WeakSet()


def aligned_words(count: int) -> np.ndarray:
    """`count` zero int64 words that start at a cache line."""
    raw = np.zeros(count + _LINE_WORDS, np.int64)
    start = (-raw.ctypes.data % 64) // 8
    return raw[start : start + count]


def available_cpus() -> int:
    """CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Workers:
    """The worker threads of one team in one process, and the memory that they share with the caller."""

    def __init__(self, count: int, loaded: Loaded) -> None:
        self.loaded = loaded  # keeps the code in memory as long as a worker may run it
        self.mailboxes = aligned_words((count + 1) * driver.MAILBOX_WORDS).reshape(count + 1, driver.MAILBOX_WORDS)
        # Word 0 of the first mailbox, the caller's, is where gt_team says who is missing.
        for box in self.mailboxes:
            box[driver.RESULT_ADDRESS] = box[driver.RESULT :].ctypes.data
        self.mailboxes[1:, driver.STATE] = driver.ASLEEP
        # A spinning worker would only keep the others from their work if there is no CPU for each.
        self.idle_spins = IDLE_SPINS if available_cpus() > count else 0
        self.locks = [threading.Lock() for _ in range(count)]
        for lock in self.locks:
            lock.acquire()
        self.threads = [
            threading.Thread(target=self._work, args=(w + 1,), name=f"gradtape-{w + 1}", daemon=True)
            for w in range(count)
        ]
        try:
            for thread in self.threads:
                thread.start()
        except BaseException:  # interrupted, or no more threads allowed: those that have begun must end
            self.stop()
            raise

    def _work(self, worker: int) -> None:
        box = self.mailboxes[worker]
        args = np.array([box.ctypes.data, self.loaded.address["gt_drive"], self.idle_spins], np.int64)
        work = _KERNEL(self.loaded.address["gt_work"])
        lock = self.locks[worker - 1]
        while box[driver.STATE] != driver.STOP:
            work(args.ctypes.data)
            if box[driver.STATE] != driver.STOP:
                lock.acquire()

    def wake(self, worker: int) -> None:
        """Let the worker return to its mailbox, which it announces there; harmless if it is on its way."""
        if self.locks[worker - 1].locked():
            self.locks[worker - 1].release()

    def stop(self) -> None:
        """Tell the threads to end; does not wait for it."""
        for worker, lock in enumerate(self.locks, 1):
            self.mailboxes[worker, driver.STATE] = driver.STOP
            if lock.locked():
                lock.release()

    def join(self) -> None:
        for thread in self.threads:
            if thread is not threading.current_thread():
                thread.join()


class ThreadTeam:
    """n threads that run n tables side by side: the caller, and n - 1 daemons started at the first run.

    n        number of threads, at least 1 (then there is no thread at all)
    loaded   object code with the driver's functions (driver.SYMBOLS)

    The threads end when the team is closed or collected, and when the interpreter exits. After os.fork the
    child starts its own at its next run.
    """

    def __init__(self, n: int, loaded: Loaded) -> None:
        if n < 1:
            raise ValueError(f"a team needs at least one thread, not {n}")
        missing = [name for name in driver.SYMBOLS if name not in loaded.address]
        if missing:
            raise ValueError(f"the loaded object lacks the driver's symbols {', '.join(missing)}")
        self.n = n
        self.loaded = loaded
        self._run_alone = _RUN(loaded.address["gt_run"])
        self._run_team = _KERNEL(loaded.address["gt_team"])
        self._reset()
        _teams.add(self)

    def _reset(self) -> None:
        """No threads yet, or none any more: after a fork they are the parent's."""
        self._lock = threading.Lock()
        self._workers: _Workers | None = None
        self._finalizer: weakref.finalize | None = None
        self._tables: list[tuple[int, int]] | None = None

    def _start(self) -> _Workers:
        workers = self._workers = _Workers(self.n - 1, self.loaded)
        # Bound to the workers, not to the team, which it must not keep alive.
        self._finalizer = weakref.finalize(self, workers.stop)
        self._finalizer.atexit = False  # close_all joins them too
        first = workers.mailboxes[0].ctypes.data
        self._args = np.array([first, self.n, self.loaded.address["gt_drive"], first, 0], np.int64)
        self._args_address = self._args.ctypes.data
        self._tables = None
        return workers

    def run(self, tables: Sequence[tuple[int, int]]) -> list[int]:
        """Run table i, (address, number of entries), on thread i, a single one on the caller; all have finished when
        this returns.

        Returns per thread 0, or 1 + the index of the STOP_IF that ended its run. A second caller waits. If an
        exception (KeyboardInterrupt) leaves this function, then nothing has run, or everything.
        """
        if len(tables) not in (1, self.n):
            raise ValueError(f"{len(tables)} tables for a team of {self.n}")
        with self._lock:
            if len(tables) == 1:
                return [self._run_alone(*tables[0])]
            workers = self._workers or self._start()
            boxes = workers.mailboxes
            if tables != self._tables:
                boxes[:, driver.TABLE : driver.ENTRIES + 1] = tables
                self._tables = list(tables)
            self._args[-1] = 0
            while True:
                self._run_team(self._args_address)
                missing = int(boxes[0, driver.STATE])
                if missing == 0:
                    return boxes[:, driver.RESULT].tolist()
                if not workers.threads[missing - 1].is_alive():
                    raise RuntimeError("a worker thread is gone: the interpreter is shutting down")
                workers.wake(missing)
                self._args[-1] = PATIENCE

    def close(self) -> None:
        """End the threads and wait for them. A later run starts new ones."""
        with self._lock:
            workers, self._workers = self._workers, None
            if workers is not None:
                assert self._finalizer is not None
                self._finalizer.detach()
                workers.stop()
                workers.join()


def _close_all() -> None:
    """Before the interpreter goes: a thread must not run code or read memory that is being freed."""
    for team in list(_teams):
        team.close()


def _forget_all() -> None:
    for team in list(_teams):
        if team._finalizer is not None:
            team._finalizer.detach()
        team._reset()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
