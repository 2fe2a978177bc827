"""The GPT of gradtape.models.gpt and its training step in PyTorch and in JAX, each read top to bottom.

Both take the weights of the gradtape model under its own names; a function `run(batches)` trains on every (inputs,
targets) pair in turn and returns the losses. Shapes: B batch, T positions, C width, H heads,
D = C / H, V vocabulary.
"""
# torch and jax come with the extra `peers`, which is not installed where types are checked:
# pyright: reportMissingImports=false

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from recipe import RECIPE, Config, Recipe, is_matrix

Weights = dict[str, np.ndarray]
Run = Callable[[Iterable], list[float]]


# PyTorch ------------------------------------------------------------------------------------------------------------
def torch_model(config: Config, weights: Weights):
    """An nn.Module: ids and targets (B, T) -> the mean cross-entropy; without targets, logits (B, T, V)."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    C, H, bias = config.width, config.heads, config.bias

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv = nn.Linear(C, 3 * C, bias)
            self.proj = nn.Linear(C, C, bias)

        def forward(self, x):
            B, T, _ = x.shape
            q, k, v = (h.view(B, T, H, C // H).transpose(1, 2) for h in self.qkv(x).split(C, dim=2))
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            return self.proj(y.transpose(1, 2).reshape(B, T, C))

    class FeedForward(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(C, 4 * C, bias)
            self.proj = nn.Linear(4 * C, C, bias)

        def forward(self, x):
            return self.proj(F.gelu(self.fc(x)))

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.ln1 = nn.LayerNorm(C, bias=bias)
            self.attn = Attention()
            self.ln2 = nn.LayerNorm(C, bias=bias)
            self.mlp = FeedForward()

        def forward(self, x):
            x = x + self.attn(self.ln1(x))
            return x + self.mlp(self.ln2(x))

    class GPT(nn.Module):
        def __init__(self):
            super().__init__()
            self.tok = nn.Embedding(config.vocab, C)
            self.pos = nn.Embedding(config.length, C)
            self.blocks = nn.ModuleList([Block() for _ in range(config.depth)])
            self.ln_f = nn.LayerNorm(C, bias=bias)
            self.head = nn.Linear(C, config.vocab, bias=False)
            self.head.weight = self.tok.weight

        def forward(self, idx, target=None):
            x = self.tok(idx) + self.pos.weight[: idx.shape[1]]
            for block in self.blocks:
                x = block(x)
            logits = self.head(self.ln_f(x))
            if target is None:
                return logits
            return F.cross_entropy(logits.view(-1, config.vocab), target.view(-1))

    model = GPT()
    state = {name: torch.from_numpy(array.copy()) for name, array in weights.items()}
    model.load_state_dict({**state, "head.weight": state["tok.weight"]})
    return model


def torch_decoder(config: Config, weights: Weights, batch: int):
    """The same for writing: (ids (B, T), position) -> logits (B, T, V). Keys and values of all positions are kept in
    tensors of the full length; attention reads the part of them that is filled."""
    import torch
    from torch.nn import functional as F

    model = torch_model(config, weights)
    H, D = config.heads, config.width // config.heads
    caches = [torch.zeros(2, batch, H, config.length, D) for _ in model.blocks]

    def attention(layer, cache, x, position):
        B, T, C = x.shape
        q, k, v = (h.view(B, T, H, D).transpose(1, 2) for h in layer.qkv(x).split(C, dim=2))
        end = position + T
        cache[0, :, :, position:end] = k
        cache[1, :, :, position:end] = v
        y = F.scaled_dot_product_attention(q, cache[0, :, :, :end], cache[1, :, :, :end], is_causal=T > 1)
        return layer.proj(y.transpose(1, 2).reshape(B, T, C))

    def forward(idx, position):
        x = model.tok(idx) + model.pos.weight[position : position + idx.shape[1]]
        for block, cache in zip(model.blocks, caches, strict=True):
            x = x + attention(block.attn, cache, block.ln1(x), position)
            x = x + block.mlp(block.ln2(x))
        return model.head(model.ln_f(x))

    model.forward = forward  # pyright: ignore[reportAttributeAccessIssue]: a cached step takes a position
    return model


def torch_optimizer(model, recipe: Recipe = RECIPE):
    """AdamW, fused: measured to be the fastest of its three forms on a CPU (see README.md)."""
    import torch

    groups = [
        {"params": [p for p in model.parameters() if p.ndim >= 2], "weight_decay": recipe.weight_decay},
        {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.lr, betas=recipe.betas, eps=recipe.eps, fused=True)


def torch_run(model, threads: int, compiled: bool = False) -> Run:
    """`model(inputs, targets)` is the loss. `compiled`: model and loss through torch.compile in its default mode;
    clipping and AdamW stay as they are."""
    import torch

    torch.set_num_threads(threads)
    optimizer = torch_optimizer(model)
    parameters = list(model.parameters())
    loss_of = torch.compile(model) if compiled else model

    def run(batches):
        losses = []
        for x, y in batches:
            optimizer.zero_grad(set_to_none=True)
            loss = loss_of(x, y)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, RECIPE.max_norm, foreach=True)
            optimizer.step()
            losses.append(loss.item())
        return losses

    return run


# JAX ----------------------------------------------------------------------------------------------------------------
def jax_loss(config: Config):
    """(parameters by path, ids, targets (B, T)) -> the mean cross-entropy."""
    import jax
    import jax.numpy as jnp

    C, H = config.width, config.heads

    def linear(p, name, x):
        y = x @ p[f"{name}.weight"].T
        return y + p[f"{name}.bias"] if config.bias else y

    def layer_norm(p, name, x):
        mean = x.mean(-1, keepdims=True)
        variance = jnp.square(x - mean).mean(-1, keepdims=True)
        y = (x - mean) * jax.lax.rsqrt(variance + 1e-5) * p[f"{name}.weight"]
        return y + p[f"{name}.bias"] if config.bias else y

    def attention(p, name, x):
        B, T, _ = x.shape
        q, k, v = (h.reshape(B, T, H, C // H) for h in jnp.split(linear(p, f"{name}.qkv", x), 3, -1))
        y = jax.nn.dot_product_attention(q, k, v, is_causal=True)
        return linear(p, f"{name}.proj", y.reshape(B, T, C))

    def feed_forward(p, name, x):
        return linear(p, f"{name}.proj", jax.nn.gelu(linear(p, f"{name}.fc", x), approximate=False))

    def loss(p, idx, target):
        x = p["tok.weight"][idx] + p["pos.weight"][: idx.shape[1]]
        for i in range(config.depth):
            x = x + attention(p, f"blocks.{i}.attn", layer_norm(p, f"blocks.{i}.ln1", x))
            x = x + feed_forward(p, f"blocks.{i}.mlp", layer_norm(p, f"blocks.{i}.ln2", x))
        logits = layer_norm(p, "ln_f", x) @ p["tok.weight"].T
        right = jnp.take_along_axis(logits, target[..., None], axis=-1)[..., 0]
        return (jax.nn.logsumexp(logits, axis=-1) - right).mean()

    return loss


def jax_train_step(config: Config, recipe: Recipe = RECIPE):
    """One jitted function (parameters, first moments, second moments, step from 1, ids, targets) -> the first three
    anew, and the loss; what it replaces is donated."""
    import jax
    import jax.numpy as jnp

    loss_and_gradients = jax.value_and_grad(jax_loss(config))
    beta1, beta2 = recipe.betas

    def train_step(p, m, v, step, idx, target):
        loss, g = loss_and_gradients(p, idx, target)
        norm = jnp.sqrt(sum(jnp.sum(jnp.square(a)) for a in g.values()))
        clip = jnp.minimum(1.0, recipe.max_norm / (norm + 1e-6))
        size, root = recipe.lr / (1 - beta1**step), jnp.sqrt(1 - beta2**step)
        new_p, new_m, new_v = {}, {}, {}
        for name in p:
            grad = g[name] * clip
            new_m[name] = beta1 * m[name] + (1 - beta1) * grad
            new_v[name] = beta2 * v[name] + (1 - beta2) * jnp.square(grad)
            decay = recipe.lr * recipe.weight_decay if is_matrix(p[name]) else 0.0
            update = size * new_m[name] / (jnp.sqrt(new_v[name]) / root + recipe.eps)
            new_p[name] = p[name] * (1 - decay) - update
        return new_p, new_m, new_v, loss

    return jax.jit(train_step, donate_argnums=(0, 1, 2))


def jax_run(config: Config, weights: Weights) -> Run:
    """The number of threads is that of the CPUs that the process may use: XLA has no setting for it."""
    import jax.numpy as jnp

    train_step = jax_train_step(config)
    p = {name: jnp.array(array) for name, array in weights.items()}
    m = {name: jnp.zeros_like(array) for name, array in p.items()}
    v = {name: jnp.zeros_like(array) for name, array in p.items()}
    step = 0

    def run(batches):
        nonlocal p, m, v, step
        losses = []
        for x, y in batches:
            step += 1
            p, m, v, loss = train_step(p, m, v, float(step), x, y)
            losses.append(float(loss))
        return losses

    return run
