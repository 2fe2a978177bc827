"""What Python holds after a value has left a traced program: plain arrays and numbers that remember where
they came from, through views, NumPy calls and arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .ledger import Tag
from .structure import rebuild

_LIKE = (np.zeros_like, np.ones_like, np.empty_like, np.full_like)  # of the first argument they take the shape alone


class EscapedArray(np.ndarray):
    """A plain NumPy array with a tag. Reductions give 0-d arrays rather than NumPy scalars, which cannot be
    tagged."""

    _tag: Tag | None

    def __array_finalize__(self, source: Any) -> None:
        self._tag = getattr(source, "_tag", None)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        return _ufunc(ufunc, method, inputs, kwargs)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if any(hasattr(t, "_resolve") or hasattr(t, "_builder") for t in types):
            return NotImplemented
        given = (args[1:], kwargs) if func in _LIKE else (args, kwargs)
        return tagged(func(*plain(args), **plain(kwargs)), tag_of(given))

    def __getitem__(self, key: Any) -> Any:
        return tagged(super().__getitem__(plain(key)), self._tag)

    def __setitem__(self, key: Any, value: Any) -> None:
        if self._tag is not None and self._tag.written is not None:
            self._tag.written(self)
        super().__setitem__(plain(key), value)

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    # Python takes nothing but its own bool, float and int here: the number is remembered instead
    def __bool__(self) -> bool:
        answer = bool(self.view(np.ndarray))
        if self._tag is not None:
            self._tag.ledger.record("bool", self._tag.origins[0].value, result=answer)
        return answer

    def __float__(self) -> float:
        self._lose_tag()
        return _remembered(float(self.view(np.ndarray)), self._tag)

    def __int__(self) -> int:
        self._lose_tag()
        return int(self.view(np.ndarray))

    def _lose_tag(self) -> None:
        if self._tag is not None:
            self._tag.ledger.left(self._tag)

    def item(self, *args: Any) -> Any:
        return tagged(self.view(np.ndarray).item(*args), self._tag)

    def tolist(self) -> Any:
        return tagged(self.view(np.ndarray).tolist(), self._tag)


class _EscapedNumber:
    """What EscapedFloat and EscapedInt share. Arithmetic gives tagged numbers, ufuncs give tagged arrays."""

    _tag: Tag | None = None

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        return _ufunc(ufunc, method, inputs, kwargs)


class EscapedFloat(_EscapedNumber, float):
    """A Python float with a tag."""


class EscapedInt(_EscapedNumber, int):
    """A Python int with a tag."""


def _arithmetic(base: type, name: str) -> Callable[..., Any]:
    plain_method = getattr(base, name)

    def method(self: Any, *others: Any) -> Any:
        return tagged(plain_method(self, *others), tag_of((self, *others)))

    method.__name__ = name
    return method


_UNARY = ("__neg__", "__pos__", "__abs__", "__round__")
_BINARY = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow")
for _class, _base in ((EscapedFloat, float), (EscapedInt, int)):
    for _name in (*_UNARY, *(f"__{r}{n}__" for n in _BINARY for r in ("", "r"))):
        setattr(_class, _name, _arithmetic(_base, _name))


def escaped(array: np.ndarray, tag: Tag) -> EscapedArray:
    """`array` itself (a view on its memory) as it leaves the program: tagged, and remembered by the
    ledger."""
    tag.ledger.remember(array, tag)
    return tagged(array, tag)


def tagged(thing: Any, tag: Tag | None) -> Any:
    """`thing` with `tag`: arrays, NumPy scalars (as 0-d arrays), floats, ints, and lists, tuples and dicts of
    them."""
    if tag is None or thing is None or thing is NotImplemented or isinstance(thing, (bool, np.bool_, str)):
        return thing
    if isinstance(thing, (np.ndarray, np.generic)):
        view = np.asarray(thing).view(EscapedArray)
        view._tag = tag
        return view
    if isinstance(thing, (float, int)):
        number = EscapedFloat(thing) if isinstance(thing, float) else EscapedInt(thing)
        number._tag = tag
        return _remembered(number, tag)
    if isinstance(thing, (list, tuple)):
        return rebuild(thing, [tagged(t, tag) for t in thing])
    if type(thing) is dict:
        return {k: tagged(v, tag) for k, v in thing.items()}
    return thing


def _remembered(number: Any, tag: Tag | None) -> Any:
    if tag is not None:
        tag.ledger.remember(float(number), tag)
    return number


def tag_of(thing: Any) -> Tag | None:
    """The joint tag of everything in (nested) arguments."""
    return Tag.join(_tags(thing))


def _tags(thing: Any) -> Iterator[Tag]:
    tag = getattr(thing, "_tag", None)
    if isinstance(tag, Tag):
        yield tag
    elif isinstance(thing, (list, tuple)):
        for item in thing:
            yield from _tags(item)
    elif isinstance(thing, dict):
        yield from _tags(list(thing.values()))


def plain(thing: Any) -> Any:
    """(Nested) arguments without tags."""
    if isinstance(thing, EscapedArray):
        return thing.view(np.ndarray)
    if type(thing) in (list, tuple):
        return type(thing)(plain(t) for t in thing)
    if type(thing) is dict:
        return {k: plain(v) for k, v in thing.items()}
    return thing


def _ufunc(ufunc: Any, method: str, inputs: tuple, kwargs: dict) -> Any:
    """Runs a NumPy ufunc on plain arrays and tags its results. A traced operand takes over instead."""
    if any(hasattr(i, "_builder") or hasattr(i, "_resolve") for i in inputs):
        return NotImplemented
    outs = kwargs.pop("out", None)
    tag = tag_of((inputs, kwargs))
    if outs is not None:
        kwargs["out"] = tuple(plain(o) for o in outs)
        for out in outs:
            previous = getattr(out, "_tag", None)
            if previous is not None and previous.written is not None:
                previous.written(out)
            if tag is not None and isinstance(out, np.ndarray):
                tag.ledger.filled(plain(out), tag)
    numbers = tuple(_plain_number(i) for i in inputs)
    return tagged(getattr(ufunc, method)(*numbers, **plain(kwargs)), tag)


def _plain_number(thing: Any) -> Any:
    if isinstance(thing, EscapedFloat):
        return float(thing)
    return int(thing) if isinstance(thing, EscapedInt) else plain(thing)
