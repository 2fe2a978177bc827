"""`gradtape cache`: what lies in the cache of finished tapes, and whether it is sound."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import click

from .target import load_compiled

if TYPE_CHECKING:
    from ..runtime.cache import Cache


@click.group("cache")
def cache_command() -> None:
    """The finished tapes and kernels on disk (GRADTAPE_CACHE_DIR, GRADTAPE_CACHE_SIZE)."""


def _cache() -> Cache:
    from ..runtime.cache import Cache, default_directory, why_not_private

    try:
        directory = default_directory()
        problem = why_not_private(directory.stat()) if directory.exists() else ""
    except OSError as error:
        raise click.ClickException(f"there is no cache: {error}") from None
    if problem:
        raise click.ClickException(f"{directory} is not used: {problem}")
    return Cache(directory)


@cache_command.command("ls")
@click.option("--kernels", is_flag=True, help="a line for every kernel too")
def ls_command(kernels: bool) -> None:
    """List the tapes, the ones used last first."""
    from ..runtime.cache import most_bytes

    cache = _cache()
    files = cache.files()
    for file in files:
        if kernels or file.kind == "tape" or file.problem:
            used = time.strftime("%Y-%m-%d %H:%M", time.localtime(file.used))
            what = file.problem or f"{file.header.get('name', '?')} {file.header.get('entry', '')}".rstrip()
            threads = file.ingredients.get("threads")
            also = f", {threads} thread{'s' if threads != '1' else ''}" if threads else ""
            click.echo(f"{used}  {file.size / 1e3:>9.1f} kB  {file.kind:6}  {file.path.stem[:12]}  {what}{also}")
    count = sum(file.kind == "tape" for file in files)
    size = sum(file.size for file in files)
    click.echo(
        f"{count} tapes and {len(files) - count} kernels, {size / 1e6:.1f} of {most_bytes() / 1e6:.0f} MB "
        f"in {cache.directory}"
    )


@cache_command.command("clear")
def clear_command() -> None:
    """Remove all of them."""
    count, size = _cache().clear()
    click.echo(f"removed {count} files, {size / 1e6:.1f} MB")


@cache_command.command("verify")
@click.option("--remove", is_flag=True, help="remove what is damaged")
def verify_command(remove: bool) -> None:
    """Check the checksum and the name of every file. Ends with status 1 where one is damaged."""
    from ..runtime.cache import check

    files = _cache().files()
    damaged = [(file, problem) for file in files if (problem := check(file.path))]
    for file, problem in damaged:
        click.echo(f"{file.path.name}: {problem}{'; removed' if remove else ''}")
        if remove:
            file.path.unlink(missing_ok=True)
    click.echo(f"{len(files) - len(damaged)} of {len(files)} files are sound")
    sys.exit(1 if damaged and not remove else 0)


@cache_command.command("explain")
@click.argument("target")
def explain_command(target: str) -> None:
    """Whether the tape of TARGET (`package.module:function`) was in the cache; if not, what the nearest differs in."""
    compiled = load_compiled(target)
    try:
        click.echo(compiled.explain())
    except RuntimeError as error:
        raise click.ClickException(str(error)) from None
