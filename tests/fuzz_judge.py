"""How far two ways to run a program may differ: as far as a few roundings, made at random, move its results.

A compiled program adds in another order, contracts a product and a sum, has its own tanh. What that does to a result
depends on the program: nothing much to a mean, anything to `floor(tanh(x) * 3)` beside a jump. So the interpreter runs
the program again with roundings thrown in, and what then moves is compared as loosely as it moves. Nothing has to be
known of the ops: kinks, jumps, ties and cancellation show themselves. Only what is exact stays: an op that selects or
moves numbers rounds nothing, and a number whose mantissa ends in zeros (0, 1, -2.5) came about without rounding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradtape.ir.graph import Graph, Node, Operand
from gradtape.ir.interp import Interpreter
from gradtape.ir.op import OPS

# the largest relative rounding that is thrown in: a tanh of 4.5 ulp, an erf of 7.4
AMPLITUDE = {"float32": 2.0**-20, "float64": 2.0**-49}
SHORT = {"float32": (np.uint32, 2**11 - 1), "float64": (np.uint64, 2**28 - 1)}  # low bits of a mantissa
BASE = {"float32": 2e-5, "float64": 1e-11}
TIMES = 3  # runs with roundings, beside one in which they cancel
ALLOWED = 30.0  # how many times what they moved
LOST = 1e-2  # where that is more than this part of the value, nothing is compared

EXACT = frozenset(
    "neg abs sign relu maximum minimum where clip stop_gradient floor ceil trunc round copysign heaviside take max min "
    "argmax argmin less less_equal greater greater_equal equal not_equal isnan isinf isfinite signbit".split()
)


class Disagreement(AssertionError):
    """Two ways to run a program do not give the same."""


def shaken(array: Any, rng: np.random.Generator) -> Any:
    """`array` with each float moved by up to a few roundings; zeros change their sign; short mantissas stay."""
    if not isinstance(array, (np.ndarray, np.generic)) or array.dtype.kind != "f":
        return array
    array = np.asarray(array)
    kind, low = SHORT[array.dtype.name]
    short = (np.ascontiguousarray(array).reshape(array.shape).view(kind) & kind(low)) == 0
    moved = array * (1 + AMPLITUDE[array.dtype.name] * rng.uniform(-1, 1, array.shape)).astype(array.dtype)
    sign = np.where(rng.random(array.shape) < 0.5, -1, 1).astype(array.dtype)
    return np.where(array == 0, sign * 0, np.where(short, array, moved)).astype(array.dtype)


class Shaken(Interpreter):
    """The interpreter with roundings thrown in: operands of a node that rounds are moved, and so are its results."""

    def __init__(
        self, graph: Graph, inputs: Mapping[str, Any], rng: np.random.Generator, cancels: bool = False
    ) -> None:
        """cancels: what is next to nothing beside the operands is nothing, as where all roundings happen to cancel."""
        super().__init__(graph, inputs)
        self.rng = rng
        self.cancels = cancels
        self.rounds = False

    def __getitem__(self, operand: Operand) -> Any:
        value = super().__getitem__(operand)
        return shaken(value, self.rng) if self.rounds else value

    def _evaluate(self, node: Node, *region: Any) -> None:
        kind = OPS[node.op].kind
        exact = node.op in EXACT or kind in ("view", "copy", "constant") or OPS[node.op].generator
        self.rounds = not exact
        super()._evaluate(node, *region)
        self.rounds = False
        if not exact:
            for value in node.outputs:
                self._values[value] = shaken(self._values[value], self.rng)
                if self.cancels:
                    self._values[value] = self.cancelled(self._values[value], node)

    def cancelled(self, array: Any, node: Node) -> Any:
        if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
            return array
        operands = [np.abs(np.asarray(self[o], np.float64)).max(initial=0.0) for o in node.inputs]
        with np.errstate(all="ignore"):
            return np.where(np.abs(array) < 8 * AMPLITUDE[array.dtype.name] * max([0.0, *operands]), 0, array).astype(
                array.dtype
            )


@dataclass
class Expected:
    """The interpreter's results of a program, with how far each number may be missed: NaN where it is not judged."""

    results: dict[str, np.ndarray]  # "out", "update of w"
    allowed: dict[str, np.ndarray]

    @property
    def judged(self) -> float:
        """The part of all numbers that are compared."""
        whole = sum(a.size for a in self.allowed.values())
        return 1.0 if not whole else sum(int(np.isfinite(a).sum()) for a in self.allowed.values()) / whole


def named(outputs: Mapping[str, Any], updates: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {
        **{k: np.asarray(v) for k, v in outputs.items()},
        **{f"update of {k}": np.asarray(v) for k, v in updates.items()},
    }


def expect(graph: Graph, values: Mapping[str, Any], seed: int = 0) -> Expected:
    """What `graph` gives by the interpreter, and how exactly."""
    results = named(*Interpreter(graph, values).run())
    rng = np.random.default_rng(seed)
    runs = []
    for i in range(TIMES + 1):
        try:
            runs.append(named(*Shaken(graph, values, rng, cancels=i == TIMES).run()))
        except IndexError:  # an index that was computed from what moved
            return Expected(results, {n: np.full(a.shape, np.nan) for n, a in results.items()})
    single = any(v.type.dtype == "f32" for n in graph.nodes for v in n.outputs)
    allowed = {}
    for name, array in results.items():
        others = [run[name] for run in runs]
        if array.dtype.kind != "f":
            same = np.all([o == array for o in others], axis=0)
            allowed[name] = np.where(same, 0.0, np.nan)
            continue
        base = BASE["float32" if single else array.dtype.name]
        with np.errstate(all="ignore"):
            wide = array.astype(np.float64)
            finite = np.isfinite(wide)
            scale = np.abs(wide[finite]).max(initial=0.0)
            moved = np.max([np.abs(o.astype(np.float64) - wide) for o in others], axis=0)
            bound = base * (np.abs(wide) + max(1.0, scale)) + ALLOWED * moved
            lost = ALLOWED * moved > LOST * np.maximum(np.abs(wide), 1.0)
        same = np.all([np.isfinite(o) == finite for o in others], axis=0)
        allowed[name] = np.where(finite & same & ~lost, bound, np.nan)
    return Expected(results, allowed)


def compare(actual: Mapping[str, np.ndarray], expected: Expected) -> None:
    """Raises Disagreement where a result is missing, mistyped or missed; says which, where, and by how much."""
    for name, want in expected.results.items():
        if name not in actual:
            raise Disagreement(f"{name} is missing")
        got, allowed = np.asarray(actual[name]), expected.allowed[name]
        if (got.shape, got.dtype) != (want.shape, want.dtype):
            raise Disagreement(f"{name} is {got.dtype}{got.shape}, not {want.dtype}{want.shape}")
        with np.errstate(all="ignore"):
            error = np.abs(got.astype(np.float64) - want.astype(np.float64))
        wrong = ~np.isnan(allowed) & ~(error <= allowed)
        if wrong.any():
            index = np.unravel_index(int(np.argmax(np.where(np.isnan(error), np.inf, error) * wrong)), got.shape)
            place = f"[{', '.join(map(str, index))}]" if index else ""
            raise Disagreement(
                f"{name}{place} is {got[index]}, not {want[index]}; {int(wrong.sum())} of {wrong.size} numbers differ "
                f"(allowed here: {allowed[index]:.2g})"
            )
