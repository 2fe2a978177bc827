"""The pictures of the lint's corpus: at every stage a broken model shows the cut where the lint names it.

The normal run takes one program of every code that the layers of `compile` find; `-m slow` all of them.
"""

import sys
import warnings

import numpy as np
import pytest
from corpus import LOUD, Program, imported, programs

import gradtape as gt
from gradtape.compiler import GradientError
from gradtape.ir.op import OPS
from gradtape.linting import CHEAP, LintError, LintWarning, tolerating
from gradtape.passes.lint import Report
from gradtape.pictures import Picture, picture
from gradtape.pictures.dot import dot, shown
from pictured import uncompiled

BROKEN = [
    p for p in programs() if p.broken and p.case.loss and p.case.wanted in LOUD and set(p.case.layers) <= set(CHEAP)
]
CHOSEN = list({p.case.code: p for p in reversed(BROKEN)}.values())
REST = [p for p in BROKEN if p not in CHOSEN]


def pictures_of(program: Program, folder) -> tuple[Report, list[Picture], set[str]]:
    """The lint's report on a program, its pictures, and the values that left it."""
    files, known = program.sources(), set(OPS)
    try:
        modules = [imported(folder / f"{name}.py", text) for name, text in files.items()]
        gt.manual_seed(0)
        model, owner = modules[-1].build()
        optimizer = modules[-1].optimizer_of(owner)
        rng = np.random.default_rng(3)
        x = rng.standard_normal(program.host.shape).astype("f4")
        y = rng.standard_normal((len(x), 3)).astype("f4")

        def compiled() -> gt.Compiled:
            return gt.compile(model, x, y, loss=modules[-1].loss, optimizer=optimizer or gt.SGD(lr=0.1))

        with uncompiled(), warnings.catch_warnings():
            warnings.simplefilter("ignore", LintWarning)
            try:
                with tolerating():
                    step = compiled()
                stages = ("traced", "differentiated", "fused", "tape")
                ledger = step._latest.traced.ledger
                found = [step.picture(stage) for stage in stages]
                report = step.lint()
            except Exception:  # nothing is left to differentiate, or there is no kernel for it
                with pytest.raises(GradientError) as refused:
                    compiled()
                report, ledger = refused.value.report, refused.value.traced.ledger
                found = [picture({"traced": refused.value.graph}, "traced", report, ledger.reentries)]
        return report, found, {o.value.name for r in ledger.reentries for o in r.origins}
    finally:
        for op in set(OPS) - known:
            del OPS[op]
        for name in files:
            sys.modules.pop(name, None)


def assert_cuts_are_drawn(program: Program, folder) -> None:
    report, found, left = pictures_of(program, folder)
    findings = [f for f in report.findings if f.severity in LOUD]
    assert findings
    for drawn in found:
        assert len(drawn.cuts) == len(findings)
        for finding, cut in zip(findings, drawn.cuts, strict=True):
            site = finding.site or finding.escape
            assert (cut.code, cut.file, cut.line, cut.parameters) == (
                finding.code, site.file, site.line, finding.parameters,
            )  # fmt: skip
            mark = drawn.node[cut.node]
            assert mark.kind == "cut" and (mark.file, mark.line) == (site.file, site.line)
            if finding.code[:4] in ("GT-A", "GT-B"):  # others are also about what stands behind the line
                assert set(finding.parameters) <= set(cut.path)
            assert not finding.parameters or set(finding.parameters) & set(cut.path)
            if finding.severity == "error":
                assert all(drawn.node[i].broken for i in cut.path)
            ends = [e.source for e in drawn.edges if e.target == cut.node]
            assert set(ends) <= set(cut.path) and (ends or not finding.parameters)
            places = {(s.file, s.line) for s in (finding.site, finding.escape)}
            for end in ends if drawn.stage == "traced" else ():  # and ends at the very node of the cut
                node = drawn.node[end]
                assert node.kind == "param" or (node.file, node.line) in places or end in left, (end, places)
        source = dot(shown(drawn)).source
        for cut in drawn.cuts:
            name = cut.file.rpartition("/")[2]
            assert f"✂ {cut.code}" in source and (not cut.line or f"{name}:{cut.line}" in source)


@pytest.mark.parametrize("program", CHOSEN, ids=str)
def test_the_cut_is_shown(program, tmp_path):
    assert_cuts_are_drawn(program, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("program", REST, ids=str)
def test_the_cut_of_every_other_program(program, tmp_path):
    assert_cuts_are_drawn(program, tmp_path)


class Attention(gt.Module):
    def __init__(self, width):
        self.q, self.k, self.v = (gt.nn.Linear(width, width) for _ in range(3))

    def forward(self, x):
        q, k, v = self.q(x), self.k(x), self.v(x)
        k = gt.tensor(np.transpose(k.data, (0, 2, 1)))
        return gt.softmax(q @ k, -1) @ v


class Net(gt.Module):
    def __init__(self):
        self.embed, self.attn, self.head = gt.nn.Linear(6, 8), Attention(8), gt.nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.attn(self.embed(x)).mean(1))


@pytest.fixture(scope="module")
def net():
    x, y = np.ones((4, 5, 6), "f4"), np.ones((4, 3), "f4")
    with uncompiled(), tolerating(), pytest.warns(LintWarning):
        return gt.compile(Net(), x, y, loss=gt.mse_loss, optimizer=gt.SGD(lr=0.1))


def test_a_path_ends_where_the_value_left_and_goes_on_at_the_constant(net):
    found = net.picture("traced")
    (cut,) = found.cuts
    assert [found.node[i].op for i in cut.path] == ["param", "param", "permute", "matmul", "add"]
    assert [found.node[i].op for i in cut.targets] == ["constant"]
    assert found.node[cut.node].cluster == "attn" and found.node[cut.node].source.startswith("k = gt.tensor(")
    assert {found.node[f"attn.k.{n}"].verdict for n in ("weight", "bias")} == {"dead"}
    broken = {(e.source, e.target) for e in found.edges if e.broken}
    assert broken == {*zip(cut.path[2:4], cut.path[3:5], strict=True), (cut.path[-1], cut.node)} | {
        ("attn.k.weight", cut.path[2]), ("attn.k.bias", cut.path[4]),
    }  # fmt: skip


def test_what_is_folded_stays_red(net):
    for depth in (0, 1):
        found = shown(net.picture("traced"), depth)
        (cut,) = found.cuts
        ends = [e.source for e in found.edges if e.target == cut.node]
        assert ends and all(found.node[i].broken for i in ends)
        assert found.node[cut.node].kind == "cut"  # the mark itself is never folded
    assert "#cf222e" in dot(found).source


def test_later_stages_show_the_mark_at_the_parameters(net):
    for stage in ("fused", "tape"):
        found = net.picture(stage)
        (cut,) = found.cuts
        assert cut.path == ("attn.k.weight", "attn.k.bias")
        assert {(e.source, e.broken) for e in found.edges if e.target == cut.node} == {(i, True) for i in cut.path}


def test_nothing_is_refused_inside_of_tolerating_alone():
    x, y = np.ones((4, 5, 6), "f4"), np.ones((4, 3), "f4")
    with uncompiled(), pytest.raises(LintError):
        gt.compile(Net(), x, y, loss=gt.mse_loss, optimizer=gt.SGD(lr=0.1))
