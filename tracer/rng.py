"""Random numbers: counter-based, from (seed, step, site, element index). In a traced program seed and step
are runtime scalars and the site is numbered while tracing; eagerly both live here, and every call takes the
next site of the step."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..ir.op import OPS
from ..ir.types import TypeRuleError
from .apply import public, run, value
from .functional import _shape
from .state import current_trace


class _Eager:
    """The seed, step and site of eager draws, and the NumPy generator that initialises parameters."""

    def __init__(self, seed: int) -> None:
        self.seed, self.step, self.site = seed, 0, 0
        self.generator = np.random.default_rng(seed)


_eager = _Eager(0)


def manual_seed(seed: int) -> None:
    """Sets the seed of parameter initialisation, of eager random functions, and of compiled programs that
    start now."""
    global _eager
    _eager = _Eager(int(seed))


def initial_seed() -> int:
    """The seed that `manual_seed` set last; 0 before that."""
    return _eager.seed


def generator() -> np.random.Generator:
    """The generator that parameters are initialised from."""
    return _eager.generator


def next_step() -> None:
    """Eager mode: the next training step, whose draws are those of a compiled program at the same seed and
    step."""
    _eager.step += 1
    _eager.site = 0


@public
def uniform(*shape: Any, dtype: str = "f32") -> Any:
    """Uniform numbers in [0, 1) of a shape; sizes may be Dims."""
    sizes, trace = _shape(shape), current_trace()
    if trace is not None:
        seed, step, site = trace.scalar("seed"), trace.scalar("step"), trace.builder.new_site()
        return run(OPS["uniform"], seed, step, shape=sizes, site=site, dtype=dtype)
    site, _eager.site = _eager.site, _eager.site + 1
    return run(OPS["uniform"], _eager.seed, _eager.step, shape=sizes, site=site, dtype=dtype)


@public
def dropout(x: Any, p: float = 0.5, training: bool = True) -> Any:
    """Each element 0 with probability p, else x / (1 - p); x itself if not training or p is 0.

    Raises ValueError for p outside [0, 1].
    """
    x = value(x)
    return _dropped(x, x.shape, p, training)


@public
def dropout1d(x: Any, p: float = 0.5, training: bool = True) -> Any:
    """Each channel 0 with probability p, else x / (1 - p): x (N, C, L) or (C, L)."""
    x = value(x)
    if x.ndim not in (2, 3):
        raise TypeRuleError(f"x is (N, C, L) or (C, L), not of {x.ndim} dimensions")
    return _dropped(x, (*x.shape[:-1], 1), p, training)


@public
def dropout2d(x: Any, p: float = 0.5, training: bool = True) -> Any:
    """Each channel of each example 0 with probability p, else x / (1 - p): x (N, C, H, W), or (N, C, L) as in
    PyTorch."""
    x = value(x)
    if x.ndim not in (3, 4):
        raise TypeRuleError(f"x is (N, C, H, W) or (N, C, L), not of {x.ndim} dimensions")
    return _dropped(x, (*x.shape[:2], *[1] * (x.ndim - 2)), p, training)


def _dropped(x: Any, shape: tuple, p: float, training: bool) -> Any:
    """x with 0 where one draw out of `shape`, which broadcasts to it, says so."""
    from .functional import where

    if not 0.0 <= p <= 1.0:
        raise ValueError(f"dropout: a probability lies in [0, 1], got p={p}")
    if not training or p == 0.0:
        return x
    x = run(OPS["mul"], x, 1.0 / (1.0 - p) if p < 1.0 else 0.0)
    return where(uniform(shape) >= p, x, 0.0)
