"""What a user's derivative returns: taken apart by operand, and held to finite differences of the function that it
belongs to, in float64, through the user's own Python: one random direction for each argument, one random cotangent."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..ir.build import Ref
from ..ir.dims import dim_scope
from ..ir.interp import concrete
from ..ir.types import DTYPES
from .context import NeedsValue, Trace
from .region import is_operand
from .rng import same_draws
from .state import running
from .structure import Structure, flatten

TOLERANCE = 1e-5  # relative to the sum of the magnitudes of the gradient's terms
STEP = 1e-5  # differences are then good to about 1e-10
COARSE = 1e-2, 1e-3  # step and tolerance where a forward rounds to float32 on its way


class RuleError(TypeError):
    """A derivative given by the user does not fit its function; says which argument, both sides, and the line."""


@dataclass(frozen=True)
class Rule:
    """`pair(forward(*arguments))` is (out, saved), `backward(saved, g)` the gradients of the arguments."""

    name: str
    forward: Callable[..., Any]
    backward: Callable[..., Any]
    arguments: Structure
    pair: Callable[[Any], tuple[Any, Any]]

    def out(self, values: Mapping[str, Any]) -> tuple[Structure, dict[str, np.ndarray], Any]:
        """The structure and the arrays of the results, and what is saved; every time with the same random draws."""
        with same_draws():
            out, saved = self.pair(self.forward(*self.arguments.restore(values)))
        structure, found = flatten(out, "out", lambda x: is_operand(x) or isinstance(x, np.generic))  # as x.sum() gives
        return structure, {name: np.asarray(x) for name, x in found}, saved


def defined_at(function: Any) -> str:
    """`file:line name` of a function."""
    inner = function
    while hasattr(inner, "__wrapped__") or hasattr(inner, "func"):
        inner = getattr(inner, "__wrapped__", None) or inner.func
    code = getattr(inner, "__code__", None) or getattr(type(inner).__call__, "__code__", None)
    name = getattr(function, "__qualname__", type(function).__name__)
    return f"{code.co_filename}:{code.co_firstlineno} {name}" if code else name


def by_operand(name: str, backward: Any, result: Any, arguments: Structure) -> dict[str, Any]:
    """What `backward` returned, by the names of the operands; None where it gave none. Raises RuleError where it is
    nested in another way than the arguments are."""
    roots = arguments.roots
    where = f"\n  rule  {defined_at(backward)}"
    if len(roots) == 1 and not isinstance(result, (tuple, list)):
        result = (result,)
    if not isinstance(result, (tuple, list)) or len(result) != len(roots):
        what = f"{len(result)} gradients" if isinstance(result, (tuple, list)) else type(result).__name__
        raise RuleError(
            f"the backward of {name} gives {what} for {len(roots)} arguments: {', '.join(roots)}{where}\n"
            "  write a tuple with one for each, None for what has no gradient"
        )
    given: dict[str, Any] = {}
    for part, root in zip(result, roots, strict=True):
        given.update(flatten(part, root, lambda x: not isinstance(x, (tuple, list, dict)))[1])
    found: dict[str, Any] = {}
    for operand in arguments.names:
        above = operand
        while above not in given and "." in above:  # one None may stand for a whole structure
            above = above.rpartition(".")[0]
        if above not in given or (above != operand and given[above] is not None):
            raise RuleError(f"the backward of {name} gives no gradient for {operand}{where}\n  write None there")
        found[operand] = given[above]
    for operand, extra in given.items():
        if operand not in found and is_operand(extra):
            raise RuleError(
                f"the backward of {name} gives a gradient for {operand}, which is no array here{where}\n"
                "  write None in its place"
            )
    return found


def kind_of(arguments: Structure, operands: Mapping[str, Ref]) -> Any:
    """What a rule is compared for once: the numbers among its arguments, and ranks; all floats are float64 then."""
    kinds = (("float" if v.type.is_float else v.type.dtype, v.type.ndim) for v in operands.values())
    return repr(arguments.tree), tuple(kinds)


def check_rule(trace: Trace, rule: Rule, operands: Mapping[str, Ref], op: str) -> bool:
    """Raises RuleError if backward is not the derivative of forward for one of the operands; False instead of that
    where a lint goes on. `op` is the op that the rule becomes.

    Arguments are drawn: normal, then from (0.1, 0.9) where that gives no finite numbers (logarithms, probabilities),
    then those of the trace's examples. A mismatch must show twice, for a draw may lie at a kink. Warns where nothing
    could be compared.
    """
    trouble: Exception | None = None
    for values, others in _arguments(trace, operands):
        try:
            with running(None), dim_scope(None), np.errstate(all="ignore"), same_draws():
                wrong = _mismatch(rule, values, seed=0)
                if wrong is not None:
                    wrong = _mismatch(rule, others, seed=1)
        except RuleError:
            raise
        except Exception as error:  # the user's function refuses what was drawn
            trouble = error
            continue
        if wrong is not None:
            name, rule_gives, differences = wrong
            if _forgiving.get():
                place = list(operands).index(name) + 1
                trace.ledger.mismatch(op, place, rule_gives, differences, defined_at(rule.backward))
                return False
            raise RuleError(
                trace.at_line(
                    f"{rule.name}: what backward gives for {name} is not the derivative of forward\n"
                    f"  backward     {rule_gives:.6g}  along a random direction, in float64\n"
                    f"  differences  {differences:.6g}\n"
                    f"  rule  {defined_at(rule.backward)}",
                    "surrogate=True where another derivative is meant (a straight-through estimator)",
                )
            )
        return True
    told = f" ({type(trouble).__name__}: {trouble})" if trouble else ""
    warnings.warn(
        trace.at_line(
            f"{rule.name}: its derivative could not be checked, forward or backward failed on drawn arguments{told}",
            "check=False if it is known to be right",
        ),
        stacklevel=2,
    )
    return True


_forgiving: ContextVar[bool] = ContextVar("gradtape_forgiving", default=False)


@contextmanager
def forgiving() -> Iterator[None]:
    """Inside, a wrong derivative is noted in the ledger of the trace, which goes on."""
    token = _forgiving.set(True)
    try:
        yield
    finally:
        _forgiving.reset(token)


Arguments = dict[str, np.ndarray]


def _arguments(trace: Trace, operands: Mapping[str, Ref]) -> Iterator[tuple[Arguments, Arguments]]:
    """What to try the rule on, and what to try again; floats in float64."""
    sizes = {s.name: s.hint for s in trace.builder.scope.symbols.values() if s.hint is not None}
    types = {name: v.type for name, v in operands.items()}
    rng = np.random.default_rng(0)

    def drawn(floats: Callable[[tuple], np.ndarray]) -> Arguments:
        found = {}
        for name, t in types.items():
            shape = concrete(t.shape, sizes)
            found[name] = floats(shape) if t.is_float else rng.integers(0, 2, shape).astype(DTYPES[t.dtype])
        return found

    for floats in (rng.standard_normal, lambda shape: rng.uniform(0.1, 0.9, shape)):
        yield drawn(floats), drawn(floats)
    try:
        examples = {name: np.asarray(trace.concrete(v, "check")) for name, v in operands.items()}
    except NeedsValue:
        return
    examples = {name: a.astype(np.float64) if types[name].is_float else a for name, a in examples.items()}
    yield examples, examples


def _mismatch(rule: Rule, values: Arguments, seed: int) -> tuple[str, float, float] | None:
    """(operand, slope by backward, slope by differences) of the first operand where they differ. Raises ValueError
    where there is nothing finite to compare."""
    rng = np.random.default_rng(seed)
    structure, results, saved = rule.out(_copied(values))
    cotangents = {name: _random(rng, a.shape).astype(a.dtype) for name, a in results.items() if a.dtype.kind == "f"}
    g = structure.restore({name: cotangents.get(name) for name in structure.names})
    gradients = by_operand(rule.name, rule.backward, rule.backward(saved, g), rule.arguments)
    for name, value in values.items():
        if value.dtype.kind != "f" or not value.size:
            continue
        gradient = np.zeros_like(value) if gradients[name] is None else np.asarray(gradients[name], np.float64)
        if gradient.shape != value.shape:
            raise ValueError(f"the gradient of {name} has shape {gradient.shape}, {name} {value.shape}")
        # with the signs of the gradient, so that its terms do not cancel
        direction = np.where(gradient == 0, _random(rng, value.shape), np.copysign(_random(rng, value.shape), gradient))
        slope, size = float(np.sum(gradient * direction)), float(np.sum(np.abs(gradient * direction)))

        def central(h: float, name: str = name, value: np.ndarray = value, u: np.ndarray = direction) -> float:
            ahead, behind = (rule.out({**_copied(values), name: value + s * h * u})[1] for s in (1, -1))
            return float(sum(np.sum(c * (ahead[n] - behind[n])) for n, c in cotangents.items())) / (2 * h)

        differences, unsure, tolerance = _slope(central, size)
        if not np.isfinite([slope, differences]).all():
            raise ValueError(f"forward and backward of {rule.name} are not finite there")
        if abs(slope - differences) > tolerance * max(size, abs(differences)) + 3 * unsure:
            return name, slope, differences
    return None


def _slope(central: Callable[[float], float], size: float) -> tuple[float, float, float]:
    """The slope by differences, how far two steps disagree about it, and the tolerance that such a step allows."""
    fine, half = central(STEP), central(STEP / 2)
    if abs(fine - half) <= TOLERANCE * max(size, abs(half)):
        return half, abs(fine - half), TOLERANCE
    step, tolerance = COARSE
    coarse, half = central(step), central(step / 2)
    return half + (half - coarse) / 3, abs(half - coarse) / 3, tolerance


def _copied(values: Mapping[str, np.ndarray]) -> Arguments:
    """Copies: the user's function may write into what it is given."""
    return {name: a.copy() for name, a in values.items()}


def _random(rng: np.random.Generator, shape: Sequence[int]) -> np.ndarray:
    """Numbers with magnitudes from 0.5 to 1, so that no term is lost."""
    return rng.choice([-1.0, 1.0], shape) * rng.uniform(0.5, 1.0, shape)
