"""Batch, instance and group norm and channel dropout where PyTorch is no yardstick: compiled steps, symbolic batches,
errors, and how often a program goes over the activations."""

import numpy as np
import pytest

import gradtape as gt
from gradtape.models import nn
from gradtape.runtime.call import Call
from tapes import sharing_everything

RNG = np.random.default_rng(0)


class Net(gt.Module):
    def __init__(self, **options):
        gt.manual_seed(1)
        self.fc, self.bn, self.out = nn.Linear(4, 5), nn.BatchNorm1d(5, **options), nn.Linear(5, 3)

    def forward(self, x):
        return self.out(gt.relu(self.bn(self.fc(x))))


def batch(n, seed=0):
    rng = np.random.default_rng([seed, n])
    return rng.standard_normal((n, 4)).astype(np.float32), rng.integers(0, 3, n)


def statistics(model):
    return [b.data.copy() for b in model.buffers()]


def same(a, b):
    return all(map(np.array_equal, a, b))


def training(model, **options):
    return gt.compile(model, loss=gt.cross_entropy, optimizer=gt.SGD(lr=0.1), threads=1, **options)


# running statistics -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("momentum", [0.1, None])
def test_a_compiled_step_moves_them_as_an_eager_one_does(momentum):
    model, eager = Net(momentum=momentum), Net(momentum=momentum)
    step = training(model)
    for n in (8, 6, 5, 7):
        for mine, its in zip(eager.parameters(), model.parameters(), strict=True):
            mine.data[...] = its.data
        eager(batch(n)[0])
        step(*batch(n))
        for mine, its in zip(statistics(eager), statistics(model), strict=True):
            np.testing.assert_allclose(its, mine, rtol=1e-5, atol=1e-6)
    assert model.bn.num_batches_tracked.data == 4
    (family,) = step._programs.families.values()
    assert len(family.variants) == 2  # of 8 rows, and of any number: nothing is pinned
    assert [str(g) for g in family.variants[1].traced.graph.guards] == ["1 < B"]


def test_they_stay_where_nothing_is_trained():
    model = Net()
    step = training(model)
    step(*batch(8))
    before = statistics(model)
    step.evaluate(*batch(8))
    step.forward(batch(1)[0])
    assert same(statistics(model), before)
    step.forward(batch(8)[0], train=True)
    assert not same(statistics(model), before)


@pytest.mark.parametrize("entry", ["step", "value_and_grad"])
def test_they_stay_where_a_step_fails(entry):
    model = Net()
    step = training(model)
    step(*batch(8))
    before = statistics(model)
    x, y = batch(8)
    with pytest.raises(IndexError, match=r"target\[2\] = 7 is out of range for 3 classes"):
        getattr(step, entry)(x, np.where(np.arange(8) == 2, 7, y))
    assert same(statistics(model), before)
    if entry == "step":
        with pytest.raises(gt.NotFinite):
            step(np.full_like(x, np.nan), y)
        assert same(statistics(model), before)


def test_frozen_statistics():
    """A part in evaluation mode stays there: fine-tuning with the old statistics."""
    model = Net()
    model.bn.eval()
    step = training(model)
    before = statistics(model)
    step(*batch(8))
    assert same(statistics(model), before) and model.bn.num_batches_tracked.data == 0


def test_no_gradient_flows_through_them():
    class Reads(gt.Module):
        def __init__(self):
            self.x, self.bn = gt.Parameter(RNG.standard_normal((6, 3))), nn.BatchNorm1d(3, dtype="float64")

        def forward(self):
            y = self.bn(self.x)
            return (y * y * y).sum() + 100.0 * self.bn.running_mean.sum()

    model = Reads()
    value, grads = gt.compile(model, threads=1).value_and_grad()
    with_mean = 100.0 * model.bn.running_mean.data.sum()
    plain = gt.value_and_grad(lambda x: (gt.batch_norm(x, training=True) ** 3).sum())(model.x.data)
    np.testing.assert_allclose(value - with_mean, plain[0], rtol=1e-10)
    np.testing.assert_allclose(grads["x"], plain[1], rtol=1e-8, atol=1e-10)


# one value per channel --------------------------------------------------------------------------------------------
ONE = r"Expected more than 1 value per channel when training, got input size \(1, 5\)"


def test_one_value_per_channel():
    with pytest.raises(ValueError, match=ONE):
        nn.BatchNorm1d(5)(np.ones((1, 5), np.float32))
    model = Net()
    step = training(model)
    for n in (8, 6):
        step(*batch(n))
    with pytest.raises(ValueError, match=ONE):
        step(*batch(1))
    with pytest.raises(ValueError, match=ONE):
        training(Net())(*batch(1))
    step(*batch(2))
    step.evaluate(*batch(1))
    with pytest.raises(ValueError, match="Expected more than 1 spatial element when training, got input size"):
        nn.InstanceNorm2d(5)(np.ones((4, 5, 1, 1), np.float32))
    with pytest.raises(ValueError, match="Expected more than 1 value per channel when training"):
        nn.GroupNorm(5, 5)(np.ones((1, 5, 1), np.float32))
    assert nn.BatchNorm2d(5)(np.ones((1, 5, 2, 1), np.float32)).shape == (1, 5, 2, 1)


# passes over the activations --------------------------------------------------------------------------------------
class Normed(gt.Module):
    """A product, a norm, an activation, a product: the norm's kernels stand between products."""

    def __init__(self, norm, shape):
        self.norm, self.shape = norm, shape
        self.before = gt.Parameter(RNG.standard_normal((shape[-1], shape[-1])).astype(np.float32))
        self.after = gt.Parameter(RNG.standard_normal((shape[-1], shape[-1])).astype(np.float32))

    def forward(self, x):
        return gt.relu(self.norm(x @ self.before)) @ self.after


def rows_over(tape, size):
    """The kernels, products and copies apart, that touch an array of `size` elements; and all such arrays."""
    large = {i for i, b in enumerate(tape.buffers) if (b.size, b.dtype, b.segment) == (size, "f32", "arena")}
    touch = [i for i in tape.instructions() if any(o.view.buffer in large for o in i.operands)]
    return [i for i in touch if i.kernel.startswith("row") and i.label != "copy"], large


@pytest.mark.parametrize(
    ("make", "shape", "forward", "backward"),
    [
        (lambda: nn.BatchNorm2d(6), (4, 6, 3, 8), 1, 1),
        (lambda: nn.BatchNorm1d(6), (4, 6, 8), 1, 1),
        (lambda: nn.BatchNorm1d(8), (64, 8), 3, 2),  # mean, variance, result; the sums, the gradient
        (lambda: nn.InstanceNorm2d(6, affine=True), (4, 6, 3, 8), 1, 2),  # gain and bias have sums over other axes
        (lambda: nn.GroupNorm(2, 6), (4, 6, 3, 8), 2, 3),  # the activation stands behind a reshape
        (lambda: nn.LayerNorm(8), (64, 8), 1, 1),
    ],
)
def test_passes_over_the_activations(make, shape, forward, backward):
    """Norm and activation together are so many kernels that touch an array as large as the activations."""
    x = RNG.standard_normal(shape).astype(np.float32)
    compiled = gt.compile(Normed(make(), shape), loss=gt.mse_loss, threads=1)
    compiled.forward(x, train=True)
    found = [len(rows_over(compiled.graph("tape"), x.size)[0])]
    compiled.value_and_grad(x, x)
    found.append(len(rows_over(compiled.graph("tape"), x.size)[0]) - found[0] - 1)  # without the loss
    assert found == [forward, backward]


def test_the_normal_numbers_are_stored_once():
    """What the gradients of gain and input both read, not once for each."""
    x = RNG.standard_normal((64, 8)).astype(np.float32)
    compiled = gt.compile(Normed(nn.LayerNorm(8), x.shape), loss=gt.mse_loss, threads=1)
    compiled.value_and_grad(x, x)
    rows, large = rows_over(compiled.graph("tape"), x.size)
    norm = rows[0]
    assert sum("w" in o.mode and o.view.buffer in large for o in norm.operands) == 2  # they, and relu's result


@pytest.mark.parametrize(
    ("make", "shape"), [(lambda: nn.BatchNorm2d(6), (32, 6, 9, 8)), (lambda: nn.BatchNorm1d(8), (2048, 8))]
)
def test_threads_share_a_norm(make, shape):
    x = RNG.standard_normal(shape).astype(np.float32)
    model = Normed(make(), shape)
    results = []
    for threads in (1, 2, 3):
        compiled = gt.compile(model, loss=gt.mse_loss, threads=threads)
        with sharing_everything():
            loss, grads = compiled.value_and_grad(x, x)
        results.append([loss, *grads.values()])
        if threads > 1:
            assert any(sum(s is not None for s in call.shares) > 1 for call in _calls(compiled))
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5 * np.abs(a).max())


def _calls(compiled):
    (bound,) = compiled._latest.program._bound.values()
    return [entry for entry in bound.plan.entries if isinstance(entry, Call)]


# dropout of channels ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("layer", "shape", "axes"),
    [
        (nn.Dropout1d(0.25), (50, 20, 3), (2,)),
        (nn.Dropout1d(0.25), (500, 3), (1,)),
        (nn.Dropout2d(0.25), (50, 20, 3, 2), (2, 3)),
        (nn.Dropout2d(0.25), (50, 20, 3), (2,)),
    ],
)
def test_channels_are_dropped_as_a_whole(layer, shape, axes):
    gt.manual_seed(0)
    y = gt.compile(layer, threads=1).forward(np.ones(shape, np.float32), train=True)
    assert set(np.unique(y)) == {np.float32(0), np.float32(1 / 0.75)}
    assert np.array_equal(y.min(axes), y.max(axes))
    dropped = (y.min(axes) == 0).mean()
    assert abs(dropped - 0.25) < 5 * np.sqrt(0.25 * 0.75 / y.min(axes).size)
    assert np.array_equal(layer.eval()(y), y)
    layer.train()


# errors -----------------------------------------------------------------------------------------------------------
X = np.ones((4, 5, 3), np.float32)
ERRORS = {
    "features": (
        lambda x: gt.batch_norm(x, weight=np.ones(4, np.float32), training=True),
        r"batch_norm: x has 5 channels \(axis 1\), weight has shape \(4,\)",
    ),
    "running": (lambda x: gt.batch_norm(x, np.zeros(6), np.ones(6)), r"running_mean has shape \(6,\)"),
    "no statistics": (lambda x: gt.batch_norm(x), "needs running_mean and running_var"),
    "an array": (
        lambda x: gt.batch_norm(x, np.zeros(5), np.ones(5), training=True),
        r"running_mean is updated in training: it is a gt.buffer\(array\), not ndarray",
    ),
    "rank": (lambda x: gt.batch_norm(x[0, 0], training=True), r"channels are axis 1: x is \(N, C, ...\)"),
    "groups": (lambda x: gt.group_norm(x, 2), r"group_norm: 5 channels \(axis 1\) do not divide into 2 groups"),
    "group weight": (lambda x: gt.group_norm(x, 5, np.ones(3)), r"weight has shape \(3,\)"),
    "instance": (lambda x: gt.instance_norm(x, bias=np.ones(3)), r"instance_norm: x has 5 channels"),
    "dropout1d": (lambda x: gt.dropout1d(x[0, 0]), r"x is \(N, C, L\) or \(C, L\), not of 1 dimensions"),
    "dropout2d": (lambda x: gt.dropout2d(x[0], training=False), r"x is \(N, C, H, W\) or \(N, C, L\), not of 2"),
    "integers": (lambda x: gt.batch_norm(gt.astype(x, "i64"), training=True), "needs a float operand"),
    "prelu": (lambda x: gt.prelu(x, np.ones(3, np.float32)), r"shape \(3,\); it is \(1,\), or \(5,\) for the channels"),
    "glu": (lambda x: gt.glu(x), "axis 2 of size 3 does not split into 2 equal parts"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_are_the_same_eagerly_and_traced(name):
    f, text = ERRORS[name]
    for run in (f, lambda x: gt.trace(f, x)):
        with pytest.raises(TypeError, match=text):
            run(X)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: nn.BatchNorm2d(5)(X), r"BatchNorm2d: expected 4D input \(got 3D input\)"),
        (lambda: nn.BatchNorm1d(5)(X[None]), r"BatchNorm1d: expected 2D or 3D input \(got 4D input\)"),
        (lambda: nn.InstanceNorm2d(5)(X[0]), r"InstanceNorm2d: expected 3D or 4D input \(got 2D input\)"),
        (lambda: nn.GroupNorm(2, 5), "num_channels 5 is not a multiple of num_groups 2"),
        (lambda: nn.Dropout2d(1.5), r"Dropout2d: a probability lies in \[0, 1\], got p=1.5"),
        (lambda: gt.hardtanh(X, 1.0, -1.0), "min_val is at most max_val, got 1.0 and -1.0"),
        (lambda: gt.softshrink(X, -1.0), "lambd is at least 0"),
    ],
)
def test_wrong_options(call, text):
    with pytest.raises(ValueError, match=text):
        call()


def test_a_compiled_model_says_which_channels(tmp_path):
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(5))
    with pytest.raises(TypeError, match=r"x has 6 channels \(axis 1\), running_mean has shape \(5,\)"):
        gt.compile(model).forward(batch(3)[0])


# text -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (nn.BatchNorm2d(8), "BatchNorm2d(8, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True)"),
        (nn.GroupNorm(2, 8, affine=False), "GroupNorm(2, 8, eps=1e-05, affine=False)"),
        (nn.Dropout2d(), "Dropout2d(p=0.5)"),
        (nn.LeakyReLU(0.2, inplace=True), "LeakyReLU(negative_slope=0.2)"),
        (nn.ReLU(inplace=True), "ReLU()"),
        (nn.PReLU(3), "PReLU(num_parameters=3)"),
        (nn.Softmax(1), "Softmax(dim=1)"),
        (nn.MSELoss(), "MSELoss()"),
    ],
)
def test_repr(layer, text):
    assert repr(layer) == text
