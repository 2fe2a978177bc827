"""The programs of a `Compiled`: each traced when it is first needed, all over one store.

A program belongs to an entry (step, value_and_grad, evaluate, forward), a mode (train, eval) and to the sizes that it
was traced for. A second call with other sizes traces once more with the differing sizes symbolic; from then on one
program serves them all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from .entries import FORWARD, entry_function, graph_name, input_names, only_output, update_graph
from .finished.lookup import Judged, Origin, Verdict, finish
from .finished.parts import Finished
from .finished.recipe import DERIVED, Recipe
from .ir.dims import Dim, bind_shape, same_shape
from .ir.graph import Graph
from .ir.tape import Tape
from .ir.types import DTYPES, TensorType, dtype_name
from .models.generation import context_of, takes_position
from .models.optim import Optimizer
from .passes.autodiff import GradientError
from .passes.optimize import Update, state_name
from .planning import Limits
from .runtime.cache import Cache
from .runtime.program import Arena, GuardViolation, Program
from .store import Store
from .tracer.module import Module, Parameter
from .tracer.structure import flatten
from .tracer.trace import Spec, Traced, is_array, trace

if TYPE_CHECKING:
    from .passes.lint import Report

STAGES = ("traced", "differentiated", "fused", "tape")


class Stages(dict):  # type: ignore[type-arg]
    """The stages of a program by name. Those that a tape from the cache has skipped are made when they are asked
    for."""

    def __init__(self, recipe: Recipe, **known: Graph | Tape) -> None:
        super().__init__(traced=recipe.graph, **known)
        self.recipe = recipe

    def __missing__(self, stage: str) -> Graph | Tape:
        from .finished.building import differentiated, fused

        if stage == "differentiated":
            self[stage] = differentiated(self.recipe)
        else:
            self[stage] = fused(self.recipe, self["differentiated"])[0]
        return self[stage]


@dataclass
class Variant:
    """A traced program with its stages and its tape, ready to run. `scalars` is what a step tells the optimizer: the
    rate of a group, or the step; `origin` says where the tape is from."""

    traced: Traced
    stages: Stages
    program: Program
    names: tuple[str, ...]
    types: tuple[TensorType, ...]
    scalars: tuple[tuple[str, np.dtype, int | None], ...]
    origin: Origin
    verdict: Verdict
    finished: Finished

    @property
    def slices(self) -> int:
        """Of its batch."""
        return self.finished.slices

    @property
    def report(self) -> Report | None:
        """What the lint said when it was compiled; None for a program that was not linted."""
        return self.verdict.report

    def fits(self, arrays: Sequence[np.ndarray]) -> bool:
        dims: dict[str, int] = {}
        if any(bind_shape(t.shape, a.shape, dims) for t, a in zip(self.types, arrays, strict=True)):
            return False
        try:
            self.program.check_guards(dims)
        except GuardViolation:
            return False
        return True

    def covers(self, specs: Sequence[Any]) -> bool:
        """Whether it serves all that specs (or arrays) allow: their sizes and symbols, within the bounds of these."""
        limits = {name: symbol.max for name, symbol in self.program.tape.symbols.items()}
        return all(
            same_shape(t.shape, s.shape)
            and all((limits.get(str(d)) or math.inf) >= (d.max or math.inf) for d in s.shape if isinstance(d, Dim))
            for t, s in zip(self.types, specs, strict=True)
        )


@dataclass
class Family:
    """The variants of one entry, mode and set of dtypes and ranks, and the shapes met so far."""

    variants: list[Variant] = field(default_factory=list)
    shapes: list[tuple[tuple[int, ...], ...]] = field(default_factory=list)


class Programs:
    """The programs of one target. `families` holds them by entry, mode, dtypes and ranks, and what is trainable."""

    def __init__(
        self,
        target: Any,
        loss: Any,
        optimizer: Optimizer | None,
        lint: str,
        threads: int,
        limits: Limits,
        cache: Cache | None = None,
    ) -> None:
        self.target = target
        self.model = target if isinstance(target, Module) else None
        self.loss = loss
        self.optimizer = optimizer
        self.lint_level = lint
        self.threads = threads
        self.limits = limits
        self.cache = cache
        self.store = Store(self.model)
        self.arena = Arena()
        self.families: dict[tuple, Family] = {}
        self.generating: dict[int, Any] = {}  # whose text is in the model's buffers, by the size of the batch
        self._exact: dict[tuple, Variant] = {}  # by everything that decides, sizes too: the quick way

    def variant(self, entry: str, train: bool, args: Sequence[Any]) -> tuple[Variant, list[Any]]:
        """The program that serves an entry for arguments, traced and compiled where there is none yet, and the arrays
        (or specs) in them, in the order of its inputs."""
        if all(isinstance(a, (np.ndarray, Spec)) for a in args):  # the quick way
            return self._variant(entry, train, args, args, ""), list(args)
        structure, leaves = flatten(args, "", is_array)
        arrays = [leaf for _, leaf in leaves]
        return self._variant(entry, train, args, arrays, repr(structure.tree)), arrays

    def _variant(self, entry: str, train: bool, args: Sequence[Any], arrays: Sequence[Any], nesting: str) -> Variant:
        kinds = tuple((dtype_name(a.dtype), len(a.shape)) for a in arrays)
        derived = entry in ("step", "value_and_grad")
        if derived and self.model is None and not self.store.parameters:
            self.store.note(self._trace(entry, train, args, {}))  # what a function trains is known once it is traced
        key = (entry, train, kinds, nesting, *self.store.read_by_python(derived))
        family = self.families.setdefault(key, Family())
        shapes = tuple(tuple(a.shape) for a in arrays)
        if (key, shapes) in self._exact:
            return self._exact[key, shapes]
        if any(isinstance(a, Spec) for a in arrays):
            for variant in family.variants:
                if variant.covers(arrays):
                    return variant
            family.variants.append(self._build(entry, train, args, {}))
            return family.variants[-1]
        for variant in family.variants:
            if variant.fits(arrays):
                self._exact[key, shapes] = variant
                return variant
        family.shapes.append(shapes)
        dims = {} if self.limits else _symbolic_axes(family.shapes)  # a batch is cut by numbers
        try:
            variant = self._build(entry, train, args, dims)
        except (TypeError, ValueError):
            family.shapes.pop()
            if not dims:
                raise
            # with the sizes of this call alone: it works, or its error has numbers in it
            variant = self._build(entry, train, args, {})
        if not variant.fits(arrays):
            raise GuardViolation(f"the traced program does not serve the shapes {shapes} it was traced for")
        family.variants.append(variant)
        return variant

    def context(self) -> int:
        """How many ids the target can see, where it generates; TypeError where it does not say so."""
        return context_of(self.target)

    def decodes(self) -> bool:
        """Whether the target goes on from a position, with what it has kept of earlier ids."""
        return takes_position(self.target)

    def _trace(self, entry: str, train: bool, args: Sequence[Any], dims: Mapping[tuple[int, int], Dim]) -> Traced:
        names = input_names(self.target, self.loss, entry, len(args))
        paths = [path for name, arg in zip(names, args, strict=True) for path, _ in flatten(arg, name, is_array)[1]]
        axes = {paths[number]: {a: d for (n, a), d in dims.items() if n == number} for number, _ in dims}
        return trace(
            entry_function(self.target, self.loss, entry),
            *args,
            module=self.model,
            name=graph_name(self.target),
            train=train,
            names=names,
            dims=axes,
            known=self.store.names,
        )

    def _build(self, entry: str, train: bool, args: Sequence[Any], dims: Mapping[tuple[int, int], Dim]) -> Variant:
        traced = self._trace(entry, train, args, dims)
        self.store.note(traced)
        recipe = self._recipe(entry, traced)
        judged = Judged(traced, recipe, self.model, self.optimizer if entry == "step" else None, self.lint_level)
        try:
            self._check(judged)
            made, verdict, origin = finish(recipe, judged, self.threads, self.cache)
        except GradientError as error:
            judged.explain(error)
            raise
        tape = made.tape
        self._add_states({name for name, index, _ in tape.inputs if tape.buffers[index].segment == "state"}, recipe)
        program = Program(tape, made.objects, self.store, self.threads, self.arena)
        inputs = traced.arguments.names
        types = tuple(traced.graph.input(n).type for n in inputs)
        return Variant(
            traced, Stages(recipe, tape=tape), program, inputs, types, scalars_of(tape), origin, verdict, made
        )

    def _recipe(self, entry: str, traced: Traced) -> Recipe:
        graph = traced.graph
        if entry not in FORWARD:
            graph = graph.replace(outputs=(("loss", only_output(graph)),))
        trainable: tuple[str, ...] = ()
        updates: tuple[Update, ...] = ()
        max_norm: float | None = None
        if entry in DERIVED:
            trainable = tuple(name for name in self.store.trainable() if name in graph.roles)
        if entry == "step":
            assert self.optimizer is not None
            updates, max_norm = self._updates(trainable), self.optimizer.max_norm
        return Recipe(entry, graph, trainable, updates, max_norm, self.limits, self.threads)

    # the optimizer --------------------------------------------------------------------------------------------------
    def _updates(self, trainable: Sequence[str]) -> tuple[Update, ...]:
        """The update of every parameter that the optimizer holds, in the order of the parameters."""
        assert self.optimizer is not None
        parameters = dict(self.store.parameters)
        names = {id(p): name for name, p in parameters.items()}
        owner: dict[str, int] = {}
        for index, (params, _) in enumerate(self.optimizer.groups):
            for p in parameters.values() if params is None else params:
                if id(p) in names:
                    owner.setdefault(names[id(p)], index)
        rules: dict[tuple, Graph] = {}  # one for all parameters of a kind: a trace takes a millisecond
        return tuple(
            self._update(name, parameters[name], owner[name], rules)
            for name in parameters
            if name in owner and name in trainable
        )

    def _check(self, judged: Judged) -> None:
        """Raises what the lint says of a program that trains nothing, or whose optimizer holds a parameter of another
        model; where it says nothing, GradientError or ValueError."""
        recipe = judged.recipe
        if recipe.entry in DERIVED and not recipe.trainable:
            judged.anew()
            what = "model" if self.model is not None else "function"
            raise GradientError(f"the {what} has no trainable parameters: nothing to differentiate")
        known = {id(p) for _, p in self.store.parameters}
        groups = self.optimizer.groups if recipe.entry == "step" and self.optimizer is not None else []
        for p in (p for params, _ in groups for p in params or () if id(p) not in known):
            judged.anew()
            raise ValueError(f"the optimizer holds a parameter of shape {p.data.shape} that is not in the model")

    def _update(self, name: str, parameter: Parameter, group: int, rules: dict[tuple, Graph]) -> Update:
        """The traced rule of one parameter."""
        assert self.optimizer is not None
        optimizer = self.optimizer.with_options(self.optimizer.groups[group][1])
        state = optimizer.init(parameter.data)
        kind = dtype_name(parameter.data.dtype)
        types = {k: TensorType(dtype_name(v.dtype), v.shape) for k, v in state.items()}
        scalars = {"lr": f"optimizer.lr.{group}.{kind}", "count": f"optimizer.step.{kind}"}
        key = (group, kind, parameter.shape, tuple((k, str(t)) for k, t in types.items()))
        if key not in rules:
            rules[key] = update_graph(optimizer, parameter.data, state)
        return Update(name, rules[key], types, scalars)

    def _add_states(self, names: set[str], recipe: Recipe) -> None:
        """The optimizer's arrays of these names, as they are before the first step."""
        parameters = dict(self.store.parameters)
        for update in recipe.updates:
            missing = [key for key in update.state if state_name(key, update.param) in names - self.store.keys()]
            if missing:
                assert self.optimizer is not None
                initial = self.optimizer.init(parameters[update.param].data)
                for key in missing:
                    self.store.add(state_name(key, update.param), initial[key])

    def make_state(self) -> None:
        """Optimizer state exists from the first step on; whoever reads or writes it earlier makes it."""
        if self.optimizer is None:
            raise TypeError("this program has no optimizer")
        if not self.store.parameters:
            raise RuntimeError("what a function trains is known once it has been called")
        for name, parameter in self.store.parameters:
            if parameter.requires_grad:
                for key, value in self.optimizer.init(parameter.data).items():
                    self.store.add(state_name(key, name), value)


# helpers ------------------------------------------------------------------------------------------------------------
def scalars_of(tape: Tape) -> tuple[tuple[str, np.dtype, int | None], ...]:
    """The runtime scalars of an optimizer: `optimizer.lr.<group>.<dtype>` and `optimizer.step.<dtype>`."""
    out: list[tuple[str, np.dtype, int | None]] = []
    for name, index, value_type in tape.inputs:
        if tape.buffers[index].segment == "scalar" and name.startswith("optimizer."):
            _, what, group, *_ = name.split(".")
            out.append((name, DTYPES[value_type.dtype], int(group) if what == "lr" else None))
    return tuple(out)


def _symbolic_axes(shapes: Sequence[tuple[tuple[int, ...], ...]]) -> dict[tuple[int, int], Dim]:
    """(array, axis) -> Dim for axes whose size has differed between calls; sizes that always agreed share one."""
    columns: dict[tuple[int, int], tuple[int, ...]] = {}
    for arg, shape in enumerate(shapes[0]):
        for axis in range(len(shape)):
            columns[arg, axis] = tuple(call[arg][axis] for call in shapes)
    names: dict[tuple[int, ...], Dim] = {}
    out = {}
    for place, sizes in columns.items():
        if len(set(sizes)) > 1:
            letter = "B" if place[1] == 0 else "T" if place[1] == 1 else f"n{place[1]}"
            while sizes not in names and any(str(d) == letter for d in names.values()):
                letter += "_"
            out[place] = names.setdefault(sizes, Dim(letter))
    return out
