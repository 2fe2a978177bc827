"""Gathering the evidence that the lint's rules look at: only here is anything traced or run for them.

subject.py   what is examined, and how it is left untouched
program.py   one trace: graph, parameters, optimizer, crossings (layers S, K, T)
retrace.py   traces compared with each other (layer D)
probe.py     gradients as numbers, held against finite differences (layer G)
suspects.py  whose derivative is wrong, where a gradient is
"""

from .probe import probe
from .program import evidence_of
from .retrace import retraces
from .subject import Subject

__all__ = ["Subject", "evidence_of", "probe", "retraces"]
