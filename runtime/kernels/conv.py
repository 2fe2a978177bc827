"""Convolution by patches: of a box of windows at a time, small enough for the second-level cache, the patches are
copied side by side, and one matrix product takes them all."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from textwrap import indent

import numpy as np

from ..call import Part
from ..kernel import Kernel, template

# OpenBLAS takes products of up to a million multiply-adds without packing their factors first: 3 to 32 channels, 3 x 3,
# 32 images of 32 x 32 take 0.44 ms in such pieces and 0.75 otherwise (their weight's gradient 0.55 and 1.3). With fewer
# columns than this it does not pay: 32 to 64 channels, 54 columns, 2.2 and 2.1 ms.
UNPACKED, UNPACKED_COLUMNS = 1_000_000, 100
DIRECT_COLUMNS = 128  # windows from which a product of x where it lies is worth its call
VECTOR = 8  # runs of windows are copied in whole vectors, a little beyond their end

PARAMS = (
    "x:T* weight:T* y:T* scratch:T* lines:T* fn:i64 one:T what:i64 "
    "n:i64 g:i64 c:i64 xh_size:i64 xw_size:i64 o:i64 h:i64 w:i64 kh:i64 kw:i64 "
    "sh:i64 sw:i64 dh:i64 dw:i64 ph:i64 pw:i64 "
    "xn:i64 xg:i64 xc:i64 xh:i64 wg:i64 wo:i64 yn:i64 yg:i64 yo:i64 bn:i64 bh:i64 bw:i64 direct:i64"
)


def conv(dtype: str) -> Kernel:
    """One of the derivatives of sum(x[n, c, i * s + k * d - p] * w[o, c, k] * y[n, o, i]), see ir/ops/conv.py:

    what = 0   y = w @ patches(x)
    what = 1   patches(x) += w^T @ y, from x = 0
    what = 2   w = y @ patches(x)^T, summed over the boxes

    x, weight, y   first elements. Without gaps lie the rows of x (where it is the result, its images), the weights of
                   an output, and the images of y
    scratch        this thread's own memory: the patches of a box, a matrix [channels and kernel places, windows], and
                   where they are copied the box's outputs, [outputs, windows]
    lines          likewise: the part of one channel of x that a box sees, padding included
    fn, one        blas.address("sgemm" or "dgemm"), and 1.0
    n g c o        images, groups, and channels and outputs of a group
    xh_size ..     sizes of x; h w: windows; kh kw: the weight's
    sh .. pw       stride, dilation, padding before x
    xn .. yo       elements from one image, group, channel, row ... to the next
    bn bh bw       the sizes of a box of windows
    direct         1: the matrix that the weight meets is read where it lies: x of a 1 x 1 weight (0), or y (1, 2)
    """
    return template("conv", dtype, PARAMS, CONV)


# `body` for every row of x that a box sees: elements [low, high) of `line` are elements x0 + low ... of `start`.
def _lines(body: str) -> str:
    return f"""
for ni in range(n1 - n0):
    for yi in range(maximum(y0, 0), minimum(y0 + lh_size, xh_size)):
        start = at(x, gi * xg + (n0 + ni) * xn + ci * xc + yi * xh)
        line = at(lines, (ni * lh_size + yi - y0) * lw_size)
{indent(body, " " * 8)}
"""


# `body` for every place in the kernel and every run of windows along a row: `line` is where the first one reads.
def _runs(body: str) -> str:
    return f"""
for k0 in range(kh):
    for k1 in range(kw):
        for ni in range(n1 - n0):
            for hi in range(h1 - h0):
                line = at(lines, (ni * lh_size + hi * sh + k0 * dh) * lw_size + k1 * dw)
{indent(body, " " * 16)}
                to = at(to, w1 - w0)
"""


NO_LINES = """
for j in range((n1 - n0) * lh_size * lw_size):
    st(lines, j, T(0))
"""
LINES_FROM_X = _lines("""
for j in range(low, high):
    st(line, j, ld(start, x0 + j))
""")
# in whole vectors: what is too much is overwritten by the next run
PATCHES_FROM_LINES = _runs(f"""
if sw == 1:
    for j in range(0, w1 - w0, {VECTOR}):
        for jj in range({VECTOR}):
            st(to, j + jj, ld(line, j + jj))
else:
    for j in range(w1 - w0):
        st(to, j, ld(line, j * sw))
""")
LINES_FROM_PATCHES = _runs("""
if sw == 1:
    for j in range(w1 - w0):
        st(line, j, ld(line, j) + ld(to, j))
else:
    for j in range(w1 - w0):
        st(line, j * sw, ld(line, j * sw) + ld(to, j))
""")
X_FROM_LINES = _lines("""
for j in range(low, high):
    st(start, x0 + j, ld(start, x0 + j) + ld(line, j))
""")

COPY_PATCHES = f"""
to = at(scratch, 0)
{NO_LINES}
for ci in range(c):
{indent(LINES_FROM_X, "    ")}
{indent(PATCHES_FROM_LINES, "    ")}
"""
ADD_PATCHES = f"""
to = at(scratch, 0)
for ci in range(c):
{indent(NO_LINES, "    ")}
{indent(LINES_FROM_PATCHES, "    ")}
{indent(X_FROM_LINES, "    ")}
"""
COPY_OUTPUTS = """
to = at(scratch, inner * columns)
for oi in range(o):
    for ni in range(n0, n1):
        start = at(y, gi * yg + oi * yo + ni * yn + h0 * w + w0)
        for j in range((h1 - h0) * (w1 - w0)):
            st(to, j, ld(start, j))
        to = at(to, (h1 - h0) * (w1 - w0))
"""

CONV = f"""
    inner = c * kh * kw
    for gi in range(g):
        factor = at(weight, gi * wg)
        if what == 2:
            for j in range(o * wo):
                st(factor, j, T(0))
        for n0 in range(0, n, bn):
            n1 = minimum(n0 + bn, n)
            if what == 1:
                for ni in range(n0, n1):
                    for ci in range(c):
                        start = at(x, gi * xg + ni * xn + ci * xc)
                        for j in range(xh_size * xw_size):
                            st(start, j, T(0))
            for h0 in range(0, h, bh):
                h1 = minimum(h0 + bh, h)
                for w0 in range(0, w, bw):
                    w1 = minimum(w0 + bw, w)
                    columns = (n1 - n0) * (h1 - h0) * (w1 - w0)
                    # the rows and columns of x, padding included, that the box sees
                    lh_size = (h1 - h0 - 1) * sh + (kh - 1) * dh + 1
                    lw_size = (w1 - w0 - 1) * sw + (kw - 1) * dw + 1
                    y0 = h0 * sh - ph
                    x0 = w0 * sw - pw
                    low = minimum(maximum(-x0, 0), lw_size)
                    high = maximum(minimum(xw_size - x0, lw_size), low)
                    patches = at(scratch, 0)
                    patches_step = columns
                    if what == 0 and direct:
                        patches = at(x, gi * xg + n0 * xn + y0 * xh + x0)
                        patches_step = maximum(xc, columns)
                    elif what != 1:
{indent(COPY_PATCHES, " " * 24)}
                    outputs = at(y, gi * yg + n0 * yn + h0 * w + w0)
                    outputs_step = maximum(yo, columns)
                    if what != 0 and direct == 0:
                        outputs = at(scratch, inner * columns)
                        outputs_step = columns
{indent(COPY_OUTPUTS, " " * 24)}
                    if what == 0:
                        gemm_call(fn, 0, 0, o, columns, inner, one, factor, wo, patches, patches_step,
                                  T(0), outputs, outputs_step)
                    elif what == 1:
                        gemm_call(fn, 1, 0, inner, columns, o, one, factor, wo, outputs, outputs_step,
                                  T(0), patches, columns)
{indent(ADD_PATCHES, " " * 24)}
                    else:
                        gemm_call(fn, 0, 1, o, inner, columns, one, outputs, outputs_step, patches, columns,
                                  T(1), factor, wo)
"""


# argument words -----------------------------------------------------------------------------------------------------
def conv_words(part: Part) -> list[int]:
    """The instruction's axes are (images, groups, channels, 2 sizes of x, outputs, 2 of y, 2 of the weight); params are
    `what`, stride, dilation, padding before (2 each), and how many elements of scratch memory and of lines to fill."""
    n, _, c, _, _, o, h, w, kh, kw = part.sizes
    x, _, y, *_ = (slot.strides for slot in part.call.slots)
    windows, y_steps = (n, h, w), (y[0], *y[6:8])
    if part.call.params[0] == 0:
        if (kh, kw, *part.call.params[1:3], *part.call.params[5:7]) == (1, 1, 1, 1, 0, 0):
            runs = (_run(windows, steps, prod(windows)) for steps in (y_steps, (x[0], *x[3:5])))
            box = tuple(map(min, *runs))
            if prod(box) >= DIRECT_COLUMNS and (c == 1 or x[2] >= prod(box)):
                return _words(part, box, direct=True)
        return _words(part, _box(part, y_steps, c * kh * kw), direct=False)
    # the scratch memory also holds the outputs of a box, unless they lie as a matrix in y
    box = _box(part, (h * w, w, 1), c * kh * kw + o)
    return _words(part, box, box == _run(windows, y_steps, prod(box)) and (o == 1 or y[5] >= prod(box)))


def _box(part: Part, steps: Sequence[int], rows: int) -> tuple[int, ...]:
    """The windows whose `rows` elements each fit into scratch memory, and what they see of a channel into the lines."""
    n, _, c, _, _, o, h, w, *kernel = part.sizes
    _, *geometry, scratch, lines = map(int, part.call.params)
    stride, dilation = geometry[:2], geometry[2:4]
    most, unpacked = scratch // rows, UNPACKED // (c * prod(kernel) * o)
    box = _run((n, h, w), steps, min(most, unpacked) if unpacked >= UNPACKED_COLUMNS else most)
    while prod(box) > 1:
        seen = [(b - 1) * s + (k - 1) * d + 1 for b, s, k, d in zip(box[1:], stride, kernel, dilation, strict=True)]
        if box[0] * prod(seen) <= lines:
            break
        box = _run((n, h, w), steps, prod(box) // 2)
    return box


def _run(sizes: Sequence[int], steps: Sequence[int], most: int) -> tuple[int, ...]:
    """Up to `most` windows (at least one) that lie one after the other: some of a row, or some rows, or some images.
    The runs along an axis are of nearly equal size."""
    run, count = [1] * len(sizes), 1
    for axis in reversed(range(len(sizes))):
        if sizes[axis] > 1 and steps[axis] != count:
            break
        runs = -(-sizes[axis] // max(1, most // count))
        run[axis] = max(1, -(-sizes[axis] // max(1, runs)))
        if runs > 1:
            break
        count *= run[axis]
    return tuple(run)


def _words(part: Part, box: Sequence[int], direct: bool) -> list[int]:
    single = part.call.instr.kernel.endswith("f32")
    routine = part.at.blas["sgemm" if single else "dgemm"]
    one = int(np.float32(1).view(np.uint32)) if single else int(np.float64(1).view(np.int64))
    what, *geometry, _, _ = map(int, part.call.params)
    geometry[4] -= part.starts[6] * geometry[0]  # a part of the rows of windows sees x from further down
    x, weight, y, *_ = (slot.strides for slot in part.call.slots)
    steps = [*x[:4], weight[1], weight[5], y[0], y[1], y[5]]
    return [*part.pointers, routine, one, what, *part.sizes, *geometry, *steps, *box, int(direct)]
