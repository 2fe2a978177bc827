"""Tiny Shakespeare at nanoGPT's CPU setting, in gradtape and, where it is installed, in PyTorch.

    python benchmarks/shakespeare.py [--data FILE] [--steps 2000]

4 layers, width 128, 4 heads, context 64, batch 12, no dropout, no biases, tied embedding; AdamW (lr 1e-3, betas 0.9 and
0.99, weight decay 0.1 on matrices), clipping at 1.0, warm-up 100, cosine to 1e-4. The same weights and batches for
both; the loss is over the whole held-out tenth.
"""

# torch and jax come with the extra `peers`, which is not installed where types are checked:
# pyright: reportMissingImports=false

from __future__ import annotations

import argparse
import importlib.util
import os
import time
from pathlib import Path

import numpy as np
from recipe import RECIPE, Config, gradtape_model, gradtape_optimizer, initial_weights

CONFIG = Config(vocab=65, width=128, depth=4, heads=4, length=64, batch=12, bias=False)


def default_data() -> Path:
    folder = os.environ.get("GRADTAPE_TEST_DATA", Path(__file__).parents[2] / "shared" / "data")
    return Path(folder) / "tinyshakespeare.txt"


def run_gradtape(batches, validation, schedule, steps: int) -> float:
    import gradtape as gt

    model = gradtape_model(CONFIG)
    step = gt.compile(model, loss=gt.cross_entropy, optimizer=gradtape_optimizer(model, lr=schedule))
    for i in range(steps):
        step(*batches[i])
    parts = [(float(step.evaluate(x, y)), y.size) for x, y in validation()]
    return sum(v * n for v, n in parts) / sum(n for _, n in parts)


def run_torch(batches, validation, schedule, steps: int) -> float:
    import torch
    from peers import torch_model, torch_optimizer

    model = torch_model(CONFIG, initial_weights(CONFIG))
    optimizer = torch_optimizer(model)
    for i in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = schedule(i + 1)
        optimizer.zero_grad(set_to_none=True)
        model(*(torch.from_numpy(np.ascontiguousarray(a)) for a in batches[i])).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), RECIPE.max_norm)
        optimizer.step()
    with torch.no_grad():
        pairs = ([torch.from_numpy(np.ascontiguousarray(a)) for a in pair] for pair in validation())
        parts = [(model(x, y).item(), y.numel()) for x, y in pairs]
    return sum(v * n for v, n in parts) / sum(n for _, n in parts)


def main() -> None:
    from gradtape import schedule
    from gradtape.models.data import Batches, CharTokenizer, split, text_from_file, windows

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=default_data())
    parser.add_argument("--steps", type=int, default=2000)
    given = parser.parse_args()
    text = text_from_file(given.data)
    train, held_out = split(CharTokenizer.of(text).encode(text), CONFIG.length)
    batches = Batches(train, CONFIG.batch, CONFIG.length, seed=1)
    lr = schedule.warmup_cosine(RECIPE.lr, 100, given.steps, 1e-4)
    contestants = {"gradtape": run_gradtape, "torch": run_torch}
    for name, run in contestants.items():
        if importlib.util.find_spec(name) is None:
            print(f"{name}: not installed, skipped")
            continue
        start = time.perf_counter()
        loss = run(batches, lambda: windows(held_out, 64, CONFIG.length), lr, given.steps)
        print(f"{name}: validation loss {loss:.4f} after {given.steps} steps, {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
