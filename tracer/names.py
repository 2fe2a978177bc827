"""What the user's code calls an object: the variable, or the way to it from one, written as paths are: `layers.0.w`."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator, Mapping
from types import FrameType, FunctionType, ModuleType
from typing import Any

import numpy as np

from ..ir.location import is_part, is_user_frame

SEEN = 2000  # objects that are looked at before giving up
DEPTH = 5


def name_in_user_code(wanted: Any) -> str:
    """The shortest way to `wanted` from a variable of the user's running functions, the innermost first: `w`,
    `layers.0.w` (of `self`); "" where there is none. What a helper calls its argument, or a layer of this package its
    weight, counts only if nobody else has a name for it."""
    frame: FrameType | None = sys._getframe(1)
    otherwise = ""
    while frame is not None:
        if is_user_frame(frame):
            found = _way({**_used_globals(frame), **frame.f_locals}, wanted)
            found = found.removeprefix("self.")
            inner = found in frame.f_code.co_varnames[: frame.f_code.co_argcount] or is_part(frame, ("models/nn/",))
            if found and not inner:
                return found
            otherwise = otherwise or found
        frame = frame.f_back
    return otherwise


def name_in(owner: Any, wanted: Any) -> str:
    """The way from `owner` to `wanted` through anything that it holds: `heads.0.w`; "" where there is none."""
    return _way({"": owner}, wanted).removeprefix(".")


def _used_globals(frame: FrameType) -> dict[str, Any]:
    """The globals that the frame's code names: others have nothing to do with it."""
    return {n: frame.f_globals[n] for n in frame.f_code.co_names if n in frame.f_globals}


def _way(variables: Mapping[str, Any], wanted: Any) -> str:
    queue = deque((name, value, 0) for name, value in variables.items())
    seen: set[int] = set()
    while queue and len(seen) < SEEN:
        path, item, depth = queue.popleft()
        if item is wanted:
            return path
        if id(item) in seen or depth >= DEPTH:
            continue
        seen.add(id(item))
        queue.extend((path + step, part, depth + 1) for step, part in _parts(item))
    return ""


def _parts(item: Any) -> Iterator[tuple[str, Any]]:
    """What an object holds, with the text that leads there."""
    if isinstance(item, Mapping):
        yield from ((f".{key}", value) for key, value in item.items() if str(key).isalnum())
    elif isinstance(item, (list, tuple, deque, set, frozenset)):
        yield from ((f".{i}", value) for i, value in enumerate(item))
    elif isinstance(item, np.ndarray):
        if item.dtype == object:
            yield from ((f".{i}", value) for i, value in enumerate(item.flat))
    elif isinstance(item, FunctionType):
        cells = zip(item.__code__.co_freevars, item.__closure__ or (), strict=True)
        yield from ((f".{name}", cell.cell_contents) for name, cell in cells if cell is not None)
    elif not isinstance(item, (type, ModuleType, str, bytes, int, float)):
        yield from ((f".{name}", value) for name, value in getattr(item, "__dict__", {}).items())
        slots = getattr(type(item), "__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if hasattr(item, name):
                yield f".{name}", getattr(item, name)
