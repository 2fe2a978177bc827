"""Recurrent layers against their PyTorch twins, where it is installed, and eager against compiled."""

import numpy as np
import pytest

import gradtape as gt
from gradtape.ir.interp import evaluate_graph
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


@pytest.mark.parametrize("options", ["plain", "batch first"])
@pytest.mark.parametrize("kind", CELLS)
def test_an_input_without_a_batch_and_a_state_from_zeros(kind, options):
    torch = pytest.importorskip("torch")
    layer = CELLS[kind](I, H, 2, **OPTIONS[options], dtype="float64")
    twin = getattr(torch.nn, kind)(I, H, 2, **OPTIONS[options], dtype=torch.float64)
    twin.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in layer.state_dict().items()})
    for batched in (False, True):
        x, *_ = inputs(kind, OPTIONS[options], "float64", batched)
        output, last = twin(torch.from_numpy(x))
        mine, mine_last = layer(x)
        for a, b in zip([mine, *states_of(mine_last)], [output, *states_of(last)], strict=True):
            assert a.shape == tuple(b.shape)
            np.testing.assert_allclose(a, b.detach().numpy(), 1e-10, 1e-10)


@pytest.mark.parametrize("kind", ["RNNCell", "GRUCell", "LSTMCell"])
@pytest.mark.parametrize("bias", [True, False])
def test_a_cell_is_its_twin(kind, bias):
    torch = pytest.importorskip("torch")
    cell = getattr(nn, kind)(I, H, bias=bias, dtype="float64")
    twin = getattr(torch.nn, kind)(I, H, bias=bias, dtype=torch.float64)
    assert [n for n, _ in cell.named_parameters()] == [n for n, _ in twin.named_parameters()]
    twin.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in cell.state_dict().items()})
    rng = np.random.default_rng(0)
    x, h, c = (rng.standard_normal((B, n)) for n in (I, H, H))
    state = (h, c) if kind == "LSTMCell" else h
    as_torch = tuple(map(torch.from_numpy, state)) if kind == "LSTMCell" else torch.from_numpy(state)
    for given, other in ((state, as_torch), (None, None)):
        mine, expected = states_of(cell(x, given)), states_of(twin(torch.from_numpy(x), other))
        for a, b in zip(mine, expected, strict=True):
            np.testing.assert_allclose(a, b.detach().numpy(), 1e-10, 1e-10)


@pytest.mark.parametrize("kind", CELLS)
def test_a_layer_is_its_cell_step_by_step(kind):
    layer = CELLS[kind](I, H)
    cell = getattr(nn, f"{kind}Cell")(I, H)
    cell.load_state_dict({k.removesuffix("_l0"): v for k, v in layer.state_dict().items()})
    x, *_ = inputs(kind, {}, "float32")
    output, last = layer(x)
    state = None
    for t in range(T):
        state = cell(x[t], state)
        np.testing.assert_allclose(output[t], states_of(state)[0], 1e-5, 1e-6)
    for a, b in zip(states_of(last), states_of(state), strict=True):
        np.testing.assert_allclose(a[0], b, 1e-5, 1e-6)


@pytest.mark.parametrize("kind", CELLS)
def test_traced_is_eager_at_every_length_and_batch(kind):
    layer = CELLS[kind](I, H, 2, bidirectional=True)
    traced = gt.trace(layer, gt.spec(("T", "B", I)))
    assert traced.graph.guards == () and traced.ledger.escapes == []
    for t, b in ((1, 2), (5, 3)):
        x = np.random.default_rng(0).standard_normal((t, b, I)).astype(np.float32)
        output, last = layer(x)
        found = evaluate_graph(traced.graph, traced.bind(x))
        for a, e in zip(found.values(), [output, *states_of(last)], strict=True):
            np.testing.assert_allclose(a, e, 1e-5, 1e-6)


def test_dropout_stands_between_layers_and_only_in_training():
    layer = nn.GRU(I, H, 2, dropout=0.5)
    x, *_ = inputs("GRU", {}, "float32")
    quiet = layer.eval()(x)[0]
    np.testing.assert_array_equal(quiet, layer(x)[0])
    layer.train()
    assert not np.allclose(layer(x)[0], quiet)
    one = nn.GRU(I, H, 1, dropout=0.5)
    np.testing.assert_array_equal(one(x)[0], one.eval()(x)[0])  # there is nothing between the layers of one


def test_parameters_start_uniform():
    layer = nn.LSTM(64, 100)
    bound = 0.1
    for p in layer.parameters():
        assert np.abs(p.data).max() <= bound and p.data.std() > 0.9 * bound / np.sqrt(3)
    assert repr(nn.GRU(4, 6, 2, batch_first=True)).startswith("GRU(4, 6, num_layers=2, batch_first=True")


def test_what_is_refused():
    with pytest.raises(ValueError, match="nonlinearity is .tanh. or .relu., not 'gelu'"):
        nn.RNN(I, H, nonlinearity="gelu")
    with pytest.raises(ValueError, match="the state has 1 layers, not 4"):
        nn.GRU(I, H, 2, bidirectional=True)(np.zeros((T, B, I), np.float32), np.zeros((1, B, H), np.float32))
    with pytest.raises(ValueError, match="the input has 3 axes, or 2 without a batch, not 4"):
        nn.GRU(I, H)(np.zeros((1, T, B, I), np.float32))


def test_relu_is_the_other_nonlinearity():
    torch = pytest.importorskip("torch")
    layer, twin = nn.RNN(I, H, nonlinearity="relu", dtype="float64"), torch.nn.RNN(I, H, nonlinearity="relu").double()
    twin.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in layer.state_dict().items()})
    x, *_ = inputs("RNN", {}, "float64")
    np.testing.assert_allclose(layer(x)[0], twin(torch.from_numpy(x))[0].detach().numpy(), 1e-10, 1e-10)
