"""Layers: traced with a symbolic batch against eager, keys, initial distributions. (PyTorch: test_layers_torch.)"""

import math
from typing import Any

import numpy as np
import pytest

from gradtape import tracer as gt
from gradtape.ir.interp import evaluate_graph
from gradtape.models import init, nn

RNG = np.random.default_rng(0)
X = RNG.standard_normal((3, 5, 8)).astype(np.float32)
IMAGES = RNG.standard_normal((3, 5, 4, 2)).astype(np.float32)
IDX = RNG.integers(0, 10, (3, 5))

LAYERS = {
    "Linear": (lambda: nn.Linear(8, 6), X),
    "Linear without bias": (lambda: nn.Linear(8, 6, bias=False), X),
    "Embedding": (lambda: nn.Embedding(10, 6), IDX),
    "LayerNorm": (lambda: nn.LayerNorm(8), X),
    "LayerNorm 2d": (lambda: nn.LayerNorm((5, 8), eps=1e-3), X),
    "LayerNorm without bias": (lambda: nn.LayerNorm(8, bias=False), X),
    "LayerNorm plain": (lambda: nn.LayerNorm(8, elementwise_affine=False), X),
    "RMSNorm": (lambda: nn.RMSNorm(8), X),
    "BatchNorm1d": (lambda: nn.BatchNorm1d(5), X),
    "BatchNorm1d averaged": (lambda: nn.BatchNorm1d(5, momentum=None), X),
    "BatchNorm2d": (lambda: nn.BatchNorm2d(5), IMAGES),
    "InstanceNorm1d": (lambda: nn.InstanceNorm1d(5, track_running_stats=True), X),
    "InstanceNorm2d": (lambda: nn.InstanceNorm2d(5, affine=True), IMAGES),
    "GroupNorm": (lambda: nn.GroupNorm(3, 6), IMAGES.repeat(2, 1)[:, :6]),
    "Dropout": (lambda: nn.Dropout(0.3), X),
    "Dropout1d": (lambda: nn.Dropout1d(0.3), X),
    "Dropout2d": (lambda: nn.Dropout2d(0.3), IMAGES),
    "MultiHeadAttention": (lambda: nn.MultiHeadAttention(8, 2), X),
    "GELU": (lambda: nn.GELU(), X),
    "GELU tanh": (lambda: nn.GELU("tanh"), X),
    "ReLU": (lambda: nn.ReLU(), X),
    "Tanh": (lambda: nn.Tanh(), X),
    "Sigmoid": (lambda: nn.Sigmoid(), X),
    "SiLU": (lambda: nn.SiLU(), X),
    "Identity": (lambda: nn.Identity(), X),
    "Flatten": (lambda: nn.Flatten(), X),
    "Sequential": (lambda: nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.LayerNorm(4)), X),
}


@pytest.fixture(autouse=True)
def seeded():
    gt.manual_seed(0)
    yield
    gt.manual_seed(0)


def randomised(layer):
    for parameter in layer.parameters():
        parameter.data[...] = RNG.standard_normal(parameter.shape)
    return layer


@pytest.mark.parametrize("name", LAYERS)
def test_traced_is_eager_at_every_batch_size(name):
    make, x = LAYERS[name]
    layer = randomised(make())
    spec = gt.spec(("B", *x.shape[1:]), "i64" if x.dtype == np.int64 else "f32")
    traced = gt.trace(layer, spec)
    assert traced.graph.guards == () and traced.ledger.escapes == []
    for b in (1, 3):
        gt.manual_seed(4)
        got = evaluate_graph(traced.graph, traced.bind(x[:b], seed=4, step=0))["out"]
        eager = layer(x[:b])
        np.testing.assert_allclose(got, eager, rtol=1e-5, atol=1e-6)
        assert type(eager) is np.ndarray and eager.dtype == np.float32


@pytest.mark.parametrize(
    ("kind", "arguments", "x"),
    [
        (nn.Linear, (8, 6), X),
        (nn.Embedding, (10, 6), IDX),
        (nn.LayerNorm, (8,), X),
        (nn.RMSNorm, (8,), X),
        (nn.MultiHeadAttention, (8, 2), X),
    ],
)
def test_float64(kind, arguments, x):
    layer = kind(*arguments, dtype="float64")
    assert {p.dtype for p in layer.parameters()} == {np.dtype(np.float64)}
    assert layer(x if x.dtype == np.int64 else x.astype(np.float64)).dtype == np.float64


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("other", [False, True])
def test_attention_is_pytorchs(causal, other):
    torch = pytest.importorskip("torch")
    reference = torch.nn.MultiheadAttention(8, 2, batch_first=True)
    layer = nn.MultiHeadAttention(8, 2)
    layer.load_state_dict({k: v.numpy() for k, v in reference.state_dict().items()})
    key = RNG.standard_normal(X.shape).astype(np.float32) if other else X
    mask = torch.triu(torch.ones(5, 5, dtype=torch.bool), 1) if causal else None  # True hides, in PyTorch
    q, k = torch.tensor(X), torch.tensor(key)
    expected = reference(q, k, k, attn_mask=mask, need_weights=False)[0].detach().numpy()
    got = layer(X, key, is_causal=causal) if other else layer(X, is_causal=causal)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_keys_and_shapes():
    shapes = {
        "Linear": {"weight": (6, 8), "bias": (6,)},
        "Linear without bias": {"weight": (6, 8)},
        "Embedding": {"weight": (10, 6)},
        "LayerNorm 2d": {"weight": (5, 8), "bias": (5, 8)},
        "LayerNorm without bias": {"weight": (8,)},
        "LayerNorm plain": {},
        "MultiHeadAttention": {
            "in_proj_weight": (24, 8),
            "in_proj_bias": (24,),
            "out_proj.weight": (8, 8),
            "out_proj.bias": (8,),
        },
        "Sequential": {"0.weight": (4, 8), "0.bias": (4,), "2.weight": (4,), "2.bias": (4,)},
    }
    for name, expected in shapes.items():
        assert {k: v.shape for k, v in LAYERS[name][0]().state_dict().items()} == expected, name


def test_initial_distributions():
    """Bounds hold exactly; the standard deviation of n uniform or normal numbers is within 5 / sqrt(2 n) of its own."""

    def near(parameter, std):
        assert abs(parameter.data.std() / std - 1) < 5 / math.sqrt(2 * parameter.size)

    linear = nn.Linear(64, 200)
    for parameter in linear.parameters():
        assert np.abs(parameter.data).max() <= 1 / 8
        near(parameter, 1 / 8 / math.sqrt(3))
    near(nn.Embedding(100, 50).weight, 1.0)
    attention: Any = nn.MultiHeadAttention(64, 4)
    bound = math.sqrt(6 / (64 + 192))
    assert np.abs(attention.in_proj_weight.data).max() <= bound
    near(attention.in_proj_weight, bound / math.sqrt(3))
    assert not attention.in_proj_bias.data.any() and not attention.out_proj.bias.data.any()
    norm: Any = nn.LayerNorm(4)
    assert norm.weight.data.tolist() == [1] * 4 and norm.bias.data.tolist() == [0] * 4
    w = init.empty(64, 32)
    for fill, std in (
        (init.kaiming_uniform_, math.sqrt(2 / 32)),
        (init.kaiming_normal_, math.sqrt(2 / 32)),
        (init.xavier_uniform_, math.sqrt(2 / 96)),
        (lambda p: init.normal_(p, 0.0, 0.3), 0.3),
        (lambda p: init.uniform_(p, -3.0, 3.0), math.sqrt(3)),
    ):
        assert fill(w) is w
        near(w, std)
    assert init.fans(init.empty(4, 3, 5, 5)) == (75, 100)
    with pytest.raises(ValueError, match="two dimensions"):
        init.xavier_uniform_(init.empty(3))


def test_the_seed_decides_the_initialisation():
    a = nn.Linear(3, 3).weight.data.copy()
    b = nn.Linear(3, 3).weight.data.copy()
    gt.manual_seed(0)
    np.testing.assert_array_equal(nn.Linear(3, 3).weight.data, a)
    assert not np.array_equal(a, b)


def test_dropout_layer_follows_the_mode():
    layer = nn.Dropout(0.5)
    assert layer.eval()(X) is X
    assert (layer.train()(X) == 0).mean() > 0.3
    with pytest.raises(ValueError, match="p=2"):
        nn.Dropout(2)


def test_sequential_is_a_sequence():
    layers = nn.Sequential(nn.Linear(8, 4))
    layers.append(nn.ReLU()).append(np.tanh)  # any callable
    assert len(layers) == 3 and isinstance(layers[1], nn.ReLU) and isinstance(next(iter(layers)), nn.Linear)
    assert layers(X).shape == (3, 5, 4)
    assert list(layers.state_dict()) == ["0.weight", "0.bias"]
    assert repr(nn.Sequential(nn.Linear(2, 3, bias=False), nn.GELU())) == (
        "Sequential(\n  (0): Linear(2, 3, bias=False)\n  (1): GELU(approximate='none')\n)"
    )


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="embed_dim 8 is not a multiple of num_heads 3"):
        nn.MultiHeadAttention(8, 3)


def test_attention_weights_may_be_masked():
    layer = randomised(nn.MultiHeadAttention(8, 2))
    mask = np.tril(np.ones((5, 5), bool))
    np.testing.assert_allclose(layer(X, attn_mask=mask), layer(X, is_causal=True), rtol=1e-6)
