"""Group B: the gradient is cut inside the graph."""

from __future__ import annotations

from collections.abc import Iterator

from ....ir.graph import Node
from ..evidence import Evidence
from ..finding import Finding, Site
from ..rule import rule


@rule("GT-B01", "warning", "S", "parameters behind a stop_gradient")
def leftover_stop_gradient(e: Evidence) -> Iterator[Finding]:
    """Every way from some trainable parameters to the loss runs through a stop_gradient (or detach): they stay as they
    are. Where that is meant, freeze them, and the lint is silent.

    Broken:
        features = self.backbone(x).detach()
        return self.head(features)

    Right:
        gt.freeze(self.backbone)
        features = gt.stop_gradient(self.backbone(x))
    """
    trainable = {p.path for p in e.trainable}
    for cut in e.flow.cuts():
        killed = [p for p in cut.killed if p in trainable]
        if not killed or not isinstance(cut.by, Node) or cut.by.op != "stop_gradient":
            continue
        if cut.target.name in e.crossings.cuts:
            continue  # a no_grad block: GT-B02
        yield leftover_stop_gradient.finding(
            Site.of(cut.by.location),
            "stop_gradient keeps the gradient from trainable parameters",
            "no other way leads from them to the loss",
            "remove it, or gt.freeze what is not to learn",
            killed,
        )


@rule("GT-B02", "warning", "S", "parameters inside a no_grad block")
def leftover_no_grad(e: Evidence) -> Iterator[Finding]:
    """Every way from some trainable parameters to the loss runs through a `with gt.no_grad()` block.

    Broken:
        with gt.no_grad():
            h = self.encoder(x)
        return self.head(h)

    Right:
        h = self.encoder(x)
        return self.head(h)
    """
    trainable = {p.path for p in e.trainable}
    for cut in e.flow.cuts():
        killed = [p for p in cut.killed if p in trainable]
        if killed and cut.target.name in e.crossings.cuts:
            yield leftover_no_grad.finding(
                Site.of(e.crossings.cuts[cut.target.name]),
                "no_grad keeps the gradient from trainable parameters",
                "what is computed inside the block is a constant for the gradient",
                "move the block, or gt.freeze what is not to learn",
                killed,
            )


@rule("GT-B07", "error", "S", "a discrete op on every path")
def discrete(e: Evidence) -> Iterator[Finding]:
    """argmax, comparisons, sorting orders and casts to integers are steps: they have no derivative, and parameters
    whose every way to the loss runs through one cannot learn. As an index or a mask beside another way they are fine.

    Broken:
        p = gt.one_hot(gt.argmax(logits, -1), 10)
        loss = gt.mse_loss(p, y)

    Right:
        p = gt.softmax(logits, -1)
        loss = gt.mse_loss(p, y)
    """
    for cut in e.flow.cuts():
        if not cut.killed or not isinstance(cut.by, Node) or cut.by.op == "stop_gradient":
            continue
        to_integers = cut.by.op == "cast" and not cut.target.type.is_float
        if to_integers or (cut.reason and cut.reason.kind == "not differentiable"):
            why = "integers carry no gradient" if to_integers else cut.reason.reason if cut.reason else ""
            yield discrete.finding(
                Site.of(cut.by.location),
                f"{cut.by.op} has no gradient, and no other way leads to the loss",
                why,
                "a smooth form (softmax, sigmoid), or x + gt.stop_gradient(step(x) - x) where the step is meant",
                cut.killed,
            )
