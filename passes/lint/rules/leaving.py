"""Group A: the value leaves the trace. Here the rules that need the graph and the registry alone."""

from __future__ import annotations

from collections.abc import Iterator

from ....ir.graph import Node, Value
from ....ir.op import OPS
from ..evidence import Evidence
from ..finding import NOWHERE, Finding, Site
from ..flow import is_opaque
from ..rule import rule


@rule("GT-A05", "error", "S", "an opaque callback without a rule")
def opaque(e: Evidence) -> Iterator[Finding]:
    """gt.callback runs Python that nothing looks into: without `vjp` no gradient comes through it. An index or a mask
    that it gives is fine.

    Broken:
        h = gt.callback(scipy.special.j0, h)

    Right:
        h = gt.callback(scipy.special.j0, h, vjp=lambda g, y, x: -g * scipy.special.j1(x))
    """
    for cut in e.flow.cuts():
        if isinstance(cut.by, Node) and is_opaque(cut) and cut.target in e.flow.alive:  # a gradient comes, and ends
            yield opaque.finding(
                Site.of(cut.by.location),
                f"{cut.by.attrs['function']} is opaque Python, and no gradient comes through it",
                cut.reason.reason if cut.reason else "",
                "gt.callback(..., vjp=...), or gt.stop_gradient(gt.callback(...)) where a cut is meant",
                (*cut.killed, *cut.partial),
            )


@rule("GT-A06", "error", "S", "an op without a backward rule")
def no_rule(e: Evidence) -> Iterator[Finding]:
    """An op whose derivative is not written stops every gradient that comes to it; all such ops are named at once.

    Broken:
        y = op_without_vjp(x @ w)

    Right:
        y = gt.custom_vjp(forward, backward)(x @ w)
    """
    for cut in e.flow.cuts():
        if cut.killed and isinstance(cut.by, Node) and cut.reason and cut.reason.kind == "not written yet":
            yield no_rule.finding(
                Site.of(cut.by.location),
                f"{cut.by.op} has no derivative",
                cut.reason.reason or f"the derivative of {OPS[cut.by.op].formula} is not written",
                "gt.custom_vjp(forward, backward), or another op",
                cut.killed,
            )


@rule("GT-A08", "error", "S", "a loss that depends on no parameter")
def loss_off_the_graph(e: Evidence) -> Iterator[Finding]:
    """The loss was computed from raw values: the graph of the model ends before it, and no parameter gets a gradient.

    Broken:
        loss = gt.tensor(np.mean((pred.data - y) ** 2))

    Right:
        loss = gt.mean((pred - y) ** 2)
    """
    if e.loss is None or not e.trainable or len(e.dead) < len(e.trainable):
        return
    site, escape = NOWHERE, NOWHERE
    if isinstance(e.loss, Value):
        came_back, made = e.flow.returns.get(e.loss, ()), e.flow.producer.get(e.loss)
        if came_back:
            site, escape = Site.of(came_back[0]), Site.of(came_back[0].origins[0])
        elif e.flow.parameters_of(e.loss):
            return  # it depends on some, and another rule knows where their gradient ends
        elif made is not None:
            site = Site.of(made.location)
    yield loss_off_the_graph.finding(
        site,
        "the loss depends on no parameter",
        "it was built from values that had left the graph",
        "compute the loss from the model's output itself, with gt or numpy functions",
        [p.path for p in e.trainable],
        escape=escape,
    )
