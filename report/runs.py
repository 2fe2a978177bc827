"""What a training has left behind: a folder of `gradtape train`, or a file of numbers by column."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

POINTS = 1200  # of a curve: more than a screen has columns; each keeps the least and greatest of what it stands for
LOOKS = 200  # of norms over time: likewise
NORMS = "norms.csv"
LOG = "log.jsonl"


class RunError(ValueError):
    """A run that cannot be read, and why."""


@dataclass(frozen=True)
class Training:
    """`curves` maps a name (loss, val_loss, grad_norm, lr) to its (step, value) pairs; `norms` maps a parameter to
    (step, gradient norm, update norm, weight norm)."""

    name: str
    curves: Mapping[str, list[tuple[int, float]]] = field(default_factory=dict)
    norms: Mapping[str, list[tuple[int, float, float, float]]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for the page, thinned out to what can be seen."""
        steps = sorted({row[0] for rows in self.norms.values() for row in rows})
        kept = set(_spread(steps, LOOKS))
        return {
            "name": self.name,
            "curves": {name: thinned(points, POINTS) for name, points in self.curves.items()},
            "norms": {
                path: [[s, *map(_four_digits, rest)] for s, *rest in rows if s in kept]
                for path, rows in self.norms.items()
            },
        }

    def gradients(self) -> dict[str, float]:
        """Of every parameter the gradient norm that was seen last."""
        return {path: rows[-1][1] for path, rows in self.norms.items() if rows}


def read_run(path: str | Path) -> Training:
    """Reads a run folder (log.jsonl and, where it was watched, norms.csv), or a single file: JSON lines or CSV with a
    column `step`. Raises RunError."""
    path = Path(path)
    if path.is_dir():
        files = [f for f in (path / LOG, path / NORMS) if f.is_file()]
        if not files:
            raise RunError(f"there is neither {LOG} nor {NORMS} in {path}: is it the folder of a run?")
    elif path.is_file():
        files = [path]
    else:
        raise RunError(f"there is no run {path}")
    curves: dict[str, list[tuple[int, float]]] = {}
    norms: dict[str, list[tuple[int, float, float, float]]] = {}
    for file in files:
        for row in _rows(file):
            step = int(float(row["step"]))
            if "parameter" in row:
                gradient, update, weight = (_number(row.get(k)) or 0.0 for k in ("gradient", "update", "weight"))
                norms.setdefault(str(row["parameter"]), []).append((step, gradient, update, weight))
            else:
                for name, text in row.items():
                    value = _number(text)
                    if name != "step" and value is not None:
                        curves.setdefault(name, []).append((step, value))
    return Training(path.resolve().name if path.is_dir() else path.stem, curves, norms)


def _rows(file: Path) -> Iterable[Mapping[str, Any]]:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"cannot read {file}: {error}") from None
    if file.suffix == ".csv":
        rows: list[Mapping[str, Any]] = list(csv.DictReader(text.splitlines()))
    else:
        rows = [row for line in text.splitlines() if (row := _json(line)) is not None]
    good = [row for row in rows if (step := _number(row.get("step"))) is not None and step == int(step)]
    if not good:
        raise RunError(f"{file} has no column named step: JSON lines or CSV such as step,loss are read")
    return good


def _json(line: str) -> Mapping[str, Any] | None:
    """A line as a record; the last one of a run that was killed may be half of one."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def _number(text: Any) -> float | None:
    """A finite number, else None: what is not there, a word, NaN."""
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if value - value == 0 else None


def thinned(points: list[tuple[int, float]], count: int) -> list[tuple[int, float]]:
    """At most about `count` points that draw the same line: of every stretch the least and the greatest."""
    if len(points) <= count:
        return points
    size = -(-len(points) * 2 // count)
    out: list[tuple[int, float]] = []
    for start in range(0, len(points), size):
        part = points[start : start + size]
        ends = {min(part, key=lambda p: p[1]), max(part, key=lambda p: p[1])}
        out += sorted(ends)
    return out if out[-1] == points[-1] else [*out, points[-1]]


def _spread(items: list[int], count: int) -> list[int]:
    """At most `count` of them, evenly, the last one included."""
    if len(items) <= count:
        return items
    return [items[(i + 1) * len(items) // count - 1] for i in range(count)]


def _four_digits(value: float) -> float:
    return float(f"{value:.4g}")
