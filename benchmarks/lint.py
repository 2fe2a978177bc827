"""What the lint costs, for GPTs of the sizes of step.py and for a GRU.

    python benchmarks/lint.py [XS S M L GRU] [--rounds N]

"trace" is what compile does anyhow; S, K and T is what it adds to that, its first time in a process (derivative rules
are recorded then) and later on; D and G are what gt.lint adds, for a batch of 2 and a length of 8. Milliseconds of CPU
time: the median, and the least, of some rounds.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import numpy as np
from recipe import CONFIGS, gradtape_model

import gradtape as gt
from gradtape.evidence import Subject, evidence_of, probe, retraces
from gradtape.linting import CHEAP, program_of, report_on

SMALL = 2, 8
WHAT = ("trace", "S, K, T first", "S, K, T", "S", "K", "T", "D", "G", "gt.lint, all layers")


class Recurrent(gt.Module):
    """A GRU over letters, as `gradtape train --model gru` has it."""

    def __init__(self) -> None:
        self.table = gt.nn.Embedding(65, 64)
        self.gru = gt.nn.GRU(64, 128, batch_first=True)
        self.head = gt.nn.Linear(128, 65)

    def forward(self, ids: Any) -> Any:
        return self.head(self.gru(self.table(ids))[0])


def subject(size: str, batch: int, length: int) -> Subject:
    model = Recurrent() if size == "GRU" else gradtape_model(CONFIGS[size])
    ids = np.random.default_rng(0).integers(0, 65, (2, batch, length))
    return Subject(model, gt.cross_entropy, gt.AdamW(lr=1e-3), tuple(ids))


def full(size: str) -> Subject:
    config = CONFIGS.get(size, CONFIGS["S"])
    return subject(size, config.batch, config.length)


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    result = run()
    return 1e3 * (time.process_time() - start), result


def one_round(size: str) -> dict[str, float]:
    """Every figure once, on models and traces of their own: what is known of one trace is not known of the next."""
    told: dict[str, float] = {}
    whole, small = full(size), subject(size, *SMALL)
    told["trace"] = timed(whole.trace)[0]
    told["S, K, T"], report = judged(whole, CHEAP)
    assert report.ok
    told.update({layer: judged(whole, (layer,))[0] for layer in CHEAP})
    traced = small.trace()
    alive = [p for p, _ in small.model.named_parameters()]  # type: ignore[union-attr]
    told["D"] = timed(lambda: retraces(small, traced))[0]
    told["G"] = timed(lambda: probe(small, traced, alive))[0]
    told["gt.lint, all layers"] = timed(lambda: gt.lint(small.model, *small.example, loss=small.loss))[0]
    return told


def judged(given: Subject, layers: Sequence[str]) -> tuple[float, Any]:
    """These layers on a trace of their own."""
    traced = given.trace()
    graph, loss = program_of(traced, "step")
    return timed(lambda: report_on(evidence_of(traced, graph, loss, given.model, given.optimizer), layers))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sizes", nargs="*", default=["S", "M", "GRU"])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--first", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.first:
        print(judged(full(given.first), CHEAP)[0])
        return
    print("| size |", *(f"{name} |" for name in WHAT))
    print("|", " --- |" * (len(WHAT) + 1))
    for size in given.sizes:
        rounds = [one_round(size) for _ in range(given.rounds + 1)][1:]
        command = [sys.executable, __file__, "--first", size]
        first = [float(subprocess.check_output(command, text=True)) for _ in range(min(given.rounds, 5))]
        found = {name: [r[name] for r in rounds] for name in rounds[0]} | {"S, K, T first": first}
        print(f"| {size} |", *(f"{median(found[n]):.1f} ({min(found[n]):.1f}) |" for n in WHAT))


if __name__ == "__main__":
    main()
