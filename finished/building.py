"""From a recipe to its tape: the passes in their order. Nothing here is imported where the cache has the tape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..ir.graph import Graph
from ..ir.tape import Tape
from ..passes.autodiff import GradientError, differentiate
from ..passes.hoist import hoist
from ..passes.lower import lower
from ..passes.optimize import apply_updates
from ..passes.rewrite import expand
from ..passes.simplify import simplify
from .recipe import DERIVED, Recipe


def differentiated(recipe: Recipe) -> Graph:
    """The graph with an output `grad:<name>` for every parameter that the loss depends on."""
    if recipe.entry not in DERIVED:
        return recipe.graph
    return differentiate(recipe.graph, "loss", recipe.trainable)


def updated(recipe: Recipe, graph: Graph) -> Graph:
    """The differentiated graph with the updates of all parameters that have a gradient."""
    if recipe.entry != "step":
        return graph
    reached = {name.removeprefix("grad:") for name, _ in graph.outputs if name.startswith("grad:")}
    updates = [u for u in recipe.updates if u.param in reached]
    if not updates:
        raise GradientError("the optimizer holds none of the parameters that get a gradient")
    return apply_updates(graph, updates, recipe.max_norm)


def fused(recipe: Recipe, stages: Mapping[str, Any]) -> Graph:
    """The graph that fusion reads."""
    graph = updated(recipe, stages["differentiated"])
    return simplify(hoist(simplify(expand(simplify(graph)))))


def tape_of(recipe: Recipe) -> Tape:
    """All of it."""
    graph = fused(recipe, {"differentiated": differentiated(recipe)})
    return lower(graph, recipe.checks)
