"""Learning-rate schedules: callables of the step, counted from 1, for `lr=`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Schedule:
    """A learning rate for every step (the first is 1); equal and printed by what it was made with."""

    text: str
    at: Callable[[int], float]
    made: tuple[Any, ...] = ()  # the function of this file that made it, by name, and its arguments

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
    return Schedule(f"constant({lr})", lambda step: lr, ("constant", lr))


def linear(lr: float, total: int, final: float = 0.0, warmup: int = 0) -> Schedule:
    """Up to lr in `warmup` steps, then on a line to `final` at step `total`, and `final` after it."""

    def at(step: int) -> float:
        return _warmed(lr, warmup, final, step, 1.0 - _progress(step, warmup, total))

    return Schedule(
        f"linear({lr}, total={total}, final={final}, warmup={warmup})", at, ("linear", lr, total, final, warmup)
    )


def warmup_cosine(lr: float, warmup: int, total: int, final: float = 0.0) -> Schedule:
    """Up to lr in `warmup` steps, then half a cosine to `final` at step `total`, and `final` after it."""

    def at(step: int) -> float:
        height = 0.5 * (1.0 + math.cos(math.pi * _progress(step, warmup, total)))
        return _warmed(lr, warmup, final, step, height)

    text = f"warmup_cosine({lr}, warmup={warmup}, total={total}, final={final})"
    return Schedule(text, at, ("warmup_cosine", lr, warmup, total, final))


def cosine(lr: float, total: int, final: float = 0.0) -> Schedule:
    """`warmup_cosine` without warm-up."""
    return warmup_cosine(lr, 0, total, final)


def piecewise(lr: float, milestones: tuple[int, ...], factor: float = 0.1) -> Schedule:
    """lr, multiplied by `factor` after each of the steps in `milestones`."""
    marks = tuple(milestones)
    return Schedule(
        f"piecewise({lr}, milestones={marks}, factor={factor})",
        lambda step: lr * factor ** sum(step > m for m in marks),
        ("piecewise", lr, marks, factor),
    )


def again(made: Sequence[Any]) -> Schedule:
    """The schedule whose `made` this is. Raises ValueError for anything else."""
    name, *arguments = made or [""]
    if name not in MAKERS:
        raise ValueError(f"there is no schedule {name!r}")
    if not all(type(a) in (int, float) or (isinstance(a, (list, tuple)) and name == "piecewise") for a in arguments):
        raise ValueError(f"the arguments of the schedule {name} are no numbers")
    try:
        return MAKERS[name](*arguments)
    except TypeError as error:
        raise ValueError(str(error)) from None


MAKERS: dict[str, Callable[..., Schedule]] = {
    "constant": constant, "linear": linear, "warmup_cosine": warmup_cosine, "piecewise": piecewise,
}  # fmt: skip


def _progress(step: int, warmup: int, total: int) -> float:
    """0 at the end of the warm-up, 1 at step `total` and after it."""
    return min(1.0, max(0.0, (step - warmup) / max(1, total - warmup)))


def _warmed(lr: float, warmup: int, final: float, step: int, height: float) -> float:
    """lr * step / warmup while warming up, then `height` (1 to 0) between lr and final."""
    return lr * step / warmup if step < warmup else final + (lr - final) * height
