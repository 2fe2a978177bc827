"""Register tiles in LLVM: the innermost part of a matrix product, and the turning of square blocks.

A tile is some rows of one or two vectors of the result, held in registers while it runs along the inner axis: an
instruction for each row and vector, one load for each vector of b, and an element of a that is broadcast from memory.
The functions are plain text that `jit.py` links to the kernels which use them; `gemm.py` calls them block by block.
"""

from __future__ import annotations

from functools import cache

ROWS = (12, 8, 4, 1)  # of the tiles, largest first
# (rows, vectors) of the tiles. 12 x 2 accumulators and 2 vectors of b leave six of the 32 registers of AVX-512 free;
# the smaller ones are for what is left over below and to the right.
SHAPES = tuple((rows, vectors) for vectors in (2, 1) for rows in ROWS)
LANES = {"f32": 16, "f64": 8}  # of a vector of 512 bits
MODES = ("rows", "columns")  # a[r, p] at r * step + p, or at p * step + r
BYTES = {"f32": 4, "f64": 8}
_LLVM = {"f32": "float", "f64": "double"}
PARAMETERS = "i64 %k, ptr %a, i64 %as, ptr %b, i64 %bs, ptr %c, i64 %cs, ptr %d, i64 %ds, i64 %add, i64 %columns"


@cache
def module_text(dtype: str) -> str:
    """The tiles and the transposition of a dtype as one module's text."""
    vector, suffix, mask = _vector(dtype), _suffix(dtype), f"<{LANES[dtype]} x i1>"
    return "\n".join(
        [
            *(_tile(dtype, mode, *shape) for mode in MODES for shape in SHAPES),
            _dispatch(dtype),
            _transpose(dtype),
            f"declare {vector} @llvm.masked.load.{suffix}.p0(ptr, i32, {mask}, {vector})",
            f"declare void @llvm.masked.store.{suffix}.p0({vector}, ptr, i32, {mask})",
            "declare void @llvm.prefetch.p0(ptr, i32, i32, i32)",
            f"declare {vector} @llvm.fma.{suffix}({vector}, {vector}, {vector})",
            # unrolled, the loads of a move ahead of what uses them and spill: 114 for 188 GFLOP/s
            '!0 = distinct !{!0, !1}\n!1 = !{!"llvm.loop.unroll.disable"}',
        ]
    )


def _vector(dtype: str) -> str:
    return f"<{LANES[dtype]} x {_LLVM[dtype]}>"


def _suffix(dtype: str) -> str:
    return f"v{LANES[dtype]}{dtype}"


def _splat(dtype: str, name: str, value: str, kind: str) -> list[str]:
    """`%name`: a vector of which every lane is `value`."""
    lanes = LANES[dtype]
    return [
        f"%{name}.one = insertelement <{lanes} x {kind}> poison, {kind} {value}, i64 0",
        f"%{name} = shufflevector <{lanes} x {kind}> %{name}.one, <{lanes} x {kind}> poison, "
        f"<{lanes} x i32> zeroinitializer",
    ]


def _dispatch(dtype: str) -> str:
    """The tile of a number: that of its mode in MODES times the count of SHAPES, plus that of its shape."""
    names = [_name(dtype, mode, *shape) for mode in MODES for shape in SHAPES]
    cases = " ".join(f"i64 {i}, label %case{i}" for i in range(len(names)))
    lines = [
        f'define void @"gt.tile.{dtype}"(i64 %number, {PARAMETERS}) nounwind {{',
        f"switch i64 %number, label %end [{cases}]",
    ]
    for i, name in enumerate(names):
        lines += [f"case{i}:", f'call void @"{name}"({PARAMETERS})', "br label %end"]
    return "\n".join([*lines, "end:", "ret void", "}"])


def _name(dtype: str, mode: str, rows: int, vectors: int) -> str:
    return f"gt.tile.{dtype}.{mode}.{rows}x{vectors}"


def _tile(dtype: str, mode: str, rows: int, vectors: int) -> str:
    """c[r, j] = sum over p of a[r, p] b[p, j] + d[r, j] for `columns` columns, at most those of the vectors.

    k         the inner size
    a, as     first element of a, and the step that the mode says
    b, bs     first element of b, and elements from one row to the next
    c, cs     likewise; d, ds: what is added where `add` is not 0, one row for all where ds = 0
    """
    number, vector, lanes, suffix = _LLVM[dtype], _vector(dtype), LANES[dtype], _suffix(dtype)
    mask, size = f"<{lanes} x i1>", BYTES[dtype]
    cells = [(r, v) for r in range(rows) for v in range(vectors)]

    def load(name: str, at: str, v: int) -> str:
        operands = f"ptr {at}, i32 {size}, {mask} %mask{v}, {vector} zeroinitializer"
        return f"%{name} = call {vector} @llvm.masked.load.{suffix}.p0({operands})"

    def places(letter: str) -> list[str]:
        """Pointers to each row and vector of c or d."""
        lines = []
        for r in range(rows):
            lines += [
                f"%{letter}o{r} = mul i64 %{letter}s, {r}",
                f"%{letter}{r}_0 = getelementptr {number}, ptr %{letter}, i64 %{letter}o{r}",
                *(f"%{letter}{r}_{v} = getelementptr {number}, ptr %{letter}{r}_0, i64 {v * lanes}"
                  for v in range(1, vectors)),
            ]  # fmt: skip
        return lines

    numbers = ", ".join(f"i64 {i}" for i in range(lanes))
    head = [
        f'define void @"{_name(dtype, mode, rows, vectors)}"({PARAMETERS}) nounwind noinline {{',
        "entry:",
        *_splat(dtype, "wide", "%columns", "i64"),
    ]
    for v in range(vectors):
        head += [
            f"%rest{v} = sub <{lanes} x i64> %wide, splat (i64 {v * lanes})",
            f"%mask{v} = icmp slt <{lanes} x i64> <{numbers}>, %rest{v}",
        ]
    start = [
        "%some = icmp ne i64 %add, 0",
        "br i1 %some, label %given, label %start",
        "given:",
        *places("d"),
        *(load(f"given{r}_{v}", f"%d{r}_{v}", v) for r, v in cells),
        "br label %start",
        "start:",
        *(f"%first{r}_{v} = phi {vector} [ zeroinitializer, %entry ], [ %given{r}_{v}, %given ]" for r, v in cells),
    ]
    if mode == "rows":
        for r in range(rows):
            start += [f"%ao{r} = mul i64 %as, {r}", f"%a{r} = getelementptr {number}, ptr %a, i64 %ao{r}"]
    start += places("c")
    start += [f"call void @llvm.prefetch.p0(ptr %c{r}_{v}, i32 1, i32 3, i32 1)" for r, v in cells]
    loop = [
        "%any = icmp sgt i64 %k, 0",
        "br i1 %any, label %loop, label %done",
        "loop:",
        "%p = phi i64 [ 0, %start ], [ %next, %loop ]",
        "%bp = phi ptr [ %b, %start ], [ %bnext, %loop ]",
        *(["%ap = phi ptr [ %a, %start ], [ %anext, %loop ]"] if mode == "columns" else []),
        *(f"%sum{r}_{v} = phi {vector} [ %first{r}_{v}, %start ], [ %new{r}_{v}, %loop ]" for r, v in cells),
    ]
    for v in range(vectors):
        loop += [f"%b{v}at = getelementptr {number}, ptr %bp, i64 {v * lanes}", load(f"b{v}", f"%b{v}at", v)]
    for r in range(rows):
        base, index = (f"%a{r}", "%p") if mode == "rows" else ("%ap", str(r))
        loop += [
            f"%x{r}at = getelementptr {number}, ptr {base}, i64 {index}",
            f"%x{r} = load {number}, ptr %x{r}at, align {size}",
            *_splat(dtype, f"w{r}", f"%x{r}", number),
        ]
        for v in range(vectors):
            operands = f"{vector} %w{r}, {vector} %b{v}, {vector} %sum{r}_{v}"
            loop.append(f"%new{r}_{v} = call {vector} @llvm.fma.{suffix}({operands})")
    end = [
        "%next = add i64 %p, 1",
        f"%bnext = getelementptr {number}, ptr %bp, i64 %bs",
        *([f"%anext = getelementptr {number}, ptr %ap, i64 %as"] if mode == "columns" else []),
        "%more = icmp slt i64 %next, %k",
        "br i1 %more, label %loop, label %done, !llvm.loop !0",
        "done:",
        *(f"%out{r}_{v} = phi {vector} [ %first{r}_{v}, %start ], [ %new{r}_{v}, %loop ]" for r, v in cells),
    ]
    for r, v in cells:
        operands = f"{vector} %out{r}_{v}, ptr %c{r}_{v}, i32 {size}, {mask} %mask{v}"
        end.append(f"call void @llvm.masked.store.{suffix}.p0({operands})")
    return "\n".join([*head, *start, *loop, *end, "ret void", "}"])


def _transpose(dtype: str) -> str:
    """out[j * to + i] = x[i * step + j] for a square block of as many rows as a vector has lanes."""
    number, vector, n = _LLVM[dtype], _vector(dtype), LANES[dtype]
    size = BYTES[dtype]
    lines = [
        f'define void @"gt.transpose.{dtype}"(ptr %x, i64 %step, ptr %out, i64 %to) nounwind noinline {{',
        "entry:",
    ]
    for i in range(n):
        lines += [
            f"%xo{i} = mul i64 %step, {i}",
            f"%xp{i} = getelementptr {number}, ptr %x, i64 %xo{i}",
            f"%s0_{i} = load {vector}, ptr %xp{i}, align {size}",
        ]
    # each round exchanges, between rows that differ in one bit of their number, the lanes that differ in that bit
    stage, bit = 0, 1
    while bit < n:
        low = [lane if not lane & bit else n + (lane ^ bit) for lane in range(n)]
        high = [lane | bit if not lane & bit else n + lane for lane in range(n)]
        for i in range(n):
            if i & bit:
                continue
            for target, lanes in ((i, low), (i | bit, high)):
                picks = ", ".join(f"i32 {lane}" for lane in lanes)
                lines.append(
                    f"%s{stage + 1}_{target} = shufflevector {vector} %s{stage}_{i}, {vector} %s{stage}_{i | bit}, "
                    f"<{n} x i32> <{picks}>"
                )
        stage, bit = stage + 1, bit * 2
    for i in range(n):
        lines += [
            f"%oo{i} = mul i64 %to, {i}",
            f"%op{i} = getelementptr {number}, ptr %out, i64 %oo{i}",
            f"store {vector} %s{stage}_{i}, ptr %op{i}, align {size}",
        ]
    return "\n".join([*lines, "ret void", "}"])
