"""Where a program is cut when its batch is: the form of every value (slicing.py), and of every node that belongs to the
elements of the batch where its operands are cut.

A loop over time is cut through: its body is a program whose inputs have forms, and carries keep theirs from round to
round.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..ir.build import at_line
from ..ir.graph import Graph, Literal, Node, Operand, Value
from ..ir.op import OPS
from ..ir.ops.scan import parts_of
from ..ir.types import is_one
from .slicing import LATE, SAME, SUM, Along, Cuts, Form, Mixed, flow, is_linear, same_place

# Ops that may be done for the whole batch before the loop, beside elementwise ones, views and reductions.
LIGHT = ("bounded", "wrapped", "take", "concat", "unslice", "weave")


class MicrobatchError(ValueError):
    """A program whose batch cannot be cut into slices: its elements depend on each other."""


class Cutting:
    """What becomes of a graph whose inputs have `forms`.

    forms     of all values
    cuts      of the operands of every node that is done slice by slice
    early     values that elements of the batch need of the whole batch, and that take light work on the inputs only
    same_as   what barriers need not hold back, by their results
    bodies    of the loops that are cut: those of their regions
    """

    def __init__(self, graph: Graph, forms: Mapping[Value, Form], inner: bool = False) -> None:
        self.graph, self.inner = graph, inner
        self.producer = graph.producers()
        self.order = {node: i for i, node in enumerate(graph.nodes)}
        self.early: set[Value] = set()
        while True:
            known = len(self.early)
            self.forms: dict[Value, Form] = dict(forms)
            self.cuts: dict[Node, Cuts] = {}
            self.same_as: dict[Value, Operand] = {}
            self.bodies: dict[Node, Cutting] = {}
            for node in graph.nodes:
                found = self.form(node)
                several = found if isinstance(found, list) else [found] * len(node.outputs)
                self.forms.update(zip(node.outputs, several, strict=True))
            if len(self.early) == known:  # else earlier nodes may have read one of them as a sum
                break

    def form_of(self, operand: Operand) -> Form:
        return self.forms[operand] if isinstance(operand, Value) else SAME

    def resolved(self, operand: Operand) -> Operand:
        while operand in self.same_as:
            operand = self.same_as[operand]  # type: ignore[index]
        return operand

    def read(self, node: Node) -> list[Value]:
        """The values that a node reads."""
        return [v for v in map(self.resolved, node.inputs) if isinstance(v, Value)]

    def form(self, node: Node) -> Form | list[Form]:
        """The form of a node's results; notes how its operands are cut."""
        if self.early.issuperset(node.outputs):
            return SAME
        forms = [self.form_of(o) for o in node.inputs]
        if node.op == "barrier":  # its first operand, after the others
            if isinstance(forms[0], Along):
                self.cuts[node] = tuple(f if isinstance(f, Along) else None for f in forms)
            elif forms[0] in (SAME, SUM):
                self.same_as[node.output] = node.inputs[0]
            return forms[0]
        if any(isinstance(f, Along) for f in forms):
            return self.sliced(node)
        if LATE in forms:
            return LATE
        if SUM in forms:
            if is_linear(node, forms):
                self.cuts[node] = (None,) * len(forms)
                return SUM
            return LATE
        return SAME

    def sliced(self, node: Node) -> Form | list[Form]:
        """The same for a node that reads something along the batch."""
        for operand in node.values():
            if self.forms[operand] in (SUM, LATE):
                if not self.is_light(operand):
                    raise self.refusal(node, f"needs {self.told(operand)}")
                self.early.add(operand)
                self.forms[operand] = SAME
        forms = [self.form_of(o) for o in node.inputs]
        try:
            if node.op == "scan":
                self.cuts[node], found, self.bodies[node] = _scan(self, node, forms)
                return found
            self.cuts[node], form = flow(node, forms)
            return form
        except Mixed as fact:
            if not all(map(self.is_light, node.outputs)):
                raise self.refusal(node, str(fact)) from None
            self.early.update(node.outputs)
            return SAME

    def is_light(self, value: Value) -> bool:
        """Whether a value takes no more than light work on inputs and on what is the same for every slice."""
        seen: set[Node] = set()
        stack = [value]
        while stack and not self.inner:
            v = stack.pop()
            node = self.producer.get(v)
            if node is None or node in seen or self.forms.get(v) is SAME:
                continue
            if OPS[node.op].kind not in ("elementwise", "view", "reduce", "constant") and node.op not in LIGHT:
                return False
            seen.add(node)
            stack += node.values()
        return not self.inner  # in a loop's body there is nothing before it

    def is_free(self, node: Node) -> bool:
        """Whether a value comes from indices, numbers and constants alone, as causal masks do: no kernel stores it."""
        op = OPS[node.op]
        if op.generator or op.kind == "constant":
            return True
        if op.random or op.kind not in ("elementwise", "view"):
            return False
        producers = [self.producer.get(v) for v in self.read(node)]
        return all(p is not None and self.is_free(p) for p in producers)

    def made_again(self, node: Node, cut: Along | None) -> bool:
        """Whether a node that is the same for every slice is computed for each: what is free, and elementwise work on
        something with the size of the batch, which need not be stored for it."""
        op = OPS[node.op]
        if cut is None:
            return self.is_free(node)
        if op.random:
            return all(map(is_one, (*node.output.type.shape[: cut.axis], cut.outer)))
        if node.op in ("full", "broadcast_to", "iota"):
            return node.op != "iota" or node.attrs["axis"] != cut.axis
        return op.kind == "elementwise" and not op.generator

    def cut_for(self, node: Node, cut: Along | None) -> Cuts:
        """Where the operands of a node that is made again are cut, for a cut of its result."""
        cuts: list[Along | None] = []
        for o in node.inputs:
            if cut is None:
                cuts.append(None)
                continue
            axis = cut.axis - (node.output.type.ndim - o.type.ndim)
            cuts.append(None if axis < 0 or is_one(o.type.shape[axis]) else cut.at(axis))
        return tuple(cuts)

    # what is said ---------------------------------------------------------------------------------------------------
    def told(self, value: Value) -> str:
        """The sum over the batch that a value is made from."""
        stack, found = [value], self.producer.get(value)
        while stack:
            v = stack.pop()
            if self.forms[v] is SUM:
                found = self.producer.get(v)
                break
            stack += [o for o in self.producer[v].values() if self.forms[o] in (SUM, LATE)]
        if found is None:
            return "a sum over the batch"
        where = found.location
        return f"the {found.op} over the batch" + (f" that line {where.line} takes" if where else "")

    def refusal(self, node: Node, fact: str) -> MicrobatchError:
        lines = [f"the batch cannot be cut into slices: {node.op} {fact}", *at_line(node.location)]
        return MicrobatchError("\n".join([*lines, "  write gt.compile(...) without memory_budget and microbatch"]))


# loops --------------------------------------------------------------------------------------------------------------
def _scan(around: Cutting, node: Node, forms: Sequence[Form]) -> tuple[Cuts, list[Form], Cutting]:
    """The cuts of a scan's operands, the forms of its results, and its body."""
    (body,) = node.regions
    _, inner = parts_of(node)
    fixed = len(inner.consts) + len(inner.carries)
    for form in forms[fixed:]:
        if isinstance(form, Along) and form.axis == 0:
            raise Mixed("goes along the batch")
    known = {v: _shifted(f, -1 if i >= fixed else 0) for i, (v, f) in enumerate(zip(body.inputs, forms, strict=True))}
    while True:
        found = Cutting(body, known, inner=True)
        before = dict(known)
        for carry, new, first in zip(inner.carries, inner.new, node.inputs[len(inner.consts) :], strict=False):
            known[carry] = _joined(known[carry], found.form_of(new), _is_zero(around, first))
        if not all(_equal(known[v], before[v]) for v in known):
            continue
        outputs = [known[c] for c in inner.carries] + [found.form_of(y) for y in inner.ys]
        for value, cut in _demands(found, [v for _, v in body.outputs], outputs):
            if known[value] is not SAME and not _equal(known[value], cut):
                raise Mixed("meets the batch along two axes")
            known[value] = cut
        if all(_equal(known[v], before[v]) for v in known):
            break
    cuts = tuple(_place(_shifted(known[v], 1 if i >= fixed else 0)) for i, v in enumerate(body.inputs))
    count = len(inner.carries)
    return cuts, outputs[:count] + [_shifted(f, 1) for f in outputs[count:]], found


def _shifted(form: Form, by: int) -> Form:
    return form.at(form.axis + by) if isinstance(form, Along) else form


def _place(form: Form) -> Along | None:
    return form if isinstance(form, Along) else None


def _equal(a: Form, b: Form) -> bool:
    return same_place(a, b) if isinstance(a, Along) and isinstance(b, Along) else a is b


def _joined(old: Form, new: Form, zero: bool) -> Form:
    """The form of a carry that was `old` and becomes `new`; `zero`: it is 0 at first."""
    if _equal(old, new) and new is not LATE:
        return old
    if isinstance(new, Along) and old is SAME:
        return new
    if isinstance(old, Along) and new is SAME:
        return old
    if new is SUM and old is SAME and zero:
        return SUM
    raise Mixed("carries what the whole batch goes into")


def _is_zero(around: Cutting, operand: Operand) -> bool:
    operand = around.resolved(operand)
    if isinstance(operand, Literal):
        return operand.value == 0
    node = around.producer.get(operand)
    return node is not None and node.op == "full" and node.attrs["value"] == 0


def _demands(body: Cutting, results: Sequence[Operand], forms: Sequence[Form]) -> list[tuple[Value, Along]]:
    """Inputs of a body that are the same for every slice and are read in slices. Raises Mixed where something else is
    that is not made again for each."""
    wanted = [(o, cut) for node, cuts in body.cuts.items() for o, cut in zip(node.inputs, cuts, strict=True)]
    wanted += [(o, _place(form)) for o, form in zip(results, forms, strict=True)]
    found, done = [], set()
    while wanted:
        operand, cut = wanted.pop()
        operand = body.resolved(operand)
        if cut is None or isinstance(operand, Literal) or body.forms[operand] is not SAME:
            continue
        if (operand, cut.axis) in done:
            continue
        done.add((operand, cut.axis))
        node = body.producer.get(operand)
        if node is None:
            found.append((operand, cut))
        elif body.made_again(node, cut) and not OPS[node.op].random:
            wanted += zip(node.inputs, body.cut_for(node, cut), strict=True)
        else:
            raise Mixed(f"holds a {node.op} that would have to be cut")
    return found
