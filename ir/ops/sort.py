"""Order along an axis. NaN counts as greater than every number, and of equal elements the first stays first."""

from __future__ import annotations

import numpy as np

from ..op import op
from ..types import TensorType, TypeRuleError
from .index import add_along_axis
from .rules import need_axis


def _order(x, axis, descending):
    """The indices that put x in order."""
    if not descending:
        return np.argsort(x, axis, kind="stable")
    turned = np.argsort(np.flip(x, axis), axis, kind="stable")  # backwards, so that equal ones keep their order
    return x.shape[axis] - 1 - np.flip(turned, axis)


def _need_order(x, axis):
    need_axis(x, axis)
    if x.dtype == "bool":
        raise TypeRuleError(f"needs numbers to put in order, got {x}; write x.astype('int32')")


@op
class sort:
    """the elements along an axis in order, and the index that each of them had"""
    kind = "kernel"
    def infer(x, *, axis, descending):
        _need_order(x, axis)
        return TensorType(x.dtype, x.shape), TensorType("i64", x.shape)
    def ref(x, *, axis, descending):
        order = _order(x, axis, descending)
        return np.take_along_axis(x, order, axis), order
    def vjp(g, out, x, *, axis, descending):
        return (add_along_axis(out[1], g[0], size=x.shape[axis], axis=axis),)


@op
class topk:
    """the k greatest (or least) elements along an axis, the best first, and their indices"""
    kind = "kernel"
    def infer(x, *, k, axis, largest):
        _need_order(x, axis)
        n = x.shape[axis]
        if not isinstance(k, int) or k < 0 or (isinstance(n, int) and k > n):
            raise TypeRuleError(f"k is an int from 0 to the size of axis {axis}, {n}; got {k!r}")
        shape = tuple(k if i == axis else d for i, d in enumerate(x.shape))
        return TensorType(x.dtype, shape), TensorType("i64", shape)
    def ref(x, *, k, axis, largest):
        order = np.take(_order(x, axis, largest), np.arange(k), axis)
        return np.take_along_axis(x, order, axis), order
    def vjp(g, out, x, *, k, axis, largest):
        return (add_along_axis(out[1], g[0], size=x.shape[axis], axis=axis),)
