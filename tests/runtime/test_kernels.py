"""The hand-written kernels: compiled and as plain Python, against NumPy."""

import itertools

import numpy as np
import pytest

from gradtape.runtime import blas
from gradtape.runtime.kernels.combine import combine
from gradtape.runtime.kernels.gather import (
    bounded,
    gather,
    gather_along,
    last_index,
    scatter_add,
    scatter_add_along,
)
from gradtape.runtime.kernels.gemm import HALVES, gemm
from gradtape.runtime.kernels.thin import thin_gemm
from gradtape.runtime.primitives import run_plain

DTYPES = {"f32": np.float32, "f64": np.float64}
MAKERS = (gemm, gather, gather_along, scatter_add, scatter_add_along, combine, thin_gemm)


@pytest.fixture(scope="module")
def compiled_kernels(compiled):
    return compiled([*(make(dtype) for make in MAKERS for dtype in DTYPES), bounded("i64"), last_index("i64")])


@pytest.fixture(params=["compiled", "plain"])
def run(request, compiled_kernels):
    """run(kernel, *args), in both ways of running a kernel."""
    if request.param == "compiled":
        return compiled_kernels
    return lambda kernel, *args: run_plain(kernel, args)


@pytest.fixture(params=list(DTYPES))
def dtype(request):
    return request.param


def flat(a: np.ndarray) -> np.ndarray:
    assert a.flags.c_contiguous
    return a.reshape(-1)


def numbers(rng, dtype, *shape):
    return rng.standard_normal(shape).astype(DTYPES[dtype])


# --- gemm ---------------------------------------------------------------------------------------------------


def close(got, expected, dtype):
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5 if dtype == "f32" else 1e-13)


def multiplied(run, dtype, a, b, shape, ta=0, tb=0, tiles=True, half="", fill=1, most=(4, 32), packed=0):
    """The product of two single matrices into an array of NaN, by tiles or by BLAS."""
    (m, n), k = shape, len(a) if ta else a.shape[1]
    c = np.full(shape, np.nan, DTYPES[dtype])
    fn = 0 if tiles else blas.address("sgemm" if dtype == "f32" else "dgemm")
    scratch = np.full(most[0] * max(most[1], 32), np.nan, DTYPES[dtype])
    run(
        gemm(dtype), flat(a), flat(b), flat(c), scratch, fn, ta, tb, m, n, k, a.shape[1], b.shape[1], n,
        1, 1, 0, 0, 0, 0, 0, 0, HALVES.index(half), fill, *most, packed or tb,
    )  # fmt: skip
    return c


@pytest.mark.parametrize(("ta", "tb", "tiles"), list(itertools.product((0, 1), repeat=3)))
def test_gemm_batched_with_strides(run, dtype, ta, tb, tiles):
    """Matrices inside wider rows, as heads stand in an activation."""
    rng = np.random.default_rng(0)
    m, n, k, nb1, nb2 = 5, 6, 7, 2, 3
    fn = 0 if tiles else blas.address("sgemm" if dtype == "f32" else "dgemm")
    a = numbers(rng, dtype, nb1, *((k, nb2, m) if ta else (m, nb2, k)))  # [batch, rows, head, columns]
    b = numbers(rng, dtype, nb1, *((n, nb2, k) if tb else (k, nb2, n)))
    c = np.full((nb1, m, nb2, n), np.nan, DTYPES[dtype])
    left, right = a.swapaxes(1, 2), b.swapaxes(1, 2)
    left = left.swapaxes(2, 3) if ta else left
    right = right.swapaxes(2, 3) if tb else right
    scratch = np.full(4 * 32, np.nan, DTYPES[dtype])
    run(
        gemm(dtype), flat(a), flat(b), flat(c), scratch, fn, ta, tb, m, n, k,
        nb2 * a.shape[3], nb2 * b.shape[3], nb2 * n, nb1, nb2,
        a[0].size, a.shape[3], b[0].size, b.shape[3], c[0].size, n, 0, 1, 4, 32, tb,
    )  # fmt: skip
    close(c, (left @ right).swapaxes(1, 2), dtype)


@pytest.mark.parametrize("shape", [(1, 1, 1), (12, 32, 8), (27, 33, 21), (31, 70, 9), (8, 16, 40), (3, 47, 5)])
@pytest.mark.parametrize(("ta", "tb", "packed"), [(0, 0, 0), (0, 0, 1), (0, 1, 1), (1, 0, 0), (1, 0, 1), (1, 1, 1)])
def test_tiles_of_every_size(run, dtype, ta, tb, packed, shape):
    """Rows and columns left over, an inner axis and columns in several pieces."""
    m, n, k = shape
    rng = np.random.default_rng(1)
    a, b = numbers(rng, dtype, m, k), numbers(rng, dtype, k, n)
    stored = [np.ascontiguousarray(x.T) if turned else x for x, turned in ((a, ta), (b, tb))]
    close(multiplied(run, dtype, *stored, (m, n), ta, tb, packed=packed), a @ b, dtype)


@pytest.mark.parametrize("half", HALVES[1:])
@pytest.mark.parametrize(("ta", "tb", "tiles"), [(0, 0, 1), (0, 1, 1), (1, 0, 1), (1, 1, 1), (0, 1, 0), (1, 0, 0)])
def test_gemm_of_which_a_half_is_not_needed(run, dtype, ta, tb, tiles, half):
    n = 75
    rng = np.random.default_rng(2)
    a, b = numbers(rng, dtype, n, n), numbers(rng, dtype, n, n)
    what, side = half.split("_")
    cut = np.tril if side == "lower" else np.triu
    a, b = cut(a) if what == "x" else a, cut(b) if what == "y" else b
    if what == "y":  # y_lower: b[k, j] is 0 for j > k
        b = np.ascontiguousarray(b)
    stored = [np.ascontiguousarray(x.T) if turned else x for x, turned in ((a, ta), (b, tb))]
    got = multiplied(run, dtype, *stored, (n, n), ta, tb, tiles, half, most=(20, 64))
    assert np.isfinite(got).all()
    if what == "out":
        wanted = cut(np.ones((n, n), bool))
        close(got[wanted], (a @ b)[wanted], dtype)
        loose = multiplied(run, dtype, *stored, (n, n), ta, tb, tiles, half, fill=0, most=(20, 64))
        close(loose[wanted], (a @ b)[wanted], dtype)
        assert np.isnan(loose).any()
    else:
        close(got, a @ b, dtype)


@pytest.mark.parametrize("tiles", [0, 1])
def test_gemm_over_nothing(run, dtype, tiles):
    """k = 0: the empty sum is 0"""
    empty = np.zeros((3, 0), DTYPES[dtype])
    assert (multiplied(run, dtype, empty, empty.T, (3, 3), tiles=tiles) == 0).all()


@pytest.mark.parametrize("transposed", [True, False])
@pytest.mark.parametrize("m", [1, 3, 4, 9])
def test_products_of_a_few_rows(run, dtype, m, transposed):
    """Heads stand beside each other in wider rows; the right factor is a cache, or stored transposed."""
    rng = np.random.default_rng(0)
    heads = 2
    for n, k in ((1, 3), (2, 20), (5, 4), (8, 1), (4, 0)):
        a = numbers(rng, dtype, m, heads, max(k, 1))
        b = numbers(rng, dtype, heads, *((n, max(k, 1)) if transposed else (max(k, 1), n)))
        c = np.full((m, heads, n), np.nan, DTYPES[dtype])
        right = b.swapaxes(1, 2) if transposed else b
        b_row, b_column = (1, b.shape[2]) if transposed else (n, 1)
        run(
            thin_gemm(dtype), flat(a), flat(b), flat(c), m, n, k, heads * a.shape[2], 1, b_row, b_column, heads * n, 1,
            1, heads, 0, a.shape[2], 0, b[0].size, 0, n,
        )  # fmt: skip
        close(c, np.einsum("mhk,hkn->mhn", a[..., :k], right[:, :k]), dtype)


def test_blas_says_what_it_is():
    assert "OpenBLAS" in blas.version()
    assert blas.core_type()
    assert blas.library().scipy_openblas_get_num_threads() == 1


def test_blas_missing_says_what_to_install(monkeypatch):
    blas.library.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "scipy_openblas32", None)
    with pytest.raises(ImportError, match="pip install scipy-openblas32"):
        blas.library()
    monkeypatch.undo()
    assert blas.library() is not None


# --- gather and scatter_add ---------------------------------------------------------------------------------

INDEX = np.array([3, 0, -1, 3, -5, 4, 3, 1])


def test_gather_rows(run, dtype):
    table = numbers(np.random.default_rng(1), dtype, 5, 9)
    out, err = np.zeros((8, 7), DTYPES[dtype]), np.zeros(4, np.int64)
    # columns 2 to 6 of the table, into columns 1 to 5
    spread = np.repeat(INDEX, 2)  # every second index
    run(gather(dtype), flat(table)[2:], spread, flat(out)[1:], err, 11, 5, 1, 8, 5, 0, 9, 2, 0, 7, 0)
    expected = np.zeros_like(out)
    expected[:, 1:6] = table[INDEX, 2:7]
    np.testing.assert_array_equal(out, expected)
    assert not err.any()


def test_scatter_add_rows(run, dtype):
    g = numbers(np.random.default_rng(2), dtype, 8, 6)
    out, err = np.zeros((5, 6), DTYPES[dtype]), np.zeros(4, np.int64)
    run(scatter_add(dtype), flat(g), INDEX, flat(out), err, 11, 5, 1, 8, 6, 0, 6, 1, 0, 6, 0)
    expected = np.zeros_like(out)
    np.add.at(expected, INDEX, g)  # in the same order: equal to the last bit
    np.testing.assert_array_equal(out, expected)
    assert not err.any()


def test_rows_along_an_inner_axis(run, dtype):
    """[2, 5, 3] at 8 indices along its middle axis, and back"""
    table = numbers(np.random.default_rng(5), dtype, 2, 5, 3)
    out, err = np.zeros((2, 8, 3), DTYPES[dtype]), np.zeros(4, np.int64)
    run(gather(dtype), flat(table), INDEX, flat(out), err, 11, 5, 2, 8, 3, 15, 3, 1, 24, 3, 0)
    np.testing.assert_array_equal(out, table[:, INDEX])
    total, expected = np.zeros_like(table), np.zeros_like(table)
    run(scatter_add(dtype), flat(out), INDEX, flat(total), err, 11, 5, 2, 8, 3, 24, 3, 1, 15, 3, 0)
    np.add.at(expected, (slice(None), INDEX), out)
    np.testing.assert_array_equal(total, expected)
    assert not err.any()


def test_elements_along_an_axis(run, dtype):
    rng = np.random.default_rng(6)
    x, index = numbers(rng, dtype, 2, 5, 3), rng.integers(-5, 5, (2, 4, 3))
    out, err = np.zeros((2, 4, 3), DTYPES[dtype]), np.zeros(4, np.int64)
    run(gather_along(dtype), flat(x), flat(index), flat(out), err, 11, 5, 2, 4, 3, 15, 3, 12, 3, 12, 3, 0)
    np.testing.assert_array_equal(out, np.take_along_axis(x, index, 1))
    total, expected = np.zeros_like(x), np.zeros_like(x)
    run(scatter_add_along(dtype), flat(out), flat(index), flat(total), err, 11, 5, 2, 4, 3, 12, 3, 12, 3, 15, 3, 0)
    first, _, last = np.indices(index.shape, sparse=True)
    np.add.at(expected, (first, index, last), out)
    np.testing.assert_array_equal(total, expected)
    assert not err.any()
    index[1, 2, 0] = 5
    run(gather_along(dtype), flat(x), flat(index), flat(out), err, 11, 5, 2, 4, 3, 15, 3, 12, 3, 12, 3, 100)
    assert err.tolist() == [1, 11, 100 + 12 + 6, 5] and out[1, 2, 0] == x[1, 4, 0]


def test_indices_themselves(run):
    out, err = np.zeros(8, np.int64), np.zeros(4, np.int64)
    run(bounded("i64"), INDEX, out, err, 3, -5, 5, -100, 8, 0)
    assert out.tolist() == (INDEX % 5).tolist() and not err.any()
    run(bounded("i64"), INDEX, out, err, 3, 0, 5, -100, 8, 50)
    assert err.tolist() == [1, 3, 52, -1]
    last, err = np.zeros(6, np.int64), np.zeros(4, np.int64)
    run(last_index("i64"), INDEX, last, err, 3, 6, 8, 0)
    assert last.tolist() == [1, 7, -1, 6, 5, 2] and not err.any()
    run(last_index("i64"), np.array([1, 6]), last, err, 3, 6, 2, 0)
    assert err.tolist() == [1, 3, 1, 6]


def test_scatter_add_split_by_columns_is_the_same(run, dtype):
    g = numbers(np.random.default_rng(3), dtype, 8, 6)
    whole, split, err = (
        np.zeros((5, 6), DTYPES[dtype]),
        np.zeros((5, 6), DTYPES[dtype]),
        np.zeros(4, np.int64),
    )
    run(scatter_add(dtype), flat(g), INDEX, flat(whole), err, 11, 5, 1, 8, 6, 0, 6, 1, 0, 6, 0)
    for first, width in ((0, 4), (4, 2)):
        run(scatter_add(dtype), flat(g)[first:], INDEX, flat(split)[first:], err, 11, 5, 1, 8, width, 0, 6, 1, 0, 6, 0)
    np.testing.assert_array_equal(split, whole)


def test_an_index_out_of_range_is_clamped_and_noted_once(run, dtype):
    table = np.arange(10, dtype=DTYPES[dtype]).reshape(5, 2)
    index = np.array([1, 5, -6, 2])
    out, err = np.zeros((4, 2), DTYPES[dtype]), np.zeros(4, np.int64)
    run(gather(dtype), flat(table), index, flat(out), err, 42, 5, 1, 4, 2, 0, 2, 1, 0, 2, 100)
    np.testing.assert_array_equal(out, table[[1, 4, 0, 2]])
    assert err.tolist() == [1, 42, 101, 5]
    total = np.zeros((5, 2), DTYPES[dtype])
    run(scatter_add(dtype), flat(out), index, flat(total), err, 43, 5, 1, 4, 2, 0, 2, 1, 0, 2, 200)
    assert err.tolist() == [1, 42, 101, 5]  # the first one stays
    err[:] = 0
    run(scatter_add(dtype), flat(out), index, flat(total), err, 43, 5, 1, 4, 2, 0, 2, 1, 0, 2, 200)
    assert err.tolist() == [1, 43, 201, 5]


def test_a_table_without_rows_touches_no_memory(run, dtype):
    nothing, out, err = np.zeros(1, DTYPES[dtype]), np.ones((2, 2), DTYPES[dtype]), np.zeros(4, np.int64)
    run(gather(dtype), nothing, np.array([0, 1]), flat(out), err, 7, 0, 1, 2, 2, 0, 2, 1, 0, 2, 0)
    assert (out == 0).all()
    assert err.tolist() == [1, 7, 0, 0]
    run(scatter_add(dtype), flat(out), np.array([0, 1]), nothing, err, 7, 0, 1, 2, 2, 0, 2, 1, 0, 2, 0)
    assert nothing[0] == 0


# --- combine ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parts", [0, 1, 2, 5])
def test_combine_adds_from_left_to_right(run, dtype, parts):
    partial = numbers(np.random.default_rng(4), dtype, max(parts, 1), 40)
    out = np.full(33, np.nan, DTYPES[dtype])
    run(combine(dtype), flat(partial), out, parts, 40, 33)
    expected = np.zeros(33, DTYPES[dtype])
    for row in partial[:parts]:
        expected = expected + row[:33]
    np.testing.assert_array_equal(out, expected)
