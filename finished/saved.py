"""`train.tape`: the programs of a model with everything that they need to run, as the parts of one file and back.

No Python of the user's is in it, and none is called or imported when it is read. What the file says is checked; what
its machine code does is not: it does what its writer compiled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..ir.dims import Dim
from ..ir.graph import Graph
from ..ir.location import Location
from ..ir.tape_data import Damaged, constants_from, dim, entries, items, number, record, text, type_data, type_from
from ..ir.text import ParseError
from ..ir.types import DTYPES, TensorType
from ..runtime.container import parsed_json
from ..tracer.rng import filling
from ..tracer.structure import Slot, Structure, rebuild
from .parts import Finished, NotKept, Places, finished_from, parts_of
from .recipe import Recipe, parse_recipe

KINDS = {dtype.str: dtype for dtype in DTYPES.values()}
MOST_NUMBERS = 1 << 36  # in one array: 256 GB
Arrays = dict[str, np.ndarray]
Filling = tuple[str, float, float, tuple[int, ...], str]  # kind, two numbers, shape; the parameter, "" for none


@dataclass
class SavedProgram:
    """One program: what it is for, what it is called with, and how its results are nested. `written` is the text of its
    recipe."""

    entry: str
    train: bool
    names: tuple[str, ...]
    types: tuple[TensorType, ...]
    trainable: tuple[str, ...]
    finished: Finished
    arguments: Structure
    structure: Structure
    recipe: Recipe | None = None
    written: str = ""
    constants: Arrays = field(default_factory=dict)
    landmarks: list[Location | None] = field(default_factory=list)

    def parsed(self) -> Recipe:
        """The recipe, from its text."""
        if self.recipe is None:
            try:
                self.recipe = parse_recipe(self.written, self.constants, self.landmarks)
            except (ParseError, ValueError, IndexError, KeyError, AttributeError) as error:
                raise Damaged(f"the program text cannot be read: {error}") from None
        return self.recipe

    def __str__(self) -> str:
        given = ", ".join(f"{n}: {t}" for n, t in zip(self.names, self.types, strict=True))
        return f"{self.entry}({given}) in {'train' if self.train else 'eval'} mode"


@dataclass
class SavedModel:
    """A model: its arrays, what an optimizer keeps, and its programs.

    parameters  those that require a gradient first by name; `trainable` says which do, `aliases` other paths of one
    transient   buffers that are in no state_dict
    seed        that of the parameters; `draws` is that of the random numbers in programs
    fillings    how parameters are made from a seed; then `arrays` holds no parameters
    context     how many ids a model that generates can see
    rates       for each group of the optimizer its learning rate: a number, a schedule as data, or None for a function
    members     for each group the parameters that it holds, None for all
    """

    name: str
    parameters: list[str]
    trainable: list[str]
    aliases: dict[str, list[str]]
    buffers: list[str]
    transient: list[str]
    arrays: Arrays
    shapes: dict[str, TensorType]
    state: Arrays
    programs: list[SavedProgram]
    seed: int = 0
    draws: int = 0
    step: int = 0
    fillings: list[Filling] | None = None
    optimizer: str = ""
    context: int | None = None
    rates: list[Any] = field(default_factory=list)
    members: list[list[str] | None] = field(default_factory=list)
    max_norm: float | None = None


# from a seed ----------------------------------------------------------------------------------------------------------
def initial_arrays(fillings: Sequence[Filling], shapes: Mapping[str, TensorType], seed: int) -> Arrays:
    """The parameters as `gt.manual_seed(seed)` and the model's constructor make them."""
    source = np.random.default_rng(seed)
    out: Arrays = {}
    for kind, a, b, shape, name in fillings:
        numbers = filling(source, kind, a, b, shape)
        if name:
            dtype = {"f32": np.float32, "f64": np.float64}[shapes[name].dtype]
            out[name] = np.broadcast_to(np.asarray(numbers), shape).astype(dtype)
    return out


# writing ------------------------------------------------------------------------------------------------------------
def model_parts(model: SavedModel) -> dict[str, bytes]:
    """The parts of the file. Raises NotKept."""
    pool: list[bytes] = []
    known: dict[bytes, int] = {}

    def pooled(code: bytes) -> int:
        if code not in known:
            known[code] = len(pool)
            pool.append(code)
        return known[code]

    kept = {name: array for name, array in model.state.items() if array.any()}
    parts: dict[str, bytes] = {}
    programs = []
    for i, program in enumerate(model.programs):
        recipe = program.parsed()
        mine = parts_of(recipe, program.finished, pooled)
        constants = _constants(recipe)
        mine["arrays"] = _joined(constants)
        parts.update({f"{i} {name}": part for name, part in mine.items()})
        programs.append(
            {
                "entry": program.entry,
                "train": program.train,
                "inputs": [[n, type_data(t)] for n, t in zip(program.names, program.types, strict=True)],
                "trainable": list(program.trainable),
                "arguments": _structure(program.arguments),
                "structure": _structure(program.structure),
                "arrays": _listed(constants),
                "landmarks": _landmarks(recipe.landmarks),
            }
        )
    about = {
        "name": model.name,
        "parameters": model.parameters,
        "trainable": model.trainable,
        "aliases": model.aliases,
        "buffers": model.buffers,
        "transient": model.transient,
        "shapes": {name: type_data(t) for name, t in model.shapes.items()},
        "arrays": _listed(model.arrays),
        "state": _listed(kept),
        "zeros": _listed({n: a for n, a in model.state.items() if n not in kept}),
        "seed": model.seed,
        "draws": model.draws,
        "step": model.step,
        "fillings": model.fillings,
        "optimizer": model.optimizer,
        "context": model.context,
        "rates": model.rates,
        "members": model.members,
        "max_norm": model.max_norm,
        "programs": programs,
        "objects": len(pool),
    }
    parts["model"] = json.dumps(about, separators=(",", ":")).encode()
    parts["weights"] = _joined(model.arrays)
    parts["optimizer state"] = _joined(kept)
    return parts | {f"object {i}": code for i, code in enumerate(pool)}


def _constants(recipe: Recipe) -> Arrays:
    """The arrays of the constants that the text of a recipe names by digest."""
    graphs: list[Graph] = [recipe.graph, *recipe.rules]
    return {digest: array for graph in graphs for digest, array in graph.constants.items()}


def _listed(arrays: Mapping[str, np.ndarray]) -> list[Any]:
    return [[name, array.dtype.str, list(array.shape)] for name, array in arrays.items()]


def _joined(arrays: Mapping[str, np.ndarray]) -> bytes:
    return b"".join(np.ascontiguousarray(array).tobytes() for array in arrays.values())


def _landmarks(locations: Sequence[Location | None]) -> list[Any]:
    """The different places, and the number of each node's (-1: none)."""
    places = Places(locations)
    numbers = [-1 if place is None else places.number(place) for place in locations]
    return [[spot[1:] for spot in places.listed], numbers]


def _landmarks_from(data: Any) -> list[Location | None]:
    listed, numbers = items(data, 2)
    places = []
    for spot in items(listed):
        file, line, scope, column = items(spot, 4)
        places.append(Location(text(file), number(line, 0), text(scope), "", number(column, 0)))
    chosen = (number(n, -1, len(places) - 1) for n in items(numbers))
    return [places[n] if n >= 0 else None for n in chosen]


def _structure(structure: Structure) -> list[Any]:
    return [_tree(structure.tree), list(structure.names), list(structure.roots)]


def _tree(item: Any) -> list[Any]:
    if isinstance(item, Slot):
        return ["slot", item.name]
    if isinstance(item, dict) and all(isinstance(key, str) for key in item):
        return ["dict", [[key, _tree(value)] for key, value in item.items()]]
    if isinstance(item, list):
        return ["list", [_tree(value) for value in item]]
    if isinstance(item, tuple):  # a namedtuple becomes a tuple: its class is Python of the user's
        return ["tuple", [_tree(value) for value in item]]
    if isinstance(item, Dim):
        return ["dim", str(item)]
    if item is None or type(item) in (bool, int, float, str):
        return ["value", item]
    raise NotKept(f"the program takes or returns a {type(item).__name__}, which is neither array nor plain data")


# reading ------------------------------------------------------------------------------------------------------------
def model_from(parts: Mapping[str, bytes]) -> SavedModel:
    """What `model_parts` took apart. Raises Damaged."""
    about = record(
        parsed_json(_part(parts, "model")),
        "name parameters trainable aliases buffers transient shapes arrays state zeros seed draws step fillings "
        "optimizer context rates members max_norm programs objects",
    )
    pool = [_part(parts, f"object {i}") for i in range(number(about["objects"], 0, len(parts)))]
    shapes = {name: type_from(t) for name, t in entries(about["shapes"])}
    model = SavedModel(
        name=text(about["name"]),
        parameters=_names(about["parameters"]),
        trainable=_names(about["trainable"]),
        aliases={name: _names(paths) for name, paths in entries(about["aliases"])},
        buffers=_names(about["buffers"]),
        transient=_names(about["transient"]),
        shapes=shapes,
        arrays=constants_from(about["arrays"], _part(parts, "weights")),
        state={**constants_from(about["state"], _part(parts, "optimizer state")), **_zeros(about["zeros"])},
        seed=number(about["seed"]),
        draws=number(about["draws"]),
        step=number(about["step"], 0),
        fillings=None if about["fillings"] is None else [_filling(f, shapes) for f in items(about["fillings"])],
        optimizer=text(about["optimizer"]),
        context=None if about["context"] is None else number(about["context"], 1),
        rates=items(about["rates"]),
        members=[None if m is None else _names(m) for m in items(about["members"])],
        max_norm=about["max_norm"],
        programs=[_program(p, i, parts, pool) for i, p in enumerate(items(about["programs"]))],
    )
    _check(model)
    return model


def _check(model: SavedModel) -> None:
    """That the model has what it speaks of, in the sizes it says."""
    held = set(model.arrays) | {f[4] for f in model.fillings or () if f[4]}
    named = [*model.parameters, *model.buffers]
    if set(named) != set(model.shapes) or not set(named) <= held:
        raise Damaged("the arrays of the model are not those that it names")
    if not {*model.trainable, *model.aliases} <= set(model.parameters) or not set(model.transient) <= {*model.buffers}:
        raise Damaged("the model speaks of parameters that it has not")
    for name, array in model.arrays.items():
        if name not in model.shapes or tuple(model.shapes[name].shape) != array.shape:
            raise Damaged(f"the array {name} is not of the shape that is said")
    if len(model.rates) != len(model.members) or not all(set(m or ()) <= set(named) for m in model.members):
        raise Damaged("the groups of the optimizer do not fit the model")
    sizes = {**{n: t.size for n, t in model.shapes.items()}, **{n: a.size for n, a in model.state.items()}}
    for program in model.programs:
        for buffer in program.finished.tape.buffers:
            if buffer.segment in ("param", "buffer", "state") and sizes.get(buffer.name) != buffer.size:
                raise Damaged(f"{program.entry} reads {buffer.name}, which the model has not in that size")


def _program(data: Any, index: int, parts: Mapping[str, bytes], pool: Sequence[bytes]) -> SavedProgram:
    about = record(data, "entry train inputs trainable arguments structure arrays landmarks")
    mine = {name: _part(parts, f"{index} {name}") for name in ("program", "tape", "constants", "arrays")}
    inputs = [items(i, 2) for i in items(about["inputs"])]
    try:
        written = mine["program"].decode()
    except ValueError as error:
        raise Damaged(f"the program is no text: {error}") from None
    if type(about["train"]) is not bool:
        raise Damaged("a program is for training or not")
    return SavedProgram(
        text(about["entry"]),
        about["train"],
        tuple(text(name) for name, _ in inputs),
        tuple(type_from(t) for _, t in inputs),
        tuple(_names(about["trainable"])),
        finished_from(mine, pool=pool),
        _structure_from(about["arguments"]),
        _structure_from(about["structure"]),
        written=written,
        constants=constants_from(about["arrays"], mine["arrays"]),
        landmarks=_landmarks_from(about["landmarks"]),
    )


def _part(parts: Mapping[str, bytes], name: str) -> bytes:
    if name not in parts:
        raise Damaged(f"the part {name!r} is missing")
    return parts[name]


def _names(data: Any) -> list[str]:
    return [text(name) for name in items(data)]


def _zeros(listed: Any) -> Arrays:
    """Arrays of zeros, of which a file holds name, dtype and shape."""
    out: Arrays = {}
    for entry in items(listed):
        name, dtype, shape = items(entry, 3)
        sizes = _sizes(shape)
        if text(dtype) not in KINDS:
            raise Damaged(f"{name!r} is of dtype {dtype!r}")
        out[text(name)] = np.zeros(sizes, KINDS[dtype])
    return out


def _sizes(data: Any) -> tuple[int, ...]:
    """A shape that fits a memory."""
    sizes, total = tuple(number(n, 0) for n in items(data)), 1
    for size in sizes:
        total *= size
    if total > MOST_NUMBERS:
        raise Damaged(f"an array of {total} numbers")
    return sizes


def _filling(data: Any, shapes: Mapping[str, TensorType]) -> Filling:
    kind, a, b, shape, name = items(data, 5)
    sizes = _sizes(shape)
    if kind not in ("uniform", "normal", "constant") or type(a) not in (int, float) or type(b) not in (int, float):
        raise Damaged(f"a parameter is filled by {kind!r}")
    if name and (name not in shapes or tuple(shapes[name].shape) != sizes or not shapes[name].is_float):
        raise Damaged(f"the initialisation of {name!r} is of another shape")
    return kind, a, b, sizes, text(name)


def _structure_from(data: Any) -> Structure:
    tree, names, roots = items(data, 3)
    return Structure(_tree_from(tree, 32), tuple(_names(names)), tuple(_names(roots)))


def _tree_from(data: Any, depth: int) -> Any:
    kind, value = items(data, 2)
    if kind == "slot":
        return Slot(text(value))
    if kind == "dim":
        return dim(value)
    if kind == "value" and (value is None or type(value) in (bool, int, float, str)):
        return value
    if depth and kind == "dict":
        return {text(key): _tree_from(v, depth - 1) for key, v in (items(i, 2) for i in items(value))}
    if depth and kind in ("list", "tuple"):
        return rebuild([] if kind == "list" else (), [_tree_from(v, depth - 1) for v in items(value)])
    raise Damaged(f"a structure of kind {kind!r}")
