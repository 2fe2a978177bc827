"""Masks that cut matrices at the diagonal: what is found, in any spelling, and that nothing but work is lost by it."""

import numpy as np
import pytest

import gradtape as gt
from causal_masks import INF, masks
from gradtape.passes.lower import lower
from gradtape.passes.triangle import triangles
from tapes import Batch, expanded, interpreted, poison, run_plainly, sharing_everything, split_values


def attention(q, k, v, mask):
    scores = q @ gt.swapaxes(k, -1, -2) * 0.5
    return gt.softmax(gt.where(mask, scores, -INF), axis=-1) @ v


def halves(fn, *specs):
    graph = expanded(gt.trace(fn, *specs).graph)
    found = triangles(graph)
    return [found.product(n) for n in graph.nodes if n.op == "matmul"]


SPECS = [gt.spec(("B", 2, "T", 4), "f32")] * 3


@pytest.mark.parametrize("spelling", list(masks(2)))
def test_every_spelling_of_a_causal_mask_is_seen(spelling):
    assert halves(lambda q, k, v: attention(q, k, v, masks(q.shape[-2])[spelling]), *SPECS) == ["out_lower", "x_lower"]


def test_a_mask_that_is_a_constant_array_is_seen():
    mask = np.tril(np.ones((6, 6), bool))
    assert halves(lambda q, k, v: attention(q, k, v, mask), *[gt.spec((6, 4), "f32")] * 3) == ["out_lower", "x_lower"]


def test_added_masks_are_seen():
    def fn(q, k, v):
        i = gt.arange(q.shape[-2])
        bias = gt.where(i[:, None] >= i, 0.0, -INF)
        return gt.softmax(q @ gt.swapaxes(k, -1, -2) + bias) @ v

    assert halves(fn, *SPECS) == ["out_lower", "x_lower"]


def test_the_future_only_is_the_upper_half():
    def fn(q, k, v):
        i = gt.arange(q.shape[-2])
        return attention(q, k, v, i[:, None] <= i)

    assert halves(fn, *SPECS) == ["out_upper", "x_upper"]


@pytest.mark.parametrize(
    "mask",
    [
        lambda i: i[:, None] + 1 >= i,  # one step into the future
        lambda i: i[:, None] * 2 >= i,
        lambda i: i[:, None] + i >= 3,
        lambda i: (i[:, None] >= 0) & (i >= 0),
        lambda i: i[:, None] % 2 == i % 2,
    ],
)
def test_other_masks_are_left_alone(mask):
    assert halves(lambda q, k, v: attention(q, k, v, mask(gt.arange(q.shape[-2]))), *SPECS) == ["", ""]


def test_a_finite_mask_is_no_zero():
    """exp(-1e9 - max) is 0 only where the scores are smaller than 1e9, which nobody promises."""

    def fn(q, k, v):
        i = gt.arange(q.shape[-2])
        return gt.softmax(gt.where(i[:, None] >= i, q @ gt.swapaxes(k, -1, -2), -1e9)) @ v

    assert halves(fn, *SPECS) == ["out_lower", ""]


def test_a_result_that_is_also_returned_is_computed_in_full():
    def fn(q, k, v):
        scores = q @ gt.swapaxes(k, -1, -2)
        i = gt.arange(q.shape[-2])
        return scores, gt.softmax(gt.where(i[:, None] >= i, scores, -INF)) @ v

    assert halves(fn, *SPECS) == ["", "x_lower"]


def gradients(strictness):
    def fn(q, k, v, g):
        i = gt.arange(q.shape[-2])
        mask = {"past": i[:, None] >= i, "future": i[:, None] <= i}[strictness]
        return gt.value_and_grad(lambda q, k, v: gt.sum(attention(q, k, v, mask) * g), (0, 1, 2))(q, k, v)

    return fn


@pytest.fixture(scope="module", params=["past", "future"])
def compiled(request):
    graph = expanded(gt.trace(gradients(request.param), *SPECS, SPECS[0]).graph)
    tape = lower(graph)
    batch = Batch()
    batch.add(tape)
    batch.compile()
    return graph, tape, batch


def values_of(graph, size, length):
    rng = np.random.default_rng(length)
    return {v.name: rng.standard_normal((size, 2, length, 4)).astype("f4") for v in graph.inputs}


def test_all_six_products_of_attention_are_halved(compiled):
    _, tape, _ = compiled
    products = [i for i in tape.instructions() if "gemm" in i.kernel]
    assert len(products) == 6 and all(i.params[0] for i in products)
    assert any(p.diagonal >= 0 for p in tape.rows.values()) == ("lower" in products[0].label)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("length", [1, 5, 33, 64, 130])
def test_halved_attention_equals_the_interpreter(compiled, length, threads):
    graph, tape, batch = compiled
    values = values_of(graph, 2, length)
    expected, _ = interpreted(graph, values)
    with sharing_everything():
        program = batch.program(tape, {}, threads)
        bound = program.bind(values)
        bound.ready(program)
        poison(program.arena.memory)  # NaN wherever nobody writes
        actual = program.run(values)
    for name, array in expected.items():
        np.testing.assert_allclose(actual[name], array, rtol=2e-5, atol=2e-5, err_msg=name)


def test_no_kernel_leaves_its_memory(compiled):
    graph, tape, _ = compiled
    values = values_of(graph, 1, 5)
    expected, _ = interpreted(graph, values)
    inputs, store = split_values(graph, values)
    actual = run_plainly(tape, inputs, store, threads=2)
    for name, array in expected.items():
        np.testing.assert_allclose(actual[name], array, rtol=2e-5, atol=2e-5, err_msg=name)
