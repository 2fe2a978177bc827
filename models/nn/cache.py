"""Keys and values that an attention keeps. B batch, H heads, S positions that fit, D width of a head, T new ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ... import tracer as gt
from ...tracer import Module


class KVCache(Module):
    """The keys and values of the positions so far, in two buffers (B, H, S, D) that no checkpoint holds.

        y = self.cache.attend(q, k, v, position)  # in place of scaled_dot_product_attention(q, k, v, is_causal=True)

    `position` says how many positions are kept already: a number, or an integer array without axes, so that one
    traced program serves all positions. What lies behind it is not looked at; starting again at 0 needs no clearing. It
    is up to the caller that position + T <= S: new keys beyond the end would replace the last ones.
    """

    def __init__(self, batch: int, heads: int, length: int, head_dim: int, dtype: Any = "float32") -> None:
        self.k = gt.buffer(np.zeros((batch, heads, length, head_dim), dtype), persistent=False)
        self.v = gt.buffer(np.zeros((batch, heads, length, head_dim), dtype), persistent=False)

    def update(self, k: Any, v: Any, position: Any) -> tuple[Any, Any]:
        """Keeps k and v (B, H, T, D) from `position` on, and returns all that is kept, (B, H, S, D) each."""
        self.k = gt.dynamic_update_slice(self.k, k, position, axis=2)
        self.v = gt.dynamic_update_slice(self.v, v, position, axis=2)
        return self.k, self.v

    def attend(self, q: Any, k: Any, v: Any, position: Any) -> Any:
        """The attention of new rows q (B, H, T, D) to all positions up to their own -> (B, H, T, D)."""
        all_k, all_v = self.update(k, v, position)
        if isinstance(position, int) and position == 0:  # there is nothing before
            return gt.scaled_dot_product_attention(q, k, v, is_causal=True)
        return gt.cached_attention(q, all_k, all_v, position)

    def extra_repr(self) -> str:
        return ", ".join(map(str, self.k.shape))


def cache_for(caches: Mapping[int, KVCache], batch: Any) -> KVCache:
    """The cache of a batch of this size; a ValueError says how to make one."""
    for size, cache in caches.items():
        if batch == size:
            return cache
    known = ", ".join(map(str, caches)) or "none"
    raise ValueError(
        f"there is no key/value cache for a batch of {batch} (those there are: {known})\n"
        f"  write setup_cache({batch}) before the first call with a position"
    )
