"""Group D: the parameter is not registered, not reached, or not the one that was meant."""

from corpus import case

HOLDER = """
class Holder:
    def __init__(self):
        self.w = gt.Parameter(draw(8, 8))  #!
"""

case(
    "GT-D01",
    top=(HOLDER, HOLDER.replace("class Holder:", "class Holder(gt.Module):").replace("#!", "")),
    setup="self.holder = Holder()",
    broken="h = h @ self.holder.w",
    healthy="h = h @ self.holder.w",
    kills=("holder.w",),
    layers="SKT",
    hosts=("transformer", "cnn", "recurrent"),
    name="GT-D01 plain object",
)

case(
    "GT-D01",
    setup=("self.parts = {gt.nn.Linear(8, 8, bias=False)}  #!", "self.parts = [gt.nn.Linear(8, 8, bias=False)]"),
    broken="""
    for part in self.parts:
        h = part(h)
    """,
    healthy="""
    for part in self.parts:
        h = part(h)
    """,
    kills=("parts.0.weight",),
    layers="SKT",
    hosts=("transformer", "cnn", "recurrent"),
    name="GT-D01 set",
)

case(
    "GT-D01",
    top=("EXTRA = gt.Parameter(draw(8, 8))  #!", ""),
    params={"w": (8, 8)},
    broken="h = h @ self.w @ EXTRA",
    healthy="h = h @ self.w",
    kills=("/EXTRA",),
    layers="SKT",
    hosts=("transformer", "cnn", "recurrent"),
    name="GT-D01 global",
)

OWN = """
class Part(gt.Module):
    def __init__(self):
        self.w = gt.Parameter(draw(8, 8))
        self.bias = gt.Parameter(draw(8))

    def parameters(self):  #!
        return [self.w{more}]

    def forward(self, h):
        return h @ self.w + self.bias


def collected(model):
    parts = [m for m in model.modules() if isinstance(m, Part)]
    own = {{id(x) for m in parts for x in vars(m).values()}}
    return [p for p in model.parameters() if id(p) not in own] + [p for m in parts for p in m.parameters()]
"""

case(
    "GT-D02",
    top=(OWN.format(more=""), OWN.replace("  #!", "").format(more=", self.bias")),
    setup="self.part = Part()",
    broken="h = self.part(h)",
    healthy="h = self.part(h)",
    optimizer="gt.SGD(lr=0.1, params=collected(model))",
    kills=("part.bias",),
    layers="SKT",
    hosts=("transformer", "cnn", "recurrent"),
)

case(
    "GT-D03",
    params={"v": (8, 8)},
    setup=("self.w = draw(8, 8)", "self.w = gt.buffer(draw(8, 8))"),
    broken="h = gt.tanh(h @ self.v) @ self.w  #!",
    healthy="""
    table = np.sin(np.arange(8)[None, :] * np.arange(h.shape[1])[:, None] + 1.0).astype("f4")[:1]
    h = gt.tanh(h @ self.v) @ self.w + table
    """,
    kills=(),
    layers="SKT",
    name="GT-D03 raw array",
)

case(
    "GT-D03",
    params={"w": (8, 8)},
    broken="""
    w = gt.Parameter(draw(8, 8))  #!
    h = h @ w
    """,
    healthy="""
    w = self.w.T
    h = h @ w
    """,
    kills=("/w",),
    severity="error",
    layers="SKT",
    also=("GT-D04",),
    hosts=("transformer", "cnn"),
    name="GT-D03 made in forward",
)

case(
    "GT-D04",
    params={"w": (8, 8)},
    setup=("self.gate = gt.nn.Linear(8, 8)  #!", "self.gate = gt.freeze(gt.nn.Linear(8, 8))"),
    broken="h = h @ self.w",
    healthy="h = h @ self.w",
    kills=("gate.weight", "gate.bias"),
    layers="SKT",
    hosts=("transformer", "cnn", "recurrent"),
)

case(
    "GT-D05",
    params={"w": (8, 8), "aux": (8, 3)},
    broken="""
    h = h @ self.w
    penalty = gt.mean((h @ self.aux) ** 2)  #!
    """,
    healthy="""
    h = h @ self.w
    penalty = gt.mean((h @ self.aux) ** 2)
    h = h + 0.1 * penalty
    """,
    kills=("aux",),
    layers="SKT",
)

case(
    "GT-D06",
    setup=(
        "self.blocks = [gt.nn.Linear(8, 8)] * 3  #!",
        "self.blocks = [gt.nn.Linear(8, 8) for _ in range(3)]\nself.tied = self.blocks[0]",
    ),
    broken="""
    for block in self.blocks:
        h = block(h)
    """,
    healthy="""
    for block in self.blocks:
        h = block(h)
    h = self.tied(h)
    """,
    kills=("blocks.0.weight", "blocks.0.bias"),
    layers="SKT",
    hosts=("transformer", "cnn", "recurrent"),
    name="GT-D06 multiplied list",
)

case(
    "GT-D06",
    setup=(
        "for _ in range(3):\n    self.block = gt.nn.Linear(8, 8)  #!",
        "self.block = gt.nn.Linear(8, 8)\nself.block = gt.nn.Linear(8, 8, bias=False)",
    ),
    broken="h = self.block(h)",
    healthy="h = self.block(h)",
    kills=("block.weight", "block.bias"),
    layers="SKT",
    hosts=("transformer", "cnn", "recurrent"),
    name="GT-D06 loop",
)

case(
    "GT-D07",
    params={"w": (8, 4)},
    setup=("self.back = gt.Parameter(self.w.data.T.copy())  #!", "self.back = gt.Parameter(draw(4, 8))"),
    broken="h = gt.tanh(h @ self.w) @ self.back",
    healthy="h = gt.tanh(h @ self.w) @ self.back + (h @ self.w) @ self.w.T",
    kills=("w", "back"),
    layers="SKT",
    name="GT-D07 transposed copy",
)

case(
    "GT-D07",
    params={"w": (8, 8)},
    setup=("self.half = self.w.data.astype('f2')", ""),
    broken="h = h @ self.half.astype('f4')  #!",
    healthy="h = h @ self.w.astype('f4')",
    kills=("w",),
    layers="SKT",
    hosts=("transformer", "cnn", "recurrent"),
    also=("GT-D03",),
    name="GT-D07 snapshot",
)

case(
    "GT-D03",
    params={"w": (8, 8)},
    setup=("", "self.layer = gt.nn.Linear(8, 8)"),
    broken="""
    h = gt.nn.Linear(8, 8)(h @ self.w)  #!
    """,
    healthy="""
    h = self.layer(h @ self.w)
    """,
    kills=("/parameter", "/parameter.1"),
    severity="error",
    layers="SKT",
    hosts=("transformer", "cnn"),
    name="GT-D03 layer made in forward",
)

case(
    "GT-D07",
    name="trap constants that are equal",
    params={
        "w": "gt.Parameter(np.full((8, 6), 0.1, 'f4'))",
        "v": "gt.Parameter(np.full((6, 8), 0.1, 'f4'))",
        "a": (8, 6),
        "b": (6, 8),
    },
    healthy="h = h + gt.tanh(h @ (self.a * self.w)) @ (self.b * self.v)",
    layers="SKT",
)
