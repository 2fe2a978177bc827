"""Attention to what a cache holds: rows of queries that stand behind a number of earlier ones, known at run time."""

from __future__ import annotations

import numpy as np

from ..dims import require_equal
from ..op import op
from ..types import TensorType, TypeRuleError
from .elementwise import less_equal, maximum, minimum, where
from .linalg import matmul
from .nn import softmax
from .reduce import sum_
from .rules import need_float
from .shape import iota, permute

TURN = (0, 1, 3, 2)


@op
class cached_attention:
    """softmax(scale q k^T) v, where row t of q sees the positions up to start + t of k and v, and at least the first; the
    kernel reads no others"""
    kind = "kernel"
    def infer(q, k, v, start, *, scale):
        for x in (q, k, v):
            need_float(x)
        if not q.ndim == k.ndim == v.ndim == 4 or len({t.dtype for t in (q, k, v)}) > 1:
            raise TypeRuleError(f"q, k and v are float[B, H, positions, width] of one dtype, got {q}, {k} and {v}")
        fits = all(map(require_equal, (*q.shape[:2], q.shape[3]), (*k.shape[:2], k.shape[3])))
        if not fits or not all(map(require_equal, k.shape[:3], v.shape[:3])):
            raise TypeRuleError(f"q (B, H, T, D), k (B, H, S, D) and v (B, H, S, E) do not fit: {q}, {k} and {v}")
        if start.ndim or start.weak or not start.is_integer:
            raise TypeRuleError(f"the start is an integer array without axes, got {start}")
        if isinstance(k.shape[2], int) and k.shape[2] == 0:
            raise TypeRuleError(f"there are no positions to attend to: k is {k}")
        return TensorType(q.dtype, (*q.shape[:3], v.shape[3]))
    def ref(q, k, v, start, *, scale):
        T, S = q.shape[2], k.shape[2]
        rows = np.clip(int(start) + np.arange(T)[:, None], 0, S - 1)
        seen = np.arange(S) <= rows
        scores = np.where(seen, scale * np.einsum("bhtd,bhsd->bhts", q, k), -np.inf)
        v = np.where(seen[-1:].T if T else False, v, 0)  # 0 times what is not there may not be NaN
        return softmax.ref(scores, axis=3) @ v
    def vjp(g, y, q, k, v, start, *, scale):
        T, S = q.type.shape[2], k.type.shape[2]
        rows = iota.like(q, shape=(T, 1), axis=0, dtype="i64") + start
        seen = less_equal(iota.like(q, shape=(1, S), axis=1, dtype="i64"), maximum(minimum(rows, S - 1), 0))
        p = softmax(where(seen, scale * matmul(q, permute(k, axes=TURN)), -np.inf), axis=3)
        dp = matmul(g, permute(v, axes=TURN))
        ds = scale * p * (dp - sum_(dp * p, axes=(3,), keepdims=True))
        return matmul(ds, k), matmul(permute(ds, axes=TURN), q), matmul(permute(p, axes=TURN), g), None
