"""One row per op: on what it is tried. Tests that hold for every op walk ROWS; a test fails for an op without a row.

binary("add", (-3, 3), (-3, 3))                     an elementwise op of two numbers from these spans
row("bounded", [case(In((4,), 0, 4), size=5)], INTEGERS, [refused("f32[4]", "indices are integers", size=5)])

The rows of ir/ops/<family>.py stand in rows_<family>.py.
"""

import rows_attention
import rows_cached
import rows_conv
import rows_cumulative
import rows_custom
import rows_dynamic
import rows_elementwise
import rows_index
import rows_linalg
import rows_nn
import rows_random
import rows_reduce
import rows_scan
import rows_shape
import rows_sort
from cases import ROWS

FAMILIES = (
    rows_attention,
    rows_cached,
    rows_conv,
    rows_cumulative,
    rows_custom,
    rows_dynamic,
    rows_elementwise,
    rows_index,
    rows_linalg,
    rows_nn,
    rows_random,
    rows_reduce,
    rows_scan,
    rows_shape,
    rows_sort,
)

__all__ = ["FAMILIES", "ROWS"]
