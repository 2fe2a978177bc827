"""The history of the framework that seeded this project, rebuilt: every bug that kept its models from learning is
found, by name and line. Its GPT of two layers had 37 parameters; after ten "fixes" none of them learned."""

import inspect
from functools import cache

import numpy as np
import pytest

import gradtape as gt
from gradtape.ir.op import OPS, gradient_not_written, op
from gradtape.ir.types import TensorType
from gradtape.models.nn import merge_heads, split_heads

RNG = np.random.default_rng(0)
IDS = RNG.integers(0, 11, (2, 6))
NEXT = RNG.integers(0, 11, (2, 6))


# its layers, each whole; a bug is a subclass --------------------------------------------------------------------------
class Attention(gt.Module):
    def __init__(self):
        self.q, self.k, self.v, self.proj = (gt.nn.Linear(8, 8) for _ in range(4))

    def heads(self, x):
        return split_heads(x, 2)

    def weights(self, scores):
        return gt.softmax(scores, -1)

    def forward(self, x):
        q, k, v = (self.heads(h) for h in (self.q(x), self.k(x), self.v(x)))
        scores = q @ k.swapaxes(-1, -2) / 2.0
        n = x.shape[1]
        scores = gt.where(np.tril(np.ones((n, n), bool)), scores, -1e9)
        return self.proj(merge_heads(self.weights(scores) @ v))


class LayerNorm(gt.Module):
    def __init__(self):
        self.gamma = gt.Parameter(np.ones(8, "f4"))
        self.beta = gt.Parameter(np.zeros(8, "f4"))

    def forward(self, x):
        d = x - x.mean(-1, keepdims=True)
        return d / np.sqrt((d * d).mean(-1, keepdims=True) + 1e-5) * self.gamma + self.beta


class Gelu(gt.Module):
    def forward(self, x):
        return x * gt.sigmoid(1.702 * x)


class Block(gt.Module):
    def __init__(self, attention=Attention, norm=LayerNorm, gelu=Gelu):
        self.ln1, self.attn = norm(), attention()
        self.ln2, self.fc, self.gelu, self.out = norm(), gt.nn.Linear(8, 16), gelu(), gt.nn.Linear(16, 8)

    def forward(self, x):
        x = x + self.attn(self.ln1(x))
        return x + self.out(self.gelu(self.fc(self.ln2(x))))


class Embedding(gt.Module):
    def __init__(self):
        self.weight = gt.Parameter(0.5 * RNG.standard_normal((11, 8)).astype("f4"))

    def forward(self, ids):
        return gt.take(self.weight, ids, 0)


class GPT(gt.Module):
    def __init__(self, block=Block, embedding=Embedding):
        self.tok, self.pos = embedding(), gt.Parameter(0.5 * RNG.standard_normal((6, 8)).astype("f4"))
        self.blocks = [block() for _ in range(2)]
        self.ln_f, self.head = LayerNorm(), gt.nn.Linear(8, 11, bias=False)

    def forward(self, ids):
        x = self.tok(ids) + self.pos
        for block in self.blocks:
            x = block(x)
        return self.logits(self.head(self.ln_f(x)))

    def logits(self, x):
        return x


def loss(logits, target):
    return gt.cross_entropy(logits.reshape(-1, 11), target.reshape(-1))


def lint(model, layers=("S", "K", "T"), optimizer=None, loss=loss):
    gt.manual_seed(0)
    return gt.lint(model, IDS, NEXT, loss=loss, layers=layers, optimizer=optimizer)


def marked(owner, mark="# bug"):
    """file and line of the marked line of a class or function."""
    lines, first = inspect.getsourcelines(owner)
    return inspect.getsourcefile(owner), next(first + i for i, line in enumerate(lines) if mark in line)


def found(report, code, owner):
    """The one finding of warning or above, which has this code and names the marked line."""
    loud = [f for f in report.findings if f.severity != "info"]
    assert len(loud) == 1, str(report)
    (finding,) = loud
    assert (finding.code, finding.file, finding.line) == (code, *marked(owner)), str(report)
    return finding


def names(model, *patterns):
    return {p for p, _ in model.named_parameters() if any(part in p for part in patterns)}


@cache
def everything():
    return {p for p, _ in GPT().named_parameters()}


@pytest.fixture
def registry():
    known = set(OPS)
    yield
    for name in set(OPS) - known:
        del OPS[name]


def test_the_whole_model_is_healthy():
    report = lint(GPT(), layers=("S", "K", "T", "D", "G"))
    assert [f.code for f in report.findings if f.severity != "info"] == [], str(report)
    assert len(report.parameters) == 37
    assert sum(v.verdict == "learns" for v in report.parameters) >= 35  # a key bias is zero by mathematics


# the five root causes -------------------------------------------------------------------------------------------------
def test_reshape_without_a_rule(registry):
    @op
    class old_reshape:
        """x in another shape"""

        def infer(x, *, shape):
            return OPS["reshape"].infer(x, shape=shape)

        def ref(x, *, shape):
            return np.reshape(x, shape)

        vjp = gradient_not_written()

    class Model(GPT):
        def logits(self, x):
            return old_reshape(x, shape=(12, 11))  # bug

    report = lint(Model())
    finding = found(report, "GT-A06", Model)
    assert set(finding.parameters) == everything() and len(finding.parameters) == 37
    assert report.summary.startswith("0/37 parameters learn")
    with pytest.raises(gt.LintError, match=r"old_reshape has no derivative"):
        gt.compile(Model(), loss=loss, optimizer=gt.SGD(0.1))(IDS, NEXT)


def test_softmax_off_the_tape():
    class Soft(Attention):
        def weights(self, scores):
            e = np.exp(scores.data - scores.data.max(-1, keepdims=True))
            return gt.tensor(e / e.sum(-1, keepdims=True), requires_grad=scores.requires_grad)  # bug

    model = GPT(lambda: Block(attention=Soft))
    finding = found(lint(model), "GT-A07", Soft)
    assert set(finding.parameters) == names(model, ".attn.q.", ".attn.k.")  # v is alive, and all else by the skip


def test_heads_by_np_transpose_of_raw_data():
    class Raw(Attention):
        def heads(self, x):
            B, T, C = x.shape
            return gt.tensor(np.transpose(x.data.reshape(B, T, 2, C // 2), (0, 2, 1, 3)))  # bug

    model = GPT(lambda: Block(attention=Raw))
    finding = found(lint(model), "GT-A01", Raw)
    assert set(finding.parameters) == names(model, ".attn.q.", ".attn.k.", ".attn.v.", ".ln1.") - names(model, "proj")
    assert finding.fix == "return np.transpose(x.reshape(B, T, 2, C // 2), (0, 2, 1, 3))"


def test_gelu_without_a_rule(registry):
    @op
    class old_gelu:
        """x sigmoid(1.702 x)"""

        def infer(x):
            return x

        def ref(x):
            return x / (1 + np.exp(-1.702 * x))

        vjp = gradient_not_written()

    class Old(Gelu):
        def forward(self, x):
            return old_gelu(x)  # bug

    model = GPT(lambda: Block(gelu=Old))
    finding = found(lint(model), "GT-A06", Old)
    assert set(finding.parameters) == names(model, ".fc.", ".ln2.")


def test_layer_norm_parameters_that_are_not_trainable():
    class Flagless(LayerNorm):
        def __init__(self):
            super().__init__()
            self.gamma = gt.Parameter(np.ones(8, "f4"), requires_grad=False)  # bug

    model = GPT(lambda: Block(norm=Flagless))
    flagless = [p for _, p in model.named_parameters() if not p.requires_grad]
    rest = [p for _, p in model.named_parameters() if p.requires_grad]
    report = lint(model, optimizer=gt.AdamW(params=[{"params": flagless, "weight_decay": 0.0}, {"params": rest}]))
    wrong = [f for f in report.findings if f.code == "GT-E01"]
    assert {(f.file, f.line) for f in wrong} == {marked(Flagless)}
    assert {p for f in wrong for p in f.parameters} == names(model, "gamma") - {"ln_f.gamma"}


# the subtler ones -----------------------------------------------------------------------------------------------------
def test_embedding_as_a_false_leaf():
    class Leaf(Embedding):
        def forward(self, ids):
            return gt.tensor(self.weight.data[np.asarray(ids)], requires_grad=True)  # bug

    model = GPT(embedding=Leaf)
    finding = found(lint(model), "GT-A07", Leaf)
    assert finding.parameters == ("tok.weight",)


def test_layer_norm_with_a_cut_std():
    class Cut(LayerNorm):
        def forward(self, x):
            d = x - x.mean(-1, keepdims=True)
            std = gt.tensor(np.sqrt((d * d).mean(-1, keepdims=True).data + 1e-5))  # bug
            return d / std * self.gamma + self.beta

    model = GPT(lambda: Block(norm=Cut))
    above = {
        p for p in everything() if not p.startswith(("ln_f", "head", "blocks.1.ln2", "blocks.1.fc", "blocks.1.out"))
    }
    assert set(found(lint(model), "GT-B03", Cut).parameters) == above  # a warning: nothing was measured
    report = lint(model, layers=("S", "K", "T", "G"))
    finding = found(report, "GT-B03", Cut)
    assert finding.severity == "error" and set(finding.parameters) == above
    measured = {v.path: v.gradient for v in report.parameters}
    assert all(measured[p] > 1e-6 for p in above if not p.endswith("k.bias"))  # non-zero, every one


def test_a_proxy_a_ten_thousandth_of_the_value():
    class Proxy(Attention):
        def forward(self, x):
            q, k, v = self.q(x), self.k(x), self.v(x)
            scores = q.data @ np.swapaxes(k.data, -1, -2)
            e = np.exp(scores - scores.max(-1, keepdims=True))
            real = gt.tensor(e / e.sum(-1, keepdims=True) @ v.data)  # bug
            return self.proj(real * 0.9999 + (q + k + v) / 3 * 1e-4)

    model = GPT(lambda: Block(attention=Proxy))
    report = lint(model)
    finding = found(report, "GT-B05", Proxy)
    assert names(model, ".attn.q.", ".attn.k.", ".attn.v.") <= set(finding.parameters)
    assert all(v.paths for v in report.parameters)  # "all parameters receive gradients"


def test_a_residual_that_was_wrapped_again():
    class Wrapped(Block):
        def forward(self, x):
            x = gt.tensor(x.data + self.attn(self.ln1(x)).data)  # bug
            return x + self.out(self.gelu(self.fc(self.ln2(x))))

    model = GPT(Wrapped)
    finding = found(lint(model), "GT-A01", Wrapped)
    alive = names(model, "blocks.1.ln2", "blocks.1.fc", "blocks.1.out", "ln_f", "head")
    assert set(finding.parameters) == everything() - alive
    assert finding.fix == "x = x + self.attn(self.ln1(x))"


def test_a_branch_that_was_wrapped_again():
    class Wrapped(Block):
        def forward(self, x):
            x = x + gt.tensor(self.attn(self.ln1(x)).data)  # bug
            return x + self.out(self.gelu(self.fc(self.ln2(x))))

    model = GPT(Wrapped)
    finding = found(lint(model), "GT-B04", Wrapped)
    assert set(finding.parameters) == names(model, ".attn.", ".ln1.")


def test_parameters_without_the_positional_encoding():
    class Listed(GPT):
        def named_parameters(self):  # bug
            return [(path, p) for path, p in super().named_parameters() if path != "pos"]

    finding = found(lint(Listed()), "GT-D02", Listed)
    assert (finding.severity, finding.parameters) == ("error", ("pos",))

    class Unlisted(GPT):
        def parameters(self):  # bug
            return [p for path, p in self.named_parameters() if path != "pos"]

    model = Unlisted()
    assert found(lint(model, optimizer=gt.AdamW(params=model.parameters())), "GT-D02", Unlisted).parameters == ("pos",)
    for optimizer in (gt.AdamW(1e-3), None):  # all of the model's: nothing is left out; then what is left out is frozen
        if optimizer is None:
            gt.freeze(model.pos)
            optimizer = gt.AdamW(params=model.parameters())
        assert [f for f in lint(model, optimizer=optimizer).findings if f.severity != "info"] == []


def test_gelu_with_the_backward_of_another_formula(registry):
    @op
    class other_gelu:
        """x sigmoid(1.702 x)"""

        def infer(x):
            return x

        def ref(x):
            return x / (1 + np.exp(-1.702 * x))

        def vjp(g, y, x):
            c = float(np.sqrt(2 / np.pi))
            t = OPS["tanh"](c * (x + 0.044715 * x * x * x))
            return (g * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * c * (1 + 3 * 0.044715 * x * x)),)

    class Other(Gelu):
        def forward(self, x):
            return other_gelu(x)  # bug

    model = GPT(lambda: Block(gelu=Other))
    finding = found(lint(model, layers=("S", "K", "T", "G")), "GT-B08", Other)
    assert set(finding.parameters) == everything() - names(model, "blocks.1.out", "ln_f", "head")
    assert "x sigmoid(1.702 x)" in finding.fix


def test_rows_whose_backward_overwrites(registry):
    @op
    class old_rows:
        """x[index]"""

        def infer(x, *, index):
            return TensorType(x.dtype, (len(index), *x.shape[1:]))

        def ref(x, *, index):
            return x[list(index)]

        def vjp(g, y, x, *, index):
            last = np.array([[float(i not in index[n + 1 :])] for n, i in enumerate(index)])
            rows = OPS["scatter_add"](np.array(index), g * last, rows=x.shape[0])
            return (rows,)

    class Model(GPT):
        def logits(self, x):
            return old_rows(x.reshape(12, 11), index=(0, 0, 2, 0))  # bug

    report = lint(Model(), ("S", "K", "T", "G"), loss=lambda out, y: gt.cross_entropy(out, y.reshape(-1)[:4]))
    finding = found(report, "GT-B08", Model)
    assert set(finding.parameters) == everything()


def test_both_as_rules_of_the_users_own():
    """`gt.custom_vjp` compares forward and backward before anything is trained, and says which line is wrong."""

    def wrong(forward, backward):
        class Own(Gelu):
            def __init__(self):
                self.rule = gt.custom_vjp(forward, backward)

            def forward(self, x):
                return self.rule(x)  # bug

        model = GPT(lambda: Block(gelu=Own))
        with pytest.raises(TypeError, match=r"is not the derivative of forward") as caught:
            gt.compile(model, loss=loss, optimizer=gt.SGD(lr=0.1))(IDS, NEXT)
        assert f"{__file__}:{marked(Own)[1]}" in str(caught.value)
        assert f"{__file__}:{backward.__code__.co_firstlineno}" in str(caught.value)
        assert found(lint(model), "GT-B08", Own).severity == "error"

    def tanh_backward(x, g):
        t = gt.tanh(0.79788456 * (x + 0.044715 * x**3))
        return g * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * 0.79788456 * (1 + 3 * 0.044715 * x * x))

    wrong(lambda x: (x * gt.sigmoid(1.702 * x), x), tanh_backward)

    rows = np.array([0, 0, 1])

    def overwriting(saved, g):
        return gt.concatenate([g[:, :, 1:3], gt.zeros_like(g[:, :, :14])], -1)

    wrong(lambda x: (gt.concatenate([gt.take(x, rows, -1), x[:, :, 3:]], -1), None), overwriting)


# off the tape where the model is used ---------------------------------------------------------------------------------
def test_the_training_loop_reshapes_raw_logits():
    def wrapped(logits, target):
        logits = gt.tensor(logits.data.reshape(-1, 11))  # bug
        return gt.cross_entropy(logits, target.reshape(-1))

    finding = found(lint(GPT(), loss=wrapped), "GT-A01", wrapped)
    assert set(finding.parameters) == everything() and finding.fix == "logits = logits.reshape(-1, 11)"


def test_the_loss_is_a_number_of_numpy():
    def numpy_loss(logits, target):
        return gt.tensor([np.mean((logits.data - 1.0) ** 2)])[0]  # bug

    finding = found(lint(GPT(), loss=numpy_loss), "GT-A08", numpy_loss)
    assert set(finding.parameters) == everything()


def test_convolution_by_filling_a_buffer():
    class Loops(gt.Module):
        def __init__(self):
            self.kernel = gt.Parameter(RNG.standard_normal((3, 3)).astype("f4"))
            self.bias = gt.Parameter(np.zeros(1, "f4"))

        def forward(self, x):
            out = np.zeros((len(x), 4, 4), "f4")
            for b in range(len(x)):
                for i in range(4):
                    for j in range(4):
                        out[b, i, j] = (x[b, i : i + 3, j : j + 3] * self.kernel).sum() + self.bias[0]  # bug
            return gt.tensor(out)

    x, y = RNG.standard_normal((2, 6, 6)).astype("f4"), RNG.standard_normal((2, 4, 4)).astype("f4")
    finding = found(gt.lint(Loops(), x, y, loss=gt.mse_loss, layers=("S", "K", "T")), "GT-A04", Loops)
    assert finding.parameters == ("kernel", "bias") and "32 times" in finding.message


def test_all_of_it_at_once():
    """Every site is told, with the parameters that it kills by itself."""

    class Soft(Attention):
        def weights(self, scores):
            return gt.tensor(np.exp(scores.data) / np.exp(scores.data).sum(-1, keepdims=True))  # bug

    class Leaf(Embedding):
        def forward(self, ids):
            return gt.tensor(self.weight.data[np.asarray(ids)], requires_grad=True)  # bug

    class Model(GPT):
        def logits(self, x):
            return gt.tensor(x.data)  # bug

    model = Model(lambda: Block(attention=Soft), Leaf)
    report = lint(model)
    sites = {(f.code, f.line): set(f.parameters) for f in report.findings}
    assert (
        sites
        == {
            ("GT-A01", marked(Model)[1]): everything(),
            ("GT-A01", marked(Soft)[1]): names(model, ".attn.q.", ".attn.k.", ".ln1."),
            ("GT-A07", marked(Leaf)[1]): {"tok.weight"},
        }
        or report
    )
    assert report.findings[0].line == marked(Model)[1]  # what kills most comes first
