"""Distributions: Kolmogorov-Smirnov at a fixed seed; the same numbers eagerly and compiled, on one or two threads."""

import math

import numpy as np
import pytest

import gradtape
from gradtape import tracer as gt
from gradtape.ir.interp import evaluate_graph
from gradtape.ir.verify import verify

N = 20_000
LIMIT = 1.63 / math.sqrt(N)  # of the distance between distribution functions, exceeded by one sample in a hundred


@pytest.fixture(autouse=True)
def seeded():
    gt.manual_seed(7)
    yield
    gt.manual_seed(0)


def distance(sample, distribution):
    """The greatest distance between the sample's distribution function and the one that it should have."""
    ordered = np.sort(np.asarray(sample, np.float64))
    exact = distribution(ordered)
    steps = np.arange(ordered.size + 1) / ordered.size
    return max(np.abs(exact - steps[1:]).max(), np.abs(exact - steps[:-1]).max())


def phi(x):
    return 0.5 * (1.0 + np.vectorize(math.erf)(x / math.sqrt(2.0)))


DISTRIBUTIONS = {
    "uniform": (lambda: gt.uniform(N), lambda x: np.clip(x, 0, 1)),
    "uniform between": (lambda: gt.uniform(N, low=-2, high=3.0), lambda x: np.clip((x + 2) / 5, 0, 1)),
    "rand": (lambda: gt.rand(100, N // 100).reshape(-1), lambda x: np.clip(x, 0, 1)),
    "normal": (lambda: gt.normal(N), phi),
    "normal f64": (lambda: gt.normal((N,), dtype="f64"), phi),
    "normal moved": (lambda: gt.normal(N, loc=1.5, scale=0.25), lambda x: phi((x - 1.5) / 0.25)),
    "randn": (lambda: gt.randn(N), phi),
    "exponential": (lambda: gt.exponential(N, scale=2.0), lambda x: 1 - np.exp(-x / 2)),
    "gumbel": (lambda: gt.gumbel(N), lambda x: np.exp(-np.exp(-x))),
    "gumbel moved": (lambda: gt.gumbel(N, loc=-1.0, scale=3.0), lambda x: np.exp(-np.exp(-(x + 1) / 3))),
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_kolmogorov_smirnov(name):
    draw, distribution = DISTRIBUTIONS[name]
    sample = draw()
    assert np.isfinite(sample).all()
    assert distance(sample, distribution) < LIMIT
    again = draw()
    assert not np.array_equal(sample, again) and distance(again, distribution) < LIMIT
    assert sample.dtype == (np.float64 if "f64" in name else np.float32)


def test_the_test_would_notice():
    assert distance(gt.normal(N) * 1.05, phi) > LIMIT and distance(gt.normal(N) + 0.03, phi) > LIMIT


def test_the_ends_of_the_normal_are_symmetric_and_finite():
    """erfinv of the least and the greatest number that it is given."""
    end = np.float32(1 - 2.0**-24)
    top = float(gt.erfinv(end[None])[0]) * math.sqrt(2)
    assert 5.4 < top < 5.43 and gt.erfinv(-end[None])[0] == -gt.erfinv(end[None])[0]


def counts(sample, n):
    return np.bincount(np.asarray(sample).reshape(-1), minlength=n)


def chi_square(found, expected):
    return ((found - expected) ** 2 / expected).sum()


def test_integers_are_equally_likely():
    sample = gt.randint(-3, 7, N)
    assert sample.dtype == np.int64 and sample.min() == -3 and sample.max() == 6
    assert chi_square(counts(sample + 3, 10), N / 10) < 21.7  # 99 % of a chi-square with 9 degrees
    assert set(gt.randint(2, shape=(50, 4)).reshape(-1).tolist()) == {0, 1}
    wide = gt.randint(0, 2**31, (N,))
    assert distance(wide / 2**31, lambda x: np.clip(x, 0, 1)) < LIMIT
    assert gt.randint(5, shape=3, dtype="i32").dtype == np.int32


def test_bernoulli():
    assert abs(gt.bernoulli(0.3, (N,)).mean() - 0.3) < 0.01 and gt.bernoulli(0.3, N).dtype == bool
    p = np.array([[0.0], [0.25], [1.0]])
    means = gt.bernoulli(p, (3, N)).mean(1)
    assert means[0] == 0 and abs(means[1] - 0.25) < 0.01 and means[2] == 1
    assert gt.bernoulli(p).shape == (3, 1)


def test_categories_have_their_probabilities():
    logits = np.log(np.array([0.1, 0.2, 0.3, 0.4], np.float32))
    sample = gt.categorical(np.broadcast_to(logits, (N, 4)))
    assert sample.dtype == np.int64 and sample.shape == (N,)
    assert chi_square(counts(sample, 4), N * np.exp(logits)) < 11.3  # 3 degrees
    first = gt.categorical(np.array([[0.0, -np.inf], [-np.inf, 0.0]], np.float32), axis=0)
    assert first.tolist() == [0, 1]


# programs -------------------------------------------------------------------------------------------------------------
def draws(x, p):
    n = x.shape[0]
    return (
        gt.normal(n, 5, loc=x[:, :1], scale=2.0), gt.exponential(n, 5), gt.gumbel(n), gt.uniform(n, low=1, high=2),
        gt.bernoulli(p), gt.randint(n, shape=(n, 3)), gt.randint(x.sum().astype("int64"), 90, 4), gt.categorical(x),
        gt.normal(3, dtype="f64"),
    )  # fmt: skip


X = np.random.default_rng(0).standard_normal((6, 5)).astype(np.float32)
P = np.abs(X) / 4


def test_eager_interpreted_and_compiled_numbers_agree_on_any_number_of_threads():
    eager = draws(X, P)
    found = gt.trace(draws, gt.spec(("B", 5)), gt.spec(("B", 5)))
    verify(found.graph)
    results = [found.structure.restore(evaluate_graph(found.graph, found.bind(X, P, seed=7, step=0)))]
    for threads in (1, 2):
        program = gradtape.compile(draws, threads=threads)
        program.seed = 7
        results.append(program(X, P))
    for result in results:
        for got, want in zip(result, eager, strict=True):
            np.testing.assert_allclose(got, want, rtol=2e-5, atol=1e-6)
            assert got.dtype == want.dtype
    for one, two in zip(*results[1:], strict=True):
        np.testing.assert_array_equal(one, two)


def test_steps_and_sites_differ():
    found = gt.trace(lambda x: (gt.normal(50), gt.normal(50)), X)
    values = [evaluate_graph(found.graph, found.bind(X, seed=1, step=s)) for s in (0, 1)]
    arrays = [a for v in values for a in v.values()]
    assert len({a.tobytes() for a in arrays}) == 4


def test_gradients_flow_to_location_and_scale():
    def f(loc, scale):
        return (gt.normal(4, 3, loc=loc, scale=scale) ** 2).sum() / 2 + gt.exponential(3, scale=scale).sum()

    loc, scale = np.full((4, 1), 0.5, np.float32), np.array([1.0, 2.0, 3.0], np.float32)
    gt.manual_seed(0)
    g_loc, g_scale = gradtape.grad(f, (0, 1))(loc, scale)
    x = gt.normal(4, 3, loc=loc, scale=scale)
    e = gt.exponential(3)
    np.testing.assert_allclose(g_loc, x.sum(1, keepdims=True), rtol=1e-4)
    np.testing.assert_allclose(g_scale, (x * (x - loc) / scale).sum(0) + e, rtol=1e-4)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: gt.randint(0), "randint: needs 1 to 2\\*\\*31 values, got 0 from 0 to 0"),
        (lambda: gt.randint(0, 2**40), "needs 1 to 2\\*\\*31 values"),
        (lambda: gt.normal(3, dtype="i64"), "draws floats, not i64"),
        (lambda: gt.normal("a"), "a shape is made of ints and Dims, got 'a'"),
        (lambda: gt.bernoulli(np.full(3, 0.5), (2,)), r"shapes \(3\) and \(2\) do not broadcast"),
    ],
)
def test_errors(call, text):
    with pytest.raises((TypeError, ValueError), match=text):
        call()
