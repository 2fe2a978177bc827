"""The rules, one file for each group of the catalogue. Importing this package fills `rule.RULES`."""

from . import cutting, freezing, leaving, numbers, partial, registering, training

__all__ = ["cutting", "freezing", "leaving", "numbers", "partial", "registering", "training"]
