"""Matrix products, single or in two nested batches: in register tiles, or through the BLAS library's address."""

from __future__ import annotations

from textwrap import indent

from ..call import Part
from ..kernel import Kernel, template
from .panels import COLUMNS_MODE, down, packed, with_lanes

# Multiply-adds of a thread up to which tiles beat OpenBLAS, GFLOP/s on one core: 384 x 512 x 128 186 to 167, turned 185
# to 168, 64 x 512 x 128 190 to 156, 64 x 64 x 32 130 to 84; but 512 x 1536 x 384 165 to 170, turned 160 to 172.
TILED_WORK = 64_000_000
TURNED_ROWS = 8  # rows of a from which it pays to turn b
# Rows of a block where BLAS computes a half: 256 rows in blocks of 64 cost 5/8 of the whole, in blocks of 32 9/16, but
# BLAS is slower on smaller products. Figures in docs/decisions.md.
RESULT_BLOCK, FACTOR_BLOCK = 64, 32

HALVES = ("", "out_lower", "out_upper", "x_lower", "x_upper", "y_lower", "y_upper")


def gemm(dtype: str) -> Kernel:
    """c = op(a) @ op(b), row-major, for each (i1, i2) of an nb1 x nb2 batch.

    a, b, c     first elements; lda, ldb, ldc: elements from one stored row to the next
    scratch     this thread's own memory for a piece of b, most_k x most_n
    pack        1: b is copied there piece by piece, as it must be where it is stored transposed
    fn          blas.address("sgemm" or "dgemm"); 0: tiles
    ta, tb      1: the matrix is stored transposed
    m, n, k     op(a) is [m, k], op(b) [k, n], c [m, n]; k = 0 gives zeros
    a1 .. c2    elements from one batch entry to the next, in the outer and the inner batch loop
    half        what need not be computed, by its place in HALVES:
                out_lower   columns j > i of c are not wanted;  out_upper   columns j < i
                x_lower     op(a)[i, k] is 0 for k > i;         x_upper     for k < i
                y_lower     op(b)[k, j] is 0 for j > k;         y_upper     for j < k
    fill        1: what is left out of c is set to 0: its readers may multiply it by 0, which NaN would survive
    """
    return template("gemm", dtype, PARAMS, with_lanes(GEMM, dtype))


PARAMS = (
    "a:T* b:T* c:T* scratch:T* fn:i64 ta:i64 tb:i64 m:i64 n:i64 k:i64 lda:i64 ldb:i64 ldc:i64 "
    "nb1:i64 nb2:i64 a1:i64 a2:i64 b1:i64 b2:i64 c1:i64 c2:i64 half:i64 fill:i64 most_k:i64 most_n:i64 pack:i64"
)

PACK = packed("scratch", "at(right, p0 * b_row + j0 * b_column)", "b_row", "b_column", "inner", "columns")

TILES = down(
    "m",
    "width",
    """
k0 = 0
k1 = inner
if half == 3:
    k1 = minimum(inner, i + height - p0)
if half == 4:
    k0 = maximum(i - p0, 0)
if half == 5:
    k0 = maximum(j0 + j - p0, 0)
if half == 6:
    k1 = minimum(inner, j0 + j + width - p0)
unread = (half == 1 and j0 + j >= i + height) or (half == 2 and j0 + j + width <= i)
to = at(out, i * ldc + j0 + j)
if unread:
    k1 = k0
if (piece == 0 and (fill != 0 or not unread)) or k1 > k0:
    tile(number + mode, k1 - k0, at(left, i * a_row + (p0 + k0) * a_column), lda,
         at(panel, k0 * panel_step), panel_step, to, ldc, to, ldc, piece, width)
""",
)

# the inner axis in pieces, of a turned b also the columns; a piece of b meets all rows of a
TILED = f"""
pieces = maximum((k + most_k - 1) // most_k, 1)
step = n
if pack != 0:
    step = most_n
mode = 0
if ta != 0:
    mode = COLUMNS_MODE
for j0 in range(0, n, maximum(step, 1)):
    columns = minimum(step, n - j0)
    for piece in range(pieces):
        p0 = k * piece // pieces
        inner = k * (piece + 1) // pieces - p0
        if pack != 0:
{indent(PACK, " " * 12)}
        for j in range(0, columns, 2 * LANES):
            width = minimum(columns - j, 2 * LANES)
            panel = at(scratch, j * inner)
            panel_step = 2 * LANES
            if pack == 0:
                panel = at(right, p0 * ldb + j0 + j)
                panel_step = ldb
{indent(TILES, " " * 12)}
""".replace("COLUMNS_MODE", str(COLUMNS_MODE))

BLOCKS = """
extent = m
if half > 4:
    extent = n
block = extent
if half > 0:
    block = FACTOR_BLOCK
if half == 1 or half == 2:
    block = RESULT_BLOCK
for start in range(0, extent, maximum(block, 1)):
    end = minimum(start + block, extent)
    m0 = start
    m1 = end
    n0 = 0
    n1 = n
    k0 = 0
    k1 = k
    if half > 4:
        m0 = 0
        m1 = m
        n0 = start
        n1 = end
    if half == 1:
        n1 = minimum(n, end)
    if half == 2:
        n0 = minimum(n, start)
    if half == 3 or half == 6:
        k1 = minimum(k, end)
    if half == 4 or half == 5:
        k0 = minimum(k, start)
    if half == 1 and fill:
        for i in range(m0, m1):
            for j in range(n1, n):
                st(out, i * ldc + j, T(0))
    if half == 2 and fill:
        for i in range(m0, m1):
            for j in range(n0):
                st(out, i * ldc + j, T(0))
    if k1 > k0 and n1 > n0 and m1 > m0:
        gemm_call(fn, ta, tb, m1 - m0, n1 - n0, k1 - k0, T(1), at(left, m0 * a_row + k0 * a_column), lda,
                  at(right, k0 * b_row + n0 * b_column), ldb, T(0), at(out, m0 * ldc + n0), ldc)
    else:
        for i in range(m0, m1):
            for j in range(n0, n1):
                st(out, i * ldc + j, T(0))
""".replace("RESULT_BLOCK", str(RESULT_BLOCK)).replace("FACTOR_BLOCK", str(FACTOR_BLOCK))

GEMM = f"""
    a_row = lda
    a_column = 1
    b_row = ldb
    b_column = 1
    if ta != 0:
        a_row = 1
        a_column = lda
    if tb != 0:
        b_row = 1
        b_column = ldb
    for i1 in range(nb1):
        for i2 in range(nb2):
            left = at(a, i1 * a1 + i2 * a2)
            right = at(b, i1 * b1 + i2 * b2)
            out = at(c, i1 * c1 + i2 * c2)
            if fn == 0:
{indent(TILED, " " * 16)}
            else:
{indent(BLOCKS, " " * 16)}
"""


def gemm_words(part: Part) -> list[int]:
    """The instruction's axes are (batch 1, batch 2, rows, columns, inner)."""
    call = part.call
    x, y, out = (slot.strides for slot in call.slots[:3])
    nb1, nb2, m, n, k = part.sizes
    ta, lda = _leading(x[2], x[4], call.axes[2], call.axes[4])
    tb, ldb = _leading(y[4], y[3], call.axes[4], call.axes[3])
    ldc = out[2] if call.axes[2] > 1 else max(n, 1)
    tiled = part.at.tiles and m * n * k <= TILED_WORK and (m >= TURNED_ROWS or not tb)
    routine = 0 if tiled else part.at.blas["sgemm" if call.instr.kernel.endswith("f32") else "dgemm"]
    batch = [x[0], x[1], y[0], y[1], out[0], out[1]]
    sizes = (m, n, k, lda, ldb, max(ldc, 1))
    half, fill, most_k, most_n, direct_rows = map(int, call.params)
    pack = int(tb or call.axes[2] > direct_rows)
    return [*part.pointers, routine, ta, tb, *sizes, nb1, nb2, *batch, half, fill, most_k, most_n, pack]


def _leading(row_stride: int, column_stride: int, rows: int, columns: int) -> tuple[int, int]:
    """(transposed?, leading dimension) of a matrix in memory; an axis of size 1 leaves its stride free."""
    if (column_stride == 1 or columns == 1) and (rows == 1 or row_stride >= columns):
        return 0, row_stride if rows > 1 else max(columns, 1)
    return 1, column_stride if columns > 1 else max(rows, 1)
