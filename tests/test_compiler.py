"""compile() and Compiled: the public behaviour, and what bad input says."""

import threading

import numpy as np
import pytest

import gradtape as gt

RNG = np.random.default_rng(0)


class Net(gt.Module):
    def __init__(self, dtype="float32"):
        rng = np.random.default_rng(1)
        self.w = gt.Parameter((rng.standard_normal((3, 16)) * 0.5).astype(dtype))
        self.o = gt.Parameter((rng.standard_normal((16, 4)) * 0.5).astype(dtype))
        self.seen = gt.buffer(np.zeros((), dtype))

    def forward(self, x):
        h = np.tanh(x @ self.w)
        if self.training:
            self.seen = 0.9 * self.seen + 0.1 * h.mean()
        return h @ self.o


def data(n=20, dtype="float32"):
    rng = np.random.default_rng(2)
    return rng.standard_normal((n, 3)).astype(dtype), rng.integers(0, 4, n)


@pytest.fixture(scope="module")
def trained():
    model = Net()
    step = gt.compile(model, loss=gt.cross_entropy, optimizer=gt.AdamW(lr=0.05), threads=1)
    losses = [float(step(*data())) for _ in range(30)]
    return model, step, losses


def test_a_step_learns_and_the_users_model_is_what_learns(trained):
    model, step, losses = trained
    assert losses[-1] < 0.8 * losses[0]
    x, y = data()
    np.testing.assert_allclose(step.evaluate(x, y), gt.cross_entropy(model.eval()(x), y), rtol=1e-5)
    np.testing.assert_allclose(step.forward(x), model(x), rtol=1e-4, atol=1e-5)
    assert step.last.loss == losses[-1] and step.last.lr == 0.05 and step.step_count == 30


def test_what_no_module_of_the_model_holds_is_read_where_it_is():
    """The class weights of a loss module: two programs over them, and a change of them that both see."""
    model, loss = Net(), gt.nn.CrossEntropyLoss(weight=np.array([0.5, 1.0, 2.0, 1.0], np.float32))
    first, second = (gt.compile(model, loss=loss, threads=1) for _ in range(2))
    x, y = data()
    assert first.evaluate(x, y) == pytest.approx(float(loss(model.eval()(x), y)), rel=1e-5)
    loss.weight.data[...] = [1.0, 0.0, 0.0, 3.0]
    expected = pytest.approx(float(loss(model(x), y)), rel=1e-5)
    assert first.evaluate(x, y) == second.evaluate(x, y) == expected
    step = gt.compile(model, loss=loss, optimizer=gt.SGD(lr=0.1), threads=1)
    with pytest.raises(gt.NotFinite, match="x already had NaN"):
        step(np.full_like(x, np.nan), y)


def test_two_programs_of_one_model_share_its_store():
    rng = np.random.default_rng(0)
    model = gt.models.MLP(3, 4, 2)
    step = gt.compile(model, loss=gt.mse_loss, optimizer=gt.SGD(lr=0.1), threads=1)
    x, y = rng.standard_normal((5, 3)).astype(np.float32), rng.standard_normal((5, 2)).astype(np.float32)
    step(x, y)
    other = gt.compile(model, threads=1)
    before = other.forward(x)
    np.testing.assert_array_equal(before, step.forward(x))
    step(x, y)
    assert not np.array_equal(other.forward(x), before)
    np.testing.assert_array_equal(other.forward(x), step.forward(x))
    np.testing.assert_allclose(model(x), step.forward(x), rtol=1e-5)


def test_a_buffer_is_updated_by_training_only(trained):
    model, step, _ = trained
    before = model.seen.array.copy()
    step.evaluate(*data())
    step.forward(data()[0])
    np.testing.assert_array_equal(model.seen.array, before)
    step(*data())
    assert model.seen.array != before


def test_value_and_grad_changes_nothing_and_agrees_with_differences():
    model = Net("float64")
    step = gt.compile(model, loss=gt.cross_entropy, threads=1)
    x, y = data(dtype="float64")
    before = model.w.array.copy()
    value, grads = step.value_and_grad(x, y)
    np.testing.assert_array_equal(model.w.array, before)
    direction = np.random.default_rng(3).standard_normal(before.shape)
    values = []
    for sign in (1, -1):
        model.w.data[...] = before + sign * 1e-5 * direction
        values.append(gt.cross_entropy(model.eval()(x), y))
    np.testing.assert_allclose(np.sum(grads["w"] * direction), (values[0] - values[1]) / 2e-5, rtol=1e-7)
    np.testing.assert_allclose(value, np.mean(values), rtol=1e-8)


def test_the_second_size_makes_it_symbolic_and_later_ones_trace_no_more():
    calls = []

    def f(x):
        calls.append(x.shape)
        return (x * 2).sum(axis=0)

    program = gt.compile(f, threads=1)
    for n in (4, 7, 9, 1, 200, 4):
        x = RNG.standard_normal((n, 3)).astype("f4")
        np.testing.assert_allclose(program(x), 2 * x.sum(0), rtol=1e-4, atol=1e-5)
    assert len(calls) == 2


def test_specs_compile_ahead():
    model = gt.models.GPT(11, 16, 8, 1, 2)
    ids = gt.spec(("B", "T"), "i64")
    step = gt.compile(model, ids, ids, loss=gt.cross_entropy, optimizer=gt.SGD(lr=0.1), threads=1)
    graph = step.graph("traced")
    for shape in ((2, 16), (1, 3), (5, 7)):
        x = RNG.integers(0, 11, shape)
        assert np.isfinite(step(x, x))
        assert step.graph("traced") is graph
    assert [str(g) for g in graph.guards] == ["T <= 16"]


def test_threads_agree_and_repeat_bit_for_bit():
    x = RNG.integers(0, 13, (8, 32))
    found = {}
    for threads in (1, 2, 2, 3):
        gt.manual_seed(5)
        model = gt.models.GPT(13, 32, 32, 1, 2, dropout=0.2)
        step = gt.compile(model, loss=gt.cross_entropy, optimizer=gt.AdamW(lr=1e-2), threads=threads)
        losses = np.array([float(step(x, x)) for _ in range(5)])
        if threads in found:
            np.testing.assert_array_equal(found[threads], losses)
        found[threads] = losses
    np.testing.assert_allclose(found[2], found[1], rtol=1e-4)
    np.testing.assert_allclose(found[3], found[1], rtol=1e-4)


def test_a_second_caller_waits():
    model = Net()
    step = gt.compile(model, loss=gt.cross_entropy, optimizer=gt.SGD(lr=0.01), threads=1)
    x, y = data()
    step(x, y)
    workers = [threading.Thread(target=lambda: [step(x, y) for _ in range(50)]) for _ in range(4)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    assert step.step_count == 201


def test_state_comes_back():
    x, y = data()
    gt.manual_seed(0)
    first = gt.compile(Net(), loss=gt.cross_entropy, optimizer=gt.AdamW(lr=0.01), threads=1)
    for _ in range(3):
        first(x, y)
    second = gt.compile(Net(), loss=gt.cross_entropy, optimizer=gt.AdamW(lr=0.01), threads=1)
    second.load_state_dict(first.state_dict())
    second.load_optimizer_state_dict(first.optimizer_state_dict())
    assert second.step_count == 3 and second.state_dict().keys() == Net().state_dict().keys()
    assert first(x, y) == second(x, y) and first(x, y) == second(x, y)
    with pytest.raises(ValueError, match="missing optimizer"):
        second.load_optimizer_state_dict({"optimizer.step": 1})


def test_a_users_update_function_is_traced():
    def momentum(param, grad, state, scalars):
        m = 0.9 * state.get("m", 0.0) + grad
        return param - 0.01 * m, {"m": m}

    ours, theirs = Net(), Net()
    x, y = data()
    a = gt.compile(ours, loss=gt.cross_entropy, optimizer=momentum, threads=1)
    b = gt.compile(theirs, loss=gt.cross_entropy, optimizer=gt.SGD(lr=0.01, momentum=0.9), threads=1)
    for _ in range(5):
        np.testing.assert_allclose(a(x, y), b(x, y), rtol=1e-6)


def test_groups_freeze_and_clipping():
    model = Net()
    gt.freeze(model.o)
    groups = [{"params": [model.w], "lr": 1.0}]
    step = gt.compile(
        model, loss=gt.cross_entropy, optimizer=gt.clip_by_global_norm(gt.SGD(lr=0.1, params=groups), 1e-3), threads=1
    )
    w, o = model.w.array.copy(), model.o.array.copy()
    step(*data())
    np.testing.assert_array_equal(model.o.array, o)
    np.testing.assert_allclose(np.sqrt(np.sum((model.w.array - w) ** 2)), 1e-3, rtol=1e-2)


def test_objective_takes_the_model():
    step = gt.compile(
        Net(), loss=gt.objective(lambda model, x, y: gt.cross_entropy(model(x), y) + 0.01 * (model.w**2).sum()),
        optimizer=gt.SGD(lr=0.1), threads=1,
    )  # fmt: skip
    assert step(*data()) > step(*data())


def test_functions_differentiate_twice():
    x = np.array([1.0, 2.0])
    np.testing.assert_allclose(gt.grad(lambda v: (v**3).sum())(x), 3 * x**2)
    np.testing.assert_allclose(gt.grad(lambda v: gt.grad(lambda u: (u**3).sum())(v).sum())(x), 6 * x)
    value, (da, db) = gt.value_and_grad(lambda a, b: (a * b).sum(), argnums=(0, 1))(x, x + 1)
    assert value == 8 and list(da) == [2, 3] and list(db) == [1, 2]


def test_structures_come_back():
    out = gt.compile(lambda x: (x + 1, {"sum": x.sum()}), threads=1)(np.arange(3.0))
    assert list(out[0]) == [1, 2, 3] and out[1]["sum"] == 3


# bad input ----------------------------------------------------------------------------------------------------------
def fails(error, match, call):
    with pytest.raises(error, match=match) as caught:
        call()
    return str(caught.value)


def test_shapes_and_dtypes_name_both_types_and_the_line(trained):
    _, step, _ = trained
    message = fails(TypeError, "inner sizes differ: 5", lambda: step.forward(np.zeros((2, 5), "f4")))
    assert "test_compiler.py" in message and "np.tanh(x @ self.w)" in message
    assert "x: f32[2, 5]" in message and "w: f32[3, 16]" in message
    fails(TypeError, "needs? float|names classes by integers", lambda: step(data()[0], data()[0][:, 0]))


def test_an_index_out_of_range_is_named_and_nothing_moves():
    model = gt.models.GPT(11, 8, 8, 1, 2)
    step = gt.compile(model, loss=gt.cross_entropy, optimizer=gt.SGD(lr=0.1), threads=1)
    x = np.zeros((2, 8), int)
    step(x, x)
    before = model.state_dict()
    bad = x.copy()
    bad[1, 3] = 11
    fails(IndexError, r"idx\[1, 3\] = 11 is out of range for tok.weight with 11 rows", lambda: step(bad, x))
    fails(IndexError, r"target\[1, 3\] = 11 is out of range for 11 classes", lambda: step(x, bad))
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
    assert step.step_count == 1


def test_nan_names_the_step_and_the_op_and_nothing_moves():
    class Logs(gt.Module):
        def __init__(self):
            self.w = gt.Parameter(np.ones(3, "f4"))

        def forward(self, x):
            return np.log(x * self.w)

    model = Logs()
    step = gt.compile(model, loss=lambda out, y: ((out - y) ** 2).mean(), optimizer=gt.AdamW(lr=0.1), threads=1)
    good = np.full((2, 3), 2, "f4")
    step(good, good)
    before, moments = model.w.array.copy(), step.optimizer_state_dict()
    message = fails(gt.NotFinite, "step 1: loss is not finite", lambda: step(-good, good))
    assert "first    log at" in message and "test_compiler.py" in message
    np.testing.assert_array_equal(model.w.array, before)
    for name, array in step.optimizer_state_dict().items():
        np.testing.assert_array_equal(array, moments[name])
    assert np.isfinite(step(good, good))


def test_a_buffer_that_forward_reads_again_is_written_only_after_the_check():
    class Counts(gt.Module):
        def __init__(self):
            self.w, self.count = gt.Parameter(np.ones(3, "f4")), gt.buffer(np.zeros(3, "f4"))

        def forward(self, x):
            self.count = self.count * 0.5 + 1.0
            return np.log(x * self.w) + self.count @ np.eye(3, dtype="f4")

    model = Counts()
    step = gt.compile(model, loss=gt.mse, optimizer=gt.SGD(lr=0.1), threads=1)
    good = np.full((2, 3), 2, "f4")
    step(good, good)
    np.testing.assert_array_equal(model.count.array, np.ones(3))
    fails(gt.NotFinite, "loss is not finite", lambda: step(-good, good))
    np.testing.assert_array_equal(model.count.array, np.ones(3))
    step(good, good)
    np.testing.assert_array_equal(model.count.array, np.full(3, 1.5))


def test_what_cannot_learn_is_refused_with_every_line():
    class Dead(Net):
        def __init__(self):
            super().__init__()
            self.extra = gt.nn.Linear(2, 2)
            self.gate = gt.nn.Linear(3, 4)

        def forward(self, x):
            return super().forward(x) + np.rint(self.gate(x))

    step = gt.compile(Dead(), loss=gt.cross_entropy, optimizer=gt.SGD(lr=0.1))
    with pytest.raises(gt.LintError) as caught:
        step(*data())
    (error,) = caught.value.report.errors
    assert (error.code, error.parameters) == ("GT-C07", ("gate.weight", "gate.bias"))
    assert "np.rint(self.gate(x))" in str(caught.value) and "extra.weight, extra.bias" in str(caught.value)
    warned = gt.compile(Dead(), loss=gt.cross_entropy, optimizer=gt.SGD(lr=0.1), lint="warn")
    with pytest.warns(gt.LintWarning, match="2/6 parameters learn; 1 error, 1 warning"):
        assert np.isfinite(warned(*data()))
    assert [f.code for f in warned.lint().findings] == ["GT-C07", "GT-D04"]
    silent = gt.compile(Dead(), loss=gt.cross_entropy, optimizer=gt.SGD(lr=0.1), lint="off")
    assert np.isfinite(silent(*data()))
    with pytest.raises(RuntimeError, match="was not linted"):
        silent.lint()


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: gt.compile(Net(), optimizer=gt.SGD(lr=0.1)), "an optimizer needs a loss"),
        (lambda: gt.compile(3), "takes a Module or a function, not int"),
        (lambda: gt.compile(Net(), lint="loud"), "lint is"),
        (lambda: gt.compile(Net(), threads=0), "threads is at least 1"),
        (lambda: gt.compile(Net(), loss=gt.mse, optimizer="adam"), "optimizer= takes an Optimizer"),
        (lambda: gt.compile(Net(), loss=gt.cross_entropy).step(*data()), "has no optimizer"),
        (lambda: gt.compile(Net()).graph(), "nothing is traced yet"),
        (lambda: gt.compile(Net(), loss=gt.cross_entropy, optimizer=gt.SGD(lr=0.1))(data()[0]), "inputs, target"),
        (lambda: gt.compile(Net())("text"), "argument 0: got a str, not an array or a number: 'text'"),
    ],
)  # fmt: skip
def test_wrong_calls(call, match):
    with pytest.raises((TypeError, ValueError, RuntimeError), match=match):
        call()


def test_an_optimizer_of_another_model():
    step = gt.compile(Net(), loss=gt.cross_entropy, optimizer=gt.SGD(lr=0.1, params=Net().parameters()))
    with pytest.raises(ValueError, match="holds 2 parameters that are not the model's"):
        step(*data())


def test_a_loss_that_is_no_scalar():
    step = gt.compile(Net(), loss=lambda out, y: out, optimizer=gt.SGD(lr=0.1))
    with pytest.raises(TypeError, match=r"one float scalar, got f32\[20, 4\]"):
        step(*data())


def test_a_parameter_needs_no_constructor_call():
    class Plain(gt.Module):
        def __init__(self):
            self.w = gt.Parameter([1.0, 2.0])
            super().__init__()

    assert [n for n, _ in Plain().named_parameters()] == ["w"]


def test_a_tensor_of_an_ended_trace_says_so():
    kept = []

    def leaky(x):
        kept.append(x)
        return x * 2

    gt.compile(leaky)(np.ones(3, "f4"))
    with pytest.raises(TypeError, match="trace"):
        kept[0] + 1
