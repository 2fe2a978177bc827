"""einsum: NumPy's notation, planned into diagonals, sums, transposes and matrix products of two operands at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_letters
from typing import Any

import numpy as np

from ..ir.dims import DimLike, identical, product, require_equal, same_shape
from ..ir.op import OPS
from ..ir.types import TypeRuleError, promote
from .apply import public, run, type_of_operand, value
from .arrange import diagonal
from .functional import astype, matmul, reshape

UNKNOWN_SIZE = 64  # what a symbolic size counts for when the order of the products is chosen


@dataclass(frozen=True)
class Term:
    """An array with a letter for each axis, all different."""

    array: Any
    letters: str


@public
def einsum(subscripts: str, *operands: Any, optimize: Any = True) -> Any:
    """Sums of products by index letters: `einsum("bij,bjk->bik", x, y)`.

    A letter that several operands have is matched; one that the result (behind "->") lacks is summed over; one that
    appears twice in an operand takes its diagonal. "..." stands for the other axes, which are broadcast. Without "->"
    the result has "..." and the letters that appear once, in alphabetical order. An axis of size 1 is broadcast.

    Two operands at a time are matrix products over what they share; with more, the order is that of
    `np.einsum_path` (from left to right with `optimize=False`).
    """
    values = [value(x) for x in operands]
    inputs, output = _parse(subscripts, values)
    dtype = promote([type_of_operand(v) for v in values])
    if dtype == "bool":
        raise TypeRuleError("needs numbers, got bools; write x.astype('int64') to count")
    sizes = _sizes(inputs, values)
    terms = [_distinct(Term(astype(v, dtype), letters), sizes) for v, letters in zip(values, inputs, strict=True)]
    for pair in _order(terms, output, sizes, bool(optimize)):
        x, y = (terms[i] for i in pair)
        terms = [t for i, t in enumerate(terms) if i not in pair]
        rest = output + "".join(t.letters for t in terms)
        terms.append(_contract(_summed(x, rest + y.letters), _summed(y, rest + x.letters), rest, sizes))
    (last,) = terms
    last = _summed(last, output)
    return _laid_out(last, output, sizes)


# notation -------------------------------------------------------------------------------------------------------------
def _parse(subscripts: str, values: Sequence[Any]) -> tuple[list[str], str]:
    """The letters of each operand and of the result; "..." is written out with letters that are not used."""
    if not isinstance(subscripts, str):
        raise TypeRuleError(f"the subscripts are a string such as 'ij,jk->ik', not {type(subscripts).__name__}")
    text = subscripts.replace(" ", "")
    left, arrow, right = text.partition("->")
    inputs = left.split(",")
    if len(inputs) != len(values):
        raise TypeRuleError(f"{subscripts!r} names {len(inputs)} operands, {len(values)} are given")
    for part in (*inputs, right):
        wrong = sorted(set(part.replace("...", "", 1)) - set(ascii_letters))
        if wrong:
            raise TypeRuleError(f"{wrong[0]!r} in {subscripts!r} is neither a letter nor '...'")
    free = [c for c in ascii_letters if c not in text]
    wide = 0  # axes behind the longest "..."
    for part, v in zip(inputs, values, strict=True):
        named = len(part.replace("...", ""))
        if named > v.ndim or ("..." not in part and named != v.ndim):
            raise TypeRuleError(f"{part!r} of {subscripts!r} names {named} axes, the operand has {v.ndim}")
        if "..." in part:
            wide = max(wide, v.ndim - named)
    dots = "".join(free[:wide])
    written = []
    for part, v in zip(inputs, values, strict=True):
        count = v.ndim - len(part.replace("...", ""))
        written.append(part.replace("...", dots[wide - count :]))
    if not arrow:
        once = Counter("".join(inputs).replace(".", ""))
        right = "..." * ("..." in left) + "".join(sorted(c for c, n in once.items() if n == 1))
    output = right.replace("...", dots)
    for letter in sorted(set(output)):
        if output.count(letter) > 1:
            raise TypeRuleError(f"{letter!r} stands twice in the result of {subscripts!r}")
        if letter not in "".join(written):
            raise TypeRuleError(f"{letter!r} of the result of {subscripts!r} is in no operand")
    if wide and "..." not in right:
        raise TypeRuleError(f"the axes behind '...' must be in the result of {subscripts!r}; write ->...")
    return written, output


def _sizes(inputs: Sequence[str], values: Sequence[Any]) -> dict[str, DimLike]:
    """The size of every letter; one of 1 goes with any other."""
    sizes: dict[str, DimLike] = {}
    for letters, v in zip(inputs, values, strict=True):
        for letter, n in zip(letters, v.shape, strict=True):
            known = sizes.get(letter, 1)
            if identical(known, 1):
                sizes[letter] = n
            elif not identical(n, 1) and not require_equal(known, n):
                raise TypeRuleError(f"{letter!r} is {known} in one operand and {n} in another")
            elif isinstance(n, int) and n != 1:
                sizes[letter] = n
    return sizes


# planning -------------------------------------------------------------------------------------------------------------
def _order(terms: Sequence[Term], output: str, sizes: dict[str, DimLike], optimize: bool) -> list[tuple[int, int]]:
    """Which two of the remaining terms are joined, step by step; the result of a step comes last."""
    count = len(terms)
    if count < 3 or not optimize:
        return [(0, count - 1 - i) if i else (0, 1) for i in range(count - 1)]
    known = {c: n if isinstance(n, int) else UNKNOWN_SIZE for c, n in sizes.items()}
    dummies = [np.broadcast_to(np.float32(0), tuple(known[c] for c in t.letters)) for t in terms]
    text = ",".join(t.letters for t in terms) + "->" + output
    path, _ = np.einsum_path(text, *dummies, optimize="greedy")
    steps = [tuple(int(i) for i in step) for step in path[1:]]
    if any(len(step) > 2 for step in steps):
        return [(0, count - 1 - i) if i else (0, 1) for i in range(count - 1)]
    return [(step[0], step[1]) for step in steps if len(step) == 2]


# steps ----------------------------------------------------------------------------------------------------------------
def _distinct(term: Term, sizes: dict[str, DimLike]) -> Term:
    """Axes with the same letter replaced by their diagonal; an axis of size 1 whose letter is wider left out."""
    array, letters = term.array, term.letters
    narrow = [identical(n, 1) and not identical(sizes[c], 1) for n, c in zip(array.shape, letters, strict=True)]
    if any(narrow):
        array = _shaped(array, tuple(n for n, gone in zip(array.shape, narrow, strict=True) if not gone))
        letters = "".join(c for c, gone in zip(letters, narrow, strict=True) if not gone)
    for letter in dict.fromkeys(letters):
        while letters.count(letter) > 1:
            first = letters.index(letter)
            second = letters.index(letter, first + 1)
            array = diagonal(array, 0, first, second)
            letters = "".join(c for i, c in enumerate(letters) if i not in (first, second)) + letter
    return Term(array, letters)


def _summed(term: Term, wanted: str) -> Term:
    """Summed over the letters that nobody wants."""
    axes = tuple(i for i, c in enumerate(term.letters) if c not in wanted)
    if not axes:
        return term
    kept = "".join(c for c in term.letters if c in wanted)
    return Term(run(OPS["sum"], term.array, axes=axes, keepdims=False), kept)


def _contract(x: Term, y: Term, wanted: str, sizes: dict[str, DimLike]) -> Term:
    """The product of two terms, summed over the letters that both have and nobody else wants."""
    both = [c for c in x.letters if c in y.letters]
    batch = "".join(c for c in both if c in wanted)
    inner = "".join(c for c in both if c not in wanted)
    rows = "".join(c for c in x.letters if c not in both)
    columns = "".join(c for c in y.letters if c not in both)
    letters = batch + rows + columns

    def size(of: str) -> DimLike:
        return product(sizes[c] for c in of)

    # a product with one row or column for each of a batch is a call of BLAS for each: sums of products are one loop
    thin = not (rows and columns) and (batch or not (rows or columns))
    if thin or not inner or not type_of_operand(x.array).is_float:
        shared = batch + inner
        left = _laid_out(x, shared + rows, sizes)
        right = _laid_out(y, shared + columns, sizes)
        left = _shaped(left, (*(sizes[c] for c in shared + rows), *(1 for _ in columns)))
        right = _shaped(right, (*(sizes[c] for c in shared), *(1 for _ in rows), *(sizes[c] for c in columns)))
        return _summed(Term(left * right, shared + rows + columns), letters)
    outer = tuple(sizes[c] for c in batch)
    left = _shaped(_laid_out(x, batch + rows + inner, sizes), (*outer, size(rows), size(inner)))
    right = _shaped(_laid_out(y, batch + inner + columns, sizes), (*outer, size(inner), size(columns)))
    return Term(_shaped(matmul(left, right), tuple(sizes[c] for c in letters)), letters)


def _shaped(x: Any, shape: tuple[DimLike, ...]) -> Any:
    return x if same_shape(x.shape, shape) else reshape(x, shape)


def _laid_out(term: Term, letters: str, sizes: dict[str, DimLike]) -> Any:
    """The array with its axes in the order of `letters`."""
    order = tuple(term.letters.index(c) for c in letters)
    return term.array if order == tuple(range(len(order))) else run(OPS["permute"], term.array, axes=order)


@public
def tensordot(x: Any, y: Any, axes: Any = 2) -> Any:
    """Summed over the last `axes` axes of x and the first of y, or over the axes of x and of y that a pair names."""
    x, y = value(x), value(y)
    if isinstance(axes, (int, np.integer)):
        ours, theirs = list(range(x.ndim - int(axes), x.ndim)), list(range(int(axes)))
    else:
        ours, theirs = ([a] if isinstance(a, (int, np.integer)) else list(a) for a in axes)
    if len(ours) != len(theirs) or any(
        not -v.ndim <= a < v.ndim for v, axes_ in ((x, ours), (y, theirs)) for a in axes_
    ):
        raise TypeRuleError(f"axes {axes} do not pair axes of {x.ndim} and {y.ndim} dimensions")
    left = list(ascii_letters[: x.ndim])
    right = list(ascii_letters[x.ndim : x.ndim + y.ndim])
    for a, b in zip(ours, theirs, strict=True):
        if not (identical(x.shape[a], y.shape[b]) or require_equal(x.shape[a], y.shape[b])):
            raise TypeRuleError(f"axis {a} of x has size {x.shape[a]}, axis {b} of y {y.shape[b]}")
        right[b] = left[a]
    kept = [c for c in left if c not in right] + [c for c in right if c not in left]
    return einsum(f"{''.join(left)},{''.join(right)}->{''.join(kept)}", x, y)


@public
def outer(x: Any, y: Any) -> Any:
    """x[i] * y[j] of flattened x (n) and y (m) -> (n, m)."""
    return reshape(value(x), -1, 1) * reshape(value(y), 1, -1)


@public
def bmm(x: Any, y: Any) -> Any:
    """PyTorch's name for x @ y of two batches of matrices: (b, n, k), (b, k, m) -> (b, n, m)."""
    x, y = value(x), value(y)
    if x.ndim != 3 or y.ndim != 3 or not require_equal(x.shape[0], y.shape[0]):
        raise TypeRuleError("needs two batches of as many matrices, (b, n, k) and (b, k, m); write x @ y to broadcast")
    return matmul(x, y)


@public
def addmm(x: Any, a: Any, b: Any, *, beta: float = 1, alpha: float = 1) -> Any:
    """PyTorch's beta * x + alpha * (a @ b); x broadcasts."""
    product, x = matmul(a, b), value(x)
    return (x if beta == 1 else beta * x) + (product if alpha == 1 else alpha * product)


__all__ = ["addmm", "bmm", "einsum", "outer", "tensordot"]
