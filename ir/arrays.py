"""What can be said of an array of numbers."""

from __future__ import annotations

import numpy as np


def constant_along(array: np.ndarray) -> frozenset[int]:
    """The axes along which all slices of an array are equal."""
    found = set()
    for axis, n in enumerate(array.shape):
        first = array.take([0], axis) if n else array
        if n < 2 or (np.array_equal(first, array.take([n - 1], axis)) and bool((array == first).all())):
            found.add(axis)
    return frozenset(found)
