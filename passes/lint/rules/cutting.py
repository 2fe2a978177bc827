"""Group B: the gradient is cut at an op."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ....ir.graph import Node, Value
from ....ir.op import OPS
from ..evidence import Evidence, WrongRule
from ..finding import Finding, Site
from ..flow import Cut, is_discrete
from ..repair import called_at
from ..returns import only_left
from ..rule import rule
from ..straight import explained_by_straight_through, straight_throughs


@rule("GT-B01", "warning", "S", "parameters behind a stop_gradient")
def leftover_stop_gradient(e: Evidence) -> Iterator[Finding]:
    """Every way from some trainable parameters to the loss runs through a stop_gradient (or detach): they stay as they
    are. Where that is meant, freeze them, or leave them out of the optimizer, and the lint is silent.

    Broken:
        features = self.backbone(x).detach()
        return self.head(features)

    Right:
        gt.freeze(self.backbone)
        features = gt.stop_gradient(self.backbone(x))
    """
    held = {p.path for p in e.trainable if e.groups is None or p.group is not None}
    for cut in e.cuts:
        if not cut.killed or not isinstance(cut.by, Node) or cut.by.op != "stop_gradient":
            continue
        if cut.target.name in e.crossings.cuts or only_left(e, cut.target):
            continue  # a no_grad block: GT-B02; or it was only detached to leave the program: GT-A01
        left_out = {p for s in straight_throughs(e) for p in s.unreached}
        for severity, names in (
            ("warning", [p for p in cut.killed if p in held and p not in left_out]),
            ("info", [p for p in cut.killed if p not in held and p not in left_out]),
        ):
            if names:
                yield leftover_stop_gradient.finding(
                    Site.of(cut.by.location),
                    "stop_gradient keeps the gradient from trainable parameters",
                    "no other way leads from them to the loss",
                    "remove it, or gt.freeze what is not to learn",
                    names,
                    severity,
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
    for cut in e.cuts:
        if cut.killed and cut.target.name in e.crossings.cuts:
            yield leftover_no_grad.finding(
                Site.of(e.crossings.cuts[cut.target.name]),
                "no_grad keeps the gradient from trainable parameters",
                "what is computed inside the block is a constant for the gradient",
                "move the block, or gt.freeze what is not to learn",
                cut.killed,
            )


@rule("GT-B07", "error", "S", "a discrete op on every path")
def discrete(e: Evidence) -> Iterator[Finding]:
    """argmax, comparisons, sorting orders, samples and casts to integers are steps: they have no derivative, and
    parameters whose every way to the loss runs through one cannot learn. As an index or a mask beside another way they
    are fine.

    Broken:
        p = gt.one_hot(gt.argmax(logits, -1), 10)
        loss = gt.mse_loss(p, y)

    Right:
        p = gt.softmax(logits, -1)
        loss = gt.mse_loss(p, y)
    """
    for cut in e.cuts:
        killed = [p for p in cut.killed if p not in explained_by_straight_through(e, cut)]
        if killed and isinstance(cut.by, Node) and is_discrete(cut):
            op = cut.by.op
            yield discrete.finding(
                Site.of(cut.by.location),
                f"{_name(cut.by)} has no gradient, and no other way leads to the loss",
                cut.reason.reason if cut.reason else "whole numbers carry no gradient",
                _SMOOTH.get(op, "a smooth form, or x + gt.stop_gradient(step(x) - x) where the step is meant"),
                killed,
            )


def _name(node: Node) -> str:
    """What the user's line calls, or else the op; of what is no call, what it is."""
    if node.op == "cast":
        return f"a cast to {node.output.type.dtype}"
    if node.op in _COMPARISONS:
        return f"a comparison ({_COMPARISONS[node.op]})"
    return called_at(Site.of(node.location)) or node.op


_COMPARISONS = {
    "less": "<", "less_equal": "<=", "greater": ">", "greater_equal": ">=", "equal": "==", "not_equal": "!=",
}  # fmt: skip
_THRESHOLD = "gt.sigmoid(x - threshold), or x + gt.stop_gradient(step(x) - x) where the step is meant"
_CHOICE = "gt.softmax(x, -1), or p + gt.stop_gradient(onehot - p) with p = gt.softmax(x, -1)"
_SMOOTH: dict[str, str] = {
    **dict.fromkeys(_COMPARISONS, _THRESHOLD),
    **dict.fromkeys(("argmax", "argmin"), _CHOICE),
    "cast": "keep it a float, or x + gt.stop_gradient(step(x) - x) where the step is meant",
}


@rule("GT-B08", "error", "S", "a derivative that is not that of its function")
def wrong_backward(e: Evidence) -> Iterator[Finding]:
    """The derivative given to `gt.custom_vjp` or `gt.callback` is compared with finite differences when it is first
    used; the lint compares those of all ops, where a gradient of the program disagrees with differences. What a
    backward says None for has no gradient at all.

    Broken:
        def backward(saved, g):
            return g * saved, None  # the bias

    Right:
        def backward(saved, g):
            return g * saved, gt.sum(g, 0)
    """
    trainable = {p.path for p in e.trainable}
    noticed = [(m.op, m.file, m.line, m.operand, _off(m.backward, m.differences)) for m in e.crossings.mismatches]
    told = {m[:4] for m in noticed}
    given_none = [c for c in e.cuts if _is_given_none(c)]
    measured = [(w.op, s.file, s.line, w.operand, w.error) for w in _wrong(e) if (s := Site.of(w.at))]
    for op, file, line, number, error in (*noticed, *(m for m in measured if m[:4] not in told)):
        nodes = [n for n in e.flow.graph.nodes if n.op == op and _is_at(n, file, line)]
        sources = [n.inputs[number - 1] for n in nodes if number <= len(n.inputs)]
        fed = [p for s in sources if isinstance(s, Value) for p in e.flow.would_feed(s) if p in trainable]
        if fed and not any(c.source in sources for c in given_none):
            own = next((n.attrs["name" if op == "custom_vjp" else "function"] for n in nodes if op in OWN), "")
            yield wrong_backward.finding(
                Site.of(nodes[0].location),
                f"the derivative of {own or op} is not that of its forward",
                f"argument {number} is off by {100 * error:.2g} % of finite differences",
                "the derivative of what forward computes"
                + (", or surrogate=True where another is meant" if op == "custom_vjp" else "")
                if own
                else f"the derivative of this very formula: {OPS[op].formula}",
                fed,
            )
    for cut in given_none:
        if cut.killed and isinstance(cut.by, Node):
            name = cut.by.attrs.get("name", "the function")
            yield wrong_backward.finding(
                Site.of(cut.by.location),
                f"the backward of {name} gives no gradient for argument {_slot(cut)}",
                "None says that the result does not depend on it, and no other way leads to the loss",
                f"return the gradient of argument {_slot(cut)} too",
                cut.killed,
            )


def _is_given_none(cut: Cut) -> bool:
    return isinstance(cut.by, Node) and cut.by.op == "custom_vjp" and cut.source.type.is_float


OWN = ("custom_vjp", "callback")  # ops whose derivative is the user's


def _wrong(e: Evidence) -> Sequence[WrongRule]:
    return e.probe.wrong if e.probe else ()


def _off(backward: float, differences: float) -> float:
    return abs(backward - differences) / max(abs(backward), abs(differences), 1e-12)


def _is_at(node: Node, file: str, line: int) -> bool:
    return node.location is not None and (node.location.file, node.location.line) == (file, line)


@rule("GT-B09", "error", "S", "an argument that carries no gradient")
def one_sided(e: Evidence) -> Iterator[Finding]:
    """An op may be differentiable in some of its arguments alone. Losses are not like that here: `gt.mse_loss(y, pred)`
    has the same gradient as `gt.mse_loss(pred, y)`.

    Broken:
        y = op_of_one_side(table, h @ w)

    Right:
        y = op_of_one_side(h @ w, table)
    """
    for cut in e.cuts:
        if not cut.killed or not isinstance(cut.by, Node) or not cut.source.type.is_float:
            continue
        if OPS[cut.by.op].nondiff is None and cut.target.type.is_float and cut.by.op not in ("custom_vjp", "callback"):
            yield one_sided.finding(
                Site.of(cut.by.location),
                f"{cut.by.op} has no gradient for argument {_slot(cut)}",
                "no other way leads to the loss",
                "another argument order, or another op",
                cut.killed,
            )


def _slot(cut: Cut) -> int:
    assert isinstance(cut.by, Node)
    return next((i for i, o in enumerate(cut.by.inputs, 1) if o is cut.source), 0)
