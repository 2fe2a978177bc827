"""Learning-rate schedules: callables of the step, counted from 1, for `lr=`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """A learning rate for every step (the first is 1); equal and printed by what it was made with."""

    text: str
    at: Callable[[int], float]

    def __call__(self, step: int) -> float:
        return self.at(step)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Schedule) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return self.text


def constant(lr: float) -> Schedule:
    """lr in every step."""
    return Schedule(f"constant({lr})", lambda step: lr)


def linear(lr: float, total: int, final: float = 0.0, warmup: int = 0) -> Schedule:
    """Up to lr in `warmup` steps, then on a line to `final` at step `total`, and `final` after it."""

    def at(step: int) -> float:
        return _warmed(lr, warmup, final, step, 1.0 - _progress(step, warmup, total))

    return Schedule(f"linear({lr}, total={total}, final={final}, warmup={warmup})", at)


def warmup_cosine(lr: float, warmup: int, total: int, final: float = 0.0) -> Schedule:
    """Up to lr in `warmup` steps, then half a cosine to `final` at step `total`, and `final` after it."""

    def at(step: int) -> float:
        height = 0.5 * (1.0 + math.cos(math.pi * _progress(step, warmup, total)))
        return _warmed(lr, warmup, final, step, height)

    return Schedule(f"warmup_cosine({lr}, warmup={warmup}, total={total}, final={final})", at)


def cosine(lr: float, total: int, final: float = 0.0) -> Schedule:
    """`warmup_cosine` without warm-up."""
    return warmup_cosine(lr, 0, total, final)


def piecewise(lr: float, milestones: tuple[int, ...], factor: float = 0.1) -> Schedule:
    """lr, multiplied by `factor` after each of the steps in `milestones`."""
    marks = tuple(milestones)
    return Schedule(
        f"piecewise({lr}, milestones={marks}, factor={factor})",
        lambda step: lr * factor ** sum(step > m for m in marks),
    )


def _progress(step: int, warmup: int, total: int) -> float:
    """0 at the end of the warm-up, 1 at step `total` and after it."""
    return min(1.0, max(0.0, (step - warmup) / max(1, total - warmup)))


def _warmed(lr: float, warmup: int, final: float, step: int, height: float) -> float:
    """lr * step / warmup while warming up, then `height` (1 to 0) between lr and final."""
    return lr * step / warmup if step < warmup else final + (lr - final) * height
