"""`gradtape profile`: where the time of a compiled program goes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..ir.graph import Graph
from ..ir.tape import Tape
from .target import load_compiled

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from ..compiler import Compiled
    from ..runtime.profile import Profile

STYLES = {"kind": "bold cyan", "share": "bold", "where": "green", "what": "dim"}
WIDE = 200  # columns in a file or a pipe
SIZE = 16  # of a named size that has no bound and is not given


@click.command("profile")
@click.argument("target")
@click.option("--dims", default="", metavar="B=12,T=64", help=f"sizes by name; default their bounds, else {SIZE}")
@click.option("--entry", type=click.Choice(["step", "value_and_grad", "evaluate", "forward"]), help="default: its call")
@click.option("--repeats", default=10, show_default=True, type=click.IntRange(1), help="runs; figures are medians")
@click.option("--top", default=20, show_default=True, type=click.IntRange(0), help="instructions that are shown")
@click.option("--trace", "trace_file", type=click.Path(path_type=Path), help="write a Chrome / Perfetto trace")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="write everything as JSON")
def profile_command(
    target: str,
    dims: str,
    entry: str | None,
    repeats: int,
    top: int,
    trace_file: Path | None,
    json_file: Path | None,
) -> None:
    """Measure where the time of the program goes that TARGET makes: `package.module:function`, where the function
    returns a compiled model with examples or specs.

    Specs get arrays of random numbers; integers that index a table are drawn from its rows. Nothing is trained.
    """
    compiled = load_compiled(target)
    if compiled.examples is None:
        raise click.ClickException(f"{target} was compiled without examples or specs; add gt.spec(...) to gt.compile")
    try:
        batch = drawn(compiled, sizes_of(dims))
        profile = compiled.profile(*batch, entry=entry, repeats=repeats)
        for file, write in ((trace_file, profile.trace), (json_file, lambda f: f.write_text(profile.to_json()))):
            if file is not None:
                write(file)
    except (ValueError, TypeError) as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        raise click.ClickException(f"cannot write {error.filename}: {error.strerror}") from None
    show(profile, top)


def sizes_of(text: str) -> dict[str, int]:
    """`B=12,T=64` as sizes by name."""
    found = {}
    for item in filter(None, text.replace(" ", "").split(",")):
        name, _, size = item.partition("=")
        if not name.isidentifier() or not size.isdigit():
            raise click.ClickException(f"--dims is a list such as B=12,T=64; {item!r} is no size")
        found[name] = int(size)
    return found


def drawn(compiled: Compiled, sizes: dict[str, int]) -> Any:
    """Arrays for the examples of a compiled program, drawn for specs. Raises ValueError for a size that no spec has."""
    import numpy as np

    from ..ir.dims import evaluate
    from ..ir.types import DTYPES
    from ..tracer.structure import changed
    from ..tracer.trace import Spec, is_array

    graph, tape = compiled.graph("traced"), compiled.graph("tape")
    assert isinstance(graph, Graph) and isinstance(tape, Tape) and compiled.examples is not None
    names = {n: max(s.min, sizes.get(n, s.max or SIZE)) for n, s in tape.symbols.items()}
    unknown = sizes.keys() - names.keys()
    if unknown:
        raise ValueError(f"no spec has a size {', '.join(sorted(unknown))}; there are: {', '.join(names) or 'none'}")
    rows = {i.indexed.name: evaluate(i.indexed.size, names) for i in tape.instructions() if i.indexed is not None}
    generator = np.random.default_rng(0)
    inputs = iter(graph.with_role("input"))  # as they stand in the examples, nested ones too

    def array(example: Any) -> Any:
        value = next(inputs)
        if not isinstance(example, Spec):
            return example
        shape = [evaluate(d, names) for d in example.shape]
        if example.dtype in ("f32", "f64"):
            return generator.standard_normal(shape).astype(DTYPES[example.dtype])
        return generator.integers(0, rows.get(value.name, 2), shape).astype(DTYPES[example.dtype])

    return changed(compiled.examples, is_array, array)


def show(profile: Profile, top: int, console: Console | None = None) -> None:
    """Prints a profile in colour: by kind, then the instructions that take longest."""
    from rich.console import Console
    from rich.text import Text

    if console is None:
        console = Console(highlight=False)
        if not console.is_terminal:
            console.width = WIDE
    for line in profile.head():
        console.print(Text(line, style="dim"), soft_wrap=True)
    console.print()
    console.print(_table(profile.kind_rows()))
    if top:
        console.print()
        console.print(_table(profile.top_rows(top)))


def _table(rows: list[tuple[str, ...]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    from ..runtime.profile import TEXTS

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in rows[0]:
        table.add_column(name, justify="left" if name in TEXTS else "right", no_wrap=True)
    for row in rows[1:]:
        table.add_row(*(Text(cell, style=STYLES.get(name, "")) for name, cell in zip(rows[0], row, strict=True)))
    return table
