"""Module, Parameter and buffer, eagerly."""

import copy
from typing import Any

import numpy as np
import pytest

from gradtape import tracer as gt


def ones(*shape):
    return np.ones(shape, np.float32)


class Pair(gt.Module):
    def __init__(self, n=2):
        self.weight = gt.Parameter(ones(n, n))
        self.bias = gt.Parameter(ones(n))

    def forward(self, x):
        return x @ self.weight + self.bias


class Deep(gt.Module):
    def __init__(self):
        self.first = Pair()
        self.blocks = [Pair(), (Pair(), {"a": gt.Parameter(ones(1)), "b": [Pair()]})]
        self.scale = gt.Parameter(ones(1))
        self.stats = gt.buffer(np.zeros(3))
        self.table = gt.buffer(np.arange(3), persistent=False)
        self.note = "not a parameter"

    def forward(self, x):
        return self.first(x) * self.scale


PATHS = [
    "first.weight",
    "first.bias",
    "blocks.0.weight",
    "blocks.0.bias",
    "blocks.1.0.weight",
    "blocks.1.0.bias",
    "blocks.1.1.a",
    "blocks.1.1.b.0.weight",
    "blocks.1.1.b.0.bias",
    "scale",
]


def test_paths_through_lists_tuples_and_dicts():
    model = Deep()
    assert [p for p, _ in model.named_parameters()] == PATHS
    assert [p for p, _ in model.named_buffers()] == ["stats", "table"]
    assert [p for p, _ in model.named_modules()] == [
        "",
        "first",
        "blocks.0",
        "blocks.1.0",
        "blocks.1.1.b.0",
    ]
    assert model.num_parameters() == 4 * 6 + 2
    assert list(model.state_dict()) == [*PATHS, "stats"]
    parameters = model.parameters()
    assert [len(list(parameters)), len(list(parameters))] == [10, 10]  # can be walked twice


@pytest.mark.parametrize("order", ["without", "first", "last"])
def test_super_init_is_not_needed(order):
    class Net(gt.Module):
        def __init__(self):
            if order == "first":
                super().__init__()
            self.w = gt.Parameter(ones(2))
            self.inner = Pair()
            if order == "last":
                super().__init__()

    model = Net()
    assert [p for p, _ in model.named_parameters()] == ["w", "inner.weight", "inner.bias"]
    assert model.training and not model.eval().inner.training


def test_attributes_may_be_set_from_outside_and_lists_changed():
    model: Any = Deep()
    model.extra = Pair()
    model.blocks.append(Pair())
    del model.blocks[0]
    model.first = None
    paths = [p for p, _ in model.named_parameters()]
    assert "extra.weight" in paths and "blocks.1.weight" in paths and "first.weight" not in paths


def test_tied_parameters_are_one_with_two_paths():
    class Net(gt.Module):
        def __init__(self):
            self.a = Pair()
            self.b = Pair()
            self.b.weight = self.a.weight
            self.again = self.a

    model = Net()
    assert [p for p, _ in model.named_parameters()] == ["a.weight", "a.bias", "b.bias"]
    assert model.aliases() == {
        "a.weight": ["a.weight", "b.weight", "again.weight"],
        "a.bias": ["a.bias", "again.bias"],
    }
    state = model.state_dict()
    assert {"a.weight", "b.weight", "again.weight"} <= state.keys()
    state = {k: v for k, v in state.items() if not k.startswith("again")}
    state["a.weight"] = state["b.weight"] = 2 * ones(2, 2)
    model.load_state_dict(state)
    assert model.again.weight.data[0, 0] == 2
    state["b.weight"] = 3 * ones(2, 2)
    with pytest.raises(ValueError, match=r"a\.weight and b\.weight are one parameter"):
        model.load_state_dict(state)


def test_a_module_that_contains_itself():
    model: Any = Pair()
    model.me = model
    model.child = Pair()
    model.child.parent = model
    assert [p for p, _ in model.named_parameters()] == ["weight", "bias", "child.weight", "child.bias"]
    assert len(model.modules()) == 2


# loading ----------------------------------------------------------------------------------------------------------
def test_state_round_trip_is_in_place():
    model, other = Deep(), Deep()
    for parameter in other.parameters():
        parameter.data[...] = 5.0
    other.stats = np.full(3, 7.0)
    array = model.first.weight.data
    assert model.load_state_dict(other.state_dict()) == ([], [])
    assert array is model.first.weight.data and (array == 5).all() and (model.stats.data == 7).all()
    state = model.state_dict()
    state["scale"][...] = 0  # a copy
    assert model.scale.data[0] == 5


def test_loading_reports_everything_and_changes_nothing():
    model = Deep()
    state = {k: v + 1 for k, v in model.state_dict().items()}
    del state["scale"], state["blocks.0.bias"]
    state["first.weight"] = ones(3, 3)
    state["first.bias"] = np.array([1j, 2])
    state["blocks.7.weight"] = ones(1)
    before = model.state_dict()
    with pytest.raises(ValueError) as error:
        model.load_state_dict(state)
    text = str(error.value)
    for part in (
        "state does not fit Deep",
        "shape       first.weight: (2, 2) here, (3, 3) given",
        "dtype       first.bias: float32 here, complex128 given",
        "missing     blocks.0.bias: float32[2]",
        "missing     scale: float32[1]",
        "unexpected  blocks.7.weight: [1]",
    ):
        assert part in text
    with pytest.raises(ValueError, match="shape"):
        model.load_state_dict(state, strict=False)
    for path, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[path])


def test_loading_what_is_there():
    model = Deep()
    missing, unexpected = model.load_state_dict({"scale": [4.0], "else": 1}, strict=False)
    assert model.scale.data[0] == 4 and "first.weight" in missing and unexpected == ["else"]


# modes, freezing --------------------------------------------------------------------------------------------------
def test_modes_reach_all_modules():
    model = Deep()
    assert model.training and model.eval() is model
    assert not any(m.training for m in model.modules())
    assert all(m.training for m in model.train().modules())
    assert Pair().training


def test_freezing():
    model = Deep()
    assert gt.freeze(model.first) is model.first
    assert [p.requires_grad for p in model.first.parameters()] == [False, False]
    assert model.num_parameters(trainable_only=True) == model.num_parameters() - 6
    model.requires_grad_(True)
    assert all(p.requires_grad for p in model.parameters())
    gt.freeze(model.scale)
    assert not model.scale.requires_grad and "frozen" in repr(model.scale)


# parameters -------------------------------------------------------------------------------------------------------
def test_a_parameter_computes_like_its_array():
    w = np.random.default_rng(0).standard_normal((3, 3)).astype(np.float32)
    p, x = gt.Parameter(w), ones(2, 3)
    results = {
        "matmul": (x @ p, x @ w),
        "rmatmul": (p @ x.T, w @ x.T),
        "add": (p + 1.0, w + 1.0),
        "radd": (2 * p, 2 * w),
        "two": (p * p, w * w),
        "neg": (-p, -w),
        "T": (p.T, w.T),
        "index": (p[1:], w[1:]),
        "sum": (p.sum(0), w.sum(0)),
        "mean": (p.mean(axis=-1, keepdims=True), w.mean(axis=-1, keepdims=True)),
        "reshape": (p.reshape(-1), w.reshape(-1)),
        "ufunc": (np.tanh(p), np.tanh(w)),
        "function": (np.transpose(p), w.T),
        "concatenate": (np.concatenate([p, x]), np.concatenate([w, x])),
        "namespace": (gt.relu(p), np.maximum(w, 0)),
        "compare": (p > 0, w > 0),
        "asarray": (np.asarray(p), w),
    }
    for name, (got, expected) in results.items():
        assert type(got) is np.ndarray, name
        np.testing.assert_array_equal(got, expected, err_msg=name)
    assert (p.shape, p.ndim, p.size, p.dtype, len(p)) == (w.shape, 2, 9, np.float32, 3)
    assert float(gt.Parameter([2.0])[0]) == 2.0 and len({p, p}) == 1
    assert [row.shape for row in p] == [(3,)] * 3
    with pytest.raises(AttributeError):
        p.no_such_thing


def test_a_parameter_owns_its_array():
    w = ones(2)
    p = gt.Parameter(w)
    w[...] = 3
    assert p.data[0] == 1
    p.data[...] = 4
    p.data += 1
    assert (p.data == 5).all()
    p.data = [6, 6]
    assert p.dtype == np.float32 and (p.numpy() == 6).all()
    with pytest.raises(ValueError, match=r"shape \(3,\)"):
        p.data = ones(3)


def test_binding_moves_the_values():
    p = gt.Parameter([1.0, 2.0])
    store = np.zeros(5, np.float32)
    p._bind(store[1:3])
    assert store.tolist() == [0, 1, 2, 0, 0]
    store[1] = 9
    assert p.data[0] == 9
    p.data[1] = 7
    assert store[2] == 7


def test_what_a_parameter_is_made_of():
    assert gt.Parameter([1.0]).dtype == np.float32
    assert gt.Parameter(np.ones(1)).dtype == np.float64
    assert gt.Parameter(np.arange(3), requires_grad=False).dtype == np.int64
    with pytest.raises(TypeError, match="int64 cannot have a gradient"):
        gt.Parameter(np.arange(3))
    with pytest.raises(TypeError, match="not one of f32"):
        gt.Parameter(np.ones(2, np.float16))
    with pytest.raises(TypeError, match=r"not of the traced value f32\[2\]"):
        gt.trace(lambda x: gt.Parameter(x), ones(2))


def test_refused_assignments():
    model: Any = Pair()
    with pytest.raises(TypeError, match=r"self.weight.data\[...\] = value"):
        model.weight = ones(2, 2)
    with pytest.raises(TypeError, match=r"\.data\[\.\.\.\]"):
        model.weight[0] = 1.0
    with pytest.raises(TypeError, match=r"\.data\[\.\.\.\]"):
        model.weight += 1.0
    with pytest.raises(TypeError, match="replaced by Tensor"):
        gt.trace(lambda x: setattr(model, "weight", x), ones(2, 2))
    model.weight = gt.Parameter(ones(3))
    model.bias = None
    assert [p for p, _ in model.named_parameters()] == ["weight"]


def test_buffers_are_written_in_place_eagerly():
    model = Deep()
    array = model.stats.data
    model.stats = 0.5 * model.stats + 1.0
    assert isinstance(model.stats, gt.Buffer) and array is model.stats.data and array[0] == 1.0
    model.stats = 3
    assert (array == 3).all()
    with pytest.raises(ValueError, match=r"shape \(2,\) for a buffer of shape \(3,\)"):
        model.stats = ones(2)


def test_copies_are_independent():
    model = Deep()
    other = copy.deepcopy(model)
    other.scale.data[...] = 8
    assert model.scale.data[0] == 1 and [p for p, _ in other.named_parameters()] == PATHS


def test_repr():
    class Net(gt.Module):
        def __init__(self):
            self.blocks = [Pair()]
            self.w = gt.Parameter(ones(2))

    assert repr(Net()) == (
        "Net(\n"
        "  (blocks.0): Pair(\n"
        "    weight: Parameter(shape=(2, 2), dtype=float32)\n"
        "    bias: Parameter(shape=(2,), dtype=float32)\n"
        "  )\n"
        "  w: Parameter(shape=(2,), dtype=float32)\n"
        ")"
    )
    assert repr(gt.Module()) == "Module()"


def test_a_module_without_forward():
    with pytest.raises(NotImplementedError, match="Module has no forward"):
        gt.Module()(1)
