"""The op namespace: eager results against NumPy, traced results against eager ones."""

import importlib
import inspect
import math

import numpy as np
import pytest

from gradtape import tracer as gt
from gradtape.ir.dims import Dim
from gradtape.ir.interp import evaluate_graph
from gradtape.ir.op import OPS
from gradtape.ir.verify import verify

RNG = np.random.default_rng(0)
X = RNG.standard_normal((3, 4, 5)).astype(np.float32)
LOGITS = RNG.standard_normal((3, 4, 7)).astype(np.float32)
TARGET = RNG.integers(0, 7, (3, 4))
TABLE = RNG.standard_normal((9, 5)).astype(np.float32)


def softmax(x, axis=-1):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def nll(logits, target):
    return -np.take_along_axis(np.log(softmax(logits.astype(np.float64))), target[..., None], -1)[..., 0]


def erf(x):
    return np.vectorize(math.erf)(x)


CAUSAL = np.tril(np.ones((4, 4), bool))

# name -> (function of X (and more), the same in NumPy)
CASES = {
    "softmax": (lambda x: gt.softmax(x), lambda x: softmax(x)),
    "softmax dim": (lambda x: gt.softmax(x, dim=1), lambda x: softmax(x, 1)),
    "log_softmax": (lambda x: gt.log_softmax(x, axis=0), lambda x: np.log(softmax(x, 0))),
    "logsumexp": (lambda x: gt.logsumexp(x), lambda x: np.log(np.exp(x).sum(-1))),
    "logsumexp kept": (lambda x: gt.logsumexp(x, 1, True), lambda x: np.log(np.exp(x).sum(1, keepdims=True))),
    "logsumexp axes": (lambda x: gt.logsumexp(x, (0, 2)), lambda x: np.log(np.exp(x).sum((0, 2)))),
    "logsumexp all": (lambda x: gt.logsumexp(x, None), lambda x: np.log(np.exp(x).sum())),
    "gelu": (lambda x: gt.gelu(x), lambda x: 0.5 * x * (1 + erf(x / np.sqrt(2)))),
    "gelu tanh": (
        lambda x: gt.gelu(x, approximate="tanh"),
        lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    ),
    "silu": (lambda x: gt.silu(x), lambda x: x / (1 + np.exp(-x))),
    "sigmoid": (lambda x: gt.sigmoid(x), lambda x: 1 / (1 + np.exp(-x))),
    "relu": (lambda x: gt.relu(x), lambda x: np.maximum(x, 0)),
    "clip": (lambda x: gt.clip(x, -1, 0.5), lambda x: np.clip(x, -1, 0.5)),
    "clip low": (lambda x: gt.clip(x, min=0.0), lambda x: np.maximum(x, 0)),
    "layer_norm": (
        lambda x: gt.layer_norm(x, 5, np.arange(5.0).astype("f4"), np.ones(5, "f4")),
        lambda x: (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * np.arange(5) + 1,
    ),
    "layer_norm axes": (
        lambda x: gt.layer_norm(x, (4, 5), eps=1e-3),
        lambda x: (x - x.mean((1, 2), keepdims=True)) / np.sqrt(x.var((1, 2), keepdims=True) + 1e-3),
    ),
    "layer_norm free axes": (
        lambda x: gt.layer_norm(x, axes=(0, 1)),
        lambda x: (x - x.mean((0, 1), keepdims=True)) / np.sqrt(x.var((0, 1), keepdims=True) + 1e-5),
    ),
    "rms_norm": (
        lambda x: gt.rms_norm(x, 5, np.full(5, 2, "f4"), 1e-6),
        lambda x: 2 * x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-6),
    ),
    "embedding": (lambda x: gt.embedding(TARGET, gt.tensor(TABLE)) * x[0, 0], lambda x: TABLE[TARGET] * x[0, 0]),
    "linear": (lambda x: gt.linear(x, TABLE, np.arange(9.0).astype("f4")), lambda x: x @ TABLE.T + np.arange(9)),
    "attention": (
        lambda x: gt.scaled_dot_product_attention(x, x, x),
        lambda x: softmax(x @ x.swapaxes(1, 2) / np.sqrt(5)) @ x,
    ),
    "attention causal": (
        lambda x: gt.scaled_dot_product_attention(x, x, x, is_causal=True, scale=0.3),
        lambda x: softmax(np.where(CAUSAL, 0.3 * x @ x.swapaxes(1, 2), -np.inf)) @ x,
    ),
    "attention bool mask": (
        lambda x: gt.scaled_dot_product_attention(x, x, x, mask=CAUSAL.T),
        lambda x: softmax(np.where(CAUSAL.T, x @ x.swapaxes(1, 2) / np.sqrt(5), -np.inf)) @ x,
    ),
    "attention added mask": (
        lambda x: gt.scaled_dot_product_attention(x, x, x, mask=X[0, :, :4]),
        lambda x: softmax(x @ x.swapaxes(1, 2) / np.sqrt(5) + X[0, :, :4]) @ x,
    ),
    "mse": (lambda x: gt.mse(x, X[::-1]), lambda x: np.mean((x - X[::-1]) ** 2)),
    "mse sum": (lambda x: gt.mse_loss(x, X[::-1], "sum"), lambda x: np.sum((x - X[::-1]) ** 2)),
    "l1 none": (lambda x: gt.l1_loss(x, X[::-1], reduction="none"), lambda x: np.abs(x - X[::-1])),
    "bce": (
        lambda x: gt.binary_cross_entropy_with_logits(x, (X > 0).astype("f4")),
        lambda x: -np.mean(np.where(X > 0, np.log(1 / (1 + np.exp(-x))), np.log(1 / (1 + np.exp(x))))),
    ),
    "chunk": (lambda x: gt.chunk(x, 2, 1)[1], lambda x: x[:, 2:]),
    "moveaxis": (lambda x: gt.moveaxis(x, 0, -1), lambda x: np.moveaxis(x, 0, -1)),
    "one_hot": (lambda x: gt.one_hot(TARGET, 7) * x[0, 0, 0], lambda x: np.eye(7)[TARGET] * x[0, 0, 0]),
    "promoted concat": (
        lambda x: gt.concatenate([x, TARGET[..., None]], -1),
        lambda x: np.concatenate([x, TARGET[..., None]], -1),
    ),
    "where numbers": (lambda x: gt.where(TARGET, x[..., 0], 1.0), lambda x: np.where(TARGET, x[..., 0], 1.0)),
    "list of traced": (lambda x: gt.stack([x[0], x[1] * 2]), lambda x: np.stack([x[0], x[1] * 2])),
}


@pytest.mark.parametrize("name", CASES)
def test_eager_and_traced(name):
    f, reference = CASES[name]
    expected = reference(X)
    eager = f(X)
    assert isinstance(eager, np.ndarray) and eager.dtype == np.float32
    np.testing.assert_allclose(eager, expected, rtol=2e-5, atol=2e-6)
    traced = gt.trace(f, X)
    verify(traced.graph)
    assert not traced.ledger.escapes
    (got,) = evaluate_graph(traced.graph, traced.bind(X)).values()
    np.testing.assert_allclose(got, eager, rtol=1e-6)
    assert got.dtype == eager.dtype and got.shape == eager.shape


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("log", [False, True])
def test_cross_entropy(reduction, log):
    def f(logits, target):
        if log:
            return gt.nll_loss(gt.log_softmax(logits), target, reduction=reduction)
        return gt.cross_entropy(logits, target, reduction=reduction)

    expected = {"mean": np.mean, "sum": np.sum, "none": np.array}[reduction](nll(LOGITS, TARGET))
    np.testing.assert_allclose(f(LOGITS, TARGET), expected, rtol=1e-5)
    traced = gt.trace(f, gt.spec(("B", "T", 7)), gt.spec(("B", "T"), "i64"))
    got = evaluate_graph(traced.graph, traced.bind(LOGITS, TARGET))["out"]
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    assert got.shape == expected.shape and not traced.graph.guards


def test_a_nearly_broadcasting_loss_is_refused():
    with pytest.raises(TypeError, match="differ in rank"):
        gt.mse(np.ones((4, 1), np.float32), np.ones(4, np.float32))


# generators -------------------------------------------------------------------------------------------------------
GENERATORS = {
    "zeros": (lambda b, t: gt.zeros((b, t, 4)), lambda b, t: np.zeros((b, t, 4), "f4")),
    "ones": (lambda b, t: gt.ones(t, b), lambda b, t: np.ones((t, b), "f4")),
    "full": (lambda b, t: gt.full((b,), -2.5), lambda b, t: np.full(b, -2.5, "f4")),
    "full int": (lambda b, t: gt.full((b, t), 3), lambda b, t: np.full((b, t), 3)),
    "full dtype": (lambda b, t: gt.full((b, t), 3, "f64"), lambda b, t: np.full((b, t), 3.0)),
    "arange": (lambda b, t: gt.arange(t), lambda b, t: np.arange(t)),
    "arange float": (lambda b, t: gt.arange(t, dtype="f32"), lambda b, t: np.arange(t, dtype="f4")),
    "arange from": (lambda b, t: gt.arange(2, t), lambda b, t: np.arange(2, t)),
    "arange to sum": (lambda b, t: gt.arange(b, b + t), lambda b, t: np.arange(b, b + t)),
    "arange step": (lambda b, t: gt.arange(0, 2 * t, 2), lambda b, t: np.arange(0, 2 * t, 2)),
    "tril": (lambda b, t: gt.tril(gt.ones((t, t))), lambda b, t: np.tril(np.ones((t, t), "f4"))),
    "triu": (lambda b, t: gt.triu(gt.ones((b, t)), 1), lambda b, t: np.triu(np.ones((b, t), "f4"), 1)),
    "eye": (lambda b, t: gt.eye(t), lambda b, t: np.eye(t, dtype="f4")),
    "eye wide": (lambda b, t: gt.eye(b, t), lambda b, t: np.eye(b, t, dtype="f4")),
    "one_hot": (lambda b, t: gt.one_hot(gt.arange(t), b), lambda b, t: np.eye(t, max(b, t), dtype="f4")[:, :b]),
    "broadcast": (lambda b, t: gt.broadcast_to(np.arange(4), (b, 4)), lambda b, t: np.tile(np.arange(4), (b, 1))),
    "mask": (lambda b, t: gt.tril(gt.ones((t, t))) == 0, lambda b, t: np.tril(np.ones((t, t))) == 0),
    "zeros_like": (lambda b, t: gt.zeros_like(gt.arange(t)), lambda b, t: np.zeros(t, np.int64)),
}


@pytest.mark.parametrize("name", GENERATORS)
def test_generators_are_plain_with_ints_and_symbolic_with_dims(name):
    f, reference = GENERATORS[name]
    plain = f(3, 6)
    assert type(plain) is np.ndarray
    np.testing.assert_array_equal(plain, reference(3, 6))
    assert plain.dtype == reference(3, 6).dtype
    traced = gt.trace(lambda x: f(*x.shape), gt.spec(("B", "T")))
    verify(traced.graph)
    assert traced.graph.guards == () and traced.graph.constants.keys() <= _four_digest()
    for b, t in ((3, 6), (1, 2), (8, 5)):
        got = evaluate_graph(traced.graph, {"x": np.zeros((b, t), np.float32)})["out"]
        np.testing.assert_array_equal(got, reference(b, t))
        assert got.dtype == plain.dtype


def _four_digest():
    from gradtape.ir.graph import array_digest

    return {array_digest(np.arange(4))}  # the one array that a case brings itself


def test_plain_sizes_give_plain_arrays_in_a_trace_too():
    def f(x):
        assert type(gt.arange(3)) is np.ndarray and type(gt.tril(gt.ones((3, 3)))) is np.ndarray
        return x

    gt.trace(f, gt.spec(("B",)))


def test_a_generator_with_a_dim_outside_of_a_trace():
    with pytest.raises(TypeError, match="B has no concrete value"):
        gt.zeros((Dim("B"), 2))


def test_causal_mask_is_computed_not_stored():
    traced = gt.trace(lambda x: gt.scaled_dot_product_attention(x, x, x, is_causal=True), X)
    assert not traced.graph.constants
    assert [n.op for n in traced.graph.nodes] == [
        "permute", "matmul", "mul", "iota", "iota", "less_equal", "where", "softmax", "matmul",
    ]  # fmt: skip


# tensor() ---------------------------------------------------------------------------------------------------------
def test_tensor_outside_of_a_trace():
    assert gt.tensor([1.0, 2.0]).dtype == np.float32
    assert gt.tensor([1, 2]).dtype == np.int64
    assert gt.tensor(np.ones(2)).dtype == np.float64
    assert gt.tensor([[1, 2]], dtype="f64").dtype == np.float64
    assert gt.tensor(2.5).dtype == np.float32
    assert isinstance(gt.tensor([1.0], requires_grad=True), gt.Parameter)


def test_tensor_of_traced_values_stays_traced():
    def f(x):
        return gt.tensor([x.sum(), x.mean() * 2.0, 1.0])

    traced = gt.trace(f, X)
    assert not traced.ledger.escapes and not traced.ledger.leaves
    got = evaluate_graph(traced.graph, traced.bind(X))["out"]
    np.testing.assert_allclose(got, [X.sum(), X.mean() * 2, 1.0], rtol=1e-5)


# errors -----------------------------------------------------------------------------------------------------------
ERRORS = {
    "axis": (lambda x: gt.sum(x, axis=3), "sum: axis 3 is out of range for 3 dimensions"),
    "twice": (lambda x: gt.mean(x, axis=(0, 0)), "an axis appears twice"),
    "reshape": (lambda x: gt.reshape(x, 7, -1), "60 elements do not divide"),
    "two -1": (lambda x: gt.reshape(x, -1, -1), "only one -1"),
    "shape of text": (lambda x: gt.reshape(x, "a"), "made of ints and Dims, got 'a'"),
    "squeeze": (lambda x: gt.squeeze(x, 1), "axis 1 has size 4, not 1"),
    "split": (lambda x: gt.split(x, 3, 1), "axis 1 of size 4 does not split into 3 equal parts"),
    "matmul": (lambda x: gt.matmul(x, TABLE), "inner sizes differ: 5"),
    "broadcast": (lambda x: x + np.ones((2,), np.float32), "do not broadcast"),
    "normalized": (lambda x: gt.layer_norm(x, 4), r"normalized_shape \(4,\) is not the end of shape \(3, 4, 5\)"),
    "dtype": (lambda x: gt.exp(gt.astype(x, "i64")), "needs a float operand"),
    "matrix": (lambda x: gt.tril(x[0, 0]), "needs a matrix"),
    "object": (lambda x: x + object(), "unsupported operand"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_are_the_same_eagerly_and_traced(name):
    f, text = ERRORS[name]
    with pytest.raises((TypeError, ValueError), match=text) as traced:
        gt.trace(f, X)
    if name != "object":
        assert f"{__file__}:{f.__code__.co_firstlineno}" in str(traced.value)
    if name not in ("broadcast", "object"):  # these are NumPy's own
        with pytest.raises((TypeError, ValueError), match=text):
            f(X)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: gt.gelu(X, approximate="erf"), 'approximate is "none" or "tanh"'),
        (lambda: gt.mse(X, X, reduction="avg"), 'reduction is "mean", "sum" or "none"'),
        (lambda: gt.dropout(X, 1.5), "p=1.5"),
    ],
)
def test_wrong_options(call, text):
    with pytest.raises(ValueError, match=text):
        call()


# completeness -----------------------------------------------------------------------------------------------------
def test_every_elementwise_op_has_a_public_name():
    hidden = {"cast", "iota", "dim_scalar", "random_bits"}  # astype, arange, arithmetic with a Dim, randint
    names = {name for name, op in OPS.items() if op.kind == "elementwise"} - hidden
    assert {name for name in names if not callable(getattr(gt, name, None))} == set()


def test_the_whole_namespace_is_public():
    import gradtape

    for module in "arrange dynamic einsum elementwise functional generate indexing random sorting update".split():
        names = importlib.import_module(f"gradtape.tracer.{module}").__all__
        assert {name for name in names if not hasattr(gradtape, name)} <= {"TopK"}, module


def test_every_public_function_says_what_it_does():
    for name in gt.__dict__:
        thing = getattr(gt, name)
        if inspect.isfunction(thing):
            assert thing.__doc__, name
