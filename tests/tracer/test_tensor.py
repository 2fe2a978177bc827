"""Tensor's methods, indexing and NumPy protocols: traced and interpreted, they give what NumPy gives on arrays."""

import numpy as np
import pytest

from gradtape import tracer as gt
from gradtape.ir.interp import evaluate_graph
from gradtape.ir.verify import verify

RNG = np.random.default_rng(0)
X = RNG.standard_normal((3, 4, 5)).astype(np.float32)
M = RNG.standard_normal((5, 6)).astype(np.float32)
I = np.array([2, 0, -1])  # noqa: E741
POSITIVE = np.abs(X) + 0.5
WHOLE = RNG.integers(-9, 9, (3, 4))


def both(f, *args):
    """f traced and interpreted, and f on the arrays themselves."""
    traced = gt.trace(f, *args)
    verify(traced.graph)
    assert traced.ledger.escapes == []
    got = traced.structure.restore(evaluate_graph(traced.graph, traced.bind(*args)))
    return got, f(*map(np.copy, args))


def agree(f, *args, dtype=True):
    got, expected = both(f, *args)
    assert type(got) is type(expected) or not isinstance(expected, (list, tuple))
    for a, b in zip(*(r if isinstance(r, (list, tuple)) else [r] for r in (got, expected)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
        assert np.shape(a) == np.shape(b)
        if dtype:
            assert a.dtype == np.asarray(b).dtype


OPERATORS = {
    "add": lambda x: x + 1.5,
    "radd": lambda x: 2 + x,
    "sub": lambda x: 1.0 - x,
    "array left": lambda x: X * x + np.float32(2) * x,
    "array right": lambda x: x * X[0, 0],
    "div": lambda x: x / POSITIVE + 1.0 / (x * x + 1.0),
    "pow": lambda x: (x * x + 1.0) ** 1.5,
    "rpow": lambda x: 2.0**x,
    "neg abs": lambda x: -abs(x),
    "pos": lambda x: +x,
    "compare": lambda x: (x > 0) & (x <= 1.0) | ~(x != X),
    "matmul": lambda x: x @ M,
    "rmatmul": lambda x: np.ones((2, 4), np.float32) @ x,
    "in place name": lambda x: _in_place(x),
    "list": lambda x: x + [1.0, 2.0, 3.0, 4.0, 5.0],
}


def _in_place(x):
    x += 1.0
    x *= x
    return x


@pytest.mark.parametrize("name", OPERATORS)
def test_operators(name):
    agree(OPERATORS[name], X, dtype=name != "list")


METHODS = {
    "reshape": lambda x: x.reshape(3, -1),
    "reshape tuple": lambda x: x.reshape((2, 6, 5)),
    "transpose": lambda x: x.transpose(0, 2, 1),
    "transpose tuple": lambda x: x.transpose((2, 0, 1)),
    "transpose all": lambda x: x.transpose(),
    "T": lambda x: x.T,
    "swapaxes": lambda x: x.swapaxes(-1, 0),
    "sum": lambda x: x.sum(),
    "sum axis": lambda x: x.sum(axis=1),
    "sum axes": lambda x: x.sum((0, -1), keepdims=True),
    "mean": lambda x: x.mean(-1),
    "mean of bool": lambda x: (x > 0).astype(np.float32).mean(),
    "sum of bool": lambda x: (x > 0).sum(0),
    "max": lambda x: x.max(axis=(1, 2)),
    "min": lambda x: x.min(0, keepdims=True),
    "prod": lambda x: x.prod(2),
    "var": lambda x: x.var(axis=1),
    "var ddof": lambda x: x.var(axis=1, ddof=1, keepdims=True),
    "std": lambda x: x.std(),
    "any": lambda x: (x > 1).any(axis=0),
    "all of numbers": lambda x: x.all(),
    "astype": lambda x: x.astype(np.int64),
    "astype str": lambda x: x.astype("float64"),
    "astype same": lambda x: x.astype(np.float32),
    "flatten": lambda x: x.flatten(),
    "ravel": lambda x: x.ravel(),
    "squeeze": lambda x: x[:, None].squeeze(1) + x[None].squeeze()[0],
    "copy": lambda x: x.copy(),
    "properties": lambda x: x * float(x.ndim + x.shape[1] + x.size) if x.dtype == np.float32 else None,
    "iterate": lambda x: [row * 2.0 for row in x] + [x[0] * float(len(x))],
    "unpack": lambda x: sum(x),
}


METHODS |= {
    "argmax": lambda x: x.argmax(1) + x.argmin(axis=1),
    "argsort": lambda x: x.argsort(-1),
    "clip": lambda x: x.clip(-0.5, 0.5),
    "cumsum": lambda x: x.cumsum(axis=1) + x.cumprod(0),
    "cumsum flat": lambda x: x.cumsum(),
    "diagonal": lambda x: x.diagonal(1, 1, 2),
    "repeat": lambda x: x.repeat(2, axis=0),
    "round": lambda x: x.round(1),
    "take": lambda x: x.take(I, axis=1),
}


@pytest.mark.parametrize("name", METHODS)
def test_methods(name):
    agree(METHODS[name], X, dtype=name not in ("sum of bool",))


TORCH_LIKE = {
    "permute": (lambda x: x.permute(0, 2, 1), X.transpose(0, 2, 1)),
    "unsqueeze": (lambda x: x.unsqueeze(-1), X[..., None]),
    "expand_dims": (lambda x: x.expand_dims(1), X[:, None]),
    "dim": (lambda x: x.sum(dim=-1, keepdim=True), X.sum(-1, keepdims=True)),
    "flatten from": (lambda x: x.flatten(1), X.reshape(3, 20)),
    "flatten to": (lambda x: x.flatten(0, 1), X.reshape(12, 5)),
    "detach": (lambda x: x.detach(), X),
    "view": (lambda x: x.view(12, 5), X.reshape(12, 5)),
    "exp": (lambda x: x.exp().log1p() + x.tanh().pow(2), np.log1p(np.exp(X)) + np.tanh(X) ** 2),
    "clamp": (lambda x: x.clamp(min=0.0).sqrt(), np.sqrt(np.maximum(X, 0))),
    "masked_fill": (lambda x: x.masked_fill(x > 0, -1), np.where(X > 0, np.float32(-1), X)),
    "gather": (lambda x: x.gather(1, x.argsort(dim=1)), np.sort(X, 1)),
    "topk": (lambda x: x.topk(2, dim=-1).values, -np.sort(-X, -1)[..., :2]),
    "sort": (lambda x: x.sort(1, descending=True), -np.sort(-X, 1)),
    "index_add": (lambda x: x.index_add(0, np.array([0, 0]), x[1:]), np.concatenate([X[1:2] + X[2:] + X[:1], X[1:]])),
    "scatter_add": (lambda x: x.scatter_add(0, np.zeros((1, 4, 5), int), x), np.concatenate([2 * X[:1], X[1:]])),
    "flip roll": (lambda x: x.flip((0,)).roll(1, 2), np.roll(X[::-1], 1, 2)),
    "unbind": (lambda x: x.unbind(1)[2], X[:, 2]),
    "diff": (lambda x: x.diff(axis=0).tile((1, 1, 2)), np.tile(np.diff(X, axis=0), (1, 1, 2))),
}


@pytest.mark.parametrize("name", TORCH_LIKE)
def test_methods_with_names_from_pytorch(name):
    f, expected = TORCH_LIKE[name]
    traced = gt.trace(f, X)
    (got,) = evaluate_graph(traced.graph, traced.bind(X)).values()
    np.testing.assert_allclose(got, expected, rtol=1e-6)


NUMPY = {
    "tanh": lambda x: np.tanh(x),
    "exp log": lambda x: np.log(np.exp(x) + 1.0),
    "sqrt square": lambda x: np.sqrt(np.square(x)),
    "abs": lambda x: np.abs(x) + np.fabs(x) + np.absolute(x),
    "binary": lambda x: np.add(x, 1.0) * np.subtract(X, x) / np.multiply(x, x),
    "power": lambda x: np.power(np.abs(x), 0.5),
    "maximum": lambda x: np.maximum(x, 0) + np.minimum(x, X),
    "compare": lambda x: np.logical_and(np.greater(x, 0), np.less_equal(x, 1)),
    "matmul": lambda x: np.matmul(x, M) + np.dot(x, M),
    "sum": lambda x: np.sum(x, axis=1, keepdims=True),
    "sum positional": lambda x: np.sum(x, 1),
    "mean max min": lambda x: np.mean(x, -1) + np.max(x, -1) + np.amin(x, axis=-1),
    "var std": lambda x: np.var(x, axis=0, ddof=1) + np.std(x, 0),
    "prod any all": lambda x: np.prod(x, 0) * np.any(x > 0, axis=0) * np.all(x > 0, 0),
    "reduce": lambda x: np.add.reduce(x) + np.maximum.reduce(x, axis=0),
    "transpose": lambda x: np.transpose(x, (0, 2, 1)),
    "transpose all": lambda x: np.transpose(x),
    "reshape": lambda x: np.reshape(x, (-1, 5)),
    "swapaxes": lambda x: np.swapaxes(x, 1, 2) + np.moveaxis(x, 1, 2),
    "expand squeeze": lambda x: np.squeeze(np.expand_dims(x, (0, 2))),
    "broadcast_to": lambda x: np.broadcast_to(x, (2, 3, 4, 5)),
    "ravel": lambda x: np.ravel(x),
    "where": lambda x: np.where(x > 0, x, 0.0),
    "where array": lambda x: np.where(X > 0, x, X),
    "concatenate": lambda x: np.concatenate([x, X], axis=1),
    "stack": lambda x: np.stack([x, x * 2.0], axis=-1),
    "vstack hstack": lambda x: np.vstack([x[0], x[1]]) + np.hstack([x[0], x[1]]).reshape(8, 5),
    "split": lambda x: np.split(x, 2, axis=1),
    "split at": lambda x: np.split(x, [1, 3], axis=-1),
    "take": lambda x: np.take(x, I, axis=1),
    "take_along_axis": lambda x: np.take_along_axis(x, np.argsort(X, -1), -1),
    "take flat": lambda x: np.take(x, I),
    "clip": lambda x: np.clip(x, -0.5, 0.5),
    "outer": lambda x: np.outer(x[0, 0], x[0, 1]),
    "norm": lambda x: np.linalg.norm(x, axis=-1, keepdims=True),
    "tril": lambda x: np.tril(x, 1) + np.triu(x),
    "like": lambda x: np.zeros_like(x) + np.ones_like(x) + np.full_like(x, 2.0),
    "shape": lambda x: x * (np.shape(x)[0] + np.ndim(x) + np.size(x)),
    "negative positive": lambda x: np.negative(x) + np.positive(x),
}


@pytest.mark.parametrize("name", NUMPY)
def test_numpy_functions_are_traced(name):
    agree(NUMPY[name], X)


def test_integer_values():
    agree(lambda x: x + 1, WHOLE)
    agree(lambda x: x.sum(0) * x.max(), WHOLE)
    got, expected = both(lambda x: x.mean(), WHOLE)
    np.testing.assert_allclose(got, expected, rtol=1e-6)
    assert got.dtype == np.float32  # NumPy: float64


def test_refusals_name_the_line_and_what_to_write():
    def assign(x):
        x[0] = 1.0

    def add_to_slice(x):
        x[0] += 1.0

    def out(x):
        np.add(x, 1.0, out=np.zeros(X.shape, np.float32))

    def accumulate(x):
        total = np.zeros(X.shape, np.float32)
        total += x

    def put(x):
        np.put_along_axis(x, I[:, None, None], 1.0, 0)

    def backward(x):
        x.sum().backward()

    for f, kind, text in (
        (assign, "setitem", "x.at[i].set(new)"),
        (add_to_slice, "setitem", "gt.where"),
        (put, "setitem", "gt.put_along_axis(x, indices, values, axis)"),
        (out, "out", "without out="),
        (accumulate, "out", "x = x + y"),
        (backward, "", "value_and_grad"),
    ):
        seen = []

        def call(x, f=f, seen=seen):
            seen.append(x.trace.ledger)
            f(x)

        with pytest.raises(gt.TraceError) as error:
            gt.trace(call, X)
        line = f.__code__.co_firstlineno + (2 if f is accumulate else 1)
        assert f"{__file__}:{line}" in str(error.value) and text in str(error.value)
        assert [(e.kind, e.line) for e in seen[0].escapes] == ([(kind, line)] if kind else [])


def test_transposing_two_of_three_axes_says_what_to_write():
    with pytest.raises(TypeError, match=r"write x.swapaxes\(1, 2\)"):
        gt.trace(lambda x: x.transpose(1, 2), X)


def test_truth_of_a_size_is_not_an_escape():
    def f(x):
        if x.shape[0] > 2 and x.ndim == 3 and x.dtype == np.float32 and x.size:
            return x * 2.0

    traced = gt.trace(f, gt.spec(("B", 4, 5)))
    assert traced.ledger.escapes == []


def test_printing_is_not_an_escape():
    traced = gt.trace(lambda x: (x, str(x), f"{x}", repr(x))[0], gt.spec((3,)))
    assert traced.ledger.escapes == []
