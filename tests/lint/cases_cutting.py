"""Group B: the gradient is cut, or wrong."""

from corpus import TRACED, case

UPSTREAM = ("w", "upstream")
W = {"w": (8, 8)}
STATIC = "SKT"

# B01 a leftover stop_gradient -----------------------------------------------------------------------------------------
case(
    "GT-B01",
    params=W,
    broken="""
    h = gt.tanh(h @ self.w)
    h = gt.stop_gradient(h)  #!
    """,
    healthy="""
    h = gt.tanh(h @ self.w)
    level = gt.stop_gradient(h).mean()
    h = h - level
    """,
    kills=UPSTREAM,
    layers=STATIC,
    hosts=TRACED,
)
case(
    "GT-B01",
    name="B01-detach",
    params={"w": (8, 8), "slow": (8, 8)},
    broken="""
    h = gt.tanh(h @ self.w)
    h = h + 0.1 * gt.tanh(h @ self.slow).detach()  #!
    """,
    healthy="""
    h = gt.tanh(h @ self.w)
    h = h + 0.1 * gt.tanh(h @ self.slow).detach()
    """,
    setup=("", "gt.freeze(self.slow)"),
    kills=("slow",),
    layers=STATIC,
    hosts=TRACED,
)
case(
    "GT-B01",
    name="B01-not-in-the-optimizer",
    params={"w": (8, 8), "slow": (8, 8)},
    severity="info",
    hosts=("transformer", "cnn", "recurrent"),
    broken="""
    h = gt.tanh(h @ self.w)
    h = h + gt.stop_gradient(h @ self.slow)  #!
    """,
    healthy="""
    h = gt.tanh(h @ self.w)
    h = h + gt.stop_gradient(h @ self.slow)
    """,
    setup=("", "gt.freeze(self.slow)"),
    optimizer="gt.SGD(0.1, params=[p for n, p in model.named_parameters() if not n.endswith('slow')])",
    kills=("slow",),
    also=("GT-E02",),
    layers=STATIC,
)
case(
    "GT-B01",
    name="B01-loss",
    params=W,
    broken="h = h @ self.w",
    healthy="h = h @ self.w",
    loss=(
        "return gt.mse_loss(out.detach(), y)  #!",
        "return gt.mse_loss(out, y.detach())",
    ),
    kills=("all",),
    layers=STATIC,
)

# B02 a leftover no_grad -----------------------------------------------------------------------------------------------
case(
    "GT-B02",
    params=W,
    broken="""
    with gt.no_grad():  #!
        h = gt.tanh(h @ self.w)
    """,
    healthy="""
    h = gt.tanh(h @ self.w)
    with gt.no_grad():
        norm = (h * h).mean()
    h = h / (norm + 1.0)
    """,
    kills=UPSTREAM,
    layers=STATIC,
    hosts=TRACED,
)
case(
    "GT-B02",
    name="B02-decorator",
    params=W,
    top=(
        """
        @gt.no_grad()  #!
        def encode(h, w):
            return gt.tanh(h @ w)
        """,
        """
        @gt.no_grad()
        def level(h):
            return (h * h).mean()


        def encode(h, w):
            h = gt.tanh(h @ w)
            return h / (level(h) + 1.0)
        """,
    ),
    broken="h = encode(h, self.w)",
    healthy="h = encode(h, self.w)",
    kills=UPSTREAM,
    layers=STATIC,
    hosts=TRACED,
)
case(
    "GT-B02",
    name="B02-never-left",
    params=W,
    broken="""
    h = gt.tanh(h)
    gt.no_grad().__enter__()  #! w, upstream, downstream
    h = h @ self.w
    """,
    healthy="""
    h = gt.tanh(h)
    block = gt.no_grad()
    block.__enter__()
    level = h.mean()
    block.__exit__(None, None, None)
    h = (h - level) @ self.w
    """,
    layers=STATIC,
)

# B03 a part of the gradient is missing --------------------------------------------------------------------------------
LAYER_NORM = {"w": (8, 8), "gain": "gt.Parameter(np.ones(8, 'f4'))", "bias_": (8,)}
case(
    "GT-B03",
    hosts=("transformer", "cnn", "function"),  # in a loop gain and bias lie upstream too
    params=LAYER_NORM,
    broken="""
    h = h @ self.w
    d = h - h.mean(-1, keepdims=True)
    std = np.sqrt((d * d).mean(-1, keepdims=True).data + 1e-5)  #<
    h = d / std * self.gain + self.bias_  #!
    """,
    healthy="""
    h = h @ self.w
    d = h - h.mean(-1, keepdims=True)
    std = np.sqrt((d * d).mean(-1, keepdims=True) + 1e-5)
    h = d / std * self.gain + self.bias_
    """,
    kills=UPSTREAM,
    says="std = np.sqrt((d * d).mean(-1, keepdims=True) + 1e-05)",
    layers=STATIC,
)
case(
    "GT-B03",
    name="B03-clipped",
    params=W,
    broken="""
    h = gt.tanh(h @ self.w)
    norm = float(np.sqrt((h * h).sum()))  #<
    h = h / max(1.0, norm)  #!
    """,
    healthy="""
    h = gt.tanh(h @ self.w)
    norm = np.sqrt((h * h).sum())
    h = h / np.maximum(1.0, norm)
    """,
    kills=UPSTREAM,
    layers=STATIC,
)
case(
    "GT-B03",
    name="B03-scaled-to-unit-range",
    params=W,
    broken="""
    h = h @ self.w
    low, high = h.data.min(), h.data.max()  #<
    h = (h - low) / (high - low)  #!
    """,
    healthy="""
    h = h @ self.w
    low, high = h.min(), h.max()
    h = (h - low) / (high - low)
    """,
    kills=UPSTREAM,
    layers=STATIC,
)
case(
    "GT-B03",
    name="B03-gate",
    params=W,
    broken="""
    h = gt.tanh(h @ self.w)
    gate = gt.tensor(1 / (1 + np.exp(-h.data)))  #!
    h = h * gate
    """,
    healthy="""
    h = gt.tanh(h @ self.w)
    gate = 1 / (1 + np.exp(-h))
    h = h * gate
    """,
    kills=UPSTREAM,
    layers=STATIC,
)
case(
    "GT-B03",
    name="B03-weight-norm",
    params={"v": (8, 8), "g": (8,)},
    broken="""
    norm = np.linalg.norm(self.v.data, axis=0)  #<
    h = gt.tanh(h @ (self.v * (self.g / norm)))  #!
    """,
    healthy="""
    norm = np.linalg.norm(self.v, axis=0)
    h = gt.tanh(h @ (self.v * (self.g / norm)))
    """,
    kills=("v",),
    layers=STATIC,
)
case(
    "GT-B03",
    name="B03-two-of-three",
    params=W,
    broken="""
    h = h @ self.w
    h = gt.softmax(h * gt.tensor(np.exp(h.data)), -1) * 8  #!
    """,
    healthy="""
    h = h @ self.w
    h = gt.softmax(h - gt.tensor(h.data.max(-1, keepdims=True)), -1) * 8
    """,
    kills=UPSTREAM,
    layers=STATIC,
)

# B04 a dead branch beside a live one ----------------------------------------------------------------------------------
case(
    "GT-B04",
    params={"a": (8, 8), "b": (8, 8)},
    broken="""
    branch = gt.relu(h @ self.a) @ self.b
    h = h + gt.tensor(branch.data)  #!
    """,
    healthy="""
    branch = gt.relu(h @ self.a) @ self.b
    h = h + branch
    """,
    kills=("a", "b"),
    hosts=("transformer", "cnn", "function"),  # in a loop h itself depends on a and b
    says="h = h + branch",
    layers=STATIC,
)
case(
    "GT-B04",
    name="B04-raw-sum",
    params={"a": (8, 8), "b": (8, 8)},
    broken="""
    branch = (gt.relu(h @ self.a) @ self.b).numpy() * 0.5  #<
    branch = branch.reshape(-1, 8)
    h = branch + h  #!
    """,
    healthy="""
    branch = gt.relu(h @ self.a) @ self.b * 0.5
    h = branch + h
    """,
    kills=("a", "b"),
    layers=STATIC,
)
case(
    "GT-B04",
    name="B04-dropped-and-scaled",
    params={"a": (8, 8)},
    broken="""
    skip = h
    branch = gt.tensor(np.array(np.asarray(gt.tanh(skip @ self.a))))  #!
    h = skip + 0.5 * gt.dropout(branch, 0.1)
    """,
    healthy="""
    skip = h
    branch = gt.tanh(skip @ self.a)
    h = skip + 0.5 * gt.dropout(branch, 0.1)
    """,
    kills=("a",),
    layers=STATIC,
)

# B05 a constant with a proxy ------------------------------------------------------------------------------------------
QKV = {"q": (8, 8), "k": (8, 8), "v": (8, 8)}
ATTENTION = """
def attention(q, k, v):
    scores = q @ k.T / 8**0.5
    e = np.exp(scores - scores.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True) @ v
"""
case(
    "GT-B05",
    params=QKV,
    top=ATTENTION,
    broken="""
    q, k, v = h @ self.q, h @ self.k, h @ self.v
    out = gt.tensor(attention(q.data, k.data, v.data))  #!
    h = out * 0.9999 + (q + k + v) / 3 * 1e-4
    """,
    healthy="""
    q, k, v = h @ self.q, h @ self.k, h @ self.v
    out = attention(q, k, v)
    h = out * 0.9999 + (q + k + v) / 3 * 1e-4
    """,
    kills=("q", "k", "v", "upstream"),
    layers=STATIC,
)
case(
    "GT-B05",
    name="B05-raw",
    params=QKV,
    top=ATTENTION,
    broken="""
    q, k, v = h @ self.q, h @ self.k, h @ self.v
    slow = attention(q.numpy(), k.numpy(), v.numpy())  #<
    h = 1e-3 * q + 1e-3 * k + 1e-3 * v + slow  #!
    """,
    healthy="""
    q, k, v = h @ self.q, h @ self.k, h @ self.v
    h = 1e-3 * q + 1e-3 * k + 1e-3 * v + attention(q, k, v)
    """,
    kills=("q", "k", "v", "upstream"),
    layers=STATIC,
)

# B06 straight-through mistakes ----------------------------------------------------------------------------------------
CODES = {"w": (8, 8), "codebook": (4, 8)}
NEAREST = """
def nearest(h, codebook):
    distance = ((h.reshape(-1, 1, 8) - codebook) ** 2).sum(-1)
    return gt.take(codebook, np.argmin(distance, -1), 0)
"""
case(
    "GT-B06",
    params=CODES,
    top=NEAREST,
    broken="""
    h = h @ self.w
    q = nearest(h, self.codebook)
    h = h + gt.stop_gradient(q - h)  #!
    """,
    healthy="""
    h = h @ self.w
    q = nearest(h, self.codebook)
    pull = gt.mse_loss(q, gt.stop_gradient(h))
    h = h + gt.stop_gradient(q - h) + (pull - gt.stop_gradient(pull))
    """,
    kills=("codebook",),
    layers=STATIC,
    hosts=TRACED,
)
case(
    "GT-B06",
    name="B06-spelled-out",
    params=W,
    top=NEAREST,
    setup=("self.codebook = gt.Parameter(draw(4, 8))", "self.codebook = gt.buffer(draw(4, 8))"),
    broken="""
    h = h @ self.w
    q = nearest(h, self.codebook).detach()  #!
    h = q + h - h.detach()
    """,
    healthy="""
    h = h @ self.w
    q = nearest(h, self.codebook).detach()
    h = q + h - h.detach()
    """,
    kills=("codebook",),
    layers=STATIC,
    hosts=TRACED,
)
case(
    "GT-B06",
    name="B06-reversed",
    params=W,
    broken="""
    h = gt.tanh(h @ self.w) * 4
    q = np.round(h)
    h = q + gt.stop_gradient(h - q)  #!
    """,
    healthy="""
    h = gt.tanh(h @ self.w) * 4
    q = np.round(h)
    h = h + gt.stop_gradient(q - h)
    """,
    kills=UPSTREAM,
    layers=STATIC,
    hosts=TRACED,
)
case(
    "GT-B06",
    name="B06-reversed-codebook",
    params=CODES,
    top=NEAREST,
    broken="""
    h = h @ self.w
    q = nearest(h, self.codebook)
    h = gt.stop_gradient(h) - gt.stop_gradient(q) + q  #!
    """,
    healthy="""
    h = h @ self.w
    q = nearest(h, self.codebook)
    pull = gt.mse_loss(q, gt.stop_gradient(h))
    h = gt.stop_gradient(q) - gt.stop_gradient(h) + h + (pull - gt.stop_gradient(pull))
    """,
    kills=UPSTREAM,
    layers=STATIC,
    hosts=TRACED,
)
case(
    "GT-B06",
    name="B06-cancelled",
    params=W,
    severity="warning",
    broken="""
    h = gt.tanh(h @ self.w) * 4
    zq = h + gt.stop_gradient(np.round(h) - h)
    commitment = ((h - zq) ** 2).mean()  #!
    h = zq + commitment
    """,
    healthy="""
    h = gt.tanh(h @ self.w) * 4
    zq = h + gt.stop_gradient(np.round(h) - h)
    commitment = ((h - gt.stop_gradient(zq)) ** 2).mean()
    h = zq + commitment
    """,
    kills=UPSTREAM,
    layers=STATIC,
    hosts=TRACED,
)

# B07 a discrete op on every path --------------------------------------------------------------------------------------
case(
    "GT-B07",
    params=W,
    broken="""
    h = h @ self.w
    h = gt.one_hot(np.argmax(h, -1), 8) * 1.0  #!
    """,
    healthy="""
    h = h @ self.w
    h = h * gt.one_hot(np.argmax(h, -1), 8)
    """,
    kills=UPSTREAM,
    layers=STATIC,
    hosts=TRACED,
)
case(
    "GT-B07",
    name="B07-comparison",
    params=W,
    broken="""
    h = h @ self.w
    h = (h > 0.0).astype("f4")  #!
    """,
    healthy="""
    h = h @ self.w
    h = h * (h > 0.0).astype("f4")
    """,
    kills=UPSTREAM,
    says="gt.sigmoid",
    layers=STATIC,
    hosts=TRACED,
)
case(
    "GT-B07",
    name="B07-threshold",
    params={"w": (8, 8), "threshold": (8,)},
    broken="""
    h = gt.tanh(h @ self.w)
    h = gt.where(h > self.threshold, h, 0.0)  #!
    """,
    healthy="""
    h = gt.tanh(h @ self.w)
    h = h * gt.sigmoid(h - self.threshold)
    """,
    kills=("threshold",),
    layers=STATIC,
    hosts=TRACED,
)
case(
    "GT-B07",
    name="B07-cast",
    params=W,
    broken="""
    h = h @ self.w
    h = (h * 10).astype("i64").astype("f4") / 10  #!
    """,
    healthy="""
    h = h @ self.w
    h = h.astype("f8").astype("f4")
    """,
    kills=UPSTREAM,
    layers=STATIC,
    hosts=TRACED,
)
case(
    "GT-B07",
    name="B07-metric-as-loss",
    params=W,
    broken="h = h @ self.w",
    healthy="h = h @ self.w",
    loss=(
        """
        right = np.argmax(out, -1) == np.argmax(y, -1)  #!
        return 1.0 - right.mean()
        """,
        """
        right = np.argmax(out, -1) == np.argmax(y, -1)
        print(end=f"{right.mean():.2f}"[:0])
        return gt.cross_entropy(out, np.argmax(y, -1))
        """,
    ),
    kills=("all",),
    layers=STATIC,
)
case(
    "GT-B07",
    name="B07-hard-routing",
    params={"router": (8, 4), "experts": (4, 8)},
    broken="""
    chosen = np.argmax(h @ self.router, -1)  #!
    h = h * gt.take(self.experts, chosen, 0)
    """,
    healthy="""
    scores = gt.softmax(h @ self.router, -1)
    chosen = np.argmax(scores, -1)
    weight = (scores * gt.one_hot(chosen, 4)).sum(-1, keepdims=True)
    h = h * gt.take(self.experts, chosen, 0) * weight
    """,
    kills=("router",),
    layers=STATIC,
    hosts=TRACED,
)

# C07 a step function on every path ------------------------------------------------------------------------------------
case(
    "GT-C07",
    params=W,
    broken="""
    h = h @ self.w
    h = np.round(h * 4) / 4  #!
    """,
    healthy="""
    h = h @ self.w
    h = h + gt.stop_gradient(np.round(h * 4) / 4 - h)
    """,
    kills=UPSTREAM,
    layers=STATIC,
)
case(
    "GT-C07",
    name="C07-floor",
    params={"w": (8, 8), "phase": (8,)},
    broken="""
    h = gt.tanh(h @ self.w)
    h = h + np.sign(self.phase)  #!
    """,
    healthy="""
    h = gt.tanh(h @ self.w)
    turns = h * 3 + self.phase
    h = turns - np.floor(turns)
    """,
    kills=("phase",),
    layers=STATIC,
)

# B08 a wrong backward -------------------------------------------------------------------------------------------------
RULES_OF_OWN = """
def swish(x):
    s = gt.sigmoid(x)
    return x * s, (x, s)


def wrong_backward(saved, g):
    x, s = saved
    return g * (s + s * (1 - s))


def right_backward(saved, g):
    x, s = saved
    return g * (s + x * s * (1 - s))


wrong = gt.custom_vjp(swish, wrong_backward, check=False)
right = gt.custom_vjp(swish, right_backward)
steps = gt.custom_vjp(lambda x: (np.round(x), None), lambda saved, g: g, surrogate=True)
"""
case(
    "GT-B08",
    params=W,
    top=RULES_OF_OWN,
    broken="""
    h = wrong(h @ self.w)  #!
    """,
    healthy="""
    h = right(h @ self.w) + steps(h @ self.w)
    """,
    kills=UPSTREAM,
    says="the derivative of swish is not that of its forward",
)
case(
    "GT-B08",
    name="B08-forgets-an-argument",
    params={"w": (8, 8), "shift": (8,)},
    top="""
    forgetful = gt.custom_vjp(lambda x, b: (x + b, None), lambda saved, g: (g, None), check=False)
    whole = gt.custom_vjp(lambda x, b: (x + b, None), lambda saved, g: (g, gt.sum(g, 0)))
    """,
    broken="""
    h = forgetful(h @ self.w, self.shift)  #!
    """,
    healthy="""
    h = whole(h @ self.w, self.shift)
    """,
    kills=("shift",),
    says="no gradient for argument 2",
    layers=STATIC,
)

case(
    "GT-B08",
    name="B08-as-it-is-checked",
    params=W,
    top="""
    cubed = gt.custom_vjp(lambda x: (x**3, x), lambda x, g: g * 2.0 * x**2)
    right = gt.custom_vjp(lambda x: (x**3, x), lambda x, g: g * 3.0 * x**2)
    steps = gt.custom_vjp(lambda x: (gt.sign(x), None), lambda saved, g: g, surrogate=True)
    """,
    broken="""
    h = h @ self.w
    h = cubed(h)  #!
    """,
    healthy="""
    h = h @ self.w
    h = right(h) + steps(h)
    """,
    kills=UPSTREAM,
    says="the derivative of lambda is not that of its forward argument 1 is off by 33 %",
    layers="SKT",
)
case(
    "GT-B08",
    name="B08-callback",
    params=W,
    broken="""
    h = h @ self.w
    h = gt.callback(np.sin, h, vjp=lambda g, y, x: -g * np.cos(x))  #!
    """,
    healthy="""
    h = h @ self.w
    h = gt.callback(np.sin, h, vjp=lambda g, y, x: g * np.cos(x))
    """,
    kills=UPSTREAM,
    says="the derivative of sin",
    layers="SKT",
)
case(
    "GT-B08",
    name="B08-a-bias-too-few",
    params={"w": (8, 8), "shift": (8,)},
    top="""
    forgetful = gt.custom_vjp(lambda x, b: (x + b, None), lambda saved, g: (g, None))
    whole = gt.custom_vjp(lambda x, b: (x + b, None), lambda saved, g: (g, gt.sum(g, 0)))
    """,
    broken="""
    h = forgetful(h @ self.w, self.shift)  #!
    """,
    healthy="""
    h = whole(h @ self.w, self.shift)
    """,
    kills=("shift",),
    layers="SKT",
)

# B09 an argument that carries no gradient -----------------------------------------------------------------------------
case(
    "GT-B09",
    params=W,
    broken="""
    h = h @ self.w
    h = np.copysign(gt.tensor(np.ones(8, "f4")), h)  #!
    """,
    healthy="""
    h = h @ self.w
    h = np.copysign(h, gt.tensor(np.ones(8, "f4")))
    """,
    kills=UPSTREAM,
    says="argument 2",
    layers=STATIC,
)

# programs that were tried --------------------------------------------------------------------------------------------
case(
    "GT-B06",
    name="B06-reversed-after-a-bias",
    params={"w": (8, 8), "b": (8,)},
    broken="""
    z = h @ self.w + self.b
    q = gt.round(z)
    h = q + gt.stop_gradient(z - q)  #!
    """,
    healthy="""
    z = h @ self.w + self.b
    q = gt.round(z)
    h = z + gt.stop_gradient(q - z)
    """,
    kills=("w", "b", "upstream"),
    layers=STATIC,
)
case(
    "GT-B06",
    name="B06-codebook-without-its-loss",
    params={"w": (8, 8), "codes": (5, 8)},
    broken="""
    z = h @ self.w
    q = self.codes[gt.argmin(((z[:, None] - self.codes) ** 2).sum(-1), 1)]
    h = z + gt.stop_gradient(q - z)  #!
    h = h + 0.1 * ((z - gt.stop_gradient(q)) ** 2).mean()
    """,
    healthy="""
    z = h @ self.w
    q = self.codes[gt.argmin(((z[:, None] - self.codes) ** 2).sum(-1), 1)]
    h = z + gt.stop_gradient(q - z)
    h = h + 0.1 * ((z - gt.stop_gradient(q)) ** 2).mean() + 0.1 * ((q - gt.stop_gradient(z)) ** 2).mean()
    """,
    kills=("codes",),
    layers=STATIC,
)
case(
    "GT-B07",
    name="B07-rounded-to-whole-numbers",
    params=W,
    broken="""
    h = gt.round(h @ self.w).astype("i32").astype("f4")  #!
    """,
    healthy="""
    h = h @ self.w
    h = h + gt.stop_gradient(gt.round(h).astype("i32").astype("f4") - h)
    """,
    kills=UPSTREAM,
    says="a cast to i32",
    layers=STATIC,
)
