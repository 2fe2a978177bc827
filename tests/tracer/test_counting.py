"""NaN left out, counting, places in a sorted table: eager, traced and compiled results against NumPy's."""

import numpy as np
import pytest

import gradtape
from gradtape import tracer as gt
from gradtape.ir.interp import evaluate_graph
from gradtape.ir.verify import verify

RNG = np.random.default_rng(0)
X = RNG.standard_normal((3, 4, 5)).astype(np.float32)
HOLED = np.where(RNG.random(X.shape) < 0.3, np.float32(np.nan), X)
ODD = np.array([np.nan, np.inf, -np.inf, 1.0, 0.0], np.float32)
N = RNG.integers(0, 6, 20)
EDGES = np.array([-1.0, 0.0, 0.0, 0.5, 2.0], np.float32)
PLACED = np.array([[-2.0, -1.0, 0.0], [0.25, 2.0, np.nan]], np.float32)
TABLES = np.sort(X, -1)
LENGTH = 8


def traced(f, *args):
    found = gt.trace(f, *args)
    verify(found.graph)
    assert found.ledger.escapes == []
    return found.structure.restore(evaluate_graph(found.graph, found.bind(*args)))


CASES = {
    "nansum": (lambda x: gt.nansum(x, (0, 2), keepdims=True), HOLED, np.nansum(HOLED, (0, 2), keepdims=True)),
    "nansum of integers": (lambda n: gt.nansum(n), N, np.nansum(N)),
    "nanmean": (lambda x: gt.nanmean(x, dim=-1), HOLED, np.nanmean(HOLED, -1)),
    "nanmean of integers": (lambda n: gt.nanmean(n), N, np.float32(N.mean())),
    "nan_to_num": (lambda x: gt.nan_to_num(x), ODD, np.nan_to_num(ODD)),
    "nan_to_num with": (
        lambda x: gt.nan_to_num(x, 5.0, 6.0, -7.0),
        ODD,
        np.nan_to_num(ODD, nan=5, posinf=6, neginf=-7),
    ),
    "nan_to_num of integers": (lambda n: gt.nan_to_num(n), N, N),
    "count_nonzero": (lambda x: gt.count_nonzero(x > 0, 1), X, np.count_nonzero(X > 0, 1)),
    "count_nonzero of numbers": (lambda n: gt.count_nonzero(n), N, np.array(np.count_nonzero(N))),
    "bincount": (lambda n: gt.bincount(n, length=LENGTH), N, np.bincount(N, minlength=LENGTH)),
    "bincount weighted": (
        lambda n: gt.bincount(n, weights=n.astype(np.float32) / 2, length=LENGTH),
        N,
        np.bincount(N, N * 0.5, LENGTH).astype(np.float32),
    ),
    "searchsorted": (lambda x: gt.searchsorted(EDGES, x), PLACED, np.searchsorted(EDGES, PLACED)),
    "searchsorted right": (
        lambda x: gt.searchsorted(EDGES, x, "right"),
        PLACED,
        np.searchsorted(EDGES, PLACED, "right"),
    ),
    "searchsorted in several": (
        lambda x: gt.searchsorted(x, x[..., 1:3] + 0.01, right=True),
        TABLES,
        np.stack([[np.searchsorted(r, r[1:3] + 0.01, "right") for r in rows] for rows in TABLES]),
    ),
    "searchsorted of integers": (lambda n: gt.searchsorted(gt.arange(4), n), N, np.searchsorted(np.arange(4), N)),
    "numpy": (
        lambda x: np.nansum(x, axis=0) + np.nanmean(x, axis=1)[:1] + np.nan_to_num(x, nan=1.0)[0],
        HOLED[:, :, :4],
        np.nansum(HOLED[..., :4], 0) + np.nanmean(HOLED[..., :4], 1)[:1] + np.nan_to_num(HOLED[..., :4], nan=1.0)[0],
    ),
    "numpy counts": (
        lambda x: np.count_nonzero(x > 0, axis=0) + np.searchsorted(EDGES, x),
        PLACED,
        np.count_nonzero(PLACED > 0, 0) + np.searchsorted(EDGES, PLACED),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_results_are_numpys(name):
    f, x, expected = CASES[name]
    for got in (f(x), traced(f, x), gradtape.compile(f, threads=2)(x)):
        np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-6)
        assert got.shape == expected.shape and got.dtype == expected.dtype


def test_what_is_left_out_gets_no_gradient():
    x = np.array([[1.0, np.nan, 3.0], [np.inf, 2.0, -np.inf]], np.float32)
    np.testing.assert_array_equal(gradtape.grad(lambda x: (gt.nansum(x[:1]) ** 2).sum())(x), [[8, 0, 8], [0, 0, 0]])
    np.testing.assert_allclose(gradtape.grad(lambda x: gt.nanmean(x[0]))(x)[0], [0.5, 0, 0.5])
    np.testing.assert_array_equal(gradtape.grad(lambda x: gt.nan_to_num(x, 2.0).sum())(x), [[1, 0, 1], [0, 1, 0]])


def test_bins_of_eager_arrays_need_no_length():
    np.testing.assert_array_equal(gt.bincount(N), np.bincount(N))
    np.testing.assert_array_equal(gt.bincount(N[:0], minlength=3), np.bincount(N[:0], minlength=3))


def test_a_number_beyond_the_bins_is_an_error():
    count = gradtape.compile(lambda n: gt.bincount(n, length=3))
    for wrong in (3, -1):
        with pytest.raises(IndexError, match=rf"n\[1\] = {wrong} is out of range for 3"):
            count(np.array([0, wrong]))


ERRORS = {
    "how many": (lambda x: gt.bincount(x > 0), "x has one axis, got 3; write x.reshape"),
    "bins": (lambda x: gt.bincount(x[0, 0]), "indices are integers, got f32"),
    "side": (lambda x: gt.searchsorted(x[0, 0], x, "up"), 'side is "left" or "right", not \'up\''),
    "table": (lambda x: gt.searchsorted(x, x[0]), "takes values with the same leading axes"),
    "number": (lambda x: gt.searchsorted(x.sum(), x), "the table needs an axis, got a number"),
    "axis": (lambda x: gt.nanmean(x, 3), "axis 3 is out of range for 3 dimensions"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name):
    f, text = ERRORS[name]
    for call in (lambda: f(X), lambda: gt.trace(f, X)) if name != "bins" else (lambda: f(X),):
        with pytest.raises(TypeError, match=text) as error:
            call()
    assert f"{__file__}:{f.__code__.co_firstlineno}" in str(error.value)
    with pytest.raises(TypeError, match=r"how many bins there are depends on data; write gt.bincount\(x, length=n\)"):
        gt.trace(lambda n: gt.bincount(n), N)
