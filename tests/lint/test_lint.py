"""The lint as a whole: many sites in one report, lines that allow, rules that crash, numbers that are frozen, words,
and classes that gradtape has no spelling for."""

import inspect
import re

import numpy as np
import pytest

import gradtape as gt
from gradtape.ir.graph import Value
from gradtape.ir.op import OPS
from gradtape.passes.lint import CRASHED, LAYERS, RULES, rule
from gradtape.passes.lint.flow import Flow

RNG = np.random.default_rng(0)
X = RNG.standard_normal((4, 8)).astype("f4")
Y = RNG.standard_normal((4, 8)).astype("f4")
STATIC = ("S", "K", "T")


class Net(gt.Module):
    """h = x @ w, then `body(self, h)`, then @ v."""

    def __init__(self, body=lambda self, h: h, **parameters):
        self.w, self.v = (gt.Parameter(0.4 * RNG.standard_normal((8, 8)).astype("f4")) for _ in range(2))
        self.body = body
        for name, shape in parameters.items():
            setattr(self, name, gt.Parameter(0.4 * RNG.standard_normal(shape).astype("f4")))

    def forward(self, x):
        return self.body(self, x @ self.w) @ self.v


def lint(model, layers=STATIC, loss=gt.mse_loss, **options):
    return gt.lint(model, X, Y, loss=loss, layers=layers, **options)


def loud(report):
    return [f for f in report.findings if f.severity != "info"]


# many sites -----------------------------------------------------------------------------------------------------------
KINDS = (
    ("GT-A01", "h = gt.tensor((h @ self.w{i}).data)"),
    ("GT-A03", "h = gt.tensor((h @ self.w{i}).tolist())"),
    ("GT-A06", "h = unruly(h @ self.w{i})"),
    ("GT-B01", "h = (h @ self.w{i}).detach()"),
    ("GT-C07", "h = np.round(h @ self.w{i})"),
)


@pytest.fixture
def unruly():
    from gradtape.ir.op import gradient_not_written, op

    @op
    class unruly:
        """x"""

        def infer(x):
            return x

        def ref(x):
            return x

        vjp = gradient_not_written()

    yield unruly
    del OPS["unruly"]


def broken_sites(count, folder, unruly, kept=None):
    """A model with `count` broken lines, of all kinds in turn, each behind a parameter of its own; `kept` says which
    are left broken. And the number of the first line."""
    lines = [KINDS[i % len(KINDS)][1].format(i=i) for i in range(count)]
    lines = [line if kept is None or i in kept else f"h = h @ self.w{i}" for i, line in enumerate(lines)]
    text = "import numpy as np\nimport gradtape as gt\n\n\ndef body(self, h):\n"
    text += "".join(f"    {line}\n" for line in lines) + "    return h\n"
    path = folder / f"sites_{count}_{'all' if kept is None else len(kept)}.py"
    path.write_text(text)
    scope = {"unruly": unruly}
    exec(compile(text, str(path), "exec"), scope)
    return Net(scope["body"], **{f"w{i}": (8, 8) for i in range(count)}), 6


def test_a_hundred_broken_sites_give_one_readable_report(tmp_path, unruly):
    model, first = broken_sites(100, tmp_path, unruly)
    report = lint(model)
    assert {f.line for f in loud(report)} == set(range(first, first + 100))
    assert all(f.code == KINDS[(f.line - first) % len(KINDS)][0] for f in loud(report))
    assert all(f"w{f.line - first}" in f.parameters for f in loud(report))
    text = str(report)
    assert len(text.splitlines()) < 100 * 7 and max(map(len, text.splitlines())) < 160
    assert report.summary == "1/102 parameters learn; 80 errors, 20 warnings"
    with pytest.raises(gt.LintError) as caught:
        gt.compile(model, loss=gt.mse_loss, optimizer=gt.SGD(0.1))(X, Y)
    assert len(caught.value.report.errors) == 80


def test_what_a_site_kills_does_not_depend_on_the_others(tmp_path, unruly):
    """All sites that only have to be mended are told with everything above them, as if each were the only one."""
    together, first = broken_sites(10, tmp_path, unruly)
    told = {f.line: set(f.parameters) for f in loud(lint(together))}
    for i in range(10):
        alone, _ = broken_sites(10, tmp_path, unruly, kept={i})
        (finding,) = loud(lint(alone))
        after_stop = {f"w{j}" for j in range(i + 1)} | {"w"}
        assert set(finding.parameters) == after_stop
        stops = [j for j in range(i) if KINDS[j % len(KINDS)][0] == "GT-B01"]  # what is meant may stay
        kept = after_stop if not stops else {f"w{j}" for j in range(max(stops) + 1, i + 1)}
        assert told[first + i] == kept


def test_the_lines_of_a_loop_are_told_once():
    def body(self, h):
        for _ in range(5):
            h = gt.tensor(np.tanh((h @ self.v).data))
        return h

    (finding,) = loud(lint(Net(body)))
    assert (finding.code, set(finding.parameters)) == ("GT-A01", {"w"})  # v has another way


# a line that allows, a rule that crashes ------------------------------------------------------------------------------
def test_a_line_may_allow_what_is_found_there():
    def body(self, h):
        return gt.tensor(h.data)  # gradtape: allow(GT-A01)

    def other(self, h):
        return gt.tensor(h.data)  # gradtape: allow(GT-B01, GT-A02)

    def several(self, h):
        raw = h.data  # gradtape: allow(GT-A02, GT-A01)
        return gt.tensor(raw)

    assert loud(lint(Net(body))) == [] and loud(lint(Net(several))) == []
    assert [f.code for f in loud(lint(Net(other)))] == ["GT-A01"]
    assert gt.compile(Net(body), loss=gt.mse_loss, optimizer=gt.SGD(0.1))(X, Y) > 0


@pytest.fixture
def crashing():
    @rule("GT-Z99", "error", "S", "a rule for this test")
    def crashing(e):
        raise ZeroDivisionError("on purpose")

    yield crashing
    del RULES["GT-Z99"]


def test_a_rule_that_crashes_is_a_finding_and_hides_nothing(crashing):
    report = lint(Net(lambda self, h: gt.tensor(h.data)))
    assert [f.code for f in loud(report)] == ["GT-A01", CRASHED]
    crash = loud(report)[1]
    assert crash.severity == "warning" and "GT-Z99" in crash.message and "ZeroDivisionError: on purpose" in crash.why
    with pytest.warns(gt.LintWarning, match="GT-Z99"):
        assert gt.compile(Net(), loss=gt.mse_loss, optimizer=gt.SGD(0.1))(X, Y) > 0
    with pytest.warns(gt.LintWarning, match="GT-A01"):
        raw = Net(lambda self, h: gt.tensor(h.data))
        assert gt.compile(raw, loss=gt.mse_loss, optimizer=gt.SGD(0.1), lint="warn")(X, Y) > 0


# numbers of the first call --------------------------------------------------------------------------------------------
FROZEN = {
    "an input": ("GT-A01", lambda self, h, x: h * gt.tensor(np.asarray(x) / 2)),
    "a mask of an activation": ("GT-A01", lambda self, h, x: h * (h.data > 0)),
    "a number of an input": ("GT-A03", lambda self, h, x: h / (1.0 + float(np.abs(x).max()))),
    "a function of an input": ("GT-A02", lambda self, h, x: h + np.unwrap(x, axis=-1)),
    "a buffer filled with an input": ("GT-A04", lambda self, h, x: h + _filled(x)),
}


def _filled(x):
    out = np.zeros((4, 8), "f4")
    for i in range(4):
        out[i] = x[i]
    return out


@pytest.mark.parametrize("name", FROZEN)
def test_what_is_computed_from_an_input_and_kept_is_wrong_for_the_next_batch(name):
    code, body = FROZEN[name]

    class Model(Net):
        def forward(self, x):
            return body(self, x @ self.w, x) @ self.v

    (finding,) = loud(lint(Model()))
    assert (finding.code, finding.severity, finding.parameters) == (code, "error", ())
    assert "the numbers of the first call" in finding.message and "x" in finding.why
    assert not lint(Model()).ok


def test_statistics_that_the_program_updates_are_not_read_as_raw_numbers():
    def body(self, h):
        mean = self.mean.data  # those of the first call, for ever
        self.mean = 0.9 * self.mean + 0.1 * gt.stop_gradient(h.mean(0))
        return h - mean

    model = Net(body)
    model.mean = gt.buffer(np.zeros(8, "f4"))
    (finding,) = loud(lint(model))
    assert (finding.code, finding.severity) == ("GT-A01", "error") and "computed from mean" in finding.why


def test_a_target_that_python_took_is_kept_too():
    def loss(out, y):
        return ((out - np.asarray(y)) ** 2).mean()

    (finding,) = loud(lint(Net(), loss=loss))
    assert (finding.code, finding.parameters) == ("GT-A01", ()) and "target" in finding.why


def test_shapes_and_tables_are_not_kept_numbers():
    def body(self, h):
        n = np.asarray(h).shape[0]
        table = np.sin(np.arange(h.data.size).reshape(h.data.shape)).astype("f4")
        return h / n + table + np.zeros_like(h.data)

    assert loud(lint(Net(body))) == []


# words ----------------------------------------------------------------------------------------------------------------
def test_a_finding_has_both_lines_the_column_and_the_line_as_it_could_be():
    def body(self, h):
        raw = np.tanh(h.data)
        return 2.0 * gt.tensor(raw)

    (finding,) = loud(lint(Net(body)))
    lines, start = inspect.getsourcelines(body)
    assert (finding.escape.line, finding.line) == (start + 1, start + 2)
    assert lines[1][finding.escape.column - 1 :].startswith("h.data")
    assert lines[2][finding.site.column - 1 :].startswith("gt.tensor")
    assert finding.fix == "raw = np.tanh(h)"


def test_every_rule_has_a_page_with_both_programs():
    for code, r in RULES.items():
        assert re.fullmatch(r"GT-[A-I]\d\d", code) and set(r.layer) <= {*LAYERS, "R"}, code
        assert "Broken:\n    " in r.page and "Right:\n    " in r.page and r.title, code


# classes without a spelling -------------------------------------------------------------------------------------------
LOSSES = {
    "mse_loss": gt.mse_loss,
    "l1_loss": gt.l1_loss,
    "binary_cross_entropy_with_logits": gt.binary_cross_entropy_with_logits,
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_differentiable_in_both_arguments(name):
    """GT-B09 by construction: whoever swaps prediction and target still gets a gradient."""
    for swapped in (False, True):
        report = lint(Net(), loss=lambda out, y, s=swapped: LOSSES[name](*((y, out) if s else (out, y))))
        assert report.ok and all(v.verdict == "learns" for v in report.parameters), str(report)
    step = gt.value_and_grad(lambda a, b: LOSSES[name](a, b), argnums=(0, 1))
    _, (da, db) = step(X, (Y > 0).astype("f4"))
    assert np.abs(da).max() > 0 and np.abs(db).max() > 0


def test_ops_that_are_one_sided_are_those_whose_derivative_is_zero_there():
    from gradtape.passes.lint.flow import differentiable_operands
    from rows import ROWS

    found = set()
    for name, row in ROWS.items():
        for case in row.cases if OPS[name].vjp and not OPS[name].regions else ():
            for node in case.graph("f32").nodes:
                floats = [isinstance(o, Value) and o.type.is_float for o in node.inputs]
                if node.op == name and node.output.type.is_float:
                    passes = differentiable_operands(node)
                    found |= {(name, i) for i, f in enumerate(floats) if f and not passes[i]}
    assert found <= {
        ("copysign", 1),
        ("nextafter", 1),
        ("barrier", 1),
    }  # the sign, the direction, the moment of another


def test_a_gradient_cannot_be_switched_off_for_good():
    """GT-B02's global switch: `no_grad` is a block of a running trace and ends with it; outside it does nothing."""
    gt.no_grad().__enter__()

    def body(self, h):
        gt.no_grad().__enter__()
        return h

    assert not hasattr(gt, "set_grad_enabled")
    assert [f.code for f in loud(lint(Net(body)))] == ["GT-B02"]
    assert loud(lint(Net())) == []


def test_a_loss_cannot_be_told_to_require_a_gradient():
    def loss(out, y):
        value = gt.mse_loss(out, y)
        value.requires_grad = True
        return value

    with pytest.raises(AttributeError, match="requires_grad"):
        lint(Net(), loss=loss)


def test_flow_counts_a_parameter_once_for_every_path():
    traced = gt.trace(Net(lambda self, h: h + np.tanh(h)), X)
    flow = Flow(traced.graph, [traced.graph.outputs[0][1]])
    assert (flow.paths("w"), flow.paths("v"), flow.reaches("nobody")) == (2, 1, False)


def test_a_program_without_backward_keeps_no_numbers_either():
    class Model(Net):
        def forward(self, x):
            h = x @ self.w
            return h / np.abs(h.data).max()

    model = Model()
    with pytest.raises(gt.LintError, match=r"would keep what it should compute\nGT-A01 error"):
        gt.compile(model)(X)
    with pytest.warns(gt.LintWarning, match="the numbers of the first call"):
        gt.compile(model, lint="warn")(X)
    gt.compile(model, lint="off")(X)

    class Raw(Net):
        def forward(self, x):
            return x @ self.w.data  # what is trained or loaded later would never be seen

    with pytest.raises(gt.LintError, match="it was computed from w, and is not computed again"):
        gt.compile(Raw())(X)

    class Looks(Net):
        def forward(self, x):
            assert np.isfinite(np.asarray(x)).all()
            return x @ self.w

    np.testing.assert_allclose(gt.compile(Looks())(X).shape, (4, 8))
