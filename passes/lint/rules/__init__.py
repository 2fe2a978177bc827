"""The rules, one file for each group of the catalogue. Importing this package fills `rule.RULES`."""

from . import cutting, leaving, registering

__all__ = ["cutting", "leaving", "registering"]
