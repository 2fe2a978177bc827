"""How time and memory of a step grow with width, depth, length, batch and threads, one at a time, beside PyTorch.

    python benchmarks/scaling.py [width depth length batch threads] [--rounds N] [--out RESULTS.md] [--plot scaling.png]

Around the size M: vocabulary 65, width 128, heads of 32, 4 layers, 64 positions, batches of 12, two threads. At every
point both live in a process of their own and take their steps in turn (referee.py); times are medians. Memory is what
the training takes: of gradtape its store and arena, of PyTorch by how much its process has grown since the model was
there, at most. Exponents (size^exponent) are those of the line through all points by least squares, and of the last
pair.
"""

# torch comes with the extra `peers`, which is not installed where types are checked:
# pyright: reportMissingImports=false

from __future__ import annotations

import argparse
import statistics
import sys
from dataclasses import astuple, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import referee
from recipe import CONFIGS, Config, gradtape_model, gradtape_optimizer, initial_weights, synthetic_batches

HEAD = 32
BASE = CONFIGS["M"]
POINTS = {
    "width": (64, 128, 256, 512),
    "depth": (1, 2, 4, 8),
    "length": (32, 64, 128, 256, 512),
    "batch": (3, 6, 12, 24, 48),
    "threads": (1, 2),
}
CHUNK_SECONDS = 0.15
NAMES = ("gradtape", "torch")


class Point(NamedTuple):
    """Milliseconds and MiB at one size."""

    size: int
    time: float
    memory: float


def at(axis: str, size: int) -> tuple[Config, int]:
    """The model and the threads of a point."""
    if axis == "threads":
        return BASE, size
    config = replace(BASE, **{axis: size})
    return replace(config, heads=config.width // HEAD), 2


# a contestant's process ---------------------------------------------------------------------------------------------
def work(name: str, text: str, threads: int) -> None:
    vocab, width, depth, heads, length, batch = map(int, text.split("/")[:6])
    config = Config(vocab, width, depth, heads, length, batch)
    data = synthetic_batches(config, 4)
    if name == "torch":
        import torch
        from peers import torch_model, torch_run

        trained = torch_run(torch_model(config, initial_weights(config)), threads)
        before = referee.peak_memory()
        referee.serve(trained, [torch.from_numpy(d) for d in data], lambda: referee.peak_memory() - before)
        return
    import gradtape as gt

    model = gradtape_model(config)
    step = gt.compile(model, loss=gt.cross_entropy, optimizer=gradtape_optimizer(model), threads=threads)

    def run(batches):
        return [float(step(x, y)) for x, y in batches]

    referee.serve(run, data, lambda: sum(step.memory()[:2]) / 2**20)


# all of them --------------------------------------------------------------------------------------------------------
def measured(axis: str, size: int, rounds: int, any_chunk: bool) -> dict[str, Point]:
    """Both contestants at one size, in turn."""
    config, threads = at(axis, size)
    text = "/".join(str(int(v)) for v in astuple(config))
    contestants = [referee.Contestant(__file__, name, text, threads) for name in NAMES]
    for c in contestants:
        c.memory = c.ask(1)["memory"]
    worst = max(abs(a - b) / abs(b) for a, b in zip(contestants[0].losses, contestants[1].losses, strict=True))
    if worst > 1e-4:
        raise SystemExit(f"{axis} {size}: losses differ by {worst:.1e}")
    counts = [max(1, round(CHUNK_SECONDS / c.ask(2)["seconds"])) for c in contestants]
    for _ in range(rounds):
        for c, count in zip(contestants, counts, strict=True):
            seconds = c.ask(count)["seconds"] if any_chunk else c.chunk(count)
            if seconds is not None:
                c.seconds.append(seconds)
    for c in contestants:
        c.end()
        if not c.seconds:
            raise SystemExit(f"{axis} {size}: every chunk of {c.name} was disturbed; try again on a quiet machine")
    return {c.name: Point(size, statistics.median(c.seconds) * 1e3, c.memory) for c in contestants}


def exponents(sizes: list[int], values: list[float]) -> tuple[float, float]:
    """Of all points by least squares, and of the last two."""
    x, y = np.log(sizes), np.log(values)
    return float(np.polyfit(x, y, 1)[0]), float((y[-1] - y[-2]) / (x[-1] - x[-2]))


def table(found: dict[str, dict[str, list[Point]]]) -> list[str]:
    rows = [
        "| | | " + " | ".join(f"{name} ms | {name} MiB" for name in NAMES) + " | PyTorch's time, gradtape's = 1 |",
        "| --- | --- |" + " --- |" * (2 * len(NAMES) + 1),
    ]
    for axis, points in found.items():
        own, other = (points[name] for name in NAMES)
        for a, b in zip(own, other, strict=True):
            figures = f"{a.time:.2f} | {a.memory:.1f} | {b.time:.2f} | {b.memory:.1f} | {b.time / a.time:.2f}"
            rows.append(f"| {axis} | {a.size} | {figures} |")
        fits = []
        for name in NAMES:
            sizes = [p.size for p in points[name]]
            for kind in ("time", "memory"):
                whole, last = exponents(sizes, [getattr(p, kind) for p in points[name]])
                fits.append(f"^{whole:.2f} (last ^{last:.2f})")
        rows.append(f"| {axis} | exponent | {' | '.join(fits)} | |")
    return rows


def plot(found: dict[str, dict[str, list[Point]]], file: Path) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, len(found), figsize=(3 * len(found), 5.6), squeeze=False, sharey="row")
    for column, (axis, points) in enumerate(found.items()):
        for row, kind in enumerate(("time", "memory")):
            panel = axes[row][column]
            for name, mark in zip(NAMES, "os", strict=True):
                sizes, values = [p.size for p in points[name]], [getattr(p, kind) for p in points[name]]
                label = f"{name} ^{exponents(sizes, values)[0]:.2f}"
                panel.plot(sizes, values, marker=mark, label=label)
            panel.set_xscale("log", base=2)
            panel.set_yscale("log")
            panel.set_xticks(sizes, [str(s) for s in sizes])
            panel.minorticks_off()
            panel.legend(fontsize="small", frameon=False)
            panel.grid(alpha=0.3)
        axes[1][column].set_xlabel(axis)
    axes[0][0].set_ylabel("ms a step")
    axes[1][0].set_ylabel("MiB")
    figure.tight_layout()
    figure.savefig(file, dpi=110)


def main() -> None:
    if sys.argv[1:2] == ["--worker"]:
        name, text, threads = sys.argv[2:]
        work(name, text, int(threads))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("axes", nargs="*", default=list(POINTS), help=" ".join(POINTS))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--any", action="store_true", help="keep chunks that other processes disturbed: to try it out")
    parser.add_argument("--out", type=Path, help="append the table to this Markdown file")
    parser.add_argument("--plot", type=Path, help="draw the table")
    given = parser.parse_args()
    found: dict[str, dict[str, list[Point]]] = {}
    known: dict[tuple[Config, int], dict[str, Point]] = {}  # the size M lies on every axis
    for axis in given.axes:
        found[axis] = {name: [] for name in NAMES}
        for size in POINTS[axis]:
            place = at(axis, size)
            if place not in known:
                known[place] = measured(axis, size, given.rounds, given.any)
            for name, point in known[place].items():
                found[axis][name].append(point._replace(size=size))
                print(axis, size, name, f"{point.time:.2f} ms, {point.memory:.1f} MiB", flush=True)
    which = ", disturbed ones too" if given.any else ""
    text = "\n".join([f"{referee.machine()}; up to {given.rounds} chunks each{which}", "", *table(found), ""])
    print(text)
    if given.out:
        with given.out.open("a") as file:
            file.write(f"\nFrom `benchmarks/scaling.py`:\n\n{text}")
    if given.plot:
        plot(found, given.plot)


if __name__ == "__main__":
    main()
