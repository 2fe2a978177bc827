"""`pkg.module:build` on the command line: a function without arguments that returns a `Compiled` made with specs."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click


def load_target(text: str) -> Any:
    """What the named function returns. Raises click.ClickException with what is wrong; errors inside of the user's
    function come through as they are."""
    module_name, colon, function_name = text.partition(":")
    if not colon or not module_name or not function_name:
        raise click.ClickException(f"{text!r} is not of the form package.module:function")
    sys.path.insert(0, "")  # as `python -m` does: modules of the working directory are found
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise click.ClickException(f"there is no module {module_name}; run this where it can be imported") from None
        raise
    finally:
        sys.path.remove("")
    function: Any = module
    for name in function_name.split("."):
        if not hasattr(function, name):
            raise click.ClickException(f"{module_name} has no {function_name}")
        function = getattr(function, name)
    return function() if callable(function) else function


def load_compiled(text: str) -> Any:
    """The `Compiled` that the named function returns."""
    from ..compiler import Compiled

    found = load_target(text)
    if not isinstance(found, Compiled):
        raise click.ClickException(
            f"{text} gives {type(found).__name__}; it has to return gt.compile(model, gt.spec(...), loss=..., ...)"
        )
    return found
