"""A GPT: a decoder-only transformer in one file, read top to bottom. Structure and initialisation are
nanoGPT's.

Shapes: B batch, T positions (T <= context), C width, H heads, D = C / H, V vocabulary.
"""

from __future__ import annotations

import math
from typing import Any

from .. import tracer as gt
from ..tracer import Module
from . import init
from .generation import generate
from .nn import Dropout, Embedding, KVCache, LayerNorm, Linear, merge_heads, split_heads
from .nn.cache import cache_for


class CausalSelfAttention(Module):
    """Every position attends to itself and to those before it."""

    def __init__(self, width: int, heads: int, dropout: float, bias: bool, qkv: str, dtype: Any) -> None:
        if width % heads:
            raise ValueError(f"GPT: width {width} is not a multiple of heads {heads}")
        self.heads, self.dropout, self.fused = heads, dropout, qkv == "fused"
        if self.fused:
            self.qkv = Linear(width, 3 * width, bias, dtype)
        else:
            self.q = Linear(width, width, bias, dtype)
            self.k = Linear(width, width, bias, dtype)
            self.v = Linear(width, width, bias, dtype)
        self.proj = Linear(width, width, bias, dtype)
        self.residual_dropout = Dropout(dropout)
        self.caches: dict[int, KVCache] = {}  # by batch size

    def forward(self, x: Any, position: Any = None) -> Any:  # (B, T, C) -> (B, T, C)
        q, k, v = gt.split(self.qkv(x), 3, -1) if self.fused else (self.q(x), self.k(x), self.v(x))  # (B, T, C) each
        q, k, v = (split_heads(h, self.heads) for h in (q, k, v))  # (B, H, T, D)
        if position is None:
            p = self.dropout if self.training else 0.0
            y = gt.scaled_dot_product_attention(q, k, v, dropout_p=p, is_causal=True)  # (B, H, T, D)
        else:
            y = cache_for(self.caches, x.shape[0]).attend(q, k, v, position)
        return self.residual_dropout(self.proj(merge_heads(y)))


class FeedForward(Module):
    """Two linear layers with a GELU between them, four times as wide inside."""

    def __init__(self, width: int, dropout: float, bias: bool, gelu: str, dtype: Any) -> None:
        self.fc = Linear(width, 4 * width, bias, dtype)
        self.proj = Linear(4 * width, width, bias, dtype)
        self.gelu = gelu
        self.dropout = Dropout(dropout)

    def forward(self, x: Any) -> Any:  # (B, T, C) -> (B, T, C)
        return self.dropout(self.proj(gt.gelu(self.fc(x), self.gelu)))


class Block(Module):
    """Attention and feed-forward, each added to its input, which it sees normalised."""

    def __init__(self, width: int, heads: int, dropout: float, bias: bool, qkv: str, gelu: str, dtype: Any) -> None:
        self.ln1 = LayerNorm(width, bias=bias, dtype=dtype)
        self.attn = CausalSelfAttention(width, heads, dropout, bias, qkv, dtype)
        self.ln2 = LayerNorm(width, bias=bias, dtype=dtype)
        self.mlp = FeedForward(width, dropout, bias, gelu, dtype)

    def forward(self, x: Any, position: Any = None) -> Any:  # (B, T, C) -> (B, T, C)
        x = x + self.attn(self.ln1(x), position)
        return x + self.mlp(self.ln2(x))


class GPT(Module):
    """Token ids (B, T) -> logits (B, T, vocab).

    tied: the head uses the token table as its weight (it has no bias either way). bias: of linear layers and
    of LayerNorms. qkv: "fused", one linear layer of width 3C, or "separate", three. gelu: "none" (exact) or
    "tanh".

    Weights start as N(0, 0.02**2), those that end a residual branch as N(0, 0.02**2 / (2 depth)), biases as
    0. Keys: tok.weight, pos.weight, blocks.0.{ln1,attn.qkv,attn.proj,ln2,mlp.fc,mlp.proj}.{weight,bias}, ...,
    ln_f.weight, ln_f.bias, head.weight. GPT(65, 64, 128, depth=1, heads=4, tied=False, qkv="separate") has 21
    parameters.
    """

    def __init__(
        self,
        vocab: int,
        context: int,
        width: int,
        depth: int,
        heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        tied: bool = True,
        qkv: str = "fused",
        gelu: str = "none",
        dtype: Any = "float32",
    ) -> None:
        if qkv not in ("fused", "separate"):
            raise ValueError(f'GPT: qkv is "fused" or "separate", not {qkv!r}')
        self.vocab, self.context, self.width, self.depth, self.heads = vocab, context, width, depth, heads
        self.tok = Embedding(vocab, width, dtype)
        self.pos = Embedding(context, width, dtype)
        self.dropout = Dropout(dropout)
        self.blocks = [Block(width, heads, dropout, bias, qkv, gelu, dtype) for _ in range(depth)]
        self.ln_f = LayerNorm(width, bias=bias, dtype=dtype)
        self.head = Linear(width, vocab, bias=False, dtype=dtype)
        if tied:
            self.head.weight = self.tok.weight
        self._initialise()

    def _initialise(self) -> None:
        for path, parameter in self.named_parameters():
            if path.endswith("bias"):
                init.zeros_(parameter)
            elif path.endswith("proj.weight"):
                init.normal_(parameter, 0.0, 0.02 / math.sqrt(2 * self.depth))
            elif parameter.ndim == 2:
                init.normal_(parameter, 0.0, 0.02)

    def setup_cache(self, batch: int) -> None:
        """Room for the keys and values of `context` positions of so many sequences; what there is already stays."""
        for block in self.blocks:
            shape = batch, self.heads, self.context, self.width // self.heads
            if batch not in block.attn.caches:
                block.attn.caches[batch] = KVCache(*shape, self.tok.weight.dtype)

    def forward(self, idx: Any, position: Any = None) -> Any:  # (B, T) -> (B, T, V)
        """With a `position` idx stands behind so many ids, whose keys and values were kept by earlier calls
        (`setup_cache(B)` comes first); `generate` calls it so."""
        T = idx.shape[1]
        assert T <= self.context, f"{T} positions, but the context is {self.context}"  # noqa: SIM300
        pos = self.pos.weight[:T] if position is None else gt.dynamic_slice(self.pos.weight, position, T, axis=0)
        x = self.tok(idx) + pos  # (B, T, C) + (T, C)
        x = self.dropout(x)
        for block in self.blocks:
            x = block(x, position)
        return self.head(self.ln_f(x))

    def generate(self, idx: Any, max_new_tokens: int, **options: Any) -> Any:
        """`idx` and what the model goes on with, in NumPy; `gt.compile(model).generate` does the same as a tape. See
        `gt.generate` for the options."""
        return generate(self, idx, max_new_tokens, **options)
