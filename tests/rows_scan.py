"""Rows of ir/ops/scan.py."""

from collections.abc import Callable
from typing import Any

from cases import FLOATS, Case, In, case, refused, row
from gradtape.ir.build import Builder
from gradtape.ir.dims import Dim
from gradtape.ir.op import OPS
from gradtape.ir.types import TensorType


def scanned(
    body: Callable[..., Any], *inputs: In, consts: int = 0, carries: int = 1, reverse: bool = False, **given: Any
) -> Case:
    """A scan whose body is a Python function of its inputs, which returns the new carries, then the results."""

    def build(builder: Builder, *args: Any) -> Any:
        inner = Builder("body")
        kinds = [a.type for a in args]
        kinds[consts + carries :] = [TensorType(t.dtype, t.shape[1:]) for t in kinds[consts + carries :]]
        values = [inner.input(f"v{i}", t) for i, t in enumerate(kinds)]
        region = inner.graph([(f"r{i}", r) for i, r in enumerate(body(*values))])
        length = args[consts + carries].shape[0]
        return builder.emit(OPS["scan"], args, {**attrs, "length": length}, (region,))

    attrs = {"consts": consts, "carries": carries, "length": inputs[consts + carries].shape[0], "reverse": reverse}
    return case(*inputs, build=build, **given, **attrs)


def tanh(x: Any) -> Any:
    return OPS["tanh"](x)


def recurrent(W: Any, h: Any, x: Any) -> Any:
    h = tanh(h @ W + x)
    return h, h


def fibonacci(a: Any, b: Any, x: Any) -> Any:
    """Carries that change places, and a result that is a carry as it was."""
    return b, a + b * x, a


def gated(W: Any, b: Any, h: Any, n: Any, x: Any) -> Any:
    """Two carries, one of integers; two results."""
    g = OPS["sigmoid"](x @ W + b)
    h = h * g + tanh(x) * (1.0 - g)
    return h, n + 1, g, h * h


def weighted(W: Any, s: Any, x: Any, y: Any) -> Any:
    """A sum of products."""
    return s + OPS["permute"](x, axes=(1, 0)) @ (y @ W), y


def small(*shape: Any) -> In:
    """Loops bend what goes through them: from here the differences are exact enough."""
    return In(shape, -0.4, 0.4)


T, B = Dim("T"), Dim("B")
row(
    "scan",
    [
        scanned(recurrent, small(3, 3), small(2, 3), small(4, 2, 3), consts=1),
        scanned(recurrent, small(3, 3), small(2, 3), small(4, 2, 3), consts=1, reverse=True),
        scanned(recurrent, small(3, 3), small(B, 3), small(T, B, 3), consts=1, sizes={"T": 5, "B": 2}),
        scanned(recurrent, small(1, 1), small(1, 1), small(1, 1, 1), consts=1),
        scanned(recurrent, small(3, 3), small(2, 3), small(0, 2, 3), consts=1),
        scanned(recurrent, small(3, 3), small(0, 3), small(2, 0, 3), consts=1),
        scanned(fibonacci, small(), small(), small(6), carries=2),
        scanned(fibonacci, small(3), small(3), small(T, 3), carries=2, reverse=True, sizes={"T": 4}),
        scanned(gated, small(3, 3), small(3), small(2, 3), In((2,), 0, 3, "i64"), small(3, 2, 3), consts=2, carries=2),
        scanned(weighted, small(4, 4), small(3, 4), small(5, 2, 3), small(5, 2, 4), consts=1),
        scanned(lambda h, x: (h * x,), In((2, 2), 0.5, 1.5), In((7, 2), 0.5, 1.5)),
    ],
    FLOATS,
    [refused("f32[2]", "needs one region, the body, got 0", consts=0, carries=1, length=2, reverse=False)],
)
