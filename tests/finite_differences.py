"""Gradients judged by finite differences through the eager model in float64.

The measure of an error is relative to the sum of the magnitudes of the gradient's terms, because a sum that nearly
cancels cannot be had more exactly than its terms: for a direction v the terms are g_i * v_i, for one entry they are
what each element of the unreduced loss contributes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Probe:
    """The derivative of every element of a loss when one array moves along `direction`; `entry` if that is one axis."""

    direction: np.ndarray
    parts: np.ndarray
    entry: tuple[int, ...] | None = None

    def error(self, gradient: np.ndarray) -> float:
        """The relative error of `gradient`, that of the mean of the elements. NaN and a spurious 0 / 0 are infinite."""
        assert gradient.shape == self.direction.shape and gradient.dtype == np.float64
        terms = gradient * self.direction
        found = self.parts.mean()
        size = np.abs(terms).sum() if self.entry is None else np.abs(self.parts).mean()
        miss = abs(found - terms.sum())
        if miss == 0.0:
            return 0.0
        return float(miss / size) if size > 0 and np.isfinite(miss) else np.inf

    def __str__(self) -> str:
        return "a random direction" if self.entry is None else f"entry {self.entry}"


def derivative(losses: Callable[[], Any], array: np.ndarray, direction: np.ndarray, h: float = 1e-3) -> np.ndarray:
    """The derivative of every element of `losses()` when `array`, which it reads, moves along `direction`.

    Central differences at h and h/2 with one Richardson step: the error is of order h**4 = 1e-12, beside rounding of
    1e-16 / h = 1e-13. `array` is float64 and is put back.
    """
    assert array.dtype == np.float64
    base = array.copy()

    def central(step: float) -> np.ndarray:
        array[...] = base + step * direction
        above = np.array(losses())
        array[...] = base - step * direction
        below = np.array(losses())
        array[...] = base
        return (above - below) / (2.0 * step)

    return (4.0 * central(h / 2.0) - central(h)) / 3.0


def probes(
    losses: Callable[[], Any], array: np.ndarray, entries: Sequence[int], rng: np.random.Generator, random: int = 2
) -> list[Probe]:
    """Probes of `array`: a random direction of unit length, those of the flat `entries`, and `random` others."""
    direction = rng.standard_normal(array.shape)
    direction /= np.linalg.norm(direction)
    found = [Probe(direction, derivative(losses, array, direction))]
    for flat in [*entries, *rng.integers(0, array.size, random)]:
        entry = tuple(int(i) for i in np.unravel_index(flat, array.shape))
        one = np.zeros(array.shape)
        one[entry] = 1.0
        found.append(Probe(one, derivative(losses, array, one), entry))
    return found


def wrong(found: Sequence[Probe], gradient: np.ndarray, tolerance: float = 1e-6) -> list[str]:
    """The probes that `gradient` fails, with their errors."""
    return [f"{probe}: {error:.1e}" for probe in found if (error := probe.error(gradient)) > tolerance]
