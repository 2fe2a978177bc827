"""`gradtape report`: one HTML file in which a program, and a training of it, is looked at."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .target import load_compiled

if TYPE_CHECKING:
    from ..compiler import Compiled, GradientError
    from ..report import Training


@click.command("report")
@click.argument("target", required=False)
@click.option("-o", "--output", default="report.html", show_default=True, type=click.Path(path_type=Path))
@click.option("--run", "run", type=click.Path(path_type=Path), help="a run's folder, or CSV or JSON lines with `step`")
@click.option("--dims", default="", metavar="B=12,T=64", help="sizes by name, for measuring; default their bounds")
@click.option("--measure/--no-measure", default=True, help="run it: times, and norms of gradients")
@click.option("--layers", default="SKTD", show_default=True, help="evidence of the lint; G may take a minute")
def report_command(target: str | None, output: Path, run: Path | None, dims: str, measure: bool, layers: str) -> None:
    """Write a report on the program that TARGET makes: `package.module:function`, where the function returns a compiled
    model with examples or specs.

    The report is one HTML file that needs nothing else: the graph, gradients, findings, the tape and its memory. With
    --run it shows a training, too; without TARGET the program is that of the run. A model that the lint refuses gets a
    report with the findings. Nothing is trained.
    """
    from ..report import RunError, contents, page, read_run

    if target is None and run is None:
        raise click.UsageError("give a TARGET, package.module:function, or --run")
    where = target or str(run)
    try:
        training = read_run(run) if run is not None else None
        with _whatever_it_finds():
            compiled, batch = _of_run(run) if target is None and run is not None else _of_target(where, dims)
            if isinstance(compiled, _Refused):
                _write(output, page(compiled.contents(training, where)))
            elif compiled is None:
                assert training is not None
                _write(output, page(contents({}, training=training, title=training.name, target=where)))
            else:
                _report(compiled, batch, output, run, measure, layers, where)
    except (RunError, ValueError) as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        raise click.ClickException(f"cannot write {error.filename or output}: {error.strerror}") from None
    click.echo(f"wrote {output}")


@contextmanager
def _whatever_it_finds() -> Iterator[None]:
    """What the lint refuses is compiled all the same, and nothing is said of it: the report shows it."""
    from ..linting import LintWarning, tolerating

    with warnings.catch_warnings(action="ignore", category=LintWarning), tolerating():
        yield


def _of_target(target: str, dims: str) -> tuple[Compiled | _Refused, list[Any]]:
    """The program and a batch for it."""
    from .profile import drawn, sizes_of

    try:
        compiled = load_compiled(target)
    except click.ClickException:
        raise
    except Exception:  # what the lint would have refused may fail in any way further on
        refused = _refusal(target)
        if refused is None:
            raise
        return _Refused(refused), []
    if compiled.examples is None:
        raise click.ClickException(f"{target} was compiled without examples or specs; add gt.spec(...) to gt.compile")
    return compiled, drawn(compiled, sizes_of(dims))


def _refusal(target: str) -> GradientError | None:
    """Why the lint refuses what `target` names."""
    from ..compiler import GradientError
    from ..linting import tolerating

    with tolerating(False):
        try:
            load_compiled(target)
        except GradientError as error:
            if error.graph is None:
                raise click.ClickException(str(error)) from None
            return error
        except Exception:
            return None
    return None


class _Refused:
    """What is known of a model that cannot be compiled: its forward program, and where gradient is cut."""

    def __init__(self, error: GradientError) -> None:
        self.error = error

    def contents(self, training: Training | None, target: str) -> dict[str, Any]:
        from ..report import contents

        traced, graph = self.error.traced, self.error.graph
        parameters = traced.parameters if traced is not None else {}
        return contents(
            {} if graph is None else {"traced": graph},
            parameters={name: (p.array, p.requires_grad) for name, p in parameters.items()},
            lint=self.error.report,
            reentries=traced.ledger.reentries if traced is not None else (),
            training=training,
            target=target,
        )


def _report(
    compiled: Compiled, batch: list[Any], output: Path, run: Path | None, measure: bool, layers: str, target: str
) -> None:
    from ..linting import lint

    found = None
    if compiled.loss is not None and compiled.lint_level != "off":
        found = lint(compiled, *batch, layers=tuple(layers.upper()))
    compiled.report(output, *(batch if measure else ()), run=run, lint=found, target=target)


def _of_run(run: Path) -> tuple[Compiled | None, list[Any]]:
    """The program of a run with its weights, and a batch of its data; None where there is no checkpoint. Only reads."""
    from ..models.data import DataError
    from .checkpoints import CheckpointError, load
    from .options import options_of
    from .tasks import task_for
    from .training import program_for

    if not (run / "checkpoint.safetensors").is_file():
        return None, []
    try:
        saved = load(run)
        options = options_of(saved.info)
        task = task_for(options, saved.info)
    except (CheckpointError, DataError) as error:
        raise click.ClickException(str(error)) from None
    compiled = program_for(options, task)
    assert compiled.model is not None
    compiled.model.load_state_dict(saved.weights)
    batch = list(task.batch(saved.info["position"]))
    compiled.prepare("step", True, batch)
    return compiled, batch


def _write(output: Path, text: str) -> None:
    output.write_text(text, encoding="utf-8")
