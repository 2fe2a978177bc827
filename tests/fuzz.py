"""Random programs: typed graphs over elementwise ops, reductions, views and products, with gradients and updates.

`random_case(seed)` is deterministic. The builder runs every node eagerly as it goes, and drops what would make a
comparison meaningless: values that grow without bound, comparisons of numbers that differ by a rounding error only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import gradtape.ir.ops  # noqa: F401  (fills the registry)
from gradtape.ir.build import Builder
from gradtape.ir.graph import Graph, Literal
from gradtape.ir.op import OPS
from gradtape.ir.types import DTYPES, TensorType
from gradtape.passes.autodiff import differentiate

LIMIT = 50.0  # values beyond are dropped
APART = 1e-3  # floats that are compared must differ by this much, or be exact


@dataclass
class Case:
    """A graph with the values of its inputs. `smooth`: finite differences of `loss` mean something."""

    seed: int
    graph: Graph
    values: dict[str, np.ndarray]
    wrt: list[str]
    checks: tuple[str, ...]
    smooth: bool

    def __str__(self) -> str:
        return f"case of seed {self.seed} (tests/fuzz.py):\n{self.graph}"


@dataclass(eq=False)
class Known:
    """A value in the making: what it is, whether it is free of rounding, and whether it moves with the parameters."""

    ref: Any
    value: np.ndarray
    exact: bool
    used: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape


@dataclass
class Generator:
    seed: int
    rng: np.random.Generator = field(init=False)
    pool: list[Known] = field(default_factory=list)
    smooth: bool = True

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        rng = self.rng
        self.dtype = "f32" if rng.random() < 0.3 else "f64"
        self.builder = Builder(f"fuzz{self.seed}")
        rank = int(rng.integers(1, 5))
        self.dims = [self.size() for _ in range(rank)]
        self.values: dict[str, np.ndarray] = {}
        self.params: list[str] = []

    def size(self) -> int:
        sizes, odds = (0, 1, 2, 3, 4, 5, 6, 8), (0.01, 0.13, 0.2, 0.2, 0.2, 0.12, 0.1, 0.04)
        return int(self.rng.choice(sizes, p=odds))

    def choose(self, items: Any) -> Any:
        return items[int(self.rng.integers(len(items)))]

    # inputs -----------------------------------------------------------------------------------------------------------
    def shape(self) -> tuple[int, ...]:
        """A shape that broadcasts with the case's: some axes 1, leading ones missing; sometimes one of its own."""
        if self.rng.random() < 0.1:
            return tuple(self.size() for _ in range(int(self.rng.integers(0, 4))))
        shape = [1 if self.rng.random() < 0.2 else d for d in self.dims]
        return tuple(shape[int(self.rng.integers(0, len(shape) + 1)) if self.rng.random() < 0.3 else 0 :])

    def input(self, role: str, dtype: str | None = None, shape: tuple[int, ...] | None = None) -> Known:
        dtype = dtype or self.dtype
        shape = self.shape() if shape is None else shape
        if dtype == "bool":
            value = np.asarray(self.rng.random(shape) < 0.5)
        elif dtype in ("i32", "i64"):
            value = np.asarray(self.rng.integers(-4, 5, shape))
        else:  # eighths: exact in both float types, with ties
            value = np.asarray(self.rng.integers(-16, 17, shape) / 8)
            if self.rng.random() < 0.7:
                value = np.asarray(value + self.rng.standard_normal(shape) * 0.1)
        value = value.astype(DTYPES[dtype])
        name = f"{role[0]}{len(self.values)}"
        if role == "param":
            self.params.append(name)
        self.values[name] = value
        known = Known(self.builder.input(name, TensorType(dtype, shape), role), value, exact=True)
        self.pool.append(known)
        return known

    # nodes ------------------------------------------------------------------------------------------------------------
    def emit(self, name: str, *args: Any, exact: bool = False, **attrs: Any) -> Known | None:
        """Records the op and runs it; None, and nothing recorded, where the result is of no use."""
        before = len(self.builder.nodes), self.builder._names
        known = [a for a in args if isinstance(a, Known)]
        if name in ("iota", "full"):
            ref = self.builder.emit(OPS[name], (), attrs)
        else:
            ref = OPS[name](*(a.ref if isinstance(a, Known) else a for a in args), **attrs)
        plain = [a.value if isinstance(a, Known) else a for a in args]
        value = np.asarray(OPS[name].eager(*plain, **attrs))
        fits = value.size <= 2000 and value.shape == ref.shape
        if fits and value.dtype.kind == "f" and value.size:
            fits = bool(np.isfinite(value).all() and np.abs(value).max() <= LIMIT)
        if not fits:
            assert value.shape == ref.shape, (name, value.shape, ref)
            del self.builder.nodes[before[0] :]
            return None
        value = value.astype(DTYPES[ref.type.dtype])
        for k in known:
            k.used = True
        made = Known(ref, value, exact and all(k.exact for k in known))
        self.pool.append(made)
        return made

    def pick(self, kind: str = "f", want: Callable[[Known], bool] = lambda k: True) -> Known | None:
        """A value of that kind of dtype, the younger the likelier."""
        found = [k for k in self.pool if k.value.dtype.kind == kind and want(k)]
        if not found:
            return None
        odds = np.arange(1, len(found) + 1) ** 1.5
        return found[int(self.rng.choice(len(found), p=odds / odds.sum()))]

    def pair(self, x: Known, kind: str = "f") -> Known | None:
        """A partner that broadcasts with x."""

        def fits(k: Known) -> bool:
            try:
                return int(np.prod(np.broadcast_shapes(k.shape, x.shape))) <= 2000
            except ValueError:
                return False

        return self.pick(kind, fits)

    def number(self) -> float:
        return float(self.choose([0.5, 2.0, -1.0, 1.0, 0.0, 3, -0.25, 0.1]))

    def unary(self) -> Any:
        x = self.pick()
        if x is None:
            return None
        name = self.choose(
            "neg tanh sigmoid relu abs square exp sqrt log rsqrt reciprocal erf gelu_tanh gelu_erf stop_gradient cast "
            "sign pow where_number number".split()
        )
        if name in ("sqrt", "log", "rsqrt", "reciprocal", "pow"):
            x = self.emit("square", x)
            x = x and self.emit("add", x, self.choose([0.5, 1.0]))
            if x is None:
                return None
            return self.emit("pow", x, self.choose([2, -1, 0.5, 1.5, 3, 1])) if name == "pow" else self.emit(name, x)
        if name == "number":
            args = [x, self.number()]
            if self.rng.random() < 0.5:
                args.reverse()
            op = self.choose(["add", "sub", "mul", "maximum", "minimum"])
            if op in ("maximum", "minimum"):
                self.kink(x.value - next(a for a in args if a is not x))
            return self.emit(op, *args)
        if name == "cast":
            return self.emit("cast", x, dtype=self.choose(["f32", "f64"]))
        if name == "exp":
            x = self.emit("tanh", x)
            return x and self.emit("exp", x)
        if name in ("relu", "abs", "sign"):
            if not self.kink(x.value) and not x.exact:
                return None
            return self.emit(name, x, exact=True)
        if name == "where_number":
            c = self.condition(x)
            return c and self.emit("where", c, x, self.number())
        return self.emit(name, x, exact=name in ("neg", "stop_gradient"))

    def kink(self, distance: np.ndarray) -> bool:
        """Notes a kink close by; whether there is none."""
        near = bool(distance.size) and float(np.abs(distance).min()) < APART
        if near:
            self.smooth = False
        return not near

    def condition(self, like: Known) -> Known | None:
        """A bool that broadcasts with `like`: an input, a comparison, a mask of indices, logic."""
        roll = self.rng.random()
        if roll < 0.25:
            shape = tuple(1 if self.rng.random() < 0.3 else d for d in like.shape)
            return self.input("input", "bool", shape)
        if roll < 0.5 and len(like.shape) >= 2:
            i = self.emit("iota", shape=(*like.shape[-2:-1], 1), axis=0, dtype="i64", exact=True)
            j = self.emit("iota", shape=(1, *like.shape[-1:]), axis=1, dtype="i64", exact=True)
            return i and j and self.emit(self.choose(["less", "greater_equal", "equal"]), i, j, exact=True)
        if roll < 0.6:
            a = self.pick("b")
            fits = a is not None and self.broadcasts(a, like)
            return a and self.emit("logical_not", a) if fits else None
        a = self.pick("f", lambda k: self.broadcasts(k, like))
        b = a and self.pair(a)
        if a is None or b is None or not self.broadcasts(b, like):
            return None
        if not (a.exact and b.exact) and not self.kink(a.value - b.value):
            return None
        self.kink(a.value - b.value)
        return self.emit(self.choose("less less_equal greater greater_equal equal not_equal".split()), a, b, exact=True)

    @staticmethod
    def broadcasts(a: Known, b: Known) -> bool:
        try:
            return int(np.prod(np.broadcast_shapes(a.shape, b.shape))) <= 2000
        except ValueError:
            return False

    def binary(self) -> Any:
        x = self.pick()
        y = x and self.pair(x)
        if x is None or y is None:
            return None
        if self.rng.random() < 0.5:
            x, y = y, x
        name = self.choose("add add sub mul mul div maximum minimum where".split())
        if name == "div":
            y = self.emit("square", y)
            y = y and self.emit("add", y, 1.0)
            return y and self.emit("div", x, y)
        if name in ("maximum", "minimum"):
            if not self.kink(x.value - y.value) and not (x.exact and y.exact):
                return None
            return self.emit(name, x, y, exact=True)
        if name == "where":
            c = self.condition(x)
            return c and self.broadcasts(c, y) and self.emit("where", c, x, y, exact=True)
        return self.emit(name, x, y)

    def axes(self, rank: int) -> tuple[int, ...]:
        count = int(self.rng.integers(0 if self.rng.random() < 0.1 else 1, rank + 1)) if rank else 0
        return tuple(sorted(int(a) for a in self.rng.choice(rank, count, replace=False)))

    def reduction(self) -> Any:
        kind = "b" if self.rng.random() < 0.1 else "i" if self.rng.random() < 0.1 else "f"
        x = self.pick(kind, lambda k: len(k.shape) > 0)
        if x is None:
            return None
        axes, keepdims = self.axes(len(x.shape)), bool(self.rng.random() < 0.6)
        if kind == "b":
            return self.emit(self.choose(["any", "all"]), x, axes=axes, keepdims=keepdims, exact=True)
        name = self.choose(["sum", "max", "min"] if kind == "i" else "sum sum mean max min prod".split())
        count = int(np.prod([x.shape[a] for a in axes], dtype=int))
        if name in ("max", "min", "mean") and count == 0:
            return None
        if name in ("max", "min") and kind == "f" and x.value.size:
            top = OPS[name].eager(x.value, axes=axes, keepdims=True)
            close = np.abs(x.value - top) < APART
            if close.sum() != np.asarray(top).size:
                self.smooth = False
                if not x.exact:
                    return None
        if name == "prod":
            x = self.emit("tanh", x)
            if x is None:
                return None
            self.kink(x.value)
        return self.emit(name, x, axes=axes, keepdims=keepdims, exact=name in ("max", "min") or kind == "i")

    def along_axis(self) -> Any:
        x = self.pick("f", lambda k: len(k.shape) > 0 and 0 not in k.shape)
        if x is None:
            return None
        axis = int(self.rng.integers(len(x.shape)))
        name = self.choose("softmax log_softmax logsumexp layer_norm rms_norm".split())
        if name in ("layer_norm", "rms_norm"):
            return self.emit(name, x, axes=self.axes(len(x.shape)) or (axis,), eps=1e-1)
        return self.emit(name, x, axis=axis)

    def refactored(self, size: int) -> tuple[int, ...]:
        """A shape of `size` elements."""
        if size == 0:
            return self.choose([(0,), (0, 3), (2, 0, 1)])
        shape, rest = [], size
        while rest > 1 and len(shape) < 4:
            factor = self.choose([f for f in range(2, rest + 1) if rest % f == 0])
            shape.append(factor)
            rest //= factor
        if rest > 1:
            shape.append(rest)
        if self.rng.random() < 0.3:
            shape.insert(int(self.rng.integers(len(shape) + 1)), 1)
        self.rng.shuffle(shape)
        return tuple(int(s) for s in shape)

    def view(self) -> Any:
        x = self.pick(self.choose("fffib"))
        if x is None:
            return None
        rank = len(x.shape)
        name = self.choose("reshape reshape permute permute slice slice broadcast_to concat unslice".split())
        if name == "reshape":
            merged = self.merged(x.shape) if self.rng.random() < 0.5 else self.refactored(x.value.size)
            return self.emit("reshape", x, shape=merged, exact=True)
        if name == "permute":
            return self.emit("permute", x, axes=tuple(int(a) for a in self.rng.permutation(rank)), exact=True)
        if name == "broadcast_to":
            front = tuple(int(self.rng.integers(1, 4)) for _ in range(int(self.rng.integers(0, 2))))
            back = tuple(int(self.rng.integers(1, 5)) if d == 1 else d for d in x.shape)
            return self.emit("broadcast_to", x, shape=front + back, exact=True)
        if name == "concat" and rank:
            y = self.pick(x.value.dtype.kind, lambda k: k.shape == x.shape and k.value.dtype == x.value.dtype)
            return y and self.emit(
                "concat",
                *self.choose([(x, y), (y, x), (x, x), (x, y, x)]),
                axis=int(self.rng.integers(rank)),
                exact=True,
            )
        start, size, step, shape = [], [], [], []
        for d in x.shape:
            n = int(self.rng.integers(0 if self.rng.random() < 0.05 else min(1, d), d + 1)) if d else 0
            if self.rng.random() < 0.4:
                n = d
            s = int(self.rng.choice([1, 1, 2, 3, -1, -2]))
            span = (n - 1) * abs(s) + 1 if n else 0
            if name == "slice" and span > d:
                s, span = (1 if s > 0 else -1), n
            room = d - span if name == "slice" else int(self.rng.integers(0, 3))
            first = int(self.rng.integers(0, room + 1)) if room > 0 else 0
            if name == "unslice":
                n = d
                span = (n - 1) * abs(s) + 1 if n else 0
            start.append(first + (span - 1 if s < 0 and n else 0))
            size.append(n)
            step.append(s)
            shape.append(first + span + (room - first if room > first else 0))
        if name == "slice":
            return self.emit("slice", x, start=tuple(start), size=tuple(size), step=tuple(step), exact=True)
        if name == "unslice":
            return self.emit("unslice", x, shape=tuple(shape), start=tuple(start), step=tuple(step), exact=True)
        return None

    def merged(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape with one neighbouring pair of axes as one, or one axis split in two: often still a view."""
        if len(shape) > 1 and self.rng.random() < 0.5:
            i = int(self.rng.integers(len(shape) - 1))
            return (*shape[:i], shape[i] * shape[i + 1], *shape[i + 2 :])
        for i in self.rng.permutation(len(shape)):
            if shape[i] in (4, 6, 8):
                return (*shape[:i], 2, shape[i] // 2, *shape[i + 1 :])
        return shape

    def product(self) -> Any:
        x = self.pick("f", lambda k: len(k.shape) > 0)
        if x is None:
            return None
        inner = x.shape[-1]
        fits = lambda k: len(k.shape) > 0 and k.shape[-2 if len(k.shape) > 1 else 0] == inner
        y = self.pick("f", lambda k: fits(k) and self.batches(x, k)) if self.rng.random() < 0.5 else None
        if y is None:
            batch = tuple(1 if self.rng.random() < 0.3 else d for d in x.shape[:-2])
            batch = batch[int(self.rng.integers(0, len(batch) + 1)) :] if self.rng.random() < 0.6 else ()
            y = self.input("param", shape=(*batch, inner, self.size()) if self.rng.random() < 0.85 else (inner,))
        out = self.emit("matmul", x, y)
        return out and self.emit("mul", out, 0.25)

    @staticmethod
    def batches(x: Known, y: Known) -> bool:
        try:
            return int(np.prod(np.broadcast_shapes(x.shape[:-2], y.shape[:-2]))) <= 200
        except ValueError:
            return False

    def lookup(self) -> Any:
        table = self.pick("f", lambda k: len(k.shape) > 0 and k.shape[0] > 0)
        if table is None:
            return None
        shape = self.choose([(), (3,), (2, 4), (0,), (5, 1)])
        index = self.input("input", self.choose(["i64", "i32"]), shape)
        low = -table.shape[0] if self.rng.random() < 0.3 else 0
        index.value[...] = self.rng.integers(low, table.shape[0], shape)
        return self.emit("take", table, index, exact=True)

    def integers(self) -> Any:
        x = self.pick("i")
        y = x and self.pair(x, "i")
        if x is None or y is None:
            return None
        name = self.choose("add sub mul maximum cast square div less".split())
        if name == "cast":
            return self.emit("cast", x, dtype=self.choose([self.dtype, "i64", "i32", "bool"]), exact=True)
        if name == "square":
            return self.emit("square", x, exact=True)
        if name == "div":
            return self.emit("div", x, self.choose([3, 2.0]))
        made = self.emit(name, x, y, exact=True)
        if made is not None and made.value.dtype.kind == "i" and np.abs(made.value).max(initial=0) > 1000:
            self.pool.remove(made)
        return made

    # the whole --------------------------------------------------------------------------------------------------------
    def loss(self) -> Any:
        """A sum over everything that nothing has used yet, each weighted by its own number."""
        total = None
        loose = [k for k in self.pool if not k.used and k.value.dtype.kind == "f"]
        for k in loose or [self.pick()]:
            if k is None:
                continue
            part = k.ref
            if self.rng.random() < 0.3:
                part = part * part
            if self.rng.random() < 0.3 and part.ndim:
                weight = self.input("input", part.type.dtype, k.shape)
                part = part * weight.ref
            part = OPS["sum"](part, axes=tuple(range(part.ndim)), keepdims=False) * float(self.rng.integers(1, 5) / 4)
            total = part if total is None else total + part
        return total

    def case(self) -> Case:
        for _ in range(int(self.rng.integers(1, 4))):
            self.input("param")
        for _ in range(int(self.rng.integers(0, 3))):
            self.input("input")
        if self.rng.random() < 0.3:
            self.input("input", self.choose(["i64", "i32"]))
        if self.rng.random() < 0.3:
            self.input("input", "bool")
        moves = [
            self.unary,
            self.binary,
            self.reduction,
            self.along_axis,
            self.view,
            self.product,
            self.lookup,
            self.integers,
        ]
        odds = np.array([0.22, 0.22, 0.15, 0.06, 0.18, 0.09, 0.03, 0.05])
        target = int(self.rng.integers(4, 22))
        for _ in range(300):
            if len(self.builder.nodes) >= target:
                break
            moves[int(self.rng.choice(len(moves), p=odds))]()
        loss = self.loss()
        shown = [k for k in self.pool if self.rng.random() < 0.15]
        graph = self.builder.graph([("loss", loss), *((f"out{i}", k.ref) for i, k in enumerate(shown))])
        wrt = [p for p in self.params if self.rng.random() < 0.9]
        graph = differentiate(graph, "loss", wrt)
        graph = self.updated(graph)
        checks = ("loss",) if self.rng.random() < 0.5 else ()
        return Case(self.seed, graph, self.values, wrt, checks, self.smooth)

    def updated(self, graph: Graph) -> Graph:
        """Some parameters move along their gradient, are swapped, decay, or take a value of the program."""
        builder = Builder.extending(graph)
        outputs = [(n, builder.wrap(v) if not isinstance(v, Literal) else v.value) for n, v in graph.outputs]
        grads = dict(outputs)
        for name in self.params:
            param = builder.wrap(graph.input(name))
            roll = self.rng.random()
            new: Any = None
            if roll < 0.4 and f"grad:{name}" in grads:
                new = param - grads[f"grad:{name}"] * 0.1
            elif roll < 0.5:
                new = param * 0.9 + 0.1
            elif roll < 0.65:
                other = self.choose([p for p in self.params if graph.input(p).type == graph.input(name).type])
                new = builder.wrap(graph.input(other))
            elif roll < 0.75:
                known = [k for k in self.pool if k.ref.type == param.type]
                new = builder.wrap(self.choose(known).ref._value)
            elif roll < 0.8 and param.ndim and all(d > 0 for d in param.shape):
                flipped = OPS["slice"](
                    param, start=tuple(d - 1 for d in param.shape), size=param.shape, step=(-1,) * param.ndim
                )
                new = flipped if self.rng.random() < 0.5 else flipped + param
            if new is not None:
                builder.updates[name] = new._value
        kept = [(n, v) for n, v in outputs if not n.startswith("grad:") or self.rng.random() < 0.7]
        return builder.graph(kept)


def random_case(seed: int) -> Case:
    """The program of that seed, with its inputs; deterministic."""
    return Generator(seed).case()
