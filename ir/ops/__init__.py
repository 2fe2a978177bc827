"""The op records, by family. Importing this package fills the registry `ir.op.OPS`."""

from . import cumulative, elementwise, functions, index, linalg, nn, random, reduce, shape, sort

__all__ = ["cumulative", "elementwise", "functions", "index", "linalg", "nn", "random", "reduce", "shape", "sort"]
