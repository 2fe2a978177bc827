"""Every broken program is found, at its line, with exactly its parameters, and nothing is found in a healthy one.

The normal run takes a seeded share of all programs, at least one of every case, broken and healthy; `-m slow` all.
`pytest tests/lint/test_corpus.py -s -k table` prints the confusion table.
"""

from collections import Counter
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from corpus import Outcome, Program, load_cases, programs

from gradtape.passes.lint import RULES

SHARE = 2  # programs of each case and kind in the normal run


@pytest.fixture(scope="session")
def outcome(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    return cache(lambda program: program.run(folder))


def chosen() -> list[Program]:
    rng = np.random.default_rng(0)
    kinds: dict[tuple, list[Program]] = {}
    for program in programs():
        kinds.setdefault((program.case.name, program.broken), []).append(program)
    return [p[i] for p in kinds.values() for i in sorted(rng.permutation(len(p))[:SHARE])]


CHOSEN = chosen()
REST = [p for p in (*programs(), *programs(every_layer=True)) if p not in CHOSEN]


@pytest.mark.parametrize("program", CHOSEN, ids=str)
def test_a_program(program, outcome):
    assert_right(outcome(program))


@pytest.mark.slow
@pytest.mark.parametrize("program", REST, ids=str)
def test_every_other_program(program, outcome):
    assert_right(outcome(program))


@pytest.mark.parametrize("code", ["GT-A01", "GT-A03", "GT-B01", "GT-B03", "GT-B07"])
def test_a_rule_that_is_missing_is_missed(code, tmp_path, monkeypatch):
    program = next(p for p in CHOSEN if p.case.code == code and p.broken)
    monkeypatch.delitem(RULES, code)
    assert any(c.startswith(f"missed {code}") for c in Outcome.complaints(program.run(tmp_path)))


def test_a_wrong_line_and_wrong_parameters_are_complained_about(outcome):
    found = outcome(next(p for p in CHOSEN if p.case.code == "GT-A01" and p.broken))
    (finding,) = found.loud
    for wrong in (
        replace(finding, site=replace(finding.site, line=finding.line + 1)),
        finding.about(finding.parameters[1:]),
        finding.about((*finding.parameters, "another")),
        replace(finding, severity="warning"),
    ):
        assert list(Outcome(found.program, replace(found.report, findings=(wrong,)), found.files).complaints())


def assert_right(found: Outcome) -> None:
    complaints = list(found.complaints())
    assert not complaints, found.text()


def test_confusion_table(outcome):
    """Rows: what was planted. Columns: what was found."""
    table: Counter[tuple[str, str]] = Counter()
    for program in CHOSEN:
        planted = program.case.code if program.broken else "healthy"
        for code in outcome(program).codes or ["nothing"]:
            table[planted, code] += 1
    print("\n" + as_table(table))  # noqa: T201  (shown by -s)
    wrong = {(p, f): n for (p, f), n in table.items() if f != (p if p != "healthy" else "nothing")}
    assert not wrong, as_table(table)
    assert {c.code for c in load_cases() if c.broken is not None} == {p for p, _ in table} - {"healthy"}


def as_table(table: Counter) -> str:
    planted = sorted({p for p, _ in table}, key=lambda p: (p == "healthy", p))
    found = sorted({f for _, f in table}, key=lambda f: (f == "nothing", f))
    rows = [["planted", *(f.removeprefix("GT-") for f in found)]]
    rows += [[p, *(str(table[p, f] or ".") for f in found)] for p in planted]
    return "\n".join("  ".join(cell.rjust(7) for cell in row) for row in rows)
