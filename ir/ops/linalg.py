"""Matrix products."""

from __future__ import annotations

import numpy as np

from ..dims import product, require_equal
from ..op import op
from ..types import TensorType, TypeRuleError, broadcast
from .shape import permute, reshape


@op
class matmul:
    """x @ y: out[..., i, j] = sum over k of x[..., i, k] * y[..., k, j]; leading axes broadcast; 1-d as in NumPy"""
    kind = "gemm"
    promote = True
    def infer(x, y):
        if x.ndim == 0 or y.ndim == 0:
            raise TypeRuleError(f"needs arrays of at least one axis, got {x} and {y}; write x * y")
        if not x.is_float:
            raise TypeRuleError(f"needs float operands, got {x} and {y}")
        inner = y.shape[-2] if y.ndim > 1 else y.shape[0]
        if not require_equal(x.shape[-1], inner):
            raise TypeRuleError(f"inner sizes differ: {x.shape[-1]} (last axis of the left operand {x}) and {inner} "
                                f"({'second-last' if y.ndim > 1 else 'only'} axis of the right operand {y})")
        rows = x.shape[-2:-1] if x.ndim > 1 else ()
        columns = y.shape[-1:] if y.ndim > 1 else ()
        return TensorType(x.dtype, broadcast([x.shape[:-2], y.shape[:-2]]) + rows + columns)
    def ref(x, y): return np.matmul(x, y)
    def vjp(g, out, x, y):
        if x.ndim == 1 or y.ndim == 1:  # as a matrix with one row, one column
            x2 = reshape(x, shape=(1, *x.shape)) if x.ndim == 1 else x
            y2 = reshape(y, shape=(*y.shape, 1)) if y.ndim == 1 else y
            shape = broadcast([x2.shape[:-2], y2.shape[:-2]]) + (x2.shape[-2], y2.shape[-1])
            return tuple(
                _sum_like(d, v) for d, v in zip(_products(reshape(g, shape=shape), x2, y2), (x, y), strict=True)
            )
        return _products(g, x, y)


def _products(g, x, y):
    """dx = g @ y^T, dy = x^T @ g; a plain matrix y takes all leading axes of x as rows of one product."""
    if y.ndim == 2 and x.ndim > 2:
        rows = product(x.shape[:-1])
        dy = swap(reshape(x, shape=(rows, x.shape[-1]))) @ reshape(g, shape=(rows, y.shape[-1]))
        return g @ swap(y), dy
    return g @ swap(y), swap(x) @ g


def swap(x):
    """x with its last two axes exchanged."""
    return permute(x, axes=(*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))


def _sum_like(d, x):
    """The product's gradient `d` back in the shape of a 1-d operand `x` (leading axes summed)."""
    from .reduce import sum_
    if x.ndim > 1:
        return d
    flat = reshape(d, shape=(product(d.shape[:-2]), product(d.shape[-2:])))
    return sum_(flat, axes=(0,), keepdims=False)
