"""Nested tuples, lists and dicts of values, as flat named lists and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Slot:
    """The place of one value in a structure."""

    name: str


@dataclass(frozen=True)
class Structure:
    """The containers around named values: `tree` has a Slot for each, everything else in it is fixed.

    `roots` names the parts of the tree, where it is made of several (the arguments of a function).
    """

    tree: Any
    names: tuple[str, ...]
    roots: tuple[str, ...] = ()

    def restore(self, values: Mapping[str, Any]) -> Any:
        """The tree with every Slot replaced by the value of its name."""
        return _map(self.tree, lambda x: values[x.name] if isinstance(x, Slot) else x)


def flatten(tree: Any, name: str, is_value: Callable[[Any], bool]) -> tuple[Structure, list[tuple[str, Any]]]:
    """The structure of `tree`, and its values with their names: `name`, `name.0`, `name.key`,
    `name.key.1`."""
    found: list[tuple[str, Any]] = []

    def walk(item: Any, path: str) -> Any:
        if is_value(item):
            found.append((path, item))
            return Slot(path)
        if isinstance(item, dict):
            return {k: walk(v, f"{path}.{k}") for k, v in item.items()}
        if isinstance(item, (list, tuple)):
            keys = getattr(item, "_fields", range(len(item)))
            return rebuild(item, [walk(v, f"{path}.{k}") for k, v in zip(keys, item, strict=True)])
        return item

    skeleton = walk(tree, name)
    return Structure(skeleton, tuple(n for n, _ in found)), found


def changed(tree: Any, is_value: Callable[[Any], bool], change: Callable[[Any], Any]) -> Any:
    """`tree` with `change(value)` in the place of every value."""
    structure, found = flatten(tree, "", is_value)
    return structure.restore({name: change(value) for name, value in found})


def _map(tree: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(tree, dict):
        return {k: _map(v, change) for k, v in tree.items()}
    if isinstance(tree, (list, tuple)):
        return rebuild(tree, [_map(v, change) for v in tree])
    return change(tree)


def rebuild(like: Any, items: list[Any]) -> Any:
    """A list, tuple or namedtuple like `like` with other items."""
    return type(like)(*items) if hasattr(like, "_fields") else type(like)(items)
