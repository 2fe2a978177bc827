"""gt.lint: gathers evidence about a model, applies the rules, and reports."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

from .entries import only_output
from .evidence import Subject, evidence_of, probe, retraces
from .ir.graph import Graph, Operand
from .ir.location import frames_to_user
from .models.optim import Optimizer, as_optimizer
from .passes.autodiff import GradientError
from .passes.lint import LAYERS, Evidence, Report, make_report, run_rules
from .passes.lint.report import allowed
from .passes.rewrite import without_checkpoints
from .tracer.module import Module
from .tracer.rule_check import forgiving
from .tracer.trace import Traced

CHEAP = ("S", "K", "T")  # what compile applies: it has traced anyhow


class LintError(GradientError):
    """A model in which some parameter cannot learn as it should. `report` holds every finding."""

    def __init__(self, report: Report, fact: str = "this model cannot learn as it should") -> None:
        self.report = report
        super().__init__(f"{fact}\n{report}")


class LintWarning(UserWarning):
    """What keeps a parameter from learning, perhaps on purpose; with `compile(..., lint="warn")` also the errors."""


def lint(
    model_or_fn: Any, *example: Any, loss: Any = None, optimizer: Any = None, layers: Sequence[str] = LAYERS
) -> Report:
    """Looks for everything that keeps a model from learning, and names the lines.

    model_or_fn   a Module, a function of arrays, or what `gt.compile` has returned (its model, loss and optimizer)
    example       the arrays of one call: `(*inputs, target)` with a loss, otherwise the inputs
    loss          as for `gt.compile`; without one the outputs are taken for it
    optimizer     as for `gt.compile`: then what it leaves out is told too
    layers        which kinds of evidence: "S" graph, "K" shapes and ranges, "T" what left the graph, "D" traces
                  compared with each other, "G" gradients measured and compared with finite differences
    """
    unknown = [layer for layer in layers if layer not in LAYERS]
    if unknown:
        raise ValueError(f"layers are {', '.join(LAYERS)}, not {', '.join(unknown)}")
    if hasattr(model_or_fn, "step_count") and hasattr(model_or_fn, "target"):  # a Compiled
        compiled, model_or_fn = model_or_fn, model_or_fn.target
        loss, optimizer = loss or compiled.loss, optimizer or compiled.optimizer
    subject = Subject(model_or_fn, loss, None if optimizer is None else as_optimizer(optimizer), example)
    with forgiving():
        traced = subject.trace()
        graph, root = program_of(traced, subject.entry)
        evidence = evidence_of(traced, graph, root, subject.model, subject.optimizer)
        if "D" in layers:
            evidence = replace(evidence, retraces=retraces(subject, traced))
        if "G" in layers:
            alive = [p.path for p in evidence.trainable if evidence.flow.reaches(p.path)]
            evidence = replace(evidence, probe=probe(subject, traced, alive))
    return report_on(evidence, layers)


def program_of(traced: Traced, entry: str) -> tuple[Graph, Operand | None]:
    """The traced graph with the outputs of the entry, and its loss."""
    graph = without_checkpoints(traced.graph)
    if entry == "forward":
        return graph, None
    loss = only_output(graph)
    return graph.replace(outputs=(("loss", loss),)), loss


def report_on(evidence: Evidence, layers: Sequence[str] = CHEAP) -> Report:
    """The report of these layers."""
    return make_report(evidence, run_rules(evidence, layers), layers)


def examine(traced: Traced, graph: Graph, model: Module | None, optimizer: Optimizer | None) -> tuple[Report, bool]:
    """What the cheap layers say of a program with a loss, and whether a comment has silenced something."""
    graph = without_checkpoints(graph)
    evidence = evidence_of(traced, graph, graph.output("loss"), model, optimizer)
    findings = run_rules(evidence, CHEAP)
    return make_report(evidence, findings, CHEAP), any(allowed(f) for f in findings)


_tolerating: ContextVar[bool] = ContextVar("tolerating", default=False)


@contextmanager
def tolerating(yes: bool = True) -> Iterator[None]:
    """Inside, `lint="error"` is `lint="warn"`: what cannot learn is compiled all the same, to be looked at."""
    token = _tolerating.set(yes)
    try:
        yield
    finally:
        _tolerating.reset(token)


def enforce(report: Report, level: str, fact: str = "this model cannot learn as it should") -> None:
    """What compile makes of a report: refuses the program, warns, or says nothing, as `level` has it."""
    if report.errors and level == "error" and not _tolerating.get():
        raise LintError(report, fact)
    if any(f.severity != "info" for f in report.findings):
        warnings.warn(str(report), LintWarning, stacklevel=frames_to_user())


def judge_forward(traced: Traced, graph: Graph, level: str) -> None:
    """The same for a program without backward: nobody has to learn, but what Python computed from the arrays of the
    first call must not stand in it as a constant."""
    if level != "off":
        evidence = replace(evidence_of(traced, graph, None), params=())
        enforce(report_on(evidence), level, "this program would keep what it should compute")
