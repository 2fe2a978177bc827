"""RowProgram -> Kernel: prints the loop nest as Python source that `jit.py` compiles and that also runs as it stands.

Arguments of a row kernel, in this order: per access its pointer (or, for an index, the number it starts from), the size
of every axis, the strides that are not fixed by the access, the dimensions used as numbers.
"""

from __future__ import annotations

import math
from typing import Any

from ..ir.op import OPS
from ..ir.tape import RowProgram, Section, Stmt
from .kernel import Kernel

POINTERS = {"f32": "f32*", "f64": "f64*", "i32": "i32*", "i64": "i64*", "bool": "u8*"}
CASTS = {"f32": "f32", "f64": "f64", "i32": "i32", "i64": "i64", "bool": "boolean"}
INITIAL = {"sum": "0", "prod": "1", "max": "-inf", "min": "inf", "any": "False", "all": "True"}
COMBINE = {
    "sum": "{a} + {v}",
    "prod": "{a} * {v}",
    "max": "maximum({a}, {v})",
    "min": "minimum({a}, {v})",
    "any": "{a} | {v}",
    "all": "{a} & {v}",
}


LANES, BLOCK = 64, 131072  # the least number of rows side by side, and elements of all of them


class Expr:
    """A typed piece of source text with Python's operators."""

    def __init__(self, text: str, dtype: str) -> None:
        self.text, self.dtype = text, dtype

    def _with(self, operator: str, other: Any, swap: bool = False, dtype: str | None = None) -> Expr:
        right = other if isinstance(other, Expr) else number(other, self.dtype)
        a, b = (right, self) if swap else (self, right)
        text = f"({a.text} {operator} {b.text})"
        return Expr(_wrapped(text, self.dtype) if dtype is None else text, dtype or self.dtype)

    def __add__(self, o: Any) -> Expr:
        return self._with("+", o)

    def __radd__(self, o: Any) -> Expr:
        return self._with("+", o, swap=True)

    def __sub__(self, o: Any) -> Expr:
        return self._with("-", o)

    def __rsub__(self, o: Any) -> Expr:
        return self._with("-", o, swap=True)

    def __mul__(self, o: Any) -> Expr:
        return self._with("*", o)

    def __rmul__(self, o: Any) -> Expr:
        return self._with("*", o, swap=True)

    def __neg__(self) -> Expr:
        return Expr(_wrapped(f"(-{self.text})", self.dtype), self.dtype)

    def __lt__(self, o: Any) -> Expr:
        return self._with("<", o, dtype="bool")

    def __le__(self, o: Any) -> Expr:
        return self._with("<=", o, dtype="bool")

    def __gt__(self, o: Any) -> Expr:
        return self._with(">", o, dtype="bool")

    def __ge__(self, o: Any) -> Expr:
        return self._with(">=", o, dtype="bool")


def _wrapped(text: str, dtype: str) -> str:
    """Arithmetic of i32, which is done in 64 bits, brought back to 32."""
    return f"i32{text}" if dtype == "i32" else text


def number(value: Any, dtype: str) -> Expr:
    """A Python number as a literal of `dtype`."""
    if dtype in ("f32", "f64"):
        value = float(value)
        if math.isnan(value):
            return Expr(f"({dtype}(1e400) - {dtype}(1e400))", dtype)
        text = repr(value).replace("inf", "1e400")  # the literal that overflows to infinity
        return Expr(f"{dtype}({text})", dtype)
    if dtype == "bool":
        return Expr(repr(bool(value)), dtype)
    return Expr(f"{dtype}({int(value)})", dtype)


class SourceScalars:
    """The primitive set of `scalar(s, ...)` as source text; `dtype` is that of the op's result."""

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype

    def _expr(self, x: Any, dtype: str | None = None) -> Expr:
        return x if isinstance(x, Expr) else number(x, dtype or self.dtype)

    def _pair(self, x: Any, y: Any) -> tuple[Expr, Expr]:
        dtype = x.dtype if isinstance(x, Expr) else y.dtype if isinstance(y, Expr) else self.dtype
        return self._expr(x, dtype), self._expr(y, dtype)

    def __getattr__(self, name: str) -> Any:
        if name in _UNARY:
            return lambda x: self._unary(name, self._expr(x))
        if name in _BINARY:

            def call(x: Any, y: Any) -> Expr:
                a, b = self._pair(x, y)
                return Expr(f"{_BINARY[name]}({a.text}, {b.text})", a.dtype)

            return call
        if name in _BITS:
            return lambda x, y: self._integers(_BITS[name], x, y)
        raise AttributeError(f"{name} is not a scalar primitive")

    def _unary(self, name: str, x: Expr) -> Expr:
        if name in ("floor", "ceil", "trunc", "round") and x.dtype not in ("f32", "f64"):
            return x
        return Expr(f"{_UNARY[name]}({x.text})", x.dtype)

    def pow(self, x: Any, y: Any) -> Expr:
        a, b = self._pair(x, y)
        if a.dtype in ("f32", "f64"):
            return Expr(f"pow({a.text}, {b.text})", a.dtype)
        return self._integers("ipow({a}, {b})", a, b)

    def _integers(self, text: str, x: Any, y: Any) -> Expr:
        """Two integers of one dtype, computed in 64 bits: an i32 wraps around."""
        a, b = self._pair(x, y)
        return self.cast(Expr(text.format(a=a.text, b=b.text), "i64"), a.dtype)

    def divide(self, x: Any, y: Any) -> Expr:
        a, b = self._pair(x, y)
        if self.dtype in ("f32", "f64") and a.dtype != self.dtype:
            a, b = self.cast(a, self.dtype), self.cast(b, self.dtype)
        return Expr(f"({a.text} / {b.text})", self.dtype)

    def floor_divide(self, x: Any, y: Any) -> Expr:
        a, b = self._pair(x, y)
        if a.dtype in ("f32", "f64"):
            return Expr(f"floor({a.text} / {b.text})", a.dtype)
        return Expr(f"({a.text} // {b.text})", a.dtype)

    def remainder(self, x: Any, y: Any) -> Expr:
        a, b = self._pair(x, y)
        if a.dtype in ("f32", "f64"):
            return Expr(f"({a.text} - floor({a.text} / {b.text}) * {b.text})", a.dtype)
        return Expr(f"({a.text} % {b.text})", a.dtype)

    def where(self, condition: Any, x: Any, y: Any) -> Expr:
        c = self._expr(condition, "bool")
        a, b = self.cast(self._expr(x), self.dtype), self.cast(self._expr(y), self.dtype)
        return Expr(f"select({c.text}, {a.text}, {b.text})", self.dtype)

    def equal(self, x: Any, y: Any) -> Expr:
        a, b = self._pair(x, y)
        return Expr(f"({a.text} == {b.text})", "bool")

    def not_equal(self, x: Any, y: Any) -> Expr:
        a, b = self._pair(x, y)
        return Expr(f"({a.text} != {b.text})", "bool")

    def logical_and(self, x: Any, y: Any) -> Expr:
        return Expr(f"({self._expr(x, 'bool').text} & {self._expr(y, 'bool').text})", "bool")

    def logical_or(self, x: Any, y: Any) -> Expr:
        return Expr(f"({self._expr(x, 'bool').text} | {self._expr(y, 'bool').text})", "bool")

    def logical_xor(self, x: Any, y: Any) -> Expr:
        return Expr(f"({self._expr(x, 'bool').text} != {self._expr(y, 'bool').text})", "bool")

    def logical_not(self, x: Any) -> Expr:
        return Expr(f"(not {self._expr(x, 'bool').text})", "bool")

    def isnan(self, x: Any) -> Expr:
        return Expr(f"isnan({x.text})", "bool") if x.dtype in ("f32", "f64") else number(False, "bool")

    def isinf(self, x: Any) -> Expr:
        return Expr(f"isinf({x.text})", "bool") if x.dtype in ("f32", "f64") else number(False, "bool")

    def isfinite(self, x: Any) -> Expr:
        return Expr(f"isfinite({x.text})", "bool") if x.dtype in ("f32", "f64") else number(True, "bool")

    def sign(self, x: Any) -> Expr:
        e = self._expr(x)
        zero, one, minus = number(0, e.dtype).text, number(1, e.dtype).text, number(-1, e.dtype).text
        # NaN and 0 fall through to x itself
        return Expr(f"select({e.text} > {zero}, {one}, select({e.text} < {zero}, {minus}, {e.text}))", e.dtype)

    def cast(self, x: Any, dtype: str) -> Expr:
        e = self._expr(x, dtype)
        if e.dtype == dtype:
            return e
        if dtype == "bool":
            return Expr(f"({e.text} != {number(0, e.dtype).text})", "bool")
        return Expr(f"{CASTS[dtype]}({e.text})", dtype)

    def constant(self, value: Any, dtype: str) -> Expr:
        return number(value, dtype)


RANDOM = {"uniform": "uniform32", "random_bits": "philox"}
_UNARY = {
    name: name
    for name in (
        "exp log sqrt tanh erf erfinv sin cos tan asin acos atan sinh cosh asinh acosh atanh expm1 log1p exp2 log2 "
        "log10 floor ceil trunc"
    ).split()
} | {"abs": "fabs", "round": "rint"}
_BINARY = {name: name for name in ("atan2", "hypot", "copysign", "nextafter", "maximum", "minimum")}
_BITS = {
    "bitwise_and": "({a} & {b})",
    "bitwise_or": "({a} | {b})",
    "bitwise_xor": "({a} ^ {b})",
    "left_shift": "shl({a}, {b})",
    "right_shift": "shr({a}, {b})",
}


def row_kernel(program: RowProgram) -> Kernel:
    """The kernel of a row program, named after its content."""
    return _Printer(program).kernel()


class _Printer:
    def __init__(self, program: RowProgram) -> None:
        self.program = program
        self.lines: list[str] = []
        self.dtypes: dict[int, str] = {}
        self.names: dict[int, str] = {}
        self.axes = program.outer + program.inner

    def kernel(self) -> Kernel:
        p = self.program
        params: list[tuple[str, str]] = []
        for i, access in enumerate(p.accesses):
            params.append((f"b{i}", "i64") if access.virtual else (f"p{i}", POINTERS[access.dtype]))
        params += [(f"n{a}", "i64") for a in range(self.axes)]
        params += [(name, "i64") for name in stride_names(p)]
        params += [(f"d{i}", "i64") for i in range(p.dims)]
        self.body()
        signature = ", ".join(name for name, _ in params)
        source = f"def {p.name}({signature}):\n" + "\n".join(self.lines) + "\n"
        return Kernel(p.name, tuple(params), source)

    def body(self) -> None:
        p = self.program
        stmts = [s for section in p.sections for s in section.stmts]
        sides: list[Any] = sorted({attr(s, "access") for s in stmts if s.op == "side"})
        totals = [s for s in stmts if s.op == "total"]
        for access in sides:  # this thread's accumulator row starts at zero
            depth = self.loops(range(p.outer, self.axes), 1)
            dtype = p.accesses[access].dtype
            self.line(
                depth, f"st(p{access}, {self.offset(access, range(p.outer, self.axes))}, {number(0, dtype).text})"
            )
        for s in totals:
            self.line(1, f"t{attr(s, 'access')} = {number(0, self.wide(s.dtype)).text}")
        for section in p.sections:
            if section.level == "once":
                for s in section.stmts:
                    self.stmt(s, 1, ())
        depth = self.loops(range(p.outer), 1)
        side_by_side = any(section.level == "lane" for section in p.sections)
        if side_by_side:
            depth = self.blocks(depth)
        if p.diagonal >= 0:
            last = f"b{p.diagonal} + {self.offset(p.diagonal, range(p.outer))}"
            self.line(depth, f"cut = minimum({last} + 1, n{p.outer})")
        for section in p.sections:
            if section.level != "once" and side_by_side:
                self.lanes(section, depth)
            elif section.level == "row":
                for s in section.stmts:
                    self.stmt(s, depth, range(p.outer))
            elif section.level == "loop":
                self.loop(section.stmts, depth, section.part)
        for s in totals:
            access = attr(s, "access")
            self.line(1, f"st(p{access}, 0, {CASTS[s.dtype]}(t{access}))")
        if not self.lines:
            self.line(1, "pass")

    def blocks(self, depth: int) -> int:
        """Rows side by side: as many lanes in turn as leave what their rows read in the second-level cache."""
        last = self.axes - 1
        elements = " * ".join(f"n{a}" for a in range(self.program.outer, last))
        self.line(depth, f"width = maximum({LANES}, {BLOCK} // ({elements} + 1))")
        self.line(depth, f"for block in range((n{last} + width - 1) // width):")
        self.line(depth + 1, "low = block * width")
        self.line(depth + 1, f"high = minimum(low + width, n{last})")
        return depth + 1

    def lanes(self, section: Section, depth: int) -> None:
        outer, last = self.program.outer, self.axes - 1
        loop = section.level == "loop"
        depth = self.loops(range(outer, last), depth) if loop else depth
        totals = [s for s in section.stmts if s.op == "total" and loop]
        for s in totals:
            self.line(depth, f"u{s.result} = {number(0, s.dtype).text}")
        self.line(depth, f"for i{last} in range(low, high):")
        for s in section.stmts:
            self.stmt(s, depth + 1, range(self.axes) if loop else (*range(outer), last))
        for s in totals:
            access = attr(s, "access")
            self.line(depth, f"t{access} = t{access} + {CASTS[self.wide(s.dtype)]}(u{s.result})")

    def wide(self, dtype: str) -> str:
        """Totals run over everything: float32 ones are kept in float64."""
        return "f64" if dtype == "f32" else dtype

    def loops(self, axes: range, depth: int) -> int:
        for axis in axes:
            self.line(depth, f"for i{axis} in range(n{axis}):")
            depth += 1
        return depth

    def loop(self, stmts: tuple[Stmt, ...], depth: int, part: str) -> None:
        p = self.program
        reductions = [s for s in stmts if s.op.startswith("reduce_")]
        totals = [s for s in stmts if s.op == "total"]
        for s in reductions:
            kind = s.op.removeprefix("reduce_")
            if s.result not in self.dtypes:  # a tail goes on where the head ended
                self.line(depth, f"v{s.result} = {self.initial(kind, s.dtype)}")
            self.dtypes[s.result] = s.dtype
        for s in totals:  # a row's own sum first, so that the inner loop runs in the element's dtype
            self.line(depth, f"u{s.result} = {number(0, s.dtype).text}")
        if part:  # rows that are cut have one inner axis
            first, end = ("0", "cut") if part == "head" else ("cut", f"n{p.outer}")
            self.line(depth, f"for i{p.outer} in range({first}, {end}):")
            inside = depth + 1
        else:
            inside = self.loops(range(p.outer, self.axes), depth)
        for s in stmts:
            self.stmt(s, inside, range(self.axes))
        if p.short and p.inner:
            self.line(inside, "short_loop()")
        for s in totals:
            access = attr(s, "access")
            self.line(depth, f"t{access} = t{access} + {CASTS[self.wide(s.dtype)]}(u{s.result})")

    def initial(self, kind: str, dtype: str) -> str:
        if kind in ("max", "min") and dtype not in ("f32", "f64"):
            bits = 31 if dtype == "i32" else 63
            return number(-(2**bits) if kind == "max" else 2**bits - 1, dtype).text
        if kind in ("any", "all"):
            return INITIAL[kind]
        return number(float(INITIAL[kind]), dtype).text

    def stmt(self, s: Stmt, depth: int, axes: Any) -> None:
        attrs: dict[str, Any] = dict(s.attrs)
        access = attrs.get("access", -1)
        args = [Expr(f"v{a}", self.dtypes[a]) if isinstance(a, int) else a.value for a in s.args]
        if s.op == "load":
            text = f"ld({self.pointer(access)}, {self.offset(access, axes)})"
        elif s.op == "store":
            value = SourceScalars(s.dtype)._expr(args[0])
            self.line(depth, f"st({self.pointer(access)}, {self.offset(access, axes)}, {value.text})")
            return
        elif s.op == "index":
            text = f"b{access} + {self.offset(access, axes)}"
        elif s.op == "dim":
            text = f"{CASTS[s.dtype]}(d{attrs['number']})"
        elif s.op in RANDOM:
            seed, step, index = (SourceScalars("i64")._expr(a).text for a in args)
            text = f"{CASTS[s.dtype]}({RANDOM[s.op]}({seed}, {step}, {attrs['site']}, {index}))"
        elif s.op.startswith("reduce_"):
            kind = s.op.removeprefix("reduce_")
            value = SourceScalars(s.dtype)._expr(args[0]).text
            combined = COMBINE[kind].format(a=f"v{s.result}", v=value)
            self.line(depth, f"v{s.result} = " + _wrapped(f"({combined})", s.dtype))
            return
        elif s.op in ("clear", "fold"):
            at, value = self.offset(access, axes), self.initial(attrs["kind"], s.dtype)
            if s.op == "fold":
                given = SourceScalars(s.dtype)._expr(args[0]).text
                value = _wrapped(f"({COMBINE[attrs['kind']].format(a=f'ld(p{access}, {at})', v=given)})", s.dtype)
            self.line(depth, f"st(p{access}, {at}, {value})")
            return
        elif s.op == "side":
            at = self.offset(access, axes)
            value = SourceScalars(s.dtype)._expr(args[0]).text
            self.line(depth, f"st(p{access}, {at}, ld(p{access}, {at}) + {value})")
            return
        elif s.op == "total":
            value = SourceScalars(s.dtype)._expr(args[0]).text
            if len(axes) == self.axes and self.program.inner:
                self.line(depth, f"u{s.result} = u{s.result} + {value}")
            else:
                self.line(depth, f"t{access} = t{access} + {CASTS[self.wide(s.dtype)]}({value})")
            return
        else:
            scalar = OPS[s.op].scalar
            assert scalar is not None, s.op
            result = scalar(SourceScalars(s.dtype), *args, **attrs)
            text = SourceScalars(s.dtype).cast(result, s.dtype).text
        self.dtypes[s.result] = s.dtype
        self.line(depth, f"v{s.result} = {text}")

    def offset(self, access: int, axes: Any) -> str:
        """The element that an access reaches, as text over the loop variables of `axes`."""
        terms, (base, shift) = [], self.base(access)
        for axis in axes:
            kind = self.program.accesses[access].strides[axis]
            if kind == "1":
                terms.append(f"i{axis}")
            elif kind != "0":
                terms.append(f"i{axis} * " + (f"s{base}_{axis}" if kind == "s" else kind))
        return " + ".join([*terms, *([str(shift)] if shift else [])]) or "0"

    def base(self, access: int) -> tuple[int, int]:
        """The access whose pointer and strides are used, and the elements from there."""
        found = self.program.accesses[access]
        return (access, 0) if found.base < 0 else (found.base, found.shift)

    def pointer(self, access: int) -> str:
        return f"p{self.base(access)[0]}"

    def line(self, depth: int, text: str) -> None:
        self.lines.append("    " * depth + text)


def attr(stmt: Stmt, name: str) -> Any:
    return dict(stmt.attrs)[name]


def stride_names(program: RowProgram) -> list[str]:
    """The strides that are given at run time, in argument order."""
    return [
        f"s{i}_{axis}"
        for i, access in enumerate(program.accesses)
        for axis, kind in enumerate(access.strides)
        if kind == "s"
    ]
