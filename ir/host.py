"""Python functions of the user's inside a program: attributes that carry the function, and calls that check results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .types import DTYPES, TensorType, type_of


class HostFunction(str):
    """The name of a Python function, as it stands in the text of a program; the function itself goes wherever the name
    goes. A name that was read from text has none."""

    function: Callable[..., Any] | None = None

    def __new__(cls, name: str, function: Callable[..., Any]) -> HostFunction:
        self = super().__new__(cls, name)
        self.function = function
        return self


def call_host(name: str, args: Sequence[Any], types: Sequence[TensorType]) -> tuple[np.ndarray, ...]:
    """The results of `name` for copies of `args`, one of each of `types` (with numbers for sizes).

    Raises TypeError where their number, shapes or dtypes are others, and LookupError where the function is gone. A
    Python number serves for an array without axes.
    """
    function = getattr(name, "function", None)
    if function is None:
        raise LookupError(f"the Python function {name} is not part of the text of a program: trace it again")
    results = function(*(np.array(a) for a in args))
    results = results if len(types) > 1 else (results,)
    if not isinstance(results, (tuple, list)) or len(results) != len(types):
        what = len(results) if isinstance(results, (tuple, list)) else type(results).__name__
        raise TypeError(f"{name} returned {what}, it was declared to return {len(types)} arrays")
    return tuple(_checked(name, r, t) for r, t in zip(results, types, strict=True))


def _checked(name: str, result: Any, expected: TensorType) -> np.ndarray:
    dtype = DTYPES[expected.dtype]
    if type(result) in (bool, int, float):
        result = np.asarray(result, dtype)
    if hasattr(result, "_builder"):
        raise TypeError(f"{name} returned a traced value; it gets arrays and returns arrays")
    array = np.asarray(result)
    if array.shape != expected.shape or array.dtype != dtype:
        known = array.dtype in DTYPES.values()
        actual = str(type_of(array)) if known else f"{array.dtype}[{', '.join(map(str, array.shape))}]"
        write = (
            f"array.astype({dtype.name!r})" if array.shape == expected.shape else "shape= and dtype= as it returns them"
        )
        raise TypeError(f"{name} returned {actual}, it was declared to return {expected}\n  write {write}")
    return array
