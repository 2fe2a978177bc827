"""A rule is a function over the Evidence with its code, severity and page beside it.

    @rule("GT-C07", "error", "K", "a step function in the path")
    def piecewise_constant(e: Evidence) -> Iterator[Finding]:
        '''round, floor and sign are flat: their derivative is 0 everywhere, and what feeds them learns nothing.

        Broken:
            loss = gt.mean((gt.round(z) - y) ** 2)

        Right:
            loss = gt.mean((z + gt.stop_gradient(gt.round(z) - z) - y) ** 2)
        '''
        yield piecewise_constant.finding(site, message, why, fix, parameters)

The docstring is the class's page: `gradtape explain GT-C07` prints it, and docs/lint/ is made of it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from .evidence import Evidence
from .finding import NOWHERE, SEVERITIES, Finding, Site, grouped

# cheapest first: graph and registry; shapes, constants and ranges; the ledger; re-traces; numbers
LAYERS = ("S", "K", "T", "D", "G")
WATCHED = "R"  # what shows in the course of a training only: step.watch()
CRASHED = "GT-X00"

Check = Callable[[Evidence], Iterable[Finding]]


@dataclass(frozen=True)
class Rule:
    code: str
    severity: str
    layer: str
    title: str
    check: Check
    page: str

    def finding(
        self,
        site: Site,
        message: str,
        why: str,
        fix: str,
        parameters: Iterable[str] = (),
        severity: str = "",
        escape: Site = NOWHERE,
    ) -> Finding:
        """A finding of this rule, of the rule's own severity where none is given."""
        return Finding(
            self.code, severity or self.severity, site, message, why, fix, tuple(dict.fromkeys(parameters)), escape
        )


RULES: dict[str, Rule] = {}


def rule(code: str, severity: str, layer: str, title: str) -> Callable[[Check], Rule]:
    """Registers a check under its code. `severity` is that of its findings unless they say otherwise; `layer` the kind
    of evidence, or several ("SR")."""
    assert severity in SEVERITIES and set(layer) <= {*LAYERS, WATCHED}, (code, severity, layer)

    def register(check: Check) -> Rule:
        if code in RULES:
            raise ValueError(f"two rules have the code {code}")
        RULES[code] = Rule(code, severity, layer, title, check, inspect.cleandoc(check.__doc__ or ""))
        return RULES[code]

    return register


def run_rules(evidence: Evidence, layers: Iterable[str] = LAYERS, rules: Iterable[Rule] | None = None) -> list[Finding]:
    """The findings of all rules of these layers, grouped by site. A rule that crashes is a finding of its own."""
    found: list[Finding] = []
    chosen = list(RULES.values() if rules is None else rules)
    for layer in (name for name in (*LAYERS, WATCHED) if name in set(layers)):
        seen = replace(evidence, explained=tuple(found))
        for each in (r for r in chosen if layer in r.layer):
            found += _checked(each, seen)
    return grouped(found)


def _checked(each: Rule, evidence: Evidence) -> Iterator[Finding]:
    try:
        yield from list(each.check(evidence))
    except Exception as error:
        yield Finding(
            CRASHED,
            "warning",
            NOWHERE,
            f"the rule {each.code} ({each.title}) could not be applied",
            f"it ended with {type(error).__name__}: {error}",
            "report this to gradtape; the other rules are not affected",
        )
