"""The program: frozen nodes in order (A-normal form), every value typed, every input with a role."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Union

import numpy as np

from .dims import Dim, Guard, Symbol
from .display import Displayed
from .location import Location
from .types import DTYPES, TensorType, type_of

ROLES = ("input", "param", "buffer", "state", "scalar")
Attrs = Mapping[str, Any]
Number = Union[bool, int, float]


@dataclass(frozen=True, eq=False)
class Value:
    """The result of a node or an input of the graph; identity is the object, the name is unique in its graph."""

    name: str
    type: TensorType

    def __repr__(self) -> str:
        return f"%{self.name}: {self.type}"


@dataclass(frozen=True)
class Literal:
    """A Python number as operand; weak: it takes the dtype of what it meets."""

    value: Number

    @property
    def type(self) -> TensorType:
        return type_of(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Literal) and repr(self.value) == repr(other.value)

    def __hash__(self) -> int:
        return hash(repr(self.value))


Operand = Union[Value, Literal]


@dataclass(frozen=True, eq=False)
class Node:
    op: str
    inputs: tuple[Operand, ...]
    attrs: Attrs
    outputs: tuple[Value, ...]
    regions: tuple[Graph, ...] = ()
    location: Location | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "attrs", MappingProxyType(dict(sorted(self.attrs.items()))))

    @property
    def output(self) -> Value:
        return self.outputs[0]

    def values(self) -> Iterator[Value]:
        """The inputs that are values (not literals)."""
        return (v for v in self.inputs if isinstance(v, Value))


@dataclass(frozen=True, eq=False)
class Graph(Displayed):
    """inputs with roles; nodes; named outputs; `updates` (which operand replaces which param, buffer or state).

    `constants` holds the arrays of `constant` nodes by digest. `symbols` and `guards` say for which sizes it is valid.
    Equality is that of the text, locations apart.
    """

    name: str
    inputs: tuple[Value, ...]
    roles: Mapping[str, str]
    nodes: tuple[Node, ...]
    outputs: tuple[tuple[str, Operand], ...]
    updates: tuple[tuple[str, Operand], ...] = ()
    constants: Mapping[str, np.ndarray] = field(default_factory=dict)
    symbols: Mapping[str, Symbol] = field(default_factory=dict)
    guards: tuple[Guard, ...] = ()

    def __eq__(self, other: object) -> bool:
        from .text import to_text

        return isinstance(other, Graph) and to_text(self, locations=False) == to_text(other, locations=False)

    def __hash__(self) -> int:
        return id(self)

    def __str__(self) -> str:
        from .text import to_text

        return to_text(self)

    __repr__ = __str__

    def digest(self) -> str:
        """SHA-256 of the text without locations: what the program computes, and nothing else."""
        from .text import to_text

        return hashlib.sha256(to_text(self, locations=False).encode()).hexdigest()

    def input(self, name: str) -> Value:
        for value in self.inputs:
            if value.name == name:
                return value
        raise KeyError(name)

    def with_role(self, role: str) -> tuple[Value, ...]:
        return tuple(v for v in self.inputs if self.roles[v.name] == role)

    def output(self, name: str) -> Operand:
        return dict(self.outputs)[name]

    def walk(self) -> Iterator[Node]:
        """All nodes, those of regions after the node that holds them."""
        for node in self.nodes:
            yield node
            for region in node.regions:
                yield from region.walk()

    def sites(self) -> int:
        """The first number that no random site of the program has."""
        return max((n.attrs["site"] for n in self.walk() if "site" in n.attrs), default=-1) + 1

    def producers(self) -> dict[Value, Node]:
        return {out: node for node in self.nodes for out in node.outputs}

    def uses(self) -> dict[Value, list[Node]]:
        table: dict[Value, list[Node]] = {}
        for node in self.nodes:
            for value in node.values():
                users = table.setdefault(value, [])
                if not users or users[-1] is not node:
                    users.append(node)
        return table

    def results(self) -> Iterator[Operand]:
        """Everything that leaves the graph: outputs, then updates."""
        yield from (v for _, v in self.outputs)
        yield from (v for _, v in self.updates)

    def replace(self, **changes: Any) -> Graph:
        return replace(self, **changes)


def array_digest(array: np.ndarray) -> str:
    """Identifies a constant by dtype, shape and bytes."""
    array = np.asarray(array, order="C")  # ascontiguousarray would give a scalar an axis
    head = f"{array.dtype.str}{array.shape}".encode()
    return hashlib.sha256(head + array.tobytes()).hexdigest()[:16]


def numpy_dtype(value_type: TensorType) -> np.dtype:
    return DTYPES[value_type.dtype]


def attr_dims(attrs: Attrs) -> Iterator[Dim]:
    """Every Dim inside the attributes."""
    stack = list(attrs.values())
    while stack:
        item = stack.pop()
        if isinstance(item, Dim):
            yield item
        elif isinstance(item, tuple):
            stack.extend(item)
