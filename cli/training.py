"""The training loop, apart from any terminal: what to train, one step after the other, what to remember."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from ..compiler import compile as compile_model
from ..models import GPT, AdamW, clip_by_global_norm, schedule
from ..models.data import Batches, CharTokenizer, load_text, split, windows
from ..tracer import cross_entropy, manual_seed
from .checkpoints import Checkpoint, CheckpointError, differences, save

MODEL_OPTIONS = ("width", "depth", "heads", "context", "dropout", "bias", "vocab")
# what may change when a run is resumed: the loop's length and its reports, but nothing that a loss depends on
FREE = ("steps", "eval_every", "save_every", "threads", "name", "out")


@dataclass
class Options:
    """Everything that decides a run; the same options and data give the same losses, bit for bit."""

    data: str = "manual"
    width: int = 128
    depth: int = 4
    heads: int = 4
    context: int = 96
    batch: int = 16
    steps: int = 2500
    lr: float = 2e-3
    min_lr: float = 2e-4
    warmup: int = 100
    weight_decay: float = 0.1
    clip: float = 1.0
    dropout: float = 0.0
    bias: bool = False
    seed: int = 1337
    threads: int = 0
    eval_every: int = 250
    save_every: int = 250
    name: str = "gpt"
    out: str = "runs"


@dataclass(frozen=True)
class Report:
    """What one step brought; `val_loss` where the validation text was read."""

    step: int
    loss: float
    grad_norm: float
    lr: float
    tokens_per_second: float
    val_loss: float | None = None


def build_model(options: dict[str, Any]) -> Any:
    return GPT(
        options["vocab"], options["context"], options["width"], options["depth"], options["heads"],
        dropout=options["dropout"], bias=options["bias"],
    )  # fmt: skip


class Run:
    """A model in training: data, compiled step, log and checkpoint in one folder."""

    def __init__(self, options: Options, resume: Checkpoint | None = None) -> None:
        self.options = options
        self.folder = Path(options.out) / options.name
        text = load_text(options.data)
        self.tokenizer = CharTokenizer(resume.info["vocabulary"]) if resume else CharTokenizer.of(text)
        tokens = self.tokenizer.encode(text)
        self.train_tokens, self.val_tokens = split(tokens, options.context)
        self.batches = Batches(self.train_tokens, options.batch, options.context, options.seed)
        self.config = {**asdict(options), "vocab": len(self.tokenizer)}
        self.model_options = {k: self.config[k] for k in MODEL_OPTIONS}
        manual_seed(options.seed)
        self.model = build_model(self.model_options)
        self.step = compile_model(
            self.model, loss=cross_entropy, optimizer=self._optimizer(), threads=options.threads or None
        )
        self.step.seed = options.seed
        self.log = self.folder / "log.jsonl"
        self.reports: list[dict[str, Any]] = []
        if resume is not None:
            self._restore(resume)

    def _optimizer(self) -> Any:
        o = self.options
        matrices = [p for p in self.model.parameters() if p.ndim >= 2]
        vectors = [p for p in self.model.parameters() if p.ndim < 2]
        groups = [{"params": matrices, "weight_decay": o.weight_decay}]
        if vectors:
            groups.append({"params": vectors, "weight_decay": 0.0})
        lr = schedule.warmup_cosine(o.lr, min(o.warmup, o.steps // 2), o.steps, o.min_lr)
        optimizer = AdamW(lr=lr, betas=(0.9, 0.99), params=groups)
        return clip_by_global_norm(optimizer, o.clip) if o.clip else optimizer

    def _restore(self, saved: Checkpoint) -> None:
        wanted = {k: v for k, v in self.config.items() if k not in FREE}
        wrong = differences(saved.info["options"], wanted)
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

    @property
    def position(self) -> int:
        """Steps taken, which is also the number of the next batch."""
        return self.step.step_count

    def validation_loss(self) -> float:
        """Mean loss over every token of the held-out text."""
        total = count = 0.0
        for x, y in windows(self.val_tokens, 4 * self.options.batch, self.options.context):
            total += float(self.step.evaluate(x, y)) * y.size
            count += y.size
        return total / count

    def steps(self) -> Iterator[Report]:
        """Trains to the end, one report a step; the log is written along the way, the checkpoint as asked for."""
        o = self.options
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("a") as log:
            while self.position < o.steps:
                started = time.perf_counter()
                self.step(*self.batches[self.position])
                speed = o.batch * o.context / (time.perf_counter() - started)
                last, n = self.step.last, self.position
                assert last is not None
                val = self.validation_loss() if n % o.eval_every == 0 or n == o.steps else None
                report = Report(n, last.loss, last.grad_norm, last.lr, round(speed, 1), val)
                self.reports.append(asdict(report))
                log.write(json.dumps(self.reports[-1]) + "\n")
                if n % o.save_every == 0 or n == o.steps:
                    log.flush()
                    self.save()
                yield report

    def save(self) -> Path:
        """Writes the checkpoint; returns its path."""
        path = self.folder / "checkpoint.safetensors"
        info = {
            "step": self.position,
            "seed": self.options.seed,
            "position": self.position,
            "vocabulary": self.tokenizer.characters,
            "model": self.model_options,
            "options": self.config,
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


def options_of(info: dict[str, Any]) -> Options:
    """The options that a checkpoint was trained with."""
    return Options(**{f.name: info["options"][f.name] for f in fields(Options)})


def smoothed(values: list[float], keep: float = 0.98) -> list[float]:
    """A running mean that forgets: each value counts `keep` times the one after it."""
    out: list[float] = []
    total = weight = 0.0
    for value in values:
        total, weight = keep * total + value, keep * weight + 1.0
        out.append(total / weight)
    return out
