"""Classes of the catalogue that have no spelling in gradtape, or are guarded when the program runs: the spellings are
tried, and what comes is right, or an error that says what to write. `passes/lint/catalogue.py` names these tests."""

import re
from dataclasses import dataclass

import numpy as np
import pytest

import gradtape as gt
from gradtape.ir.op import OPS, op
from gradtape.runtime import jit
from layout import ROOT, package_files

RNG = np.random.default_rng(0)
X = RNG.standard_normal((4, 3)).astype("f4")
Y = RNG.standard_normal((4, 3)).astype("f4")


class Net(gt.Module):
    """x @ w, with `factor` and the modules of `layers` on the way."""

    def __init__(self, **attributes):
        self.w = gt.Parameter(RNG.standard_normal((3, 3)).astype("f4"))
        self.factor = 1.0
        self.layers = [gt.nn.Linear(3, 3)]
        for name, value in attributes.items():
            setattr(self, name, value)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x @ self.w * self.factor


def compiled(model, optimizer=None):
    return gt.compile(model, loss=gt.mse_loss, optimizer=optimizer or gt.SGD(lr=0.1), threads=1)


def agree(step, model):
    """What is compiled computes what the model computes."""
    np.testing.assert_allclose(step.forward(X), model(X), rtol=1e-5, atol=1e-6)


# B02: checkpoints -----------------------------------------------------------------------------------------------------
def test_a_checkpoint_behind_a_frozen_part_learns():
    """Nothing that enters the checkpoint requires a gradient; what it reads inside does."""

    class Part(Net):
        def forward(self, x):
            return gt.checkpoint(self.layers[1], self.layers[0](x))

    model = Part(layers=[gt.freeze(gt.nn.Linear(3, 3)), gt.nn.Linear(3, 3)])
    gt.freeze(model.w)
    report = gt.lint(model, X, Y, loss=gt.mse_loss)
    assert not report.findings and {v.path for v in report.parameters if v.verdict == "learns"} == {
        "layers.1.weight", "layers.1.bias",
    }  # fmt: skip
    _, gradients = compiled(model).value_and_grad(X, Y)
    assert gradients and all(np.abs(g).max() > 0 for g in gradients.values())


# C08, F07: writing into values ----------------------------------------------------------------------------------------
def _sets(h):
    h[:, :2] = 0.0
    return h


def _fills(h):
    h.fill(0.0)
    return h


WRITES = {
    "a slice": (_sets, r"x\.at\[i\]\.set"),
    "fill": (_fills, "gt.full_like"),
    "out=": (lambda h: np.add(h, 1.0, out=h), "without out="),
    "copyto": (lambda h: np.copyto(h, 0.0), "gt.where"),
    "put": (lambda h: np.put(h, [0], 0.0), r"\.at\[indices\]\.set"),
    "putmask": (lambda h: np.putmask(h, h > 0, 0.0), "gt.where"),
    "place": (lambda h: np.place(h, h > 0, 0.0), "gt.where"),
    "put_along_axis": (lambda h: np.put_along_axis(h, X.argmax(-1)[:, None], 0.0, -1), "gt.put_along_axis"),
    "add.at": (lambda h: np.add.at(h, 0, 1.0), r"\.at\[i\]\.add"),
    "add_": (lambda h: h.add_(1.0), "never changed in place"),
}


@pytest.mark.parametrize("name", WRITES)
def test_parts_cannot_be_overwritten_in_place(name):
    write, instead = WRITES[name]
    with pytest.raises((TypeError, AttributeError), match=instead) as caught:
        gt.grad(lambda x: (gt.exp(x) + write(gt.exp(x))).sum())(X)
    assert "test_classes.py" in str(caught.value)


def test_augmented_assignment_makes_a_new_value():
    """`y` still has the exp that its derivative needs."""

    def adds(x):
        h = gt.exp(x)
        y = h * 1.0
        h += 1
        h *= h
        return (y + h).sum()

    def part(x):
        h = gt.exp(x)
        row = h[0]
        row += 1.0
        return (h * h).sum() + row.sum()

    e = np.exp(X)
    np.testing.assert_allclose(gt.grad(adds)(X), e + 2 * (e + 1) * e, rtol=1e-5)
    expected = 2 * e * e
    expected[0] += e[0]
    np.testing.assert_allclose(gt.grad(part)(X), expected, rtol=1e-5)


def test_rows_that_a_batch_leaves_out_are_no_finding():
    class Table(gt.Module):
        def __init__(self):
            self.table = gt.nn.Embedding(10, 3)

        def forward(self, ids):
            return self.table(ids)

    ids = np.array([1, 2, 2, 4])
    report = gt.lint(Table(), ids, Y, loss=gt.mse_loss)
    assert not report.findings and report.summary.startswith("1/1 parameters learn")


# C09, G04: numbers ----------------------------------------------------------------------------------------------------
def test_a_mask_of_the_data_that_leaves_nothing_stops_the_step():
    def masked(model, x, mask):
        return ((model(x) ** 2).mean(-1) * mask).sum() / mask.sum()

    def attention(model, x, mask):
        return (gt.softmax(gt.where(mask > 0, model(x) @ x.T, -np.inf), -1) @ x).mean()

    for objective in (masked, attention):
        model = Net()
        step = gt.compile(model, loss=gt.objective(objective), optimizer=gt.SGD(lr=0.1), threads=1)
        step(X, np.ones(4, "f4"))
        before = model.state_dict()
        with pytest.raises(gt.NotFinite, match="loss is not finite"):
            step(X, np.zeros(4, "f4"))
        assert all(np.array_equal(before[name], now) for name, now in model.state_dict().items())


def test_a_gradient_that_is_not_finite_stops_the_step():
    """The loss is finite; the derivative of sqrt at 0 is inf, and times 0 it is NaN."""

    def root(model, x):
        return (np.sqrt(x * model.w.sum() * 0.5) * x).sum()

    model = Net(layers=[], w=gt.Parameter(np.ones((3, 3), "f4")))
    step = gt.compile(model, loss=gt.objective(root), optimizer=gt.SGD(lr=0.01), threads=1, lint="warn")
    step(np.abs(X))
    before = model.w.array.copy()
    with pytest.raises(gt.NotFinite, match="grad_norm is not finite") as caught:
        step(np.zeros_like(X))
    assert "test_classes.py" in str(caught.value)
    np.testing.assert_array_equal(model.w.array, before)


# E: what an optimizer is given ----------------------------------------------------------------------------------------
def test_an_integer_parameter_is_refused():
    for integers in (np.ones(3, int), np.ones(3, bool), [1, 2, 3]):
        with pytest.raises(TypeError, match="cannot have a gradient"):
            gt.Parameter(integers)


def test_an_exhausted_generator_of_parameters_is_refused():
    model = Net()
    parameters = (p for p in model.parameters())
    assert sum(p.size for p in parameters) == 21
    for given in (parameters, [], [{"params": parameters, "lr": 0.1}]):
        with pytest.raises(ValueError, match="param"):
            compiled(model, gt.SGD(lr=0.1, params=given))(X, Y)
    fresh = gt.SGD(lr=0.1, params=(p for p in model.parameters()))
    step = compiled(model, fresh)
    assert step(X, Y) > step(X, Y)  # taken once, and kept


def test_a_part_that_is_replaced_behind_the_optimizers_back_is_named():
    model = Net()
    step = compiled(model, gt.SGD(lr=0.1, params=model.parameters()))
    step(X, Y)
    model.layers[0] = gt.nn.Linear(3, 3)
    with pytest.raises(gt.LintError) as caught:
        step(X, Y)
    found = {f.code: f for f in caught.value.report.findings}
    assert found["GT-E03"].severity == "error"


def test_weights_of_16_bits_are_refused():
    with pytest.raises(TypeError, match="float16"):
        gt.Parameter(np.ones(3, np.float16))


# F02: sizes -----------------------------------------------------------------------------------------------------------
READS_A_SIZE = {
    "len": lambda x: x.sum(0) / len(x),
    "int": lambda x: x.sum(0) / int(x.shape[0]),
    "a range": lambda x: sum((x[i] for i in range(x.shape[0])), np.zeros(3, "f4")) / x.shape[0],
    "a comparison": lambda x: x.mean(0) * (2.0 if x.shape[0] > 4 else 1.0),
    "a table": lambda x: (x * np.arange(len(x))[:, None]).mean(0),
    "a symbol": lambda x: x.sum(0) / x.shape[0],
}


@pytest.mark.parametrize("name", READS_A_SIZE)
def test_a_size_that_python_has_read_is_traced_anew(name):
    function = READS_A_SIZE[name]
    run = gt.compile(function, threads=1)
    for rows in (4, 7, 2, 4, 9):
        x = RNG.standard_normal((rows, 3)).astype("f4")
        np.testing.assert_allclose(run(x), function(x), rtol=1e-4, atol=1e-6)


def test_a_shape_that_depends_on_data_is_refused():
    with pytest.raises(TypeError, match="a number of elements that depends on data; write gt.where"):
        gt.grad(lambda x: x[x > 0].sum())(X)
    with pytest.raises(gt.LintError, match=r"numpy\.nonzero has no traced form"):
        gt.grad(lambda x: x[np.nonzero(x > 0)].sum())(X)


# H: losses and steps --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("loss", [gt.mse_loss, gt.l1_loss, gt.binary_cross_entropy_with_logits, gt.huber_loss])
def test_losses_refuse_shapes_that_differ(loss):
    for run in (lambda a: loss(a, X[:, 0]), gt.grad(lambda a: loss(a, X[:, 0]))):
        with pytest.raises((TypeError, ValueError), match=r"\(4, 1\).*\(4,\)|\[4, 1\].*\[4\]"):
            run(X[:, :1])


def test_a_step_applies_its_update():
    """There is no backward() to forget, no zero_grad() to call too late, no result to bind again."""
    model = Net()
    step = compiled(model)
    assert not any(
        hasattr(thing, name) for thing in (step, model, step.optimizer) for name in ("zero_grad", "backward")
    )
    for _ in range(3):
        before = model.state_dict()
        _, gradients = step.value_and_grad(X, Y)
        step(X, Y)
        for name, now in model.state_dict().items():
            np.testing.assert_allclose(now, before[name] - 0.1 * gradients[name], rtol=1e-4, atol=1e-6)


# I: what has been compiled --------------------------------------------------------------------------------------------
def test_a_setting_that_is_changed_is_traced_anew():
    model = Net()
    step = compiled(model)
    step(X, Y)
    agree(step, model)
    for factor in (0.5, 3.0, 3, 1.0):
        model.factor = factor
        agree(step, model)
        expected = gt.mse_loss(model(X), Y)
        assert step(X, Y) == pytest.approx(expected, rel=1e-5)
    graph = step.graph()
    model.factor = 3.0  # as before: nothing is traced
    step(X, Y)
    model.factor = 1.0
    step(X, Y)
    assert step.graph() is graph


def test_settings_of_other_modules_are_noticed_too():
    teacher = Net()
    step = gt.compile(lambda x: teacher(x) * 2.0, threads=1)
    step(X)
    teacher.factor = 5.0
    np.testing.assert_allclose(step(X), teacher(X) * 2.0, rtol=1e-5)


def test_a_counter_of_forwards_own_is_no_setting():
    class Counts(Net):
        def forward(self, x):
            self.calls = getattr(self, "calls", 0) + 1
            return super().forward(x)

    model = Counts(calls=0)
    step = compiled(model)
    step(X, Y)
    graph = step.graph()
    for _ in range(3):
        model(X)
        step(X, Y)
    assert step.graph() is graph and model.calls == 4  # traced once


def test_a_number_that_changes_in_every_step_is_told():
    model = Net()
    run = gt.compile(model, threads=1)
    with pytest.warns(UserWarning, match="factor has had 8 values .*\n.*write factor as an argument") as told:
        for value in range(2, 12):
            model.factor = value
            run(X)
    assert len(told) == 1


def test_parts_that_are_replaced_are_traced_anew():
    model = Net()
    step = compiled(model, gt.AdamW(lr=0.1))

    def attribute():
        model.w = gt.Parameter(2 * np.eye(3, dtype="f4"))

    def in_a_list():
        model.layers[0] = gt.nn.Linear(3, 3)

    def longer():
        model.layers.append(gt.nn.Linear(3, 3))

    def shorter():
        del model.layers[0]

    def another_list():
        model.layers = [gt.nn.Linear(3, 3), gt.nn.LayerNorm(3)]

    for change in (attribute, in_a_list, longer, shorter, another_list):
        losses = [step(X, Y) for _ in range(3)]
        change()
        agree(step, model)
        before = model.state_dict()
        losses.append(step(X, Y))
        assert np.isfinite(losses).all()
        assert all(not np.array_equal(before[name], now) for name, now in model.state_dict().items())
        agree(step, model)
        assert set(step.state_dict()) == set(model.state_dict())
        moments = {key.removeprefix("optimizer.exp_avg.") for key in step.optimizer_state_dict() if "exp_avg." in key}
        assert moments == {name for name, _ in model.named_parameters()}


def test_numbers_may_change_in_place_at_any_time():
    model = Net()
    step = compiled(model)
    step(X, Y)
    model.w.data[...] *= 2.0
    agree(step, model)
    model.load_state_dict(Net().state_dict())
    agree(step, model)


def test_what_a_program_is_kept_by():
    """dtype, rank, mode: each is a program of its own, and none is served by another's."""

    class Modes(gt.Module):
        def __init__(self):
            self.w = gt.Parameter(np.full((3,), 0.5, "f4"))

        def forward(self, x):
            return x * self.w if self.training else x + self.w

    model = Modes()
    run = gt.compile(model, threads=1)
    for x in (X, X.astype("f8"), X[0], np.ones((2, 3), int), X[:2]):
        for train in (True, False):
            model.train(train)
            result = run.forward(x, train=train)
            np.testing.assert_allclose(result, model(x), rtol=1e-6)
            assert result.dtype == (np.float64 if x.dtype == np.float64 else np.float32)


def test_a_dataclass_may_be_a_module():
    @dataclass
    class Tower(gt.Module):
        width: int
        depth: int = 2

        def __post_init__(self):
            self.layers = [gt.nn.Linear(self.width, self.width) for _ in range(self.depth)]

        def forward(self, x):
            for layer in self.layers[: self.depth]:
                x = layer(x)
            return x

    model, x = Tower(3), np.ones((2, 3), "f4")
    run = gt.compile(model, threads=1)
    for depth in (2, 1):
        model.depth = depth
        np.testing.assert_allclose(run(x), model(x), rtol=1e-5)
    assert [p for p, _ in model.named_parameters()][-1] == "layers.1.bias"


def test_results_of_two_calls_share_no_memory():
    model = Net()
    run = compiled(model)
    first = run.forward(X)
    kept = first.copy()
    run.forward(Y)
    run(X, Y)
    np.testing.assert_array_equal(first, kept)


def test_an_op_has_its_rule_from_the_start():
    with pytest.raises(TypeError, match="op tanh is registered twice"):

        @op
        class tanh:
            """x"""

            def infer(x):
                return x

    assert all(o.vjp is not None or o.derive is not None or o.nondiff is not None for o in OPS.values())

    @gt.custom_vjp
    def cube(x):
        return x**3, x

    with pytest.raises(TypeError, match="cube has no backward"):
        gt.grad(lambda x: cube(x).sum())(X)
    cube = cube.backward(lambda x, g: (3 * x**2 * g,))
    np.testing.assert_allclose(gt.grad(lambda x: cube(x).sum())(X), 3 * X**2, rtol=1e-5)


def test_no_kernel_is_kept_under_a_name_that_could_mean_another():
    for path in package_files():
        text = (ROOT / path).read_text("utf-8")
        assert not re.search(r"jit\([^)]*cache\s*=\s*True|NUMBA_CACHE_DIR", text), path
    from gradtape.runtime.kernel import Kernel

    one, two = (Kernel("k", (("x", "f32*"),), f"def k(x):\n    x[0] = {value}") for value in ("f32(1.0)", "f32(2.0)"))
    assert one != two and {one: 1}.get(two) is None  # what jit keeps is kept by name, parameters and source
    scale = 2.0

    def scaled(x):
        return np.tanh(x) * scale

    for scale in (2.0, 3.0):
        np.testing.assert_allclose(gt.compile(scaled, threads=1)(X), np.tanh(X) * scale, rtol=1e-5)
    assert all(isinstance(kernel, Kernel) for kernel in jit._bitcode)
