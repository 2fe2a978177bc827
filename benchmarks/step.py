"""The same training step in gradtape, PyTorch (eager, compiled) and JAX, in turn within one run.

    python benchmarks/step.py [XS S M L] [--rounds N] [--threads N] [--only gradtape,torch,...]

Every contestant lives in a process of its own and is asked for one chunk of steps at a time, so that thread pools do
not meet. Weights and batches are the same; the first five losses must agree to 1e-4. A chunk in which other processes
took more than a tenth of the machine is thrown away. "products" is the gradtape tape with everything but its matrix
products left out, on the same threads: the floor. Contestants that are not installed are skipped.
"""

# torch and jax come with the extra `peers`, which is not installed where types are checked:
# pyright: reportMissingImports=false

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
import time
from datetime import date
from pathlib import Path

import numpy as np
from recipe import CONFIGS, gradtape_model, gradtape_optimizer, initial_weights, synthetic_batches

NEEDS = {"gradtape": "gradtape", "products": "gradtape", "torch": "torch", "torch.compile": "torch", "jax": "jax"}
CHUNK = {"XS": 200, "S": 40, "M": 8, "L": 1}  # steps in a chunk: long against the hand-over, short against drift
BATCHES = 8


# a contestant's process ---------------------------------------------------------------------------------------------
def worker(name: str, config, threads: int, make) -> None:
    """Answers every line `n` on stdin with n steps: seconds, CPU seconds, losses, peak memory. `make` is `contestant`,
    or another function like it."""
    data = synthetic_batches(config, BATCHES)
    run = make(name, config, threads, data)
    position = 0
    for line in sys.stdin:
        count = int(line)
        chosen = [data[(position + i) % BATCHES] for i in range(count)]
        position += count
        if name.startswith("torch"):
            import torch

            chosen = [torch.from_numpy(c) for c in chosen]
        cpu, start = time.process_time(), time.perf_counter()
        losses = run(chosen)
        seconds = time.perf_counter() - start
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        answer = {"seconds": seconds / count, "wall": seconds, "cpu": time.process_time() - cpu}
        print(json.dumps({**answer, "losses": losses, "memory": memory}), flush=True)


def contestant(name, config, threads, data):
    if name.startswith("torch"):
        from peers import torch_run

        return torch_run(config, initial_weights(config), threads, compiled=name == "torch.compile")
    if name == "jax":
        from peers import jax_run

        return jax_run(config, initial_weights(config))
    import gradtape as gt

    model = gradtape_model(config)
    step = gt.compile(model, loss=gt.cross_entropy, optimizer=gradtape_optimizer(model), threads=threads)
    if name == "products":
        step(*data[0])
        return products_only(step, data[0])
    return lambda batches: [float(step(x, y)) for x, y in batches]


def products_only(step, batch):
    """Runs only the matrix products of a step, where they lie in the arena and with the barriers that they need."""
    from gradtape.runtime import bind

    variant, inputs = step._prepare("step", True, batch)
    program = variant.program
    for name, _, value_type in program.tape.inputs:
        if name.startswith("optimizer.") and value_type.shape == ():
            inputs[name] = np.zeros((), np.float32)
    bound = program.bind(inputs)
    bound.ready(program)
    entries = [
        dataclasses.replace(e, barrier=False) if isinstance(e, bind.Call) else e
        for e in bound.plan.entries
        if isinstance(e, (bind.Open, bind.Close)) or (isinstance(e, bind.Call) and e.instr.kernel.startswith("gemm"))
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
    def __init__(self, name: str, config: str, threads: int, script: str) -> None:
        self.name, self.seconds, self.thrown, self.memory = name, [], 0, 0.0
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "JAX_PLATFORMS": "cpu"}
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
        self.memory = answer["memory"]
        if others > 0.1 * answer["wall"] * (os.cpu_count() or 1) + 0.02:
            self.thrown += 1
            return None
        return answer["seconds"]

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def busy_seconds() -> float:
    """CPU seconds that the machine has spent on anything."""
    fields = list(map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]))
    return (sum(fields[:3]) + sum(fields[5:8])) / os.sysconf("SC_CLK_TCK")


def compare(config: str, names: list[str], rounds: int, threads: int, script: str, chunk: int) -> list[str]:
    """Rows of the table: contestants of `script`, which answers `--worker`, in turn with `chunk` steps each."""
    contestants = [Contestant(name, config, threads, script) for name in names]
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


def main(script: str, description: str | None, chunks: dict[str, int], contestants: list[str]) -> None:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="*", default=list(chunks), help=" ".join(chunks))
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", default=",".join(contestants), help="contestants, gradtape among them")
    parser.add_argument("--out", type=Path, help="append the table to this Markdown file")
    given = parser.parse_args()
    names = [n for n in NEEDS if n in given.only.split(",") and importlib.util.find_spec(NEEDS[n])]
    skipped = [n for n in given.only.split(",") if n not in names]
    if skipped:
        print(f"not installed, skipped: {', '.join(skipped)} (pip install 'gradtape[peers]')")
    head = [
        f"{machine()}; {given.threads} threads, up to {given.rounds} chunks each",
        "",
        "| size | contestant | median ms | least ms | times gradtape (pairs) | cold start s | peak MiB | thrown |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    rows = []
    for config in given.configs:
        rows += compare(config, names, given.rounds, given.threads, script, chunks[config])
    text = "\n".join([*head, *rows, ""])
    print(text)
    if given.out:
        with given.out.open("a") as file:
            file.write("\n" + text)


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] == "--worker":
        worker(sys.argv[2], CONFIGS[sys.argv[3]], int(sys.argv[4]), contestant)
    else:
        main(__file__, __doc__, CHUNK, list(NEEDS))
