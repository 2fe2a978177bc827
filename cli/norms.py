"""`gradtape train --watch`: norms of gradients, updates and weights, to a file and live in the terminal."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from rich.table import Table

COLUMNS = ("step", "parameter", "gradient", "update", "weight")
FILE = "norms.csv"
BARS = "▁▂▃▄▅▆▇█"
TREND = 24  # looks that a line of bars shows


@dataclass(frozen=True)
class Norm:
    """Of a parameter, or of all in a layer: its gradient before clipping, what the step has added, and itself after."""

    gradient: float
    update: float
    weight: float


class Norms:
    """Measures every so many steps, and the first one. A look costs a gradient and a copy of the weights, and changes
    nothing: the training goes as it would without."""

    def __init__(self, step: Any, every: int, path: Path) -> None:
        self.compiled, self.every, self.path = step, every, path
        self.latest: dict[str, Norm] = {}
        self.at = 0  # the step of the latest look
        self.trends: dict[str, deque[float]] = {}

    def step(self, *batch: Any) -> None:
        """A training step, measured if it is its turn."""
        number = self.compiled.step_count + 1
        if number % self.every and number != 1:
            self.compiled(*batch)
            return
        gradients = self.compiled.gradient_norms(*batch)  # of this step: with its dropout, too
        parameters = [(path, p.array) for path, p in self.compiled.named_parameters() if path in gradients]
        before = {path: array.copy() for path, array in parameters}
        self.compiled(*batch)
        self.latest = {
            path: Norm(gradients[path], _norm(array - before[path]), _norm(array)) for path, array in parameters
        }
        self.at = number
        self._write()

    def _write(self) -> None:
        """Adds the look to the file, whose lines are whole after each."""
        new = not self.path.exists()
        with self.path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            if new:
                writer.writerow(COLUMNS)
            for path, n in self.latest.items():
                writer.writerow([self.at, path, *(f"{x:.6g}" for x in (n.gradient, n.update, n.weight))])

    def table(self, rows: int) -> Table:
        """By layer, at most so many rows: where there are more layers than that, outer ones stand for inner ones."""
        from rich.table import Table

        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", title_justify="left", expand=False)
        for name in ("layer", "gradient", "update", "update / weight"):
            table.add_column(name, justify="left" if name == "layer" else "right")
        table.add_column(f"gradient over {TREND} looks")
        for layer, n in by_layer(self.latest, rows).items():
            trend = self.trends.setdefault(layer, deque(maxlen=TREND))
            trend.append(n.gradient)
            ratio = n.update / n.weight if n.weight else float("nan")
            # about a thousandth is what training usually does; a tenth is too much, nothing is nothing
            style = "red" if not n.update or ratio > 0.1 else ""
            figures = (f"{n.gradient:.2e}", f"{n.update:.2e}", f"{ratio:.1e}")
            table.add_row(layer, *(f"[{style}]{f}[/]" if style else f for f in figures), bars(trend))
        return table


def _norm(array: np.ndarray) -> float:
    return float(np.linalg.norm(array))


def by_layer(norms: Mapping[str, Norm], most: int) -> dict[str, Norm]:
    """The norms of whole layers: of the innermost modules, or of the deepest level that has at most `most`."""
    depth = max((path.count(".") for path in norms), default=0)
    while True:
        grouped: dict[str, list[Norm]] = {}
        for path, n in norms.items():
            layer = ".".join(path.split(".")[:-1][:depth]) or path
            grouped.setdefault(layer, []).append(n)
        if len(grouped) <= most or depth <= 1:
            return {layer: _together(group) for layer, group in grouped.items()}
        depth -= 1


def _together(norms: Sequence[Norm]) -> Norm:
    total = lambda values: float(np.sqrt(sum(v * v for v in values)))  # noqa: E731
    return Norm(total(n.gradient for n in norms), total(n.update for n in norms), total(n.weight for n in norms))


def bars(values: Iterable[float]) -> str:
    """A line of bars on a logarithmic scale, from the least to the greatest."""
    logs = [np.log(v) if v > 0 and np.isfinite(v) else None for v in values]
    known = [x for x in logs if x is not None]
    if not known:
        return ""
    low, high = min(known), max(known)
    scale = (len(BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(" " if x is None else BARS[round((x - low) * scale)] for x in logs)


def without_later(path: Path, step: int) -> None:
    """Leaves out what was measured after a step: a run that goes on from there measures it again."""
    if path.exists():
        kept = list(_up_to(path.read_text(encoding="utf-8").splitlines(keepends=True), step))
        path.write_text("".join(kept), encoding="utf-8")


def _up_to(lines: Sequence[str], step: int) -> Iterator[str]:
    for number, line in enumerate(lines):
        first = line.partition(",")[0]
        if number == 0 or (line.endswith("\n") and first.isdigit() and int(first) <= step):
            yield line
