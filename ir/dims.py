"""Dimensions: an int, or a `Dim`, a polynomial with integer coefficients over named symbols (`B*T`, `T + 1`).

A `Dim` is deliberately not an int: NumPy would bake its value without calling any hook. What needs a number asks for it
(`int(T)`, `range(T)`, `T == 64`), and that *pins* the symbol: the program is then valid for that one value, and the
line that pinned it is recorded. Inequalities only record a range guard (`assert T <= context` costs nothing).
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Union

DimLike = Union[int, "Dim"]
Shape = tuple[DimLike, ...]


@dataclass(frozen=True)
class Symbol:
    """A named dimension: its bounds (inclusive; `max` None is unbounded) and the concrete value of the trace."""

    name: str
    min: int = 1
    max: int | None = None
    hint: int | None = None


@dataclass(frozen=True)
class Guard:
    """A fact that the trace relied on: `left op right`; `where` is the user's line that asked."""

    op: str
    left: DimLike
    right: DimLike
    where: str = ""

    def holds(self, values: Mapping[str, int]) -> bool:
        left, right = evaluate(self.left, values), evaluate(self.right, values)
        return _COMPARE[self.op](left, right)

    def says(self, op: str, left: DimLike, right: DimLike) -> bool:
        """Whether it is the fact `left op right`; records nothing, unlike `==` of Dims."""
        return self.op == op and identical(self.left, left) and identical(self.right, right)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Guard) and self.where == other.where and self.says(other.op, other.left, other.right)

    def __str__(self) -> str:
        return f"{self.left} {self.op} {self.right}"


_COMPARE: dict[str, Callable[[int, int], bool]] = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<=": lambda a, b: a <= b,
    "<": lambda a, b: a < b,
}


@dataclass
class DimScope:
    """What is known of the symbols while a program is traced or transformed, and what has been assumed of them.

    `quiet` is set while our own code compares shapes: then an undecided `==` is simply False. `scalar` turns a Dim
    used as a number into a runtime value (the tracer provides it). `where` names the user's line for a guard.
    """

    symbols: dict[str, Symbol] = field(default_factory=dict)
    guards: list[Guard] = field(default_factory=list)
    scalar: Callable[[Dim], Any] | None = None
    where: Callable[[], str] = lambda: ""
    quiet: bool = False

    def hint(self, dim: DimLike) -> int:
        """The value of `dim` in the trace. Raises TypeError for a symbol that has none."""
        if not self.has_hint(dim):
            raise TypeError(f"dimension {dim} has no concrete value here: it is symbolic in this program")
        return evaluate(dim, {name: s.hint for name, s in self.symbols.items() if s.hint is not None})

    def has_hint(self, *dims: DimLike) -> bool:
        return all(name in self.symbols and self.symbols[name].hint is not None for name in symbols_of(*dims))

    def known(self, op: str, left: DimLike, right: DimLike) -> bool | None:
        """What the bounds and the facts that are recorded already say of `left op right`; None where they do not."""
        pinned: dict[str, DimLike] = {
            g.left.symbol: g.right
            for g in self.guards
            if g.op == "==" and isinstance(g.left, Dim) and g.left.symbol and isinstance(g.right, int)
        }
        answer = _decide(op, substitute(left, pinned), substitute(right, pinned))
        if answer is None:
            for truth, (what, a, b) in ((True, (op, left, right)), (False, _negated(op, left, right))):
                if any(g.says(what, a, b) for g in self.guards):
                    return truth
        return answer

    def assume(self, op: str, left: DimLike, right: DimLike) -> None:
        if not any(g.says(op, left, right) for g in self.guards):
            self.guards.append(Guard(op, left, right, self.where()))
        if op == "<=" and isinstance(left, Dim) and left.symbol in self.symbols and isinstance(right, int):
            old = self.symbols[left.symbol]
            limit = right if old.max is None else min(right, old.max)
            self.symbols[left.symbol] = Symbol(old.name, old.min, limit, old.hint)

    def pin(self, *dims: DimLike) -> None:
        """Fixes every symbol in `dims` to its hint."""
        for dim in dims:
            for name in sorted(symbols_of(dim)):
                self.assume("==", Dim.of(name), self.hint(Dim.of(name)))


_scope: DimScope | None = None


@contextmanager
def dim_scope(scope: DimScope | None) -> Iterator[None]:
    """Makes `scope` the one that comparisons consult, and restores the earlier one."""
    global _scope
    before, _scope = _scope, scope
    try:
        yield
    finally:
        _scope = before


@contextmanager
def quiet() -> Iterator[None]:
    """Inside, comparing Dims records nothing: for our own code that looks at shapes."""
    scope = _scope
    if scope is None or scope.quiet:
        yield
        return
    scope.quiet = True
    try:
        yield
    finally:
        scope.quiet = False


_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_RESERVED = ("inf", "nan", "true", "false", "none")  # numbers and constants of the text form


class Dim:
    """A polynomial over symbols; `terms` maps a monomial (sorted names, repeated for powers) to its coefficient.

    `min` and `max` are the declared bounds of a bare symbol, `Dim("T", max=64)`: a trace reads them from its specs.
    """

    __slots__ = ("terms", "min", "max", "_hash")

    def __init__(
        self,
        name: str | None = None,
        *,
        min: int = 1,
        max: int | None = None,
        terms: Mapping[tuple[str, ...], int] | None = None,
    ) -> None:
        if terms is None:
            if name is None or not re.fullmatch(_NAME, name) or name in _RESERVED:
                raise ValueError(f"a Dim is named by an identifier, not {name!r}")
            if min < 0 or (max is not None and max < min):
                raise ValueError(f"Dim {name} has no size: min is {min}, max is {max}")
            terms = {(name,): 1}
        self.terms = dict(sorted((k, v) for k, v in terms.items() if v))
        self.min, self.max = min, max
        self._hash = hash(tuple(self.terms.items()))

    @staticmethod
    def of(name: str) -> Dim:
        return Dim(terms={(name,): 1})

    @property
    def symbol(self) -> str | None:
        """The name, if this Dim is one bare symbol."""
        if len(self.terms) == 1:
            (names, coefficient), *_ = self.terms.items()
            if len(names) == 1 and coefficient == 1:
                return names[0]
        return None

    # arithmetic -------------------------------------------------------------------------------------------------
    def __add__(self, other: Any) -> Any:
        return _binary(self, other, lambda a, b: _normal(_merge(a, b, 1)), "__add__")

    def __radd__(self, other: Any) -> Any:
        return self.__add__(other)

    def __sub__(self, other: Any) -> Any:
        return _binary(self, other, lambda a, b: _normal(_merge(a, b, -1)), "__sub__")

    def __rsub__(self, other: Any) -> Any:
        return _binary(self, other, lambda a, b: _normal(_merge(b, a, -1)), "__rsub__")

    def __mul__(self, other: Any) -> Any:
        return _binary(self, other, lambda a, b: _normal(_product(a, b)), "__mul__")

    def __rmul__(self, other: Any) -> Any:
        return self.__mul__(other)

    def __neg__(self) -> Any:
        return self * -1

    def __floordiv__(self, other: Any) -> Any:
        if not isinstance(other, (int, Dim)):
            return NotImplemented
        quotient = divide(self, other)
        return int(self) // int(other) if quotient is None else quotient

    def __rfloordiv__(self, other: Any) -> Any:
        return other // int(self) if isinstance(other, int) else NotImplemented

    def __mod__(self, other: Any) -> Any:
        if not isinstance(other, (int, Dim)):
            return NotImplemented
        return int(self) % int(other) if divide(self, other) is None else 0

    def __rmod__(self, other: Any) -> Any:
        return other % int(self) if isinstance(other, int) else NotImplemented

    def __truediv__(self, other: Any) -> Any:
        return NotImplemented if _foreign(other) else self._scalar() / other

    def __rtruediv__(self, other: Any) -> Any:
        return NotImplemented if _foreign(other) else other / self._scalar()

    def __pow__(self, other: Any) -> Any:
        if isinstance(other, int) and other > 0:
            result: Any = self
            for _ in range(other - 1):
                result = result * self
            return result
        return NotImplemented if _foreign(other) else self._scalar() ** other

    def __rpow__(self, other: Any) -> Any:
        return NotImplemented if _foreign(other) else other ** self._scalar()

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        """`np.int64(2) * T` is a Dim, as `2 * T` is; `np.sqrt(T)` and what meets an array is a runtime number."""
        whole = [i if isinstance(i, Dim) else int(i) for i in inputs if isinstance(i, Dim) or _is_whole(i)]
        if method == "__call__" and len(whole) == len(inputs) and ufunc.__name__ in _OPERATORS:
            return _OPERATORS[ufunc.__name__](*whole)
        return getattr(ufunc, method)(*(i._scalar() if isinstance(i, Dim) else i for i in inputs), **kwargs)

    def _scalar(self) -> Any:
        """This dimension as a runtime number: a scalar of the traced program, or its hint outside of one."""
        if _scope is None or _scope.scalar is None:
            return int(self)
        return _scope.scalar(self)

    # comparison -------------------------------------------------------------------------------------------------
    def __eq__(self, other: object) -> Any:
        if not isinstance(other, (int, Dim)):
            return NotImplemented
        return compare("==", self, other)

    def __ne__(self, other: object) -> Any:
        if not isinstance(other, (int, Dim)):
            return NotImplemented
        return not compare("==", self, other)

    def __le__(self, other: Any) -> bool:
        return compare("<=", self, other)

    def __lt__(self, other: Any) -> bool:
        return compare("<", self, other)

    def __ge__(self, other: Any) -> bool:
        return compare("<=", other, self)

    def __gt__(self, other: Any) -> bool:
        return compare("<", other, self)

    def __hash__(self) -> int:
        return self._hash

    def __bool__(self) -> bool:
        return not compare("==", self, 0)

    # the exits: each pins -----------------------------------------------------------------------------------------
    def __index__(self) -> int:
        if _scope is None:
            raise TypeError(f"dimension {self} has no concrete value here: it is symbolic in this program")
        value = _scope.hint(self)
        _scope.pin(self)
        return value

    def __int__(self) -> int:
        return self.__index__()

    def __float__(self) -> float:
        return float(self.__index__())

    def __str__(self) -> str:
        parts = []
        for names, coefficient in sorted(self.terms.items(), key=lambda kv: (-len(kv[0]), kv[0])):
            factors = ([] if abs(coefficient) == 1 and names else [str(abs(coefficient))]) + list(names)
            sign = "-" if coefficient < 0 else "+"
            parts.append((sign, "*".join(factors)))
        first = ("-" if parts[0][0] == "-" else "") + parts[0][1]
        return first + "".join(f" {sign} {text}" for sign, text in parts[1:])

    __repr__ = __str__

    def __format__(self, form: str) -> str:
        return str(self)  # `f"{T:d}"`: it has no digits


_OPERATORS: dict[str, Callable[..., Any]] = {
    "add": operator.add, "subtract": operator.sub, "multiply": operator.mul, "negative": operator.neg,
    "floor_divide": operator.floordiv, "remainder": operator.mod, "equal": operator.eq, "not_equal": operator.ne,
    "less": operator.lt, "less_equal": operator.le, "greater": operator.gt, "greater_equal": operator.ge,
}  # fmt: skip


def _is_whole(number: Any) -> bool:
    """A Python or NumPy integer, which is no array."""
    return isinstance(number, int) or (hasattr(number, "__index__") and getattr(number, "ndim", 0) == 0)


def _terms(dim: DimLike) -> dict[tuple[str, ...], int]:
    return dim.terms if isinstance(dim, Dim) else {(): int(dim)}


def _foreign(other: Any) -> bool:
    return not isinstance(other, (int, float, Dim))


def _binary(a: Dim, b: Any, combine: Callable[..., Any], name: str) -> Any:
    if isinstance(b, bool) or not isinstance(b, (int, Dim)):
        if isinstance(b, float):
            return getattr(a._scalar(), name)(b)
        return NotImplemented
    return combine(a.terms, _terms(b))


def _merge(a: Mapping[tuple[str, ...], int], b: Mapping[tuple[str, ...], int], sign: int) -> dict:
    out = dict(a)
    for key, value in b.items():
        out[key] = out.get(key, 0) + sign * value
    return out


def _product(a: Mapping[tuple[str, ...], int], b: Mapping[tuple[str, ...], int]) -> dict:
    out: dict[tuple[str, ...], int] = {}
    for ka, va in a.items():
        for kb, vb in b.items():
            key = tuple(sorted(ka + kb))
            out[key] = out.get(key, 0) + va * vb
    return out


def _normal(terms: dict[tuple[str, ...], int]) -> DimLike:
    terms = {k: v for k, v in terms.items() if v}
    if not terms:
        return 0
    if set(terms) == {()}:
        return terms[()]
    return Dim(terms=terms)


def divide(a: DimLike, b: DimLike) -> DimLike | None:
    """a / b where it is exact for every value of the symbols, else None. Divides by a monomial, or by an equal."""
    if isinstance(a, int) and isinstance(b, int):
        return a // b if b and a % b == 0 else None
    if identical(a, b):
        return 1
    divisor = _terms(b)
    if len(divisor) != 1:
        return None
    ((names, coefficient),) = divisor.items()
    if coefficient == 0:
        return None
    out = {}
    for key, value in _terms(a).items():
        rest = list(key)
        for name in names:
            if name not in rest:
                return None
            rest.remove(name)
        if value % coefficient:
            return None
        out[tuple(rest)] = value // coefficient
    return _normal(out)


def identical(a: DimLike, b: DimLike) -> bool:
    """Equal for every value of the symbols; asks nothing and records nothing."""
    if isinstance(a, int) and isinstance(b, int):
        return a == b
    return isinstance(a, Dim) and isinstance(b, Dim) and a.terms == b.terms


def same_shape(a: Iterable[DimLike], b: Iterable[DimLike]) -> bool:
    a, b = tuple(a), tuple(b)
    return len(a) == len(b) and all(map(identical, a, b))


def bounds(dim: DimLike) -> tuple[float, float]:
    """The least and the greatest value that `dim` can take, by the bounds of its symbols."""
    low = high = 0.0
    for names, coefficient in _terms(dim).items():
        lo = hi = 1.0
        for name in names:
            symbol = _scope.symbols.get(name) if _scope else None
            lo *= symbol.min if symbol else 1
            hi *= symbol.max if symbol and symbol.max is not None else float("inf")
        ends = (coefficient * lo, coefficient * hi)
        low, high = low + min(ends), high + max(ends)
    return low, high


def compare(op: str, left: DimLike, right: DimLike) -> bool:
    """`left op right` for op in `==`, `<=`, `<`: by identity or bounds where they decide, else by hint, recorded."""
    known = _decide(op, left, right) if _scope is None else _scope.known(op, left, right)
    if known is not None:
        return known
    if _scope is None or _scope.quiet or not _scope.has_hint(left, right):
        if op == "==":
            return False
        raise TypeError(f"cannot decide {left} {op} {right}: the dimensions are symbolic")
    answer = _COMPARE[op](_scope.hint(left), _scope.hint(right))
    if op == "==" and answer:
        _scope.pin(left, right)
    else:
        _scope.assume(*((op, left, right) if answer else _negated(op, left, right)))
    return answer


def _decide(op: str, left: DimLike, right: DimLike) -> bool | None:
    """`left op right` where identity or bounds settle it, else None."""
    low, high = bounds(right - left) if not identical(left, right) else (0.0, 0.0)
    if op == "==":
        return True if low == high == 0 else False if low > 0 or high < 0 else None
    if op == "<=":
        return True if low >= 0 else False if high < 0 else None
    return True if low > 0 else False if high <= 0 else None


def _negated(op: str, left: DimLike, right: DimLike) -> tuple[str, DimLike, DimLike]:
    if op == "==":
        return "!=", left, right
    return "<" if op == "<=" else "<=", right, left


def require_equal(left: DimLike, right: DimLike) -> bool:
    """Like `==`, but also where our own code asks (type rules): an undecided equality pins, as the user's would."""
    if identical(left, right):
        return True
    if _scope is None or not _scope.quiet:
        return compare("==", left, right)
    _scope.quiet = False
    try:
        return compare("==", left, right)
    finally:
        _scope.quiet = True


def product(dims: Iterable[DimLike]) -> DimLike:
    out: Any = 1
    for dim in dims:
        out = out * dim
    return out


def symbols_of(*dims: DimLike) -> set[str]:
    return {name for dim in dims if isinstance(dim, Dim) for names in dim.terms for name in names}


def evaluate(dim: DimLike, values: Mapping[str, int]) -> int:
    """The number that `dim` is under `values`. Raises KeyError for a symbol without a value."""
    if not isinstance(dim, Dim):
        return dim
    total = 0
    for names, coefficient in dim.terms.items():
        for name in names:
            coefficient *= values[name]
        total += coefficient
    return total


def substitute(dim: DimLike, values: Mapping[str, DimLike]) -> DimLike:
    """Replaces symbols by other dims."""
    if not isinstance(dim, Dim):
        return dim
    total: Any = 0
    for names, coefficient in dim.terms.items():
        term: Any = coefficient
        for name in names:
            term = term * values.get(name, Dim.of(name))
        total = total + term
    return total


def parse_dim(text: str) -> DimLike:
    """The reverse of `str(dim)`: sums of products of integers and names. Raises ValueError on anything else."""
    factor = rf"(?:\d+|{_NAME})"
    term = rf"{factor}(?:\s*\*\s*{factor})*"
    if not re.fullmatch(rf"\s*[+-]?\s*{term}(?:\s*[+-]\s*{term})*\s*", text, re.ASCII):
        raise ValueError(f"not a dimension: {text!r}")
    total: Any = 0
    for sign, product_ in re.findall(rf"([+-]?)\s*({term})", text, re.ASCII):
        value: Any = 1
        for name in re.split(r"\s*\*\s*", product_):
            value = value * (int(name) if name.isdigit() else Dim.of(name))
        total = total - value if sign == "-" else total + value
    return total


def bind_shape(shape: Shape, actual: Iterable[int], values: dict[str, int]) -> str | None:
    """Matches a symbolic shape with a concrete one, adding to `values`. Returns what does not fit, or None."""
    actual = tuple(actual)
    if len(shape) != len(actual):
        return f"expected {len(shape)} dimensions, got {len(actual)}"
    for dim, size in zip(shape, actual, strict=True):
        if isinstance(dim, Dim) and dim.symbol and dim.symbol not in values:
            values[dim.symbol] = size
    for dim, size in zip(shape, actual, strict=True):
        if symbols_of(dim) <= values.keys() and evaluate(dim, values) != size:
            return f"{dim} is {evaluate(dim, values)} here, got {size}"
    return None
