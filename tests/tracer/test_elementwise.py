"""Elementwise functions that are more than their op: integer powers, bits, rounding to decimals."""

import numpy as np
import pytest

import gradtape
from gradtape import tracer as gt
from gradtape.ir.interp import evaluate_graph
from gradtape.ir.verify import verify

WHOLE = np.array([[3, -4, 0], [7, 1, -1]])
FLAGS = WHOLE > 0
X = np.array([0.125, -2.5, 2.675, 1e4], np.float32)

CASES = {
    "bits": (lambda n: (n & 6) | (n ^ 3), WHOLE),
    "bits of bools": (lambda b: (b & True) ^ FLAGS[::-1] | ~b, FLAGS),
    "invert": (lambda n: ~n, WHOLE),
    "shifts": (lambda n: (n << 3) + (n >> 1) + (1 << n * n), WHOLE),
    "numpy bits": (lambda n: np.bitwise_and(n, 6) + np.invert(n) + np.left_shift(n, 2) + np.right_shift(n, 1), WHOLE),
    "numpy bits of bools": (lambda b: np.bitwise_or(b, FLAGS[::-1]) & np.invert(b), FLAGS),
    "power": (lambda n: n**5 + n ** (n * n), WHOLE),
    "numpy power": (lambda n: np.power(n, 2), WHOLE),
    "int32": (lambda n: n**21, WHOLE.astype(np.int32)),
    "round": (lambda x: np.round(x, 1) + np.round(x), X),
    "positive": (lambda x: np.positive(+x), X),
    "nextafter": (lambda x: np.nextafter(x, 0.0), X),
}


@pytest.mark.parametrize("name", CASES)
def test_numpys_results(name):
    f, x = CASES[name]
    traced = gt.trace(f, x)
    assert traced.ledger.escapes == []
    got, expected = evaluate_graph(verify(traced.graph), traced.bind(x))["out"], f(x)
    np.testing.assert_array_equal(got, expected)
    assert got.dtype == expected.dtype


def test_functions_of_bits_take_bools_and_integers_eagerly():
    assert gt.bitwise_and(WHOLE, 3).tolist() == (WHOLE & 3).tolist()
    assert gt.bitwise_xor(FLAGS, True).dtype == bool and gt.bitwise_invert(FLAGS).tolist() == (~FLAGS).tolist()
    assert gt.bitwise_invert(WHOLE).tolist() == (~WHOLE).tolist()


@pytest.mark.parametrize(
    ("f", "text"),
    [
        (lambda n: n**-1, r"pow: an integer to the power -1 is no integer; write x.astype\('float32'\) \*\* -1"),
        (lambda n: np.power(n, -2), "an integer to the power -2"),
        (lambda n: n & 1.5, r"bitwise_and: needs integers, got f32\[2, 3\]"),
        (lambda n: n.astype("f32") & FLAGS, r"logical_and: needs bool operands"),
        (lambda n: n.astype("f32") << 1, "bitwise_left_shift: needs integers"),
    ],
)
def test_errors(f, text):
    with pytest.raises(TypeError, match=text) as error:
        gt.trace(f, WHOLE)
    assert f"{__file__}:{f.__code__.co_firstlineno}" in str(error.value)


def test_a_negative_power_that_is_no_number_is_cut():
    assert gt.pow(np.array([1, -1, -1, 2, 0]), np.array([-3, -3, -2, -1, -1])).tolist() == [1, -1, 1, 0, 0]


ARRAY_API = """abs acos acosh add asin asinh atan atan2 atanh bitwise_and bitwise_left_shift bitwise_invert bitwise_or
bitwise_right_shift bitwise_xor ceil clip copysign cos cosh divide equal exp expm1 floor floor_divide greater
greater_equal hypot isfinite isinf isnan less less_equal log log1p log2 log10 logaddexp logical_and logical_not
logical_or logical_xor maximum minimum multiply negative nextafter not_equal positive pow reciprocal remainder round
sign signbit sin sinh square sqrt subtract tan tanh trunc""".split()


def test_the_array_api_standards_functions_are_public():
    """All elementwise functions of its 2024 edition but conj, imag and real: there are no complex numbers."""
    assert [name for name in ARRAY_API if not callable(getattr(gradtape, name, None))] == []
