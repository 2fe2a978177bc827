"""Running extremes and running logarithms of sums: NumPy's and PyTorch's results, gradients, special values."""

import numpy as np
import pytest

import gradtape
from gradcheck import check
from gradtape import tracer as gt
from gradtape.ir.interp import evaluate_graph
from gradtape.ir.verify import verify

RNG = np.random.default_rng(0)
X = RNG.standard_normal((3, 4, 5)).astype(np.float32)
WILD = np.array([-np.inf, -np.inf, -2000.0, -2000.0, 3.0, -np.inf, 3.0, 900.0, 899.0], np.float32)


def traced(f, *args):
    found = gt.trace(f, *args)
    verify(found.graph)
    assert found.ledger.escapes == []
    return found.structure.restore(evaluate_graph(found.graph, found.bind(*args)))


CASES = {
    "cummax": (lambda x: gt.cummax(x, 1).values, np.maximum.accumulate(X, 1)),
    "cummin": (lambda x: gt.cummin(x, dim=-1)[0], np.minimum.accumulate(X, -1)),
    "flat": (lambda x: gt.cummax(x).values, np.maximum.accumulate(X.ravel())),
    "of bools": (lambda x: gt.cummax(x > 1, 2).values, np.maximum.accumulate(X > 1, 2)),
    "indices": (
        lambda x: gt.take_along_axis(x, gt.cummin(x, 0).indices, 0),
        np.minimum.accumulate(X, 0),
    ),
    "methods": (lambda x: gt.cummax(x, 0)[0] + gt.cummin(x, 0)[0], sum(f.accumulate(X, 0) for f in (np.fmax, np.fmin))),
    "logcumsumexp": (lambda x: gt.logcumsumexp(x, 1), np.logaddexp.accumulate(X, 1)),
    "logcumsumexp flat": (lambda x: gt.logcumsumexp(x * 40), np.logaddexp.accumulate(X.ravel() * 40)),
    "numpy": (
        lambda x: np.maximum.accumulate(x, axis=1) + np.minimum.accumulate(x, axis=2) + np.logaddexp.accumulate(x),
        np.maximum.accumulate(X, 1) + np.minimum.accumulate(X, 2) + np.logaddexp.accumulate(X),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_results(name):
    f, expected = CASES[name]
    for got in (f(X), traced(f, X), gradtape.compile(f, threads=2)(X)):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
        assert got.dtype == expected.dtype


def test_of_equal_elements_the_last_is_named_and_gets_the_gradient():
    x = np.array([1.0, 3.0, 3.0, 2.0], np.float32)
    found = gradtape.compile(lambda x: gt.cummax(x))(x)
    np.testing.assert_array_equal(found.indices, [0, 1, 2, 2])
    np.testing.assert_array_equal(gradtape.grad(lambda x: gt.cummax(x).values.sum())(x), [1, 1, 2, 0])


def test_running_logarithms_of_what_is_large_and_of_nothing():
    expected = np.logaddexp.accumulate(WILD.astype(np.float64))
    for got in (gt.logcumsumexp(WILD), gradtape.compile(lambda x: gt.logcumsumexp(x))(WILD)):
        np.testing.assert_allclose(got, expected, rtol=1e-6)
    gradient = gradtape.grad(lambda x: gt.logcumsumexp(x)[2:].sum())(WILD)
    np.testing.assert_allclose(gradient.sum(), 7, rtol=1e-5)  # each result's derivatives are a softmax
    np.testing.assert_array_equal(gradient[[0, 1, 5]], 0)
    infinite = np.array([1.0, np.inf, 2.0], np.float32)
    np.testing.assert_allclose(gt.logcumsumexp(infinite), [1, np.inf, np.inf])
    assert np.isnan(gt.logcumsumexp(np.array([np.nan, 1.0], np.float32))).all()


@pytest.mark.parametrize("order", [1, 2])
def test_gradients(order):
    x = RNG.standard_normal((4, 5))
    check(lambda x: gt.logcumsumexp(3 * x, 1) ** 2, [x], order=order, tolerance=1e-9)
    check(lambda x: gt.cummax(x, 0).values ** 2 * gt.cummin(x, 1).values, [x], order=order, tolerance=1e-9)


def test_as_pytorch():
    torch = pytest.importorskip("torch")
    whole = RNG.integers(0, 4, (6, 9)).astype(np.float32)
    whole[RNG.random(whole.shape) < 0.05] = np.nan
    for name in ("cummax", "cummin", "logcumsumexp"):
        ours, theirs = getattr(gt, name)(whole, 1), getattr(torch, name)(torch.tensor(whole), 1)
        for a, b in zip(ours, theirs, strict=True) if isinstance(ours, tuple) else [(ours, theirs)]:
            np.testing.assert_allclose(a, b.numpy(), rtol=1e-6)
