"""Random numbers: counter-based, from (seed, step, site, element index). In a traced program seed and step
are runtime scalars and the site is numbered while tracing; eagerly both live here, and every call takes the
next site of the step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import ref

import numpy as np

from ..ir.dims import Shape
from ..ir.graph import Attrs
from ..ir.op import OPS, Op
from ..ir.types import TypeRuleError, dtype_name
from .apply import public, run, value
from .functional import _shape
from .state import current_trace


class _Rounds:
    """A loop that runs eagerly, and what its rounds have drawn so far: `count` draws in the present one."""

    def __init__(self, rounds: int) -> None:
        self.rounds, self.round, self.count = rounds, 0, 0
        self.drawn: dict[tuple, Any] = {}

    def begin(self, number: int) -> None:
        self.round, self.count = number, 0


class _Eager:
    """The seed, step and site of eager draws, and the NumPy generator that initialises parameters."""

    def __init__(self, seed: int) -> None:
        self.seed, self.step, self.site = seed, 0, 0
        self.loops: list[_Rounds] = []
        self.generator = np.random.default_rng(seed)
        self.filled: list[tuple[str, float, float, tuple[int, ...], Any]] = []


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


def fill(parameter: Any, kind: str, a: float, b: float = 0.0) -> Any:
    """Fills a parameter: "uniform" in [a, b), "normal" with mean a and standard deviation b, "constant" a. What has
    been filled is remembered in order, so that a saved tape can begin with another seed."""
    parameter.data[...] = filling(generator(), kind, a, b, parameter.shape)
    _eager.filled.append((kind, a, b, parameter.shape, ref(parameter)))
    return parameter


def filling(source: np.random.Generator, kind: str, a: float, b: float, shape: tuple[int, ...]) -> Any:
    """The numbers of `fill`."""
    if kind == "constant":
        return a
    return source.uniform(a, b, shape) if kind == "uniform" else source.normal(a, b, shape)


def filled() -> list[tuple[str, float, float, tuple[int, ...], Any]]:
    """(kind, a, b, shape, parameter) of everything filled since `manual_seed`; None for parameters that are gone."""
    return [(*how, parameter()) for *how, parameter in _eager.filled]  # type: ignore[misc]


def next_step() -> None:
    """Eager mode: the next training step, whose draws are those of a compiled program at the same seed and
    step."""
    _eager.step += 1
    _eager.site = 0


@contextmanager
def same_draws() -> Iterator[None]:
    """Eager draws inside start where they stand, and afterwards they stand there again."""
    state, step, site = _eager, _eager.step, _eager.site
    try:
        yield
    finally:
        state.step, state.site = step, site


def draw(name: str, shape: tuple, **attrs: Any) -> Any:
    """The random op of that name for a shape of ints and Dims, at a site of its own."""
    sizes, trace = _shape(shape), current_trace()
    if trace is not None:
        return trace.draw(OPS[name], sizes, attrs)
    return _draw(OPS[name], sizes, attrs, len(_eager.loops))


def _draw(op: Op, shape: Shape, attrs: Attrs, depth: int) -> Any:
    """An eager draw within `depth` loops. As in a traced program, a loop draws for all its rounds at once."""
    if depth == 0:
        site, _eager.site = _eager.site, _eager.site + 1
        return run(op, _eager.seed, _eager.step, shape=shape, site=site, **attrs)
    loop = _eager.loops[depth - 1]
    key = (op, shape, tuple(attrs.items()), loop.count)
    if key not in loop.drawn:
        loop.drawn[key] = _draw(op, (loop.rounds, *shape), attrs, depth - 1)
    loop.count += 1
    return loop.drawn[key][loop.round]


@contextmanager
def rounds(count: int) -> Iterator[Callable[[int], None]]:
    """Eager mode: a loop of `count` rounds; what it gives is called with the number of each round as it begins."""
    loop = _Rounds(count)
    _eager.loops.append(loop)
    try:
        yield loop.begin
    finally:
        _eager.loops.remove(loop)


@public
def uniform(*shape: Any, low: Any = 0.0, high: Any = 1.0, dtype: Any = "f32") -> Any:
    """Uniform numbers in [low, high) of a shape; sizes may be Dims, the bounds traced. 24 random bits, also in f64."""
    u = draw("uniform", shape, dtype=dtype_name(dtype))
    return u if isinstance(low, float) and (low, high) == (0.0, 1.0) else u * (high - low) + low


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
