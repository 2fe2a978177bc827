"""Rows of ir/ops/random.py."""

from cases import FLOATS, In, case, refused, row

SEED = In((), 0, 9, "i64")
row(
    "uniform",
    [case(SEED, SEED, shape=s, site=2, dtype=d) for s in ((3, 4), (), (1, 1), (0, 2)) for d in FLOATS]
    + [case(SEED, SEED, In((), 0, 99, "i64"), shape=(3, 4), site=2, dtype="f32")],
    ["i64"],
    [
        refused(
            "f32[]; i64[]",
            r"seed and step are integers without axes, got f32\[\] and i64\[\]",
            shape=(2,),
            site=0,
            dtype="f32",
        ),
        refused("i64[]; i64[]; i32[]", r"first is an i64 without axes, got i32\[\]", shape=(2,), site=0, dtype="f32"),
        refused("i64[]; i64[]", "draws floats, not i64", shape=(2,), site=0, dtype="i64"),
    ],
)
row(
    "random_bits",
    [case(SEED, SEED, shape=s, site=2) for s in ((3, 4), (), (1, 1), (0, 2))]
    + [case(SEED, SEED, In((), 0, 99, "i64"), shape=(3, 4), site=2)],
    ["i64"],
    [refused("i64[2]; i64[]", r"seed and step are integers without axes, got i64\[2\]", shape=(2,), site=0)],
)
