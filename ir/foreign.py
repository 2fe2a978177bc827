"""What is passed for an array and is none: why it cannot be an operand, and what to write instead."""

from __future__ import annotations

from typing import Any

import numpy as np

from .dims import Dim

# modules of arrays that are no part of a program, and how their numbers are had
_ELSEWHERE = {
    "torch": "x.detach().numpy()",
    "jax": "np.asarray(x)",
    "jaxlib": "np.asarray(x)",
    "tensorflow": "x.numpy()",
    "cupy": "x.get()",
}


def objection(x: Any) -> str | None:
    """Why `x` cannot be an operand; None for arrays, numbers, lists and whatever else NumPy may know."""
    if x is None:
        return "got None, not an array or a number; does what made it return its result?"
    if isinstance(x, (str, bytes, dict, set, frozenset)):
        text = repr(x)
        return f"got a {type(x).__name__}, not an array or a number: {text if len(text) < 40 else text[:36] + ' ...'}"
    if isinstance(x, complex):
        return f"got the complex number {x!r}; there are real numbers only"
    if isinstance(x, np.ndarray) and x.dtype == object:
        first = x.flat[0] if x.size else None
        if hasattr(first, "_builder"):
            return "got an array of traced values; write gt.stack([...])"
        if isinstance(first, (int, Dim)):
            return "got an array of objects, as np.arange(T) makes of a symbolic size; write gt.arange(T)"
        return f"got an array of objects, not of numbers; its first is {first!r}"
    root = type(x).__module__.split(".")[0]
    if root in _ELSEWHERE:
        kind = f"{root if root != 'jaxlib' else 'jax'} array"
        return (
            f"got a {kind}, which no gradient flows through here; write {_ELSEWHERE[root]}, or pass it as an argument"
        )
    if callable(x) and not hasattr(x, "__array__"):
        return f"got {getattr(x, '__name__', type(x).__name__)}, which is to be called, not an array or a number"
    return None


def dtype_objection(name: str) -> str:
    """What to write instead of a dtype that programs do not have."""
    if name in ("float16", "half", "bfloat16", "torch.float16", "torch.bfloat16", "longdouble", "float128"):
        return "; write 'float32'"
    if "complex" in name:
        return "; there are real numbers only"
    if name == "object":
        return "; it holds Python objects: make an array of numbers of them first"
    if name.startswith("torch."):
        return f"; write '{name.removeprefix('torch.')}'"
    return ""
