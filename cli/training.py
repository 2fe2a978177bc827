"""The training loop, apart from any terminal: what to train, one step after the other, what to remember."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..compiler import Compiled
from ..compiler import compile as compile_model
from ..models import AdamW, clip_by_global_norm, schedule
from ..tracer import Module, cross_entropy, manual_seed
from .checkpoints import Checkpoint, CheckpointError, differences, save
from .norms import FILE as NORMS_FILE
from .norms import Norms, without_later
from .options import Options
from .tasks import Task, build_model, task_for

# what may change when a run is resumed: the loop's length and its reports, but nothing that a loss depends on
FREE = ("steps", "eval_every", "save_every", "patience", "threads", "name", "out")


@dataclass(frozen=True)
class Report:
    """What one step brought; `per_second` counts targets, `val_...` stands where the held-out data was read."""

    step: int
    loss: float
    grad_norm: float
    lr: float
    per_second: float
    val_loss: float | None = None
    val_accuracy: float | None = None


def program_for(options: Options, task: Task) -> Compiled:
    """The training step of a run, with fresh weights."""
    manual_seed(options.seed)
    model = build_model(task.model)
    step = compile_model(
        model, loss=cross_entropy, optimizer=_optimizer(options, model), threads=options.threads or None
    )
    step.seed = options.seed
    return step


def _optimizer(o: Options, model: Module) -> Any:
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": o.weight_decay}]
    if vectors:
        groups.append({"params": vectors, "weight_decay": 0.0})
    lr = schedule.warmup_cosine(o.lr, min(o.warmup, o.steps // 2), o.steps, o.min_lr)
    optimizer = AdamW(lr=lr, betas=(0.9, 0.99), params=groups)
    return clip_by_global_norm(optimizer, o.clip) if o.clip else optimizer


class Run:
    """A model in training: data, compiled step, log and checkpoint in one folder."""

    def __init__(self, options: Options, resume: Checkpoint | None = None) -> None:
        self.options = options
        self.folder = Path(options.out) / options.name
        self.task = task_for(options, resume.info if resume else None)
        self.step = program_for(options, self.task)
        assert self.step.model is not None
        self.model = self.step.model
        self.log = self.folder / "log.jsonl"
        self.norms: Norms | None = None
        self.reports: list[dict[str, Any]] = []
        if resume is not None:
            self._restore(resume)

    def watch(self, every: int) -> Norms:
        """From now on norms of gradients and updates are measured every so many steps and kept in norms.csv."""
        self.norms = Norms(self.step, every, self.folder / NORMS_FILE)
        return self.norms

    def _restore(self, saved: Checkpoint) -> None:
        wanted = {**asdict(self.options), **self.task.model}
        wrong = differences(
            {**saved.info["options"], **saved.info["model"]}, {k: v for k, v in wanted.items() if k not in FREE}
        )
        if wrong:
            raise CheckpointError("the run cannot be resumed with other options:\n  " + "\n  ".join(wrong))
        try:
            self.model.load_state_dict(saved.weights)
            self.step.load_optimizer_state_dict(saved.optimizer)
        except ValueError as error:
            raise CheckpointError(f"the checkpoint does not fit the model: {error}") from None
        # steps after the checkpoint are taken again: their lines go
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        self.reports = [r for r in map(_line, lines) if r is not None and r["step"] <= self.step.step_count]
        self.log.write_text("".join(json.dumps(r) + "\n" for r in self.reports))
        without_later(self.folder / NORMS_FILE, self.step.step_count)

    @property
    def position(self) -> int:
        """Steps taken, which is also the number of the next batch."""
        return self.step.step_count

    def readings(self) -> list[tuple[int, float]]:
        """(step, validation loss) of every time that the held-out data was read."""
        return [(r["step"], r["val_loss"]) for r in self.reports if r["val_loss"] is not None]

    def converged(self) -> bool:
        """Whether the last `patience` readings of the validation loss brought nothing better (0: never)."""
        read = [loss for _, loss in self.readings()]
        return bool(0 < self.options.patience < len(read)) and min(read) < min(read[-self.options.patience :])

    def steps(self) -> Iterator[Report]:
        """Trains to the end, one report a step; the log is written along the way, the checkpoint as asked for. With
        `patience`, the weights of the best reading are kept in best.safetensors."""
        o = self.options
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("a") as log:
            while self.position < o.steps and not self.converged():
                started = time.perf_counter()
                x, y = self.task.batch(self.position)
                self.step(x, y) if self.norms is None else self.norms.step(x, y)
                speed = y.size / (time.perf_counter() - started)
                last, n = self.step.last, self.position
                assert last is not None
                found = self.task.validate(self.step) if n % o.eval_every == 0 or n == o.steps else {}
                val = found.get("loss")
                report = Report(n, last.loss, last.grad_norm, last.lr, round(speed, 1), val, found.get("accuracy"))
                self.reports.append(asdict(report))
                log.write(json.dumps(self.reports[-1]) + "\n")
                if o.patience and val is not None and val <= min(loss for _, loss in self.readings()):
                    self.save("best.safetensors")
                if n % o.save_every == 0 or n == o.steps or (val is not None and self.converged()):
                    log.flush()
                    self.save()
                yield report

    def save(self, name: str = "checkpoint.safetensors") -> Path:
        """Writes the checkpoint; returns its path."""
        path = self.folder / name
        info = {
            "step": self.position,
            "seed": self.options.seed,
            "position": self.position,
            "model": self.task.model,
            "options": asdict(self.options),
            **self.task.info,
        }
        optimizer = {k: np.asarray(v) for k, v in self.step.optimizer_state_dict().items()}
        weights = dict(self.model.state_dict())
        save(path, Checkpoint(weights, optimizer, info))
        return path


def _line(text: str) -> dict[str, Any] | None:
    """A log line; one that was cut off by a kill is None."""
    try:
        return json.loads(text)
    except ValueError:
        return None


def smoothed(values: list[float], keep: float = 0.98) -> list[float]:
    """A running mean that forgets: each value counts `keep` times the one after it."""
    out: list[float] = []
    total = weight = 0.0
    for value in values:
        total, weight = keep * total + value, keep * weight + 1.0
        out.append(total / weight)
    return out
