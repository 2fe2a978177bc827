"""The op records, by family. Importing this package fills the registry `ir.op.OPS`."""

from . import conv, elementwise, functions, index, linalg, nn, random, reduce, shape

__all__ = ["conv", "elementwise", "functions", "index", "linalg", "nn", "random", "reduce", "shape"]
