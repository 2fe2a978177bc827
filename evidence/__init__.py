"""Gathering the evidence that the lint's rules look at: only here is anything traced or run for them.

program.py   one trace: graph, parameters, optimizer, crossings (layers S, K, T)
"""

from .program import evidence_of

__all__ = ["evidence_of"]
