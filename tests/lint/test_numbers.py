"""Group G: what the probe measures, and what the rules make of it."""

import numpy as np
import pytest

import gradtape as gt

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((16, 4)).astype("f4"), RNG.standard_normal((16, 2)).astype("f4")


class Deep(gt.Module):
    def __init__(self, activation, depth=20):
        gt.manual_seed(0)
        self.first = gt.nn.Linear(4, 8)
        self.deep = [gt.nn.Linear(8, 8) for _ in range(depth)]
        self.last = gt.nn.Linear(8, 2)
        self.activation = activation

    def forward(self, x):
        h = self.first(x)
        for layer in self.deep:
            h = self.activation(h, layer)
        return self.last(h)


def codes(report):
    return [f.code for f in report.findings]


def test_a_vanished_gradient_names_the_layers_that_it_does_not_reach():
    model = Deep(lambda h, layer: gt.sigmoid(layer(h)))
    (finding,) = gt.lint(model, X, Y, loss=gt.mse_loss).findings
    assert (finding.code, finding.severity) == ("GT-G03", "warning")
    assert {"first.weight", "deep.0.weight"} <= set(finding.parameters)
    assert not {"last.weight", "deep.19.weight"} & set(finding.parameters)
    assert codes(gt.lint(Deep(lambda h, layer: h + gt.relu(layer(h))), X, Y, loss=gt.mse_loss)) == []


def test_the_key_bias_is_rounding_noise_and_told_as_such():
    gt.manual_seed(0)
    model = gt.models.GPT(11, 8, 16, 1, 2, tied=False, qkv="separate")
    ids = RNG.integers(0, 11, (2, 8))
    report = gt.lint(model, ids, ids, loss=gt.cross_entropy, layers="G")
    (finding,) = report.findings
    assert (finding.code, finding.severity, finding.parameters) == ("GT-G05", "info", ("blocks.0.attn.k.bias",))
    verdicts = {v.path: v.verdict for v in report.parameters}
    assert verdicts.pop("blocks.0.attn.k.bias") == "zero"
    assert set(verdicts.values()) == {"learns"}
    assert report.summary == "20/21 parameters learn; 1 info"


def test_the_probe_measures_what_finite_differences_say():
    """Against a model whose gradient is known: loss = sum((x w - y)**2) / n."""
    from gradtape.evidence import Subject, probe

    w = gt.Parameter(RNG.standard_normal((4, 2)).astype("f4"))

    class Linear(gt.Module):
        def __init__(self):
            self.w = w

        def forward(self, x):
            return x @ self.w

    subject = Subject(Linear(), gt.mse_loss, None, (X, Y))
    found = probe(subject, subject.trace(), ["w"])
    assert found.refusal == ""
    x, y = X[:2].astype(float), Y[:2].astype(float)  # the small shape
    expected = 2 / y.size * x.T @ (x @ w.array.astype(float) - y)
    g = found.gradients["w"]
    assert g.norm64 == pytest.approx(np.linalg.norm(expected), rel=1e-12)
    assert g.norm32 == pytest.approx(g.norm64, rel=1e-5) and 0 < g.noise < 1e-5 * g.norm64
    assert g.error == 0.0 and g.later < g.norm64 and g.moved > 0
    assert w.dtype == np.float32  # and everything is as it was


def test_the_probe_notices_a_gradient_that_is_wrong_by_a_thousandth():
    from gradtape.evidence import Subject, probe
    from gradtape.ir.op import OPS

    class Net(gt.Module):
        def __init__(self):
            self.w = gt.Parameter(RNG.standard_normal((4, 2)).astype("f4"))
            self.b = gt.Parameter(np.zeros(2, "f4"))

        def forward(self, x):
            return gt.tanh(x @ self.w) + self.b

    subject = Subject(Net(), gt.mse_loss, None, (X, Y))
    right = OPS["tanh"].vjp
    try:
        OPS["tanh"].vjp = lambda g, y, x: (g * (1.001 - y * y),)
        found = probe(subject, subject.trace(), ["w", "b"])
    finally:
        OPS["tanh"].vjp = right
    assert 1e-4 < found.gradients["w"].error < 1e-2
    assert found.gradients["b"].error == 0.0


def test_what_stops_the_probe_is_told_and_the_model_is_as_before():
    class Stubborn(gt.Module):
        def __init__(self):
            self.w = gt.Parameter(np.ones((4, 2), "f4"))

        def forward(self, x):
            if self.w.dtype != np.float32:
                raise ValueError("only float32 here")
            return x @ self.w

    from gradtape.evidence import Subject, probe

    model = Stubborn()
    subject = Subject(model, gt.mse_loss, None, (X, Y))
    assert probe(subject, subject.trace(), ["w"]).refusal == "ValueError: only float32 here"
    assert model.w.dtype == np.float32 and model.training
    report = gt.lint(model, X, Y, loss=gt.mse_loss)
    assert codes(report) == [] and report.notes == ("no probe: ValueError: only float32 here",)
    assert "no probe" in str(report) and gt.Report.from_dict(report.to_dict()) == report


# step.watch() ---------------------------------------------------------------------------------------------------------
class Rectified(gt.Module):
    def __init__(self, bias, scale=1.0):
        gt.manual_seed(1)
        self.first = gt.nn.Linear(4, 16)
        self.first.bias.data[...] = bias
        self.last = gt.nn.Linear(16, 2)
        self.scale = scale

    def forward(self, x):
        return gt.tanh(self.last(np.maximum(self.first(x), 0)) * self.scale)


def watched(model, optimizer, steps=12, every=2, warn=False):
    step = gt.compile(model, loss=gt.mse_loss, optimizer=optimizer, threads=1)
    watch = step.watch(every, warn=warn)
    rng = np.random.default_rng(2)
    for _ in range(steps):
        step(rng.standard_normal((8, 4)).astype("f4"), rng.standard_normal((8, 2)).astype("f4"))
    return watch


def test_a_look_changes_nothing():
    """Running statistics are those of the training alone, bit by bit, and so is all that follows from them."""
    x, y = RNG.standard_normal((8, 4)).astype("f4"), RNG.standard_normal((8, 2)).astype("f4")
    states = []
    for every in (1, 1000):
        gt.manual_seed(0)
        model = gt.nn.Sequential(gt.nn.BatchNorm1d(4), gt.nn.Linear(4, 2))
        step = gt.compile(model, loss=gt.mse_loss, optimizer=gt.SGD(lr=0.1), threads=1)
        step.watch(every, warn=False)
        for _ in range(3):
            step(x, y)
        states.append({name: array.copy() for name, array in model.state_dict().items()})
    assert any("running" in name for name in states[0])
    for name, array in states[0].items():
        np.testing.assert_array_equal(array, states[1][name], err_msg=name)


def test_units_that_are_never_on_are_counted_over_batches():
    watch = watched(Rectified(bias=-10.0), gt.SGD(lr=0.01))
    (finding,) = watch.report.findings
    assert (finding.code, finding.severity) == ("GT-G01", "warning")
    assert "16 of 16 units were 0 for every example of 6 batches" in finding.message
    assert finding.parameters == ("first.weight", "first.bias") and "np.maximum" in str(watch.report)
    assert watched(Rectified(bias=0.0), gt.SGD(lr=0.01)).report.findings == ()
    assert watched(Rectified(bias=-10.0), gt.SGD(lr=0.01), steps=6).report.findings == ()  # three looks are too few


def test_saturation_at_the_start_is_told_once_as_a_warning():
    with pytest.warns(gt.LintWarning, match="step 2: GT-G02 .* of this tanh was saturated") as told:
        watch = watched(Rectified(bias=1.0, scale=500.0), gt.SGD(lr=1e-6), warn=True)
    assert len(told) == 1 and [f.code for f in watch.report.findings] == ["GT-G02"]


def test_an_update_that_rounding_undoes():
    watch = watched(Rectified(bias=0.5), lambda param, grad, state, scalars: (param - 1e-12 * grad, state))
    (finding,) = watch.report.findings
    assert (finding.code, finding.severity) == ("GT-H03", "error")
    assert set(finding.parameters) == {"first.weight", "first.bias", "last.weight", "last.bias"}


def test_watching_changes_no_number_and_needs_a_training():
    losses = []
    for watching in (False, True):
        step = gt.compile(Rectified(bias=0.0), loss=gt.mse_loss, optimizer=gt.AdamW(lr=0.01), threads=1)
        if watching:
            step.watch(every=1)
        losses.append([float(step(X, Y)).hex() for _ in range(5)])
    assert losses[0] == losses[1]
    with pytest.raises(TypeError, match="no training to watch"):
        gt.compile(Rectified(bias=0.0)).watch()
    with pytest.raises(ValueError, match="every is a number of steps from 1"):
        step.watch(every=0)
    with pytest.raises(RuntimeError, match="the first look is at step 7"):
        print(step.watch(every=7).report)  # noqa: T201
