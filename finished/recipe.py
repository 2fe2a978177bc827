"""What decides a tape: the traced program, what is trained, and how the optimizer moves it.

Its text is the first ingredient of the cache's key, and all that a finished tape needs to make its stages again. Lines
are not in it; they are the `landmarks`, which every trace finds anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from ..ir.graph import Graph
from ..ir.host import HostFunction
from ..ir.location import Location
from ..ir.tape_data import entries, items, number, record, text, type_data, type_from
from ..ir.text import parse, to_text
from ..passes.optimize import Update
from ..planning import Limits

NO_LIMITS = Limits()
DERIVED = ("step", "value_and_grad")  # the entries that have a gradient


@dataclass(frozen=True)
class Recipe:
    """graph      as it was traced, with the outputs that the entry has
    trainable  the names of its inputs that a gradient is taken of
    updates    what the optimizer does with those that it holds (entry `step`)
    max_norm   gradients are scaled to that norm
    limits     how much memory there is; by that, and by the threads, the batch is cut into slices
    """

    entry: str
    graph: Graph
    trainable: tuple[str, ...] = ()
    updates: tuple[Update, ...] = ()
    max_norm: float | None = None
    limits: Limits = NO_LIMITS
    threads: int = 1

    @property
    def checks(self) -> tuple[str, ...]:
        """The outputs that must be finite before anything is updated."""
        return ("loss", "grad_norm") if self.entry == "step" else ()

    @cached_property
    def rules(self) -> list[Graph]:
        """The different updates: parameters of one shape and group share theirs."""
        return list({id(u.rule): u.rule for u in self.updates}.values())

    @cached_property
    def text(self) -> str:
        """All of it, without locations. The sizes at which symbolic dimensions were traced are part of it: where a pass
        needs to know whether two are equal, it asks these, and the tape has a guard."""
        number = {id(rule): i for i, rule in enumerate(self.rules)}
        updates = [
            [u.param, number[id(u.rule)], {k: type_data(t) for k, t in u.state.items()}, dict(u.scalars)]
            for u in self.updates
        ]
        about = {
            "entry": self.entry,
            "trainable": self.trainable,
            "updates": updates,
            "max_norm": self.max_norm,
            "limits": [self.limits.memory_budget, self.limits.microbatch],
            "sizes": {s.name: s.hint for s in self.graph.symbols.values()},
        }
        graphs = [to_text(graph, locations=False) for graph in (self.graph, *self.rules)]
        return "\n".join([json.dumps(about), *graphs])

    def nodes(self) -> Iterator[Any]:
        for graph in (self.graph, *self.rules):
            yield from graph.walk()

    @cached_property
    def landmarks(self) -> list[Location | None]:
        """Where the nodes stand, in order."""
        return [node.location for node in self.nodes()]

    def hosts(self) -> list[HostFunction]:
        """The Python functions of the user's that the program calls, in order."""
        return [value for node in self.nodes() for value in node.attrs.values() if isinstance(value, HostFunction)]


def parse_recipe(written: str, constants: Mapping[str, np.ndarray], landmarks: Sequence[Location | None]) -> Recipe:
    """The recipe that a text was made from, with the arrays of its large constants and the places of its nodes; it
    calls no Python. Raises Damaged, or ParseError (a ValueError) for what is no graph."""
    head, _, rest = written.partition("\n")
    about = record(json.loads(head), "entry trainable updates max_norm limits sizes")
    texts = [part + "\n}\n" for part in rest.split("\n}\n") if part.strip()]
    places = iter(landmarks)
    graph, *rules = [_placed(parse(part.strip("\n") + "\n", constants), places) for part in texts]
    sizes = {name: number(size, 0) for name, size in entries(about["sizes"]) if size is not None}
    symbols = {s.name: replace(s, hint=sizes.get(s.name)) for s in graph.symbols.values()}
    graph = graph.replace(symbols=symbols)
    updates = []
    for entry in items(about["updates"]):
        param, rule, state, scalars = items(entry, 4)
        types = {key: type_from(t) for key, t in entries(state)}
        updates.append(Update(text(param), rules[number(rule, 0, len(rules) - 1)], types, dict(entries(scalars))))
    trainable: Sequence[str] = items(about["trainable"])
    limits = Limits(*items(about["limits"], 2))
    return Recipe(text(about["entry"]), graph, tuple(trainable), tuple(updates), about["max_norm"], limits)


def _placed(graph: Graph, places: Iterator[Location | None]) -> Graph:
    """The graph with the next places for its nodes, in the order of `Graph.walk`: passes tell by them what is forward
    and what backward."""
    nodes = []
    for node in graph.nodes:
        place = next(places, None)
        nodes.append(replace(node, location=place, regions=tuple(_placed(r, places) for r in node.regions)))
    return graph.replace(nodes=tuple(nodes))
