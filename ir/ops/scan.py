"""`scan`: a loop whose body is a region, and its derivative, a loop that runs the other way.

The operands are constants (what the body reads in every round), initial carries, and stacked inputs, whose first axis
is the round; the body's inputs are the constants, the carries, and one round's part of each stacked input. Its outputs
are the new carries, and one round's part of each stacked result.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..build import Builder
from ..dims import require_equal
from ..graph import Node, Value
from ..op import OPS, op
from ..types import DTYPES, TensorType, TypeRuleError


@op
class scan:
    """carry[t + 1], y[t] = body(constants, carry[t], x[t]) for every t, or from the last to the first if reverse"""
    kind = "loop"
    regions = ("body",)
    def infer(*types, regions=(), consts, carries, length, reverse):
        if len(regions) != 1:
            raise TypeRuleError(f"needs one region, the body, got {len(regions)}")
        body = regions[0]
        if len(types) != len(body.inputs) or consts + carries > len(types) or carries > len(body.outputs):
            raise TypeRuleError(f"the body takes {len(body.inputs)} values and gives {len(body.outputs)}; there are "
                                f"{len(types)} operands, {consts} constants and {carries} carries among them")
        for i, (x, inner) in enumerate(zip(types, body.inputs, strict=True)):
            if i >= consts + carries:
                if x.ndim == 0:
                    raise TypeRuleError(f"%{inner.name} has no axis to go along: {x}")
                if not require_equal(x.shape[0], length):
                    raise TypeRuleError(f"%{inner.name} is {x}, which is not {length} rounds long")
                x = TensorType(x.dtype, x.shape[1:])
            if not _same(x, inner.type):
                raise TypeRuleError(f"the body takes %{inner.name}: {inner.type}, the operand gives {x}")
        results = [v.type for _, v in body.outputs]
        for (name, _), x, new in zip(body.outputs, body.inputs[consts:], results[:carries], strict=False):
            if not _same(x.type, new):
                raise TypeRuleError(f"the carry {name} is {x.type} at first and {new} after one round")
        return (*results[:carries], *(TensorType(y.dtype, (length, *y.shape)) for y in results[carries:]))
    def ref(*arrays, regions, consts, carries, length, reverse):
        (body,) = regions
        state, xs = arrays[consts:consts + carries], arrays[consts + carries:]
        kinds = body.types[carries:]
        ys = [np.zeros((length, *t.shape), DTYPES[t.dtype]) for t in kinds]
        for t in reversed(range(length)) if reverse else range(length):
            results = body(*arrays[:consts], *state, *(x[t] for x in xs))
            state = results[:carries]
            for y, part in zip(ys, results[carries:], strict=True):
                y[t] = part
        return (*state, *ys)
    def derive(builder, node, cotangents, gradients): return _derive(builder, node, cotangents, gradients)


def _same(a, b):
    return a.dtype == b.dtype and a.ndim == b.ndim and all(map(require_equal, a.shape, b.shape))


@dataclass(frozen=True)
class Parts:
    """The operands or the body's inputs of a scan by kind; `new` and `ys` are the body's outputs."""

    consts: tuple
    carries: tuple
    xs: tuple
    new: tuple = ()
    ys: tuple = ()


def parts_of(node: Node) -> tuple[Parts, Parts]:
    """(operands and results of a scan, inputs and outputs of its body)"""
    (body,), a = node.regions, node.attrs["consts"]
    b, outs = a + node.attrs["carries"], tuple(v for _, v in body.outputs)

    def cut(items, results):
        return Parts(tuple(items[:a]), tuple(items[a:b]), tuple(items[b:]), results[:b - a], results[b - a:])

    return cut(node.inputs, node.outputs), cut(body.inputs, outs)


# the derivative -------------------------------------------------------------------------------------------------
def _derive(builder, node, cotangents, gradients):
    """One scan in the other direction, whose body is the derivative of the body: it carries the cotangents of the
    carries and the sums for the constants, and stacks the cotangents of xs.

    What it needs of the forward rounds it reads where it is stacked already (xs, ys), and computes again where that is
    elementwise; the rest (carries, products, sums) the forward scan gives as further stacked results.
    """
    node = builder.current(node)
    outer, inner = parts_of(node)
    d_results, d_stacks = cotangents[:len(inner.carries)], cotangents[len(inner.carries):len(inner.carries) + len(inner.ys)]
    back = _Backward(node.regions[0], inner, [i for i, g in enumerate(d_stacks) if g is not None], gradients)
    if back.saved:
        old, node = node, _returning_more(builder, node, back)
        builder.replace(old, node)
    stacks = dict(zip(inner.xs, outer.xs, strict=True)) | dict(zip(inner.ys, node.outputs[len(inner.carries):], strict=False))
    stacks |= dict(zip(back.saved, node.outputs[len(node.outputs) - len(back.saved):], strict=True))
    consts = dict(zip(inner.consts, outer.consts, strict=True))
    args = [builder.wrap(consts[v]) for v in back.consts]
    args += [_zeros(builder, inner.carries[i].type) if d_results[i] is None else d_results[i] for i in back.moving]
    args += [_zeros(builder, inner.consts[i].type) for i in back.summed]
    args += [builder.wrap(stacks[v]) for v in back.stacks] + [d_stacks[i] for i in back.reached]
    attrs = {"consts": len(back.consts), "carries": len(back.moving) + len(back.summed),
             "length": node.attrs["length"], "reverse": not node.attrs["reverse"]}
    found = iter(builder.emit(OPS["scan"], args, attrs, (back.graph(),)) if back.results else ())
    d_carries, sums, d_xs = ({i: next(found) for i in which} for which in (back.moving, back.summed, back.stacked))
    parts = [sums.get(i) for i in range(len(inner.consts))] + [d_carries.get(i) for i in range(len(inner.carries))]
    return tuple(parts + [d_xs.get(i) for i in range(len(inner.xs))])


def _zeros(builder, t):
    return builder.emit(OPS["full"], (), {"shape": t.shape, "value": 0.0, "dtype": t.dtype})


def _returning_more(builder, node, back):
    """`node` with the stacked values that its derivative needs as further results."""
    (body,) = node.regions
    fresh = _fresh(name for name, _ in body.outputs)
    outputs = (*body.outputs, *((fresh("saved"), v) for v in back.saved))
    constants = {n.attrs["digest"]: back.constants[n.attrs["digest"]] for n in back.forward if n.op == "constant"}
    more = [builder.new_value(TensorType(v.type.dtype, (node.attrs["length"], *v.type.shape))) for v in back.saved]
    return replace(node, outputs=(*node.outputs, *more),
                   regions=(body.replace(nodes=back.forward, outputs=outputs, constants=constants),))


def _fresh(taken):
    """A function that makes names unlike those that are taken: `name`, or `name.0`, `name.1`, ..."""
    taken = set(taken)

    def fresh(name):
        found = next(n for n in (name, *(f"{name}.{i}" for i in range(len(taken) + 1))) if n not in taken)
        taken.add(found)
        return found
    return fresh


class _Backward:
    """The derivative of a body, and what it takes from where.

    moving, summed, stacked   the carries, constants and xs that have a cotangent, by number
    reached                   the stacked results from which one comes in
    consts, stacks, saved     forward values that it reads: constants; stacked ones (xs, results, saved); of these the
                              ones that the forward scan does not give yet
    forward                   the nodes that the forward scan runs then: its own, and what saved values need beside them
    """

    def __init__(self, body, inner, reached, gradients):
        self.body, self.inner, self.reached = body, inner, reached
        self.fresh = _fresh(v.name for v in body.inputs)
        builder = Builder.extending(body)
        seeds = {}

        def seed(value, name):
            given = builder.input(self.fresh(name), value.type)
            if isinstance(value, Value):
                seeds[value] = seeds[value] + given if value in seeds else given
            return given._value

        self.moving = [i for i, c in enumerate(inner.carries) if c.type.is_float]
        self.d_new = [seed(inner.new[i], f"d.{inner.carries[i].name}") for i in self.moving]
        self.d_ys = [seed(inner.ys[i], f"d.{body.outputs[len(inner.carries) + i][0]}") for i in reached]
        floats = [v for v in body.inputs if v.type.is_float]
        found = dict(zip(floats, gradients(builder, body.nodes, seeds, floats), strict=True))
        self.summed = [i for i, c in enumerate(inner.consts) if found.get(c) is not None]
        self.stacked = [i for i, x in enumerate(inner.xs) if found.get(x) is not None]
        results = [_zeros(builder, c.type) if found[c] is None else found[c] for c in map(inner.carries.__getitem__, self.moving)]
        self.sums = []
        for c in map(inner.consts.__getitem__, self.summed):
            total = builder.input(self.fresh(f"sum.{c.name}"), c.type)
            self.sums.append(total._value)
            results.append(total + found[c])
        results += [found[inner.xs[i]] for i in self.stacked]
        self.results = [r._value for r in results]
        self.nodes = builder.nodes
        self.constants = builder.constants
        self._divide()

    def _divide(self):
        """What of the forward is read, computed again, or saved."""
        producer = {v: n for n in self.nodes for v in n.outputs}
        unknown = {*self.d_new, *self.sums, *self.d_ys}
        for n in self.nodes:
            if unknown.intersection(n.values()):
                unknown.update(n.outputs)
        needed, read, stack, seen = set(), [], list(self.results), set()
        while stack:
            v = stack.pop()
            if not isinstance(v, Value) or v in seen:
                continue
            seen.add(v)
            n = producer.get(v)
            if n is not None and (v in unknown or (_cheap(n) and v not in self.inner.ys)):
                needed.add(n)
                stack += n.values()
            elif v not in unknown:
                read.append(v)
        order = {v: i for i, v in enumerate((*self.body.inputs, *producer))}
        read.sort(key=order.__getitem__)
        self.consts = [v for v in read if v in self.inner.consts]
        self.stacks = [v for v in read if v not in self.inner.consts]
        self.saved = [v for v in self.stacks if v not in self.inner.xs and v not in self.inner.ys]
        self.needed = [n for n in self.nodes if n in needed]
        own = len(self.body.nodes)  # a loop among them may give more results by now
        above, stack = set(), list(self.saved)
        while stack:
            n = producer.get(stack.pop())
            if n is not None and n not in above:
                above.add(n)
                stack += n.values()
        self.forward = (*self.nodes[:own], *(n for n in self.nodes[own:] if n in above))

    def graph(self):
        """The body of the backward scan."""
        renamed = {v: Value(self.fresh("saved"), v.type) for v in self.stacks if v not in self.inner.xs}

        def look_up(o):
            return renamed.get(o, o) if isinstance(o, Value) else o

        nodes = tuple(replace(n, inputs=tuple(map(look_up, n.inputs))) for n in self.needed)
        inputs = (*self.consts, *self.d_new, *self.sums, *map(look_up, self.stacks), *self.d_ys)
        names = _fresh(())
        carried = [*(v.name for v in self.d_new), *(v.name for v in self.sums)]
        carried += [f"d.{self.inner.xs[i].name}" for i in self.stacked]
        outputs = tuple((names(name), look_up(r)) for name, r in zip(carried, self.results, strict=True))
        used = {n.attrs["digest"] for n in nodes if n.op == "constant"}
        return self.body.replace(name=f"{self.body.name}.backward", inputs=inputs, nodes=nodes, outputs=outputs,
                                 roles={v.name: "input" for v in inputs},
                                 constants={k: a for k, a in self.constants.items() if k in used})


def _cheap(node):
    """Whether the backward scan computes it again: elementwise ops and views of what it has."""
    record = OPS[node.op]
    return record.kind in ("elementwise", "view", "constant") and not record.random
