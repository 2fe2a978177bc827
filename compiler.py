"""compile(): the one place where tracer, passes, optimizers and runtime meet.

A `Compiled` is what the user holds: calls, state, and what it knows of itself. Its programs, and how one is built,
stand in `programs.py`.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .decoding import Decoder
from .entries import READY, as_arrays, check_target, objective
from .ir.display import Displayed
from .ir.graph import Graph
from .ir.replay import first_not_finite
from .ir.tape import Tape
from .models.generation import Recomputing, Step, generate
from .models.optim import as_optimizer
from .passes.autodiff import GradientError
from .planning import Limits
from .programs import STAGES, Programs, Variant
from .runtime.cache import default_cache
from .runtime.program import IndexOutOfRange, NotFinite
from .runtime.threads import available_cpus
from .tracer.module import Module, Parameter
from .tracer.rng import initial_seed
from .tracer.trace import Spec

if TYPE_CHECKING:  # the lint is imported where it is asked: a start from the cache has its verdict already
    from graphviz import Digraph

    from .passes.lint import Report
    from .pictures import Picture
    from .runtime.profile import Profile
    from .watching import Watch


class Last(NamedTuple):
    """What the latest step reported."""

    loss: float
    grad_norm: float
    lr: float


class Memory(NamedTuple):
    """Bytes of the store (parameters, buffers, optimizer state), of the arena (activations and temporaries, which
    share it), the largest buffers of the arena by value name, and into how many slices the batch is cut."""

    store: int
    arena: int
    largest: tuple[tuple[str, int], ...]
    slices: int = 1

    def __str__(self) -> str:
        cut = f", the batch in {self.slices} slices" if self.slices > 1 else ""
        lines = [f"store  {self.store / 1e6:10.3f} MB", f"arena  {self.arena / 1e6:10.3f} MB{cut}"]
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
        cache: bool = True,
        memory_budget: int | None = None,
        microbatch: int | None = None,
    ) -> None:
        if lint not in ("error", "warn", "off"):
            raise ValueError(f"lint is 'error', 'warn' or 'off', not {lint!r}")
        if optimizer is not None and loss is None and isinstance(target, Module):
            raise TypeError("an optimizer needs a loss: compile(model, loss=gt.cross_entropy, optimizer=...)")
        check_target(target, loss)
        count = threads if threads is not None else available_cpus()
        if count < 1:
            raise ValueError(f"threads is at least 1, not {threads}")
        made = None if optimizer is None else as_optimizer(optimizer)
        limits = Limits(memory_budget, microbatch)
        self._begin(Programs(target, loss, made, lint, count, limits, default_cache() if cache else None))

    def _begin(self, programs: Programs) -> None:
        self._programs = programs
        self._store = programs.store
        self.target, self.model, self.loss = programs.target, programs.model, programs.loss
        self.optimizer, self.lint_level, self.threads = programs.optimizer, programs.lint_level, programs.threads
        self.limits = programs.limits
        self.seed = initial_seed()
        self.last: Last | None = None
        self.examples: tuple[Any, ...] | None = None  # what compile() was given: arrays or specs
        self._step = 0
        self._watch: Watch | None = None
        self._lock = threading.RLock()
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
            lrs = self._tell_optimizer(variant, inputs)
            out = self._run(variant, inputs)
            self._step += 1
            self.last = Last(float(out["loss"]), float(out["grad_norm"]), float(lrs[0]))
            if self._watch is not None:
                self._watch.after_step(self._step, variant.traced, variant.traced.arguments.restore(inputs))
            return out["loss"][()]

    def value_and_grad(self, *batch: Any) -> tuple[Any, dict[str, np.ndarray]]:
        """The loss and the gradient of every trainable parameter by path, in train mode. No parameter is updated;
        buffers are, as in any forward pass of training."""
        with self._lock:
            variant, inputs = self._prepare("value_and_grad", True, batch)
            out = self._run(variant, inputs)
            grads = {k.removeprefix("grad:"): v for k, v in out.items() if k.startswith("grad:")}
            return out["loss"][()], grads

    def gradient_norms(self, *batch: Any) -> dict[str, float]:
        """The norm of every trainable parameter's gradient on a batch, by path. It only looks: buffers stay, too."""
        with self._lock:
            self._prepare("value_and_grad", True, batch)  # what a function reads is known once it is traced
            buffers = self._store.buffers()
            kept = [b.copy() for b in buffers]
            _, gradients = self.value_and_grad(*batch)
            for buffer, old in zip(buffers, kept, strict=True):
                buffer[...] = old
            return {path: float(np.linalg.norm(g)) for path, g in gradients.items()}

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

    def generate(self, prompt: Any, max_new_tokens: int, **options: Any) -> np.ndarray:
        """`prompt` and what the model goes on with: `gt.generate(self, prompt, max_new_tokens, ...)`, which has the
        options (temperature, top_k, top_p, seed, ...). In eval mode, whatever mode the model is in."""
        with self._lock:
            return generate(self, prompt, max_new_tokens, **options)

    def decoder(self, batch: int, context: int | None = None, cache: bool = True) -> Step:
        """What `generate` calls for each new id: (ids (B, T), their position) -> logits (B, V) of the last. Without a
        cache, or where the model knows no position, all ids so far are computed again each time."""
        context = self._programs.context() if context is None else context
        if not (cache and self._programs.decodes()):
            return Recomputing(self.forward, batch, context)
        with self._lock:
            step = Decoder(self._programs, batch, context, self._lock)
            self._latest = step.decode
        return step

    def prepare_generation(self, batch: int = 1, context: int | None = None) -> None:
        """Traces and compiles what `generate` needs for prompts of `batch` texts, so that `save` has it. A model that
        knows no position needs its forward program alone."""
        step = self.decoder(batch, context)
        if isinstance(step, Decoder):
            step.prepare()
        else:
            self.prepare("forward", False, [Spec((batch, step.context), "i64")])

    def prepare(self, entry: str, train: bool, examples: Sequence[Any]) -> None:
        """Traces and compiles an entry for example arrays or specs, without running it."""
        with self._lock:
            given = [as_arrays(e, f"argument {i}", specs=True) for i, e in enumerate(examples)]
            self._latest = self._programs.variant(entry, train, given)[0]

    def _prepare(self, entry: str, train: bool, args: Sequence[Any]) -> tuple[Variant, dict[str, Any]]:
        given = [
            a if type(a) is np.ndarray and a.dtype in READY else as_arrays(a, f"argument {i}")
            for i, a in enumerate(args)
        ]
        variant, arrays = self._programs.variant(entry, train, given)
        self._latest = variant
        inputs: dict[str, Any] = dict(zip(variant.names, arrays, strict=True))
        for name, index, _ in variant.program.tape.inputs:
            if variant.program.tape.buffers[index].segment == "scalar" and name in ("seed", "step"):
                inputs[name] = np.int64(self._step if name == "step" else self._seed_of_call(entry))
        return variant, inputs

    def _seed_of_call(self, entry: str) -> int:
        """Steps draw by their number, so that a training that goes on from a checkpoint is the same; what other calls
        draw differs from call to call by the upper half of the seed, and takes nothing from the steps."""
        if entry == "step":
            return self._seed
        self._calls += 1
        return self._seed ^ ((self._calls - 1) % 2**31) << 32

    def _tell_optimizer(self, variant: Variant, inputs: dict[str, Any]) -> list[float]:
        """Adds the scalars of the coming step to `inputs`; returns the learning rates of the groups."""
        assert self.optimizer is not None
        lrs = [self.optimizer.learning_rate(self._step + 1, group) for group in range(len(self.optimizer.groups))]
        for name, dtype, group in variant.scalars:
            inputs[name] = np.asarray(self._step + 1 if group is None else lrs[group], dtype)
        return lrs

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

    @property
    def seed(self) -> int:
        """The seed of all random numbers: at first that of `gt.manual_seed`. Every call draws fresh ones, as in
        PyTorch; when the seed is set, calls other than steps start again with the first ones."""
        return self._seed

    @seed.setter
    def seed(self, seed: int) -> None:
        self._seed, self._calls = int(seed), 0

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
            from .linting import lint

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
        from .watching import Watch

        self._watch = Watch(self, every, warn)
        return self._watch

    def explain(self) -> str:
        """Whether the tape of the latest program came from the cache; if not, what the nearest one there differs in."""
        self.graph()  # says what to do where nothing is traced yet
        assert self._latest is not None
        return self._latest.origin.explain()

    def save(self, path: str | Path, weights: str = "values") -> None:
        """Writes the programs that exist so far to one file, which `gt.load` runs without the model's Python and
        without Numba, on CPUs that have the features of this one.

        weights   "values": parameters, buffers and optimizer state as they are, to go on from here; "seed": how
                  `gt.manual_seed` and `gt.init` have made the parameters, to begin with this or another seed

        Raises ValueError for what has no place in a file: a `gt.callback`, a model that is a plain function, with
        "seed" parameters that no function of gt.init has filled.
        """
        from .saving import save

        with self._lock:
            save(self._programs, Path(path), weights, self._step, initial_seed(), self.seed)

    def memory(self) -> Memory:
        """The memory of the latest program, in bytes; prints as a short table."""
        self.graph()  # says what to do where nothing is traced yet
        assert self._latest is not None
        return Memory(
            store=sum(a.nbytes for a in self._store.values()),
            arena=int(self._programs.arena.memory.size),
            largest=tuple(self._latest.program.largest_buffers()),
            slices=self._latest.slices,
        )

    def picture(self, stage: str = "traced") -> Picture:
        """The latest program at a stage as plain data to draw: nodes, edges, modules, verdicts, broken paths."""
        from .pictures import picture

        self.graph(stage)  # says what to do where nothing is traced yet
        assert self._latest is not None
        latest = self._latest
        stages = {name: latest.stages[name] for name in STAGES}
        return picture(stages, stage, latest.report, latest.traced.ledger.reentries)

    def report(
        self,
        path: str | Path,
        *batch: Any,
        run: str | Path | None = None,
        lint: Report | None = None,
        title: str = "",
        target: str = "",
    ) -> Path:
        """Writes a report on the latest program: one HTML file to look at in a browser, which needs nothing else.

        batch   the arrays of a call: then times and the norms of gradients are measured on it, and nothing is trained
        run     what a training has left behind: the folder of `gradtape train`, or CSV or JSON lines with `step`
        lint    the findings to show, as of `gt.lint`; default those that compiling gave
        title   what the page is called, default the model's name; `target` is what it says the program came from

        Returns the path. Raises RunError (a ValueError) for a run that cannot be read.
        """
        from .linting import LintWarning
        from .report import contents, page, plan_of, read_run

        training = read_run(run) if run is not None else None
        gradients: dict[str, float] = {}
        profile = None
        if batch:
            with warnings.catch_warnings(action="ignore", category=LintWarning):  # the report shows what it found
                if self.loss is not None:
                    gradients = self.gradient_norms(*batch)
                profile = self.profile(*batch)
        self.graph()  # says what to do where nothing is traced yet
        assert self._latest is not None
        latest = self._latest
        data = contents(
            {name: latest.stages[name] for name in STAGES},
            plan=plan_of(latest.program),
            parameters={name: (p.array, p.requires_grad) for name, p in self._store.parameters},
            store=sum(a.nbytes for a in self._store.values()),
            lint=lint or latest.report,
            reentries=latest.traced.ledger.reentries,
            gradients=gradients,
            profile=profile,
            training=training,
            title=title,
            target=target,
        )
        path = Path(path)
        path.write_text(page(data), encoding="utf-8")
        return path

    def dot(self, stage: str = "traced", depth: int | None = None, repeats: bool = True, full: bool = False) -> Digraph:
        """The latest program at a stage as a `graphviz.Digraph`: `str(...)` is the DOT text, a notebook shows it, and
        `.render(...)` writes a file where the program dot is installed.

        depth    how many modules deep the inside is shown, default as deep as fits on a page
        repeats  whether equal neighbours in a list of modules (`blocks.0 ... blocks.5`) are drawn once
        full     nothing is folded or left out
        """
        from .pictures.dot import dot, shown

        return dot(shown(self.picture(stage), depth, repeats, full))

    def profile(self, *batch: Any, entry: str | None = None, repeats: int = 10) -> Profile:
        """Where the time of a program goes, measured on the arrays of a call: instruction by instruction and by thread,
        beside the operations and bytes of each and what this machine can do at its best. Prints as a table;
        `.trace(path)` writes it for Chrome or Perfetto.

        entry     "step", "value_and_grad", "evaluate" or "forward"; by default what a call of this object does
        repeats   runs with a clock between the instructions, each after one without; figures are medians

        Nothing is trained: parameters, buffers, optimizer state and the number of steps are afterwards what they were,
        bit by bit, which takes a copy of what the program updates. The peak is measured once in a process.
        """
        called = "step" if self.optimizer is not None else "forward"
        entry = entry or called
        if entry not in ("step", "value_and_grad", "evaluate", "forward"):
            raise ValueError(f"entry is 'step', 'value_and_grad', 'evaluate' or 'forward', not {entry!r}")
        if entry == "step" and self.optimizer is None:
            raise TypeError("this program has no optimizer: profile(..., entry='value_and_grad')")
        train = entry in ("step", "value_and_grad") or (
            entry == called and self.model is not None and self.model.training
        )
        with self._lock:
            variant, inputs = self._prepare(entry, train, batch)
            if entry == "step":
                self._tell_optimizer(variant, inputs)
            from .runtime.measure import measure

            return measure(variant.program, inputs, repeats, entry)


def compile(
    model_or_fn: Any,
    *examples_or_specs: Any,
    loss: Any = None,
    optimizer: Any = None,
    lint: str = "error",
    threads: int | None = None,
    cache: bool = True,
    memory_budget: int | None = None,
    microbatch: int | None = None,
) -> Compiled:
    """Compiles a Module or a function of arrays.

    model_or_fn   a Module, or a function of NumPy-like arrays
    examples      arrays, or `gt.spec(("B", 64), "i64")`: trace now instead of at the first call. As in calls, tuples,
                  lists and dicts of them are arguments too: `(h, c)`
    loss          `loss(model(*inputs), target)` -> float scalar, or `gt.objective(f)` with `f(model, *batch)`
    optimizer     gt.AdamW(lr=1e-3), ... or a function `(param, grad, state, scalars) -> (new_param, new_state)`
    lint          "error": a model in which a parameter cannot learn is refused with a LintError, and what may be meant
                  is a LintWarning; "warn": both are warnings; "off"
    threads       the most to use (a program that one thread soon runs stays on it); default: all CPUs of the process
    cache         whether the finished tape is looked up on disk and kept there, so that the next start is instant; see
                  docs/cache.md and `explain()`
    memory_budget bytes for activations, temporaries and gradients, which `memory().arena` tells (parameters and
                  optimizer state come on top): where a batch needs more, forward and backward run over slices of it, as
                  few as will do, and gradients are added up. MemoryBudgetError where it cannot be done with so little
    microbatch    the most elements of the batch in a slice; slices are of one size, so it is the batch by a divisor

    Slices change a result by the order of its sums only. They need a batch along the first axis of the inputs whose
    elements do not depend on each other: MicrobatchError names the op and line where they do, as in batch norm.

    Called with loss and optimizer, the result takes one training step on `(*inputs, target)` and returns the loss;
    otherwise it returns the forward result.
    """
    compiled = Compiled(
        model_or_fn, loss=loss, optimizer=optimizer, lint=lint, threads=threads, cache=cache,
        memory_budget=memory_budget, microbatch=microbatch,
    )  # fmt: skip
    if examples_or_specs:
        compiled.examples = examples_or_specs
        entry = "step" if optimizer is not None else "forward"
        train = entry == "step" or (compiled.model is not None and compiled.model.training)
        compiled.prepare(entry, train, examples_or_specs)
    return compiled


def load(path: str | Path, threads: int | None = None, seed: int | None = None, lr: Any = None) -> Compiled:
    """A Compiled from a file that `save` or `gradtape compile` has written: it trains, evaluates and runs the programs
    of the file, without the model's Python and without Numba. Machine code is loaded from it: load what you trust.

    threads   default: all CPUs of the process
    seed      of a file with weights="seed": other first weights than those of the seed it was saved with
    lr        the learning rate: a number or a function of the step; default: what was saved

    Raises ValueError where the file is damaged, or was compiled for another CPU or by another gradtape.
    """
    from .saving import load as read

    programs, saved = read(Path(path), threads if threads is not None else available_cpus(), seed, lr)
    compiled = object.__new__(Compiled)
    compiled._begin(programs)
    compiled.seed, compiled._step = saved.draws, saved.step
    return compiled


__all__ = [
    "Compiled",
    "GradientError",
    "IndexOutOfRange",
    "Last",
    "NotFinite",
    "compile",
    "load",
    "objective",
]
