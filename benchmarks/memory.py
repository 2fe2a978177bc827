"""Memory of a training step: what is planned against what is measured, and peak resident memory beside PyTorch and JAX.

    python benchmarks/memory.py [S M L] [--threads N] [--only gradtape,torch,jax] [--out RESULTS.md]

Every reading is a process of its own that trains some steps and then says how much memory it held at most. "cold" is a
start with an empty tape cache, "warm" the next one, which finds there what the first has left; "imported" is what the
libraries alone take, before there is a model. gradtape plans its memory: the store (parameters, optimizer state) and
the arena (activations, temporaries, gradients); "grown" is by how much the process really grew from the finished
program to the end of its steps, which is the arena where the plan holds. With a budget the batch is cut into slices.
"""

# torch and jax come with the extra `peers`, which is not installed where types are checked:
# pyright: reportMissingImports=false

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from recipe import CONFIGS, gradtape_model, gradtape_optimizer, initial_weights, synthetic_batches
from referee import MODULES, machine

STEPS = 5
BUDGETS = (1.0, 0.7, 0.35)  # of the arena for the whole batch
MIB = 2**20


# a process ----------------------------------------------------------------------------------------------------------
def resident() -> float:
    """Bytes of this process in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def peak() -> float:
    """Bytes of this process in memory at most so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(name: str, config_name: str, threads: int, budget: int) -> dict[str, float]:
    """Trains some steps; bytes by what they are."""
    config = CONFIGS[config_name]
    data = synthetic_batches(config, 2)
    if name == "gradtape":
        return gradtape_steps(config, data, threads, budget)
    weights = initial_weights(config)
    if name == "torch":
        import torch
        from peers import torch_model, torch_run

        imported = resident()
        run = torch_run(torch_model(config, weights), threads)
        batches = [torch.from_numpy(d) for d in data]
    else:
        from peers import jax_run

        imported = resident()
        run, batches = jax_run(config, weights), list(data)
    loss = run([batches[i % 2] for i in range(STEPS)])[-1]
    return {"imported": imported, "peak": peak(), "loss": loss}


def gradtape_steps(config, data, threads: int, budget: int) -> dict[str, float]:
    import gradtape as gt
    from gradtape.planning import MemoryBudgetError

    imported = resident()
    model = gradtape_model(config)
    spec = gt.spec((config.batch, config.length), "i64")
    try:
        step = gt.compile(
            model, spec, spec, loss=gt.cross_entropy, optimizer=gradtape_optimizer(model), threads=threads,
            memory_budget=budget or None,
        )  # fmt: skip
    except MemoryBudgetError:  # gradients are most of it
        return {}
    compiled = resident()
    loss = 0.0
    for i in range(STEPS):
        loss = float(step(*data[i % 2]))
    memory = step.memory()
    return {
        "imported": imported, "peak": peak(), "loss": loss, "arena": memory.arena,
        "slices": memory.slices, "grown": resident() - compiled,
    }  # fmt: skip


# all of them --------------------------------------------------------------------------------------------------------
def ask(name: str, config: str, threads: int, cache: str, budget: int = 0) -> dict[str, float]:
    """One reading, in a fresh process."""
    environment = {
        **os.environ, "OMP_NUM_THREADS": str(threads), "JAX_PLATFORMS": "cpu", "GRADTAPE_CACHE_DIR": cache,
    }  # fmt: skip
    command = [sys.executable, __file__, "--worker", name, config, str(threads), str(budget)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def shown(size: float) -> str:
    return f"{size / MIB:.1f}" if size < 100 * MIB else f"{size / MIB:.0f}"


def peaks(configs: list[str], names: list[str], threads: int) -> list[str]:
    rows = [
        "| size | contestant | imported MiB | peak MiB, cold | peak MiB, warm | warm, times gradtape |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for config in configs:
        own = None
        for name in names:
            with tempfile.TemporaryDirectory() as cache:
                cold, warm = (ask(name, config, threads, cache) for _ in range(2))
            own = own or warm["peak"]
            figures = [shown(warm["imported"]), shown(cold["peak"]), shown(warm["peak"]), f"{warm['peak'] / own:.2f}"]
            rows.append("| " + " | ".join([config, name, *figures]) + " |")
            print(rows[-1], flush=True)
    return rows


def plans(configs: list[str], threads: int) -> list[str]:
    rows = [
        "| size | budget MiB | slices | arena MiB, planned | grown MiB | peak MiB, warm |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for config in configs:
        whole = 0
        for part in BUDGETS:
            budget = int(part * whole)
            with tempfile.TemporaryDirectory() as cache:
                _, found = (ask("gradtape", config, threads, cache, budget) for _ in range(2))
            if not found:
                rows.append(f"| {config} | {shown(budget)} | refused | | | |")
                print(rows[-1], flush=True)
                continue
            whole = whole or int(found["arena"])
            assert not budget or found["arena"] <= budget
            figures = [shown(found[k]) for k in ("arena", "grown", "peak")]
            rows.append(
                f"| {config} | {shown(budget) if budget else 'none'} | {found['slices']:.0f} | {' | '.join(figures)} |"
            )
            print(rows[-1], flush=True)
    return rows


def main() -> None:
    if sys.argv[1:2] == ["--worker"]:
        name, config, threads, budget = sys.argv[2:]
        print(json.dumps(measure(name, config, int(threads), int(budget))))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="*", default=["S", "M", "L"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", default="gradtape,torch,jax", help="contestants, gradtape among them")
    parser.add_argument("--out", type=Path, help="append the tables to this Markdown file")
    given = parser.parse_args()
    names = [n for n in given.only.split(",") if importlib.util.find_spec(MODULES[n])]
    tables = [peaks(given.configs, names, given.threads), plans(given.configs, given.threads)]
    text = "\n\n".join([f"{machine()}; {given.threads} threads", *("\n".join(rows) for rows in tables)])
    print(text)
    if given.out:
        with given.out.open("a") as file:
            file.write(f"\nFrom `benchmarks/memory.py`:\n\n{text}\n")


if __name__ == "__main__":
    main()
