"""einsum and tensordot against NumPy's, with their gradients; what the plan is made of."""

import numpy as np
import pytest

import gradtape
from gradcheck import check
from gradtape import tracer as gt
from gradtape.ir.interp import evaluate_graph
from gradtape.ir.verify import verify

RNG = np.random.default_rng(0)
SIZES = {"a": 2, "b": 3, "i": 4, "j": 5, "k": 3, "l": 2, "n": 1}


def arrays(text, dtype=np.float64):
    """One array for each operand, by letter; "." has sizes 2 and 3."""
    left = text.replace(" ", "").split("->")[0]
    found = []
    for part in left.split(","):
        shape = []
        for letter in part.replace("...", "."):
            shape += [2, 3] if letter == "." else [SIZES[letter]]
        found.append(RNG.standard_normal(shape).astype(dtype))
    return found


TEXTS = [
    "ij,jk->ik", "ij,jk", "ij,jk->ki", "bij,bjk->bik", "bij,bjk->bki", "bij,bkj->bik", "bij,jk->bik", "ij,j->i",
    "ij,i->j", "i,j->ij", "i,i", "i,i->i", "ij,ij->", "ij,ij->i", "bi,bi->b", "bij,bj->bi", "ij->ji", "ij->i", "ij->",
    "kbk->bk", "kbk->b", "kk", "bb", "abi,bja,kj->ik", "ij,jk,kl->il", "ij,jk,kl,la->ia", "ijk,ilk,kb->bj",
    "...ij,...jk->...ik", "...ij,jk->...ik", "...ij->...ji", "...i,...i->...", "i...->...i", "...ij,...jk",
    "bij, bjk -> bik", "i,j,k->ijk", "abij,abjk->abik", "abij,abjk->iabk", "ab,ab,ab->ab", "ij,kj,lj->ikl", "j,j,j->",
    "kbk,kbk->k", "ia,ja->aij", "a...b,b...->a...", "ijk->kij", ",ij->ij", "nij,bjk->bik", "nij,njk->ik",
]  # fmt: skip


def traced(f, *args):
    found = gt.trace(f, *args)
    verify(found.graph)
    assert found.ledger.escapes == []
    return found, evaluate_graph(found.graph, found.bind(*args))["out"]


@pytest.mark.parametrize("text", TEXTS)
def test_numpys_results(text):
    xs = arrays(text)
    expected = np.einsum(text, *xs)
    _, got = traced(lambda *xs: gt.einsum(text, *xs), *xs)
    for result in (got, gt.einsum(text, *xs), gt.einsum(text, *xs, optimize=False)):
        np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-12)
        assert result.shape == expected.shape
    _, protocol = traced(lambda *xs: np.einsum(text, *xs), *xs)
    np.testing.assert_allclose(protocol, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("text", TEXTS)
def test_gradients(text):
    check(lambda *xs: gt.einsum(text, *xs) ** 2, arrays(text), tolerance=1e-9)


@pytest.mark.parametrize("text", ["bij,bjk->bki", "kbk->b", "ij,jk,kl->il", "...ij,jk->...ik", "i,i->i"])
def test_second_gradients(text):
    check(lambda *xs: gt.einsum(text, *xs) ** 2, arrays(text), order=2, tolerance=1e-9)


def test_axes_of_size_1_are_broadcast():
    for shapes in ((3, 1), (1, 3)), ((1, 4), (5, 4)):
        x, y = (RNG.standard_normal(s) for s in shapes)
        for text in ("ij,ij->ij", "ij,ij->i", "ij,ij"):
            np.testing.assert_allclose(gt.einsum(text, x, y), np.einsum(text, x, y), rtol=1e-12)
    x, y = RNG.standard_normal((1, 2, 3)), RNG.standard_normal((4, 1, 3, 5))
    np.testing.assert_allclose(gt.einsum("...i,...ij->...j", x, y), np.einsum("...i,...ij->...j", x, y), rtol=1e-12)


def test_integers_and_mixed_dtypes():
    n = RNG.integers(-3, 4, (3, 4))
    for text, xs in (("ij,kj->ik", (n, n)), ("ij,ij->j", (n, n)), ("ij->", (n,))):
        got = gt.einsum(text, *xs)
        np.testing.assert_array_equal(got, np.einsum(text, *xs))
        assert got.dtype == np.int64
    x = RNG.standard_normal((4, 2)).astype("f4")
    assert gt.einsum("ij,jk", n, x).dtype == np.float32
    np.testing.assert_allclose(gt.einsum("ij,jk", n, x), n @ x, rtol=1e-5)


def test_a_product_is_a_product():
    """Heads of an attention: views and one product, nothing is summed or multiplied element by element."""
    q, k = (RNG.standard_normal((2, 6, 3, 4)).astype("f4") for _ in range(2))
    found, got = traced(lambda q, k: gt.einsum("bthc,bshc->bhts", q, k), q, k)
    assert {n.op for n in found.graph.nodes} == {"permute", "matmul"}
    np.testing.assert_allclose(got, np.einsum("bthc,bshc->bhts", q, k), rtol=1e-5, atol=1e-5)


def test_the_order_of_many_operands_is_chosen():
    x, y, z = RNG.standard_normal((100, 100)), RNG.standard_normal((100, 100)), RNG.standard_normal((100, 1))
    found, got = traced(lambda *xs: gt.einsum("ij,jk,kl->il", *xs), x, y, z)
    sizes = [n.output.type.size for n in found.graph.nodes if n.op == "matmul"]
    assert sizes == [100, 100]  # y @ z first
    np.testing.assert_allclose(got, x @ y @ z, rtol=1e-9)


def test_symbolic_sizes():
    text = "bthc,bshc,hc->bhts"
    found = gt.trace(lambda *xs: gt.einsum(text, *xs), *(gt.spec(("B", t, 2, 3)) for t in ("T", "S")), gt.spec((2, 3)))
    verify(found.graph)
    assert found.graph.guards == ()
    for b, t, s in ((2, 4, 3), (1, 1, 5)):
        xs = [RNG.standard_normal(shape).astype("f4") for shape in ((b, t, 2, 3), (b, s, 2, 3), (2, 3))]
        got = evaluate_graph(found.graph, found.bind(*xs))["out"]
        np.testing.assert_allclose(got, np.einsum(text, *xs), rtol=1e-4, atol=1e-5)


def test_tensordot():
    x, y = RNG.standard_normal((2, 3, 4)), RNG.standard_normal((4, 3, 5))
    for axes in (1, ([1], [1]), ([1, 2], [1, 0]), (2, 0), (-1, -3)):
        _, got = traced(lambda x, y, axes=axes: gt.tensordot(x, y, axes), x, y)
        np.testing.assert_allclose(got, np.tensordot(x, y, axes), rtol=1e-12)
        np.testing.assert_allclose(traced(lambda x, y: np.tensordot(x, y, axes), x, y)[1], got)  # noqa: B023
    _, got = traced(lambda x: np.inner(x, x) + np.vdot(x, x), x)
    np.testing.assert_allclose(got, np.inner(x, x) + np.vdot(x, x), rtol=1e-12)


def test_products_by_pytorchs_names():
    x, y, z = RNG.standard_normal((2, 3, 4)), RNG.standard_normal((2, 4, 5)), RNG.standard_normal(5)
    _, got = traced(lambda x, y: gt.bmm(x, y), x, y)
    np.testing.assert_allclose(got, x @ y, rtol=1e-12)
    np.testing.assert_array_equal(traced(lambda x, y: x.bmm(y), x, y)[1], got)
    _, got = traced(lambda z, x, y: gt.addmm(z, x[0], y[0], beta=0.5, alpha=2), z, x, y)
    np.testing.assert_allclose(got, 0.5 * z + 2 * (x[0] @ y[0]), rtol=1e-12)
    for found in (gt.outer(x, z), traced(lambda x, z: gt.outer(x, z), x, z)[1], traced(np.outer, x, z)[1]):
        np.testing.assert_array_equal(found, np.outer(x, z))


def test_compiled():
    q, k, v = (RNG.standard_normal((2, 5, 3, 4)).astype("f4") for _ in range(3))

    def f(q, k, v):
        p = gt.softmax(gt.einsum("bthc,bshc->bhts", q, k))
        return gt.einsum("bhts,bshc->bthc", p, v), gt.einsum("btht->bh", v[:, :, :, [0, 1, 2, 3, 0]])

    for got, want in zip(gradtape.compile(f, threads=2)(q, k, v), f(q, k, v), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


X, Y = np.ones((2, 3)), np.ones((3, 4))
ERRORS = {
    "count": (lambda: gt.einsum("ij,jk", X), "names 2 operands, 1 are given"),
    "rank": (lambda: gt.einsum("ijk,jk", X, Y), r"'ijk' of 'ijk,jk' names 3 axes, the operand has 2"),
    "few": (lambda: gt.einsum("i,jk", X, Y), "names 1 axes, the operand has 2"),
    "size": (lambda: gt.einsum("ij,kj", X, Y), "'j' is 3 in one operand and 4 in another"),
    "twice": (lambda: gt.einsum("ij->ii", X), "'i' stands twice in the result"),
    "unknown": (lambda: gt.einsum("ij->ik", X), "'k' of the result of 'ij->ik' is in no operand"),
    "sign": (lambda: gt.einsum("i1", X), "'1' in 'i1' is neither a letter nor '...'"),
    "dots": (lambda: gt.einsum("i...->i", X), "must be in the result"),
    "text": (lambda: gt.einsum(X, Y), "the subscripts are a string"),
    "bools": (lambda: gt.einsum("ij", X > 0), "needs numbers, got bools"),
    "tensordot": (lambda: gt.tensordot(X, Y, 3), "do not pair axes"),
    "bmm": (lambda: gt.bmm(X, Y), "needs two batches of as many matrices"),
    "bmm batch": (lambda: gt.bmm(X[None], np.ones((2, 3, 4))), "needs two batches of as many matrices"),
    "tensordot sizes": (lambda: gt.tensordot(X, Y, (1, 1)), "axis 1 of x has size 3, axis 1 of y 4"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name):
    call, text = ERRORS[name]
    with pytest.raises(TypeError, match=text):
        call()
