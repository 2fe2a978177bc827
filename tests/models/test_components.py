"""Parts of a GPT alone, paths between them and the whole: compiled against eager, gradients against differences.

All in float64. What a part computes is multiplied by fixed random numbers and averaged, so that every element of it
has a cotangent of its own; the input is a parameter too, so that its gradient is looked at like the others.
"""

import numpy as np
import pytest

import gradtape as gt
from finite_differences import probes, wrong
from gradtape.ir.interp import evaluate_graph
from gradtape.models.gpt import Block, CausalSelfAttention, FeedForward
from gradtape.models.nn import Embedding, LayerNorm, Linear, MultiHeadAttention, RMSNorm

B, T, C, H, V = 3, 7, 12, 3, 11
F64 = "float64"


class ResidualAttention(gt.Module):
    """x -> LayerNorm -> attention -> residual"""

    def __init__(self):
        self.ln = LayerNorm(C, dtype=F64)
        self.attn = CausalSelfAttention(C, H, 0.0, True, "separate", F64)

    def forward(self, x):
        return x + self.attn(self.ln(x))


class CrossAttention(gt.Module):
    """Queries from x, keys and values from a shorter memory."""

    def __init__(self):
        self.attn = MultiHeadAttention(C, H, dtype=F64)
        self.memory = gt.Parameter(np.random.default_rng(9).standard_normal((B, 4, C)))

    def forward(self, x):
        return self.attn(x, self.memory)


class Head(gt.Module):
    """LayerNorm and the linear layer that makes logits."""

    def __init__(self):
        self.ln_f = LayerNorm(C, dtype=F64)
        self.head = Linear(C, V, bias=False, dtype=F64)

    def forward(self, x):
        return self.head(self.ln_f(x))


class Embedded(gt.Module):
    """Token and position tables."""

    def __init__(self):
        self.tok, self.pos = Embedding(V, C, F64), Embedding(T + 2, C, F64)

    def forward(self, ids):
        return self.tok(ids) + self.pos.weight[: ids.shape[1]]


def gpt(**options):
    return gt.models.GPT(V, T, C, depth=2, heads=H, dtype=F64, **options)


PARTS = {  # of (B, T, C)
    "layer_norm": lambda: LayerNorm(C, dtype=F64),
    "layer_norm_without_bias": lambda: LayerNorm(C, bias=False, dtype=F64),
    "rms_norm": lambda: RMSNorm(C, dtype=F64),
    "linear": lambda: Linear(C, 5, dtype=F64),
    "attention_fused": lambda: CausalSelfAttention(C, H, 0.0, True, "fused", F64),
    "attention_separate": lambda: CausalSelfAttention(C, H, 0.0, True, "separate", F64),
    "attention_without_bias": lambda: CausalSelfAttention(C, H, 0.0, False, "fused", F64),
    "attention_everywhere": lambda: MultiHeadAttention(C, H, dtype=F64),
    "attention_to_a_memory": CrossAttention,
    "mlp_erf": lambda: FeedForward(C, 0.0, True, "none", F64),
    "mlp_tanh": lambda: FeedForward(C, 0.0, True, "tanh", F64),
    "residual_attention": ResidualAttention,
    "block": lambda: Block(C, H, 0.0, True, "fused", "none", F64),
    "head": Head,
}
MODELS = {  # of ids (B, T)
    "embedding": lambda: Embedding(V, C, F64),
    "embedding_and_positions": Embedded,
    "gpt_tied": gpt,
    "gpt_untied": lambda: gpt(tied=False, qkv="separate"),
    "gpt_without_bias": lambda: gpt(bias=False, gelu="tanh"),
}


class Weighed(gt.Module):
    """`part` of a parameter x (of the ids where there is no x), each element times its weight."""

    def __init__(self, part, x):
        self.part = part
        if x is not None:
            self.x = gt.Parameter(x)

    def forward(self, ids, weights):
        return self.part(self.x if hasattr(self, "x") else ids) * weights


def build(name):
    gt.manual_seed(3)
    rng = np.random.default_rng(len(name))
    x = rng.standard_normal((B, T, C)) if name in PARTS else None
    ids = rng.integers(0, V, (B, T))
    model = Weighed((PARTS | MODELS)[name](), x)
    for parameter in model.part.parameters():  # gains are 1 and biases 0 at first: too easy
        parameter.data[...] += 0.3 * rng.standard_normal(parameter.shape)
    shape = model(ids, np.float64(1.0)).shape
    return model, ids, rng.standard_normal(shape)


mean = gt.objective(lambda model, ids, weights: gt.mean(model(ids, weights)))


@pytest.mark.parametrize("name", [*PARTS, *MODELS])
def test_forward(name):
    model, ids, weights = build(name)
    eager = model(ids, weights)
    assert eager.dtype == np.float64
    traced = gt.trace(model, ids, weights, train=False)
    interpreted = evaluate_graph(traced.graph, traced.bind(ids, weights))["out"]
    compiled = gt.compile(model).forward(ids, weights)
    for result in (interpreted, compiled):
        assert result.dtype == np.float64
        np.testing.assert_allclose(result, eager, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", [*PARTS, *MODELS])
def test_gradients(name):
    model, ids, weights = build(name)
    parameters = dict(model.named_parameters())
    loss, grads = gt.compile(model, loss=mean).value_and_grad(ids, weights)
    np.testing.assert_allclose(loss, model(ids, weights).mean(), rtol=1e-10)
    assert list(grads) == list(parameters)
    rng = np.random.default_rng(1)
    bad = {}
    for path, parameter in parameters.items():
        gradient = grads[path]
        if path.endswith("attn.k.bias") or path.endswith("part.k.bias"):
            other = grads[path.replace("k.bias", "q.bias")]
            assert np.abs(gradient).max() <= 1e-12 * np.abs(other).max()
            continue
        if path.endswith("qkv.bias") or path.endswith("in_proj_bias"):  # q, k, v: the middle third is the key bias
            third = len(gradient) // 3
            assert np.abs(gradient[third : 2 * third]).max() <= 1e-12 * np.abs(gradient[:third]).max()
            entries = [int(np.argmax(np.abs(gradient))), 0, third - 1, 2 * third, len(gradient) - 1]
            found = probes(lambda: model(ids, weights), parameter.data, entries, rng, random=0)
        else:
            found = probes(lambda: model(ids, weights), parameter.data, [int(np.argmax(np.abs(gradient)))], rng)
        if failed := wrong(found, gradient):
            bad[path] = failed
    assert bad == {}


@pytest.mark.parametrize("name", ["attention_fused", "block", "gpt_tied"])
def test_threads_and_float32(name):
    """The same part in float32, on 1, 2 and 3 threads: float32's error, and nothing of the threads."""
    model, ids, weights = build(name)
    exact = model(ids, weights)
    for parameter in model.parameters():
        parameter._array = parameter.data.astype(np.float32)
    for threads in (1, 2, 3):
        result = gt.compile(model, threads=threads).forward(ids, weights.astype(np.float32))
        assert result.dtype == np.float32
        np.testing.assert_allclose(result, exact, rtol=1e-4, atol=1e-4)
