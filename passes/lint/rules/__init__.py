"""The rules, one file for each group of the catalogue. Importing this package fills `rule.RULES`."""

from . import cutting, freezing, leaving, losses, numbers, partial, registering, starting, training, zeros

__all__ = [
    "cutting", "freezing", "leaving", "losses", "numbers", "partial", "registering", "starting", "training", "zeros",
]  # fmt: skip
