"""compile(): the one place where tracer, passes, optimizers and runtime meet.

A `Compiled` owns one store (the model's parameters, buffers and optimizer state) and a table of programs over it, each
traced when it is first needed: a program belongs to an entry (step, value_and_grad, evaluate, forward), a mode (train,
eval) and to the sizes that it was traced for. A second call with other sizes traces once more with the differing sizes
symbolic; from then on one program serves them all.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from .entries import check_target, entry_function, graph_name, input_names, objective, only_output, update_graph
from .ir.dims import Dim, bind_shape
from .ir.foreign import objection
from .ir.graph import Graph
from .ir.replay import first_not_finite
from .ir.tape import Tape
from .ir.types import DTYPES, TensorType, dtype_name, shown
from .linting import LintError, LintWarning, judge, judge_forward, lint
from .models.optim import as_optimizer
from .passes.autodiff import GradientError, differentiate
from .passes.hoist import hoist
from .passes.lint import Report
from .passes.lower import lower
from .passes.optimize import Update, apply_updates, state_name
from .passes.rewrite import expand
from .passes.simplify import simplify
from .pictures import Picture, picture
from .runtime.program import Arena, GuardViolation, IndexOutOfRange, NotFinite, Program, compile_tape
from .runtime.threads import available_cpus
from .store import Store
from .tracer.module import Module, Parameter
from .tracer.trace import Spec, Traced, trace
from .watching import Watch

STAGES = ("traced", "differentiated", "fused", "tape")


class Last(NamedTuple):
    """What the latest step reported."""

    loss: float
    grad_norm: float
    lr: float


class Memory(NamedTuple):
    """Bytes of the store (parameters, buffers, optimizer state), of the arena (activations and temporaries, which
    share it), and the largest buffers of the arena by value name."""

    store: int
    arena: int
    largest: tuple[tuple[str, int], ...]

    def __str__(self) -> str:
        lines = [f"store  {self.store / 1e6:10.3f} MB", f"arena  {self.arena / 1e6:10.3f} MB"]
        return "\n".join([*lines, *(f"  %{name:<12} {size / 1e6:8.3f} MB" for name, size in self.largest)])


@dataclass
class _Variant:
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
class _Family:
    """The variants of one entry, mode and set of dtypes and ranks, and the shapes met so far."""

    variants: list[_Variant] = field(default_factory=list)
    shapes: list[tuple[tuple[int, ...], ...]] = field(default_factory=list)


class Compiled:
    """A model or function that runs as a tape. See `compile` for how to get one and for what a call does."""

    def __init__(
        self,
        target: Any,
        *,
        loss: Any = None,
        optimizer: Any = None,
        lint: str = "error",
        threads: int | None = None,
    ) -> None:
        if lint not in ("error", "warn", "off"):
            raise ValueError(f"lint is 'error', 'warn' or 'off', not {lint!r}")
        if optimizer is not None and loss is None and isinstance(target, Module):
            raise TypeError("an optimizer needs a loss: compile(model, loss=gt.cross_entropy, optimizer=...)")
        check_target(target, loss)
        self.target = target
        self.model = target if isinstance(target, Module) else None
        self.loss = loss
        self.optimizer = None if optimizer is None else as_optimizer(optimizer)
        self.lint_level = lint
        self.threads = threads if threads is not None else available_cpus()
        if self.threads < 1:
            raise ValueError(f"threads is at least 1, not {threads}")
        self.seed = 0
        self.last: Last | None = None
        self.examples: tuple[Any, ...] | None = None  # what compile() was given: arrays or specs
        self._step = 0
        self._watch: Watch | None = None
        self._lock = threading.RLock()
        self._families: dict[tuple, _Family] = {}
        self._exact: dict[tuple, _Variant] = {}  # by everything that decides, sizes too: the quick way
        self._arena = Arena()
        self._store = Store(self.model)
        self._latest: _Variant | None = None

    # calls ----------------------------------------------------------------------------------------------------------
    def __call__(self, *args: Any) -> Any:
        """With loss and optimizer one training step; otherwise the forward result in the model's own mode."""
        if self.optimizer is not None:
            return self.step(*args)
        return self.forward(*args, train=self.model.training if self.model is not None else False)

    def step(self, *batch: Any) -> Any:
        """Forward, backward and update on `(*inputs, target)`; returns the loss.

        Raises NotFinite (a FloatingPointError) and IndexOutOfRange (an IndexError) with everything as before the step.
        """
        if self.optimizer is None:
            raise TypeError("this program has no optimizer: compile(model, loss=..., optimizer=gt.AdamW(lr=1e-3))")
        with self._lock:
            variant, inputs = self._prepare("step", True, batch)
            lrs = [self.optimizer.learning_rate(self._step + 1, group) for group in range(len(self.optimizer.groups))]
            for name, dtype, group in variant.scalars:
                inputs[name] = np.asarray(self._step + 1 if group is None else lrs[group], dtype)
            out = self._run(variant, inputs)
            self._step += 1
            self.last = Last(float(out["loss"]), float(out["grad_norm"]), float(lrs[0]))
            if self._watch is not None:
                self._watch.after_step(self._step, variant.traced, [inputs[name] for name in variant.names])
            return out["loss"][()]

    def value_and_grad(self, *batch: Any) -> tuple[Any, dict[str, np.ndarray]]:
        """The loss and the gradient of every trainable parameter by path, in train mode. No parameter is updated;
        buffers are, as in any forward pass of training."""
        with self._lock:
            variant, inputs = self._prepare("value_and_grad", True, batch)
            out = self._run(variant, inputs)
            grads = {k.removeprefix("grad:"): v for k, v in out.items() if k.startswith("grad:")}
            return out["loss"][()], grads

    def evaluate(self, *batch: Any) -> Any:
        """The loss on `(*inputs, target)` in eval mode."""
        with self._lock:
            variant, inputs = self._prepare("evaluate", False, batch)
            return self._run(variant, inputs)["loss"][()]

    def forward(self, *inputs: Any, train: bool = False) -> Any:
        """The model's output, in eval mode unless `train`; arrays in the structure that the model returns."""
        with self._lock:
            variant, named = self._prepare("forward", train, inputs)
            out = self._run(variant, named)
            return variant.traced.structure.restore(out)

    def prepare(self, entry: str, train: bool, examples: Sequence[Any]) -> None:
        """Traces and compiles an entry for example arrays or specs, without running it."""
        with self._lock:
            self._latest = self._variant(
                entry, train, [e if isinstance(e, Spec) else _as_array(e, i) for i, e in enumerate(examples)]
            )

    def _prepare(self, entry: str, train: bool, args: Sequence[Any]) -> tuple[_Variant, dict[str, Any]]:
        arrays = [_as_array(a, i) for i, a in enumerate(args)]
        variant = self._variant(entry, train, arrays)
        self._latest = variant
        inputs: dict[str, Any] = dict(zip(variant.names, arrays, strict=True))
        for name, index, _ in variant.program.tape.inputs:
            if variant.program.tape.buffers[index].segment == "scalar" and name in ("seed", "step"):
                inputs[name] = np.int64(self.seed if name == "seed" else self._step)
        return variant, inputs

    def _run(self, variant: _Variant, inputs: dict[str, Any]) -> dict[str, np.ndarray]:
        try:
            return variant.program.run(inputs)
        except NotFinite as error:
            graph = variant.stages["differentiated"]
            assert isinstance(graph, Graph)
            known = {**variant.program.store, **inputs}
            first = first_not_finite(graph, {v.name: known[v.name] for v in graph.inputs})
            fact = f"step {self._step}: {error}; weights and optimizer state are as before the step"
            raise NotFinite(f"{fact}\n  {first}" if first else fact) from None

    # programs -------------------------------------------------------------------------------------------------------
    def _variant(self, entry: str, train: bool, arrays: Sequence[Any]) -> _Variant:
        kinds = tuple((dtype_name(a.dtype), len(a.shape)) for a in arrays)
        derived = entry in ("step", "value_and_grad")
        if derived and self.model is None and not self._store.parameters:
            self._store.note(self._trace(entry, train, arrays, {}))  # what a function trains is known once it is traced
        key = (entry, train, kinds, self._store.trainable() if derived else (), self._store.modes())
        family = self._families.setdefault(key, _Family())
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
            known=self._store.names,
        )

    def _build(self, entry: str, train: bool, arrays: Sequence[Any], dims: Mapping[tuple[int, int], Dim]) -> _Variant:
        traced = self._trace(entry, train, arrays, dims)
        self._store.note(traced)
        graph = traced.graph
        if entry != "forward":
            graph = graph.replace(outputs=(("loss", only_output(graph)),))
        stages: dict[str, Graph | Tape] = {"traced": graph}
        checks: tuple[str, ...] = ()
        report: Report | None = None
        if entry in ("step", "value_and_grad"):
            optimizer = self.optimizer if entry == "step" else None
            report = judge(traced, graph, self.model, optimizer, self.lint_level)
            graph = self._differentiate(graph)
        else:
            judge_forward(traced, graph, self.lint_level)
        stages["differentiated"] = graph
        if entry == "step":
            graph = self._optimize(graph)
            checks = ("loss", "grad_norm")
        graph = simplify(hoist(simplify(expand(simplify(graph)))))
        stages["fused"] = graph
        tape = lower(graph, checks)
        stages["tape"] = tape
        program = Program(tape, compile_tape(tape), self._store, self.threads, self._arena)
        inputs = traced.arguments.names
        return _Variant(
            traced, stages, program, inputs, tuple(traced.graph.input(n).type for n in inputs), _scalars(tape), report
        )

    def _differentiate(self, graph: Graph) -> Graph:
        trainable = [name for name in self._store.trainable() if name in graph.roles]
        if not trainable:
            what = "model" if self.model is not None else "function"
            raise GradientError(f"the {what} has no trainable parameters: nothing to differentiate")
        return differentiate(graph, "loss", trainable)

    # the optimizer --------------------------------------------------------------------------------------------------
    def _optimize(self, graph: Graph) -> Graph:
        assert self.optimizer is not None
        parameters = dict(self._store.parameters)
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
            self._store.add(state_name(key, name), value)
        kind = dtype_name(parameter.data.dtype)
        types = {k: TensorType(dtype_name(v.dtype), v.shape) for k, v in state.items()}
        scalars = {"lr": f"optimizer.lr.{group}.{kind}", "count": f"optimizer.step.{kind}"}
        return Update(name, update_graph(optimizer, parameter.data, state), types, scalars)

    # state ----------------------------------------------------------------------------------------------------------
    @property
    def step_count(self) -> int:
        """How many training steps have been taken."""
        return self._step

    def named_parameters(self) -> list[tuple[str, Parameter]]:
        """The model's parameters by path; of a function those that it has been seen to read, by the names it has."""
        return list(self._store.parameters)

    def state_dict(self) -> dict[str, np.ndarray]:
        """The model's own state_dict: the same keys."""
        return self._need_model().state_dict()

    def load_state_dict(self, state: Mapping[str, np.ndarray], strict: bool = True) -> None:
        self._need_model().load_state_dict(state, strict=strict)

    def optimizer_state_dict(self) -> dict[str, np.ndarray]:
        """The optimizer's arrays (`optimizer.<key>.<parameter>`) and the number of steps (`optimizer.step`)."""
        self._make_state()
        arrays = {k: v.copy() for k, v in self._store.items() if k.startswith("optimizer.")}
        return {**arrays, "optimizer.step": np.int64(self._step)}  # type: ignore[dict-item]

    def load_optimizer_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Puts a saved optimizer state back. Raises ValueError naming all keys that differ; then nothing is changed."""
        self._make_state()
        own = {k: v for k, v in self._store.items() if k.startswith("optimizer.")}
        given = {k: np.asarray(v) for k, v in state.items() if k != "optimizer.step"}
        wrong = [f"missing {k}" for k in own.keys() - given.keys()] + [
            f"unexpected {k}" for k in given.keys() - own.keys()
        ]
        wrong += [
            f"{k}: {own[k].shape} here, {given[k].shape} given"
            for k in own.keys() & given.keys()
            if own[k].shape != given[k].shape
        ]
        if wrong or "optimizer.step" not in state:
            raise ValueError(
                "the optimizer state does not fit: " + "; ".join(sorted(wrong) or ["missing optimizer.step"])
            )
        for key, array in given.items():
            own[key][...] = array
        self._step = int(np.asarray(state["optimizer.step"]).reshape(()))

    def _make_state(self) -> None:
        """Optimizer state exists from the first step on; whoever reads or writes it earlier makes it."""
        if self.optimizer is None:
            raise TypeError("this program has no optimizer")
        if not self._store.parameters:
            raise RuntimeError("what a function trains is known once it has been called")
        for name, parameter in self._store.parameters:
            if parameter.requires_grad:
                for key, value in self.optimizer.init(parameter.data).items():
                    self._store.add(state_name(key, name), value)

    def _need_model(self) -> Module:
        if self.model is None:
            raise TypeError("a compiled function has no state of its own: keep that of the model which it closes over")
        return self.model

    # what it knows of itself ----------------------------------------------------------------------------------------
    def graph(self, stage: str = "traced") -> Graph | Tape:
        """The latest program at a stage: traced, differentiated, fused (the graph that fusion reads) or tape."""
        if stage not in STAGES:
            raise ValueError(f"stage is one of {', '.join(STAGES)}, not {stage!r}")
        if self._latest is None:
            raise RuntimeError("nothing is traced yet: call it once, or give example arrays or specs to compile()")
        return self._latest.stages[stage]

    def lint(self, *example: Any) -> Report:
        """What keeps parameters from learning. Without arguments the verdict that compiling gave (layers S, K, T); with
        the arrays of a call all layers, as `gt.lint`."""
        if example:
            return lint(self, *example)
        self.graph()  # says what to do where nothing is traced yet
        assert self._latest is not None
        if self._latest.report is None:
            raise RuntimeError(
                "this program was not linted: it has no gradient, or lint='off'; give lint() the arrays of a call"
            )
        return self._latest.report

    def watch(self, every: int = 100, warn: bool = True) -> Watch:
        """From now on looks at the training every so many steps, for units that are never on, saturated activations and
        weights that do not move; returns what it sees. A later call replaces an earlier one."""
        if self.optimizer is None:
            raise TypeError("there is no training to watch: compile(model, loss=..., optimizer=...)")
        self._watch = Watch(self, every, warn)
        return self._watch

    def memory(self) -> Memory:
        """The memory of the latest program, in bytes; prints as a short table."""
        self.graph()  # says what to do where nothing is traced yet
        assert self._latest is not None
        return Memory(
            store=sum(a.nbytes for a in self._store.values()),
            arena=int(self._arena.memory.size),
            largest=tuple(self._latest.program.largest_buffers()),
        )

    def picture(self, stage: str = "traced") -> Picture:
        """The latest program at a stage as plain data to draw: nodes, edges, modules, verdicts, broken paths."""
        self.graph(stage)  # says what to do where nothing is traced yet
        assert self._latest is not None
        latest = self._latest
        return picture(latest.stages, stage, latest.report, latest.traced.ledger.reentries)


def compile(
    model_or_fn: Any,
    *examples_or_specs: Any,
    loss: Any = None,
    optimizer: Any = None,
    lint: str = "error",
    threads: int | None = None,
    cache: bool = True,
) -> Compiled:
    """Compiles a Module or a function of arrays.

    model_or_fn   a Module, or a function of NumPy-like arrays
    examples      arrays, or `gt.spec(("B", 64), "i64")`: trace now instead of at the first call
    loss          `loss(model(*inputs), target)` -> float scalar, or `gt.objective(f)` with `f(model, *batch)`
    optimizer     gt.AdamW(lr=1e-3), ... or a function `(param, grad, state, scalars) -> (new_param, new_state)`
    lint          "error": a model in which a parameter cannot learn is refused with a LintError, and what may be meant
                  is a LintWarning; "warn": both are warnings; "off"
    threads       default: all CPUs of the process
    cache         kept for tapes on disk

    Called with loss and optimizer, the result takes one training step on `(*inputs, target)` and returns the loss;
    otherwise it returns the forward result.
    """
    compiled = Compiled(model_or_fn, loss=loss, optimizer=optimizer, lint=lint, threads=threads)
    if examples_or_specs:
        compiled.examples = examples_or_specs
        entry = "step" if optimizer is not None else "forward"
        train = entry == "step" or (compiled.model is not None and compiled.model.training)
        compiled.prepare(entry, train, examples_or_specs)
    return compiled


# helpers ------------------------------------------------------------------------------------------------------------
def _as_array(x: Any, position: int) -> np.ndarray:
    try:
        array = np.asarray(x)
    except ValueError:
        raise TypeError(f"argument {position}: the lists in {shown(x)} are not equally long") from None
    if array.dtype.kind not in "fiub":
        fact = objection(x) or f"an array of dtype {array.dtype} is not one of numbers"
        raise TypeError(f"argument {position}: {fact}")
    if array.dtype == np.float16:
        raise TypeError(f"argument {position}: dtype float16 is not one of {', '.join(DTYPES)}; write x.astype('f4')")
    if array.dtype not in DTYPES.values():
        array = array.astype(np.int64 if array.dtype.kind in "iu" else np.float64)
    if not isinstance(x, (np.ndarray, np.generic)) and array.dtype == np.float64:
        array = array.astype(np.float32)  # Python numbers and lists take the default dtype
    return array


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


__all__ = [
    "Compiled",
    "GradientError",
    "IndexOutOfRange",
    "Last",
    "LintError",
    "LintWarning",
    "NotFinite",
    "compile",
    "objective",
]
