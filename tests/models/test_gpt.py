"""GPT and MLP: shapes, keys, initialisation; one symbolic trace serves every batch and length."""

import math
from typing import Any

import numpy as np
import pytest

from gradtape import tracer as gt
from gradtape.ir.dims import Dim
from gradtape.ir.interp import evaluate_graph
from gradtape.ir.text import parse, to_text
from gradtape.ir.verify import verify
from gradtape.models import GPT, MLP

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def seeded():
    gt.manual_seed(0)
    yield
    gt.manual_seed(0)


def tokens(b, t, vocab=65):
    return RNG.integers(0, vocab, (b, t))


VARIANTS = {
    "tied": {},
    "untied": {"tied": False},
    "separate": {"qkv": "separate", "tied": False},
    "no bias": {"bias": False},
    "tanh": {"gelu": "tanh"},
    "dropout": {"dropout": 0.2},
    "f64": {"dtype": "float64"},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_one_trace_for_every_shape(name):
    model = GPT(65, 16, 32, 2, 4, **VARIANTS[name])
    traced = gt.trace(
        lambda x, y: gt.cross_entropy(model(x), y),
        gt.spec(("B", "T"), "i64"),
        gt.spec(("B", "T"), "i64"),
        module=model,
    )
    verify(traced.graph)
    assert parse(to_text(traced.graph), traced.graph.constants) == traced.graph
    assert [str(g) for g in traced.graph.guards] == ["T <= 16"]  # neither B nor T is pinned
    assert traced.graph.symbols["T"].max == 16 and traced.graph.symbols["B"].max is None
    assert not traced.graph.constants and not traced.ledger.escapes
    for b, t in ((2, 5), (1, 16), (3, 1), (5, 5)):
        x, y = tokens(b, t), tokens(b, t)
        gt.manual_seed(7)
        eager = gt.cross_entropy(model(x), y)
        got = evaluate_graph(traced.graph, traced.bind(x, y, seed=7, step=0))["out"]
        np.testing.assert_allclose(got, eager, rtol=1e-5)
        assert got.dtype == eager.dtype == (np.float64 if name == "f64" else np.float32)


def test_specs_with_a_bound_need_no_guard():
    model = GPT(65, 16, 32, 1, 4)
    traced = gt.trace(model, gt.spec(("B", Dim("T", max=16)), "i64"))
    assert traced.graph.guards == ()


def test_too_long_is_said_in_both_modes():
    model = GPT(65, 16, 32, 1, 4)
    with pytest.raises(AssertionError, match="17 positions, but the context is 16"):
        model(tokens(1, 17))
    with pytest.raises(AssertionError, match="T positions, but the context is 16"):
        gt.trace(model, gt.spec(("B", Dim("T", min=17)), "i64"))


def test_the_model_with_separate_projections_has_21_parameters():
    model = GPT(65, 64, 128, depth=1, heads=4, tied=False, qkv="separate")
    assert [p for p, _ in model.named_parameters()] == [
        "tok.weight", "pos.weight",
        "blocks.0.ln1.weight", "blocks.0.ln1.bias",
        "blocks.0.attn.q.weight", "blocks.0.attn.q.bias", "blocks.0.attn.k.weight", "blocks.0.attn.k.bias",
        "blocks.0.attn.v.weight", "blocks.0.attn.v.bias", "blocks.0.attn.proj.weight", "blocks.0.attn.proj.bias",
        "blocks.0.ln2.weight", "blocks.0.ln2.bias",
        "blocks.0.mlp.fc.weight", "blocks.0.mlp.fc.bias", "blocks.0.mlp.proj.weight", "blocks.0.mlp.proj.bias",
        "ln_f.weight", "ln_f.bias", "head.weight",
    ]  # fmt: skip
    assert model(tokens(2, 32)).shape == (2, 32, 65)


def test_tying_is_one_parameter():
    model = GPT(65, 16, 32, 1, 4)
    assert model.aliases() == {"tok.weight": ["tok.weight", "head.weight"]}
    assert "head.weight" in model.state_dict()
    traced = gt.trace(model, gt.spec(("B", "T"), "i64"))
    assert "head.weight" not in traced.graph.roles


def test_initialisation():
    depth = 3
    model = GPT(65, 64, 64, depth, 4, tied=False)
    for path, parameter in model.named_parameters():
        if path.endswith("bias"):
            assert not parameter.data.any()
        elif parameter.ndim == 1:
            assert (parameter.data == 1).all()
        else:
            std = 0.02 / math.sqrt(2 * depth) if path.endswith("proj.weight") else 0.02
            assert abs(parameter.data.std() / std - 1) < 5 / math.sqrt(2 * parameter.size), path
    loss = gt.cross_entropy(model(tokens(4, 64)), tokens(4, 64))
    assert abs(loss - math.log(65)) < 0.1  # it knows nothing yet


def test_fused_and_separate_projections_agree():
    fused, separate = GPT(65, 16, 32, 2, 4), GPT(65, 16, 32, 2, 4, qkv="separate")
    state = fused.state_dict()
    for i in range(2):
        for kind in ("weight", "bias"):
            parts = np.split(state.pop(f"blocks.{i}.attn.qkv.{kind}"), 3)
            state |= {f"blocks.{i}.attn.{name}.{kind}": part for name, part in zip("qkv", parts, strict=True)}
    separate.load_state_dict(state)
    x = tokens(2, 9)
    np.testing.assert_allclose(separate(x), fused(x), rtol=1e-4, atol=1e-5)


def test_the_future_is_hidden():
    model = GPT(65, 16, 32, 2, 4)
    x = tokens(2, 16)
    other = x.copy()
    other[:, 10:] = (x[:, 10:] + 1) % 65
    a, b = model(x), model(other)
    np.testing.assert_array_equal(a[:, :10], b[:, :10])
    assert np.abs(a[:, 10:] - b[:, 10:]).max() > 0


def test_locations_name_the_block():
    traced = gt.trace(GPT(65, 16, 32, 2, 4), gt.spec(("B", "T"), "i64"))
    scopes = {n.location.scope for n in traced.graph.nodes if n.location is not None}
    assert {"tok", "blocks.0.attn", "blocks.1.mlp.fc", "ln_f", "head", ""} <= scopes


@pytest.mark.parametrize(
    ("options", "text"),
    [({"heads": 5}, "width 32 is not a multiple of heads 5"), ({"qkv": "both"}, 'qkv is "fused" or "separate"')],
)
def test_wrong_options(options, text):
    with pytest.raises(ValueError, match=text):
        GPT(**{"vocab": 65, "context": 16, "width": 32, "depth": 1, "heads": 4, **options})


def test_gpt_is_pytorchs():
    torch = pytest.importorskip("torch")
    model = GPT(65, 16, 32, 1, 4, gelu="tanh")
    w = {k: torch.tensor(v) for k, v in model.state_dict().items()}
    x = tokens(2, 9)
    f = torch.nn.functional
    h = w["tok.weight"][torch.tensor(x)] + w["pos.weight"][:9]
    b = "blocks.0."
    n = f.layer_norm(h, (32,), w[b + "ln1.weight"], w[b + "ln1.bias"])
    q, k, v = (
        t.view(2, 9, 4, 8).transpose(1, 2)
        for t in f.linear(n, w[b + "attn.qkv.weight"], w[b + "attn.qkv.bias"]).split(32, -1)
    )
    a = f.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(2, 9, 32)
    h = h + f.linear(a, w[b + "attn.proj.weight"], w[b + "attn.proj.bias"])
    n = f.layer_norm(h, (32,), w[b + "ln2.weight"], w[b + "ln2.bias"])
    m = f.gelu(f.linear(n, w[b + "mlp.fc.weight"], w[b + "mlp.fc.bias"]), approximate="tanh")
    h = h + f.linear(m, w[b + "mlp.proj.weight"], w[b + "mlp.proj.bias"])
    expected = f.layer_norm(h, (32,), w["ln_f.weight"], w["ln_f.bias"]) @ w["head.weight"].T
    np.testing.assert_allclose(model(x), expected.numpy(), rtol=1e-4, atol=1e-5)


# MLP --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("activation", [gt.relu, np.tanh, gt.gelu])
def test_mlp(activation):
    model: Any = MLP(6, 16, 8, 3, activation=activation)
    assert list(model.state_dict()) == [f"layers.{i}.{k}" for i in range(3) for k in ("weight", "bias")]
    traced = gt.trace(model, gt.spec(("B", 6)))
    assert traced.graph.guards == () and traced.ledger.escapes == []
    for b in (1, 4):
        x = RNG.standard_normal((b, 6)).astype(np.float32)
        got = evaluate_graph(traced.graph, traced.bind(x))["out"]
        h = x
        for layer in model.layers[:-1]:
            h = activation(h @ layer.weight.data.T + layer.bias.data)
        expected = h @ model.layers[-1].weight.data.T + model.layers[-1].bias.data
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(model(x), expected, rtol=1e-5, atol=1e-6)


def test_mlp_needs_two_sizes():
    with pytest.raises(ValueError, match="an input and an output size"):
        MLP(3)
