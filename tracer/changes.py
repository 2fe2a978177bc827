"""What is assigned to modules after programs have been traced with them: numbers that their Python reads, parts that
are replaced. A program holds what it saw; by these two it is known to be out of date."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any, Generic, TypeVar
from weakref import ref

T = TypeVar("T")
_PLAIN = (bool, int, float, str, type(None))


class OfModules(Generic[T]):
    """Something about each module, as long as it lives; by identity, for a dataclass has no hash."""

    def __init__(self) -> None:
        self._found: dict[int, tuple[ref[Any], T]] = {}

    def get(self, module: Any, default: T) -> T:
        return self._found[id(module)][1] if id(module) in self._found else default

    def __setitem__(self, module: Any, value: T) -> None:
        key = id(module)
        self._found[key] = ref(module, lambda _: self._found.pop(key, None)), value

    def setdefault(self, module: Any, value: T) -> T:
        if id(module) not in self._found:
            self[module] = value
        return self._found[id(module)][1]

    def items(self) -> list[tuple[int, T]]:
        """(id of the module, what is known of it)"""
        return [(key, value) for key, (_, value) in self._found.items()]

    def __len__(self) -> int:
        return len(self._found)


# by module and name: the value that it had before the first change, and the one that it has
_settings: OfModules[dict[str, tuple[Any, Any]]] = OfModules()
_counters: OfModules[set[str]] = OfModules()  # what forward itself assigns: no setting
_replaced = 0  # how often a part of any module has been


def is_setting(value: Any) -> bool:
    """Whether it is a plain number, text, truth value or None, or a tuple of these."""
    return isinstance(value, _PLAIN) or (type(value) is tuple and all(map(is_setting, value)))


def note_setting(module: Any, name: str, old: Any, new: Any, tracing: bool) -> None:
    """Called where `module.name`, which was `old`, is assigned `new`."""
    if tracing:
        _counters.setdefault(module, set()).add(name)
        _settings.get(module, {}).pop(name, None)
    elif name not in _counters.get(module, set()):
        changed = _settings.get(module, {})
        first = changed.get(name, (old, old))[0]
        changed.pop(name, None)
        if repr(first) != repr(new):
            changed[name] = first, new
            _settings[module] = changed


def note_part() -> None:
    """Called where a parameter, buffer or module is assigned to an attribute, or taken from one."""
    global _replaced
    _replaced += 1


def parts_replaced() -> int:
    """A number that grows with every such assignment."""
    return _replaced


def settings(modules: Collection[int]) -> tuple[tuple[int, str, str], ...]:
    """(id of the module, name, value) of every setting of the modules with these ids that is not what it was first."""
    changed = [(key, found) for key, found in _settings.items() if key in modules] if _settings else ()
    return tuple((key, name, repr(new)) for key, found in changed for name, (_, new) in found.items())


Contents = tuple[Any, tuple[Any, ...]]


def containers(modules: Iterable[Any]) -> list[Contents]:
    """Every list and dict that the attributes of `modules` hold, with what is in it."""
    return [found for m in modules for value in vars(m).values() for found in _containers(value)]


def _containers(value: Any) -> Iterator[Contents]:
    if isinstance(value, (list, dict)):
        yield value, _inside(value)
    for item in _inside(value):
        yield from _containers(item)


def _inside(value: Any) -> tuple[Any, ...]:
    if isinstance(value, dict):
        return tuple(value.values())
    return tuple(value) if isinstance(value, (list, tuple)) else ()


def same_contents(known: Iterable[Contents]) -> bool:
    """Whether all of these still hold what they held."""
    return all(
        len(value) == len(items) and all(x is y for x, y in zip(_inside(value), items, strict=True))
        for value, items in known
    )
