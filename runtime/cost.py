"""What an instruction has to do, from its sizes: arithmetic and bytes, of one thread's part.

Arithmetic is counted as it is for a roofline: a multiply-add of a product is two operations, a statement of a row
program one, an exponential too. Bytes are those of the elements that an instruction touches, each once, twice what it
reads and writes: what must move at least if nothing is in a cache yet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import numpy as np

from ..ir.tape import Instr, RowProgram, Tape
from .bind import ITEMSIZE
from .call import Call, Slot
from .kernels.gemm import HALVES

NO_ARITHMETIC = ("load", "store", "index", "dim", "cast", "full")

# What the instructions of a kernel family count as; every family of runtime/kernels has its line, a test looks.
KINDS = {
    "attention": "attention",
    "attention_grad": "attention",
    "bottom": "sort",
    "bounded": "gather",
    "cached_attention": "attention",
    "check": "check",
    "combine": "combine",
    "conv": "conv",
    "cummax": "scan",
    "cummin": "scan",
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
    "thin_gemm": "gemm",
    "top": "sort",
}
# Those whose axes are (outer, count, width, rows): they move a row for each of count, however many rows there are.
INDEXED = ("dynamic_read", "dynamic_write", "gather", "gather_along", "scatter_add", "scatter_add_along")

Sizes = Sequence[int]


def kind_of(tape: Tape, instr: Instr) -> str:
    """`gemm`, `triangle` (a product of which a half is left out), `conv`, `rows`, `copy`, ...: what the tables of a
    profile are grouped by."""
    kernel = instr.kernel
    if kernel in tape.rows:
        ops = {s.op for section in tape.rows[kernel].sections for s in section.stmts}
        return "copy" if ops <= {*NO_ARITHMETIC} else "rows"
    family = kernel.rpartition("_")[0]
    return "triangle" if family == "gemm" and instr.params[0] else KINDS.get(family, family)


def cost(tape: Tape, call: Call, thread: int) -> tuple[int, int]:
    """(operations, bytes) of a thread's part of a call, once."""
    if call.shares[thread] is None:
        return 0, 0
    starts, sizes = call.part(thread)
    kernel = call.instr.kernel
    if kernel in tape.rows:
        return _rows(tape, tape.rows[kernel], call, starts, sizes)
    family = kernel.rpartition("_")[0]
    if family == "gemm" and call.params[0]:
        return _half(tape, call, sizes)
    moved = sizes[:3] if family in INDEXED else ()
    return OPERATIONS.get(family, _none)(call, sizes), _traffic(tape, call, sizes, moved)


# operations ---------------------------------------------------------------------------------------------------------
def _none(call: Call, sizes: Sizes) -> int:
    return 0


def _conv(call: Call, sizes: Sizes) -> int:
    """Axes: images, groups, channels, 2 sizes of x, outputs, 2 of y, 2 of the weight."""
    return 2 * prod((*sizes[:3], *sizes[5:]))


def _pairs(call: Call, sizes: Sizes) -> int:
    """Of a position and one that it attends to."""
    t, s = sizes[2:4]
    each = np.minimum(np.arange(t) + 1, s).sum() if call.params[1] else t * s
    return prod(sizes[:2]) * int(each)


OPERATIONS: dict[str, Callable[[Call, Sizes], int]] = {
    "gemm": lambda call, sizes: 2 * prod(sizes),
    "attention": lambda call, sizes: _pairs(call, sizes) * 2 * (sizes[4] + sizes[5]),
    "attention_grad": lambda call, sizes: _pairs(call, sizes) * (6 * sizes[4] + 4 * sizes[5]),
    # of all places of the cache: how many are filled is known when it runs
    "cached_attention": lambda call, sizes: 2 * prod(sizes[:4]) * (sizes[4] + sizes[5]),
    "thin_gemm": lambda call, sizes: 2 * prod(sizes),
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
    """Of an element, as often as it moves. A thread's own scratch memory stays in its cache."""
    if slot.buffer < 0 or tape.buffers[slot.buffer].segment == "error":
        return 0
    if tape.buffers[slot.buffer].segment == "partial" and not any(slot.strides):
        return 0
    return ITEMSIZE[tape.buffers[slot.buffer].dtype] * (2 if slot.mode == "rw" else 1)


def _elements(slot: Slot, sizes: Sizes, moved: Sizes = ()) -> int:
    """How many an operand has over these sizes: axes with stride 0 repeat them, and so do strides that overlap."""
    count = prod(n for n, s in zip(sizes, slot.strides, strict=True) if s) if slot.strides else 1
    low, high = slot.hull([0] * len(sizes), sizes) if slot.strides else (0, 0)
    count = min(count, high - low + 1)
    return min(count, prod(moved)) if moved else count


def _half(tape: Tape, call: Call, sizes: Sizes) -> tuple[int, int]:
    """A product of which one half is 0 or not wanted: what is left of it, however the kernel cuts it."""
    batches, (m, n, k) = prod(sizes[:2]), sizes[2:]
    half = HALVES[int(call.params[0])]
    # of each row (of y: column), the elements on this side of the diagonal
    rows, columns, whole = {"o": (m, n, k), "x": (m, k, n), "y": (n, k, m)}[half[0]]
    up_to = half in ("out_lower", "x_lower", "y_upper")
    i = np.arange(rows)
    area = int(np.minimum(i + 1, columns).sum() if up_to else np.maximum(columns - i, 0).sum())
    cut = {"o": 2, "x": 0, "y": 1}[half[0]]
    counts = [_elements(slot, sizes) for slot in call.slots]
    if not (cut == 2 and call.params[1]):  # what is left out of a result may have to be filled
        counts[cut] = min(counts[cut], batches * area)
    moved = sum(count * _bytes(tape, slot) for count, slot in zip(counts, call.slots, strict=True))
    return 2 * batches * area * whole, moved
