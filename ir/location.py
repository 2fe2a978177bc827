"""Where a node comes from: the user's file and line, the module scope, and the forward value that it serves.

Locations are stamped by the builder and never take part in equality. Unknown beats wrong: a node without a location
prints none.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from types import FrameType

_PACKAGE = str(Path(__file__).parent.parent)  # not resolved: frames name files as they were imported
_FOLDERS = "ir/ tracer/ passes/ runtime/ evidence/ cli/".split()
_FILES = "compiler.py derivatives.py entries.py linting.py store.py watching.py".split()
_INTERNAL = tuple(f"{_PACKAGE}/{name}" for name in (*_FOLDERS, *_FILES))


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
    return not filename.replace("\\", "/").startswith(_INTERNAL) and "/contextlib.py" not in filename


def user_location(outside: tuple[str, ...] = ()) -> Location | None:
    """The innermost frame of the user's code, with the current module scope; None where there is no such frame.
    `outside` names files and folders of the package that do not count as the user's here."""
    frame = sys._getframe(1)
    skipped = tuple(f"{_PACKAGE}/{name}" for name in outside)
    while frame is not None:
        file = frame.f_code.co_filename.replace("\\", "/")
        if is_user_file(frame.f_code.co_filename) and not _numpy_frame(file) and not file.startswith(skipped):
            return Location(frame.f_code.co_filename, frame.f_lineno, current_scope(), column=_column(frame))
        frame = frame.f_back  # type: ignore[assignment]
    return None


def _column(frame: FrameType) -> int:
    """Where the expression that `frame` is at begins, from 1; 0 where the code does not say."""
    place = next(islice(frame.f_code.co_positions(), frame.f_lasti // 2, None), None)
    return 0 if place is None or place[2] is None or place[0] != frame.f_lineno else place[2] + 1


def _numpy_frame(filename: str) -> bool:
    return "/numpy/" in filename.replace("\\", "/")


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
