"""Kernels -> one relocatable object for this machine, through Numba's front end and LLVM.

Numba types and lowers each kernel; its usual way on (a library per function, two optimisations, MCJIT) is
left out. Instead the LLVM module of a kernel is linked with the polynomials and an entry point
`void name(int64_t *args)`, optimised once, and remembered as bitcode.
"""

from __future__ import annotations

import ast
import re
import threading
from collections.abc import Sequence
from functools import cache
from typing import Any

import llvmlite.binding as llvm
from numba.core import cgutils, compiler, errors, types
from numba.core.compiler_machinery import PassManager
from numba.core.cpu_options import FastMathOptions
from numba.core.registry import cpu_target
from numba.core.typed_passes import IRLegalization, NativeLowering, NopythonTypeInference, PreLowerStripPhis
from numba.core.untyped_passes import FixupArgs, IRProcessing, ReconstructSSA, TranslateByteCode

from . import driver, intrinsics, tiles
from .flags import CODE_MODEL, FAST_MATH, OPTIMISATION, RELOCATION, VECTOR_BITS
from .kernel import POINTERS, Kernel
from .primitives import CONSTANTS

_lock = threading.RLock()  # Numba's and ours: compilation is not reentrant
_bitcode: dict[Kernel, bytes] = {}


class KernelError(Exception):
    """A kernel that does not compile; the message shows its source."""


# --- Python source -> LLVM module --------------------------------------------------------------------------


class _FrontEnd(compiler.CompilerBase):
    """Numba's pipeline with only the passes that a kernel's restricted style needs."""

    def define_pipelines(self) -> list[PassManager]:
        manager = PassManager("kernel")
        for stage in (
            TranslateByteCode, FixupArgs, IRProcessing, ReconstructSSA, NopythonTypeInference,
            PreLowerStripPhis, IRLegalization, NativeLowering,
        ):  # fmt: skip
            manager.add_pass(stage, stage.__name__)
        manager.finalize()
        return [manager]


def _numba_context() -> Any:
    return cpu_target.target_context


class _Library:
    """Stands where Numba expects a code library; keeps the text, and neither optimises nor loads it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.codegen: Any = _numba_context().codegen()
        self.recorded_timings = None
        self._reload_init: set[Any] = set()
        self.text = ""

    def create_ir_module(self, name: str) -> Any:
        return self.codegen._create_empty_module(name)

    def add_ir_module(self, module: Any) -> None:
        self.text += cgutils.normalize_ir_text(str(module))

    def add_linking_library(self, library: Any) -> None:
        """Numba always offers its reference counting, of which kernels use nothing."""


def _flags() -> Any:
    flags: Any = compiler.Flags()
    flags.error_model = "numpy"  # no branch for a division by zero, which would stop vectorisation
    flags.fastmath = FastMathOptions(set(FAST_MATH))
    flags.noalias = True
    flags.release_gil = True
    flags.no_compile = flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
    return flags


def _check_literals(kernel: Kernel) -> None:
    """A float literal is float64 and would widen float32 arithmetic: it must stand in a cast."""
    allowed = {
        id(node.args[0] if not isinstance(node.args[0], ast.UnaryOp) else node.args[0].operand)
        for node in ast.walk(kernel.tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("f32", "f64")
        and node.args
    }
    for node in ast.walk(kernel.tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, float) and id(node) not in allowed:
            raise KernelError(
                f"line {node.lineno}: the literal {node.value} is float64; write f32({node.value}) or f64({node.value})"
            )


def _check_widening(blocks: Any, typemap: dict[str, types.Type]) -> None:
    """No operator may turn a float32 into a float64, as int64 * float32 does in NumPy's rules."""
    for statement in (statement for block in blocks.values() for statement in block.body):
        expression: Any = getattr(statement, "value", None)
        if getattr(expression, "op", None) in ("binop", "inplace_binop"):
            operands = [types.unliteral(typemap[v.name]) for v in (expression.lhs, expression.rhs)]
            if typemap[statement.target.name] == types.float64 and types.float32 in operands:
                kinds = " and ".join(map(str, operands))
                raise KernelError(f"line {statement.loc.line}: {kinds} give float64; cast the operands to one type")


# the mark at the end of a loop's body, and the way back
_MARKED = re.compile(rf'  call void @"{intrinsics.SHORT_LOOP}"\(\)\n((?:  .*\n)*?  br label %"[^"]+")\n')


def _short_loops(text: str) -> str:
    """Tells LLVM to fold the rest of the loops that are marked into masked vectors: a row of 27 elements would else be
    one vector of 16 and 11 single ones (its cross-entropy: 130 ns, and 65 like this)."""
    loops = 0

    def told(found: re.Match[str]) -> str:
        nonlocal loops
        loops += 1
        return f"{found[1]}, !llvm.loop !{9000 + 2 * loops}\n"

    text = _MARKED.sub(told, text)
    for loop in range(1, loops + 1):
        first, second = f"!{9000 + 2 * loop}", f"!{9001 + 2 * loop}"
        text += f"{first} = distinct !{{{first}, {second}}}\n"
        text += f'{second} = !{{!"llvm.loop.vectorize.predicate.enable", i1 true}}\n'
    return text


def _front_end(kernel: Kernel) -> tuple[str, str]:
    """(LLVM assembly, name of the function in it): `i32 f(ptr result, ptr exception, <params>)`"""
    _check_literals(kernel)
    scope = intrinsics.PRIMITIVES | CONSTANTS
    exec(compile(kernel.source, f"<kernel {kernel.name}>", "exec"), scope)
    args = tuple(intrinsics.POINTER[t] if t in POINTERS else intrinsics.SCALAR[t] for _, t in kernel.params)
    library = _Library(kernel.name)
    pipeline = _FrontEnd(cpu_target.typing_context, _numba_context(), library, args, types.void, _flags(), {})
    lowered = pipeline.compile_extra(scope[kernel.name])
    _check_widening(pipeline.state.func_ir.blocks, pipeline.state.typemap)
    return _short_loops(library.text), lowered.fndesc.llvm_func_name


# --- LLVM ---------------------------------------------------------------------------------------------------


@cache
def _machine() -> llvm.TargetMachine:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(),
        features=llvm.get_host_cpu_features().flatten(),
        opt=OPTIMISATION,
        reloc=RELOCATION,
        codemodel=CODE_MODEL,
    )


@cache
def _polynomials() -> bytes:
    return llvm.parse_assembly(intrinsics.polynomials_text()).as_bitcode()


def _entry_point(kernel: Kernel, function: str) -> str:
    """Assembly of `void name(ptr args)`, which unpacks the argument words and calls the kernel's function."""
    lines, arguments, kinds = [], [], []
    for i, (_, type_) in enumerate(kernel.params):
        lines += [f"%a{i} = getelementptr i64, ptr %args, i64 {i}", f"%w{i} = load i64, ptr %a{i}"]
        if type_ in POINTERS:
            kind = "ptr"
            lines.append(f"%v{i} = inttoptr i64 %w{i} to ptr")
        elif type_ == "i64":
            kind = "i64"
            lines.append(f"%v{i} = add i64 %w{i}, 0")
        elif type_ == "i32":
            kind = "i32"
            lines.append(f"%v{i} = trunc i64 %w{i} to i32")
        elif type_ == "f32":
            kind = "float"
            lines += [f"%h{i} = trunc i64 %w{i} to i32", f"%v{i} = bitcast i32 %h{i} to float"]
        else:
            kind = "double"
            lines.append(f"%v{i} = bitcast i64 %w{i} to double")
        arguments.append(f"{kind} %v{i}")
        kinds.append(kind)
    body = "\n  ".join(lines)
    return f"""
declare i32 @"{function}"({", ".join(["ptr", "ptr", *kinds])})
define void @"{kernel.name}"(ptr noalias readonly %args) nounwind "prefer-vector-width"="{VECTOR_BITS}" {{
  %result = alloca ptr
  %exception = alloca ptr
  {body}
  %status = call i32 @"{function}"({", ".join(["ptr %result", "ptr %exception", *arguments])})
  ret void
}}
"""


def _optimise(module: llvm.ModuleRef) -> None:
    tuning = llvm.create_pipeline_tuning_options(speed_level=OPTIMISATION)
    tuning.loop_vectorization = tuning.slp_vectorization = tuning.loop_unrolling = tuning.loop_interleaving = True
    builder = llvm.create_pass_builder(_machine(), tuning)
    builder.getModulePassManager().run(module, builder)


def _compile(kernel: Kernel) -> bytes:
    """Optimised bitcode of one kernel, with its entry point as the only symbol that others see."""
    text, function = _front_end(kernel)
    module = llvm.parse_assembly(text)
    module.triple = _machine().triple
    module.data_layout = str(_machine().target_data)
    module.link_in(llvm.parse_bitcode(_polynomials()))
    for dtype in tiles.LANES:
        if f"gt.transpose.{dtype}" in text:
            module.link_in(llvm.parse_assembly(tiles.module_text(dtype)))
    module.link_in(llvm.parse_assembly(_entry_point(kernel, function)))
    for symbol in (*module.functions, *module.global_variables):
        if not symbol.is_declaration and symbol.name != kernel.name:
            symbol.linkage = "internal"
    _optimise(module)
    return module.as_bitcode()


def kernel_bitcode(kernel: Kernel) -> bytes:
    """Optimised bitcode of a kernel, compiled at most once in a process. KernelError shows the source."""
    with _lock:
        if kernel not in _bitcode:
            try:
                _bitcode[kernel] = _compile(kernel)
            except (KernelError, errors.NumbaError, RuntimeError) as error:
                raise KernelError(f"kernel {kernel.name}: {error}\n{kernel.numbered_source()}") from error
        return _bitcode[kernel]


def compile_object(kernels: Sequence[Kernel]) -> bytes:
    """One relocatable object for this CPU, position independent: `void name(int64_t *args)` per kernel.

    The driver's functions (driver.SYMBOLS) are in every object. Kernels must differ in name; ValueError
    otherwise.
    """
    everything = [*kernels, *driver.KERNELS]
    names = [kernel.name for kernel in everything]
    double = sorted({name for name in names if names.count(name) > 1})
    if double:
        raise ValueError(f"kernels of equal name: {', '.join(double)}")
    with _lock:
        module = llvm.parse_assembly("")
        module.triple = _machine().triple
        module.data_layout = str(_machine().target_data)
        for kernel in everything:
            module.link_in(llvm.parse_bitcode(kernel_bitcode(kernel)))
        module.link_in(llvm.parse_assembly(driver.RUN_ASSEMBLY))
        return _machine().emit_object(module)


def kernel_object(kernel: Kernel) -> bytes:
    """A relocatable object with one kernel alone; that of `gt_drive` also holds `gt_run`."""
    with _lock:
        module = llvm.parse_bitcode(kernel_bitcode(kernel))
        if kernel is driver.DRIVE:
            module.link_in(llvm.parse_assembly(driver.RUN_ASSEMBLY))
        return _machine().emit_object(module)
