"""Group H: the loss and the optimizer are not used as they are meant."""

from __future__ import annotations

from collections.abc import Iterator

from ....ir.graph import Graph, Node, Operand, Value
from ....ir.location import Location
from ..evidence import LOOKS, Evidence
from ..finding import Finding, Site, counted
from ..pairing import pairings
from ..probabilities import squashed_twice
from ..ranges import ranges
from ..report import shown_path
from ..rule import rule
from ..same import Same


@rule("GT-H01", "warning", "K", "a softmax or sigmoid too many")
def squashed(e: Evidence) -> Iterator[Finding]:
    """cross_entropy and binary_cross_entropy_with_logits take logits and apply softmax or sigmoid themselves. Given
    probabilities, they see numbers between 0 and 1 only: the loss has a floor far from 0 (1.46 for 10 classes), and the
    gradient is small. log_softmax of log_softmax changes nothing, and is not meant.

    Broken:
        loss = gt.cross_entropy(gt.softmax(out, -1), target)

    Right:
        loss = gt.cross_entropy(out, target)
    """
    for found in squashed_twice(e):
        if found.loss:
            message = f"{found.loss} takes logits, and gets what {found.name} has made of them"
            why = f"{found.loss}{_at(found.second)} applies {found.again} itself"
        else:
            message = f"{found.again} is applied to what {found.name} has made"
            why = f"the {found.again}{_at(found.second)} takes logits, and sees numbers between 0 and 1"
        yield squashed.finding(
            Site.of(found.first.location), message, why, f"give it the logits, without {found.name}", found.parameters
        )


def _at(node: Node) -> str:
    where = Site.of(node.location)
    return f" at {shown_path(where.file)}:{where.line}" if where else ""


@rule("GT-H02", "error", "K", "prediction and target broadcast against each other")
def broadcast(e: Evidence) -> Iterator[Finding]:
    """(N, 1) and (N,) broadcast to (N, N): every prediction is compared with every target, and the best that the model
    can do is to predict their mean. All gradients are finite and nonzero. Losses over all pairs on purpose say so by a
    new axis (`pred[:, None] - y[None, :]`), and are not meant.

    Broken:
        loss = ((pred - y) ** 2).mean()  # pred: (N, 1), y: (N,)

    Right:
        loss = ((pred[:, 0] - y) ** 2).mean()
    """
    for found in pairings(e):
        yield broadcast.finding(
            Site.of(found.node.location),
            f"{found.prediction} and {found.target} broadcast to {found.result}: every prediction meets every target",
            "prediction and target have their axes in different places, and both are repeated",
            "shapes that agree: pred[:, 0] for (N, 1), or y[:, None] for (N,)",
            found.parameters,
            severity="warning" if found.reshaped else "error",
        )


@rule("GT-H03", "error", "SR", "an update that is never applied")
def never_applied(e: Evidence) -> Iterator[Finding]:
    """A step of gradtape is one program: it cannot be left out, come too late, or use gradients that were cleared. But
    an update function can give back the parameter as it was, or compute the new one without the gradient.
    `step.watch()` also tells of parameters that have a gradient and stay the same, bit for bit, for whatever reason.

    Broken:
        def update(param, grad, state, scalars):
            param - scalars["lr"] * grad
            return param, state

    Right:
        def update(param, grad, state, scalars):
            return param - scalars["lr"] * grad, state
    """
    if e.watched is not None:
        yield from _unmoved(e)
        return
    for group in e.groups or ():
        judged = [(paths, _without_gradient(graph)) for paths, graph in group.updates]
        for paths, why in judged:
            if why is not None:
                message, location = why
                yield never_applied.finding(
                    Site.of(location or group.returns or group.created),
                    message,
                    "the optimizer's update does not use the gradient",
                    "return the new parameter, computed from grad; gt.freeze what is not to learn",
                    paths,
                    severity="error" if all(w is not None for _, w in judged) else "warning",
                )


def _unmoved(e: Evidence) -> Iterator[Finding]:
    """Parameters of the optimizer that have a gradient and do not move."""
    stuck = [
        p.path
        for p in e.trainable
        if p.group is not None
        and e.watched is not None
        and e.watched.still.get(p.path, 0) >= LOOKS - 1
        and all(e.watched.gradients.get(p.path, (0.0,)))
    ]
    if stuck:
        yield never_applied.finding(
            Site.of(e.groups[0].created if e.groups else None),
            f"{counted(stuck)} with a gradient {'do' if len(stuck) > 1 else 'does'} not move",
            f"they were the same, bit for bit, in {LOOKS} looks in a row",
            "an update that gives the new parameter back; a learning rate that their numbers can feel",
            stuck,
        )


def _without_gradient(graph: Graph) -> tuple[str, Location | None] | None:
    """What is wrong with an update whose new parameter depends on no gradient, and where; None where it does, also by
    way of the state and a step later."""
    same = Same(graph)
    found, outputs = ranges(graph, same), dict(graph.outputs)
    grad, producer = graph.input("grad"), graph.producers()

    def read(operand: Operand) -> set[str]:
        """The inputs that something depends on, but for what is multiplied by zero."""
        seen, stack = set(), [operand]
        while stack:
            value = stack.pop()
            if isinstance(value, Value) and value not in seen and not found[value].is_constant:
                seen.add(value)
                stack += producer[value].inputs if value in producer else ()
        return {v.name for v in seen if v.name in graph.roles}

    reached = read(outputs["param"])
    while more := {n for s in reached if s.startswith("state.") and s in outputs for n in read(outputs[s])} - reached:
        reached |= more
    if grad.name in reached:
        return None
    new = outputs["param"]
    if same.of(new) is graph.input("param"):
        return "the update returns the parameter as it was", None
    made = producer.get(new) if isinstance(new, Value) else None
    return "the new parameter does not depend on the gradient", made.location if made else None
