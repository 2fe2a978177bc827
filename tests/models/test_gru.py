"""The GRU language model: against PyTorch, against itself step by step, and that it learns."""

import numpy as np
import pytest

import gradtape as gt

V, C, B, T = 11, 8, 3, 6
IDS = np.random.default_rng(0).integers(0, V, (B, T + 1))


@pytest.fixture
def model():
    gt.manual_seed(0)
    return gt.models.GRU(V, C, 2)


def test_keys_and_shapes(model):
    layers = [f"gru.{kind}_{what}_l{n}" for n in (0, 1) for kind in ("weight", "bias") for what in ("ih", "hh")]
    assert [n for n, _ in model.named_parameters()] == ["tok.weight", *layers, "head.weight", "head.bias"]
    assert model(IDS).shape == (B, T + 1, V) and model(IDS).dtype == np.float32


def test_it_is_the_same_model_in_pytorch(model):
    torch = pytest.importorskip("torch")

    class Twin(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.tok = torch.nn.Embedding(V, C)
            self.gru = torch.nn.GRU(C, C, 2, batch_first=True)
            self.head = torch.nn.Linear(C, V)

        def forward(self, idx):
            return self.head(self.gru(self.tok(idx))[0])

    twin = Twin()
    twin.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in model.state_dict().items()})
    x, y = IDS[:, :-1], np.ascontiguousarray(IDS[:, 1:])
    loss = torch.nn.functional.cross_entropy(twin(torch.from_numpy(x)).reshape(-1, V), torch.from_numpy(y).reshape(-1))
    loss.backward()
    value, grads = gt.compile(model, loss=gt.cross_entropy).value_and_grad(x, y)
    np.testing.assert_allclose(value, loss.item(), rtol=1e-5)
    for name, p in twin.named_parameters():
        np.testing.assert_allclose(grads[name], p.grad.numpy(), rtol=1e-4, atol=1e-6, err_msg=name)


def test_step_by_step_is_all_at_once(model):
    model.eval()
    logits = model(IDS)
    state, found = None, []
    for t in range(T + 1):
        out, state = model.step(IDS[:, t : t + 1], state)
        found.append(out[:, 0])
    np.testing.assert_allclose(np.stack(found, 1), logits, rtol=1e-5, atol=1e-6)
    half, state = model.step(IDS[:, :4], None)
    rest, _ = model.step(IDS[:, 4:], state)
    np.testing.assert_allclose(np.concatenate([half, rest], 1), logits, rtol=1e-5, atol=1e-6)


def test_it_learns_a_cycle_at_lengths_that_differ(model):
    step = gt.compile(model, loss=gt.cross_entropy, optimizer=gt.AdamW(lr=3e-2))
    text = np.tile(np.arange(V), 8)
    rng = np.random.default_rng(0)
    for i in range(60):
        length = (8, 13, 10)[i % 3]
        starts = rng.integers(0, V, 4)
        rows = np.stack([text[s : s + length + 1] for s in starts])
        loss = step(rows[:, :-1], rows[:, 1:])
    assert loss < 0.1
    (family,) = step._programs.families.values()
    assert len(family.variants) == 2  # one tape for the first length, one for all others


def test_dropout_and_evaluation():
    gt.manual_seed(0)
    model = gt.models.GRU(V, C, 2, dropout=0.5)
    step = gt.compile(model, loss=gt.cross_entropy, optimizer=gt.SGD(lr=1e-6))
    x, y = IDS[:, :-1], IDS[:, 1:]
    assert step(x, y) != step(x, y)  # another step, other numbers
    assert step.evaluate(x, y) == step.evaluate(x, y)
    model.eval()
    np.testing.assert_allclose(step.evaluate(x, y), gt.cross_entropy(model(x), y), rtol=1e-5)
