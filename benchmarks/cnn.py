"""A training step of a CNN in gradtape and PyTorch (eager, compiled), in turn within one run.

    python benchmarks/cnn.py [digits cifar] [--rounds N] [--threads N] [--only gradtape,torch,...]

Blocks of a 3 x 3 convolution, relu and 2 x 2 max-pooling, then a linear layer; AdamW with clipping, as in recipe.py.
`digits` is of the size of scikit-learn's digits, `cifar` of CIFAR-10. referee.py says how they are compared; "products"
is the gradtape tape with only its convolutions and matrix products.
"""

# torch comes with the extra `peers`, which is not installed where types are checked:
# pyright: reportMissingImports=false

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import referee
from recipe import gradtape_optimizer


@dataclass(frozen=True)
class Config:
    channels: int
    size: int
    widths: tuple[int, ...]
    batch: int
    classes: int = 10


CONFIGS = {"digits": Config(1, 8, (16, 32), 64), "cifar": Config(3, 32, (32, 64, 128), 32)}
CHUNKS = {"digits": 100, "cifar": 8}
BATCHES = 8


def gradtape_model(config: Config):
    import gradtape as gt

    gt.manual_seed(0)
    return gt.models.CNN(config.channels, config.size, config.classes, config.widths)


def torch_model(config: Config, weights: dict[str, np.ndarray]):
    """An nn.Module: images (B, C, H, W) and classes (B,) -> the mean cross-entropy."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    class Block(nn.Module):
        def __init__(self, channels, width):
            super().__init__()
            self.conv = nn.Conv2d(channels, width, 3, padding=1)

        def forward(self, x):
            return F.max_pool2d(F.relu(self.conv(x)), 2)

    class CNN(nn.Module):
        def __init__(self):
            super().__init__()
            widths = (config.channels, *config.widths)
            self.blocks = nn.ModuleList(Block(c, d) for c, d in zip(widths, config.widths, strict=False))
            self.head = nn.Linear(widths[-1] * (config.size >> len(config.widths)) ** 2, config.classes)

        def forward(self, x, target):
            for block in self.blocks:
                x = block(x)
            return F.cross_entropy(self.head(x.flatten(1)), target)

    model = CNN()
    model.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in weights.items()})
    return model


def images(config: Config) -> list[tuple[np.ndarray, np.ndarray]]:
    """Batches of (images, classes): an image is a faint pattern of its class under noise."""
    rng = np.random.default_rng(0)
    shape = (config.channels, config.size, config.size)
    patterns = rng.standard_normal((config.classes, *shape))
    classes = rng.integers(0, config.classes, (BATCHES, config.batch))
    noise = rng.standard_normal((BATCHES, config.batch, *shape))
    return [((0.1 * patterns[y] + n).astype(np.float32), y) for y, n in zip(classes, noise, strict=True)]


def contestant(name, config_name, threads):
    config = CONFIGS[config_name]
    data, model = images(config), gradtape_model(config)
    if name.startswith("torch"):
        import torch
        from peers import torch_run

        theirs = torch_model(config, model.state_dict())
        batches = [(torch.from_numpy(x), torch.from_numpy(y)) for x, y in data]
        return torch_run(theirs, threads, compiled=name == "torch.compile"), batches
    import gradtape as gt

    step = gt.compile(model, loss=gt.cross_entropy, optimizer=gradtape_optimizer(model), threads=threads)
    if name == "products":
        return referee.products_only(step, data[0]), data
    return lambda batches: [float(step(x, y)) for x, y in batches], data


if __name__ == "__main__":
    referee.main(__file__, __doc__, CHUNKS, ["gradtape", "products", "torch", "torch.compile"], contestant)
