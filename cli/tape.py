"""`gradtape compile` and `gradtape show`: programs ahead of time in a file, and what a file holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .target import load_compiled

if TYPE_CHECKING:
    from ..compiler import Compiled


@click.command("compile")
@click.argument("target")
@click.option("--out", type=click.Path(path_type=Path), default="train.tape", show_default=True, help="the file")
@click.option(
    "--weights", type=click.Choice(["values", "seed"]), default="values", show_default=True,
    help="the numbers of the parameters, or the seed that makes them",
)  # fmt: skip
@click.option("--texts", type=click.IntRange(0), default=0, help="programs that generate so many texts at a time")
@click.option("--entries", default="step,evaluate,forward", show_default=True, help="which programs, where they apply")
def compile_command(target: str, out: Path, weights: str, texts: int, entries: str) -> None:
    """Compile TARGET ahead of time: `package.module:function`, where the function returns gt.compile(model,
    gt.spec(...), ...). `gt.load` runs the file without the model's Python and without Numba."""
    from ..runtime.program import GuardViolation

    compiled = load_compiled(target)
    if compiled.examples is None:
        raise click.ClickException(f"{target} was compiled without examples or specs; add gt.spec(...) to gt.compile")
    try:
        if texts:
            compiled.prepare_generation(texts)  # before the rest: it gives the model memory for keys and values
        for entry in dict.fromkeys(name.strip() for name in entries.split(",")):
            _prepare(compiled, entry)
        compiled.save(out, weights=weights)
    except (TypeError, ValueError, GuardViolation) as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        raise click.ClickException(f"cannot write {out}: {error.strerror}") from None
    click.echo(f"{out}: {out.stat().st_size / 1e6:.2f} MB")


def _prepare(compiled: Compiled, entry: str) -> None:
    """Traces and compiles an entry, if the program has it."""
    from ..entries import objective

    examples: Any = compiled.examples
    with_loss = compiled.loss is not None and compiled.optimizer is not None  # then the last example is the target
    if entry in ("step", "value_and_grad", "evaluate"):
        if with_loss or (entry == "step" and compiled.optimizer is not None):
            compiled.prepare(entry, entry != "evaluate", examples)
    elif entry == "forward":
        if not with_loss:
            compiled.prepare(entry, False, examples)
        elif not isinstance(compiled.loss, objective):
            compiled.prepare(entry, False, examples[:-1])
    else:
        known = "step, value_and_grad, evaluate, forward"
        raise click.BadParameter(f"{entry} is not one of {known}", param_hint="--entries")


@click.command("show")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--short", is_flag=True, help="leave out graphs and tapes")
def show_command(file: Path, short: bool) -> None:
    """Print what FILE holds, a saved tape or an entry of the cache: programs, parameters, key, sizes, graphs, tapes.
    Nothing of it is run."""
    from ..finished.saved import model_from
    from ..ir.tape_data import Damaged
    from ..runtime.container import unpack

    try:
        data = file.read_bytes()
    except OSError as error:
        raise click.ClickException(f"cannot read {file}: {error.strerror}") from None
    try:
        header, parts = unpack(data)
        click.echo(f"{file}: {header.get('name', '?')}, {file.stat().st_size:,} bytes")
        if "model" in parts:
            _show_model(model_from(parts), short)
        elif "tape" in parts:
            _show_entry(header, parts, short)
        click.echo("\nkey")
        for name, value in (header.get("ingredients") or {}).items():
            click.echo(f"  {name:20} {value}")
        click.echo("\nsizes")
        kinds: dict[str, int] = {}
        for name, part in parts.items():
            kind = "object code" if name.startswith("object ") else name.lstrip("0123456789 ")
            kinds[kind] = kinds.get(kind, 0) + len(part)
        for kind, size in kinds.items():
            click.echo(f"  {kind:20} {size:>12,}")
    except Damaged as error:
        raise click.ClickException(f"{file}: {error}") from None


def _show_model(model: Any, short: bool) -> None:
    if model.optimizer:
        click.echo(f"optimizer {model.optimizer}, after {model.step} steps")
    click.echo(f"weights from seed {model.seed}" if model.fillings is not None else "weights as they were")
    click.echo(f"\nparameters: {sum(int(model.shapes[p].size) for p in model.parameters):,} numbers")
    for name in [*model.parameters, *model.buffers]:
        kind = "" if name in model.trainable else "  buffer" if name in model.buffers else "  frozen"
        also = "".join(f"  = {alias}" for alias in model.aliases.get(name, ()) if alias != name)
        click.echo(f"  {name:40} {model.shapes[name]}{kind}{also}")
    for program in model.programs:
        click.echo(f"\nprogram {program}")
        if not short:
            click.echo(program.parsed().graph)
            click.echo(program.finished.tape)


def _show_entry(header: Any, parts: Any, short: bool) -> None:
    from ..finished.parts import finished_from

    click.echo(f"entry {header.get('entry', '?')}, {header.get('kernels', '?')} kernels")
    if not short:
        click.echo(parts.get("program", b"").decode(errors="replace").partition("\n")[2])
        click.echo(finished_from(parts).tape)
