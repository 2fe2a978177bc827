"""Sorting: eager and traced results against NumPy's, gradients to the chosen elements, compiled programs."""

import numpy as np
import pytest

import gradtape
from gradcheck import check
from gradtape import tracer as gt
from gradtape.ir.interp import evaluate_graph
from gradtape.ir.verify import verify

RNG = np.random.default_rng(0)
X = RNG.standard_normal((3, 4, 5)).astype(np.float32)
N = RNG.integers(-3, 4, (4, 6))
NAN = np.array([[3.0, np.nan, 1.0], [2.0, 5.0, 1.0]], np.float32)


def traced(f, *args):
    found = gt.trace(f, *args)
    verify(found.graph)
    assert found.ledger.escapes == []
    return found.structure.restore(evaluate_graph(found.graph, found.bind(*args)))


def top(x, k, axis, largest=True):
    order = np.argsort(-x if largest else x, axis, kind="stable").take(np.arange(k), axis)
    return np.take_along_axis(x, order, axis), order


CASES = {
    "sort": (lambda x: gt.sort(x), X, np.sort(X)),
    "sort axis": (lambda x: gt.sort(x, 1), X, np.sort(X, 1)),
    "sort dim": (lambda x: gt.sort(x, dim=0), X, np.sort(X, 0)),
    "sort flat": (lambda x: gt.sort(x, None), X, np.sort(X, None)),
    "descending": (lambda x: gt.sort(x, descending=True), X, -np.sort(-X)),
    "nan last": (lambda x: gt.sort(x), NAN, np.sort(NAN)),
    "nan first": (lambda x: gt.sort(x, descending=True), NAN, np.sort(NAN)[:, ::-1]),
    "bools": (lambda x: gt.sort(x > 0), X, np.sort(X > 0)),
    "integers": (lambda n: gt.sort(n, 0), N, np.sort(N, 0)),
    "argsort": (lambda x: gt.argsort(x), X, np.argsort(X)),
    "argsort of equals": (lambda n: gt.argsort(n), N, np.argsort(N, kind="stable")),
    "argsort of equals, descending": (lambda n: gt.argsort(n, 1, True), N, np.argsort(-N, 1, kind="stable")),
    "topk": (lambda x: tuple(gt.topk(x, 2)), X, top(X, 2, -1)),
    "topk axis": (lambda x: tuple(gt.topk(x, 3, dim=1)), X, top(X, 3, 1)),
    "topk least": (lambda x: tuple(gt.topk(x, 2, 0, largest=False)), X, top(X, 2, 0, False)),
    "topk of equals": (lambda n: tuple(gt.topk(n, 4)), N, top(N, 4, 1)),
    "topk of all": (lambda x: tuple(gt.topk(x, 5, sorted=False)), X, top(X, 5, -1)),
    "median": (lambda x: gt.median(x), X, np.median(X)),
    "median axis": (lambda x: gt.median(x, 1), X, np.median(X, 1)),
    "median axes": (lambda x: gt.median(x, (0, -1), True), X, np.median(X, (0, 2), keepdims=True)),
    "median nan": (lambda x: gt.median(x, 1), NAN, np.median(NAN, 1)),
    "median of integers": (lambda n: gt.median(n, 1), N, np.median(N, 1).astype("f4")),
    "quantile": (lambda x: gt.quantile(x, 0.3, 2), X, np.quantile(X, 0.3, 2).astype("f4")),
    "quantiles": (lambda x: gt.quantile(x, [0, 0.5, 1], 1), X, np.quantile(X, [0, 0.5, 1], 1).astype("f4")),
    "nonzero": (lambda x: gt.nonzero(x > 0.5, 7), X, tuple(a[:7] for a in np.nonzero(X > 0.5))),
    "nonzero of few": (lambda n: gt.nonzero(n == 3, 5, -1)[1], N, np.append(np.nonzero(N == 3)[1], [-1] * 5)[:5]),
    "numpy sort": (lambda x: np.sort(x, 1), X, np.sort(X, 1)),
    "numpy argsort": (lambda x: np.argsort(x, 0, kind="stable"), X, np.argsort(X, 0)),
    "numpy median": (lambda x: np.median(x, axis=1), X, np.median(X, 1)),
    "numpy percentile": (lambda x: np.percentile(x, 25, axis=0), X, np.percentile(X, 25, axis=0).astype("f4")),
}


@pytest.mark.parametrize("name", CASES)
def test_order(name):
    f, x, expected = CASES[name]
    with np.errstate(invalid="ignore"):
        results = [traced(f, x)] + ([f(x)] if not name.startswith("numpy") else [])
    for result in results:
        pairs = zip(result, expected, strict=True) if isinstance(expected, tuple) else [(result, expected)]
        for got, want in pairs:
            np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-7)
            assert np.shape(got) == want.shape and got.dtype == want.dtype


def test_the_names_of_a_pair():
    best = gt.topk(X, 2)
    np.testing.assert_array_equal(best.values, np.take_along_axis(X, best.indices, -1))


def test_symbolic_sizes():
    def f(x):
        return gt.sort(x, 0), gt.topk(x, 2, 0).values, gt.argsort(x, -1, True), gt.nonzero(x > 0, x.shape[0])

    found = gt.trace(f, gt.spec(("T", "C")))
    assert [str(g) for g in found.graph.guards] == ["2 <= T", "T <= C*T"]
    for shape in ((2, 3), (5, 1)):
        x = RNG.standard_normal(shape).astype("f4")
        got = found.structure.restore(evaluate_graph(verify(found.graph), found.bind(x)))
        np.testing.assert_array_equal(got[0], np.sort(x, 0))
        np.testing.assert_array_equal(got[1], -np.sort(-x, 0)[:2])
        np.testing.assert_array_equal(got[2], np.argsort(-x, -1))
        count = min(shape[0], int((x > 0).sum()))
        np.testing.assert_array_equal(got[3][0][:count], np.nonzero(x > 0)[0][:count])


W = RNG.permutation(24).reshape(4, 6) / 5.0
GRADIENTS = {
    "sort": lambda x: gt.sort(x, 0) * np.arange(4.0)[:, None],
    "topk": lambda x: gt.topk(x, 2, 1).values ** 2,
    "median": lambda x: gt.median(x, 1) ** 2,
    "quantile": lambda x: gt.quantile(x, 0.3) ** 2,
    "by order": lambda x: gt.take_along_axis(x, gt.argsort(x, 0), 0) ** 2 * np.arange(6.0),
}


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients(name, order):
    check(GRADIENTS[name], [W], order=order, tolerance=1e-9)


def test_compiled_with_gradients():
    weights, ranks = np.array([3.0, 2.0, 1.0], np.float32), np.arange(3, dtype=np.float32)[:, None]

    def f(x):
        return (gt.topk(x, 3, 1).values * weights).sum() + (gt.sort(x, 0) * ranks).sum()

    x = np.ascontiguousarray(X[:, :, 0])
    value, g = gradtape.value_and_grad(f)(x)
    expected = np.zeros_like(x)
    np.put_along_axis(expected, np.argsort(-x, 1)[:, :3], weights[None], 1)
    np.testing.assert_allclose(value, f(x), rtol=1e-5)
    np.testing.assert_allclose(g, expected + np.argsort(np.argsort(x, 0), 0), rtol=1e-6)


ERRORS = {
    "k": (lambda x: gt.topk(x, 6), "topk: k = 6 is more than the size of axis 2, 5"),
    "axis": (lambda x: gt.sort(x, 3), "sort: axis 3 is out of range for 3 dimensions"),
    "q": (lambda x: gt.quantile(x, 1.5), r"quantile: a quantile lies in \[0, 1\], got 1.5"),
    "nothing": (lambda x: gt.median(gt.take(x, np.zeros(0, int), 1), 1), "no elements"),
    "size": (lambda x: gt.nonzero(x, 61), "size 61 is more than the 60 elements of x"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name):
    f, text = ERRORS[name]
    for call in (lambda: f(X), lambda: gt.trace(f, X)):
        with pytest.raises(TypeError, match=text):
            call()


def test_what_depends_on_data_is_refused():
    with pytest.raises(TypeError, match=r"gt.nonzero\(x, size=n\)"):
        gt.trace(lambda x: gt.nonzero(x > 0), X)
    with pytest.raises(TypeError, match="known when the program is traced"):
        gt.trace(lambda x: gt.quantile(x, x[0, 0, 0]), X)
