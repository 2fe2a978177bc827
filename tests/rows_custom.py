"""Rows of ir/ops/custom.py."""

from collections.abc import Callable
from typing import Any

import numpy as np

from cases import In, case, record, refused, row
from gradtape.ir.dims import Dim
from gradtape.ir.graph import Graph
from gradtape.ir.host import HostFunction
from gradtape.ir.text import parse

T = Dim("T")


def region(text: str, shape: str) -> Graph:
    return parse(text.replace("S", f"f64[{shape}]"))


# x * y, which saves its operands, written as a user's rule
FORWARD = "graph forward(%x: S input, %y: S input) {\n  %0: S = mul(%x, %y)\n  return out=%0, saved.0=%x, saved.1=%y\n}"
BACKWARD = """graph backward(%x: S input, %y: S input, %g: S input) {
  %0: S = mul(%g, %y)
  %1: S = mul(%g, %x)
  return grad.0=%0, grad.1=%1
}"""
# sin(x) with the sign of the gradient of an operand that has none
SINE = "graph forward(%x: S input, %n: i64[2] input) {\n  %0: S = sin(%x)\n  return out=%0, saved=%x\n}"
COSINE = "graph backward(%x: S input, %g: S input) {\n  %0: S = cos(%x)\n  %1: S = mul(%g, %0)\n  return grad.0=%1\n}"
# tanh(x) that saves its result, so that a second derivative meets the rule again
TANH = "graph forward(%x: S input) {\n  %0: S = tanh(%x)\n  return out=%0, saved=%0\n}"
SLOPE = """graph backward(%y: S input, %g: S input) {
  %0: S = mul(%y, %y)
  %1: S = sub(1.0, %0)
  %2: S = mul(%g, %1)
  return grad.0=%2
}"""

# what a backward must not have
SECOND = SLOPE.replace("grad.0", "grad.1")
SUMMED = SLOPE.replace("return grad.0=%2", "%3: f64[] = sum(%2) {axes=[0], keepdims=false}\n  return grad.0=%3")


def rule(forward: str, backward: str, shape: str, results: int = 1) -> dict:
    regions = region(forward, shape), region(backward, shape)
    return {"name": "rule", "results": results, "surrogate": False, "regions": regions}


def symbolic(op: str, **attrs: Any) -> Callable[..., Any]:
    """For a case with symbolic sizes, which stand in its regions too."""
    return lambda builder, *args: record(builder, op, args, attrs)


row(
    "custom_vjp",
    [
        *(case(In(s), In(s), **rule(FORWARD, BACKWARD, ", ".join(map(str, s)))) for s in ((3, 4), (), (1, 1), (0, 3))),
        case(In((2, T)), In((2, T)), sizes={"T": 3}, build=symbolic("custom_vjp", **rule(FORWARD, BACKWARD, "2, T"))),
        case(In((3,)), In((2,), dtype="i64"), **rule(SINE, COSINE, "3")),
        case(In((4,)), **rule(TANH, SLOPE, "4")),
    ],
    ["f64"],
    [
        refused("f64[3]", r"forward takes \(f64\[4\]\), it is given \(f64\[3\]\)", **rule(TANH, SLOPE, "4")),
        refused("f64[4]", "3 of the 2 outputs of forward are its results", **rule(TANH, SLOPE, "4", results=3)),
        refused(
            "f64[3]; f64[3]",
            r"backward takes \(f64\[3\], f64\[3\]\), it is given \(f64\[3\], f64\[3\], f64\[3\]\)",
            **rule(FORWARD, SLOPE, "3"),
        ),
        refused("f64[4]", "backward has an output grad.1; it may have grad.0", **rule(TANH, SECOND, "4")),
        refused(
            "f64[1]",
            r"backward gives grad.0: f64\[\] for an operand f64\[1\]",
            **rule(TANH, SUMMED, "1"),
        ),
    ],
)  # fmt: skip

BODY = "graph body(%x: S input, %y: S input) {\n  %0: S = sin(%x)\n  %1: S = mul(%0, %y)\n  return out=%1\n}"
row(
    "checkpoint",
    [
        *(case(In(s), In(s), regions=(region(BODY, ", ".join(map(str, s))),)) for s in ((3, 4), (), (1, 1), (0, 3))),
        case(In((2, T)), In((2, T)), sizes={"T": 3}, build=symbolic("checkpoint", regions=(region(BODY, "2, T"),))),
    ],
    ["f64"],
    [refused("f64[3]", r"region takes \(f64\[3\], f64\[3\]\), it is given \(f64\[3\]\)", regions=(region(BODY, "3"),))],
)  # fmt: skip
row(
    "barrier",
    [case(In((3, 4)), In((2,))), case(In(())), case(In((1, 1)), In((0,))), case(In((0, 3)))],
    refused=[refused("", "needs a value to hold back")],
)


def python(shape: Any, dtype: str, n: int = 1) -> dict:
    """Attributes of a callback that takes n operands, of its own kind, and adds their sines."""
    slope = lambda g, y, *xs: tuple(g * np.cos(x) for x in xs) if n > 1 else g * np.cos(xs[0])
    sines = HostFunction("sines", lambda *xs: np.asarray(sum(map(np.sin, xs))))
    return {"function": sines, "vjp": HostFunction("cosines", slope), "shapes": (shape,), "dtypes": (dtype,), "site": 0}


row(
    "callback",
    [
        *(case(In(s), **python(s, "f64")) for s in ((3, 4), (), (1, 1), (0, 3))),
        case(In((3,)), In((3,)), **python((3,), "f64", 2)),
        case(In((2, T)), sizes={"T": 3}, build=symbolic("callback", **python((2, T), "f64"))),
    ],
    ["f64"],
    [
        refused("f64[3]", "dtype 'f16' is not one of", **python((3,), "f16")),
        refused("f64[3]", r"a shape is a tuple of sizes from 0", **python((-1,), "f64")),
        refused("f64[3]", "a shape and a dtype for every result, got 1 and 0", **{**python((3,), "f64"), "dtypes": ()}),
    ],
)
