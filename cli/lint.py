"""`gradtape lint` and `gradtape explain`: what keeps a model from learning, and what a finding's code means."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .target import load_compiled

if TYPE_CHECKING:
    from rich.console import Console

    from ..passes.lint import Report

STYLES = {
    "error": "bold red", "warning": "bold yellow", "info": "bold cyan", "source": "default", "message": "bold",
    "parameters": "magenta", "why": "dim", "fix": "green",
}  # fmt: skip
VERDICTS = {"learns": "green", "frozen": "cyan", "zero": "cyan", "left out": "yellow", "unused": "yellow"}


@click.command("lint")
@click.argument("target")
@click.option("--layers", default="SKTDG", show_default=True, help="kinds of evidence: see `gradtape lint --help`")
@click.option("--table/--no-table", default=True, help="a line for every parameter")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="write the report as JSON (- is the output)")
@click.option("--sarif", "sarif_file", type=click.Path(path_type=Path), help="write it as SARIF 2.1.0")
def lint_command(target: str, layers: str, table: bool, json_file: Path | None, sarif_file: Path | None) -> None:
    """Lint the program that TARGET makes: `package.module:function`, where the function returns a compiled model.

    Layers: S graph, K shapes and ranges, T what left the graph, D traces compared, G gradients measured. Ends with
    status 1 where there is an error.
    """
    from ..linting import LintError, lint

    try:
        compiled = load_compiled(target)
        if compiled.examples is None:
            raise click.ClickException(
                f"{target} was compiled without examples or specs; add gt.spec(...) to gt.compile"
            )
        report = lint(compiled, *compiled.examples, layers=tuple(layers.upper()))
    except LintError as error:  # compile has refused it already
        report = error.report
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    for file, text in ((json_file, report.to_json), (sarif_file, report.to_sarif)):
        if file is not None and str(file) == "-":
            click.echo(text())
        elif file is not None:
            _write(file, text() + "\n")
    if "-" not in (str(json_file), str(sarif_file)):
        show(report, table)
    sys.exit(0 if report.ok else 1)


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise click.ClickException(f"cannot write {file}: {error.strerror}") from None


def show(report: Report, table: bool = True, console: Console | None = None) -> None:
    """Prints a report in colour."""
    from rich.console import Console
    from rich.text import Text

    from ..passes.lint.report import parts

    console = console or Console(highlight=False)
    for finding in report.findings:
        for kind, line in parts(finding):
            console.print(Text(line, style=STYLES[kind]), soft_wrap=True)
        console.print()
    for note in report.notes:
        console.print(Text(note, style="dim"))
    if table and report.parameters:
        console.print(_table(report))
    console.print(Text(report.summary, style="bold green" if report.ok else "bold red"))


def _table(report: Report):
    from rich.table import Table
    from rich.text import Text

    from ..passes.lint.report import paths_text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name, justify in (("parameter", "left"), ("shape", "left"), ("paths", "right"), ("gradient", "right")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    table.add_column("verdict")
    for v in report.parameters:
        gradient = "" if v.gradient is None else f"{v.gradient:.2e}"
        verdict = Text(f"{v.verdict}  {v.because}".strip(), style=VERDICTS.get(v.verdict, "red"))
        table.add_row(v.path, str(list(v.shape)), paths_text(v.paths), gradient, verdict)
    return table


@click.command("explain")
@click.argument("code")
def explain_command(code: str) -> None:
    """Print the page of a code, such as GT-A01: what is broken, what is right, and why; or what guards against it."""
    from ..passes.lint import RULES
    from ..passes.lint.catalogue import BY_CODE

    wanted = code.upper()
    wanted = wanted if wanted.startswith("GT-") else f"GT-{wanted}"
    known = BY_CODE.get(wanted.removeprefix("GT-"))
    if wanted in RULES:
        rule = RULES[wanted]
        click.echo(f"{rule.code} {rule.severity}: {rule.title}\n\n{rule.page}")
    elif known is not None:
        click.echo(f"{wanted} {known.verdict}: {known.title}\n\n{textwrap.fill(known.note, 118)}")
    else:
        listed = ", ".join(sorted({*RULES, *(c.rule for c in BY_CODE.values())}))
        raise click.ClickException(f"there is no code {code}; there are {listed}")
