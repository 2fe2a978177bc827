"""Group E: reached by the gradient, but not trained."""

from corpus import case

ALL = "gt.SGD(lr=0.1)"

case(
    "GT-E01",
    params={"w": (8, 8), "gain": "gt.Parameter(np.ones(8, 'f4'), requires_grad=False)  #!"},
    broken="h = (h @ self.w) * self.gain",
    healthy="h = (h @ self.w) * self.gain",
    optimizer=(
        "gt.SGD(lr=0.1, params=[p for p in model.parameters() if p.shape != (3,)])",
        "gt.SGD(lr=0.1, params=model.parameters())",
    ),
    kills=("gain",),
    layers="SKT",
    also=("GT-E02",),
)

case(
    "GT-E02",
    params={"w": (8, 8), "v": (8, 8)},
    setup=("", "gt.freeze(self.v)"),
    broken="h = h @ self.w @ self.v",
    healthy="h = h @ self.w @ self.v",
    optimizer="gt.SGD(lr=0.1, params=[p for n, p in model.named_parameters() if not n.endswith('v')])  #!",
    kills=("v",),
    layers="SKT",
)

case(
    "GT-E03",
    params={"w": (8, 8)},
    broken="h = h @ self.w",
    healthy="h = h @ self.w",
    optimizer=("gt.SGD(lr=0.1, params=[*model.parameters(), gt.Parameter(draw(8, 8))])  #!", ALL),
    kills=(),
    layers="SKT",
)

case(
    "GT-E04",
    params={"w": (8, 8)},
    broken="h = h @ self.w",
    healthy="h = h @ self.w",
    optimizer=("gt.SGD(lr=0.0)  #!", "gt.SGD(lr=lambda step: 0.0 if step == 1 else 0.1)"),
    kills=("all",),
    layers="SKT",
    name="GT-E04 rate 0",
)

case(
    "GT-E04",
    params={"w": "gt.Parameter(1e6 + draw(8, 8))"},
    broken="h = h @ (self.w - 1e6)",
    healthy="h = h @ (self.w - 1e6)",
    optimizer=("gt.AdamW(lr=1e-2)  #!", "gt.AdamW(lr=0.1)"),
    kills=("w",),
    layers="SKT",
    name="GT-E04 rounded away",
)

case(
    "GT-E05",
    params={"w": (8, 8), "v": (8, 8)},
    broken="""
    self.w.data[...] = self.v.data / np.abs(self.v.data).max()  #!
    h = h @ self.w
    """,
    healthy="""
    h = h @ (self.w + self.v / gt.max(gt.abs(self.v)))
    """,
    kills=("w",),
    severity="error",
    layers="SKT",
    also=("GT-D04", "GT-D05"),
)
