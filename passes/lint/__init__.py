"""The lint: findings about gradient flow, as pure functions over evidence.

finding.py    what is said            evidence.py  what may be looked at       flow.py  where gradient goes and stops
rule.py       a rule and its page     rules/       the rules, by group         report.py  findings and verdicts, printed
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
