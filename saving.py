"""`step.save` and `gt.load`: the programs of a Compiled as one file, and such programs without the model's Python."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .finished.lookup import Origin, Verdict
from .finished.parts import NotKept, callbacks
from .finished.recipe import DERIVED
from .finished.saved import Filling, SavedModel, SavedProgram, initial_arrays, model_from, model_parts
from .ir.tape_data import Damaged
from .ir.types import TensorType, dtype_name, type_of
from .models.optim import Optimizer
from .models.schedule import Schedule, again
from .planning import Limits
from .programs import Programs, Stages, Variant, scalars_of
from .runtime.cache import write_atomically
from .runtime.container import pack, unpack
from .runtime.ingredients import SOURCES, features_missing, machine_ingredients, source_digest
from .runtime.program import GuardViolation, Program
from .tracer.ledger import Ledger
from .tracer.module import Module, Parameter, buffer
from .tracer.rng import filled
from .tracer.structure import Slot, Structure, flatten
from .tracer.trace import Spec, Traced, is_array

WEIGHTS = ("values", "seed")
# What a file must have been written with: how a tape is bound to memory, and what its kernels are told.
RUNTIME = ("source of ir", "source of runtime")


# saving ---------------------------------------------------------------------------------------------------------------
def save(programs: Programs, path: Path, weights: str, step: int, seed: int, draws: int) -> None:
    """Writes the programs that there are, with the seeds of the parameters and of the programs' random numbers. Raises
    ValueError for what has no place in a file."""
    if weights not in WEIGHTS:
        raise ValueError(f"weights is 'values' or 'seed', not {weights!r}")
    if programs.model is None:
        raise ValueError("only a model is saved: what a function closes over has no names; make it a gt.Module")
    if isinstance(programs, LoadedPrograms):
        saved = programs.saved.programs
    else:
        now = {derived: programs.store.read_by_python(derived) for derived in (False, True)}
        found = [
            (key, variant)
            for key, family in programs.families.items()
            for variant in family.variants
            if key[4:] == now[key[0] in DERIVED]  # of the model as it is
        ]
        if not found:
            raise ValueError("there is no program yet: call it once, or give specs to gt.compile")
        saved = [_saved_program(key, variant) for key, variant in found]
    model = _saved_model(programs, saved, weights, step, seed)
    model.draws = draws
    try:
        parts = model_parts(model)
    except NotKept as error:
        raise ValueError(f"{path} is not written: {error}") from None
    about = {"name": model.name, "programs": [str(p) for p in saved], "ingredients": _ingredients()}
    write_atomically(path, pack(about, parts))


def _ingredients() -> dict[str, str]:
    return {**machine_ingredients(), **{name: source_digest(SOURCES[name]) for name in RUNTIME}}


def _saved_program(key: tuple, variant: Variant) -> SavedProgram:
    entry, train, *_ = key
    for step in callbacks(variant.program.tape.steps):
        at = f"{step.location.file}:{step.location.line}" if step.location else "a line that is not known"
        raise ValueError(
            f"{entry} calls the Python function {step.function} ({at}), and a file holds no Python; "
            "write it with ops, or leave that program out"
        )
    recipe = variant.stages.recipe
    assert isinstance(variant.traced, Traced)
    return SavedProgram(
        entry, train, variant.names, variant.types, recipe.trainable, variant.finished, variant.traced.arguments,
        variant.traced.structure, recipe,
    )  # fmt: skip


def _saved_model(programs: Programs, saved: list[SavedProgram], weights: str, step: int, seed: int) -> SavedModel:
    model, store, optimizer = programs.model, programs.store, programs.optimizer
    assert model is not None
    parameters = dict(store.parameters)
    holders = {**parameters, **dict(model.named_buffers())}
    for program in saved:  # what a loss or a closure reads has no path in the model
        for b in program.finished.tape.buffers:
            if b.segment in ("param", "buffer") and b.name not in holders:
                raise ValueError(
                    f"{program.entry} reads {b.name}, which is no part of the model; make it an attribute of the model"
                )
    arrays = {name: holder.array for name, holder in holders.items()}
    fillings = None
    if weights == "seed":
        fillings, constant = _fillings(parameters, step, seed)
        arrays = {name: a for name, a in arrays.items() if name not in parameters or name in constant}
    names = {id(p): name for name, p in parameters.items()}
    groups = [] if optimizer is None else optimizer.groups
    if optimizer is not None:
        programs.make_state()
    return SavedModel(
        name=saved[0].parsed().graph.name,
        parameters=list(parameters),
        trainable=[name for name, p in parameters.items() if p.requires_grad],
        aliases=model.aliases(),
        buffers=[name for name in holders if name not in parameters],
        transient=[name for name, b in model.named_buffers() if not b.persistent],
        arrays=arrays,
        shapes={name: type_of(holder.array) for name, holder in holders.items()},
        state={name: a for name, a in store.items() if name.startswith("optimizer.")},
        programs=saved,
        seed=seed,
        step=step,
        fillings=fillings,
        context=context if type(context := getattr(model, "context", None)) is int else None,
        optimizer="" if optimizer is None else repr(optimizer),
        rates=[_rate(options.get("lr", 0.0)) for _, options in groups],
        members=[None if held is None else [names[id(p)] for p in held if id(p) in names] for held, _ in groups],
        max_norm=None if optimizer is None else optimizer.max_norm,
    )


def _rate(lr: Any) -> Any:
    if isinstance(lr, Schedule) and lr.made:
        return list(lr.made)
    return None if callable(lr) else float(lr)


def _fillings(parameters: dict[str, Parameter], step: int, seed: int) -> tuple[list[Filling], set[str]]:
    """How `seed` makes the parameters, and those that are constant; ValueError names what it does not make."""
    if step:
        raise ValueError("weights='seed' needs the model as it was made: save before the first step, or the values")
    names = {id(p): name for name, p in parameters.items()}
    found: list[Filling] = []
    for kind, a, b, shape, parameter in filled():
        found.append((kind, float(a), float(b), tuple(shape), names.get(id(parameter), "")))
    shapes = {name: TensorType(dtype_name(p.dtype), p.shape) for name, p in parameters.items()}
    made = initial_arrays(found, shapes, seed)
    other = [n for n, p in parameters.items() if n not in made or not np.array_equal(made[n], p.array)]
    constant = {n for n in other if n not in made and parameters[n].size and np.ptp(parameters[n].array) == 0}
    wrong = [n for n in other if n not in constant]
    if wrong:
        listed = ", ".join(wrong[:4]) + (f" (+{len(wrong) - 4})" if len(wrong) > 4 else "")
        raise ValueError(
            f"{listed}: not what gt.manual_seed({seed}) and the functions of gt.init make; call gt.manual_seed before "
            "the model is made and fill parameters with gt.init, or save with weights='values'"
        )
    last = max((i for i, f in enumerate(found) if f[4]), default=-1)
    return found[: last + 1], constant


# loading --------------------------------------------------------------------------------------------------------------
class LoadedModel(Module):
    """The parameters and buffers of a loaded file, by the paths that they had."""

    def __init__(self, saved: SavedModel, arrays: dict[str, np.ndarray]) -> None:
        made: dict[str, Any] = {}
        for name in saved.parameters:
            made[name] = Parameter(arrays[name], requires_grad=name in saved.trainable)
            made.update(dict.fromkeys(saved.aliases.get(name, ()), made[name]))
        for name in saved.buffers:
            made[name] = buffer(arrays[name], persistent=name not in saved.transient)
        for path, item in made.items():
            head, *rest = path.split(".")
            if not rest:
                object.__setattr__(self, head, item)
                continue
            place = vars(self).setdefault(head, {})
            for part in rest[:-1]:
                place = place.setdefault(part, {})
            place[rest[-1]] = item
        if saved.context is not None and "context" not in vars(self):
            object.__setattr__(self, "context", saved.context)

    def setup_cache(self, batch: int) -> None:
        """The keys and values that were kept are among the buffers of the file, for batches of the sizes it knows."""

    def forward(self, *args: Any) -> Any:
        raise TypeError("a loaded tape has programs and no Python of the model's; call step.forward(x)")


class LoadedOptimizer(Optimizer):
    """What is left of an optimizer: its groups and rates. What it does is in the programs."""

    def __init__(self, text: str, groups: list[tuple[list[Parameter] | None, dict[str, Any]]], max_norm: Any) -> None:
        super().__init__(lr=0.0)
        self.groups, self.max_norm, self._text = groups, max_norm, text

    def __repr__(self) -> str:
        return self._text


class LoadedPrograms(Programs):
    """Programs that a file has brought. One that it does not hold cannot be made here."""

    def __init__(
        self, path: Path, saved: SavedModel, arrays: dict[str, np.ndarray], optimizer: Any, threads: int
    ) -> None:
        model = LoadedModel(saved, arrays)
        super().__init__(model, None, optimizer(model) if optimizer else None, "off", threads, Limits())
        self.path, self.saved = path, saved
        for name, array in saved.state.items():
            self.store.add(name, array)
        self._made: dict[int, Variant] = {}

    def variant(self, entry: str, train: bool, args: Sequence[Any]) -> tuple[Variant, list[Any]]:
        """The program of the file that serves an entry for these arguments; GuardViolation where there is none."""
        structure, leaves = flatten(tuple(args), "", is_array)
        arrays = [leaf for _, leaf in leaves]
        return self._found(entry, train, structure, arrays), arrays

    def _found(self, entry: str, train: bool, given: Structure, arrays: Sequence[Any]) -> Variant:
        fitting = [
            (i, p) for i, p in enumerate(self.saved.programs)
            if (p.entry, p.train) == (entry, train) and len(p.types) == len(arrays)
            and _unnamed(p.arguments.tree) == _unnamed(given.tree)
            and all(dtype_name(a.dtype) == t.dtype and len(a.shape) == t.ndim
                    for a, t in zip(arrays, p.types, strict=True))
        ]  # fmt: skip
        for index, program in fitting:
            variant = self._ready(index, program)
            exact = not any(isinstance(a, Spec) for a in arrays)
            if variant.fits(arrays) if exact else variant.covers(arrays):
                if program.trainable and program.trainable != self.store.trainable():
                    raise ValueError(f"{entry} in {self.path} trains {len(program.trainable)} parameters; which ones "
                                     "are trained cannot be changed after loading")  # fmt: skip
                return variant
        shown = ", ".join(str(TensorType(dtype_name(a.dtype), tuple(a.shape))) for a in arrays)
        held = "\n".join(f"  {p}" for p in self.saved.programs)
        mode = "train" if train else "eval"
        raise GuardViolation(f"{self.path} holds no program {entry}({shown}) in {mode} mode; it holds\n{held}")

    def decodes(self) -> bool:
        """Whether the file has programs that go on from a position."""
        return any(program.entry == "decode" for program in self.saved.programs)

    def _ready(self, index: int, saved: SavedProgram) -> Variant:
        if index not in self._made:
            tape = saved.finished.tape
            program = Program(tape, saved.finished.objects, self.store, self.threads, self.arena)
            origin = Origin(True, "", {}, None, self.path)
            stages, traced = LoadedStages(saved), LoadedTrace(saved, self.store)
            self._made[index] = Variant(
                traced, stages, program, saved.names, saved.types, scalars_of(tape), origin,
                Verdict(data=saved.finished.verdict), saved.finished,
            )  # fmt: skip
        return self._made[index]

    def make_state(self) -> None:
        """The file has brought it."""
        if self.optimizer is None:
            raise TypeError("this program has no optimizer")


def _unnamed(tree: Any) -> Any:
    """A structure of arguments without the names of its values."""
    if isinstance(tree, Slot):
        return Slot("")
    if isinstance(tree, dict):
        return {key: _unnamed(value) for key, value in tree.items()}
    return [_unnamed(value) for value in tree] if isinstance(tree, (list, tuple)) else tree


class LoadedStages(Stages):
    """Stages that begin with the text of the traced graph, read when somebody asks."""

    def __init__(self, saved: SavedProgram) -> None:
        dict.__init__(self, tape=saved.finished.tape)
        self.saved = saved

    @property
    def recipe(self) -> Any:
        return self.saved.parsed()

    def __missing__(self, stage: str) -> Any:
        if stage == "traced":
            self[stage] = self.recipe.graph
            return self[stage]
        return super().__missing__(stage)


class LoadedTrace(Traced):
    """The trace of a program that was traced elsewhere: nothing crossed a boundary here."""

    def __init__(self, saved: SavedProgram, store: Any) -> None:
        self.saved = saved
        self.ledger, self.arguments, self.structure = Ledger(), saved.arguments, saved.structure
        self.parameters, self.buffers = dict(store.parameters), dict(store.model.named_buffers())
        self.captured, self.closure, self.strangers = {}, {}, []

    def __getattr__(self, name: str) -> Any:
        if name == "graph":
            return self.saved.parsed().graph
        raise AttributeError(name)


def load(path: Path, threads: int, seed: int | None, lr: Any) -> tuple[LoadedPrograms, SavedModel]:
    """The programs of a file. Raises ValueError where it cannot be used on this machine or by this gradtape."""
    data = path.read_bytes()
    try:
        header, parts = unpack(data)
        if "model" not in parts:
            raise Damaged("it holds no model: it is an entry of the cache")
        _must_run_here(header)
        saved = model_from(parts)
    except Damaged as error:
        raise ValueError(f"{path} cannot be loaded: {error}") from None
    if saved.fillings is None and seed is not None:
        raise ValueError(f"{path} holds weights, not a seed; save it with weights='seed'")
    if saved.fillings is not None:
        if seed is not None:
            saved.seed = saved.draws = seed
        arrays = {**initial_arrays(saved.fillings, saved.shapes, saved.seed), **saved.arrays}
    else:
        arrays = saved.arrays
    return LoadedPrograms(path, saved, arrays, _optimizer(path, saved, lr), threads), saved


def _must_run_here(header: dict[str, Any]) -> None:
    found = header.get("ingredients")
    if not isinstance(found, dict) or not all(isinstance(v, str) for v in found.values()):
        raise Damaged("it does not say what it was compiled for")
    here = _ingredients()
    if found.get("target") != here["target"]:
        raise Damaged(f"it was compiled for {found.get('target')}, and this is {here['target']}")
    missing = features_missing(found)
    if missing:
        raise Damaged(f"it was compiled for a CPU with {', '.join(missing)}, which this one has not; compile it here")
    if any(found.get(name) != here[name] for name in RUNTIME):
        raise Damaged("another version of gradtape has written it; compile it again with this one")


def _optimizer(path: Path, saved: SavedModel, lr: Any) -> Any:
    """What makes the optimizer once the parameters are there."""
    if not saved.optimizer:
        return None
    rates = []
    for rate in saved.rates:
        if lr is not None:
            rates.append(lr)
        elif rate is None:
            raise ValueError(f"the learning rate of {path} was a Python function; write gt.load({str(path)!r}, lr=...)")
        elif isinstance(rate, list):
            rates.append(again(rate))
        elif isinstance(rate, (int, float)) and math.isfinite(rate):
            rates.append(rate)
        else:
            raise ValueError(f"{path} cannot be loaded: {rate!r} is no learning rate")

    def made(model: LoadedModel) -> Optimizer:
        named = dict(model.named_parameters())
        groups: list[Any] = [
            (None if held is None else [named[n] for n in held], {"lr": rate})
            for held, rate in zip(saved.members, rates, strict=True)
        ]
        return LoadedOptimizer(saved.optimizer, groups, saved.max_norm)

    return made
