"""Correct models that have something in common with broken ones: nothing of warning or above is said of them."""

import numpy as np
import pytest

import gradtape as gt

RNG = np.random.default_rng(0)
N, D = 6, 8


def draw(*shape):
    return (0.3 * RNG.standard_normal(shape)).astype("f4")


def weight(*shape):
    return gt.Parameter(draw(*shape))


def zeros(*shape):
    return gt.Parameter(np.zeros(shape, "f4"))


def filled(value, *shape):
    return gt.Parameter(np.full(shape, value, "f4"))


def norm(v):
    return v / np.sqrt((v * v).sum(-1, keepdims=True) + 1e-6)


X, Y = draw(N, D), draw(N, D)
CLASSES = RNG.integers(0, D, N)
BITS = (Y > 0).astype("f4")


class Net(gt.Module):
    """Parameters by keyword, and a function of them and the inputs."""

    def __init__(self, function, **parts):
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *inputs):
        return self.function(self, *inputs)


HEALTHY = {}


def healthy(loss, *batch, **parts):
    """A model of `parts` whose forward is the decorated function."""

    def register(function):
        HEALTHY[function.__name__] = (Net(function, **parts), loss, batch)
        return function

    return register


def itself():
    return gt.objective(lambda model, *batch: model(*batch))


# zeros at the start -------------------------------------------------------------------------------------------------
@healthy(gt.mse_loss, X, Y, w=gt.freeze(gt.nn.Linear(D, D)), a=weight(D, 2), b=zeros(2, D))
def lora(m, x):
    return m.w(x) + (x @ m.a) @ m.b * 2.0


@healthy(gt.mse_loss, X, Y, ws=[weight(D, D) for _ in range(4)], alphas=[zeros() for _ in range(4)])
def rezero(m, x):
    for w, alpha in zip(m.ws, m.alphas, strict=True):
        x = x + alpha * gt.gelu(x @ w)
    return x


@healthy(gt.cross_entropy, X, CLASSES, w=weight(D, D), b=zeros(D), head=zeros(D, D), head_bias=zeros(D))
def zero_head(m, x):
    return gt.relu(x @ m.w + m.b) @ m.head + m.head_bias


@healthy(gt.mse_loss, X, Y, w=weight(D, D), gain=zeros(D), bias=zeros(D))
def zero_gain(m, x):
    return x + gt.layer_norm(x @ m.w) * m.gain + m.bias


@healthy(gt.mse_loss, X, Y, w=weight(D, D), gain=filled(1e-5, D))
def layer_scale(m, x):
    return x + m.gain * gt.tanh(x @ m.w)


@healthy(gt.cross_entropy, X, CLASSES, w=weight(D, D), b=filled(-2.0, D), head=filled(0.1, D, D))
def constant_head(m, x):
    return gt.tanh(x @ m.w + m.b) @ m.head


@healthy(itself(), X, Y, w=weight(D, D), log_sigma=zeros(2))
def weighted_losses(m, x, y):
    both = gt.stack([gt.mse_loss(x @ m.w, y), np.abs(x @ m.w - y).mean()])
    return (both * np.exp(-m.log_sigma) + m.log_sigma).sum()


# normalisation ------------------------------------------------------------------------------------------------------
@healthy(gt.mse_loss, X, Y, v=weight(D, D), g=filled(1.0, D))
def weight_norm(m, x):
    return x @ (m.v * (m.g / np.sqrt((m.v**2).sum(0))))


@healthy(gt.cross_entropy, X, CLASSES, w=weight(D, D), t=filled(1.0))
def cosine_classifier(m, x):
    return norm(x @ m.w) @ norm(m.w).T * np.exp(m.t)


@healthy(gt.mse_loss, X, Y, w=weight(D, D), g=filled(1.0, D), b=zeros(D))
def batch_norm(m, x):
    h = x @ m.w
    d = h - h.mean(0)
    return gt.relu(d / np.sqrt((d * d).mean(0) + 1e-5) * m.g + m.b)


@healthy(gt.mse_loss, X[:1], Y[:1], w=weight(D, D), g=filled(1.0, D))
def one_example(m, x):
    return gt.layer_norm(x @ m.w) * m.g


@healthy(gt.cross_entropy, X, CLASSES, w=weight(D, D), v=weight(D, D), o=weight(D, D), g=filled(1.0, D))
def gated_linear_unit(m, x):
    h = gt.rms_norm(x) * m.g
    return (gt.silu(h @ m.w) * (h @ m.v)) @ m.o


@healthy(itself(), X, w=weight(D, D))
def sinkhorn(m, x):
    logs = x @ m.w
    for _ in range(3):
        logs = logs - gt.logsumexp(logs, 1, keepdims=True)
        logs = logs - gt.logsumexp(logs, 0, keepdims=True)
    return (np.exp(logs) * X).sum()


# cuts that are meant ------------------------------------------------------------------------------------------------
@healthy(gt.mse_loss, X, Y, e=weight(D, 4), book=weight(16, 4), d=weight(4, D))
def vector_quantiser(m, x):
    z = x @ m.e
    q = gt.take(m.book, np.argmin(((z[:, None, :] - m.book[None]) ** 2).sum(-1), -1))
    commit = ((gt.stop_gradient(z) - q) ** 2).mean() + 0.25 * ((z - gt.stop_gradient(q)) ** 2).mean()
    return (z + gt.stop_gradient(q - z)) @ m.d + commit


@healthy(gt.cross_entropy, X, CLASSES, w=weight(D, 5), o=weight(5, D))
def gumbel_softmax(m, x):
    logits = x @ m.w
    noise = -np.log(-np.log(gt.uniform(logits.shape) + 1e-9) + 1e-9)
    soft = gt.softmax((logits + noise) / 0.5, -1)
    return (gt.one_hot(np.argmax(soft, -1), 5) - gt.stop_gradient(soft) + soft) @ m.o


@healthy(itself(), X, Y, f=weight(D, D), p=weight(D, D), target=gt.freeze(gt.nn.Linear(D, D)))
def bootstrap_your_own_latent(m, x, y):
    return 2 - 2 * (norm(np.tanh(x @ m.f) @ m.p) * norm(gt.stop_gradient(m.target(y)))).sum(-1).mean()


@healthy(itself(), X, w=weight(D, 3), v=weight(D, 1))
def policy_gradient(m, x):
    logs, value = gt.log_softmax(x @ m.w, -1), (x @ m.v)[:, 0]
    advantage = x[:, 0] - gt.stop_gradient(value)
    entropy = -(np.exp(logs) * logs).sum(-1).mean()
    return -(logs[:, 0] * advantage).mean() + 0.5 * ((x[:, 0] - value) ** 2).mean() - 0.01 * entropy


@healthy(itself(), X, w=weight(D, D))
def magic_box(m, x):
    """The value is 1, the gradient that of the logarithm."""
    logs = gt.log_softmax(x @ m.w, -1)[:, 0]
    return (np.exp(logs - gt.stop_gradient(logs)) * x[:, 0]).mean()


# choices ------------------------------------------------------------------------------------------------------------
@healthy(gt.cross_entropy, X, CLASSES, g=weight(D, 3), ws=[weight(D, D) for _ in range(3)])
def mixture_of_experts(m, x):
    p = gt.softmax(x @ m.g, -1)
    return sum(p[:, i : i + 1] * (x @ w) for i, w in enumerate(m.ws))


@healthy(gt.cross_entropy, X, CLASSES, w=weight(D, D), v=weight(D, D))
def maxout(m, x):
    return np.maximum(x @ m.w, x @ m.v)


@healthy(gt.mse_loss, X, Y, w=weight(D, D), v=weight(D, D))
def hard_activations(m, x):
    h = x @ m.w
    return h * np.clip(h / 6 + 0.5, 0, 1) + np.clip(x @ m.v, -1, 1) + np.minimum(gt.relu(h), 6)


@healthy(gt.mse_loss, X, Y, w=weight(D, D), g=weight(D, D), b=filled(-1.0, D))
def highway(m, x):
    t = gt.sigmoid(x @ m.g + m.b)
    return t * gt.relu(x @ m.w) + (1 - t) * x


# masks --------------------------------------------------------------------------------------------------------------
@healthy(
    gt.cross_entropy,
    RNG.integers(0, 5, (2, N)),
    RNG.integers(0, D, (2, N)),
    e=weight(5, D), p=zeros(16, D), q=weight(D, D), k=weight(D, D), r=zeros(2 * N - 1), o=weight(D, D),
)  # fmt: skip
def relative_positions(m, ids):
    h = gt.take(m.e, ids) + m.p[: ids.shape[1]]
    distance = np.arange(N)[:, None] - np.arange(N)[None] + N - 1
    scores = (h @ m.q) @ gt.swapaxes(h @ m.k, -1, -2) / np.sqrt(D) + gt.take(m.r, distance)
    return gt.softmax(gt.where(np.tri(N) > 0, scores, -np.inf), -1) @ h @ m.o


@healthy(gt.cross_entropy, X, CLASSES, w=weight(D, D), q=weight(D, D))
def all_but_oneself(m, x):
    scores = (x @ m.q) @ x.T + np.where(np.eye(N) > 0, -1e9, 0).astype("f4")
    return gt.softmax(scores, -1) @ x @ m.w


@healthy(itself(), X, CLASSES, w=weight(D, D))
def masked_tokens(m, x, y):
    mask = np.array([1, 0, 1, 1, 0, 1], "f4")
    return (gt.cross_entropy(x @ m.w, y, reduction="none") * mask).sum() / mask.sum()


# losses -------------------------------------------------------------------------------------------------------------
@healthy(lambda out, y: ((out - y[:, None]) ** 2).mean(), X, Y[:, 0], w=weight(D, 1))
def regression(m, x):
    return x @ m.w


@healthy(
    lambda out, y: np.maximum(0.3 * (y[:, None] - out), -0.7 * (y[:, None] - out)).mean(), X, Y[:, 0], w=weight(D, N)
)
def quantiles(m, x):
    return x @ m.w


@healthy(lambda out, y: gt.cross_entropy(out @ out.T / 0.1, np.arange(N)), X, Y, w=weight(D, 4))
def contrastive(m, x):
    return norm(x @ m.w)


@healthy(itself(), X, Y[:, 0], w=weight(D, 1))
def kernels_of_all_pairs(m, x, y):
    p = (x @ m.w)[:, 0]
    ranked = gt.relu(1 - (p[:, None] - p[None]) * np.sign(y[:, None] - y[None])).mean()
    return ranked + np.exp(-((p[:, None] - y[None, :]) ** 2)).mean() + np.abs(p[:, None] - y).mean()


@healthy(lambda p, y: -(y * np.log(p + 1e-7) + (1 - y) * np.log(1 - p + 1e-7)).mean(), X, BITS, w=weight(D, D))
def probabilities(m, x):
    return gt.sigmoid(x @ m.w)


@healthy(gt.binary_cross_entropy_with_logits, X, BITS, w=weight(D, D), g=weight(D, D))
def gated_logits(m, x):
    return (x @ m.w) * gt.sigmoid(x @ m.g)


@healthy(
    lambda out, y: (
        gt.cross_entropy(out, np.argmax(y, -1)) - (gt.softmax(y, -1) * gt.log_softmax(out, -1)).sum(-1).mean()
    ),
    X,
    Y,
    w=weight(D, D),
)
def distillation(m, x):
    return x @ m.w


@healthy(itself(), X, encode=gt.nn.Linear(D, D), decode=gt.nn.Linear(4, D))
def variational_autoencoder(m, x):
    mean, log_var = gt.split(m.encode(x), 2, -1)
    z = mean + np.exp(0.5 * log_var) * (gt.uniform(mean.shape) - 0.5)
    divergence = -0.5 * (1 + log_var - mean**2 - np.exp(log_var)).sum(-1).mean()
    return gt.mse_loss(m.decode(z), x) + 0.1 * divergence


@healthy(
    lambda out, y: gt.where(np.abs(out - y) < 1, 0.5 * (out - y) ** 2, np.abs(out - y) - 0.5).mean(),
    X,
    Y,
    w=weight(D, D),
)
def huber(m, x):
    return x @ m.w


@pytest.mark.parametrize("name", HEALTHY)
def test_nothing_is_said_of(name):
    model, loss, batch = HEALTHY[name]
    report = gt.lint(model, *batch, loss=loss, layers=("S", "K", "T"))
    assert not [f for f in report.findings if f.severity != "info"], str(report)
    assert all(v.verdict in ("learns", "frozen") for v in report.parameters), report.table()
