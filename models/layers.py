"""Layers, `gt.nn`: PyTorch's names, argument order, initial distributions and state_dict keys. Shapes in
comments: B batch, T positions, S positions attended to, C width, H heads, D = C / H."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from .. import tracer as gt
from ..tracer import Module, Parameter
from . import init


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


class LayerNorm(Module):
    """(x - mean) / sqrt(var + eps) * weight + bias over the last axes. Keys: weight and bias,
    `normalized_shape` each."""

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        dtype: Any = "float32",
    ) -> None:
        self.normalized_shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.eps = eps
        shape = self.normalized_shape
        self.weight = init.ones_(init.empty(*shape, dtype=dtype)) if elementwise_affine else None
        self.bias = init.empty(*shape, dtype=dtype) if elementwise_affine and bias else None

    def forward(self, x: Any) -> Any:
        return gt.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}"


class RMSNorm(Module):
    """x / sqrt(mean(x**2) + eps) * weight over the last axes. Key: weight, `normalized_shape`. eps None: that
    of the dtype."""

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        dtype: Any = "float32",
    ) -> None:
        self.normalized_shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.eps = eps
        self.weight = init.ones_(init.empty(*self.normalized_shape, dtype=dtype)) if elementwise_affine else None

    def forward(self, x: Any) -> Any:
        return gt.rms_norm(x, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}"


class Dropout(Module):
    """In training mode each element is 0 with probability p, else x / (1 - p)."""

    def __init__(self, p: float = 0.5) -> None:
        if not 0.0 <= p <= 1.0:
            raise ValueError(f"Dropout: a probability lies in [0, 1], got p={p}")
        self.p = p

    def forward(self, x: Any) -> Any:
        return gt.dropout(x, self.p, self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}"


class MultiHeadAttention(Module):
    """Attention in `num_heads` heads of width embed_dim / num_heads; batch first; returns the output only.

    Keys as in PyTorch's MultiheadAttention: in_proj_weight (3C, C) with q, k and v one above the other
    (Xavier uniform), in_proj_bias (3C,) zeros, out_proj.weight (C, C), out_proj.bias (C,) zeros.
    """

    def __init__(
        self, embed_dim: int, num_heads: int, dropout: float = 0.0, bias: bool = True, dtype: Any = "float32"
    ) -> None:
        if embed_dim % num_heads:
            raise ValueError(f"MultiHeadAttention: embed_dim {embed_dim} is not a multiple of num_heads {num_heads}")
        self.embed_dim, self.num_heads, self.dropout = embed_dim, num_heads, dropout
        self.in_proj_weight = init.xavier_uniform_(init.empty(3 * embed_dim, embed_dim, dtype=dtype))
        self.in_proj_bias = init.empty(3 * embed_dim, dtype=dtype) if bias else None
        self.out_proj = Linear(embed_dim, embed_dim, bias, dtype)
        if self.out_proj.bias is not None:
            init.zeros_(self.out_proj.bias)

    def forward(
        self, query: Any, key: Any = None, value: Any = None, attn_mask: Any = None, is_causal: bool = False
    ) -> Any:
        """query (B, T, C), key and value (B, S, C) (default: the query) -> (B, T, C). For `attn_mask` and
        `is_causal` see `gt.scaled_dot_product_attention`."""
        key = query if key is None else key
        value = key if value is None else value
        if key is query and value is query:
            q, k, v = gt.split(gt.linear(query, self.in_proj_weight, self.in_proj_bias), 3, -1)  # 3 of (B, T, C)
        else:
            weights = gt.split(self.in_proj_weight, 3, 0)
            biases = [None] * 3 if self.in_proj_bias is None else gt.split(self.in_proj_bias, 3, 0)
            q, k, v = (gt.linear(x, w, b) for x, w, b in zip((query, key, value), weights, biases, strict=True))
        p = self.dropout if self.training else 0.0
        q, k, v = (split_heads(x, self.num_heads) for x in (q, k, v))
        return self.out_proj(merge_heads(gt.scaled_dot_product_attention(q, k, v, attn_mask, p, is_causal)))

    def extra_repr(self) -> str:
        return f"{self.embed_dim}, {self.num_heads}"


def split_heads(x: Any, heads: int) -> Any:
    """(B, T, C) -> (B, H, T, D)"""
    B, T, C = x.shape
    return gt.permute(gt.reshape(x, B, T, heads, C // heads), 0, 2, 1, 3)


def merge_heads(x: Any) -> Any:
    """(B, H, T, D) -> (B, T, C)"""
    B, H, T, D = x.shape
    return gt.reshape(gt.permute(x, 0, 2, 1, 3), B, T, H * D)


class Activation(Module):
    """An activation function as a module."""

    function: Callable[[Any], Any]

    def forward(self, x: Any) -> Any:
        return type(self).function(x)


class ReLU(Activation):
    """max(x, 0)"""

    function = staticmethod(gt.relu)


class Tanh(Activation):
    """tanh(x)"""

    function = staticmethod(gt.tanh)


class Sigmoid(Activation):
    """1 / (1 + e**-x)"""

    function = staticmethod(gt.sigmoid)


class SiLU(Activation):
    """x * sigmoid(x)"""

    function = staticmethod(gt.silu)


class GELU(Module):
    """x * Phi(x), or its tanh approximation: see `gt.gelu`."""

    def __init__(self, approximate: str = "none") -> None:
        self.approximate = approximate

    def forward(self, x: Any) -> Any:
        return gt.gelu(x, self.approximate)

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


class Identity(Module):
    """x"""

    def forward(self, x: Any) -> Any:
        return x


class Flatten(Module):
    """(B, ...) -> (B, product of the rest)"""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, x: Any) -> Any:
        return gt.flatten(x, self.start_dim, self.end_dim)


class Sequential(Module):
    """Modules one after the other. Keys: the number of the module, then its own (`0.weight`)."""

    def __init__(self, *modules: Callable[[Any], Any]) -> None:
        for i, module in enumerate(modules):
            setattr(self, str(i), module)

    def _parts(self) -> list[Any]:
        return [part for name, part in vars(self).items() if name.isdigit()]

    def forward(self, x: Any) -> Any:
        for part in self._parts():
            x = part(x)
        return x

    def append(self, module: Callable[[Any], Any]) -> Sequential:
        setattr(self, str(len(self)), module)
        return self

    def __len__(self) -> int:
        return len(self._parts())

    def __iter__(self) -> Iterator[Any]:
        return iter(self._parts())

    def __getitem__(self, i: int) -> Any:
        return self._parts()[i]


ModuleList = list  # modules in plain lists and dicts are found
ModuleDict = dict


__all__ = [
    "GELU", "Activation", "Dropout", "Embedding", "Flatten", "Identity", "LayerNorm", "Linear", "ModuleDict",
    "ModuleList", "MultiHeadAttention", "Parameter", "RMSNorm", "ReLU", "Sequential", "SiLU", "Sigmoid", "Tanh",
    "merge_heads", "split_heads",
]  # fmt: skip
