"""From kernel to object code to memory."""

import subprocess
import sys

import llvmlite.binding as llvm
import numpy as np
import pytest

from gradtape.runtime import driver, jit
from gradtape.runtime.kernel import Kernel, argument_words, template
from gradtape.runtime.loader import load
from gradtape.runtime.primitives import run_plain

AXPY = template(
    "axpy", "f32", "x:T* y:T* a:T n:i64",
    """
    for i in range(n):
        st(y, i, ld(y, i) + a * ld(x, i))
""",
)  # fmt: skip


def body(name: str, source: str, params: str = "x:T* y:T* n:i64", dtype: str = "f32") -> Kernel:
    return template(name, dtype, params, source)


def test_all_parameter_types_arrive(compiled):
    kernel = Kernel(
        "t_types",
        (
            ("out", "f64*"),
            ("a", "i64"),
            ("b", "i32"),
            ("c", "f32"),
            ("d", "f64"),
            ("flags", "u8*"),
            ("n", "i32*"),
        ),
        """\
def t_types(out, a, b, c, d, flags, n):
    st(out, 0, a)
    st(out, 1, b)
    st(out, 2, c)
    st(out, 3, d)
    st(out, 4, ld(flags, 1))
    st(out, 5, ld(n, 0))
""",
    )
    fast, plain = np.zeros(6), np.zeros(6)
    args = (2**40 + 1, -3, 0.1, 0.1, np.array([0, 5], np.uint8), np.array([-9], np.int32))
    compiled([kernel])(kernel, fast, *args)
    run_plain(kernel, [plain, *args])
    np.testing.assert_array_equal(fast, [2**40 + 1, -3, np.float32(0.1), 0.1, 1, -9])
    np.testing.assert_array_equal(plain, fast)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("\n    st(y, 0, ld(x, 0) * 0.5)", "line 2: the literal 0.5 is float64; write f32(0.5)"),
        ("\n    st(y, 0, ld(x, 0) * n)", "line 2: float32 and int64 give float64"),
        ("\n    st(y, 0, f64(1) * ld(x, 0))", "line 2: float64 and float32 give float64"),
        ("\n    st(y, 0, maximum(ld(x, 0), f64(1)))", "maximum"),
        ("\n    st(y, 0, no_such_thing(n))", "no_such_thing"),
        ("\n    st(y, 0, ", "was never closed"),
    ],
)
def test_an_error_shows_the_source(source, said):
    kernel = body("t_wrong", source)
    with pytest.raises((jit.KernelError, ValueError)) as caught:
        jit.compile_object([kernel])
    message = str(caught.value)
    assert said in message
    assert "1 | def t_wrong_f32(x, y, n):" in message


def test_float_literals_in_casts_are_fine(compiled):
    kernel = body("t_literal", "\n    st(y, 0, f32(0.5) + f32(-0.25) * ld(x, 0) + f32(f64(0.125)) - f32(-inf))")
    y = np.zeros(1, np.float32)
    compiled([kernel])(kernel, np.ones(1, np.float32), y, 1)
    assert y[0] == np.inf


def test_kernel_checks_its_record():
    with pytest.raises(ValueError, match="unknown type 'f16'"):
        Kernel("k", (("x", "f16"),), "def k(x):\n    pass\n")
    with pytest.raises(ValueError, match="the source takes"):
        jit.compile_object([Kernel("k", (("x", "i64"),), "def k(z):\n    pass\n")])
    with pytest.raises(ValueError, match="not one function of that name"):
        jit.compile_object([Kernel("k", (), "def other():\n    pass\n")])
    with pytest.raises(ValueError, match="equal name: axpy_f32"):
        jit.compile_object([AXPY, AXPY])
    with pytest.raises(TypeError, match="x is f32\\*, the array is float64"):
        argument_words(AXPY, [np.zeros(1), np.zeros(1), 0.0, 1])


def test_infinite_masks_and_nan_keep_their_meaning(compiled):
    """The flags allow reordering, not the assumption that infinities and NaN do not occur."""
    source = """
    top = -f32(inf)
    for i in range(n):
        top = maximum(top, ld(x, i))
    total = f32(0)
    for i in range(n):
        e = select(ld(x, i) == -f32(inf), f32(0), exp(ld(x, i) - top))
        st(y, i, e)
        total += e
    for i in range(n):
        st(y, i, select(isnan(total), f32(-1), ld(y, i) / total))
"""
    kernel = body("t_mask", source)
    run = compiled([kernel])
    x = np.linspace(-2, 2, 77).astype(np.float32)
    x[::3] = -np.inf
    y = np.empty_like(x)
    run(kernel, x, y, x.size)
    expected = np.exp(x - x.max()) / np.exp(x - x.max()).sum()
    np.testing.assert_allclose(y, expected, rtol=1e-6)
    assert (y[::3] == 0).all()
    x[5] = np.nan
    run(kernel, x, y, x.size)
    assert (y == -1).all()


def test_division_by_zero_is_numpys(compiled):
    kernel = body("t_division", "\n    for i in range(n):\n        st(y, i, f32(1) / ld(x, i))")
    x = np.array([0.0, -0.0, np.inf, 4, np.nan] * 8, np.float32)
    y = np.empty_like(x)
    compiled([kernel])(kernel, x, y, x.size)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(y, 1 / x)


@pytest.mark.parametrize(
    "source",
    [
        "\n    s = f32(0)\n    for i in range(n):\n        s += ld(x, i)\n    st(y, 0, s)",
        "\n    s = -f32(inf)\n    for i in range(n):\n        s = maximum(s, ld(x, i))\n    st(y, 0, s)",
        "\n    for i in range(n):\n        st(y, i, exp(ld(x, i)) + tanh(ld(x, i)))",
        "\n    for i in range(n):\n        st(y, i, ld(x, i) * uniform32(1, 2, 3, i))",
    ],
)
def test_hot_loops_become_vector_code(source):
    text = str(llvm.parse_bitcode(jit.kernel_bitcode(body("t_vector", source))))
    assert any(f"<{width} x float>" in text for width in (4, 8, 16))


def test_what_is_left_of_short_loops_is_masked(compiled):
    """Every length gives the same sum as elements one by one; the rest is one masked vector."""
    source = """
    v = T(0)
    for i in range(n):
        v = v + exp(ld(x, i))
        short_loop()
    st(x, n + 1, v)
"""
    kernel = template("short", "f32", "x:T* n:i64", source)
    run = compiled([kernel])
    for n in (0, 1, 15, 16, 17, 27, 64, 65):
        x = np.linspace(0, 1, n + 2, dtype=np.float32)
        expected = np.exp(x[:n].astype(np.float64)).sum()
        run(kernel, x, n)
        np.testing.assert_allclose(x[n + 1], expected, rtol=1e-6)
    text = str(llvm.parse_bitcode(jit.kernel_bitcode(kernel)))
    assert "masked.load" in text


def test_a_kernel_is_compiled_once_in_a_process(monkeypatch):
    kernel = body("t_once", "\n    st(y, 0, ld(x, n))")
    first = jit.compile_object([kernel])
    monkeypatch.setattr(jit, "_compile", lambda kernel: pytest.fail(f"{kernel.name} compiled again"))
    again = Kernel(kernel.name, kernel.params, kernel.source)
    assert jit.compile_object([again]) == first
    assert len(jit.compile_object([again, AXPY] if AXPY in jit._bitcode else [again])) > 0


def test_only_entry_points_are_visible():
    obj = llvm.ObjectFileRef.from_data(jit.compile_object([AXPY]))
    assert any(section.is_text() for section in obj.sections())
    for hidden in ("gt.exp.f32", "gt.tanh.f32"):
        with pytest.raises(RuntimeError):
            load(jit.compile_object([AXPY]), [hidden])


FRESH = """
import ctypes, sys
import numpy as np
from gradtape.runtime.kernel import Kernel, argument_words
from gradtape.runtime.loader import load
with open(sys.argv[1], "rb") as file:
    loaded = load(file.read(), ["axpy_f32", "t_libm_f64"])
call = lambda name, words: ctypes.CFUNCTYPE(None, ctypes.c_void_p)(loaded.address[name])(words.ctypes.data)
x, y = np.arange(100, dtype=np.float32), np.ones(100, np.float32)
half = int(np.float32(0.5).view(np.uint32))
call("axpy_f32", np.array([x.ctypes.data, y.ctypes.data, half, 100]))
assert (y == 1 + 0.5 * x).all()
z = np.linspace(0.1, 2, 50)
out = np.empty_like(z)
call("t_libm_f64", np.array([z.ctypes.data, out.ctypes.data, 50]))
assert np.allclose(out, np.exp(z) + np.sin(z), rtol=1e-15, atol=0)
assert "numba" not in sys.modules, "numba was imported"
print("ok")
"""


def test_the_object_runs_in_a_new_process_without_numba(tmp_path):
    libm = body("t_libm", "\n    for i in range(n):\n        st(y, i, exp(ld(x, i)) + sin(ld(x, i)))", dtype="f64")
    (tmp_path / "kernels.o").write_bytes(jit.compile_object([AXPY, libm]))
    done = subprocess.run([sys.executable, "-c", FRESH, tmp_path / "kernels.o"], capture_output=True, text=True)
    assert done.stdout == "ok\n", done.stderr


def test_libraries_in_one_process_are_apart(compiled):
    def constant(value: int) -> Kernel:
        return body("t_same", f"\n    st(y, 0, {value})")

    runs = [(compiled([constant(v)]), constant(v), v) for v in (1, 2)]
    x, y = np.zeros(1, np.float32), np.zeros(1, np.float32)
    for run, kernel, value in runs * 2:
        run(kernel, x, y, 1)
        assert y[0] == value


def test_what_cannot_be_resolved_is_named():
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    module = llvm.parse_assembly(
        "declare void @nowhere_to_be_found()\ndefine void @f() { call void @nowhere_to_be_found() ret void }"
    )
    machine = llvm.Target.from_default_triple().create_target_machine(reloc="pic")
    with pytest.raises(RuntimeError, match="nowhere_to_be_found"):
        load(machine.emit_object(module), ["f"])
    with pytest.raises(RuntimeError, match="no_such_symbol"):
        load(jit.compile_object([]), ["no_such_symbol"])
    with pytest.raises(RuntimeError, match="cannot be loaded"):
        load(b"not an object", ["f"])
    assert load(jit.compile_object([]), driver.SYMBOLS).address["gt_run"] > 0


def test_plain_pointers_refuse_what_lies_outside():
    kernel = body("t_outside", "\n    st(y, 0, ld(x, n))")
    x = np.zeros(3, np.float32)
    for n in (-1, 3):
        with pytest.raises(IndexError, match=f"element {n} of a buffer of 3"):
            run_plain(kernel, [x, x.copy(), n])
