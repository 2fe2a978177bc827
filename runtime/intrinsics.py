"""The kernel primitives for Numba: their types, and the LLVM code of each. Plain meaning: `primitives.py`."""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from . import polynomials

Builder = Value = Type = Any  # llvmlite and Numba are not annotated

POINTER = {
    "f32*": types.CPointer(types.float32),
    "f64*": types.CPointer(types.float64),
    "i64*": types.CPointer(types.int64),
    "i32*": types.CPointer(types.int32),
    "u8*": types.CPointer(types.uint8),
}
SCALAR = {"f32": types.float32, "f64": types.float64, "i64": types.int64, "i32": types.int32}
WORDS = POINTER["i64*"]
FLOATS = (types.float32, types.float64)
F32, F64, I1, I8, I32, I64 = (
    ir.FloatType(), ir.DoubleType(), ir.IntType(1), ir.IntType(8), ir.IntType(32), ir.IntType(64)
)  # fmt: skip
LLVM = {types.float32: F32, types.float64: F64, types.int32: I32, types.int64: I64, types.boolean: I1}

# What a primitive is for given argument types: (result type, argument types, emit(builder, *values) -> value
# or None), or None where it is not defined.
Resolved = tuple[Type, tuple[Type, ...], Callable[..., Any]]
PRIMITIVES: dict[str, Any] = {}
SHORT_LOOP = "gt.short_loop"


def primitive(name: str, count: int, resolve: Callable[..., Resolved | None]) -> None:
    """Make `name` known to Numba, with `count` arguments."""

    def typed(*args: Type) -> Any:
        resolved = resolve(*(types.unliteral(arg) for arg in args))
        if resolved is None:
            return None
        result, wanted, emit = resolved

        def codegen(context: Any, builder: Builder, sig: Any, values: list[Value]) -> Any:
            value = emit(builder, *values)
            return context.get_dummy_value() if value is None else value

        return result(*wanted), codegen

    # Numba reads the number of arguments off the signature.
    letters = ", ".join(f"a{i}" for i in range(count))
    scope = {"typed": typed}
    exec(f"def {name}(context{', ' if letters else ''}{letters}): return typed({letters})", scope)
    PRIMITIVES[name] = intrinsic(scope[name])


def _call(builder: Builder, name: str, result: Value, *values: Value) -> Value:
    kind = ir.FunctionType(result, [v.type for v in values])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), values)


# --- memory ------------------------------------------------------------------------------------------------


def _pointee(p: Type) -> Type | None:
    """The type that loads and stores see: u8 is a boolean."""
    if p not in POINTER.values():
        return None
    return types.boolean if p.dtype == types.uint8 else p.dtype


def _number(t: Type) -> Type:
    """The type that casts know; Numba's other integers appear as results of its own typing rules."""
    if t in FLOATS or t == types.boolean:
        return t
    if t in types.integer_domain:
        return types.int32 if t.bitwidth <= 32 and t.signed else types.int64
    return None


def _cast(builder: Builder, value: Value, source: Type, target: Type) -> Value:
    if source == target:
        return value
    kind = LLVM[target]
    if target == types.boolean:
        zero = ir.Constant(value.type, 0)
        return builder.fcmp_unordered("!=", value, zero) if source in FLOATS else builder.icmp_signed("!=", value, zero)
    if source in FLOATS:
        if target in FLOATS:
            return builder.fptrunc(value, kind) if target == types.float32 else builder.fpext(value, kind)
        return builder.fptosi(value, kind)
    if target in FLOATS:
        return builder.uitofp(value, kind) if source == types.boolean else builder.sitofp(value, kind)
    if source == types.boolean:
        return builder.zext(value, kind)
    return builder.trunc(value, kind) if target == types.int32 else builder.sext(value, kind)


def _element(builder: Builder, p: Value, i: Value) -> Value:
    return builder.gep(p, [i], inbounds=True)


def _ld(p: Type, i: Type) -> Resolved | None:
    kind = _pointee(p)
    if kind is None or not isinstance(i, types.Integer):
        return None

    def emit(builder: Builder, p: Value, i: Value) -> Value:
        value = builder.load(_element(builder, p, i))
        return builder.icmp_unsigned("!=", value, I8(0)) if kind == types.boolean else value

    return kind, (p, types.int64), emit


def _st(p: Type, i: Type, v: Type) -> Resolved | None:
    kind, source = _pointee(p), _number(v)
    if kind is None or source is None or not isinstance(i, types.Integer):
        return None

    def emit(builder: Builder, p: Value, i: Value, v: Value) -> None:
        value = _cast(builder, v, source, kind)
        builder.store(builder.zext(value, I8) if kind == types.boolean else value, _element(builder, p, i))

    return types.void, (p, types.int64, source), emit


def _at(p: Type, n: Type) -> Resolved | None:
    if _pointee(p) is None or not isinstance(n, types.Integer):
        return None
    return p, (p, types.int64), _element


def _words(address: Type) -> Resolved | None:
    return WORDS, (types.int64,), lambda b, a: b.inttoptr(a, I64.as_pointer())


primitive("ld", 2, _ld)
primitive("st", 3, _st)
primitive("at", 2, _at)
primitive("words", 1, _words)

# --- casts and selection -----------------------------------------------------------------------------------


def _define_cast(name: str, target: Type) -> None:
    def resolve(x: Type) -> Resolved | None:
        source = _number(x)
        return source and (target, (source,), lambda b, v: _cast(b, v, source, target))

    primitive(name, 1, resolve)


for _name, _type in {**SCALAR, "boolean": types.boolean}.items():
    _define_cast(_name, _type)


def _same(*args: Type) -> Type | None:
    """The common type: all equal, or all integers (int64)."""
    if all(isinstance(t, types.Integer) for t in args):
        return types.int64
    return args[0] if all(t == args[0] for t in args) and _number(args[0]) else None


def _select(c: Type, a: Type, b: Type) -> Resolved | None:
    kind = _same(a, b)
    return kind and (kind, (types.boolean, kind, kind), lambda builder, *v: builder.select(*v))


primitive("select", 3, _select)

# --- floating point ----------------------------------------------------------------------------------------


def _define_float(name: str, count: int, emit: Callable[..., Any], integer: Callable[..., Any] | None = None) -> None:
    """A function of `count` floats of one type, with a version for int64 if it is given."""

    def resolve(*args: Type) -> Resolved | None:
        kind = _same(*args)
        if kind in FLOATS:
            return kind, (kind,) * count, emit
        return (kind, (kind,) * count, integer) if kind == types.int64 and integer else None

    primitive(name, count, resolve)


def _llvm(name: str) -> Callable[..., Value]:
    """LLVM's own function of that name, which becomes an instruction or a call of libm."""
    return lambda b, *v: _call(b, f"llvm.{name}.{'f32' if v[0].type == F32 else 'f64'}", v[0].type, *v)


def _libm(name: str) -> Callable[..., Value]:
    def emit(builder: Builder, *v: Value) -> Value:
        value = _call(builder, name + ("f" if v[0].type == F32 else ""), v[0].type, *v)
        # Without side effects: it may leave loops and be removed.
        value.callee.attributes.add("readnone")
        value.callee.attributes.add("nounwind")
        return value

    return emit


def _polynomial(name: str, wide: Callable[..., Value]) -> Callable[..., Value]:
    return lambda b, x: _call(b, f"gt.{name}.f32", F32, x) if x.type == F32 else wide(b, x)


for _name in "sqrt floor ceil trunc".split():
    _define_float(_name, 1, _llvm(_name))
_define_float("rint", 1, _llvm("roundeven"))
for _name in "exp exp2 log log2 log10".split():
    _define_float(_name, 1, _polynomial(_name, _llvm(_name)))
for _name in "expm1 log1p tanh erf".split():
    _define_float(_name, 1, _polynomial(_name, _libm(_name)))
_define_float("erfinv", 1, lambda b, x: _call(b, f"gt.erfinv.{'f32' if x.type == F32 else 'f64'}", x.type, x))
for _name in "sin cos tan asin acos atan sinh cosh asinh acosh atanh".split():
    _define_float(_name, 1, _libm(_name))
for _name in "pow atan2 hypot nextafter".split():
    _define_float(_name, 2, _libm(_name))
_define_float("copysign", 2, _llvm("copysign"))
_define_float("fma", 3, _llvm("fma"))


def _integer_choice(comparison: str) -> Callable[..., Value]:
    return lambda b, x, y: b.select(b.icmp_signed(comparison, x, y), x, y)


def _define_integer(name: str, emit: Callable[..., Value]) -> None:
    """A function of two int64."""

    def resolve(x: Type, y: Type) -> Resolved | None:
        return (types.int64, (types.int64, types.int64), emit) if _same(x, y) == types.int64 else None

    primitive(name, 2, resolve)


def _shift(operation: str, beyond: Callable[[Builder, Value], Value]) -> Callable[..., Value]:
    def emit(builder: Builder, x: Value, y: Value) -> Value:
        inside = builder.icmp_unsigned("<", y, I64(64))
        shifted = getattr(builder, operation)(x, builder.select(inside, y, I64(0)))
        return builder.select(inside, shifted, beyond(builder, x))

    return emit


_define_integer("ipow", lambda b, x, y: _call(b, "gt.ipow", I64, x, y))
_define_integer("shl", _shift("shl", lambda b, x: I64(0)))
_define_integer("shr", _shift("ashr", lambda b, x: b.ashr(x, I64(63))))


def _sign(builder: Builder, x: Value) -> Value:
    one, zero = ir.Constant(x.type, 1), ir.Constant(x.type, 0)
    if x.type == I64:
        low = builder.select(builder.icmp_signed("<", x, zero), I64(-1), zero)
        return builder.select(builder.icmp_signed(">", x, zero), one, low)
    low = builder.select(builder.fcmp_ordered("<", x, zero), ir.Constant(x.type, -1), x)  # NaN and zero: x
    return builder.select(builder.fcmp_ordered(">", x, zero), one, low)


_define_float("fabs", 1, _llvm("fabs"), lambda b, x: b.select(b.icmp_signed("<", x, I64(0)), b.neg(x), x))
_define_float("sign", 1, _sign, _sign)
_define_float("maximum", 2, _llvm("maximum"), _integer_choice(">"))
_define_float("minimum", 2, _llvm("minimum"), _integer_choice("<"))
_define_float("fmax", 2, _llvm("maxnum"), _integer_choice(">"))
_define_float("fmin", 2, _llvm("minnum"), _integer_choice("<"))


def _define_test(name: str, emit: Callable[..., Value]) -> None:
    primitive(name, 1, lambda x: (types.boolean, (x,), emit) if x in FLOATS else None)


def _magnitude(comparison: str) -> Callable[..., Value]:
    def emit(builder: Builder, x: Value) -> Value:
        return builder.fcmp_ordered(comparison, _llvm("fabs")(builder, x), ir.Constant(x.type, float("inf")))

    return emit


# The flags of jit.py leave out nnan and ninf, so that these comparisons mean what they say.
_define_test("isnan", lambda b, x: b.fcmp_unordered("uno", x, x))
_define_test("isinf", _magnitude("=="))
_define_test("isfinite", _magnitude("<"))

# --- random numbers ----------------------------------------------------------------------------------------


def _define_random(name: str, result: Type) -> None:
    def resolve(*args: Type) -> Resolved | None:
        if not all(isinstance(t, types.Integer) for t in args):
            return None
        return result, (types.int64,) * 4, lambda b, *v: _call(b, f"gt.{name}", LLVM[result], *v)

    primitive(name, 4, resolve)


_define_random("philox", types.int64)
_define_random("uniform32", types.float32)

# --- threads and calls -------------------------------------------------------------------------------------


def _define_atomic(name: str, count: int, result: Type, emit: Callable[..., Any]) -> None:
    def resolve(p: Type, *rest: Type) -> Resolved | None:
        return (result, (WORDS,) + (types.int64,) * (count - 1), emit) if p == WORDS else None

    primitive(name, count, resolve)


def _atomic_store(builder: Builder, p: Value, v: Value) -> None:
    builder.store_atomic(v, p, "seq_cst", 8)


_define_atomic("atomic_add", 2, types.int64, lambda b, p, v: b.atomic_rmw("add", p, v, "seq_cst"))
_define_atomic("atomic_load", 1, types.int64, lambda b, p: b.load_atomic(p, "seq_cst", 8))
_define_atomic("atomic_store", 2, types.void, _atomic_store)
_define_atomic(
    "atomic_swap", 3, types.boolean,
    lambda b, p, old, new: b.extract_value(b.cmpxchg(p, old, new, "seq_cst", "seq_cst"), 1),
)  # fmt: skip


def _pause(builder: Builder) -> None:
    machine = platform.machine().lower()
    if machine in ("x86_64", "amd64", "i686"):
        _call(builder, "llvm.x86.sse2.pause", ir.VoidType())
    elif machine in ("arm64", "aarch64"):
        _call(builder, "llvm.aarch64.hint", ir.VoidType(), I32(1))  # yield


def _yield(builder: Builder) -> None:
    _call(builder, "SwitchToThread" if platform.system() == "Windows" else "sched_yield", I32)


def _indirect(builder: Builder, address: Value, *values: Value) -> None:
    kind = ir.FunctionType(ir.VoidType(), [v.type for v in values])
    builder.call(builder.inttoptr(address, kind.as_pointer()), values)


primitive("pause", 0, lambda: (types.void, (), _pause))
primitive("yield_cpu", 0, lambda: (types.void, (), _yield))
primitive("call", 2, lambda f, args: (types.void, (types.int64, types.int64), _indirect))


# a mark for jit.py, which takes it out
primitive("short_loop", 0, lambda: (types.void, (), lambda b: _call(b, SHORT_LOOP, ir.VoidType())))


def _gemm_call(*args: Type) -> Resolved | None:
    matrix = args[7]
    if _pointee(matrix) not in FLOATS:
        return None
    integer, number = types.int64, _pointee(matrix)
    wanted = (integer,) * 6 + (number, matrix, integer, matrix, integer, number, matrix, integer)

    def emit(builder, fn, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc):
        # cblas: 101 row-major, 111 as it is, 112 transposed; 32-bit integers
        trans = [builder.select(builder.icmp_signed("!=", t, I64(0)), I32(112), I32(111)) for t in (ta, tb)]
        m, n, k, lda, ldb, ldc = (builder.trunc(v, I32) for v in (m, n, k, lda, ldb, ldc))
        _indirect(builder, fn, I32(101), *trans, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc)

    return types.void, wanted, emit


primitive("gemm_call", 14, _gemm_call)


def _tile(*args: Type) -> Resolved | None:
    pointer = args[2]
    if pointer not in (POINTER["f32*"], POINTER["f64*"]):
        return None
    step = types.int64
    dtype = "f32" if pointer.dtype == types.float32 else "f64"
    wanted = (step, step, pointer, step, pointer, step, pointer, step, pointer, step, step, step)
    return types.void, wanted, lambda b, *v: _call(b, f"gt.tile.{dtype}", ir.VoidType(), *v)


primitive("tile", 12, _tile)


def _transpose(x: Type, step: Type, out: Type, to: Type) -> Resolved | None:
    if x not in (POINTER["f32*"], POINTER["f64*"]) or out != x:
        return None
    dtype = "f32" if x.dtype == types.float32 else "f64"
    wanted = (x, types.int64, x, types.int64)
    return types.void, wanted, lambda b, *v: _call(b, f"gt.transpose.{dtype}", ir.VoidType(), *v)


primitive("transpose", 4, _transpose)


def polynomials_text() -> str:
    """LLVM assembly that kernels must be linked with."""
    return polynomials.module_text()
