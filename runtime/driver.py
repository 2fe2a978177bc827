"""The fixed driver: it walks one thread's program, a table of int64 words, and calls kernels. No Numba here.

An entry is four words (kind, a, b, c):

    CALL     a = address of a kernel, b = address of its argument words
    STOP_IF  a = address of an int64 flag: if it is not 0, the run ends here
    LOOP     a = count (<= 0 skips the loop), b = 0 (the driver counts here), c = index of the matching END
    END      a = address of pairs (address of an argument word, delta), b = number of pairs,
             c = index of LOOP + 1; before each further iteration the deltas are added, on leaving they are
             undone; loops nest freely
    BARRIER  a = address of the barrier line that the threads share, b = number of threads,
             c = address of this thread's epoch word

Barrier line and epochs start at 0 and are never reset: the line counts arrivals, and a thread waits until it
holds `threads * own epoch`. All threads of a step must meet the same barriers. A STOP_IF in a threaded
program therefore needs a barrier between the last write of its flag and itself in each thread, so that all of
them see the same flag and stop at the same place, and no write of the flag before the next barrier.

The functions are Kernels like all others: `run_plain` executes the same text in tests.
"""

from __future__ import annotations

from .kernel import Kernel

CALL, STOP_IF, LOOP, END, BARRIER = range(5)
WORDS_PER_ENTRY = 4

# Waits of a barrier before it yields at every turn: some microseconds.
BARRIER_SPINS = 500
# Turns for which a worker without work waits before it sleeps. Most of them are yields of some 0.4 us.
IDLE_TURNS = 300

DRIVE = Kernel(
    "gt_drive",
    (("table", "i64*"), ("n", "i64"), ("result", "i64*")),
    f"""\
def gt_drive(table, n, result):
    stopped = 0
    i = 0
    while i < n:
        entry = at(table, 4 * i)
        kind = ld(entry, 0)
        a = ld(entry, 1)
        b = ld(entry, 2)
        c = ld(entry, 3)
        i += 1
        times = 0
        if stopped > 0:
            # after STOP_IF: on to the end, only undoing what the loops left half-way have added
            if kind == {END}:
                loop = at(table, 4 * (c - 1))
                times = -ld(loop, 2)
                st(loop, 2, 0)
        elif kind == {CALL}:
            call(a, b)
        elif kind == {BARRIER}:
            epoch = ld(words(c), 0) + 1
            st(words(c), 0, epoch)
            atomic_add(words(a), 1)
            spins = 0
            while atomic_load(words(a)) < b * epoch:
                pause()
                spins += 1
                if spins > {BARRIER_SPINS}:
                    yield_cpu()
        elif kind == {STOP_IF}:
            if ld(words(a), 0) != 0:
                stopped = i
        elif kind == {LOOP}:
            if a <= 0:
                i = c + 1
        elif kind == {END}:
            loop = at(table, 4 * (c - 1))
            done = ld(loop, 2) + 1
            again = done < ld(loop, 1)
            times = select(again, 1, 1 - done)
            i = select(again, c, i)
            st(loop, 2, select(again, done, 0))
        if times != 0:
            pair = words(a)
            for p in range(b):
                word = words(ld(pair, 0))
                st(word, 0, ld(word, 0) + times * ld(pair, 1))
                pair = at(pair, 2)
    st(result, 0, stopped)
""",
)

# `int64_t gt_run(int64_t *table, int64_t n)`: 0 = finished, else the index of the entry that stopped the run,
# plus 1.
RUN_ASSEMBLY = """
declare void @gt_drive(ptr)
define i64 @gt_run(ptr %table, i64 %n) nounwind {
  %args = alloca [3 x i64]
  %result = alloca i64
  %table_word = ptrtoint ptr %table to i64
  %result_word = ptrtoint ptr %result to i64
  %n_at = getelementptr i64, ptr %args, i64 1
  %result_at = getelementptr i64, ptr %args, i64 2
  store i64 %table_word, ptr %args
  store i64 %n, ptr %n_at
  store i64 %result_word, ptr %result_at
  call void @gt_drive(ptr %args)
  %stopped = load i64, ptr %result
  ret i64 %stopped
}
"""

# --- the threads' side: see threads.py ----------------------------------------------------------------------

# A worker's mailbox: MAILBOX_WORDS words, of which these are used. Words 1 to 3 are gt_drive's arguments.
STATE, TABLE, ENTRIES, RESULT_ADDRESS, RESULT = 0, 1, 2, 3, 8
MAILBOX_WORDS = 16
# States: the worker spins for work; it sleeps in Python or is on its way from there; the caller is about to
# post; the worker has work or runs it; it shall end.
IDLE, ASLEEP, CLAIMED, POSTED, STOP = range(5)

WORK = Kernel(
    "gt_work",
    (("mailbox", "i64"), ("drive", "i64"), ("idle_spins", "i64")),
    f"""\
def gt_work(mailbox, drive, idle_spins):
    state = words(mailbox)
    atomic_swap(state, {ASLEEP}, {IDLE})
    spins = 0
    running = True
    while running:
        now = atomic_load(state)
        if now == {POSTED}:
            call(drive, mailbox + 8)
            atomic_store(state, {IDLE})
            spins = 0
        elif now == {STOP}:
            running = False
        else:
            pause()
            spins += 1
            if spins > idle_spins:
                yield_cpu()  # the caller may wait for this very CPU
            if spins > {IDLE_TURNS}:
                running = not atomic_swap(state, {IDLE}, {ASLEEP})
""",
)

# missing: 0 when all threads have run; w when worker w is asleep, and stayed so for `patience` turns, each a
# yield of some 0.4 us. Nothing has been posted then.
TEAM = Kernel(
    "gt_team",
    (("mailboxes", "i64"), ("threads", "i64"), ("drive", "i64"), ("missing", "i64*"), ("patience", "i64")),
    f"""\
def gt_team(mailboxes, threads, drive, missing, patience):
    # First claim all workers, so that none falls asleep while work is posted; then post, run, and wait.
    worker = 1
    turns = 0
    while worker < threads and turns <= patience:
        if atomic_swap(words(mailboxes + {8 * MAILBOX_WORDS} * worker), {IDLE}, {CLAIMED}):
            worker += 1
        else:
            turns += 1
            yield_cpu()
    absent = select(worker < threads, worker, 0)
    post = select(absent == 0, {POSTED}, {IDLE})
    while worker > 1:
        worker -= 1
        atomic_store(words(mailboxes + {8 * MAILBOX_WORDS} * worker), post)
    if absent == 0:
        call(drive, mailboxes + 8)
        worker = 1
        spins = 0
        while worker < threads:
            if atomic_load(words(mailboxes + {8 * MAILBOX_WORDS} * worker)) == {POSTED}:
                pause()
                spins += 1
                if spins > {BARRIER_SPINS}:
                    yield_cpu()
            else:
                worker += 1
    st(missing, 0, absent)
""",
)

KERNELS = (DRIVE, WORK, TEAM)
SYMBOLS = ("gt_run", "gt_drive", "gt_work", "gt_team")
