"""Opaque Python, and parts that are computed again."""

from corpus import case

case(
    "GT-A05",
    params={"w": (8, 8)},
    broken="""
    h = h @ self.w
    h = gt.callback(np.tanh, h)  #!
    """,
    healthy="""
    h = h @ self.w
    h = gt.callback(np.tanh, h, vjp=lambda g, y, x: g * (1 - y * y))
    """,
    kills=("w", "upstream"),
    layers="SKT",
)

case(
    "GT-A05",
    params={"w": (8, 8)},
    broken="""
    h = h @ self.w
    h = h + gt.callback(np.sin, h)  #!
    """,
    healthy="""
    h = h @ self.w
    h = h * gt.callback(lambda h: h > 0, h, dtype="bool") + gt.stop_gradient(gt.callback(np.sin, h))
    """,
    kills=("w", "upstream"),
    layers="SKT",
)

case(
    "GT-B01",
    params={"w": (8, 8)},
    broken="""
    def block(h):
        h = gt.stop_gradient(gt.tanh(h @ self.w))  #!
        return h * 2.0
    h = gt.checkpoint(block, h)
    """,
    healthy="""
    def block(h):
        h = gt.tanh(h @ self.w)
        return h * gt.stop_gradient(h).mean()
    h = gt.checkpoint(block, h)
    """,
    kills=("w", "upstream"),
    layers="SKT",
)
