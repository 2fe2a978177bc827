"""The lint: findings about gradient flow, as pure functions over evidence.

finding.py    what is said            evidence.py  what may be looked at       flow.py  where gradient goes and stops
rule.py       a rule and its page     rules/       the rules, by group         report.py  findings and verdicts, printed

What arithmetic says of a program (layer K) is asked of proofs.py:

same.py       equal values            ranges.py, intervals.py              along.py    constant axes, zero sums
vanishing.py  where gradient is zero  facts.py     through an op's own rule    patterns.py norms, softmax, also by hand
starts.py     zeros that never move, units that stay alike                     derivative.py  a rule as a small program
masks.py      constant masks          unread.py    rows that nobody reads      sizes.py    of the data, or of the model
probabilities.py, pairing.py          what goes into a loss                     singular.py  derivatives without end
"""

from . import rules  # fills RULES
from .evidence import Evidence
from .finding import SEVERITIES, Finding, Site
from .report import Report, Verdict, make_report
from .rule import CRASHED, LAYERS, RULES, WATCHED, Rule, rule, run_rules

__all__ = [
    "CRASHED", "LAYERS", "RULES", "SEVERITIES", "WATCHED", "Evidence", "Finding", "Report", "Rule", "Site", "Verdict",
    "make_report", "rule", "rules", "run_rules",
]  # fmt: skip
