"""Optimizers and schedules: PyTorch's numbers, eager and traced; groups; user-written updates."""

import math

import numpy as np
import pytest

from gradtape import tracer as gt
from gradtape.ir.interp import evaluate_graph
from gradtape.ir.verify import verify
from gradtape.models import SGD, Adam, AdamW, Lion, as_optimizer, clip_by_global_norm, from_function, schedule
from gradtape.models.optim import clip_factor, global_norm

RNG = np.random.default_rng(0)
STEPS = 12
GRADS = RNG.standard_normal((STEPS, 4, 3)).astype(np.float32)
START = RNG.standard_normal((4, 3)).astype(np.float32)


def momentum_by_hand(param, grad, state, scalars):
    v = 0.9 * state.get("v", 0.0) + grad
    return param - scalars["lr"] * v, {"v": v}


OPTIMIZERS = {
    "SGD": lambda: SGD(0.1),
    "SGD momentum": lambda: SGD(0.1, momentum=0.9, weight_decay=0.01),
    "SGD nesterov": lambda: SGD(0.1, momentum=0.9, nesterov=True),
    "Adam": lambda: Adam(0.01),
    "Adam decay": lambda: Adam(0.01, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1),
    "AdamW": lambda: AdamW(0.01),
    "AdamW decay": lambda: AdamW(0.01, betas=(0.9, 0.99), weight_decay=0.1),
    "Lion": lambda: Lion(0.01, weight_decay=0.1),
    "function": lambda: from_function(momentum_by_hand, lr=0.1),
}


def walk(optimizer, dtype: type = np.float32):
    """The parameter after each step."""
    param, out = START.astype(dtype), []
    state = optimizer.init(param)
    for i, grad in enumerate(GRADS, 1):
        lr = optimizer.learning_rate(i)
        param, state = optimizer.update(param, grad.astype(dtype), state, {"lr": lr, "step": float(i)})
        out.append(param)
        assert param.dtype == dtype and all(v.dtype == dtype for v in state.values())
    return np.array(out)


TORCH = {
    "SGD": lambda t, p: t.optim.SGD(p, lr=0.1),
    "SGD momentum": lambda t, p: t.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
    "SGD nesterov": lambda t, p: t.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "Adam": lambda t, p: t.optim.Adam(p, lr=0.01),
    "Adam decay": lambda t, p: t.optim.Adam(p, lr=0.01, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1),
    "AdamW": lambda t, p: t.optim.AdamW(p, lr=0.01),
    "AdamW decay": lambda t, p: t.optim.AdamW(p, lr=0.01, betas=(0.9, 0.99), weight_decay=0.1),
    "function": lambda t, p: t.optim.SGD(p, lr=0.1, momentum=0.9),
}


@pytest.mark.parametrize("name", TORCH)
def test_pytorchs_numbers(name):
    torch = pytest.importorskip("torch")
    param = torch.nn.Parameter(torch.tensor(START))
    theirs = TORCH[name](torch, [param])
    expected = []
    for grad in GRADS:
        param.grad = torch.tensor(grad)
        theirs.step()
        expected.append(param.detach().numpy().copy())
    np.testing.assert_allclose(walk(OPTIMIZERS[name]()), expected, rtol=2e-6, atol=1e-6)


def test_adam_by_the_paper():
    """Written out in float64 from the algorithm's box, independent of any library."""
    p, m, v = START.astype(np.float64), 0.0, 0.0
    expected = []
    for t, g in enumerate(GRADS.astype(np.float64), 1):
        m = 0.9 * m + 0.1 * g
        v = 0.999 * v + 0.001 * g * g
        p = p - 0.01 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        expected.append(p)
    np.testing.assert_allclose(walk(Adam(0.01), np.float64), expected, rtol=1e-12)
    np.testing.assert_allclose(walk(Adam(0.01)), expected, rtol=1e-5, atol=1e-6)


def test_lion_by_the_paper():
    p, m = START.astype(np.float64), 0.0
    for g in GRADS.astype(np.float64):
        p = p - 0.01 * (np.sign(0.9 * m + 0.1 * g) + 0.1 * p)
        m = 0.99 * m + 0.01 * g
    np.testing.assert_allclose(walk(Lion(0.01, weight_decay=0.1), np.float64)[-1], p, rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_traced_is_eager(name, dtype):
    optimizer = OPTIMIZERS[name]()
    state = optimizer.init(START.astype(dtype))

    def f(param, grad, state, lr, t):
        return optimizer.update(param, grad, state, {"lr": lr, "step": t})

    example = (START.astype(dtype), GRADS[0].astype(dtype), state, 0.1, 1.0)
    traced = gt.trace(f, *example)
    verify(traced.graph)
    assert not traced.ledger.escapes
    param = example[0]
    expected = walk(optimizer, dtype)
    for i, grad in enumerate(GRADS, 1):
        inputs = traced.bind(param, grad.astype(dtype), state, optimizer.learning_rate(i), float(i))
        param, state = traced.structure.restore(evaluate_graph(traced.graph, inputs))
        np.testing.assert_allclose(param, expected[i - 1], rtol=2e-6, atol=1e-6)
        assert param.dtype == dtype and {v.dtype for v in state.values()} <= {np.dtype(dtype)}


def test_state_names_are_pytorchs():
    assert set(SGD(momentum=0.9).init(START)) == {"momentum_buffer"} and SGD().init(START) == {}
    assert set(AdamW().init(START)) == {"exp_avg", "exp_avg_sq"} and set(Lion().init(START)) == {"exp_avg"}


def test_defaults():
    assert AdamW().hyper == {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01}
    assert Adam().hyper["weight_decay"] == 0.0 and Lion().hyper["lr"] == 1e-4
    assert repr(SGD(0.5)) == "SGD(lr=0.5, momentum=0.0, nesterov=False, weight_decay=0.0)"


# groups -----------------------------------------------------------------------------------------------------------
def test_groups():
    a, b, c = (gt.Parameter([1.0]) for _ in range(3))
    assert AdamW().groups == [(None, AdamW().hyper)]
    (group,) = AdamW(params=[a, b, a]).groups
    assert group[0] == [a, b]
    optimizer = AdamW(
        lr=schedule.constant(0.5),
        weight_decay=0.1,
        params=[{"params": iter([a, b])}, {"params": [c], "weight_decay": 0.0, "lr": 0.25}],
    )
    assert [g[0] for g in optimizer.groups] == [[a, b], [c]]
    assert [g[1]["weight_decay"] for g in optimizer.groups] == [0.1, 0.0]
    assert [optimizer.learning_rate(3, i) for i in (0, 1)] == [0.5, 0.25]
    plain = optimizer.with_options(optimizer.groups[1][1])
    assert isinstance(plain, AdamW) and plain.hyper["weight_decay"] == 0.0
    assert optimizer.hyper["weight_decay"] == 0.1

    class Net(gt.Module):
        def __init__(self):
            self.w = a

    assert SGD(params=Net()).groups[0][0] == [a]


@pytest.mark.parametrize(
    ("params", "text"),
    [
        (lambda p: [], "an empty list of parameters"),
        (lambda p: [{"params": []}], "an empty list of parameters"),
        (lambda p: [{"params": [p], "momentum": 0.9}], "group 0 has no option 'momentum'"),
        (lambda p: [{"lr": 1.0}], 'group 0 needs "params"'),
        (lambda p: [{"params": [p]}, {"params": [p]}], "is in groups 0 and 1"),
        (lambda p: [p.data], "ndarray is not a Parameter"),
    ],
)
def test_wrong_groups(params, text):
    with pytest.raises(ValueError, match=text):
        AdamW(params=params(gt.Parameter([1.0])))


def test_wrong_options():
    with pytest.raises(ValueError, match="nesterov needs a momentum"):
        SGD(nesterov=True)
    with pytest.raises(ValueError, match=r"betas lie in \[0, 1\)"):
        Adam(betas=(0.9, 1.0))
    with pytest.raises(ValueError, match="max_norm is above 0"):
        clip_by_global_norm(SGD(), 0.0)


# user-written -----------------------------------------------------------------------------------------------------
def test_a_function_is_an_optimizer():
    optimizer = as_optimizer(momentum_by_hand)
    assert set(optimizer.init(START)) == {"v"} and not optimizer.init(START)["v"].any()
    assert repr(optimizer) == "from_function(momentum_by_hand, lr=0.001)"
    adam = Adam()
    assert as_optimizer(adam) is adam
    for wrong in (3, Adam):
        with pytest.raises(TypeError, match="takes an Optimizer"):
            as_optimizer(wrong)


def test_a_function_with_its_own_state():
    def f(param, grad, state, scalars):
        n = state["n"] + 1.0
        return param - scalars["lr"] * grad / n, {"n": n}

    with pytest.raises(ValueError, match=r"state.get\('n', 0.0\)"):
        from_function(f).init(START)
    optimizer = from_function(f, init=lambda p: {"n": np.ones_like(p)}, lr=1.0)
    np.testing.assert_allclose(walk(optimizer)[0], START - GRADS[0] / 2, rtol=1e-6)


# clipping ---------------------------------------------------------------------------------------------------------
def test_clipping():
    optimizer = AdamW()
    clipped = clip_by_global_norm(optimizer, 2)
    assert (clipped.max_norm, optimizer.max_norm) == (2.0, None) and isinstance(clipped, AdamW)
    assert repr(clipped).startswith("clip_by_global_norm(AdamW(lr=0.001") and repr(clipped).endswith(", 2.0)")
    assert clip_by_global_norm(momentum_by_hand, 1.0).max_norm == 1.0
    grads = [GRADS[0], GRADS[1, :2]]
    norm = global_norm(grads)
    np.testing.assert_allclose(norm, np.linalg.norm(np.concatenate([g.ravel() for g in grads])), rtol=1e-6)
    np.testing.assert_allclose(clip_factor(norm, 1.0), 1.0 / (norm + 1e-6), rtol=1e-6)
    assert clip_factor(np.float32(0.5), 1.0) == 1.0
    traced = gt.trace(lambda a, b: clip_factor(global_norm([a, b]), 1.0), *grads)
    got = evaluate_graph(traced.graph, traced.bind(*grads))["out"]
    np.testing.assert_allclose(got, clip_factor(norm, 1.0), rtol=1e-6)


# schedules --------------------------------------------------------------------------------------------------------
def test_schedules():
    s = schedule.warmup_cosine(1.0, warmup=10, total=110, final=0.1)
    assert [s(i) for i in (1, 5, 10)] == [0.1, 0.5, 1.0]
    assert math.isclose(s(60), 0.55) and math.isclose(s(110), 0.1) and math.isclose(s(1000), 0.1)
    values = [s(i) for i in range(10, 111)]
    assert values == sorted(values, reverse=True)
    line = schedule.linear(1.0, total=10, final=0.5)
    assert [line(i) for i in (5, 10, 20)] == [0.75, 0.5, 0.5]
    assert schedule.linear(1.0, total=10, warmup=4)(2) == 0.5
    steps = schedule.piecewise(1.0, (2, 4), 0.5)
    assert [steps(i) for i in (1, 2, 3, 4, 5)] == [1.0, 1.0, 0.5, 0.5, 0.25]
    assert schedule.constant(0.3)(7) == 0.3
    assert math.isclose(schedule.cosine(1.0, 10)(5), 0.5)
    assert repr(s) == "warmup_cosine(1.0, warmup=10, total=110, final=0.1)"
    assert s == schedule.warmup_cosine(1.0, 10, 110, 0.1) and s != line and len({s, line}) == 2
    assert SGD(lr=s).learning_rate(5) == 0.5 and "lr=warmup_cosine" in repr(SGD(lr=s))
