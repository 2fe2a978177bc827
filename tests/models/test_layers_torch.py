"""Every layer and loss against its PyTorch twin: results, gradients of all inputs and parameters, buffers over several
steps, in training and evaluation mode, eagerly and compiled; parameters and buffers go both ways.

A row is a call that reads the same in both libraries, and its inputs: `row("BatchNorm2d(5, momentum=None)", x(4, 5, 3,
2))`. In it `array` makes an array of either library, and `call("normalize", dim=-1)` a module of a function.
"""

import inspect
import zlib
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest

import gradtape as gt
from gradtape.ir.interp import evaluate_graph
from gradtape.passes.autodiff import differentiate

torch = pytest.importorskip("torch", reason="the peers of the benchmarks are not installed")

CLOSE = {"float64": 1e-10, "float32": 1e-5}


# rows -------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class In:
    """An input: of a shape, drawn by `draw(rng, shape)`; `first` are its first elements. Without `grad` it is data."""

    shape: tuple
    draw: Any
    grad: bool = True
    first: tuple = ()

    def array(self, rng: np.random.Generator, dtype: str) -> np.ndarray:
        array = np.asarray(self.draw(rng, self.shape))
        array.reshape(-1)[: len(self.first)] = self.first
        return array.astype(dtype) if array.dtype.kind == "f" else array


@dataclass(frozen=True)
class Row:
    """`call` gives the module in both libraries. `moved`: PyTorch has the classes of the first input on axis 1."""

    call: str
    inputs: tuple[In, ...]
    modes: tuple[str, ...] = ("train",)
    moved: bool = False
    dtypes: tuple[str, ...] = tuple(CLOSE)

    def compiled(self, dtype: str) -> bool:
        """Whether kernels are compiled, at 50 ms each, or the interpreter runs the program: activations and losses in
        float64, and other reductions than the mean."""
        return (self in LAYERS or dtype == "float32") and "'sum'" not in self.call and "'none'" not in self.call

    def arrays(self, dtype: str, step: int = 0) -> list[np.ndarray]:
        rng = np.random.default_rng([zlib.crc32(self.call.encode()), step])
        return [i.array(rng, dtype) for i in self.inputs]


def row(call: str, *inputs: In, **options: Any) -> Row:
    return Row(call, inputs, **options)


def x(*shape: int, first: tuple = (), grad: bool = True) -> In:
    """Normal numbers."""
    return In(shape, lambda rng, s: rng.standard_normal(s), grad, first)


def uniform(*shape: int, low: float = 0.0, high: float = 1.0, grad: bool = True, first: tuple = ()) -> In:
    return In(shape, lambda rng, s: rng.uniform(low, high, s), grad, first)


def probabilities(*shape: int, grad: bool = True) -> In:
    return In(shape, lambda rng, s: rng.dirichlet(np.ones(s[-1]), s[:-1]), grad)


def classes(*shape: int, of: int, first: tuple = ()) -> In:
    return In(shape, lambda rng, s: rng.integers(0, of, s), False, first)


def bits(*shape: int) -> In:
    """0.0 and 1.0"""
    return In(shape, lambda rng, s: rng.integers(0, 2, s).astype(float), False)


def signs(*shape: int) -> In:
    """1.0 and -1.0"""
    return In(shape, lambda rng, s: rng.choice([-1.0, 1.0], s), False)


BOTH = ("train", "eval")
SINGLE = ("float32",)  # where PyTorch has a float32 constant in its float64 gradient (1/6, 1e-12)
# kinks of some activation, and far out, where e**x overflows or a sigmoid saturates
POINTS = (0.0, 0.5, -0.5, 1.0, -1.0, 3.0, -3.0, 6.0, 20.0, -20.0, 25.0, 100.0, -100.0, 800.0, -800.0)
ELEMENTWISE = [
    "ReLU()", "ReLU6()", "Tanh()", "Sigmoid()", "SiLU()", "GELU()", "GELU(approximate='tanh')",
    "LeakyReLU()", "LeakyReLU(0.2)", "ELU()", "ELU(1.5)", "SELU()", "CELU()", "CELU(0.5)", "Softplus()",
    "Softplus(2.0, 5.0)", "Softsign()", "Hardtanh()", "Hardtanh(-2.0, 0.5)", "Hardswish()", "Mish()",
    "LogSigmoid()", "Tanhshrink()", "Softshrink()", "Softshrink(1.0)", "Hardshrink()", "Identity()",
]  # fmt: skip
ACTIVATIONS = [
    *(row(call, x(4, 5, first=POINTS)) for call in ELEMENTWISE),
    row("Hardsigmoid()", x(4, 5, first=POINTS), dtypes=SINGLE),
    *(row(call, x(3, 4, 5, first=POINTS[:6])) for call in ("PReLU()", "PReLU(4)", "PReLU(4, 0.1)")),
    row("PReLU()", x(5)),
    row("GLU()", x(3, 4)),
    row("GLU(1)", x(3, 4, 5)),
    *(row(f"{name}({dim})", x(3, 4, 5)) for name in ("Softmax", "LogSoftmax", "Softmin") for dim in (1, -1)),
]
LAYERS = [
    row("Linear(8, 6)", x(3, 5, 8)),
    row("Linear(8, 6, bias=False)", x(8)),
    row("Embedding(10, 6)", classes(3, 5, of=10)),
    row("Flatten()", x(3, 4, 5)),
    row("LayerNorm(8)", x(3, 5, 8)),
    row("LayerNorm((5, 8), 1e-4)", x(3, 5, 8)),
    row("LayerNorm(8, bias=False)", x(3, 8)),
    row("LayerNorm(8, elementwise_affine=False)", x(3, 8)),
    row("RMSNorm(8)", x(3, 5, 8)),
    row("RMSNorm((5, 8), eps=1e-3)", x(3, 5, 8)),
    row("Dropout(0.3)", x(3, 5), modes=("eval",)),
    row("Dropout(0.0)", x(3, 5)),
    row("Sequential(Linear(8, 4), Tanh(), Linear(4, 2, bias=False))", x(3, 8)),
    row("BatchNorm1d(5)", x(4, 5), modes=BOTH),
    row("BatchNorm1d(5, 1e-3, 0.3)", x(4, 5, 3), modes=BOTH),
    row("BatchNorm1d(5, momentum=None)", x(4, 5), modes=BOTH),
    row("BatchNorm2d(5)", x(4, 5, 3, 2), modes=BOTH),
    row("BatchNorm2d(5, momentum=None)", x(2, 5, 3, 2), modes=BOTH),
    row("BatchNorm2d(5, momentum=0.0)", x(2, 5, 3, 2), modes=BOTH),
    row("BatchNorm2d(5, affine=False)", x(2, 5, 3, 2), modes=BOTH),
    row("BatchNorm2d(5, track_running_stats=False)", x(2, 5, 3, 2), modes=BOTH),
    row("BatchNorm2d(5)", x(1, 5, 3, 1), modes=BOTH),
    row("InstanceNorm1d(5)", x(3, 5, 4), modes=BOTH),
    row("InstanceNorm1d(5, affine=True)", x(5, 4), modes=BOTH),
    row("InstanceNorm2d(5, 1e-3, 0.3, True, True)", x(2, 5, 4, 3), modes=BOTH),
    row("InstanceNorm2d(5, momentum=None, track_running_stats=True)", x(2, 5, 4, 3), modes=BOTH),
    row("InstanceNorm2d(5)", x(5, 4, 3), modes=BOTH),
    row("GroupNorm(2, 6)", x(3, 6, 4, 5)),
    row("GroupNorm(3, 6, 1e-3)", x(3, 6)),
    row("GroupNorm(1, 6, affine=False)", x(3, 6, 4)),
    row("GroupNorm(6, 6)", x(2, 6, 4)),
    row("Dropout1d(0.3)", x(3, 5, 4), modes=("eval",)),
    row("Dropout2d(0.3)", x(3, 5, 4, 2), modes=("eval",)),
]
CE = "CrossEntropyLoss"
WEIGHT = "weight=array([0.5, 2.0, 1.0, 0.25, 1.5])"
IGNORED = (-100, 3, -100)
LOSSES = [
    *(
        row(f"{name}(reduction={reduction!r})", x(4, 3), x(4, 3))
        for name in ("MSELoss", "L1Loss", "SmoothL1Loss", "HuberLoss")
        for reduction in ("mean", "sum", "none")
    ),
    row("SmoothL1Loss(beta=0.25)", x(4, 3), x(4, 3)),
    row("SmoothL1Loss(beta=0.0)", x(4, 3), x(4, 3)),
    row("HuberLoss('sum', 0.25)", x(4, 3), x(4, 3)),
    *(row(f"call({name!r})", x(4, 3), x(4, 3)) for name in ("mse_loss", "l1_loss", "huber_loss")),
    row(f"{CE}()", x(6, 5), classes(6, of=5)),
    row(f"{CE}()", x(5), classes(of=5)),
    row(f"{CE}()", x(6, 5), classes(6, of=5, first=IGNORED)),
    row(f"{CE}()", x(2, 3, 4, 5), classes(2, 3, 4, of=5, first=IGNORED), moved=True),
    *(row(f"{CE}(reduction={r!r})", x(2, 3, 5), classes(2, 3, of=5), moved=True) for r in ("sum", "none")),
    row(f"{CE}(ignore_index=2)", x(8, 5), classes(8, of=5)),
    row(f"{CE}(ignore_index=2, {WEIGHT}, label_smoothing=0.125)", x(8, 5), classes(8, of=5)),
    *(
        row(f"{CE}({WEIGHT}, reduction={r!r}{options})", x(2, 4, 5), classes(2, 4, of=5, first=IGNORED), moved=True)
        for r in ("mean", "sum", "none")
        for options in ("", ", label_smoothing=0.1")
    ),
    row(f"{CE}(label_smoothing=0.1)", x(8, 5), classes(8, of=5, first=IGNORED)),
    row(f"{CE}(label_smoothing=1.0)", x(8, 5), classes(8, of=5)),
    *(
        row(f"{CE}(reduction={r!r}{options})", x(2, 4, 5), probabilities(2, 4, 5), moved=True)
        for r in ("mean", "sum", "none")
        for options in ("", f", {WEIGHT}", ", label_smoothing=0.1", f", {WEIGHT}, label_smoothing=0.1")
    ),
    row("NLLLoss()", x(6, 5), classes(6, of=5, first=IGNORED)),
    row(f"NLLLoss({WEIGHT})", x(2, 4, 5), classes(2, 4, of=5, first=IGNORED), moved=True),
    *(row(f"NLLLoss(reduction={r!r}, ignore_index=1)", x(6, 5), classes(6, of=5)) for r in ("sum", "none")),
    *(row(f"BCELoss(reduction={r!r})", uniform(4, 3), uniform(4, 3)) for r in ("mean", "sum", "none")),
    row("BCELoss()", uniform(4, 3, first=(0, 1, 0, 1)), uniform(4, 3, first=(0, 1, 1, 0), grad=False), dtypes=SINGLE),
    row("BCELoss(array([0.5, 2.0, 1.0]))", uniform(4, 3), bits(4, 3)),
    *(row(f"BCEWithLogitsLoss(reduction={r!r})", x(4, 3, first=(30, -30, 800)), uniform(4, 3))
      for r in ("mean", "sum", "none")),
    row("BCEWithLogitsLoss(array([0.5, 2.0, 1.0]))", x(4, 3), bits(4, 3)),
    row("BCEWithLogitsLoss(pos_weight=array([0.5, 2.0, 3.0]))", x(4, 3, first=(30, -30, 800)), bits(4, 3)),
    *(row(f"KLDivLoss(reduction={r!r})", x(4, 3), uniform(4, 3)) for r in ("mean", "sum", "none", "batchmean")),
    row("KLDivLoss(reduction='sum')", x(4, 3), uniform(4, 3, first=(0, 1), grad=False)),
    row("KLDivLoss(reduction='batchmean', log_target=True)", x(4, 3), x(4, 3)),
    row("SoftMarginLoss()", x(4, 3, first=(40, -40)), signs(4, 3)),
    row("MultiLabelSoftMarginLoss()", x(4, 3), bits(4, 3)),
    row("MultiLabelSoftMarginLoss(array([0.5, 2.0, 1.0]), reduction='none')", x(4, 3), bits(4, 3)),
    row("HingeEmbeddingLoss()", x(4, 3), signs(4, 3)),
    row("HingeEmbeddingLoss(0.5, reduction='none')", x(6), signs(6)),
    row("MarginRankingLoss()", x(6), x(6), signs(6)),
    row("MarginRankingLoss(0.5)", x(6), x(6), signs(6)),
    row("CosineEmbeddingLoss()", x(6, 4), x(6, 4), signs(6)),
    row("CosineEmbeddingLoss(-0.25, reduction='sum')", x(6, 4), x(6, 4), signs(6)),
    row("TripletMarginLoss()", x(6, 4), x(6, 4), x(6, 4)),
    row("TripletMarginLoss(0.5, p=1.0, swap=True)", x(6, 4), x(6, 4), x(6, 4)),
    row("TripletMarginLoss(p=3.0, reduction='none')", x(6, 4), x(6, 4), x(6, 4)),
    row("GaussianNLLLoss()", x(6, 4), x(6, 4), uniform(6, 4, low=0.5, first=(1e-9,))),
    row("GaussianNLLLoss(full=True, reduction='none')", x(6, 4), x(6, 4), uniform(6, low=0.5)),
    row("GaussianNLLLoss(eps=1e-2)", x(6, 4), x(6, 4), uniform(6, 1)),
    row("call('gaussian_nll_loss', var=0.3)", x(6, 4), x(6, 4)),
    row("PoissonNLLLoss()", x(6, 4), uniform(6, 4, high=5, grad=False)),
    row("PoissonNLLLoss(full=True)", x(6, 4), uniform(6, 4, high=5, grad=False)),
    row("PoissonNLLLoss(False, eps=1e-6, reduction='sum')", uniform(6, 4), uniform(6, 4, high=5, grad=False)),
]  # fmt: skip
VECTORS = [
    row("CosineSimilarity()", x(3, 4, 2), x(3, 4, 2)),
    row("CosineSimilarity(dim=-1, eps=1e-3)", x(3, 4, first=(0.0,) * 4), x(3, 4)),
    row("PairwiseDistance()", x(3, 4), x(3, 4)),
    row("PairwiseDistance(1.0, keepdim=True)", x(3, 4), x(3, 4)),
    row("call('normalize')", x(3, 4, first=(0.0,) * 4)),
    row("call('normalize', p=1.0, dim=0)", x(3, 4, 2)),
    row("call('normalize', p=3.0, dim=-1)", x(3, 4)),
    row("call('normalize', p=inf)", x(3, 4)),
]
ROWS = [*ACTIVATIONS, *LAYERS, *LOSSES, *VECTORS]


# both sides -------------------------------------------------------------------------------------------------------
class Call(gt.Module):
    """A function of `gt` as a module."""

    def __init__(self, name, **options):
        self.name, self.options = name, options

    def forward(self, *arrays):
        return getattr(gt, self.name)(*arrays, **self.options)


class TorchCall(torch.nn.Module):
    """A function of torch.nn.functional as a module."""

    def __init__(self, name, **options):
        super().__init__()
        self.name, self.options = name, options

    def forward(self, *arrays):
        return getattr(torch.nn.functional, self.name)(*arrays, **self.options)


def ours(call: str, dtype: str) -> Any:
    layer = eval(call, {**vars(gt.nn), "array": np.array, "call": Call, "inf": np.inf})
    for stored in (*layer.parameters(), *layer.buffers()):
        if stored.dtype.kind == "f":
            stored._array = stored.data.astype(dtype)
    return layer


def theirs(call: str, dtype: str) -> Any:
    layer = eval(call, {**vars(torch.nn), "array": torch.tensor, "call": TorchCall, "inf": np.inf})
    return layer.to(getattr(torch, dtype))


def state(layer: Any) -> dict[str, np.ndarray]:
    return {k: np.asarray(v) for k, v in layer.state_dict().items()}


def randomised(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Other numbers of the same kind: gains are 1 and biases 0 at first, which is too easy. Variances stay positive."""
    rng = np.random.default_rng(1)
    return {
        k: (v + rng.uniform(0.25, 0.75, v.shape)).astype(v.dtype) if v.dtype.kind == "f" else v + rng.integers(0, 3)
        for k, v in arrays.items()
    }


def give(layer: Any, arrays: dict[str, np.ndarray]) -> None:
    """Loads arrays into a torch module, which refuses other keys and shapes."""
    layer.load_state_dict({k: torch.tensor(v) for k, v in arrays.items()}, strict=True)


class Weighed(gt.Module):
    """sum(part(*inputs) * weights), where the inputs with a gradient are parameters x0, x1, ..."""

    def __init__(self, part: Any, row: Row, arrays: list[np.ndarray]) -> None:
        self.part, self.row = part, row
        for i, (spec, array) in enumerate(zip(row.inputs, arrays, strict=True)):
            if spec.grad:
                setattr(self, f"x{i}", gt.Parameter(array))

    def forward(self, weights: Any, *data: Any) -> Any:
        given = iter(data)
        inputs = [getattr(self, f"x{i}") if spec.grad else next(given) for i, spec in enumerate(self.row.inputs)]
        return (self.part(*inputs) * weights).sum()


def run_ours(model: Weighed, *args: np.ndarray) -> tuple[Any, dict[str, np.ndarray]]:
    """(loss, gradients) as `Compiled.value_and_grad` gives them, by the interpreter."""
    traced = gt.trace(model, *args)
    graph = traced.graph.replace(outputs=(("loss", traced.graph.output("out")),))
    out = evaluate_graph(differentiate(graph, "loss", list(traced.parameters)), traced.bind(*args))
    return out["loss"], {k.removeprefix("grad:"): v for k, v in out.items() if k != "loss"}


def run_theirs(layer: Any, row: Row, arrays: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """(result, weights, gradients by the names of `Weighed`)."""
    inputs = [torch.tensor(a, requires_grad=s.grad) for s, a in zip(row.inputs, arrays, strict=True)]
    probabilities = inputs[-1].is_floating_point() and len(inputs) > 1
    turned = [t.movedim(-1, 1) if row.moved and (i == 0 or probabilities) else t for i, t in enumerate(inputs)]
    out = layer(*turned)
    weights = np.random.default_rng(2).standard_normal(tuple(out.shape)).astype(arrays[0].dtype)
    if arrays[0].dtype.kind != "f":
        weights = weights.astype(str(out.dtype).removeprefix("torch."))
    wrt = {f"x{i}": t for i, t in enumerate(inputs) if t.requires_grad}
    wrt |= {f"part.{name}": p for name, p in layer.named_parameters()}
    if not wrt:
        return out.detach().numpy(), weights, {}
    grads = torch.autograd.grad((out * torch.tensor(weights)).sum(), list(wrt.values()))
    return out.detach().numpy(), weights, {name: g.numpy() for name, g in zip(wrt, grads, strict=True)}


def close(got: Any, expected: Any, dtype: str, what: str) -> None:
    """Equal shapes and dtypes; differences up to the dtype's share of the largest number (at least of 1)."""
    got, expected = np.asarray(got), np.asarray(expected)
    assert (got.shape, got.dtype) == (expected.shape, expected.dtype), what
    finite = np.abs(expected[np.isfinite(expected)])
    scale = max(1.0, float(finite.max())) if finite.size else 1.0
    np.testing.assert_allclose(got, expected, rtol=CLOSE[dtype], atol=CLOSE[dtype] * scale, err_msg=what)


# tests ------------------------------------------------------------------------------------------------------------
def each(rows: list[Row]) -> Any:
    """One test for every row, mode and dtype."""
    found = [(r, mode, dtype) for r in rows for mode in r.modes for dtype in r.dtypes]
    names = [f"{r.call} {'x'.join(map(str, r.inputs[0].shape))} {mode} {dtype}" for r, mode, dtype in found]
    return pytest.mark.parametrize(("row", "mode", "dtype"), found, ids=names)


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides:UserWarning")  # PyTorch, of KLDivLoss
@each(ROWS)
def test_results_gradients_and_buffers(row: Row, mode: str, dtype: str) -> None:
    """Three steps with the same modules; also that loading `theirs` and giving `ours` fills both completely."""
    layer, twin = ours(row.call, dtype).train(mode == "train"), theirs(row.call, dtype).train(mode == "train")
    assert {k: (v.shape, v.dtype) for k, v in state(layer).items()} == {
        k: (v.shape, v.dtype) for k, v in state(twin).items()
    }
    give(twin, randomised(state(layer)))
    layer.load_state_dict(state(twin))
    model = Weighed(layer, row, row.arrays(dtype))
    run = gt.compile(model, threads=1).value_and_grad if row.compiled(dtype) else partial(run_ours, model)
    for step in range(3 if layer.buffers() and mode == "train" else 1):
        arrays = row.arrays(dtype, step)
        eager = ours(row.call, dtype).train(mode == "train")
        eager.load_state_dict(state(layer))
        expected, weights, gradients = run_theirs(twin, row, arrays)
        close(eager(*arrays), expected, dtype, "eager")
        for name, parameter in model.named_parameters():
            if not name.startswith("part."):
                parameter.data[...] = arrays[int(name[1:])]
        data = [a for s, a in zip(row.inputs, arrays, strict=True) if not s.grad]
        if gradients:
            loss, found = run(weights, *data)
            close(loss, (expected * weights).sum(dtype=weights.dtype), dtype, "traced")
            assert found.keys() == gradients.keys()
            for name, gradient in gradients.items():
                close(found[name], gradient, dtype, f"the gradient of {name}")
        for key, array in state(twin).items():
            close(state(eager)[key], array, dtype, f"eager {key}")
            close(state(layer)[key], array, dtype, f"traced {key}")


@pytest.mark.parametrize("call", sorted({r.call for r in ROWS if not r.call.startswith("call(")}))
def test_a_state_dict_goes_both_ways(call: str) -> None:
    layer, twin = ours(call, "float32"), theirs(call, "float32")
    assert list(state(layer)) == list(state(twin))
    for key, array in state(twin).items():
        assert (state(layer)[key].shape, state(layer)[key].dtype) == (array.shape, array.dtype), key
    there = randomised(state(twin))
    layer.load_state_dict(there)
    for key, array in state(layer).items():
        np.testing.assert_array_equal(array, there[key], err_msg=key)
    back = {k: v + v.dtype.type(1) for k, v in there.items()}
    give(twin, back)
    for key, array in state(twin).items():
        np.testing.assert_array_equal(array, back[key], err_msg=key)


def test_a_new_module_holds_what_pytorchs_does() -> None:
    """Where PyTorch starts with one number, so do we; what it draws at random is looked at in test_layers."""
    compared = 0
    for call in sorted({r.call for r in ROWS}):
        layer, twin = state(ours(call, "float32")), state(theirs(call, "float32"))
        for key, array in twin.items():
            if np.ptp(array) == 0 and "array(" not in call:
                np.testing.assert_array_equal(layer[key], array, err_msg=f"{call} {key}")
                compared += 1
    assert compared > 50


NOT_TAKEN = {
    "size_average",
    "reduce",
    "min_value",
    "max_value",
    "device",
    "dtype",
    "return_indices",
    "proj_size",
    "nonlinearity",
}  # old, elsewhere, or tested on its own
DIFFERENT = {("Softmax", "dim"), ("LogSoftmax", "dim"), ("Softmin", "dim")}  # guessed from the rank for None there
RECURRENT = {"RNN", "LSTM", "GRU"}
FEWER = {"Embedding"}  # of the options at the end


@pytest.mark.parametrize("name", [n for n in gt.nn.__all__ if isinstance(getattr(torch.nn, n, None), type)])
def test_constructors_take_what_pytorchs_do(name: str) -> None:
    """The same options in the same order with the same defaults."""
    mine, its = getattr(gt.nn, name), getattr(torch.nn, name)
    if name in RECURRENT:  # PyTorch's say (*args, **kwargs)
        its = partial(torch.nn.RNNBase, name)
    if mine in (gt.nn.Module, gt.nn.Parameter, gt.nn.ModuleList, gt.nn.ModuleDict):
        return
    options, theirs_ = (
        [
            (p.name, (name, p.name) in DIFFERENT or p.default)
            for p in inspect.signature(c).parameters.values()
            if p.name not in NOT_TAKEN and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
        ]
        for c in (mine, its)
    )
    if name in FEWER:
        theirs_ = theirs_[: len(options)]
    if ("bias", True) not in theirs_:  # norms have it from PyTorch 2.13 on
        options = [o for o in options if o != ("bias", True)]
    assert options == theirs_
