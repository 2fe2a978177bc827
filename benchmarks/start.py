"""From the start of a process to the end of its first training step: gradtape cold, warm and ahead of time, PyTorch and
JAX, each time in a fresh process, in turn.

    python benchmarks/start.py [XS S M] [--rounds N] [--threads N] [--only gradtape-warm,torch,...] [--out FILE]

gradtape-cold     an empty cache
gradtape-kernels  the kernels are in the cache, the tape is not: a network of another depth, say
gradtape-warm     the same training was started before
gradtape-ahead    `gt.load` of a saved tape
torch             eager
torch.compile     with its cache of compiled graphs filled
jax               jit, with its persistent cache filled

A first round, which does not count, fills caches, and writes the bytecode of all packages as their installation does.
The model's weights and one batch are made in the process too. Seconds are wall-clock time, seen from outside, and
medians of each phase; CPU seconds, of all threads, hardly change where other processes share the machine.
"""

# torch and jax come with the extra `peers`, which is not installed where types are checked:
# pyright: reportMissingImports=false

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from recipe import Config

WAYS = {
    "gradtape-cold": "gradtape",
    "gradtape-kernels": "gradtape",
    "gradtape-warm": "gradtape",
    "gradtape-ahead": "gradtape",
    "torch": "torch",
    "torch.compile": "torch",
    "jax": "jax",
}
PHASES = ("numpy", "import", "model", "trace", "load", "bind", "first step")
LIMIT = 120.0  # seconds for one start


# in the fresh process -------------------------------------------------------------------------------------------------
class Clock:
    """Seconds of each phase; `take` times a call of a function that the package makes."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = dict.fromkeys(PHASES, 0.0)
        self.last = time.perf_counter()

    def mark(self, phase: str, without: tuple[str, ...] = ()) -> None:
        now = time.perf_counter()
        self.seconds[phase] += now - self.last - sum(self.seconds[p] for p in without)
        self.last = now

    def take(self, holder: object, name: str, phase: str) -> None:
        function = getattr(holder, name)

        def timed(*args, **kwargs):
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds[phase] += time.perf_counter() - start

        setattr(holder, name, timed)


def child(way: str, size: str, threads: int, folder: Path) -> dict:
    clock = Clock()
    import numpy  # noqa: F401

    clock.mark("numpy")
    from recipe import CONFIGS

    config = CONFIGS[size]
    if way.startswith("gradtape"):
        loss = gradtape_start(way, config, threads, folder, clock)
    elif way == "jax":
        loss = jax_start(config, clock)
    else:
        loss = torch_start(config, threads, way == "torch.compile", clock)
    return {"seconds": clock.seconds, "loss": loss, "numba": "numba" in sys.modules}


def gradtape_start(way: str, config: Config, threads: int, folder: Path, clock: Clock) -> float:
    import gradtape as gt

    clock.mark("import")
    from recipe import gradtape_model, gradtape_optimizer, synthetic_batches

    (x, y), *_ = synthetic_batches(config, 1)
    file = folder / "train.tape"
    if way == "gradtape-ahead":
        clock.mark("model")
        step = gt.load(file, threads=threads)
        clock.mark("load")
    else:
        model = gradtape_model(config)
        step = gt.compile(model, loss=gt.cross_entropy, optimizer=gradtape_optimizer(model), threads=threads)
        clock.mark("model")
    from gradtape import programs
    from gradtape.runtime.program import Program, _Bound

    clock.take(programs.Programs, "_trace", "trace")
    clock.take(programs.Programs, "_recipe", "trace")
    clock.take(programs, "finish", "load")
    clock.take(Program, "__init__", "load")
    clock.take(_Bound, "__init__", "bind")
    clock.take(_Bound, "ready", "bind")
    before = dict(clock.seconds)
    loss = float(step(x, y))
    clock.mark("first step")
    inside = sum(clock.seconds[p] - before[p] for p in ("trace", "load", "bind"))
    clock.seconds["first step"] -= inside
    if way == "gradtape-warm" and not file.exists():  # the round that does not count
        fresh = gradtape_model(config)
        ahead = gt.compile(fresh, loss=gt.cross_entropy, optimizer=gradtape_optimizer(fresh), threads=threads)
        ahead.prepare("step", True, (x, y))
        ahead.save(file, weights="seed")
    return loss


def torch_start(config: Config, threads: int, compiled: bool, clock: Clock) -> float:
    import torch

    clock.mark("import")
    from peers import torch_model, torch_run
    from recipe import initial_weights, synthetic_batches

    data = [torch.from_numpy(d) for d in synthetic_batches(config, 1)]
    run = torch_run(torch_model(config, initial_weights(config)), threads, compiled=compiled)
    clock.mark("model")
    (loss,) = run(data)
    clock.mark("first step")
    return loss


def jax_start(config: Config, clock: Clock) -> float:
    import jax  # noqa: F401

    clock.mark("import")
    from peers import jax_run
    from recipe import initial_weights, synthetic_batches

    run = jax_run(config, initial_weights(config))
    clock.mark("model")
    (loss,) = run(synthetic_batches(config, 1))
    clock.mark("first step")
    return loss


# outside --------------------------------------------------------------------------------------------------------------
def environment(way: str, folder: Path, threads: int) -> dict[str, str]:
    """Caches of this run alone, bytecode among them."""
    out = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return out | {
        "PYTHONPYCACHEPREFIX": str(folder / "bytecode"),
        "GRADTAPE_CACHE_DIR": str(folder / f"cache-{way}"),
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"),
        "JAX_COMPILATION_CACHE_DIR": str(folder / "jax"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "JAX_PLATFORMS": "cpu",
        "OMP_NUM_THREADS": str(threads),
    }


def start(way: str, size: str, threads: int, folder: Path) -> dict | None:
    """One fresh process; None if it takes too long."""
    cache = folder / f"cache-{way}"
    if way == "gradtape-cold":
        shutil.rmtree(cache, ignore_errors=True)
    if way == "gradtape-kernels":  # all but the tapes
        for tape in cache.glob("*.tape"):
            tape.unlink()
    command = [sys.executable, __file__, "--child", way, size, str(threads), str(folder)]
    began, used = time.perf_counter(), cpu_seconds()
    try:
        done = subprocess.run(command, env=environment(way, folder, threads), stdout=subprocess.PIPE, text=True,
                              timeout=LIMIT, check=True)  # fmt: skip
    except subprocess.TimeoutExpired:
        return None
    answer = json.loads(done.stdout.splitlines()[-1])
    return {**answer, "total": time.perf_counter() - began, "cpu": cpu_seconds() - used}


def cpu_seconds() -> float:
    """Of all processes that have ended."""
    spent = os.times()
    return spent.children_user + spent.children_system


def compare(size: str, ways: list[str], rounds: int, threads: int) -> list[str]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        first = {way: start(way, size, threads, folder) for way in sorted(ways, key=lambda w: w == "gradtape-ahead")}
        found: dict[str, list[dict]] = {way: [] for way in ways}
        for _ in range(rounds):
            for way in ways:
                if first[way] is not None and (answer := start(way, size, threads, folder)) is not None:
                    found[way].append(answer)
    rows = []
    losses = {round(a["loss"], 3) for answers in found.values() for a in answers}
    if len(losses) > 1:
        raise SystemExit(f"{size}: not the same first step: {losses}")
    for way in ways:
        if not found[way]:
            rows.append(f"| {size} | {way} | over {LIMIT:.0f} s |" + " |" * (len(PHASES) + 2))
            continue
        total = sorted(a["total"] for a in found[way])
        phases = [statistics.median(a["seconds"][p] for a in found[way]) for p in PHASES]
        shown = " | ".join(f"{p:.3f}" if p > 0.0005 else "" for p in phases)
        cpu = min(a["cpu"] for a in found[way])
        rows.append(f"| {size} | {way} | {statistics.median(total):.2f} | {total[0]:.2f} | {cpu:.2f} | {shown} |")
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        way, size, threads, folder = sys.argv[2:]
        print(json.dumps(child(way, size, int(threads), Path(folder))))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="*", default=["XS", "S", "M"], help="XS S M L")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", default=",".join(WAYS))
    parser.add_argument("--out", type=Path, help="append the table to this Markdown file")
    given = parser.parse_args()
    from referee import machine

    ways = [way for way in WAYS if way in given.only.split(",") and importlib.util.find_spec(WAYS[way])]
    head = [
        f"{machine()}; {given.threads} threads, {given.rounds} starts each",
        "",
        f"| size | start | median s | least s | least CPU s | {' | '.join(PHASES)} |",
        "| --- | --- | --- | --- | --- |" + " --- |" * len(PHASES),
    ]
    rows = [row for size in given.configs for row in compare(size, ways, given.rounds, given.threads)]
    text = "\n".join([*head, *rows, ""])
    print(text)
    if given.out:
        with given.out.open("a") as file:
            file.write("\n" + text)


if __name__ == "__main__":
    main()
