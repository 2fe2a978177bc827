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


# what is proved inside of a body must hold for every round ------------------------------------------------------------
class Body(gt.Module):
    """A scan whose body is a function of the module, the carry and the inputs of a round."""

    def __init__(self, body, start, stacked=()):
        rng = np.random.default_rng(3)
        self.w, self.v = (gt.Parameter(rng.standard_normal((3, 3)).astype("f4")) for _ in range(2))
        self.body, self.start, self.stacked = body, start, stacked

    def forward(self, xs):
        start = [np.asarray(s, "f4") for s in self.start]
        return gt.scan(lambda carry, x: (self.body(self, carry, *x), None), start, (xs, *self.stacked))[0][0]


def zeros_in_round_one(self, carry, x):
    h, count = carry
    return [gt.tanh(x @ self.w) + h + count * (h @ self.v), count + 1.0]


def grows(self, carry, x):
    h, size = carry
    return [x @ self.w + h + gt.relu(size - 7.5) * (x @ self.v), size + 1.0]


def masked_rounds(self, carry, x, mask):
    (h,) = carry
    return [h @ self.w + x + mask * (x @ self.v)]


def softmax_of_masks(self, carry, x, mask):
    (h,) = carry
    return [h @ self.w + gt.softmax(gt.where(mask > 0, x @ self.v, -np.inf), -1)]


ZERO = np.zeros((2, 3))
LATE = np.arange(4)[:, None] * np.ones((4, 3)) > 1.5  # nothing in the first rounds
LOWER = np.tril(np.ones((4, 3)), 0)  # one, then more
HEALTHY = {
    "a factor that is zero in round one": (zeros_in_round_one, [ZERO, 0.0], ()),
    "a counter that only late passes a bound": (grows, [ZERO, 0.0], ()),
    "a mask that is empty at first": (masked_rounds, [ZERO], (LATE.astype("f4"),)),
    "one mask for each round": (softmax_of_masks, [ZERO], (LOWER.astype("f4"),)),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_what_holds_for_some_rounds_is_not_taken_for_all(name):
    xs = np.random.default_rng(1).standard_normal((9 if "counter" in name else 4, 2, 3)).astype("f4")
    model = Body(*HEALTHY[name])
    report = gt.lint(model, xs, xs[0], loss=gt.mse)
    assert not [f for f in report.findings if f.severity != "info"], str(report)
    _, gradients = gt.compile(model, loss=gt.mse).value_and_grad(xs, xs[0])
    assert all(np.abs(g).max() > 1e-4 for g in gradients.values())


def test_zeros_inside_of_a_body_are_proved_and_are_zeros():
    def dead(self, carry, x):
        (h,) = carry
        return [gt.tanh(h @ self.w + x) + gt.relu(-gt.exp(x @ self.v))]

    (finding,) = gt.lint(Body(dead, [ZERO]), XS, XS[0], loss=gt.mse, layers="SKT").findings
    assert (finding.code, finding.parameters) == ("GT-C06", ("v",))
    assert finding.line == dead.__code__.co_firstlineno + 2
    _, gradients = gt.compile(Body(dead, [ZERO]), loss=gt.mse, lint="off").value_and_grad(XS, XS[0])
    assert not gradients["v"].any() and gradients["w"].any()


def test_numbers_that_are_frozen_inside_of_a_body():
    def noisy(self, carry, x):
        (h,) = carry
        return [gt.tanh(h @ self.w + x @ self.v) * np.random.rand(2, 3).astype("f4")]

    (finding,) = [f for f in gt.lint(Body(noisy, [ZERO]), XS, XS[0], loss=gt.mse).findings if f.severity == "error"]
    assert (finding.code, finding.line) == ("GT-F04", noisy.__code__.co_firstlineno + 2)
