"""Where a node comes from: the user's file and line, the module scope, and the forward value that it serves.

Locations are stamped by the builder and never take part in equality. Unknown beats wrong: a node without a location
prints none.
"""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

_PACKAGE = str(Path(__file__).parent.parent)  # not resolved: frames name files as they were imported
_FOLDERS = "ir/ tracer/ passes/ runtime/ evidence/ finished/ pictures/ report/ cli/".split()
_FILES = [
    f"{n}.py" for n in "compiler derivatives entries linting planning programs saving showing store watching".split()
]
_INTERNAL = tuple(f"{_PACKAGE}/{name}" for name in (*_FOLDERS, *_FILES))

Position = tuple[int, int, int, int]


@dataclass(frozen=True)
class Location:
    """`scope` is the path of the module that ran (`blocks.2.attn`); `of` the forward value whose gradient this is;
    `column` where the expression begins, from 1 (0: not known)."""

    file: str
    line: int
    scope: str = ""
    of: str = ""
    column: int = field(default=0, compare=False)

    def __str__(self) -> str:
        text = f"{Path(self.file).name}:{self.line}"
        if self.scope:
            text += f" {self.scope}"
        return f"{text} bwd %{self.of}" if self.of else text

    def serving(self, name: str) -> Location:
        """The location of a node that is derived for the gradient of forward value `name`."""
        return replace(self, of=self.of or name)


def is_user_file(filename: str) -> bool:
    """Model code counts as the user's, also the models and layers that ship with the package."""
    if filename.startswith("<"):
        return filename.startswith(("<stdin", "<ipython", "<string"))
    return not filename.replace("\\", "/").startswith(_INTERNAL)


def user_location(outside: tuple[str, ...] = ()) -> Location | None:
    """The innermost frame of the user's code, with the current module scope; None where there is no such frame.
    `outside` names files and folders of the package that do not count as the user's here."""
    frame = user_frame()
    while frame is not None and not (is_user_frame(frame) and not is_part(frame, outside)):
        frame = frame.f_back
    if frame is None:
        return None
    return Location(frame.f_code.co_filename, frame.f_lineno, current_scope(), column=_column(frame))


def user_frame() -> FrameType | None:
    """The innermost frame of the user's code that is running."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and not is_user_frame(frame):
        frame = frame.f_back
    return frame


def is_user_frame(frame: FrameType) -> bool:
    """Whether a frame runs the user's code: no file of the package's inside, and none of a library that knows nothing
    of it (SciPy, `statistics`): what such a one does is done by the line that calls it."""
    return is_user_code(frame.f_code.co_filename, frame.f_globals)


def frames_to_user() -> int:
    """The `stacklevel` at which a warning of the caller names the user's line."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and not is_user_frame(frame):
        frame, level = frame.f_back, level + 1
    return level


def is_part(frame: FrameType, names: tuple[str, ...]) -> bool:
    """Whether a frame runs a file or folder of this package: `("models/nn/",)`."""
    return frame.f_code.co_filename.startswith(tuple(f"{_PACKAGE}/{name}" for name in names))


def is_user_code(filename: str, names: dict[str, Any]) -> bool:
    """The same for code of a file, whose module holds `names`."""
    if filename not in _is_user:
        path = filename.replace("\\", "/")
        library = path.startswith(_STANDARD) or "/site-packages/" in path or "/dist-packages/" in path
        stranger = library and not filename.startswith(_PACKAGE) and not _knows_the_package(names)
        _is_user[filename] = is_user_file(filename) and not stranger
    return _is_user[filename]


_STANDARD = sysconfig.get_path("stdlib").replace("\\", "/") + "/"
_is_user: dict[str, bool] = {}


def _knows_the_package(names: dict[str, Any]) -> bool:
    """Whether a module holds anything of this package: a library of models, say."""
    own = __name__.partition(".")[0]
    found = (getattr(thing, "__module__", None) or getattr(thing, "__name__", None) for thing in names.values())
    return any(isinstance(name, str) and (name == own or name.startswith(f"{own}.")) for name in found)


def _column(frame: FrameType) -> int:
    """Where the expression that `frame` is at begins, from 1; 0 where the code does not say."""
    place = position(frame)
    return 0 if place is None or place[0] != frame.f_lineno else place[2] + 1


def position(frame: FrameType) -> Position | None:
    """Where the expression that `frame` is at stands: line, last line, column and end column (in bytes, from 0); None
    where the code does not say."""
    return _position(frame.f_code, frame.f_code.co_filename, frame.f_lasti)


@lru_cache(maxsize=8192)
def _position(code: CodeType, _file: str, instruction: int) -> Position | None:  # code alone is equal across files
    place = next(islice(code.co_positions(), instruction // 2, None), None)
    return None if place is None or None in place else place  # type: ignore[return-value]


_scopes: list[str] = []


@contextmanager
def scope(name: str) -> Iterator[None]:
    """Nests a module scope: nodes recorded inside carry the dotted path."""
    _scopes.append(name)
    try:
        yield
    finally:
        _scopes.pop()


def current_scope() -> str:
    return ".".join(s for s in _scopes if s)
