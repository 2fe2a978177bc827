"""Group C: the gradient is zero by mathematics."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from ....ir.graph import Literal, Node, Operand, Value
from ....ir.op import OPS
from ..evidence import Evidence
from ..finding import Finding, Site, short
from ..flow import Cut, is_discrete
from ..intervals import ZERO
from ..masks import empty_rows
from ..patterns import average_of_one, invariant_axes
from ..proofs import Lost
from ..report import shown_path, source
from ..rule import rule
from ..same import reduced_axes
from ..straight import explained_by_straight_through


# factors --------------------------------------------------------------------------------------------------------
@rule("GT-C01", "warning", "K", "multiplied by zero")
def times_zero(e: Evidence) -> Iterator[Finding]:
    """The only contribution of some parameters is multiplied by a constant 0: a weight of 0 in front of a loss term,
    dropout with p = 1. A factor that is an argument of the step is another number in other steps, and is not meant.

    Broken:
        loss = error + 0.0 * (self.gate ** 2).sum()

    Right:
        loss = error + 1e-4 * (self.gate ** 2).sum()
    """
    for lost in e.proofs.lost("factor"):
        if not _masks(e, lost):
            power = lost.node.op == "pow"
            yield times_zero.finding(
                Site.of(lost.node.location),
                "raised to the power 0, which is 1 whatever it is" if power else "multiplied by 0",
                "the exponent is a constant of the program" if power else "the factor is 0 for all inputs",
                "another exponent" if power else "leave the term out, or pass the factor as an argument of the step",
                lost.killed,
            )


@rule("GT-C09", "error", "K", "a mask that removes everything")
def empty_mask(e: Evidence) -> Iterator[Finding]:
    """A mask that is part of the program selects nothing: a mean over no elements is 0 / 0, and a softmax over a row of
    -inf alone is NaN. A mask that is computed from the data is checked when the program runs: a loss that is not
    finite stops the step before anything is updated.

    Broken:
        visible = gt.tril(np.ones((T, T), "f4"), -1) > 0  # nothing is left of the first row
        p = gt.softmax(gt.where(visible, scores, -np.inf), -1)

    Right:
        visible = gt.tril(np.ones((T, T), "f4")) > 0
        p = gt.softmax(gt.where(visible, scores, -np.inf), -1)
    """
    found = ((n, empty_rows(n, e.proofs.removed, e.proofs.same)) for n in e.flow.graph.nodes)
    empty = [(node, rows) for node, rows in found if rows is not None and node.output in e.flow.alive]
    told = {v for node, _ in empty for v in e.flow.ancestors(node.output)}
    for lost in e.proofs.lost("factor", "mask"):
        if _masks(e, lost) and lost.node.output not in told:
            yield empty_mask.finding(
                Site.of(lost.node.location),
                "the mask removes every element",
                "it is a constant of the program, and selects nothing",
                "the other half of the mask (~mask, 1 - mask), or a mask that is computed from the inputs",
                lost.killed,
            )
    spoiled: set[Value] = set()  # what is computed from a NaN: told once
    for node, (count, rows) in empty:
        if node.output in spoiled:
            continue
        spoiled |= e.flow.descendants(node.output)
        yield empty_mask.finding(
            Site.of(node.location),
            f"{count} of {rows} rows have every element masked: their softmax is NaN",
            "e**-inf is 0, and 0 / 0 is NaN; so are the loss and all gradients",
            "leave at least one element in each row (a causal mask keeps its diagonal), or mask with -1e9",
            [p.path for p in e.trainable if e.flow.reaches(p.path)],
        )


def _masks(e: Evidence, lost: Lost) -> bool:
    """Whether parameters are lost by a constant mask: the condition of a `where` that puts constants in their place, or
    a 0 that is made of bools or that the result is divided by."""
    node, i = lost.edges[0]
    if node.op == "where":
        other = node.inputs[3 - i]
        replaced = isinstance(other, Value) and e.flow.feeding(other)
        return _is_static(e, node.inputs[0]) and not replaced
    factor = next((o for o in node.inputs if e.proofs.range_of(o) == ZERO and isinstance(o, Value)), None)
    if node.op != "mul" or factor is None or not _is_static(e, factor):
        return False
    made_of_bools = any(v.type.dtype == "bool" for v in e.flow.ancestors(factor))
    return made_of_bools or _divided_by_zero(e, node)


def _divided_by_zero(e: Evidence, node: Node) -> bool:
    below = e.flow.descendants(node.output)
    return any(
        n.op == "div" and e.proofs.range_of(n.inputs[1]) == ZERO and below.intersection(n.values())
        for n in e.flow.graph.nodes
    )


def _is_static(e: Evidence, operand: Operand) -> bool:
    """Whether no input of the program takes part in it."""
    return isinstance(operand, Value) and not any(v.name in e.graph.roles for v in e.flow.ancestors(operand))


# invariances ----------------------------------------------------------------------------------------------------
@rule("GT-C03", "info", "K", "a shift that is taken away again")
def shift(e: Evidence) -> Iterator[Finding]:
    """What is added to a whole row of scores does not change their softmax, and what is added to a whole channel is
    subtracted by batch_norm: such a bias has no gradient but for rounding noise. In front of layer_norm and group_norm
    a bias per channel does learn.

    Broken:
        self.key = gt.nn.Linear(64, 64)  # the key's bias shifts whole rows of scores

    Right:
        self.key = gt.nn.Linear(64, 64, bias=False)
    """
    for lost in e.proofs.lost("shift"):
        by = e.proofs.edges[lost.edges[0]].by
        assert by is not None
        yield shift.finding(
            Site.of(lost.node.location),
            f"zero by {_named(by)}'s shift invariance",
            f"it adds the same to everything that {_named(by)} at {_place(by)} compares, and that is taken away again",
            "leave it out (bias=False): nothing changes",
            lost.killed,
        )
    parts: dict[tuple, list[str]] = {}
    for value, rows in e.proofs.vanishing.rows.items():
        for s in rows:
            if e.graph.roles[value.name] == "param" and s.rows is not None:
                site = Site.of(s.by.location)
                parts.setdefault((site.file, site.line, _named(s.by), s.rows), []).append(value.name)
    for (file, line, name, (axis, start, stop)), found in parts.items():
        yield shift.finding(
            Site(file, line),
            f"{'rows' if axis == 0 else 'columns'} {start} to {stop - 1} of {short(found)} are zero by {name}'s shift "
            "invariance",
            "they add the same to everything that is compared, and that is taken away again; the others learn",
            "nothing: it does no harm",
        )


def _named(node: Node) -> str:
    if node.op == "layer_norm":
        return "batch_norm" if 0 in (invariant_axes(node) or ()) else "the normalisation"
    names = {"nll_from_logits": "cross_entropy", "cross_entropy_from_logits": "cross_entropy"}
    return {**names, "sub": "the subtracted mean", "div": "softmax", "mul": "softmax"}.get(node.op, node.op)


def _place(node: Node) -> str:
    where = Site.of(node.location)
    return f"{shown_path(where.file)}:{where.line}" if where else "this program"


@rule("GT-C04", "error", "K", "normalised over an axis of size 1")
def one_element(e: Evidence) -> Iterator[Finding]:
    """A softmax over one element is 1, and one element minus its mean is 0, whatever it is. Where the size comes from
    an input (a batch of one example), this is said of this batch alone.

    Broken:
        gate = gt.softmax(x @ self.w, -1)  # w: (64, 1)

    Right:
        gate = gt.sigmoid(x @ self.w)
    """
    for lost in e.proofs.lost("single"):
        node = lost.node
        average = average_of_one(e.proofs.same, node) if node.op in ("sub", "div") else None
        axes = invariant_axes(node) if average is None else reduced_axes(average.attrs)
        of_data = any(e.proofs.sizes.is_of_data((average or node).inputs[0], a) for a in axes or ())
        score = node.op in ("softmax", "log_softmax", "nll_from_logits")
        constant = e.proofs.ranges[node.output]
        fixes = {
            "nll_from_logits": "gt.binary_cross_entropy_with_logits for one logit, or one logit for each class",
            "softmax": "gt.sigmoid for one score, or the axis that holds the alternatives",
            "log_softmax": "-gt.softplus(-x) for one score, or the axis that holds the alternatives",
        }
        names = {"nll_from_logits": "cross_entropy", "sub": "x - mean(x)", "div": "x / sum(x)"}
        yield one_element.finding(
            Site.of(node.location),
            f"{names.get(node.op, node.op)} over an axis of size 1 is the constant {constant}",
            f"there is nothing that the one element could be compared with{' in this batch' if of_data else ''}",
            fixes.get(node.op, "the axis that holds the features, or no normalisation here"),
            lost.killed,
            severity="error" if not of_data else "info" if score else "warning",
        )


@rule("GT-C05", "error", "K", "a sum that does not depend on what is summed")
def cancelled(e: Evidence) -> Iterator[Finding]:
    """The sum of a softmax is 1 and the mean of what is normalised is 0, whatever goes in; x - x is 0. A loss that is
    such a sum teaches nothing.

    Broken:
        loss = gt.softmax(logits, -1).sum()

    Right:
        loss = gt.cross_entropy(logits, target)
    """
    learns = any(e.proofs.flow.reaches(p.path) for p in e.trainable)
    severity = "warning" if learns else "error"
    for lost in e.proofs.lost("summed", "equal"):
        node = lost.node
        if lost.kind == "equal":
            known = node.op in ("sub", "div")
            yield cancelled.finding(
                Site.of(node.location),
                f"x {'-' if node.op == 'sub' else '/'} x is {0 if node.op == 'sub' else 1}, whatever x is"
                if known
                else "x - stop_gradient(x) is 0, and so is every derivative with it as a factor",
                "both operands are the same value",
                "compare it with the target",
                lost.killed,
                severity=severity,
            )
            continue
        total = _summed_by(e, node) or node
        normalised = node.op in ("layer_norm", "sub")
        yield cancelled.finding(
            Site.of(total.location),
            f"the {total.op} of {'what is normalised' if normalised else 'a softmax'} does not depend on what goes in",
            f"what comes from {_place(node)} sums to {0 if normalised else 1}, whatever it is made of",
            "a loss that compares with a target; to try a gradient, gt.sum(out * random)",
            lost.killed,
            severity=severity,
        )


def _summed_by(e: Evidence, node: Node) -> Node | None:
    """The first sum or mean below `node`."""
    below = e.flow.descendants(node.output)
    order = (n for n in e.flow.graph.nodes if n.op in ("sum", "mean") and below.intersection(n.values()))
    return next((n for n in order if n.output in e.flow.alive), None)


# ranges ---------------------------------------------------------------------------------------------------------
@rule("GT-C06", "error", "K", "saturated for every input")
def saturated(e: Evidence) -> Iterator[Finding]:
    """The range of what goes in proves that the result is one number, or that the other branch is taken, always.

    Broken:
        y = gt.clip(gt.sigmoid(z), 2.0, 3.0)  # a sigmoid lies in [0, 1]: y is 2

    Right:
        y = gt.clip(gt.sigmoid(z), 0.2, 0.8)
    """
    for lost in e.proofs.lost("saturated", "mask"):
        node = lost.node
        if node.op == "where":
            if _masks(e, lost):
                continue  # GT-C09
            static = _is_static(e, node.inputs[0])
            yield saturated.finding(
                Site.of(node.location),
                f"the condition {'never' if lost.edges[0][1] == 1 else 'always'} holds",
                "it is a constant of the program" if static else "the ranges of what it compares prove it",
                "leave out the branch that is never taken" if static else "another bound",
                lost.killed,
                severity="warning" if static else "error",
            )
            continue
        operand = node.inputs[lost.edges[0][1]]
        yield saturated.finding(
            Site.of(node.location),
            f"{node.op} {_outcome(e, node)}",
            f"its operand lies in {e.proofs.range_of(operand)}",
            "bounds inside of that range, or another function",
            lost.killed,
        )


def _outcome(e: Evidence, node: Node) -> str:
    found = e.proofs.ranges[node.output]
    if found.is_constant:
        return f"is always {found}"
    numbers = [o.value for o in node.inputs if isinstance(o, Literal)]
    return f"always takes {numbers[0]:g}" if numbers else "always takes the other operand"


@rule("GT-C07", "error", "S", "a step function on every path")
def piecewise_constant(e: Evidence) -> Iterator[Finding]:
    """round, floor and sign are flat: their derivative is 0 everywhere, and what feeds them learns nothing.

    Broken:
        loss = gt.mean((np.rint(z) - y) ** 2)

    Right:
        loss = gt.mean((z + gt.stop_gradient(np.rint(z) - z) - y) ** 2)
    """
    for cut in e.cuts:
        killed = [p for p in cut.killed if p not in explained_by_straight_through(e, cut)]
        flat = isinstance(cut.by, Node) and cut.reason is not None and cut.reason.kind == "zero almost everywhere"
        if killed and flat and isinstance(cut.by, Node) and cut.target.type.is_float and not _then_discrete(e, cut):
            yield piecewise_constant.finding(
                Site.of(cut.by.location),
                f"{cut.by.op} has derivative 0, and no other way leads to the loss",
                cut.reason.reason if cut.reason else OPS[cut.by.op].formula,
                "x + gt.stop_gradient(step(x) - x), which passes the gradient straight through",
                killed,
            )
    for lost in e.proofs.lost("step"):
        yield piecewise_constant.finding(
            Site.of(lost.node.location),
            "x - x % y has derivative 0, and no other way leads to the loss",
            "it is constant but for its jumps",
            "x + gt.stop_gradient(step(x) - x), which passes the gradient straight through",
            lost.killed,
        )


def _then_discrete(e: Evidence, cut: Cut) -> bool:
    """Whether the same line makes whole numbers of it: round(x).astype(int). GT-B07 speaks of that."""

    def place(c: Cut) -> tuple[str, int]:
        site = Site.of(c.by.location) if isinstance(c.by, Node) else Site()
        return site.file, site.line

    others = (c for c in e.cuts if isinstance(c.by, Node) and not c.target.type.is_float and is_discrete(c))
    return any(place(c) == place(cut) and set(c.killed) >= set(cut.killed) for c in others)


# rows -----------------------------------------------------------------------------------------------------------
@rule("GT-C08", "warning", "K", "rows that are never read")
def unread(e: Evidence) -> Iterator[Finding]:
    """A parameter is read by slices alone, and they leave some of its rows out in every step. Where a size of the data
    decides (`table[:T]`) or rows of a result are dropped later on, this is an info.

    Broken:
        h = x @ self.w[:, :4]  # w has 8 columns

    Right:
        self.w = gt.Parameter(init(64, 4))
    """
    for found in e.proofs.unread:
        if found.name not in e.proofs.trainable:
            continue
        site = Site.of(found.node.location if found.node is not None else None)
        fixed = found.direct and _has_fixed_bounds(source(site))
        size = e.proofs.arrays[found.name].shape[found.axis]
        more = f" (and {found.count - found.stop + found.start} more)" if found.count > found.stop - found.start else ""
        rows = "rows" if found.axis == 0 else "columns" if found.axis == 1 else f"indices of axis {found.axis}"
        yield unread.finding(
            site,
            f"{rows} {found.start} to {found.stop - 1}{more} of the {size} of {found.name} are never read",
            "every reader takes others" + ("" if fixed else ", for the sizes of this trace"),
            f"a parameter of {size - found.count} {rows}" if fixed else "nothing, where other sizes follow",
            [found.name] if fixed else [],
            severity="warning" if fixed else "info",
        )


def _has_fixed_bounds(line: str) -> bool:
    """Whether all that is indexed on a line is indexed by numbers that stand there: `w[:, :4]`, not `w[:T]`."""
    try:
        tree = ast.parse(line)
    except SyntaxError:  # a part of a statement
        return False
    keys: list[ast.expr] = [n.slice for n in ast.walk(tree) if isinstance(n, ast.Subscript)]
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call)]
    keys += [a for n in calls if ast.unparse(n.func).endswith(("split", "chunk")) for a in n.args[1:]]
    names = (ast.Name, ast.Attribute, ast.Call)
    return bool(keys) and not any(isinstance(n, names) for key in keys for n in ast.walk(key))
