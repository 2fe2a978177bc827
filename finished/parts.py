"""A finished tape as the parts of a file, and back: the tape, its kernels' object code, the text of its recipe, and the
lint's verdict.

A place in the user's code is kept as the number of the landmark that stands there (`Recipe.landmarks`), with file and
line for those who have no recipe. So a program that was traced again has its own lines, and a callback its own
function.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..ir.host import HostFunction
from ..ir.location import Location
from ..ir.tape import Callback, Loop, Step, Tape
from ..ir.tape_data import Damaged, constants_from, items, number, record, tape_data, tape_from, text
from ..runtime.container import parsed_json
from .recipe import Recipe

Parts = Mapping[str, bytes]


class NotKept(Exception):
    """A tape that has no place in a file; says why."""


@dataclass(frozen=True)
class Finished:
    """A tape, the objects of its kernels, what the lint said as plain data (None: it must be asked again), and into how
    many slices the batch is cut."""

    tape: Tape
    objects: tuple[bytes, ...]
    verdict: dict[str, Any] | None = None
    slices: int = 1


class Places:
    """The places that a file speaks of: each a landmark's number (-1: of none) with file, line, scope and column."""

    def __init__(self, landmarks: Sequence[Location | None]) -> None:
        self._known: dict[tuple, int] = {}
        for index, location in enumerate(landmarks):
            if location is not None:
                self._known.setdefault(_spot(location), index)
        self.listed: list[list[Any]] = []
        self._numbers: dict[tuple, int] = {}

    def number(self, location: Location) -> int:
        spot = _spot(location)
        if spot not in self._numbers:
            self._numbers[spot] = len(self.listed)
            self.listed.append([self._known.get(spot, -1), *spot])
        return self._numbers[spot]

    def place(self, location: Location) -> list[Any]:
        return [self.number(location), location.of]


def _spot(location: Location) -> tuple[str, int, str, int]:
    return location.file, location.line, location.scope, location.column


# writing ------------------------------------------------------------------------------------------------------------
def parts_of(recipe: Recipe, finished: Finished, pool: Callable[[bytes], int] | None = None) -> dict[str, bytes]:
    """The parts of a file. Raises NotKept. With `pool` the objects are only referred to, by the numbers it gives."""
    places = Places(recipe.landmarks)
    hosts = recipe.hosts()
    used = []
    for step in callbacks(finished.tape.steps):
        found = next((i for i, h in enumerate(hosts) if h is step.function), None)
        if found is None:
            raise NotKept(f"the callback {step.function} is not one that the program names")
        used.append(found)
    try:
        tape = tape_data(finished.tape, places.place)
    except TypeError as error:
        raise NotKept(str(error)) from None
    objects = {f"object {i}": o for i, o in enumerate(finished.objects)} if pool is None else {}
    about = {
        "tape": tape,
        "hosts": used,
        "objects": len(finished.objects) if pool is None else [pool(o) for o in finished.objects],
        "verdict": finished.verdict,
        "slices": finished.slices,
        "places": places.listed,
        "landmarks": len(recipe.landmarks),
    }
    return {
        "program": recipe.text.encode(),
        "tape": json.dumps(about, separators=(",", ":")).encode(),
        "constants": b"".join(np.ascontiguousarray(a).tobytes() for a in finished.tape.constants.values()),
        **objects,
    }


def callbacks(steps: Sequence[Step]) -> Iterator[Callback]:
    """The callbacks of a tape, in order."""
    for step in steps:
        if isinstance(step, Callback):
            yield step
        elif isinstance(step, Loop):
            yield from callbacks(step.body)


# reading ------------------------------------------------------------------------------------------------------------
def finished_from(parts: Parts, recipe: Recipe | None = None, pool: Sequence[bytes] | None = None) -> Finished:
    """What `parts_of` took apart, with the lines and functions of `recipe`; without one, with the lines that it was
    written with. Raises Damaged."""
    for name in ("tape", "constants"):
        if name not in parts:
            raise Damaged(f"the part {name!r} is missing")
    about = record(parsed_json(parts["tape"]), "tape hosts objects verdict slices places landmarks")
    places = [_place(p) for p in items(about["places"])]
    landmarks = None if recipe is None else recipe.landmarks
    if landmarks is not None and len(landmarks) != about["landmarks"]:
        raise Damaged("it was made of another program")

    def find(data: Any) -> Location | None:
        index, of = items(data, 2)
        landmark, written = places[number(index, 0, len(places) - 1)]
        where = written if landmarks is None else landmarks[landmark] if 0 <= landmark < len(landmarks) else None
        return where and replace(where, of=text(of))

    data = about["tape"]
    listed = data.get("constants") if isinstance(data, dict) else None
    tape = tape_from(data, constants_from(listed, parts["constants"]), find)
    if recipe is not None:
        tape = _alive(tape, items(about["hosts"]), recipe)
    verdict = about["verdict"]
    if verdict is not None and not isinstance(verdict, dict):
        raise Damaged("the lint's verdict is no object")
    return Finished(tape, _objects(about["objects"], parts, pool), verdict, number(about["slices"], 1))


def _place(data: Any) -> tuple[int, Location]:
    landmark, file, line, scope, column = items(data, 5)
    return number(landmark, -1), Location(text(file), number(line, 0), text(scope), "", number(column, 0))


def _objects(listed: Any, parts: Parts, pool: Sequence[bytes] | None) -> tuple[bytes, ...]:
    if pool is not None:
        return tuple(pool[number(i, 0, len(pool) - 1)] for i in items(listed))
    names = [f"object {i}" for i in range(number(listed, 0, len(parts)))]
    missing = [name for name in names if name not in parts]
    if missing:
        raise Damaged(f"the parts {', '.join(missing)} are missing")
    return tuple(parts[name] for name in names)


def _alive(tape: Tape, used: Sequence[Any], recipe: Recipe) -> Tape:
    """The tape with the recipe's own functions in the place of their names, and its own guards, which tell lines."""
    hosts = recipe.hosts()
    wanted = list(callbacks(tape.steps))
    if len(used) != len(wanted):
        raise Damaged("the callbacks are other ones")
    functions = iter([hosts[number(i, 0, len(hosts) - 1)] for i in used])
    steps = tuple(_with_function(step, functions) for step in tape.steps)
    told = {str(g): g for g in recipe.graph.guards}
    return replace(tape, steps=steps, guards=tuple(told.get(str(g), g) for g in tape.guards))


def _with_function(step: Step, functions: Iterator[HostFunction]) -> Step:
    if isinstance(step, Callback):
        function = next(functions)
        if str(function) != step.function:
            raise Damaged(f"the callback {step.function} is another one: {function}")
        return replace(step, function=function)
    if isinstance(step, Loop):
        return replace(step, body=tuple(_with_function(s, functions) for s in step.body))
    return step
