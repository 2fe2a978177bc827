"""compile(): the one place where tracer, passes, optimizers and runtime meet.

A `Compiled` is what the user holds: calls, state, and what it knows of itself. Its programs, and how one is built,
stand in `programs.py`.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .entries import check_target, objective
from .ir.display import Displayed
from .ir.foreign import objection
from .ir.graph import Graph
from .ir.replay import first_not_finite
from .ir.tape import Tape
from .ir.types import DTYPES, shown
from .linting import LintError, LintWarning, lint
from .models.optim import as_optimizer
from .passes.autodiff import GradientError
from .passes.lint import Report
from .pictures import Picture, picture
from .programs import STAGES, Programs, Variant
from .runtime.program import IndexOutOfRange, NotFinite
from .runtime.threads import available_cpus
from .tracer.module import Module, Parameter
from .tracer.trace import Spec
from .watching import Watch

if TYPE_CHECKING:
    from graphviz import Digraph


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


class Compiled(Displayed):
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
        self._programs = Programs(target, loss, self.optimizer, lint, self.threads)
        self._store = self._programs.store
        self._latest: Variant | None = None

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
            self._latest = self._programs.variant(
                entry, train, [e if isinstance(e, Spec) else _as_array(e, i) for i, e in enumerate(examples)]
            )

    def _prepare(self, entry: str, train: bool, args: Sequence[Any]) -> tuple[Variant, dict[str, Any]]:
        arrays = [_as_array(a, i) for i, a in enumerate(args)]
        variant = self._programs.variant(entry, train, arrays)
        self._latest = variant
        inputs: dict[str, Any] = dict(zip(variant.names, arrays, strict=True))
        for name, index, _ in variant.program.tape.inputs:
            if variant.program.tape.buffers[index].segment == "scalar" and name in ("seed", "step"):
                inputs[name] = np.int64(self.seed if name == "seed" else self._step)
        return variant, inputs

    def _run(self, variant: Variant, inputs: dict[str, Any]) -> dict[str, np.ndarray]:
        try:
            return variant.program.run(inputs)
        except NotFinite as error:
            graph = variant.stages["differentiated"]
            assert isinstance(graph, Graph)
            known = {**variant.program.store, **inputs}
            first = first_not_finite(graph, {v.name: known[v.name] for v in graph.inputs})
            fact = f"step {self._step}: {error}; weights and optimizer state are as before the step"
            raise NotFinite(f"{fact}\n  {first}" if first else fact) from None

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
        self._programs.make_state()
        arrays = {k: v.copy() for k, v in self._store.items() if k.startswith("optimizer.")}
        return {**arrays, "optimizer.step": np.int64(self._step)}  # type: ignore[dict-item]

    def load_optimizer_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Puts a saved optimizer state back. Raises ValueError naming all keys that differ; then nothing is changed."""
        self._programs.make_state()
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
            arena=int(self._programs.arena.memory.size),
            largest=tuple(self._latest.program.largest_buffers()),
        )

    # pictures -------------------------------------------------------------------------------------------------------
    def picture(self, stage: str = "traced") -> Picture:
        """The latest program at a stage as plain data to draw: nodes, edges, modules, verdicts, broken paths."""
        self.graph(stage)  # says what to do where nothing is traced yet
        assert self._latest is not None
        latest = self._latest
        return picture(latest.stages, stage, latest.report, latest.traced.ledger.reentries)

    def dot(self, stage: str = "traced", depth: int | None = None, repeats: bool = True, full: bool = False) -> Digraph:
        """The latest program at a stage as a `graphviz.Digraph`: `str(...)` is the DOT text, a notebook shows it, and
        `.render(...)` writes a file where the program dot is installed.

        depth    how many modules deep the inside is shown, default as deep as fits on a page
        repeats  whether equal neighbours in a list of modules (`blocks.0 ... blocks.5`) are drawn once
        full     nothing is folded or left out
        """
        from .pictures.dot import dot, shown

        return dot(shown(self.picture(stage), depth, repeats, full))


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
