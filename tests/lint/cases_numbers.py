"""Group G: connected, but numerically dead."""

from corpus import TRACED, case

case(
    "GT-G03",
    params={"w": "gt.Parameter(draw(8, 8))  #!", "v": (8, 8)},
    broken="""
    h = h @ self.v + 1e-12 * gt.tanh(h @ self.w)
    """,
    healthy="""
    h = h @ self.v + 1e-2 * gt.tanh(h @ self.w)
    """,
    kills=("w",),
    name="GT-G03 a factor",
)

case(
    "GT-G05",
    params={"w": (8, 8), "scale": "gt.Parameter(np.linspace(1, 2, 8, dtype='f4'))  #!"},
    broken="""
    d = h @ self.w * self.scale
    h = d / gt.sqrt(gt.mean(d * d, 0))
    """,
    healthy="""
    d = h @ self.w
    h = self.scale * d / gt.sqrt(gt.mean(d * d, 0))
    """,
    kills=("scale",),
    name="GT-G05 scale invariance",
)

for name, broken, healthy in (
    (
        "sqrt",
        "h = gt.where(h > 0, gt.sqrt(h), 0.0)  #!",
        "h = gt.where(h > 0, gt.sqrt(gt.where(h > 0, h, 1.0)), 0.0)",
    ),
    ("root of NumPy", "h = np.where(h <= 0.0, h, h**0.5)  #!", "h = np.where(h <= 0.0, h, np.maximum(h, 1e-4) ** 0.5)"),
    ("logarithm", "p = gt.relu(h)\nh = gt.where(p > 0, np.log(p), 0.0)  #!", "p = gt.relu(h)\nh = np.log(p + 1e-3)"),
    (
        "cube root beside a stop",
        "h = gt.where(h > 0, h ** (1 / 3), h)  #!",
        "h = gt.where(h > 0, h + gt.stop_gradient(h ** (1 / 3)), h)",
    ),
    (
        "norm",
        "n = (gt.relu(h) ** 2).sum(-1, keepdims=True)\nh = gt.where(n > 0, h * n**-0.5, h)  #!",
        "n = (gt.relu(h) ** 2).sum(-1, keepdims=True)\nh = gt.where(n > 0, h * (n + 1e-5) ** -0.5, h)",
    ),
    (
        "mean of what is on",
        "on = gt.relu(h).sum(-1, keepdims=True)\nh = gt.where(on != 0, h / on, h)  #!",
        "on = gt.relu(h).sum(-1, keepdims=True)\nh = gt.where(on != 0, h / gt.where(on != 0, on, 1.0), h)",
    ),
    (
        "angle",
        "h = gt.where(np.abs(h) < 0.1, np.arcsin(10.0 * h), h)  #!",
        "h = gt.where(np.abs(h) < 0.1, np.arcsin(np.clip(10.0 * h, -0.99, 0.99)), h)",
    ),
    (
        "two conditions",
        "seen = (h > 0) & (h < 0.5)\nh = gt.where(seen, np.sqrt(h), h)  #!",
        "seen = (h > 0) & (h < 0.5)\nh = gt.where(seen, np.sqrt(gt.where(seen, h, 1.0)), h)",
    ),
):
    case(
        "GT-G04",
        params={"w": (8, 8)},
        broken="h = h @ self.w\n" + broken,
        healthy="h = h @ self.w\n" + healthy,
        kills=("w", "upstream"),
        layers="SKT",
        hosts=TRACED,
        name=f"GT-G04 {name}",
    )

case(
    "GT-G04",
    params={"w": (8, 8), "center": "gt.Parameter(np.zeros(8, 'f4'))"},
    broken="""
    h = h @ self.w - self.center
    h = h * (1.0 + np.linalg.norm(self.center))  #!
    """,
    healthy="""
    h = h @ self.w - self.center
    h = h * (1.0 + gt.sqrt((self.center**2).sum() + 1e-6))
    """,
    kills=("center",),
    layers="SKT",
    hosts=TRACED,
    name="GT-G04 norm of zeros",
)

case(
    "GT-G04",
    params={"w": (8, 8)},
    broken="""
    h = h @ self.w
    d = h[:, None] - h[None]
    h = h + 0.1 * np.sqrt((d * d).sum(-1)).mean(1, keepdims=True)  #!
    """,
    healthy="""
    h = h @ self.w
    d = h[:, None] - h[None]
    h = h + 0.1 * np.sqrt((d * d).sum(-1) + 1e-6).mean(1, keepdims=True)
    """,
    kills=("w", "upstream"),
    name="GT-G04 distances to itself",
)

case(
    "GT-G04",
    params={"w": (8, 8)},
    broken="""
    h = h @ self.w
    h = gt.where(h <= 0, np.exp(h) - 1.0, h)  #!
    """,
    healthy="""
    h = h @ self.w
    h = gt.where(h <= 0, np.exp(np.minimum(h, 0.0)) - 1.0, h)
    """,
    kills=("w", "upstream"),
    severity="info",
    layers="SKT",
    name="GT-G04 overflow",
)
