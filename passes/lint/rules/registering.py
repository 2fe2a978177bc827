"""Group D: the parameter is not registered, not reached, or not the one that was meant."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np

from ....ir.graph import Graph, Node, Value
from ..branches import branches, only_elsewhere
from ..evidence import Evidence, Param
from ..finding import Finding, Site
from ..returns import returns
from ..rule import rule


@rule("GT-D01", "error", "S", "a parameter in a container that is not walked")
def not_registered(e: Evidence) -> Iterator[Finding]:
    """`parameters()` walks attributes, lists, tuples and dicts of modules. A parameter in a plain object, a set, a
    closure or a global gets a gradient, but no optimizer ever sees it. Another model that the loss uses (the critic of
    a GAN, a teacher) is not meant.

    Broken:
        class Heads:  # a plain class
            def __init__(self): self.w = gt.Parameter(...)
        self.heads = Heads()

    Right:
        class Heads(gt.Module): ...
        self.heads = [gt.nn.Linear(8, 8) for _ in range(4)]  # or a list, tuple or dict of modules
    """
    for p in e.trainable:
        if not p.registered and p.omitted is None and not p.in_trace and e.is_read(p.path):
            yield not_registered.finding(
                Site.of(p.created),
                "used in forward, but in no parameter list of the model",
                "it lies in something that parameters() does not walk",
                "keep it in a gt.Module, or in a list, tuple or dict of one; gt.freeze it if that is meant",
                [p.path],
            )


@rule("GT-D02", "error", "S", "a parameter that parameters() leaves out")
def left_out_by_hand(e: Evidence) -> Iterator[Finding]:
    """A `parameters()` or `named_parameters()` that is written by hand forgets what was added later. Modules find their
    parameters themselves.

    Broken:
        def parameters(self):
            return [*self.tok.parameters(), *self.blocks.parameters()]  # and self.pos?

    Right:
        # no parameters() at all: gt.Module walks attributes, lists, tuples and dicts
    """
    for p in e.trainable:
        held = p.registered and (e.groups is None or p.group is not None)
        if p.omitted is not None and not held and e.is_read(p.path):
            yield left_out_by_hand.finding(
                Site.of(p.omitted),
                "used in forward, but not returned here: no optimizer sees it",
                "the list is written by hand, and lacks it",
                "leave the method out: gt.Module finds its parameters itself; or gt.freeze what is not to learn",
                [p.path],
                escape=Site.of(p.created),
            )


@rule("GT-D03", "warning", "S", "a weight that is a constant of the program")
def constant_weight(e: Evidence) -> Iterator[Finding]:
    """A raw array that activations are multiplied with is a constant: it is never trained. A Parameter that `forward`
    makes is another one in every call, and no optimizer holds it.

    Broken:
        self.w = np.random.randn(8, 8) * 0.1
        def forward(self, x): return x @ self.w

    Right:
        self.w = gt.Parameter(np.random.randn(8, 8) * 0.1)  # or gt.buffer(...), where it is not to learn
    """
    for p in e.params:
        if p.in_trace and e.flow.input(p.path) not in e.flow.returns:  # of raw data: GT-A07
            yield constant_weight.finding(
                Site.of(p.created),
                "a Parameter is made in forward, another one in every call",
                "the optimizer holds none of them",
                "create it in __init__, and use it in forward",
                [p.path],
                severity="error",
            )
    for node in e.flow.graph.nodes:
        array = _weight_like(e, node)
        if array is not None and e.flow.needed.intersection(node.outputs):
            yield constant_weight.finding(
                Site.of(node.location),
                f"an array of shape {list(array.shape)} that looks like a weight is a constant here",
                "a raw NumPy array is no parameter: it never changes",
                "gt.Parameter(array) in __init__; or gt.buffer(array), where it is not to learn",
            )


def _weight_like(e: Evidence, node: Node) -> np.ndarray | None:
    """The constant factor of a product with activations that looks drawn at random: no value twice, spread around 0."""
    if node.op != "matmul":
        return None
    changed = {c.value for c in (e.retraces.perturbed or ())} if e.retraces else set()
    returned = {*e.flow.returns, *changed}  # groups A and B speak of these
    for operand in node.values():
        source = e.flow.producer.get(operand)
        while source is not None and source.op in ("permute", "cast"):
            operand = next(source.values())
            source = e.flow.producer.get(operand)
        if source is None or source.op != "constant" or operand in returned:
            continue
        array = e.flow.graph.constants[source.attrs["digest"]]
        if array.dtype.kind != "f" or array.ndim < 2 or array.size < 4:
            continue
        drawn = len(np.unique(array)) == array.size and abs(array.mean()) < array.std()
        orthogonal = array.ndim == 2 and _is_orthogonal(array)
        if drawn and not orthogonal:
            return array
    return None


def _is_orthogonal(array: np.ndarray) -> bool:
    """Whether rows or columns are orthogonal, as those of a discrete cosine or Fourier basis are."""
    a = array.astype(np.float64)
    for g in (a @ a.T, a.T @ a):
        off = np.abs(g - np.diag(np.diag(g))).max(initial=0.0)
        if len(g) > 1 and off < 1e-3 * np.abs(np.diag(g)).max(initial=0.0):
            return True
    return False


@rule("GT-D04", "warning", "S", "a parameter that nothing reads")
def never_read(e: Evidence) -> Iterator[Finding]:
    """The parameter is registered and trainable, but `forward` does not use it. A layer that only some mode or branch
    uses is fine where another trace reads it.

    Broken:
        self.gate = gt.nn.Linear(8, 8)  # and forward never calls it

    Right:
        return x * gt.sigmoid(self.gate(x))
    """
    other_modes = e.retraces.modes.values() if e.retraces else ()
    elsewhere = {path for branch in branches(e) for path in only_elsewhere(e, branch)}  # GT-F01 speaks of these
    spoken = elsewhere | set(_snapshots(e))
    for p in e.trainable:
        if e.is_read(p.path) or p.path in spoken or any(_reads(graph, p.path) for graph in other_modes):
            continue
        yield never_read.finding(
            Site.of(p.created),
            "registered, but nothing in forward reads it",
            "no op of the program has it as an operand",
            "use it in forward, remove it, or gt.freeze it",
            [p.path],
        )


def _reads(graph: Graph, path: str) -> bool:
    return any(v.name == path for node in graph.nodes for v in node.values())


@rule("GT-D05", "warning", "S", "computed, but not for the loss")
def outside_the_loss(e: Evidence) -> Iterator[Finding]:
    """What is computed from the parameter ends beside the loss: an auxiliary term that was not added, an output that
    nobody uses.

    Broken:
        loss = reconstruction + 0.1 * auxiliary
        return reconstruction

    Right:
        return reconstruction + 0.1 * auxiliary
    """
    if e.loss is not None and isinstance(e.loss, Value) and not e.flow.parameters_of(e.loss):
        return  # not one parameter has a part in the loss: GT-A08
    told = {path for r in returns(e) for path in r.killed}
    for p in e.dead:
        value = e.flow.input(p.path)
        if value is None or not e.is_read(p.path) or e.flow.is_needed(p.path):
            continue
        if p.path in told:
            continue  # it left the program, and came back: group A
        computed = e.flow.descendants(value)
        ends = [n for n in e.flow.graph.nodes if computed.intersection(n.outputs)]
        yield outside_the_loss.finding(
            Site.of(ends[-1].location if ends else p.created),
            "what is computed from it never reaches the loss",
            "no result of the program depends on it",
            "add it to the loss, or leave it out",
            [p.path],
        )


@rule("GT-D06", "warning", "S", "one module where several were meant")
def aliased(e: Evidence) -> Iterator[Finding]:
    """`[Block()] * n` is one block n times, and a loop that assigns to the same attribute keeps the last one only. Tied
    weights under different names are not meant here.

    Broken:
        self.heads = [gt.nn.Linear(8, 8)] * 4

    Right:
        self.heads = [gt.nn.Linear(8, 8) for _ in range(4)]
    """
    for p in e.params:
        twins = [a for a in p.aliases if _same_but_for_a_number(p.path, a)]
        if twins:
            yield aliased.finding(
                Site.of(p.created),
                f"{_container(p.path, twins[0])} holds one module {len(twins) + 1} times",
                "its places share every weight, as after [module] * n",
                "[make() for _ in range(n)], where several are meant; one attribute, where one is",
                [p.path],
            )
    for path, where in e.overwritten:
        yield aliased.finding(
            Site.of(where),
            f"{path} is assigned again and again; only the last module is left",
            "each turn of the loop replaces the one before, whose parameters are gone",
            "collect them: self.layers = [make() for _ in range(n)]",
            [p.path for p in e.params if p.path == path or p.path.startswith(f"{path}.")],
        )


def _same_but_for_a_number(one: str, other: str) -> bool:
    """`heads.0.weight` and `heads.3.weight`: the same place of one list."""
    a, b = one.split("."), other.split(".")
    differ = [(x, y) for x, y in zip(a, b, strict=False) if x != y]
    return len(a) == len(b) and len(differ) == 1 and all(n.isdigit() for n in differ[0])


def _container(one: str, other: str) -> str:
    parts = [x for x, y in zip(one.split("."), other.split("."), strict=True) if x == y]
    split = next(i for i, (x, y) in enumerate(zip(one.split("."), other.split("."), strict=True)) if x != y)
    return ".".join(parts[:split]) or "the model"


@rule("GT-D07", "warning", "T", "a copy where one parameter was meant")
def copied(e: Evidence) -> Iterator[Finding]:
    """Two parameters that start with the same numbers, one the transpose of the other or one a table and the other a
    head: a tie that was made by copying drifts apart. A cast or copy taken in `__init__` is a constant, and the
    parameter behind it is never read.

    Broken:
        self.decoder.weight = gt.Parameter(self.encoder.weight.data.T.copy())

    Right:
        return h @ self.encoder.weight.T  # or self.head.weight = self.tok.weight: one parameter, two names
    """
    trainable = [p for p in e.trainable if _telling(p.array)]
    for a, b in combinations(trainable, 2):
        if a.array.flat[0] != b.array.flat[0]:  # the first of 590,000 numbers mostly tells
            continue
        transposed = a.array.ndim == 2 and a.array.shape == b.array.shape[::-1] and np.array_equal(a.array, b.array.T)
        same = a.array.shape == b.array.shape and np.array_equal(a.array, b.array) and _table_and_factor(e, a, b)
        if (transposed and not (a.array.shape == b.array.shape and np.array_equal(a.array, b.array))) or same:
            yield copied.finding(
                Site.of(b.created),
                f"{a.path} and {b.path} start with the same numbers, but are two parameters",
                "what was meant to be tied drifts apart from the first step",
                f"one parameter: use {a.path} (transposed, if need be) in both places",
                [a.path, b.path],
            )
    for path, node in _snapshots(e).items():
        yield copied.finding(
            Site.of(node.location),
            f"a copy of {path} is used as a constant, and {path} itself is not read",
            "the copy was made before the program was traced, and stays as it was",
            "compute the cast or copy in forward",
            [path],
        )


def _telling(array: np.ndarray) -> bool:
    """Whether equal numbers are no accident: neither constant nor tiny."""
    return array.dtype.kind == "f" and array.size >= 4 and bool(array.max() > array.min())


def _table_and_factor(e: Evidence, a: Param, b: Param) -> bool:
    kinds = []
    for p in (a, b):
        value = e.flow.input(p.path)
        users = list(e.flow.uses.get(value, ())) if value is not None else []
        users += [u for n in users if n.op == "permute" for u in e.flow.uses.get(n.output, ())]
        kinds.append({n.op for n in users})
    return any("take" in x and "matmul" in y for x, y in (kinds, kinds[::-1]))


def _snapshots(e: Evidence) -> dict[str, Node]:
    """Unread trainable parameters of which the program holds a copy (perhaps cast or transposed) as a constant."""
    unread = [p for p in e.trainable if not e.is_read(p.path) and _telling(p.array)]
    found: dict[str, Node] = {}
    for node in e.flow.graph.nodes if unread else ():
        if node.op == "constant":
            array = e.flow.graph.constants[node.attrs["digest"]]
            for p in unread:
                if p.path not in found and _is_copy(array, p.array):
                    found[p.path] = node
    return found


def _is_copy(array: np.ndarray, original: np.ndarray) -> bool:
    if array.dtype.kind != "f" or array.size != original.size:
        return False
    candidates = [original.reshape(-1)] + ([original.T.reshape(-1)] if original.ndim == 2 else [])
    flat = array.reshape(-1).astype(np.float64)
    return any(np.allclose(flat, c.astype(np.float64), rtol=2e-3, atol=1e-7) for c in candidates)
