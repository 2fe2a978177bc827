"""gt.custom_vjp: eager, traced, compiled, differentiated again; and what a wrong rule says."""

import warnings

import numpy as np
import pytest

import gradtape as gt
from gradtape.ir.interp import evaluate_graph
from gradtape.ir.text import parse, to_text
from gradtape.ir.verify import verify
from gradtape.passes.autodiff import differentiate
from gradtape.passes.rewrite import expand
from gradtape.passes.simplify import simplify
from gradtape.tracer import rng

RNG = np.random.default_rng(0)
X, W = RNG.standard_normal((4, 3)), RNG.standard_normal((3, 2))


def dense_forward(x, w, scale):
    y = np.tanh(x @ w) * scale
    return y, (x, w, y, scale)


def dense_backward(saved, g):
    x, w, y, scale = saved
    d = g * (scale - y * y / scale)
    return d @ np.transpose(w), np.transpose(x) @ d, None


dense = gt.custom_vjp(dense_forward, dense_backward)


def plain(x, w, scale):
    return np.tanh(x @ w) * scale


@gt.custom_vjp
def cube(x):
    return x * x * x, x


@cube.backward
def cube(x, g):
    return 3.0 * x * x * g


def gradient(f, *args):
    return gt.grad(lambda *a: f(*a).sum(), tuple(range(len(args))))(*args)


def message(call, error=gt.RuleError):
    with pytest.raises(error) as caught:
        call()
    return str(caught.value)


# values and gradients ---------------------------------------------------------------------------------------------
def test_eagerly_it_is_forward():
    np.testing.assert_array_equal(dense(X, W, 2.0), plain(X, W, 2.0))
    np.testing.assert_array_equal(cube(X), X * X * X)
    assert cube.__name__ == "cube" and repr(cube) == "<custom_vjp cube>"


def test_first_and_second_derivatives_are_those_of_the_plain_function():
    for f in (dense, plain):
        assert gt.compile(lambda x, w, f=f: f(x, w, 2.0), threads=1)(X, W).shape == (4, 2)
    ours, theirs = (gradient(lambda x, w, f=f: f(x, w, 2.0), X, W) for f in (dense, plain))
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-13)

    def norm(f):
        def inner(x, w):
            gx, gw = gt.grad(lambda x, w: f(x, w, 2.0).sum(), (0, 1))(x, w)
            return (gx**2).sum() + (gw**3).sum()

        return gt.grad(inner, (0, 1))(X, W)

    for a, b in zip(norm(dense), norm(plain), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)


def test_a_third_derivative():
    third = gt.grad(lambda v: gt.grad(lambda v: gt.grad(lambda v: cube(v).sum())(v).sum())(v).sum())
    np.testing.assert_allclose(third(X), np.full(X.shape, 6.0))


def test_several_results_in_a_structure_and_nested_arguments():
    @gt.custom_vjp
    def rule(pair, shift):
        a, b = pair["a"], pair["b"]
        return {"sum": a + b, "rest": (a * b + shift, np.argmax(a))}, (a, b, None, "text")

    @rule.backward
    def rule(saved, g):
        a, b, nothing, text = saved
        assert nothing is None and text == "text" and g["rest"][1] is None  # an index has no cotangent
        return {"a": g["sum"] + g["rest"][0] * b, "b": g["sum"] + g["rest"][0] * a}, g["rest"][0]

    def loss(a, b, c):
        out = rule({"a": a, "b": b}, c)
        return (out["sum"] * 2.0).sum() + (out["rest"][0] ** 2).sum()

    a, b, c = RNG.standard_normal((3, 5))
    found = gt.grad(loss, (0, 1, 2))(a, b, c)
    d = 2 * (a * b + c)
    for got, expected in zip(found, (2 + d * b, 2 + d * a, d), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-13)
    only = gt.grad(lambda a, b, c: rule({"a": a, "b": b}, c)["sum"].sum(), (0, 1))(a, b, c)  # one result is not used
    np.testing.assert_array_equal(only, np.ones((2, 5)))


def test_integers_and_numbers_have_no_gradient():
    @gt.custom_vjp
    def pick(table, ids, times):
        return gt.take(table, ids) * times, (gt.one_hot(ids, 3, dtype="f64"), times)

    @pick.backward
    def pick(saved, g):
        chosen, times = saved
        return np.transpose(chosen) @ g * times, None, None

    table, ids = RNG.standard_normal((3, 2)), np.array([2, 0, 2, 1])
    (found,) = gradient(lambda t: pick(t, ids, 3), table)
    np.testing.assert_array_equal(found, 3.0 * np.array([[1, 1], [1, 1], [2, 2]]))


def test_keywords_and_defaults_bind_as_in_python():
    @gt.custom_vjp
    def scaled(x, by=3.0):
        return x * by, by

    @scaled.backward
    def scaled(by, g):
        return g * by, None

    np.testing.assert_array_equal(gradient(lambda x: scaled(x) + scaled(by=2.0, x=x), X)[0], np.full(X.shape, 5.0))


def test_a_surrogate_is_not_compared():
    binary = gt.custom_vjp(lambda x: (gt.sign(x), x), lambda x, g: g * (abs(x) < 1.0), surrogate=True)
    np.testing.assert_array_equal(gradient(binary, X)[0], np.abs(X) < 1.0)
    assert "surrogate=true" in str(gt.trace(binary, X).graph)


def test_within_a_model_it_trains_compiled_with_symbolic_sizes():
    class Net(gt.Module):
        def __init__(self, f):
            self.w = gt.Parameter(W.astype("f4"))
            self.f = f

        def forward(self, x):
            return self.f(x, self.w, 2.0)

    losses = []
    for f in (dense, plain):
        model = Net(f)
        step = gt.compile(model, loss=gt.mse, optimizer=gt.AdamW(lr=0.1), threads=2)
        runs = []
        for n in (4, 7, 9, 4):
            x = np.random.default_rng(n).standard_normal((n, 3)).astype("f4")
            runs.append(step(x, np.tanh(x[:, :2])))
        losses.append(runs)
    np.testing.assert_allclose(*losses, rtol=1e-6)
    x = X.astype("f4")
    np.testing.assert_allclose(step.forward(x), model.eval()(x), rtol=1e-5)


def test_random_draws_of_forward_are_saved_for_backward():
    @gt.custom_vjp
    def noisy(x):
        keep = gt.uniform(x.shape) < 0.5
        return gt.where(keep, x * 2.0, 0.0), keep

    @noisy.backward
    def noisy(keep, g):
        return gt.where(keep, g * 2.0, 0.0)

    def value_and_slope(x):
        y = noisy(x) + noisy(x)
        return y, gt.grad(lambda x: (noisy(x) + noisy(x)).sum())(x)

    for site in range(20):  # forward is compared with itself at the same draws, wherever these stand
        rng._eager.site = site
        gt.trace(gt.custom_vjp(noisy._forward, noisy._backward), X)
    graph = gt.trace(value_and_slope, X).graph
    sites = [n.attrs["site"] for n in graph.walk() if n.op == "uniform"]
    assert len(set(sites)) == len(sites) == 4  # every use has draws of its own
    y = gt.compile(lambda x: noisy(x), threads=1)(X)
    assert set(np.unique(y / X).round(12)) == {0.0, 2.0}
    gt.manual_seed(0)
    before = gt.uniform(3)
    gt.manual_seed(0)
    gt.trace(gt.custom_vjp(lambda x: (x * gt.uniform(4, 3), gt.uniform(3)), lambda s, g: g, check=False), X)
    np.testing.assert_array_equal(gt.uniform(3), before)


# the graph --------------------------------------------------------------------------------------------------------
def test_it_is_one_node_with_two_regions_and_comes_back_from_text():
    graph = gt.trace(lambda x, w: dense(x, w, 2.0).sum(), X, W).graph
    assert [n.op for n in graph.nodes] == ["custom_vjp", "sum"]
    forward, backward = graph.nodes[0].regions
    assert [n.op for n in forward.nodes] == ["matmul", "tanh", "mul"]
    assert [v.name for v in backward.inputs] == ["saved.0", "saved.1", "saved.2", "g"]
    assert [name for name, _ in backward.outputs] == ["grad.0", "grad.1"]
    assert parse(to_text(graph)) == graph
    verify(graph)
    names = [v.name for n in graph.walk() for v in n.outputs]
    assert len(names) == len(set(names))  # also across regions: a message may speak of %7


def test_expand_inlines_forward_and_differentiate_backward():
    text = """
graph g(%x: f64[3] input) {
  %0: f64[3], %1: f64[3] = custom_vjp(%x) {name="cube", results=1, surrogate=false} {  ; model.py:9 block
    region forward(%x: f64[3] input) {
      %2: f64[3] = mul(%x, %x)  ; model.py:3
      %3: f64[3] = mul(%2, %x)  ; model.py:3
      return out=%3, saved=%2
    }
    region backward(%s: f64[3] input, %g: f64[3] input) {
      %4: f64[3] = mul(%s, 3.0)  ; model.py:6
      %5: f64[3] = mul(%4, %g)  ; model.py:6
      return grad.0=%5
    }
  }
  %6: f64[] = sum(%0) {axes=[0], keepdims=false}  ; model.py:10
  return loss=%6
}"""
    graph = verify(parse(text))
    assert str(simplify(expand(graph))) == """\
graph g(%x: f64[3] input) {
  %0: f64[3] = mul(%x, %x)  ; model.py:3
  %1: f64[3] = mul(%0, %x)  ; model.py:3
  %2: f64[1] = sum(%1) {axes=[0], keepdims=true}  ; model.py:10
  %3: f64[] = reshape(%2) {shape=[]}  ; model.py:10
  return loss=%3
}
"""  # fmt: skip
    both = verify(differentiate(graph, "loss", ["x"]))
    assert [str(n.location) for n in both.nodes if n.op == "mul"] == ["model.py:6 bwd %0"] * 2
    x = np.array([1.0, 2.0, -3.0])
    np.testing.assert_array_equal(evaluate_graph(both, {"x": x})["grad:x"], 3 * x * x)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("return grad.0=%5", "return grad.1=%5", "backward has an output grad.1; it may have grad.0"),
        ("region backward(%s: f64[3] input, ", "region backward(%s: f64[2] input, ", "do not broadcast|backward takes"),
        ("results=1", "results=3", "3 of the 2 outputs"),
        ("mul(%s, 3.0)", "mul(%g, %q)", "%q is not defined"),
        ("mul(%s, 3.0)", "softmix(%s)", "there is no op softmix"),
        (", saved=%3", "", "results|outputs"),
    ],
)
def test_the_verifier_refuses(old, new, says):
    text = str(gt.trace(lambda x: cube(x), X[0]).graph)
    graph = """
graph g(%x: f64[3] input) {
  %0: f64[3], %1: f64[3] = custom_vjp(%x) {name="cube", results=1, surrogate=false} {
    region forward(%x: f64[3] input) {
      %3: f64[3] = mul(%x, %x)
      return out=%3, saved=%3
    }
    region backward(%s: f64[3] input, %g: f64[3] input) {
      %4: f64[3] = mul(%s, 3.0)
      %5: f64[3] = mul(%4, %g)
      return grad.0=%5
    }
  }
  return out=%0
}"""
    assert "custom_vjp" in text and old in graph
    verify(parse(graph))
    with pytest.raises(ValueError, match=says):
        verify(parse(graph.replace(old, new)))


def test_a_node_needs_all_its_regions():
    graph = gt.trace(lambda x: cube(x), X[0]).graph
    text = str(graph)
    start, end = text.index("    region backward"), text.index("  }\n  return")
    with pytest.raises(ValueError, match="it holds 1 regions, not 2: forward, backward"):
        verify(parse(text[:start] + text[end:]))


# wrong rules ------------------------------------------------------------------------------------------------------
def use(rule, *args):
    return gt.trace(lambda *a: rule(*a), *args)  # use


def test_a_wrong_derivative_names_argument_numbers_and_both_lines():
    def wrong(saved, g):
        a, b, _ = dense_backward(saved, g)
        return a, b * 1.001, None

    rule = gt.custom_vjp(dense_forward, wrong)
    text = message(lambda: use(lambda x, w: rule(x, w, 2.0), X, W))
    assert text.startswith("dense_forward: what backward gives for w is not the derivative of forward")
    line = wrong.__code__.co_firstlineno
    assert f"rule  {__file__}:{line} " in text and "wrong" in text and f"at    {__file__}:" in text
    by_rule, by_differences = (float(text.split(word)[1].split()[0]) for word in ("backward     ", "differences  "))
    assert abs(by_rule / by_differences - 1.001) < 1e-5
    assert "surrogate=True" in text
    use(gt.custom_vjp(dense_forward, wrong, check=False), X, W, 2.0)


@pytest.mark.parametrize(
    ("forward", "backward"),
    [
        (lambda x: (np.exp(x), x), lambda x, g: None),  # no gradient where there is one
        (lambda x: (np.exp(x), x), lambda x, g: g),
        (lambda x: (x @ np.transpose(x), x), lambda x, g: g @ x),  # half of it
        (lambda x: ((x * x).sum(), x), lambda x, g: g * x),  # eagerly a NumPy scalar
        (lambda x: (np.log(x), x), lambda x, g: 1.01 * g / x),  # normal draws have no logarithm
        (lambda x: (gt.relu(x), x), lambda x, g: g * (x > 0.5)),
        (lambda x: (x.astype("f4") * 2, x), lambda x, g: g.astype(x.dtype) * 2.1),  # rounds to float32 on its way
    ],
)
def test_wrong_derivatives_are_found(forward, backward):
    assert "is not the derivative" in message(lambda: use(gt.custom_vjp(forward, backward), X))


@pytest.mark.parametrize(
    ("forward", "backward"),
    [
        (lambda x: (np.log(x), x), lambda x, g: g / x),
        (lambda x: (gt.relu(x), x), lambda x, g: g * (x > 0)),
        (lambda x: (np.sqrt(x), x), lambda x, g: 0.5 * g / np.sqrt(x)),
        (lambda x: (np.exp(30.0 * x), x), lambda x, g: 30.0 * g * np.exp(30.0 * x)),
        (lambda x: (1e-6 * np.sin(x) + 1.0, x), lambda x, g: 1e-6 * g * np.cos(x)),
        (lambda x: (gt.sum(x), x.shape), lambda shape, g: gt.broadcast_to(g, shape)),
        (lambda x: (x.astype("f4") * 2, x), lambda x, g: g.astype(x.dtype) * 2),
        (lambda x: (gt.astype(gt.astype(np.tanh(x), "f4"), x.dtype), x), lambda x, g: g * (1 - np.tanh(x) ** 2)),
    ],
)
def test_right_derivatives_pass(forward, backward):
    use(gt.custom_vjp(forward, backward), X)


def test_a_rule_is_compared_once_for_each_kind_of_arguments():
    runs = []

    def forward(x):
        runs.append(x.dtype)
        return np.sin(x), x

    rule = gt.custom_vjp(forward, lambda x, g: g * np.cos(x))
    use(rule, X)
    first = len(runs)
    use(rule, X[:2])
    assert len(runs) == first + 1  # the trace alone
    use(rule, X[0])
    assert len(runs) == 2 * first + 1


def test_what_cannot_be_compared_warns():
    def forward(x):
        if isinstance(x, np.ndarray):
            raise RuntimeError("not here")
        return x * 2.0, None

    rule = gt.custom_vjp(forward, lambda s, g: g * 2.0)
    with pytest.warns(UserWarning, match=r"could not be checked.*RuntimeError: not here"):
        use(rule, X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        use(gt.custom_vjp(forward, lambda s, g: g * 2.0, check=False), X)


def test_examples_serve_where_drawn_arguments_do_not():
    def forward(x):
        if not isinstance(x, gt.Tensor):
            assert np.allclose(x.sum(), 60.0, atol=0.1)
        return x * x, x

    spd = np.full((2, 3), 10.0)
    use(gt.custom_vjp(forward, lambda x, g: 2.0 * x * g), spd)
    assert "not the derivative" in message(lambda: use(gt.custom_vjp(forward, lambda x, g: x * g), spd))
    with pytest.warns(UserWarning, match="could not be checked"):
        use(gt.custom_vjp(forward, lambda x, g: 2.0 * x * g), gt.spec((2, 3), "f64"))


def _two(x, y):
    return x * y.sum(), None


WRONG = {
    "number": (_two, lambda s, g: (g,), "gives 1 gradients for 2 arguments: x, y"),
    "bare": (_two, lambda s, g: g, "gives Tensor for 2 arguments"),
    "shape": (_two, lambda s, g: (g, g), r"gives f64\[4, 3\] as the gradient of y: f64\[2\]"),
    "dtype": (_two, lambda s, g: (g.astype("f4"), None), r"gives f32\[4, 3\] as the gradient of x: f64\[4, 3\]"),
    "number for an array": (_two, lambda s, g: (0.0, None), r"gives f64\[\] as the gradient of x: f64\[4, 3\]"),
    "pair": (lambda x, y: x, lambda s, g: (g, None), r"returns \(out, saved\), not Tensor"),
    "three": (lambda x, y: (x, y, y), lambda s, g: (g, None), r"returns \(out, saved\), not 3 values"),
    "no array": (lambda x, y: (1.0, None), lambda s, g: (g, None), "returns no array"),
    "nested": (_two, lambda s, g: (g, (g, g)), "gives no gradient for y"),
    "random": (_two, lambda s, g: (g * gt.uniform(4, 3), None), "draws random numbers"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_a_rule_must_not_return(name):
    forward, backward, says = WRONG[name]
    with pytest.raises(gt.RuleError, match=says) as error:
        use(gt.custom_vjp(forward, backward, check=False), X, np.ones(2))
    if name != "no array":
        assert f"rule  {__file__}:" in str(error.value)


def test_a_gradient_of_what_has_none():
    rule = gt.custom_vjp(lambda x, i: (x, None), lambda s, g: (g, g), check=False)
    assert "a gradient for i: i64[2], which has none" in message(lambda: use(rule, X, np.array([0, 1])))
    assert "a gradient for i, which is no array" in message(lambda: use(lambda x: rule(x, 3), X))


def test_a_rule_reads_its_arguments_only_and_the_error_says_what_and_where():
    class Net(gt.Module):
        def __init__(self):
            self.w = gt.Parameter(W)
            self.seen = gt.buffer(np.zeros(()))

        def forward(self, x):
            def forward(x):
                return x @ self.w, x  # closes over w

            return gt.custom_vjp(forward, lambda x, g: g @ np.transpose(self.w))(x)

    text = message(lambda: gt.trace(Net(), X), gt.tracer.TraceError)
    assert "the custom_vjp forward reads w: f64[3, 2], which is not one of its arguments" in text
    assert "return x @ self.w, x  # closes over w" in text and "one more argument" in text

    class Writes(Net):
        def forward(self, x):
            def forward(x):
                self.seen = x.mean()
                return x, None

            return gt.custom_vjp(forward, lambda s, g: g)(x)

    text = message(lambda: gt.trace(Writes(), X), gt.tracer.TraceError)
    assert "reads seen: f64[]" in text or "assigns to a buffer" in text

    def outer(x):
        h = x * 2.0
        return gt.custom_vjp(lambda x: (x * h, None), lambda s, g: g)(x)

    text = message(lambda: gt.trace(outer, X), gt.tracer.TraceError)
    assert "reads the result of mul at test_custom_rules.py:" in text and ": f64[4, 3]" in text


def test_a_rule_without_backward():
    rule = gt.custom_vjp(lambda x: (x, None))
    assert "has no backward; write @lambda.backward" in message(lambda: rule(X))
    assert isinstance(gt.custom_vjp(surrogate=True)(lambda x: (x, None)).backward(lambda s, g: g)(X), np.ndarray)


def test_what_left_the_program_inside_a_rule_is_in_the_ledger_of_the_program():
    class Net(gt.Module):
        def __init__(self):
            self.f = gt.custom_vjp(lambda x: (x * float(x.sum()), None), lambda s, g: g, check=False)

        def forward(self, x):
            return self.f(x)

    class Outer(gt.Module):
        def __init__(self):
            self.net = Net()

        def forward(self, x):
            return self.net(x * 1.0)

    traced = gt.trace(Outer(), X)
    (escape,) = traced.ledger.escapes
    assert (escape.kind, escape.scope) == ("float", "net") and escape.result == float(X.sum())
    assert [r.how for r in traced.ledger.reentries] == ["source"]
