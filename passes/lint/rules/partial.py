"""Group B: the gradient is there, and wrong: a part of it is missing, or it is another's."""

from __future__ import annotations

from collections.abc import Iterator

from ..breaks import breaks
from ..evidence import Evidence
from ..finding import Finding, Site, short
from ..repair import without_exits
from ..returns import Return
from ..rule import rule
from ..straight import cancelled, straight_throughs

WRONG = 1e-3  # relative error against finite differences from which on a gradient counts as wrong


@rule("GT-B03", "warning", "T", "a part of the gradient is missing")
def partial_cut(e: Evidence) -> Iterator[Finding]:
    """One of several ways to the loss is cut by a constant made of raw data. Every gradient is there and none is zero,
    but they point in another direction. Where the loss does not change with the constant (the maximum that softmax
    subtracts), nothing is missing.

    Broken:
        std = np.sqrt(var.data + eps)
        return (x - mean) / std

    Right:
        std = gt.sqrt(var + eps)
        return (x - mean) / std
    """
    for r in breaks(e, "GT-B03"):
        error = _measured(e, r)
        if error is not None and error <= WRONG:
            continue
        measured = "" if error is None else f" (by {100 * error:.2g} % of finite differences)"
        yield partial_cut.finding(
            r.site,
            f"the gradient is there, but wrong{measured}: the share that goes through this constant is missing",
            "it was made of raw data; other ways to the loss remain, so no gradient is zero",
            without_exits(r.escape) or without_exits(r.site) or "the same without raw data",
            r.partial,
            "warning" if error is None else "error",
            escape=r.escape,
        )


def _measured(e: Evidence, r: Return) -> float | None:
    """The greatest relative error of these gradients; None where none was measured."""
    found = [e.probe.gradients[p].error for p in r.partial if p in e.probe.gradients] if e.probe else []
    return max(found, default=None)


@rule("GT-B04", "error", "T", "a dead branch beside a live one")
def dead_branch(e: Evidence) -> Iterator[Finding]:
    """The branch of a residual connection is added as a constant. What lies above gets its gradient through the skip
    and looks healthy; the parameters of the branch itself get none.

    Broken:
        x = x + gt.tensor(self.attn(x).data)

    Right:
        x = x + self.attn(x)
    """
    for r in breaks(e, "GT-B04"):
        yield dead_branch.finding(
            r.site,
            "the branch that is added here is a constant: its parameters get no gradient",
            "it was made of raw data; what lies above learns through the skip connection, and hides it",
            without_exits(r.escape) or without_exits(r.site) or "the same without raw data",
            r.killed,
            escape=r.escape,
        )


@rule("GT-B05", "error", "T", "a constant with a small proxy beside it")
def blended(e: Evidence) -> Iterator[Finding]:
    """A value computed outside of the program is added to a small share of a stand-in, so that all parameters get a
    gradient: it is the gradient of the stand-in.

    Broken:
        out = gt.tensor(attention(q.data, k.data, v.data)) * 0.9999 + (q + k + v) * 1e-4

    Right:
        out = gt.scaled_dot_product_attention(q, k, v)
    """
    for r in breaks(e, "GT-B05"):
        yield blended.finding(
            r.site,
            "nearly all of this value is a constant; its gradient is that of a small stand-in beside it",
            "the parameters get a gradient, but not that of what is computed",
            "compute it with gt or NumPy functions on traced values, and leave the stand-in out",
            (*r.killed, *r.partial),
            escape=r.escape,
        )


@rule("GT-B06", "error", "S", "a straight-through estimator that does not do what it is for")
def straight_through(e: Evidence) -> Iterator[Finding]:
    """`x + stop_gradient(q - x)` has the value of q and the gradient of x. Then q itself gets no gradient: a codebook
    needs a loss of its own. The other way round, nothing is quantised; and `x` minus this sum has no gradient at all.

    Broken:
        zq = x + gt.stop_gradient(q - x)
        codebook_loss = gt.mse_loss(zq, gt.stop_gradient(x))

    Right:
        zq = x + gt.stop_gradient(q - x)
        codebook_loss = gt.mse_loss(q, gt.stop_gradient(x))
    """
    for s in straight_throughs(e):
        if s.reversed:
            yield straight_through.finding(
                Site.of(s.sum.location),
                "a straight-through estimator the wrong way round: its value is that before the step",
                "the value is what stands in stop_gradient with a plus, the gradient goes to what stands outside",
                "x + gt.stop_gradient(q - x), with x before the step and q after it",
                s.unreached or [p for p in e.flow.parameters_of(s.shown) if _is_trainable(e, p)],
            )
        else:
            yield straight_through.finding(
                Site.of(s.stops[0].location),
                "these parameters stand inside stop_gradient only",
                "the straight-through estimator gives the gradient of what it is computed from, not of the parameters",
                "a loss on the quantised value itself: gt.mse_loss(q, gt.stop_gradient(x))",
                s.unreached,
            )
    for c in cancelled(e):
        yield straight_through.finding(
            Site.of(c.sum.location),
            "a value and its own straight-through cancel: the difference has no gradient",
            "the one has the gradient 1, the other -1",
            f"x - gt.stop_gradient(zq), which keeps the gradient of x ({short(c.parameters, 1)})",
            c.parameters,
            "warning",
        )


def _is_trainable(e: Evidence, path: str) -> bool:
    return any(p.path == path for p in e.trainable)
