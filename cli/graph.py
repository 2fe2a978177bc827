"""`gradtape graph`: a program at one of its stages as a picture."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .target import load_compiled

if TYPE_CHECKING:
    from ..pictures import Picture


@click.command("graph")
@click.argument("target")
@click.option(
    "--stage", type=click.Choice(["traced", "differentiated", "fused", "tape"]), default="traced", show_default=True
)
@click.option("--format", "form", type=click.Choice(["svg", "png", "pdf", "dot"]), help="default: as -o ends, else svg")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="file to write; - is the output")
@click.option("--depth", type=click.IntRange(min=0), help="modules open to this depth; default: what fits on a page")
@click.option("--expand", is_flag=True, help="draw every one of equal blocks")
@click.option("--full", is_flag=True, help="fold nothing, leave nothing out")
def graph_command(
    target: str, stage: str, form: str | None, output: Path | None, depth: int | None, expand: bool, full: bool
) -> None:
    """Draw the program that TARGET makes: `package.module:function`, where the function returns a compiled model.

    Forward runs down and backward up, beside what it is for; dashed lines are the activations that it reads. Parameters
    have the colour of their verdict. A model that the lint refuses is drawn as well: the path that is cut is red up to
    the node of the cut. Without the program dot (of Graphviz) the DOT text is written.
    """
    from ..pictures.dot import DotFailed, dot, render, shown

    ending = output.suffix[1:] if output is not None else ""
    form = form or (ending if ending in ("svg", "png", "pdf", "dot") else "svg")
    picture = picture_of(target, stage)
    source = dot(shown(picture, depth, not expand, full)).source
    output = output or Path(f"{picture.name}-{stage}.{form}")
    try:
        content, failed = render(source, form), ""
    except DotFailed as fact:
        content, failed = source.encode(), f"{fact}"
        output = output if str(output) == "-" else output.with_suffix(".dot")
    try:
        with click.open_file(str(output), "wb") as file:
            file.write(content)
    except OSError as error:
        raise click.ClickException(f"cannot write {output}: {error.strerror}") from None
    if failed:
        raise click.ClickException(f"{failed}\nwrote {output} instead")
    if str(output) != "-":
        click.echo(f"wrote {output}")


def picture_of(target: str, stage: str) -> Picture:
    """The picture of what `target` names. What the lint refuses is compiled nevertheless; where that is not possible,
    its forward program is drawn."""
    from ..compiler import GradientError
    from ..linting import LintWarning, tolerating
    from ..pictures import picture as drawn

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LintWarning)
        try:
            with tolerating():
                compiled = load_compiled(target)
        except click.ClickException:
            raise
        except Exception as fact:  # what the lint would have refused may fail in any way further on
            try:
                load_compiled(target)
            except GradientError as refused:
                if refused.graph is None:
                    raise click.ClickException(str(refused)) from None
                if stage == "traced":
                    return drawn({"traced": refused.graph}, stage, refused.report, refused.traced.ledger.reentries)
                raise click.ClickException(f"there is no such stage: {fact}") from None
            raise
    try:
        return compiled.picture(stage)
    except RuntimeError as error:  # nothing is traced yet
        raise click.ClickException(str(error)) from None
