"""`gradtape generate`: samples text from a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from ..compiler import Compiled
    from ..models.data import CharTokenizer


def write(
    program: Compiled,
    tokenizer: CharTokenizer,
    prompt: str,
    tokens: int,
    context: int,
    temperature: float = 0.8,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
) -> str:
    """`prompt` and `tokens` characters after it; the options are those of `gt.generate`."""
    ids = program.generate(
        tokenizer.encode(prompt), tokens, temperature=temperature, top_k=top_k, top_p=top_p, seed=seed, context=context
    )
    return tokenizer.decode(ids)


@click.command("generate")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--prompt", default="\n", show_default="a new line", help="text to go on from")
@click.option("--tokens", type=click.IntRange(1), default=500, show_default=True, help="characters to write")
@click.option("--temperature", type=click.FloatRange(0), default=0.8, show_default=True, help="0 is greedy")
@click.option("--top-k", type=click.IntRange(1), default=None, help="draw from the k likeliest only")
@click.option(
    "--top-p",
    type=click.FloatRange(0, 1, min_open=True),
    default=None,
    help="draw from the likeliest that together have this probability",
)
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
        click.echo(write(program, tokenizer, prompt, tokens, saved.info["model"]["context"], **how))
    except (CheckpointError, DataError) as error:
        raise click.ClickException(str(error)) from None
