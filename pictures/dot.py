"""Picture -> DOT, through the graphviz package; and from that to a file through the `dot` program, where there is."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from html import escape

import graphviz

from .fold import (
    ALL_UPDATES,
    fitting,
    to_depth,
    with_derivatives_gathered,
    with_repeats,
    without_updates,
    without_views,
)
from .picture import PHASES, Cluster, Edge, Node, Picture

FORMATS = ("svg", "png", "pdf", "dot")
INSTALL = "install Graphviz: apt-get install graphviz, brew install graphviz, or https://graphviz.org/download"

INK, FAINT, RED, AMBER, SAVED = "#24292f", "#6e7781", "#cf222e", "#9a6700", "#bc6c00"
FILLS = {"forward": ("#e7f0fb", "#4078c0"), "backward": ("#fdeedd", "#bc6c00"), "update": ("#f0eafa", "#8250df")}
GROUNDS = {"forward": "#f6f9fd", "backward": "#fef9f3", "update": "#faf8fd"}
VERDICTS = {
    "": ("#f6f8fa", "#57606a"),
    "learns": ("#d2f0d6", "#1a7f37"),
    "frozen": ("#e1e4e8", "#57606a"),
    "zero": ("#fff3c4", "#9a6700"),
    "left out": ("#ffe2cc", "#bc4c00"),
    "unused": ("#ffd8d3", "#cf222e"),
    "wrong": ("#ffd8d3", "#cf222e"),
    "dead": ("#ffb3ad", "#cf222e"),
}


class DotFailed(RuntimeError):
    """There is no picture: the `dot` program is not installed, or has given up. The DOT text is there all the same."""


def shown(picture: Picture, depth: int | None = None, repeats: bool = True, full: bool = False) -> Picture:
    """`picture` as it is drawn. The update of each parameter is one node, and so is the derivative of each forward
    node; reshapes, permutes and broadcasts are left out.

    depth    how many modules deep the inside is shown; None: as deep as fits on a page
    repeats  whether equal neighbours in a list of modules are drawn once
    full     everything: no folding of any kind
    """
    if full:
        return picture if depth is None else to_depth(picture, depth)
    made = with_repeats(picture) if repeats else picture
    made = with_derivatives_gathered(without_views(without_updates(made)))
    return fitting(made) if depth is None else to_depth(made, depth)


# DOT ------------------------------------------------------------------------------------------------------------------
FONT = {"fontname": "Helvetica,Arial,sans-serif", "fontcolor": INK}
GRAPH = FONT | {
    "rankdir": "TB", "fontsize": "11", "nodesep": "0.22", "ranksep": "0.32", "compound": "true", "newrank": "true",
    "labelloc": "t", "pad": "0.2",
}  # fmt: skip
NODE = FONT | {
    "fontsize": "11", "shape": "box", "height": "0.28", "style": "rounded,filled", "margin": "0.09,0.04",
    "penwidth": "0.9",
}  # fmt: skip
EDGE = FONT | {"fontsize": "8", "fontcolor": FAINT, "color": "#8c959f", "arrowsize": "0.55", "penwidth": "0.9"}


def dot(picture: Picture) -> graphviz.Digraph:
    """The DOT of a picture, as it is: see `shown`. Shown in a notebook it is drawn; `str()` gives the text."""
    title = f"{picture.name}, {picture.stage}" + (f" ({picture.sizes})" if picture.sizes else "")
    label = _html([_bold(title, 14)])
    graph = graphviz.Digraph(_plain(picture.name), graph_attr=GRAPH | {"label": label}, node_attr=NODE, edge_attr=EDGE)
    names = _Names(picture)
    phases = [p for p in PHASES if any(n.phase == p for n in picture.nodes)]
    if len(phases) == 1:
        _fill(graph, picture, "", phases[0], picture.nodes, names)
    else:
        for phase in phases:
            frame = {
                "style": "rounded,filled",
                "fillcolor": GROUNDS[phase],
                "color": "#d0d7de",
                "label": "",
                "margin": "20",
            }
            column = graphviz.Digraph(f"cluster_{phase}", graph_attr=frame)
            column.node(f"_{phase}", label=_html([_bold(phase, 14)]), shape="plaintext", style="", tooltip=phase)
            _fill(column, picture, "", phase, [n for n in picture.nodes if n.phase == phase], names)
            graph.subgraph(column)
    order = _Order()
    for edge in sorted(picture.edges, key=lambda e: bool(e.label)):  # those to the next round last: they run back
        _edge(graph, edge, picture.node, names, order)
    return graph


class _Order:
    """What stands above what. Of graphs with clusters dot 2.43 refuses some (`trouble in init_rank`) that have a cycle,
    or a label at an edge with no say in the order (constraint=false) or a loose one (minlen=0). So there is none of
    these: an edge that would close a cycle is written the other way round, and labels between columns are xlabels.
    """

    def __init__(self) -> None:
        self.below: dict[str, list[str]] = {}

    def sorted(self, upper: str, lower: str) -> tuple[str, str]:
        """The two as they stand, which is `upper` above `lower` where nothing speaks against it."""
        seen, stack = {lower}, [lower]
        while stack:
            for node in self.below.get(stack.pop(), ()):
                if node not in seen:
                    seen.add(node)
                    stack.append(node)
        if upper in seen:
            upper, lower = lower, upper
        if lower not in self.below.setdefault(upper, []) and upper != lower:
            self.below[upper].append(lower)
        return upper, lower


class _Names:
    """A name in DOT for every node and cluster: letters, digits, dots; no two are the same."""

    def __init__(self, picture: Picture) -> None:
        self.node = _distinct(n.id for n in picture.nodes)
        self.cluster = _distinct(c.id for c in picture.clusters)


def _distinct(ids: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in ids:
        plain = candidate = _plain(name)
        number = 1
        while candidate in taken:
            number += 1
            candidate = f"{plain}_{number}"
        taken.add(candidate)
        found[name] = candidate
    return found


def _fill(
    graph: graphviz.Digraph, picture: Picture, around: str, phase: str, nodes: Sequence[Node], names: _Names
) -> None:
    """Adds the nodes that stand directly in a cluster, and the clusters in it that hold some."""
    for node in nodes:
        if node.cluster == around:
            graph.node(names.node[node.id], **_node(node))
    for cluster in picture.clusters:
        inside = [n for n in nodes if any(c.id == cluster.id for c in picture.around(n.cluster))]
        if cluster.parent == around and inside:
            inner = graphviz.Digraph(f"cluster_{phase}_{names.cluster[cluster.id]}", graph_attr=_frame(cluster))
            _fill(inner, picture, cluster.id, phase, inside, names)
            graph.subgraph(inner)


def _frame(cluster: Cluster) -> dict[str, str]:
    text = [_bold(cluster.label, 11)]
    frame = {
        "penwidth": "0.9",
        "style": "rounded,filled",
        "fillcolor": "#ffffffb0",
        "color": "#afb8c1",
        "labeljust": "l",
        "margin": "8",
    }
    if cluster.kind == "loop":
        frame |= {"style": "rounded,filled,dashed", "color": "#8250df"}
    if cluster.repeats > 1:
        text = [_bold(f"{cluster.label}   \N{MULTIPLICATION SIGN} {cluster.repeats}", 13)]
        frame |= {"penwidth": "2.2", "color": "#57606a"}
    return frame | {"label": _html(text)}


def _node(node: Node) -> dict[str, str]:
    fill, line = FILLS[node.phase]
    write = _bold if node.kind in ("fold", "loop") else _text
    lines = [write(line) for line in _wrapped(node.label, 28, 2)]
    look: dict[str, str] = {}
    if node.kind in ("param", "buffer", "state", "scalar"):
        fill, line = VERDICTS[node.verdict] if node.kind == "param" else VERDICTS[""]
        lines.append(_small(node.type))
        if node.verdict not in ("", "learns"):
            lines.append(_small(f"{node.verdict} {node.because}".strip(), line))
        look = {"style": "filled" + (",dashed" if node.verdict == "frozen" else "")}
    elif node.kind == "input":
        fill, line, look = "#ffffff", INK, {"shape": "oval"}
        lines = [_bold(node.label), _small(node.type)]
    elif node.kind == "output":
        fill, line, look = "#ffffff", line, {"shape": "oval"}
        lines.append(_small(node.type))
    elif node.kind == "const":
        fill, line = VERDICTS[""]
        lines.append(_small(node.type))
    elif node.kind == "fold":
        ops, params, results = (dict(node.attrs)[name] for name in ("ops", "parameters", "results"))
        lines += [_small(t) for t in _wrapped(ops)]
        if params:
            lines += [_small(t, VERDICTS[node.verdict][1]) for t in _wrapped(params)]
        lines += [_small(t, line) for t in _wrapped(_gathered(results))]
        if node.verdict not in ("", "learns"):
            fill, line = VERDICTS[node.verdict]
            lines.append(_small(f"{node.verdict} {node.because}".strip(), line))
    elif node.kind == "cut":
        color = RED if node.broken else AMBER
        lines = [
            _bold(f"✂ {node.label}", 11, "#ffffff"),
            *(_small(t, "#ffffff") for t in _wrapped(node.source or node.formula, 44)),
        ]
        fill, line, look = color, color, {"shape": "box", "style": "filled"}
    if node.broken and node.kind != "cut":
        line = RED
        look |= {"penwidth": "2.2"}
    formula = node.formula if node.kind != "kernel" else ""
    told = (f"%{node.id} {node.type}".strip(), formula, f"{node.where} {node.source}".strip(), node.kernel)
    tip = " | ".join(t for t in told if t)
    return {"label": _html(lines), "fillcolor": fill, "color": line, "tooltip": _tip(tip), **look}


def _edge(graph: graphviz.Digraph, edge: Edge, nodes: Mapping[str, Node], names: _Names, order: _Order) -> None:
    source, target = nodes[edge.source], nodes[edge.target]
    if target.phase == "update" and source.phase == "forward" and target.kind == "fold" and source.kind != "cut":
        return  # that an update reads the parameter goes without saying
    look: dict[str, str] = {}
    text = edge.label or (
        "" if source.kind in ("param", "buffer", "state", "scalar", "input", "const") else _types(edge.type)
    )
    if target.kind == "output" and source.kind != "fold":
        text = ""
    if edge.kind == "saved":
        look = {"color": SAVED, "style": "dashed", "fontcolor": SAVED}
    elif edge.kind == "broken":
        color = RED if edge.broken else AMBER
        look = {"color": color, "penwidth": "2.2"}
        if source.kind == "cut":
            look = {"color": FAINT, "penwidth": "1.2", "arrowhead": "empty", "style": "dashed"}
            text = "no gradient"
        elif target.kind != "cut":  # what no finding is about
            look |= {"color": FAINT, "style": "dashed", "penwidth": "1.2"}
    elif edge.broken:
        look = {"color": RED, "penwidth": "2.2"}
    elif edge.label:
        look = {"style": "dotted", "penwidth": "1.2"}
    elif source.phase != target.phase:
        look, text = {"color": "#c4cbd2", "penwidth": "0.7"}, ""
    look["tooltip"] = _tip(f"{source.label} → {target.label}: {edge.type}")
    # gradients run upwards, beside what they are for, and the update stands at the top
    upwards = source.phase == target.phase == "backward" or target.id == ALL_UPDATES
    upper, lower = (edge.target, edge.source) if upwards else (edge.source, edge.target)
    upper, lower = order.sorted(*((lower, upper) if edge.label else (upper, lower)))
    apart = source.phase != target.phase
    if apart:
        look["minlen"] = "0"
    if text and target.id != ALL_UPDATES:
        look["xlabel" if apart else "label"] = _html(["&#160;" + _text(text)])
    graph.edge(
        names.node[upper], names.node[lower], **({"dir": "back"} if upper == edge.target != lower else {}), **look
    )


def _types(text: str) -> str:
    first, *rest = text.split(" · ")
    return f"{first} …" if rest else first


# text -----------------------------------------------------------------------------------------------------------------
def _text(text: str) -> str:
    return escape(text, quote=False)


def _bold(text: str, size: int = 0, color: str = "") -> str:
    inside = f"<b>{_text(text)}</b>"
    font = (f' point-size="{size}"' if size else "") + (f' color="{color}"' if color else "")
    return f"<font{font}>{inside}</font>" if font else inside


def _small(text: str, color: str = FAINT) -> str:
    return f'<font point-size="8.5" color="{color}">{_text(text)}</font>' if text else ""


def _html(lines: Iterable[str]) -> str:
    """An HTML-like label, of text that is escaped already."""
    return "<" + "<br/>".join(line for line in lines if line) + ">"


def _gathered(results: str) -> str:
    """`gradient of weight; gradient of bias` as `∇ weight, bias`."""
    names = [r for r in results.split("; ") if r]
    nabla = [n.removeprefix("gradient of ") for n in names if n.startswith("gradient of ")]
    rest = [n for n in names if not n.startswith("gradient of ")]
    return ", ".join([*([f"∇ {', '.join(dict.fromkeys(nabla))}"] if nabla else []), *rest])


def _wrapped(text: str, width: int = 30, most: int = 3) -> list[str]:
    lines: list[str] = []
    for word in text.split():
        if lines and len(lines[-1]) + len(word) < width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines if len(lines) <= most else [*lines[: most - 1], f"{lines[most - 1]} …"]


def _tip(text: str) -> str:
    return graphviz.escape(text)


def _plain(name: str) -> str:
    return re.sub(r"[^\w.]", "_", name)


# files ----------------------------------------------------------------------------------------------------------------
def has_dot() -> bool:
    """Whether the `dot` program is installed."""
    return shutil.which("dot") is not None


def render(source: str, form: str) -> bytes:
    """DOT text as svg, png, pdf, or as it is. Raises DotFailed with what to do about it."""
    if form == "dot":
        return source.encode()
    if not has_dot():
        raise DotFailed(f"the program dot is not here; {INSTALL}")
    try:
        return graphviz.Source(source).pipe(format=form, quiet=True)
    except graphviz.CalledProcessError as error:
        said = error.stderr.decode(errors="replace") if isinstance(error.stderr, bytes) else str(error.stderr)
        raise DotFailed(f"dot has given up: {said.splitlines()[0] if said else error.returncode}") from None
