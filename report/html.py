"""Plain data -> one HTML file: the page's own code, the libraries and the data stand in it, and it asks for nothing."""

from __future__ import annotations

import html
import json
from functools import cache
from pathlib import Path
from typing import Any

# In this order: a script may use what stands before it. All of the page's own are one module, with one scope.
LIBRARIES = ("d3.min.js", "graphviz.js")
SCRIPTS = tuple(
    f"{name}.js" for name in "dom model layout search graph details flow findings tape training main".split()
)


def page(data: dict[str, Any]) -> str:
    """The report as HTML, from what `contents` gives."""
    parts = {
        "title": html.escape(f"{data['title']} · gradtape"),
        "style": _read("page", "style.css"),
        "libraries": "\n".join(f"<script>{_script('vendor', name)}</script>" for name in LIBRARIES),
        "data": embedded(data),
        "scripts": "\n".join(_script("page", name) for name in SCRIPTS),
    }
    text = _read("page", "page.html")
    for name, part in parts.items():
        head, mark, tail = text.partition(f"<!--{name}-->")
        assert mark, name
        text = head + part + tail
    return text


def embedded(data: Any) -> str:
    """JSON that can stand in a script element whatever names and code it holds: no `<` ends the element or begins a
    comment, no line separator ends a line for a browser that reads it as JavaScript. NaN is no JSON: ValueError."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text.encode("utf-8", "backslashreplace").decode("utf-8")  # a lone surrogate, which no file can hold


def _script(folder: str, name: str) -> str:
    text = _read(folder, name)
    assert "</script" not in text and "<!--" not in text, f"{name} would end the element that it stands in"
    return text


@cache
def _read(folder: str, name: str) -> str:
    return (Path(__file__).parent / folder / name).read_text(encoding="utf-8")
