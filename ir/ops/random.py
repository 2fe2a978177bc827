"""Counter-based random numbers: Philox(seed, step, site, element index), so that a value depends on nothing else, and
backward draws it again instead of storing it."""

from __future__ import annotations

import numpy as np

from ..op import no_gradient, op
from ..random import philox_u32
from ..types import DTYPES, TensorType, TypeRuleError
from .rules import known_dtype, need_shape

_DRAWN = no_gradient("a random number does not depend on the seed smoothly")


def _need_counters(seed, step, first):
    if first is not None and (first.ndim or first.dtype != "i64"):
        raise TypeRuleError(f"first is an i64 without axes, got {first}")
    if seed.ndim or step.ndim or not seed.is_integer or not step.is_integer:
        raise TypeRuleError(f"seed and step are integers without axes, got {seed} and {step}")


def _bits(seed, step, first, shape, site):
    index = np.arange(int(np.prod(shape, dtype=np.int64)), dtype=np.uint64) + np.uint64(first)
    return philox_u32(int(seed), int(step), site, index).reshape(shape)


@op
class uniform:
    """uniform in [0, 1) with 24 bits, from seed, step, site and the element's index, which begins at first (0)"""
    random = True
    def infer(seed, step, first=None, *, shape, site, dtype):
        _need_counters(seed, step, first)
        out = TensorType(known_dtype(dtype), need_shape(shape))
        if not out.is_float:
            raise TypeRuleError(f"draws floats, not {dtype}")
        return out
    def ref(seed, step, first=0, *, shape, site, dtype):
        return (_bits(seed, step, first, shape, site) >> 8).astype(DTYPES[dtype]) * DTYPES[dtype].type(2.0**-24)
    vjp = _DRAWN
    def scalar(s, seed, step, first=0, *, shape, site, dtype): return s.cast(s.uniform(seed, step, site, shape, first), dtype)


@op
class random_bits:
    """32 random bits as an integer in [0, 2**32), from seed, step, site and the element's index, which begins at first (0)"""
    random = True
    def infer(seed, step, first=None, *, shape, site):
        _need_counters(seed, step, first)
        return TensorType("i64", need_shape(shape))
    def ref(seed, step, first=0, *, shape, site): return _bits(seed, step, first, shape, site).astype(np.int64)
    vjp = _DRAWN
    def scalar(s, seed, step, first=0, *, shape, site): return s.random_bits(seed, step, site, shape, first)
