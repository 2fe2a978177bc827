"""Matrix products, single or in two nested batches, through the BLAS library's address."""

from __future__ import annotations

import numpy as np

from ..call import Part
from ..kernel import Kernel, template


def gemm(dtype: str) -> Kernel:
    """c = alpha * op(a) @ op(b) (+ c if acc), row-major, for each (i1, i2) of an nb1 x nb2 batch.

    a, b, c     first elements; lda, ldb, ldc: elements from one stored row to the next
    fn          blas.address("sgemm" or "dgemm")
    ta, tb      1: the matrix is stored transposed
    m, n, k     op(a) is [m, k], op(b) [k, n], c [m, n]; k = 0 gives zeros (acc = 0) or leaves c
    a1 .. c2    elements from one batch entry to the next, in the outer and the inner batch loop
    """
    return template("gemm", dtype, GEMM_PARAMS, GEMM)


GEMM_PARAMS = (
    "a:T* b:T* c:T* fn:i64 ta:i64 tb:i64 m:i64 n:i64 k:i64 lda:i64 ldb:i64 ldc:i64 acc:i64 alpha:T "
    "nb1:i64 nb2:i64 a1:i64 a2:i64 b1:i64 b2:i64 c1:i64 c2:i64"
)
GEMM = """
    for i1 in range(nb1):
        for i2 in range(nb2):
            to = at(c, i1 * c1 + i2 * c2)
            if k > 0 and m > 0 and n > 0:
                gemm_call(fn, ta, tb, m, n, k, alpha, at(a, i1 * a1 + i2 * a2), lda,
                          at(b, i1 * b1 + i2 * b2), ldb, T(acc), to, ldc)
            elif acc == 0:
                for i in range(m):
                    for j in range(n):
                        st(to, i * ldc + j, T(0))
"""


def gemm_words(part: Part) -> list[int]:
    """The instruction's axes are (batch 1, batch 2, rows, columns, inner)."""
    call = part.call
    x, y, out = (slot.strides for slot in call.slots)
    nb1, nb2, m, n, k = part.sizes
    ta, lda = _leading(x[2], x[4], call.axes[2], call.axes[4])
    tb, ldb = _leading(y[4], y[3], call.axes[4], call.axes[3])
    ldc = out[2] if call.axes[2] > 1 else max(n, 1)
    single = call.instr.kernel.endswith("f32")
    routine = part.at.blas["sgemm" if single else "dgemm"]
    alpha = int(np.float32(1).view(np.uint32)) if single else int(np.float64(1).view(np.int64))
    batch = [x[0], x[1], y[0], y[1], out[0], out[1]]
    return [*part.pointers, routine, ta, tb, m, n, k, lda, ldb, max(ldc, 1), 0, alpha, nb1, nb2, *batch]


def _leading(row_stride: int, column_stride: int, rows: int, columns: int) -> tuple[int, int]:
    """(transposed?, leading dimension) of a matrix in memory; an axis of size 1 leaves its stride free."""
    if (column_stride == 1 or columns == 1) and (rows == 1 or row_stride >= columns):
        return 0, row_stride if rows > 1 else max(columns, 1)
    return 1, column_stride if columns > 1 else max(rows, 1)
