"""The driver's tables, run compiled and as plain Python."""

import ctypes
import threading

import numpy as np
import pytest

from gradtape.runtime import driver
from gradtape.runtime.driver import BARRIER, CALL, END, LOOP, STOP_IF
from gradtape.runtime.kernel import Kernel
from gradtape.runtime.primitives import run_plain, words

# Appends its argument to a log: log[0] counts, log[1:] are the values.
NOTE = Kernel(
    "t_note",
    (("log", "i64*"), ("value", "i64")),
    """\
def t_note(log, value):
    n = ld(log, 0) + 1
    st(log, 0, n)
    st(log, n, value)
""",
)


COUNT = Kernel("t_count", (("mine", "i64*"),), "def t_count(mine):\n    st(mine, 0, ld(mine, 0) + 1)\n")
COMPARE = Kernel(
    "t_compare",
    (("mine", "i64*"), ("theirs", "i64*"), ("wrong", "i64*")),
    """\
def t_compare(mine, theirs, wrong):
    if ld(mine, 0) != ld(theirs, 0):
        st(wrong, 0, ld(wrong, 0) + 1)
""",
)


@pytest.fixture(scope="module")
def code(library):
    return library([NOTE, COUNT, COMPARE])


@pytest.fixture(params=["compiled", "plain"])
def drive(request, code):
    """drive(table) -> 0 or the number of the entry that stopped it; and the kernel's address."""
    if request.param == "compiled":
        run = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64)(code.address["gt_run"])
        return (lambda table: run(table.ctypes.data, len(table))), code.address["t_note"]

    def note(args: int) -> None:
        log, value = words(args).array[:2]
        run_plain(NOTE, [words(int(log)), value])

    def plain(table: np.ndarray) -> int:
        result = np.zeros(1, np.int64)
        run_plain(driver.DRIVE, [table.reshape(-1), len(table), result], calls={4711: note})
        return int(result[0])

    return plain, 4711


class Program:
    """A table under construction, with the memory that it points to."""

    def __init__(self, kernel: int) -> None:
        self.kernel = kernel
        self.entries: list[list[int]] = []
        self.keep: list[np.ndarray] = []
        self.log = np.zeros(2000, np.int64)

    def words(self, *values: int) -> np.ndarray:
        self.keep.append(np.array(values, np.int64))
        return self.keep[-1]

    def note(self, value: int) -> np.ndarray:
        """A call that logs value; returns its argument words."""
        args = self.words(self.log.ctypes.data, value)
        self.entries.append([CALL, self.kernel, args.ctypes.data, 0])
        return args

    def loop(self, count: int) -> int:
        self.entries.append([LOOP, count, 0, -1])
        return len(self.entries) - 1

    def end(self, loop: int, *pairs: tuple[np.ndarray, int]) -> None:
        """Close a loop; a pair is (argument words whose word 1 moves, delta)."""
        table = self.words(*(v for args, delta in pairs for v in (args.ctypes.data + 8, delta)))
        self.entries[loop][3] = len(self.entries)
        self.entries.append([END, table.ctypes.data, len(pairs), loop + 1])

    def stop_if(self) -> np.ndarray:
        flag = self.words(0)
        self.entries.append([STOP_IF, flag.ctypes.data, 0, 0])
        return flag

    def table(self) -> np.ndarray:
        return np.array(self.entries, np.int64).reshape(-1, 4)

    def logged(self) -> list[int]:
        values = self.log[1 : 1 + self.log[0]].tolist()
        self.log[0] = 0
        return values


@pytest.fixture
def program(drive):
    return Program(drive[1])


def test_calls_run_in_order(drive, program):
    for value in (3, 1, 2):
        program.note(value)
    assert drive[0](program.table()) == 0
    assert program.logged() == [3, 1, 2]
    assert drive[0](np.zeros((0, 4), np.int64)) == 0


def test_a_loop_moves_its_arguments_and_puts_them_back(drive, program):
    loop = program.loop(4)
    first, second = program.note(10), program.note(100)
    program.end(loop, (first, 1), (second, -20))
    program.note(7)
    table = program.table()
    for _ in range(2):
        assert drive[0](table) == 0
        assert program.logged() == [10, 100, 11, 80, 12, 60, 13, 40, 7]
        assert (first[1], second[1]) == (10, 100)


@pytest.mark.parametrize("count", [0, -1, 1])
def test_short_loops(drive, program, count):
    loop = program.loop(count)
    args = program.note(5)
    program.end(loop, (args, 1))
    program.note(6)
    assert drive[0](program.table()) == 0
    assert program.logged() == ([5] if count == 1 else []) + [6]
    assert args[1] == 5


def test_nested_loops_move_the_same_word(drive, program):
    outer = program.loop(3)
    args = program.note(0)
    inner = program.loop(2)
    args = program.note(0)
    program.end(inner, (args, 1))
    program.end(outer, (args, 10))
    assert drive[0](program.table()) == 0
    assert program.logged() == [0, 0, 1, 0, 10, 11, 0, 20, 21]
    assert args[1] == 0


def test_loops_nest_deeply(drive, program):
    loops = [program.loop(2) for _ in range(9)]
    args = program.note(0)
    for depth, loop in enumerate(reversed(loops)):
        program.end(loop, (args, 2**depth))
    assert drive[0](program.table()) == 0
    assert program.logged() == list(range(2**9))
    assert args[1] == 0


def test_stop_if(drive, program):
    program.note(1)
    flag = program.stop_if()
    program.note(2)
    table = program.table()
    assert drive[0](table) == 0
    flag[0] = -5
    assert drive[0](table) == 2
    assert program.logged() == [1, 2, 1]


def test_stopping_inside_loops_puts_their_arguments_back(drive, program):
    """The flag is one of the words that a loop moves: it becomes 0 -> 1 in the inner loop's second turn."""
    outer = program.loop(3)
    before = program.note(0)
    inner = program.loop(3)
    args = program.note(0)
    flag = program.words(0, 0)
    program.entries.append([STOP_IF, flag.ctypes.data + 8, 0, 0])
    stop = len(program.entries)
    program.end(inner, (args, 1))
    late = program.note(50)
    program.end(outer, (before, 5), (args, 10), (flag, 1))
    done = program.loop(2)
    program.end(done, (late, 1))
    table = program.table()
    for _ in range(2):
        assert drive[0](table) == stop
        assert program.logged() == [0, 0, 1, 2, 50, 5, 10]
        assert (before[1], args[1], flag[1], late[1]) == (0, 0, 0, 50)


def test_a_barrier_holds_until_all_are_there(code):
    """Each thread counts, meets the others, compares its count with its neighbour's, and meets them again."""
    rounds, n = 2000, 3
    line, epochs = np.zeros(8, np.int64), np.zeros(8 * n, np.int64)
    counts, wrong = np.zeros((n, 8), np.int64), np.zeros((n, 8), np.int64)
    programs = [Program(0) for _ in range(n)]
    for me, program in enumerate(programs):
        neighbour = counts[(me + 1) % n]
        count = program.words(counts[me].ctypes.data)
        compare = program.words(counts[me].ctypes.data, neighbour.ctypes.data, wrong[me].ctypes.data)
        barrier = [BARRIER, line.ctypes.data, n, epochs[8 * me :].ctypes.data]
        loop = program.loop(rounds)
        program.entries.append([CALL, code.address["t_count"], count.ctypes.data, 0])
        program.entries.append(barrier)
        program.entries.append([CALL, code.address["t_compare"], compare.ctypes.data, 0])
        program.entries.append(barrier)
        program.end(loop)
    tables = [program.table() for program in programs]
    run = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64)(code.address["gt_run"])
    results: list[int | None] = [None] * n

    def work(me: int) -> None:
        results[me] = run(tables[me].ctypes.data, len(tables[me]))

    threads = [threading.Thread(target=work, args=(me,), daemon=True) for me in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert results == [0] * n
    assert (counts[:, 0] == rounds).all()
    assert not wrong.any()
    assert line[0] == 2 * n * rounds
