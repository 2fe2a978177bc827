"""step.watch(): looks at a training every so many steps for what only shows at run time: units that are never on,
saturated activations, gradients that vanish, weights that do not move."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .evidence import evidence_of
from .ir.graph import Literal, Node
from .ir.interp import Interpreter
from .linting import LintWarning, program_of
from .passes.lint import WATCHED, Evidence, Report, make_report, run_rules
from .passes.lint.evidence import Watched
from .passes.rewrite import without_checkpoints
from .tracer.trace import Traced

FLAT = 1e-4  # a derivative below which an activation counts as saturated


class Watch:
    """What has been seen so far. `report` holds the findings and a verdict on every parameter; with `warn` a finding is
    a LintWarning when it first shows.

    A look costs a gradient and a forward pass by the interpreter: choose `every` so that it does not matter. What is
    inside of a scan has other numbers in every round, and is not looked at; its weights and gradients are.
    """

    def __init__(self, compiled: Any, every: int, warn: bool) -> None:
        if every < 1:
            raise ValueError(f"watch: every is a number of steps from 1, not {every}")
        self.compiled, self.every, self.warn = compiled, every, warn
        self.seen = Watched()
        self._weights: dict[str, np.ndarray] = {}
        self._told: set[tuple] = set()
        self._evidence: Evidence | None = None

    @property
    def report(self) -> Report:
        """The findings so far."""
        if self._evidence is None:
            raise RuntimeError(f"nothing has been looked at yet: the first look is at step {self.every}")
        evidence = replace(self._evidence, watched=self.seen)
        return make_report(evidence, run_rules(evidence, (WATCHED,)), (WATCHED,))

    def __str__(self) -> str:
        return f"{self.seen.looks} looks, one in {self.every} steps\n{self.report if self._evidence else ''}".rstrip()

    def after_step(self, step: int, traced: Traced, batch: Sequence[Any]) -> None:
        """Called by every training step."""
        if step % self.every:
            return
        if self._evidence is None:
            graph, loss = program_of(traced, "step")
            self._evidence = evidence_of(traced, graph, loss, self.compiled.model, self.compiled.optimizer)
        self._look(traced, batch)
        for finding in self.report.findings:
            key = (finding.code, finding.file, finding.line)
            if self.warn and finding.severity != "info" and key not in self._told:
                warnings.warn(f"step {step}: {finding.code} {finding.message}", LintWarning, stacklevel=4)
            self._told.add(key)

    def _look(self, traced: Traced, batch: Sequence[Any]) -> None:
        measured = self.compiled.gradient_norms(*batch)
        weights = {path: p.array.copy() for path, p in self.compiled.named_parameters()}
        seen = self.seen
        norms = {path: (*seen.gradients.get(path, ()), norm) for path, norm in measured.items()}
        still = {
            p: seen.still.get(p, 0) + 1 if p in self._weights and np.array_equal(w, self._weights[p]) else 0
            for p, w in weights.items()
        }
        off, flat = dict(seen.off), dict(seen.flat)
        for node, result in self._results(traced, batch):
            name = node.output.name
            if is_rectifier(node):
                never = ~np.any(result != 0, axis=_other_axes(result))
                off[name] = never & off[name] if name in off else never
            share = _flat_share(node, result)
            if share is not None and seen.looks == 0:
                flat[name] = share
        self._weights = weights
        self.seen = Watched(seen.looks + 1, norms, still, off, flat)

    def _results(self, traced: Traced, batch: Sequence[Any]) -> list[tuple[Node, np.ndarray]]:
        """Every node of the forward program with its result for this batch, but those in loops, which have many."""
        found: list[tuple[Node, np.ndarray]] = []
        graph = without_checkpoints(traced.graph)
        own = set(graph.nodes)

        def watch(node: Node, operands: list[Any], results: tuple[np.ndarray, ...]) -> None:
            if node in own:
                found.append((node, results[0]))

        inputs = traced.bind(*batch, seed=self.compiled.seed, step=self.compiled.step_count)
        with np.errstate(all="ignore"):
            Interpreter(graph, inputs, watch).run()
        return found


def is_rectifier(node: Node) -> bool:
    """relu(x), or maximum(x, 0)."""
    zero = any(isinstance(o, Literal) and o.value == 0 for o in node.inputs)
    return node.op == "relu" or (node.op == "maximum" and zero)


def _other_axes(result: np.ndarray) -> tuple[int, ...]:
    """All axes but that of the units: the channels of (N, C, H, W), else the last one."""
    units = 1 if result.ndim == 4 else result.ndim - 1
    return tuple(a for a in range(result.ndim) if a != units)


def _flat_share(node: Node, result: np.ndarray) -> float | None:
    """The share of the elements (of a softmax: of the rows) whose derivative is next to nothing."""
    if not result.size:
        return None
    if node.op == "softmax":
        return float(np.mean(result.max(axis=node.attrs["axis"]) > 1 - FLAT))
    if node.op == "sigmoid":
        return float(np.mean(result * (1 - result) < FLAT))
    if node.op == "tanh":
        return float(np.mean(1 - result * result < FLAT))
    return None
