"""Replaying a program with the interpreter to name the first op that turned finite numbers into NaN or infinity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .graph import Graph, Node
from .interp import Interpreter


def first_not_finite(graph: Graph, inputs: Mapping[str, Any]) -> str | None:
    """A line about the first node of `graph` that made NaN or infinite elements of finite operands, or about inputs
    that had them already; None where all is finite. A mask that is infinite on purpose is passed over."""
    bad = [n for n, a in inputs.items() if np.asarray(a).dtype.kind == "f" and not np.all(np.isfinite(a))]
    if bad:
        return f"because  {', '.join(bad)} already had NaN or infinite elements"
    found = first_spoiled(graph, inputs)
    if found is None:
        return None
    node, count = found
    where = node.location
    at = f" at {where.file}:{where.line} {where.scope}".rstrip() if where else ""
    part = "the gradient of " if where and where.of else ""
    return f"first    {part}{node.op}{at} made {count} NaN or infinite elements"


def first_spoiled(graph: Graph, inputs: Mapping[str, Any]) -> tuple[Node, int] | None:
    """The first node that made NaN or infinite elements of finite operands, and how many."""
    culprit: list[tuple[Node, int]] = []

    def watch(node: Node, operands: list[Any], results: tuple[np.ndarray, ...]) -> None:
        if culprit or all(np.all(np.isfinite(r)) for r in results):
            return
        if any(not np.all(np.isfinite(a)) for a in operands if np.asarray(a).dtype.kind == "f"):
            return
        culprit.append((node, int(np.sum(~np.isfinite(results[0])))))

    Interpreter(graph, {v.name: inputs[v.name] for v in graph.inputs}, watch).run()
    return culprit[0] if culprit else None
