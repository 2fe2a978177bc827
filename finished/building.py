"""From a recipe to its tape: the passes in their order. Nothing here is imported where the cache has the tape."""

from __future__ import annotations

from ..ir.graph import Graph
from ..ir.tape import Tape
from ..passes.attention import find_attention
from ..passes.autodiff import GradientError, differentiate
from ..passes.hoist import hoist
from ..passes.lower import lower
from ..passes.optimize import apply_updates
from ..passes.rewrite import expand
from ..passes.simplify import simplify
from ..planning import sliced
from .recipe import DERIVED, Recipe


def differentiated(recipe: Recipe) -> Graph:
    """The graph with an output `grad:<name>` for every parameter that the loss depends on."""
    graph = find_attention(recipe.graph)
    return differentiate(graph, "loss", recipe.trainable) if recipe.entry in DERIVED else graph


def updated(recipe: Recipe, graph: Graph) -> Graph:
    """The differentiated graph with the updates of all parameters that have a gradient."""
    if recipe.entry != "step":
        return graph
    reached = {name.removeprefix("grad:") for name, _ in graph.outputs if name.startswith("grad:")}
    updates = [u for u in recipe.updates if u.param in reached]
    if not updates:
        raise GradientError("the optimizer holds none of the parameters that get a gradient")
    return apply_updates(graph, updates, recipe.max_norm)


def fused(recipe: Recipe, graph: Graph) -> tuple[Graph, int]:
    """From the differentiated graph the one that fusion reads, and into how many slices it cuts the batch."""
    graph = simplify(hoist(simplify(expand(simplify(updated(recipe, graph))))))
    if not recipe.limits:
        return graph, 1
    return sliced(graph, recipe.checks, recipe.threads, recipe.limits)


def tape_of(recipe: Recipe) -> tuple[Tape, int]:
    """All of it, and the number of slices."""
    graph, slices = fused(recipe, differentiated(recipe))
    return lower(graph, recipe.checks), slices
