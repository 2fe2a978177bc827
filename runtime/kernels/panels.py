"""What kernels with register tiles are made of, as text: factors copied to panels, and tiles down the rows of a panel.

A panel is a part of a right factor as wide as a tile: [inner, 2 * LANES], one row after the other. The panels of a
factor lie one after the other; of the last one only the columns that exist are filled.
"""

from __future__ import annotations

from textwrap import indent

from ..tiles import LANES, ROWS, SHAPES

COLUMNS_MODE = len(SHAPES)  # what the number of a tile begins from where the left factor is stored transposed


def with_lanes(text: str, dtype: str) -> str:
    return text.replace("LANES", str(LANES[dtype]))


def packed(to: str, source: str, row: str, column: str, inner: str, columns: str) -> str:
    """Copies the factor [inner, columns] at `source` to panels at `to`. Of its steps `row` and `column` one is 1, `row`
    where it lies as it is read; vectors are copied whole, or turned in squares."""
    return f"""
for j in range(0, {columns}, LANES):
    panel = at({to}, j // (2 * LANES) * (2 * LANES) * {inner} + j % (2 * LANES))
    source = at({source}, j * {column})
    whole = 0
    if j + LANES <= {columns}:
        if {column} == 1:
            whole = {inner}
            for p in range({inner}):
                for l in range(LANES):
                    st(panel, p * (2 * LANES) + l, ld(source, p * {row} + l))
        else:
            whole = {inner} // LANES * LANES
            for p in range(0, whole, LANES):
                transpose(at(source, p), {column}, at(panel, p * (2 * LANES)), 2 * LANES)
    for l in range(minimum({columns} - j, LANES)):
        for p in range(whole, {inner}):
            st(panel, p * (2 * LANES) + l, ld(source, p * {row} + l * {column}))
"""


def down(rows: str, width: str, body: str) -> str:
    """`body` for every tile down `rows` rows of a panel of which `width` columns exist, the largest that fit first: its
    first row is `i`, it has `height` rows, and `number` is that of its shape."""
    tests = "".join(f"\n    if i + {h} <= {rows}:\n        number = {n}\n        height = {h}"
                    for n, h in reversed(list(enumerate(ROWS[:-1]))))  # fmt: skip
    return f"""
i = 0
while i < {rows}:
    number = {len(ROWS) - 1}
    height = {ROWS[-1]}{tests}
    if {width} <= LANES:
        number += {len(ROWS)}
{indent(body.strip(), "    ")}
    i += height
"""
