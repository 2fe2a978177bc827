"""Generation: what the cache gives is what the whole forward gives, by one tape for all positions."""

import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import gradtape as gt
from gradtape import programs
from gradtape.ir.tape import Instr
from gradtape.runtime.program import IndexOutOfRange
from layout import ROOT

VOCAB, CONTEXT = 11, 12


def gpt(dtype="float32", **options):
    model = gt.models.GPT(VOCAB, CONTEXT, 16, 2, 2, dtype=dtype, **options)
    rng = np.random.default_rng(0)
    for parameter in model.parameters():  # as initialised, logits differ by 1e-3 only
        parameter.data[...] = 0.5 * rng.standard_normal(parameter.shape)
    return model


IDS = np.random.default_rng(1).integers(0, VOCAB, (3, CONTEXT))


class Attention(gt.nn.Module):
    """Of a user's own: plain buffers, written with dynamic_update_slice."""

    def __init__(self, width, batch):
        self.qkv = gt.nn.Linear(width, 3 * width)
        self.k = gt.buffer(np.zeros((batch, CONTEXT, width), np.float32), persistent=False)
        self.v = gt.buffer(np.zeros((batch, CONTEXT, width), np.float32), persistent=False)

    def forward(self, x, position=None):
        q, k, v = gt.split(self.qkv(x), 3, -1)
        if position is not None:
            self.k = k = gt.dynamic_update_slice(self.k, k, position, axis=1)
            self.v = v = gt.dynamic_update_slice(self.v, v, position, axis=1)
        rows = gt.arange(x.shape[1])[:, None] + (0 if position is None else position)
        scores = q @ k.swapaxes(1, 2) / 4.0
        scores = gt.where(gt.arange(k.shape[1]) <= rows, scores, -np.inf)
        return gt.softmax(scores, -1) @ v


class Decoder(gt.nn.Module):
    context = CONTEXT

    def __init__(self, batch):
        self.table = gt.nn.Embedding(VOCAB, 8)
        self.places = gt.nn.Embedding(CONTEXT, 8)
        self.attention = Attention(8, batch)
        self.head = gt.nn.Linear(8, VOCAB)

    def forward(self, ids, position=None):
        start = 0 if position is None else position
        x = self.table(ids) + gt.dynamic_slice(self.places.weight, start, ids.shape[1], axis=0)
        return self.head(x + self.attention(x, position))


class Recurrent(gt.nn.Module):
    """What it keeps is a state: position 0 begins with none."""

    context = CONTEXT

    def __init__(self, batch):
        self.table = gt.nn.Embedding(VOCAB, 8)
        self.cell = gt.nn.RNNCell(8, 8)
        self.head = gt.nn.Linear(8, VOCAB)
        self.h = gt.buffer(np.zeros((batch, 8), np.float32), persistent=False)

    def forward(self, ids, position=None):
        x = gt.permute(self.table(ids), 1, 0, 2)
        zero = gt.zeros_like(self.h)
        before = zero if position is None else gt.where(gt.equal(position, 0), zero, self.h)

        def step(h, x):
            h = self.cell(x, h)
            return h, h

        last, states = gt.scan(step, before, x)
        if position is not None:
            self.h = last
        return self.head(gt.permute(states, 1, 0, 2))


# the cache ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-10), ("float32", 1e-5)])
def test_the_logits_at_every_position_are_those_of_the_whole_forward(dtype, tolerance):
    model = gpt(dtype)
    program = gt.compile(model)
    whole = program.forward(IDS)
    step = program.decoder(3, CONTEXT)
    for first in (1, 5):  # ids one by one from the start, and behind a prefill
        got = [step(IDS[:, :first], 0)] + [step(IDS[:, p : p + 1], p) for p in range(first, CONTEXT)]
        for p, logits in enumerate(got, first - 1):
            np.testing.assert_allclose(logits, whole[:, p], rtol=0, atol=tolerance * np.abs(whole).max())
            assert logits.dtype == dtype
    model.eval()
    model(IDS[:, :5], 0)
    eager = [np.asarray(model(IDS[:, p : p + 1], p))[:, 0] for p in range(5, CONTEXT)]
    np.testing.assert_allclose(np.stack(eager, 1), whole[:, 5:], rtol=0, atol=tolerance * np.abs(whole).max())


@pytest.fixture(scope="module")
def program():
    return gt.compile(gpt())


def test_one_tape_serves_all_positions_and_one_all_prompts(program, monkeypatch):
    traced = []
    monkeypatch.setattr(programs, "trace", lambda *a, trace=programs.trace, **k: traced.append(k) or trace(*a, **k))
    for length in range(1, 8):
        assert program.generate(IDS[0, :length], 30, seed=length).shape == (length + 30,)
    program.generate(IDS[0, :5], 9, context=8)
    entries = [key[0] for key, family in program._programs.families.items() for _ in family.variants]
    assert entries.count("decode") == entries.count("prefill") == 1
    assert len(traced) <= 2
    del traced[:]
    program.generate(IDS[1], 20)
    assert not traced


def test_the_cache_is_written_in_place_and_never_copied(program):
    step = program.decoder(1, CONTEXT)
    step(IDS[:1, :1], 0)
    tape = step.decode.program.tape
    caches = {i for i, b in enumerate(tape.buffers) if b.segment == "buffer"}
    size = 2 * CONTEXT * 8
    written = [i for i in tape.instructions() if any(o.view.buffer in caches and "w" in o.mode for o in i.operands)]
    assert len(written) == 4 and all(i.kernel == "dynamic_write_f32" for i in written)  # k and v of two blocks
    assert not any(b.segment == "arena" and b.size >= size for b in tape.buffers)


def test_cached_generation_is_uncached_generation_eager_and_compiled(program):
    options = {"temperature": 0.9, "top_k": 7, "seed": 5}
    expected = program.generate(IDS[:2, :4], 40, cache=False, **options)  # over the context several times
    np.testing.assert_array_equal(program.generate(IDS[:2, :4], 40, **options), expected)
    np.testing.assert_array_equal(program.target.generate(IDS[:2, :4], 40, **options), expected)
    np.testing.assert_array_equal(gt.generate(program.target, IDS[:2, :4], 40, cache=False, **options), expected)
    assert len({tuple(row) for row in expected[:, 4:]}) == 2
    assert (program.generate(IDS[:2, :4], 40, seed=6) != expected).any()


def test_batches_take_turns(program):
    """Every size of batch has buffers and tapes of its own."""
    alone = [program.generate(ids, 9, temperature=0) for ids in IDS[:, :3]]
    for _ in range(2):
        np.testing.assert_array_equal(program.generate(IDS[:, :3], 9, temperature=0), alone)
        np.testing.assert_array_equal(program.generate(IDS[1, :3], 9, temperature=0), alone[1])


def test_training_goes_on_between_generations():
    def run(write):
        model = gpt(dropout=0.2)
        step = gt.compile(model, loss=gt.cross_entropy, optimizer=gt.AdamW(lr=1e-2))
        losses = []
        for _ in range(3):
            losses.append(step(IDS[:, :-1], IDS[:, 1:]))
            if write:
                text = step.generate(IDS[:1, :2], 5, temperature=0)
                np.testing.assert_array_equal(text, step.generate(IDS[:1, :2], 5, temperature=0, cache=False))
                assert model.training
        assert not any("cache" in key for key in model.state_dict())
        return losses

    assert run(write=True) == run(write=False)


def test_an_id_out_of_range_changes_nothing(program):
    step = program.decoder(1, CONTEXT)
    step(IDS[:1, :4], 0)
    expected = step(IDS[:1, 4:5], 4)
    with pytest.raises(IndexOutOfRange, match=r"idx\[0, 0\] = 99 is out of range for tok.weight with 11 rows"):
        step(np.array([[99]]), 2)
    np.testing.assert_array_equal(step(IDS[:1, 4:5], 4), expected)


@pytest.mark.parametrize("kind", [Decoder, Recurrent])
def test_a_model_of_the_users_own(kind):
    model = kind(2)
    program = gt.compile(model)
    for temperature in (0, 1):
        expected = gt.generate(model, IDS[:2, :3], 20, temperature=temperature, cache=False)
        got = program.generate(IDS[:2, :3], 20, temperature=temperature)
        np.testing.assert_array_equal(got, expected)
        np.testing.assert_array_equal(gt.generate(model, IDS[:2, :3], 20, temperature=temperature), expected)


def test_the_model_of_the_manual_generates():
    """docs/generation.md, as it is printed there."""
    text = (ROOT / "docs" / "generation.md").read_text()
    (block,) = re.findall(r"```python\n(class Attention.*?)```", text, re.DOTALL)
    names = {"gt": gt, "np": np}
    exec(block, names)
    assert names["ids"].shape == (23,)
    model = names["Model"](VOCAB, 16)
    program = gt.compile(model)
    expected = gt.generate(model, [1, 2, 3], 80, temperature=0, cache=False)  # over the context of 64
    np.testing.assert_array_equal(program.generate([1, 2, 3], 80, temperature=0), expected)


def test_multi_head_attention_with_a_position_is_causal():
    layer = gt.nn.MultiHeadAttention(8, 2, dtype="float64")
    layer.setup_cache(2, 6)
    x = np.random.default_rng(0).standard_normal((2, 6, 8))
    whole = layer(x, is_causal=True)
    program = gt.compile(lambda x, position: layer(x, position=position))
    for way in (layer_at(layer), program):
        parts = [way(x[:, :3], np.array(0)), way(x[:, 3:5], np.array(3)), way(x[:, 5:], np.array(5))]
        np.testing.assert_allclose(np.concatenate(parts, 1), whole, rtol=0, atol=1e-12)


def layer_at(layer):
    return lambda x, position: layer(x, position=position)


# memory -------------------------------------------------------------------------------------------------------------
def test_forward_keeps_no_activations():
    model = gt.models.GPT(65, 32, 32, 4, 2)
    x = np.zeros((4, 32), np.int64)
    step = gt.compile(model, loss=gt.cross_entropy, optimizer=gt.AdamW(lr=1e-3), threads=1)
    step(x, x)
    forward = gt.compile(model, threads=1)
    forward.forward(x)
    deeper = gt.compile(gt.models.GPT(65, 32, 32, 8, 2), threads=1)
    deeper.forward(x)
    assert forward.memory().arena < 0.3 * step.memory().arena
    assert deeper.memory().arena == forward.memory().arena


def test_the_tape_of_decode_needs_a_few_rows():
    model = gpt()
    program = gt.compile(model, threads=1)
    program.generate([1], 3)
    assert program.memory().arena < 8192
    assert all(isinstance(step, Instr) or type(step).__name__ == "StopIf" for step in program.graph("tape").steps)


def test_two_texts_do_not_share_a_cache(program):
    one, other = program.decoder(1, CONTEXT), program.decoder(1, CONTEXT)
    one(IDS[:1, :3], 0)
    one(IDS[:1, 3:4], 3)
    other(IDS[1:2, :1], 0)
    with pytest.raises(RuntimeError, match="another text of a batch of 1 has begun since"):
        one(IDS[:1, 4:5], 4)


def test_threads_that_generate_wait_for_each_other(program):
    expected = [program.generate(ids, 60, temperature=0) for ids in IDS[:, :2]]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda ids: program.generate(ids, 60, temperature=0), IDS[:, :2]))
    np.testing.assert_array_equal(found, expected)


# errors -------------------------------------------------------------------------------------------------------------
def test_a_position_without_a_cache_says_what_to_write():
    with pytest.raises(
        ValueError, match=r"no key/value cache for a batch of 1 \(those there are: none\)\n  write setup_"
    ):
        gpt()(IDS[:1, :2], 0)
    model = gpt()
    model.setup_cache(2)
    with pytest.raises(ValueError, match=r"for a batch of 3 \(those there are: 2\)"):
        gt.compile(model).forward(IDS, np.array(0))


def test_several_ids_come_at_the_start_only(program):
    with pytest.raises(ValueError, match="2 ids at position 3: behind others they come one by one"):
        program.decoder(1, CONTEXT)(IDS[:1, :2], 3)
