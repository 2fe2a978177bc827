"""Causal masks as users write them."""

import gradtape as gt

INF = float("inf")


def masks(T):
    """Spellings of a causal mask (True where attention is allowed)."""
    i = gt.arange(T)
    return {
        "columns": i[:, None] >= i[None, :],
        "rows": i[None, :] <= i[:, None],
        "strict": i[None, :] < i[:, None] + 1,
        "difference": i[:, None] - i[None, :] >= 0,
        "tril": gt.tril(gt.ones((T, T))) != 0,
        "triu": gt.triu(gt.ones((T, T)), 1) == 0,
        "not": gt.logical_not(i[None, :] > i[:, None]),
        "both": (i[:, None] >= i[None, :]) & (i[:, None] >= 0),
    }
