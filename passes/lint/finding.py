"""What the lint says: a finding names the parameters, the line that is to blame, why, and what to write instead."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

SEVERITIES = ("error", "warning", "info")


@dataclass(frozen=True)
class Site:
    """A place in the user's code. Line 0 where there is none; column from 1, 0 where it is not known."""

    file: str = ""
    line: int = 0
    column: int = 0
    scope: str = ""

    @classmethod
    def of(cls, place: object) -> Site:
        """The site of a Location, of a crossing, of anything with a file and a line; nowhere for None."""
        return cls(
            getattr(place, "file", ""),
            getattr(place, "line", 0),
            getattr(place, "column", 0),
            getattr(place, "scope", ""),
        )

    def __bool__(self) -> bool:
        return self.line > 0


NOWHERE = Site()


@dataclass(frozen=True)
class Finding:
    """`parameters` are the qualified names of all that it is about; `escape` is where the value left the graph, where
    that is another line. `message` is the fact in one line, `why` the reason, `fix` what to write instead."""

    code: str
    severity: str
    site: Site
    message: str
    why: str
    fix: str
    parameters: tuple[str, ...] = ()
    escape: Site = NOWHERE

    @property
    def file(self) -> str:
        return self.site.file

    @property
    def line(self) -> int:
        return self.site.line

    def about(self, parameters: Iterable[str]) -> Finding:
        return replace(self, parameters=tuple(dict.fromkeys(parameters)))


def grouped(findings: Iterable[Finding]) -> list[Finding]:
    """One finding for each code, line and message, with the parameters of all; errors first, then those that concern
    most parameters."""
    found: dict[tuple, Finding] = {}
    for f in findings:
        key = (f.code, f.severity, f.file, f.line, f.message)
        found[key] = found[key].about((*found[key].parameters, *f.parameters)) if key in found else f
    return sorted(
        found.values(), key=lambda f: (SEVERITIES.index(f.severity), -len(f.parameters), f.file, f.line, f.code)
    )


def counted(parameters: Sequence[str]) -> str:
    """`1 parameter`, `3 parameters`"""
    return f"{len(parameters)} parameter{'s' if len(parameters) != 1 else ''}"


def short(names: Iterable[str], most: int = 4) -> str:
    """`a, b, c, d (+3)`"""
    names = list(names)
    return ", ".join(names[:most]) + (f" (+{len(names) - most})" if len(names) > most else "")
