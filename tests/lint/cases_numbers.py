"""Group G: connected, but numerically dead."""

from corpus import case

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
