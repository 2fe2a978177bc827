"""dynamic_slice and dynamic_update_slice: JAX's results, and when a tape writes in place."""

import numpy as np
import pytest

import gradtape
from gradcheck import check
from gradtape import tracer as gt
from gradtape.ir.interp import evaluate_graph
from gradtape.ir.verify import verify

RNG = np.random.default_rng(0)
X = RNG.standard_normal((4, 6, 5)).astype(np.float32)
U = RNG.standard_normal((2, 3, 5)).astype(np.float32)


def place(starts, sizes, shape=X.shape):
    """Negative starts count from the end, then all are moved inside."""
    firsts = [min(max(s + n if s < 0 else s, 0), n - k) for s, k, n in zip(starts, sizes, shape, strict=True)]
    return tuple(slice(f, f + k) for f, k in zip(firsts, sizes, strict=True))


def traced(f, *args):
    found = gt.trace(f, *args)
    verify(found.graph)
    assert found.ledger.escapes == []
    return found.structure.restore(evaluate_graph(found.graph, found.bind(*args)))


STARTS = [(1, 2, 0), (0, 0, 0), (3, 5, 4), (9, -1, 0), (-1, -9, 3), (-3, 3, -5)]


@pytest.mark.parametrize("starts", STARTS)
def test_parts_are_moved_inside(starts):
    i, j, k = (np.array(s) for s in starts)
    expected = X[place(starts, (2, 3, 5))]
    replaced = X.copy()
    replaced[place(starts, (2, 3, 5))] = U
    calls = [
        (lambda x, u, i, j, k: gt.dynamic_slice(x, (i, j, k), (2, 3, 5)), expected),
        (lambda x, u, i, j, k: gt.dynamic_slice(x, gt.stack([i, j, k]), (2, 3, 5)), expected),
        (lambda x, u, i, j, k: gt.dynamic_slice(x, (i, starts[1], k), (2, 3, 5)), expected),
        (lambda x, u, i, j, k: gt.dynamic_update_slice(x, u, (i, j, k)), replaced),
        (lambda x, u, i, j, k: gt.dynamic_update_slice(x, u, (starts[0], j, k)), replaced),
        (lambda x, u, i, j, k: gt.dynamic_slice(x, j, 3, axis=1), X[place((0, starts[1], 0), (4, 3, 5))]),
        (lambda x, u, i, j, k: gt.dynamic_slice(x, starts, (2, 3, 5)), expected),
    ]
    for f, want in calls:
        np.testing.assert_array_equal(traced(f, X, U, i, j, k), want)
        np.testing.assert_array_equal(f(X, U, i, j, k), want)


def test_one_axis_with_broadcasting_and_a_cast():
    expected = X.copy()
    expected[:, 2:3] = 7
    for f in (lambda x, i: gt.dynamic_update_slice(x, np.full((1, 1, 1), 7), i, axis=1),):
        np.testing.assert_array_equal(traced(f, X, np.array(2)), expected)
        np.testing.assert_array_equal(f(X, np.array(2)), expected)


def test_jax_agrees():
    lax = pytest.importorskip("jax.lax")
    for starts in STARTS:
        np.testing.assert_array_equal(gt.dynamic_slice(X, starts, (2, 3, 5)), lax.dynamic_slice(X, starts, (2, 3, 5)))
        got, want = gt.dynamic_update_slice(X, U, starts), lax.dynamic_update_slice(X, U, starts)
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("order", [1, 2])
def test_gradients(order):
    i, j = np.array(1), np.array(-2)
    x, u = X.astype("f8"), U.astype("f8")
    check(lambda x: gt.dynamic_slice(x, (i, j, 0), (2, 3, 5)) ** 2, [x], order=order, tolerance=1e-9)
    check(lambda x, u: gt.dynamic_update_slice(x, u, (i, j, 0)) ** 2, [x, u], order=order, tolerance=1e-9)
    once = lambda x, u: gt.dynamic_update_slice(x, u, i, axis=0) ** 3
    check(once, [x, np.ascontiguousarray(x[:2]) + 0.5], order=order, tolerance=1e-9)


def test_symbolic_sizes():
    def f(x, u, i):
        return gt.dynamic_slice(x, i, u.shape[0], axis=0), gt.dynamic_update_slice(x, u, i, axis=0)

    found = gt.trace(f, gt.spec(("T", 3)), gt.spec(("S", 3)), gt.spec((), "i64"))
    for t, s in ((5, 2), (4, 4)):
        x, u = RNG.standard_normal((t, 3)).astype("f4"), RNG.standard_normal((s, 3)).astype("f4")
        args = x, u, np.array(2)
        for got, want in zip(evaluate_graph(verify(found.graph), found.bind(*args)).values(), f(*args), strict=True):
            np.testing.assert_array_equal(got, want)


# tapes ----------------------------------------------------------------------------------------------------------------
class Cache(gradtape.Module):
    """A key/value cache of 6 positions."""

    def __init__(self):
        self.keys = gradtape.buffer(np.zeros((2, 6, 3), "f4"))
        self.position = gradtape.buffer(np.array(0))

    def forward(self, new):
        self.keys = gradtape.dynamic_update_slice(self.keys, new[:, None], self.position, axis=1)
        self.position = self.position + 1
        return (self.keys * 1.0).sum(1)


def labels(step):
    return [i.label for i in step.graph("tape").instructions()]


def test_a_cache_is_written_in_place():
    model = Cache()
    program = gradtape.compile(model, threads=1)
    news = RNG.standard_normal((4, 2, 3)).astype("f4")
    for n, new in enumerate(news, 1):
        np.testing.assert_allclose(program(new), news[:n].sum(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(model.keys.array[:, :4], news.swapaxes(0, 1))
    assert model.position.array == 4 and not model.keys.array[:, 4:].any()
    assert "copy" not in labels(program)


def test_a_cache_whose_old_value_is_needed_is_copied():
    class Both(Cache):
        def forward(self, new):
            old = self.keys[...]  # the value, not the buffer, which moves on
            before = old[:, ::-1] * 2.0
            self.keys = gradtape.dynamic_update_slice(old, new[:, None], self.position, axis=1)
            return before, old + self.keys, gradtape.dynamic_slice(self.keys, self.position, 1, axis=1)

    model = Both()
    model.keys.data[...] = keys = RNG.standard_normal((2, 6, 3)).astype("f4")
    model.position.data[...] = 4
    new = RNG.standard_normal((2, 3)).astype("f4")
    expected = keys.copy()
    expected[:, 4] = new
    before, both, written = gradtape.compile(model, threads=1)(new)
    np.testing.assert_array_equal(before, keys[:, ::-1] * 2)
    np.testing.assert_allclose(both, keys + expected, rtol=1e-6)
    np.testing.assert_array_equal(written[:, 0], new)
    np.testing.assert_array_equal(model.keys.array, expected)


def test_a_cache_that_is_moved_within_itself():
    class Moved(Cache):
        def forward(self, n):
            self.keys = gradtape.dynamic_update_slice(self.keys, self.keys[:, 1:], n, axis=1)
            return self.keys.sum()

    model = Moved()
    model.keys.data[...] = keys = RNG.standard_normal((2, 6, 3)).astype("f4")
    gradtape.compile(model, threads=1)(np.array(0))
    np.testing.assert_array_equal(model.keys.array, np.concatenate([keys[:, 1:], keys[:, -1:]], 1))


def test_a_training_step_writes_a_cache_only_after_its_check():
    class Learning(Cache):
        def __init__(self):
            super().__init__()
            self.w = gradtape.Parameter(np.ones((3, 3), "f4"))

        def forward(self, new):
            return np.log(super().forward(new) @ self.w)

    model = Learning()
    step = gradtape.compile(model, loss=gradtape.mse, optimizer=gradtape.SGD(lr=0.01), lint="off", threads=1)
    with pytest.raises(gradtape.NotFinite):
        step(np.full((2, 3), -1, "f4"), np.zeros((2, 3), "f4"))
    assert not model.keys.array.any() and model.position.array == 0
    step(np.full((2, 3), 1, "f4"), np.zeros((2, 3), "f4"))
    assert (model.keys.array[:, 0] == 1).all() and model.position.array == 1


def test_temporaries_are_taken_over():
    def f(x, i):
        y = x * 2.0
        for n in range(3):
            y = gradtape.dynamic_update_slice(y, x[:1] * float(n), i + n, axis=0)
        return y

    program = gradtape.compile(f, threads=2)
    x = RNG.standard_normal((6, 3)).astype("f4")
    np.testing.assert_allclose(program(x, np.array(1)), f(x, np.array(1)), rtol=1e-6)
    assert "copy" not in labels(program)


ERRORS = {
    "axes": (lambda x: gt.dynamic_slice(x, (0, 0), (1, 1)), "needs a start and a size for each of the 3 axes"),
    "size": (lambda x: gt.dynamic_slice(x, (0, 0, 0), (1, 7, 1)), "7 elements do not fit into axis 1 of size 6"),
    "update": (lambda x: gt.dynamic_update_slice(x, U[0], (0, 0, 0)), "the update has 2 axes, x has 3"),
    "long": (lambda x: gt.dynamic_update_slice(x, X[:, :, [0] * 6], (0, 0, 0)), "6 elements do not fit into axis 2"),
    "float": (lambda x: gt.dynamic_slice(x, np.array(1.5), 2, axis=0), "the start is an integer array without axes"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name):
    f, text = ERRORS[name]
    for call in (lambda: f(X), lambda: gt.trace(f, X)):
        with pytest.raises(TypeError, match=text):
            call()
