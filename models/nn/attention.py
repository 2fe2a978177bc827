"""Attention. B batch, T positions, S positions attended to, C width, H heads, D = C / H."""

from __future__ import annotations

from typing import Any

from ... import tracer as gt
from ...tracer import Module
from .. import init
from .cache import KVCache, cache_for
from .linear import Linear


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
        self.caches: dict[int, KVCache] = {}  # by batch size

    def setup_cache(self, batch: int, length: int) -> None:
        """Room for the keys and values of up to `length` positions of so many sequences; see `forward`."""
        C, H = self.embed_dim, self.num_heads
        self.caches[batch] = KVCache(batch, H, length, C // H, self.in_proj_weight.dtype)

    def forward(
        self,
        query: Any,
        key: Any = None,
        value: Any = None,
        attn_mask: Any = None,
        is_causal: bool = False,
        position: Any = None,
    ) -> Any:
        """query (B, T, C), key and value (B, S, C) (default: the query) -> (B, T, C). For `attn_mask` and
        `is_causal` see `gt.scaled_dot_product_attention`.

        With a `position` the query stands behind so many earlier ones, whose keys and values were kept by earlier calls
        (`setup_cache` comes first), and every row attends to all up to itself.
        """
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
        if position is not None:
            return self.out_proj(merge_heads(cache_for(self.caches, query.shape[0]).attend(q, k, v, position)))
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
