"""How things are shown in a notebook. What can draw them registers here, for `ir` itself draws nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Draw = Callable[[Any], "str | None"]
_SVG: dict[str, Draw] = {}
_HTML: dict[str, Draw] = {}


def register(name: str, svg: Draw | None = None, html: Draw | None = None) -> None:
    """Says how things of the class `name` are shown. A function that returns None leaves it to the next best form."""
    _SVG.update({name: svg} if svg else {})
    _HTML.update({name: html} if html else {})


class Displayed:
    """Shown in a notebook by what is registered for its class; as text where that is nothing."""

    def _repr_svg_(self) -> str | None:
        return _drawn(_SVG, self)

    def _repr_html_(self) -> str | None:
        return _drawn(_HTML, self)


def _drawn(table: dict[str, Draw], thing: object) -> str | None:
    draw = table.get(type(thing).__name__)
    return None if draw is None else draw(thing)
