"""A random program in the making: its inputs, the values that it has, and the nodes that are recorded and run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cases import DTYPES
from gradtape.ir.build import Builder, TypeRuleViolation
from gradtape.ir.dims import Dim, Symbol, evaluate
from gradtape.ir.graph import Graph
from gradtape.ir.interp import Interpreter
from gradtape.ir.op import OPS
from gradtape.ir.types import TensorType, TypeRuleError, broadcast

LIMIT = 1e4  # values beyond are dropped: what follows would be a matter of overflow
SMALL, LARGE = 400, 40_000  # elements of a value at most: as plain Python, and compiled
SIZES = {
    "small": ((0, 1, 2, 3, 4, 5, 6, 8), (0.02, 0.13, 0.2, 0.2, 0.19, 0.12, 0.1, 0.04)),
    # around the widths of vectors (16 floats) and of the blocks of triangular products (64)
    "large": ((1, 2, 3, 15, 16, 17, 33, 63, 64, 65, 100, 130), (0.1, 0.1, *(0.08,) * 10)),
}
FLOATS, INTEGERS = ("f32", "f64"), ("i32", "i64")


@dataclass(eq=False)
class Known:
    """A value of the program in the making, and its numbers."""

    ref: Any
    value: np.ndarray
    used: bool = False

    @property
    def shape(self) -> tuple[Any, ...]:
        return self.ref.shape

    @property
    def dtype(self) -> str:
        return self.ref.type.dtype

    @property
    def rank(self) -> int:
        return self.value.ndim


@dataclass
class Pool:
    """The values of one program in the making, and how more are made.

    most    nodes of the program, before differentiation     scale   of its arrays, a key of SIZES
    ops     that may be drawn                                order   of the derivatives that it has
    """

    seed: int
    most: int = 60
    scale: str = "small"
    ops: Collection[str] = frozenset(OPS)
    order: int = 1
    pool: list[Known] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.order > 1:
            self.ops = frozenset(self.ops) - {"callback"}  # the derivative of one is opaque Python too
        self.rng = np.random.default_rng([self.seed, self.most, sorted(SIZES).index(self.scale), self.order])
        self.dtype = "f32" if self.rng.random() < 0.3 else "f64"
        self.builder = Builder(f"fuzz{self.seed}")
        self.elements = SMALL if self.scale == "small" else LARGE
        self.dims: list[Any] = [self.size() for _ in range(int(self.rng.integers(1, 5)))]
        self.sizes: dict[str, int] = {}
        if self.rng.random() < 0.35:
            for name in ("B", "T")[: int(self.rng.integers(1, 3))]:
                self.sizes[name] = max(1, self.size())
                self.builder.scope.symbols[name] = Symbol(name, 1, 4096)
                self.dims[int(self.rng.integers(len(self.dims)))] = Dim(name)
        self.recipes: dict[str, tuple[TensorType, Callable[..., np.ndarray]]] = {}
        self.wrt: list[str] = []
        self.machine = Interpreter(Graph("", (), {}, (), (), constants=self.builder.constants), {}, dims=self.sizes)

    def size(self) -> int:
        sizes, odds = SIZES[self.scale]
        return int(self.rng.choice(sizes, p=odds))

    def choose(self, items: Any) -> Any:
        return items[int(self.rng.integers(len(items)))]

    def chance(self, p: float) -> bool:
        return bool(self.rng.random() < p)

    def names(self, of: Iterable[str]) -> list[str]:
        return [n for n in of if n in self.ops]

    # inputs -----------------------------------------------------------------------------------------------------------
    def shape(self) -> tuple[Any, ...]:
        """A shape that broadcasts with the program's: some axes 1, leading ones missing; sometimes one of its own."""
        if self.chance(0.1):
            shape = tuple(self.size() for _ in range(int(self.rng.integers(0, 4))))
        else:
            whole = [1 if self.chance(0.2) else d for d in self.dims]
            shape = tuple(whole[int(self.rng.integers(0, len(whole) + 1)) if self.chance(0.3) else 0 :])
        while self.count(shape) > self.elements // 2:
            shape = shape[1:]
        return shape

    def count(self, shape: Iterable[Any]) -> int:
        return int(np.prod([evaluate(d, self.sizes) for d in shape], dtype=np.int64))

    def input(
        self,
        role: str,
        dtype: str | None = None,
        shape: tuple[Any, ...] | None = None,
        span: tuple[float, float] = (-2.0, 2.0),
    ) -> Known:
        """A fresh input, drawn from a span; floats are eighths (exact, with ties) or anything."""
        kind = TensorType(dtype or self.dtype, self.shape() if shape is None else shape)
        if role != "input" and any(isinstance(d, Dim) for d in kind.shape):
            role = "input"  # what is stored has a fixed shape
        low, high = span
        plain, smooth = self.chance(0.3), self.chance(0.15)

        def recipe(rng: np.random.Generator, sizes: tuple[int, ...]) -> np.ndarray:
            if kind.dtype == "bool":
                return rng.random(sizes) < 0.5
            if kind.dtype in INTEGERS:
                return rng.integers(int(np.ceil(low)), int(np.floor(high)) + 1, sizes)
            x = rng.uniform(low, high, sizes)
            if plain:
                x = np.clip(np.round(x * 8) / 8, low, high)
            return x * 0 + (low + high) / 2 if smooth and plain else x  # equal elements

        name = f"{role[0]}{len(self.recipes)}"
        if kind.dtype in FLOATS and (role == "param" or (role == "input" and self.chance(0.5))):
            self.wrt.append(name)
        self.recipes[name] = (kind, recipe)
        value = self.numbers(name, self.rng, self.sizes)
        ref = self.builder.input(name, kind, role)
        self.machine._values[ref._value] = value
        return self.add(ref, value)

    def numbers(self, name: str, rng: np.random.Generator, sizes: Mapping[str, int]) -> np.ndarray:
        kind, recipe = self.recipes[name]
        shape = tuple(evaluate(d, sizes) for d in kind.shape)
        return np.asarray(recipe(rng, shape)).astype(DTYPES[kind.dtype]).reshape(shape)

    def add(self, ref: Any, value: np.ndarray) -> Known:
        self.pool.append(Known(ref, value))
        return self.pool[-1]

    # nodes ------------------------------------------------------------------------------------------------------------
    def emit(self, op: str, *args: Any, **attrs: Any) -> Known | None:
        """Records an op on values and numbers and runs it. None, and nothing recorded, where it is refused or its
        result is of no use. Of several results the first is returned; all are known afterwards."""
        if op not in self.ops:
            return None
        if any(a is None for a in args):
            return None
        refs = [a.ref if isinstance(a, Known) else a for a in args]
        if not any(isinstance(a, Known) for a in args) and args:
            return None  # numbers alone are Python's business
        return self.record(lambda: self.builder.emit(OPS[op], refs, attrs), [a for a in args if isinstance(a, Known)])

    def record(self, build: Callable[[], Any], known: Sequence[Known] = ()) -> Known | None:
        before = len(self.builder.nodes)
        try:
            result = build()
        except (TypeRuleViolation, TypeRuleError):
            del self.builder.nodes[before:]
            return None
        refs = result if isinstance(result, tuple) else (result,)
        try:
            for node in self.builder.nodes[before:]:
                self.machine._evaluate(node)
        except ValueError:  # of a size that is symbolic, and 0 here: a maximum of no elements
            if all(k.value.size for k in known):
                raise
            del self.builder.nodes[before:]
            return None
        values = [np.asarray(self.machine[r._value]) for r in refs]
        # a size such as B - 2 has no meaning where B is 1
        agree = all(
            v.shape == tuple(evaluate(d, self.sizes) for d in r.shape) for v, r in zip(values, refs, strict=True)
        )
        if not agree or not all(self.useful(v) for v in values):
            # a constant, or the size of an axis, is shared by all that ask for it
            if not any(n.op in ("constant", "dim_scalar") for n in self.builder.nodes[before:]):
                del self.builder.nodes[before:]
            return None
        for k in known:
            k.used = True
        made = [self.add(ref, value) for ref, value in zip(refs, values, strict=True)]
        return made[0]

    def useful(self, value: np.ndarray) -> bool:
        if value.size > self.elements:
            return False
        if value.dtype.kind == "b" or not value.size:
            return True
        return bool(np.isfinite(value).all() and np.abs(value.astype(np.float64)).max() <= LIMIT)

    def pick(self, dtypes: Collection[str] = FLOATS, want: Callable[[Known], bool] = lambda k: True) -> Known | None:
        """A value of one of these dtypes, the younger the likelier."""
        found = [k for k in self.pool if k.dtype in dtypes and want(k)]
        if not found:
            return None
        odds = np.arange(1, len(found) + 1) ** 1.5
        return found[int(self.rng.choice(len(found), p=odds / odds.sum()))]

    def joins(self, shapes: Iterable[tuple[Any, ...]]) -> bool:
        """Whether they broadcast, to something not too large."""
        try:
            return self.count(broadcast(list(shapes))) <= self.elements
        except TypeRuleError:
            return False

    def within(self, x: Known | None, low: float, high: float) -> Known | None:
        """x where it lies in the span, else a function of it that does."""
        if x is None or x.dtype == "bool" or not x.value.size:
            return x
        if low <= x.value.min() and x.value.max() <= high:
            return x
        if x.dtype in INTEGERS:
            if self.chance(0.5):
                return self.emit("minimum", self.emit("maximum", x, int(np.ceil(low))), int(np.floor(high)))
            n = int(np.floor(high)) - int(np.ceil(low)) + 1
            return self.emit("add", self.emit("remainder", x, n), int(np.ceil(low)))
        roll = self.rng.random()
        if roll < 0.3:
            return self.emit("minimum", self.emit("maximum", x, low), high)
        middle, half = (low + high) / 2, (high - low) / 2
        if roll < 0.6:
            squashed = self.emit("tanh", x)
        elif roll < 0.8:
            squashed = self.emit("sin", x)
        else:
            squashed = self.emit("sub", self.emit("mul", self.emit("sigmoid", x), 2.0), 1.0)
        # 0.999: roundings must not take it out of the span
        return self.emit("add", self.emit("mul", squashed, 0.999 * half), middle)

    def number(self, low: float, high: float, dtype: str) -> Any:
        if dtype == "bool":
            return self.chance(0.5)
        if dtype in INTEGERS:
            return int(self.rng.integers(int(np.ceil(low)), int(np.floor(high)) + 1))
        nice = [v for v in (0.0, 1.0, -1.0, 2.0, 0.5, -0.25, 3.0) if low <= v <= high]
        return self.choose(nice) if nice and self.chance(0.6) else float(self.rng.uniform(low, high))

    def constant(self, array: np.ndarray) -> Known | None:
        return self.record(lambda: self.builder.wrap(self.builder.constant(array)))
