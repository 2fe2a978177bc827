"""Convolution and pooling layers against their PyTorch twins, values and all gradients; what they refuse."""

import numpy as np
import pytest

from gradtape import nn
from gradtape.ir.interp import evaluate_graph
from gradtape.passes.autodiff import differentiate
from gradtape.tracer import trace
from tapes import Batch, sharing_everything, split_values, tape_of

RNG = np.random.default_rng(0)
LINE, PLANE = RNG.standard_normal((3, 4, 11)), RNG.standard_normal((3, 4, 9, 8))

# name of the layer, arguments, x; made with dtype where it has weights
TWINS = [
    ("Conv1d", (4, 6, 3), {}, LINE),
    ("Conv1d", (4, 6, 3), {"stride": 2, "padding": 2, "dilation": 2, "bias": False}, LINE),
    ("Conv1d", (4, 6, 4), {"padding": "same"}, LINE),
    ("Conv2d", (4, 6, 3), {"padding": 1}, PLANE),
    ("Conv2d", (4, 6, (3, 2)), {"stride": (1, 2), "padding": (0, 1), "dilation": (2, 1)}, PLANE),
    ("Conv2d", (4, 6, 3), {"stride": 2, "padding": 1, "groups": 2, "bias": False}, PLANE),
    ("Conv2d", (4, 8, 3), {"groups": 4, "padding": "same", "dilation": 2}, PLANE),  # depthwise
    ("Conv2d", (4, 6, 1), {}, PLANE),
    ("Conv2d", (4, 6, 1), {"stride": 2}, PLANE),
    ("Conv2d", (4, 2, (4, 3)), {"padding": "valid"}, PLANE),
    ("Conv2d", (4, 6, 3), {"padding": 1}, PLANE[0]),  # without a batch
    ("ConvTranspose1d", (4, 6, 3), {"stride": 2, "output_padding": 1}, LINE),
    ("ConvTranspose2d", (4, 6, 3), {}, PLANE),
    ("ConvTranspose2d", (4, 6, (3, 2)), {"stride": (2, 3), "padding": (1, 0), "output_padding": (0, 2)}, PLANE),
    ("ConvTranspose2d", (4, 6, 2), {"groups": 2, "dilation": 2, "bias": False}, PLANE),
    ("MaxPool1d", (2,), {}, LINE),
    ("MaxPool1d", (3,), {"stride": 2, "padding": 1, "ceil_mode": True}, LINE),
    ("MaxPool2d", (2,), {}, PLANE),
    ("MaxPool2d", ((3, 2), (2, 1), 1), {}, PLANE),
    ("MaxPool2d", (2, 3), {"ceil_mode": True}, PLANE),
    ("MaxPool2d", (3, 1), {"dilation": 2, "padding": 1}, PLANE),
    ("MaxPool2d", (2,), {}, PLANE[0]),
    ("AvgPool1d", (3,), {}, LINE),
    ("AvgPool1d", (3, 2, 1), {"ceil_mode": True}, LINE),
    ("AvgPool2d", (2,), {}, PLANE),
    ("AvgPool2d", (4,), {"stride": (3, 1)}, PLANE),
    ("AvgPool2d", (3, 2, 1), {}, PLANE),
    ("AvgPool2d", (3, 2, 1), {"count_include_pad": False}, PLANE),
    ("AvgPool2d", (3, 2, 1), {"count_include_pad": False, "ceil_mode": True}, PLANE),
    ("AvgPool2d", ((4, 3), 3, (2, 1)), {"ceil_mode": True}, PLANE),
    ("AvgPool2d", (2,), {"divisor_override": 3}, PLANE),
    ("AdaptiveAvgPool1d", (4,), {}, LINE),
    ("AdaptiveAvgPool2d", (1,), {}, PLANE),
    ("AdaptiveAvgPool2d", ((3, 4),), {}, PLANE),
    ("AdaptiveAvgPool2d", (4,), {}, PLANE),
    ("AdaptiveAvgPool2d", ((None, 5),), {}, PLANE),
    ("AdaptiveAvgPool2d", (3,), {}, PLANE[0]),
]


def named(twin):
    kind, args, more, x = twin
    return f"{kind} {args} {more} {x.ndim}"


def made(twin, dtype):
    """The layer, its program (outputs "out.0", the result, and the gradients of a weighted sum) and values for it."""
    kind, args, more, x = twin
    layer = getattr(nn, kind)(*args, **more, **({"dtype": dtype} if kind.startswith("Conv") else {}))
    x = x.astype(dtype)
    out = layer(x)
    weights = np.cos(np.arange(out.size)).reshape(out.shape).astype(dtype)
    batched = {} if kind.endswith(f"{x.ndim - 1}d") else {"x": {0: "N"}, "w": {0: "N"}}
    assert batched.keys() <= {"x", "w"} and (batched or x.ndim == PLANE.ndim - 1)

    def weighted(x, w):
        out = layer(x)
        return out, (out * w).sum()

    traced = trace(weighted, x, weights, module=layer, dims=batched)
    assert traced.graph.guards == () and traced.ledger.escapes == []
    names = ["x", *(name for name, _ in layer.named_parameters())]
    return layer, differentiate(traced.graph, "out.1", names), traced.bind(x, weights)


def close(dtype):
    return {"rtol": 1e-10, "atol": 1e-10} if dtype == "float64" else {"rtol": 1e-5, "atol": 1e-5}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")  # PyTorch pads a copy
@pytest.mark.parametrize("twin", TWINS, ids=named)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_layer_is_its_pytorch_twin(twin, dtype):
    """Values and all gradients, float64 to 1e-10, float32 to 1e-5 of the largest."""
    torch = pytest.importorskip("torch")
    kind, args, more, _ = twin
    layer, graph, values = made(twin, dtype)
    theirs = getattr(torch.nn, kind)(*args, **more).to(getattr(torch, dtype))
    theirs.load_state_dict({name: torch.tensor(array) for name, array in layer.state_dict().items()})
    x = torch.tensor(values["x"], requires_grad=True)
    out = theirs(x)
    (out * torch.tensor(values["w"])).sum().backward()
    expected = {"out.0": out, "grad:x": x.grad, **{f"grad:{k}": p.grad for k, p in theirs.named_parameters()}}
    eager = layer(values["x"])
    assert eager.dtype == dtype and type(eager) is np.ndarray
    np.testing.assert_allclose(eager, out.detach().numpy(), **close(dtype))
    found = evaluate_graph(graph, values)
    assert found.keys() - {"out.1"} == expected.keys()
    for name, tensor in expected.items():
        array = tensor.detach().numpy()
        np.testing.assert_allclose(found[name], array, **close(dtype), err_msg=name)


@pytest.fixture(scope="module")
def compiled():
    batch = Batch()
    programs = [(twin, *made(twin, "float32")[1:]) for twin in TWINS]
    tapes = [batch.add(tape_of(graph)) for _, graph, _ in programs]
    batch.compile()
    return batch, [(*program, tape) for program, tape in zip(programs, tapes, strict=True)]


@pytest.mark.parametrize("threads", [1, 2])
def test_compiled_layers_are_the_interpreted_ones(compiled, threads):
    """At batch sizes that the threads cannot share evenly, 3 and 1."""
    batch, programs = compiled
    for twin, graph, values, tape in programs:
        for size in (3, 1) if "N" in graph.symbols else (None,):
            given = {k: v[:size] if k in ("x", "w") else v for k, v in values.items()}
            inputs, store = split_values(graph, given)
            expected = evaluate_graph(graph, given)
            with sharing_everything():
                found = batch.program(tape, store, threads).run(inputs)
            for name, array in expected.items():
                np.testing.assert_allclose(found[name], array, rtol=2e-5, atol=2e-5, err_msg=f"{named(twin)} {name}")
