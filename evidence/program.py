"""What one trace tells: the graph, the model's parameters, the optimizer's groups, and what crossed the boundary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..entries import update_graph
from ..ir.graph import Graph, Operand
from ..ir.location import Location
from ..models.optim import RATES_AT, Optimizer, written_update
from ..passes.lint.evidence import Crossings, Evidence, Group, Param
from ..tracer.module import Module, Parameter
from ..tracer.names import name_in
from ..tracer.trace import Traced
from .source import last_return

SHAPES = 32  # kinds of parameters for which an update is traced


def evidence_of(
    traced: Traced,
    graph: Graph,
    loss: Operand | None,
    model: Module | None = None,
    optimizer: Optimizer | None = None,
) -> Evidence:
    """The evidence of a program as it was traced: what the layers S, K and T need. `graph` is the traced graph with
    its outputs as the program has them, `loss` its scalar, None where it has none."""
    named = dict(model.named_parameters()) if model is not None else {}
    aliases = model.aliases() if model is not None else {}
    omitted = _omitted(model) if model is not None else {}
    params = [_param(path, p, True, aliases.get(path, []), optimizer, omitted) for path, p in named.items()]
    params += [
        _param(path, p, model is None, [], optimizer, omitted)
        for path, p in traced.captured.items()
        if p.in_trace or not _is_of_another_model(p, traced, model)
    ]
    ledger = traced.ledger
    crossings = Crossings(
        ledger.escapes, ledger.reentries, ledger.leaves, ledger.stores, ledger.writes, ledger.refusals, ledger.stale,
        ledger.cuts, ledger.mismatches,
    )  # fmt: skip
    buffers = {path: np.asarray(b.array) for path, b in traced.buffers.items()}
    known = {id(p) for p in (*named.values(), *traced.captured.values())}
    both = {**named, **traced.captured}
    groups = None if optimizer is None else [_group(optimizer, i, known, both) for i in range(len(optimizer.groups))]
    overwritten = model.overwritten() if model is not None else []
    return Evidence(graph, params, loss, buffers, crossings, groups, overwritten)


def _is_of_another_model(p: Parameter, traced: Traced, model: Module | None) -> bool:
    """Whether a parameter that the model does not register is registered by another one that ran, such as the critic
    of a GAN; a module that the model itself hides in something is no other model."""
    owned = any(p is q for other in traced.strangers for q in other.parameters())
    return model is not None and owned and not name_in(model, p)


def _omitted(model: Module) -> dict[int, Location]:
    """The parameters (by id) that the walk over the model finds, and a `parameters` or `named_parameters` of the user's
    own leaves out; with the line where that is defined."""
    found: dict[int, Location] = {}
    for module in model.modules():
        for name in ("named_parameters", "parameters"):
            code = getattr(getattr(type(module), name), "__code__", None)
            if code is None or getattr(type(module), name) is getattr(Module, name):
                continue
            listed = getattr(module, name)()
            kept = {id(item[1] if isinstance(item, tuple) else item) for item in listed}
            where = Location(code.co_filename, code.co_firstlineno)
            walked = (p for _, p in Module.named_parameters(module))
            found.update((id(p), where) for p in walked if id(p) not in kept)
    return found


def _param(
    path: str,
    p: Parameter,
    registered: bool,
    aliases: list[str],
    optimizer: Optimizer | None,
    omitted: Mapping[int, Location],
) -> Param:
    others = tuple(a for a in aliases if a != path)
    group, left_out = _group_of(p, optimizer), omitted.get(id(p))
    return Param(path, p.array, p.requires_grad, registered, group, others, p.created, p.in_trace, left_out)


def _group_of(p: Parameter, optimizer: Optimizer | None) -> int | None:
    if optimizer is None:
        return None
    held = (members is None or any(p is m for m in members) for members, _ in optimizer.groups)
    return next((i for i, holds in enumerate(held) if holds), None)


def _group(optimizer: Optimizer, index: int, known: set[int], named: Mapping[str, Parameter]) -> Group:
    members, options = optimizer.groups[index]
    strangers = tuple(m.shape for m in members or () if id(m) not in known)
    plain: dict[str, Any] = {k: v for k, v in options.items() if k != "lr"}
    rates = tuple(optimizer.learning_rate(step, index) for step in RATES_AT) if "lr" in options else ()
    everything = members is None or known <= {id(m) for m in members}
    size = len(members) if members is not None else len(known)
    function = written_update(optimizer)
    updates = _updates(optimizer, index, named) if function is not None else []
    returns = last_return(function) if function is not None else None
    kind = type(optimizer).__name__
    return Group(kind, size, everything, strangers, plain, rates, optimizer.created, updates, returns)


def _updates(optimizer: Optimizer, index: int, named: Mapping[str, Parameter]) -> list[tuple[tuple[str, ...], Graph]]:
    """The update of a group, traced once for every dtype and shape that its parameters have."""
    kinds: dict[tuple, list[str]] = {}
    for path, p in named.items():
        if p.requires_grad and _group_of(p, optimizer) == index:
            kinds.setdefault((p.dtype, p.shape), []).append(path)
    one = optimizer.with_options(optimizer.groups[index][1])
    found = []
    for paths in list(kinds.values())[:SHAPES]:
        array = named[paths[0]].array
        try:
            found.append((tuple(paths), update_graph(one, array, one.init(array))))
        except Exception:  # compile says what is wrong with it
            continue
    return found
