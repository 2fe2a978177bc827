"""Losses where PyTorch is no yardstick (see tests/models/test_layers_torch.py): what is wrong and how it is said,
targets that do not count, symbolic sizes, saturated inputs, and one pass over the logits."""

import numpy as np
import pytest

import gradtape as gt
from gradtape.ir.interp import evaluate_graph

RNG = np.random.default_rng(0)
LOGITS = RNG.standard_normal((6, 5)).astype(np.float32)
TARGET = RNG.integers(0, 5, 6)
WEIGHT = np.array([0.5, 2.0, 1.0, 0.25, 1.5], np.float32)
IGNORED = np.where(np.arange(6) == 1, -100, TARGET)
OPTIONS = {
    "plain": {},
    "all count": {"ignore_index": None},
    "weights": {"weight": WEIGHT},
    "smooth": {"label_smoothing": 0.1},
    "both": {"weight": WEIGHT, "label_smoothing": 0.1, "ignore_index": 3},
}


class Head(gt.Module):
    """Logits as a parameter, so that their gradient is asked for."""

    def __init__(self, logits=LOGITS):
        self.logits = gt.Parameter(logits)

    def forward(self, rows):
        return self.logits + rows[:, None]


ROWS = np.zeros(6, np.float32)


def compiled(loss, **options):
    return gt.compile(Head(), loss=lambda y, t: loss(y, t, **options), optimizer=gt.SGD(lr=0.1), threads=1)


# targets that do not count ----------------------------------------------------------------------------------------
def test_ignored_targets_have_no_gradient_and_no_part_in_the_mean():
    loss, grads = compiled(gt.cross_entropy).value_and_grad(ROWS, IGNORED)
    kept = IGNORED != -100
    expected, of_kept = gt.value_and_grad(lambda x: gt.cross_entropy(x, TARGET[kept], ignore_index=None))(LOGITS[kept])
    assert loss == pytest.approx(float(expected), rel=1e-6)
    assert not grads["logits"][1].any()
    np.testing.assert_allclose(grads["logits"][kept], of_kept, rtol=1e-5, atol=1e-7)


def test_where_no_target_counts_there_is_no_mean():
    nothing = np.full(6, -100)
    assert np.isnan(gt.cross_entropy(LOGITS, nothing)) and gt.cross_entropy(LOGITS, nothing, reduction="sum") == 0
    with pytest.raises(gt.NotFinite):
        compiled(gt.cross_entropy)(ROWS, nothing)


@pytest.mark.parametrize("wrong", [5, -1, -100])
@pytest.mark.parametrize(
    ("loss", "given"),
    [(gt.cross_entropy, given) for given in OPTIONS.values()]
    + [(gt.nll_loss, given) for given in OPTIONS.values() if "label_smoothing" not in given],
)
def test_a_target_outside_of_the_classes(loss, given, wrong):
    target = np.where(np.arange(6) == 4, wrong, TARGET)
    if wrong == given.get("ignore_index", -100):
        assert np.isfinite(loss(LOGITS, target, **given)) and np.isfinite(compiled(loss, **given)(ROWS, target))
        return
    with pytest.raises(IndexError, match=rf"{wrong} is out of range for 5 classes"):
        loss(LOGITS, target, **given)
    with pytest.raises(gt.IndexOutOfRange, match=rf"target\[4\] = {wrong} is out of range for 5 classes"):
        compiled(loss, **given)(ROWS, target)


# programs ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("options", OPTIONS)
def test_cross_entropy_goes_over_the_logits_once(options):
    """Loss and gradient with every option: one kernel reads the logits, and nothing of their size is stored but the
    gradient."""
    step = compiled(gt.cross_entropy, **OPTIONS[options])
    step.value_and_grad(ROWS, TARGET)
    tape = step.graph("tape")
    large = {i for i, b in enumerate(tape.buffers) if b.size == LOGITS.size and b.segment == "arena"}
    touched = [i for i in tape.instructions() if any(o.view.buffer in large for o in i.operands)]
    assert len(touched) == 1 and len(large) == 1


@pytest.mark.parametrize("options", OPTIONS)
def test_symbolic_sizes_stay_symbolic(options):
    given = OPTIONS[options]
    traced = gt.trace(lambda x, t: gt.cross_entropy(x, t, **given), gt.spec(("B", "T", 5)), gt.spec(("B", "T"), "i64"))
    assert traced.graph.guards == () and not traced.ledger.escapes
    for b in (1, 3):
        x, t = RNG.standard_normal((b, 2, 5)).astype(np.float32), RNG.integers(0, 5, (b, 2))
        got = evaluate_graph(traced.graph, {**traced.bind(x, t)})["out"]
        np.testing.assert_allclose(got, gt.cross_entropy(x, t, **given), rtol=1e-6)


def test_weights_do_not_widen_the_loss():
    """np.array([0.5, 2.0, ...]) is float64."""
    wide = WEIGHT.astype(np.float64)
    bits = (LOGITS > 0).astype(np.float32)
    for f in (
        lambda x: gt.cross_entropy(x, TARGET, wide),
        lambda x: gt.nll_loss(x, TARGET, wide),
        lambda x: gt.binary_cross_entropy_with_logits(x, bits, wide, pos_weight=wide),
        lambda x: gt.multilabel_soft_margin_loss(x, bits, wide),
        lambda x: gt.mse_loss(x, bits, weight=np.ones((6, 5))),
    ):
        assert f(LOGITS).dtype == np.float32
        traced = gt.trace(f, LOGITS)
        assert all(v.type.dtype != "f64" for n in traced.graph.nodes for v in n.outputs if n.op not in ("constant",))


def test_a_class_that_cannot_be():
    """-inf among the logits: its gradient is 0, and a probability of 0 there adds nothing."""
    logits = LOGITS.copy()
    logits[:, 2] = -np.inf
    target = np.where(TARGET == 2, 0, TARGET)
    for given in (target, np.eye(5, dtype=np.float32)[target]):
        loss, gradient = gt.value_and_grad(lambda x, t=given: gt.cross_entropy(x, t))(logits)
        expected = gt.cross_entropy(np.delete(logits, 2, 1), np.where(target > 2, target - 1, target))
        assert loss == pytest.approx(float(expected), rel=1e-6)
        assert np.isfinite(gradient).all() and not gradient[:, 2].any()


def test_saturated_probabilities_have_finite_losses_and_gradients():
    p = np.array([0.0, 1.0, 0.0, 1.0], np.float32)
    loss, gradient = gt.value_and_grad(lambda x: gt.binary_cross_entropy(x, np.array([0, 1, 1, 0], np.float32)))(p)
    assert loss == 50.0  # two of the logarithms end at -100
    assert np.isfinite(gradient).all() and gradient[:2].tolist() == [0, 0]


def test_far_out_activations_have_finite_gradients():
    """e**x of the branch that is not taken overflows at these numbers."""
    x = np.array([-1e4, -200.0, 0.0, 200.0, 1e4], np.float32)
    for f in (gt.elu, gt.selu, gt.celu, gt.softplus, gt.mish, gt.logsigmoid, gt.silu, gt.softsign):
        gradient = gt.grad(lambda v, f=f: f(v).sum())(x)
        assert np.isfinite(gradient).all(), f.__name__


# errors -----------------------------------------------------------------------------------------------------------
N_C_T = np.ones((2, 5, 7), np.float32)
ERRORS = {
    "channels first": (
        lambda: gt.cross_entropy(N_C_T, np.zeros((2, 7), int)),
        r"logits f32\[2, 5, 7\] need a target i64\[2, 5\], got i64\[2, 7\]; classes are the last axis here: "
        r"write gt.moveaxis\(logits, 1, -1\)",
    ),
    "channels first, smooth": (
        lambda: gt.cross_entropy(N_C_T, np.zeros((2, 7), int), label_smoothing=0.1),
        r"write gt.moveaxis\(logits, 1, -1\)",
    ),
    "channels first, nll": (
        lambda: gt.nll_loss(N_C_T, np.zeros((2, 7), int)),
        r"log_probs f32\[2, 5, 7\] need .*write gt.moveaxis\(log_probs, 1, -1\)",
    ),
    "one-hot": (lambda: gt.cross_entropy(LOGITS, np.eye(5, dtype=int)[TARGET]), r"target.argmax\(-1\) for one-hot"),
    "floats for indices": (
        lambda: gt.cross_entropy(LOGITS, TARGET.astype(np.float32)),
        r"a float target holds a probability for each class, f32\[6, 5\], got f32\[6\]; write target.astype\('int64'\)",
    ),
    "floats for indices, nll": (
        lambda: gt.nll_loss(LOGITS, LOGITS),
        r"the target names classes by integers, got f32\[6, 5\]; write target.astype\('int64'\)",
    ),
    "too many targets": (lambda: gt.cross_entropy(LOGITS, np.zeros(7, int)), r"need a target i64\[6\], got i64\[7\]"),
    "logits of integers": (lambda: gt.cross_entropy(TARGET[:, None], TARGET), r"logits are float\[..., classes\]"),
    "weights": (lambda: gt.cross_entropy(LOGITS, TARGET, WEIGHT[:4]), r"last axis of f32\[6, 5\]\), got f32\[4\]"),
    "a name for weights": (lambda: gt.cross_entropy(LOGITS, TARGET, "sum"), "write reduction='sum'"),
    "a name for bce's": (
        lambda: gt.binary_cross_entropy_with_logits(LOGITS, LOGITS, "sum"),
        "write reduction='sum'",
    ),
    "bce": (
        lambda: gt.binary_cross_entropy_with_logits(LOGITS[:, :1], TARGET),
        r"f32\[6, 1\] needs a target of its shape, got i64\[6\]",
    ),
    "mse": (lambda: gt.mse_loss(LOGITS[:, :1], ROWS), r"shapes \(6, 1\) and \(6,\) differ in rank"),
    "mse weight": (lambda: gt.mse_loss(LOGITS, LOGITS, weight=WEIGHT), r"needs a weight of its shape, got f32\[5\]"),
    "margin": (lambda: gt.margin_ranking_loss(ROWS, ROWS, ROWS[:, None]), r"shapes \(6,\) and .* differ in rank"),
    "cosine": (lambda: gt.cosine_embedding_loss(LOGITS, LOGITS, LOGITS), r"x and y are \(N, width\) and the target"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_what_is_wrong(name):
    call, text = ERRORS[name]
    with pytest.raises(TypeError, match=text):
        call()


def test_a_traced_error_names_the_line():
    with pytest.raises(TypeError, match="moveaxis") as error:
        gt.trace(lambda x, t: gt.cross_entropy(x, t), gt.spec((2, 5, 7)), gt.spec((2, 7), "i64"))
    assert f"{__file__}:" in str(error.value) and "x: f32[2, 5, 7], t: i64[2, 7]" in str(error.value)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: gt.cross_entropy(LOGITS, TARGET, label_smoothing=1.5), r"label_smoothing lies in \[0, 1\], got 1.5"),
        (lambda: gt.cross_entropy(LOGITS, TARGET, reduction="avg"), 'reduction is "mean", "sum" or "none", not .avg.'),
        (lambda: gt.mse_loss(LOGITS, LOGITS, "batchmean"), "not 'batchmean'"),
        (lambda: gt.huber_loss(LOGITS, LOGITS, delta=0.0), "delta is above 0"),
        (lambda: gt.smooth_l1_loss(LOGITS, LOGITS, beta=-1.0), "beta is at least 0"),
        (lambda: gt.gaussian_nll_loss(LOGITS, LOGITS, -1.0), "var is at least 0, got -1.0"),
    ],
)
def test_wrong_options(call, text):
    with pytest.raises(ValueError, match=text):
        call()
