"""Programs for the pictures in these pages: `gradtape graph docs.models:gpt`."""

import numpy as np

import gradtape as gt


def gpt() -> gt.Compiled:
    """Six blocks, and sizes that stay open."""
    model = gt.models.GPT(vocab=65, context=64, width=128, depth=6, heads=4)
    return gt.compile(
        model,
        gt.spec(("B", "T"), "i64"),
        gt.spec(("B", "T"), "i64"),
        loss=gt.cross_entropy,
        optimizer=gt.AdamW(lr=1e-3),
    )


def cnn() -> gt.Compiled:
    model = gt.models.CNN(1, 8, 10)
    return gt.compile(
        model, gt.spec(("B", 1, 8, 8)), gt.spec(("B",), "i64"), loss=gt.cross_entropy, optimizer=gt.AdamW(lr=1e-3)
    )


def gru() -> gt.Compiled:
    model = gt.models.GRU(vocab=65, width=128, depth=1)
    return gt.compile(
        model,
        gt.spec(("B", "T"), "i64"),
        gt.spec(("B", "T"), "i64"),
        loss=gt.cross_entropy,
        optimizer=gt.AdamW(lr=1e-3),
    )


class Attention(gt.Module):
    def __init__(self, width: int) -> None:
        self.q, self.k, self.v = (gt.nn.Linear(width, width) for _ in range(3))

    def forward(self, x):
        q, k, v = self.q(x), self.k(x), self.v(x)
        k = gt.tensor(np.transpose(k.data, (0, 2, 1)))  # raw data: k's gradient ends here
        return gt.softmax(q @ k, -1) @ v


class Broken(gt.Module):
    def __init__(self) -> None:
        self.embed, self.attn, self.head = gt.nn.Linear(16, 32), Attention(32), gt.nn.Linear(32, 4)

    def forward(self, x):
        return self.head(self.attn(self.embed(x)).mean(1))


def broken() -> gt.Compiled:
    """Refused by the lint: a part of the attention cannot learn."""
    x, y = np.ones((8, 12, 16), "f4"), np.ones((8, 4), "f4")
    return gt.compile(Broken(), x, y, loss=gt.mse, optimizer=gt.AdamW(lr=1e-3))
