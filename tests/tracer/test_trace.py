"""trace(): inputs, names, symbols, guards, structure, nesting, and what happens after the end."""

import threading
from typing import Any, NamedTuple

import numpy as np
import pytest

from gradtape import tracer as gt
from gradtape.ir.dims import Dim
from gradtape.ir.interp import evaluate_graph
from gradtape.ir.text import parse, to_text
from gradtape.ir.verify import verify

HERE = __file__


def array(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def run(traced, *args, **scalars):
    """The traced program's result in the structure that the function returned."""
    verify(traced.graph)
    assert parse(to_text(traced.graph), traced.graph.constants) == traced.graph
    return traced.structure.restore(evaluate_graph(traced.graph, traced.bind(*args, **scalars)))


class Affine(gt.Module):
    def __init__(self):
        self.w = gt.Parameter(array(3, 2))
        self.b = gt.Parameter(np.zeros(2, np.float32))

    def forward(self, x):
        return x @ self.w + self.b


def test_inputs_parameters_and_their_names():
    model = Affine()
    traced = gt.trace(model, array(4, 3))
    assert [(v.name, str(v.type), traced.graph.roles[v.name]) for v in traced.graph.inputs] == [
        ("x", "f32[4, 3]", "input"),
        ("w", "f32[3, 2]", "param"),
        ("b", "f32[2]", "param"),
    ]
    assert traced.graph.name == "affine"
    x = array(4, 3, seed=1)
    np.testing.assert_allclose(run(traced, x), model(x), rtol=1e-6)
    assert traced.parameters == {"w": model.w, "b": model.b}


def test_parameters_of_a_module_that_a_function_closes_over():
    model = Affine()
    traced = gt.trace(lambda x, y: gt.mse(model(x), y), array(4, 3), array(4, 2), module=model)
    assert [v.name for v in traced.graph.with_role("param")] == ["w", "b"]
    assert traced.captured == {}


def test_nested_arguments_and_results():
    class Pair(NamedTuple):
        a: object
        b: object

    def f(batch, scale, flag, missing):
        assert flag is True and missing is None
        x, (y, z) = batch["x"], batch["rest"]
        return {"sum": x + y, "list": [z * scale, Pair(x, "text")], "none": None}

    batch = {"x": array(2), "rest": (array(2, seed=1), array(3, seed=2))}
    traced = gt.trace(f, batch, 2.0, True, None)
    assert [str(v) for v in traced.graph.inputs] == [
        "%batch.x: f32[2]",
        "%batch.rest.0: f32[2]",
        "%batch.rest.1: f32[3]",
        "%scale: f32[]",
    ]
    assert [name for name, _ in traced.graph.outputs] == ["out.sum", "out.list.0", "out.list.1.a"]
    got = run(traced, batch, 3.0, True, None)
    np.testing.assert_allclose(got["list"][0], batch["rest"][1] * 3.0)
    assert isinstance(got["list"][1], Pair) and got["list"][1].b == "text" and got["none"] is None
    with pytest.raises(TypeError, match="traced with other arguments"):
        traced.bind(batch, 3.0, False, None)


def test_argument_names_do_not_clash_with_parameters_or_scalars():
    class Clash(gt.Module):
        def __init__(self):
            self.x = gt.Parameter(array(2))

        def forward(self, x, seed, *more):
            return self.x * x + seed + more[0]

    traced = gt.trace(Clash(), array(2), 1, array(2))
    assert [v.name for v in traced.graph.inputs] == ["x_", "seed_", "more.0", "x"]
    traced = gt.trace(lambda *a: a[0] * a[1], array(2), array(2), names=["p", "g"])
    assert [v.name for v in traced.graph.inputs] == ["p", "g"]


def test_tied_parameter_is_one_input_and_buffers_come_last():
    class Tied(gt.Module):
        def __init__(self):
            self.a = gt.Parameter(array(3, 3))
            self.count = gt.buffer(np.zeros(1, np.float32))
            self.b = self.a
            self.c = gt.Parameter(array(3))

        def forward(self, x):
            return x @ self.a @ self.b + self.c + self.count

    traced = gt.trace(Tied(), array(2, 3))
    assert [(v.name, traced.graph.roles[v.name]) for v in traced.graph.inputs] == [
        ("x", "input"), ("a", "param"), ("c", "param"), ("count", "buffer"),
    ]  # fmt: skip


# symbols ----------------------------------------------------------------------------------------------------------
def test_specs_are_symbolic_and_hints_are_unlike_anything():
    model = Affine()
    traced = gt.trace(model, gt.spec(("B", "T", 3)))
    assert str(traced.graph.outputs[0][1].type) == "f32[B, T, 2]"
    hints = [s.hint for s in traced.graph.symbols.values()]
    assert hints == [5, 7] and traced.graph.guards == ()
    for shape in ((2, 4, 3), (1, 1, 3), (7, 7, 3)):
        x = array(*shape)
        np.testing.assert_allclose(run(traced, x), model(x), rtol=1e-5, atol=1e-6)


def test_a_bound_becomes_part_of_the_symbol():
    traced = gt.trace(lambda x: x * 1.0, gt.spec((Dim("T", min=2, max=4), "B")))
    symbols = traced.graph.symbols
    assert (symbols["T"].min, symbols["T"].max, symbols["T"].hint) == (2, 4, 4)
    assert symbols["B"].hint == 5


def test_an_inequality_is_a_guard_with_the_users_line():
    table = array(8, 2)

    def f(idx):
        B, T = idx.shape
        assert T <= 8
        return gt.tensor(table)[:T] + gt.zeros((B, T, 2))

    traced = gt.trace(f, gt.spec(("B", "T"), "i64"))
    (guard,) = traced.graph.guards
    line = f.__code__.co_firstlineno + 2
    assert str(guard) == "T <= 8" and guard.where == f"{HERE}:{line}"
    idx = np.zeros((3, 8), np.int64)
    np.testing.assert_array_equal(run(traced, idx), np.broadcast_to(table, (3, 8, 2)))


@pytest.mark.parametrize(
    "pin",
    [
        lambda x: range(x.shape[0]),
        lambda x: int(x.shape[0]),
        lambda x: x.shape[0] == 5,
        len,
        lambda x: list(x),
    ],
    ids=["range", "int", "eq", "len", "iter"],
)
def test_an_exact_size_pins(pin):
    def f(x):
        pin(x)
        return x + 1.0

    traced = gt.trace(f, gt.spec(("B", 2)))
    assert [str(g) for g in traced.graph.guards] == ["B == 5"]
    assert traced.ledger.escapes == []  # a size is no traced value


def test_comparing_with_another_size_is_recorded_but_does_not_pin():
    traced = gt.trace(lambda x: x + 1.0 if x.shape[0] == 64 else x, gt.spec(("B", 2)))
    assert [str(g) for g in traced.graph.guards] == ["B != 64"]


def test_axes_of_examples_can_be_symbolic():
    x, y = array(6, 3), array(6, 2)
    model = Affine()
    traced = gt.trace(
        lambda x, y: gt.mse(model(x), y), x, y, module=model, dims={"x": {0: "B"}, "y": {0: Dim("B", max=9)}}
    )
    assert str(traced.graph.input("y").type) == "f32[B, 2]"
    assert traced.graph.symbols["B"].hint == 6 and traced.graph.symbols["B"].max == 9
    x, y = array(2, 3), array(2, 2)
    np.testing.assert_allclose(run(traced, x, y), gt.mse(model(x), y), rtol=1e-6)
    with pytest.raises(ValueError, match="B is 6 in one argument and 5 in another"):
        gt.trace(lambda x, y: x, array(6), array(5), dims={"x": {0: "B"}, "y": {0: "B"}})


def test_a_dim_as_a_number_is_a_runtime_scalar():
    def f(x):
        B = x.shape[0]
        return x.sum() / B + B * 0.5 + gt.sqrt(B) + x.shape[0] ** 0.5

    traced = gt.trace(f, gt.spec(("B",)))
    assert traced.graph.guards == ()
    assert [n.op for n in traced.graph.nodes].count("dim_scalar") == 1
    x = array(9)
    np.testing.assert_allclose(run(traced, x), x.sum() / 9 + 4.5 + 3.0 + 3.0, rtol=1e-6)


def test_a_dim_takes_the_dtype_of_what_it_meets_as_an_integer_does():
    def f(x, n):
        T = n.shape[0]
        wide, narrow = x.astype("float64") * T, n.astype(np.int32) - T
        return n + T, n % T, narrow, x * T, wide, gt.where(n > 1, T, 0), n < T, gt.maximum(T, 3), gt.stack([n[0], T])

    traced = gt.trace(f, gt.spec(("T",)), gt.spec(("T",), "i64"))
    x, n = array(5), np.arange(5)
    got = evaluate_graph(verify(traced.graph), traced.bind(x, n)).values()
    for a, b in zip(got, f(x, n), strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype


# locations --------------------------------------------------------------------------------------------------------
def test_nodes_know_the_users_line_and_the_module():
    class Net(gt.Module):
        def __init__(self):
            self.parts = [Affine(), {"second": Affine()}]

        def forward(self, x):
            h = np.tanh(self.parts[0](x))
            return self.parts[1]["second"](h @ np.ones((2, 3), np.float32))

    traced = gt.trace(Net(), array(4, 3))
    where: Any = {n.op: n.location for n in traced.graph.nodes}
    assert where["tanh"].file == HERE and where["tanh"].scope == ""
    assert where["tanh"].line == Net.forward.__code__.co_firstlineno + 1
    scopes = [n.location.scope for n in traced.graph.nodes if n.location is not None and n.op == "add"]
    assert scopes == ["parts.0", "parts.1.second"]


def test_a_layer_of_this_package_is_at_the_line_that_calls_it():
    from gradtape.models import nn

    class Net(gt.Module):
        def __init__(self):
            self.inner = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3))

        def forward(self, x):
            return self.inner(x)

    traced = gt.trace(Net(), array(4, 3))
    line = Net.forward.__code__.co_firstlineno + 1
    assert {(n.location.file, n.location.line) for n in traced.graph.nodes} == {(HERE, line)}
    assert {n.location.scope for n in traced.graph.nodes} == {"inner.0", "inner.1"}


def test_a_type_error_names_line_scope_and_operands():
    class Net(gt.Module):
        def __init__(self):
            self.inner = Affine()

        def forward(self, x):
            return self.inner(x)

    with pytest.raises(TypeError) as error:
        gt.trace(Net(), array(4, 5))
    text = str(error.value)
    line = Affine.forward.__code__.co_firstlineno + 1
    assert "inner sizes differ: 5" in text and f"{HERE}:{line}  inner" in text
    assert "return x @ self.w + self.b" in text and "inner.w: f32[3, 2]" in text


def test_our_own_functions_name_the_line_too():
    def f(x):
        return gt.softmax(x, axis=5)

    with pytest.raises(TypeError) as error:
        gt.trace(f, array(4, 5))
    text = str(error.value)
    assert text.startswith("softmax: axis 5 is out of range for 2 dimensions")
    assert f"{HERE}:{f.__code__.co_firstlineno + 1}" in text and "x: f32[4, 5]" in text


# state ------------------------------------------------------------------------------------------------------------
def test_buffer_assignment_is_an_update_and_reads_see_it():
    class Count(gt.Module):
        def __init__(self):
            self.mean = gt.buffer(np.zeros(2, np.float32))

        def forward(self, x):
            self.mean = 0.9 * self.mean + 0.1 * x.mean(0)
            return x - self.mean

    model = Count()
    traced = gt.trace(model, array(4, 2))
    np.testing.assert_array_equal(model.mean.data, np.zeros(2))  # tracing changes nothing
    assert [name for name, _ in traced.graph.updates] == ["mean"]
    x = array(4, 2)
    from gradtape.ir.interp import Interpreter

    outputs, updates = Interpreter(traced.graph, traced.bind(x)).run()
    eager = model(x)  # eagerly the assignment just happens
    np.testing.assert_allclose(outputs["out"], eager, rtol=1e-6)
    np.testing.assert_allclose(updates["mean"], model.mean.data, rtol=1e-6)
    assert np.abs(model.mean.data).min() > 0
    assert isinstance(model.mean, gt.Buffer)


def test_buffer_update_takes_the_buffers_dtype_and_shape():
    class Count(gt.Module):
        def __init__(self):
            self.count = gt.buffer(np.zeros(3, np.int64))

        def forward(self, x):
            self.count = self.count.sum() + 1.5
            return x

    traced = gt.trace(Count(), array(2))
    ((name, value),) = traced.graph.updates
    assert (name, str(value.type)) == ("count", "i64[3]")


def test_training_mode_is_set_and_restored():
    class Net(gt.Module):
        def __init__(self):
            self.inner = Affine()

        def forward(self, x):
            return self.inner(x) if self.training else x

    model = Net().eval()
    assert [n.op for n in gt.trace(model, array(2, 3)).graph.nodes] == ["matmul", "add"]
    assert not model.training and not model.inner.training
    assert gt.trace(model, array(2, 3), train=None).graph.nodes == ()
    model.train()
    model.inner.eval()
    seen = []
    gt.trace(
        lambda x: (seen.append((model.training, model.inner.training)), model(x))[1],
        array(2, 3),
        module=model,
    )
    assert seen == [(True, False)]  # a part in another mode on purpose stays in it
    gt.trace(
        lambda x: (seen.append((model.training, model.inner.training)), x)[1],
        array(2),
        module=model,
        train=False,
    )
    assert seen[1] == (False, False) and model.training and not model.inner.training


def test_everything_is_restored_after_an_error():
    model = Affine().eval()

    def f(x):
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        gt.trace(f, gt.spec(("B", 3)), module=model)
    assert gt.current_trace() is None and not model.training
    assert isinstance(model(array(4, 3)), np.ndarray)
    with pytest.raises(TypeError, match="symbolic"):
        int(Dim("B"))


def test_a_leaked_tensor_names_both_lines():
    kept = []

    def f(x):
        kept.append(x * 2.0)
        return x

    gt.trace(f, array(3))
    uses = [
        lambda t: t + 1.0,
        lambda t: gt.exp(t),
        lambda t: np.asarray(t),
        lambda t: bool(t.sum()),
        lambda t: gt.trace(lambda x: x + t, array(3)),
    ]
    for use in uses:
        with pytest.raises(gt.LeakedTensor) as error:
            use(kept[0])
        text = str(error.value)
        assert f"made  {HERE}:{f.__code__.co_firstlineno + 1}" in text
        assert f"used  {HERE}:{use.__code__.co_firstlineno}" in text


# nesting and threads ----------------------------------------------------------------------------------------------
def test_a_trace_inside_a_trace_reads_the_outer_values():
    model = Affine()
    inner = []

    def f(x):
        h = model(x)

        def g(y):
            return y * h + model.b * h

        inner.append(gt.trace(g, h))
        return h

    outer = gt.trace(f, gt.spec(("B", 3)), module=model)
    (traced,) = inner
    assert [str(v) for v in traced.graph.inputs] == [
        "%y: f32[B, 2]",
        "%closure.0: f32[B, 2]",
        "%closure.1: f32[2]",
    ]
    assert [t._value.name for t in traced.closure.values()] == ["1", "b"]
    verify(traced.graph)
    verify(outer.graph)
    assert gt.current_trace() is None


def test_operations_on_outer_values_inside_are_recorded_inside():
    inner = []

    def f(x):
        inner.append(gt.trace(lambda y: x * x + y, x))
        return x

    gt.trace(f, array(3))
    assert [n.op for n in inner[0].graph.nodes] == ["mul", "add"]


def test_unregistered_parameters_are_captured():
    loose = gt.Parameter(array(3))
    model = Affine()
    traced = gt.trace(lambda x: model(x * loose), array(2, 3), module=model)
    assert list(traced.captured) == ["loose"] and traced.captured["loose"] is loose
    assert traced.graph.roles["loose"] == "param"
    assert loose.created is not None and loose.created.file == HERE
    x = array(2, 3)
    np.testing.assert_allclose(run(traced, x), model(x * loose.data), rtol=1e-6)


def test_a_captured_parameter_is_named_as_the_users_code_reaches_it():
    class Holder:
        def __init__(self):
            self.w = gt.Parameter(array(3))

    class Net(gt.Module):
        def __init__(self):
            self.holder = [Holder(), Holder()]  # lists are walked, plain objects are not
            self.w = gt.Parameter(array(3))

        def forward(self, x):
            w = 1.0
            return x * self.holder[1].w * self.w * w

    traced = gt.trace(Net(), array(2, 3))
    assert list(traced.captured) == ["holder.1.w"] and list(traced.parameters) == ["w", "holder.1.w"]
    scales = {3: gt.Parameter(array(3))}
    traced = gt.trace(lambda x: [x * s for s in scales.values()], array(2, 3))
    assert list(traced.captured) in (["s"], ["scales.3"])
    traced = gt.trace(lambda x, make=Holder: x * make().w * make().w, array(2, 3))
    assert all(p.in_trace for p in traced.captured.values()) and len(traced.captured) == 2


def test_threads_trace_apart():
    results = {}
    barrier = threading.Barrier(2)

    def work(k):
        def f(x):
            barrier.wait()
            y = x * float(k)
            barrier.wait()
            return y + float(k)

        results[k] = gt.trace(f, np.ones(k, np.float32)).graph

    threads = [threading.Thread(target=work, args=(k,)) for k in (3, 4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for k in (3, 4):
        assert [str(n.output) for n in results[k].nodes] == [f"%0: f32[{k}]", f"%1: f32[{k}]"]


def test_random_numbers_are_runtime_scalars():
    def f(x):
        return gt.dropout(x, 0.5) + gt.uniform(x.shape)

    traced = gt.trace(f, gt.spec(("B", 4)))
    assert [(v.name, traced.graph.roles[v.name], str(v.type)) for v in traced.graph.inputs[1:]] == [
        ("seed", "scalar", "i64[]"),
        ("step", "scalar", "i64[]"),
    ]
    assert [n.attrs["site"] for n in traced.graph.nodes if n.op == "uniform"] == [0, 1]
    x = np.ones((64, 4), np.float32)
    a, b = run(traced, x, seed=1, step=0), run(traced, x, seed=1, step=1)
    assert not np.array_equal(a, b)
    gt.manual_seed(1)
    np.testing.assert_array_equal(f(x), a)  # eagerly: the same numbers
    gt.next_step()
    np.testing.assert_array_equal(f(x), b)
    gt.manual_seed(0)
