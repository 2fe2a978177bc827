"""What the source of a function says of it."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from typing import Any

from ..ir.location import Location


def last_return(function: Callable[..., Any]) -> Location | None:
    """The last `return` of a function, or the line of a lambda; None where there is no source."""
    try:
        lines, first = inspect.getsourcelines(function)
        file = inspect.getsourcefile(function) or ""
    except (OSError, TypeError):
        return None
    try:
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except SyntaxError:  # a lambda in the middle of an expression
        return Location(file, first)
    found = [n for n in ast.walk(tree) if isinstance(n, ast.Return)]
    return Location(file, first + max(n.lineno for n in found) - 1) if found else Location(file, first)
