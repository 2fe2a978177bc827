"""What the lint says, on the picture: verdicts on parameters, and broken paths up to the node where they are cut."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from ..ir.build import source_line
from ..ir.location import Location
from ..passes.lint import Report
from ..passes.lint.finding import Finding, Site
from .graph import modules, place_name
from .picture import Cluster, Cut, Edge, Node, Picture

LOUD = ("error", "warning")


def with_report(picture: Picture, report: Report) -> Picture:
    """`picture` with the verdict of every parameter, and for every finding (but those for information) a mark where the
    path of its parameters is cut. At a later stage, whose program has the path no longer, the mark is joined to the
    parameters themselves."""
    verdicts = {v.path: v for v in report.parameters}
    nodes = tuple(
        replace(n, verdict=verdicts[n.id].verdict, because=verdicts[n.id].because)
        if n.kind == "param" and n.id in verdicts
        else n
        for n in picture.nodes
    )
    picture = picture.replace(nodes=nodes)
    for finding in report.findings:
        if finding.severity in LOUD:
            picture = _marked(picture, finding)
    return picture


def _marked(picture: Picture, finding: Finding) -> Picture:
    """The picture with one more cut."""
    picture = _with_parameters(picture, finding.parameters)
    before, after = _neighbours(picture.edges)
    given = [n.id for n in picture.nodes if n.kind == "param" and n.id in finding.parameters]
    reached = _walk(given, after)
    ends, targets = _ends(picture, finding, reached)
    if not ends:  # what becomes of them is no longer in the program, or nothing ever was
        alive = _walk([n.id for n in picture.nodes if n.kind == "output"], before)
        ends = [i for i in reached if i not in alive and not after.get(i)] if not finding.site else []
        ends = ends or given
    path = set(ends) | (_walk(ends, before) & set(reached))
    mark = f"cut:{len(picture.cuts)}"
    site = finding.site or finding.escape
    node = Node(
        mark, finding.code, f"{finding.code} {place_name(site.file, site.line)}" if site else finding.code, "cut",
        cluster=_home(picture, ends, site), file=site.file, line=site.line, scope=site.scope, source=_source(site),
        formula=finding.message, derivative=finding.fix, broken=finding.severity == "error",
    )  # fmt: skip
    broken = finding.severity == "error"
    edges = [
        replace(e, broken=True) if broken and e.kind != "broken" and e.source in path and e.target in path else e
        for e in picture.edges
        if not (e.kind == "broken" and e.source in ends and e.target in targets)
    ]
    edges += [Edge(end, mark, picture.node[end].type, "broken", i, "", broken) for i, end in enumerate(sorted(ends))]
    edges += [Edge(mark, target, picture.node[target].type, "broken", i) for i, target in enumerate(sorted(targets))]
    nodes = [replace(n, broken=True) if broken and n.id in path else n for n in picture.nodes]
    order = [n.id for n in nodes]
    nodes.insert(1 + max((order.index(e) for e in ends), default=len(nodes) - 1), node)
    # fmt: off
    cut = Cut(
        finding.code, finding.severity, finding.message, site.file, site.line, _source(site), finding.fix,
        finding.parameters, mark, tuple(i for i in order if i in path), tuple(i for i in order if i in targets),
    )
    # fmt: on
    return picture.replace(nodes=tuple(nodes), edges=tuple(edges), cuts=(*picture.cuts, cut))


def _ends(picture: Picture, finding: Finding, reached: Iterable[str]) -> tuple[list[str], list[str]]:
    """(where the paths of the parameters end, where the program goes on): the ends of a broken edge of that line, or
    what stands at it."""
    reached = set(reached)
    places = {(s.file, s.line) for s in (finding.site, finding.escape) if s}
    at = [n for n in picture.nodes if (n.file, n.line) in places and n.kind not in ("cut", "output")]
    here = {n.id for n in at if n.phase == "forward"} or {n.id for n in at}
    named = {place_name(file, line) for file, line in places}
    crossings = [e for e in picture.edges if e.kind == "broken" and e.source in reached]
    mine = [
        e for e in crossings if e.target in here or e.source in here or named & set(e.label.replace(",", "").split())
    ]
    if mine:
        return list(dict.fromkeys(e.source for e in mine)), list(dict.fromkeys(e.target for e in mine))
    blamed = [i for i in here if i in reached]
    # of several at the line the first ones: the path is cut where it comes to the line
    within = {e.target for e in picture.edges if e.source in blamed and e.target in blamed}
    targets = [n.id for n in at if n.kind == "const" and n.id not in reached]
    return [i for i in blamed if i not in within], targets


def _with_parameters(picture: Picture, paths: Iterable[str]) -> Picture:
    """Parameters that the program does not read at all are part of the picture of what goes wrong."""
    missing = [p for p in paths if p not in picture.node]
    nodes, clusters = list(picture.nodes), dict(picture.cluster)
    for path in missing:
        own, _, last = path.rpartition(".")
        where = ""
        for part in modules(own):
            outer, where = where, f"{where}/{part}".lstrip("/")
            clusters.setdefault(where, Cluster(where, part, "module", outer))
        nodes.insert(0, Node(path, "param", last, "param", cluster=where, scope=own, verdict="unused"))
    return picture.replace(nodes=tuple(nodes), clusters=tuple(clusters.values())) if missing else picture


def _home(picture: Picture, ends: list[str], site: Site) -> str:
    """The cluster of a mark: that of the module whose line it is, as far as the picture has it."""
    path = ""
    for part in modules(site.scope):
        inner = f"{path}/{part}".lstrip("/")
        if inner not in picture.cluster:
            break
        path = inner
    return path


def _source(site: Site) -> str:
    return source_line(Location(site.file, site.line)) if site else ""


def _neighbours(edges: Iterable[Edge]) -> tuple[Mapping[str, list[str]], Mapping[str, list[str]]]:
    before: dict[str, list[str]] = {}
    after: dict[str, list[str]] = {}
    for edge in edges:
        if edge.kind != "broken":
            before.setdefault(edge.target, []).append(edge.source)
            after.setdefault(edge.source, []).append(edge.target)
    return before, after


def _walk(start: Iterable[str], table: Mapping[str, list[str]]) -> set[str]:
    seen = set(start)
    stack = list(seen)
    while stack:
        for other in table.get(stack.pop(), ()):
            if other not in seen:
                seen.add(other)
                stack.append(other)
    return seen
