"""The differential re-trace (layer D): the program traced again, with the same inputs, with changed parameters, in the
other mode, with a symbolic batch; and what then differs. A constant that moves with a parameter is no constant."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ..ir.crossings import Leak, Stale
from ..ir.graph import Graph, Literal, Node
from ..passes.lint.evidence import Change, Pinned, Retraces
from ..passes.lint.finding import Site
from ..passes.lint.unroll import all_constants
from ..tracer.context import LeakedTensor
from ..tracer.trace import Traced
from .subject import Subject

NUDGE = 0.37  # by how much of its own size a parameter is changed: far more than rounding, far less than a jump


def retraces(subject: Subject, traced: Traced) -> Retraces:
    """All re-traces of `subject`, whose first trace is `traced`. What refuses is noted, and the rest goes on."""
    refusals: dict[str, str] = {}
    leaks: dict[Leak, None] = {}
    stale: dict[Stale, None] = {}

    def attempt(name: str, run: Callable[[], Any]) -> Any:
        with subject.untouched(traced):
            try:
                return run()
            except Exception as error:  # the user's Python may end in any way
                if isinstance(error, LeakedTensor):
                    leaks[error.leak] = None
                refusals[name] = f"{type(error).__name__}: {error}"
                return None

    def once_more() -> list[Change]:
        second = subject.trace()
        stale.update(dict.fromkeys(second.ledger.stale))
        return changes(traced, second)

    again = attempt("again", once_more)
    perturbed = attempt("perturbed", lambda: _perturbed(subject, traced, {c.site for c in again or ()}))
    inputs = attempt("inputs", lambda: _with_other_inputs(subject, traced, {c.site for c in again or ()}))
    pinned = attempt("batch", lambda: _pinned(subject))
    modes = {"train": traced.graph}
    other = attempt("eval", lambda: subject.trace(train=False))
    if other is not None:
        modes["eval"] = other.graph
    return Retraces(again, perturbed, inputs, pinned or (), modes, refusals, tuple(stale), tuple(leaks))


def _perturbed(subject: Subject, traced: Traced, random: set[Site]) -> list[Change]:
    """What changes with the parameters: first all at once; then, where something has, each alone."""
    parameters = subject.parameters(traced)

    def nudged(*paths: str) -> list[Change]:
        before = {p: parameters[p].array.copy() for p in paths}
        rng = np.random.default_rng(0)
        try:
            for p in paths:
                array = parameters[p].array
                if array.dtype.kind == "f":
                    size = np.abs(array).mean() or 1.0
                    array += (NUDGE * size * rng.standard_normal(array.shape)).astype(array.dtype)
            return [c for c in changes(traced, subject.trace()) if c.site not in random]
        finally:
            for p, array in before.items():
                parameters[p].array[...] = array

    found = nudged(*parameters)
    if not found:
        return []
    blamed: dict[Site, list[str]] = {c.site: [] for c in found}
    for path in parameters:
        for change in nudged(path):
            blamed.setdefault(change.site, []).append(path)
    return [replace(c, parameters=tuple(blamed[c.site])) for c in found]


def _with_other_inputs(subject: Subject, traced: Traced, random: set[Site]) -> list[Change]:
    """What changes with the numbers of the inputs; sizes stay."""
    found = changes(traced, replace(subject, example=subject.changed(_other)).trace())
    return [c for c in found if c.site not in random]


def _other(example: Any) -> Any:
    """Other numbers of the same kind: floats in another order, and a little less; of integers the least (an index of
    whatever the others are one of)."""
    a = np.asarray(example)
    if a.dtype.kind == "f":
        return (0.9 * np.random.default_rng(1).permutation(a.ravel()).reshape(a.shape)).astype(a.dtype)
    return np.full_like(a, a.min()) if a.dtype.kind in "iu" and a.size else a


def changes(one: Traced, other: Traced) -> list[Change]:
    """The numbers that two traces of one program do not share, or the node at which they part ways."""
    found = []
    nodes, others = list(_nodes(one.graph)), list(_nodes(other.graph))
    arrays, others_arrays = all_constants(one.graph), all_constants(other.graph)
    for a, b in zip(nodes, others, strict=False):
        if a.op != b.op or len(a.inputs) != len(b.inputs):
            return [*found, Change(a.output, Site.of(a.location), structure=True)]
        if _differs(a, b, arrays, others_arrays):
            found.append(Change(a.output, Site.of(a.location)))
        elif _attributes_differ(a, b):
            found.append(Change(a.output, Site.of(a.location), attribute=True))
    if len(nodes) != len(others):
        longer = max(nodes, others, key=len)
        extra = longer[min(len(nodes), len(others))]
        found.append(Change(extra.output, Site.of(extra.location), structure=True))
    return found


def _nodes(graph: Graph) -> Iterator[Node]:
    """The nodes of a graph, those of its regions before the node that holds them."""
    for node in graph.nodes:
        for region in node.regions:
            yield from _nodes(region)
        yield node


def _differs(a: Node, b: Node, one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> bool:
    if a.op == "constant":
        x, y = one[a.attrs["digest"]], other[b.attrs["digest"]]
        return x.shape != y.shape or not np.array_equal(x, y, equal_nan=x.dtype.kind == "f")
    numbers = [(x, y) for x, y in zip(a.inputs, b.inputs, strict=True) if isinstance(x, Literal)]
    if any(x != y for x, y in numbers):
        return True
    return a.op == "full" and repr(a.attrs["value"]) != repr(b.attrs["value"])


_OWN = ("digest", "site", "function", "vjp")  # attributes that two equal nodes do not share


def _attributes_differ(a: Node, b: Node) -> bool:
    """Whether Python has chosen another index, size or axis; not where an earlier node has changed the size."""
    alike = [o.type for o in a.inputs] == [o.type for o in b.inputs]
    return alike and any(repr(a.attrs[k]) != repr(b.attrs.get(k)) for k in a.attrs if k not in _OWN)


def _pinned(subject: Subject) -> list[Pinned]:
    """Where the program depends on the size of its batch: the lines that need the number behind the first axis."""
    sizes = {np.shape(a)[0] for _, a in subject.arrays if np.ndim(a)}
    if len(sizes) != 1:
        return []
    dims = {n: {0: "batch"} for n, a in subject.arrays if np.ndim(a)}
    graph = subject.trace(dims=dims).graph
    return [Pinned(g.where, str(g)) for g in graph.guards if g.op == "==" and g.where]
