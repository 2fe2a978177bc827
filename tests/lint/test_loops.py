"""The lint sees into the bodies of loops."""

import numpy as np
import pytest

import gradtape as gt

XS = np.random.default_rng(0).standard_normal((4, 2, 3)).astype(np.float32)


class Recurrent(gt.Module):
    def __init__(self, cut=lambda x: x):
        self.state = gt.nn.Linear(3, 3)
        self.inside = gt.nn.Linear(3, 3)
        self.cut = cut

    def forward(self, xs):
        def step(h, x):
            h = gt.tanh(self.state(h) + self.cut(self.inside(x)))
            return h, h

        return gt.scan(step, gt.zeros(2, 3), xs)[1]


def test_a_cut_in_a_body_is_named_at_its_line():
    model = Recurrent(lambda x: gt.sign(x))
    report = gt.lint(model, XS, XS, loss=gt.mse)
    (finding,) = [f for f in report.findings if f.severity == "error"]
    assert {"inside.weight", "inside.bias"} <= set(finding.parameters) and "state.weight" not in finding.parameters
    assert (finding.file, finding.line) == (
        __file__,
        test_a_cut_in_a_body_is_named_at_its_line.__code__.co_firstlineno + 1,
    )
    with pytest.raises(gt.GradientError, match="inside.weight"):
        gt.compile(model, loss=gt.mse, optimizer=gt.SGD(lr=0.1))(XS, XS)


def test_its_healthy_twin_is_silent_and_probed():
    report = gt.lint(Recurrent(), XS, XS, loss=gt.mse)
    assert not report.findings and "no probe" not in str(report) and "4/4 parameters learn" in str(report)


def test_a_parameter_that_only_reaches_the_loss_through_other_carries_learns():
    class Chain(gt.Module):
        def __init__(self):
            self.w = gt.Parameter(np.ones(3, np.float32))

        def forward(self, xs):
            def step(carry, x):
                a, b, c = carry
                return (a + self.w * x, a + b, b + c), None

            zero = gt.zeros(2, 3)
            return gt.scan(step, (zero, zero, zero), xs)[0][2]

    assert not gt.lint(Chain(), XS, XS[0], loss=gt.mse).findings
    step = gt.compile(Chain(), loss=gt.mse, optimizer=gt.SGD(lr=0.1))
    assert np.isfinite(step(XS, XS[0]))


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_recurrent_layers_have_no_findings(kind):
    class Model(gt.Module):
        def __init__(self):
            self.layer = getattr(gt.nn, kind)(3, 3, 2)

        def forward(self, xs):
            return self.layer(xs)[0]

    report = gt.lint(Model(), XS, XS, loss=gt.mse)
    assert not report.findings and "no probe" not in str(report)
