"""Attention to the filled part of a cache. B batch, H heads, T new rows, S positions that fit, D and E widths."""

from __future__ import annotations

import numpy as np

from ..call import Part
from ..kernel import Kernel, template


def cached_attention(dtype: str) -> Kernel:
    """out[t] = softmax over s <= start + t of (scale q[t] . k[s]), times v, for each of `batch` x `heads`.

    q, k, v, out   first elements; rows of q and k have `width` adjacent elements, those of v and out `out_width`
    start[0]       how many positions there are before row 0; what start + t asks for is moved into 0 .. places - 1
    scratch        this thread's own, `places` elements
    *_batch, *_head, *_row   elements from one to the next
    """
    return template("cached_attention", dtype, PARAMS, CACHED)


def cached_attention_words(part: Part) -> list[int]:
    """The instruction's axes are (batch, heads, rows, places, width, out_width)."""
    q, k, v, _, out, _ = (slot.strides for slot in part.call.slots)
    (scale,) = part.call.params
    single = part.call.instr.kernel.endswith("f32")
    word = int(np.float32(scale).view(np.uint32)) if single else int(np.float64(scale).view(np.int64))
    strides = [*q[:3], k[0], k[1], k[3], v[0], v[1], v[3], *out[:3]]
    return [*part.pointers, word, *part.sizes, *strides, part.starts[2]]


PARAMS = (
    "q:T* k:T* v:T* start:i64* out:T* scratch:T* scale:T "
    "batch:i64 heads:i64 rows:i64 places:i64 width:i64 out_width:i64 "
    "q_batch:i64 q_head:i64 q_row:i64 k_batch:i64 k_head:i64 k_row:i64 v_batch:i64 v_head:i64 v_row:i64 "
    "out_batch:i64 out_head:i64 out_row:i64 first:i64"
)
CACHED = """
    for b in range(batch):
        for h in range(heads):
            keys = at(k, b * k_batch + h * k_head)
            values = at(v, b * v_batch + h * v_head)
            for t in range(rows):
                x = at(q, b * q_batch + h * q_head + t * q_row)
                y = at(out, b * out_batch + h * out_head + t * out_row)
                count = minimum(maximum(ld(start, 0) + first + t, 0), places - 1) + 1
                top = T(-inf)
                s = 0
                while s < count:  # four positions; those beyond the last are the last one again
                    s1 = minimum(s + 1, count - 1)
                    s2 = minimum(s + 2, count - 1)
                    s3 = minimum(s + 3, count - 1)
                    k0 = at(keys, s * k_row)
                    k1 = at(keys, s1 * k_row)
                    k2 = at(keys, s2 * k_row)
                    k3 = at(keys, s3 * k_row)
                    a0 = T(0)
                    a1 = T(0)
                    a2 = T(0)
                    a3 = T(0)
                    for d in range(width):
                        here = ld(x, d)
                        a0 += here * ld(k0, d)
                        a1 += here * ld(k1, d)
                        a2 += here * ld(k2, d)
                        a3 += here * ld(k3, d)
                    st(scratch, s, a0 * scale)
                    st(scratch, s1, a1 * scale)
                    st(scratch, s2, a2 * scale)
                    st(scratch, s3, a3 * scale)
                    s += 4
                for i in range(count):
                    top = maximum(top, ld(scratch, i))
                total = T(0)
                for i in range(count):
                    e = exp(ld(scratch, i) - top)
                    st(scratch, i, e)
                    total += e
                for j in range(out_width):
                    st(y, j, T(0))
                s = 0
                while s + 4 <= count:
                    v0 = at(values, s * v_row)
                    v1 = at(v0, v_row)
                    v2 = at(v1, v_row)
                    v3 = at(v2, v_row)
                    p0 = ld(scratch, s) / total
                    p1 = ld(scratch, s + 1) / total
                    p2 = ld(scratch, s + 2) / total
                    p3 = ld(scratch, s + 3) / total
                    for j in range(out_width):
                        more = p0 * ld(v0, j) + p1 * ld(v1, j) + p2 * ld(v2, j) + p3 * ld(v3, j)
                        st(y, j, ld(y, j) + more)
                    s += 4
                while s < count:
                    v0 = at(values, s * v_row)
                    p0 = ld(scratch, s) / total
                    for j in range(out_width):
                        st(y, j, ld(y, j) + p0 * ld(v0, j))
                    s += 1
"""
