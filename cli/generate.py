"""`gradtape generate`: samples text from a checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

if TYPE_CHECKING:
    from ..models.data import CharTokenizer


def generate(
    forward: Callable[[np.ndarray], np.ndarray],
    tokenizer: CharTokenizer,
    prompt: str,
    tokens: int,
    context: int,
    temperature: float = 0.8,
    top_k: int | None = None,
    seed: int = 0,
) -> str:
    """`prompt` and `tokens` characters after it. `forward` maps ids (1, context) to logits (1, context, vocabulary) and
    lets nothing of a later position into an earlier one.

    temperature: 0 takes the likeliest character every time; top_k: only the k likeliest are drawn from.
    """
    rng = np.random.default_rng(seed)
    ids = list(tokenizer.encode(prompt))
    window = np.zeros((1, context), np.int64)  # always of one size: binding a tape to another costs 50 ms
    for _ in range(tokens):
        seen = ids[-context:]
        window[0, : len(seen)] = seen
        logits = np.asarray(forward(window))[0, len(seen) - 1].astype(np.float64)
        ids.append(choose(logits, temperature, top_k, rng))
    return tokenizer.decode(ids)


def choose(logits: np.ndarray, temperature: float, top_k: int | None, rng: np.random.Generator) -> int:
    """One id, drawn from softmax(logits / temperature) over the `top_k` likeliest."""
    if temperature == 0:
        return int(np.argmax(logits))
    if top_k is not None and top_k < len(logits):
        logits = np.where(logits >= np.sort(logits)[-top_k], logits, -np.inf)
    scaled = (logits - np.max(logits)) / temperature
    p = np.exp(scaled)
    return int(rng.choice(len(p), p=p / p.sum()))


@click.command("generate")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--prompt", default="\n", show_default="a new line", help="text to go on from")
@click.option("--tokens", type=click.IntRange(1), default=500, show_default=True, help="characters to write")
@click.option("--temperature", type=click.FloatRange(0), default=0.8, show_default=True, help="0 is greedy")
@click.option("--top-k", type=click.IntRange(1), default=None, help="draw from the k likeliest only")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
def generate_command(checkpoint: Path, prompt: str, tokens: int, threads: int, **how: Any) -> None:
    """Write text with a model that `gradtape train` has saved (a file, or the run's folder)."""
    from ..compiler import compile as compile_model
    from ..models.data import CharTokenizer, DataError
    from .checkpoints import CheckpointError, load
    from .tasks import build_model

    if not prompt:
        raise click.BadParameter("the prompt is empty; give at least one character", param_hint="--prompt")
    try:
        saved = load(checkpoint)
        if "vocabulary" not in saved.info:
            raise CheckpointError(
                f"{checkpoint} holds a model of kind {saved.info['model']['model']}, which writes no text"
            )
        tokenizer = CharTokenizer(saved.info["vocabulary"])
        model = build_model(saved.info["model"])
        try:
            model.load_state_dict(saved.weights)
        except ValueError as error:
            raise CheckpointError(f"the weights do not fit the checkpoint's own model: {error}") from None
        program = compile_model(model, threads=threads)
        click.echo(generate(program.forward, tokenizer, prompt, tokens, saved.info["model"]["context"], **how))
    except (CheckpointError, DataError) as error:
        raise click.ClickException(str(error)) from None
