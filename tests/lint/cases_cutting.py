"""Group B: the gradient is cut."""

from corpus import case

case(
    "GT-B01",
    params={"w": (8, 8)},
    broken="""
    h = gt.tanh(h @ self.w)
    h = gt.stop_gradient(h)  #!
    """,
    healthy="""
    h = gt.tanh(h @ self.w)
    level = gt.stop_gradient(h).mean()
    h = h - level
    """,
    kills=("w", "upstream"),
    layers="SKT",
)

case(
    "GT-B02",
    params={"w": (8, 8)},
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
    kills=("w", "upstream"),
    layers="SKT",
)

case(
    "GT-B07",
    params={"w": (8, 8)},
    broken="""
    h = h @ self.w
    h = gt.one_hot(np.argmax(h, -1), 8) * 1.0  #!
    """,
    healthy="""
    h = h @ self.w
    h = h * gt.one_hot(np.argmax(h, -1), 8)
    """,
    kills=("w", "upstream"),
    layers="SKT",
)
