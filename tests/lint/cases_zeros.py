"""Group C: the gradient is zero by mathematics."""

from corpus import TRACED, case

W = {"w": (8, 8)}


def zero(code, broken, healthy, **given):
    """A case of one more branch beside `h`, whose weight `w` is lost."""
    given = {"params": W, "kills": ("w",), "layers": "SKT", "hosts": TRACED, **given}
    return case(code, broken=broken, healthy=healthy, **given)


# multiplied by zero -------------------------------------------------------------------------------------------------
zero("GT-C01", "h = h + 0.0 * (h @ self.w)  #!", "h = h + 0.1 * (h @ self.w)")
zero(
    "GT-C01",
    "h = h + self.scale * gt.tanh(h @ self.w)  #!",
    "h = h + self.scale * gt.tanh(h @ self.w)",
    setup=("self.scale = 0.0", "self.scale = 0.5"),
)
zero("GT-C01", "h = h + gt.dropout(h @ self.w, 1.0)  #!", "h = h + gt.dropout(h @ self.w, 0.9)")
zero("GT-C01", "h = h + (h @ self.w) / np.inf  #!", "h = h + (h @ self.w) / 100.0")
zero("GT-C01", "h = h + (h @ self.w) ** 0  #!", "h = h + (h @ self.w) ** 2")
zero(
    "GT-C01",
    """
    basis = np.zeros((8, 8), "f4")
    h = h + (h @ self.w) @ basis  #!
    """,
    """
    basis = np.eye(8, dtype="f4")
    h = h + (h @ self.w) @ basis
    """,
)
zero(
    "GT-C01",
    """
    h = gt.tanh(h @ self.w)
    h = h * 0 + 1.0  #!
    """,
    """
    h = gt.tanh(h @ self.w)
    h = h * 0.5 + 1.0
    """,
    kills=("w", "upstream"),
    hosts=("cnn", "function"),  # what normalises the constant again learns nothing, either
)
case(  # zero beside another path: a state that starts at zero
    "GT-C01",
    params=W,
    healthy="""
    start = h * 0.0
    h = gt.tanh(h @ self.w + start)
    """,
    layers="SKT",
)

# factors that start at zero -----------------------------------------------------------------------------------------
AB = """
self.a = gt.Parameter(np.zeros((8, 2), "f4"))  #!
self.b = gt.Parameter(np.zeros((2, 8), "f4"))
"""
AB_RIGHT = """
self.a = gt.Parameter(draw(8, 2))
self.b = gt.Parameter(np.zeros((2, 8), "f4"))
"""
for snippet in ("h = h @ (self.w + self.a @ self.b)", "h = h @ self.w + (h @ self.a) @ self.b"):
    case("GT-C02", params=W, broken=snippet, healthy=snippet, setup=(AB, AB_RIGHT), kills=("a", "b"), layers="SKT")
case(
    "GT-C02",
    params=W,
    broken="h = h + self.gate * (gt.tanh(h @ self.w) @ self.out)",
    healthy="h = h + self.gate * (gt.tanh(h @ self.w) @ self.out)",
    setup=(
        'self.gate = gt.Parameter(np.zeros((), "f4"))  #!\nself.out = gt.Parameter(np.zeros((8, 8), "f4"))',
        'self.gate = gt.Parameter(np.zeros((), "f4"))\nself.out = gt.Parameter(draw(8, 8))',
    ),
    kills=("w", "gate", "out"),
    layers="SKT",
)
case(
    "GT-C02",
    params=W,
    broken="h = h @ self.w + self.down(gt.relu(self.up(h)))",
    healthy="h = h @ self.w + self.down(gt.relu(self.up(h)))",
    setup=(
        """
        self.up = gt.nn.Linear(8, 4)  #!
        self.down = gt.nn.Linear(4, 8)
        for p in (*self.up.parameters(), *self.down.parameters()):
            p.data[...] = 0.0
        """,
        """
        self.up = gt.nn.Linear(8, 4)
        self.down = gt.nn.Linear(4, 8)
        for p in self.down.parameters():
            p.data[...] = 0.0
        """,
    ),
    kills=("up.weight", "up.bias", "down.weight"),
    layers="SKT",
)
case(
    "GT-C02",
    params=W,
    broken="h = h @ self.w * (1.0 + self.s**2)",
    healthy="h = h @ self.w * (1.0 + self.s) ** 2",
    setup=('self.s = gt.Parameter(np.zeros(8, "f4"))  #!', 'self.s = gt.Parameter(np.zeros(8, "f4"))'),
    kills=("s",),
    layers="SKT",
)
case(
    "GT-C02",
    params=W,
    broken="h = h + self.scale * (h @ self.w)",
    healthy="h = h + self.scale * (h @ self.w)",
    setup=(
        'self.scale = gt.Parameter(np.zeros(8, "f4"), requires_grad=False)  #!',
        'self.scale = gt.Parameter(np.zeros(8, "f4"))',
    ),
    kills=("w",),
    severity="warning",
    layers="SKT",
)
case(  # zero biases, a zero head of a branch, a gain of zero: each learns in its first step
    "GT-C02",
    params=W,
    healthy="""
    h = h + self.out(gt.gelu(h @ self.w + self.bias))
    h = h + self.gain * gt.layer_norm(h)
    """,
    setup="""
    self.bias = gt.Parameter(np.zeros(8, "f4"))
    self.gain = gt.Parameter(np.zeros(8, "f4"))
    self.out = gt.nn.Linear(8, 8)
    self.out.weight.data[...] = 0.0
    self.out.bias.data[...] = 0.0
    """,
    layers="SKT",
)

# shifts that are taken away -----------------------------------------------------------------------------------------
BARE = ("cnn", "recurrent", "function")  # the transformer has such biases of its own
QKV = {"q": (8, 8), "k": (8, 8), "b": (8,)}
case(
    "GT-C03",
    params=QKV,
    broken="""
    key = h @ self.k + self.b  #!
    h = h + gt.softmax((h @ self.q) @ key.T * 0.35, -1) @ h
    """,
    healthy="""
    key = h @ self.k + self.b
    h = h + gt.sigmoid((h @ self.q) @ key.T * 0.35) @ h
    """,
    kills=("b",),
    layers="SKT",
    hosts=BARE,
    says="zero by softmax's shift invariance",
)
case(
    "GT-C03",
    params=QKV,
    broken="""
    key = gt.linear(h, self.k, self.b)  #!
    mask = gt.tril(np.ones((h.shape[0], h.shape[0]), "f4")) > 0
    scores = gt.where(mask, (h @ self.q) @ gt.swapaxes(key, 0, 1), -np.inf)
    h = h + gt.softmax(scores, -1) @ h
    """,
    healthy="""
    key = gt.linear(h, self.k, self.b)
    mask = gt.tril(np.ones((h.shape[0], h.shape[0]), "f4")) > 0
    scores = gt.where(mask, (h @ self.q) @ gt.swapaxes(key, 0, 1), 0.0)
    h = h + scores @ h
    """,
    kills=("b",),
    layers="SKT",
    hosts=BARE,
)
case(
    "GT-C03",
    params=QKV,
    broken="""
    key = h @ self.k + self.b  #!
    scores = (h @ self.q) @ key.T
    e = np.exp(scores - np.max(scores, axis=-1, keepdims=True))
    h = h + e / e.sum(-1, keepdims=True) @ h
    """,
    healthy="""
    key = h @ self.k + self.b
    scores = (h @ self.q) @ key.T
    e = np.exp(scores - np.max(scores, axis=-1, keepdims=True))
    h = h + e @ h
    """,
    kills=("b",),
    layers="SKT",
    hosts=BARE,
)
NORM = """
    h = h @ self.w + self.b{mark}
    d = h - h.mean({axis}, keepdims=True)
    h = d / np.sqrt((d * d).mean({axis}, keepdims=True) + 1e-5)
    """
case(
    "GT-C03",
    params={"w": (8, 8), "b": (8,)},
    broken=NORM.format(axis=0, mark="  #!"),
    healthy=NORM.format(axis=1, mark=""),
    kills=("b",),
    layers="SKT",
    hosts=BARE,
)
case(
    "GT-C03",
    params={"w": (8, 8), "b": (8,)},
    broken="""
    h = h @ self.w + self.b  #!
    h = (h - h.mean(0)) / (h.std(0) + 1e-3)
    """,
    healthy="""
    h = h @ self.w + self.b
    h = gt.layer_norm(h)
    """,
    kills=("b",),
    layers="SKT",
    hosts=BARE,
)
case(
    "GT-C03",
    params={"w": (8, 8), "b": (8,)},
    broken="""
    h = gt.layer_norm(h @ self.w + self.b, axes=0)  #!
    """,
    healthy="""
    h = gt.layer_norm((h @ self.w + self.b).reshape(-1, 2, 4), 4).reshape(-1, 8)
    """,
    kills=("b",),
    layers="SKT",
    hosts=BARE,
)

# one element --------------------------------------------------------------------------------------------------------
ONE = {"w": (8, 1)}
zero("GT-C04", "h = h * gt.softmax(h @ self.w, -1)  #!", "h = h * gt.sigmoid(h @ self.w)", params=ONE)
zero(
    "GT-C04",
    "h = h * (1 + gt.log_softmax(h @ self.w, -1))  #!",
    "h = h * (1 - np.logaddexp(h @ self.w, 0.0))",
    params=ONE,
)
zero("GT-C04", "h = h + gt.layer_norm(h @ self.w)  #!", "h = h + gt.layer_norm(h @ self.w, axes=0)", params=ONE)
zero(
    "GT-C04",
    """
    s = h @ self.w
    s = s - s.mean(-1, keepdims=True)  #!
    h = h + s
    """,
    """
    s = h @ self.w
    s = s - s.mean(0, keepdims=True)
    h = h + s
    """,
    params=ONE,
)
zero(
    "GT-C04",
    """
    s = (h @ self.w)[:, None, :]
    h = h * gt.softmax(s, 1)[:, 0]  #!
    """,
    """
    s = (h @ self.w)[:, None, :]
    h = h * gt.softmax(s, 2)[:, 0]
    """,
)
zero(
    "GT-C04",
    """
    e = np.exp(h @ self.w)
    h = h * (e / e.sum(-1, keepdims=True))  #!
    """,
    """
    e = np.exp(h @ self.w)
    h = h * (e / (1.0 + e.sum(-1, keepdims=True)))
    """,
    params=ONE,
)
case(
    "GT-C04",
    healthy="h = h * 1.0",
    broken="h = h * 1.0",
    loss=(
        'return gt.cross_entropy(out[:, :1], (y[:, 0] > 0).astype("i64"))  #!',
        'return gt.cross_entropy(out[:, :2], (y[:, 0] > 0).astype("i64"))',
    ),
    kills=("all",),
    layers="SKT",
)

# sums that are constant ---------------------------------------------------------------------------------------------
for wrong in (
    "return gt.softmax(out, -1).sum()  #!",
    "return gt.layer_norm(out).mean()  #!",
    "return gt.mse_loss(out, out)  #!",
    "return (out - out.mean(-1, keepdims=True)).mean()  #!",
    "return gt.softmax(out, -1).mean(1).sum()  #!",
    "p = gt.softmax(out, -1)\nreturn (p.sum(-1) - 1.0).mean() + 0.5  #!",
    "return (out / out).sum()  #!",
):
    case(
        "GT-C05",
        broken="h = h * 1.0",
        healthy="h = h * 1.0",
        loss=(wrong, "return (gt.softmax(out, -1) * y).sum() + gt.mse_loss(out, y)"),
        kills=("all",),
        layers="SKT",
    )
zero(
    "GT-C05",
    """
    r = h @ self.w
    h = h + (r - r)  #!
    """,
    """
    r = h @ self.w
    h = h + (r - gt.stop_gradient(r))
    """,
    severity="warning",
)
zero(
    "GT-C05",
    """
    r = h @ self.w
    h = h + (r - gt.stop_gradient(r)) ** 2  #!
    """,
    """
    r = h @ self.w
    h = h + np.exp(r - gt.stop_gradient(r))
    """,
    severity="warning",
)
zero(
    "GT-C05",
    "h = h + gt.softmax(h @ self.w, -1).sum(-1, keepdims=True)  #!",
    "h = h + gt.softmax(h @ self.w, -1).max(-1, keepdims=True)",
    severity="warning",
)
case(  # a gain, or weights, and the sum is no constant
    "GT-C05",
    params={"w": (8, 8), "gain": (8,)},
    healthy="h = h + (gt.layer_norm(h @ self.w) * self.gain).sum(-1, keepdims=True)",
    layers="SKT",
)

# saturated ----------------------------------------------------------------------------------------------------------
for wrong, right in {
    "gt.clip(gt.sigmoid(h @ self.w), 2.0, 3.0)": "gt.clip(gt.sigmoid(h @ self.w), 0.2, 0.8)",
    "gt.relu(-gt.exp(h @ self.w))": "gt.relu(2.0 - gt.exp(h @ self.w))",
    "np.minimum((h @ self.w) ** 2, -1.0)": "np.minimum((h @ self.w) ** 2, 1.0)",
    "gt.relu(-gt.relu(h @ self.w))": "gt.relu(1.0 - gt.relu(h @ self.w))",
    "np.maximum(np.tanh(h @ self.w), 1.0)": "np.maximum(np.tanh(h @ self.w), 0.5)",
    "np.clip(gt.softmax(h @ self.w, -1), 1.5, 2.0)": "np.clip(gt.softmax(h @ self.w, -1), 0.1, 2.0)",
    "np.maximum(-np.abs(h @ self.w), 0.0)": "np.maximum(1.0 - np.abs(h @ self.w), 0.0)",
    "gt.where((h @ self.w) ** 2 >= 0.0, 1.0, h @ self.w)": "gt.where((h @ self.w) ** 2 >= 0.1, 1.0, h @ self.w)",
    "np.minimum(np.exp(gt.sigmoid(h @ self.w)), 0.5)": "np.minimum(np.exp(gt.sigmoid(h @ self.w)), 2.0)",
    "np.maximum(np.exp(-np.abs(h @ self.w)), 1.5 + np.cos(h) * 0.1)": "np.maximum(np.exp(h @ self.w), 1.5)",
}.items():
    zero("GT-C06", f"h = h + {wrong}  #!", f"h = h + {right}")
zero(
    "GT-C06",
    "h = h + gt.where(np.bool_(False), h @ self.w, h @ self.v)  #!",
    "h = h + gt.where(h > 0, h @ self.w, h @ self.v)",
    params={"w": (8, 8), "v": (8, 8)},
    severity="warning",
)
case(  # bounds that data may meet
    "GT-C06",
    params=W,
    healthy="""
    z = gt.clip(gt.relu(h @ self.w), 0.0, 6.0)
    h = gt.clip(gt.sigmoid(z), 0.0, 1.0) + np.maximum(np.logaddexp(z, 0.0), 1e-6) + gt.relu(gt.relu(z))
    """,
    layers="SKT",
)

# steps --------------------------------------------------------------------------------------------------------------
for wrong in ("np.rint(h)", "np.floor(h)", "np.sign(h)", "h // 0.1", "np.ceil(h * 2) / 2", "h - h % 0.5"):
    zero("GT-C07", f"h = h @ self.w\nh = {wrong}  #!", "h = h @ self.w\nh = h + gt.stop_gradient(np.rint(h) - h)",
         kills=("w", "upstream"))  # fmt: skip
case("GT-C07", params=W, healthy="h = h @ self.w\nh = h - np.floor(h)", layers="SKT")

# rows ---------------------------------------------------------------------------------------------------------------
case(
    "GT-C08",
    broken="h = h @ self.wide[:, :8]  #!",
    healthy="h = h @ self.wide[:, :8] + h @ self.wide[:, 4:]",
    params={"wide": (8, 12)},
    kills=("wide",),
    layers="SKT",
)
case(
    "GT-C08",
    broken="h = h + self.table[0] + self.table[2:5].sum(0)  #!",
    healthy="h = h + self.table[0] + self.table[1:].sum(0)",
    params={"table": (6, 8)},
    kills=("table",),
    layers="SKT",
)
case(
    "GT-C08",
    broken="""
    first, second = gt.split(self.wide, 2, 1)  #!
    h = h @ first
    """,
    healthy="""
    first, second = gt.split(self.wide, 2, 1)
    h = h @ first + np.tanh(h @ second)
    """,
    params={"wide": (8, 16)},
    kills=("wide",),
    layers="SKT",
)
case(  # sizes of the data, and an index that is data
    "GT-C08",
    params={"table": (64, 8), "rows": (9, 8)},
    healthy="""
    h = h + self.table[: h.shape[0]]
    h = h + gt.take(self.rows, (h[:, 0] > 0).astype("i64"))
    """,
    layers="SKT",
)

# masks --------------------------------------------------------------------------------------------------------------
MASKED = """
    visible = gt.tril(np.ones((8, 8), "f4"){shift}) > 0
    a = gt.softmax(gt.where(visible, self.w, -np.inf), -1){mark}
    h = h @ a
    """
case(
    "GT-C09",
    params=W,
    broken=MASKED.format(shift=", -1", mark="  #!"),
    healthy=MASKED.format(shift="", mark=""),
    kills=("all",),
    layers="SKT",
)
case(
    "GT-C09",
    params=W,
    broken="""
    bias = np.where(np.tri(8, 8, -1) > 0, 0.0, -np.inf).astype("f4")
    h = h @ gt.softmax(self.w * 0.3 + bias, -1)  #!
    """,
    healthy="""
    bias = np.where(np.tri(8, 8) > 0, 0.0, -np.inf).astype("f4")
    h = h @ gt.softmax(self.w * 0.3 + bias, -1)
    """,
    kills=("all",),
    layers="SKT",
)
zero(
    "GT-C09",
    """
    keep = np.zeros(8, bool)
    h = h + gt.where(keep, h @ self.w, 0.0)  #!
    """,
    """
    keep = np.arange(8) < 1
    h = h + gt.where(keep, h @ self.w, 0.0)
    """,
)
zero(
    "GT-C01",
    """
    keep = gt.arange(8) >= 8
    h = h + (h @ self.w) * keep.astype("f4")  #!
    """,
    """
    keep = gt.arange(8) >= 7
    h = h + (h @ self.w) * keep.astype("f4")
    """,
)

zero(
    "GT-C01",
    """
    gate = np.zeros(8, "f4")
    h = h + (h @ self.w) * gate  #!
    """,
    """
    gate = np.array([1, 0, 0, 0, 0, 0, 0, 0], "f4")
    h = h + (h @ self.w) * gate
    """,
)
zero(
    "GT-C09",
    """
    weight = np.zeros(8, "f4")
    term = ((h @ self.w) ** 2 * weight).sum() / weight.sum()  #!
    h = h + term
    """,
    """
    weight = np.ones(8, "f4")
    term = ((h @ self.w) ** 2 * weight).sum() / weight.sum()
    h = h + term
    """,
)

case(
    "GT-C09",
    params=W,
    broken="""
    scores = gt.where(np.tri(8, 8, -1) > 0, self.w, -np.inf)
    e = np.exp(scores - scores.max(-1, keepdims=True))  #!
    h = h @ (e / e.sum(-1, keepdims=True))
    """,
    healthy="""
    scores = gt.where(np.tri(8, 8) > 0, self.w, -np.inf)
    e = np.exp(scores - scores.max(-1, keepdims=True))
    h = h @ (e / e.sum(-1, keepdims=True))
    """,
    kills=("all",),
    layers="SKT",
)
case(
    "GT-C09",
    params=W,
    broken="""
    none = np.zeros((8, 8), bool)
    h = h @ gt.softmax(gt.where(none, self.w, -np.inf), -1)  #!
    """,
    healthy="""
    none = np.zeros((8, 8), bool)
    h = h @ gt.softmax(gt.where(none, -np.inf, self.w), -1)
    """,
    kills=("all",),
    layers="SKT",
)

# units that are alike -----------------------------------------------------------------------------------------------
ALIKE = """
self.w1 = gt.Parameter(np.full((8, 6), 0.1, "f4"))  #!
self.w2 = gt.Parameter(np.full((6, 8), 0.1, "f4"))
"""
ALIKE_RIGHT = """
self.w1 = gt.Parameter(draw(8, 6))
self.w2 = gt.Parameter(np.full((6, 8), 0.1, "f4"))
"""
case(
    "GT-C10",
    params=W,
    broken="h = h @ self.w + gt.tanh(h @ self.w1) @ self.w2",
    healthy="h = h @ self.w + gt.tanh(h @ self.w1) @ self.w2",
    setup=(ALIKE, ALIKE_RIGHT),
    kills=("w1", "w2"),
    layers="SKT",
)
LAYERS = """
self.up = gt.nn.Linear(8, 6)  #!
self.down = gt.nn.Linear(6, 8)
for p in (self.up.weight, self.up.bias, self.down.weight):
    p.data[...] = 0.05
"""
case(
    "GT-C10",
    params=W,
    broken="h = h @ self.w + self.down(gt.gelu(self.up(h)))",
    healthy="h = h @ self.w + self.down(gt.gelu(self.up(h)))",
    setup=(LAYERS, LAYERS.replace("  #!", "").replace("self.up.bias, ", "")),
    kills=("up.weight", "down.weight"),
    layers="SKT",
)
SIGMOID = """
self.w1 = gt.Parameter(np.zeros((8, 6), "f4"))  #!
self.w2 = gt.Parameter(np.zeros((6, 8), "f4"))
"""
case(
    "GT-C10",
    params=W,
    broken="h = h @ self.w + gt.sigmoid(h @ self.w1) @ self.w2",
    healthy="h = h @ self.w + gt.dropout(gt.sigmoid(h @ self.w1), 0.5) @ self.w2",
    setup=(SIGMOID, SIGMOID.replace("  #!", "")),
    kills=("w1", "w2"),
    layers="SKT",
)
