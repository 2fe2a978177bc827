"""Runs random programs (see fuzz_programs.py) in several ways and holds each to the interpreter.

    python tests/fuzz.py --programs 10000 --seed 0 --mode plain
    python tests/fuzz.py --programs 300 --mode compiled            one, two and three threads, two sizes
    python tests/fuzz.py --programs 100 --mode compiled --order 2  gradients of gradients
    python tests/fuzz.py --programs 1000 --mode torch              the same program, and its gradients, by PyTorch
    python tests/fuzz.py --programs 300 --mode jax                 and by JAX

A program that fails is made small and printed as an entry of tests/passes/test_fuzzed.py.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from fuzz_judge import Expected, compare, expect, named
from fuzz_programs import Program, draw
from fuzz_shrink import paste, shrink
from gradtape.ir.tape import Tape
from gradtape.ir.text import parse, to_text
from gradtape.ir.verify import verify
from gradtape.passes.lower import lower
from tapes import Batch, expanded, run_plainly, sharing_everything, split_values

THREADS = (1, 2, 3)
PEERS = ("torch", "jax")  # that differentiate by themselves
TOO_MANY = 40  # nodes of a program that is worth printing
BATCH = 25  # programs whose kernels are compiled in one object


@dataclass
class Report:
    """What a run has seen."""

    programs: int = 0
    ops: Counter[str] = field(default_factory=Counter)
    judged: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def add(self, program: Program, expected: Expected) -> None:
        self.programs += program.resize is not None  # at another size it is the same
        self.judged.append(expected.judged)
        self.ops.update({n.op for n in program.graph.nodes})

    def __str__(self) -> str:
        share = f"{100 * np.mean(self.judged):.2f} %" if self.judged else "none"
        return (
            f"{self.programs} programs, {len(self.failures)} failed; {len(self.ops)} ops, "
            f"{share} of all numbers compared"
        )


# one program --------------------------------------------------------------------------------------------------------
def checked_tape(program: Program) -> Tape:
    """The tape of a program whose text comes back and whose graphs are well-formed after every pass."""
    graph = program.graph
    again = parse(to_text(graph), graph.constants)
    assert again == graph, "the text does not come back"
    assert to_text(again) == to_text(graph), "the text comes back with other locations"
    if program.forward is not None:
        verify(program.forward)
    return lower(expanded(graph), program.checks)


def run_plain(program: Program, expected: Expected, tape: Tape, threads: int, seed: int = 0) -> None:
    """The tape as plain Python; between two barriers the threads run in a random order."""
    rng = np.random.default_rng(seed)
    inputs, store = split_values(program.graph, program.values)
    try:
        with sharing_everything():
            outputs = run_plainly(tape, inputs, store, threads, lambda turn: [int(t) for t in rng.permutation(threads)])
    except ZeroDivisionError:  # of Python's integers; compiled ones give 0, as NumPy's do
        return
    compare(named(outputs, {n: store[n] for n, _ in program.graph.updates}), expected)
    untouched = {v.name for v in program.graph.inputs} & set(store) - {n for n, _ in program.graph.updates}
    for name in untouched:
        np.testing.assert_array_equal(store[name], program.values[name], err_msg=f"{name} has been written to")


def run_compiled(program: Program, expected: Expected, tape: Tape, batch: Batch, threads: int) -> None:
    inputs, store = split_values(program.graph, program.values)
    with sharing_everything():
        outputs = batch.program(tape, store, threads).run(inputs)
    compare(named(outputs, {n: store[n] for n, _ in program.graph.updates}), expected)


def at_both_sizes(program: Program) -> Iterator[Program]:
    """The program, and itself for other values of its symbols, if it has any and a meaning there."""
    yield program
    if not program.graph.symbols or program.resize is None:
        return
    rng = np.random.default_rng(len(program.graph.nodes))
    sizes = {name: int(rng.integers(1, 9)) for name in program.graph.symbols}
    other = replace(program, values=program.resize(sizes), resize=None)
    try:
        results = expect(other.graph, other.values).results.values()
    except (IndexError, ValueError):  # an index that was drawn for a longer table; a maximum of no elements
        return
    if all(np.isfinite(v).all() for v in results):
        yield other


def plainly(program: Program) -> Expected:
    """Everything that a program is tried on without compiling it."""
    seed = len(program.graph.nodes)
    expected = expect(program.graph, program.values)
    run_plain(program, expected, checked_tape(program), THREADS[seed % len(THREADS)], seed)
    return expected


def compiled(program: Program) -> Expected:
    """One program compiled by itself; what `compiled_together` does for many."""
    batch = Batch()
    tape = batch.add(checked_tape(program))
    expected = expect(program.graph, program.values)
    for threads in THREADS:
        run_compiled(program, expected, tape, batch, threads)
    return expected


# many programs ------------------------------------------------------------------------------------------------------
Failed = tuple[Program, Exception, Callable[[Program], Any]]  # the last: what fails on it, by itself


def one_by_one(programs: Iterable[Program], check: Callable[[Program], Expected], report: Report) -> Iterator[Failed]:
    for drawn in programs:
        for program in at_both_sizes(drawn):
            try:
                report.add(program, check(program))
            except Exception as error:
                yield program, error, check
                break


def compiled_together(programs: Iterable[Program], report: Report) -> Iterator[Failed]:
    """Values, gradients and updates by compiled kernels, on one, two and three threads, and at a second size."""
    batch, tapes = Batch(), []
    for program in programs:
        try:
            tapes.append((program, batch.add(checked_tape(program))))
        except Exception as error:
            yield program, error, plainly
    try:
        batch.compile()
    except Exception:  # one of the kernels: by itself, its program will say which
        yield from one_by_one((drawn for drawn, _ in tapes), compiled, report)
        return
    for drawn, tape in tapes:
        for program in at_both_sizes(drawn):
            try:
                expected = expect(program.graph, program.values)
                for threads in THREADS:
                    run_compiled(program, expected, tape, batch, threads)
                report.add(program, expected)
            except Exception as error:
                yield program, error, compiled
                break


def kind_of(error: Exception) -> tuple[str, ...]:
    """Two failures of one kind are taken for the same: its type, and for what is no wrong number also the place."""
    if type(error).__name__ == "Disagreement":
        return ("Disagreement",)
    last = traceback.extract_tb(error.__traceback__)[-1]
    return type(error).__name__, last.filename, str(last.lineno)


def minimal(failed: Failed) -> str:
    """The smallest program found that fails in the same way, to be pasted into tests/passes/test_fuzzed.py."""
    program, error, check = failed
    kind = kind_of(error)
    if program.forward is not None and check not in (plainly, compiled):
        program = replace(program, graph=program.forward)  # it is differentiated anew each time

    def fails(candidate: Program) -> bool:
        try:
            check(candidate)
        except Exception as found:
            return kind_of(found) == kind
        return False

    small = shrink(program, fails, 1500 if check is not compiled else 150)
    fact = f"{type(error).__name__}: {error}".splitlines()[0][:100].replace('"', "'")
    if len(small.graph.nodes) > TOO_MANY:
        where = "".join(traceback.format_tb(error.__traceback__)[-2:])
        return f"{program.name}: {fact}\n{where}  {len(small.graph.nodes)} nodes: it could not be made small"
    return f"{program.name}: {fact}\n{paste(small, fact)}"


def say_at_once(text: str) -> None:
    print(text, flush=True)  # noqa: T201


def run(
    mode: str,
    seeds: Iterable[int],
    report: Report,
    shrinks: int = 5,
    say: Callable[[str], None] = say_at_once,
    **how: Any,
) -> Report:
    """Draws and checks the programs of `seeds`; failures are made small (the first `shrinks` of them) and reported."""
    seeds = list(seeds)
    width = BATCH if mode == "compiled" else 1
    started = said = time.monotonic()
    for start in range(0, len(seeds), width):
        block = seeds[start : start + width]
        if mode in PEERS:
            peer = importlib.import_module(f"fuzz_{mode}")
            programs = [draw(s, ops=peer.OPS_KNOWN, **how) for s in block]
            failed = one_by_one(programs, getattr(peer, f"by_{mode}"), report)
        elif mode == "compiled":
            scales = ("small", "large")
            failed = compiled_together([draw(s, scale=scales[s % 2], **how) for s in block], report)
        else:
            failed = one_by_one([draw(s, **how) for s in block], plainly, report)
        for found in failed:
            short = f"{found[0].name}: {type(found[1]).__name__}: {found[1]}"
            text = minimal(found) if len(report.failures) < shrinks else short
            report.failures.append(text)
            say(text)
        if time.monotonic() - said > 30:
            said = time.monotonic()
            say(f"... {start + len(block)} of {len(seeds)} in {said - started:.0f} s: {report}")
    return report


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0, help="of the first program; the others follow")
    parser.add_argument("--mode", choices=("plain", "compiled", *PEERS), default="plain")
    parser.add_argument("--order", type=int, choices=(1, 2), default=1, help="2: gradients of gradients as well")
    parser.add_argument("--most", type=int, default=60, help="nodes of a program before differentiation")
    given = parser.parse_args(argv)
    started = time.monotonic()
    report = run(
        given.mode, range(given.seed, given.seed + given.programs), Report(), order=given.order, most=given.most
    )
    say_at_once(f"{report}, {time.monotonic() - started:.0f} s")
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
