"""The op records, by family. Importing this package fills the registry `ir.op.OPS`."""

from . import (
    attention,
    cached,
    conv,
    cumulative,
    custom,
    dynamic,
    elementwise,
    functions,
    index,
    linalg,
    nn,
    random,
    reduce,
    scan,
    shape,
    sort,
)  # fmt: skip

__all__ = [
    "attention", "cached", "conv", "cumulative", "custom", "dynamic", "elementwise", "functions", "index", "linalg",
    "nn", "random", "reduce", "scan", "shape", "sort",
]  # fmt: skip
