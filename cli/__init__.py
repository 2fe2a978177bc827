"""The `gradtape` command. Each subcommand has a file; what it needs is imported when it runs."""

from __future__ import annotations

import click

from .cache import cache_command
from .generate import generate_command
from .graph import graph_command
from .lint import explain_command, lint_command
from .profile import profile_command
from .report import report_command
from .tape import compile_command, show_command
from .train import train_command


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="gradtape")
def main() -> None:
    """Compile, train and inspect models written in NumPy style."""


main.add_command(train_command)
main.add_command(graph_command)
main.add_command(generate_command)
main.add_command(lint_command)
main.add_command(explain_command)
main.add_command(compile_command)
main.add_command(show_command)
main.add_command(cache_command)
main.add_command(profile_command)
main.add_command(report_command)
