"""What a small GPT must learn: to copy, to reverse; and to stay stable at every usual learning rate."""

import numpy as np
import pytest

import gradtape as gt

VOCAB, HALF = 10, 6


def sequences(rng, batch, reverse):
    """x: a random word, a mark, and the word again (or reversed); y: the token after each; only the answer counts."""
    word = rng.integers(1, VOCAB, (batch, HALF))
    answer = word[:, ::-1] if reverse else word
    whole = np.concatenate([word, np.zeros((batch, 1), int), answer], axis=1)
    return whole[:, :-1], whole[:, 1:]


def answer_loss(logits, target):
    return gt.cross_entropy(logits[:, HALF:], target[:, HALF:])


@pytest.mark.parametrize("reverse", [False, True], ids=["copy", "reverse"])
def test_words_are_learned(reverse):
    gt.manual_seed(1)
    rng = np.random.default_rng(1)
    model = gt.models.GPT(VOCAB, 2 * HALF, 48, 2, 4)
    lr = gt.schedule.warmup_cosine(3e-3, 50, 1200, 1e-4)
    step = gt.compile(model, loss=answer_loss, optimizer=gt.clip_by_global_norm(gt.AdamW(lr=lr), 1.0), threads=1)
    for _ in range(1200):
        step(*sequences(rng, 64, reverse))
    x, y = sequences(np.random.default_rng(99), 500, reverse)
    predicted = step.forward(x).argmax(-1)
    accuracy = np.mean(predicted[:, HALF:] == y[:, HALF:])
    assert accuracy >= 0.99, accuracy


@pytest.mark.parametrize("lr", [1e-4, 1e-3, 3e-3])
def test_a_thousand_steps_stay_finite_and_learn(lr):
    gt.manual_seed(2)
    rng = np.random.default_rng(2)
    model = gt.models.GPT(16, 16, 32, 2, 2)
    step = gt.compile(model, loss=gt.cross_entropy, optimizer=gt.clip_by_global_norm(gt.AdamW(lr=lr), 1.0), threads=1)
    table = rng.permutation(16)
    losses, norms = [], []
    for _ in range(1000):
        first = rng.integers(0, 16, (8, 1))
        tokens = [first]
        for _ in range(16):
            tokens.append(table[tokens[-1]])
        whole = np.concatenate(tokens, axis=1)
        losses.append(float(step(whole[:, :-1], whole[:, 1:])))
        norms.append(step.last.grad_norm)
    assert np.all(np.isfinite(losses)) and max(norms) < 50
    assert np.mean(losses[-100:]) < 0.7 * np.mean(losses[:20])


@pytest.mark.slow
def test_tiny_shakespeare_at_nanogpts_cpu_setting(tinyshakespeare):
    from gradtape.models.data import Batches, CharTokenizer, split, windows

    gt.manual_seed(1337)
    text = tinyshakespeare.read_text()
    train, held_out = split(CharTokenizer.of(text).encode(text), 64)
    model = gt.models.GPT(65, 64, 128, 4, 4, bias=False)
    groups = [
        {"params": [p for p in model.parameters() if p.ndim >= 2], "weight_decay": 0.1},
        {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    lr = gt.schedule.warmup_cosine(1e-3, 100, 2000, 1e-4)
    optimizer = gt.clip_by_global_norm(gt.AdamW(lr=lr, betas=(0.9, 0.99), params=groups), 1.0)
    step = gt.compile(model, loss=gt.cross_entropy, optimizer=optimizer)
    batches = Batches(train, 12, 64, seed=1)
    for i in range(2000):
        step(*batches[i])
    parts = [(float(step.evaluate(x, y)), y.size) for x, y in windows(held_out, 64, 64)]
    assert sum(v * n for v, n in parts) / sum(n for _, n in parts) <= 1.92
