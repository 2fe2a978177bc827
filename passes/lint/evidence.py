"""What a rule may look at. It is gathered elsewhere (`linting.py` at the root): no rule traces or runs anything."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

from ...ir.crossings import Escape, Leaf, Leak, Mismatch, Reentry, Refusal, Stale, Store, Write
from ...ir.graph import Graph, Operand, Value
from ...ir.location import Location
from .finding import Finding, Site
from .flow import Cut, Flow
from .proofs import Proofs

T = TypeVar("T")


@dataclass(frozen=True)
class Param:
    """A parameter of the model. `group` is the optimizer's group that holds it (None: no group, or no optimizer);
    `registered` says whether `named_parameters()` lists it, `omitted` where a hand-written one, or `parameters()`, is
    defined that leaves it out, `in_trace` whether `forward` itself has made it."""

    path: str
    array: np.ndarray
    trainable: bool = True
    registered: bool = True
    group: int | None = None
    aliases: tuple[str, ...] = ()
    created: Location | None = None
    in_trace: bool = False
    omitted: Location | None = None


@dataclass(frozen=True)
class Group:
    """A group of the optimizer `kind`: how many parameters it holds, the shapes of those that are not the model's, its
    options, and its learning rate at some steps. `updates` are the programs of an update that the user has written,
    each with the parameters that it serves, and `returns` the line at which it ends."""

    kind: str
    size: int
    everything: bool = True  # whether it holds all parameters of the model
    strangers: tuple[tuple[int, ...], ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    rates: tuple[float, ...] = ()
    created: Location | None = None
    updates: Sequence[tuple[tuple[str, ...], Graph]] = ()
    returns: Location | None = None


@dataclass(frozen=True)
class Crossings:
    """What crossed the boundary with Python during a trace; `cuts` maps values that a `no_grad` block made constant to
    the line of the block, `refusals` are errors of the tracer that the user's code caught, `mismatches` derivatives of
    the user's that are not those of their functions."""

    escapes: Sequence[Escape] = ()
    reentries: Sequence[Reentry] = ()
    leaves: Sequence[Leaf] = ()
    stores: Sequence[Store] = ()
    writes: Sequence[Write] = ()
    refusals: Sequence[Refusal] = ()
    stale: Sequence[Stale] = ()
    cuts: Mapping[str, Location | None] = field(default_factory=dict)
    mismatches: Sequence[Mismatch] = ()


@dataclass(frozen=True)
class Change:
    """A number of the program that another trace has otherwise, at `site`: the result `value` of a constant, or of the
    node that reads a literal. `parameters` are those whose change brings it about. With `structure`, the two traces
    part ways here: Python has decided otherwise; `attribute` says that it has chosen another index or size."""

    value: Value
    site: Site
    parameters: tuple[str, ...] = ()
    structure: bool = False
    attribute: bool = False


@dataclass(frozen=True)
class Pinned:
    """A line that needed the number behind the batch size, and what it then relied on."""

    where: str
    fact: str


@dataclass(frozen=True)
class Retraces:
    """The differential re-trace. None: not tried, or refused (`refusals` says how, by name of the trace).

    again      what differs between two traces with the same inputs
    perturbed  what differs when parameters are changed
    inputs     what differs with other numbers in the inputs
    batch      where the program depends on its batch size
    modes      graphs by mode, "train" and "eval"
    stale      constants of later traces that had left an earlier one: caches
    leaks      values of an earlier trace that a later one used
    """

    again: Sequence[Change] | None = None
    perturbed: Sequence[Change] | None = None
    inputs: Sequence[Change] | None = None
    batch: Sequence[Pinned] = ()
    modes: Mapping[str, Graph] = field(default_factory=dict)
    refusals: Mapping[str, str] = field(default_factory=dict)
    stale: Sequence[Stale] = ()
    leaks: Sequence[Leak] = ()


@dataclass(frozen=True)
class Gradient:
    """What the probe measured of one parameter.

    norm64, norm32  the norm of its gradient, computed in float64 and in float32
    noise           the norm of their difference
    error           the relative error of the float64 one in a random direction, against finite differences through the
                    user's Python (0 where the joint direction of all parameters agrees)
    later           the norm of its gradient after one optimizer step
    moved           how far two steps have moved it, relative to its own norm
    """

    norm64: float
    norm32: float
    noise: float = 0.0
    error: float = 0.0
    later: float = 0.0
    moved: float = 0.0


@dataclass(frozen=True)
class WrongRule:
    """A derivative that disagrees with differences of its op's forward, by `error`: that of `op`, of the nodes `at`
    this line, in operand `operand` (from 1)."""

    op: str
    at: Location | None
    operand: int
    error: float


@dataclass(frozen=True)
class Probe:
    """A run with numbers in float64, at a small shape where the model allows one. `values` holds the arrays of its
    values by the names that these have in the float64 program, `refusal` what stopped the probe;
    `wrong` are the derivatives that are to blame where a gradient disagrees with differences; `spoiled` is where the
    first NaN or infinity is made, of a loss that is finite, in the gradients."""

    gradients: Mapping[str, Gradient] = field(default_factory=dict)
    values: Mapping[str, np.ndarray] = field(default_factory=dict)
    refusal: str = ""
    wrong: Sequence[WrongRule] = ()
    spoiled: Location | None = None


LOOKS = 4  # fewer looks at a training say nothing about all data


@dataclass(frozen=True)
class Watched:
    """What was seen of a training, in `looks` looks.

    gradients  the norm of the gradient at every look, by parameter
    still      for how many looks in a row a parameter has been the same, bit for bit
    off        by the name of a relu's result: the units that were 0 for every example of every look
    flat       by the name of a sigmoid's, tanh's or softmax's result: the share of it that was saturated at first
    """

    looks: int = 0
    gradients: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    still: Mapping[str, int] = field(default_factory=dict)
    off: Mapping[str, np.ndarray] = field(default_factory=dict)
    flat: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Evidence:
    """Everything that the rules are given. `graph` is the traced program in training mode; `loss` its scalar loss,
    None for a program without one, whose outputs stand for it then. `explained` are the findings so far: rules of later
    layers leave alone what an earlier one has explained."""

    graph: Graph
    params: Sequence[Param] = ()
    loss: Operand | None = None
    buffers: Mapping[str, np.ndarray] = field(default_factory=dict)
    crossings: Crossings = field(default_factory=Crossings)
    groups: Sequence[Group] | None = None  # of the optimizer; None without one
    overwritten: Sequence[tuple[str, Location]] = ()  # parts that a loop has assigned over and over to one attribute
    retraces: Retraces | None = None
    probe: Probe | None = None
    watched: Watched | None = None
    explained: Sequence[Finding] = ()
    flow: Flow = field(default=None, repr=False)  # type: ignore[assignment]  # who depends on whom, where gradient stops
    memo: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)  # what several rules compute from it
    proofs: Proofs = field(default=None, repr=False)  # type: ignore[assignment]  # what arithmetic says of it

    def __post_init__(self) -> None:
        if self.flow is None:
            object.__setattr__(self, "flow", Flow(self.graph, self.roots, self.crossings.reentries))
        if self.proofs is None:
            arrays = {p.path: p.array for p in self.params}
            trainable = [p.path for p in self.trainable]
            object.__setattr__(self, "proofs", Proofs(self.flow.graph, self.flow, arrays, trainable))

    @property
    def roots(self) -> list[Value]:
        """The values that the gradient starts from: the loss, or all results of a program without one."""
        if self.loss is not None:
            return [self.loss] if isinstance(self.loss, Value) else []
        return [v for _, v in self.graph.outputs if isinstance(v, Value) and v.type.is_float]

    @property
    def trainable(self) -> list[Param]:
        return [p for p in self.params if p.trainable]

    def once(self, name: str, make: Callable[[Evidence], T]) -> T:
        """`make(self)`, computed once for all rules."""
        if name not in self.memo:
            self.memo[name] = make(self)
        return self.memo[name]

    @property
    def cuts(self) -> list[Cut]:
        """The edges at which gradient of trainable parameters is lost, with these alone."""
        return self.once("cuts", Evidence._cuts)

    def _cuts(self) -> list[Cut]:
        names = {p.path for p in self.trainable}

        def kept(paths: Sequence[str]) -> tuple[str, ...]:
            return tuple(p for p in paths if p in names)

        found = [replace(c, killed=kept(c.killed), partial=kept(c.partial)) for c in self.flow.cuts()]
        return [c for c in found if c.killed or c.partial]

    @cached_property
    def dead(self) -> list[Param]:
        """Trainable parameters that no differentiable path joins to the loss."""
        return [p for p in self.trainable if not self.flow.reaches(p.path)]

    def is_read(self, path: str) -> bool:
        """Whether anything reads the parameter: a node, a result, or Python."""
        value = self.flow.input(path)
        if value is None:
            return False
        left = any(x.value is value for x in self.crossings.escapes)
        return left or value in self.flow.uses or any(v is value for _, v in self.graph.outputs)

    def is_explained(self, path: str, *severities: str) -> bool:
        """Whether an earlier finding of one of these severities (default: error, warning) is about the parameter."""
        wanted = severities or ("error", "warning")
        return any(path in f.parameters and f.severity in wanted for f in self.explained)
