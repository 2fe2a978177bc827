"""What layer K proves holds: for random models, and for all that is told of their parameters."""

import time

import numpy as np
import pytest
from random_models import random_model

import gradtape as gt

NOTHING = 1e-9  # a gradient of this share of the greatest is rounding, in float64


def finite(gradients):
    return all(np.isfinite(g).all() for g in gradients.values())


def check(seed):
    """Holds the proofs against gradients, and counts what was proved."""
    model = random_model(seed)
    proofs, said = model.evidence.proofs, 0
    drawn = [g for g in (model.gradients(model.drawn()) for _ in range(2)) if finite(g)]
    for gradients in drawn:
        greatest = max((np.abs(g).max() for g in gradients.values()), default=0.0)
        limit = NOTHING * max(greatest, 1e-3)
        for path, g in gradients.items():
            if not proofs.flow.reaches(path):
                assert np.abs(g).max() <= limit, f"{path} of {model.names} (seed {seed}) has a gradient"
                said += 1
        for value, sums in proofs.vanishing.rows.items():
            for s in sums if value.name in gradients else ():
                axis, start, stop = s.rows
                part = np.take(gradients[value.name], range(start, stop), axis)
                assert np.abs(part).max() <= limit, f"{s.rows} of {value.name} of {model.names} (seed {seed})"
                said += 1
        for unread in proofs.unread:
            part = np.take(gradients[unread.name], range(unread.start, unread.stop), unread.axis)
            assert not part.any(), f"{unread} of {model.names} (seed {seed})"
            said += 1
    return said + check_training(model, seed)


def check_training(model, seed):
    """A few steps of SGD: what is stuck does not move, what is alike stays alike."""
    proofs, start = model.evidence.proofs, model.start()
    now = dict(start)
    for _ in range(4):
        gradients = model.gradients(now)
        if not finite(gradients):
            return 0
        now = {path: a - 0.1 * np.clip(gradients.get(path, 0.0), -3, 3) for path, a in now.items()}
    for stuck in proofs.stuck:
        for path in stuck.killed:
            np.testing.assert_allclose(now[path], start[path], atol=1e-10, err_msg=f"{path} of {model.names} ({seed})")
    for units in proofs.alike:
        for path in units.parameters:
            axes = [a for a, n in enumerate(now[path].shape) if n == units.count]
            assert any(np.ptp(now[path], a).max() < 1e-9 for a in axes), f"{path} of {model.names} (seed {seed})"
    return len(proofs.stuck) + len(proofs.alike)


@pytest.mark.parametrize("start", range(0, 240, 12))
def test_proofs_hold_for_random_models(start):
    assert sum(check(seed) for seed in range(start, start + 12)) > 5  # something is proved of every dozen


@pytest.mark.slow
@pytest.mark.parametrize("start", range(1000, 4000, 100))
def test_proofs_hold_for_many_random_models(start):
    for seed in range(start, start + 100):
        check(seed)


# words ------------------------------------------------------------------------------------------------------------
def lint(model, *batch, loss=gt.mse_loss, layers=("S", "K", "T")):
    return gt.lint(model, *batch, loss=loss, layers=layers)


X = np.random.default_rng(0).standard_normal((6, 8)).astype("f4")
IDS = np.random.default_rng(0).integers(0, 17, (2, 8))


@pytest.mark.parametrize("qkv", ["separate", "fused"])
def test_the_keys_bias_of_attention_is_zero_by_softmax(qkv):
    model = gt.models.GPT(17, 8, 16, depth=2, heads=2, qkv=qkv)
    report = lint(model, IDS, IDS, loss=gt.cross_entropy)
    (finding,) = report.findings
    assert (finding.code, finding.severity) == ("GT-C03", "info") and "softmax's shift invariance" in finding.message
    verdicts = {v.path: v.verdict for v in report.parameters}
    if qkv == "separate":
        assert finding.parameters == ("blocks.0.attn.k.bias", "blocks.1.attn.k.bias")
        assert [p for p, v in verdicts.items() if v != "learns"] == list(finding.parameters)
    else:
        assert finding.message.startswith("rows 16 to 31 of blocks.0.attn.qkv.bias, blocks.1.attn.qkv.bias are zero")
        assert finding.parameters == () and set(verdicts.values()) == {"learns"}


class Normed(gt.Module):
    def __init__(self, axes, shape=(8,)):
        self.w = gt.Parameter(X.T @ X / 6)
        self.b = gt.Parameter(np.ones(shape, "f4"))
        self.axes = axes

    def forward(self, x):
        return gt.layer_norm(x @ self.w + self.b, axes=self.axes)


@pytest.mark.parametrize(
    ("axes", "shape", "dead"),
    [
        ((0,), (8,), True),  # batch_norm: a bias per channel
        ((1,), (8,), False),  # layer_norm
        ((1,), (), True),  # one number for all features
        ((1,), (6, 1), True),  # one for each example
        ((0, 1), (8,), False),
        ((0, 1), (1,), True),
    ],
)
def test_a_bias_before_a_normalisation(axes, shape, dead):
    report = lint(Normed(axes, shape), X, X)
    assert [f.code for f in report.findings] == (["GT-C03"] if dead else [])
    assert {v.path: v.verdict for v in report.parameters} == {"w": "learns", "b": "zero" if dead else "learns"}


def test_sizes_of_the_data_are_no_error():
    class Scored(gt.Module):
        def __init__(self):
            self.q, self.k = gt.Parameter(X.T @ X / 6), gt.Parameter(X.T @ X / 5)

        def forward(self, x):
            return gt.softmax((x @ self.q) @ (x @ self.k).T, -1) @ x + x.mean(-1, keepdims=True)

    (finding,) = lint(Scored(), X[:1], X[:1]).findings  # one token
    assert (finding.code, finding.severity, set(finding.parameters)) == ("GT-C04", "info", {"q", "k"})
    assert lint(Scored(), X, X).findings == ()
    (finding,) = lint(Normed((0,)), X[:1], X[:1]).findings  # a batch of one
    assert (finding.code, finding.severity, set(finding.parameters)) == ("GT-C04", "warning", {"w", "b"})
    assert "in this batch" in finding.why


def test_what_is_constant_further_on_is_told_where_it_began():
    class Chain(gt.Module):
        def __init__(self):
            self.w, self.gain = gt.Parameter(X.T @ X / 6), gt.Parameter(np.ones(8, "f4"))
            self.bias = gt.Parameter(np.ones(8, "f4"))

        def forward(self, x):
            h = gt.relu(-np.exp(x @ self.w))
            return gt.layer_norm(h) * self.gain + self.bias

    (finding,) = lint(Chain(), X, X).findings
    assert (finding.code, finding.parameters) == ("GT-C06", ("w", "gain"))
    assert "relu is always 0" in finding.message and "[-inf, 0]" in finding.why


def test_a_zero_that_the_step_is_given_is_another_number_in_other_steps():
    class Weighted(gt.Module):
        def __init__(self):
            self.w, self.v = gt.Parameter(X.T @ X / 6), gt.Parameter(X.T @ X / 5)

        def forward(self, x, beta):
            return x @ self.w + beta * (x @ self.v)

    assert lint(Weighted(), X, np.float32(0), X).findings == ()


def test_every_model_is_silent_when_compiled(recwarn):
    step = gt.compile(gt.models.GPT(17, 8, 16, 2, 2), loss=gt.cross_entropy, optimizer=gt.AdamW(lr=1e-3), threads=1)
    for length in (8, 5, 7):  # the third with symbolic sizes
        step(IDS[:, :length], IDS[:, :length])
    assert step.lint().ok and not [w for w in recwarn if issubclass(w.category, gt.LintWarning)]
    mlp = gt.models.MLP(8, 16, 4)
    assert lint(mlp, X, np.zeros(6, int), loss=gt.cross_entropy).findings == ()


def test_an_update_is_a_part_of_the_step():
    """H03 has no other spelling: there is no backward, no gradient that could be cleared, no step to forget."""
    step = gt.compile(gt.models.MLP(8, 8), loss=gt.mse_loss, optimizer=gt.SGD(lr=0.1), threads=1)
    before = {k: v.copy() for k, v in step.state_dict().items()}
    step(X, X)
    assert all(not np.array_equal(before[k], v) for k, v in step.state_dict().items())
    assert not hasattr(gt.SGD(), "zero_grad") and not hasattr(gt.SGD(), "step")
    with pytest.raises(TypeError, match=r"no backward\(\)"):
        gt.compile(lambda x: x.sum().backward())(X)


def test_the_losses_of_the_package_do_not_pair_what_differs_in_rank():
    """H02: (N, 1) against (N,) is refused with both shapes."""
    for loss in (gt.mse_loss, gt.l1_loss):
        with pytest.raises(TypeError, match="differ in rank"):
            lint(gt.models.MLP(8, 1), X, X[:, 0], loss=loss)


def test_an_element_cannot_be_overwritten():
    """C08: `x[:, :k] = y` is refused."""
    with pytest.raises(TypeError, match="cannot be assigned in place"):
        gt.compile(lambda x: (x * 2).__setitem__((slice(None), 0), 1.0))(X)


def test_the_cost_for_a_gpt():
    model = gt.models.GPT(65, 64, 128, depth=4, heads=4)
    ids = np.zeros((4, 64), np.int64)
    times = []
    for layers in [("K",)] * 5:
        report_of = lambda layers=layers: gt.lint(model, ids, ids, loss=gt.cross_entropy, layers=layers)
        start = time.perf_counter()
        report_of()
        with_k = time.perf_counter() - start
        start = time.perf_counter()
        gt.lint(model, ids, ids, loss=gt.cross_entropy, layers=())
        times.append(with_k - (time.perf_counter() - start))
    assert min(times) < 0.1, times
