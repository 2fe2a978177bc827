"""What a notebook shows of a program: its picture; where the program dot is missing, its text."""

from __future__ import annotations

from html import escape
from typing import Any

from ..ir.graph import Graph
from ..ir.tape import Tape
from ..passes.lint import Report
from ..passes.lint.report import parts, paths_text
from .graph import picture_of_graph
from .picture import Picture
from .tape import picture_of_tape

LINES = 60  # of a text
COLOURS = {"error": "#cf222e", "warning": "#9a6700", "info": "#0969da", "fix": "#1a7f37"}
CELL = "text-align: left; padding: 1px 12px 1px 0"


def svg(picture: Picture) -> str | None:
    """A picture as SVG; None where the program dot is missing or gives up."""
    from .dot import DotFailed, dot, render, shown

    try:
        text = render(dot(shown(picture)).source, "svg").decode()
    except DotFailed:
        return None
    return text[text.index("<svg") :]  # a page has its own head


def html(thing: Any) -> str | None:
    """The text of a program, with how to get a picture; None where there is one."""
    from .dot import INSTALL, has_dot

    if has_dot():
        return None
    lines = str(thing).splitlines()
    more = [f"... {len(lines) - LINES} more lines"] if len(lines) > LINES else []
    text = escape("\n".join([*lines[:LINES], *more]))
    return f"<pre>{text}</pre><p><small>to see a picture, {escape(INSTALL)}</small></p>"


def report_html(report: Report) -> str:
    """The findings as they are printed, and a table of the parameters."""
    blocks = []
    for finding in report.findings:
        lines = [_coloured(line, COLOURS.get(kind, "")) for kind, line in parts(finding)]
        blocks.append(f"<pre>{'<br>'.join(lines)}</pre>")
    rows = [
        f"<tr><td style='{CELL}'>{escape(v.path)}</td><td style='{CELL}'>{escape(str(list(v.shape)))}</td>"
        f"<td style='{CELL}'>{paths_text(v.paths)}</td>"
        f"<td style='{CELL}'>{'' if v.gradient is None else f'{v.gradient:.2e}'}</td>"
        f"<td style='{CELL}'>{escape(f'{v.verdict} {v.because}'.strip())}</td></tr>"
        for v in report.parameters
    ]
    heads = "".join(f"<th style='{CELL}'>{h}</th>" for h in ("parameter", "shape", "paths", "gradient", "verdict"))
    table = f"<table><tr>{heads}</tr>{''.join(rows)}</table>" if rows else ""
    notes = "".join(f"<p>{escape(note)}</p>" for note in report.notes)
    return f"<p><b>{escape(report.summary)}</b></p>{''.join(blocks)}{notes}{table}"


def _coloured(line: str, colour: str) -> str:
    return f"<span style='color: {colour}'>{escape(line)}</span>" if colour else escape(line)


def stage_of(graph: Graph) -> str:
    """The stage at which a graph is, by what it gives."""
    if any(graph.roles[name] in ("param", "state") for name, _ in graph.updates):
        return "fused"
    return "differentiated" if any(name.startswith("grad:") for name, _ in graph.outputs) else "traced"


def program_svg(thing: Any) -> str | None:
    """A graph, a tape, or what a compiled model does, as SVG."""
    if isinstance(thing, Graph):
        return svg(picture_of_graph(thing, stage_of(thing)))
    if isinstance(thing, Tape):
        return svg(picture_of_tape(thing))
    return None if thing._latest is None else svg(thing.picture())


def program_html(thing: Any) -> str | None:
    """The same as text, where there is no picture."""
    if isinstance(thing, (Graph, Tape)):
        return html(thing)
    return None if thing._latest is None else html(thing.graph())
