"""Recurrent layers against their PyTorch twins, where it is installed, and eager against compiled."""

import numpy as np
import pytest

import gradtape as gt
from gradtape.models import nn

T, B, I, H = 5, 3, 4, 6  # noqa: E741
CELLS = {"RNN": nn.RNN, "GRU": nn.GRU, "LSTM": nn.LSTM}
OPTIONS = {
    "plain": {},
    "without bias": {"bias": False},
    "batch first": {"batch_first": True},
    "two layers": {"num_layers": 2},
    "both directions": {"bidirectional": True},
    "all": {"num_layers": 2, "bidirectional": True, "batch_first": True},
}
TOLERANCE = {"float64": 1e-10, "float32": 1e-5}


@pytest.fixture(autouse=True)
def seeded():
    gt.manual_seed(0)
    yield
    gt.manual_seed(0)


def inputs(kind, options, dtype, batched=True):
    """The input, and the arrays of the first state."""
    rng = np.random.default_rng(1)
    shape = ((B, T, I) if options.get("batch_first") else (T, B, I)) if batched else (T, I)
    count = options.get("num_layers", 1) * (2 if options.get("bidirectional") else 1)
    states = [rng.standard_normal((count, B, H) if batched else (count, H)) for _ in range(2 if kind == "LSTM" else 1)]
    return [a.astype(dtype) for a in (rng.standard_normal(shape), *states)]


def states_of(state):
    return list(state) if isinstance(state, tuple) else [state]


class Held(nn.Module):
    """A recurrent layer with its input and first state as parameters, so that these have gradients too."""

    def __init__(self, layer, arrays):
        self.layer = layer
        self.arrays = [gt.Parameter(a) for a in arrays]

    def forward(self, scale):
        x, *state = (a * scale for a in self.arrays)
        return self.layer(x, tuple(state) if len(state) > 1 else state[0])


def weighted(output, state):
    """A scalar in which every element of output and state counts."""
    total = (output * output).sum()
    for i, s in enumerate(states_of(state)):
        total = total + (s * s * (i + 0.5)).sum() + s.sum()
    return total


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("kind", CELLS)
def test_a_layer_is_its_twin(kind, options, dtype):
    torch = pytest.importorskip("torch")
    given = OPTIONS[options]
    layer = CELLS[kind](I, H, **given, dtype=dtype)
    twin = getattr(torch.nn, kind)(I, H, **given, dtype=getattr(torch, dtype))
    assert [n for n, _ in layer.named_parameters()] == [n for n, _ in twin.named_parameters()]
    twin.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in layer.state_dict().items()})
    arrays = inputs(kind, given, dtype)
    leaves = [torch.from_numpy(a.copy()).requires_grad_() for a in arrays]
    output, last = twin(leaves[0], tuple(leaves[1:]) if kind == "LSTM" else leaves[1])
    weighted(output, last).backward()

    def close(mine, other):
        np.testing.assert_allclose(mine, other.detach().numpy(), TOLERANCE[dtype], TOLERANCE[dtype])

    held, one = Held(layer, arrays), np.ones((), dtype)
    for run in (held, gt.compile(held).forward):
        mine, mine_last = run(one)
        close(mine, output)
        for a, b in zip(states_of(mine_last), states_of(last), strict=True):
            close(a, b)
    loss = gt.objective(lambda model, scale: weighted(*model(scale)))
    _, grads = gt.compile(held, loss=loss).value_and_grad(one)
    expected = {f"layer.{name}": p.grad for name, p in twin.named_parameters()}
    expected |= {f"arrays.{i}": leaf.grad for i, leaf in enumerate(leaves)}
    assert grads.keys() == expected.keys()
    for name, gradient in expected.items():
        close(grads[name], gradient)
