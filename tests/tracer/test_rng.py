"""Seeds, steps and dropout."""

import numpy as np
import pytest

from gradtape import tracer as gt
from gradtape.ir.interp import evaluate_graph

ONES = np.ones((400, 50), np.float32)


@pytest.fixture(autouse=True)
def seeded():
    gt.manual_seed(3)
    yield
    gt.manual_seed(0)


def test_seed_repeats_and_calls_differ():
    a, b = gt.uniform(1000), gt.uniform((1000,))
    gt.manual_seed(3)
    np.testing.assert_array_equal(gt.uniform(1000), a)
    assert not np.array_equal(a, b)
    assert a.dtype == np.float32 and a.min() >= 0 and a.max() < 1 and abs(a.mean() - 0.5) < 0.05
    assert gt.initial_seed() == 3
    draws = gt.generator().normal(size=3)
    gt.manual_seed(3)
    np.testing.assert_array_equal(gt.generator().normal(size=3), draws)


def test_dropout_keeps_the_mean():
    y = gt.dropout(ONES, 0.25)
    assert set(np.unique(y)) == {np.float32(0), np.float32(1 / 0.75)}
    assert abs(y.mean() - 1) < 0.01 and y.dtype == np.float32


def test_dropout_that_does_nothing():
    assert gt.dropout(ONES, 0.0) is ONES and gt.dropout(ONES, 0.5, training=False) is ONES
    assert not gt.dropout(ONES, 1.0).any()
    traced = gt.trace(lambda x: gt.dropout(x, 0.0), ONES)
    assert traced.graph.nodes == () and len(traced.graph.inputs) == 1


def test_traced_dropout_depends_on_seed_and_step_and_site():
    def f(x):
        return gt.dropout(x, 0.5), gt.dropout(x, 0.5)

    traced = gt.trace(f, gt.spec(("B", 50)))
    draws = {
        (seed, step): evaluate_graph(traced.graph, traced.bind(ONES, seed=seed, step=step))
        for seed, step in ((1, 0), (1, 1), (2, 0))
    }
    arrays = [array for draw in draws.values() for array in draw.values()]
    for i, a in enumerate(arrays):
        for b in arrays[i + 1 :]:
            assert not np.array_equal(a, b)
    again = evaluate_graph(traced.graph, traced.bind(ONES, seed=1, step=1))
    np.testing.assert_array_equal(again["out.0"], draws[1, 1]["out.0"])


def test_a_concrete_value_of_a_random_one():
    def f(x):
        assert 0.0 <= float(gt.uniform(3).sum()) < 3.0
        return x

    gt.trace(f, ONES)
