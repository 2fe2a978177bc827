"""The tape of a recipe: from the cache, or made and put there; and what the lint says of it, asked anew only where what
it said before may not hold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..ir.location import Location
from ..ir.tape_data import Damaged
from ..models.optim import Optimizer
from ..passes.autodiff import GradientError
from ..runtime.cache import Cache
from ..runtime.ingredients import Ingredients, tape_ingredients
from ..runtime.program import compile_tape
from ..tracer.module import Module
from ..tracer.trace import Traced
from .parts import Finished, NotKept, finished_from, parts_of
from .recipe import DERIVED, Recipe
from .verdict import facts_of, is_quiet, landmarks_of, report_from, still_holds, verdict_data

if TYPE_CHECKING:
    from ..passes.lint import Report


NOT_ASKED = "it was not looked for (cache=False, or there is no folder for a cache)"


@dataclass(frozen=True)
class Origin:
    """Where a tape is from: the cache (`hit`), or made here, and then `why`. `path` is its file."""

    hit: bool
    why: str
    ingredients: Ingredients
    cache: Cache | None = None
    path: Path | None = None

    def explain(self) -> str:
        """Hit or miss; of a miss, what the nearest tape in the cache was made of otherwise."""
        if self.hit:
            return f"hit: {self.path}"
        lines = [f"miss: {self.why}"]
        if self.cache is not None:
            nearest = self.cache.nearest(self.ingredients, self.path)
            lines += _difference(self.ingredients, nearest) if nearest else ["  there is no other tape in the cache"]
        return "\n".join(lines)


def _difference(wanted: Ingredients, nearest: tuple[Any, list[str]]) -> list[str]:
    file, names = nearest
    lines = [f"  nearest: {file.path.name[:12]} ({file.header.get('name', '?')}), which differs in {', '.join(names)}"]
    for name in names:
        old, new = file.ingredients.get(name, "nothing"), wanted.get(name, "nothing")
        if name == "CPU features":
            had, has = set(old.split()), set(new.split())
            old, new = " ".join(sorted(had - has)) or "fewer", " ".join(sorted(has - had)) or "fewer"
        lines.append(f"    {name}: {old[:60]} there, {new[:60]} here")
    return lines


class Verdict:
    """What the lint said: a report, or plain data that becomes one when it is asked for, at these landmarks; without
    them at the lines that it was written with. `again` asks the lint where the data cannot be placed any more."""

    def __init__(
        self,
        report: Report | None = None,
        data: Any = None,
        landmarks: Sequence[Location | None] | None = None,
        again: Callable[[], Report] | None = None,
    ) -> None:
        self._report, self._data, self._landmarks, self._again = report, data, landmarks, again

    @cached_property
    def report(self) -> Report | None:
        if self._data is None:
            return self._report
        if self._landmarks is None:
            from ..passes.lint import Report

            return Report.from_dict(self._data["report"])
        report = report_from(self._data, self._landmarks)
        return self._again() if report is None and self._again is not None else report


@dataclass(frozen=True)
class Judged:
    """A traced program for the lint to judge, with the severity that is asked for."""

    traced: Traced
    recipe: Recipe
    model: Module | None
    optimizer: Optimizer | None
    level: str

    @cached_property
    def facts(self) -> str | None:
        return facts_of(self.traced, self.model, self.optimizer)

    @cached_property
    def landmarks(self) -> list[Location | None]:
        return landmarks_of(self.recipe.landmarks, self.traced, self.model, self.optimizer)

    def examined(self) -> tuple[Report, bool]:
        """What the lint says, and whether a comment has silenced something."""
        from ..linting import examine

        return examine(self.traced, self.recipe.graph, self.model, self.optimizer)

    def kept(self, data: dict[str, Any] | None) -> Verdict | None:
        """The verdict that lies with the tape; None where it may be another one by now. Raises LintError, or warns."""
        if self.level == "off" or self.recipe.entry not in DERIVED:
            return self.anew()[0]
        if data is None or not still_holds(data, self.facts):
            return None
        if is_quiet(data):
            return Verdict(data=data, landmarks=self.landmarks, again=lambda: self.examined()[0])
        report = report_from(data, self.landmarks)
        if report is None:
            return None
        from ..linting import enforce

        enforce(report, self.level)
        return Verdict(report)

    def explain(self, error: GradientError) -> None:
        """Gives an error of compiling what there is to look at: the trace, its program, what the lint says of it."""
        error.traced, error.graph = self.traced, self.recipe.graph
        if error.report is None and self.level != "off" and self.recipe.entry in DERIVED:
            error.report = self.examined()[0]

    def anew(self) -> tuple[Verdict, dict[str, Any] | None]:
        """The verdict, and what can be kept of it. Raises LintError, or warns."""
        if self.level == "off":
            return Verdict(), None
        if self.recipe.entry not in DERIVED:
            ledger = self.traced.ledger
            if ledger.reentries or ledger.stale:
                from ..linting import judge_forward

                judge_forward(self.traced, self.recipe.graph, self.level)
            return Verdict(), None
        from ..linting import enforce

        report, silenced = self.examined()
        enforce(report, self.level)
        keep = self.facts is not None and not silenced
        return Verdict(report), verdict_data(report, self.facts or "", self.landmarks) if keep else None


def finish(recipe: Recipe, judged: Judged, threads: int, cache: Cache | None) -> tuple[Finished, Verdict, Origin]:
    """The tape of a recipe with its object code, the lint's verdict, and where they are from."""
    if cache is None:
        verdict, data = judged.anew()
        return _make(recipe, data, None), verdict, Origin(False, NOT_ASKED, {})
    ingredients = tape_ingredients(recipe.text, threads)
    path = cache.path("tape", ingredients)
    found, why = cache.get("tape", ingredients)
    if found is not None:
        try:
            made = finished_from(found[1], recipe)
        except Damaged as error:
            why = cache.bad(path, str(error))
        else:
            verdict = judged.kept(made.verdict)
            if verdict is None:
                verdict, data = judged.anew()
                if data is not None:
                    _keep(cache, ingredients, recipe, replace(made, verdict=data))
            return made, verdict, Origin(True, "", ingredients, cache, path)
    verdict, data = judged.anew()
    made = _make(recipe, data, cache)
    refused = _keep(cache, ingredients, recipe, made)
    return made, verdict, Origin(False, refused or why, ingredients, cache, path)


def _make(recipe: Recipe, verdict: dict[str, Any] | None, cache: Cache | None) -> Finished:
    from .building import tape_of

    tape, slices = tape_of(recipe)
    return Finished(tape, compile_tape(tape, cache), verdict, slices)


def _keep(cache: Cache, ingredients: Ingredients, recipe: Recipe, made: Finished) -> str:
    """Puts a tape into the cache; what it says is why it could not."""
    try:
        parts = parts_of(recipe, made)
    except NotKept as error:
        return f"it cannot be kept: {error}"
    about = {"name": recipe.graph.name, "entry": recipe.entry, "kernels": len(made.objects)}
    cache.put("tape", ingredients, about, parts)
    return ""
