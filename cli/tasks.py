"""What `gradtape train` can train: the data, the model for it, and how what it learned is judged and shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Protocol

import numpy as np

from ..models import CNN, GPT, GRU, MLP
from ..models.data import Batches, CharTokenizer, DataError, digits, load_text, split, windows
from ..tracer import Module
from .options import WITHOUT, Options

Arrays = tuple[np.ndarray, np.ndarray]


class Task(Protocol):
    """The data of a run and the model for it. `unit` says what a loss is measured in, `counts` what a target is;
    `model` describes the model, and a checkpoint keeps it beside `info`."""

    unit: str
    counts: str
    model: dict[str, Any]
    info: dict[str, Any]

    def describe(self) -> str: ...
    def batch(self, index: int) -> Arrays: ...
    def validate(self, step: Any) -> dict[str, float]: ...
    def show(self, step: Any, length: int) -> str: ...


def task_for(options: Options, saved: Mapping[str, Any] | None = None) -> Task:
    """The task that the options name; `saved` is the info of a checkpoint that is resumed."""
    kind = Digits if options.model in ("mlp", "cnn") else Text
    return kind(options, saved)


def build_model(model: Mapping[str, Any]) -> Module:
    """The model that a checkpoint describes, with fresh weights."""
    m = dict(model)
    if m["model"] == "gpt":
        return GPT(
            m["vocab"], m["context"], m["width"], m["depth"], m["heads"], dropout=m["dropout"], bias=m["bias"]
        )  # fmt: skip
    if m["model"] == "gru":
        return GRU(m["vocab"], m["width"], m["depth"], dropout=m["dropout"])
    if m["model"] == "cnn":  # every block halves the image, and has twice the channels of the one before
        return CNN(1, 8, 10, [m["width"] << i for i in range(m["depth"])], dropout=m["dropout"])
    return MLP(64, *[m["width"]] * m["depth"], 10)


def _chosen(options: Options, *names: str) -> dict[str, Any]:
    return {k: v for k, v in asdict(options).items() if k in ("model", *names)}


class Text:
    """Next characters. Batches are random windows of a text whose last tenth is held out."""

    unit, counts = "nats per character", "tokens"

    def __init__(self, options: Options, saved: Mapping[str, Any] | None = None) -> None:
        self.options = options
        text = load_text(options.data)
        self.tokenizer = CharTokenizer(saved["vocabulary"]) if saved else CharTokenizer.of(text)
        self.train, self.held_out = split(self.tokenizer.encode(text), options.context)
        self.batches = Batches(self.train, options.batch, options.context, options.seed)
        used = ("width", "depth", "heads", "context", "dropout", "bias")
        self.model = _chosen(options, *(u for u in used if u not in WITHOUT[options.model]))
        self.model["context"], self.model["vocab"] = options.context, len(self.tokenizer)
        self.info = {"vocabulary": self.tokenizer.characters}

    def describe(self) -> str:
        return (
            f"{len(self.train):,} characters to train on, {len(self.held_out):,} to validate, "
            f"vocabulary {len(self.tokenizer)}"
        )

    def batch(self, index: int) -> Arrays:
        return self.batches[index]

    def validate(self, step: Any) -> dict[str, float]:
        """The mean loss over every token of the held-out text."""
        total = count = 0.0
        for x, y in windows(self.held_out, 4 * self.options.batch, self.options.context):
            total += float(step.evaluate(x, y)) * y.size
            count += y.size
        return {"loss": total / count}

    def show(self, step: Any, length: int) -> str:
        """Text of the model's own."""
        from .generate import write

        options = self.options
        known = self.tokenizer.characters
        start = "\n" if "\n" in known else known[0]
        text = write(step, self.tokenizer, start, length, options.context, seed=options.seed)
        line, folder = "-" * 80, f"{options.out}/{options.name}"
        more = f'more: gradtape generate {folder} --prompt "The " --tokens 500 --temperature 0.7'
        return "\n".join([line, text.strip("\n"), line, more])


class Digits:
    """Which digit an image shows: 8 x 8 pixels in 0 to 1, ten classes. A fifth of the images is held out; those to
    train on are moved by up to one pixel, another way each time."""

    unit, counts = "nats per image", "images"

    def __init__(self, options: Options, saved: Mapping[str, Any] | None = None) -> None:
        if options.data != "digits":
            raise DataError(f"--model {options.model} reads --data digits, not {options.data}")
        self.options = options
        images, labels = digits()
        order = np.random.default_rng(0).permutation(len(labels))  # the same images are held out in every run
        cut = len(labels) * 4 // 5
        (self.images, self.labels), (self.x, self.y) = (
            (images[part], labels[part]) for part in (order[:cut], order[cut:])
        )
        used = ("width", "depth", "dropout", "bias")
        self.model = _chosen(options, *(u for u in used if u not in WITHOUT[options.model]))
        self.info = {}

    def describe(self) -> str:
        return f"{len(self.labels):,} images to train on, {len(self.y):,} to validate"

    def batch(self, index: int) -> Arrays:
        rng = np.random.Generator(np.random.Philox(key=self.options.seed, counter=[0, 0, 0, index]))
        chosen = rng.integers(0, len(self.labels), self.options.batch)
        moved = moved_by(self.images[chosen], rng.integers(-1, 2, (self.options.batch, 2)))
        return self._shaped(moved), self.labels[chosen]

    def _shaped(self, images: np.ndarray) -> np.ndarray:
        return images.reshape(len(images), 64) if self.options.model == "mlp" else images[:, None]

    def validate(self, step: Any) -> dict[str, float]:
        """The mean loss over the held-out images, and the share of them that is read right."""
        wrong = sum(self._mistakes(step).values())
        return {
            "loss": float(step.evaluate(self._shaped(self.x), self.y)),
            "accuracy": 1 - wrong / len(self.y),
        }

    def _mistakes(self, step: Any) -> Counter[tuple[int, int]]:
        """(digit, read as) -> how often, of the held-out images."""
        read = step.forward(self._shaped(self.x)).argmax(-1)
        return Counter((int(a), int(b)) for a, b in zip(self.y, read, strict=True) if a != b)

    def show(self, step: Any, length: int) -> str:
        """Which images are misread."""
        mistakes = self._mistakes(step)
        wrong = sum(mistakes.values())
        lines = [
            f"{len(self.y) - wrong} of {len(self.y)} held-out images are read right ({1 - wrong / len(self.y):.2%})"
        ]
        lines += [f"  {a} read as {b}: {n}" for (a, b), n in mistakes.most_common()]
        return "\n".join(lines)


def moved_by(images: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Each image (N, H, W) moved down and right by its own `steps` (N, 2) in -1, 0, 1; what comes in is 0."""
    n, height, width = images.shape
    wide = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    rows = np.arange(height)[None, :, None] + 1 - steps[:, 0, None, None]
    columns = np.arange(width)[None, None, :] + 1 - steps[:, 1, None, None]
    return wide[np.arange(n)[:, None, None], rows, columns]
