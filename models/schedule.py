"""Learning-rate schedules: callables of the step, counted from 1, for `lr=`."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class constant:
    """lr in every step."""

    lr: float

    def __call__(self, step: int) -> float:
        return self.lr


@dataclass(frozen=True)
class linear:
    """From lr * 1/warmup up to lr in `warmup` steps, then on a line to `final` at step `total`, and `final` after it."""

    lr: float
    total: int
    final: float = 0.0
    warmup: int = 0

    def __call__(self, step: int) -> float:
        return _warmed(self, step, 1.0 - _progress(self, step))


@dataclass(frozen=True)
class warmup_cosine:
    """From lr * 1/warmup up to lr in `warmup` steps, then half a cosine to `final` at step `total`, and `final` after."""

    lr: float
    warmup: int
    total: int
    final: float = 0.0

    def __call__(self, step: int) -> float:
        return _warmed(self, step, 0.5 * (1.0 + math.cos(math.pi * _progress(self, step))))


@dataclass(frozen=True)
class piecewise:
    """lr, multiplied by `factor` after each of the steps in `milestones`."""

    lr: float
    milestones: tuple[int, ...]
    factor: float = 0.1

    def __call__(self, step: int) -> float:
        return self.lr * self.factor ** sum(step > m for m in self.milestones)


def cosine(lr: float, total: int, final: float = 0.0) -> warmup_cosine:
    """`warmup_cosine` without warm-up."""
    return warmup_cosine(lr, 0, total, final)


def _progress(schedule: linear | warmup_cosine, step: int) -> float:
    """0 at the end of the warm-up, 1 at step `total` and after it."""
    span = max(1, schedule.total - schedule.warmup)
    return min(1.0, max(0.0, (step - schedule.warmup) / span))


def _warmed(schedule: linear | warmup_cosine, step: int, height: float) -> float:
    if step < schedule.warmup:
        return schedule.lr * step / schedule.warmup
    return schedule.final + (schedule.lr - schedule.final) * height
