"""The report of a lint: findings by site, and a verdict on every parameter. It prints, and gives JSON and SARIF."""

from __future__ import annotations

import json
import linecache
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...ir.display import Displayed
from .evidence import Evidence
from .finding import SEVERITIES, Finding, Site, grouped, short
from .rule import RULES

SARIF_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/os/schemas/sarif-schema-2.1.0.json"
SARIF_LEVELS = {"error": "error", "warning": "warning", "info": "note"}


@dataclass(frozen=True)
class Verdict:
    """What becomes of one parameter: `verdict` is learns, dead, frozen, zero, unused or left out (of the optimizer),
    `because` the code and line; `paths` counts the differentiable paths from the loss, `gradient` is the norm that the
    probe measured (None: not probed)."""

    path: str
    shape: tuple[int, ...]
    verdict: str
    because: str = ""
    paths: int = 0
    gradient: float | None = None


@dataclass(frozen=True)
class Report(Displayed):
    """All findings, errors first, then those that concern most parameters; and a verdict for every parameter.

    `print(report)` shows it, `report.ok` says whether there is no error, `to_json()` and `to_sarif()` are for tools.
    """

    findings: tuple[Finding, ...]
    parameters: tuple[Verdict, ...]
    layers: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()  # evidence that could not be had

    @property
    def ok(self) -> bool:
        """No finding of severity error."""
        return not self.errors

    @property
    def errors(self) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if f.severity == "error")

    @property
    def summary(self) -> str:
        """One line: how many of the parameters learn, and how many findings there are."""
        if not self.parameters:
            return f"no parameters; {self._counts()}"
        wanted = [v for v in self.parameters if v.verdict not in ("frozen",)]
        learning = sum(v.verdict == "learns" for v in wanted)
        frozen = len(self.parameters) - len(wanted)
        more = f", {frozen} frozen" if frozen else ""
        return f"{learning}/{len(wanted)} parameters learn{more}; {self._counts()}"

    def _counts(self) -> str:
        counts = [(sum(f.severity == s for f in self.findings), s) for s in SEVERITIES]
        named = [f"{n} {s}{'s' if n > 1 and s != 'info' else ''}" for n, s in counts if n]
        return ", ".join(named) or "no findings"

    def __str__(self) -> str:
        return "\n".join([*(text(f) for f in self.findings), *self.notes, self.summary])

    def table(self) -> str:
        """One line for every parameter: paths, gradient norm, verdict."""
        rows = [("parameter", "shape", "paths", "gradient", "verdict")]
        for v in self.parameters:
            gradient = "" if v.gradient is None else f"{v.gradient:.2e}"
            rows.append((v.path, str(list(v.shape)), paths_text(v.paths), gradient, f"{v.verdict} {v.because}".strip()))
        widths = [max(len(row[i]) for row in rows) for i in range(5)]
        return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows)

    # for tools ------------------------------------------------------------------------------------------------------
    def to_dict(self) -> dict[str, Any]:
        """Plain data: what `to_json` writes and what a tape stores."""
        return {
            "summary": self.summary,
            "layers": list(self.layers),
            "notes": list(self.notes),
            "findings": [_finding_dict(f) for f in self.findings],
            "parameters": [{**vars(v), "shape": list(v.shape)} for v in self.parameters],
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Report:
        findings = tuple(
            Finding(
                f["code"], f["severity"], Site(f["file"], f["line"], f["column"], f["scope"]), f["message"], f["why"],
                f["fix"], tuple(f["parameters"]), Site(**f["escape"]) if f["escape"] else Site(),
            )
            for f in data["findings"]
        )  # fmt: skip
        parameters = tuple(Verdict(**{**v, "shape": tuple(v["shape"])}) for v in data["parameters"])
        return cls(findings, parameters, tuple(data["layers"]), tuple(data["notes"]))

    def to_json(self, indent: int | None = 2) -> str:
        return json.dumps(self.to_dict(), indent=indent)

    def to_sarif(self) -> str:
        """SARIF 2.1.0, for editors and code scanning."""
        codes = list(dict.fromkeys(f.code for f in self.findings))
        rules = [_sarif_rule(code) for code in codes]
        results = [_sarif_result(f, codes.index(f.code)) for f in self.findings]
        driver = {"name": "gradtape", "rules": rules}
        run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
        return json.dumps({"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2)


# text -----------------------------------------------------------------------------------------------------------------
def shown_path(file: str) -> str:
    """The file as a message names it: relative to the working directory where it lies below."""
    try:
        relative = os.path.relpath(file)
    except ValueError:  # another drive
        return file
    return file if relative.startswith("..") or file.startswith("<") else relative


def place(site: Site) -> str:
    """`file:line:column`, which editors follow; without the column where it is not known."""
    return f"{shown_path(site.file)}:{site.line}" + (f":{site.column}" if site.column else "")


def source(site: Site) -> str:
    return linecache.getline(site.file, site.line).strip() if site else ""


def text(finding: Finding) -> str:
    """A finding as it is printed: the fact, the source line, the parameters, why, what to write."""
    return "\n".join(line for _, line in parts(finding))


def parts(finding: Finding) -> Iterator[tuple[str, str]]:
    """(kind, line) of a printed finding; the kinds are what a terminal colours."""
    f = finding
    where = f"  {place(f.site)}" if f.site else ""
    scope = f"  ({f.site.scope})" if f.site.scope else ""
    yield f.severity, f"{f.code} {f.severity}{where}{scope}"
    if source(f.site):
        yield "source", f"  {f.line:4d} | {source(f.site)}"
    yield "message", f"  {f.message}"
    if f.escape and (f.escape.file, f.escape.line) != (f.file, f.line):
        yield "why", f"  left     {place(f.escape)}  {source(f.escape)}"
    if f.parameters:
        yield "parameters", f"  concerns {short(f.parameters, 6)}"
    yield "why", f"  because  {f.why}"
    yield "fix", f"  write    {f.fix}"


def paths_text(count: int) -> str:
    return str(count) if count < 1000 else ">999"


# plain data -----------------------------------------------------------------------------------------------------------
def _finding_dict(f: Finding) -> dict[str, Any]:
    where = {"file": f.file, "line": f.line, "column": f.site.column, "scope": f.site.scope}
    escape = vars(f.escape) if f.escape else None
    told = {"message": f.message, "why": f.why, "fix": f.fix, "parameters": list(f.parameters), "escape": escape}
    return {"code": f.code, "severity": f.severity, **where, "source": source(f.site), **told}


def _sarif_rule(code: str) -> dict[str, Any]:
    rule = RULES.get(code)
    title = rule.title if rule else "a rule of the lint that could not be applied"
    level = SARIF_LEVELS[rule.severity] if rule else "warning"
    out: dict[str, Any] = {
        "id": code,
        "shortDescription": {"text": title},
        "defaultConfiguration": {"level": level},
    }
    if rule:
        out["fullDescription"] = {"text": rule.page.split("\n\n")[0]}
        out["help"] = {"text": rule.page}
    return out


def _sarif_result(f: Finding, index: int) -> dict[str, Any]:
    listed = f" Concerns {', '.join(f.parameters)}." if f.parameters else ""
    out: dict[str, Any] = {
        "ruleId": f.code,
        "ruleIndex": index,
        "level": SARIF_LEVELS[f.severity],
        "message": {"text": f"{f.message}.{listed} Because {f.why}. Write: {f.fix}"},
        "properties": {"parameters": list(f.parameters)},
    }
    if f.site:
        out["locations"] = [_sarif_location(f.site)]
    if f.escape:
        out["relatedLocations"] = [{**_sarif_location(f.escape), "message": {"text": "here the value left the graph"}}]
    return out


def _sarif_location(site: Site) -> dict[str, Any]:
    path = Path(site.file)
    uri = path.as_uri() if path.is_absolute() else path.as_posix()
    region: dict[str, Any] = {"startLine": site.line}
    if site.column:
        region["startColumn"] = site.column
    if source(site):
        region["snippet"] = {"text": source(site)}
    return {"physicalLocation": {"artifactLocation": {"uri": uri}, "region": region}}


# making it ------------------------------------------------------------------------------------------------------------
def allowed(finding: Finding) -> bool:
    """Whether the line says `# gradtape: allow(GT-A01)`; several codes are separated by commas."""
    for site in (finding.site, finding.escape):
        line = linecache.getline(site.file, site.line) if site else ""
        _, mark, rest = line.partition("gradtape: allow(")
        if mark and finding.code in [code.strip() for code in rest.partition(")")[0].split(",")]:
            return True
    return False


def make_report(evidence: Evidence, findings: Iterable[Finding], layers: Sequence[str]) -> Report:
    """The findings that no line allows, and what they mean for every parameter."""
    kept = grouped(f for f in findings if not allowed(f))
    verdicts = tuple(_verdict(evidence, p.path, kept) for p in evidence.params)
    missing = dict(evidence.retraces.refusals) if evidence.retraces else {}
    notes = [f"no second trace ({name}): {reason}" for name, reason in missing.items()]
    if evidence.probe and evidence.probe.refusal:
        notes.append(f"no probe: {evidence.probe.refusal}")
    return Report(tuple(kept), verdicts, tuple(layers), tuple(notes))


KILLS = ("error", "warning")


def _verdict(e: Evidence, path: str, findings: Sequence[Finding]) -> Verdict:
    param = next(p for p in e.params if p.path == path)
    mine = [f for f in findings if path in f.parameters]
    blamed = next((f for f in mine if f.severity in KILLS), None)
    because = f"{blamed.code} {shown_path(blamed.file)}:{blamed.line}" if blamed and blamed.site else ""
    probed = e.probe.gradients.get(path) if e.probe else None
    gradient = probed.norm64 if probed else None
    zero = next((f for f in mine if f.severity == "info" and f.code in ZERO), None)
    if not param.trainable:
        verdict = "frozen"
    elif not e.flow.reaches(path):
        verdict = "dead" if e.is_read(path) else "unused"
        because = because or (blamed.code if blamed else "")
    elif e.groups is not None and param.group is None:
        verdict = "left out"
    elif zero is not None or (blamed and blamed.code in ZERO):
        verdict, because = "zero", zero.code if zero else because
    elif blamed is not None and blamed.severity == "error":
        verdict = "wrong"
    else:
        verdict, because = "learns", ""
    return Verdict(path, tuple(param.array.shape), verdict, because, e.flow.paths(path), gradient)


ZERO = tuple(f"GT-C{i:02d}" for i in range(1, 8)) + ("GT-G05",)  # not rows alone, not units that are alike
