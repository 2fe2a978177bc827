"""Padding, turning, repeating, diagonals, running sums: eager and traced results against NumPy's."""

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
LINE = X[0, 0]


def traced(f, *args):
    found = gt.trace(f, *args)
    verify(found.graph)
    assert found.ledger.escapes == []
    return found.structure.restore(evaluate_graph(found.graph, found.bind(*args)))


def widths(name):
    return (1, 2), (0, 3 if name != "reflect" else 2), (2, 0)


CASES = {
    "pad": (lambda x: gt.pad(x, 2), X, np.pad(X, 2)),
    "pad pair": (lambda x: gt.pad(x, (1, 2)), X, np.pad(X, (1, 2))),
    "pad pairs": (lambda x: gt.pad(x, ((0, 1), (2, 0), (0, 0))), X, np.pad(X, ((0, 1), (2, 0), (0, 0)))),
    "pad with": (lambda x: gt.pad(x, 1, constant_values=-np.inf), X, np.pad(X, 1, constant_values=-np.inf)),
    "pad integers": (lambda n: gt.pad(n, 1, constant_values=7), N, np.pad(N, 1, constant_values=7)),
    "pad bools": (lambda x: gt.pad(x > 0, 1, constant_values=1), X, np.pad(X > 0, 1, constant_values=True)),
    **{
        mode: (lambda x, m=mode: gt.pad(x, widths(m), m), X, np.pad(X, widths(mode), mode))
        for mode in ("edge", "reflect", "symmetric", "wrap")
    },
    "flip": (lambda x: gt.flip(x), X, np.flip(X)),
    "flip axes": (lambda x: gt.flip(x, (0, -1)), X, np.flip(X, (0, 2))),
    "roll": (lambda x: gt.roll(x, 3), X, np.roll(X, 3)),
    "roll axis": (lambda x: gt.roll(x, -7, 1), X, np.roll(X, -7, 1)),
    "roll axes": (lambda x: gt.roll(x, (1, -2), (0, 2)), X, np.roll(X, (1, -2), (0, 2))),
    "roll axes by one": (lambda x: gt.roll(x, 2, (0, 2)), X, np.roll(X, 2, (0, 2))),
    "tile": (lambda x: gt.tile(x, 2), X, np.tile(X, 2)),
    "tile axes": (lambda x: gt.tile(x, (2, 1, 3, 1)), X, np.tile(X, (2, 1, 3, 1))),
    "repeat": (lambda x: gt.repeat(x, 3), X, np.repeat(X, 3)),
    "repeat axis": (lambda x: gt.repeat(x, 2, 1), X, np.repeat(X, 2, 1)),
    "repeat each": (lambda x: gt.repeat(x, [2, 0, 1, 3], 1), X, np.repeat(X, [2, 0, 1, 3], 1)),
    "repeat_interleave": (lambda x: gt.repeat_interleave(x, 2, dim=2), X, np.repeat(X, 2, 2)),
    "split_with_sizes": (lambda x: gt.split_with_sizes(x, (1, 4), -1), X, [X[..., :1], X[..., 1:]]),
    "unstack": (lambda x: gt.unstack(x, 1), X, tuple(np.moveaxis(X, 1, 0))),
    "diagonal": (lambda x: gt.diagonal(x), X, np.diagonal(X)),
    "diagonal above": (lambda x: gt.diagonal(x, 2, 1, 2), X, np.diagonal(X, 2, 1, 2)),
    "diagonal below": (lambda x: gt.diagonal(x, -1, 2, 0), X, np.diagonal(X, -1, 2, 0)),
    "diagonal outside": (lambda x: gt.diagonal(x, 9), X, np.diagonal(X, 9)),
    "diag of a line": (lambda x: gt.diag(x, -2), LINE, np.diag(LINE, -2)),
    "diag of a matrix": (lambda x: gt.diag(x, 1), X[0], np.diag(X[0], 1)),
    "diff": (lambda x: gt.diff(x), X, np.diff(X)),
    "diff twice": (lambda x: gt.diff(x, 2, 1), X, np.diff(X, 2, 1)),
    "diff of bools": (lambda x: gt.diff(x > 0), X, np.diff(X > 0)),
    "meshgrid": (
        lambda x: gt.meshgrid(x, np.arange(2.0), [3.0, 4.0]),
        LINE,
        np.meshgrid(LINE, np.arange(2.0), [3.0, 4.0]),
    ),
    "meshgrid ij": (lambda x: gt.meshgrid(x, x, indexing="ij"), LINE, np.meshgrid(LINE, LINE, indexing="ij")),
    "broadcast_arrays": (lambda x: gt.broadcast_arrays(x, x[0, 0]), X, np.broadcast_arrays(X, X[0, 0])),
    "linspace": (lambda x: gt.linspace(x[0], x[1] * 2, 4), LINE, np.linspace(LINE[0], LINE[1] * 2, 4, dtype="f4")),
    "linspace open": (lambda x: gt.linspace(0, x, 3, False), LINE, np.linspace(0, LINE, 3, False, dtype="f4")),
    "linspace of one": (lambda x: gt.linspace(x, 3.0, 1), LINE, LINE[None]),
    "tril triu": (lambda x: gt.tril(x) + gt.triu(x, 2), X, np.tril(X) + np.triu(X, 2)),
    "cumsum": (lambda x: gt.cumsum(x), X, np.cumsum(X)),
    "cumsum axis": (lambda x: gt.cumsum(x, 1), X, np.cumsum(X, 1)),
    "cumsum from the end": (lambda x: gt.cumsum(x, dim=-1, reverse=True), X, np.cumsum(X[..., ::-1], -1)[..., ::-1]),
    "cumsum of bools": (lambda x: gt.cumsum(x > 0, 0), X, np.cumsum(X > 0, 0)),
    "cumprod": (lambda x: gt.cumprod(x, -1), X, np.cumprod(X, -1)),
    "cumprod of integers": (lambda n: gt.cumprod(n, 0), N, np.cumprod(N, 0)),
    "moving average": (lambda x: gt.linear_scan(0.5, x, 1), X, None),
}


def moving(x):
    out = [x[:, 0]]
    for i in range(1, x.shape[1]):
        out.append(0.5 * out[-1] + x[:, i])
    return np.stack(out, 1)


@pytest.mark.parametrize("name", CASES)
def test_results_are_numpys(name):
    f, x, expected = CASES[name]
    expected = moving(X) if expected is None else expected
    for result in (f(x), traced(f, x)):
        pairs = zip(result, expected, strict=True) if isinstance(expected, (tuple, list)) else [(result, expected)]
        for got, want in pairs:
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
            assert np.shape(got) == want.shape
            assert got.dtype == want.dtype or want.dtype == np.float64


NUMPY = {
    "pad": lambda x: np.pad(x, ((1, 1), (0, 0), (2, 1)), "reflect") + np.pad(x, ((1, 1), (0, 0), (0, 3))),
    "flip": lambda x: np.flip(x, 1) + np.fliplr(x) + np.flipud(x),
    "roll": lambda x: np.roll(x, 1) + np.roll(x, (1, 2), axis=(0, 1)),
    "tile repeat": lambda x: np.tile(x, (2, 1, 1)) + np.repeat(x, 2, axis=0),
    "diagonals": lambda x: np.diagonal(x, 1, 1, 2) + np.trace(x, axis1=0, axis2=2)[0] + np.diag(x[0])[0],
    "diff": lambda x: np.diff(x, axis=0),
    "running": lambda x: np.cumsum(x, axis=0) + np.cumprod(x, axis=1) + np.add.accumulate(x, axis=2),
    "meshgrid": lambda x: np.meshgrid(x[0, 0], x[0, 1]),
    "linspace": lambda x: np.linspace(x[0, 0, 0], x[0, 0, 1], 5).astype("f4"),
}


@pytest.mark.parametrize("name", NUMPY)
def test_numpy_functions_are_traced(name):
    got, expected = traced(NUMPY[name], X), NUMPY[name](X)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
        assert a.shape == b.shape and a.dtype == b.dtype


def test_symbolic_sizes():
    def f(x):
        n = x.shape[0]
        return (
            gt.pad(x, ((1, n), (0, 0))), gt.pad(x, ((2, 1), (0, 0)), "edge"), gt.flip(x), gt.roll(x, 1, 0),
            gt.tile(x, (2, 1)), gt.repeat(x, 3, 0), gt.diagonal(x, 0), gt.cumsum(x, 0), gt.cumprod(x, 0),
            gt.diff(x, axis=0), gt.linspace(0.0, 1.0, n), gt.split_with_sizes(x, (1, n - 1))[1], gt.diag(x[:, 0]),
        )  # fmt: skip

    found = gt.trace(f, gt.spec(("T", 3)))
    verify(found.graph)
    for n in (4, 6):
        x = RNG.standard_normal((n, 3)).astype("f4")
        for got, want in zip(evaluate_graph(found.graph, found.bind(x)).values(), f(x), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


W = RNG.standard_normal((4, 5))
V = RNG.standard_normal((4, 5))
ZEROS = np.array([[2.0, 0.0, 3.0, 0.0, 5.0], [0.0, 1.5, -2.0, 4.0, 0.5], [1.0, 2.0, 3.0, 4.0, 0.0], [0.0] * 5])
GRADIENTS = {
    "pad": lambda x, y: gt.pad(x, 1, constant_values=3) ** 2,
    **{mode: lambda x, y, m=mode: gt.pad(x, ((2, 1), (0, 2)), m) ** 2 for mode in ("edge", "reflect", "wrap")},
    "roll": lambda x, y: gt.roll(x, (1, 2), (0, 1)) * y,
    "tile": lambda x, y: gt.tile(x, (2, 1)) ** 2,
    "repeat": lambda x, y: gt.repeat(x, [1, 3, 0, 2], 0) ** 2,
    "diagonal": lambda x, y: gt.diagonal(x, 1) ** 2,
    "diag": lambda x, y: gt.diag(gt.reshape(x, (-1,)), 2) ** 2,
    "cumsum": lambda x, y: gt.cumsum(x, 0) ** 2 * y,
    "cumprod": lambda x, y: gt.cumprod(x, 1) * y,
    "linear_scan": lambda x, y: gt.linear_scan(x, y, 1) ** 2 + gt.linear_scan(y, x, 0, reverse=True),
    "linspace": lambda x, y: gt.linspace(x, y, 4) ** 2,
}


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients(name, order):
    check(GRADIENTS[name], [W, V], order=order, tolerance=1e-9)


@pytest.mark.parametrize("order", [1, 2])
def test_the_gradient_of_a_running_product_is_right_at_zeros(order):
    check(lambda x: gt.cumprod(x, 1) * V, [ZEROS], order=order, tolerance=1e-11)
    check(lambda x: gt.cumprod(x, 1, reverse=True) * V, [ZEROS], order=order, tolerance=1e-11)


def test_compiled():
    def f(x):
        y = gt.pad(x, ((0, 0), (1, 2), (0, 0)), "reflect")
        return gt.cumsum(y, 1) * gt.flip(gt.cumprod(gt.roll(y, 1, 1) * 0.5 + 1.0, 1), 1), gt.diagonal(y, 1, 1, 2)

    for got, want in zip(gradtape.compile(f, threads=2)(X), f(X), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


ERRORS = {
    "widths": (lambda x: gt.pad(x, ((1, 1), (2, 2))), r"needs \(before, after\) for each of the 3 axes"),
    "negative": (lambda x: gt.pad(x, -1), "a width of padding is not negative"),
    "mode": (lambda x: gt.pad(x, 1, "mirror"), "mode is one of constant, edge, .* not 'mirror'"),
    "reflect": (
        lambda x: gt.pad(x, 3, "reflect"),
        r"reflect takes at most 2 elements at an end of axis 0, got \(3, 3\)",
    ),
    "wrap": (lambda x: gt.pad(x, 4, "wrap"), "wrap takes at most 3 elements"),
    "shifts": (lambda x: gt.roll(x, (1, 2), 0), "2 shifts for 1 axes"),
    "repeats": (lambda x: gt.repeat(x, [1, 2], 1), "2 repeats for the 4 elements of axis 1"),
    "sizes": (lambda x: gt.split_with_sizes(x, (1, 2), 1), r"sizes \(1, 2\) make 3, axis 1 has 4"),
    "diagonal": (lambda x: gt.diagonal(x, 0, 1, -2), "a diagonal lies in two axes, both are 1"),
    "diag": (lambda x: gt.diag(x), "needs one or two dimensions, got 3"),
    "indexing": (lambda x: gt.meshgrid(x, indexing="x"), 'indexing is "xy" or "ij"'),
    "axis": (lambda x: gt.cumsum(x, 3), "axis 3 is out of range for 3 dimensions"),
    "broadcast": (lambda x: gt.linear_scan(x, X[0, :2]), "do not broadcast"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name):
    f, text = ERRORS[name]
    for call in (lambda: f(X), lambda: gt.trace(f, X)):
        with pytest.raises(TypeError, match=text) as error:
            call()
    assert f"{__file__}:{f.__code__.co_firstlineno}" in str(error.value)


def test_what_decides_a_size_is_not_traced():
    with pytest.raises(TypeError, match="repeats decide the size"):
        gt.trace(lambda x, n: gt.repeat(x, n[0], 0), X, N)


def test_a_shift_may_be_traced():
    for n in (0, 2, -3, 11):
        got = traced(lambda x, n: (gt.roll(x, n, 1), gt.roll(x, (1, n[()]), (0, 2))), X, np.array(n))
        np.testing.assert_array_equal(got[0], np.roll(X, n, 1))
        np.testing.assert_array_equal(got[1], np.roll(X, (1, n), (0, 2)))
