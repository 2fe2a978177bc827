"""Finished tapes and kernels on disk, found by what they depend on.

A file for each, written to a temporary one and moved into place, so that readers see all of it or nothing and nobody
has to wait for a lock. What is damaged, or belongs to something else, is told once and made again. The folder holds
machine code: it is used only where it belongs to the user and nobody else can open it.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..ir.location import frames_to_user
from ..ir.tape_data import Damaged
from . import container
from .ingredients import Ingredients, differing, key_of

MOST_BYTES = 2 << 30
KINDS = ("tape", "kernel")
STALE_SECONDS = 3600.0  # a temporary file that old was left by a process that was killed
UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


class CacheWarning(UserWarning):
    """The cache cannot be used, or an entry was damaged; the program is compiled all the same."""


def default_directory() -> Path:
    """Where the cache is: GRADTAPE_CACHE_DIR, else the folder that the system has for such things. Raises OSError
    without a home directory."""
    if given := os.environ.get("GRADTAPE_CACHE_DIR"):
        return Path(given)
    if base := os.environ.get("XDG_CACHE_HOME" if sys.platform != "win32" else "LOCALAPPDATA"):
        return Path(base) / "gradtape"
    try:
        home = Path.home()
    except RuntimeError as error:
        raise OSError(str(error)) from None
    if not home.is_dir():
        raise OSError(f"there is no home directory {home}; set GRADTAPE_CACHE_DIR")
    return home / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "gradtape"


def most_bytes() -> int:
    """The size that the cache is kept to: GRADTAPE_CACHE_SIZE (`500M`, `2G`), by default 2 GiB."""
    given = os.environ.get("GRADTAPE_CACHE_SIZE", "").strip().upper().removesuffix("B").removesuffix("I")
    unit = given[-1:] if given[-1:] in UNITS else ""
    try:
        return int(float(given.removesuffix(unit)) * UNITS[unit]) if given else MOST_BYTES
    except ValueError:
        return MOST_BYTES


@dataclass
class File:
    """A file of the cache: `problem` says why it cannot be used, "" where nothing is known against it."""

    path: Path
    size: int
    used: float
    header: dict[str, Any] = field(default_factory=dict)
    problem: str = ""

    @property
    def kind(self) -> str:
        return self.path.suffix.removeprefix(".")

    @property
    def ingredients(self) -> dict[str, str]:
        found = self.header.get("ingredients")
        return found if isinstance(found, dict) else {}


class Cache:
    """The files of one folder, which is made at the first write. Every failure is one CacheWarning, and from then on
    nothing is read or written."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._checked = False
        self._broken = ""

    # reading and writing --------------------------------------------------------------------------------------------
    def get(self, kind: str, wanted: Ingredients) -> tuple[tuple[dict, dict] | None, str]:
        """((header, parts), "") of the file with these ingredients, or (None, why there is none). Never raises."""
        if not self._usable():
            return None, self._broken or "the cache is empty"
        path = self.path(kind, wanted)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None, "no entry"
        except OSError as error:
            return None, self._give_up(f"cannot read {path}: {error.strerror}")
        try:
            header, parts = container.unpack(data)
            self.must_be(header, wanted)
        except Damaged as error:
            return None, self.bad(path, str(error))
        self._touch(path)
        return (header, parts), ""

    @staticmethod
    def must_be(header: Mapping[str, Any], wanted: Ingredients) -> None:
        """Raises Damaged where a file was made of something else than its name says."""
        found = header.get("ingredients")
        other = differing(wanted, found) if isinstance(found, dict) else list(wanted)
        if other:
            raise Damaged(f"it is the entry of something else, by {', '.join(other)}")

    def bad(self, path: Path, fact: str) -> str:
        """Tells that an entry cannot be used; it is overwritten by the one that is made now."""
        warnings.warn(f"{path} is not used: {fact}; it is made again", CacheWarning, stacklevel=frames_to_user())
        return f"the entry cannot be used: {fact}"

    def put(self, kind: str, ingredients: Ingredients, header: Mapping[str, Any], parts: Mapping[str, bytes]) -> None:
        """Writes a file. Never raises but for a warning that was made an error."""
        if not self._usable(make=True):
            return
        path = self.path(kind, ingredients)
        data = container.pack({**header, "ingredients": dict(ingredients)}, parts)
        try:
            write_atomically(path, data)
            if kind == "tape":  # whose kernels are there already
                self.trim()
        except OSError as error:
            self._give_up(f"cannot write {path}: {error.strerror or error}")

    def path(self, kind: str, ingredients: Ingredients) -> Path:
        return self.directory / f"{key_of(ingredients)}.{kind}"

    # the folder -----------------------------------------------------------------------------------------------------
    def _usable(self, make: bool = False) -> bool:
        if self._broken:
            return False
        if self._checked:
            return True
        try:
            if make:
                self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            status = self.directory.stat()
        except FileNotFoundError:
            return False
        except OSError as error:
            self._give_up(f"cannot make {self.directory}: {error.strerror}")
            return False
        problem = why_not_private(status)
        if problem:
            self._give_up(f"{self.directory} is not used: {problem}. It holds machine code that would be run")
            return False
        self._checked = True
        return True

    def _give_up(self, fact: str) -> str:
        self._broken = f"no cache: {fact}"
        warnings.warn(f"{fact}; going on without a cache", CacheWarning, stacklevel=frames_to_user())
        return self._broken

    @staticmethod
    def _touch(path: Path) -> None:
        """What was used last goes last. Another process may have removed it."""
        with contextlib.suppress(OSError):
            os.utime(path)

    def files(self) -> list[File]:
        """All files, the ones used last first, with their headers as far as they can be read."""
        if not self._usable():
            return []
        found = [_file(path, status) for path, status in self._stats()]
        return sorted(found, key=lambda f: (-f.used, f.path.name))

    def _stats(self) -> Iterator[tuple[Path, os.stat_result]]:
        for entry in os.scandir(self.directory):
            if entry.name.endswith(tuple(f".{kind}" for kind in KINDS)):
                try:
                    yield Path(entry.path), entry.stat()
                except FileNotFoundError:
                    continue

    def trim(self) -> int:
        """Removes what was not used for longest until the size cap holds, and what killed processes have left. The
        number of files."""
        now, removed = time.time(), 0
        for leftover in self.directory.glob(".*.tmp"):
            try:
                if now - leftover.stat().st_mtime > STALE_SECONDS:
                    leftover.unlink()
            except FileNotFoundError:
                continue
        found = sorted(self._stats(), key=lambda item: item[1].st_mtime)
        total, limit = sum(status.st_size for _, status in found), most_bytes()
        for path, status in found:
            if total <= limit:
                break
            path.unlink(missing_ok=True)
            total, removed = total - status.st_size, removed + 1
        return removed

    def clear(self) -> tuple[int, int]:
        """Removes every file of the cache, and nothing else. (number, bytes)"""
        if not self._usable():
            return 0, 0
        found = list(self._stats())
        for path in [*(path for path, _ in found), *self.directory.glob(".*.tmp")]:
            path.unlink(missing_ok=True)
        return len(found), sum(status.st_size for _, status in found)

    def nearest(self, wanted: Ingredients, but: Path | None = None) -> tuple[File, list[str]] | None:
        """The tape that differs in fewest ingredients, and in which; one that computes the same before others."""
        found = [
            (file, differing(wanted, file.ingredients))
            for file in self.files()
            if file.kind == "tape" and not file.problem and file.path != but
        ]
        return min(found, key=lambda item: (len(item[1]), "program" in item[1]), default=None)

    def __repr__(self) -> str:
        return f"Cache({str(self.directory)!r})"


def why_not_private(status: os.stat_result) -> str:
    """Why others could put machine code into a folder, or read it; "" where they cannot."""
    if not stat.S_ISDIR(status.st_mode):
        return "it is no folder"
    if os.name != "posix":
        return ""  # the profile of a user is closed to others by the system
    if status.st_uid != os.geteuid():
        return f"it belongs to user {status.st_uid}, and this is user {os.geteuid()}"
    if status.st_mode & 0o077:
        return f"others can open it (mode {stat.S_IMODE(status.st_mode):04o}); chmod 700 it"
    return ""


def write_atomically(path: Path, data: bytes) -> None:
    """All of the data, or nothing: a temporary file beside it is moved into place."""
    beside = path.with_name(f".{os.getpid()}-{os.urandom(6).hex()}.tmp")
    try:
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data)
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def _file(path: Path, status: os.stat_result) -> File:
    file = File(path, status.st_size, status.st_mtime)
    try:
        file.header = container.peek(path)
    except (Damaged, OSError) as error:
        file.problem = str(error)
    return file


def check(path: Path) -> str:
    """What is wrong with a file of the cache, "" if nothing is: the digest, and that it is called what it should be."""
    try:
        header, _ = container.unpack(path.read_bytes())
        found = header.get("ingredients")
        if not isinstance(found, dict) or path.stem != key_of(found):
            raise Damaged("it is the entry of something else")
    except (Damaged, OSError) as error:
        return str(error)
    return ""


_open: dict[Path, Cache] = {}


def default_cache() -> Cache | None:
    """The user's cache; None, after one warning, where there is no place for it."""
    try:
        directory = default_directory().absolute()
    except OSError as error:
        directory = Path()
        if directory not in _open:
            _open[directory] = Cache(directory)
            _open[directory]._give_up(str(error))
        return None
    return _open.setdefault(directory, Cache(directory))
