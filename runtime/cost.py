"""What an instruction has to do, from its sizes: arithmetic and bytes, of one thread's part.

Arithmetic is counted as it is for a roofline: a multiply-add of a product is two operations, a statement of a row
program one, an exponential too. Bytes are those of the elements that an instruction touches, each once, twice what it
reads and writes: what must move at least if nothing is in a cache yet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import numpy as np

from ..ir.tape import RowProgram, Tape
from .bind import ITEMSIZE
from .call import Call, Slot
from .kernels.triangular import FACTOR_BLOCK, HALVES, RESULT_BLOCK

NO_ARITHMETIC = ("load", "store", "index", "dim", "cast", "full")

# What the instructions of a kernel family count as; every family of runtime/kernels has its line, a test looks.
KINDS = {
    "bottom": "sort",
    "bounded": "gather",
    "check": "check",
    "combine": "combine",
    "conv": "conv",
    "cumsum": "scan",
    "dynamic_read": "copy",
    "dynamic_write": "copy",
    "gather": "gather",
    "gather_along": "gather",
    "gemm": "gemm",
    "last_index": "gather",
    "linear_scan": "scan",
    "scatter_add": "gather",
    "scatter_add_along": "gather",
    "sort": "sort",
    "sort_descending": "sort",
    "top": "sort",
    "triangular_gemm": "triangle",
}
# Those whose axes are (outer, count, width, rows): they move a row for each of count, however many rows there are.
INDEXED = ("dynamic_read", "dynamic_write", "gather", "gather_along", "scatter_add", "scatter_add_along")

Sizes = Sequence[int]


def kind_of(tape: Tape, kernel: str) -> str:
    """`gemm`, `triangle`, `conv`, `rows`, `copy`, ...: what the tables of a profile are grouped by."""
    if kernel in tape.rows:
        ops = {s.op for section in tape.rows[kernel].sections for s in section.stmts}
        return "copy" if ops <= {*NO_ARITHMETIC} else "rows"
    family = kernel.rpartition("_")[0]
    return KINDS.get(family, family)


def cost(tape: Tape, call: Call, thread: int) -> tuple[int, int]:
    """(operations, bytes) of a thread's part of a call, once."""
    if call.shares[thread] is None:
        return 0, 0
    starts, sizes = call.part(thread)
    kernel = call.instr.kernel
    if kernel in tape.rows:
        return _rows(tape, tape.rows[kernel], call, starts, sizes)
    family = kernel.rpartition("_")[0]
    if family == "triangular_gemm":
        return _triangular(tape, call, sizes)
    moved = sizes[:3] if family in INDEXED else ()
    return OPERATIONS.get(family, _none)(call, sizes), _traffic(tape, call, sizes, moved)


# operations ---------------------------------------------------------------------------------------------------------
def _none(call: Call, sizes: Sizes) -> int:
    return 0


def _conv(call: Call, sizes: Sizes) -> int:
    """Axes: images, groups, channels, 2 sizes of x, outputs, 2 of y, 2 of the weight."""
    return 2 * prod((*sizes[:3], *sizes[5:]))


OPERATIONS: dict[str, Callable[[Call, Sizes], int]] = {
    "gemm": lambda call, sizes: 2 * prod(sizes),
    "conv": _conv,
    "combine": lambda call, sizes: call.parts * prod(sizes),
    "cumsum": lambda call, sizes: prod(sizes),
    "linear_scan": lambda call, sizes: 2 * prod(sizes),
    "scatter_add": lambda call, sizes: prod(sizes[:3]),
    "scatter_add_along": lambda call, sizes: prod(sizes[:3]),
}


def _rows(tape: Tape, program: RowProgram, call: Call, starts: Sizes, sizes: Sizes) -> tuple[int, int]:
    """Statements over the elements that each section runs over; what only the heads of rows touch moves only there."""
    rows, width = prod(sizes[: program.outer]), prod(sizes[program.outer :])
    head = _before_diagonal(program, call, starts, sizes) if program.diagonal >= 0 else 0
    often = {"once": 1, "row": rows, "loop": rows * width, "head": head, "tail": rows * width - head}
    operations = 0
    touched: dict[object, set[str]] = {}
    for section in program.sections:
        operations += often[section.part or section.level] * sum(s.op not in NO_ARITHMETIC for s in section.stmts)
        for s in section.stmts:
            touched.setdefault(dict(s.attrs).get("access"), set()).add(section.part)
    moved = 0
    for number, slot in enumerate(call.slots):
        count = _elements(slot, sizes)
        if touched.get(number) == {"head"} and all(slot.strides):
            count = min(count, head)
        moved += count * _bytes(tape, slot)
    return operations, moved


def _before_diagonal(program: RowProgram, call: Call, starts: Sizes, sizes: Sizes) -> int:
    """Elements in the heads of all rows: up to the position that the access `diagonal` counts, that one included."""
    strides = call.slots[program.diagonal].strides
    last = np.array(sum(s * i for s, i in zip(strides, starts, strict=True)))
    for axis in range(program.outer):
        last = last[..., None] + strides[axis] * np.arange(sizes[axis])
    return int(np.clip(last + 1, 0, sizes[program.outer]).sum())


# bytes --------------------------------------------------------------------------------------------------------------
def _traffic(tape: Tape, call: Call, sizes: Sizes, moved: Sizes) -> int:
    return sum(_elements(slot, sizes, moved) * _bytes(tape, slot) for slot in call.slots)


def _bytes(tape: Tape, slot: Slot) -> int:
    """Of an element, as often as it moves."""
    if slot.buffer < 0 or tape.buffers[slot.buffer].segment == "error":
        return 0
    return ITEMSIZE[tape.buffers[slot.buffer].dtype] * (2 if slot.mode == "rw" else 1)


def _elements(slot: Slot, sizes: Sizes, moved: Sizes = ()) -> int:
    """How many an operand has over these sizes: axes with stride 0 repeat them, and so do strides that overlap."""
    count = prod(n for n, s in zip(sizes, slot.strides, strict=True) if s) if slot.strides else 1
    low, high = slot.hull([0] * len(sizes), sizes) if slot.strides else (0, 0)
    count = min(count, high - low + 1)
    return min(count, prod(moved)) if moved else count


def _triangular(tape: Tape, call: Call, sizes: Sizes) -> tuple[int, int]:
    """A product in blocks, of which those on one side of the diagonal are left out."""
    batches, (m, n, k) = prod(sizes[:2]), sizes[2:]
    half = HALVES[int(call.params[0]) - 1]
    block = RESULT_BLOCK if half.startswith("out") else FACTOR_BLOCK
    extent = n if half.startswith("y") else m
    work = area = 0  # multiply-adds, and elements of the operand that is cut
    for start in range(0, extent, block):
        rows = min(start + block, extent) - start
        if half == "out_lower":
            other, inner = min(n, start + rows), k
        elif half == "out_upper":
            other, inner = n - min(n, start), k
        elif half in ("x_lower", "y_upper"):
            other = min(k, start + rows)
            inner = m if half == "y_upper" else n
        else:
            other = k - min(k, start)
            inner = m if half == "y_lower" else n
        work += rows * other * inner
        area += rows * other
    cut = {"out": 2, "x": 0, "y": 1}[half.partition("_")[0]]
    whole = [_elements(slot, sizes) for slot in call.slots]
    if not (cut == 2 and call.params[1]):  # what is left out of a result may have to be filled
        whole[cut] = min(whole[cut], batches * area)
    moved = sum(count * _bytes(tape, slot) for count, slot in zip(whole, call.slots, strict=True))
    return 2 * batches * work, moved
