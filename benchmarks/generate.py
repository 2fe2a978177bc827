"""Tokens per second of a GPT that writes, in gradtape and PyTorch eager, in turn within one run.

    python benchmarks/generate.py [M1 M8 L1 L8] [--rounds N] [--threads N] [--only gradtape,torch,...]

M and L are the sizes of step.py, the number is that of the sequences written at once. A text begins with one id and is
as long as the context; ids are drawn from softmax(logits / 0.8). "torch" keeps keys and values in tensors of the full
length, "whole" computes the whole text again for each id, as nanoGPT's generate does. Chunks are thrown away as
referee.py says; "CPU us" is the CPU time that a token takes, over all chunks: other processes disturb it less.
"""

# torch comes with the extra `peers`, which is not installed where types are checked:
# pyright: reportMissingImports=false

from __future__ import annotations

import argparse
import importlib.util
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import referee
from recipe import CONFIGS, Config, gradtape_model, initial_weights, synthetic_batches

CASES = {"M1": ("M", 1), "M8": ("M", 8), "L1": ("L", 1), "L8": ("L", 8)}
CHUNKS = {"M1": 8, "M8": 6, "L1": 1, "L8": 1}  # texts
NAMES = ("gradtape", "gradtape whole", "torch", "torch whole")
TEMPERATURE = 0.8


# contestants --------------------------------------------------------------------------------------------------------
def contestant(name: str, case: str, threads: int) -> tuple[Callable[[list], list], list]:
    """Writes one text for each batch; the first five only read a given text, and return how well they foresaw it."""
    size, batch = CASES[case]
    config = CONFIGS[size]
    data = [pair[:, :1].repeat(batch, 1) for pair in synthetic_batches(config, 5)]
    foresee, write = (torch_writer if name.startswith("torch") else gradtape_writer)(config, batch, name, threads)
    asked = 0

    def run(batches: list) -> list:
        nonlocal asked
        asked += 1
        if asked <= 5:
            return [foresee(*batches[0])]
        for _ in batches:
            write()
        return []

    return run, data


def surprise(logits: np.ndarray, target: np.ndarray) -> float:
    """The mean cross-entropy of (B, T, V) and (B, T)."""
    top = logits.max(-1, keepdims=True)
    log_p = logits - top - np.log(np.exp(logits - top).sum(-1, keepdims=True))
    return float(-np.take_along_axis(log_p, target[..., None], -1).mean())


def gradtape_writer(config: Config, batch: int, name: str, threads: int):
    import gradtape as gt

    cache = "whole" not in name
    program = gt.compile(gradtape_model(config), threads=threads)
    step = program.decoder(batch, config.length, cache)

    def foresee(x, y):
        return surprise(np.stack([step(x[:, t : t + 1], t) for t in range(config.length)], 1), y)

    def write():
        start = np.zeros((batch, 1), np.int64)
        program.generate(start, config.length - 1, temperature=TEMPERATURE, cache=cache)

    return foresee, write


def torch_writer(config: Config, batch: int, name: str, threads: int):
    import torch
    from peers import torch_decoder, torch_model

    torch.set_num_threads(threads)
    if "whole" in name:
        model = torch_model(config, initial_weights(config)).eval()
    else:
        model = torch_decoder(config, initial_weights(config), batch).eval()

    def last(ids, t):
        return (model(ids) if "whole" in name else model(ids[:, t:], t))[:, -1]

    @torch.inference_mode()
    def foresee(x, y):
        ids = torch.from_numpy(x)
        logits = [last(ids[:, : t + 1], t) for t in range(config.length)]
        return surprise(torch.stack(logits, 1).numpy(), y)

    @torch.inference_mode()
    def write():
        ids = torch.zeros(batch, config.length, dtype=torch.int64)
        for t in range(config.length - 1):
            p = torch.softmax(last(ids[:, : t + 1], t) / TEMPERATURE, -1)
            ids[:, t + 1] = torch.multinomial(p, 1)[:, 0]

    return foresee, write


# the comparison -----------------------------------------------------------------------------------------------------
def compare(case: str, names: list[str], rounds: int, threads: int) -> list[str]:
    size, batch = CASES[case]
    tokens = CHUNKS[case] * batch * (CONFIGS[size].length - 1)
    contestants = [referee.Contestant(__file__, name, case, threads) for name in names]
    for c in contestants:
        worst = max(abs(a - b) / abs(b) for a, b in zip(c.losses, contestants[0].losses, strict=True))
        print(f"{case} {c.name}: first texts {', '.join(f'{v:.5f}' for v in c.losses)}, differ by {worst:.1e}")
        if worst > 1e-4:
            raise SystemExit(f"{case}: {c.name} and {contestants[0].name} are not the same model")
    cpu: dict[str, list[float]] = {name: [] for name in names}
    rates: dict[str, list[float]] = {name: [] for name in names}
    for c in contestants:
        c.ask(CHUNKS[case])
    for _ in range(rounds):
        for c in contestants:
            seconds = c.chunk(CHUNKS[case])
            cpu[c.name].append(1e6 * c.cpu / tokens)
            if seconds is not None:
                rates[c.name].append(tokens / (seconds * CHUNKS[case]))
    median = {name: statistics.median(found) if found else 0.0 for name, found in rates.items()}
    busy = {name: statistics.median(found) for name, found in cpu.items()}
    rows = []
    for c in contestants:
        c.end()
        rate, mine, first = median[c.name], busy[c.name], contestants[0].name
        slower = f"{median[first] / rate:.1f}" if rate and median[first] else "-"
        numbers = f"{rate:,.0f} | {slower} | {mine:.1f} | {mine / busy[first]:.1f}" if rate else (
            f"every chunk was disturbed | - | {mine:.1f} | {mine / busy[first]:.1f}"
        )  # fmt: skip
        rows.append(f"| {case} | {c.name} | {numbers} | {c.cold:.1f} | {c.memory:.0f} | {c.thrown} |")
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    if sys.argv[1:2] == ["--worker"]:
        name, case, threads = sys.argv[2:]
        referee.serve(*contestant(name, case, int(threads)))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=list(CASES), help=" ".join(CASES))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", default=",".join(NAMES), help="contestants, gradtape among them")
    parser.add_argument("--out", type=Path, help="append the table to this Markdown file")
    given = parser.parse_args()
    names = [n for n in NAMES if n in given.only.split(",") and importlib.util.find_spec(n.split()[0])]
    head = [
        f"{referee.machine()}; threads: {given.threads}; up to {given.rounds} chunks each",
        "",
        "| size, batch | contestant | tokens/s, median | times slower | CPU us a token | times gradtape | cold start s "
        "| peak MiB | thrown |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    rows = [row for case in given.cases for row in compare(case, names, given.rounds, given.threads)]
    text = "\n".join([*head, *rows, ""])
    print(text)
    if given.out:
        with given.out.open("a") as file:
            file.write("\n" + text)


if __name__ == "__main__":
    main()
