"""What a notebook shows: a picture, or where there is no Graphviz the text; a report as a table."""

import numpy as np
import pytest

import gradtape as gt
from gradtape.pictures.dot import has_dot
from pictured import MODELS

needs_dot = pytest.mark.skipif(not has_dot(), reason="the program dot is not installed: apt-get install graphviz")


@needs_dot
def test_programs_are_drawn():
    step = MODELS["mlp"]()
    shown = [step, *(step.graph(stage) for stage in ("traced", "differentiated", "fused", "tape"))]
    for thing, stage in zip(shown, ("traced", "traced", "differentiated", "fused", "tape"), strict=True):
        svg = thing._repr_svg_()
        assert svg.startswith("<svg") and f"mlp, {stage}" in svg
        assert thing._repr_html_() is None


def test_without_graphviz_programs_are_text(monkeypatch, tmp_path):
    step = MODELS["mlp"]()
    monkeypatch.setenv("PATH", str(tmp_path))
    for thing in (step, step.graph(), step.graph("tape")):
        assert thing._repr_svg_() is None
        html = thing._repr_html_()
        assert html.startswith("<pre>") and "apt-get install graphviz" in html
    assert "matmul(%x, %0)" in step.graph()._repr_html_()


def test_what_is_not_traced_yet_is_its_repr():
    step = gt.compile(gt.models.MLP(4, 2), loss=gt.cross_entropy, optimizer=gt.SGD(lr=0.1))
    assert step._repr_svg_() is None and step._repr_html_() is None


class Net(gt.Module):
    def __init__(self):
        setattr(self, "<script>", gt.nn.Linear(4, 4))
        self.head = gt.nn.Linear(4, 2)

    def forward(self, x):
        return self.head(gt.tensor(getattr(self, "<script>")(x).data))


def test_a_report_is_a_table():
    report = gt.lint(Net(), np.ones((3, 4), "f4"), np.ones((3, 2), "f4"), loss=gt.mse_loss, layers="SKT")
    html = report._repr_html_()
    assert report._repr_svg_() is None
    assert "<script>" not in html and "&lt;script&gt;.weight" in html
    assert html.count("<tr>") == 5 and "GT-A01 error" in html and "dead GT-A01" in html
    assert f"<b>{report.summary}</b>" in html
