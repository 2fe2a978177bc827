"""The options of a run, and what each model makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ..models.data import DataError


@dataclass
class Options:
    """Everything that decides a run; the same options and data give the same losses, bit for bit."""

    model: str = "gpt"
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
    patience: int = 0
    name: str = ""
    out: str = "runs"

    def __post_init__(self) -> None:
        self.name = self.name or self.model


# what differs from the defaults above, and the options that a model has no use for
DEFAULTS: dict[str, dict[str, Any]] = {
    "gpt": {},
    "gru": {"width": 256, "depth": 1},
    "mlp": {"data": "digits", "width": 128, "depth": 2, "batch": 64, "steps": 3000, "eval_every": 300},
    "cnn": {"data": "digits", "width": 32, "depth": 2, "batch": 64, "steps": 2000, "eval_every": 200, "dropout": 0.2},
}
WITHOUT: dict[str, tuple[str, ...]] = {
    "gpt": (),
    "gru": ("heads", "bias"),
    "mlp": ("heads", "context", "bias", "dropout"),
    "cnn": ("heads", "context", "bias"),
}
MODELS = tuple(DEFAULTS)


def options_for(given: Mapping[str, Any]) -> Options:
    """The options of a new run: what is given, for the rest the model's own defaults. Raises DataError for options
    that the model does not have."""
    model = given.get("model", "gpt")
    if unused := [name for name in WITHOUT[model] if name in given]:
        listed = ", ".join("--" + name.replace("_", "-") for name in unused)
        raise DataError(f"--model {model} has no use for {listed}")
    known = {f.name for f in fields(Options)}
    return Options(**{**DEFAULTS[model], **{k: v for k, v in given.items() if k in known}})


def options_of(info: Mapping[str, Any]) -> Options:
    """The options that a checkpoint was trained with."""
    return Options(**{f.name: info["options"][f.name] for f in fields(Options)})
