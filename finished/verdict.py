"""The lint's verdict beside a finished tape: when it still holds, and at which lines.

A verdict follows from the traced program and from few facts about the model beside it: which arrays are zero or
constant, which are alike, what the optimizer holds. Another seed leaves these as they are. Where the program let values
out, where a comment has silenced a finding, or where an update is written by the user, source is read too: then the
lint is asked again in every process.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..ir.arrays import constant_along
from ..ir.location import Location
from ..models.optim import RATES_AT, Optimizer, written_update
from ..tracer.module import Module, Parameter, Stored
from ..tracer.trace import Traced
from .parts import Places

if TYPE_CHECKING:
    from ..passes.lint import Report

_A_LINE = re.compile(r"\.py:\d|\bline \d")  # a place in a finding's own words, which nothing can move


def facts_of(traced: Traced, model: Module | None, optimizer: Optimizer | None) -> str | None:
    """A digest of what a verdict depends on beside the program; None where it depends on source as well."""
    ledger = traced.ledger
    crossed = (
        ledger.escapes, ledger.reentries, ledger.leaves, ledger.stores, ledger.writes, ledger.refusals, ledger.stale,
        ledger.cuts,
    )  # fmt: skip
    if any(crossed) or (optimizer is not None and written_update(optimizer) is not None):
        return None
    named = dict(model.named_parameters()) if model is not None else {}
    both = {**named, **traced.captured}
    facts = {
        "parameters": [[path, *_array_facts(p), p.requires_grad, p.in_trace] for path, p in both.items()],
        "registered": list(named),
        "found by walking": [path for path, _ in Module.named_parameters(model)] if model is not None else [],
        "buffers": [[path, *_array_facts(b)] for path, b in traced.buffers.items()],
        "aliases": model.aliases() if model is not None else {},
        "alike": _alike(both),
        "overwritten": [path for path, _ in model.overwritten()] if model is not None else [],
        "strangers": [[type(m).__name__, len(m.parameters())] for m in traced.strangers],
        "sizes": [[s.name, s.hint] for s in traced.graph.symbols.values()],
        "optimizer": None if optimizer is None else _optimizer_facts(optimizer, both),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _array_facts(stored: Stored) -> list[Any]:
    array = stored.array
    return [str(array.dtype), array.shape, not array.any(), sorted(constant_along(array))]


def _alike(parameters: Mapping[str, Parameter]) -> list[list[Any]]:
    """Pairs that start with the same numbers, perhaps transposed. Few pass the first test, of extremes."""
    groups: dict[tuple, list[str]] = {}
    for path, p in parameters.items():
        if p.size >= 4 and (low := float(p.array.min())) < (high := float(p.array.max())):
            groups.setdefault((p.size, low, high), []).append(path)
    found = []
    for paths in groups.values():
        for i, a in enumerate(paths):
            for b in paths[i + 1 :]:
                x, y = parameters[a].array, parameters[b].array
                found.append([a, b, np.array_equal(x, y), np.array_equal(x, y.T)])
    return found


def _optimizer_facts(optimizer: Optimizer, parameters: Mapping[str, Parameter]) -> list[Any]:
    """What each group holds, whether its rate is ever above 0, and which of its parameters round an update of that size
    away."""
    known = {id(p): path for path, p in parameters.items()}
    found: list[Any] = [type(optimizer).__name__]
    for index, (members, options) in enumerate(optimizer.groups):
        held = list(known.values()) if members is None else [known.get(id(m), str(m.shape)) for m in members]
        best = max(optimizer.learning_rate(step, index) for step in RATES_AT) if "lr" in options else None
        stuck = [path for path in held if best and path in parameters and _rounds_away(parameters[path].array, best)]
        found.append([members is None, held, best is not None and best > 0.0, stuck, sorted(options)])
    return found


def _rounds_away(array: np.ndarray, rate: float) -> bool:
    """Whether an update of size `rate` is lost everywhere: also where the spacing of the numbers is least."""
    if not array.size or array.dtype.kind != "f":
        return False
    least = np.abs(array).min()
    return bool(least > 0 and 0.5 * np.spacing(least) > rate)


# as data --------------------------------------------------------------------------------------------------------------
def landmarks_of(
    nodes: Sequence[Location | None], traced: Traced, model: Module | None, optimizer: Optimizer | None
) -> list[Location | None]:
    """The places that findings point to: those of the nodes, of parameters, and of the optimizer."""
    named = dict(model.named_parameters()) if model is not None else {}
    made = [p.created for p in {**named, **traced.captured}.values()]
    return [*nodes, *made, optimizer.created if optimizer is not None else None]


def verdict_data(report: Report, facts: str, landmarks: Sequence[Location | None]) -> dict[str, Any]:
    """The report with the numbers of the landmarks that its findings stand at."""
    places = Places(landmarks)
    data = report.to_dict()
    sites = []
    for finding in data["findings"]:
        escape = finding["escape"]
        sites.append([places.listed[_number(places, site)][0] if site else None for site in (finding, escape)])
    return {"facts": facts, "report": data, "sites": sites, "landmarks": len(landmarks)}


def _number(places: Places, site: Mapping[str, Any]) -> int:
    return places.number(Location(site["file"], site["line"], site["scope"], "", site["column"]))


def still_holds(verdict: Mapping[str, Any] | None, facts: str | None) -> bool:
    return verdict is not None and facts is not None and verdict.get("facts") == facts


def is_quiet(verdict: Mapping[str, Any]) -> bool:
    """Whether nobody needs to be told anything."""
    return all(finding["severity"] == "info" for finding in verdict["report"]["findings"])


def report_from(verdict: Mapping[str, Any], landmarks: Sequence[Location | None]) -> Report | None:
    """The report, its findings at the landmarks of this trace; None where one of them cannot be placed, or where a
    comment allows it by now."""
    from ..passes.lint.report import KILLS, Report, allowed, shown_path

    data = json.loads(json.dumps(verdict["report"]))
    if verdict["landmarks"] != len(landmarks):
        return None
    for finding, numbers in zip(data["findings"], verdict["sites"], strict=True):
        if any(_A_LINE.search(finding[part]) for part in ("message", "why", "fix")):
            return None
        for site, number in zip((finding, finding["escape"]), numbers, strict=True):
            if site is None or not site["line"]:
                continue
            where = landmarks[number] if number >= 0 else None
            if where is None:
                return None
            site.update(file=where.file, line=where.line, column=where.column)
    report = Report.from_dict(data)
    if any(allowed(f) for f in report.findings):
        return None
    for said in data["parameters"]:
        if " " in said["because"]:
            mine = [f for f in report.findings if said["path"] in f.parameters and f.severity in KILLS and f.site]
            if not mine:
                return None
            said["because"] = f"{mine[0].code} {shown_path(mine[0].file)}:{mine[0].line}"
    return Report.from_dict(data)
