"""Correct programs that look broken: the 16 traps of false positives. Nothing of warning or above is found in them."""

from corpus import TRACED, case

W = {"w": (8, 8)}
MODULES = ("transformer", "cnn", "recurrent")  # hosts whose parameters an optimizer can be given


def trap(number: int, name: str, healthy: str, **given) -> None:
    case(f"trap {number}", name=f"trap{number:02d}-{name}", healthy=healthy, **given)


# 1 frozen on purpose --------------------------------------------------------------------------------------------------
trap(
    1,
    "frozen-backbone",
    """
    h = gt.tanh(h @ self.w)
    h = h + gt.stop_gradient(gt.relu(h @ self.backbone))
    """,
    params={"w": (8, 8), "backbone": (8, 8)},
    setup="gt.freeze(self.backbone)",
)
trap(
    1,
    "flag-off-and-not-in-the-optimizer",
    """
    h = gt.tanh(h @ self.w) + h @ self.backbone
    """,
    params={"w": (8, 8), "backbone": (8, 8)},
    setup="self.backbone.requires_grad = False",
    optimizer="gt.AdamW(1e-3, params=[p for p in model.parameters() if p.requires_grad])",
    hosts=MODULES,
)

# 2 a stop_gradient that is meant --------------------------------------------------------------------------------------
trap(
    2,
    "target-network",
    """
    online = gt.tanh(h @ self.w)
    target = gt.stop_gradient(gt.tanh(h @ self.slow))
    h = online + ((online - target) ** 2).mean()
    """,
    params=W,
    setup="self.slow = gt.buffer(draw(8, 8))",
)
trap(
    2,
    "both-sides-of-one-weight",
    """
    online = gt.tanh(h @ self.w)
    target = gt.tanh(h[::-1] @ self.w).detach()
    h = online + ((online - target) ** 2).mean()
    """,
    params=W,
)
trap(
    2,
    "critic-in-the-policy",
    """
    value = h @ self.critic
    advantage = gt.stop_gradient(1.0 - value)
    h = gt.log_softmax(h @ self.policy, -1) * advantage + ((1.0 - value) ** 2).mean()
    """,
    params={"critic": (8, 1), "policy": (8, 8)},
)
trap(
    2,
    "linear-probe",
    """
    probe = gt.stop_gradient(h) @ self.probe
    h = h + (gt.logsumexp(probe, -1, keepdims=True) - probe[:, :1])
    """,
    params={"probe": (8, 8)},
)

# 3 quantisers ---------------------------------------------------------------------------------------------------------
NEAREST = """
def nearest(h, codebook):
    distance = ((h.reshape(-1, 1, 8) - codebook) ** 2).sum(-1)
    return gt.take(codebook, np.argmin(distance, -1), 0)
"""
trap(
    3,
    "codebook-by-moving-average",
    """
    h = h @ self.w
    q = nearest(h, self.codebook)
    h = h + gt.stop_gradient(q - h)
    """,
    params=W,
    setup="self.codebook = gt.buffer(draw(4, 8))",
    top=NEAREST,
)
trap(
    3,
    "codebook-with-its-own-term",
    """
    h = h @ self.w
    q = nearest(h, self.codebook)
    terms = ((q - gt.stop_gradient(h)) ** 2).mean() + 0.25 * ((h - gt.stop_gradient(q)) ** 2).mean()
    h = h + gt.stop_gradient(q - h) + terms
    """,
    params={"w": (8, 8), "codebook": (4, 8)},
    top=NEAREST,
)
trap(
    3,
    "rounding-straight-through",
    """
    h = gt.tanh(h @ self.w) * 4
    h = h + (np.round(h) - h).detach()
    """,
    params=W,
)
trap(
    3,
    "sign-straight-through",
    """
    latent = h @ self.w
    h = gt.clip(latent, -1, 1) + gt.stop_gradient(np.sign(latent) - gt.clip(latent, -1, 1))
    """,
    params=W,
)
trap(
    3,
    "smaller-gradient",
    """
    h = gt.tanh(h @ self.w)
    h = 0.1 * h + gt.stop_gradient(0.9 * h)
    """,
    params=W,
)

# 4 several losses and optimizers --------------------------------------------------------------------------------------
trap(
    4,
    "discriminator-step",
    """
    fake = gt.stop_gradient(gt.tanh(h @ self.generator))
    h = gt.relu(fake @ self.discriminator) + h
    """,
    params={"generator": (8, 8), "discriminator": (8, 8)},
    optimizer="gt.Adam(1e-3, params=[p for n, p in model.named_parameters() if not n.endswith('generator')])",
    hosts=MODULES,
)

# 5 state that is not trained ------------------------------------------------------------------------------------------
trap(
    5,
    "running-statistics",
    """
    h = h @ self.w
    self.mean_ = 0.9 * self.mean_ + 0.1 * gt.stop_gradient(h.mean(0))
    h = h - self.mean_
    """,
    params=W,
    setup="self.mean_ = gt.buffer(np.zeros(8, 'f4'))",
)
trap(
    5,
    "positional-table",
    """
    table = np.sin(np.arange(8) / 10.0).astype("f4")
    h = h @ self.w + table + self.positions[:1]
    """,
    params=W,
    setup="self.positions = gt.buffer(np.cos(np.arange(32, dtype='f4')).reshape(4, 8))",
)

# 6 rows that this batch does not reach --------------------------------------------------------------------------------
trap(
    6,
    "embedding-rows",
    """
    ids = np.argmax(h, -1) % 4
    h = h + gt.embedding(ids, self.table)
    """,
    params={"table": (50, 8)},
)
trap(
    6,
    "experts",
    """
    scores = gt.softmax(h @ self.router, -1)
    best = gt.one_hot(np.argmax(scores, -1), 3) * scores
    h = sum(best[:, i : i + 1] * gt.tanh(h @ self.experts[i]) for i in range(3))
    """,
    params={"router": (8, 3), "experts": (3, 8, 8)},
)

# 7 zero by mathematics ------------------------------------------------------------------------------------------------
trap(
    7,
    "key-bias",
    """
    q, k, v = h @ self.q, h @ self.k + self.k_bias, h @ self.v
    h = gt.softmax(q @ k.T / 8**0.5, -1) @ v
    """,
    params={"q": (8, 8), "k": (8, 8), "v": (8, 8), "k_bias": (8,)},
)
trap(
    7,
    "bias-before-layer-norm",
    """
    h = h @ self.w + self.bias_
    h = gt.layer_norm(h, 8)
    """,
    params={"w": (8, 8), "bias_": (8,)},
)
trap(
    7,
    "bias-before-batch-norm",
    """
    h = h @ self.w + self.bias_
    h = (h - h.mean(0)) / np.sqrt(h.var(0) + 1e-5)
    """,
    params={"w": (8, 8), "bias_": (8,)},
)

# 8 zero in the first step ---------------------------------------------------------------------------------------------
trap(
    8,
    "lora",
    """
    h = h @ (self.w + self.a @ self.b)
    """,
    params={"w": (8, 8), "a": (8, 2), "b": "gt.Parameter(np.zeros((2, 8), 'f4'))"},
    setup="gt.freeze(self.w)",
)
trap(
    8,
    "rezero",
    """
    h = h + self.alpha * gt.tanh(h @ self.w)
    """,
    params={"w": (8, 8), "alpha": "gt.Parameter(np.zeros(1, 'f4'))"},
)
trap(
    8,
    "warm-up",
    "h = h @ self.w",
    params=W,
    optimizer="gt.AdamW(gt.schedule.warmup_cosine(1e-3, 10, 100))",
    hosts=MODULES,
)

# 9 a kink on this batch -----------------------------------------------------------------------------------------------
trap(
    9,
    "hinge",
    """
    h = gt.tanh(h @ self.w)
    margin = gt.maximum(0.0, 1.0 - 3.0 * h * h)
    h = h + margin.mean()
    """,
    params=W,
)

trap(
    9,
    "exactly-on-the-kink",
    """
    flat = gt.zeros_like(h) * h + self.shift_
    h = h @ self.w + gt.relu(flat) + np.abs(flat) + gt.maximum(flat, 0.0) + flat.max(-1, keepdims=True)
    """,
    params={"w": (8, 8), "shift_": "gt.Parameter(np.zeros(8, 'f4'))"},
)

# 10 cuts that are exact -----------------------------------------------------------------------------------------------
trap(
    10,
    "softmax-by-hand",
    """
    h = h @ self.w
    e = np.exp(h - gt.stop_gradient(h.max(-1, keepdims=True)))
    h = e / e.sum(-1, keepdims=True)
    """,
    params=W,
)
trap(
    10,
    "softmax-with-a-raw-maximum",
    """
    h = h @ self.w
    e = np.exp(h - h.data.max(-1, keepdims=True))
    h = e / e.sum(-1, keepdims=True)
    """,
    params=W,
)
trap(
    10,
    "softmax-with-a-number",
    """
    h = h @ self.w
    e = np.exp(h - float(h.max()))
    h = e / (e.sum(-1, keepdims=True) + 1e-9)
    """,
    params=W,
)
trap(
    10,
    "softmax-op-after-a-raw-shift",
    """
    h = h @ self.w
    h = gt.softmax((h - gt.tensor(h.data.max(-1, keepdims=True))) / 0.5, -1)
    """,
    params=W,
)
trap(
    10,
    "logsumexp",
    """
    h = h @ self.w
    m = h.max().item()
    h = h - (m + np.log(np.sum(np.exp(h - m), -1, keepdims=True)))
    """,
    params=W,
)
trap(
    10,
    "masked-scores",
    """
    scores = (h @ self.w) @ h.T
    scores = scores - scores.data.max(axis=-1, keepdims=True)
    n = h.shape[0]
    e = np.exp(gt.where(np.tril(np.ones((n, n), bool)), scores, -np.inf))
    h = (e / e.sum(axis=-1, keepdims=True)) @ h
    """,
    params=W,
)
trap(
    10,
    "centred-before-layer-norm",
    """
    h = h @ self.w
    h = gt.layer_norm(h - h.data.mean(-1, keepdims=True), 8)
    """,
    params=W,
)
trap(
    10,
    "scaled-before-a-ratio",
    """
    h = gt.exp(h @ self.w)
    h = h / h.data.max()
    h = h / h.sum(-1, keepdims=True)
    """,
    params=W,
)
trap(
    10,
    "baseline",
    """
    logits = h @ self.w
    reward = gt.stop_gradient(gt.sigmoid(logits))
    h = gt.log_softmax(logits, -1) * (reward - reward.mean())
    """,
    params=W,
)
trap(
    10,
    "dropout-mask",
    """
    h = gt.relu(h @ self.w)
    h = h * (gt.uniform(h.shape) > 0.1) / 0.9
    """,
    params=W,
)
trap(
    10,
    "truncated-in-time",
    """
    state = gt.tanh(h @ self.w)
    state = state + gt.tanh(state.detach() @ self.w)
    h = state
    """,
    params=W,
)

# 11 tied weights ------------------------------------------------------------------------------------------------------
trap(
    11,
    "encoder-and-decoder",
    """
    code = gt.tanh(h @ self.w)
    h = code @ self.w.T
    """,
    params=W,
)
trap(
    11,
    "two-names",
    """
    h = gt.tanh(h @ self.w)
    h = h @ self.again
    """,
    params=W,
    setup="self.again = self.w",
    optimizer="gt.SGD(0.1)",
)

# 12 a bad probe -------------------------------------------------------------------------------------------------------
trap(
    12,
    "no-loss-after-layer-norm",
    """
    h = gt.layer_norm(h @ self.w, 8)
    """,
    params=W,
    loss="",
)
trap(
    12,
    "no-loss-after-softmax",
    """
    h = gt.softmax(h @ self.w, -1)
    """,
    params=W,
    loss="",
)

# 13 discrete values as indices and masks ------------------------------------------------------------------------------
trap(
    13,
    "argmax-then-gather",
    """
    h = h @ self.w
    best = np.argmax(h, -1)
    h = h * gt.take(self.table, best, 0)
    """,
    params={"w": (8, 8), "table": (8, 8)},
)
trap(
    13,
    "mask",
    """
    h = h @ self.w
    h = np.where(h > 0, h, 0.1 * h) * (np.abs(h) < 5.0)
    """,
    params=W,
)
trap(
    13,
    "best-of",
    """
    h = h @ self.w
    order = np.argmax(h, -1)
    h = h * gt.one_hot(order, 8) + h
    """,
    params=W,
)

trap(
    13,
    "two-best-experts",
    """
    values, chosen = gt.topk(h @ self.router, 2)
    weight = gt.softmax(values, -1)
    h = sum(weight[:, i : i + 1] * gt.take(self.experts, chosen[:, i], 0) * h for i in range(2))
    """,
    params={"router": (8, 4), "experts": (4, 8)},
    hosts=TRACED,
)
trap(
    13,
    "matching-by-scipy",
    """
    h = h @ self.w
    n = h.shape[0]
    order = gt.callback(match, ((h[:, None] - self.slots) ** 2).sum(-1), shape=(n,), dtype="i64")
    h = h + gt.take(self.slots, order, 0)
    """,
    params={"w": (8, 8), "slots": (12, 8)},
    top="""
    from scipy.optimize import linear_sum_assignment


    def match(cost):
        return linear_sum_assignment(cost)[1] % 12
    """,
    hosts=("cnn", "recurrent", "function"),
)

# 14 looking at numbers ------------------------------------------------------------------------------------------------
trap(
    14,
    "logging",
    """
    h = gt.tanh(h @ self.w)
    SEEN.append(float(h.mean()))
    SEEN.append(h.std().item() * 100)
    SEEN.extend(h[0].tolist())
    text = f"{h.mean():.3f} of {h.data.max()}"
    largest = np.abs(h.data).max()
    h = h * 0.5
    """,
    params=W,
    top="SEEN = []",
)
trap(
    14,
    "assertions",
    """
    h = gt.tanh(h @ self.w)
    assert np.isfinite(h.data).all() and float(h.max()) <= 1.0, f"{h.max():.3f}"
    assert h.shape[0] == len(h) and h.ndim == 2 and h.data.shape[1] == 8
    assert not np.isnan(np.asarray(h)).any()
    h = h / h.data.shape[1]
    """,
    params=W,
)
trap(
    14,
    "history-buffer",
    """
    h = gt.tanh(h @ self.w)
    HISTORY[0] = float(h.mean())
    HISTORY[1] = h.std()
    scale = 0.1234567
    h = h * scale
    """,
    params=W,
    top="HISTORY = np.zeros(4)",
)
trap(
    14,
    "initial-weights",
    """
    norm = float(np.linalg.norm(self.w.data))
    h = gt.tanh(h @ self.w) + 0.1 * ((self.w - START) ** 2).sum()
    """,
    params={"w": "gt.Parameter(START)"},
    top="START = draw(8, 8)",
)

# 15 code that is not trained ------------------------------------------------------------------------------------------
trap(
    15,
    "cache-in-evaluation",
    """
    h = gt.tanh(h @ self.w)
    if not self.training:
        h = gt.tensor(np.concatenate([np.zeros((1, 8), "f4"), h.data])[1:])
    """,
    params=W,
)
trap(
    15,
    "metrics",
    """
    h = h @ self.w
    with gt.no_grad():
        right = (np.argmax(h, -1) == 0).mean()
        spread = np.sort(h.data, axis=-1)[:, -1] - h.data.mean(-1)
    METRICS.update(accuracy=float(right), spread=spread.mean())
    h = gt.tanh(h)
    """,
    params=W,
    top="METRICS = {}",
)

# 16 looks like a mistake in the loss ----------------------------------------------------------------------------------
trap(
    16,
    "log-softmax-twice",
    "h = h @ self.w",
    params=W,
    loss="return gt.nll_loss(gt.log_softmax(gt.log_softmax(out, -1), -1), np.argmax(y, -1))",
)
trap(
    16,
    "softmax-far-from-the-loss",
    """
    gate = gt.softmax(h @ self.w, -1)
    h = h * gate
    """,
    params=W,
    loss="return gt.cross_entropy(out, np.argmax(y, -1))",
)
trap(
    16,
    "pairwise-loss",
    "h = h @ self.w",
    params=W,
    loss="""
    a, b = out[:, None, :], y[None, :, :]
    return ((a - b) ** 2).mean()
    """,
)
