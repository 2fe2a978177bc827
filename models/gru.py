"""A recurrent character model in one file, read top to bottom: an embedding, GRU layers, a head.

Shapes: B batch, T positions, C width, V vocabulary, L depth.
"""

from __future__ import annotations

from typing import Any

from .. import tracer as gt
from ..tracer import Module
from . import nn


class GRU(Module):
    """Token ids (B, T) -> logits (B, T, vocab); the state starts from zeros with every sequence.

    `depth` GRU layers of `width`, dropout before each of them and before the head. Keys: tok.weight (V, C),
    gru.weight_ih_l0 (3C, C), gru.weight_hh_l0, gru.bias_ih_l0, gru.bias_hh_l0, ..., head.weight (V, C), head.bias.
    """

    def __init__(self, vocab: int, width: int, depth: int, dropout: float = 0.0, dtype: Any = "float32") -> None:
        self.vocab, self.width, self.depth = vocab, width, depth
        self.tok = nn.Embedding(vocab, width, dtype)
        self.gru = nn.GRU(width, width, depth, dropout=dropout, dtype=dtype)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, vocab, dtype=dtype)

    def forward(self, idx: Any) -> Any:  # (B, T) -> (B, T, V)
        return self.step(idx, None)[0]

    def step(self, idx: Any, state: Any) -> tuple[Any, Any]:
        """Continues sequences: ids (B, T) and the state after those before, (L, B, C) or None -> logits (B, T, V), and
        the state after them. Generation gives it one id at a time."""
        x = self.dropout(self.tok(gt.permute(idx, 1, 0)))  # (T, B, C): the layers go along the first axis
        y, state = self.gru(x, state)
        return gt.permute(self.head(self.dropout(y)), 1, 0, 2), state
