"""The programs of a `Compiled`: each traced when it is first needed, all over one store.

A program belongs to an entry (step, value_and_grad, evaluate, forward), a mode (train, eval) and to the sizes that it
was traced for. A second call with other sizes traces once more with the differing sizes symbolic; from then on one
program serves them all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .entries import entry_function, graph_name, input_names, only_output, update_graph
from .ir.dims import Dim, bind_shape
from .ir.graph import Graph
from .ir.tape import Tape
from .ir.types import DTYPES, TensorType, dtype_name
from .linting import judge, judge_forward
from .models.optim import Optimizer
from .passes.autodiff import GradientError, differentiate
from .passes.hoist import hoist
from .passes.lint import Report
from .passes.lower import lower
from .passes.optimize import Update, apply_updates, state_name
from .passes.rewrite import expand
from .passes.simplify import simplify
from .runtime.program import Arena, GuardViolation, Program, compile_tape
from .store import Store
from .tracer.module import Module, Parameter
from .tracer.trace import Spec, Traced, trace

STAGES = ("traced", "differentiated", "fused", "tape")


@dataclass
class Variant:
    """A traced program with its stages; `program` is built at its first run."""

    traced: Traced
    stages: dict[str, Graph | Tape]
    program: Program
    names: tuple[str, ...]
    types: tuple[TensorType, ...]
    scalars: tuple[
        tuple[str, np.dtype, int | None], ...
    ]  # what a step tells the optimizer: the rate of a group, or step
    report: Report | None = None

    def fits(self, arrays: Sequence[np.ndarray]) -> bool:
        dims: dict[str, int] = {}
        if any(bind_shape(t.shape, a.shape, dims) for t, a in zip(self.types, arrays, strict=True)):
            return False
        try:
            self.program.check_guards(dims)
        except GuardViolation:
            return False
        return True


@dataclass
class Family:
    """The variants of one entry, mode and set of dtypes and ranks, and the shapes met so far."""

    variants: list[Variant] = field(default_factory=list)
    shapes: list[tuple[tuple[int, ...], ...]] = field(default_factory=list)


class Programs:
    """The programs of one target. `families` holds them by entry, mode, dtypes and ranks, and what is trainable."""

    def __init__(self, target: Any, loss: Any, optimizer: Optimizer | None, lint: str, threads: int) -> None:
        self.target = target
        self.model = target if isinstance(target, Module) else None
        self.loss = loss
        self.optimizer = optimizer
        self.lint_level = lint
        self.threads = threads
        self.store = Store(self.model)
        self.arena = Arena()
        self.families: dict[tuple, Family] = {}
        self._exact: dict[tuple, Variant] = {}  # by everything that decides, sizes too: the quick way

    def variant(self, entry: str, train: bool, arrays: Sequence[Any]) -> Variant:
        """The program that serves an entry for arrays or specs, traced and compiled where there is none yet."""
        kinds = tuple((dtype_name(a.dtype), len(a.shape)) for a in arrays)
        derived = entry in ("step", "value_and_grad")
        if derived and self.model is None and not self.store.parameters:
            self.store.note(self._trace(entry, train, arrays, {}))  # what a function trains is known once it is traced
        key = (entry, train, kinds, self.store.trainable() if derived else (), self.store.modes())
        family = self.families.setdefault(key, Family())
        shapes = tuple(tuple(a.shape) for a in arrays)
        if (key, shapes) in self._exact:
            return self._exact[key, shapes]
        if any(isinstance(a, Spec) for a in arrays):
            family.variants.append(self._build(entry, train, arrays, {}))
            return family.variants[-1]
        for variant in family.variants:
            if variant.fits(arrays):
                self._exact[key, shapes] = variant
                return variant
        family.shapes.append(shapes)
        dims = _symbolic_axes(family.shapes)
        try:
            variant = self._build(entry, train, arrays, dims)
        except (TypeError, ValueError):
            family.shapes.pop()
            if not dims:
                raise
            # with the sizes of this call alone: it works, or its error has numbers in it
            variant = self._build(entry, train, arrays, {})
        if not variant.fits(arrays):
            raise GuardViolation(f"the traced program does not serve the shapes {shapes} it was traced for")
        family.variants.append(variant)
        return variant

    def _trace(self, entry: str, train: bool, arrays: Sequence[Any], dims: Mapping[tuple[int, int], Dim]) -> Traced:
        names = input_names(self.target, self.loss, entry, len(arrays))
        axes = {names[arg]: {a: d for (g, a), d in dims.items() if g == arg} for arg, _ in dims}
        return trace(
            entry_function(self.target, self.loss, entry),
            *arrays,
            module=self.model,
            name=graph_name(self.target),
            train=train,
            names=names,
            dims=axes,
            known=self.store.names,
        )

    def _build(self, entry: str, train: bool, arrays: Sequence[Any], dims: Mapping[tuple[int, int], Dim]) -> Variant:
        traced = self._trace(entry, train, arrays, dims)
        self.store.note(traced)
        graph = traced.graph
        if entry != "forward":
            graph = graph.replace(outputs=(("loss", only_output(graph)),))
        forward = graph
        stages: dict[str, Graph | Tape] = {"traced": forward}
        checks: tuple[str, ...] = ()
        report: Report | None = None
        if entry in ("step", "value_and_grad"):
            optimizer = self.optimizer if entry == "step" else None
            report = judge(traced, graph, self.model, optimizer, self.lint_level)
            try:
                graph = self._differentiate(graph)
                stages["differentiated"] = graph
                graph = self._optimize(graph) if entry == "step" else graph
            except GradientError as error:
                error.traced, error.graph, error.report = traced, forward, report
                raise
        else:
            judge_forward(traced, graph, self.lint_level)
            stages["differentiated"] = graph
        if entry == "step":
            checks = ("loss", "grad_norm")
        graph = simplify(hoist(simplify(expand(simplify(graph)))))
        stages["fused"] = graph
        tape = lower(graph, checks)
        stages["tape"] = tape
        program = Program(tape, compile_tape(tape), self.store, self.threads, self.arena)
        inputs = traced.arguments.names
        return Variant(
            traced, stages, program, inputs, tuple(traced.graph.input(n).type for n in inputs), _scalars(tape), report
        )

    def _differentiate(self, graph: Graph) -> Graph:
        trainable = [name for name in self.store.trainable() if name in graph.roles]
        if not trainable:
            what = "model" if self.model is not None else "function"
            raise GradientError(f"the {what} has no trainable parameters: nothing to differentiate")
        return differentiate(graph, "loss", trainable)

    # the optimizer --------------------------------------------------------------------------------------------------
    def _optimize(self, graph: Graph) -> Graph:
        assert self.optimizer is not None
        parameters = dict(self.store.parameters)
        names = {id(p): name for name, p in parameters.items()}
        reached = {name.removeprefix("grad:") for name, _ in graph.outputs if name.startswith("grad:")}
        owner: dict[str, int] = {}
        for index, (params, _) in enumerate(self.optimizer.groups):
            for p in parameters.values() if params is None else params:
                if id(p) not in names:
                    raise ValueError(
                        f"the optimizer holds a parameter of shape {p.data.shape} that is not in the model"
                    )
                owner.setdefault(names[id(p)], index)
        updates = [self._update(name, parameters[name], owner[name]) for name in reached if name in owner]
        if not updates:
            raise GradientError("the optimizer holds none of the parameters that get a gradient")
        order = list(parameters)
        updates.sort(key=lambda u: order.index(u.param))
        return apply_updates(graph, updates, self.optimizer.max_norm)

    def _update(self, name: str, parameter: Parameter, group: int) -> Update:
        """The traced rule of one parameter; its state arrays join the store."""
        assert self.optimizer is not None
        hyper = self.optimizer.groups[group][1]
        optimizer = self.optimizer.with_options(hyper)
        state = optimizer.init(parameter.data)
        for key, value in state.items():
            self.store.add(state_name(key, name), value)
        kind = dtype_name(parameter.data.dtype)
        types = {k: TensorType(dtype_name(v.dtype), v.shape) for k, v in state.items()}
        scalars = {"lr": f"optimizer.lr.{group}.{kind}", "count": f"optimizer.step.{kind}"}
        return Update(name, update_graph(optimizer, parameter.data, state), types, scalars)

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
def _scalars(tape: Tape) -> tuple[tuple[str, np.dtype, int | None], ...]:
    """The runtime scalars of an optimizer: `optimizer.lr.<group>.<dtype>` and `optimizer.step.<dtype>`."""
    out: list[tuple[str, np.dtype, int | None]] = []
    for name, index, value_type in tape.inputs:
        if tape.buffers[index].segment == "scalar" and name.startswith("optimizer."):
            _, what, group, *_ = name.split(".")
            out.append((name, DTYPES[value_type.dtype], int(group) if what == "lr" else None))
    return tuple(out)


def _symbolic_axes(shapes: Sequence[tuple[tuple[int, ...], ...]]) -> dict[tuple[int, int], Dim]:
    """(argument, axis) -> Dim for axes whose size has differed between calls; sizes that always agreed share one."""
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
