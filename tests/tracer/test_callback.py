"""gt.callback: opaque Python in a program, eager, interpreted, compiled; its derivative; what goes wrong."""

import numpy as np
import pytest

import gradtape as gt
from gradtape.ir.interp import evaluate_graph
from gradtape.ir.text import parse, to_text
from gradtape.ir.verify import verify
from gradtape.passes.autodiff import differentiate
from gradtape.runtime.threads import available_cpus
from tapes import run_plainly, split_values, tape_of

X = np.random.default_rng(0).standard_normal((4, 3)).astype("f4")
THREADS = (1, max(2, available_cpus()))


def sines(x, scale=1.0):
    return np.sin(x) * np.asarray(scale, x.dtype)


def slope(g, y, x, scale=1.0):
    return g * np.cos(x) * np.asarray(scale, x.dtype), None


class Net(gt.Module):
    """x @ w, Python, then o; `seen` is updated by every training step."""

    def __init__(self, python):
        rng = np.random.default_rng(1)
        self.w = gt.Parameter(rng.standard_normal((3, 5)).astype("f4"))
        self.o = gt.Parameter(rng.standard_normal((5, 2)).astype("f4"))
        self.seen = gt.buffer(np.ones(5, "f4"))
        self.python = python

    def forward(self, x):
        if self.training:
            self.seen = self.seen * 0.5 + 1.0
        return self.python(x @ self.w) @ self.o + gt.sum(self.seen)


def compiled(python, **options):
    return gt.compile(Net(python), loss=gt.mse, optimizer=gt.AdamW(lr=0.1), **{"threads": 1, **options})


def target(n=4):
    return np.zeros((n, 2), "f4")


def message(error, call):
    with pytest.raises(error) as caught:
        call()
    return "\n".join([str(caught.value), *getattr(caught.value, "__notes__", ())])


# values and gradients -----------------------------------------------------------------------------------------------
def test_eagerly_it_calls_the_function_with_what_it_is_given():
    seen = []
    assert gt.callback(lambda *a: seen.append(a) or "anything", X, 3, None) == "anything"
    assert seen[0][0] is X and seen[0][1:] == (3, None)
    assert isinstance(gt.callback(np.sin, gt.Parameter(X)), np.ndarray)


def test_interpreted_plain_and_compiled_agree():
    traced = gt.trace(lambda x: gt.callback(sines, x * 2.0, 3.0, shape=x.shape).max() + x, X)
    graph = verify(traced.graph)
    assert [n.op for n in graph.nodes] == ["mul", "callback", "max", "add"]
    expected = evaluate_graph(graph, {"x": X})["out"]
    np.testing.assert_allclose(expected, (np.sin(2 * X) * 3).max() + X, rtol=1e-6)
    inputs, store = split_values(graph, {"x": X})
    np.testing.assert_allclose(run_plainly(tape_of(graph), inputs, store, 2)["out"], expected, rtol=1e-6)
    for threads in THREADS:
        program = gt.compile(lambda x: gt.callback(sines, x * 2.0, 3.0).max() + x, threads=threads)
        np.testing.assert_allclose(program(X), expected, rtol=1e-6)


@pytest.mark.parametrize("threads", THREADS)
def test_training_through_a_derivative_in_python_with_symbolic_sizes(threads):
    losses = []
    for python in (lambda h: gt.callback(sines, h, 2.0, vjp=slope), lambda h: np.sin(h) * 2.0):
        step = compiled(python, threads=threads)
        rng = np.random.default_rng(2)
        losses.append([step(rng.standard_normal((n, 3)).astype("f4"), target(n)) for n in (4, 7, 300, 4)])
    np.testing.assert_allclose(*losses, rtol=1e-5)


def test_several_results_integers_and_static_arguments():
    def python(x, ids, power, name):
        assert name == "k" and x.dtype == np.float64 and ids.dtype == np.int64
        return x**power, np.argsort(x, axis=-1), x[ids]

    def rule(g, out, x, ids, power, name):
        assert g[1] is None and out[1].dtype == np.int64
        back = g[0] * power * x ** (power - 1)
        np.add.at(back, ids, g[2])
        return back, None, None, None

    ids = np.array([2, 0])

    def f(x, wrap):
        shapes = [(5,), (5,), (2,)]
        a, order, c = wrap(python, x, ids, 2, "k", shape=shapes, dtype=["f64", "i64", None], vjp=rule)
        return (a * gt.take(a, order)).sum() + (c**2).sum()

    x = np.linspace(-1.0, 2.0, 5)
    value, grad = gt.value_and_grad(lambda x: f(x, gt.callback))(x)
    plain = lambda fn, x, ids, p, *a, **k: (x**p, np.argsort(np.linspace(-1.0, 2.0, 5)), gt.take(x, ids))
    expected = gt.value_and_grad(lambda x: f(x, plain))(x)
    np.testing.assert_allclose(value, expected[0], rtol=1e-13)
    np.testing.assert_allclose(grad, expected[1], rtol=1e-13)


def test_without_arrays_it_is_called_in_every_run():
    numbers = iter(range(100))
    program = gt.compile(lambda x: x + gt.callback(lambda: next(numbers), shape=(), dtype="f4"), threads=1)
    assert [float(program(np.zeros(1, "f4"))[0]) for _ in range(3)] == [0, 1, 2]


def test_two_calls_are_two_and_one_that_nobody_reads_is_none():
    calls = []

    def f(x):
        calls.append(1)
        return x

    program = gt.compile(lambda x: (gt.callback(f, x) + gt.callback(f, x), gt.callback(f, x) is None)[0], threads=1)
    program(X)
    assert len(calls) == 2


def test_the_function_may_keep_and_change_its_arguments_and_use_the_op_namespace():
    kept = []

    def f(x):
        kept.append(x)
        x *= 2.0
        return gt.softmax(x, -1) + gt.zeros(3)

    program = gt.compile(lambda x: (gt.callback(f, x * 1.0), x * 1.0), threads=1)
    for k in (1, 2):
        y, same = program(X * k)
        np.testing.assert_array_equal(same, X * k)
        np.testing.assert_allclose(y, gt.softmax(2 * k * X, -1), rtol=1e-6)
    np.testing.assert_array_equal(kept[0], X * 2)


def test_views_come_in_as_they_are_and_updates_are_written():
    class Count(gt.Module):
        def __init__(self):
            self.total = gt.buffer(np.zeros((3, 4), "f4"))

        def forward(self, x):
            self.total = gt.callback(lambda t, x: t + x, self.total, np.transpose(x))
            return self.total[:, 0]

    model = Count()
    program = gt.compile(model, threads=1)
    for k in (1, 2):
        np.testing.assert_allclose(program.forward(X, train=True), k * X[0], rtol=1e-6)
    np.testing.assert_allclose(model.total.array, 2 * X.T, rtol=1e-6)


def test_in_the_update_rule_of_an_optimizer():
    def update(param, grad, state, scalars):
        return param - scalars["lr"] * gt.callback(np.sign, grad), {}

    def plain(param, grad, state, scalars):
        return param - scalars["lr"] * gt.sign(grad), {}

    found = []
    for rule in (update, plain):
        model = gt.nn.Linear(3, 2)
        model.weight.data[...], model.bias.data[...] = 0.3, 0.1
        step = gt.compile(model, loss=gt.mse, optimizer=rule, threads=1)
        found.append([step(X, target()) for _ in range(3)])
    np.testing.assert_allclose(*found, rtol=1e-6)


def test_within_a_checkpoint_it_is_called_again():
    calls = []

    def f(x):
        calls.append(1)
        return np.sin(x)

    def block(x):
        return gt.callback(f, x * 2.0, vjp=lambda g, y, x: g * np.cos(x), check=False) * x

    program = gt.compile(lambda x: gt.grad(lambda x: gt.checkpoint(block, x).sum())(x), threads=1)
    np.testing.assert_allclose(program(X), 2 * np.cos(2 * X) * X + np.sin(2 * X), rtol=1e-5)
    before = len(calls)
    program(X)
    assert len(calls) - before == 1  # backward's; nobody reads the one of forward
    program = gt.compile(lambda x: gt.value_and_grad(lambda x: gt.checkpoint(block, x).sum())(x), threads=1)
    program(X)
    before = len(calls)
    program(X)
    assert len(calls) - before == 2


def test_programs_without_callbacks_have_one_run():
    step = gt.compile(lambda x: x * 2.0, threads=1)
    step(X)
    (bound,) = step._latest.program._bound.values()
    assert bound.tables.rest == []


def test_the_text_comes_back_without_the_python():
    graph = gt.trace(lambda x: gt.callback(sines, x, shape=(4, 3), vjp=slope, check=False), X).graph
    again = parse(to_text(graph))
    assert again == graph and 'function="sines"' in str(graph) and 'vjp="sines.vjp"' in str(graph)
    with pytest.raises(LookupError, match="the Python function sines is not part of the text"):
        evaluate_graph(again, {"x": X})


# no derivative ------------------------------------------------------------------------------------------------------
def test_a_gradient_through_it_names_the_line():
    step = compiled(lambda h: gt.callback(sines, h), lint="off")  # opaque
    text = message(gt.GradientError, lambda: step(X, target()))
    assert "a gradient is needed through a callback that has none: sines is opaque Python, and has no vjp" in text
    assert f"{__file__}:" in text and "# opaque" in text and "vjp=..., or gt.stop_gradient" in text
    assert step.evaluate(X, target()) > 0  # forward needs none
    step = compiled(lambda h: h + gt.callback(sines, h))  # the lint comes first, and names the parameters too
    text = message(gt.LintError, lambda: step(X, target()))
    assert "GT-A05" in text and "the callback sines has no vjp" in text and "concerns w" in text


def test_where_a_cut_is_meant_or_nothing_depends_on_it():
    step = compiled(lambda h: h + gt.stop_gradient(gt.callback(sines, h)))
    plain = compiled(lambda h: h + gt.stop_gradient(np.sin(h)))
    np.testing.assert_allclose(step(X, target()), plain(X, target()), rtol=1e-6)
    step = compiled(lambda h: h + gt.callback(lambda: np.zeros(5, "f4"), shape=5))
    assert step(X, target()) > 0
    step = compiled(lambda h: h * gt.callback(lambda h: h > 0, h, dtype="bool"))  # bools have no gradient
    assert step(X, target()) > 0


def test_the_derivative_of_the_derivative_is_opaque():
    def f(x):
        return gt.callback(np.sin, x, vjp=lambda g, y, x: g * np.cos(x)).sum()

    with pytest.raises(gt.GradientError, match=r"sin\.vjp is opaque Python"):
        gt.grad(lambda x: gt.grad(f)(x).sum())(X)
    graph = gt.trace(lambda x: gt.callback(sines, x).sum(), X).graph
    with pytest.raises(gt.GradientError, match="sines is opaque"):
        differentiate(graph.replace(outputs=(("loss", graph.outputs[0][1]),)), "loss", ["x"])


# a wrong derivative -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("rule", "says"),
    [
        (lambda g, y, x: g * np.cos(x) * 1.001, "what backward gives for x is not the derivative"),
        (lambda g, y, x: None, "not the derivative"),
        (lambda g, y, x: (g, g), "gives 2 gradients for 1 arguments: x"),
    ],
)
def test_a_wrong_vjp_is_found_when_traced(rule, says):
    with pytest.raises(gt.RuleError, match=says) as error:
        gt.trace(lambda x: gt.callback(sines_of_one, x, vjp=rule), X)
    assert f"rule  {__file__}:{rule.__code__.co_firstlineno}" in str(error.value)
    gt.trace(lambda x: gt.callback(sines_of_one, x, vjp=rule, surrogate=True), X)
    gt.trace(lambda x: gt.callback(sines_of_one, x, vjp=rule, check=False), X)


def sines_of_one(x):
    return np.sin(x)


def test_it_is_compared_once():
    calls = []

    def f(x):
        calls.append(1)
        return np.sin(x)

    rule = lambda g, y, x: g * np.cos(x)
    gt.trace(lambda x: gt.callback(f, x, vjp=rule) + gt.callback(f, x, vjp=rule), X)
    first = len(calls)
    gt.trace(lambda x: gt.callback(f, x, vjp=rule), X)
    assert len(calls) == first > 0


def test_a_gradient_of_another_type_is_told_when_it_comes():
    step = compiled(lambda h: gt.callback(sines, h, vjp=lambda g, y, x, *a: (g.astype("f8"), None)[:1], check=False))
    text = message(TypeError, lambda: step(X, target()))
    assert "sines.vjp returned f64[4, 5], it was declared to return f32[4, 5]" in text and "astype('float32')" in text


# what a call may bring ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("result", "says"),
    [
        (
            lambda h: h[:2],
            r"bad returned f32\[2, 5\], it was declared to return f32\[4, 5\]\n  write shape= and dtype=",
        ),
        (lambda h: h.astype("f8"), r"returned f64\[4, 5\], it was declared .*\n  write array.astype\('float32'\)"),
        (lambda h: h.astype("c8"), r"returned complex64\[4, 5\]"),
        (lambda h: None, r"returned object\[\]"),
        (lambda h: 1.0, r"returned f32\[\]"),
        (lambda h: (h, h), r"returned f32\[2, 4, 5\]"),
    ],
)
@pytest.mark.parametrize("compile", [True, False])
def test_results_are_checked_in_every_call(result, says, compile):
    state = {"bad": False}

    def bad(h):
        return result(h) if state["bad"] else h

    if compile:
        program = gt.compile(lambda h: gt.callback(bad, h), threads=1)
    else:
        traced = gt.trace(lambda h: gt.callback(bad, h), np.zeros((4, 5), "f4"))
        program = lambda h: evaluate_graph(traced.graph, {"h": h})
    program(np.ones((4, 5), "f4"))
    state["bad"] = True
    with pytest.raises(TypeError, match=says):
        program(np.ones((4, 5), "f4"))


def test_too_few_results():
    program = gt.compile(lambda x: gt.callback(lambda x: (x,), x, shape=[(4, 3), (3,)])[0], threads=1)
    with pytest.raises(TypeError, match="returned 1, it was declared to return 2 arrays"):
        program(X)


@pytest.mark.parametrize("threads", THREADS)
def test_what_it_raises_comes_through_and_nothing_has_changed(threads):
    class Unlucky(Exception):
        pass

    state = {"bad": False}

    def f(h):
        if state["bad"]:
            raise Unlucky("no")
        return h

    step = compiled(lambda h: h + gt.stop_gradient(gt.callback(f, h)), threads=threads)
    step(X, target())
    model, before, moments = step.model, step.state_dict(), step.optimizer_state_dict()
    state["bad"] = True
    text = message(Unlucky, lambda: step(X, target()))
    assert text.startswith("no\nin the callback f at ") and f"{__file__}:" in text
    assert step.step_count == 1
    for name, array in {**step.state_dict(), **step.optimizer_state_dict()}.items():
        np.testing.assert_array_equal(array, {**before, **moments}[name], err_msg=name)
    with pytest.raises(Unlucky):
        step.forward(X, train=True)  # a program that checks nothing else; it updates a buffer
    np.testing.assert_array_equal(model.seen.array, before["seen"])
    state["bad"] = False
    assert np.isfinite(step(X, target())) and step.step_count == 2
    assert model.seen.array[0] != before["seen"][0]


def test_it_must_not_call_the_model_that_waits_for_it():
    step = compiled(lambda h: gt.stop_gradient(gt.callback(lambda h: step.forward(X) @ np.ones((2, 5), "f4"), h)) + h)
    with pytest.raises(RuntimeError, match="the callback lambda calls the compiled model that is waiting for it"):
        step(X, target())
    other = gt.compile(lambda x: x * 2.0, threads=1)
    program = gt.compile(lambda x: gt.callback(other, x) + 1.0, threads=1)
    np.testing.assert_allclose(program(X), 2 * X + 1)
    with pytest.raises(RuntimeError, match="waiting"):  # and not after the error
        step(X, target())


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda x: gt.callback(lambda: 1.0), r"without arrays needs the shape of its result"),
        (lambda x: gt.callback(sines, x, shape=[(4, 3), (3,)], dtype=["f4"]), "2 shapes and 1 dtypes"),
        (lambda x: gt.callback(sines, x, dtype="f2"), "dtype 'f2' is not one of"),
        (lambda x: gt.callback(sines, x, shape="a"), "made of ints and Dims"),
    ],
)
def test_wrong_declarations(call, says):
    with pytest.raises(TypeError, match=says):
        gt.trace(call, X)
