"""Random programs: typed graphs over the whole registry, with gradients, updates, views and symbolic sizes.

`draw(seed)` is deterministic. Ops are not listed here: they come from the rows of tests/rows.py. A row says in which
dtypes an op lives, from which spans its operands are taken and which attributes it has, so that an op with a row is
drawn without further ado: elementwise ops on values that broadcast, ops along `axis` or `axes` on any value, any other
in one of its row's cases, for which values are cut, turned and repeated until they have the shape of the case. Only
what takes its attributes from the shape of its operand (views, concat, products, masks) is spelled out.

Every node is run as soon as it is drawn, and dropped where its result would blow up the rest of the program.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cases import DTYPES, Case, In, Row
from fuzz_pool import FLOATS, INTEGERS, Known
from fuzz_views import Views
from gradtape.ir.build import Builder
from gradtape.ir.dims import Dim, dim_scope, evaluate
from gradtape.ir.graph import Graph, Literal
from gradtape.ir.interp import concrete
from gradtape.ir.op import OPS
from gradtape.ir.types import broadcast
from gradtape.passes.autodiff import differentiate
from rows import ROWS


@dataclass(frozen=True)
class Program:
    """A graph with the values of its inputs. `checks`: outputs that must be finite before anything is updated.

    `forward` is the graph before differentiation, with the outputs `loss` and those that are shown; `wrt` the inputs
    whose gradients are outputs. `resize(sizes)` gives inputs for other values of its symbols.
    """

    name: str
    graph: Graph
    values: Mapping[str, np.ndarray]
    checks: tuple[str, ...] = ()
    forward: Graph | None = None
    wrt: tuple[str, ...] = ()
    order: int = 1
    resize: Callable[[Mapping[str, int]], dict[str, np.ndarray]] | None = None


# what the rows say of the ops ---------------------------------------------------------------------------------------
def _attributes(row: Row) -> set[str]:
    return {name for c in row.cases for name in c.attrs}


def _operands(case: Case) -> bool:
    """Whether all inputs are drawn from spans, with nothing recorded by hand."""
    return bool(case.inputs) and case.build is None and all(isinstance(x, In) for x in case.inputs)


def _is_elementwise(row: Row) -> bool:
    """Broadcasts like an elementwise op: it is one, or a composite of one operand without attributes."""
    op = row.op
    if op.kind == "elementwise":
        return not (op.generator or op.random)
    return op.kind == "composite" and not _attributes(row) and all(len(c.inputs) == 1 for c in row.cases)


def _is_along_axis(row: Row) -> bool:
    """One array with `axis` or `axes` among the attributes, which are drawn; the others are those of a case."""
    axes = _attributes(row) & {"axis", "axes"}
    return bool(axes) and row.op.kind not in ("view", "copy") and all(len(c.inputs) == 1 for c in row.cases)


# ops whose attributes follow from the shape at hand: a move of `Draw` each, beside the cases of their rows
SPELLED_OUT = ("reshape", "permute", "broadcast_to", "slice", "unslice", "concat", "matmul", "take", "scatter_add")
# made by hand where they fit; a `constant` is what an array becomes
GENERATORS = ("full", "iota", "dim_scalar", "constant")

ELEMENTWISE = [n for n, row in ROWS.items() if _is_elementwise(row)]
ALONG_AXIS = [n for n, row in ROWS.items() if _is_along_axis(row)]
OTHERS = [n for n in ROWS if n not in (*ELEMENTWISE, *ALONG_AXIS, *SPELLED_OUT, *GENERATORS)]


class Draw(Views):
    """One program; every move draws something more of it."""

    # moves: elementwise -----------------------------------------------------------------------------------------------
    def elementwise(self) -> Any:
        """An op of the rows on values that broadcast; some operands are numbers, or of another dtype."""
        names = self.names(ELEMENTWISE)
        common = [n for n in ("add", "mul", "sub", "div", "where", "maximum", "tanh", "exp", "neg") if n in names]
        name = self.choose(common) if common and self.chance(0.35) else self.choose(names)
        row = ROWS[name]
        case = self.choose([c for c in row.cases if _operands(c)])
        dtypes = [d for d in row.dtypes if d in FLOATS] if self.chance(0.75) else list(row.dtypes)
        dtype = self.choose(dtypes or row.dtypes)
        if name == "pow" and dtype in INTEGERS:
            return None  # not compiled: lowering says so
        shapes: list[tuple[Any, ...]] = []
        operands: list[Any] = []
        numbers = [i for i, slot in enumerate(case.inputs) if slot.dtype is None] if len(case.inputs) > 1 else []
        number = self.choose(numbers) if numbers and self.chance(0.2) else -1
        for i, slot in enumerate(case.inputs):
            kind = slot.dtype or dtype
            if i == number:
                operands.append(self.number(slot.low, slot.high, kind))
                continue
            allowed = {kind}
            if row.op.promote and slot.dtype is None and self.chance(0.3):
                allowed = set(row.dtypes) if name != "pow" else set(FLOATS)
            x = self.pick(allowed, lambda k: self.joins([*shapes, k.shape]))
            if x is None or (kind == "bool" and self.chance(0.2)):
                x = self.condition(shapes) if kind == "bool" else self.fresh(kind, shapes, slot)
            x = self.within(x, slot.low, slot.high)
            if x is None:
                return None
            if x.dtype != kind and not row.op.promote:
                x = self.emit("cast", x, dtype=kind)
            operands.append(x)
            shapes.append(x.shape if x is not None else ())
        return self.emit(name, *operands, **case.attrs)

    def fresh(self, dtype: str, shapes: list[tuple[Any, ...]], slot: In) -> Known | None:
        """A value of that dtype that broadcasts with `shapes`: cast, or a new input."""
        other = self.pick({"bool", *INTEGERS, *FLOATS} - {dtype}, lambda k: self.joins([*shapes, k.shape]))
        if other is not None and self.chance(0.5):
            return self.emit("cast", other, dtype=dtype)
        shape = tuple(1 if self.chance(0.3) else d for d in broadcast(shapes)) if shapes else self.shape()
        role = "param" if dtype in FLOATS and self.chance(0.5) else "input"
        return self.input(role, dtype, shape, (slot.low, slot.high))

    def condition(self, shapes: list[tuple[Any, ...]]) -> Known | None:
        """A bool that broadcasts with `shapes`: an input, a comparison, a mask of indices."""
        shape = broadcast(shapes) if shapes else self.shape()
        roll = self.rng.random()
        if roll < 0.3:
            return self.input("input", "bool", tuple(1 if self.chance(0.3) else d for d in shape))
        if roll < 0.6 and len(shape) >= 2:
            return self.mask(shape)
        a = self.pick({*FLOATS, *INTEGERS}, lambda k: self.joins([*shapes, k.shape]))
        b = a and self.pick({a.dtype}, lambda k: self.joins([*shapes, a.shape, k.shape]))
        if a is None or b is None:
            return None
        name = self.choose("less less_equal greater greater_equal equal not_equal".split())
        return self.emit(name, a, self.number(-1, 1, a.dtype) if self.chance(0.3) else b)

    def mask(self, shape: tuple[Any, ...]) -> Known | None:
        """Which of (i, j), the last two indices, are below, on or beside the diagonal."""
        rows, columns = shape[-2:]
        if isinstance(rows, int) and isinstance(columns, int) and self.chance(0.2) and "constant" in self.ops:
            table = np.tril(np.ones((rows, columns), bool), int(self.rng.integers(-1, 2)))
            return self.constant(table)
        dtype = self.choose(["i64", "i64", "i32", "f32"])
        i = self.emit("iota", shape=(rows, 1), axis=0, dtype=dtype)
        j = self.emit("iota", shape=(columns,), axis=0, dtype=dtype)
        if self.chance(0.3):
            i = i and self.emit(self.choose(["add", "sub"]), i, 1 if dtype != "f32" else 1.0)
        return self.emit(self.choose("less_equal greater_equal less greater equal not_equal".split()), i, j)

    # moves: along axes ------------------------------------------------------------------------------------------------
    def along_axis(self) -> Any:
        names = self.names(ALONG_AXIS)
        common = [n for n in ("sum", "mean", "max", "softmax") if n in names]
        name = self.choose(common) if common and self.chance(0.4) else self.choose(names)
        row = ROWS[name]
        case = self.choose([c for c in row.cases if _operands(c)])
        dtypes = [d for d in row.dtypes if d in FLOATS] if self.chance(0.8) else list(row.dtypes)
        x = self.pick(dtypes or row.dtypes, lambda k: k.rank > 0)
        x = self.within(x, case.inputs[0].low, case.inputs[0].high)
        if x is None or x.rank == 0:
            return None
        attrs = {k: concrete(v, case.sizes) for k, v in case.attrs.items()}
        if "axis" in attrs:
            attrs["axis"] = int(self.rng.integers(x.rank))
        if "axes" in attrs:
            attrs["axes"] = self.axes(x.rank)
        if "k" in attrs:  # a symbolic size may be less here
            attrs["k"] = min(attrs["k"], x.value.shape[attrs["axis"]])
        return self.emit(name, x, **attrs)

    def axes(self, rank: int) -> tuple[int, ...]:
        count = int(self.rng.integers(0 if self.chance(0.1) else 1, rank + 1)) if rank else 0
        return tuple(sorted(int(a) for a in self.rng.choice(rank, count, replace=False)))

    # moves: products --------------------------------------------------------------------------------------------------
    def product(self) -> Any:
        x = self.pick(want=lambda k: k.rank > 0)
        if x is None:
            return None
        inner = x.shape[-1]
        y = self.pick(want=lambda k: k.rank > 0 and str(k.shape[-2:][0]) == str(inner)) if self.chance(0.5) else None
        if y is None:
            batch = tuple(1 if self.chance(0.3) else d for d in x.shape[:-2])
            batch = batch[int(self.rng.integers(0, len(batch) + 1)) :] if self.chance(0.6) else ()
            shape = (*batch, inner, self.choose([*self.dims, self.size()])) if self.chance(0.85) else (inner,)
            if self.count(shape) > self.elements:
                return None
            y = self.input("param", shape=shape)
        out = self.emit("matmul", x, y)
        return self.emit("mul", out, 0.25) if out is not None and self.chance(0.7) else out

    def attention(self) -> Any:
        """Scores of a square, masked above or below the diagonal, perhaps normalised, and their products."""
        x = self.pick(want=lambda k: k.rank >= 2 and k.value.size > 0)
        if x is None or "permute" not in self.ops:
            return None
        turn = (*range(x.rank - 2), x.rank - 1, x.rank - 2)
        scores = self.emit("mul", self.emit("matmul", x, self.emit("permute", x, axes=turn)), 0.3)
        if scores is None:
            return None
        seen = self.mask(scores.shape)
        if seen is None:
            return None
        if self.chance(0.5) and "softmax" in self.ops:
            scores = self.within(scores, -8, 8)
            nothing = -np.inf if self.rows_keep_something(seen, scores) and self.chance(0.7) else -1e9
            hidden = scores and self.record(
                lambda: OPS["softmax"](OPS["where"](seen.ref, scores.ref, nothing), axis=scores.rank - 1), [scores]
            )
        elif self.chance(0.5):
            hidden = self.emit("where", seen, scores, 0.0)
        else:
            hidden = self.emit("mul", self.emit("cast", seen, dtype=scores.dtype), scores)
        if hidden is not None and self.chance(0.3):
            hidden = self.emit("permute", hidden, axes=turn)
        return self.emit("matmul", hidden, x) if self.chance(0.7) else hidden

    def rows_keep_something(self, seen: Known, like: Known | None) -> bool:
        """No row of a mask is empty, at any size: else its softmax is NaN."""
        node = self.builder.nodes[-1]
        always = node.op in ("less_equal", "greater_equal") and all(n.op != "add" for n in self.builder.nodes[-3:])
        return always and like is not None and bool(seen.value.any(axis=-1).all())

    # moves: rows by index ---------------------------------------------------------------------------------------------
    def lookup(self) -> Any:
        """Rows of a table at indices, which repeat; or values added up at them."""
        table = self.pick((*FLOATS, *INTEGERS), lambda k: k.rank > 0 and k.value.shape[0] > 0)
        if table is None:
            return None
        rows = table.value.shape[0]
        shape = self.choose([(), (3,), (2, 4), (0,), (5, 1)])
        if self.chance(0.6):
            index = self.input(
                "input", self.choose(["i64", "i32"]), shape, (-rows if self.chance(0.3) else 0, rows - 1)
            )
            return self.emit("take", table, index)
        count = int(self.rng.integers(1, 6))
        index = self.input("input", self.choose(["i64", "i32"]), table.shape[:1], (0, count - 1))
        return self.emit("scatter_add", index, table, rows=count)

    # moves: everything else -------------------------------------------------------------------------------------------
    def generated(self) -> Any:
        """A value without operands: a number everywhere, an index, a size, a constant array, a draw."""
        name = self.choose(self.names(["full", "iota", "dim_scalar", "constant"]) or [None])
        shape = self.shape()
        if name == "full":
            return self.emit("full", shape=shape, value=self.number(-2, 2, self.dtype), dtype=self.dtype)
        if name == "iota" and shape:
            axis = int(self.rng.integers(len(shape)))
            return self.emit("iota", shape=shape, axis=axis, dtype=self.choose([self.dtype, "i64", "i32"]))
        if name == "dim_scalar" and self.sizes:
            dim = self.choose([Dim(s) * 2 + 1 if self.chance(0.3) else Dim(s) for s in self.sizes])
            return self.emit("dim_scalar", value=dim, dtype=self.choose([self.dtype, "i64"]))
        if name == "constant":
            sizes = tuple(evaluate(d, self.sizes) if isinstance(d, int) else 1 for d in shape)
            return self.constant(self.rng.integers(-8, 9, sizes).astype(DTYPES[self.dtype]) / 4)
        return None

    def from_row(self) -> Any:
        """A case of the row of any op, on values of the program brought into its shapes and spans."""
        others = self.names(OTHERS)
        name = self.choose(others if others and self.chance(0.85) else self.names(n for n in ROWS if n != "constant"))
        row = ROWS[name]
        cases = [c for c in row.cases if c.inputs]
        if not cases:
            return None
        case, dtype = self.choose(cases), self.choose(row.dtypes)
        if name == "pow" and dtype in INTEGERS:
            return None
        args: list[Any] = []
        for x in case.inputs:
            if isinstance(x, In):
                shape = tuple(concrete(d, case.sizes) for d in x.shape)
                args.append(self.brought(x.dtype or dtype, shape, x.low, x.high))
            elif isinstance(x, np.ndarray):
                args.append(self.constant(x.astype(DTYPES[dtype]) if x.dtype.kind == "f" and dtype in FLOATS else x))
            else:
                args.append(case._input(x, self.rng, dtype))
        if any(a is None for a in args):
            return None
        attrs = {k: concrete(v, case.sizes) for k, v in case.attrs.items()}
        regions = attrs.pop("regions", ())
        if "site" in attrs:
            attrs["site"] = self.builder.new_site()
        if case.sizes and (case.build is not None or regions):
            return None  # it speaks of its own symbols
        refs = [a.ref if isinstance(a, Known) else a for a in args]
        build = case.build or (lambda builder, *given: builder.emit(row.op, given, attrs, regions))
        return self.record(lambda: build(self.builder, *refs), [a for a in args if isinstance(a, Known)])

    # the whole --------------------------------------------------------------------------------------------------------
    def loss(self) -> Any:
        """A sum over everything that nothing has used yet, each weighted by its own number."""
        total: Any = None
        loose = [k for k in self.pool if not k.used and k.dtype in FLOATS]
        for k in loose or [k for k in [self.pick()] if k is not None]:
            part = k.ref
            if self.chance(0.3):
                part = part * part
            if self.chance(0.3) and part.ndim:
                part = part * self.input("input", part.type.dtype, k.shape).ref
            part = OPS["sum"](part, axes=tuple(range(part.ndim)), keepdims=False) * float(self.rng.integers(1, 5) / 4)
            total = part if total is None else total + part
        return total

    def program(self) -> Program:
        with dim_scope(self.builder.scope):
            return self._program()

    def _program(self) -> Program:
        first = self.input("param", shape=tuple(self.dims) if self.count(self.dims) <= self.elements // 2 else None)
        for symbol in self.sizes:  # every symbol must be an axis of an input
            if not any(str(d) == symbol for d in first.shape):
                self.input("input", shape=(Dim(symbol),))
        if len(self.wrt) == 0:
            self.input("param")
        for _ in range(int(self.rng.integers(0, 3))):
            self.input("param")
        for role in self.rng.choice(["input", "buffer", "state"], int(self.rng.integers(0, 3))):
            self.input(str(role))
        if self.chance(0.2):
            self.input("scalar", shape=())
        if self.chance(0.3):
            self.input("input", self.choose(INTEGERS), span=(-4, 4))
        if self.chance(0.3):
            self.input("input", "bool")
        moves = [
            (self.elementwise, 0.4), (self.along_axis, 0.16), (self.view, 0.16), (self.product, 0.07),
            (self.attention, 0.05), (self.lookup, 0.03), (self.generated, 0.03),
            (self.from_row, min(0.12, 0.02 * len(OTHERS))),
        ]  # fmt: skip
        odds = np.array([p for _, p in moves])
        target = int(self.rng.integers(5, self.most + 1))
        for _ in range(4 * target + 20):
            loose = sum(not k.used and k.dtype in FLOATS for k in self.pool)
            if len(self.builder.nodes) + 3 * loose >= target:  # the loss takes three nodes for each
                break
            moves[int(self.rng.choice(len(moves), p=odds / odds.sum()))][0]()
        shown = [k for k in self.pool if self.chance(0.12)]
        forward = self.builder.graph([("loss", self.loss()), *((f"out{i}", k.ref) for i, k in enumerate(shown))])
        wrt = tuple(p for p in self.wrt if self.chance(0.9))
        graph = self.updated(differentiated(forward, wrt, self.order))
        values = {n: self.numbers(n, np.random.default_rng([self.seed, 7]), self.sizes) for n in self.recipes}
        values |= {v.name: self.machine[v] for v in forward.inputs}  # the very numbers that the program was drawn with
        checks = ("loss",) if self.chance(0.5) else ()

        def resize(sizes: Mapping[str, int]) -> dict[str, np.ndarray]:
            rng = np.random.default_rng([self.seed, 7])
            return {v.name: self.numbers(v.name, rng, sizes) for v in graph.inputs}

        return Program(f"fuzz{self.seed}", graph, values, checks, forward, wrt, self.order, resize)

    def updated(self, graph: Graph) -> Graph:
        """Some of what is stored moves along its gradient, is swapped, decays, or takes a value of the program."""
        builder = Builder.extending(graph)
        outputs = [(n, builder.wrap(v) if not isinstance(v, Literal) else v.value) for n, v in graph.outputs]
        grads = dict(outputs)
        stored = [v.name for v in graph.inputs if graph.roles[v.name] in ("param", "buffer", "state")]
        for name in stored:
            old = builder.wrap(graph.input(name))
            roll = self.rng.random()
            new: Any = None
            if roll < 0.35 and f"grad:{name}" in grads:
                new = old - grads[f"grad:{name}"] * 0.1
            elif roll < 0.5:
                new = old * 0.9 + 0.1
            elif roll < 0.62:
                same = [p for p in stored if graph.input(p).type == graph.input(name).type]
                new = builder.wrap(graph.input(self.choose(same)))
            elif roll < 0.75:
                known = [k for k in self.pool if k.ref.type == old.type]
                new = builder.wrap(self.choose(known).ref._value)
            elif roll < 0.82 and old.ndim:
                start = tuple(d - 1 for d in old.shape)
                new = OPS["slice"](old, start=start, size=old.shape, step=(-1,) * old.ndim)
                new = new if self.chance(0.5) else new + old
            elif roll < 0.85:
                new = OPS["full"].like(old, shape=old.shape, value=0.5, dtype=old.type.dtype)
            elif roll < 0.95 and str(old.type) == "f32[]":
                new = builder.wrap(Literal(0.25))
            if new is not None:
                builder.updates[name] = new._value
        kept = [(n, v) for n, v in outputs if not n.startswith("grad") or self.chance(0.7)]
        if self.chance(0.1):
            kept.append(("number", self.choose([1.5, 3, True])))
        return builder.graph(kept)


def differentiated(graph: Graph, wrt: Sequence[str], order: int = 1) -> Graph:
    """`graph` with outputs `grad:<name>` of its loss; of order 2 also `grad2:<name>`, the gradient of `weighed`."""
    graph = differentiate(graph, "loss", wrt)
    outputs = dict(graph.outputs)
    builder = Builder.extending(graph)
    grads = [builder.wrap(outputs[f"grad:{n}"]) for n in wrt if f"grad:{n}" in outputs]
    if order == 1 or not grads:
        return graph
    total = weighed([OPS["sum"](g, axes=tuple(range(g.ndim)), keepdims=False) for g in grads])
    twice = differentiate(builder.graph([("total", total)]), "total", wrt)
    second = [(n.replace("grad:", "grad2:"), v) for n, v in twice.outputs if n.startswith("grad:")]
    return twice.replace(outputs=(*graph.outputs, *second))


def weighed(sums: Sequence[Any]) -> Any:
    """One number out of several, so that none cancels another."""
    total = sums[0] * 0.5
    for i, s in enumerate(sums[1:]):
        total = total + s * (0.75 + 0.25 * i)
    return total


def draw(seed: int, **options: Any) -> Program:
    """The program of that seed, with its inputs; deterministic. Options: see `Draw`."""
    return Draw(seed, **options).program()
