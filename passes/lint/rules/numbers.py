"""Group G: connected, but numerically dead."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

import numpy as np

from ....ir.graph import Node, Value
from ..evidence import LOOKS, Evidence, Gradient
from ..finding import Finding, Site, counted
from ..rule import rule
from ..singular import at_first, masked

NOISE = 1e-8  # float64 rounds 5e8 times more finely than float32: a gradient that shrinks by more than this is rounding
ROUNDING = 1e-13  # of the other gradients: 500 roundings of float64
VANISHED = 1e-8  # of the median parameter's gradient, relative to its size: a float32 sum of both forgets the smaller


@rule("GT-G01", "warning", "R", "units that are never on")
def dead_units(e: Evidence) -> Iterator[Finding]:
    """A unit whose relu gives 0 for every example gets no gradient: its weights stay as they are. `step.watch()` counts
    them over several batches; one batch tells nothing.

    Broken:
        self.bias = gt.Parameter(np.full(64, -10.0, "f4"))
        return gt.relu(x @ self.w + self.bias)

    Right:
        self.bias = gt.Parameter(np.zeros(64, "f4"))
    """
    if e.watched is None or e.watched.looks < LOOKS:
        return
    for name, off in e.watched.off.items():
        count = int(off.sum())
        if 2 * count <= off.size:
            continue
        node = _node(e, name)
        yield dead_units.finding(
            Site.of(node.location),
            f"{count} of {off.size} units were 0 for every example of {e.watched.looks} batches",
            "where relu is 0 so is its derivative: they can only come back if what feeds them changes",
            "a smaller learning rate, biases that start at 0, normalised inputs, or a leaky relu",
            e.flow.feeding(node.output) if count == off.size else (),
        )


@rule("GT-G02", "warning", "R", "activations that are saturated from the start")
def saturated(e: Evidence) -> Iterator[Finding]:
    """At the first look nearly all of a sigmoid, tanh or softmax lay where its derivative is below 1e-4. After training
    that may be right; at the start it keeps everything before it from learning.

    Broken:
        attention = gt.softmax(q @ k.swapaxes(-1, -2) * 64, -1)

    Right:
        attention = gt.softmax(q @ k.swapaxes(-1, -2) / 64**0.5, -1)
    """
    for name, share in e.watched.flat.items() if e.watched else ():
        if share > 0.9:
            node = _node(e, name)
            yield saturated.finding(
                Site.of(node.location),
                f"{share:.0%} of this {node.op} was saturated at the first look",
                "its derivative is next to nothing there",
                "scale what it is given: divide by sqrt(width), normalise the inputs",
                e.flow.feeding(node.output),
            )


def _node(e: Evidence, name: str) -> Node:
    return next(n for n in e.graph.nodes if any(v.name == name for v in n.outputs))


@rule("GT-G03", "warning", "G", "a gradient that has vanished")
def vanished(e: Evidence) -> Iterator[Finding]:
    """The gradient of some parameters is smaller than that of the others by more than float32 can hold in one number:
    a stack of sigmoids multiplies it by at most 1/4 in each layer, a factor of 1e-9 in front of a loss by that.

    Broken:
        for layer in self.layers:  # thirty of them
            h = gt.sigmoid(layer(h))

    Right:
        for layer in self.layers:
            h = h + gt.relu(layer(self.norm(h)))
    """
    if e.probe is None:
        return
    ratios = {path: g.norm64 / size for path, g, size in _measured(e) if g.norm64 > 0 and size > 0}
    if len(ratios) < 4:
        return
    usual = median(sorted(ratios.values())[len(ratios) // 2 :])  # of the better half: the vanished may be many
    gone = [
        path
        for path, ratio in ratios.items()
        if ratio < VANISHED * usual and path not in _noisy(e) and not e.is_explained(path, "error", "warning", "info")
    ]
    if not gone:
        return
    worst = min(gone, key=ratios.__getitem__)
    param = next(p for p in e.params if p.path == gone[0])
    yield vanished.finding(
        Site.of(param.created),
        f"the gradient of {counted(gone)} is {ratios[worst] / usual:.0e} of that of the others",
        "it shrinks on its way back, by every saturated activation and every small factor",
        "residual connections, normalisation, activations that do not saturate; a loss of the size of 1",
        gone,
    )


@rule("GT-G04", "error", "KG", "a derivative that is not finite")
def not_finite(e: Evidence) -> Iterator[Finding]:
    """`where` gives the elements that it hides the gradient 0, and where the derivative of what is hidden is infinite
    or NaN, so is 0 times it. The argument has to be harmless as well. A norm has no derivative at 0 either. What is not
    proved is measured, and NotFinite stops a step before anything is updated.

    Broken:
        y = gt.where(x > 0, gt.sqrt(x), 0.0)

    Right:
        y = gt.where(x > 0, gt.sqrt(gt.where(x > 0, x, 1.0)), 0.0)  # or gt.sqrt(gt.maximum(x, 1e-6))
    """
    told: set[str] = set()
    for s in (*masked(e.proofs), *at_first(e.proofs)):
        names = [p for o in s.node.inputs if isinstance(o, Value) for p in e.flow.feeding(o) if p in e.proofs.trainable]
        told.update(names)
        hidden = "for what the where hides" if s.sure else "for some of what the where hides"
        severity = "error" if s.sure else "warning" if s.likely else "info"
        yield not_finite.finding(
            Site.of(s.node.location),
            f"the derivative of {s.node.op} is not finite {hidden if s.mask else 'as the parameters are at first'}",
            f"its argument is {s.operand} there, and 0 times infinity is NaN"
            if s.mask
            else f"its argument is {s.operand} for all data",
            "an argument that is harmless there too: gt.where(mask, x, 1.0) inside, or gt.maximum(x, 1e-6)"
            if s.mask
            else "a small number inside, gt.sqrt(x + 1e-6), or other initial values",
            names,
            severity,
        )
    gone = [p for p, g in e.probe.gradients.items() if not np.isfinite(g.norm64 + g.norm32)] if e.probe else []
    gone = [p for p in gone if p not in told and not e.is_explained(p)]
    if gone and e.probe is not None and e.probe.spoiled is not None:
        yield not_finite.finding(
            Site.of(e.probe.spoiled),
            f"the gradient of {counted(gone)} is NaN or infinite, of a loss that is finite",
            "a derivative is not finite for these numbers",
            "an argument that stays away from where the derivative ends: a small number inside of a root, a logarithm "
            "or a quotient",
            gone,
        )


@rule("GT-G05", "info", "G", "rounding noise in place of a gradient")
def noise(e: Evidence) -> Iterator[Finding]:
    """In float64 the gradient is smaller than in float32 by the ratio of their roundings: it is zero by mathematics,
    and what float32 shows is noise. Adam makes full steps of it.

    Broken:
        self.key = gt.nn.Linear(8, 8)  # softmax does not see the key's bias: its gradient is 0

    Right:
        self.key = gt.nn.Linear(8, 8, bias=False)
    """
    for path in _noisy(e):
        if not e.is_explained(path, "error", "warning", "info"):
            g = e.probe.gradients[path]  # type: ignore[union-attr]
            param = next(p for p in e.params if p.path == path)
            yield noise.finding(
                Site.of(param.created),
                f"the gradient is {g.norm32:.0e} in float32 and {g.norm64:.0e} in float64: zero, but for rounding",
                "the loss does not depend on it, by mathematics",
                "leave it out (bias=False), or gt.freeze it",
                [path],
            )


def _noisy(e: Evidence) -> list[str]:
    """The parameters whose gradient is zero by mathematics."""
    norms = sorted(g.norm64 for _, g, _ in _measured(e))
    usual = median(norms[len(norms) // 2 :]) if norms else 0.0
    return [path for path, g, _ in _measured(e) if is_noise(g, usual)]


def is_noise(g: Gradient, usual: float) -> bool:
    """Whether what is there of a gradient shrinks with the spacing of the numbers: that of float64 is nothing beside
    the float32 one, or both are rounding beside the `usual` gradient, and do not agree. Where both are 0, on this batch
    perhaps, what is left after a step decides."""
    if g.norm64 == g.norm32 == 0.0:
        return 0.0 < g.later < ROUNDING * usual
    if g.norm64 < NOISE * g.norm32:
        return True
    return g.norm64 < ROUNDING * usual and g.noise > 0.5 * max(g.norm64, g.norm32)


def _measured(e: Evidence) -> Iterator[tuple[str, Gradient, float]]:
    sizes = {p.path: float(abs(p.array).max(initial=0.0)) or 1.0 for p in e.params}
    for path, g in e.probe.gradients.items() if e.probe else ():
        yield path, g, sizes.get(path, 1.0)
