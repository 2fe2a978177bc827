"""Group A: the value leaves the trace."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ....ir.graph import Node, Value
from ....ir.op import OPS
from ..breaks import breaks
from ..evidence import Evidence
from ..finding import NOWHERE, Finding, Site, short
from ..flow import is_opaque
from ..repair import without_exits
from ..returns import Return
from ..rule import Rule, rule


@rule("GT-A01", "error", "T", "an array that was rebuilt from raw data")
def rewrapped(e: Evidence) -> Iterator[Finding]:
    """`x.data`, `x.numpy()` and `np.asarray(x)` hand out plain numbers. What is made of them is a constant of the
    program: no gradient goes through it, and the compiled program keeps the numbers of the first call.

    Broken:
        h = gt.tensor(h.data.reshape(n, -1))

    Right:
        h = h.reshape(n, -1)
    """
    for r in breaks(e, "GT-A01"):
        yield _finding(rewrapped, r, "an array was rebuilt from raw data", _rewritten(r) or "the same without raw data")


@rule("GT-A02", "error", "T", "a function that has no traced form")
def foreign(e: Evidence) -> Iterator[Finding]:
    """NumPy's functions are traced where an op does the same. One that is not, and any of another library, gets a plain
    array, and what it returns is a constant.

    Broken:
        u = scipy.linalg.expm(self.w)

    Right:
        u = gt.callback(scipy.linalg.expm, self.w, vjp=expm_vjp)
    """
    for r in breaks(e, "GT-A02"):
        names = r.functions
        known = [n.rpartition(".")[2] for n in names if _TRACED.get(n.rpartition(".")[2], n.rpartition(".")[2]) in OPS]
        fix = f"gt.{_TRACED.get(known[0], known[0])}" if known else "gt.callback(f, x, vjp=...), or a form made of ops"
        verb = "have" if len(names) > 1 else "has"
        yield _finding(foreign, r, f"{short(names)} {verb} no traced form: the result is a constant", fix)


# functions of libraries by the names of the ops that do the same
_TRACED = {"expit": "sigmoid", "log_expit": "log_sigmoid", "rel_entr": "kl_div", "cumsum": "cumsum"}


@rule("GT-A03", "error", "T", "a Python number that comes back")
def scalar(e: Evidence) -> Iterator[Finding]:
    """`float(x)`, `x.item()` and `x.tolist()` make Python numbers, which have no history. Printing and logging them is
    fine; in a formula that reaches the loss they are constants.

    Broken:
        s = float(norm(h))
        y = v / s

    Right:
        y = v / norm(h)
    """
    for r in breaks(e, "GT-A03"):
        kinds = list(dict.fromkeys(_EXITS.get(x.kind, x.kind) for x in r.escapes))
        fact = f"{short(kinds)} turned a traced value into a constant" if kinds else "this number is a constant"
        if r.kind == "choice":
            fact = "an index, a size or a branch was chosen by the number behind a traced value"
        yield _finding(scalar, r, fact, _rewritten(r) or "keep it traced, as an array without axes")


_EXITS = {"float": "float()", "int": "int()", "item": ".item()", "index": "an index", "tolist": ".tolist()"}
_EXITS["format"] = "formatting"


@rule("GT-A04", "error", "T", "a plain buffer that is filled element by element")
def filled(e: Evidence) -> Iterator[Finding]:
    """Assigning to an element of a NumPy array takes the number and leaves the rest. The array is a constant when it
    comes back.

    Broken:
        out = np.zeros((n, m))
        for i in range(n):
            out[i] = x[i] @ w

    Right:
        out = gt.stack([x[i] @ w for i in range(n)])  # or x @ w
    """
    for r in breaks(e, "GT-A04"):
        here = [x for x in e.crossings.escapes if (x.file, x.line) == (r.site.file, r.site.line)]
        name = r.escapes[0].detail.removesuffix("[...] = ")
        times = "once" if len(here) == 1 else f"{len(here)} times"
        fact = f"traced values were written into the plain array {name}, {times}"
        fix = f"{name} = gt.stack([...]) of the parts, or one expression for all"
        yield _finding(filled, r, fact, fix, "what is written into a NumPy array is a number without history")


@rule("GT-A05", "error", "S", "a callback without a backward rule")
def opaque(e: Evidence) -> Iterator[Finding]:
    """`gt.callback` runs Python that nothing looks into: it has the derivative that it is given, or none. A result that
    is only an index or a mask needs none.

    Broken:
        y = gt.callback(scipy.special.j0, x)

    Right:
        y = gt.callback(scipy.special.j0, x, vjp=lambda g, y, x: -g * scipy.special.j1(x))
    """
    for cut in e.cuts:
        if isinstance(cut.by, Node) and is_opaque(cut) and cut.target in e.flow.alive:  # a gradient comes, and ends
            yield opaque.finding(
                Site.of(cut.by.location),
                f"the callback {cut.by.attrs['function']} has no vjp",
                "nothing is known of opaque Python but what it returns",
                "gt.callback(f, x, vjp=...), or gt.stop_gradient(gt.callback(f, x)) where the cut is meant",
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
    for cut in e.cuts:
        if cut.killed and isinstance(cut.by, Node) and cut.reason and cut.reason.kind == "not written yet":
            yield no_rule.finding(
                Site.of(cut.by.location),
                f"{cut.by.op} has no derivative",
                cut.reason.reason or f"the derivative of {OPS[cut.by.op].formula} is not written",
                "gt.custom_vjp(forward, backward), or another op",
                cut.killed,
            )


@rule("GT-A07", "error", "T", "a constant that says it requires a gradient")
def false_leaf(e: Evidence) -> Iterator[Finding]:
    """`requires_grad=True` on an array made of raw data looks like a repair, and satisfies whoever asks the flag. The
    array is a constant all the same: its gradient belongs to nothing that is trained.

    Broken:
        std = gt.tensor(np.sqrt(var.data + eps), requires_grad=True)

    Right:
        std = gt.sqrt(var + eps)
    """
    for r in breaks(e, "GT-A07"):
        fact = "an array made of raw data says requires_grad=True, and is a constant"
        why = "the flag makes a new leaf, whose gradient nobody reads; what it was computed from gets none"
        yield _finding(false_leaf, r, fact, _rewritten(r) or "the same without raw data", why)
    explained = {(r.site.file, r.site.line) for r in breaks(e, "GT-A07")}
    for leaf in e.crossings.leaves:
        known = (leaf.file, leaf.line) in explained or not leaf.requires_grad
        if known or not isinstance(leaf.operand, Value) or leaf.operand not in e.flow.needed:
            continue
        if leaf.operand in e.flow.returns:
            continue
        yield false_leaf.finding(
            Site.of(leaf),
            "an array that is made in forward says requires_grad=True, and is a constant",
            "no optimizer holds it, and the next call makes another",
            "a gt.Parameter in __init__ if it is to learn, gt.tensor(...) without the flag if not",
            severity="warning",
        )


@rule("GT-A08", "error", "T", "a loss that depends on no parameter")
def loss_off_the_graph(e: Evidence) -> Iterator[Finding]:
    """The loss was computed from raw values: the graph of the model ends before it, and no parameter gets a gradient.

    Broken:
        loss = gt.tensor(np.mean((pred.data - y) ** 2))

    Right:
        loss = gt.mean((pred - y) ** 2)
    """
    made_of_raw = breaks(e, "GT-A08")
    for r in made_of_raw:
        fix = _rewritten(r) or "compute the loss from the model's output itself, with gt or NumPy functions"
        yield loss_off_the_graph.finding(
            r.site,
            "the loss depends on no parameter",
            "it was built from values that had left the program",
            fix,
            [p.path for p in e.trainable],
            escape=r.escape,
        )
    if made_of_raw or e.loss is None or not e.trainable or len(e.dead) < len(e.trainable):
        return
    if isinstance(e.loss, Value) and e.flow.parameters_of(e.loss):
        return  # it depends on some, and another rule knows where their gradient ends
    made = e.flow.producer.get(e.loss) if isinstance(e.loss, Value) else None
    yield loss_off_the_graph.finding(
        NOWHERE if made is None else Site.of(made.location),
        "the loss depends on no parameter",
        "nothing in it comes from the model's output",
        "compute the loss from the model's output",
        [p.path for p in e.trainable],
    )


@rule("GT-A09", "error", "T", "a value that was kept from an earlier trace")
def cached(e: Evidence) -> Iterator[Finding]:
    """A cache (`lru_cache`, an attribute that is set once) gives the second trace what the first had computed: a value
    of a program that has ended, or raw numbers that stay as they were at step 0.

    Broken:
        @lru_cache
        def rope(n):
            return gt.cos(theta * np.arange(n))

    Right:
        def rope(n):
            return gt.cos(theta * np.arange(n))
    """
    later = e.retraces
    stored = {(s.file, s.line) for s in e.crossings.stores}
    frozen = {p.path for p in e.params if not p.trainable}
    for leak in later.leaks if later else ():
        if leak.used is not None and (leak.used.file, leak.used.line) in stored:
            continue  # state that is updated: GT-F05
        yield cached.finding(
            Site.of(leak.used),
            "a traced value was kept, and is used in a later trace",
            "it belongs to a program that has ended: the second program cannot be traced",
            "compute it in every call; keep state in a gt.buffer",
            leak.parameters,
            escape=Site.of(leak.made),
        )
    for stale in (*e.crossings.stale, *(later.stale if later else ())):
        yield cached.finding(
            Site.of(stale),
            "an array that was computed in an earlier trace is used as a constant",
            "it stays as it was then, whatever becomes of what it was computed from",
            "compute it in every call, without .data; keep state in a gt.buffer",
            [p for p in stale.parameters if p not in frozen],
            escape=Site.of(stale.left),
        )


# what these have in common --------------------------------------------------------------------------------------------
def _finding(of: Rule, r: Return, fact: str, fix: str, why: str = "") -> Finding:
    names = r.killed or (r.partial if of.code == "GT-A07" else ())
    severity = of.severity
    if not names:  # no parameter suffers, but the program is wrong for the next batch
        fact = f"{fact}: it keeps the numbers of the first call"
        why = f"it was computed from {short(r.inputs or r.partial)}, and is not computed again"
        severity = of.severity if r.sure else "warning"
    why = why or _why(r)
    if r.came_back.line not in (0, r.site.line):
        why += f" (it came back at {Path(r.came_back.file).name}:{r.came_back.line})"
    if r.killed and r.partial:
        why += f"; a part of the gradient of {short(r.partial, 2)} is missing too"
    return of.finding(r.site, fact, why, fix, names, severity, r.escape)


def _why(r: Return) -> str:
    return "no gradient goes through a constant, and no other way leads to the loss"


def _rewritten(r: Return) -> str:
    """The line where the value left, without its exit; or the line where it came back."""
    return without_exits(r.escape) or without_exits(r.site)
