"""What is trained: sizes, hyperparameters, weights and batches, the same for every contestant. NumPy only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Config:
    """A GPT with biases, fused qkv, exact GELU and a tied head, and the batches that it is trained on."""

    vocab: int
    width: int
    depth: int
    heads: int
    length: int
    batch: int
    bias: bool = True

    @property
    def tokens(self) -> int:
        """Tokens in a batch."""
        return self.batch * self.length


CONFIGS = {
    "XS": Config(27, 32, 1, 2, 16, 8),
    "S": Config(65, 128, 2, 4, 32, 2),
    "M": Config(65, 128, 4, 4, 64, 12),
    "L": Config(65, 384, 6, 6, 256, 4),
}


@dataclass(frozen=True)
class Recipe:
    """AdamW with decoupled weight decay on matrices only, after clipping by global norm."""

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.99)
    eps: float = 1e-8
    weight_decay: float = 0.1
    max_norm: float = 1.0


RECIPE = Recipe()


def is_matrix(array: np.ndarray) -> bool:
    """Whether a parameter is decayed: linear layers and embeddings are, biases and gains are not."""
    return array.ndim >= 2


def gradtape_model(config: Config, seed: int = 0):
    import gradtape as gt

    gt.manual_seed(seed)
    return gt.models.GPT(config.vocab, config.length, config.width, config.depth, config.heads, bias=config.bias)


def gradtape_optimizer(model, lr=RECIPE.lr, recipe: Recipe = RECIPE):
    """lr: a float, or a function of the step (from 1)."""
    import gradtape as gt

    groups = [
        {"params": [p for p in model.parameters() if p.ndim >= 2], "weight_decay": recipe.weight_decay},
        {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    return gt.clip_by_global_norm(gt.AdamW(lr, recipe.betas, recipe.eps, params=groups), recipe.max_norm)


def initial_weights(config: Config, seed: int = 0) -> dict[str, np.ndarray]:
    """Parameters by path, as gradtape initialises them; a tied one appears once."""
    return {name: p.data.copy() for name, p in gradtape_model(config, seed).named_parameters()}


def synthetic_batches(config: Config, count: int, seed: int = 0) -> np.ndarray:
    """i64 [count, 2, batch, length], inputs and targets: three tokens of four follow from the one before.

    Such text can be learned, but not by heart: losses keep moving, and stay away from 0, where a relative
    difference would say little.
    """
    rng = np.random.default_rng(seed)
    shape = (count, config.batch, config.length + 1)
    noise, surprise = rng.integers(0, config.vocab, shape), rng.random(shape) < 0.25
    successor = rng.permutation(config.vocab)
    tokens = noise.copy()
    for t in range(1, shape[-1]):
        tokens[..., t] = np.where(surprise[..., t], noise[..., t], successor[tokens[..., t - 1]])
    return np.stack([tokens[..., :-1], tokens[..., 1:]], axis=1)
