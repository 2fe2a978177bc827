"""The boundary with Python: what leaves a traced program is recorded with its line, and so is where it comes back."""

import math
import statistics
from typing import Any

import numpy as np
import pytest

from gradtape import tracer as gt
from gradtape.ir.interp import evaluate_graph
from gradtape.tracer.escaped import EscapedArray, EscapedFloat, EscapedInt
from gradtape.tracer.ledger import telling_numbers

X = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
W = np.random.default_rng(1).standard_normal((4, 4)).astype(np.float32)


def lines_of(f, *needles):
    """The numbers of the lines of f's source that hold the needles, in order."""
    import inspect

    source, first = inspect.getsourcelines(f)
    return [next(first + i for i, line in enumerate(source) if n in line) for n in needles]


def ledger_of(f, *args, **kwargs):
    return gt.trace(f, *(args or (X, W)), **kwargs).ledger


# what leaves ------------------------------------------------------------------------------------------------------
EXITS = {
    "bool": lambda h: bool(h.sum() > 0),
    "float": lambda h: float(h.sum()),
    "int": lambda h: int(h.sum()),
    "index": lambda h: [1, 2, 3][(h[0, 0] * 0.0).astype(np.int64)],
    "item": lambda h: h.sum().item(),
    "data": lambda h: h.data,
    "numpy": lambda h: h.numpy(),
    "asarray": lambda h: np.asarray(h),
    "tolist": lambda h: h.tolist(),
    "format": lambda h: f"{h.sum():.3f}",
}


@pytest.mark.parametrize("kind", EXITS)
def test_every_exit_is_recorded_with_line_scope_and_value(kind):
    class Net(gt.Module):
        def __init__(self):
            self.inner = Inner()

        def forward(self, x):
            return self.inner(x)

    class Inner(gt.Module):
        def __init__(self):
            self.w = gt.Parameter(W)

        def forward(self, x):
            h = x @ self.w
            EXITS[kind](h)
            return h

    traced = gt.trace(Net(), X)
    (escape,) = traced.ledger.escapes
    assert (escape.kind, escape.file, escape.scope) == (kind, __file__, "inner")
    assert escape.line == EXITS[kind].__code__.co_firstlineno
    assert any(escape.value in n.outputs for n in traced.graph.nodes)
    assert traced.ledger.reentries == []  # it only looked


@pytest.mark.parametrize("kind", EXITS)
def test_an_exit_gives_the_number_of_the_example(kind):
    def f(h):
        result = EXITS[kind](h)
        expected = EXITS[kind](X) if kind not in ("numpy", "data") else X
        if kind == "format":
            assert result == expected
        else:
            np.testing.assert_allclose(result, expected, rtol=1e-5)
        return h

    gt.trace(f, X)


def test_only_the_needed_part_is_evaluated_and_only_once(monkeypatch):
    from gradtape.ir import interp

    ran = []
    original = interp.Interpreter._evaluate
    monkeypatch.setattr(interp.Interpreter, "_evaluate", lambda self, n: (ran.append(n.op), original(self, n))[1])

    def f(x, w):
        h = x @ w
        unused = np.exp(h)
        assert float(h.sum()) == float(h.sum())
        assert not math.isnan(h.mean().item())
        return unused

    gt.trace(f, X, W)
    assert ran == ["matmul", "sum", "sum", "mean"]


def test_a_branch_records_the_value_taken():
    def f(x):
        if x.sum() > 1e9:
            return x
        return -x

    (escape,) = ledger_of(f, X).escapes
    assert (escape.kind, escape.result, escape.line) == ("bool", False, lines_of(f, "if x.sum")[0])


def test_a_spec_has_no_value_and_says_so_at_the_line():
    def f(x, w):
        h = x @ w
        if h.sum() > 0:
            return h
        return -h

    with pytest.raises(gt.NeedsValue) as error:
        gt.trace(f, gt.spec(("B", 4)), W)
    text = str(error.value)
    assert f"{__file__}:{lines_of(f, 'if h')[0]}" in text
    assert "input x is a spec" in text and "pass example arrays" in text


def test_parameters_have_values_even_where_inputs_are_specs():
    class Net(gt.Module):
        def __init__(self):
            self.scale = gt.Parameter([2.0, 3.0])

        def forward(self, x):
            assert float(self.scale.sum()) == 5.0
            return x * self.scale

    traced = gt.trace(Net(), gt.spec(("B", 2)))
    assert [e.kind for e in traced.ledger.escapes] == ["float"]


# what comes back --------------------------------------------------------------------------------------------------
def _rewrapped(x, w):
    h = x @ w
    raw = h.data.reshape(4, 3)
    return gt.tensor(raw) * 2.0  # back


def _plain_back(x, w):
    h = x @ w
    k = np.transpose(h.data)
    return x @ (k @ np.ones((3, 4), np.float32))  # back


def _array_function(x, w):
    h = x @ w
    u = np.linalg.svd(h)[0]
    return x.T @ u  # back


def _item(x, w):
    h = x @ w
    s = h.sum().item()
    return x * (s * 2 + 1)  # back


def _float(x, w):
    h = x @ w
    s = float(h.sum())
    return x * s  # back


def _float_list(x, w):
    h = x @ w
    s = [float(v) for v in h[0]]
    return x * np.array(s, np.float32)  # back


def _tolist(x, w):
    h = x @ w
    s = h.tolist()
    return x + gt.tensor(s)  # back


def _buffer(x, w):
    h = x @ w
    out = np.zeros((3, 4), np.float32)
    for i in range(3):
        out[i] = h[i]
    return x * out  # back


def _buffer_of_scalars(x, w):
    h = x @ w
    out = np.zeros((3, 4), np.float32)
    for i in range(12):
        out[i // 4, i % 4] = h[i // 4, i % 4]
    return x * (out * 1.0)  # back


def _buffer_attribute(x, w):
    h = x @ w

    class Holder:
        out = np.zeros((3, 4), np.float32)

    Holder.out[0][:] = h[0]
    return x * Holder.out  # back


def _raw_into_buffer(x, w):
    h = x @ w
    out = np.zeros((3, 4), np.float32)
    out[1] = h.data[1]
    return x * out  # back


def _copied(x, w):
    h = x @ w
    raw = np.array(h.data).T.copy().T
    return x + raw  # back


def _one_of_two_paths(x, w):
    h = x @ w
    d = h - h.mean()
    std = np.sqrt((d * d).mean().data + 1e-5)
    return d / std  # back


def _numpy_function_of_data(x, w):
    h = x @ w
    m = np.mean(h.data, axis=0)
    m = np.stack([m, m, m]) - np.float32(0.5)
    m += 1.0
    return x - m.sum(0)  # back


def _math(x, w):
    h = x @ w
    n = np.sqrt((h.data**2).sum())
    return x / n  # back


def _eager_op(x, w):
    h = x @ w
    p = gt.softmax(gt.tanh(h.data) * 2.0, -1)
    return x * p  # back


def _int(x, w):
    h = x @ w
    n = h.astype("i64").sum().item() + 3
    return x * n  # back


def _returned(x, w):
    h = x @ w
    return h.data * 2.0  # back


def _float_arithmetic(x, w):
    h = x @ w
    s = float(h.sum()) * 0.5
    t = s + 1.0
    return x * t  # back


def _math_function(x, w):
    h = x @ w
    return x / math.sqrt((h * h).sum())  # back


def _sum_of_numbers(x, w):
    h = x @ w
    s = sum(h[0].tolist())
    return x * s  # back


def _rounded(x, w):
    h = x @ w
    return x * round(float(h.sum()), 2)  # back


def _by_text(x, w):
    h = x @ w
    s = float(f"{h.sum():.3f}")
    return x * s  # back


def _from_a_helper(x, w):
    def norm(h):
        return float((h * h).sum()) ** 0.5

    h = x @ w
    s = 2.0 * norm(h)
    return x * s  # back


def _given_to_a_helper(x, w):
    def scaled(x, by):
        return x * by  # back

    h = x @ w
    return scaled(x, float(h.sum()) / 3)


def _on_an_attribute(x, w):
    class Kept:
        scale = 1.0

    kept = Kept()
    kept.scale = float((x @ w).sum()) / 3
    return x * kept.scale  # back


def _in_a_list(x, w):
    h = x @ w
    found = []
    for row in h:
        found.append(float(row.sum()) * 2)  # noqa: PERF401
    return x * sum(found)  # back


def _numbers_into_buffer(x, w):
    h = x @ w
    out = np.zeros((3, 4), np.float32)
    for i in range(3):
        for j in range(4):
            out[i, j] = float(h[i, j]) * 2
    return x * np.tanh(out)  # back


def _python_library(x, w):
    h = x @ w
    s = statistics.fmean(h[0].tolist())
    return x * s  # back


def _parameter_made_here(x, w):
    h = x @ w
    return x @ gt.Parameter(h.data.T)  # back


def _through_a_box(x, w):
    box = []

    def put(number):
        box.append(number)

    put(float((x @ w).sum()))
    s = box.pop()
    return x * s  # back


BREAKS = {
    "re-wrapped": (_rewrapped, "data", "tag"),
    "plain": (_plain_back, "data", "tag"),
    "array function": (_array_function, "numpy", "tag"),
    "item": (_item, "item", "tag"),
    "float": (_float, "float", "source"),
    "float list": (_float_list, "float", "source"),
    "tolist": (_tolist, "tolist", "tag"),
    "buffer": (_buffer, "asarray", "memory"),
    "buffer attribute": (_buffer_attribute, "asarray", "memory"),
    "raw into buffer": (_raw_into_buffer, "data", "memory"),
    "buffer of scalars": (_buffer_of_scalars, None, "source"),
    "copied": (_copied, "data", "source"),
    "through a box": (_through_a_box, "float", "value"),
    "one of two": (_one_of_two_paths, "data", "tag"),
    "numpy of data": (_numpy_function_of_data, "data", "tag"),
    "math": (_math, "data", "tag"),
    "eager op": (_eager_op, "data", "tag"),
    "int": (_int, "item", "tag"),
    "float arithmetic": (_float_arithmetic, "float", "source"),
    "math function": (_math_function, "float", "source"),
    "sum of numbers": (_sum_of_numbers, "tolist", "tag"),
    "rounded": (_rounded, "float", "source"),
    "by text": (_by_text, "format", "source"),
    "from a helper": (_from_a_helper, "float", "call"),
    "given to a helper": (_given_to_a_helper, "float", "source"),
    "on an attribute": (_on_an_attribute, "float", "source"),
    "in a list": (_in_a_list, "float", "source"),
    "numbers into buffer": (_numbers_into_buffer, "float", "source"),
    "python library": (_python_library, "tolist", "source"),
    "parameter made here": (_parameter_made_here, "data", "tag"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_break_knows_both_lines(name):
    f, kind, how = BREAKS[name]
    traced = gt.trace(f, X, W)
    reentries = traced.ledger.reentries
    assert reentries and {r.how for r in reentries} == {how}
    left = {o for r in reentries for o in r.origins}
    (back,) = {(r.file, r.line) for r in reentries}
    assert back == (__file__, lines_of(f, "# back")[0])
    assert all(o in traced.ledger.escapes and o.file == __file__ for o in left)
    if kind is not None:
        assert {o.kind for o in left} == {kind}
    for reentry in reentries:
        if reentry.user is None:  # gt.tensor: the constant itself is a value
            users = [n for n in traced.graph.nodes if reentry.operand in n.inputs]
        else:
            users = [n for n in traced.graph.nodes if reentry.user in n.outputs]
        assert users and all(reentry.operand in n.inputs for n in users)


def test_a_broken_program_still_computes_what_python_computed():
    traced = gt.trace(_one_of_two_paths, X, W)
    got = evaluate_graph(traced.graph, traced.bind(X, W))["out"]
    h = X @ W
    np.testing.assert_allclose(got, (h - h.mean()) / np.sqrt(h.var() + 1e-5), rtol=1e-4)


def test_a_returned_constant_is_a_reentry_without_user():
    (reentry,) = ledger_of(_returned).reentries
    assert reentry.user is None and reentry.origins[0].kind == "data"


def test_the_literal_of_a_python_float_is_named():
    traced = gt.trace(_item, X, W)
    (reentry,) = traced.ledger.reentries
    node = next(n for n in traced.graph.nodes if reentry.user in n.outputs)
    assert node.op == "mul" and reentry.operand in node.inputs


def test_origins_of_several_escapes_are_joined():
    def f(x, w):
        a, b = (x @ w).data, (x - 1.0).data
        return x * (a + b)

    (reentry,) = ledger_of(f).reentries
    assert [o.line for o in reentry.origins] == [lines_of(f, "a, b =")[0]] * 2
    assert len({o.value for o in reentry.origins}) == 2


HEALTHY = {
    "logging": lambda x, w: (h := x @ w, f"{h.mean():.2f}", h.sum().item(), float(h[0, 0]))[0],
    "constants": lambda x, w: x @ w * 0.5 + np.linspace(0, 1, 4, dtype=np.float32),
    "ones while looking": lambda x, w: (h := x @ w, h.data)[0] * np.ones(4, np.float32),
    "equal to 1": lambda x, w: (float((x @ w).sum() * 0.0 + 1.0), x * 1.0)[1],
    "positions": lambda x, w: ((x @ w).data, x + np.sin(np.arange(4)).astype(np.float32))[1],
    "integers": lambda x, w: (int((x * 0.0).sum()), x[0] * 3)[1],
    "shape": lambda x, w: x * len((x @ w).data),
    "a condition": lambda x, w: x * (2.0 if float((x @ w).sum()) > 0 else 3.0),
    "an index": lambda x, w: x * [0.1234567, 0.7654321][int((x @ w).sum() > 0)],
    "a literal beside": lambda x, w: (s := float((x @ w).sum()), x * 0.1234567, s)[1],
    "an array beside": lambda x, w: (s := float((x @ w).sum()), x * TABLE, s)[1],
    "of its shape": lambda x, w: x * np.full_like((x @ w).data, 0.1234567) + np.zeros_like((x @ w).data),
    "its size": lambda x, w: x / math.sqrt((x @ w).data.shape[0]),
    "overwritten": lambda x, w: _overwritten(x, w),
    "arguments beside": lambda x, w: _arguments_beside(x, w),
}
TABLE = np.linspace(0.1, 0.7, 12, dtype=np.float32).reshape(3, 4)


def _overwritten(x, w):
    s = float((x @ w).sum())
    assert s < 1e9
    s = 0.1234567 * 3
    return x * s


def _arguments_beside(x, w):
    def scaled(x, by, logged):
        return x * by + len(f"{logged}")

    return scaled(x, 0.1234567, float((x @ w).sum()) / 3)


@pytest.mark.parametrize("name", HEALTHY)
def test_what_does_not_come_back_is_no_break(name):
    assert ledger_of(HEALTHY[name]).reentries == []


def test_writing_into_a_buffer_names_it():
    (first, *_) = ledger_of(_buffer).escapes
    assert first.detail == "out[...] = " and len(ledger_of(_buffer).escapes) == 3
    assert ledger_of(_buffer_attribute).escapes[0].detail == "Holder.out[...] = "


def test_an_unsupported_numpy_function_is_named():
    (escape,) = ledger_of(_array_function).escapes
    assert escape.detail == "numpy.linalg.svd"
    (escape,) = ledger_of(lambda x, w: np.frexp(x @ w)[0] * 1.0).escapes
    assert escape.detail == "numpy.frexp"


def test_an_unsupported_argument_makes_a_numpy_function_an_escape():
    ledger = ledger_of(lambda x, w: np.sum(x @ w, initial=1.0) * x)
    assert [e.detail for e in ledger.escapes] == ["numpy.sum"] and len(ledger.reentries) == 1


def test_libraries_are_not_the_users_code():
    def f(x, w):
        return x @ scipy_linalg.expm(w)  # back

    scipy_linalg = pytest.importorskip("scipy.linalg")
    ledger = ledger_of(f)
    (line,) = lines_of(f, "# back")
    assert {(e.file, e.line, e.detail) for e in ledger.escapes} == {(__file__, line, "scipy.linalg.expm")}
    assert [(r.file, r.line, r.how) for r in ledger.reentries] == [(__file__, line, "source")]
    gammaln = pytest.importorskip("scipy.special").gammaln
    (escape,) = ledger_of(lambda x, w: gammaln(x @ w) * 1.0).escapes
    assert escape.detail == "gammaln"


def test_what_an_earlier_trace_left_is_stale():
    kept = {}

    class Net(gt.Module):
        def __init__(self):
            self.w, self.v = gt.Parameter(W), gt.Parameter(W)

        def forward(self, x):
            if "raw" not in kept:
                kept["raw"] = (x @ self.w).data
            return kept["raw"] @ self.v  # stale

    model = Net()
    first = ledger_of(model, X)
    assert first.stale == [] and len(first.reentries) == 1
    second = ledger_of(model, X)
    (stale,) = second.stale
    assert second.reentries == [] and stale.parameters == ("w",) and stale.left == first.escapes[0]
    assert (stale.line, stale.file) == (lines_of(Net, "# stale")[0], __file__)


def test_a_leaked_tensor_knows_its_lines_and_parameters():
    kept = {}

    class Net(gt.Module):
        def __init__(self):
            self.w = gt.Parameter(W)

        def forward(self, x):
            if not kept:
                kept["h"] = x @ self.w  # made
            return kept["h"] * 2.0  # used

    gt.trace(Net(), X)
    with pytest.raises(gt.LeakedTensor) as caught:
        gt.trace(Net(), X)
    leak = caught.value.leak
    assert [leak.made.line, leak.used.line] == lines_of(Net, "# made", "# used") and leak.parameters == ("w",)


# other records ----------------------------------------------------------------------------------------------------
def test_a_leaf_made_while_tracing():
    def f(x):
        s = gt.tensor(np.ones(4, np.float32), requires_grad=True)
        return x * s

    (leaf,) = ledger_of(f, X).leaves
    assert (leaf.line, leaf.requires_grad) == (lines_of(f, "gt.tensor")[0], True)
    assert ledger_of(lambda x: gt.tensor(x) * 2.0, X).leaves == []  # a traced value is returned as it is


def test_parameter_data_in_forward():
    class Net(gt.Module):
        def __init__(self):
            self.w = gt.Parameter(W)
            self.v = gt.Parameter(W)

        def forward(self, x):
            self.w.data[...] = self.v.data / 2  # overwritten
            return x @ self.w + x @ self.v.data  # constant

    model = Net()
    ledger = ledger_of(model, X)
    (write,) = ledger.writes
    overwritten, constant = lines_of(Net, "# overwritten", "# constant")
    assert (write.parameter, write.line) == ("w", overwritten)
    assert [(e.kind, e.detail, e.line) for e in ledger.escapes] == [
        ("data", "v", overwritten),
        ("data", "w", overwritten),
        ("data", "v", constant),
    ]
    (reentry,) = ledger.reentries
    assert reentry.line == constant and reentry.origins[0].value.name == "v"
    np.testing.assert_array_equal(model.w.data, W / 2)  # Python did it, once


def test_writing_to_a_copy_of_parameter_data_is_no_write():
    class Net(gt.Module):
        def __init__(self):
            self.w = gt.Parameter(W)

        def forward(self, x):
            copy = self.w.data.copy()
            copy[0] = 0.0
            return x @ self.w

    assert ledger_of(Net(), X).writes == []


def test_a_traced_value_kept_on_a_module():
    class Net(gt.Module):
        def __init__(self):
            self.last = None

        def forward(self, x):
            self.last = [x * 2.0]
            self.count = 3
            return x

    (store,) = ledger_of(Net(), X).stores
    assert (store.module, store.name, store.line) == ("", "last", lines_of(Net, "self.last = [x")[0])


def test_no_grad_cuts_what_enters_and_names_its_line():
    class Net(gt.Module):
        def __init__(self):
            self.w = gt.Parameter(W)

        def forward(self, x):
            h = x @ self.w
            with gt.no_grad():  # block
                a = (h * h + gt.ones(4)).sum()
                with gt.no_grad():
                    b = a + h.mean()
            return h * a + b

    traced = gt.trace(Net(), X)
    (line,) = lines_of(Net, "# block")
    cuts: Any = [n for n in traced.graph.nodes if n.op == "stop_gradient"]
    assert [n.inputs[0] for n in cuts] == [traced.graph.nodes[0].output]  # h, once
    assert {(n.location.line, n.location.file) for n in cuts} == {(line, __file__)}
    assert traced.ledger.cuts == {cuts[0].output.name: cuts[0].location}

    @gt.no_grad()
    def metric(h):
        return h.mean()

    assert "stop_gradient" in [n.op for n in gt.trace(lambda x: metric(x), X).graph.nodes]
    assert metric(X) == X.mean()


def test_no_grad_is_left_on_an_error():
    def f(x):
        try:
            with gt.no_grad():
                raise KeyError
        except KeyError:
            pass
        return x * 2.0

    assert [n.op for n in gt.trace(f, X).graph.nodes] == ["mul"]


# tags -------------------------------------------------------------------------------------------------------------
def test_tags_go_through_numpy_and_arithmetic():
    kept = {}

    def f(x):
        a = x.data
        s = x.sum().item()
        n = (x > -9.0).sum().item()
        kept.update(
            view=a[0], element=a[0, 0], copy=a.copy(), reduced=a.sum(), mean=a.mean(axis=0), ufunc=np.exp(a),
            mixed=X * a, joined=np.concatenate([a, X]), method=a.astype(np.float64).reshape(-1), rows=next(iter(a)),
            listed=a.tolist()[0], dot=a @ W, where=np.where(X > 0, a, 0.0), inplace=a.__iadd__(1.0),
            number=s + 1.0, reverse=2.0 / s, negative=-s, power=s**2, absolute=abs(s), mixed_int=s * n, array=s * X,
            whole=n + 1, divided=n / 2, numpy=np.float32(2.0) * s,
        )  # fmt: skip
        kept["plain"] = (math.sqrt(abs(s)), bool(a.any()), int(n), np.asarray(a))
        return x

    gt.trace(f, X)
    plain = kept.pop("plain")
    listed = kept.pop("listed")
    for name, thing in kept.items():
        assert isinstance(thing, (EscapedArray, EscapedFloat, EscapedInt)), name
        assert thing._tag is not None and thing._tag.origins, name
    assert all(isinstance(v, EscapedFloat) for v in listed)
    assert isinstance(kept["number"], EscapedFloat) and isinstance(kept["whole"], EscapedInt)
    assert isinstance(kept["divided"], EscapedFloat) and kept["whole"] == X.size + 1
    assert [type(p) for p in plain] == [float, bool, int, np.ndarray]


def test_telling_numbers():
    ordinary = [0.0, 1.0, 0.1, 3.14, -2.5, 1e-5, 0.02, 1234.0, np.inf, np.nan, 0.3333]
    assert telling_numbers(np.array(ordinary, np.float32)).size == 0
    assert telling_numbers(np.array(ordinary)).size == 0
    assert telling_numbers(np.array([0.123456, math.pi, 1 / 3], np.float32)).size == 3
    assert telling_numbers(3).size == 0 and telling_numbers(np.arange(5)).size == 0
