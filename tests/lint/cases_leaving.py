"""Group A: the value leaves the trace."""

from corpus import case

UPSTREAM = ("w", "upstream")
W = {"w": (8, 8)}
STATIC = "SKT"

# A01 an array rebuilt from raw data -----------------------------------------------------------------------------------
case(
    "GT-A01",
    params=W,
    broken="""
    h = h @ self.w
    h = gt.tensor(h.data.reshape(-1, 8))  #!
    """,
    healthy="""
    h = h @ self.w
    h = h.reshape(-1, 8)
    """,
    kills=UPSTREAM,
    says="h = h.reshape(-1, 8)",
    layers=STATIC,
)
case(
    "GT-A01",
    name="A01-two-lines",
    params=W,
    broken="""
    h = np.tanh(h @ self.w)
    raw = h.numpy() * 2.0  #<
    rows = raw[:, ::-1]
    h = gt.tensor(rows)  #!
    """,
    healthy="""
    h = np.tanh(h @ self.w)
    doubled = h * 2.0
    print(f"{float(doubled.mean()):.3f}", end="")
    h = doubled[:, ::-1]
    """,
    kills=UPSTREAM,
    layers=STATIC,
)
case(
    "GT-A01",
    name="A01-asarray",
    params={"w": (8, 8), "shift": (8,)},
    broken="""
    h = h @ self.w
    plain = np.array(np.asarray(h), copy=True)  #<
    h = plain @ np.eye(8, dtype="f4") + self.shift  #!
    """,
    healthy="""
    h = h @ self.w
    h = h @ np.eye(8, dtype="f4") + self.shift
    """,
    kills=UPSTREAM,
    layers=STATIC,
)
case(
    "GT-A01",
    name="A01-parameter-data",
    params={"w": (8, 8), "gain": (8,)},
    broken="""
    h = gt.tanh(h @ self.w)
    h = h * self.gain.data  #!
    """,
    healthy="""
    h = gt.tanh(h @ self.w)
    h = h * self.gain
    """,
    kills=("gain",),
    says="h = h * self.gain",
    layers=STATIC,
)
case(
    "GT-A01",
    name="A01-dropout",
    params=W,
    broken="""
    h = gt.relu(h @ self.w)
    keep = (np.random.default_rng(0).random(h.shape) > 0.1) / 0.9
    h = gt.tensor((h.data * keep).astype("f4"))  #!
    """,
    healthy="""
    h = gt.relu(h @ self.w)
    h = gt.dropout(h, 0.1)
    """,
    kills=UPSTREAM,
    layers=STATIC,
)
case(
    "GT-A01",
    name="A01-softmax-off-the-tape",
    params={"q": (8, 8), "k": (8, 8), "v": (8, 8)},
    broken="""
    scores = (h @ self.q) @ (h @ self.k).T
    e = np.exp(scores.data - scores.data.max(-1, keepdims=True))  #<
    h = gt.tensor(e / e.sum(-1, keepdims=True)) @ (h @ self.v)  #! q, k
    """,
    healthy="""
    scores = (h @ self.q) @ (h @ self.k).T
    e = np.exp(scores - scores.max(-1, keepdims=True))
    h = e / e.sum(-1, keepdims=True) @ (h @ self.v)
    """,
    layers=STATIC,
)
case(
    "GT-A01",
    name="A01-pickled",
    params=W,
    top="import pickle",
    broken="""
    h = h @ self.w
    h = gt.tensor(pickle.loads(pickle.dumps(h.data)))  #!
    """,
    healthy="""
    h = h @ self.w
    pickle.dumps(h.data)
    """,
    kills=UPSTREAM,
    layers=STATIC,
)
case(
    "GT-A01",
    name="A01-bytes",
    params=W,
    broken="""
    h = h @ self.w
    h = gt.tensor(np.frombuffer(h.data.tobytes(), "f4").reshape(-1, 8) ** 2 + 0.25)  #!
    """,
    healthy="""
    h = h @ self.w
    h = h**2 + 0.25
    """,
    kills=UPSTREAM,
    layers=STATIC,
)
case(
    "GT-A01",
    name="A01-buffer-made-in-forward",
    params=W,
    broken="""
    h = h @ self.w
    h = gt.buffer(h.data) * 1.0  #!
    """,
    healthy="""
    h = h @ self.w
    h = h * gt.buffer(np.ones((1, 8), "f4"))
    """,
    kills=UPSTREAM,
    layers=STATIC,
)

case(
    "GT-A01",
    name="A01-detached",
    params=W,
    broken="""
    h = np.tanh(h @ self.w)
    h = gt.tensor(h.detach().numpy() * 2.0)  #!
    """,
    healthy="""
    h = np.tanh(h @ self.w)
    assert np.isfinite(h.detach().numpy()).all()
    h = h * 2.0 + h.detach().mean()
    """,
    kills=UPSTREAM,
    layers=STATIC,
)
case(
    "GT-A01",
    name="A01-in-place",
    params=W,
    broken="""
    h = h @ self.w
    raw = h.data.copy()  #<
    raw[raw < 0] *= 0.1
    raw += 1.0
    h = gt.tensor(raw)  #!
    """,
    healthy="""
    h = h @ self.w
    h = gt.where(h < 0, 0.1 * h, h) + 1.0
    """,
    kills=UPSTREAM,
    layers=STATIC,
)

# A02 a function without a traced form ---------------------------------------------------------------------------------
case(
    "GT-A02",
    params=W,
    broken="""
    h = h @ self.w
    h = np.unwrap(h, axis=-1) * 1.0  #!
    """,
    healthy="""
    h = h @ self.w
    h = np.where(h > 0, np.sqrt(np.abs(h) + 1.0), np.tanh(h))
    """,
    kills=UPSTREAM,
    says="numpy.unwrap has no traced form",
    layers=STATIC,
)
case(
    "GT-A02",
    name="A02-linalg",
    params=W,
    broken="""
    h = h @ self.w
    u, s, v = np.linalg.svd(h.T @ h)  #!
    h = gt.ones((h.shape[0], 1)) * s
    """,
    healthy="""
    h = h @ self.w
    u, s, v = np.linalg.svd(np.eye(8, dtype="f4"))
    h = h * s
    """,
    kills=UPSTREAM,
    says="numpy.linalg.svd",
    layers=STATIC,
)
case(
    "GT-A02",
    name="A02-scipy",
    params=W,
    top="import scipy.linalg",
    broken="""
    h = gt.tanh(h) @ scipy.linalg.expm(self.w)  #!
    """,
    healthy="""
    h = gt.tanh(h) @ (scipy.linalg.expm(np.eye(8, dtype="f4")).astype("f4") @ self.w)
    """,
    kills=("w",),
    says="scipy.linalg.expm",
    layers=STATIC,
)
case(
    "GT-A02",
    name="A02-scipy-ufunc",
    params=W,
    top="import scipy.special",
    broken="""
    h = h @ self.w
    h = scipy.special.gammaln(h * h + 1.0) * 1.0  #!
    """,
    healthy="""
    h = h @ self.w
    h = scipy.special.erf(h)
    """,
    kills=UPSTREAM,
    says="scipy.special.gammaln",
    layers=STATIC,
)
case(
    "GT-A02",
    name="A02-argument",
    params={"w": (8, 8), "gain": (8,)},
    hosts=("transformer", "cnn", "function"),  # in a loop gain is upstream too
    broken="""
    h = h @ self.w
    s = np.sum(h, -1, keepdims=True, initial=1.0)  #!
    h = np.linspace(-1, 1, 8, dtype="f4") * s * self.gain
    """,
    healthy="""
    h = h @ self.w
    s = np.sum(h, -1, keepdims=True) + 1.0
    h = np.linspace(-1, 1, 8, dtype="f4") * s * self.gain
    """,
    kills=UPSTREAM,
    says="numpy.sum",
    layers=STATIC,
)

# A03 a Python number --------------------------------------------------------------------------------------------------
case(
    "GT-A03",
    params={"w": (8, 8), "scale": (8,)},
    broken="""
    h = gt.tanh(h @ self.w)
    s = float(gt.sqrt(gt.sum(self.scale**2)))  #<
    h = h * s  #!
    """,
    healthy="""
    h = gt.tanh(h @ self.w)
    s = gt.sqrt(gt.sum(self.scale**2))
    assert float(s) > 0
    h = h * s
    """,
    kills=("scale",),
    layers=STATIC,
)
case(
    "GT-A03",
    name="A03-item",
    params={"w": (8, 8), "scale": (8,)},
    broken="""
    h = gt.tanh(h @ self.w)
    s = self.scale.mean().item() * 2 + 1  #<
    h = h / s  #!
    """,
    healthy="""
    h = gt.tanh(h @ self.w)
    s = self.scale.mean() * 2 + 1
    h = h / s
    """,
    kills=("scale",),
    says="s = self.scale.mean() * 2 + 1",
    layers=STATIC,
)
case(
    "GT-A03",
    name="A03-arithmetic",
    params={"w": (8, 8), "scale": (8,)},
    top="import math",
    broken="""
    h = gt.tanh(h @ self.w)
    energy = 0.5 * float((self.scale**2).sum())  #<
    width = math.sqrt(energy + 1e-6)
    h = h / width  #!
    """,
    healthy="""
    h = gt.tanh(h @ self.w)
    energy = 0.5 * (self.scale**2).sum()
    h = h / gt.sqrt(energy + 1e-6) * math.sqrt(8)
    """,
    kills=("scale",),
    layers=STATIC,
)
case(
    "GT-A03",
    name="A03-list",
    params={"w": (8, 8), "a": (1,), "b": (1,)},
    broken="""
    h = gt.tanh(h @ self.w)
    pair = gt.tensor([float(self.a[0]) * 2, float(self.b[0])])  #!
    h = h * pair[0] + pair[1]
    """,
    healthy="""
    h = gt.tanh(h @ self.w)
    pair = gt.concatenate([self.a * 2, self.b])
    h = h * pair[0] + pair[1]
    """,
    kills=("a", "b"),
    layers=STATIC,
)
case(
    "GT-A03",
    name="A03-tolist",
    params=W,
    broken="""
    h = h @ self.w
    rows = h.tolist()  #<
    h = gt.tensor([[2 * v for v in row] for row in rows])  #!
    """,
    healthy="""
    h = h @ self.w
    h = gt.stack([2 * row for row in h])
    """,
    kills=UPSTREAM,
    layers=STATIC,
)
case(
    "GT-A03",
    name="A03-from-a-function",
    params={"w": (8, 8), "scale": (8,)},
    top="""
    def norm(x):
        return float((x * x).sum()) ** 0.5  #<
    """,
    broken="""
    h = gt.tanh(h @ self.w)
    h = h / (1.0 + norm(self.scale))  #!
    """,
    healthy="""
    h = gt.tanh(h @ self.w)
    print(end=f"{norm(self.scale):.1f}"[:0])
    h = h / (1.0 + gt.sqrt((self.scale * self.scale).sum()))
    """,
    kills=("scale",),
    layers=STATIC,
)
case(
    "GT-A03",
    name="A03-rounded",
    params={"w": (8, 8), "scale": (8,)},
    broken="""
    h = gt.tanh(h @ self.w)
    s = round(float(self.scale.mean()), 1)  #<
    h = h * (1.0 + s)  #!
    """,
    healthy="""
    h = gt.tanh(h @ self.w)
    h = h * (1.0 + self.scale.mean())
    """,
    kills=("scale",),
    layers=STATIC,
)

case(
    "GT-A03",
    name="A03-while",
    params={"w": (8, 8), "scale": (8,)},
    broken="""
    h = gt.tanh(h @ self.w)
    s = np.float32(self.scale.mean())  #<
    while abs(s) < 1.0:
        s = s * 1.5 + 0.1
    h = h * s  #!
    """,
    healthy="""
    h = gt.tanh(h @ self.w)
    s = 0.1
    while abs(s) < 1.0:
        s = s * 1.5 + 0.1
    h = h * s * self.scale.mean()
    """,
    kills=("scale",),
    layers=STATIC,
)
case(
    "GT-A03",
    name="A03-an-index",
    params=W,
    broken="""
    h = h @ self.w
    best = int(np.argmax(h[0]))  #<
    h = h - h[:, best : best + 1]  #!
    """,
    healthy="""
    h = h @ self.w
    size = int(h.shape[-1]) - 1
    h = h - h[:, size : size + 1] - gt.take(h[0], np.argmax(h[0]))
    """,
    kills=(),
    layers=STATIC,
)
case(
    "GT-A03",
    name="A03-an-index-from-afar",
    params=W,
    top="""
    def halves(h):
        return float(h.mean()), int(np.abs(h[0]).sum() * 1000) % 7
    """,
    broken="""
    h = h @ self.w
    _, start = halves(h)
    h = h - h[:, start : start + 1]  #!
    """,
    healthy="""
    h = h @ self.w
    level, _ = halves(h)
    h = h - h[:, 3:4]
    """,
    kills=(),
    layers="SKTD",
    hosts=("cnn", "recurrent", "function"),  # behind a layer norm the number is the same for any batch
)

# A04 filling a plain buffer -------------------------------------------------------------------------------------------
case(
    "GT-A04",
    params=W,
    broken="""
    out = np.zeros((h.shape[0], 8), "f4")
    for i in range(h.shape[0]):
        for j in range(8):
            out[i, j] = (h[i] * self.w[:, j]).sum()  #!
    h = gt.tensor(out)
    """,
    healthy="""
    table = np.zeros((8, 8), "f4")
    for i in range(8):
        for j in range(8):
            table[i, j] = np.cos(i * j)
    h = h @ (self.w * gt.tensor(table))
    """,
    kills=UPSTREAM,
    says="into the plain array out",
    layers=STATIC,
)
case(
    "GT-A04",
    name="A04-rows",
    params=W,
    broken="""
    h = h @ self.w
    rows = np.empty(tuple(int(n) for n in h.shape), "f4")
    for i in range(len(h)):
        rows[i] = np.tanh(h[i])  #!
    h = rows * gt.ones((8,))
    """,
    healthy="""
    h = h @ self.w
    h = gt.stack([np.tanh(h[i]) for i in range(len(h))]) * gt.ones((8,))
    """,
    kills=UPSTREAM,
    layers=STATIC,
)
case(
    "GT-A04",
    name="A04-raw-numbers",
    params=W,
    broken="""
    h = h @ self.w
    grid = np.zeros((h.shape[0], 8), "f4")
    for i in range(h.shape[0]):
        for j in range(8):
            grid[i, j] = float(h[i, j]) * 2  #!
    h = gt.tensor(np.maximum(grid, 0).copy())
    """,
    healthy="""
    h = h @ self.w
    seen = np.zeros(8)
    for j in range(8):
        seen[j] = float(h[0, j]) * 2
    h = gt.maximum(h * 2, 0)
    """,
    kills=UPSTREAM,
    layers=STATIC,
)
case(
    "GT-A04",
    name="A04-slices",
    hosts=("transformer", "cnn", "function"),  # in a loop either feeds the other
    params={"w": (8, 4), "v": (8, 4)},
    broken="""
    both = np.zeros((h.shape[0], 8), "f4")
    both[:, :4] = h @ self.w  #! w, upstream
    both[:, 4:] = h @ self.v  #! v, upstream
    h = gt.tensor(both)
    """,
    healthy="""
    h = gt.concatenate([h @ self.w, h @ self.v], 1)
    """,
    layers=STATIC,
)

# A07 a false leaf -----------------------------------------------------------------------------------------------------
case(
    "GT-A07",
    params=W,
    broken="""
    h = h @ self.w
    h = gt.tensor(np.maximum(h.data, 0), requires_grad=True)  #!
    """,
    healthy="""
    h = h @ self.w
    h = np.maximum(h, 0)
    """,
    kills=UPSTREAM,
    says="h = np.maximum(h, 0)",
    layers=STATIC,
)
case(
    "GT-A07",
    name="A07-normalisation",
    params=W,
    broken="""
    h = h @ self.w
    d = h - h.mean(-1, keepdims=True)
    var = (d * d).mean(-1, keepdims=True)
    h = d / gt.tensor(np.sqrt(var.data + 1e-5), requires_grad=var.requires_grad)  #!
    """,
    healthy="""
    h = h @ self.w
    d = h - h.mean(-1, keepdims=True)
    var = (d * d).mean(-1, keepdims=True)
    h = d / np.sqrt(var + 1e-5)
    """,
    kills=UPSTREAM,
    layers=STATIC,
)
case(
    "GT-A07",
    name="A07-parameter-made-in-forward",
    params=W,
    broken="""
    h = h @ self.w
    h = gt.Parameter(h.data) * 1.0  #!
    """,
    healthy="""
    h = h @ self.w
    h = h * 1.0
    """,
    kills=UPSTREAM,
    layers=STATIC,
)
case(
    "GT-A07",
    name="A07-nothing-raw",
    params=W,
    severity="warning",
    broken="""
    h = h @ self.w
    h = h * gt.tensor(np.ones(8, "f4"), requires_grad=True)  #!
    """,
    healthy="""
    h = h @ self.w
    h = h * gt.tensor(np.ones(8, "f4"))
    """,
    kills=(),
    layers=STATIC,
)

# A08 the loss is off the program --------------------------------------------------------------------------------------
WORKS = "h = h @ self.w"
case(
    "GT-A08",
    params=W,
    broken=WORKS,
    healthy=WORKS,
    loss=(
        "return gt.tensor(np.mean((out.data - y.data) ** 2))  #!",
        "return gt.mean((out - y) ** 2)",
    ),
    kills=("all",),
    says="np.mean((out - y) ** 2)",
    layers=STATIC,
)
case(
    "GT-A08",
    name="A08-mixed",
    params=W,
    broken=WORKS,
    healthy=WORKS,
    loss=("return ((out.data - y) ** 2).mean()  #!", "return ((out - y) ** 2).mean()"),
    kills=("all",),
    layers=STATIC,
)
case(
    "GT-A08",
    name="A08-flagged",
    params=W,
    broken=WORKS,
    healthy=WORKS,
    loss=(
        """
        value = np.mean(np.abs(out.numpy() - y.numpy()))  #<
        return gt.tensor(value, requires_grad=True)  #!
        """,
        """
        value = np.mean(np.abs(out - y))
        return gt.tensor(value, requires_grad=True)
        """,
    ),
    kills=("all",),
    layers=STATIC,
)
case(
    "GT-A08",
    name="A08-float",
    params=W,
    broken=WORKS,
    healthy=WORKS,
    loss=("return float(gt.mse_loss(out, y)) * 1.0  #!", "return gt.mse_loss(out, y) * 1.0"),
    kills=("all",),
    layers=STATIC,
)
case(
    "GT-A08",
    name="A08-wrong-variable",
    params=W,
    broken=WORKS,
    healthy=WORKS,
    loss=(
        """
        prediction = gt.softmax(out, -1)
        return gt.mse_loss(y, y * 0.5)  #!
        """,
        """
        prediction = gt.softmax(out, -1)
        return gt.mse_loss(prediction, y * 0.5)
        """,
    ),
    kills=("all",),
    layers=STATIC,
)

# A06 an op without a derivative ---------------------------------------------------------------------------------------
WITHOUT_RULE = """
from gradtape.ir.op import gradient_not_written, op


@op
class cubed:
    '''x**3, elementwise'''

    def infer(x):
        return x

    def ref(x):
        return x**3

    vjp = gradient_not_written()


@op
class halved:
    '''x / 2, elementwise'''

    def infer(x):
        return x

    def ref(x):
        return x / 2

    vjp = gradient_not_written("nobody has needed it so far")
"""
case(
    "GT-A06",
    params=W,
    top=WITHOUT_RULE,
    broken="""
    h = gt.tanh(h @ self.w)
    h = cubed(h)  #!
    """,
    healthy="""
    h = gt.tanh(h @ self.w)
    h = h**3 + gt.stop_gradient(cubed(h))
    """,
    kills=UPSTREAM,
    says="cubed has no derivative",
    layers=STATIC,
)
case(
    "GT-A06",
    name="A06-all-at-once",
    params={"w": (8, 8), "v": (8, 8)},
    top=WITHOUT_RULE,
    hosts=("transformer", "cnn", "function"),  # in a loop v is upstream too
    broken="""
    h = cubed(gt.tanh(h @ self.w))  #! w, upstream
    h = h @ self.v
    h = halved(h) + 1.0  #! w, v, upstream
    """,
    healthy="""
    h = gt.tanh(h @ self.w) ** 3
    h = h @ self.v
    h = h / 2 + 1.0
    """,
    layers=STATIC,
)

# A09 kept from an earlier trace ---------------------------------------------------------------------------------------
ROPE = {"w": (8, 8), "theta": (8,)}
case(
    "GT-A09",
    params=ROPE,
    top=(
        """
        import functools


        @functools.lru_cache
        def rope(theta, n):
            return np.cos(theta * n)  #<
        """,
        """
        import functools


        @functools.lru_cache
        def positions(n):
            return np.cos(np.arange(8) * n).astype("f4")


        def rope(theta, n):
            return np.cos(theta * positions(n))
        """,
    ),
    broken="""
    h = gt.tanh(h @ self.w)
    h = h * rope(self.theta, 8)  #!
    """,
    healthy="""
    h = gt.tanh(h @ self.w)
    h = h * rope(self.theta, 8)
    """,
    kills=("theta",),
    layers="SKTD",
)
case(
    "GT-A09",
    name="A09-raw",
    params=ROPE,
    top="CACHE = {}",
    broken="""
    h = gt.tanh(h @ self.w)
    if "cos" not in CACHE:
        CACHE["cos"] = np.cos(self.theta.data * 8)  #<
    h = h * CACHE["cos"]  #!
    """,
    healthy="""
    h = gt.tanh(h @ self.w)
    if "cos" not in CACHE:
        CACHE["cos"] = np.cos(np.arange(8) / 8).astype("f4")
    h = h * CACHE["cos"] * self.theta
    """,
    kills=("theta",),
    hosts=("transformer", "cnn", "function"),  # in a loop the first trace reads it too
    layers="SKTD",
)
case(
    "GT-A09",
    name="A09-attribute",
    params={"g": (8,), "v": (8, 8)},
    setup="self.effective = None",
    broken="""
    if self.effective is None:
        self.effective = self.g * self.v  #<
    h = gt.tanh(h @ self.effective)  #!
    """,
    healthy="""
    effective = self.g * self.v
    h = gt.tanh(h @ effective)
    """,
    kills=("g", "v"),
    also=("GT-F05",),
    layers="SKTD",
)

# what loses every tag: seen by tracing again with other parameters ----------------------------------------------------
case(
    "GT-A03",
    name="A03-through-a-box",
    params={"w": (8, 8), "scale": (8,)},
    top="""
    BOX = {}


    def keep(value):
        BOX["level"] = 3 * value + 1


    def level():
        return BOX["level"]
    """,
    broken="""
    h = gt.tanh(h @ self.w)
    keep(float(self.scale.mean()))
    h = h * level()  #!
    """,
    healthy="""
    h = gt.tanh(h @ self.w)
    keep(float(self.scale.mean()))
    h = h * (self.scale.mean() * 3 + 1)
    """,
    kills=("scale",),
    layers="SKTD",
)
case(
    "GT-A01",
    name="A01-through-a-file",
    params=W,
    top="""
    import io


    def store(file, array):
        np.save(file, 3 * np.array(array) + 1)


    def load(file):
        file.seek(0)
        return np.load(file)
    """,
    broken="""
    h = h @ self.w
    file = io.BytesIO()
    store(file, h.data)
    h = gt.tensor(load(file))  #!
    """,
    healthy="""
    h = h @ self.w
    file = io.BytesIO()
    store(file, h.data)
    h = h * 3 + 1
    """,
    kills=UPSTREAM,
    layers="SKTD",
)
case(
    "GT-B03",
    name="B03-through-a-box",
    params=W,
    severity="warning",
    top="""
    BOX = {}


    def keep(value):
        BOX["level"] = 3 * value + 1


    def level():
        return BOX["level"]
    """,
    broken="""
    h = gt.tanh(h @ self.w)
    keep(float((h * h).mean()))
    h = h * level()  #!
    """,
    healthy="""
    h = gt.tanh(h @ self.w)
    keep(float((h * h).mean()))
    h = h * ((h * h).mean() * 3 + 1)
    """,
    kills=UPSTREAM,
    layers="SKTD",
)

# programs that were tried --------------------------------------------------------------------------------------------
case(
    "GT-A02",
    name="A02-an-index-made-by-it",
    params={"w": (8, 8), "table": (6, 8)},
    broken="""
    bins = np.digitize(h @ self.w, np.linspace(-1, 1, 5))  #!
    h = h + self.table[bins].mean(1)
    """,
    healthy="""
    bins = (h @ self.w)[:, :, None] > np.linspace(-1, 1, 5)
    h = h @ self.w + self.table[bins.astype("i64").sum(-1)].mean(1)
    """,
    kills=("w",),
    layers="SKT",
)
case(
    "GT-A03",
    name="A03-formatted",
    params={"t": "gt.Parameter(np.ones((), 'f4'))"},
    broken="""
    h = h * float(f"{self.t:.3f}")  #!
    """,
    healthy="""
    message = f"{self.t:.3f} and {self.t}"
    h = h * self.t
    """,
    kills=("t",),
    layers="SKT",
)
