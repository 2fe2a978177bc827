"""`gradtape train`: options, progress, the loss curve, and a sample at the end."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import MODELS

if TYPE_CHECKING:
    from .training import Report, Run

HELP: dict[str, tuple[Any, str]] = {
    "model": (click.Choice(MODELS), "what is trained: gpt and gru write text, mlp and cnn read digits"),
    "data": (str, "manual (the Python manual), shakespeare (downloaded once), or a UTF-8 text file; digits for images"),
    "width": (click.IntRange(1), "channels of the model"),
    "depth": (click.IntRange(1), "blocks or layers"),
    "heads": (click.IntRange(1), "attention heads; width is a multiple of them"),
    "context": (click.IntRange(1), "characters that the model sees at once"),
    "batch": (click.IntRange(1), "windows or images in a step"),
    "steps": (click.IntRange(1), "training steps"),
    "lr": (click.FloatRange(0, min_open=True), "learning rate after the warm-up"),
    "min_lr": (click.FloatRange(0), "learning rate at the end of the cosine"),
    "warmup": (click.IntRange(0), "steps in which the learning rate rises"),
    "weight_decay": (click.FloatRange(0), "AdamW's decay, on matrices only"),
    "clip": (click.FloatRange(0), "greatest global norm of the gradients; 0 is no clipping"),
    "dropout": (click.FloatRange(0, 1, max_open=True), "share of activations dropped in training"),
    "seed": (click.IntRange(0), "of the weights, the batches and the dropout"),
    "threads": (click.IntRange(0), "0 is one for each CPU"),
    "eval_every": (click.IntRange(1), "steps between readings of the validation loss"),
    "save_every": (click.IntRange(1), "steps between checkpoints"),
    "patience": (click.IntRange(0), "stop after so many readings without a better validation loss; 0 is never"),
    "name": (str, "the run's folder below --out"),
    "out": (str, "where runs are kept"),
}


def _options(command: Callable[..., Any]) -> Callable[..., Any]:
    """One option for each field of training.Options, without a default here: what is not given is the run's own."""
    for name, (kind, text) in reversed(HELP.items()):
        command = click.option(f"--{name.replace('_', '-')}", name, type=kind, default=None, help=text)(command)
    return click.option("--bias/--no-bias", default=None, help="biases in linear layers and LayerNorms")(command)


@click.command("train")
@_options
@click.option("--resume", is_flag=False, flag_value="", default=None, metavar="[RUN]", help="go on with a run")
@click.option(
    "--watch",
    is_flag=False,
    flag_value="25",
    default=None,
    type=click.IntRange(1),
    metavar="[STEPS]",
    help="norms of gradients and updates by layer, every so many steps (25)",
)
@click.option("--plot/--no-plot", default=True, help="draw loss.png at the end")
@click.option("--sample", type=click.IntRange(0), default=400, show_default=True, help="characters of text at the end")
def train_command(resume: str | None, watch: int | None, plot: bool, sample: int, **given: Any) -> None:
    """Train a model, save it, and show what it has learned: a character GPT writes text of its own."""
    from ..models.data import DataError
    from ..runtime.program import NotFinite
    from .checkpoints import CheckpointError

    try:
        run = _prepare(resume, {k: v for k, v in given.items() if v is not None})
        if watch:
            run.watch(watch)
        _train(run)
        if plot:
            click.echo(_draw(run))
        if sample:
            click.echo(run.task.show(run.step, sample))
    except (DataError, CheckpointError) as error:
        raise click.ClickException(str(error)) from None
    except NotFinite as error:
        raise click.ClickException(f"{error}\nTry a smaller --lr, or --clip 1.0.") from None
    except OSError as error:
        raise click.ClickException(f"cannot write to {error.filename or 'the run folder'}: {error.strerror}") from None


def _prepare(resume: str | None, given: dict[str, Any]) -> Run:
    from .checkpoints import load
    from .norms import FILE as NORMS_FILE
    from .options import options_for, options_of
    from .training import Run

    options, saved = options_for(given), None
    if resume is not None:
        where = Path(resume) if resume else Path(options.out) / options.name
        saved = load(where)
        options = options_of(saved.info)
        folder = where if where.is_dir() else where.parent
        options.name, options.out = folder.resolve().name, str(folder.parent)  # where it is now: it may have been moved
        for name, value in given.items():
            setattr(options, name, value)
    if options.model == "gpt" and options.width % options.heads:
        raise click.BadParameter(f"--width {options.width} is not a multiple of --heads {options.heads}")
    run = Run(options, saved)
    if saved is None and run.log.exists():
        run.log.unlink()
        (run.folder / NORMS_FILE).unlink(missing_ok=True)
    return run


@contextmanager
def _interrupt() -> Iterator[threading.Event]:
    """Ctrl-C sets the event instead of breaking into a step; a second one does as ever."""
    asked = threading.Event()

    def handler(number: int, frame: Any) -> None:
        asked.set()
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, handler)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)


def _train(run: Run) -> None:
    o = run.options
    parameters = run.model.num_parameters()
    click.echo(f"{parameters:,} parameters, {run.task.describe()}, {run.step.threads} threads")
    click.echo(f"compiling ... steps {run.position + 1} to {o.steps}, run folder {run.folder}")
    with _interrupt() as asked, _progress(run) as show:
        for report in run.steps():
            show(report)
            if asked.is_set():
                break
    if asked.is_set() and run.position < o.steps:
        path = run.save()
        click.echo(f"interrupted after step {run.position}; saved {path}")
        click.echo(f"go on with: gradtape train --resume {run.folder}")
        sys.exit(130)


@contextmanager
def _progress(run: Run) -> Iterator[Callable[[Report], None]]:
    """A progress bar on a terminal; elsewhere a line for every validation loss."""
    from rich.console import Console, Group
    from rich.live import Live
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console()

    per_second = f"{run.task.counts}/s"

    def line(report: Report) -> str:
        parts = [f"step {report.step:5d}", f"loss {report.loss:.4f}", f"validation {report.val_loss:.4f}"]
        parts += [] if report.val_accuracy is None else [f"accuracy {report.val_accuracy:.2%}"]
        return "  ".join([*parts, f"lr {report.lr:.2e}", f"{report.per_second:,.0f} {per_second}"])

    if not console.is_terminal:
        yield lambda report: click.echo(line(report)) if report.val_loss is not None else None
        return
    columns = (
        TextColumn("step {task.completed}/{task.total}"), BarColumn(), TextColumn("loss {task.fields[loss]:.3f}"),
        TextColumn("{task.fields[speed]:,.0f} " + per_second), TimeRemainingColumn(), TextColumn("left"),
    )  # fmt: skip
    progress = Progress(*columns, console=console)
    task = progress.add_task("", total=run.options.steps, completed=run.position, loss=float("nan"), speed=0.0)
    with Live(progress, console=console) as live:
        looked = 0

        def show(report: Report) -> None:
            nonlocal looked
            progress.update(task, completed=report.step, loss=report.loss, speed=report.per_second)
            if run.norms is not None and run.norms.at != looked:
                looked = run.norms.at
                live.update(Group(run.norms.table(console.height - 5), "", progress))
            if report.val_loss is not None:
                console.print(line(report), highlight=False)

        yield show


def _draw(run: Run) -> str:
    """Writes loss.png; returns what to tell."""
    try:
        import matplotlib
    except ImportError:
        return "no picture of the loss: matplotlib is missing; pip install 'gradtape[plots]'"
    matplotlib.use("Agg")
    from matplotlib import pyplot

    from .training import smoothed

    figure, axes = pyplot.subplots(figsize=(7, 4.2), layout="constrained")
    steps = [r["step"] for r in run.reports]
    losses = [r["loss"] for r in run.reports]
    axes.plot(steps, losses, color="#9db7d5", linewidth=0.6, label="training, each step")
    axes.plot(steps, smoothed(losses), color="#1f5a99", linewidth=1.6, label="training, smoothed")
    read = run.readings()
    axes.plot(*zip(*read, strict=True), color="#c2410c", marker="o", markersize=3.5, label="validation")
    axes.set(
        xlabel="step", ylabel=f"loss ({run.task.unit})", title=f"{run.options.name}: {Path(run.options.data).name}"
    )
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    path = run.folder / "loss.png"
    figure.savefig(path, dpi=140)
    pyplot.close(figure)
    return f"validation loss {read[-1][1]:.4f}; wrote {path}, {run.log.name} and checkpoint.safetensors"
