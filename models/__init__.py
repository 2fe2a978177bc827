"""Models, layers, initialisation, optimizers and schedules: each file is read top to bottom."""

from . import init, nn, schedule
from .cnn import CNN
from .generation import generate
from .gpt import GPT
from .gru import GRU
from .mlp import MLP
from .optim import SGD, Adam, AdamW, Lion, Optimizer, as_optimizer, clip_by_global_norm, from_function

__all__ = [
    "CNN", "GPT", "GRU", "MLP", "SGD", "Adam", "AdamW", "Lion", "Optimizer", "as_optimizer", "clip_by_global_norm",
    "from_function", "generate", "init", "nn", "schedule",
]  # fmt: skip
