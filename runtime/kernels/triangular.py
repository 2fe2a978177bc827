"""Matrix products of which one half is zero or never read, block by block."""

from __future__ import annotations

from ..call import Part
from ..kernel import Kernel, template
from .gemm import GEMM_PARAMS, gemm_words

# Rows of a block, for halves of the result and of a factor: 256 rows in blocks of 64 cost 5/8 of the whole, in blocks
# of 32 9/16, but BLAS is slower on smaller products. Figures in docs/decisions.md.
RESULT_BLOCK, FACTOR_BLOCK = 64, 32

HALVES = ("out_lower", "out_upper", "x_lower", "x_upper", "y_lower", "y_upper")


def triangular_gemm(dtype: str) -> Kernel:
    """As gemm, without what `half` (1 + its place in HALVES) says is not needed:

    out_lower   columns j > i of c are not wanted;  out_upper   columns j < i
    x_lower     op(a)[i, k] is 0 for k > i;         x_upper     for k < i
    y_lower     op(b)[k, j] is 0 for j > k;         y_upper     for j < k

    Work is cut into blocks of `block` rows of c (columns for y). With `fill`, what is left out of c is set to 0: its
    readers may multiply it by 0, which NaN would survive.
    """
    return template("triangular_gemm", dtype, GEMM_PARAMS + " half:i64 fill:i64 block:i64", TRIANGULAR)


def triangular_gemm_words(part: Part) -> list[int]:
    half, fill = (int(p) for p in part.call.params)
    return [*gemm_words(part), half, fill, RESULT_BLOCK if HALVES[half - 1].startswith("out") else FACTOR_BLOCK]


TRIANGULAR = """
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
    extent = m
    if half > 4:
        extent = n
    for i1 in range(nb1):
        for i2 in range(nb2):
            for number in range((extent + block - 1) // block):
                start = number * block
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
                to = at(c, i1 * c1 + i2 * c2)
                if half == 1 and fill:
                    for i in range(m0, m1):
                        for j in range(n1, n):
                            st(to, i * ldc + j, T(0))
                if half == 2 and fill:
                    for i in range(m0, m1):
                        for j in range(n0):
                            st(to, i * ldc + j, T(0))
                if k1 > k0 and n1 > n0 and m1 > m0:
                    gemm_call(fn, ta, tb, m1 - m0, n1 - n0, k1 - k0, alpha,
                              at(a, i1 * a1 + i2 * a2 + m0 * a_row + k0 * a_column), lda,
                              at(b, i1 * b1 + i2 * b2 + k0 * b_row + n0 * b_column), ldb,
                              T(acc), at(to, m0 * ldc + n0), ldc)
                elif acc == 0:
                    for i in range(m0, m1):
                        for j in range(n0, n1):
                            st(to, i * ldc + j, T(0))
"""
