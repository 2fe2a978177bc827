"""Attention: found in every spelling, right in values and gradients, and linear in memory."""

import numpy as np
import pytest

import gradtape as gt
from causal_masks import INF, masks
from gradtape.passes.attention import LONG, find_attention
from gradtape.passes.autodiff import differentiate
from gradtape.passes.lower import lower
from gradtape.runtime import bind
from tapes import Batch, expanded, interpreted, sharing_everything, split_values

SPECS = [gt.spec(("B", 2, LONG, 4), "f32")] * 3


def found(fn, *specs):
    """The attributes of the attentions that are found."""
    graph = find_attention(gt.trace(fn, *(specs or SPECS)).graph)
    return [dict(n.attrs) for n in graph.nodes if n.op == "attention"]


def plain(q, k, v, scale=lambda s: s * 0.5, mask=lambda s: s):
    return gt.softmax(mask(scale(q @ gt.swapaxes(k, -1, -2))), -1) @ v


@pytest.mark.parametrize(
    ("scale", "said"),
    [
        (lambda s: s * 0.5, 0.5),
        (lambda s: 0.25 * s, 0.25),
        (lambda s: s / 2, 0.5),
        (lambda s: s, 1.0),
        (np.negative, None),
    ],
)
def test_every_spelling_of_the_scale(scale, said):
    wanted = [] if said is None else [{"scale": said, "causal": False}]
    assert found(lambda q, k, v: plain(q, k, v, scale)) == wanted


@pytest.mark.parametrize("spelling", list(masks(2)))
@pytest.mark.parametrize("hidden", [-INF, -1e9, float(np.finfo(np.float32).min)])
def test_every_spelling_of_the_causal_mask(spelling, hidden):
    def fn(q, k, v):
        keep = masks(LONG)[spelling]
        return plain(q, k, v, mask=lambda s: gt.where(keep, s, hidden))

    def turned(q, k, v):
        keep = masks(LONG)[spelling]
        return plain(q, k, v, mask=lambda s: gt.where(gt.logical_not(keep), hidden, s))

    assert found(fn) == found(turned) == [{"scale": 0.5, "causal": True}]


def test_masks_that_are_added_and_the_functions_that_ship():
    def added(q, k, v):
        return plain(q, k, v, mask=lambda s: s + gt.triu(gt.full((LONG, LONG), -INF), 1))

    causal = [{"scale": 0.5, "causal": True}]
    assert found(added) == causal
    assert found(lambda q, k, v: gt.scaled_dot_product_attention(q, k, v, is_causal=True)) == causal
    assert found(gt.scaled_dot_product_attention) == [{"scale": 0.5, "causal": False}]


def test_symbolic_lengths_go_by_the_trace():
    def fn(q, k, v):
        return gt.scaled_dot_product_attention(q, k, v, is_causal=True)

    def traced(length):
        x = np.zeros((3, 2, length, 4), np.float32)
        dims = {name: {2: gt.Dim("T")} for name in ("q", "k", "v")}
        return find_attention(gt.trace(fn, x, x, x, dims=dims).graph)

    assert any(n.op == "attention" for n in traced(200).nodes)
    assert not any(n.op == "attention" for n in traced(20).nodes)


def test_what_is_not_found():
    """Short sequences, other masks, and what somebody else reads."""

    def probabilities(q, k, v):
        p = gt.softmax(q @ gt.swapaxes(k, -1, -2), -1)
        return p @ v, p

    def of_another_axis(q, k, v):
        return gt.softmax(q @ gt.swapaxes(k, -1, -2), -2) @ v

    def by_a_tensor(q, k, v):
        return plain(q, k, v, scale=lambda s: s * gt.sum(v))

    def masked(mask):
        return lambda q, k, v: plain(q, k, v, mask=mask)

    def weakly(s):
        i = gt.arange(LONG)
        return gt.where(i[:, None] >= i, s, -5.0)

    def future(s):
        i = gt.arange(LONG)
        return gt.where(i[:, None] <= i, s, -INF)

    padding = np.arange(LONG) < LONG - 3
    for fn in (
        probabilities, of_another_axis, by_a_tensor, masked(weakly), masked(future),
        masked(lambda s: gt.where(padding, s, -INF)), lambda q, k, v: plain(q, k, v, mask=lambda s: gt.dropout(s, 0.1)),
    ):  # fmt: skip
        assert found(fn) == []
    assert found(plain, *[gt.spec((2, LONG - 1, 4), "f32")] * 3) == []
    shared_keys = gt.spec((1, LONG, 4), "f32")
    assert found(plain, gt.spec((3, LONG, 4), "f32"), shared_keys, shared_keys) == []


# numbers ------------------------------------------------------------------------------------------------------------
# (shape of the queries, of the keys, of the values): heads in an activation, one batch axis, none, three
SHAPES = {
    "heads": [(2, 130, 3, 8)] * 3,
    "cross": [(2, 40, 8), (2, 100, 8), (2, 100, 20)],
    "flat": [(97, 33), (97, 33), (97, 5)],
    "deep": [(2, 2, 3, 96, 4)] * 3,
}


def loss(kind):
    def fn(q, k, v, g):
        if kind == "heads":
            q, k, v = (gt.permute(x, 0, 2, 1, 3) for x in (q, k, v))
        out = gt.scaled_dot_product_attention(q, k, v, is_causal=kind != "cross")
        return gt.sum((gt.permute(out, 0, 2, 1, 3) if kind == "heads" else out) * g)

    return fn


@pytest.fixture(scope="module")
def programs():
    batch, made = Batch(), {}
    for kind, (q, k, v) in SHAPES.items():
        for dtype in ("f32", "f64"):
            out = (*q[:-1], v[-1])
            graph = gt.trace(loss(kind), *(gt.spec(s, dtype) for s in (q, k, v, out))).graph
            graph = graph.replace(outputs=(("loss", graph.outputs[0][1]),))
            before = differentiate(graph, "loss", [i.name for i in graph.inputs[:3]])
            after = differentiate(find_attention(graph), "loss", [i.name for i in graph.inputs[:3]])
            made[kind, dtype] = before, batch.add(lower(expanded(after)))
    batch.compile()
    return made, batch


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("kind", list(SHAPES))
def test_values_and_gradients_are_those_of_the_interpreter(programs, kind, dtype, threads):
    made, batch = programs
    before, tape = made[kind, dtype]
    assert [i.kernel for i in tape.instructions() if "attention" in i.kernel] == [
        f"attention_{dtype}", f"attention_grad_{dtype}"
    ]  # fmt: skip
    rng = np.random.default_rng(0)
    shapes = {i.name: tuple(i.type.shape) for i in before.inputs}
    values = {n: rng.standard_normal(s).astype({"f32": "f4", "f64": "f8"}[dtype]) for n, s in shapes.items()}
    expected, _ = interpreted(before, values)
    with sharing_everything():
        inputs, store = split_values(before, values)
        got = batch.program(tape, store, threads).run(inputs)
    for name, value in expected.items():
        atol = (2e-5 if dtype == "f32" else 1e-12) * max(1.0, float(np.abs(value).max()))
        np.testing.assert_allclose(got[name], value, rtol=0, atol=atol, err_msg=name)


def test_memory_grows_with_the_length_and_not_with_its_square():
    def arena(length):
        shape = gt.spec((1, 8, length, 16), "f32")
        graph = gt.trace(loss("deep"), shape, shape, shape, shape).graph
        graph = graph.replace(outputs=(("loss", graph.outputs[0][1]),))
        tape = lower(expanded(differentiate(find_attention(graph), "loss", [i.name for i in graph.inputs[:3]])))
        return bind.plan(tape, {}, 2).arena_bytes

    assert arena(2048) < 2.1 * arena(1024)
    assert arena(2048) < 8 * 2048 * 2048 * 4 / 4  # a quarter of one matrix of probabilities
