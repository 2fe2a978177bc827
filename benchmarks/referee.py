"""The referee: the same training step by several contestants, in turn within one run.

Every contestant lives in a process of its own and is asked for one chunk of steps at a time, so that thread pools do
not meet. Weights and batches are the same; the first five losses must agree to 1e-4. A chunk in which other processes
took more than a tenth of the machine is thrown away. A benchmark is a script that calls `main` with a function
`contestant(name, config, threads) -> (run, batches)`: `run` takes a list of batches and returns their losses.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

Play = Callable[[str, str, int], tuple[Callable[[list], list], Any]]
MODULES = {"gradtape": "gradtape", "products": "gradtape", "torch": "torch", "torch.compile": "torch", "jax": "jax"}


# a contestant's process ---------------------------------------------------------------------------------------------
def serve(run: Callable[[list], list], batches: Any, memory: Callable[[], float] | None = None) -> None:
    """Answers every line `n` on stdin with n steps: seconds, CPU seconds, losses, and memory in MiB, the peak of the
    process if nothing else is given."""
    position = 0
    for line in sys.stdin:
        count = int(line)
        chosen = [batches[(position + i) % len(batches)] for i in range(count)]
        position += count
        cpu, start = time.process_time(), time.perf_counter()
        losses = run(chosen)
        seconds = time.perf_counter() - start
        answer = {"seconds": seconds / count, "wall": seconds, "cpu": time.process_time() - cpu}
        print(json.dumps({**answer, "losses": losses, "memory": (memory or peak_memory)()}), flush=True)


def peak_memory() -> float:
    """The most that this process has held, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def products_only(step, batch):
    """Runs only the matrix products and convolutions of a step, where they lie in the arena and with the barriers that
    they need."""
    from gradtape.runtime import bind

    step(*batch)
    variant, inputs = step._prepare("step", True, batch)
    program = variant.program
    for name, _, value_type in program.tape.inputs:
        if name.startswith("optimizer.") and value_type.shape == ():
            inputs[name] = np.zeros((), np.float32)
    bound = program.bind(inputs)
    bound.ready(program)
    kept = ("gemm", "thin_gemm", "conv")
    entries = [
        dataclasses.replace(e, barrier=False) if isinstance(e, bind.Call) else e
        for e in bound.plan.entries
        if isinstance(e, (bind.Open, bind.Close)) or (isinstance(e, bind.Call) and e.instr.kernel.startswith(kept))
    ]
    bind.place_barriers(program.tape, entries, bound.plan.threads, bound.plan.sizes)
    plan = dataclasses.replace(bound.plan, entries=entries)
    tables = bind.build_tables(program.tape, plan, program.addresses(bound), program.error.ctypes.data)

    def run(batches):
        for _ in batches:
            program.team.run(tables.entries)
        return []

    return run


# the referee --------------------------------------------------------------------------------------------------------
class Contestant:
    def __init__(self, script: str, name: str, config: str, threads: int) -> None:
        self.name, self.seconds, self.thrown, self.memory, self.cpu = name, [], 0, 0.0, 0.0
        self.cache = tempfile.TemporaryDirectory()  # empty, so that a cold start is one; start.py has the others
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "JAX_PLATFORMS": "cpu"}
        environment["GRADTAPE_CACHE_DIR"] = str(Path(self.cache.name) / "cache")
        start = time.perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, script, "--worker", name, config, str(threads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip
        self.losses = self.ask(1)["losses"]
        self.cold = time.perf_counter() - start
        for _ in range(4):
            self.losses += self.ask(1)["losses"]

    def ask(self, count: int) -> dict:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def chunk(self, count: int) -> float | None:
        """Seconds a step, or None where other processes disturbed it."""
        before = busy_seconds()
        answer = self.ask(count)
        others = busy_seconds() - before - answer["cpu"]
        self.memory, self.cpu = answer["memory"], answer["cpu"]
        if others > 0.1 * answer["wall"] * (os.cpu_count() or 1) + 0.02:
            self.thrown += 1
            return None
        return answer["seconds"]

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()
        self.cache.cleanup()


def busy_seconds() -> float:
    """CPU seconds that the machine has spent on anything."""
    fields = list(map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]))
    return (sum(fields[:3]) + sum(fields[5:8])) / os.sysconf("SC_CLK_TCK")


def compare(script: str, config: str, names: list[str], rounds: int, threads: int, chunk: int) -> list[str]:
    contestants = [Contestant(script, name, config, threads) for name in names]
    trained = [c for c in contestants if c.name != "products"]
    reference = trained[0].losses
    for c in trained:
        worst = max(abs(a - b) / abs(b) for a, b in zip(c.losses, reference, strict=True))
        print(f"{config} {c.name}: first losses {', '.join(f'{v:.5f}' for v in c.losses)}, differ by {worst:.1e}")
        if worst > 1e-4:
            raise SystemExit(f"{config}: {c.name} and {trained[0].name} do not compute the same step")
    ratios: dict[str, list[float]] = {name: [] for name in names}
    for c in contestants:
        c.ask(chunk)
    for _ in range(rounds):
        found = {c.name: c.chunk(chunk) for c in contestants}
        for c in contestants:
            value = found[c.name]
            if value is not None:
                c.seconds.append(value)
                if found["gradtape"] is not None:
                    ratios[c.name].append(value / found["gradtape"])
    rows = []
    for c in contestants:
        c.end()
        if not c.seconds:
            rows.append(f"| {config} | {c.name} | every chunk was disturbed | | | | | {c.thrown} |")
            continue
        median, best = statistics.median(c.seconds) * 1e3, min(c.seconds) * 1e3
        ratio = f"{statistics.median(ratios[c.name]):.2f}" if ratios[c.name] else "-"
        cold = f"{c.cold:.1f}" if c.name != "products" else "-"
        memory = f"{c.memory:.0f}" if c.name != "products" else "-"
        rows.append(f"| {config} | {c.name} | {median:.2f} | {best:.2f} | {ratio} | {cold} | {memory} | {c.thrown} |")
        print(rows[-1], flush=True)
    return rows


def machine() -> str:
    cpu = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                if line.startswith("model name")), platform.processor())  # fmt: skip
    versions = []
    for name in ("numpy", "numba", "llvmlite", "torch", "jax"):
        if importlib.util.find_spec(name):
            from importlib.metadata import version

            versions.append(f"{name} {version(name)}")
    from gradtape.runtime.blas import core_type

    return f"{date.today()}, {cpu}, {os.cpu_count()} CPUs, OpenBLAS kernels {core_type()}; {', '.join(versions)}"


def main(script: str, doc: str | None, chunks: Mapping[str, int], contestants: Sequence[str], play: Play) -> None:
    """The command line of a benchmark. chunks: the steps of a chunk for every size, long against the hand-over, short
    against drift."""
    if sys.argv[1:2] == ["--worker"]:
        name, config, threads = sys.argv[2:]
        serve(*play(name, config, int(threads)))
        return
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="*", default=list(chunks), help=" ".join(chunks))
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", default=",".join(contestants), help="contestants, gradtape among them")
    parser.add_argument("--out", type=Path, help="append the table to this Markdown file")
    given = parser.parse_args()
    wanted = given.only.split(",")
    names = [n for n in contestants if n in wanted and importlib.util.find_spec(MODULES[n])]
    skipped = [n for n in wanted if n not in names]
    if skipped:
        print(f"not installed, skipped: {', '.join(skipped)} (pip install 'gradtape[peers]')")
    head = [
        f"{machine()}; {given.threads} threads, up to {given.rounds} chunks each",
        "",
        "| size | contestant | median ms | least ms | times gradtape (pairs) | cold start s | peak MiB | thrown |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    rows = [
        row for config in given.configs
        for row in compare(script, config, names, given.rounds, given.threads, chunks[config])
    ]  # fmt: skip
    text = "\n".join([*head, *rows, ""])
    print(text)
    if given.out:
        with given.out.open("a") as file:
            file.write("\n" + text)
