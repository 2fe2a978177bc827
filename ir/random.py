"""Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
2011).

A number depends on (seed, step, site, element index) and on nothing else: not on threads, fusion or batch
splits.
"""

from __future__ import annotations

import numpy as np

MULTIPLY = (0xD2511F53, 0xCD9E8D57)  # constants of Philox4x32
WEYL = (0x9E3779B9, 0xBB67AE85)  # golden ratio, sqrt(3) - 1: added to the key each round
ROUNDS = 10
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


def philox4x32(counter: np.ndarray, key: tuple[int, int]) -> np.ndarray:
    """Ten rounds of Philox. counter: uint64[4, n] holding 32-bit words; returns uint32[4, n]."""
    c0, c1, c2, c3 = np.asarray(counter, np.uint64)
    k0, k1 = key
    for _ in range(ROUNDS):
        first, second = c0 * np.uint64(MULTIPLY[0]), c2 * np.uint64(MULTIPLY[1])
        c0, c1, c2, c3 = (
            (second >> _HALF) ^ c1 ^ np.uint64(k0), second & _LOW,
            (first >> _HALF) ^ c3 ^ np.uint64(k1), first & _LOW,
        )  # fmt: skip
        k0, k1 = (k0 + WEYL[0]) & 0xFFFFFFFF, (k1 + WEYL[1]) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3]).astype(np.uint32)


def philox_u32(seed: int, step: int, site: int, index_array: np.ndarray) -> np.ndarray:
    """Random 32 bits for each element index: the first word of Philox4x32-10, uint32 of index_array's shape.

    Counter: (index low, index high, step low, site); key: (seed low, seed high).
    """
    index = np.asarray(index_array).astype(np.uint64)
    flat = index.reshape(-1)
    counter = np.empty((4, flat.size), np.uint64)
    counter[0], counter[1] = flat & _LOW, flat >> _HALF
    counter[2], counter[3] = int(step) & 0xFFFFFFFF, int(site) & 0xFFFFFFFF
    key = (int(seed) & 0xFFFFFFFF, (int(seed) >> 32) & 0xFFFFFFFF)
    return philox4x32(counter, key)[0].reshape(index.shape)


def uniform(seed: int, step: int, site: int, index_array: np.ndarray) -> np.ndarray:
    """float32 in [0, 1): the upper 24 bits over 2**24, exact in float32."""
    return (philox_u32(seed, step, site, index_array) >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)
