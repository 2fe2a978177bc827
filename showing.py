"""Registers how notebooks show graphs, tapes, compiled models and reports. What draws is imported when it is asked for:
a start needs none of it."""

from __future__ import annotations

from typing import Any

from .ir.display import register


def _svg(thing: Any) -> str | None:
    from .pictures.notebook import program_svg

    return program_svg(thing)


def _html(thing: Any) -> str | None:
    from .pictures.notebook import program_html

    return program_html(thing)


def _report(report: Any) -> str:
    from .pictures.notebook import report_html

    return report_html(report)


for name in ("Graph", "Tape", "Compiled"):
    register(name, svg=_svg, html=_html)
register("Report", html=_report)
