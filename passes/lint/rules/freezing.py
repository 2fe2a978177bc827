"""Group F: control flow and side effects that tracing has frozen."""

from __future__ import annotations

from collections.abc import Iterator

from ..branches import branches, is_passed_over, only_elsewhere
from ..evidence import Change, Evidence
from ..finding import Finding, Site
from ..rule import rule


@rule("GT-F01", "error", "T", "a branch on a traced value")
def frozen_branch(e: Evidence) -> Iterator[Finding]:
    """`if` and `while` need a number now, and the program that is recorded has only the arm that the example took:
    other data, and later weights, take it too. An `assert`, or an `if` that only raises, checks the example, and is
    fine.

    Broken:
        if h.sum() > 0:
            h = h * 2.0

    Right:
        h = gt.where(h.sum() > 0, h * 2.0, h)
    """
    for branch in branches(e):
        if branch.kind in DECIDED:
            fact, fix = DECIDED[branch.kind]
            yield frozen_branch.finding(
                branch.site,
                f"{fact}, whatever the data",
                "Python decided with the numbers of the example, and the program holds what it decided",
                fix,
                only_elsewhere(e, branch),
                severity="warning" if branch.kind == "choice" else "",
            )


DECIDED = {
    "if": (
        "a branch on a traced value is taken as for the example",
        "gt.where(condition, a, b), with both arms traced",
    ),
    "while": ("a loop on a traced value runs as often as for the example", "gt.scan over a fixed number of steps"),
    "choice": (
        "one of several values is chosen as for the example",
        "np.maximum(a, b), gt.max over a stack, gt.where: they choose in every call",
    ),
}


@rule("GT-F02", "info", "D", "traced anew for every batch size")
def pinned_batch(e: Evidence) -> Iterator[Finding]:
    """A line needs the number behind the batch size (`len(x)`, `int(x.shape[0])`, a comparison). The program is then
    valid for that size alone: another one is traced again, so the numbers stay right, at the price of a compilation.

    Broken:
        return x.sum(0) / len(x)

    Right:
        return x.mean(0)  # or x.sum(0) / x.shape[0]
    """
    if any(f.code in RAW for f in e.explained):  # an array that was made of the example has its size
        return
    for pinned in e.retraces.batch if e.retraces else ():
        file, _, line = pinned.where.rpartition(":")
        yield pinned_batch.finding(
            Site(file, int(line) if line.isdigit() else 0),
            f"the program holds for {pinned.fact} only, and is traced anew for other sizes",
            "Python needs the number behind a size here",
            "x.shape[0] as it is, without int() or len(): sizes may stay symbolic",
        )


RAW = ("GT-A01", "GT-A02", "GT-A04", "GT-A07", "GT-A08", "GT-B03", "GT-B04", "GT-B05", "GT-F04")


@rule("GT-F03", "warning", "D", "a Python number that changes from call to call")
def frozen_number(e: Evidence) -> Iterator[Finding]:
    """Two traces with the same inputs have other numbers, or take other ways: forward reads a counter, a schedule or a
    clock. A compiled program keeps what it saw first.

    Broken:
        self.calls += 1
        return x * min(1.0, self.calls / 100)

    Right:
        def forward(self, x, scale): return x * scale  # an argument is a value of every call
    """
    for change in e.retraces.again or () if e.retraces else ():
        if change.structure or _is_number(e, change):
            yield frozen_number.finding(
                change.site,
                "this is another number in every trace" if not change.structure else "two traces part ways here",
                "forward depends on Python state that changes between calls; the program keeps what it saw first",
                "pass it as an argument, or keep it in a gt.buffer",
            )


@rule("GT-F04", "error", "D", "random numbers that are frozen")
def frozen_randomness(e: Evidence) -> Iterator[Finding]:
    """Two traces with the same inputs hold other arrays: forward draws from NumPy's generator. A compiled program keeps
    the draw of its trace: the same elements are dropped for ever.

    Broken:
        mask = np.random.rand(*x.shape) > 0.5
        return x * mask

    Right:
        return gt.dropout(x, 0.5)  # or gt.uniform(...): another draw in every step, from a seed
    """
    for change in e.retraces.again or () if e.retraces else ():
        if not change.structure and not _is_number(e, change):
            yield frozen_randomness.finding(
                change.site,
                "this array is another one in every trace, and a constant of the compiled program",
                "it comes from NumPy's random generator, or from a clock",
                "gt.dropout, gt.uniform: they draw anew in every step",
            )


def _is_number(e: Evidence, change: Change) -> bool:
    """Whether what differs is a Python number that a node reads, not an array."""
    node = e.flow.producer.get(change.value)
    return node is not None and node.op != "constant"


@rule("GT-F05", "warning", "T", "state that only Python keeps")
def lost_state(e: Evidence) -> Iterator[Finding]:
    """`self.x = <traced value>` runs once, while the program is traced: the compiled program does not update it. What
    is kept from call to call is a buffer.

    Broken:
        self.running_mean = np.zeros(8, "f4")  # in __init__
        self.running_mean = 0.9 * self.running_mean + 0.1 * h.mean(0)  # in forward

    Right:
        self.running_mean = gt.buffer(np.zeros(8, "f4"))  # in __init__; forward stays as it is
    """
    state = {(s.module, s.name) for s in e.crossings.stores if s.held_numbers}
    for store in e.crossings.stores:
        name, is_state = f"{store.module}.{store.name}".lstrip("."), (store.module, store.name) in state
        yield lost_state.finding(
            Site.of(store),
            f"{name} is assigned a traced value: the compiled program will not update it",
            "the assignment runs once, while the program is traced"
            if is_state
            else "the value belongs to this trace, and is gone when it has ended",
            f"self.{store.name} = gt.buffer(...) in __init__"
            if is_state
            else "return it from forward, where it is needed outside",
            severity="warning" if is_state else "info",
        )


@rule("GT-F06", "error", "T", "an error of the tracer that was caught")
def swallowed(e: Evidence) -> Iterator[Finding]:
    """`try: ... except Exception: ...` around model code hides what the tracer says, and what is done instead may have
    no gradient.

    Broken:
        try:
            h = gt.tanh(h @ self.w)
        except Exception:
            h = gt.tensor(np.tanh(h.data @ self.w.data))

    Right:
        h = gt.tanh(h @ self.w)
    """
    for refusal in e.crossings.refusals:
        cut = [r for r in e.crossings.reentries if r.file == refusal.file and r.line >= refusal.line]
        yield swallowed.finding(
            Site.of(refusal),
            "an error of the tracer was caught here, and the program went on without it",
            refusal.message.splitlines()[0],
            "mend what it says, and catch only the exceptions that are expected",
            severity="error" if cut else "warning" if is_passed_over(Site.of(refusal)) else "info",
        )
