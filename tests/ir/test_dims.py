import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradtape.ir.dims import (
    Dim,
    DimScope,
    Guard,
    Symbol,
    bind_shape,
    bounds,
    compare,
    dim_scope,
    divide,
    evaluate,
    identical,
    parse_dim,
    product,
    quiet,
    require_equal,
    same_shape,
    substitute,
    symbols_of,
)

B, C, T = Dim("B"), Dim("C"), Dim("T")
NAMES = ("B", "C", "T")
fast = settings(derandomize=True, max_examples=100, deadline=None)


def a_scope(**hints: Any) -> DimScope:
    """Symbols with hints, or with `Symbol`s as they are; guards say that line 7 asked."""
    symbols = {n: h if isinstance(h, Symbol) else Symbol(n, hint=h) for n, h in hints.items()}
    return DimScope(symbols, where=lambda: "model.py:7")


def guards(scope: DimScope) -> list[str]:
    return [str(g) for g in scope.guards]


# arithmetic -----------------------------------------------------------------------------------------------------
terms = st.dictionaries(
    st.lists(st.sampled_from(NAMES), max_size=3).map(lambda n: tuple(sorted(n))), st.integers(-4, 4)
)
polynomials = terms.map(lambda t: product([1]) * 0 + sum((c * product(map(Dim, n)) for n, c in t.items()), 0))
numbers = st.fixed_dictionaries({n: st.integers(1, 9) for n in NAMES})


@fast
@given(polynomials, polynomials, numbers)
def test_arithmetic_is_that_of_the_values(a: Any, b: Any, values: dict) -> None:
    for op in (operator.add, operator.sub, operator.mul):
        assert evaluate(op(a, b), values) == op(evaluate(a, values), evaluate(b, values))
    assert evaluate(-a, values) == -evaluate(a, values)
    assert evaluate(a**2, values) == evaluate(a, values) ** 2


@fast
@given(polynomials, polynomials)
def test_equal_polynomials_are_identical(a: Any, b: Any) -> None:
    assert identical((a + b) * (a - b), a * a - b * b)
    assert identical(a - a, 0)
    assert hash(a * b) == hash(b * a)
    assert type(a - a) is int  # a constant polynomial is an int


@fast
@given(polynomials)
def test_the_text_comes_back(a: Any) -> None:
    assert identical(parse_dim(str(a)), a)


@fast
@given(polynomials, numbers)
def test_substitution_is_evaluation(a: Any, values: dict) -> None:
    assert substitute(a, values) == evaluate(a, values)
    assert identical(substitute(a, {"B": C, "C": B}), substitute(substitute(a, {"B": T * 0 + C, "C": B}), {}))


@fast
@given(polynomials, st.sampled_from([1, 2, -3, B, 2 * B, B * T, C * C]))
def test_exact_division_undoes_the_product(a: Any, b: Any) -> None:
    if isinstance(a, Dim):
        assert identical(divide(a * b, b), a)


@fast
@given(polynomials, numbers)
def test_bounds_hold(a: Any, values: dict) -> None:
    with dim_scope(DimScope({n: Symbol(n, 1, 9) for n in NAMES})):
        low, high = bounds(a)
    assert low <= evaluate(a, values) <= high


@pytest.mark.parametrize(
    ("dim", "text"),
    [
        (T + 1, "T + 1"),
        (1 - T, "-T + 1"),
        (B * T * 2, "2*B*T"),
        (T * T - 3 * B + 0, "T*T - 3*B"),
        (-(B * T) - 1, "-B*T - 1"),
        (T**3, "T*T*T"),
    ],
)
def test_how_a_dim_is_printed(dim: Dim, text: str) -> None:
    assert str(dim) == repr(dim) == text
    assert identical(parse_dim(text), dim)


@pytest.mark.parametrize(
    "text", ["", " ", "+", "T +", "T + + 1", "2 - -3", "2T", "T 2", "3.5", "T*", "*T", "T**2", "(T)", "T $", "é"]
)
def test_what_is_no_dimension(text: str) -> None:
    with pytest.raises(ValueError, match="not a dimension"):
        parse_dim(text)


def test_numbers_of_numpy_and_python() -> None:
    for three in (3, np.int64(3), np.int32(3)):
        assert str(T * three) == "3*T" == str(three * T)
        assert str(T + three) == "T + 3" == str(three + T)
        assert str(three - T) == "-T + 3"
        assert str(np.add(T, three)) == "T + 3" and f"{T:d}" == "T"
    for wrong in ("3", None, [3], True):
        with pytest.raises(TypeError):
            T + wrong
    assert (T == "T") is False


@pytest.mark.parametrize("name", ["", "2T", "a b", "a-b", "é", "nan", "inf", "true", "none", None])
def test_names(name: Any) -> None:
    with pytest.raises(ValueError, match="a Dim is named by an identifier, not"):
        Dim(name)


def test_declared_bounds() -> None:
    dim = Dim("T", min=2, max=64)
    assert (dim.min, dim.max, dim.symbol) == (2, 64, "T")
    assert (dim + 1).symbol is None
    for low, high in ((-1, None), (3, 2)):
        with pytest.raises(ValueError, match=f"Dim T has no size: min is {low}, max is {high}"):
            Dim("T", min=low, max=high)


def test_division() -> None:
    assert identical(divide(6 * B * T, 2 * T), 3 * B)
    assert identical(divide(B * T + T, T), B + 1)
    assert identical(divide(B + T, B + T), 1)
    for a, b in ((B, T), (B + 1, B), (3 * B, 2), (B, 0), (5, 2), (5, 0), (B * T + T, B + 1)):
        assert divide(a, b) is None
    assert str(6 * B // 3) == "2*B"
    assert (6 * B % 3, B * T % T) == (0, 0)


def test_products_and_symbols() -> None:
    assert identical(product([B, 2, T]), 2 * B * T)
    assert product([]) == 1
    assert symbols_of(B * T + 1, 3, C) == {"B", "C", "T"}
    with pytest.raises(KeyError):
        evaluate(B * T, {"B": 2})


# comparisons ----------------------------------------------------------------------------------------------------
def test_what_bounds_decide_is_not_recorded() -> None:
    scope = a_scope(B=7, T=Symbol("T", 2, 64, 11))
    with dim_scope(scope):
        assert T <= 64 and T < 65 and T >= 2 and T > 1 and not T > 64
        assert T != 65 and T != 0 and bool(T) and T + 1 > 2
        assert B + 1 > B and Dim("B") == B and B != B + 1
        assert Symbol("C", 4, 4) and not guards(scope)


def test_an_inequality_becomes_a_guard() -> None:
    scope = a_scope(B=7, T=11)
    with dim_scope(scope):
        assert T <= 64
        assert not T > 64  # known by now
        assert T < 64
        assert B < T
        assert not T <= B  # the same fact
        assert T > 3
        assert not (B + T > 100)
    assert guards(scope) == ["T <= 64", "T < 64", "B < T", "3 < T", "B + T <= 100"]
    assert scope.symbols["T"].max == 64
    assert {g.where for g in scope.guards} == {"model.py:7"}


def test_recording_one_guard_records_no_other() -> None:
    """Guards are compared as facts: whether `B <= 64` is `T <= 64` must not ask whether B equals T."""
    scope = a_scope(B=7, T=11)
    with dim_scope(scope):
        assert B <= 64 and T <= 64 and B * T <= 4000
        assert Guard("<=", B, 64) != Guard("<=", T, 64)
        assert Guard("<=", B, 64) == Guard("<=", Dim("B"), 64)
    assert guards(scope) == ["B <= 64", "T <= 64", "B*T <= 4000"]


def test_an_equality_pins() -> None:
    scope = a_scope(B=7, T=7)
    with dim_scope(scope):
        assert T == 7
        assert T == 7 and T < 8 and T != 6 and T * 2 == 14  # all known by now
        assert guards(scope) == ["T == 7"]
        assert B == T
        assert guards(scope) == ["T == 7", "B == 7"]


def test_an_unequal_one_is_recorded_as_such() -> None:
    scope = a_scope(B=7, T=11)
    with dim_scope(scope):
        assert B != T
        assert operator.eq(B, T) is False
        assert B != 5
    assert guards(scope) == ["B != T", "B != 5"]


EXITS: list[Callable[[Dim], Any]] = [
    int,
    operator.index,
    float,
    range,
    lambda t: [0] * t,
    lambda t: np.zeros(t),
    lambda t: np.arange(20)[:t],
    lambda t: t // 2,
    lambda t: 64 // t,
    lambda t: t % 2,
    lambda t: 64 % t,
]


@pytest.mark.parametrize("leave", EXITS)
def test_what_needs_a_number_pins(leave: Callable[[Dim], Any]) -> None:
    scope = a_scope(T=11)
    with dim_scope(scope):
        result, expected = leave(T), leave(11)  # type: ignore[arg-type]
    np.testing.assert_array_equal(np.asarray(result), np.asarray(expected))
    assert guards(scope) == ["T == 11"]
    assert scope.guards[0].where == "model.py:7"


def test_exact_division_pins_nothing() -> None:
    scope = a_scope(T=11)
    with dim_scope(scope):
        assert str(4 * T // 2) == "2*T" and 4 * T % 2 == 0
    assert scope.guards == []


def test_a_polynomial_pins_all_its_symbols() -> None:
    scope = a_scope(B=7, T=11)
    with dim_scope(scope):
        assert int(B * T + 1) == 78
    assert guards(scope) == ["B == 7", "T == 11"]


def test_as_a_number_it_is_a_runtime_value() -> None:
    scope = a_scope(T=11)
    scope.scalar = lambda dim: 1000.0 + int(scope.hint(dim))
    with dim_scope(scope):
        assert (T / 2, 2 / T, T * 0.5, T + 0.5, T**0.5, T**-1, 2**T) == (
            505.5, 2 / 1011, 505.5, 1011.5, 1011**0.5, 1 / 1011, 2**1011,
        )  # fmt: skip
    assert scope.guards == []


def test_without_a_trace_it_has_no_value() -> None:
    for use in (int, float, lambda t: t / 2, lambda t: t * 0.5, lambda t: 7 % t):
        with pytest.raises(TypeError, match="dimension T has no concrete value here: it is symbolic in this program"):
            use(T)
    with pytest.raises(TypeError, match="cannot decide T <= 64: the dimensions are symbolic"):
        operator.le(T, 64)
    assert T != 64 and T >= 1


def test_without_a_hint_it_has_no_value() -> None:
    """A program that was read from text has symbols, but no values of a trace."""
    scope = DimScope({"T": Symbol("T")}, [Guard("==", B, 8), Guard("<=", C, T)])
    with dim_scope(scope):
        with pytest.raises(TypeError, match="no concrete value"):
            int(T)
        with pytest.raises(TypeError, match="cannot decide"):
            operator.lt(T, 64)
        assert T != 64
        assert B == 8 and B != 7 and 2 * B == 16  # the guards of the text still count
        assert C <= T and not T < C
    assert guards(scope) == ["B == 8", "C <= T"]


def test_quiet_records_nothing() -> None:
    scope = a_scope(B=7, T=7)
    with dim_scope(scope), quiet():
        assert B != T and Dim("B") == B
        with pytest.raises(TypeError, match="cannot decide"):
            operator.lt(B, T)
        with quiet():
            assert B != 7
        assert B != 7  # still quiet
        assert scope.guards == []
        assert require_equal(B, T)  # a type rule asks as the user would
        assert guards(scope) == ["B == 7", "T == 7"]
        assert scope.quiet
    assert not scope.quiet


def test_scopes_nest() -> None:
    outer, inner = a_scope(T=11), a_scope(T=5)
    with dim_scope(outer):
        with dim_scope(inner):
            assert int(T) == 5
        with dim_scope(None), pytest.raises(TypeError):
            int(T)
        assert int(T) == 11
    assert (guards(outer), guards(inner)) == (["T == 11"], ["T == 5"])


@fast
@given(polynomials, polynomials, numbers, st.sampled_from(["==", "<=", "<"]))
def test_comparisons_are_those_of_the_hints_and_their_guards_hold(a: Any, b: Any, values: dict, op: str) -> None:
    scope = a_scope(**values)
    compared = {"==": operator.eq, "<=": operator.le, "<": operator.lt}[op]
    with dim_scope(scope):
        assert compare(op, a, b) == compared(evaluate(a, values), evaluate(b, values))
    assert all(g.holds(values) for g in scope.guards)


@fast
@given(polynomials, polynomials, numbers, numbers, st.sampled_from(["==", "<=", "<"]))
def test_where_the_guards_hold_the_answer_is_the_same(a: Any, b: Any, values: dict, others: dict, op: str) -> None:
    """What makes a trace reusable: other sizes that pass its guards would have taken the same branch."""
    scope = a_scope(**values)
    with dim_scope(scope):
        answer = compare(op, a, b)
    if all(g.holds(others) for g in scope.guards):
        assert answer == compare(op, evaluate(a, others), evaluate(b, others))


def test_shapes_are_compared_without_asking() -> None:
    scope = a_scope(B=7, T=7)
    with dim_scope(scope):
        assert same_shape((B, 3), (Dim("B"), 3))
        assert not same_shape((B,), (T,)) and not same_shape((B,), (7,)) and not same_shape((B,), (B, 1))
    assert scope.guards == []


# binding --------------------------------------------------------------------------------------------------------
def test_a_shape_gives_its_symbols_their_values() -> None:
    values: dict[str, int] = {}
    assert bind_shape((B, T, 3, B * T), (2, 5, 3, 10), values) is None
    assert values == {"B": 2, "T": 5}
    assert bind_shape((T + 1,), (6,), values) is None


@pytest.mark.parametrize(
    ("shape", "actual", "says"),
    [
        ((B, 3), (2, 4), "3 is 3 here, got 4"),
        ((B, 3), (2,), "expected 2 dimensions, got 1"),
        ((B, B), (2, 3), "B is 2 here, got 3"),
        ((B, 2 * B), (2, 5), r"2\*B is 4 here, got 5"),
        ((2 * B, B), (5, 2), r"2\*B is 4 here, got 5"),
        ((T,), (6,), "T is 5 here, got 6"),
    ],
)
def test_a_shape_that_does_not_fit(shape: tuple, actual: tuple, says: str) -> None:
    import re

    misfit = bind_shape(shape, actual, {"T": 5})
    assert misfit and re.fullmatch(says, misfit)
