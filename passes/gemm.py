"""Matrix products as BLAS calls: batch axes, transposes and leading dimensions found from strides."""

from __future__ import annotations

from dataclasses import dataclass

from ..ir.dims import DimLike, Shape, bounds, divide, identical
from ..ir.graph import Node
from ..ir.tape import Instr, Operand, View
from ..ir.types import is_one
from .fuse import aligned
from .triangle import HALVES

MAX_BATCH_AXES = 2  # the kernel's two batch loops
# Up to so many rows reading y is what a product costs. BLAS packs y first: 8 x 384 x 1536 (rows, inner, columns) takes
# it 223 us, and the kernel for few rows 157; 1 x 384 x 1536 196 and 85; with 16 rows both take the same time.
THIN_ROWS = 12
# Pieces of the right factor are copied together, at most so many rows and columns: 512 kB of float32 in the
# second-level cache. 256 to 512 by 512 to 1024 differ by less than the noise.
MOST_INNER, MOST_COLUMNS = 256, 512
# Up to so many rows of the left factor a right one that is not stored transposed is read where it lies: 64 x 512 x 128
# 190 GFLOP/s, with copies 155; 65 x 128 x 768 163 and 141. With some hundred copies gain: 128 x 512 x 768 154 and 159.
DIRECT_ROWS = 96
WIDEST = 32  # columns of a register tile, to which a piece is rounded up


@dataclass(frozen=True)
class _Axis:
    size: DimLike
    x: DimLike
    y: DimLike
    out: DimLike


def gemm_instr(
    node: Node, x: View, y: View, out: View, shapes: tuple[Shape, Shape, Shape], half: str = "", fill: bool = True
) -> Instr | None:
    """The call for out = x @ y, or None where an operand needs a copy first (BLAS wants one unit stride, and no 0).

    The instruction's axes are (batch 1, batch 2, rows, columns, inner). `half` says which half of a matrix is not
    needed (triangle.HALVES, or ""), `fill` whether what is left out of the result must be 0.
    """
    xs, ys, outs = shapes
    x_strides = x.strides if len(xs) > 1 else (0, *x.strides)
    y_strides = y.strides if len(ys) > 1 else (*y.strides, 0)
    xs = xs if len(xs) > 1 else (1, *xs)
    ys_1d = len(ys) == 1
    ys = ys if len(ys) > 1 else (*ys, 1)
    out_strides = list(out.strides)
    if len(shapes[0]) == 1:
        out_strides.insert(len(out_strides) - (0 if ys_1d else 1), 0)
    if ys_1d:
        out_strides.append(0)
    rank = max(len(xs), len(ys))
    batch_count = rank - 2
    batch_shape = outs[:batch_count]
    xb = _padded(xs, x_strides, rank)
    yb = _padded(ys, y_strides, rank)
    batch = [
        _Axis(batch_shape[i], xb[i], yb[i], out_strides[i]) for i in range(batch_count) if not is_one(batch_shape[i])
    ]
    rows = _Axis(xs[-2], x_strides[-2], 0, out_strides[-2])
    columns = _Axis(ys[-1], 0, y_strides[-1], out_strides[-1])
    inner = _Axis(xs[-1], x_strides[-1], y_strides[-2], 0)
    while batch and not half and identical(batch[-1].y, 0) and _joins(batch[-1], rows):
        rows = _Axis(batch[-1].size * rows.size, rows.x, 0, rows.out)
        batch.pop()
    merged: list[_Axis] = []
    for axis in batch:
        if merged and _joins(merged[-1], axis):
            merged[-1] = _Axis(merged[-1].size * axis.size, axis.x, axis.y, axis.out)
        else:
            merged.append(axis)
    if len(merged) > MAX_BATCH_AXES:
        return None
    if not _matrix(rows.size, rows.x, inner.size, inner.x) or not _matrix(inner.size, inner.y, columns.size, columns.y):
        return None
    if not (identical(columns.out, 1) or is_one(columns.size)):
        if not identical(rows.out, 1):
            return None
        # the result lies transposed: out^T = y^T @ x^T
        rows, columns = _turned(columns), _turned(rows)
        merged, inner, x, y, half = [_turned(a) for a in merged], _turned(inner), y, x, TURNED[half]
    axes = [*([_Axis(1, 0, 0, 0)] * (MAX_BATCH_AXES - len(merged))), *merged, rows, columns, inner]
    operands = (
        Operand(View(x.buffer, x.offset, tuple(a.x for a in axes)), "r"),
        Operand(View(y.buffer, y.offset, tuple(a.y for a in axes)), "r"),
        Operand(View(out.buffer, out.offset, tuple(a.out for a in axes)), "w"),
    )
    dtype, sizes = node.output.type.dtype, tuple(a.size for a in axes)
    along_inner = is_one(inner.size) or (identical(inner.x, 1) and identical(inner.y, 1))
    along_columns = identical(columns.y, 1) and identical(columns.out, 1)
    if isinstance(rows.size, int) and rows.size <= THIN_ROWS and not half and (along_inner or along_columns):
        # threads share the columns: each then reads a part of y
        return Instr(f"thin_gemm_{dtype}", sizes, operands, (0, 1, 3), (), node.location, "matmul")
    params = ((1 + list(HALVES).index(half)) if half else 0, int(fill), MOST_INNER, MOST_COLUMNS, DIRECT_ROWS)
    # threads share only the batch of a halved product: equal parts of a triangle are not equal work
    splits, label = ((0, 1), f"matmul {half}") if half else ((0, 1, 2, 3), "matmul")
    return Instr(f"gemm_{dtype}", sizes, operands, splits, params, node.location, label)


def copied_elements(instr: Instr) -> int:
    """How many elements the pieces of the right factor take that are copied."""
    *_, rows, columns, inner = instr.axes
    plain = identical(instr.operands[1].view.strides[3], 1) or is_one(columns)
    if plain and isinstance(rows, int) and rows <= DIRECT_ROWS:
        return 0
    known = [s if isinstance(s, int) else most for s, most in ((inner, MOST_INNER), (columns, MOST_COLUMNS))]
    return min(known[0], MOST_INNER) * min(-(-known[1] // WIDEST) * WIDEST, MOST_COLUMNS)


# what a half becomes where out = x @ y is computed as out^T = y^T @ x^T
TURNED = {
    "": "",
    "out_lower": "out_upper",
    "out_upper": "out_lower",
    "x_lower": "y_upper",
    "x_upper": "y_lower",
    "y_lower": "x_upper",
    "y_upper": "x_lower",
}


def _turned(axis: _Axis) -> _Axis:
    return _Axis(axis.size, axis.y, axis.x, axis.out)


def _padded(shape: Shape, strides: tuple[DimLike, ...], rank: int) -> list[DimLike]:
    full = aligned(shape, rank)
    steps = (0,) * (rank - len(shape)) + tuple(strides)
    return [0 if is_one(d) else s for d, s in zip(full, steps, strict=True)]


def _joins(outer: _Axis, inner: _Axis) -> bool:
    """Whether two axes step as one through all three operands."""
    return all(
        identical(a, b * inner.size) for a, b in ((outer.x, inner.x), (outer.y, inner.y), (outer.out, inner.out))
    )


def _matrix(rows: DimLike, row_stride: DimLike, columns: DimLike, column_stride: DimLike) -> bool:
    """Whether BLAS can read it, plain or transposed: one unit stride, the other not 0 (an axis of size 1 is free, and
    so is a matrix without elements)."""
    if identical(rows, 0) or identical(columns, 0):
        return True
    plain = (identical(column_stride, 1) or is_one(columns)) and (_steps(row_stride, columns) or is_one(rows))
    transposed = (identical(row_stride, 1) or is_one(rows)) and (_steps(column_stride, rows) or is_one(columns))
    return plain or transposed


def _steps(stride: DimLike, size: DimLike) -> bool:
    """Whether a stride is positive, or a multiple of the size of the other axis: 0 only where there is no element."""
    if bounds(stride)[0] > 0:
        return True
    times = divide(stride, size)
    return times is not None and bounds(times)[0] > 0
