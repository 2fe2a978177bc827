"""Counter-based random numbers: Philox(seed, step, site, element index), so that a value depends on nothing else, and
backward draws it again instead of storing it."""

from __future__ import annotations

import numpy as np

from ..op import no_gradient, op
from ..random import philox_u32
from ..types import DTYPES, TensorType, TypeRuleError
from .rules import known_dtype, need_shape


@op
class uniform:
    """uniform in [0, 1) with 24 bits, from seed, step, site and the element's index"""
    random = True
    def infer(seed, step, *, shape, site, dtype):
        if seed.ndim or step.ndim or not seed.is_integer or not step.is_integer:
            raise TypeRuleError(f"seed and step are integers without axes, got {seed} and {step}")
        out = TensorType(known_dtype(dtype), need_shape(shape))
        if not out.is_float:
            raise TypeRuleError(f"draws floats, not {dtype}")
        return out
    def ref(seed, step, *, shape, site, dtype):
        index = np.arange(int(np.prod(shape, dtype=np.int64)), dtype=np.uint64)
        bits = philox_u32(int(seed), int(step), site, index)
        return ((bits >> 8).astype(DTYPES[dtype]) * DTYPES[dtype].type(2.0**-24)).reshape(shape)
    vjp = no_gradient("a random number does not depend on the seed smoothly")
    def scalar(s, seed, step, *, shape, site, dtype): return s.cast(s.uniform(seed, step, site, shape), dtype)
