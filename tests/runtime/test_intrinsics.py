"""Every primitive, compiled, against NumPy and against its plain-Python meaning."""

import math

import numpy as np
import pytest

from gradtape.ir.random import philox4x32, philox_u32, uniform
from gradtape.ir.scalar import FUNCTIONS
from gradtape.runtime import jit, primitives
from gradtape.runtime.kernel import Kernel, template
from gradtape.runtime.primitives import run_plain

LOOP = """
    for j in range(n):
        st(y, j, {})
"""


def math_kernel(name: str, inputs: str, expression: str, dtype: str, result: str = "T*") -> Kernel:
    """y[j] = expression of a = x0[j], b = x1[j] ..., in a loop that the compiler may vectorise."""
    params = " ".join(f"x{i}:T*" for i in range(len(inputs)))
    for i, letter in enumerate(inputs):
        expression = expression.replace(f"${letter}", f"ld(x{i}, j)")
    return template(f"t_{name}", dtype, f"{params} y:{result} n:i64", LOOP.format(expression))


UNARY = {
    "sqrt": np.sqrt, "exp": np.exp, "expm1": np.expm1, "exp2": np.exp2, "log": np.log, "log1p": np.log1p,
    "log2": np.log2, "log10": np.log10, "tanh": np.tanh, "erf": np.vectorize(math.erf, otypes=[np.float64]),
    "erfinv": FUNCTIONS["erfinv"],
    "sin": np.sin, "cos": np.cos, "tan": np.tan, "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan,
    "sinh": np.sinh, "cosh": np.cosh, "asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh,
    "floor": np.floor, "ceil": np.ceil, "trunc": np.trunc, "rint": np.rint, "fabs": np.abs, "sign": np.sign,
}  # fmt: skip
BINARY = {
    "copysign": np.copysign, "nextafter": np.nextafter, "pow": np.power, "atan2": np.arctan2, "hypot": np.hypot,
    "maximum": np.maximum, "minimum": np.minimum, "fmax": np.fmax, "fmin": np.fmin,
}  # fmt: skip
TESTS = {"isnan": np.isnan, "isinf": np.isinf, "isfinite": np.isfinite}
# Units in the last place against float64, where it is not the default 2 of libm.
ULP = {"tanh": 3, "erf": 8, "erfinv": 4, "log2": 2, "log10": 2, "expm1": 2, "tan": 3}
EXACT = "sqrt floor ceil trunc rint fabs sign copysign nextafter maximum minimum fmax fmin"

KERNELS = {
    **{(n, t): math_kernel(n, "a", f"{n}($a)", t) for n in UNARY for t in ("f32", "f64")},
    **{(n, t): math_kernel(n, "ab", f"{n}($a, $b)", t) for n in BINARY for t in ("f32", "f64")},
    **{(n, t): math_kernel(n, "a", f"{n}($a)", t, "u8*") for n in TESTS for t in ("f32", "f64")},
    **{("fma", t): math_kernel("fma", "abc", "fma($a, $b, $c)", t) for t in ("f32", "f64")},
    **{("select", t): math_kernel("select", "ab", "select($a < $b, $a, $b)", t) for t in ("f32", "f64")},
}
DTYPES = {"f32": np.float32, "f64": np.float64}


@pytest.fixture(scope="module")
def run(compiled):
    return compiled(list(KERNELS.values()))


def apply(run, name, dtype, *arrays, out=None):
    """The compiled primitive over arrays."""
    out = np.empty(arrays[0].shape, DTYPES[dtype]) if out is None else out
    run(KERNELS[name, dtype], *(np.ascontiguousarray(a, DTYPES[dtype]) for a in arrays), out, out.size)
    return out


def samples(name: str) -> np.ndarray:
    """Dense values, in and around the function's domain."""
    low, high = {
        "exp": (-87, 88.5), "expm1": (-30, 88.5), "exp2": (-125.9, 127.9),
        "sinh": (-85, 85), "cosh": (-85, 85),
        "asin": (-1, 1), "acos": (-1, 1), "atanh": (-0.9999, 0.9999), "acosh": (1, 1e4), "erf": (-5, 5),
        "erfinv": (-1, 1), "tanh": (-12, 12), "log1p": (-0.9999, 50),
    }.get(name, (-50, 50))  # fmt: skip
    around = np.linspace(low, high, 40_001)
    small = np.geomspace(1e-30, 0.5, 5_000)
    if name in ("log", "log2", "log10", "sqrt"):
        return np.concatenate([np.geomspace(1e-45, 3e38, 30_000), np.linspace(0.4, 3, 30_000)])
    if name == "acosh":
        return around
    return np.concatenate([around, small, -small])


def ulps(got: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Distance in units in the last place of got's type; equal infinities and NaNs are at distance 0."""
    wide = exact.astype(np.longdouble)
    rounded = exact.astype(got.dtype)
    tiny = np.finfo(got.dtype).tiny
    distance = np.abs(got - wide) / np.spacing(np.maximum(np.abs(rounded), tiny))
    same = (got == rounded) | (np.isnan(got) & np.isnan(rounded))
    return np.where(same, 0, distance)


@pytest.mark.parametrize("name", UNARY)
def test_float32_functions_are_near_float64(run, name):
    x = samples(name).astype(np.float32)
    with np.errstate(all="ignore"):
        exact = UNARY[name](x.astype(np.float64))
        distance = ulps(apply(run, name, "f32", x), exact)
    limit = 0 if name in EXACT.split() and name != "sqrt" else ULP.get(name, 2)
    assert distance.max() <= limit, f"{name}: {distance.max()} ulp at {x[distance.argmax()]!r}"


@pytest.mark.parametrize("name", UNARY)
def test_float64_functions_are_numpys(run, name):
    x = samples(name)
    with np.errstate(all="ignore"):
        distance = ulps(apply(run, name, "f64", x), UNARY[name](x))
    limit = 0 if name in EXACT.split() else 4
    assert distance.max() <= limit, f"{name}: {distance.max()} ulp at {x[distance.argmax()]!r}"


SPECIAL = np.array(
    [0.0, -0.0, 1, -1, 0.5, -0.5, 2.5, 3.5, 1e-40, -1e-40, 200, -200, 1e30, -1e30, np.inf, -np.inf, np.nan]
)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [*UNARY, *TESTS])
def test_special_values_are_numpys(run, name, dtype):
    x = SPECIAL.astype(DTYPES[dtype])
    reference = UNARY.get(name) or TESTS[name]
    with np.errstate(all="ignore"):
        expected = reference(x).astype(bool if name in TESTS else DTYPES[dtype])
    if name in TESTS:
        np.testing.assert_array_equal(apply(run, name, dtype, x, out=np.empty(x.shape, bool)), expected)
        return
    got = apply(run, name, dtype, x)
    huge = np.abs(x) > 1e9  # libm's argument reduction is not ours to test
    keep = ~huge | ~np.isfinite(x) if name in ("sin", "cos", "tan") else slice(None)
    np.testing.assert_allclose(got[keep], expected[keep], rtol=1e-6, atol=0)


def test_masked_scores_vanish_exactly(run):
    x = np.array([-np.inf, -104, -1e30, -88, 89, 1e30, np.inf, np.nan], np.float32)
    got = apply(run, "exp", "f32", x)
    assert got[0] == got[1] == got[2] == 0
    assert 0 < got[3] < 1e-38  # below the normal range, not flushed
    assert got[4] == got[5] == got[6] == np.inf
    assert np.isnan(got[7])


def test_tanh_and_erf_reach_one_and_never_exceed_it(run):
    x = np.linspace(-20, 20, 400_001).astype(np.float32)
    for name in ("tanh", "erf"):
        got = apply(run, name, "f32", x)
        assert np.abs(got).max() == 1
        assert (np.abs(got[np.abs(x) > 9.5]) == 1).all()
        assert (np.sign(got) == np.sign(x)).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", BINARY)
def test_binary_functions_are_numpys(run, name, dtype):
    values = np.array([0.0, 1.5, -1.5, 2, -3, 0.1, 7, np.inf, -np.inf, np.nan])
    a, b = (v.ravel().astype(DTYPES[dtype]) for v in np.meshgrid(values, values))
    with np.errstate(all="ignore"):
        expected = BINARY[name](a, b)
    got = apply(run, name, dtype, a, b)
    if name in EXACT.split():
        np.testing.assert_array_equal(got, expected)
    else:
        np.testing.assert_allclose(got, expected, rtol=4 * np.finfo(DTYPES[dtype]).eps)


def test_fma_rounds_once(run):
    a = np.full(40, 1 + 2.0**-12, np.float32)
    expected = np.float32((1 + 2.0**-12) ** 2 - (1 + 2.0**-11))
    assert expected != 0
    np.testing.assert_array_equal(apply(run, "fma", "f32", a, a, np.full(40, -(1 + 2.0**-11))), expected)


GELU = """
    for j in range(n):
        t = ld(x, j)
        u = T(0.7978845608) * (t + T(0.044715) * t * t * t)
        slope = T(0.7978845608) * (T(1) + T(0.134145) * t * t)
        {}
        st(y, j, t * half)
        st(d, j, half + T(2) * t * half * rest * slope)
"""
# half = (1 + tanh u) / 2 = sigmoid(2 u); rest = 1 - half. tanh cancels on the left, where only the absolute
# error stays small: 2 ulp of tanh, times the slope. The sigmoid keeps the relative error as well, and is
# faster.
FORMS = {
    "tanh": ("h = tanh(u); half = T(0.5) * (T(1) + h); rest = T(0.5) * (T(1) - h)", 1e-6, 3e-6),
    "sigmoid": ("e = exp(T(-2) * u); half = T(1) / (T(1) + e); rest = T(1) - half", 1e-5, 1e-30),
}


@pytest.mark.parametrize("form", FORMS)
def test_gelu_and_its_derivative_keep_their_accuracy(compiled, form):
    lines, rtol, atol = FORMS[form]
    kernel = template(f"t_gelu_{form}", "f32", "x:T* y:T* d:T* n:i64", GELU.format(lines))
    x = np.linspace(-12, 12, 50_001).astype(np.float32)
    y, d = np.empty_like(x), np.empty_like(x)
    compiled([kernel])(kernel, x, y, d, x.size)
    t = x.astype(np.longdouble)
    u = 0.7978845608 * (t + 0.044715 * t**3)
    half = 1 / (1 + np.exp(-2 * u))
    slope = 0.7978845608 * (1 + 0.134145 * t * t)
    np.testing.assert_allclose(y, t * half, rtol=rtol, atol=atol)
    scale = np.abs(half) + np.abs(2 * t * half * (1 - half) * slope)  # the two summands of the derivative
    assert (np.abs(d - (half + 2 * t * half * (1 - half) * slope)) <= rtol * scale + atol).all()
    if form == "tanh":
        assert (y[t < -8] == 0).all() and (d[t < -8] == 0).all()


def test_every_primitive_has_both_meanings():
    assert set(primitives.NAMES) == set(jit.intrinsics.PRIMITIVES) == set(primitives.environment()) - {"inf", "nan"}
    assert set(UNARY) | set(BINARY) | set(TESTS) <= set(primitives.NAMES)


@pytest.mark.parametrize("dtype", DTYPES)
def test_plain_python_agrees_with_compiled(run, dtype):
    x = np.array([0.3, -0.7, 1.0, 0.0, 2.5, -3.5, 30.0, -np.inf, np.nan], DTYPES[dtype])
    y = np.array([0.3, 0.7, -1.0, 2.0, -2.5, 3.0, 0.1, 1.0, 0.0], DTYPES[dtype])
    for (name, kind), kernel in KERNELS.items():
        if kind != dtype:
            continue
        count = len(kernel.params) - 2
        arrays = [x, y, x][:count]
        result = bool if kernel.params[-2][1] == "u8*" else DTYPES[dtype]
        plain, fast = np.empty(x.shape, result), np.empty(x.shape, result)
        run_plain(kernel, [*arrays, plain, x.size])
        run(kernel, *arrays, fast, x.size)
        np.testing.assert_allclose(fast, plain, rtol=8 * np.finfo(DTYPES[dtype]).eps, err_msg=name)


INTEGERS = template(
    "t_integers", "f32", "x:i64* y:i64* power:i64* up:i64* down:i64* n:i64",
    """
    for j in range(n):
        st(power, j, ipow(ld(x, j), ld(y, j)))
        st(up, j, shl(ld(x, j), ld(y, j)))
        st(down, j, shr(ld(x, j), ld(y, j)))
""",
)  # fmt: skip


def test_integer_powers_and_shifts(compiled):
    values = np.array([0, 1, -1, 2, -2, 3, -3, 10, 31, 32, 62, 63, 64, 65, -(2**63), 2**63 - 1])
    x, y = (v.ravel() for v in np.meshgrid(values, values))
    fast, plain = ([np.empty_like(x) for _ in range(3)] for _ in range(2))
    compiled([INTEGERS])(INTEGERS, x, y, *fast, x.size)
    run_plain(INTEGERS, [x, y, *plain, x.size])
    for got in (fast, plain):
        np.testing.assert_array_equal(got[0][y >= 0], np.power(x, np.maximum(y, 0))[y >= 0])
        np.testing.assert_array_equal(got[0][y < 0], np.where(x == 1, 1, np.where(x == -1, 1 - 2 * (y & 1), 0))[y < 0])
        inside = (y >= 0) & (y < 64)
        np.testing.assert_array_equal(got[1], np.where(inside, x << (y & 63), 0))
        np.testing.assert_array_equal(got[2], np.where(inside, x >> (y & 63), x >> 63))


def test_casts_and_integers(compiled):
    kernel = Kernel(
        "t_casts",
        (("x", "f32*"), ("i", "i64*"), ("b", "u8*"), ("narrow", "i32*"), ("out", "f64*")),
        """\
def t_casts(x, i, b, narrow, out):
    st(out, 0, i64(ld(x, 0)))
    st(out, 1, i64(ld(x, 1)))
    st(out, 2, ld(i, 0) // ld(i, 1))
    st(out, 3, ld(i, 0) % ld(i, 1))
    st(out, 4, f32(ld(i, 0)) / f32(2))
    st(b, 0, ld(x, 0) > f32(1))
    st(b, 1, f32(0))
    st(b, 2, 7)
    st(out, 5, select(ld(b, 0), ld(b, 2), ld(b, 1)))
    st(narrow, 0, ld(i, 2))
    st(out, 6, ld(narrow, 0))
    st(out, 7, i32(ld(i, 2)))
    st(out, 8, maximum(ld(i, 0), ld(i, 1)) - minimum(ld(i, 0), 5))
    st(out, 9, sign(ld(i, 0)) * fabs(ld(i, 0)))
    st(out, 10, boolean(ld(x, 2)))
    st(out, 11, f64(ld(x, 1)) * f64(0.1))
    st(out, 12, ld(at(x, 2), -1))
""",
    )

    def fresh():
        arrays = np.array([2.75, -2.75, 0], np.float32), np.array([-7, 3, 2**32 + 5])
        return *arrays, np.zeros(3, bool), np.zeros(1, np.int32), np.zeros(13)

    fast, plain = fresh(), fresh()
    compiled([kernel])(kernel, *fast)
    run_plain(kernel, plain)
    expected = [2, -2, -3, 2, -3.5, 1, 5, 5, 10, -7, 0, -2.75 * 0.1, -2.75]
    for out in (fast, plain):
        np.testing.assert_array_equal(out[4], expected)
        np.testing.assert_array_equal(out[2], [True, False, True])


@pytest.mark.parametrize(
    ("counter", "key", "result"),
    [  # the known answers that come with Random123
        ((0,) * 4, (0,) * 2, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_known_answers(counter, key, result):
    np.testing.assert_array_equal(philox4x32(np.array(counter, np.uint64)[:, None], key)[:, 0], result)


RANDOM = template(
    "t_random", "f32", "bits:i64* u:T* seed:i64 step:i64 site:i64 first:i64 n:i64",
    """
    for j in range(n):
        st(bits, j, philox(seed, step, site, first + j))
        st(u, j, uniform32(seed, step, site, first + j))
""",
)  # fmt: skip


def test_random_numbers_are_the_same_bits_everywhere(compiled):
    run = compiled([RANDOM])
    for seed, step, site, first in [
        (0, 0, 0, 0),
        (2**40 + 3, 17, 5, 2**32 - 100),
        (-1, 2**31, 2**31 - 1, 2**50),
    ]:
        bits, u = np.empty(1003, np.int64), np.empty(1003, np.float32)
        run(RANDOM, bits, u, seed, step, site, first, 1003)
        index = np.arange(first, first + 1003)
        np.testing.assert_array_equal(bits, philox_u32(seed, step, site, index))
        np.testing.assert_array_equal(u, uniform(seed, step, site, index))
        plain_bits, plain_u = bits[:3].copy(), u[:3].copy()
        run_plain(RANDOM, [plain_bits, plain_u, seed, step, site, first, 3])
        np.testing.assert_array_equal(plain_bits, bits[:3])
        np.testing.assert_array_equal(plain_u, u[:3])
        assert u.dtype == np.float32 and u.min() >= 0 and u.max() < 1
    assert abs(u.mean() - 0.5) < 0.05


def test_philox_keeps_the_shape_and_depends_on_each_part():
    index = np.arange(6).reshape(2, 3)
    base = philox_u32(1, 2, 3, index)
    assert base.shape == (2, 3) and base.dtype == np.uint32
    for seed, step, site in [(2, 2, 3), (1, 3, 3), (1, 2, 4), (1 + 2**32, 2, 3)]:
        assert (philox_u32(seed, step, site, index) != base).all()
    assert (philox_u32(1, 2, 3, index + 2**32) != base).all()
