"""Group -> RowProgram: places every value of a fused group in a loop nest.

A row's values live at three levels: `once` (scalars), `row` (one per row: a mean, a maximum) and `loop` (one per
element). A reduction closes a loop: what needs its result goes into the next one. A value that a later loop needs is
loaded again where it lies in memory, recomputed where that is cheap, and otherwise kept in a scratch row.

Where a mask cuts the rows of a matrix at the diagonal (see triangle.py), every loop is two: a `head` up to the
diagonal, in which the mask is gone, and a `tail` beyond, in which what is known to be a number costs nothing. Rows
whose elements lie far apart are computed side by side (see lanes.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ..ir.dims import DimLike, identical, product
from ..ir.graph import Literal, Node, Number, Value
from ..ir.graph import Operand as GraphOperand
from ..ir.op import OPS
from ..ir.tape import Access, RowProgram, Section, Stmt, View, contiguous
from ..ir.types import is_one
from .fuse import Group, aligned, reduction_kind, wide_axes
from .lanes import adjacent, as_one, lanes_of, side_by_side
from .triangle import ABOVE, BELOW, DIAGONAL, UNKNOWN, Regions, folded, same_matrix, uniform

NEAR = (2, 3, 4)  # strides along a row for which the compiler loads whole vectors and picks
# Rows of fewer elements than this, several rounds of an unrolled loop, do without one where they are not whole vectors.
SHORT, WIDEST_VECTOR = 64, 16
NO_ATTRS: Mapping[str, object] = {}
NO_REGIONS: Mapping[Value, Regions] = {}
ONCE, ROW, LOOP = 0, 1, 2
CHEAP = 6  # operations that cost less to repeat than a store and a load of the row
COST: dict[str, int] = dict.fromkeys(
    ("exp", "log", "tanh", "erf", "pow", "sin", "cos", "sigmoid", "silu", "softplus"), 10
)
COST |= {"uniform": 40, "random_bits": 40, "erfinv": 20, "div": 3, "sqrt": 3, "rsqrt": 4}
IDENTITY: dict[str, float] = {"sum": 0, "prod": 1, "max": -math.inf, "min": math.inf}

Loop = tuple[int, str]  # a loop's phase, and its part: "" (all of the row), "head" or "tail"


@dataclass(frozen=True)
class Place:
    """Where an operand of the row program lies, over the space's axes. `buffer` None: its value is an index."""

    value: Value | None
    dtype: str
    strides: tuple[DimLike, ...]
    mode: str
    view: View | None = None
    scratch: bool = False


@dataclass
class Rows:
    """A row program with what it is applied to: axis sizes (outer, then inner) and one place per access."""

    program: RowProgram
    sizes: tuple[DimLike, ...]
    places: list[Place]
    dims: list[DimLike]
    can_split_inner: bool
    lanes: bool = False  # the last axis is that of rows side by side


@dataclass
class _Builder:
    group: Group
    inline: set[Node]
    producer: Mapping[Value, Node]
    view_of: Callable[[Value], View]
    inner: frozenset[int]
    regions: Mapping[Value, Regions]
    lanes: tuple[int, ...] = ()  # axes of rows side by side
    places: list[Place] = field(default_factory=list)
    dims: list[DimLike] = field(default_factory=list)
    where: dict[object, int] = field(default_factory=dict)  # what a place holds -> its number
    stored: dict[Value, int] = field(default_factory=dict)
    levels: dict[Value, tuple[int, int]] = field(default_factory=dict)
    once: list[Stmt] = field(default_factory=list)
    rows: dict[int, list[Stmt]] = field(default_factory=dict)
    loops: dict[Loop, list[Stmt]] = field(default_factory=dict)
    computed: dict[tuple, int | Literal] = field(default_factory=dict)
    pending: list[tuple[list[Stmt], int | Literal, str, int]] = field(default_factory=list)
    counter: int = 0

    def __post_init__(self) -> None:
        self.rank = len(self.group.space)
        self.members = set(self.group.nodes)
        self.parts = ("head", "tail") if cut_at_diagonal(self.group, self.regions) else ("",)

    # levels ---------------------------------------------------------------------------------------------------------
    def level(self, value: Value) -> tuple[int, int]:
        """(level, phase): phase counts the loops that must have ended before the value can be had."""
        if value not in self.levels:
            self.levels[value] = self._level(value)
        return self.levels[value]

    def _level(self, value: Value) -> tuple[int, int]:
        node = self.producer.get(value)
        if node is None or not (node in self.members or node in self.inline):
            wide = wide_axes(value.type.shape)
            return (LOOP if wide & self.inner else ROW if wide else ONCE), 0
        if OPS[node.op].kind == "reduce":  # over the inner axes: the only kind whose result is read here
            source = node.inputs[0]
            return ROW, 1 + (self.level(source)[1] if isinstance(source, Value) else 0)
        level, phase = ONCE, 0
        for operand in node.values():
            lower = self.level(operand)
            level, phase = max(level, lower[0]), max(phase, lower[1])
        if node.op == "iota":
            axis = node.attrs["axis"] - len(node.attrs["shape"])
            wide = not is_one(node.attrs["shape"][axis])  # else it is 0, also where it is broadcast along that axis
            level = (LOOP if axis in self.inner else ROW) if wide else ONCE
        elif OPS[node.op].random:
            wide = wide_axes(node.output.type.shape)
            level = LOOP if wide & self.inner else ROW
        return level, phase

    def section(self, level: int, loop: Loop) -> list[Stmt]:
        if level == ONCE:
            return self.once
        return self.rows.setdefault(loop[0], []) if level == ROW else self.loops.setdefault(loop, [])

    def parts_of(self, level: int) -> tuple[str, ...]:
        return self.parts if level == LOOP else ("",)

    def known(self, value: Value, part: str) -> Number | None:
        """The number that `value` is everywhere in a part of the row."""
        if not part or not same_matrix(aligned(value.type.shape, self.rank), self.group.space):
            return None
        known = self.regions.get(value, UNKNOWN)
        if part == "tail":
            return known[ABOVE]
        return known[BELOW] if uniform((known[BELOW], known[DIAGONAL], known[BELOW])) else None

    # operands -------------------------------------------------------------------------------------------------------
    def place(self, key: object, place: Place) -> int:
        if key not in self.where:
            self.where[key] = len(self.places)
            self.places.append(place)
        return self.where[key]

    def memory(self, value: Value, view: View, mode: str) -> int:
        """The place of a value in memory. One that is read and written in place is one place."""
        shape = aligned(value.type.shape, self.rank)
        padded = (0,) * (self.rank - len(view.strides)) + tuple(view.strides)
        strides = tuple(0 if is_one(d) else s for d, s in zip(shape, padded, strict=True))
        key = (view.buffer, view.offset, strides)
        index = self.place(key, Place(value, value.type.dtype, strides, mode, view))
        if mode not in self.places[index].mode:
            old = self.places[index]
            self.places[index] = Place(old.value, old.dtype, strides, "rw", view)
        return index

    def emit(
        self, section: list[Stmt], op: str, args: Iterable, dtype: str, attrs: Mapping[str, object] = NO_ATTRS
    ) -> int:
        self.counter += 1
        section.append(Stmt(self.counter, op, tuple(args), dtype, tuple(sorted(attrs.items()))))
        return self.counter

    # values ---------------------------------------------------------------------------------------------------------
    def get(self, operand: GraphOperand, loop: Loop) -> int | Literal:
        """The result that holds `operand`; `loop` is the loop in which it is wanted."""
        if isinstance(operand, Literal):
            return operand
        level, phase = self.level(operand)
        at = loop if level == LOOP else (phase, "")
        key = (operand, at if level == LOOP else -1)
        if key not in self.computed:
            number = self.known(operand, at[1])
            self.computed[key] = self._get(operand, level, phase, at) if number is None else Literal(number)
        return self.computed[key]

    def _get(self, value: Value, level: int, phase: int, at: Loop) -> int | Literal:
        section = self.section(level, at)
        node = self.producer.get(value)
        dtype = value.type.dtype
        if node is None or not (node in self.members or node in self.inline):
            return self.emit(section, "load", (), dtype, {"access": self.memory(value, self.view_of(value), "r")})
        if level == LOOP and phase < at[0] and not self.cheap(value):
            if value in self.stored:
                return self.emit(section, "load", (), dtype, {"access": self.stored[value]})
            scratch = self.scratch(value)
            first = (phase, at[1])
            if (value, "kept", first) not in self.computed:
                kept = self.get(value, first)
                self.emit(self.section(LOOP, first), "store", (kept,), dtype, {"access": scratch})
                self.computed[value, "kept", first] = 1
            return self.emit(section, "load", (), dtype, {"access": scratch})
        return self.compute(node, section, at)

    def compute(self, node: Node, section: list[Stmt], loop: Loop) -> int | Literal:
        dtype = node.output.type.dtype
        if OPS[node.op].kind == "reduce":
            return self.reduce(node)
        if node.op == "where" and isinstance(node.inputs[0], Value):
            chosen = self.known(node.inputs[0], loop[1])
            if chosen is not None:  # the mask is the same all along this part of the row
                return self.same_dtype(node.inputs[1 if chosen else 2], dtype, section, loop)
        if node.op in ("broadcast_to", "reshape"):  # a reshape here is of a scalar
            inner = self.get(node.inputs[0], loop)
            return inner if isinstance(inner, int) else self.emit(section, "stop_gradient", (inner,), dtype)
        if node.op == "full":
            return Literal(node.attrs["value"])
        if node.op == "iota":
            axis = node.attrs["axis"] - len(node.attrs["shape"])
            if is_one(node.attrs["shape"][axis]):
                return Literal(0)
            strides = tuple(1 if i - self.rank == axis else 0 for i in range(self.rank))
            index = self.emit(section, "index", (), "i64", {"access": self.virtual(strides)})
            return index if dtype == "i64" else self.emit(section, "cast", (index,), dtype, {"dtype": dtype})
        if node.op == "dim_scalar":
            dim = node.attrs["value"]
            if not any(identical(dim, d) for d in self.dims):
                self.dims.append(dim)
            number = next(i for i, d in enumerate(self.dims) if identical(dim, d))
            return self.emit(section, "dim", (), dtype, {"number": number})
        args = [self.get(o, loop) for o in node.inputs]
        if OPS[node.op].random:
            shape = node.attrs["shape"]
            own = aligned(shape, self.rank)
            padded = (0,) * (self.rank - len(shape)) + contiguous(shape)
            strides = tuple(0 if is_one(d) else s for d, s in zip(own, padded, strict=True))
            index = self.emit(section, "index", (), "i64", {"access": self.virtual(strides)})
            if len(args) > 2:  # the first element's own number
                index = self.emit(section, "add", (index, args.pop()), "i64")
            return self.emit(section, node.op, (*args, index), dtype, {"site": node.attrs["site"]})
        numbers = [a.value for a in args if isinstance(a, Literal)]
        if len(numbers) == len(args):  # they have lost their dtypes: an `equal` of two would compare them as bools
            number = folded(node, numbers)
            if number is not None:
                return Literal(number)
        return self.emit(section, node.op, args, dtype, node.attrs)

    def reduce(self, node: Node) -> int:
        """One result over all parts of the row; numbers that change nothing are left out."""
        source, kind = node.inputs[0], OPS[node.op].reduce
        inside = self.level(source)[1] if isinstance(source, Value) else 0
        result = -1
        for part in self.parts:
            loop = (inside, part)
            argument = self.get(source, loop)
            if part and isinstance(argument, Literal) and argument.value == IDENTITY.get(str(kind)) and result >= 0:
                continue
            section = self.section(LOOP, loop)
            number = self.emit(section, f"reduce_{kind}", (argument,), node.output.type.dtype)
            if result >= 0:
                section[-1] = replace(section[-1], result=result)
            else:
                result = number
        return result

    def same_dtype(self, operand: GraphOperand, dtype: str, section: list[Stmt], loop: Loop) -> int | Literal:
        got = self.get(operand, loop)
        if isinstance(got, Literal) or operand.type.dtype == dtype:
            return got
        return self.emit(section, "cast", (got,), dtype, {"dtype": dtype})

    def virtual(self, strides: tuple[DimLike, ...]) -> int:
        return self.place(("index", strides), Place(None, "i64", strides, "r"))

    def scratch(self, value: Value) -> int:
        sizes = [d if i - self.rank in self.inner else 1 for i, d in enumerate(self.group.space)]
        strides = tuple(0 if is_one(d) else s for d, s in zip(sizes, contiguous(tuple(sizes)), strict=True))
        return self.place((value, "scratch"), Place(value, value.type.dtype, strides, "rw", scratch=True))

    def lane_array(self, result: int, dtype: str) -> int:
        """The place of an array with an element for each lane."""
        sizes = [d if i in self.lanes else 1 for i, d in enumerate(self.group.space)]
        strides = tuple(0 if is_one(d) else s for d, s in zip(sizes, contiguous(tuple(sizes)), strict=True))
        return self.place((result, "lanes"), Place(None, dtype, strides, "rw", scratch=True))

    def cheap(self, value: Value) -> bool:
        return bool(self.lanes) or self.cost(value) <= CHEAP  # rows side by side would need a scratch row for each lane

    def cost(self, value: GraphOperand) -> int:
        node = self.producer.get(value) if isinstance(value, Value) else None
        if node is None or not (node in self.members or node in self.inline) or OPS[node.op].kind == "reduce":
            return 1
        if self.level(node.output)[0] != LOOP:
            return 0
        return COST.get(node.op, 1) + sum(self.cost(o) for o in node.inputs)

    # roots ----------------------------------------------------------------------------------------------------------
    def store(self, value: Value, view: View) -> None:
        wide = wide_axes(aligned(value.type.shape, self.rank))
        own, phase = self.level(value)
        level = LOOP if wide & self.inner else ROW
        access = self.memory(value, view, "w")
        for part in self.parts_of(level):
            source = self.get(value, (phase, part))
            self.pending.append((self.section(level, (phase, part)), source, value.type.dtype, access))
        if own == LOOP:
            self.stored.setdefault(value, access)

    def flush(self) -> None:
        """Stores come last in their section: what is updated in place has then been read."""
        for section, source, dtype, access in self.pending:
            self.emit(section, "store", (source,), dtype, {"access": access})

    def accumulate(self, node: Node, view: View) -> None:
        """A sum over the outer axes, or over all, into this thread's part of an accumulator."""
        source = node.inputs[0]
        kind = reduction_kind(node, self.group.space, self.group.inner)
        assert kind in ("side", "total") and isinstance(source, Value)
        held = wide_axes(aligned(source.type.shape, self.rank))
        level = LOOP if held & self.inner else ROW
        phase = self.level(source)[1]
        sizes = [d if i - self.rank in self.inner and kind == "side" else 1 for i, d in enumerate(self.group.space)]
        strides = tuple(0 if is_one(d) else s for d, s in zip(sizes, contiguous(tuple(sizes)), strict=True))
        access = self.place((node, "sum"), Place(node.output, node.output.type.dtype, strides, "rw", view))
        for part in self.parts_of(level):
            argument = self.get(source, (phase, part))
            if not (part and isinstance(argument, Literal) and argument.value == 0):
                section = self.section(level, (phase, part))
                self.emit(section, kind, (argument,), node.output.type.dtype, {"access": access})

    def diagonal(self) -> int:
        """The place that holds a row's number, where loops are cut."""
        return self.virtual(tuple(int(i == self.rank - 2) for i in range(self.rank))) if self.parts[0] else -1


def cut_at_diagonal(group: Group, regions: Mapping[Value, Regions]) -> bool:
    """Whether the rows are those of matrices of which numbers are known above the diagonal only (causal masks)."""
    if group.inner is None or group.inner & wide_axes(group.space) != {-1} or -2 not in wide_axes(group.space):
        return False
    return any(
        (known := regions.get(value)) is not None and known[ABOVE] is not None and not uniform(known)
        for node in group.nodes
        for value in (node.output, *node.values())
        if value.type.dtype != "bool" and same_matrix(aligned(value.type.shape, len(group.space)), group.space)
    )


def build_rows(
    group: Group,
    inline: set[Node],
    producer: Mapping[Value, Node],
    view_of: Callable[[Value], View],
    stores: Iterable[tuple[Value, View]],
    sums: Iterable[tuple[Node, View]],
    regions: Mapping[Value, Regions] = NO_REGIONS,
) -> Rows:
    """The row program of `group` that writes `stores` to their views and `sums` to their accumulators.

    `regions`: what is known of values above, on and below the diagonal (triangle.py).
    """
    wide = wide_axes(group.space)
    if group.inner is not None:
        inner = group.inner & wide
    else:
        inner = frozenset({max(wide)}) if wide else frozenset()
    stores, sums = list(stores), list(sums)

    def build(lanes: tuple[int, ...]) -> _Builder:
        builder = _Builder(group, inline, producer, view_of, inner, regions, lanes)
        for value, view in sorted(stores, key=lambda s: builder.level(s[0])[1]):
            builder.store(value, view)
        for node, view in sums:
            builder.accumulate(node, view)
        builder.flush()
        return builder

    builder = build(lanes_of(group))
    if builder.lanes and not adjacent([p.strides for p in builder.places if p.view], builder.lanes[-1]):
        builder = build(())
    sections = _sections(builder)
    if builder.lanes:
        builder.lanes = as_one([p.strides for p in builder.places], group.space, builder.lanes)
        sections = side_by_side(sections, builder.lane_array)
    diagonal = builder.diagonal()
    sizes, strides, outer = _collapse(builder, group)
    accesses = []
    for place, steps in zip(builder.places, strides, strict=True):
        kinds = tuple(_stride_kind(s, i == len(steps) - 1 and i >= outer) for i, s in enumerate(steps))
        virtual = place.view is None and not place.scratch
        accesses.append(
            Access(place.dtype, kinds, place.mode, virtual, *_beside(place, steps, builder.places, strides))
        )
    row = product(sizes[outer:])
    few = isinstance(row, int) and row < SHORT and row % WIDEST_VECTOR != 0
    short = diagonal >= 0 or (few and not builder.lanes)
    program = RowProgram(outer, len(sizes) - outer, tuple(accesses), sections, len(builder.dims), diagonal, short)
    program = _renumbered(program)
    places = [
        Place(p.value, p.dtype, s, p.mode, p.view, p.scratch) for p, s in zip(builder.places, strides, strict=True)
    ]
    # threads that share a row must not do twice what is done once a row, nor need each other's results
    whole = any(s.op.startswith(("reduce_", "side")) for section in sections for s in section.stmts)
    whole |= any(s.op in ("store", "total") for section in sections if section.level == "row" for s in section.stmts)
    whole |= diagonal >= 0 or any(p.scratch for p in places)
    return Rows(program, sizes, places, builder.dims, can_split_inner=not whole, lanes=bool(builder.lanes))


def _stride_kind(stride: DimLike, last: bool) -> str:
    if identical(stride, 0):
        return "0"
    return str(stride) if last and isinstance(stride, int) and stride in (1, *NEAR) else "s"


def _beside(
    place: Place, steps: Sequence[DimLike], places: Sequence[Place], strides: Sequence[Sequence[DimLike]]
) -> tuple[int, int]:
    """(number, distance) of the place between whose elements those of `place` lie: together they are read and written
    whole vectors at a time. (-1, 0) where there is none."""
    best, step = (-1, 0), steps[-1] if steps else 0
    if place.view is None or not isinstance(step, int) or step not in NEAR:
        return best
    for number, (other, others) in enumerate(zip(places, strides, strict=True)):
        if other.view is None or other.view.buffer != place.view.buffer:
            continue
        distance = place.view.offset - other.view.offset
        between = isinstance(distance, int) and best[1] < distance < step
        if between and all(map(identical, steps, others)):
            best = (number, distance)
    return best


def _collapse(builder: _Builder, group: Group) -> tuple[tuple[DimLike, ...], list[tuple[DimLike, ...]], int]:
    """Merges neighbouring axes that every operand steps through as one; returns sizes, strides and the outer count."""
    rank = builder.rank
    wide = [i for i in range(rank) if not is_one(group.space[i])]
    inner = [i for i in wide if i - rank in builder.inner]
    outer = [i for i in wide if i - rank not in builder.inner and i not in builder.lanes]
    order = [*outer, *inner, *builder.lanes]
    boundary = None if group.inner is None else len(outer)
    apart = (boundary, len(order) - len(builder.lanes))
    axes: list[tuple[DimLike, list[DimLike], bool]] = []
    for position, axis in enumerate(order):
        size = group.space[axis]
        steps = [p.strides[axis] for p in builder.places]
        if axes and position not in apart and order[position - 1] < axis:
            before_size, before_steps, is_inner = axes[-1]
            contiguous_pair = all(identical(b, s * size) for b, s in zip(before_steps, steps, strict=True))
            if contiguous_pair:
                axes[-1] = (before_size * size, steps, is_inner)
                continue
        axes.append((size, steps, boundary is not None and position >= boundary))
    if group.inner is None:
        count = max(0, len(axes) - 1)
    else:
        count = sum(not is_inner for *_, is_inner in axes)
    sizes = tuple(size for size, *_ in axes)
    strides = [tuple(steps[i] for _, steps, _ in axes) for i in range(len(builder.places))]
    return sizes, strides, count


def _sections(builder: _Builder) -> tuple[Section, ...]:
    sections = [Section("once", tuple(builder.once))] if builder.once else []
    last = max([*builder.rows, *(phase for phase, _ in builder.loops)], default=0)
    for phase in range(last + 1):
        if builder.rows.get(phase):
            sections.append(Section("row", tuple(builder.rows[phase])))
        loops = [(part, builder.loops.get((phase, part))) for part in builder.parts]
        sections += [Section("loop", tuple(stmts), part) for part, stmts in loops if stmts]
    return tuple(sections)


def _renumbered(program: RowProgram) -> RowProgram:
    """Results numbered in order of appearance, so that equal programs are equal."""
    numbers: dict[int, int] = {}
    for section in program.sections:
        for stmt in section.stmts:
            numbers.setdefault(stmt.result, len(numbers))
    sections = tuple(
        Section(
            section.level,
            tuple(
                Stmt(
                    numbers[s.result],
                    s.op,
                    tuple(numbers[a] if isinstance(a, int) else a for a in s.args),
                    s.dtype,
                    s.attrs,
                )
                for s in section.stmts
            ),
            section.part,
        )
        for section in program.sections
    )
    return replace(program, sections=sections)
