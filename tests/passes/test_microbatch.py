"""Batches in slices: every op by itself along each of its axes, whole steps, memory, and what is refused."""

from collections import Counter
from itertools import chain, combinations, product

import numpy as np
import pytest

import gradtape as gt
import rows  # noqa: F401  (fills ROWS)
from cases import ROWS
from gradtape.ir.build import Builder
from gradtape.ir.interp import evaluate_graph
from gradtape.ir.op import OPS
from gradtape.ir.text import parse
from gradtape.ir.verify import verify
from gradtape.passes.attention import LONG
from gradtape.passes.lower import lower
from gradtape.passes.microbatch import MicrobatchError, microbatch
from gradtape.passes.rewrite import expand
from gradtape.passes.slicing import RULES
from gradtape.planning import Limits, MemoryBudgetError, arena_bytes, sliced
from gradtape.runtime.bind import plan


# ops ----------------------------------------------------------------------------------------------------------------
def turned(case, dtype, axes):
    """The case's program with some inputs given in another order of axes: that of `axes[name]` comes first. They go
    through a kernel, so that what follows is no light work on inputs."""
    inner = case.graph(dtype)
    builder = Builder(inner.name)
    args = []
    for v in inner.inputs:
        order = list(range(v.type.ndim))
        if v.name in axes:
            order = [axes[v.name], *(a for a in order if a != axes[v.name])]
        shape = tuple(v.type.shape[a] for a in order)
        x = builder.input(v.name, type(v.type)(v.type.dtype, shape))
        if v.name in axes:
            zero = builder.emit(OPS["full"], (), {"shape": (), "value": 0, "dtype": "i64"})
            x = OPS["dynamic_slice"](OPS["reshape"](x, shape=(*shape, 1)), zero, size=1, axis=len(shape))
            x = OPS["reshape"](x, shape=shape)
        args.append(OPS["permute"](x, axes=tuple(int(a) for a in np.argsort(order))))
    outputs = [name for name, _ in inner.outputs]
    graph = builder.graph(list(zip(outputs, builder.inline(inner, args), strict=True)))
    values = {name: np.moveaxis(a, axes[name], 0) if name in axes else a for name, a in case.values(dtype).items()}
    return graph, values


def ways(graph):
    """All choices of an axis of some inputs such that their sizes agree, and a number of slices."""
    places = [[(v.name, a, d) for a, d in enumerate(v.type.shape) if d > 1] for v in graph.inputs]
    for some in chain.from_iterable(combinations(places, n) for n in range(1, len(places) + 1)):
        for way in product(*some):
            if len({d for *_, d in way}) == 1:
                size = way[0][2]
                yield {name: axis for name, axis, _ in way}, next(n for n in range(2, size + 1) if size % n == 0)


def test_every_op_in_slices_is_what_it_is_as_a_whole():
    cut, refused = Counter(), Counter()
    for row in ROWS.values():
        for case, dtype in row.runs("f64" if "f64" in row.dtypes else row.dtypes[0]):
            symbolic = any(not isinstance(d, int) for t in case.types(dtype) for d in t.shape)
            if symbolic or OPS[case.op].random:
                continue
            for axes, slices in ways(case.graph(dtype)):
                graph, values = turned(case, dtype, axes)
                whole = expand(graph)
                try:
                    sliced = verify(microbatch(whole, list(axes), slices))
                except MicrobatchError:
                    refused[case.op] += 1
                    continue
                with np.errstate(all="ignore"):
                    expected, found = evaluate_graph(whole, values), evaluate_graph(sliced, values)
                for name in expected:
                    np.testing.assert_allclose(found[name], expected[name], 1e-12, 1e-13, err_msg=f"{case} {axes}")
                cut[case.op] += any(n.op == "scan" for n in sliced.nodes)
    # the rows of these two take a part along every axis; q, k and v of the models below are whole along the batch
    assert {name for name in RULES if not cut[name]} == {"slice", "unslice"}
    assert cut["scan"] > 20 and refused["scan"] > 20
    assert {op.name for op in OPS.values() if op.kind in ("kernel", "copy", "gemm")} - set(RULES) == {"last_index"}
    assert {"concat", "slice", "max", "matmul", "take", "conv", "sort", "cumsum", "attention"} <= set(refused)
    assert not {"exp", "cast", "sum", "permute", "bounded"} & set(refused)


# graphs -------------------------------------------------------------------------------------------------------------
def test_the_loop_carries_what_adds_up_and_nothing_else():
    graph = parse("""
graph step(%x: f32[8, 3] input, %w: f32[3, 2] param) {
  %0: f32[8, 2] = matmul(%x, %w)
  %1: f32[8, 2] = tanh(%0)
  %2: f32[] = sum(%1) {axes=[0, 1], keepdims=false}
  %3: f32[] = mul(%2, 0.0625)
  %4: f32[8, 2] = square(%1)
  %5: f32[8, 2] = sub(1.0, %4)
  %6: f32[3, 8] = permute(%x) {axes=[1, 0]}
  %7: f32[3, 2] = matmul(%6, %5)
  %8: f32[3, 2] = mul(%7, 0.1)
  %9: f32[3, 2] = sub(%w, %8)
  return loss=%3
  update %w = %9
}
""")
    sliced = verify(microbatch(graph, ["x"], 4))
    (loop,) = [n for n in sliced.nodes if n.op == "scan"]
    (body,) = loop.regions
    assert [str(v.type) for v in body.inputs] == ["f32[3, 2]", "f32[]", "f32[3, 2]", "f32[2, 3]"]
    assert (loop.attrs["consts"], loop.attrs["carries"], loop.attrs["length"]) == (1, 2, 4)
    after = [n.op for n in sliced.nodes[sliced.nodes.index(loop) + 1 :]]
    assert after == ["mul", "mul", "sub"]  # the scale of the loss and the update follow the loop
    rng = np.random.default_rng(0)
    values = {"x": rng.standard_normal((8, 3)), "w": rng.standard_normal((3, 2))}
    for name, array in evaluate_graph(graph, values).items():
        np.testing.assert_allclose(evaluate_graph(sliced, values)[name], array, rtol=1e-6)


def test_what_only_the_inputs_decide_is_counted_before_the_loop():
    graph = parse("""
graph masked(%x: f64[6, 2] input, %keep: bool[6, 2] input) {
  %0: f64[6, 2] = cast(%keep) {dtype="f64"}
  %1: f64[] = sum(%0) {axes=[0, 1], keepdims=false}
  %2: f64[6, 2] = exp(%x)
  %3: f64[6, 2] = div(%2, %1)
  %4: f64[6, 2] = mul(%3, %0)
  %5: f64[] = sum(%4) {axes=[0, 1], keepdims=false}
  return out=%5
}
""")
    sliced = verify(microbatch(graph, ["x", "keep"], 3))
    before = [n.op for n in sliced.nodes][: [n.op for n in sliced.nodes].index("scan")]
    assert "sum" in before and "exp" not in before
    values = {"x": np.arange(12.0).reshape(6, 2) / 9, "keep": np.arange(12).reshape(6, 2) % 3 > 0}
    np.testing.assert_allclose(*(list(evaluate_graph(g, values).values()) for g in (graph, sliced)))


def test_random_numbers_of_a_slice_are_those_of_the_whole():
    graph = parse("""
graph noisy(%x: f32[6, 4] input, %seed: i64[] scalar, %step: i64[] scalar) {
  %0: f32[6, 4] = uniform(%seed, %step) {dtype="f32", shape=[6, 4], site=0}
  %1: bool[6, 4] = less(%0, 0.5)
  %2: f32[6, 4] = where(%1, %x, 0.0)
  return out=%2
}
""")
    sliced = verify(microbatch(graph, ["x"], 3))
    (loop,) = [n for n in sliced.nodes if n.op == "scan"]
    (drawn,) = [n for n in loop.regions[0].nodes if n.op == "uniform"]
    assert drawn.output.type.shape == (2, 4) and len(drawn.inputs) == 3
    values = {"x": np.ones((6, 4), "f4"), "seed": np.int64(3), "step": np.int64(5)}
    whole = list(evaluate_graph(graph, values).values())
    np.testing.assert_array_equal(whole, list(evaluate_graph(sliced, values).values()))
    assert 0 < whole[0].sum() < 24


@pytest.mark.parametrize("slices", [1, 5])
def test_slices_that_do_nothing_or_do_not_divide(slices):
    graph = parse("graph f(%x: f32[6] input) {\n  %0: f32[6] = exp(%x)\n  return out=%0\n}")
    if slices == 1:
        assert microbatch(graph, ["x"], 1) is graph
    else:
        with pytest.raises(ValueError, match=r"x: f32\[6\] does not divide into 5 slices"):
            microbatch(graph, ["x"], 5)


# whole steps --------------------------------------------------------------------------------------------------------
VOCAB, CONTEXT, BATCH = 20, 8, 12


class Tagger(gt.Module):
    """Embedding, attention, LayerNorm, GELU, dropout."""

    def __init__(self, dropout=0.0, context=CONTEXT):
        self.body = gt.models.GPT(VOCAB, context, 16, 1, 2, dropout=dropout)

    def forward(self, ids):
        return self.body(ids)


class Twice(gt.Module):
    """A part whose activations are computed again in backward."""

    def __init__(self):
        self.words = gt.nn.Embedding(VOCAB, 8)
        self.a, self.b = gt.nn.Linear(8, 16), gt.nn.Linear(16, VOCAB)

    def forward(self, ids):
        return self.b(gt.checkpoint(lambda h: gt.tanh(gt.gelu(self.a(h))), self.words(ids)))


class Layers(gt.Module):
    def __init__(self):
        self.layers = [gt.nn.Linear(8, 8) for _ in range(4)]

    def forward(self, x):
        for layer in self.layers:
            x = gt.tanh(layer(x))
        return x


class Images(gt.Module):
    def __init__(self, norm):
        self.conv = gt.nn.Conv2d(2, 4, 3, padding=1)
        self.norm = norm
        self.out = gt.nn.Linear(4, 5)

    def forward(self, x):
        h = gt.relu(self.norm(self.conv(x)) if self.norm is not None else self.conv(x))
        return self.out(gt.nn.MaxPool2d(2)(h).mean(axis=(2, 3)))


def tokens(ignored=0, context=CONTEXT):
    rng = np.random.default_rng(1)
    x, y = rng.integers(0, VOCAB, (2, BATCH, context))
    y[rng.random(y.shape) < ignored] = -100
    y[0] = -100 if ignored else y[0]
    return x, y


def vectors():
    rng = np.random.default_rng(1)
    return tuple(rng.standard_normal((2, BATCH, 16, 8)).astype("f4"))


def images():
    rng = np.random.default_rng(1)
    return rng.standard_normal((BATCH, 2, 6, 6)).astype("f4"), rng.integers(0, 5, BATCH)


def weighted(logits, target):
    return gt.cross_entropy(logits, target, weight=np.linspace(0.5, 2, VOCAB).astype("f4"))


def summed(logits, target):
    return gt.cross_entropy(logits, target, reduction="sum")


STEPS = {
    "gpt": (lambda: Tagger(), tokens, gt.cross_entropy),
    "gpt, attention in one": (lambda: Tagger(context=LONG), lambda: tokens(context=LONG), gt.cross_entropy),
    "gpt, checkpointed": (lambda: Twice(), tokens, gt.cross_entropy),
    "gru": (lambda: gt.models.GRU(VOCAB, 10, 2), tokens, gt.cross_entropy),
    "layers": (lambda: Layers(), vectors, gt.mse_loss),
    "gpt with dropout": (lambda: Tagger(0.3), tokens, gt.cross_entropy),
    "targets left out": (lambda: Tagger(), lambda: tokens(0.4), gt.cross_entropy),
    "class weights": (lambda: Tagger(), lambda: tokens(0.4), weighted),
    "a sum as the loss": (lambda: Tagger(), tokens, summed),
    "images": (lambda: Images(None), images, gt.cross_entropy),
    "images, group norm": (lambda: Images(gt.nn.GroupNorm(2, 4)), images, gt.cross_entropy),
}


def made(name, **options):
    build, batch, loss = STEPS[name]
    gt.manual_seed(7)
    model = build()
    optimizer = gt.clip_by_global_norm(gt.AdamW(lr=1e-2), 1.0)
    return gt.compile(model, loss=loss, optimizer=optimizer, **options), batch()


def compared(name, sizes):
    whole, batch = made(name, threads=1)
    loss, grads = whole.value_and_grad(*batch)
    for size, threads in sizes:
        step, _ = made(name, threads=threads, microbatch=size)
        found, sliced = step.value_and_grad(*batch)
        assert step.memory().slices == BATCH // size
        np.testing.assert_allclose(found, loss, rtol=2e-6)
        for key, grad in grads.items():
            np.testing.assert_allclose(sliced[key], grad, rtol=1e-4, atol=2e-6 * np.abs(grad).max() + 1e-9, err_msg=key)


@pytest.mark.parametrize("name", STEPS)
def test_gradients_in_slices_are_those_of_the_whole_batch(name):
    compared(name, [(4, 1)])


def test_slices_of_other_sizes_and_on_two_threads():
    compared("gpt", [(6, 2), (1, 1)])


def test_training_in_slices_is_that_of_whole_batches():
    whole, batch = made("gpt with dropout", threads=1)
    sliced, _ = made("gpt with dropout", threads=1, microbatch=4)
    losses = [(float(whole(*batch)), float(sliced(*batch))) for _ in range(5)]
    np.testing.assert_allclose(*zip(*losses, strict=True), rtol=1e-4)


def test_two_runs_in_slices_are_bit_identical():
    losses = []
    for _ in range(2):
        step, batch = made("gpt with dropout", threads=2, microbatch=4)
        losses.append([float(step(*batch)) for _ in range(3)])
    assert losses[0] == losses[1]


def test_other_entries_run_in_slices_too():
    whole, (x, y) = made("gpt", threads=1)
    sliced, _ = made("gpt", threads=1, microbatch=3)
    np.testing.assert_allclose(sliced.forward(x), whole.forward(x), rtol=1e-5, atol=1e-6)
    assert sliced.memory().slices == 4
    np.testing.assert_allclose(sliced.evaluate(x, y), whole.evaluate(x, y), rtol=1e-6)


def test_an_index_out_of_range_in_a_slice_is_told_and_nothing_is_updated():
    step, (x, y) = made("gpt", threads=1, microbatch=4)
    before = {k: v.copy() for k, v in step.state_dict().items()}
    x[7, 2] = VOCAB
    with pytest.raises(IndexError, match="out of range"):
        step(x, y)
    assert all(np.array_equal(v, before[k]) for k, v in step.state_dict().items())


# memory -------------------------------------------------------------------------------------------------------------
def test_the_budget_is_kept_with_as_few_slices_as_will_do():
    whole, batch = made("layers", threads=1)
    whole(*batch)
    graph, checks = whole.graph("fused"), ("loss", "grad_norm")
    full = whole.memory().arena
    assert arena_bytes(whole.graph("tape"), 1) == full
    sizes = {}
    for slices in (2, 3, 4, 6, 12):
        cut, found = sliced(graph, checks, 1, Limits(microbatch=BATCH // slices))
        assert found == slices
        sizes[slices] = arena_bytes(lower(cut, checks), 1)
    assert full > sizes[2] > sizes[3] > sizes[4] > sizes[6] > sizes[12]
    assert sizes[4] < 0.45 * full  # the activations of a quarter, and all gradients
    for slices, most in ((1, full), *sizes.items()):
        assert sliced(graph, checks, 1, Limits(most))[1] == slices
        assert sliced(graph, checks, 1, Limits(most + 1))[1] == slices
    step, _ = made("layers", threads=1, memory_budget=sizes[4])
    step(*batch)
    assert step.memory().arena == sizes[4] and step.memory().slices == 4
    assert "the batch in 4 slices" in str(step.memory()) and "slices" not in str(whole.memory())


@pytest.mark.parametrize("threads", [1, 2])
def test_what_a_product_keeps_for_itself_lasts_no_longer_than_the_product(threads):
    """Also in a loop, where other temporaries that are read before they are written go from round to round."""
    step, (x, y) = made("gpt", threads=threads, lint="off")
    step.value_and_grad(x, y)
    graph, _ = sliced(step.graph("fused"), (), threads, Limits(microbatch=4))
    tape = lower(graph)
    found = plan(tape, {}, threads)
    places = [found.offsets[i] for i, b in enumerate(tape.buffers) if b.name == "factor"]
    assert len(places) > 10 and len(set(places)) < len(places)


def test_too_small_a_budget_says_what_is_needed():
    step, batch = made("gpt", threads=1, memory_budget=1000)
    with pytest.raises(MemoryBudgetError, match=r"memory_budget is 0.001 MB; .* of 12 and .* MB for slices of 1"):
        step(*batch)


# refusals -----------------------------------------------------------------------------------------------------------
def refused(model, *batch, loss=gt.cross_entropy):
    step = gt.compile(model, loss=loss, optimizer=gt.SGD(lr=0.1), threads=1, microbatch=4, lint="off")
    with pytest.raises(MicrobatchError) as caught:
        step(*batch)
    return str(caught.value)


def test_batch_norm_is_refused_with_its_line():
    text = refused(Images(gt.nn.BatchNorm2d(4)), *images())
    line = Images.forward.__code__.co_firstlineno + 1
    assert f"test_microbatch.py:{line}  norm" in text and "self.norm(self.conv(x))" in text
    assert f"sub needs the sum over the batch that line {line} takes" in text


def test_batch_norm_in_eval_mode_is_not():
    model = Images(gt.nn.BatchNorm2d(4))
    model.eval()
    x, _ = images()
    whole = gt.compile(model, threads=1)(x)
    np.testing.assert_allclose(gt.compile(model, threads=1, microbatch=4)(x), whole, rtol=1e-5, atol=1e-6)


class Contrast(gt.Module):
    """Every element is compared with all others."""

    def __init__(self):
        self.a = gt.nn.Linear(3, 4)

    def forward(self, x):
        z = self.a(x)
        return z @ z.T


def test_pairs_of_elements_are_refused():
    rng = np.random.default_rng(0)
    text = refused(Contrast(), rng.standard_normal((8, 3)).astype("f4"), np.arange(8))
    assert "matmul multiplies elements of the batch with each other" in text and "return z @ z.T" in text


def test_a_maximum_over_the_batch_is_refused():
    def worst(output, target):
        return ((output - target) ** 2).mean(axis=1).max()

    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 8, 3)).astype("f4")
    text = refused(gt.nn.Linear(3, 3), x, y, loss=worst)
    assert "max takes the max over the batch" in text and ".max()" in text


def test_normalising_the_inputs_by_the_batch_is_no_obstacle():
    """What takes no more than elementwise work on the inputs is done before the loop."""

    class Scaled(gt.Module):
        def __init__(self):
            self.a = gt.nn.Linear(3, 3)

        def forward(self, x):
            return self.a((x - x.mean(axis=0)) / x.std(axis=0))

    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 8, 3)).astype("f4")
    losses = []
    for size in (8, 2):
        gt.manual_seed(0)
        step = gt.compile(Scaled(), loss=gt.mse_loss, optimizer=gt.SGD(lr=0.1), threads=1, microbatch=size)
        losses.append([float(step(x, y)) for _ in range(3)])
    np.testing.assert_allclose(*losses, rtol=1e-5)


@pytest.mark.parametrize("name", ["memory_budget", "microbatch"])
@pytest.mark.parametrize("value", [0, -3, 2.5, "auto"])
def test_wrong_options(name, value):
    with pytest.raises(ValueError, match=f"{name} is a whole number from 1"):
        gt.compile(gt.nn.Linear(3, 3), **{name: value})


def test_sizes_have_to_be_numbers():
    with pytest.raises(ValueError, match="need the size of the batch as a number, not B"):
        gt.compile(gt.nn.Linear(3, 3), gt.spec(("B", 3)), microbatch=2)
    with pytest.raises(ValueError, match="memory_budget needs every size as a number; T is not"):
        gt.compile(gt.nn.Linear(3, 3), gt.spec((4, "T", 3)), memory_budget=10)
    with pytest.raises(ValueError, match="no input has an axis for one"):
        gt.compile(lambda x: x + 1, gt.spec(()), microbatch=2)


def test_other_sizes_of_a_batch_are_cut_anew():
    step, (x, y) = made("gpt", threads=1, microbatch=4)
    for n, slices in ((12, 3), (7, 7), (4, 1)):
        step(x[:n], y[:n])
        assert step.memory().slices == slices
