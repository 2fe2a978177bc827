"""Convolution and pooling over the trailing axes, channels first.

Three ops are the derivatives of one trilinear form

    T(x, w, g) = sum over n, o, i.., c, k.. of x[n, c, i * stride + k * dilation - padding] * w[o, c, k..] * g[n, o, i..]

`conv` is dT/dg, `conv_input` dT/dx (a transposed convolution) and `conv_weight` dT/dw, so that the derivatives of each
are the other two, to any order. With groups, channels and outputs are cut into as many parts that do not meet.
"""

from __future__ import annotations

import numpy as np

from ..dims import identical, require_equal, same_shape
from ..op import op
from ..types import TensorType, TypeRuleError
from .elementwise import add, equal, logical_and, logical_not, maximum, where
from .rules import need_float
from .shape import _list, broadcast_to, concat, full, reshape, slice_, unslice, weave, woven_shape

MOST_AXES = 2  # that the kernel's loops reach


def window_counts(sizes, kernel, stride, padding, dilation):
    """How many windows fit on each axis: (size + padding - dilation * (kernel - 1) - 1) // stride + 1."""
    if not len(sizes) == len(kernel) == len(stride) == len(padding) == len(dilation):
        raise TypeRuleError(f"stride, padding and dilation need one entry for each of the {len(kernel)} axes, got "
                            f"{stride}, {padding} and {dilation}")
    counts = []
    for n, k, s, (before, after), d in zip(sizes, kernel, stride, padding, dilation, strict=True):
        if any(not isinstance(v, int) or v < 1 for v in (k, s, d)):
            raise TypeRuleError(f"kernel size, stride and dilation are integers from 1, got {k}, {s} and {d}")
        if before < 0 or after < 0:
            raise TypeRuleError(f"the padding is not negative, got {padding}")
        span, wide = d * (k - 1) + 1, n + before + after
        if isinstance(wide, int) and wide < span:
            padded = f", {wide} with its padding" if before or after else ""
            raise TypeRuleError(f"a window of {span} elements (kernel {k}, dilation {d}) does not fit into {n}{padded}")
        counts.append(wide - span + 1 if s == 1 else (wide - span) // s + 1)
    return tuple(counts)


def _windows(x, kernel, stride, padding, dilation, value=0):
    """The NumPy view out[..., i.., k..] = x[..., i * stride + k * dilation - padding..] over the last axes."""
    lead = x.ndim - len(kernel)
    wide = np.pad(x, [(0, 0)] * lead + list(padding), constant_values=value)
    spans = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
    view = np.lib.stride_tricks.sliding_window_view(wide, spans, axis=tuple(range(lead, x.ndim)))
    return view[(*[np.s_[:]] * lead, *(np.s_[::s] for s in stride), *(np.s_[::d] for d in dilation))]


# convolution ----------------------------------------------------------------------------------------------------
def _infer_conv(x, w, stride, padding, dilation, groups):
    """The shape of g in T(x, w, g), for the shapes of x and w."""
    n = len(stride)
    if not 1 <= n <= MOST_AXES:
        raise TypeRuleError(f"a convolution has 1 to {MOST_AXES} axes, got {n} strides")
    if len(x) != n + 2 or len(w) != n + 2:
        raise TypeRuleError(f"a convolution over {n} axes takes x (batch, channels, {n} sizes) and a weight (out, "
                            f"channels / groups, {n} kernel sizes), got {_list(x)} and {_list(w)}")
    if any(isinstance(d, int) and d < 1 for d in w):
        raise TypeRuleError(f"the weight {_list(w)} has no elements")
    if not isinstance(groups, int) or groups < 1:
        raise TypeRuleError(f"groups is an integer from 1, got {groups}")
    if isinstance(w[0], int) and w[0] % groups:
        raise TypeRuleError(f"{w[0]} output channels do not divide into {groups} groups")
    if not require_equal(w[1] * groups, x[1]):
        raise TypeRuleError(f"x {_list(x)} has {x[1]} channels, the weight {_list(w)}"
                            + (f" in {groups} groups" if groups > 1 else "") + f" is for {w[1] * groups}")
    return (x[0], w[0], *window_counts(x[2:], w[2:], stride, padding, dilation))


def _need_windows(g, x, w, stride, padding, dilation, groups):
    """x and w of such shapes must give g's shape."""
    expected = _infer_conv(x, w, stride, padding, dilation, groups)
    if len(g) != len(expected) or not all(map(identical, g, expected)):
        raise TypeRuleError(f"x {_list(x)} and a weight {_list(w)} give {_list(expected)}, not {_list(g)}")


def _groups(groups, *sizes):
    """For each group a slice of each axis."""
    for i in range(groups):
        yield tuple(np.s_[i * n // groups:(i + 1) * n // groups] for n in sizes)


@op
class conv:
    """out[n, o, i..] = sum over c, k.. of x[n, c, i * stride + k * dilation - padding] * w[o, c, k..], in groups"""
    kind = "kernel"
    promote = True
    def infer(x, w, *, stride, padding, dilation, groups):
        need_float(TensorType(x.dtype, ()))
        return TensorType(x.dtype, _infer_conv(x.shape, w.shape, stride, padding, dilation, groups))
    def ref(x, w, *, stride, padding, dilation, groups):
        view, n = _windows(x, w.shape[2:], stride, padding, dilation), len(stride)
        axes = (1, *range(2 + n, 2 + 2 * n)), tuple(range(1, 2 + n))
        parts = [np.tensordot(view[:, c], w[o], axes) for c, o in _groups(groups, x.shape[1], w.shape[0])]
        return np.moveaxis(np.concatenate(parts, -1), -1, 1)
    def vjp(g, out, x, w, *, stride, padding, dilation, groups):
        attrs = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        return conv_input(g, w, size=x.shape[2:], **attrs), conv_weight(x, g, kernel=w.shape[2:], **attrs)


@op
class conv_input:
    """out[n, c, j..] = sum of g[n, o, i..] * w[o, c, k..] over o and all i, k with i * stride + k * dilation - padding = j"""
    kind = "kernel"
    promote = True
    def infer(g, w, *, size, stride, padding, dilation, groups):
        need_float(TensorType(g.dtype, ()))
        if g.ndim < 2 or w.ndim < 2:
            raise TypeRuleError(f"takes g (batch, out, sizes) and a weight (out, channels / groups, kernel), got {g} and {w}")
        shape = (g.shape[0], w.shape[1] * groups, *size)
        _need_windows(g.shape, shape, w.shape, stride, padding, dilation, groups)
        return TensorType(g.dtype, shape)
    def ref(g, w, *, size, stride, padding, dilation, groups):
        wide = [d + a + b for d, (a, b) in zip(size, padding, strict=True)]
        out = np.zeros((g.shape[0], w.shape[1] * groups, *wide), g.dtype)
        for c, o in _groups(groups, out.shape[1], w.shape[0]):
            for at in np.ndindex(*w.shape[2:]):
                piece = np.tensordot(g[:, o], w[(o, slice(None), *at)], (1, 0))  # [n, i.., c]
                starts = [a * d for a, d in zip(at, dilation, strict=True)]
                places = [np.s_[a:a + (m - 1) * s + 1:s] for a, m, s in zip(starts, g.shape[2:], stride, strict=True)]
                out[(slice(None), c, *places)] += np.moveaxis(piece, -1, 1)
        return out[(..., *(np.s_[a:a + d] for d, (a, _) in zip(size, padding, strict=True)))]
    def vjp(h, out, g, w, *, size, stride, padding, dilation, groups):
        attrs = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        return conv(h, w, **attrs), conv_weight(h, g, kernel=w.shape[2:], **attrs)


@op
class conv_weight:
    """out[o, c, k..] = sum over n, i.. of x[n, c, i * stride + k * dilation - padding] * g[n, o, i..], in groups"""
    kind = "kernel"
    promote = True
    def infer(x, g, *, kernel, stride, padding, dilation, groups):
        need_float(TensorType(x.dtype, ()))
        if x.ndim < 2 or g.ndim < 2:
            raise TypeRuleError(f"takes x (batch, channels, sizes) and g (batch, out, sizes), got {x} and {g}")
        shape = (g.shape[1], x.shape[1] // groups, *kernel)
        _need_windows(g.shape, x.shape, shape, stride, padding, dilation, groups)
        return TensorType(x.dtype, shape)
    def ref(x, g, *, kernel, stride, padding, dilation, groups):
        view, n = _windows(x, kernel, stride, padding, dilation), len(stride)
        axes = (0, *range(2, 2 + n))
        return np.concatenate([
            np.tensordot(g[:, o], view[:, c], (axes, axes)) for c, o in _groups(groups, x.shape[1], g.shape[1])
        ])
    def vjp(v, out, x, g, *, kernel, stride, padding, dilation, groups):
        attrs = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        return conv_input(g, v, size=x.shape[2:], **attrs), conv(x, v, **attrs)


# pooling --------------------------------------------------------------------------------------------------------
def _infer_pool(x, kernel, stride, padding, dilation):
    n = len(kernel)
    need_float(TensorType(x.dtype, ()))
    if not 0 < n < x.ndim:
        raise TypeRuleError(f"pooling over {n} axes needs a channel axis before them, got {x}")
    counts = window_counts(x.shape[x.ndim - n:], kernel, stride, padding, dilation)
    spans = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    if any(max(pair) >= span for pair, span in zip(padding, spans, strict=True)):
        raise TypeRuleError(f"the padding {padding} is smaller than the window {tuple(spans)}: none may lie outside of x")
    return TensorType(x.dtype, (*x.shape[:x.ndim - n], *counts))


def _padded(x, padding, value):
    """x with `value` around its last axes."""
    lead = x.ndim - len(padding)
    for axis, pair in enumerate(padding, lead):
        edges = [
            full.like(x, shape=(*x.shape[:axis], p, *x.shape[axis + 1:]), value=value, dtype=x.type.dtype) if p else None
            for p in pair
        ]
        parts = [part for part in (edges[0], x, edges[1]) if part is not None]
        x = concat(*parts, axis=axis) if len(parts) > 1 else x
    return x


def _pieces(x, kernel, stride, dilation):
    """For each place k of a window: x[..., i * stride + k * dilation..], shaped as the result."""
    lead = x.ndim - len(kernel)
    counts = window_counts(x.shape[lead:], kernel, stride, ((0, 0),) * len(kernel), dilation)
    for at in np.ndindex(*kernel):
        yield slice_(x, start=_start(at, dilation, lead), size=(*x.shape[:lead], *counts), step=(1,) * lead + tuple(stride))


def _start(at, dilation, lead):
    return (0,) * lead + tuple(int(a) * d for a, d in zip(at, dilation, strict=True))


def _sum_of_pieces(pieces, x, kernel, stride, dilation):
    """The reverse of `_pieces`: each put at its places in an array shaped as x, and added up. Pieces that meet at no
    element lie in different lattices, start::stride, which are woven together in the end."""
    lead = x.ndim - len(kernel)
    step, ones = (1,) * lead + tuple(stride), (1,) * x.ndim
    lattices = {}
    for at, piece in zip(np.ndindex(*kernel), pieces, strict=True):
        first, start = zip(*map(divmod, _start(at, dilation, lead), step), strict=True)
        shape = woven_shape(x.shape, step, start)
        if any(first) or not same_shape(piece.shape, shape):
            piece = unslice(piece, shape=shape, start=first, step=ones)
        lattices[start] = add(lattices[start], piece) if start in lattices else piece
    if len(lattices) == int(np.prod(step)) == 1:
        return lattices[start]
    parts = [lattices.get(a) for a in np.ndindex(*step)]
    for i, a in enumerate(np.ndindex(*step)):
        if parts[i] is None:  # strides beyond the kernel
            parts[i] = full.like(x, shape=woven_shape(x.shape, step, a), value=0.0, dtype=x.type.dtype)
    return weave(*parts, shape=x.shape, step=step)


def _unpadded(x, padding, shape):
    if not any(p for pair in padding for p in pair):
        return x
    start = (0,) * (x.ndim - len(padding)) + tuple(before for before, _ in padding)
    return slice_(x, start=start, size=shape, step=(1,) * x.ndim)


@op
class max_pool:
    """the greatest element of every window of the last axes; of several, the first gets the gradient"""
    kind = "composite"
    def infer(x, *, kernel, stride, padding, dilation): return _infer_pool(x, kernel, stride, padding, dilation)
    def ref(x, *, kernel, stride, padding, dilation):
        view = _windows(x, kernel, stride, padding, dilation, -np.inf)
        return view.max(axis=tuple(range(x.ndim, x.ndim + len(kernel))))
    def body(x, *, kernel, stride, padding, dilation):
        best, *rest = _pieces(_padded(x, padding, -np.inf), kernel, stride, dilation)
        for piece in rest:
            best = maximum(best, piece)
        return best
    def vjp(g, y, x, *, kernel, stride, padding, dilation):
        wide = _padded(x, padding, -np.inf)
        parts, free = [], None
        for piece in _pieces(wide, kernel, stride, dilation):
            hit = equal(piece, y) if free is None else logical_and(equal(piece, y), free)
            free = logical_not(hit) if free is None else logical_and(free, logical_not(hit))
            parts.append(where(hit, g, 0.0))
        return (_unpadded(_sum_of_pieces(parts, wide, kernel, stride, dilation), padding, x.shape),)


@op
class avg_pool:
    """the mean of every window of the last axes; zeros of the padding count"""
    kind = "composite"
    def infer(x, *, kernel, stride, padding): return _infer_pool(x, kernel, stride, padding, (1,) * len(kernel))
    def ref(x, *, kernel, stride, padding):
        view = _windows(x, kernel, stride, padding, (1,) * len(kernel))
        return view.mean(axis=tuple(range(x.ndim, x.ndim + len(kernel))))
    def body(x, *, kernel, stride, padding):
        total, *rest = _pieces(_padded(x, padding, 0.0), kernel, stride, (1,) * len(kernel))
        for piece in rest:
            total = total + piece
        return total * (1.0 / int(np.prod(kernel)))
    def vjp(g, y, x, *, kernel, stride, padding):
        share = g * (1.0 / int(np.prod(kernel)))
        lead = x.ndim - len(kernel)
        if tuple(stride) == tuple(kernel) and not any(p for pair in padding for p in pair) and all(
            identical(c * k, d) for c, k, d in zip(g.shape[lead:], kernel, x.shape[lead:], strict=True)
        ):  # windows that tile x: every element has one
            apart = tuple(v for c in g.shape[lead:] for v in (c, 1))
            wide = tuple(v for pair in zip(g.shape[lead:], kernel, strict=True) for v in pair)
            share = reshape(share, shape=(*g.shape[:lead], *apart))
            return (reshape(broadcast_to(share, shape=(*g.shape[:lead], *wide)), shape=x.shape),)
        padded = _padded(x, padding, 0.0)
        total = _sum_of_pieces([share] * int(np.prod(kernel)), padded, kernel, stride, (1,) * len(kernel))
        return (_unpadded(total, padding, x.shape),)
