"""Group H: the loss and the optimizer are not used as they are meant."""

from corpus import case

SAME = {"broken": "h = h * 1.0", "healthy": "h = h * 1.0", "layers": "SKT", "kills": ("all",)}
CLASS = 'np.argmax(y, -1).astype("i64")'

# a softmax too many -------------------------------------------------------------------------------------------------
for wrong, right in {
    f"return gt.cross_entropy(gt.softmax(out, -1), {CLASS})  #!": f"return gt.cross_entropy(out, {CLASS})",
    f"p = gt.sigmoid(out)  #!\nreturn gt.cross_entropy(p, {CLASS})": f"return gt.cross_entropy(4.0 * out, {CLASS})",
    "p = gt.sigmoid(out)  #!\nreturn gt.binary_cross_entropy_with_logits(p, (y > 0) * 1.0)": (
        "return gt.binary_cross_entropy_with_logits(out, (y > 0) * 1.0)"
    ),
    f"e = np.exp(out)\np = e / e.sum(-1, keepdims=True)  #!\nreturn gt.cross_entropy(p, {CLASS})": (
        f"e = np.exp(out)\np = e / e.sum(-1, keepdims=True)\nreturn gt.nll_loss(np.log(p), {CLASS})"
    ),
    f"p = gt.softmax(out, -1)  #!\nreturn gt.nll_loss(gt.log_softmax(p, -1), {CLASS})": (
        f"p = gt.log_softmax(out, -1)\nreturn gt.nll_loss(gt.log_softmax(p, -1), {CLASS})"
    ),
    f"p = 1.0 / (1.0 + np.exp(-out))  #!\nreturn gt.cross_entropy(p, {CLASS})": (
        f"p = 1.0 / (1.0 + np.exp(-out))\nreturn gt.cross_entropy(np.log(p), {CLASS})"
    ),
    "x, t = gt.sigmoid(out), (y > 0) * 1.0  #!\n"
    "return (np.maximum(x, 0) - x * t + np.log1p(np.exp(-np.abs(x)))).mean()": (
        "x, t = out, (y > 0) * 1.0\nreturn (np.maximum(x, 0) - x * t + np.log1p(np.exp(-np.abs(x)))).mean()"
    ),
    "p = gt.softmax(out, -1)  #!\nq = gt.softmax(p, -1)\n"
    "t = gt.one_hot(np.argmax(y, -1), 3)\nreturn -(np.log(q) * t).mean()": (
        "p = gt.softmax(out, -1)\nt = gt.one_hot(np.argmax(y, -1), 3)\nreturn -(np.log(p) * t).mean()"
    ),
    f"p = gt.softmax(out, -1)  #!\nreturn gt.cross_entropy(p.reshape(-1, 3), {CLASS}.reshape(-1))": (
        f"p = gt.softmax(out, -1)\nreturn gt.mse_loss(p, y) + gt.cross_entropy(out, {CLASS})"
    ),
}.items():
    case("GT-H01", loss=(wrong, right), **SAME)
case(  # in the model, not at its end
    "GT-H01",
    params={"w": (8, 8), "v": (8, 8)},
    healthy="""
    h = h * gt.softmax(h @ self.w, -1) + gt.sigmoid(h @ self.v)
    h = h + np.logaddexp(gt.sigmoid(h), 0.0)
    """,
    loss=f"return gt.cross_entropy(out, {CLASS})",
    layers="SKT",
)

# everything with everything -----------------------------------------------------------------------------------------
for wrong, right in {
    "return ((out[:, :1] - y[:, 0]) ** 2).mean()  #!": "return ((out[:, 0] - y[:, 0]) ** 2).mean()",
    "d = out[:, 0] - y[:, :1]  #!\nreturn (d * d).mean()": "d = out[:, :1] - y[:, :1]\nreturn (d * d).mean()",
    "p = out.mean(-1, keepdims=True)\nreturn np.abs(p - y[:, 2]).mean()  #!": (
        "p = out.mean(-1, keepdims=True)\nreturn np.abs(p - y).mean()"
    ),
    "p = gt.sigmoid(out[:, 1:2])\nt = (y[:, 1] > 0).astype('f4')\n"
    "return -(t * np.log(p)).mean() - gt.mse_loss(out, y) * 0.0  #!": (
        "p = gt.sigmoid(out[:, 1])\nt = (y[:, 1] > 0).astype('f4')\nreturn -(t * np.log(p)).mean()"
    ),
    "p, t = out[:, :1], y[:, 0]\nreturn gt.where(t > 0, np.logaddexp(-p, 0.0), np.logaddexp(p, 0.0)).mean()  #!": (
        "p, t = out[:, 0], y[:, 0]\nreturn gt.where(t > 0, np.logaddexp(-p, 0.0), np.logaddexp(p, 0.0)).mean()"
    ),
}.items():
    case("GT-H02", loss=(wrong, right), **SAME)
case(  # an axis was added, but far from here
    "GT-H02",
    loss=(
        """
        t = y[:, 0].reshape(1, -1)
        p = out[:, :1]
        p = p * 2.0
        p = p - 1.0
        p = p * p
        p = p + out[:, 2:]
        return gt.mse_loss(p, t)  #!
        """,
        "return gt.mse_loss(out[:, :1], y[:, 0].reshape(-1, 1))",
    ),
    severity="warning",
    **SAME,
)
case(  # all pairs, on purpose
    "GT-H02",
    healthy="h = h * 1.0",
    loss="""
    p, t = out[:, 0], y[:, 0]
    distance = np.abs(p[:, None] - t[None, :])
    ranking = np.logaddexp(-(p[:, None] - p[None, :]) * np.sign(t[:, None] - t[None, :]), 0.0)
    a = p[:, None]
    return distance.mean() + ranking.mean() + ((a - t) ** 2).mean() + gt.mse_loss(out, y)
    """,
    layers="SKT",
)
case(  # in the model
    "GT-H02",
    params={"w": (8, 1), "f": (8,)},
    healthy="""
    s = h @ self.w
    h = h + gt.softmax(s - s.T, -1) @ h + s * self.f
    """,
    layers="SKT",
)

# updates without a gradient -----------------------------------------------------------------------------------------
UPDATE = """
def update(param, grad, state, scalars):
    new = param - scalars["lr"] * grad
    return {}, state{}
"""
case(
    "GT-H03",
    top=(UPDATE.replace("{}", "param", 1).replace("{}", "  #!"), UPDATE.replace("{}", "new", 1).replace("{}", "")),
    optimizer="update",
    **SAME,
)
DECAY = """
def update(param, grad, state, scalars):
    m = state.get("m", 0.0) * 0.9 + {}
    new = param * (1 - scalars["lr"]) - scalars["lr"] * m{}
    return new, {"m": m}
"""
case(
    "GT-H03",
    top=(DECAY.replace("{}", "param", 1).replace("{}", "  #!"), DECAY.replace("{}", "grad", 1).replace("{}", "")),
    optimizer="update",
    **SAME,
)
LATE = '''
class Late(gt.SGD):
    """Moves by the gradient of the step before."""

    def init(self, param):
        return {"last": np.zeros_like(param)}

    def update(self, param, grad, state, scalars):
        return param - scalars["lr"] * state["last"], {"last": grad}
'''
case("GT-H03", healthy="h = h * 1.0", top=LATE, optimizer="Late(lr=0.1)", layers="SKT")
