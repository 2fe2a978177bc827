"""What the report tells, gathered from a compiled program as plain data: strings, numbers, lists and dicts of them."""

from __future__ import annotations

import linecache
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from ..ir.graph import Graph
from ..ir.tape import Tape
from ..passes.lint import RULES, Report
from ..passes.lint.report import shown_path
from ..pictures import Edge, Node, Picture, picture
from ..pictures.fold import with_repeats
from ..runtime.bind import Plan
from ..runtime.profile import Profile
from .runs import Training
from .tape import tape_data

AROUND = 4  # lines of source before and after the one that is meant
GRAPHS = ("traced", "differentiated", "fused")


def contents(
    stages: Mapping[str, Graph | Tape],
    *,
    plan: Plan | None = None,
    parameters: Mapping[str, tuple[np.ndarray, bool]] = {},
    store: int = 0,
    lint: Report | None = None,
    reentries: Sequence[Any] = (),
    gradients: Mapping[str, float] = {},
    profile: Profile | None = None,
    training: Training | None = None,
    title: str = "",
    target: str = "",
) -> dict[str, Any]:
    """The report's data.

    stages      the program by stage; of one that does not compile `traced`, or nothing, is enough
    plan        what binding the tape to sizes has decided; with it the tape is drawn
    parameters  by path: the array, and whether it is trained;  store: bytes of these and of the optimizer's state
    lint        findings and verdicts;  reentries: where what had left the program came back
    gradients   norms by path, where the lint has not measured them
    profile     the times of a run;  training: what a training has left behind
    title       what the page is called, `target` what it was made from
    """
    pictures = {s: picture(stages, s, lint, reentries) for s in GRAPHS if s in stages}
    drawn = None
    if isinstance(tape := stages.get("tape"), Tape) and plan is not None:
        drawn = tape_data(tape, plan, pictures["fused"], profile)
    flow = _flow(parameters, lint, {**gradients, **(training.gradients() if training else {})})
    data: dict[str, Any] = {
        "title": title or next((p.name for p in pictures.values()), "program"),
        "target": target,
        "version": _version(),
        "date": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
        "sizes": dict(plan.dims) if plan else {},
        "overview": _overview(stages, parameters, store, lint, drawn, profile),
        "pictures": _packed(list(pictures.values())),
        "flow": flow,
        "findings": _findings(lint),
        "notes": list(lint.notes) if lint else [],
        "tape": drawn,
        "training": training.to_dict() if training else None,
    }
    places = {(n.file, n.line) for p in pictures.values() for n in p.nodes}
    places |= {(f["file"], f["line"]) for f in data["findings"]}
    places |= {(f["escape"]["file"], f["escape"]["line"]) for f in data["findings"] if f["escape"]}
    places |= {(i["file"], i["line"]) for i in drawn["instructions"]} if drawn else set()
    data["source"] = _source(places)
    return data


def _version() -> str:
    try:
        return version("gradtape")
    except PackageNotFoundError:  # run from its folder
        return ""


# overview -------------------------------------------------------------------------------------------------------------
def _overview(
    stages: Mapping[str, Graph | Tape],
    parameters: Mapping[str, tuple[np.ndarray, bool]],
    store: int,
    lint: Report | None,
    tape: Mapping[str, Any] | None,
    profile: Profile | None,
) -> dict[str, Any]:
    sizes = [(a.size, trained) for a, trained in parameters.values()]
    if not parameters and lint:  # of a model that was refused only what the lint says of it is known
        sizes = [(int(np.prod(v.shape, dtype=np.int64)), v.verdict != "frozen") for v in lint.parameters]
    data: dict[str, Any] = {
        "parameters": sum(size for size, _ in sizes),
        "trainable": sum(size for size, trained in sizes if trained),
        "tensors": len(sizes),
        "nodes": {s: len(g.nodes) for s, g in stages.items() if isinstance(g, Graph)},
        "summary": lint.summary if lint else "",
        "ok": lint.ok if lint else None,
        "store": store,
        "time": None,
    }
    if tape is not None:
        instructions = tape["instructions"]
        data |= {
            "arena": tape["arena"],
            "threads": tape["threads"],
            "barriers": tape["barriers"],
            "instructions": len(instructions),
            "kernels": len({i["kernel"] for i in instructions}),
            "flops": sum(i["flops"] for i in instructions),
            "bytes": sum(i["bytes"] for i in instructions),
            "kinds": _kinds(instructions),
        }
    if profile is not None:
        bound = sum(profile.bound(w) for w in profile.instructions) / profile.threads
        data["time"] = {
            "seconds": profile.seconds,
            "bound": bound,
            "share": bound / profile.seconds if profile.seconds else 0.0,
            "waiting": sum(profile.waiting) / profile.threads,
            "repeats": profile.repeats,
            "flops": profile.machine.f32,
            "bandwidth": profile.machine.bandwidth,
        }
    return data


def _kinds(instructions: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The work by kind of instruction, the most first: by time where it was measured, else by bytes."""
    kinds: dict[str, dict[str, Any]] = {}
    for i in instructions:
        kind = kinds.setdefault(i["kind"], {"kind": i["kind"], "count": 0, "flops": 0, "bytes": 0})
        kind["count"] += 1
        for name in ("flops", "bytes"):
            kind[name] += i[name]
        for name in ("seconds", "bound"):
            if name in i:
                kind[name] = kind.get(name, 0.0) + i[name]
    return sorted(kinds.values(), key=lambda k: (-k.get("seconds", 0.0), -k["bytes"]))


# gradients and findings -----------------------------------------------------------------------------------------------
def _flow(
    parameters: Mapping[str, tuple[np.ndarray, bool]], lint: Report | None, gradients: Mapping[str, float]
) -> list[dict[str, Any]]:
    """A row for every parameter; without a lint those of the model, without a verdict."""
    if lint is None or not lint.parameters:
        rows = [
            (path, array.shape, "" if trained else "frozen", "", 0) for path, (array, trained) in parameters.items()
        ]
        measured: Mapping[str, float | None] = {}
    else:
        rows = [(v.path, v.shape, v.verdict, v.because, v.paths) for v in lint.parameters]
        measured = {v.path: v.gradient for v in lint.parameters}
    out = []
    for path, shape, verdict, because, paths in rows:
        gradient = gradients.get(path, measured.get(path))
        weight = float(np.linalg.norm(parameters[path][0])) if path in parameters else None
        row = {"path": path, "shape": list(shape), "size": int(np.prod(shape, dtype=np.int64))}
        row |= {"verdict": verdict, "because": because, "paths": min(paths, 1000)}
        row |= {"gradient": _finite(gradient), "weight": _finite(weight)}
        out.append(row)
    return out


def _finite(value: float | None) -> float | None:
    return value if value is not None and np.isfinite(value) else None


def _findings(lint: Report | None) -> list[dict[str, Any]]:
    if lint is None:
        return []
    out = []
    for finding in lint.to_dict()["findings"]:
        rule = RULES.get(finding["code"])
        out.append({**finding, "title": rule.title if rule else "", "page": rule.page if rule else ""})
    return out


# source ---------------------------------------------------------------------------------------------------------------
def _source(places: Iterable[tuple[str, int]]) -> dict[str, dict[str, Any]]:
    """By file: how it is called, and the lines around all places in it."""
    files: dict[str, dict[str, Any]] = {}
    for file, line in places:
        if not file or not line:
            continue
        entry = files.setdefault(file, {"name": _name(file), "lines": {}})
        for number in range(max(1, line - AROUND), line + AROUND + 1):
            text = linecache.getline(file, number)
            if text:
                entry["lines"][number] = text.rstrip()
    return files


def _name(file: str) -> str:
    """As a message names it; a file of this package by its place in that, for nobody wants to read where it lies."""
    own = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH120, PTH100  (as frames name files)
    if file.startswith(own + os.sep):
        return "gradtape" + file[len(own) :].replace(os.sep, "/")
    return shown_path(file)


# pictures -------------------------------------------------------------------------------------------------------------
def _packed(pictures: Sequence[Picture]) -> dict[str, Any]:
    """Pictures in little space: nodes and edges as lists in the order of their fields, every string once. Of a GPT
    with twelve layers they have 8,500 nodes, and take 1.6 MB for 7.2 written out. Where modules repeat, there is also
    the picture with equal ones once."""
    strings: dict[str, int] = {}

    def pack(x: Any) -> Any:
        if isinstance(x, str):
            return strings.setdefault(x, len(strings))
        return [pack(item) for item in x] if isinstance(x, tuple) else int(x)

    def record(item: Any) -> list[Any]:
        return [pack(getattr(item, f.name)) for f in fields(item)]

    def stage(p: Picture, once: bool) -> dict[str, Any]:
        return {
            "stage": p.stage,
            "once": once,
            "sizes": p.sizes,
            "nodes": [record(n) for n in p.nodes],
            "edges": [record(e) for e in p.edges],
            "clusters": [asdict(c) for c in p.clusters],
        }

    stages = [stage(p, False) for p in pictures]
    stages += [stage(once, True) for p in pictures if len((once := with_repeats(p)).nodes) < len(p.nodes)]
    names = {"node": [f.name for f in fields(Node)], "edge": [f.name for f in fields(Edge)]}
    numbers = sorted({f.name for kind in (Node, Edge) for f in fields(kind) if "str" not in str(f.type)})
    return {"fields": names, "numbers": numbers, "stages": stages, "strings": list(strings)}
