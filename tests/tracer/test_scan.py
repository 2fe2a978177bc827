"""gt.scan on arrays and in traced programs: one meaning, and what it refuses."""

import re

import numpy as np
import pytest

import gradtape as gt
from gradtape.ir.interp import evaluate_graph
from gradtape.ir.text import parse, to_text
from gradtape.ir.verify import verify
from gradtape.tracer import TraceError

RNG = np.random.default_rng(0)
W = RNG.standard_normal((3, 3))
XS = RNG.standard_normal((5, 2, 3))
H = RNG.standard_normal((2, 3))
HERE = __file__


@pytest.fixture(autouse=True)
def seeded():
    gt.manual_seed(3)
    yield
    gt.manual_seed(0)


def evaluated(f, *args, **options):
    """The leaves of what `f` returns, by the interpreter; the graph is well-formed and survives the text form."""
    traced = gt.trace(f, *args, **options)
    graph = verify(traced.graph)
    assert parse(to_text(graph), graph.constants) == graph
    return list(evaluate_graph(graph, traced.bind(*args, seed=3, step=0)).values())


def flat(result):
    if isinstance(result, dict):
        result = list(result.values())
    return [x for r in result for x in flat(r)] if isinstance(result, (tuple, list)) else [np.asarray(result)]


def agree(f, *args):
    expected = flat(f(*args))
    gt.manual_seed(3)
    found = evaluated(f, *args)
    assert len(found) == len(expected) > 0
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-12)


# meaning ----------------------------------------------------------------------------------------------------------
def test_it_is_the_loop_that_it_says():
    def step(h, x):
        h = np.tanh(h @ W + x)
        return h, h * 2

    last, ys = gt.scan(step, H, XS)
    h = H
    for t, x in enumerate(XS):
        h = np.tanh(h @ W + x)
        np.testing.assert_array_equal(ys[t], h * 2)
    np.testing.assert_array_equal(last, h)


@pytest.mark.parametrize("reverse", [False, True])
def test_traced_is_eager(reverse):
    agree(lambda w, h, xs: gt.scan(lambda h, x: (np.tanh(h @ w + x), h), h, xs, reverse=reverse), W, H, XS)


def test_reverse_keeps_the_places_of_the_results():
    last, ys = gt.scan(lambda c, x: (c + x, c), 0.0, np.arange(4.0), reverse=True)
    assert last == 6 and ys.tolist() == [6, 5, 3, 0]


def test_carries_xs_and_ys_may_be_nested():
    def f(h, xs):
        def step(carry, x):
            (a, [b]), n = carry["state"], carry["n"]
            a = a + x["up"] * b
            return {"state": (a, [b * 0.9]), "n": n + 1}, (a, {"n": n, "down": x["down"]})

        return gt.scan(step, {"state": (h, [h]), "n": 0}, {"up": xs, "down": xs[:, 0]})

    agree(f, H, XS)
    _, ys = f(H, XS)
    assert ys[1]["n"].tolist() == [0, 1, 2, 3, 4] and ys[1]["down"].shape == (5, 3)


def test_results_may_be_none_and_xs_may_be_missing():
    def power(x):
        return gt.scan(lambda c, _: (c * x, None), 1.0, length=4)

    assert power(np.float64(3.0)) == (81.0, None)
    agree(lambda x: power(x)[0], np.float64(1.5))


def test_a_number_as_the_first_carry_takes_the_dtype_of_the_next():
    last, _ = gt.scan(lambda c, x: (c + x, None), 0, np.array([0.5, 0.25]))
    assert last.dtype == np.float64 and last == 0.75
    agree(lambda x: gt.scan(lambda c, x: (c + x, c), 0, x)[0], np.array([0.5, 0.25]))


@pytest.mark.parametrize("count", [0, 1])
def test_no_round_and_one_round(count):
    def f(h, xs):
        return gt.scan(lambda h, x: (h + x, {"h": h, "n": x.sum(-1)}), h, xs)

    _, ys = f(H, XS[:count])
    assert ys["h"].shape == (count, 2, 3) and ys["n"].shape == (count, 2)
    agree(f, H, XS[:count])


def test_the_body_reads_parameters_and_values_around_it_under_their_names():
    class Model(gt.Module):
        def __init__(self):
            self.cell = gt.nn.Linear(3, 3, dtype="float64")

        def forward(self, xs):
            scale = xs.mean()

            def step(h, x):
                h = gt.tanh(self.cell(h) + x * scale)
                return h, h

            return gt.scan(step, H, xs)[1]

    model = Model()
    traced = gt.trace(model, XS)
    (node,) = [n for n in traced.graph.nodes if n.op == "scan"]
    (body,) = node.regions
    assert [v.name for v in body.inputs] == ["cell.weight", "cell.bias", "closure.2", "carry", "x"]
    inside = {n.location.scope for n in body.nodes}
    assert inside == {"", "cell"} and {n.op for n in body.nodes if n.location.scope == "cell"} >= {"matmul", "permute"}
    assert node.location.file == HERE and all(n.location.line for n in body.nodes)
    agree(model, XS)


def test_scans_nest():
    def f(w, h, xs):
        def outer(h, x):
            return gt.scan(lambda k, y: (gt.tanh(k @ w + x * y), k.sum()), h, np.arange(3.0))

        return gt.scan(outer, h, xs)

    agree(f, W, H, XS)


def test_a_trace_runs_the_body_once():
    calls = []

    def step(h, x):
        calls.append(1)
        return h + x, h

    gt.trace(lambda xs: gt.scan(step, H, xs), XS)
    assert len(calls) == 1


# random numbers -----------------------------------------------------------------------------------------------------
def noise(h, xs):
    def step(h, x):
        u, v = gt.uniform(2, 3), gt.uniform(2, 3)
        return h + gt.dropout(x, 0.5), (u, v)

    return gt.scan(step, h, xs)


def test_every_round_draws_numbers_of_its_own_and_eager_draws_the_same():
    agree(noise, H, XS)
    _, (u, v) = noise(H, XS)
    assert len({x.tobytes() for x in (*u, *v)}) == 10


def test_draws_of_nested_loops_differ():
    def f(xs):
        inner = lambda _, y: (0.0, gt.uniform(2))
        return gt.scan(lambda c, x: (c, gt.scan(inner, 0.0, length=3)[1]), 0.0, xs)[1]

    agree(f, XS)
    draws = f(XS).reshape(15, 2)
    assert len({x.tobytes() for x in draws}) == 15


def test_draws_around_a_loop_have_sites_of_their_own():
    def f(xs):
        before = gt.uniform(4)
        _, inside = gt.scan(lambda c, x: (c, gt.uniform(4)), 0.0, xs)
        return before, inside, gt.uniform(4)

    agree(f, XS)
    before, inside, after = f(XS)
    assert len({x.tobytes() for x in (before, *inside, after)}) == 7


# symbolic sizes -------------------------------------------------------------------------------------------------------
def test_the_number_of_rounds_may_be_symbolic():
    traced = gt.trace(
        lambda h, xs: gt.scan(lambda h, x: (h + x, h * x), h, xs), gt.spec(("B", 3)), gt.spec(("T", "B", 3))
    )
    assert traced.graph.guards == ()
    for rounds in (1, 4):
        xs = RNG.standard_normal((rounds, 2, 3)).astype(np.float32)
        found = evaluate_graph(traced.graph, {"h": H.astype(np.float32), "xs": xs})
        np.testing.assert_allclose(found["out.0"], H + xs.sum(0), rtol=1e-6)
        assert found["out.1"].shape == (rounds, 2, 3)


# derivatives --------------------------------------------------------------------------------------------------------
def test_gradients_of_gradients_by_grad():
    def f(w):
        return (gt.scan(lambda h, x: (gt.tanh(h * w + x), h), np.ones(2), XS[:, 0, :2])[0] ** 2).sum()

    w, u, h = np.array([0.7, -0.4]), np.array([0.3, 1.0]), 1e-4
    first = gt.grad(f)
    np.testing.assert_allclose((first(w) * u).sum(), (f(w + h * u) - f(w - h * u)) / (2 * h), rtol=1e-6)
    second = gt.grad(lambda w: (gt.grad(f)(w) * u).sum())
    np.testing.assert_allclose(second(w), (first(w + h * u) - first(w - h * u)) / (2 * h), rtol=1e-6)


def test_a_gradient_may_be_taken_inside_of_a_loop():
    """Descent on a quadratic: each round takes the gradient of a loss, which has a loop of its own."""

    def loss(w):
        total, _ = gt.scan(lambda s, x: (s + ((w - x) ** 2).sum(), None), 0.0, XS[:, 0])
        return total

    def f(w):
        return gt.scan(lambda w, _: (w - 0.05 * gt.grad(loss)(w), None), w, length=40)[0]

    found = evaluated(f, np.zeros(3))[0]
    np.testing.assert_allclose(found, XS[:, 0].mean(0), rtol=1e-3)


# what is refused --------------------------------------------------------------------------------------------------
def both_ways(f, *args, match, error=TypeError):
    """`f` fails alike on arrays and while it is traced; the texts."""
    texts = []
    for run in (f, lambda *a: gt.trace(f, *a)):
        with pytest.raises(error, match=match) as found:
            run(*args)
        texts.append(str(found.value))
    return texts


def test_a_carry_that_changes_its_type_is_named_with_both_types_and_the_line():
    def step(carry, x):
        h, n = carry
        return (h[:1], n), h  # a smaller one

    eager, traced = both_ways(
        lambda h, xs: gt.scan(step, (h, 0), xs),
        H,
        XS,
        match=r"carry\.0 is f64\[2, 3\] at first, and f64\[1, 3\] after step",
    )
    line = step.__code__.co_firstlineno
    assert f"{HERE}:{line}" in eager and f"{HERE}:{line + 2}" in traced
    assert "write an init of the type that f returns" in traced
    both_ways(
        lambda h, xs: gt.scan(lambda h, x: (h.astype(np.float32), None), h, xs),
        H,
        XS,
        match=r"carry is f64\[2, 3\] at first, and f32\[2, 3\] after lambda",
    )


def test_a_carry_of_another_structure_is_refused():
    both_ways(
        lambda h, xs: gt.scan(lambda c, x: ([c[0]], None), (h,), xs),
        H,
        XS,
        match=re.escape("lambda gets the carry (carry.0,) and returns [carry.0]"),
    )


@pytest.mark.parametrize(
    ("result", "what"), [(lambda h: h, ""), (lambda h: (h, h, h), "a tuple of 3"), (lambda h: None, "NoneType")]
)
def test_a_body_must_return_a_pair(result, what):
    def step(h, x):
        return result(h)

    eager, _ = both_ways(lambda h, xs: gt.scan(step, h, xs), H, XS, match=rf"step must return \(carry, y\).*{what}")
    assert f"{HERE}:{step.__code__.co_firstlineno}" in eager


def test_xs_of_different_lengths_are_refused():
    f = lambda a, b: gt.scan(lambda c, x: (c, None), 0.0, {"a": a, "b": b})
    both_ways(f, XS, XS[:4], match=r"x\.a: f64\[5, 2, 3\] has 5 rounds, x\.b: f64\[4, 2, 3\] has 4")
    both_ways(lambda a: gt.scan(lambda c, x: (c, None), 0.0, a, length=3), XS, match="5 rounds, length=3 has 3")
    both_ways(lambda a: gt.scan(lambda c, x: (c, None), a), XS, match="give xs, or length=")
    both_ways(lambda a: gt.scan(lambda c, x: (c, None), 0.0, (a, 1.0)), XS, match=r"x\.1 has no axis to go along")


def test_a_value_that_differs_from_round_to_round_has_no_number():
    def step(h, x):
        if h.sum() > 0:
            h = h + x
        return h, None

    with pytest.raises(TraceError, match=r"in step it differs from\s+round to round.*") as error:
        gt.trace(lambda h, xs: gt.scan(step, h, xs), H, XS)
    assert f"{HERE}:{step.__code__.co_firstlineno + 1}" in str(error.value) and "gt.where" in str(error.value)


def test_a_buffer_is_not_assigned_inside():
    class Counting(gt.Module):
        def __init__(self):
            self.seen = gt.buffer(np.zeros(()))

        def forward(self, xs):
            def step(c, x):
                self.seen = self.seen + 1.0
                return c, x

            return gt.scan(step, 0.0, xs)[1]

    with pytest.raises(TraceError, match="a buffer cannot be assigned inside of step"):
        gt.trace(Counting(), XS)


def test_a_value_of_the_body_does_not_leave_it():
    kept = []

    def step(h, x):
        kept.append(x)
        return h, None

    def f(h, xs):
        gt.scan(step, h, xs)
        return h + kept[0]

    with pytest.raises(gt.tracer.LeakedTensor):
        gt.trace(f, H, XS)
