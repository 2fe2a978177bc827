"""Teams of threads: steps that meet at barriers, and everything that may happen around them."""

import gc
import os
import subprocess
import sys
import threading
import time
import weakref

import numpy as np
import pytest

from gradtape.runtime.driver import BARRIER, CALL, STOP_IF
from gradtape.runtime.kernel import Kernel
from gradtape.runtime.loader import Loaded
from gradtape.runtime.threads import ThreadTeam, aligned_words

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
    return library([COUNT, COMPARE])


class Step:
    """Each of n threads counts up, waits for the others, and compares its count with its neighbour's."""

    def __init__(self, n, code):
        self.line, self.epochs = aligned_words(8), aligned_words(8 * n)
        self.counts, self.wrong = (aligned_words(8 * n).reshape(n, 8) for _ in range(2))
        self.flag = np.zeros(1, np.int64)
        self.keep, self.tables = [], []
        for me in range(n):
            addresses = [self.counts[i].ctypes.data for i in (me, (me + 1) % n)] + [self.wrong[me].ctypes.data]
            args = np.array(addresses, np.int64)
            barrier = [BARRIER, self.line.ctypes.data, n, self.epochs[8 * me :].ctypes.data]
            table = np.array(
                [
                    [CALL, code.address["t_count"], args.ctypes.data, 0],
                    barrier,
                    [CALL, code.address["t_compare"], args.ctypes.data, 0],
                    [STOP_IF, self.flag.ctypes.data, 0, 0],
                    barrier,
                ],
                np.int64,
            )
            self.keep += [args, table]
            self.tables.append((table.ctypes.data, len(table)))

    def check(self, runs):
        assert self.counts[:, 0].tolist() == [runs] * len(self.counts)
        assert not self.wrong.any()


@pytest.fixture
def team(code):
    made = []

    def make(n):
        made.append(ThreadTeam(n, code))
        return made[-1]

    yield make
    for each in made:
        each.close()


def workers():
    return [thread for thread in threading.enumerate() if thread.name.startswith("gradtape-")]


@pytest.mark.parametrize(("n", "runs"), [(1, 1000), (2, 10_000), (3, 2_000)])
def test_many_runs(code, team, n, runs):
    step, it = Step(n, code), team(n)
    for _ in range(runs):
        assert it.run(step.tables) == [0] * n
    step.check(runs)


def test_runs_after_pauses_of_all_lengths(code, team):
    """Workers are found spinning, about to sleep, and asleep."""
    step, it = Step(2, code), team(2)
    rng = np.random.default_rng(0)
    for pause in rng.uniform(0, 4e-4, 2000):
        until = time.perf_counter() + pause
        while time.perf_counter() < until:
            pass
        assert it.run(step.tables) == [0, 0]
    step.check(2000)


def test_one_thread_starts_none(code, team):
    before = workers()
    step = Step(1, code)
    team(1).run(step.tables)
    assert workers() == before


def test_stop_if_is_seen_by_all(code, team):
    step, it = Step(2, code), team(2)
    step.flag[0] = 1
    assert it.run(step.tables) == [4, 4]
    step.flag[0] = 0
    assert it.run(step.tables) == [0, 0]
    step.check(2)


def test_teams_take_turns_and_run_at_once(code, team):
    steps = [Step(n, code) for n in (2, 3)]
    teams = [team(2), team(3)]
    for _ in range(300):
        for step, it in zip(steps, teams, strict=True):
            it.run(step.tables)

    def work(step, it):
        for _ in range(300):
            it.run(step.tables)

    callers = [threading.Thread(target=work, args=pair) for pair in zip(steps, teams, strict=True)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    for step in steps:
        step.check(600)


def test_a_second_caller_waits(code, team):
    step, it = Step(2, code), team(2)
    callers = [threading.Thread(target=lambda: [it.run(step.tables) for _ in range(500)]) for _ in range(3)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    step.check(1500)


def test_changing_tables(code, team):
    it = team(2)
    steps = [Step(2, code) for _ in range(2)]
    for _ in range(100):
        for step in steps:
            it.run(step.tables)
    for step in steps:
        step.check(100)
    with pytest.raises(ValueError, match="3 tables for a team of 2"):
        it.run([*steps[0].tables, steps[0].tables[0]])


def test_a_single_table_runs_on_the_caller(code, team):
    it, step = team(2), Step(1, code)
    before = threading.active_count()
    assert it.run(step.tables) == [0]
    step.check(1)
    assert threading.active_count() == before


def test_closing_and_collecting_end_the_threads(code, team):
    step, it = Step(2, code), team(2)
    it.run(step.tables)
    own = workers()
    assert len(own) == 1
    it.close()
    assert not own[0].is_alive()
    it.close()
    it.run(step.tables)  # starts anew
    step.check(2)
    it.close()

    for pause in (0, 0.01):  # collected while its worker spins, and while it sleeps
        lost = ThreadTeam(2, code)
        lost.run(step.tables)
        time.sleep(pause)
        own, reference = workers(), weakref.ref(lost)
        del lost
        gc.collect()
        assert reference() is None
        assert len(own) == 1
        own[0].join(10)
        assert not own[0].is_alive()


def test_a_team_needs_the_driver_and_a_thread(code):
    with pytest.raises(ValueError, match="at least one thread, not 0"):
        ThreadTeam(0, code)

    bare = Loaded({"gt_run": 1}, code._tracker, code._jit)
    with pytest.raises(ValueError, match="lacks the driver's symbols gt_drive, gt_work, gt_team"):
        ThreadTeam(2, bare)


def test_aligned_words():
    for count in (1, 8, 100):
        words = aligned_words(count)
        assert words.shape == (count,) and not words.any()
        assert words.ctypes.data % 64 == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # Python 3.12 on fork with threads
@pytest.mark.parametrize("pause", [0, 0.01])
def test_the_child_of_a_fork_starts_its_own_threads(code, team, pause):
    step, it = Step(2, code), team(2)
    it.run(step.tables)
    time.sleep(pause)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            for _ in range(50):
                it.run(step.tables)
            step.check(51)
            it.close()
            status = 0
        finally:
            os._exit(status)
    for _ in range(50):
        it.run(step.tables)
    step.check(51)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


SCRIPT = """
import importlib.util, os, signal, sys, threading, time
import numpy as np
from gradtape.runtime import loader, threads
spec = importlib.util.spec_from_file_location("test_threads", sys.argv[1])
tests = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tests)
with open(sys.argv[2], "rb") as file:
    code = loader.load(file.read(), ["t_count", "t_compare", "gt_run", "gt_drive", "gt_work", "gt_team"])
team = threads.ThreadTeam(2, code)
step = tests.Step(2, code)
"""

ENDINGS = {
    "spinning": "for _ in range(100): team.run(step.tables)",
    "sleeping": "team.run(step.tables); time.sleep(0.02)",
    "never started": "",
    "raising": "team.run(step.tables); raise SystemExit(0)",
    "at exit": "import atexit; atexit.register(team.run, step.tables); team.run(step.tables)",
    "running in a daemon": """
def forever():
    while True:
        team.run(step.tables)
threading.Thread(target=forever, daemon=True).start()
time.sleep(0.05)
""",
}


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    from gradtape.runtime import jit

    path = tmp_path_factory.mktemp("threads") / "code.o"
    path.write_bytes(jit.compile_object([COUNT, COMPARE]))

    def run(text, **options):
        command = [sys.executable, "-c", SCRIPT + text + "\nprint('end')", __file__, str(path)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, **options)

    return run


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_interpreter_exits(script, ending):
    done = script(ENDINGS[ending])
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout == ("" if ending == "raising" else "end\n")


def test_an_interrupt_leaves_nothing_half_done(script):
    """SIGINT at all moments: each run has either not begun or is complete, and the next one works."""
    done = script("""
def send():
    ready.wait()
    rng = np.random.default_rng(0)
    sent, end = 0, time.monotonic() + 30
    while sent < 500 or (hits == 0 and time.monotonic() < end):  # on a busy machine the others may have had no turn
        time.sleep(rng.uniform(0, 2e-3))
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        sent += 1
    finished.set()
ready, finished = threading.Event(), threading.Event()
hits = 0
sender = threading.Thread(target=send)
sender.start()
while not finished.is_set():
    try:
        ready.set()
        for i in range(200):
            team.run(step.tables)
            if i % 20 == 0:
                time.sleep(2e-4)  # let the worker fall asleep: waking it is the long way
    except KeyboardInterrupt:
        hits += 1
signal.signal(signal.SIGINT, signal.SIG_IGN)
sender.join()
team.run(step.tables)
step.check(int(step.counts[0, 0]))
assert hits > 0, hits
""")
    assert done.stdout == "end\n", done.stderr


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no CPU affinity")
def test_one_cpu(script):
    done = script("""
os.sched_setaffinity(0, list(os.sched_getaffinity(0))[:1])
assert threads.available_cpus() == 1
start = time.perf_counter()
for _ in range(1000):
    team.run(step.tables)
time.sleep(0.01)
team.run(step.tables)
step.check(1001)
""")
    assert done.stdout == "end\n", done.stderr
