"""Attention, forwards and backwards: of some rows of scores at a time, none of which is kept."""

from __future__ import annotations

import numpy as np

from ..call import Part
from ..kernel import Kernel, template
from .panels import COLUMNS_MODE, down, packed, with_lanes

FORWARD_PARAMS = (
    "q:T* k:T* v:T* out:T* lse:T* scratch:T* nb1:i64 nb2:i64 t:i64 s:i64 d:i64 e:i64 "
    "q1:i64 q2:i64 qt:i64 k1:i64 k2:i64 ks:i64 v1:i64 v2:i64 vs:i64 o1:i64 o2:i64 ot:i64 l1:i64 l2:i64 lt:i64 "
    "scale:T causal:i64 block:i64"
)
BACKWARD_PARAMS = (
    "q:T* k:T* v:T* lse:T* shift:T* g:T* dq:T* dk:T* dv:T* scratch:T* nb1:i64 nb2:i64 t:i64 s:i64 d:i64 e:i64 "
    "q1:i64 q2:i64 qt:i64 k1:i64 k2:i64 ks:i64 v1:i64 v2:i64 vs:i64 l1:i64 l2:i64 lt:i64 h1:i64 h2:i64 ht:i64 "
    "g1:i64 g2:i64 gt:i64 dq1:i64 dq2:i64 dqt:i64 dk1:i64 dk2:i64 dks:i64 dv1:i64 dv2:i64 dvs:i64 "
    "scale:T causal:i64 block:i64"
)


def attention(dtype: str) -> Kernel:
    """out = softmax(q k^T * scale) v, and lse = log(sum(e**(q k^T * scale))), for each (i1, i2) of a batch.

    q .. lse    first elements of [t, d], [s, d], [s, e], [t, e], [t]; qt .. lt: elements from one row to the next, of
                which the elements lie side by side; q1, q2 .. l1, l2: from one batch entry to the next
    scratch     this thread's own memory: panels of k^T and of v, and `block` rows of scores
    causal      1: row i has the positions 0 .. i
    """
    return template("attention", dtype, FORWARD_PARAMS, with_lanes(FORWARD, dtype))


def attention_grad(dtype: str) -> Kernel:
    """The gradients of attention by q, k and v, see ir/ops/attention.py.

    As in `attention`; `h` steps through shift, and g is the gradient of out. Scratch memory: panels of k^T, of v^T, of
    k, of `block` rows of q and of g; `block` rows of probabilities and of the gradient of the scores.
    """
    return template("attention_grad", dtype, BACKWARD_PARAMS, with_lanes(BACKWARD, dtype))


def _panels(columns: str, first: str, body: str, rows: str, last: str) -> str:
    """`body` for every tile of a result of `columns` columns and `rows` rows: from inner index 0 to `last`."""
    return f"""
for j in range(0, {columns}, 2 * LANES):
    width = minimum({columns} - j, 2 * LANES)
{
        _indented(
            down(
                rows,
                "width",
                f'''
low = {first}
high = {last}
{body}
''',
            )
        )
    }
"""


def _indented(text: str, levels: int = 1) -> str:
    return "\n".join("    " * levels + line for line in text.strip("\n").splitlines())


def _scores(left: str, step: str, right: str, inner: str, to: str) -> str:
    """`to` [rows of the block, wide] = left @ right, up to the diagonal where causal."""
    return _panels(
        "seen",
        "0",
        f"if causal == 0 or j < i0 + i + height:\n"
        f"    tile(number, high, at({left}, i * {step}), {step}, at({right}, j * {inner}), 2 * LANES, "
        f"at({to}, i * wide + j), wide, at({to}, i * wide + j), wide, 0, width)",
        "rows",
        inner,
    )


def _applied(left: str, right: str, width: str, to: str, step: str, first: str) -> str:
    """Rows of `to`, from `first` on, = left [rows of the block, seen] @ right; behind the diagonal are zeros."""
    return _panels(
        width,
        "0",
        "if causal != 0:\n    high = minimum(seen, i0 + i + height)\n"
        f"tile(number, high, at({left}, i * wide), wide, at({right}, j * s), 2 * LANES, "
        f"at({to}, ({first} + i) * {step} + j), {step}, at({to}, ({first} + i) * {step} + j), {step}, 0, width)",
        "rows",
        "seen",
    )


# What a thread does for one entry of the batch begins with the blocks' sizes: `wide` elements from one row of scores to
# the next; of a block `rows` rows, which see the first `seen` positions.
HEAD = """
wide = (s + 2 * LANES - 1) // (2 * LANES) * (2 * LANES)
for i1 in range(nb1):
    for i2 in range(nb2):
"""
BLOCK = """
for i0 in range(0, t, block):
    rows = minimum(block, t - i0)
    seen = s
    if causal != 0:
        seen = minimum(s, i0 + rows)
"""
SOFTMAX = """
for r in range(rows):
    line = at(scores, r * wide)
    own = seen
    if causal != 0:
        own = minimum(seen, i0 + r + 1)
    top = -T(inf)
    for c in range(own):
        top = maximum(top, ld(line, c) * scale)
        short_loop()
    total = T(0)
    for c in range(own):
        x = exp(ld(line, c) * scale - top)
        st(line, c, x)
        total = total + x
        short_loop()
    for c in range(own, seen):
        st(line, c, T(0))
        short_loop()
    st(sums, r, T(1) / total)
    st(lse, i1 * l1 + i2 * l2 + (i0 + r) * lt, top + log(total))
"""
SCALED = """
for r in range(rows):
    line = at(o, (i0 + r) * ot)
    share = ld(sums, r)
    for c in range(e):
        st(line, c, ld(line, c) * share)
"""
FORWARD = f"""
{_indented(HEAD)}
            turned = at(scratch, 0)
            values = at(turned, wide * d)
            scores = at(values, (e + 2 * LANES - 1) // (2 * LANES) * (2 * LANES) * s)
            sums = at(scores, block * wide)
            o = at(out, i1 * o1 + i2 * o2)
{_indented(packed("turned", "at(k, i1 * k1 + i2 * k2)", "1", "ks", "d", "s"), 3)}
{_indented(packed("values", "at(v, i1 * v1 + i2 * v2)", "vs", "1", "s", "e"), 3)}
{_indented(BLOCK, 3)}
{_indented(_scores("at(q, i1 * q1 + i2 * q2 + i0 * qt)", "qt", "turned", "d", "scores"), 4)}
{_indented(SOFTMAX, 4)}
{_indented(_applied("scores", "values", "e", "o", "ot", "i0"), 4)}
{_indented(SCALED, 4)}
"""

NO_GRADIENTS = """
for r in range(s):
    for c in range(d):
        st(dk, i1 * dk1 + i2 * dk2 + r * dks + c, T(0))
    for c in range(e):
        st(dv, i1 * dv1 + i2 * dv2 + r * dvs + c, T(0))
"""
# of the scores their probabilities, of the products with g the gradient of the scores, in place
GRADIENTS = """
for r in range(rows):
    line = at(scores, r * wide)
    slope = at(inner, r * wide)
    own = seen
    if causal != 0:
        own = minimum(seen, i0 + r + 1)
    norm = ld(lse, i1 * l1 + i2 * l2 + (i0 + r) * lt)
    away = ld(shift, i1 * h1 + i2 * h2 + (i0 + r) * ht)
    for c in range(own):
        x = exp(ld(line, c) * scale - norm)
        st(line, c, x)
        st(slope, c, x * (ld(slope, c) - away) * scale)
        short_loop()
    for c in range(own, seen):
        st(line, c, T(0))
        st(slope, c, T(0))
        short_loop()
"""


def _summed(left: str, right: str, width: str, to: str, step: str) -> str:
    """`to` [seen, width] += left^T @ right over the rows of the block; those before the diagonal are zeros."""
    return _panels(
        width,
        "0",
        f"if causal != 0:\n    low = maximum(i - i0, 0)\n"
        f"tile(number + COLUMNS_MODE, high - low, at({left}, low * wide + i), wide, "
        f"at({right}, j * rows + low * (2 * LANES)), 2 * LANES, "
        f"at({to}, i * {step} + j), {step}, at({to}, i * {step} + j), {step}, 1, width)",
        "seen",
        "rows",
    ).replace("COLUMNS_MODE", str(COLUMNS_MODE))


BACKWARD = f"""
{_indented(HEAD)}
            wide_d = (d + 2 * LANES - 1) // (2 * LANES) * (2 * LANES)
            wide_e = (e + 2 * LANES - 1) // (2 * LANES) * (2 * LANES)
            keys = at(scratch, 0)
            values = at(keys, wide * d)
            plain = at(values, wide * e)
            queries = at(plain, wide_d * s)
            outer = at(queries, wide_d * block)
            scores = at(outer, wide_e * block)
            inner = at(scores, block * wide)
{_indented(packed("keys", "at(k, i1 * k1 + i2 * k2)", "1", "ks", "d", "s"), 3)}
{_indented(packed("values", "at(v, i1 * v1 + i2 * v2)", "1", "vs", "e", "s"), 3)}
{_indented(packed("plain", "at(k, i1 * k1 + i2 * k2)", "ks", "1", "s", "d"), 3)}
{_indented(NO_GRADIENTS, 3)}
{_indented(BLOCK, 3)}
                from_q = at(q, i1 * q1 + i2 * q2 + i0 * qt)
                from_g = at(g, i1 * g1 + i2 * g2 + i0 * gt)
                to_q = at(dq, i1 * dq1 + i2 * dq2 + i0 * dqt)
                to_k = at(dk, i1 * dk1 + i2 * dk2)
                to_v = at(dv, i1 * dv1 + i2 * dv2)
{_indented(packed("queries", "from_q", "qt", "1", "rows", "d"), 4)}
{_indented(packed("outer", "from_g", "gt", "1", "rows", "e"), 4)}
{_indented(_scores("from_q", "qt", "keys", "d", "scores"), 4)}
{_indented(_scores("from_g", "gt", "values", "e", "inner"), 4)}
{_indented(GRADIENTS, 4)}
{_indented(_applied("inner", "plain", "d", "to_q", "dqt", "0"), 4)}
{_indented(_summed("inner", "queries", "d", "to_k", "dks"), 4)}
{_indented(_summed("scores", "outer", "e", "to_v", "dvs"), 4)}
"""


def attention_words(part: Part) -> list[int]:
    """The instruction's axes are (batch 1, batch 2, t, s, d, e); params: scale, causal, rows of a block."""
    scale, causal, block = part.call.params
    dtype = np.float32 if part.call.instr.kernel.endswith("f32") else np.float64
    bits = int(np.asarray(scale, dtype).view(np.uint32 if dtype == np.float32 else np.int64))
    steps: list[int] = []
    for slot in part.call.slots[:-1]:
        steps += [slot.strides[0], slot.strides[1], slot.strides[2] + slot.strides[3]]
    return [*part.pointers, *part.sizes, *steps, bits, int(causal), int(block)]
