"""Rows of ir/ops/linalg.py."""

from cases import FLOATS, In, case, refused, row
from gradtape.ir.dims import Dim

MATRICES = """2 3 x 3 4; 3 x 3; 3 x 3 4; 2 3 x 3; 5 2 3 x 3 4; 5 2 3 x 5 3 4; 2 3 x 5 3 4; 2 1 2 3 x 4 3 2; 5 2 3 x 3
              3 x 5 3 4; 0 3 x 3 4; 2 0 x 0 4; 1 1 x 1 1; B T 3 x 3 4; B 2 T x B T 4"""


def _shape(text: str) -> tuple:
    return tuple(int(d) if d.isdigit() else Dim(d) for d in text.split())


PRODUCTS = [[In(_shape(p)) for p in pair.split("x")] for pair in MATRICES.replace("\n", ";").split(";")]
row(
    "matmul",
    [case(*pair, sizes={"B": 2, "T": 4}) for pair in PRODUCTS],
    FLOATS,
    [
        refused("f32[2, 3]; f32[4, 5]", r"inner sizes differ: 3 \(last axis .*f32\[2, 3\]\) and 4 \(second-last axis"),
        refused("f32[2, 3]; f32[4]", r"and 4 \(only axis of the right operand f32\[4\]\)"),
        refused("f32[2, 3]; f32[]", r"at least one axis, got f32\[2, 3\] and f32\[\]; write x \* y"),
        refused("i64[2, 3]; i64[3]", "needs float operands"),
        refused("f32[2, 2, 3]; f32[5, 3, 4]", r"shapes \(2\) and \(5\) do not broadcast"),
    ],
)
