"""Counter-based random numbers: Philox(seed, step, site, element index), so that a value depends on nothing else, and
backward draws it again instead of storing it."""

from __future__ import annotations

import numpy as np

from ..op import no_gradient, op
from ..random import philox_u32
from ..types import DTYPES, TensorType, TypeRuleError
from .rules import known_dtype, need_shape

_DRAWN = no_gradient("a random number does not depend on the seed smoothly")


def _need_counters(seed, step):
    if seed.ndim or step.ndim or not seed.is_integer or not step.is_integer:
        raise TypeRuleError(f"seed and step are integers without axes, got {seed} and {step}")


def _bits(seed, step, shape, site):
    index = np.arange(int(np.prod(shape, dtype=np.int64)), dtype=np.uint64)
    return philox_u32(int(seed), int(step), site, index).reshape(shape)


@op
class uniform:
    """uniform in [0, 1) with 24 bits, from seed, step, site and the element's index"""
    random = True
    def infer(seed, step, *, shape, site, dtype):
        _need_counters(seed, step)
        out = TensorType(known_dtype(dtype), need_shape(shape))
        if not out.is_float:
            raise TypeRuleError(f"draws floats, not {dtype}")
        return out
    def ref(seed, step, *, shape, site, dtype):
        return (_bits(seed, step, shape, site) >> 8).astype(DTYPES[dtype]) * DTYPES[dtype].type(2.0**-24)
    vjp = _DRAWN
    def scalar(s, seed, step, *, shape, site, dtype): return s.cast(s.uniform(seed, step, site, shape), dtype)


@op
class random_bits:
    """32 random bits as an integer in [0, 2**32), from seed, step, site and the element's index"""
    random = True
    def infer(seed, step, *, shape, site):
        _need_counters(seed, step)
        return TensorType("i64", need_shape(shape))
    def ref(seed, step, *, shape, site): return _bits(seed, step, shape, site).astype(np.int64)
    vjp = _DRAWN
    def scalar(s, seed, step, *, shape, site): return s.random_bits(seed, step, site, shape)
