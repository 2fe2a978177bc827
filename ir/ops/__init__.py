"""The op records, by family. Importing this package fills the registry `ir.op.OPS`."""

from . import custom, elementwise, functions, index, linalg, nn, random, reduce, scan, shape

__all__ = ["custom", "elementwise", "functions", "index", "linalg", "nn", "random", "reduce", "scan", "shape"]
