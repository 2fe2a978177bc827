"""Own rules, checkpoints and callbacks inside of loops, and loops inside of checkpoints."""

import numpy as np
import pytest

import gradtape as gt

X = np.random.default_rng(0).standard_normal((7, 4, 3))
W = np.random.default_rng(1).standard_normal((3, 3))


@gt.custom_vjp
def squash(x):
    y = np.tanh(x)
    return y, y


@squash.backward
def squash(y, g):
    return g * (1.0 - y * y)


def recurrent(cell):
    """The loss of a recurrent model whose rounds are cell(h, x, w)."""

    def loss(x, w):
        def step(h, x):
            h = cell(h, x, w)
            return h, h * h

        last, ys = gt.scan(step, gt.zeros((4, 3), dtype="f64"), x)
        return (last.sum() + ys.mean()) * 1.0

    return loss


def plain(h, x, w):
    return np.tanh(h @ w + x)


CELLS = {
    "rule": lambda h, x, w: squash(h @ w + x),
    "checkpoint": lambda h, x, w: gt.checkpoint(plain, h, x, w),
    "checkpoint over w": lambda h, x, w: gt.checkpoint(lambda h: plain(h, x, w), h),
    "rule in a checkpoint": lambda h, x, w: gt.checkpoint(lambda h: squash(h @ w + x), h),
}


@pytest.mark.parametrize("name", CELLS)
def test_inside_a_loop(name):
    expected = gt.value_and_grad(recurrent(plain), (0, 1))(X, W)
    found = gt.value_and_grad(recurrent(CELLS[name]), (0, 1))(X, W)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-12)
    for a, b in zip(found[1], expected[1], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13)
    if name == "rule":  # once more through what was saved
        second = gt.grad(lambda x: (gt.grad(recurrent(CELLS[name]))(x, W) ** 2).sum())(X)
        np.testing.assert_allclose(
            second, gt.grad(lambda x: (gt.grad(recurrent(plain))(x, W) ** 2).sum())(X), rtol=1e-9, atol=1e-12
        )


def test_a_loop_inside_a_checkpoint():
    def wrapped(x, w):
        return gt.checkpoint(recurrent(plain), x, w) * 2.0

    for a, b in zip(gt.grad(wrapped, (0, 1))(X, W), gt.grad(recurrent(plain), (0, 1))(X, W), strict=True):
        np.testing.assert_allclose(a, 2 * b, rtol=1e-11, atol=1e-13)


def test_draws_differ_from_round_to_round_and_are_the_same_the_second_time():
    def noisy(h, x, w):
        return gt.dropout(plain(h, x, w), 0.5, True)

    gt.manual_seed(3)
    expected = gt.value_and_grad(recurrent(noisy), (0, 1))(X, W)
    found = gt.value_and_grad(recurrent(lambda h, x, w: gt.checkpoint(noisy, h, x, w)), (0, 1))(X, W)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-12)
    np.testing.assert_allclose(found[1][1], expected[1][1], rtol=1e-11)
    masks = gt.compile(
        lambda x: gt.scan(lambda h, x: (h, gt.checkpoint(lambda x: x * gt.uniform(4, 3), x)), 0.0, x)[1], threads=1
    )(np.ones((5, 4, 3), "f4"))
    assert len(np.unique(masks)) == masks.size


def test_a_callback_inside_a_loop_is_refused_and_interpreted_it_works():
    def f(x):
        return gt.scan(lambda h, x: (gt.callback(np.sin, h + x), h), np.zeros((4, 3)), x)[0]

    with pytest.raises(TypeError, match=r"the callback sin stands in a loop, which runs without Python\n") as error:
        gt.compile(f, threads=1)(X)
    assert f"\n  at    {__file__}:{f.__code__.co_firstlineno + 1}" in str(error.value)
    from gradtape.ir.interp import evaluate_graph

    h = np.zeros((4, 3))
    for x in X:
        h = np.sin(h + x)
    np.testing.assert_allclose(evaluate_graph(gt.trace(f, X).graph, {"x": X})["out"], h)
