"""The op records, by family. Importing this package fills the registry `ir.op.OPS`."""

from . import cumulative, custom, dynamic, elementwise, functions, index, linalg, nn, random, reduce, scan, shape, sort

__all__ = [
    "cumulative", "custom", "dynamic", "elementwise", "functions", "index", "linalg", "nn", "random", "reduce", "scan",
    "shape", "sort",
]  # fmt: skip
