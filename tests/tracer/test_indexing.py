"""Reading by index, and `x.at[...]`: traced, interpreted and eager, against NumPy; what is out of range."""

import numpy as np
import pytest

import gradtape
from gradcheck import check
from gradtape import tracer as gt
from gradtape.ir.interp import evaluate_graph
from gradtape.ir.verify import verify

RNG = np.random.default_rng(0)
X = RNG.standard_normal((3, 4, 5)).astype(np.float32)
I = np.array([2, 0, -1])  # noqa: E741


def traced(f, *args):
    """f traced and interpreted."""
    found = gt.trace(f, *args)
    verify(found.graph)
    assert found.ledger.escapes == []
    return found.structure.restore(evaluate_graph(found.graph, found.bind(*args)))


def both(f, *args):
    """f traced and interpreted, and f on the arrays themselves."""
    return traced(f, *args), f(*map(np.copy, args))


INDEX = {
    "int": np.s_[1],
    "negative int": np.s_[-1, :, -2],
    "numpy int": (np.int64(2),),
    "slice": np.s_[1:],
    "slices": np.s_[:2, 1:3, ::2],
    "step": np.s_[::2, 1::2, 4:0:-3],
    "reversed": np.s_[::-1, ..., ::-2],
    "clipped": np.s_[-100:100, 2:100, 50:],
    "empty": np.s_[2:1],
    "empty reversed": np.s_[0:2:-1],
    "ellipsis": np.s_[..., 0],
    "ellipsis alone": np.s_[...],
    "newaxis": np.s_[None, :, None, 1, ..., None],
    "all": np.s_[:, :, :],
    "array": (I,),
    "list": ([0, 2, 2],),
    "array 2d": (np.array([[0, 1], [2, 2]]),),
    "array on axis 1": np.s_[:, I],
    "array on axis 2": np.s_[1:, ::-1, I],
    "array 2d in the middle": np.s_[:, np.array([[0, 1], [3, -1]]), None],
    "array after int": np.s_[0, I],
    "int after array": np.s_[:, I, 1],
    "two arrays": (I, np.array([1, 3, 0])),
    "two arrays broadcast": np.s_[:, np.array([[0], [1]]), I],
    "three arrays": (I, I, I),
    "arrays apart": np.s_[I, :, I],
    "int and array apart": np.s_[0, :, I],
    "array and int apart": np.s_[I, ..., 1],
    "newaxis between": np.s_[I, None, I],
    "newaxes around": np.s_[None, I, ..., None, 0],
    "array behind an ellipsis": np.s_[..., I],
    "array and slices": np.s_[::-1, I, 1:3],
    "no index": (np.array([], int),),
    "index without axes": (np.array(1),),
    "mask": (X > 0,),
    "mask of rows": (X[:, 0, 0] > 0,),
    "mask of an inner axis": np.s_[:, X[0, :, 0] > 0],
    "mask of two axes": np.s_[X[:, :, 0] > 0, ::2],
    "mask and array": np.s_[X[:, 0, 0] > -9, :, I],
    "mask as a list": ([True, False, True],),
    "mask that holds nowhere": (X > 99,),
}


@pytest.mark.parametrize("name", INDEX)
def test_indexing_is_numpys(name):
    key = INDEX[name]
    got, expected = both(lambda x: x[key], X)
    np.testing.assert_array_equal(got, expected)
    assert got.shape == expected.shape


def test_traced_indices():
    def f(x, i, j):
        return x[i], x[i, j], x[:, i], x[i[0]], -x[np.arange(3), j]

    got, _ = both(lambda x, i, j: [f(x, i, j)[k] for k in range(5)], X, I, np.array([1, 1, -1]))
    j = np.array([1, 1, -1])
    for a, b in zip(got, (X[I], X[I, j], X[:, I], X[2], -X[np.arange(3), j]), strict=True):
        np.testing.assert_array_equal(a, b)


def test_symbolic_slices():
    def f(x):
        n = x.shape[0]
        return x[1:], x[:-1], x[n - 1], x[-1], x[::-1], x[: n - 1], x[:, :2], x[None, ...]

    traced = gt.trace(f, gt.spec(("n", 3)))
    verify(traced.graph)
    assert traced.graph.guards == ()
    for n in (1, 2, 6):
        x = RNG.standard_normal((n, 3)).astype(np.float32)
        for a, b in zip(evaluate_graph(traced.graph, traced.bind(x)).values(), f(x), strict=True):
            np.testing.assert_array_equal(a, b)


def test_symbolic_bound_beyond_the_end_is_clipped_and_guarded():
    traced = gt.trace(lambda x: x[:4], gt.spec(("n",)))
    assert [str(g) for g in traced.graph.guards] == ["4 <= n"]
    assert str(traced.graph.outputs[0][1].type) == "f32[4]"


BAD_INDEX = {
    "too many": (lambda x: x[0, 0, 0, 0], IndexError, "too many indices: 4"),
    "out of range": (lambda x: x[3], IndexError, "index 3 is out of range for axis 0 of size 3"),
    "two ellipses": (lambda x: x[..., ...], IndexError, "at most one"),
    "mask": (lambda x: x[x > 0], TypeError, r"boolean mask .* gt.where\(mask, x, 0\), or x\[gt.nonzero"),
    "mask of another shape": (
        lambda x: x[:, X > 0],
        IndexError,
        r"mask of shape \(3, 4, 5\) does not fit the axes from 1",
    ),
    "mask of another size": (lambda x: x[X[0] > 0], IndexError, r"mask of shape \(4, 5\) does not fit the axes from 0"),
    "bool": (lambda x: x[True], IndexError, r"mask of shape \(\)"),
    "float": (lambda x: x[x], TypeError, "indices are integers, got f32"),
    "string": (lambda x: x["a"], TypeError, "indexed by str"),
    "arrays that do not broadcast": (
        lambda x: x[I, np.arange(2)],
        TypeError,
        r"index arrays of shapes \(3\) and \(2\) do not",
    ),
    "array out of range": (lambda x: x[I, I + 2], IndexError, "index 4 is out of range for axis 1 of size 4"),
    "traced bound": (lambda x: x[: x.sum().astype("i64")], TypeError, "cannot bound a slice.* gt.dynamic_slice"),
    "step 0": (lambda x: x[::0], TypeError, "not 0"),
}


@pytest.mark.parametrize("name", BAD_INDEX)
def test_indexing_refuses(name):
    f, kind, text = BAD_INDEX[name]
    with pytest.raises(kind, match=text):
        gt.trace(f, X)


def test_several_traced_indices_with_symbolic_sizes():
    def f(x, i, j):
        return x[np.array([[0], [2]]), :, j], x[i, :, j], x[:, i % 2, j], x[gt.arange(x.shape[0]), i]

    found = gt.trace(f, gt.spec(("B", "C", "D")), gt.spec(("B",), "i64"), gt.spec(("B",), "i64"))
    verify(found.graph)
    i, j = np.array([1, 0, -1]), np.array([4, 4, 0])
    for got, expected in zip(evaluate_graph(found.graph, found.bind(X, i, j)).values(), f(X, i, j), strict=True):
        np.testing.assert_array_equal(got, expected)


# a part replaced or added to ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", INDEX)
def test_a_part_is_set_or_added_to(name):
    key = INDEX[name]
    v = RNG.standard_normal(X[key].shape).astype(np.float32)
    replaced, added = X.copy(), X.copy()
    replaced[key] = v
    np.add.at(added, key, v)
    for of in (lambda f: f(X, v), lambda f: traced(f, X, v)):
        np.testing.assert_array_equal(of(lambda x, v: gt.at(x)[key].set(v)), replaced)
        np.testing.assert_allclose(of(lambda x, v: gt.at(x)[key].add(v)), added, rtol=1e-6)
        np.testing.assert_allclose(of(lambda x, v: gt.at(x)[key].subtract(-v)), added, rtol=1e-6)
        np.testing.assert_array_equal(of(lambda x, v: gt.at(x)[key].get() + 0 * v), X[key])


def test_values_are_broadcast_and_cast():
    def f(x):
        return x.at[0].set(1), x.at[:, I].add(np.arange(5)), x.at[..., -1].set(x[..., 0])

    expected = [X.copy() for _ in range(3)]
    expected[0][0], expected[2][..., -1] = 1, X[..., 0]
    np.add.at(expected[1], np.s_[:, I], np.arange(5))
    for got, want in zip(traced(f, X), expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-6)
        assert got.dtype == np.float32


def test_the_last_of_equal_indices_stays():
    i, v = np.array([2, 0, 2, -1, 2]), np.arange(25, dtype=np.float32).reshape(5, 5)
    expected = X[:, 0].copy()
    expected[i] = v
    np.testing.assert_array_equal(traced(lambda x, i, v: x.at[i].set(v), X[:, 0], i, v), expected)


def test_a_mask_of_the_program_takes_one_number():
    expected = np.where(X > 0, np.float32(2.5), X), np.where(X[:, 0] > 0, X[:, 0] + 1, X[:, 0])
    got = traced(lambda x: (x.at[x > 0].set(2.5), x[:, 0].at[x[:, 0] > 0].add(1)), X)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_array_equal(a, b)
    rows = traced(lambda x: x.at[x[:, 0, 0] > 0].set(0.0), X)
    np.testing.assert_array_equal(rows, np.where(X[:, :1, :1] > 0, 0, X))


ALONG = RNG.integers(-4, 4, (3, 6, 5))
SHORT = RNG.integers(0, 4, (2, 3, 5))


def put(x, i, v):
    x = x.copy()
    np.put_along_axis(x, i, v, 1)
    return x


def added(x, i, v):
    x = x.copy()
    for a, b, c in np.ndindex(i.shape):
        x[a, i[a, b, c], c] += v[a, b, c]
    return x


def test_functions_along_an_axis():
    v = RNG.standard_normal((3, 6, 5)).astype(np.float32)
    cases = [
        (lambda x, i, v: gt.take_along_axis(x, i, 1), np.take_along_axis(X, ALONG, 1), ALONG),
        (lambda x, i, v: gt.take_along_axis(x, i[:1, :, :1], 1), np.take_along_axis(X, ALONG[:1, :, :1], 1), ALONG),
        (lambda x, i, v: gt.take_along_axis(x, i.reshape(-1), None), X.reshape(-1)[ALONG.reshape(-1)], ALONG),
        (lambda x, i, v: gt.put_along_axis(x, i, v, 1), put(X, ALONG, v), ALONG),
        (lambda x, i, v: gt.put_along_axis(x, i[:1, :2, :1], 0.0, 1), put(X, ALONG[:1, :2, :1], 0), ALONG),
        (lambda x, i, v: gt.gather(x, 1, i), np.take_along_axis(X[:2], SHORT, 1), SHORT),
        (lambda x, i, v: gt.scatter_add(x, 1, i, v), added(X, SHORT, v), SHORT),
        (lambda x, i, v: gt.scatter(x, 1, i, v), np.concatenate([put(X[:2], SHORT, v[:2, :3]), X[2:]]), SHORT),
        (lambda x, i, v: gt.scatter(x, 1, i, 7.0), np.concatenate([put(X[:2], SHORT, 7), X[2:]]), SHORT),
        (lambda x, i, v: gt.index_select(x, 2, i), X[:, :, I], I),
        (lambda x, i, v: gt.index_add(x, 1, i, v[:, :3], alpha=2), added_rows(2 * v[:, :3]), I),
        (lambda x, i, v: gt.segment_sum(v[0], i, 4), segments(v[0]), np.array([3, 0, 3, 1, 0, -1])),
    ]
    for f, expected, i in cases:
        for got in (f(X, i, v), traced(f, X, i, v)):
            np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
            assert got.dtype == np.float32


def added_rows(rows):
    out = X.copy()
    np.add.at(out, np.s_[:, I], rows)
    return out


def segments(rows):
    out = np.zeros((4, 5), np.float32)
    np.add.at(out, np.array([3, 0, 3, 1, 0, -1]), rows)
    return out


# gradients ------------------------------------------------------------------------------------------------------------
W = RNG.standard_normal((4, 3))
REPEATED = np.array([[2, 0, 2], [3, 2, -2], [1, 1, 1], [2, 3, 3]])
GRADIENTS = {
    "rows": lambda x, v: gt.at(x)[np.array([1, 1, -1, 0])].get() * v,
    "pairs": lambda x, v: gt.at(x)[REPEATED, np.array([0, 1, 1])].get() * v,
    "mask": lambda x, v: gt.at(x)[W > 0].get() ** 2,
    "apart": lambda x, v: gt.at(gt.expand_dims(x, 1))[np.array([0, 0]), :, np.array([1, 1])].get() ** 3,
    "add": lambda x, v: gt.at(x)[np.array([1, 1, -1, 0])].add(v * v) ** 2,
    "set": lambda x, v: gt.at(x)[np.array([1, 1, -1, 0])].set(v * v) ** 2,
    "set slices": lambda x, v: gt.at(x)[::2, 1:].set(gt.at(v)[:2, :2].get() ** 2) ** 2,
    "set pairs": lambda x, v: gt.at(x)[REPEATED, np.array([0, 1, 1])].set(v) ** 3,
    "along": lambda x, v: gt.take_along_axis(x, REPEATED, 0) * v * v,
    "put along": lambda x, v: gt.put_along_axis(x, REPEATED, v, 0) ** 3,
    "scatter": lambda x, v: gt.scatter(x, 0, REPEATED[:2] % 4, v) ** 3,
    "scatter_add": lambda x, v: gt.scatter_add(x, 0, REPEATED[:2] % 4, v) ** 3,
}


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients(name, order):
    """Also through elements that are read several times, and none into those that are replaced."""
    check(GRADIENTS[name], [W, W[::-1] + 0.5], order=order, tolerance=1e-9)


def test_a_value_that_is_overwritten_gets_no_gradient():
    x, v = np.zeros(3), np.array([1.0, 2.0, 3.0])
    g = gradtape.grad(lambda x, v: (gt.at(x)[np.array([1, 0, 1])].set(v) * np.array([1.0, 10.0, 100.0])).sum(), (0, 1))
    gx, gv = g(x, v)
    assert gx.tolist() == [0, 0, 100] and gv.tolist() == [0, 1, 10]


# errors ---------------------------------------------------------------------------------------------------------------
ERRORS = {
    "values": (
        lambda x: gt.at(x)[0].set(X[:, 0]),
        TypeError,
        r"at_set: values of shape \(3, 5\) do not fit .* \(4, 5\)",
    ),
    "added": (lambda x: gt.at(x)[:2].add(X[:, :2]), TypeError, "at_add: values of shape"),
    "axes": (lambda x: gt.take_along_axis(x, I, 0), TypeError, "needs an index with as many axes as x, 3, got 1"),
    "beside": (lambda x: gt.take_along_axis(x, ALONG[:2], 1), TypeError, "do not broadcast"),
    "gather": (
        lambda x: gt.gather(x, 1, np.zeros((4, 1, 1), int)),
        TypeError,
        "size 4 along axis 0, which is more than 3",
    ),
    "source": (lambda x: gt.scatter_add(x, 1, SHORT, X[:1]), TypeError, r"source has shape \(1, 4, 5\), less than"),
    "float index": (lambda x: gt.gather(x, 0, x), TypeError, "indices are integers, got f32"),
    "axis": (lambda x: gt.take(x, I, 3), TypeError, "axis 3 is out of range for 3 dimensions"),
    "segments": (lambda x: gt.segment_sum(x, I[:2], 4), TypeError, "needs one row for each index"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name):
    f, kind, text = ERRORS[name]
    for call in (lambda: f(X), lambda: gt.trace(f, X)):
        with pytest.raises(kind, match=text):
            call()


def test_a_mask_of_the_program_takes_no_several_values():
    with pytest.raises(TypeError, match=r"gt.where\(mask, values, x\)"):
        gt.trace(lambda x: x.at[x > 0].set(X), X)


OUT_OF_RANGE = [
    (lambda x, i, j: x[:, i, j], (2, 5), r"j\[1\] = 5 is out of range for axis 2 of size 5"),
    (lambda x, i, j: x[:, i, j], (-5, 0), r"i\[1\] = -5 is out of range for axis 1 of size 4"),
    (lambda x, i, j: x[i], (3, 0), r"i\[1\] = 3 is out of range for x with 3 rows"),
    (
        lambda x, i, j: (x * 2.0)[:, i],
        (4, 0),
        r"i\[1\] = 4 is out of range for axis 1 of the result of mul with size 4",
    ),
    (lambda x, i, j: x[0, 0, i * j], (3, 3), r"element \[1\] of the result of mul = 9 is out of range for"),
    (lambda x, i, j: gt.take_along_axis(x[0], i[:, None], 0), (9, 0), "= 9 is out of range for axis 0 of size 4"),
    (lambda x, i, j: x.at[i].add(1.0), (5, 0), r"i\[1\] = 5 is out of range for 3 rows"),
    (lambda x, i, j: x.at[i].set(1.0), (-4, 0), r"i\[1\] = -4 is out of range for 3 rows"),
]


def test_an_index_out_of_range_in_a_tape_names_element_and_line():
    program = gradtape.compile(lambda x, i, j: [f(x, i, j) for f, _, _ in OUT_OF_RANGE], threads=2)
    good = np.array([0, 1, 2])
    program(X, good, good)
    for f, (i, j), text in OUT_OF_RANGE:
        single = gradtape.compile(f, threads=1)
        indices = [np.array([0, wrong, 1]) for wrong in (i, j)]
        with pytest.raises(IndexError, match=text) as error:
            single(X, *indices)
        assert f"{__file__}:{f.__code__.co_firstlineno}" in str(error.value)


def test_rows_taken_into_a_concat_land_in_their_place():
    def f(x, i):
        return gt.concatenate([x[:, 0] * 2.0, x[i, 0], gt.take_along_axis(x[:, 0], i[None] + 0 * i[:, None], 1)], 1)

    i = np.array([2, 0, 1])
    expected = np.concatenate([X[:, 0] * 2, X[i, 0], X[:, 0][:, i]], 1)
    np.testing.assert_array_equal(gradtape.compile(f, threads=1)(X, i), expected)


def test_windows_along_an_axis():
    """PyTorch's Tensor.unfold."""
    x = np.arange(24, dtype="f4").reshape(2, 6, 2)
    expected = np.lib.stride_tricks.sliding_window_view(x, 3, 1)[:, ::2]
    np.testing.assert_array_equal(gradtape.compile(lambda x: x.unfold(1, 3, 2))(x), expected)
    found = gt.trace(lambda x: x.unfold(-2, 3, 1), gt.spec((2, "T", 2)))
    np.testing.assert_array_equal(evaluate_graph(found.graph, {"x": x})["out"][:, ::2], expected)
    counts = gradtape.grad(lambda x: x.unfold(1, 3, 2).sum())(x)
    np.testing.assert_array_equal(counts[0, :, 0], [1, 1, 2, 1, 1, 0])
    with pytest.raises(TypeError, match="windows of 7 elements every 1 do not fit into the 6 of axis 1"):
        gt.trace(lambda x: x.unfold(1, 7, 1), x)
