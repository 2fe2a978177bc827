"""Matrix products of a few rows: one step of a recurrent network or of a decoder. All the time goes into reading the
right factor, which BLAS would first copy into blocks of its own."""

from __future__ import annotations

from ..call import Part
from ..kernel import Kernel, template


def thin_gemm(dtype: str) -> Kernel:
    """c = a @ b for each (i1, i2) of an nb1 x nb2 batch; a is [m, k], b [k, n], c [m, n], m small.

    a_row .. c_column   elements from row to row and from column to column
    a1 .. c2            elements from one batch entry to the next, in the outer and the inner batch loop

    Where the rows of b are adjacent (b_row = 1, and a_column = 1: a weight that is stored transposed, the keys of an
    attention), elements of c are sums over adjacent pairs, four or eight of them at a time. Else columns of b and c are
    (b_column = c_column = 1), and four rows of b at a time are added up in c.
    """
    return template("thin_gemm", dtype, PARAMS, THIN)


def thin_gemm_words(part: Part) -> list[int]:
    """The instruction's axes are (batch 1, batch 2, rows, columns, inner)."""
    x, y, out = (slot.strides for slot in part.call.slots)
    nb1, nb2, m, n, k = part.sizes
    strides = [x[2], x[4], y[4], y[3], out[2], out[3]]
    if part.call.axes[4] == 1:
        strides[1] = strides[2] = 1
    return [*part.pointers, m, n, k, *strides, nb1, nb2, x[0], x[1], y[0], y[1], out[0], out[1]]


PARAMS = (
    "a:T* b:T* c:T* m:i64 n:i64 k:i64 a_row:i64 a_column:i64 b_row:i64 b_column:i64 c_row:i64 c_column:i64 "
    "nb1:i64 nb2:i64 a1:i64 a2:i64 b1:i64 b2:i64 c1:i64 c2:i64"
)
THIN = """
    for i1 in range(nb1):
        for i2 in range(nb2):
            x = at(a, i1 * a1 + i2 * a2)
            y = at(b, i1 * b1 + i2 * b2)
            to = at(c, i1 * c1 + i2 * c2)
            if a_column == 1 and b_row == 1:
                i = 0
                while i + 4 <= m:  # four rows, two columns
                    x0 = at(x, i * a_row)
                    x1 = at(x0, a_row)
                    x2 = at(x1, a_row)
                    x3 = at(x2, a_row)
                    there = at(to, i * c_row)
                    j = 0
                    while j < n:
                        j1 = minimum(j + 1, n - 1)
                        y0 = at(y, j * b_column)
                        y1 = at(y, j1 * b_column)
                        s00 = T(0)
                        s10 = T(0)
                        s20 = T(0)
                        s30 = T(0)
                        s01 = T(0)
                        s11 = T(0)
                        s21 = T(0)
                        s31 = T(0)
                        for l in range(k):
                            w0 = ld(y0, l)
                            w1 = ld(y1, l)
                            s00 += ld(x0, l) * w0
                            s10 += ld(x1, l) * w0
                            s20 += ld(x2, l) * w0
                            s30 += ld(x3, l) * w0
                            s01 += ld(x0, l) * w1
                            s11 += ld(x1, l) * w1
                            s21 += ld(x2, l) * w1
                            s31 += ld(x3, l) * w1
                        st(there, j * c_column, s00)
                        st(there, c_row + j * c_column, s10)
                        st(there, 2 * c_row + j * c_column, s20)
                        st(there, 3 * c_row + j * c_column, s30)
                        st(there, j1 * c_column, s01)
                        st(there, c_row + j1 * c_column, s11)
                        st(there, 2 * c_row + j1 * c_column, s21)
                        st(there, 3 * c_row + j1 * c_column, s31)
                        j += 2
                    i += 4
                while i < m:  # one row, four columns; those beyond the last are the last one again
                    x0 = at(x, i * a_row)
                    there = at(to, i * c_row)
                    j = 0
                    while j < n:
                        j1 = minimum(j + 1, n - 1)
                        j2 = minimum(j + 2, n - 1)
                        j3 = minimum(j + 3, n - 1)
                        y0 = at(y, j * b_column)
                        y1 = at(y, j1 * b_column)
                        y2 = at(y, j2 * b_column)
                        y3 = at(y, j3 * b_column)
                        s00 = T(0)
                        s10 = T(0)
                        s20 = T(0)
                        s30 = T(0)
                        for l in range(k):
                            v = ld(x0, l)
                            s00 += v * ld(y0, l)
                            s10 += v * ld(y1, l)
                            s20 += v * ld(y2, l)
                            s30 += v * ld(y3, l)
                        st(there, j * c_column, s00)
                        st(there, j1 * c_column, s10)
                        st(there, j2 * c_column, s20)
                        st(there, j3 * c_column, s30)
                        j += 4
                    i += 1
            else:
                for i in range(m):
                    there = at(to, i * c_row)
                    for j in range(n):
                        st(there, j, T(0))
                l = 0
                while l + 4 <= k:
                    y0 = at(y, l * b_row)
                    y1 = at(y0, b_row)
                    y2 = at(y1, b_row)
                    y3 = at(y2, b_row)
                    for i in range(m):
                        x0 = at(x, i * a_row + l * a_column)
                        v0 = ld(x0, 0)
                        v1 = ld(x0, a_column)
                        v2 = ld(x0, 2 * a_column)
                        v3 = ld(x0, 3 * a_column)
                        there = at(to, i * c_row)
                        for j in range(n):
                            s = v0 * ld(y0, j) + v1 * ld(y1, j) + v2 * ld(y2, j) + v3 * ld(y3, j)
                            st(there, j, ld(there, j) + s)
                    l += 4
                while l < k:
                    y0 = at(y, l * b_row)
                    for i in range(m):
                        v0 = ld(x, i * a_row + l * a_column)
                        there = at(to, i * c_row)
                        for j in range(n):
                            st(there, j, ld(there, j) + v0 * ld(y0, j))
                    l += 1
"""
