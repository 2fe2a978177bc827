"""Where a constant is harmless: what `passes/lint/exact.py` concludes from the graph is compared with differences of
the program in float64."""

import numpy as np
import pytest

from gradtape import tracer as gt
from gradtape.ir.interp import evaluate_graph
from gradtape.passes.lint.exact import is_exact
from gradtape.passes.lint.flow import Flow

X = np.random.default_rng(0).standard_normal((4, 4))
OTHER = np.random.default_rng(1).standard_normal((4, 4))


def ratio(e, axis=-1):
    return e / e.sum(axis, keepdims=True)


def weigh(p):
    """A loss in which every element counts otherwise."""
    return (p * OTHER).sum()


# name: (program of x and the constant c, shape of c, whether it is harmless)
PROGRAMS = {
    "softmax": (lambda x, c: weigh(ratio(np.exp(x - c))), (4, 1), True),
    "softmax, one for all": (lambda x, c: weigh(ratio(np.exp(x - c))), (), True),
    "softmax, other axis": (lambda x, c: weigh(ratio(np.exp(x - c), 0)), (4, 1), False),
    "softmax, along both": (lambda x, c: weigh(ratio(np.exp(x - c))), (4, 4), False),
    "softmax, along it": (lambda x, c: weigh(ratio(np.exp(x - c))), (1, 4), False),
    "softmax of a half": (lambda x, c: weigh(ratio(np.exp((x - c) / 2))), (4, 1), True),
    "softmax plus": (lambda x, c: weigh(ratio(np.exp(x + 3 * c))), (4, 1), True),
    "softmax turned": (lambda x, c: weigh(ratio(np.exp(x.T - c.T), 0)), (4, 1), True),
    "softmax turned wrongly": (lambda x, c: weigh(ratio(np.exp(x.T - c), 0)), (4, 1), False),
    "softmax and itself": (lambda x, c: weigh(ratio(np.exp(x - c)) * c), (4, 1), False),
    "softmax op": (lambda x, c: weigh(gt.softmax(x - c, -1)), (4, 1), True),
    "softmax op, other axis": (lambda x, c: weigh(gt.softmax(x - c, 0)), (4, 1), False),
    "log-softmax op": (lambda x, c: weigh(gt.log_softmax(x - c, -1)), (4, 1), True),
    "logsumexp": (lambda x, c: (c + np.log(np.exp(x - c).sum(-1, keepdims=True))).sum(), (4, 1), True),
    "logsumexp without it": (lambda x, c: np.log(np.exp(x - c).sum(-1, keepdims=True)).sum(), (4, 1), False),
    "logsumexp twice": (lambda x, c: (2 * c + np.log(np.exp(x - c).sum(-1, keepdims=True))).sum(), (4, 1), False),
    "logsumexp op": (lambda x, c: weigh(x - c - gt.logsumexp(x - c, -1, keepdims=True)), (4, 1), True),
    "logsumexp, axis lost": (lambda x, c: (c[:, 0] + np.log(np.exp(x - c).sum(-1))).sum(), (4, 1), True),
    "log of a ratio": (lambda x, c: weigh(np.log(ratio(np.exp(x - c)))), (4, 1), True),
    "ratio of scaled": (lambda x, c: weigh(ratio(np.abs(x) * c)), (4, 1), True),
    "ratio of divided": (lambda x, c: weigh(ratio(np.square(x) / c)), (4, 1), True),
    "ratio with epsilon": (lambda x, c: weigh(np.exp(x - c) / (np.exp(x - c).sum(-1, keepdims=True) + 1e-9)), (), True),
    "ratio with a third": (lambda x, c: weigh(np.exp(x - c) / (np.exp(x - c).sum(-1, keepdims=True) + 0.3)), (), False),
    "norm": (lambda x, c: weigh(x * c / np.sqrt(np.square(x * c).sum(-1, keepdims=True))), (4, 1), True),
    "norm of shifted": (lambda x, c: weigh((x - c) / np.sqrt(np.square(x - c).sum(-1, keepdims=True))), (4, 1), False),
    "layer norm, shifted": (lambda x, c: weigh(gt.layer_norm(x - c, 4)), (4, 1), True),
    "layer norm, shifted by hand": (lambda x, c: weigh(x - c - (x - c).mean(-1, keepdims=True)), (4, 1), True),
    "layer norm, by column": (lambda x, c: weigh(gt.layer_norm(x - c, 4)), (1, 4), False),
    "std": (lambda x, c: weigh((x - c).std(-1, keepdims=True) + x), (4, 1), True),
    "batch norm by hand": (lambda x, c: weigh((x - c - (x - c).mean(0)) / (x - c).std(0)), (1, 4), True),
    "batch norm by hand, by row": (lambda x, c: weigh((x - c - (x - c).mean(0)) / (x - c).std(0)), (4, 1), False),
    "unused difference": (lambda x, c: weigh(x + (c - c)), (4, 4), True),
    "its transpose": (lambda x, c: weigh(x + (c - c.T)), (4, 4), False),
    "masked": (lambda x, c: weigh(ratio(np.exp(np.where(OTHER > 0, x - c, -np.inf)))), (4, 1), True),
    "masked by another": (lambda x, c: weigh(ratio(np.exp(np.where(OTHER > 0, x - c, 0.5)))), (4, 1), False),
    "compared": (lambda x, c: weigh(np.where(x > c, x, 2 * x)), (4, 1), True),
    "stopped": (lambda x, c: weigh(x + gt.stop_gradient(x * c)), (4, 1), True),
    "divided": (lambda x, c: weigh(x / c), (4, 1), False),
    "shifted": (lambda x, c: weigh(x - c), (4, 1), False),
    "squared": (lambda x, c: ((x - c) ** 2).sum(), (), False),
    "in a product": (lambda x, c: weigh(x @ (x * c)), (4, 1), False),
    "powers": (lambda x, c: weigh((np.abs(x) * c) ** 3 / (np.abs(x) * c).sum(-1, keepdims=True) ** 3), (4, 1), True),
    "rolled": (lambda x, c: weigh(gt.softmax((x - c)[::-1], -1)), (4, 1), False),
    "a part of it": (lambda x, c: weigh(gt.softmax((x - c)[:, :], -1)), (4, 1), True),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_conclusions_agree_with_differences(name):
    f, shape, harmless = PROGRAMS[name]
    c = np.random.default_rng(2).uniform(0.5, 1.5, shape)
    traced = gt.trace(lambda x, c: f(x, c), X, c)
    graph = traced.graph
    root = graph.outputs[0][1]
    constant = next(v for v in graph.inputs if v.name == "c")
    concluded = is_exact(Flow(graph, [root]), [(constant, None)])

    def loss(t, direction):
        with np.errstate(all="ignore"):
            return float(evaluate_graph(graph, traced.bind(X, c + t * direction))["out"])

    rng = np.random.default_rng(3)
    slopes = []
    for _ in range(4):
        direction = rng.standard_normal(shape)
        slopes.append((loss(1e-5, direction) - loss(-1e-5, direction)) / 2e-5)
    steepest = max(abs(s) for s in slopes)
    if name == "stopped":  # what is stopped is no part of the gradient, but moves all the same
        assert concluded and steepest > 1e-2
    elif name == "rolled":  # harmless, but not seen: the rows of a flipped array are another's
        assert not concluded and steepest < 1e-7
    else:
        epsilon = 1e-5 if name == "layer norm, shifted" else 1e-7
        assert concluded == harmless == (steepest < epsilon)


def test_literals_of_one_number_move_together():
    def f(x):
        m = x.max().item()
        return (m + np.log(np.exp(x - m).sum(-1))).sum()

    traced = gt.trace(f, X)
    back = [(r.operand, r.user) for r in traced.ledger.reentries]
    flow = Flow(traced.graph, [traced.graph.outputs[0][1]], traced.ledger.reentries)
    assert len(back) == 2 and is_exact(flow, back)
    assert not any(is_exact(flow, [one]) for one in back)
