"""Every function of the op namespace, given what it does not take: the answer names the function and the user's line,
and no error of Python's or NumPy's own comes through."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import gradtape as gt

X = np.arange(6, dtype="f4").reshape(2, 3) / 6
# what is no call of an op
OTHERS = """callback checkpoint compile custom_vjp freeze from_function grad lint manual_seed no_grad scan spec trace
    value_and_grad buffer clip_by_global_norm generate load""".split()
FUNCTIONS = {n: f for n, f in vars(gt).items() if inspect.isfunction(f) and n[0] != "_" and n not in OTHERS}
NO_ARRAYS = {
    "None": None, "a string": "abc", "a dict": {"a": 1}, "objects": np.array([None, 1], object),
    "complex numbers": np.ones((2, 3), complex), "a function": np.tanh,
}  # fmt: skip
OTHER_ARRAYS = {
    "float16": np.ones((2, 3), "f2"), "bools": X > 0.5, "integers": np.ones((2, 3), int), "a number": np.float32(1.0),
    "five axes": np.ones((1, 1, 2, 1, 2), "f4"), "nothing": np.ones((0, 3), "f4"), "another shape": np.ones(7, "f4"),
}  # fmt: skip
AXES = (7, -9, 1.5, "a", (0, 0))
FITTING = {
    "axis": 0, "dim": 0, "dimension": 0, "index": np.array([[0, 1, 0], [0, 0, 1]]), "indices": np.array([0, 1]),
    "shape": (3, 2), "dtype": "f4", "kernel_size": 1, "p": 0.5, "k": 1, "num_classes": 3, "repeats": 2, "reps": 2,
    "target": np.array([0, 1]), "size": 1, "start": 0, "sections": 1, "chunks": 1, "shift": 1, "step": 1,
}  # fmt: skip


def calls(function: Callable[..., Any]) -> Iterator[tuple[str, list[Any], dict[str, Any]]]:
    """(what is wrong, arguments, keywords): one operand at a time, and the axis."""
    parameters = list(inspect.signature(function).parameters.values())
    needed = [p.name for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    right = [X, *(FITTING.get(n, X) for n in needed[1:])]
    for number in range(len(needed)):
        for what, wrong in {**NO_ARRAYS, **OTHER_ARRAYS}.items():
            yield f"{needed[number]} is {what}", [*right[:number], wrong, *right[number + 1 :]], {}
    for name in ("axis", "dim"):
        if name in [p.name for p in parameters] and name not in needed:
            for axis in AXES:
                yield f"{name} is {axis!r}", right, {name: axis}


def is_operand(x: Any) -> bool:
    return isinstance(x, np.ndarray) and x.dtype.kind in "fiub" and x.dtype != np.float16


@pytest.mark.parametrize("name", sorted(set(FUNCTIONS) - {"clip", "positive"}))  # which return x as it is
def test_the_line_is_named(name: str) -> None:
    function = FUNCTIONS[name]
    for what, args, keywords in calls(function):

        def traced(*values: Any, args: list[Any] = args, keywords: dict[str, Any] = keywords) -> Any:
            given = iter(values)
            return function(*(next(given) if is_operand(a) else a for a in args), **keywords)

        def eager(args: list[Any] = args, keywords: dict[str, Any] = keywords) -> Any:
            return function(*args, **keywords)

        for call in (eager, lambda args=args, traced=traced: gt.trace(traced, *filter(is_operand, args))):
            try:
                call()
            except (TypeError, ValueError, IndexError) as error:
                assert f"\n  at    {__file__}:" in str(error), f"{what}: {type(error).__name__}: {error}"
                assert not str(error).startswith(("'", "unsupported", "object")), f"{what}: {error}"


@pytest.mark.parametrize("name", sorted(set(FUNCTIONS) - {"arange", "at", "clip", "nonzero", "positive", "tensor"}))
def test_what_is_no_array_is_refused(name: str) -> None:
    """By all whose first argument is an array, and which do something with it."""
    function = FUNCTIONS[name]
    first = next(iter(inspect.signature(function).parameters.values()), None)
    if first is None or first.kind is not first.POSITIONAL_OR_KEYWORD or first.default is not first.empty:
        return
    rest = [args[1:] for _, args, _ in calls(function)][:1]
    for what, wrong in NO_ARRAYS.items():
        with pytest.raises((TypeError, ValueError)):
            pytest.fail(f"{name} takes {what}: {function(wrong, *rest[0])}")
