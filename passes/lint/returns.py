"""What left the program and came back as a constant, line by line: how it left, and which parameters lose by it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ...ir.crossings import Escape
from ...ir.graph import Literal, Operand, Value
from .branches import branches
from .evidence import Change, Evidence
from .exact import is_exact
from .finding import NOWHERE, Site

CONVERTERS = ("numpy.asarray", "numpy.array", "numpy.ascontiguousarray", "numpy.asanyarray", "numpy.copy")
KINDS = ("leaf", "filled", "foreign", "number", "array", "choice")
AT_THE_EXIT = ("filled", "foreign")  # kinds whose cause is where the value left
SCALARS = tuple(f"numpy.{name}" for name in ("float16", "float32", "float64", "int32", "int64", "bool"))
NUMBERS = ("float", "int", "item", "index", "tolist", "format")


@dataclass(frozen=True)
class Back:
    """One constant with one way of leaving: `value` is what it became in the program, `sources` what it was before."""

    kind: str
    site: Site
    came_back: Site
    escapes: tuple[Escape, ...]
    constant: Operand
    user: Value | None
    sources: tuple[Value, ...]
    how: str
    parameters: tuple[str, ...] = ()  # that a re-trace names
    frozen: bool = False  # whether a re-trace says that it changes with the inputs

    @property
    def value(self) -> Value | None:
        """What the constant is, or the first result that a number goes into; None where it is returned as it is."""
        return self.constant if isinstance(self.constant, Value) else self.user


@dataclass(frozen=True)
class Return:
    """All that came back on one line in one way.

    kind     leaf (said to require a gradient), filled (a buffer, element by element), foreign (a function of NumPy or
             another library), number, array, choice (an index, a size, a branch that Python took by a number)
    site     the line to blame: where it came back; of a filled buffer where it was filled, of a function its call
    escape   where it left, if that is another line; `came_back` where it came back, if that is
    killed   trainable parameters that have no other way to the loss; `partial`: those that have one
    inputs   what it was computed from that will be other in the next call
    discrete whether only whole numbers or booleans came back
    exact    whether no gradient is missing, for the loss does not change with what came back
    """

    kind: str
    site: Site
    escape: Site
    came_back: Site
    backs: tuple[Back, ...]
    killed: tuple[str, ...]
    partial: tuple[str, ...]
    inputs: tuple[str, ...] = ()
    discrete: bool = False
    exact: bool = False
    escapes: tuple[Escape, ...] = field(default=(), repr=False)

    @property
    def sure(self) -> bool:
        """Whether it is known rather than concluded that what came back is what had left."""
        return any(b.how in ("tag", "memory", "source", "trace") for b in self.backs)

    @property
    def functions(self) -> list[str]:
        """The library functions that asked for the values."""
        names = (e.detail for e in self.escapes)
        return list(dict.fromkeys(n for n in names if n and not n.endswith("[...] = ")))


def returns(e: Evidence) -> list[Return]:
    """Everything that came back and matters to the loss, in program order."""
    return e.once("returns", _returns)


def _returns(e: Evidence) -> list[Return]:
    lines: dict[tuple, list[Back]] = {}
    recorded = list(_recorded(e))
    for back in (*recorded, *_found_by_retracing(e, recorded)):
        if _matters(e, back):
            lines.setdefault((back.site.file, back.site.line, back.kind), []).append(back)
    exact = _exact(e, [b for backs in lines.values() for b in backs])
    found = [_joined(e, backs, all(exact[b] for b in backs)) for backs in lines.values()]
    told: dict[tuple, Return] = {}  # one way of leaving for each line and what it costs
    for r in sorted(found, key=lambda r: KINDS.index(r.kind)):
        told.setdefault((r.site.file, r.site.line, r.killed, r.partial), r)
    kept = [r for r in found if r in told.values() and (r.killed or r.partial or r.inputs)]
    return [r for r in kept if r.kind != "choice" or not any(_follows(r, other) for other in kept)]


def _follows(choice: Return, other: Return) -> bool:
    """Whether an index was chosen by what another constant was made of: the one line is told."""
    left = set(choice.escapes) & set(other.escapes)
    return other.kind != "choice" and bool(left) and set(choice.killed) <= {*other.killed, *other.partial}


def _matters(e: Evidence, back: Back) -> bool:
    if back.value is None:
        return any(v is back.constant for _, v in e.graph.outputs)
    return back.value in e.flow.needed


def _recorded(e: Evidence) -> Iterator[Back]:
    leaves = {leaf.operand: leaf for leaf in e.crossings.leaves if leaf.requires_grad}
    for r in e.crossings.reentries:
        ways: dict[tuple, list[Escape]] = {}
        for escape in r.origins:
            kind = "choice" if r.choice else "leaf" if r.operand in leaves else _kind(escape)
            site = Site.of(escape if kind in AT_THE_EXIT else r)
            ways.setdefault((kind, site), []).append(escape)
        for (kind, site), escapes in ways.items():
            sources = tuple(dict.fromkeys(before_the_exit(e, o.value) for o in escapes))
            yield Back(kind, site, Site.of(r), tuple(escapes), r.operand, r.user, sources, r.how)


def before_the_exit(e: Evidence, value: Value) -> Value:
    """What left: `x.detach().numpy()` takes out x, for nothing in the program reads what is detached."""
    node = e.flow.producer.get(value)
    while node is not None and node.op == "stop_gradient" and only_left(e, value):
        value = next(node.values())
        node = e.flow.producer.get(value)
    return value


def only_left(e: Evidence, value: Value) -> bool:
    """Whether Python alone reads a value."""
    return value not in e.flow.uses and all(v is not value for _, v in e.graph.outputs)


def _kind(escape: Escape) -> str:
    if escape.detail.endswith("[...] = "):
        return "filled"
    if escape.kind in NUMBERS or escape.detail in SCALARS:
        return "number"
    foreign = escape.kind in ("numpy", "asarray") and escape.detail and escape.detail not in CONVERTERS
    return "foreign" if foreign else "array"


def _found_by_retracing(e: Evidence, recorded: Sequence[Back]) -> Iterator[Back]:
    """Constants that change with parameters, of which the ledger knows nothing: all tags were lost. Those whose
    parameters are dead by what it does know are left alone: raw arrays go through many hands."""
    known = {b.operand for b in e.crossings.reentries} | {b.user for b in e.crossings.reentries}
    left = {p for b in recorded for s in b.sources for p in e.flow.would_feed(s) if not e.flow.reaches(p)}
    perturbed = list(e.retraces.perturbed or ()) if e.retraces else []
    inputs = list(e.retraces.inputs or ()) if e.retraces else []
    frozen = {c.value for c in inputs}
    decided = any(b.kind in ("if", "while") for b in branches(e))  # GT-F01: whatever the other arm would have
    for change in (*perturbed, *(c for c in inputs if c.value not in {p.value for p in perturbed})):
        told = change.parameters and left.issuperset(change.parameters)
        chosen = change.structure or change.attribute
        by_a_branch = decided and (chosen or not change.parameters)
        if told or by_a_branch or change.value in known or not (change.parameters or change.value in frozen):
            continue
        kind = "choice" if chosen else "array" if _is_constant(e, change) else "number"
        site, value = Site.of(change.site), change.value
        yield Back(kind, site, site, (), value, value, (), "trace", change.parameters, value in frozen)


def _is_constant(e: Evidence, change: Change) -> bool:
    node = e.flow.producer.get(change.value)
    return node is not None and node.op == "constant"


def _exact(e: Evidence, backs: Sequence[Back]) -> dict[Back, bool]:
    """Of each constant whether it is harmless. A number that is read at several places changes at all of them."""
    alike: dict[tuple, list[Back]] = {}
    for b in backs:
        number = abs(b.constant.value) if isinstance(b.constant, Literal) else b.constant
        alike.setdefault((b.sources, number), []).append(b)
    known = {key: is_exact(e.flow, [(b.constant, b.user) for b in group]) for key, group in alike.items()}
    return {b: known[key] for key, group in alike.items() for b in group}


def _joined(e: Evidence, backs: Sequence[Back], exact: bool) -> Return:
    trainable = {p.path for p in e.trainable}
    lost: dict[str, None] = {}
    sources: dict[Value, None] = {}
    for back in backs:
        sources.update(dict.fromkeys(back.sources))
        lost.update(dict.fromkeys(back.parameters))
    for source in sources:
        lost.update(dict.fromkeys(e.flow.would_feed(source)))
    made_here = {leaf.operand.name for leaf in e.crossings.leaves if isinstance(leaf.operand, Value)}
    names = [n for n in lost if n in trainable and n not in made_here]
    escapes = tuple(dict.fromkeys(x for b in backs for x in b.escapes))
    first = backs[0]
    left = Site.of(escapes[0]) if escapes and first.kind not in AT_THE_EXIT else NOWHERE
    constants = [b.constant for b in backs]
    return Return(
        first.kind,
        first.site,
        left,
        first.came_back if first.kind in AT_THE_EXIT else NOWHERE,
        tuple(backs),
        tuple(n for n in names if not e.flow.reaches(n)),
        tuple(n for n in names if e.flow.reaches(n)),
        _inputs(e, list(sources)) or (("the inputs",) if any(b.frozen for b in backs) else ()),
        first.kind == "choice" or not any(_is_float(c) for c in constants),
        exact,
        escapes,
    )


def _is_float(constant: Operand) -> bool:
    return isinstance(constant.value, float) if isinstance(constant, Literal) else constant.type.is_float


def _inputs(e: Evidence, sources: Sequence[Value]) -> tuple[str, ...]:
    """The inputs of the program that will be others in the next call: arrays, state that it updates, and where it is
    not trained, what it was given as parameters and buffers."""
    seen = {v for s in sources for v in e.flow.ancestors(s)}
    changing = {"input"} if e.params else {"input", "param", "buffer"}
    updated = {name for name, _ in e.graph.updates}
    names = (v.name for v in e.graph.inputs if v in seen)
    return tuple(n for n in names if e.graph.roles[n] in changing or n in updated)
