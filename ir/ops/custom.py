"""The user's own rules as ops: a derivative given beside a function, what is computed again in backward, opaque Python."""

from __future__ import annotations

from ..dims import same_shape
from ..host import call_host
from ..op import no_gradient, op
from ..types import TensorType, TypeRuleError
from .rules import known_dtype, need_shape
from .shape import full


@op
class custom_vjp:
    """forward(*xs), whose derivative is backward(*saved, *cotangents); its results are the function's, then what is saved

    `results` counts the function's own. Backward takes the cotangents of those that are float, and gives the gradient of
    operand i as its output `grad.i`; an operand without one has no derivative.
    """
    regions = ("forward", "backward")
    def infer(*xs, name, results, surrogate, regions):
        forward, backward = regions
        outs = _results(forward, "forward", xs)
        if not 0 < results <= len(outs):
            raise TypeRuleError(f"{results} of the {len(outs)} outputs of forward are its results")
        _results(backward, "backward", [*outs[results:], *(t for t in outs[:results] if t.is_float)])
        gradients = {f"grad.{i}": x for i, x in enumerate(xs) if x.is_float}
        for key, operand in backward.outputs:
            if key not in gradients:
                raise TypeRuleError(f"backward has an output {key}; it may have {', '.join(gradients) or 'none'}")
            if not _same(operand.type, gradients[key]):
                raise TypeRuleError(f"backward gives {key}: {operand.type} for an operand {gradients[key]}")
        return outs
    def ref(*xs, name, results, surrogate, regions): return regions[0](*xs)
    def body(*xs, name, results, surrogate, regions): return regions[0](*xs)
    def vjp(g, y, *xs, name, results, surrogate, regions):
        forward, backward = regions
        g = list(g)
        given = [v for _, v in forward.graph.outputs]
        for i in range(results, len(g)):  # what is saved of the results follows the rule too
            if g[i] is not None and given[i] in given[:results]:
                at = given.index(given[i])
                g[at], g[i] = (g[i] if g[at] is None else g[at] + g[i]), None
        grads = [None] * len(xs)
        if any(c is not None for c in g[:results]):
            seeds = [
                full.like(out, shape=out.shape, value=0.0, dtype=out.type.dtype) if c is None else c
                for c, out in zip(g[:results], y[:results], strict=True)
                if out.type.is_float
            ]
            for (key, _), grad in zip(backward.graph.outputs, backward(*y[results:], *seeds), strict=True):
                grads[int(key.removeprefix("grad."))] = grad
        if any(c is not None for c in g[results:]):  # a derivative of the derivative: through what it had saved
            again = forward.pullback(xs, [*[None] * results, *g[results:]])
            grads = [a if b is None else b if a is None else a + b for a, b in zip(grads, again, strict=True)]
        return tuple(grads)


@op
class checkpoint:
    """what its region makes of xs; backward computes that again instead of keeping what lies between"""
    regions = ("body",)
    def infer(*xs, regions): return _results(regions[0], "the region", xs)
    def ref(*xs, regions): return regions[0](*xs)
    def body(*xs, regions): return regions[0](*xs)
    def vjp(g, y, *xs, regions):
        after = [c for c in g if c is not None]
        again = [barrier(x, *after) if hasattr(x, "type") and x.type.is_float else x for x in xs]
        return tuple(regions[0].pullback(again, g))


@op
class barrier:
    """x, but not before all of the others are known

    What is computed from it is no common subexpression of what is computed from x, and shares no loop with it: that is
    how a checkpoint's second computation stays a second one, which begins when backward gets there.
    """
    kind = "view"
    def infer(*xs):
        if not xs:
            raise TypeRuleError("needs a value to hold back")
        return TensorType(xs[0].dtype, xs[0].shape)
    def ref(*xs): return xs[0]
    def vjp(g, y, *xs): return g, *[None] * (len(xs) - 1)


@op
class callback:
    """function(*xs) in Python, which nothing looks into; its derivative is the function `vjp`, if there is one

    `vjp` is called with the cotangents of float results, the results and xs, and gives a gradient for each float of xs.
    A site keeps two calls apart: they are never merged.
    """
    kind = "callback"
    def infer(*xs, function, vjp, shapes, dtypes, site):
        if not shapes or len(shapes) != len(dtypes):
            raise TypeRuleError(f"a shape and a dtype for every result, got {len(shapes)} and {len(dtypes)}")
        types = tuple(TensorType(known_dtype(d), need_shape(s)) for s, d in zip(shapes, dtypes, strict=True))
        return types if len(types) > 1 else types[0]
    def ref(*xs, function, vjp, shapes, dtypes, site):
        found = call_host(function, xs, [TensorType(d, s) for s, d in zip(shapes, dtypes, strict=True)])
        return found if len(found) > 1 else found[0]
    def why_not(*, function, vjp, shapes, dtypes, site):
        return no_gradient(f"{function} is opaque Python, and has no vjp") if vjp is None else None
    def vjp(g, y, *xs, function, vjp, shapes, dtypes, site):
        g, y = (g, y) if len(shapes) > 1 else ((g,), (y,))
        floats = [x for x in xs if hasattr(x, "type") and x.type.is_float]
        types = {"shapes": tuple(x.shape for x in floats), "dtypes": tuple(x.type.dtype for x in floats)}
        g = [c for c, out in zip(g, y, strict=True) if out.type.is_float]
        parts = callback(*g, *y, *xs, function=vjp, vjp=None, site=site, **types)
        found = iter(parts if len(floats) > 1 else (parts,))
        return tuple(next(found) if hasattr(x, "type") and x.type.is_float else None for x in xs)


def _results(region, name, types):
    """The types of a region's outputs; its inputs must be `types`."""
    given = ", ".join(map(str, types))
    if len(region.inputs) != len(types) or not all(_same(v.type, t) for v, t in zip(region.inputs, types, strict=True)):
        raise TypeRuleError(f"{name} takes ({', '.join(str(v.type) for v in region.inputs)}), it is given ({given})")
    return tuple(TensorType(v.type.dtype, v.type.shape) for _, v in region.outputs)


def _same(a, b):
    return a.dtype == b.dtype and same_shape(a.shape, b.shape)
