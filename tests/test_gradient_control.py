"""How a user says what learns and what does not: gt.tensor, gt.no_grad, gt.freeze, gt.buffer, gt.stop_gradient; each
eagerly, traced, compiled, and nested. Also parameters that a compiled function or loss closes over."""

import threading

import numpy as np
import pytest

import gradtape as gt
from gradtape.ir.interp import evaluate_graph
from gradtape.tracer import Buffer

X = np.random.default_rng(0).standard_normal((6, 3)).astype("f4")
Y = np.random.default_rng(1).standard_normal((6, 2)).astype("f4")


def slope(f, *args):
    return gt.grad(lambda *a: f(*a).sum())(*args)


def three_ways(f, *args):
    """What f gives eagerly, interpreted, and compiled, which must be the same."""
    eager = f(*args)
    traced = gt.trace(f, *args)
    again = evaluate_graph(traced.graph, traced.bind(*args))
    compiled = gt.compile(f, threads=1)(*args)
    np.testing.assert_allclose(next(iter(again.values())), eager, rtol=1e-5)
    np.testing.assert_allclose(compiled, eager, rtol=1e-5)
    return eager


# tensor -------------------------------------------------------------------------------------------------------------
def test_a_tensor_is_a_copy():
    array = np.ones(3)
    x = gt.tensor(array)
    array[:] = 5
    assert type(x) is np.ndarray and x.dtype == np.float64
    np.testing.assert_array_equal(x, 1)


def test_a_tensor_that_requires_a_gradient_is_a_leaf():
    w = gt.tensor([1.0, 2.0, 3.0], requires_grad=True)
    assert isinstance(w, gt.Parameter) and w.requires_grad and w.dtype == np.float32
    np.testing.assert_array_equal(gt.grad(lambda w: (w * w).sum())(w), [2, 4, 6])
    np.testing.assert_array_equal(gt.grad(lambda x: (x * w).sum())(X[0]), [1, 2, 3])
    with pytest.raises(TypeError, match="dtype int64 cannot have a gradient"):
        gt.tensor([1, 2], requires_grad=True)
    with pytest.raises(TypeError, match="cannot have a gradient"):
        gt.Parameter([1, 2], requires_grad=False).requires_grad_()


@pytest.mark.parametrize("name", ["grad", "backward", "zero_grad"])
def test_gradients_are_not_kept_anywhere(name):
    with pytest.raises(AttributeError, match=f"a Parameter has no {name}: gradients are returned, not kept"):
        getattr(gt.Parameter([1.0]), name)
    with pytest.raises((AttributeError, TypeError), match="gt.value_and_grad"):
        gt.trace(lambda x: x.grad, X)
    assert not hasattr(gt.Parameter([1.0]), "grad")
    assert slope(lambda x: x.requires_grad_() * 2.0, X)[0, 0] == 2


def test_inside_a_program_it_is_a_constant_and_the_ledger_knows():
    def f(x):
        return x * gt.tensor([1.0, 2.0, 3.0], requires_grad=True)

    np.testing.assert_array_equal(slope(f, X[0]), [1, 2, 3])
    (leaf,) = gt.trace(f, X).ledger.leaves
    assert leaf.requires_grad and leaf.line == f.__code__.co_firstlineno + 1
    np.testing.assert_array_equal(slope(lambda x: gt.tensor(x * 2.0), X[0]), [2, 2, 2])  # traced values stay


# what a function closes over ----------------------------------------------------------------------------------------
def test_a_compiled_function_reads_the_parameters_that_it_closes_over():
    w = gt.tensor([1.0, 2.0, 3.0], requires_grad=True)
    program = gt.compile(lambda x: x * w, threads=1)
    np.testing.assert_allclose(program(X), X * np.float32([1, 2, 3]), rtol=1e-6)
    w.data[...] = 2.0
    np.testing.assert_array_equal(program(X), X * 2)
    np.testing.assert_array_equal(program(X[:2]), X[:2] * 2)  # another trace, the same array
    other = gt.compile(lambda x: x + w, threads=1)
    np.testing.assert_array_equal(other(X), X + 2)


@pytest.mark.parametrize("given", [True, False])
def test_it_trains_them(given):
    w, b = gt.tensor(np.zeros((3, 2), "f4"), requires_grad=True), gt.tensor([0.0, 0.0], requires_grad=True)

    def loss(x, y):
        return ((x @ w + b - y) ** 2).mean()

    optimizer = gt.AdamW(lr=0.1, params=[w, b] if given else None)
    step = gt.compile(loss, optimizer=optimizer, threads=1)

    class Net(gt.Module):
        def __init__(self):
            self.w, self.b = gt.Parameter(np.zeros((3, 2), "f4")), gt.Parameter([0.0, 0.0])

        def forward(self, x):
            return x @ self.w + self.b

    twin = gt.compile(Net(), loss=gt.mse, optimizer=gt.AdamW(lr=0.1), threads=1)
    for n in (6, 4, 5, 6):  # sizes become symbolic: names and optimizer state stay
        np.testing.assert_allclose(step(X[:n], Y[:n]), twin(X[:n], Y[:n]), rtol=1e-6)
    np.testing.assert_allclose(w.array, twin.state_dict()["w"], rtol=1e-5)
    value, grads = step.value_and_grad(X, Y)
    assert grads.keys() == {"w", "b"} and value == pytest.approx(float(loss(X, Y)), rel=1e-5)
    state = step.optimizer_state_dict()
    assert {k.rsplit(".", 1)[1] for k in state} == {"w", "b", "step"}
    step.load_optimizer_state_dict(state)
    gt.freeze([b])
    before = b.array.copy()
    step(X, Y)
    np.testing.assert_array_equal(b.array, before)
    gt.freeze(w)
    with pytest.raises(gt.GradientError, match="the function has no trainable parameters"):
        step(X, Y)


def test_names_of_what_it_closes_over_stay_those_of_their_arrays():
    layers = [gt.nn.Linear(3, 3) for _ in range(3)]

    def f(x, first):
        order = layers if x.shape[0] == 6 else layers[::-1]
        for layer in order:
            x = layer(x)
        return ((x - first) ** 2).mean()

    step = gt.compile(f, optimizer=gt.SGD(lr=0.1, momentum=0.9), threads=1)
    step(X, X)
    momentum = {k: v.shape for k, v in step.optimizer_state_dict().items()}
    arrays = [layer.weight.array for layer in layers]
    step(X[:5], X[:5])  # reads them in another order
    assert {k: v.shape for k, v in step.optimizer_state_dict().items()} == momentum and len(momentum) == 7
    assert all(layer.weight.array is a for layer, a in zip(layers, arrays, strict=True))


class Drops(gt.Module):
    def __init__(self):
        self.w, self.seen = gt.Parameter(np.ones(3, "f4")), gt.buffer(np.zeros((), "i8"))

    def forward(self, x):
        if self.training:
            self.seen += 1
            return x * self.w * 0.0
        return x * self.w


def test_modules_that_it_closes_over_keep_their_mode_and_their_buffers():
    model = Drops()
    program = gt.compile(lambda x: model(x) + 1.0, threads=1)
    np.testing.assert_array_equal(program(X), 1)
    model.eval()
    np.testing.assert_array_equal(program(X), X + 1)
    model.train()
    np.testing.assert_array_equal(program(X), 1)
    assert model.seen.array == 2


def test_a_loss_may_read_another_model():
    critic = gt.freeze(gt.nn.Linear(2, 1))
    model = gt.nn.Linear(3, 2)
    loss = gt.objective(lambda model, x, y: ((critic(model(x)) - y) ** 2).mean())
    step = gt.compile(model, loss=loss, optimizer=gt.SGD(lr=0.1), threads=1)
    weight = critic.weight.array.copy()
    first = step(X, Y[:, :1])
    assert step(X, Y[:, :1]) < first
    np.testing.assert_array_equal(critic.weight.array, weight)
    critic.weight.data[...] = 0.0
    np.testing.assert_allclose(step(X, Y[:, :1]), ((critic.bias.array - Y[:, :1]) ** 2).mean(), rtol=1e-5)


# no_grad ------------------------------------------------------------------------------------------------------------
def squares(x):
    return (x * x).sum()


@pytest.mark.parametrize("decorate", [gt.no_grad, gt.no_grad()])
def test_no_grad_as_a_decorator(decorate):
    level = decorate(squares)
    assert level.__name__ == "squares"
    np.testing.assert_allclose(three_ways(level, X), np.sum(X * X), rtol=1e-5)
    np.testing.assert_allclose(slope(lambda x: x * level(x), X), np.full(X.shape, np.sum(X * X)), rtol=1e-5)

    @decorate
    def down(x, n):  # inside itself
        return x if n == 0 else down(x * 2.0, n - 1)

    np.testing.assert_array_equal(slope(lambda x: x * 3.0 + down(x, 3), X), np.full(X.shape, 3))


def test_no_grad_blocks_nest_and_end():
    def f(x):
        with gt.no_grad():
            y = x * 2.0
            with gt.no_grad():
                z = y * x
            w = z + x  # still inside
        return x * w

    np.testing.assert_allclose(slope(f, X), 2 * X * X + X, rtol=1e-6)
    three_ways(f, X)
    block = gt.no_grad()
    with pytest.raises(RuntimeError), block:
        raise RuntimeError
    assert slope(lambda x: x * 2.0, X)[0, 0] == 2


def test_no_grad_of_two_threads_at_once():
    """Both are inside the decorated function at the same time, and leave it in the order in which they came."""
    inside, found = threading.Barrier(2, timeout=20), {}
    first_out = threading.Event()

    @gt.no_grad
    def level(x, wait):
        inside.wait()
        if wait:
            assert first_out.wait(20)
        return x * 2.0

    def work(wait):
        def f(x):
            constant = level(x, wait)
            first_out.set()
            return x * x + constant

        traced = gt.trace(f, X)
        found[wait] = [n.op for n in traced.graph.nodes]

    threads = [threading.Thread(target=work, args=(wait,)) for wait in (False, True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found[True] == found[False] == ["stop_gradient", "mul", "mul", "add"]


def test_no_grad_around_and_inside_parts_of_a_program():
    def inside(x):
        with gt.no_grad():
            level = x.mean()
        return x * level

    plain = slope(inside, X)
    np.testing.assert_allclose(slope(lambda x: gt.checkpoint(inside, x), X), plain, rtol=1e-6)

    def around(x):
        with gt.no_grad():
            y = gt.checkpoint(lambda x: x * x, x)
        return x * y

    np.testing.assert_allclose(slope(around, X), X * X, rtol=1e-6)
    traced = gt.trace(lambda x: gt.checkpoint(inside, x), X)
    names = [v.name for n in traced.graph.walk() for v in n.outputs]
    assert set(traced.ledger.cuts) <= set(names)
    np.testing.assert_allclose(gt.nn.Linear(3, 2)(X).shape, (6, 2))


def test_a_teacher_inside_no_grad_stays_as_it_is():
    class Student(gt.Module):
        def __init__(self):
            self.net = gt.nn.Linear(3, 2)
            self.teacher = gt.freeze(gt.nn.Linear(3, 2))

        def forward(self, x):
            with gt.no_grad():
                goal = self.teacher(x)
            return self.net(x) - goal

    model = Student()
    step = gt.compile(model, loss=gt.mse, optimizer=gt.AdamW(lr=0.1), threads=1)
    before = model.teacher.weight.array.copy()
    first = step(X, Y * 0)
    assert step(X, Y * 0) < first
    np.testing.assert_array_equal(model.teacher.weight.array, before)
    assert set(step.value_and_grad(X, Y)[1]) == {"net.weight", "net.bias"}


# freeze -------------------------------------------------------------------------------------------------------------
class Two(gt.Module):
    def __init__(self):
        self.parts = [gt.nn.Linear(3, 4), {"head": gt.nn.Linear(4, 2)}]
        self.scale = gt.Parameter([1.0])

    def forward(self, x):
        return self.parts[1]["head"](np.tanh(self.parts[0](x))) * self.scale


def moved(step, *batch):
    before = step.state_dict()
    step(*batch)
    return {name for name, array in step.state_dict().items() if not np.array_equal(array, before[name])}


def test_freezing_and_thawing_a_compiled_model():
    model = Two()
    step = gt.compile(model, loss=gt.mse, optimizer=gt.AdamW(lr=0.1), threads=1)
    everything = set(model.state_dict())
    assert moved(step, X, Y) == everything
    moments = step.optimizer_state_dict()
    assert gt.freeze(model.parts[0]) is model.parts[0]
    gt.freeze(model.scale)
    assert moved(step, X, Y) == {"parts.1.head.weight", "parts.1.head.bias"}
    assert set(step.value_and_grad(X, Y)[1]) == {"parts.1.head.weight", "parts.1.head.bias"}
    assert set(step.state_dict()) == everything  # what is frozen is still saved
    after = step.optimizer_state_dict()
    assert after.keys() == moments.keys()
    key = next(k for k in moments if k.endswith("parts.0.weight") and moments[k].any())
    np.testing.assert_array_equal(after[key], moments[key])
    model.requires_grad_()
    graph = step.graph()
    assert moved(step, X, Y) == everything
    assert step.graph() is not graph
    gt.freeze(model)
    with pytest.raises(gt.GradientError, match="the model has no trainable parameters"):
        step(X, Y)
    assert step.evaluate(X, Y) > 0 and step.forward(X).shape == (6, 2)


def test_freezing_takes_modules_parameters_and_lists():
    model = Two()
    gt.freeze([model.parts[0], model.scale])
    assert [n for n, p in model.named_parameters() if p.requires_grad] == ["parts.1.head.weight", "parts.1.head.bias"]
    gt.freeze(model.parameters())
    assert model.num_parameters(trainable_only=True) == 0
    for wrong in (np.ones(3), gt.buffer([1.0]), "model", [np.ones(2)]):
        with pytest.raises(TypeError, match="freeze takes a Module, a Parameter or a list of them, not"):
            gt.freeze(wrong)


def test_a_shared_parameter_is_frozen_everywhere():
    class Tied(gt.Module):
        def __init__(self):
            self.a, self.b = gt.nn.Linear(3, 3, bias=False), gt.nn.Linear(3, 3, bias=False)
            self.b.weight = self.a.weight

        def forward(self, x):
            return self.b(self.a(x))

    model = Tied()
    gt.freeze(model.b)
    assert not model.a.weight.requires_grad and len(model.state_dict()) == 2


# buffer -------------------------------------------------------------------------------------------------------------
class Counts(gt.Module):
    def __init__(self):
        self.w = gt.Parameter(np.ones(3, "f4"))
        self.steps = gt.buffer(np.zeros((), "i8"))
        self.parts = [gt.buffer(np.full(3, 8.0, "f4")), gt.buffer(np.zeros(3, "f4"), persistent=False)]

    def forward(self, x):
        if self.training:
            self.steps += 1
            self.parts[0] *= 0.5
            part = self.parts[0]
            part -= 1.0  # through another name
        return x * self.w + self.parts[0]


def test_buffers_change_in_place_alike_in_all_modes():
    eager, compiled = Counts(), Counts()
    program = gt.compile(compiled, threads=1)
    for count in (1, 2, 3):
        np.testing.assert_array_equal(program.forward(X, train=True), eager(X))
        assert eager.steps.array == compiled.steps.array == count
        np.testing.assert_array_equal(eager.parts[0].array, compiled.parts[0].array)
    assert isinstance(eager.parts[0], Buffer) and isinstance(eager.steps, Buffer)
    np.testing.assert_array_equal(eager.parts[0].array, 8 / 8 - 1 / 4 - 1 / 2 - 1)
    program.forward(X)
    eager.eval()(X)
    assert eager.steps.array == compiled.steps.array == 3
    assert not eager.steps.requires_grad


def test_buffers_in_a_state_dict_before_and_after_compiling():
    model = Counts()
    assert set(model.state_dict()) == {"w", "steps", "parts.0"}
    step = gt.compile(model, loss=lambda out, y: (out**2).mean() + y.sum(), optimizer=gt.SGD(lr=0.1), threads=1)
    step(X, Y)
    saved = step.state_dict()
    assert saved["steps"] == 1
    step(X, Y)
    step.load_state_dict(saved)
    assert model.steps.array == 1
    step(X, Y)
    assert model.steps.array == 2
    np.testing.assert_array_equal(model.parts[0].array, (8 / 2 - 1) / 2 - 1)


def test_a_buffer_is_updated_as_a_whole():
    model = Counts()
    with pytest.raises(TypeError, match=r"self.name = gt.where\(mask, new, self.name\)"):
        model.parts[0][0] = 1.0
    with pytest.raises(TypeError, match="a Parameter is not changed in place"):
        model.w += 1.0
    with pytest.raises((ValueError, TypeError), match="broadcast|shape"):
        model.steps += np.ones(3, "i8")
    with pytest.raises(TypeError, match="broadcast"):
        gt.trace(lambda x: model.__setattr__("steps", x), X, module=model)


def test_a_buffer_has_no_gradient_and_stops_none():
    def f(x):
        b = gt.buffer(np.full(3, 2.0, "f4"))
        return x * b

    np.testing.assert_array_equal(slope(f, X), np.full(X.shape, 2))


# stop_gradient ------------------------------------------------------------------------------------------------------
def test_stop_gradient_everywhere():
    def f(x):
        return x * gt.stop_gradient(x * x)

    np.testing.assert_allclose(three_ways(f, X), X**3, rtol=1e-5)
    np.testing.assert_allclose(slope(f, X), X * X, rtol=1e-6)
    with pytest.raises(gt.GradientError, match="does not depend on argument 0"):
        slope(lambda x: slope(f, x), X)  # its gradient is what was cut off
    np.testing.assert_allclose(slope(lambda x: gt.checkpoint(f, x), X), X * X, rtol=1e-6)


def test_stop_gradient_takes_anything():
    w = gt.Parameter([1.0, 2.0])
    np.testing.assert_array_equal(gt.stop_gradient(w), [1, 2])
    np.testing.assert_array_equal(w.detach(), [1, 2])
    assert gt.stop_gradient(np.arange(3)).dtype == np.int64 and gt.stop_gradient(2.0) == 2
    np.testing.assert_array_equal(slope(lambda x: x + x.detach() * w.detach().sum(), X), np.ones(X.shape))


def test_straight_through_by_hand():
    def f(x):
        return x + gt.stop_gradient(gt.sign(x) - x)

    np.testing.assert_allclose(three_ways(f, X), np.sign(X), atol=1e-6)
    np.testing.assert_array_equal(slope(f, X), np.ones(X.shape))


def test_watching_a_function_and_what_stands_in_checkpoints():
    w = gt.tensor(np.full((3, 2), -1.0, "f4"), requires_grad=True)
    step = gt.compile(
        lambda x, y: ((gt.checkpoint(lambda x: gt.relu(x @ w), x) - y + w.sum()) ** 2).mean(),
        optimizer=gt.SGD(lr=1e-6),
        threads=1,
    )
    watch = step.watch(every=1, warn=False)
    for _ in range(3):
        step(np.abs(X), Y)
    assert watch.seen.looks == 3 and list(watch.seen.gradients) == ["w"]
    (off,) = watch.seen.off.values()
    assert off.all()  # the relu inside of the checkpoint
