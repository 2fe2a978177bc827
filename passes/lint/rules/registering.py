"""Group D: the parameter is not registered, or not reached."""

from __future__ import annotations

from collections.abc import Iterator

from ....ir.graph import Graph
from ..evidence import Evidence
from ..finding import Finding, Site
from ..rule import rule


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
    for p in e.trainable:
        if e.is_read(p.path) or any(_reads(graph, p.path) for graph in other_modes):
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
    for p in e.dead:
        value = e.flow.input(p.path)
        if value is None or not e.is_read(p.path) or e.flow.is_needed(p.path):
            continue
        if any(p.path in e.flow.parameters_of(x.value) for x in e.crossings.escapes):
            continue  # it left the graph: group A
        computed = e.flow.descendants(value)
        ends = [n for n in e.graph.nodes if computed.intersection(n.outputs)]
        yield outside_the_loss.finding(
            Site.of(ends[-1].location if ends else p.created),
            "what is computed from it never reaches the loss",
            "no result of the program depends on it",
            "add it to the loss, or leave it out",
            [p.path],
        )
