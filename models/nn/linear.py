"""Linear maps and tables."""

from __future__ import annotations

import math
from typing import Any

from ... import tracer as gt
from ...tracer import Module
from .. import init


class Linear(Module):
    """x @ weight.T + bias: (..., in_features) -> (..., out_features). Keys: weight (out, in), bias (out,).

    Both start uniform in +-1/sqrt(in_features).
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True, dtype: Any = "float32") -> None:
        self.in_features, self.out_features = in_features, out_features
        bound = 1.0 / math.sqrt(in_features) if in_features else 0.0
        self.weight = init.uniform_(init.empty(out_features, in_features, dtype=dtype), -bound, bound)
        self.bias = init.uniform_(init.empty(out_features, dtype=dtype), -bound, bound) if bias else None

    def forward(self, x: Any) -> Any:
        y = x @ self.weight.T
        return y if self.bias is None else y + self.bias

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}" + ("" if self.bias is not None else ", bias=False")


class Embedding(Module):
    """Rows of a table: integers (...) -> (..., embedding_dim). Key: weight (num_embeddings, embedding_dim),
    N(0, 1)."""

    def __init__(self, num_embeddings: int, embedding_dim: int, dtype: Any = "float32") -> None:
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.weight = init.normal_(init.empty(num_embeddings, embedding_dim, dtype=dtype))

    def forward(self, index: Any) -> Any:
        return gt.embedding(index, self.weight)

    def extra_repr(self) -> str:
        return f"{self.num_embeddings}, {self.embedding_dim}"
