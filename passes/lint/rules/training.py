"""Group E: reached by the gradient, but not trained."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..evidence import Evidence
from ..finding import Finding, Site, short
from ..rule import rule


@rule("GT-E01", "warning", "S", "frozen, but given to the optimizer")
def frozen_in_optimizer(e: Evidence) -> Iterator[Finding]:
    """The optimizer was given parameters of which it may not move one: `requires_grad` is False. A list of everything
    (`params=model.parameters()`) is taken for what it is: those that are trainable.

    Broken:
        self.gain = gt.Parameter(np.ones(8, "f4"), requires_grad=False)
        optimizer = gt.AdamW(params=[self.gain, self.bias])

    Right:
        self.gain = gt.Parameter(np.ones(8, "f4"))
    """
    for p in e.params:
        if not p.trainable and p.group is not None and e.groups and not e.groups[p.group].everything:
            yield frozen_in_optimizer.finding(
                Site.of(p.created),
                f"{p.path} is in the optimizer, but requires no gradient",
                "it was created with requires_grad=False, or frozen",
                "requires_grad=True, or leave it out of the optimizer",
                [p.path],
            )


@rule("GT-E02", "warning", "S", "trainable, but left out of the optimizer")
def left_out(e: Evidence) -> Iterator[Finding]:
    """A gradient reaches the parameter, and no group of the optimizer holds it. Where a part of the model is meant to
    stay as it is, freeze it.

    Broken:
        optimizer = gt.AdamW(params=model.head.parameters())

    Right:
        gt.freeze(model.backbone)
        optimizer = gt.AdamW(params=model.head.parameters())
    """
    if e.groups is None or any(g.strangers for g in e.groups):
        return  # GT-E03 speaks of an optimizer that was made for something else
    unheld = [p for p in e.trainable if p.registered and p.group is None and p.omitted is None]  # or else GT-D02
    missing = [p.path for p in unheld if e.flow.reaches(p.path)]
    if not missing:
        return
    held = [p for p in e.trainable if p.group is not None and e.flow.reaches(p.path)]
    yield left_out.finding(
        Site.of(e.groups[0].created if e.groups else None),
        f"{len(missing)} trainable parameters are in no group of the optimizer"
        + ("" if held else ", which holds nothing that the loss depends on"),
        f"a gradient reaches them, and nothing moves them: {short(missing, 3)}",
        "give them to the optimizer, or gt.freeze what is not to learn",
        missing,
        severity="warning" if held else "error",
    )


@rule("GT-E03", "error", "S", "the optimizer holds parameters of something else")
def strangers(e: Evidence) -> Iterator[Finding]:
    """A group of the optimizer holds parameters that the model does not have: it was made for another model, or a part
    was replaced afterwards.

    Broken:
        optimizer = gt.SGD(params=model.parameters())
        model.head = gt.nn.Linear(64, 10)

    Right:
        model.head = gt.nn.Linear(64, 10)
        optimizer = gt.SGD(params=model.parameters())
    """
    for number, group in enumerate(e.groups or ()):
        if group.strangers:
            shapes = ", ".join(str(list(s)) for s in group.strangers[:3])
            yield strangers.finding(
                Site.of(group.created),
                f"group {number} of the optimizer holds {len(group.strangers)} parameters that are not the model's",
                f"their shapes are {shapes}; a part of the model was replaced after the optimizer was made",
                "make the optimizer last, from model.parameters()",
                [p.path for p in e.trainable if p.group is None],
            )


@rule("GT-E04", "warning", "K", "a step too small to move anything")
def lost_step(e: Evidence) -> Iterator[Finding]:
    """The learning rate is 0 at every step, or so small that adding it to a weight of this dtype changes nothing: below
    half of the spacing of float32 numbers near 1, 6e-8.

    Broken:
        optimizer = gt.AdamW(lr=1e-9)

    Right:
        optimizer = gt.AdamW(lr=1e-3)
    """
    for number, group in enumerate(e.groups or ()):
        held = [p for p in e.trainable if p.group == number and e.flow.reaches(p.path)]
        if not group.rates or not held:
            continue
        best = max(group.rates)
        if best <= 0.0:
            yield lost_step.finding(
                Site.of(group.created),
                f"the learning rate of group {number} is {best:g} at every step",
                "the update is multiplied by it",
                "a learning rate above 0, or gt.freeze the parameters",
                [p.path for p in held],
            )
            continue
        stuck = [p.path for p in held if group.kind in NORMALISED and _cannot_move(p.array, best)]
        if stuck:
            yield lost_step.finding(
                Site.of(group.created),
                f"updates of size {best:g} are below half of the spacing of the numbers in {len(stuck)} parameters",
                "they are lost in rounding: the weights stay what they are, bit for bit",
                "a larger learning rate, or dtype float64",
                stuck,
            )


NORMALISED = ("Adam", "AdamW", "Lion")  # an update is as large as the learning rate, whatever the gradient is


def _cannot_move(array: np.ndarray, rate: float) -> bool:
    """Whether an update of size `rate` is rounded away everywhere."""
    return bool(array.size) and bool(np.all(rate < 0.5 * np.spacing(np.abs(array)))) and bool(np.all(array != 0))


@rule("GT-E05", "warning", "T", "overwritten in forward")
def overwritten(e: Evidence) -> Iterator[Finding]:
    """`forward` writes into a parameter: what the optimizer did is lost, and the gradient is that of other numbers than
    those that were written. In a compiled program the line runs once, while it is traced.

    Broken:
        self.w.data[...] = normalise(self.v.data)
        return x @ self.w

    Right:
        return x @ normalise(self.v)  # computed from the parameter, as a part of the program
    """
    made_here = {p.path for p in e.params if p.in_trace}  # GT-D03
    for write in (w for w in e.crossings.writes if w.parameter not in made_here):
        read = [x for x in e.crossings.escapes if (x.file, x.line) == (write.file, write.line)]
        writes = sum(
            (w.file, w.line, w.parameter) == (write.file, write.line, write.parameter) for w in e.crossings.writes
        )
        own = sum(x.detail == write.parameter for x in read) / writes  # the write itself asks for `data` once
        yield overwritten.finding(
            Site.of(write),
            f"{write.parameter} is written to while the program is traced",
            "the new numbers do not depend on it, so the optimizer's updates are lost"
            if own < 2
            else "the write happens once, not in every step",
            "compute what is used from the parameter, or project it in the optimizer's update",
            [write.parameter],
            severity="error" if own < 2 else "warning",
        )
