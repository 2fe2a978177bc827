"""Group F: control flow and side effects that tracing has frozen."""

from corpus import case

case(
    "GT-F01",
    params={"w": (8, 8), "gate": (8, 8)},
    broken="""
    if (h @ self.w).sum() > 1e9:  #!
        h = gt.tanh(h @ self.gate)
    h = h @ self.w
    """,
    healthy="""
    assert np.isfinite(float(h.sum())), "the example is finite"
    if not (h * h).sum() >= 0:
        raise ValueError("no square is negative")
    h = gt.where((h @ self.w).sum() > 1e9, gt.tanh(h @ self.gate), h @ self.w)
    """,
    kills=("gate",),
    layers="SKT",
    hosts=("transformer", "cnn", "recurrent"),
)

case(
    "GT-F01",
    params={"w": (8, 8)},
    broken="""
    h = h @ self.w
    while np.abs(h).max() > 0.5:  #!
        h = h * 0.5
    """,
    healthy="""
    h = h @ self.w
    for _ in range(3):
        h = h * 0.5
    """,
    kills=(),
    layers="SKT",
)

case(
    "GT-F01",
    params={"w": (8, 8)},
    broken="""
    h = h @ self.w * (1.0 if h.mean() > 0 else 0.5)  #!
    """,
    healthy="""
    h = h @ self.w * gt.where(h.mean() > 0, 1.0, 0.5)
    """,
    kills=(),
    layers="SKT",
)

case(
    "GT-F02",
    params={"w": (8, 8)},
    broken="""
    h = h @ self.w
    h = h - h.sum(0) / len(h)  #!
    """,
    healthy="""
    h = h @ self.w
    h = h - h.sum(0) / h.shape[0] - h.mean(0)
    """,
    kills=(),
    layers="SKTD",
)

case(
    "GT-F03",
    params={"w": (8, 8)},
    setup="self.calls = 0",
    broken="""
    self.calls += 1
    h = h @ self.w * (1.0 + 0.1 * self.calls)  #!
    """,
    healthy="""
    self.calls += 1
    h = h @ self.w
    """,
    kills=(),
    layers="SKTD",
)

case(
    "GT-F04",
    params={"w": (8, 8)},
    broken="""
    h = h @ self.w
    h = h * (np.random.rand(*h.shape) > 0.5)  #!
    """,
    healthy="""
    h = h @ self.w
    h = gt.dropout(h, 0.5)
    """,
    kills=(),
    layers="SKTD",
)

case(
    "GT-F05",
    params={"w": (8, 8)},
    setup=("self.mean = np.zeros(8, 'f4')", "self.mean = gt.buffer(np.zeros(8, 'f4'))"),
    broken="""
    h = h @ self.w
    self.mean = 0.9 * self.mean + 0.1 * h.mean(0)  #!
    h = h - self.mean
    """,
    healthy="""
    h = h @ self.w
    self.mean = 0.9 * self.mean + 0.1 * h.mean(0)
    self.latest = h
    h = h - self.mean
    """,
    kills=(),
    layers="SKT",
    hosts=("transformer", "cnn", "recurrent"),
)

case(
    "GT-F06",
    params={"w": (8, 8)},
    broken="""
    try:
        h[0] = 0.0  #!
        h = h @ self.w
    except Exception:
        h = gt.tensor(h.data @ self.w.data)
    """,
    healthy="""
    try:
        h = h @ self.w
    except ValueError:
        h = h * 1.0
    """,
    kills=(),
    layers="SKT",
    also=("GT-A01", "GT-B03", "GT-B04"),
)

case(
    "GT-F01",
    params={"w": (8, 8), "v": (8, 8)},
    broken="""
    one, two = h @ self.w, h @ self.v
    h = h + max(one.mean(), two.mean()) + one + two  #!
    """,
    healthy="""
    one, two = h @ self.w, h @ self.v
    shown = f"{max(float(one.mean()), 0.0):.2f}"
    h = h + np.maximum(one.mean(), two.mean()) + one + two
    """,
    kills=(),
    severity="warning",
    layers="SKT",
    name="GT-F01 max of two",
)

case(
    "GT-F01",
    params={"w": (8, 8), "v": (8, 8)},
    broken="""
    terms = [h @ self.w, h @ self.v]
    h = h + sum(t for t in terms if t.mean() > -1e9)  #!
    """,
    healthy="""
    terms = [h @ self.w, h @ self.v]
    h = h + sum(gt.where(t.mean() > -1e9, t, 0.0) for t in terms)
    """,
    kills=(),
    severity="warning",
    layers="SKT",
    name="GT-F01 filtered",
)

case(
    "GT-F06",
    params={"w": (8, 8)},
    broken="""
    h = h @ self.w
    try:
        h[:, 0] = 0.0  #!
    except TypeError:
        pass
    """,
    healthy="""
    h = h @ self.w
    try:
        h[:, 0] = 0.0
    except TypeError:
        h = h.at[:, 0].set(0.0)
    """,
    kills=(),
    severity="warning",
    layers="SKT",
    name="GT-F06 passed over",
)
