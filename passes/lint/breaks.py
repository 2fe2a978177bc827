"""The class of what came back as a constant: exactly one for every line."""

from __future__ import annotations

from ...ir.graph import Value
from .evidence import Evidence
from .linear import VIEWS, scaled_by, sums_with, terms
from .returns import Return, returns

BY_KIND = {
    "array": "GT-A01", "foreign": "GT-A02", "number": "GT-A03", "choice": "GT-A03", "filled": "GT-A04",
    "leaf": "GT-A07",
}  # fmt: skip
PROXY = 1e-2  # a live summand of at most this share of a constant one is there for its gradient alone


def breaks(e: Evidence, code: str) -> list[Return]:
    """What came back and belongs to this class."""
    return [r for r, found in e.once("breaks", _classified) if found == code]


def _classified(e: Evidence) -> list[tuple[Return, str]]:
    return [(r, _code(e, r)) for r in returns(e)]


def _code(e: Evidence, r: Return) -> str:
    """A constant that is the loss, one said to require a gradient, one blended with a proxy, a branch beside a live
    one, one that ends the only way of some parameters, one that is missing on some way, one that is only frozen."""
    if is_cached(e, r):
        return "GT-A09"
    if is_the_loss(e, r):
        return "GT-A08"
    if r.kind == "leaf" and (r.killed or r.partial):
        return "GT-A07"
    if (r.killed or r.partial) and not r.discrete and is_blended(e, r):
        return "GT-B05"
    if r.killed:
        return "GT-B04" if r.partial and is_a_branch(e, r) else BY_KIND[r.kind]
    if r.exact:
        return ""
    if r.partial and not r.discrete and not _equals_a_parameter(r):
        return "GT-B03"
    return BY_KIND[r.kind] if r.inputs or r.kind == "choice" else ""


def is_cached(e: Evidence, r: Return) -> bool:
    """Whether another trace got the same array again, and did not compute it."""
    stale = (*e.crossings.stale, *(e.retraces.stale if e.retraces else ()))
    return any((s.file, s.line) == (r.site.file, r.site.line) for s in stale)


def is_the_loss(e: Evidence, r: Return) -> bool:
    """Whether the loss, and nothing but the loss, was made of raw values: of one number, or by arithmetic with raw
    predictions and no parameter after it."""
    if e.loss is None or len(e.dead) < len(e.trainable):
        return False
    if any(b.value is None or is_rescaled(e, e.loss, b.value) for b in r.backs):
        return True
    if r.kind == "leaf" or any(leaf.operand is b.constant for leaf in e.crossings.leaves for b in r.backs):
        return False
    after = {v for b in r.backs if b.value is not None for v in e.flow.descendants(b.value)}
    read = {v for n in e.flow.graph.nodes if after.intersection(n.outputs) for v in n.values()}
    inputs = [v for v in e.graph.inputs if e.graph.roles[v.name] == "input"]
    if read.intersection(inputs[:-1]):  # the last one is the target; what the model itself reads is no loss
        return False
    return not any(e.flow.parameters_of(v) for v in read - after) and bool(set(r.killed) >= {p.path for p in e.dead})


def is_rescaled(e: Evidence, loss: object, value: Value) -> bool:
    """Whether the loss is `value` in another shape, times a number, or averaged."""
    while isinstance(loss, Value):
        if loss is value:
            return value.type.size == 1 or value.type.shape == ()
        node = e.flow.producer.get(loss)
        if node is None:
            return False
        scaled = scaled_by(node)
        if scaled is not None:
            loss = scaled[0]
        elif node.op in (*VIEWS, "sum", "mean"):
            loss = node.inputs[0]
        else:
            return False
    return False


def is_blended(e: Evidence, r: Return) -> bool:
    """Whether all that is alive beside the constant, in some sum, is a small share of a stand-in."""
    for back in r.backs:
        for _, other, mine, its in sums_with(e.flow, back.value) if back.value is not None else ():
            live = [t for t in terms(e.flow, other) if isinstance(t.value, Value) and e.flow.feeding(t.value)]
            shares = [abs(t.factor * its / mine) for t in live if not t.stopped] if mine else []
            if shares and 0.0 < max(shares) <= PROXY:
                return True
    return False


def is_a_branch(e: Evidence, r: Return) -> bool:
    """Whether the constant is added to a value that is alive and that it was computed from: a residual connection."""
    for back in r.backs:
        above = {v for s in back.sources for v in e.flow.ancestors(s)}
        for node, other, _, _ in sums_with(e.flow, back.value) if back.value is not None else ():
            if node.output in e.flow.alive and isinstance(other, Value):
                beside = [other, *(t.value for t in terms(e.flow, other) if not t.stopped)]
                computed = (v for v in beside if isinstance(v, Value) and v in e.flow.producer)
                if any(v in above and v in e.flow.alive for v in computed):
                    return True
    return False


def _equals_a_parameter(r: Return) -> bool:
    """A constant that merely equals a parameter: the initial weights, which a penalty pulls back to."""
    return all(b.how == "value" and all(e.kind == "data" and e.detail for e in b.escapes) for b in r.backs)
