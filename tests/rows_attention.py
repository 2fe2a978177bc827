"""Rows of ir/ops/attention.py."""

from cases import Case, In, case, refused, row
from gradtape.ir.dims import Dim

T = Dim("T")
# (batch axes), queries, keys, width, width of the values
SIZES = (
    ((), 3, 3, 2, 2),
    ((2,), 4, 5, 3, 2),
    ((2, 3), 5, 4, 2, 4),
    ((1, 2), 13, 13, 8, 8),
    ((1,), 1, 1, 1, 1),
    ((0,), 3, 3, 2, 2),
)


def operands(batch: tuple, queries: object, keys: object, width: int, values: int) -> list[In]:
    return [In((*batch, n, w)) for n, w in ((queries, width), (keys, width), (keys, values))]


def cases() -> list[Case]:
    found = [case(*operands(*s), scale=0.5, causal=c) for s in SIZES for c in (False, True) if not c or s[1] == s[2]]
    return [*found, case(*operands((2,), T, T, 3, 3), sizes={"T": 4}, scale=-0.7, causal=True)]


WRONG = [
    refused("f32[2, 3, 4]; f32[3, 4]; f32[2, 3, 4]", r"\(\.\.\., positions, width\)", scale=1.0, causal=False),
    refused("f32[3, 4]; f32[3, 5]; f32[3, 4]", r"queries f32\[3, 4\], keys f32\[3, 5\]", scale=1.0, causal=False),
    refused("f32[3, 4]; f32[5, 4]; f32[3, 4]", "do not fit", scale=1.0, causal=False),
    refused("i64[3, 4]; i64[3, 4]; i64[3, 4]", "floats of one dtype", scale=1.0, causal=False),
]
row("attention", cases(), refused=WRONG)
row(
    "attention_grad",
    [
        case(
            *operands(batch, queries, keys, width, values), In((*batch, queries), 1, 3), In((*batch, queries)),
            In((*batch, queries, values)), scale=0.5, causal=causal,
        )
        for batch, queries, keys, width, values in SIZES
        for causal in (False, True)
        if not causal or queries == keys
    ],
    refused=[
        refused(
            "f32[3, 4]; f32[3, 4]; f32[3, 4]; f32[2]; f32[3]; f32[3, 4]", "a number for each row",
            scale=1.0, causal=False,
        ),
    ],
)  # fmt: skip
