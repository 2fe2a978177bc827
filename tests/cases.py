"""What a row of tests/rows.py is made of: cases of an op, the programs and inputs that they give, special values.

A case is a tuple of inputs with attributes. An input is an `In` (drawn from a span), an array as it is, or a Python
number, which becomes a literal of the program. `Case.graph` and `Case.values` make a program of one op of it: whoever
has another way to run a program (a compiled kernel) holds it to `Case.expected` over all cases.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import numpy as np

from gradtape.ir import ops as _ops  # noqa: F401  fills the registry
from gradtape.ir.build import Builder
from gradtape.ir.graph import Graph
from gradtape.ir.interp import concrete, evaluate_graph
from gradtape.ir.op import OPS, Op
from gradtape.ir.types import DTYPES, TensorType, parse_type, type_of

FLOATS = ("f32", "f64")
INTEGERS = ("i32", "i64")
NUMBERS = FLOATS + INTEGERS
ALL = (*NUMBERS, "bool")


@dataclass(frozen=True)
class In:
    """An input of a shape, drawn from [low, high]. `dtype` None is the one that the case is run in."""

    shape: tuple[Any, ...]
    low: float = -2.0
    high: float = 2.0
    dtype: str | None = None

    def draw(self, rng: np.random.Generator, dtype: str) -> np.ndarray:
        dtype = self.dtype or dtype
        if dtype == "bool":
            return rng.integers(0, 2, self.shape).astype(bool)
        if dtype in INTEGERS:
            return rng.integers(int(np.ceil(self.low)), int(np.floor(self.high)) + 1, self.shape).astype(DTYPES[dtype])
        return rng.uniform(self.low, self.high, self.shape).astype(DTYPES[dtype])


@dataclass(frozen=True)
class Case:
    """One op on certain inputs. `sizes` gives the symbols of its shapes a value; `away` refuses draws near a kink;
    `build(builder, *inputs)` records the op where it takes more than its inputs and attributes."""

    op: str
    inputs: tuple[Any, ...]
    attrs: dict[str, Any]
    sizes: dict[str, int] = field(default_factory=dict)
    away: Callable[..., Any] | None = None
    build: Callable[..., Any] | None = None

    def __str__(self) -> str:
        shapes = " ".join(str(getattr(x, "shape", x)) for x in self.inputs)
        return f"{self.op}({shapes}) {self.attrs or ''}"

    def arrays(self, dtype: str, seed: int = 0) -> list[Any]:
        """The inputs: arrays, and numbers for literals. Equal for equal arguments."""
        rng = np.random.default_rng(zlib.crc32(f"{self} {dtype} {seed}".encode()))
        for _ in range(10_000):
            arrays = [self._input(x, rng, dtype) for x in self.inputs]
            if self.away is None or dtype not in FLOATS or np.all(self.away(*arrays)):
                return arrays
        raise ValueError(f"{self}: no draw stays away from the kinks")

    def _input(self, x: Any, rng: np.random.Generator, dtype: str) -> Any:
        if isinstance(x, In):
            shape = tuple(self.sizes.get(str(d), d) for d in x.shape)
            return replace(x, shape=shape).draw(rng, dtype)
        if isinstance(x, np.ndarray) and x.dtype.kind == "f" and dtype in FLOATS:
            return x.astype(DTYPES[dtype])
        if isinstance(x, float) and dtype not in FLOATS:
            return bool(x) if dtype == "bool" else int(x)
        return x

    def concrete_attrs(self) -> dict[str, Any]:
        """The attributes with numbers for symbols."""
        return {k: concrete(v, self.sizes) for k, v in self.attrs.items()}

    def types(self, dtype: str) -> list[TensorType]:
        """The types of the inputs, with symbolic sizes where the case has them."""
        return [
            TensorType(x.dtype or dtype, x.shape) if isinstance(x, In) else type_of(a)
            for x, a in zip(self.inputs, self.arrays(dtype), strict=True)
        ]

    def graph(self, dtype: str) -> Graph:
        """The program `out = op(x0, x1, ...)`, with outputs out, out1, ... where the op has several results."""
        builder = Builder(f"case_{self.op}")
        args = [
            builder.input(f"x{i}", t) if isinstance(a, np.ndarray) else a
            for i, (a, t) in enumerate(zip(self.arrays(dtype), self.types(dtype), strict=True))
        ]
        result = self.build(builder, *args) if self.build else record(builder, self.op, args, self.attrs)
        results = result if isinstance(result, tuple) else (result,)
        return builder.graph([(f"out{i or ''}", r) for i, r in enumerate(results)])

    def values(self, dtype: str, seed: int = 0) -> dict[str, np.ndarray]:
        """The inputs of `graph` by name."""
        return {f"x{i}": a for i, a in enumerate(self.arrays(dtype, seed)) if isinstance(a, np.ndarray)}

    def expected(self, dtype: str, seed: int = 0) -> np.ndarray:
        """What `graph` gives for `values` by the interpreter; of several results the first."""
        return self.results(dtype, seed)[0]

    def results(self, dtype: str, seed: int = 0) -> list[np.ndarray]:
        """All results that `graph` gives for `values` by the interpreter."""
        return list(evaluate_graph(self.graph(dtype), self.values(dtype, seed)).values())


def record(builder: Builder, op: str, args: Sequence[Any], attrs: dict[str, Any]) -> Any:
    """Records an op with its attributes, and its regions where it has some."""
    plain = {k: v for k, v in attrs.items() if k != "regions"}
    return builder.emit(OPS[op], args, plain, attrs.get("regions", ()))


@dataclass(frozen=True)
class Refused:
    """Operands that the type rule must refuse, and a pattern of what it says; numbers stand for literals."""

    operands: tuple[Any, ...]
    says: str
    attrs: dict[str, Any]


@dataclass(frozen=True)
class Row:
    """What an op is tried on. `special` says for which special values (all by default) a scalar rule is compared,
    `smooth` in which cases (all by default) differences are good enough to check the derivative."""

    op: Op
    cases: tuple[Case, ...]
    dtypes: tuple[str, ...]
    refused: tuple[Refused, ...]
    special: Callable[..., Any] | None
    smooth: Callable[[Case], bool]

    def runs(self, *dtypes: str) -> Iterator[tuple[Case, str]]:
        """Every case in every dtype of the row, or in those given that it has."""
        yield from product(self.cases, [d for d in self.dtypes if not dtypes or d in dtypes])


ROWS: dict[str, Row] = {}


def row(
    name: str,
    cases: Iterable[Case],
    dtypes: Sequence[str] = FLOATS,
    refused: Sequence[Refused] = (),
    away: Callable[..., Any] | None = None,
    special: Callable[..., Any] | None = None,
    smooth: Callable[[Case], bool] = lambda case: True,
) -> None:
    """Adds the row of an op. away: what the inputs must fulfil to lie at least 0.05 from any kink."""
    if name in ROWS:
        raise ValueError(f"two rows for {name}")
    made = tuple(replace(c, op=name, away=away) for c in cases)
    ROWS[name] = Row(OPS[name], made, tuple(dtypes), tuple(refused), special, smooth)


def case(*inputs: Any, sizes: dict[str, int] | None = None, build: Any = None, **attrs: Any) -> Case:
    return Case("", inputs, attrs, sizes or {}, build=build)


def refused(operands: str, says: str, **attrs: Any) -> Refused:
    """`refused("f32[2, 3]; 1.5", "pattern")`: types, or numbers."""
    parts = [p.strip() for p in operands.split(";") if p.strip()]
    return Refused(tuple(parse_type(p) if p.endswith("]") else eval(p) for p in parts), says, attrs)


def elementwise(*spans: tuple[float, float], dtypes: Sequence[str | None] = (), **attrs: Any) -> list[Case]:
    """Cases of an elementwise op with one span per operand: equal shapes, no axes, size 1, empty, broadcasting, and a
    number in the place of each operand. `dtypes` fixes those of single operands."""
    kinds = [*dtypes, *[None] * (len(spans) - len(dtypes))]
    n = len(spans)

    def inputs(*shapes: tuple) -> Case:
        operands = (In(s, *span, dtype=d) for s, span, d in zip(shapes, spans, kinds, strict=True))
        return case(*operands, **attrs)

    cases = [inputs(*[shape] * n) for shape in ((3, 4), (), (1, 1), (0, 3))]
    if n > 1:
        shapes = [(3, 1), (1, 4), (4,)]
        cases.append(inputs(*(shapes[i % 3] for i in range(n))))
        cases.append(inputs(*[(2, 3, 4), ()][:n], *[(3, 1)] * (n - 2)))
        cases.append(inputs(*[(2, 0, 1), (3,)][:n], *[(0, 1)] * (n - 2)))
        for i, span in enumerate(spans):
            if kinds[i] != "bool":
                mixed = list(inputs(*[(3, 4)] * n).inputs)
                mixed[i] = float(sum(span) / 2)
                cases.append(case(*mixed, **attrs))
    return cases


def strided(array: np.ndarray) -> np.ndarray:
    """The same values with gaps between the elements, the last axis backwards in memory."""
    if array.ndim == 0:
        return array
    wide = np.zeros(tuple(2 * d for d in array.shape), array.dtype)
    view = wide[tuple(slice(None, None, 2) for _ in array.shape)][..., ::-1]
    view[...] = array
    return view


SPECIAL: dict[str, list] = {
    "f32": [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 1e-30, -3e38, 1e9],
    "f64": [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 1e-300, -1e308, 1e9],
    "i32": [0, 1, -1, 2, 7, -7, 2**31 - 1, -(2**31)],
    "i64": [0, 1, -1, 2, 7, -7, 2**63 - 1, -(2**63)],
    "bool": [False, True],
}


def special_arrays(dtypes: Sequence[str]) -> list[np.ndarray]:
    """All combinations of special values, one 1-d array per operand."""
    combinations = list(product(*(SPECIAL[d] for d in dtypes)))
    return [np.array(column, DTYPES[d]) for column, d in zip(zip(*combinations, strict=True), dtypes, strict=True)]
