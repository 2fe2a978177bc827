"""gt.checkpoint: the same numbers, computed a second time in backward, in less memory."""

import numpy as np
import pytest

import gradtape as gt
from gradtape.ir.interp import evaluate_graph
from gradtape.ir.text import parse, to_text
from gradtape.ir.verify import verify
from gradtape.passes.autodiff import differentiate
from gradtape.passes.lower import lower
from gradtape.passes.rewrite import expand, without_checkpoints
from gradtape.passes.simplify import simplify

X = np.random.default_rng(0).standard_normal((6, 5))


class Block(gt.Module):
    def __init__(self, n, dropout=0.0, dtype="f4"):
        rng = np.random.default_rng(n)
        self.up = gt.Parameter((rng.standard_normal((n, 4 * n)) * 0.2).astype(dtype))
        self.down = gt.Parameter((rng.standard_normal((4 * n, n)) * 0.2).astype(dtype))
        self.seen = gt.buffer(np.zeros((), dtype))
        self.p = dropout

    def forward(self, x):
        h = gt.gelu(x @ self.up)
        if self.training:
            self.seen = 0.5 * self.seen + h.mean()
        return x + gt.dropout(h @ self.down, self.p, self.training)


class Net(gt.Module):
    def __init__(self, wrap, n=5, depth=3, dropout=0.0, dtype="f4"):
        self.blocks = [Block(n, dropout, dtype) for _ in range(depth)]
        self.wrap = wrap

    def forward(self, x):
        for block in self.blocks:
            x = self.wrap(block, x)
        return x


def directly(block, x):
    return block(x)


def as_wrapper(block, x):
    return gt.checkpoint(block)(x)


def reentrant(block, x):
    return gt.checkpoint(lambda x: block(x), x, use_reentrant=False)


def nested(block, x):
    return gt.checkpoint(lambda x: gt.checkpoint(block, x * 1.5) + x, x)


def nested_directly(block, x):
    return block(x * 1.5) + x


# numbers ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("wrap", "plain"),
    [(gt.checkpoint, directly), (as_wrapper, directly), (reentrant, directly), (nested, nested_directly)],
)
def test_values_gradients_and_buffers_are_those_without(wrap, plain):
    found = []
    for how in (wrap, plain):
        gt.manual_seed(3)
        model = Net(how, dropout=0.3, dtype="f8")
        step = gt.compile(model, loss=gt.mse, threads=1)
        value, grads = step.value_and_grad(X, X)  # the dropout masks are drawn again: equal only if they are the same
        found.append((value, grads, model.blocks[1].seen.array.copy(), step.forward(X)))
    (v, g, s, e), (v2, g2, s2, e2) = found
    np.testing.assert_allclose(v, v2, rtol=1e-14)
    assert g.keys() == g2.keys() and len(g) == 6
    for name in g:
        np.testing.assert_allclose(g[name], g2[name], rtol=1e-12, atol=1e-14, err_msg=name)
    np.testing.assert_allclose(s, s2, rtol=1e-13)
    np.testing.assert_allclose(e, e2, rtol=1e-13)
    assert s != 0


def test_training_is_the_same_with_symbolic_sizes_and_threads():
    losses = []
    for wrap in (gt.checkpoint, directly):
        gt.manual_seed(0)
        step = gt.compile(Net(wrap, dropout=0.1), loss=gt.mse, optimizer=gt.AdamW(lr=0.01), threads=2)
        runs = [step(*[np.random.default_rng(n).standard_normal((n, 5)).astype("f4")] * 2) for n in (6, 9, 40, 6)]
        losses.append(runs)
    np.testing.assert_allclose(*losses, rtol=1e-5)


def test_eagerly_it_calls_the_function():
    model = Net(gt.checkpoint).eval()
    np.testing.assert_array_equal(model(X.astype("f4")), Net(directly).eval()(X.astype("f4")))


def test_second_derivatives():
    def hessian(wrap):
        def f(x):
            return wrap(lambda x: np.sin(x) * x, x * x).sum()

        return gt.grad(lambda x: (gt.grad(f)(x) ** 2).sum())(X)

    np.testing.assert_allclose(hessian(gt.checkpoint), hessian(directly_called), rtol=1e-12, atol=1e-12)


def directly_called(f, *args, **named):
    return f(*args, **named)


def test_structures_static_arguments_and_several_results():
    def f(pair, n, key=None, *, flag, bias):
        assert n == 3 and key == "k" and flag is True
        return {"sum": pair[0] + bias, "rest": [pair[1] * n, "text", pair[0]]}

    def loss(wrap):
        def inner(a, b, c):
            out = wrap(f, (a, b), 3, "k", flag=True, bias=c)
            assert out["rest"][1] == "text"
            return (out["sum"] * out["rest"][0]).sum() + (out["rest"][2] ** 2).sum()

        return gt.grad(inner, (0, 1, 2))(X, X + 1, X[0])

    for a, b in zip(loss(gt.checkpoint), loss(directly_called), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-13)


def test_as_a_decorator_it_keeps_the_name():
    @gt.checkpoint
    def block(x):
        """Two."""
        return np.tanh(x) * 2.0

    assert block.__name__ == "block" and block.__doc__ == "Two."
    np.testing.assert_allclose(gt.grad(lambda x: block(x).sum())(X), 2 / np.cosh(X) ** 2)


# the graph ----------------------------------------------------------------------------------------------------------
TEXT = """
graph g(%x: f32[8, 8] input, %w: f32[8, 8] param) {
  %0: f32[8, 8] = checkpoint(%x, %w) {  ; model.py:9 block
    region body(%x: f32[8, 8] input, %w: f32[8, 8] input) {
      %0: f32[8, 8] = matmul(%x, %w)  ; model.py:3 block
      %1: f32[8, 8] = tanh(%0)  ; model.py:4 block
      %2: f32[8, 8] = matmul(%1, %w)  ; model.py:5 block
      return out=%2
    }
  }
  %1: f32[] = sum(%0) {axes=[0, 1], keepdims=false}  ; model.py:10
  return loss=%1
}"""


def ops(graph):
    return [n.op for n in graph.nodes]


def test_expand_inlines_the_region():
    graph = simplify(expand(verify(parse(TEXT))))
    assert ops(graph) == ["matmul", "tanh", "matmul", "sum", "reshape"]
    assert [str(n.location) for n in graph.nodes][:3] == [f"model.py:{n} block" for n in (3, 4, 5)]


def test_backward_computes_again_behind_a_barrier_and_nothing_merges_the_two():
    graph = verify(differentiate(parse(TEXT), "loss", ["w"]))
    assert parse(to_text(graph)) == graph
    small = verify(simplify(expand(simplify(graph))))
    assert ops(small).count("tanh") == 2 and ops(small).count("barrier") == 2
    again = [n for n in small.nodes if n.op in ("matmul", "tanh") and n.location and n.location.of]
    assert [str(n.location) for n in again[:2]] == ["model.py:3 block bwd %0", "model.py:4 block bwd %0"]
    barriers = [n for n in small.nodes if n.op == "barrier"]
    assert all(n.inputs[1] in small.producers() for n in barriers)  # it waits for the cotangent
    rng = np.random.default_rng(0)
    values = {"x": rng.standard_normal((8, 8)).astype("f4"), "w": rng.standard_normal((8, 8)).astype("f4")}
    plain = differentiate(expand(parse(TEXT)), "loss", ["w"])
    np.testing.assert_allclose(
        evaluate_graph(small, values)["grad:w"], evaluate_graph(plain, values)["grad:w"], rtol=1e-5, atol=1e-5
    )


def test_without_checkpoints_values_keep_their_names():
    def f(x, w):
        h = gt.checkpoint(lambda x: gt.checkpoint(np.tanh, x @ w) * 2.0, x)
        return h.sum()

    graph = gt.trace(f, X, np.ones((5, 4))).graph
    flat = verify(without_checkpoints(graph))
    assert [n.op for n in flat.nodes] == ["matmul", "tanh", "mul", "sum"]
    inside = {v.name: n.op for n in graph.walk() for v in n.outputs}
    assert all(inside[n.output.name] == n.op for n in flat.nodes)
    values = {"x": X, "w": np.ones((5, 4))}
    assert evaluate_graph(flat, values) == evaluate_graph(graph, values)
    plain = parse(TEXT.replace("checkpoint(%x, %w) {", "nothing(%x, %w) {"))
    assert without_checkpoints(plain) is plain


def test_a_barrier_is_no_instruction():
    graph = parse("""
graph g(%x: f32[4] input, %y: f32[4] input) {
  %0: f32[4] = exp(%y)
  %1: f32[4] = barrier(%x, %0)
  %2: f32[4] = tanh(%1)
  %3: f32[4] = tanh(%x)
  return a=%2, b=%3, c=%0
}""")
    labels = [i.label for i in lower(verify(graph)).instructions()]
    assert sorted(labels) == ["exp", "tanh", "tanh"] or sorted(labels) == ["exp tanh", "tanh"]
    assert labels.index("tanh") > 0  # and the tanh behind it comes after the exp


def test_memory_falls():
    def planned(wrap, depth):
        step = gt.compile(Net(wrap, n=32, depth=depth), loss=gt.mse, optimizer=gt.SGD(lr=0.1), threads=1)
        x = np.ones((512, 32), "f4")
        step(x, x)
        return step.memory().arena

    kept = {depth: planned(directly, depth) for depth in (2, 8)}
    less = {depth: planned(gt.checkpoint, depth) for depth in (2, 8)}
    hidden = 512 * 4 * 32 * 4  # bytes of one block's widest activation
    assert kept[8] - kept[2] > 6 * hidden  # six blocks more keep at least one each
    assert less[8] - less[2] < 0.5 * (kept[8] - kept[2])
    assert less[8] < 0.4 * kept[8]


# errors -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda x: gt.checkpoint(lambda x: None, x), "returns no array"),
        (lambda x: gt.checkpoint(lambda x: x @ np.ones((3, 2)), x), "inner sizes differ"),
        (lambda x: gt.checkpoint(3), "takes a function or a Module, not int"),
    ],
)
def test_errors(call, says):
    with pytest.raises(TypeError, match=says):
        gt.trace(call, X)


def test_scopes_and_escapes_inside_are_those_of_the_program():
    class Reads(Net):
        def forward(self, x):
            x = gt.checkpoint(self.blocks[0], x)
            return gt.checkpoint(lambda x: x * float(x.sum()), x)

    model = Reads(directly, dtype="f8")
    traced = gt.trace(model, X)
    scopes = {n.location.scope for n in traced.graph.walk() if n.location}
    assert "blocks.0" in scopes
    region = traced.graph.nodes[0].regions[0]
    assert [v.name for v in region.inputs] == ["x", "blocks.0.up", "blocks.0.seen", "blocks.0.down"]
    assert [name for name, _ in traced.graph.updates] == ["blocks.0.seen"]
    assert [e.kind for e in traced.ledger.escapes] == ["float"]
