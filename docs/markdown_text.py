"""What the generated pages have in common: text, code and tables as Markdown writes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def escaped(text: str) -> str:
    """Text whose stars and angles Markdown leaves alone."""
    return text.replace("*", r"\*").replace("<", r"\<")


def fenced(code: str) -> str:
    return f"```python\n{code}\n```"


def table_of(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table; cells may hold bars."""
    return [_row(header), _row(["---"] * len(header)), *(_row(r) for r in rows)]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"
