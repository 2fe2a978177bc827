"""Joins the optimizer to the gradients: each parameter's traced update is placed behind its gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..ir.build import Builder, Ref
from ..ir.dims import dim_scope
from ..ir.graph import Graph
from ..ir.op import OPS
from ..ir.types import TensorType


@dataclass(frozen=True)
class Update:
    """How one parameter moves: `rule` is a traced graph with inputs `param`, `grad`, `state.<key>` and scalars, and
    outputs `param` and `state.<key>`; `scalars` maps the rule's scalar names to those of the step (`lr` -> `lr.0`)."""

    param: str
    rule: Graph
    state: Mapping[str, TensorType]
    scalars: Mapping[str, str]


def state_name(key: str, param: str) -> str:
    """The name of an optimizer state array: also its key in checkpoints."""
    return f"optimizer.{key}.{param}"


def global_norm(grads: Sequence[Any]) -> Any:
    """sqrt of the sum of all squares, in float32 or better."""
    total: Any = None
    for g in grads:
        part = OPS["sum"](g * g, axes=tuple(range(g.ndim)), keepdims=False)
        total = part if total is None else total + part
    return OPS["sqrt"](total)


def apply_updates(graph: Graph, updates: Sequence[Update], max_norm: float | None = None) -> Graph:
    """`graph` (with outputs `grad:<param>`) with the updates of every parameter in `updates`, and the output
    `grad_norm` instead of the gradients. With `max_norm`, gradients are scaled by min(1, max_norm / (norm + 1e-6)),
    as torch.nn.utils.clip_grad_norm_ does."""
    builder = Builder.extending(graph)
    kept = [(name, v) for name, v in graph.outputs if not name.startswith("grad:")]
    grads = {name: builder.wrap(v) for name, v in graph.outputs if name.startswith("grad:")}
    with dim_scope(builder.scope):
        wanted = [grads[f"grad:{u.param}"] for u in updates]
        norm = global_norm(wanted)
        scale = None
        if max_norm is not None:
            scale = OPS["minimum"](max_norm / (norm + 1e-6), 1.0)
        for update, grad in zip(updates, wanted, strict=True):
            _apply(builder, graph, update, grad if scale is None else grad * scale)
    outputs = [*((name, builder.wrap(v)) for name, v in kept), ("grad_norm", norm)]
    return builder.graph(outputs)


def _apply(builder: Builder, graph: Graph, update: Update, grad: Any) -> None:
    rule = update.rule
    args: list[Any] = []
    for value in rule.inputs:
        if value.name == "param":
            args.append(builder.wrap(graph.input(update.param)))
        elif value.name == "grad":
            args.append(grad)
        elif value.name.startswith("state."):
            key = value.name.removeprefix("state.")
            args.append(builder.input(state_name(key, update.param), update.state[key], "state"))
        else:
            name = update.scalars[value.name]
            known = next((v for v in builder.inputs if v.name == name), None)
            args.append(builder.wrap(known) if known else builder.input(name, value.type, "scalar"))
    for (name, _), new in zip(rule.outputs, builder.inline(rule, args), strict=True):
        target = update.param if name == "param" else state_name(name.removeprefix("state."), update.param)
        expected = next(v for v in builder.inputs if v.name == target).type
        if not isinstance(new, Ref):
            new = OPS["full"].like(grad, shape=expected.shape, value=new, dtype=expected.dtype)
        if new.type.dtype != expected.dtype:
            new = OPS["cast"](new, dtype=expected.dtype)
        builder.updates[target] = new._value
