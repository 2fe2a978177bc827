"""Order within rows. NaN counts as greater than every number; of equal elements the first stays first."""

from __future__ import annotations

from textwrap import indent

from ..call import Part
from ..kernel import FLOATS, NUMBERS, Kernel, template

RUN = 16  # elements that are put in order by insertion, before runs are merged


def before(a: str, b: str, dtype: str, descending: bool) -> str:
    """Source: whether `a` must stand before `b`, both given as text. Without a branch, and False for equals."""
    if descending:
        a, b = b, a  # what comes first is the greater one
    less = f"({a} < {b})"
    return f"({less} | (isnan({b}) & ({a} == {a})))" if dtype in FLOATS else less


# all of them ----------------------------------------------------------------------------------------------------------
def sort(dtype: str) -> Kernel:
    """Each of `rows` rows of n elements in order, in place; index gets the place that each element had.

    spare, spare_index    room for n elements
    """
    return template("sort", dtype, SORT_PARAMS, _sort(dtype, False), NUMBERS)


def sort_descending(dtype: str) -> Kernel:
    """As sort, the greatest first."""
    return template("sort_descending", dtype, SORT_PARAMS, _sort(dtype, True), NUMBERS)


SORT_PARAMS = "values:T* index:i64* spare:T* spare_index:i64* rows:i64 n:i64"


def _sort(dtype: str, descending: bool) -> str:
    # A merge takes the element on the right only if it must stand before the one on the left: equals keep their order.
    return f"""
    for r in range(rows):
        v = at(values, r * n)
        p = at(index, r * n)
        for i in range(n):
            st(p, i, i)
        for number in range((n + {RUN - 1}) // {RUN}):
            low = number * {RUN}
            for i in range(low + 1, minimum(low + {RUN}, n)):
                x = ld(v, i)
                j = i
                while j > low and {before("x", "ld(v, j - 1)", dtype, descending)}:
                    st(v, j, ld(v, j - 1))
                    st(p, j, ld(p, j - 1))
                    j = j - 1
                st(v, j, x)
                st(p, j, i)
        width = {RUN}
        while width < n:
            for number in range((n + 2 * width - 1) // (2 * width)):
                low = number * 2 * width
                middle = minimum(low + width, n)
                high = minimum(low + 2 * width, n)
                left = middle - low
                for i in range(left):
                    st(spare, i, ld(v, low + i))
                    st(spare_index, i, ld(p, low + i))
                i = 0
                j = middle
                k = low
                while i < left and j < high:
                    a = ld(spare, i)
                    b = ld(v, j)
                    right = {before("b", "a", dtype, descending)}
                    st(p, k, select(right, ld(p, j), ld(spare_index, i)))
                    st(v, k, select(right, b, a))
                    k = k + 1
                    j = j + i64(right)
                    i = k - low - (j - middle)
                for rest in range(i, left):
                    st(v, k + rest - i, ld(spare, rest))
                    st(p, k + rest - i, ld(spare_index, rest))
            width = 2 * width
"""


def sort_words(part: Part) -> list[int]:
    return [*part.pointers, *part.sizes]


# the best k -----------------------------------------------------------------------------------------------------------
def top(dtype: str) -> Kernel:
    """The k greatest of each of `rows` rows of n elements, the greatest first, with their places.

    x_row    elements from row to row of x; those of values and index are dense
    """
    return template("top", dtype, TOP_PARAMS, _top(dtype, True), NUMBERS)


def bottom(dtype: str) -> Kernel:
    """The k least, the least first; as top."""
    return template("bottom", dtype, TOP_PARAMS, _top(dtype, False), NUMBERS)


TOP_PARAMS = "x:T* values:T* index:i64* rows:i64 n:i64 k:i64 x_row:i64"


def _top(dtype: str, largest: bool) -> str:
    """A heap of the best k so far, the worst of them on top: one comparison for most elements.

    Of equals the one that comes first is better, and elements come in order: a new one must be strictly better.
    """

    def better(a: str, ia: str, b: str, ib: str) -> str:
        first, second = before(a, b, dtype, largest), before(b, a, dtype, largest)
        return f"({first} | ((not {second}) & ({ia} < {ib})))"

    def sift(size: str, depth: int) -> str:
        """Puts (a, i) on top of a heap of that size, and lets it sink below those that are worse."""
        return indent(
            f"""j = 0
child = 1
while child < {size}:
    if child + 1 < {size}:
        if {better("ld(v, child)", "ld(p, child)", "ld(v, child + 1)", "ld(p, child + 1)")}:
            child = child + 1
    if {better("ld(v, child)", "ld(p, child)", "a", "i")}:
        break
    st(v, j, ld(v, child))
    st(p, j, ld(p, child))
    j = child
    child = 2 * j + 1
st(v, j, a)
st(p, j, i)
""",
            "    " * depth,
        )

    return f"""
    if k > 0:
        for r in range(rows):
            source = at(x, r * x_row)
            v = at(values, r * k)
            p = at(index, r * k)
            for i in range(k):
                a = ld(source, i)
                j = i
                while j > 0 and {better("ld(v, (j - 1) // 2)", "ld(p, (j - 1) // 2)", "a", "i")}:
                    st(v, j, ld(v, (j - 1) // 2))
                    st(p, j, ld(p, (j - 1) // 2))
                    j = (j - 1) // 2
                st(v, j, a)
                st(p, j, i)
            for i in range(k, n):
                a = ld(source, i)
                if {before("a", "ld(v, 0)", dtype, largest)}:
{sift("k", 5)}
            for done in range(k - 1):
                last = k - 1 - done
                worst = ld(v, 0)
                place = ld(p, 0)
                a = ld(v, last)
                i = ld(p, last)
{sift("last", 4)}
                st(v, last, worst)
                st(p, last, place)
"""


def top_words(part: Part) -> list[int]:
    return [*part.pointers, *part.sizes, part.call.slots[0].strides[0]]
