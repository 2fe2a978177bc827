"""`gradtape graph`, run as a command."""

import textwrap
from pathlib import Path

import pytest
from click.testing import CliRunner

from gradtape.cli import main
from gradtape.pictures.dot import has_dot
from pictured import uncompiled

PROGRAM = """
import numpy as np

import gradtape as gt


def build():
    model = gt.models.MLP(4, 3, 2)
    return gt.compile(model, gt.spec(("B", 4)), gt.spec(("B",), "i64"), loss=gt.cross_entropy, optimizer=gt.SGD(lr=0.1))


class Cut(gt.Module):
    def __init__(self):
        self.a, self.b = gt.nn.Linear(4, 3), gt.nn.Linear(3, 2)

    def forward(self, x):
        return self.b(gt.tensor(np.tanh(self.a(x).data)))


class Lost(Cut):
    def forward(self, x):
        return gt.tensor(np.tanh(self.b(self.a(x)).data))


def broken(model=Cut):
    x, y = np.ones((5, 4), "f4"), np.zeros((5, 2), "f4")
    return gt.compile(model(), x, y, loss=gt.mse_loss, optimizer=gt.SGD(lr=0.1))


def lost():
    return broken(Lost)


def later():
    return gt.compile(gt.models.MLP(4, 2), loss=gt.cross_entropy, optimizer=gt.SGD(lr=0.1))
"""

needs_dot = pytest.mark.skipif(not has_dot(), reason="the program dot is not installed: apt-get install graphviz")


@pytest.fixture
def run(tmp_path, monkeypatch):
    name = f"drawn_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(textwrap.dedent(PROGRAM))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)

    def invoke(function: str, *options: str):
        return CliRunner().invoke(main, ["graph", f"{name}:{function}", *options])

    with uncompiled():
        yield invoke


@needs_dot
@pytest.mark.parametrize("ending", ["svg", "png", "pdf"])
def test_a_file(run, ending):
    done = run("build", "-o", f"net.{ending}")
    assert done.exit_code == 0, done.output
    assert done.output == f"wrote net.{ending}\n"
    assert Path(f"net.{ending}").read_bytes()[:4] in (b"<?xm", b"\x89PNG", b"%PDF")


@pytest.mark.parametrize("stage", ["traced", "differentiated", "fused", "tape"])
def test_the_dot_text(run, stage):
    done = run("build", "--stage", stage, "--format", "dot", "-o", "-")
    assert done.exit_code == 0, done.output
    assert done.output.startswith("digraph mlp {") and f"mlp, {stage} (B)" in done.output


def test_depth_and_full(run):
    counts = [
        run("build", "--format", "dot", "-o", "-", *options).output.count(" -> ")
        for options in (("--depth", "0"), (), ("--full",))
    ]
    assert counts[0] < counts[1] < counts[2]


def test_the_name_of_the_file(run):
    assert run("build", "--format", "dot").output == "wrote mlp-traced.dot\n"
    assert Path("mlp-traced.dot").read_text().startswith("digraph")


@pytest.mark.parametrize("stage", ["traced", "differentiated", "fused", "tape"])
def test_a_model_that_the_lint_refuses(run, stage):
    done = run("broken", "--stage", stage, "--format", "dot", "-o", "-")
    assert done.exit_code == 0, done.output
    line = PROGRAM.strip("\n").splitlines().index("        return self.b(gt.tensor(np.tanh(self.a(x).data)))") + 2
    assert f"✂ GT-A01 drawn_{Path.cwd().name}.py:{line}" in done.output


def test_a_model_that_has_no_backward_at_all(run):
    done = run("lost", "--format", "dot", "-o", "-")
    assert done.exit_code == 0, done.output
    assert "✂ GT-A08" in done.output or "✂ GT-A01" in done.output
    done = run("lost", "--stage", "tape", "--format", "dot", "-o", "-")
    assert done.exit_code == 1 and "there is no such stage" in done.output


def test_without_graphviz_the_text_is_written(run, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    done = run("build", "-o", "net.png")
    assert done.exit_code == 1
    assert "apt-get install graphviz" in done.output and "wrote net.dot instead" in done.output
    assert Path("net.dot").read_text().startswith("digraph") and not Path("net.png").exists()


def test_what_is_not_traced_and_what_cannot_be_written(run):
    done = run("later")
    assert done.exit_code == 1 and "give example arrays or specs" in done.output
    done = run("build", "-o", "nowhere/net.dot")
    assert done.exit_code == 1 and "cannot write nowhere/net.dot" in done.output
