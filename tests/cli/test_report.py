"""`gradtape report` and `gradtape train --watch` as a user meets them."""

import csv
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from gradtape.cli import main
from gradtape.cli.norms import Norm, Norms, bars, by_layer, without_later

SOURCE = """
import numpy as np

import gradtape as gt


class Net(gt.Module):
    def __init__(self, broken):
        self.broken = broken
        self.a = gt.nn.Linear(3, 4)
        self.b = gt.nn.Linear(4, 2)

    def forward(self, x):
        h = self.a(x)
        return self.b(np.rint(h) if self.broken else gt.tanh(h))


def build(broken=False, lint="error"):
    specs = gt.spec(("B", 3)), gt.spec(("B", 2))
    return gt.compile(Net(broken), *specs, loss=gt.mse_loss, optimizer=gt.SGD(lr=0.1), lint=lint, threads=1)


def refused():
    return build(True)


def hopeless():
    model, specs = Net(False), (gt.spec(("B", 3)), gt.spec(("B", 2)))
    return gt.compile(model, *specs, loss=lambda p, y: gt.mse_loss(np.rint(p), y), optimizer=gt.SGD(lr=0.1), threads=1)


def without_specs():
    return gt.compile(Net(False), loss=gt.mse_loss, optimizer=gt.SGD(lr=0.1))
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    (tmp_path / "reported_model.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments):
        return CliRunner().invoke(main, arguments, catch_exceptions=False)

    return invoke


def test_a_report_of_a_program(run):
    result = run("report", "reported_model:build", "-o", "out.html", "--dims", "B=5")
    assert (result.exit_code, result.output) == (0, "wrote out.html\n")
    text = Path("out.html").read_text("utf-8")
    assert '"sizes":{"B":5}' in text and '"seconds":' in text and '"target":"reported_model:build"' in text


def test_without_measuring(run):
    assert run("report", "reported_model:build", "--no-measure").exit_code == 0
    assert '"time":null' in Path("report.html").read_text("utf-8")


def test_a_model_that_the_lint_refuses(run):
    """It is compiled all the same, and its cut is drawn at every stage."""
    result = run("report", "reported_model:refused")
    assert (result.exit_code, result.output) == (0, "wrote report.html\n")
    text = Path("report.html").read_text("utf-8")
    assert "GT-C07" in text and "cut:0" in text and '"stage":"fused"' in text and '"tape":{' in text


def test_a_model_without_any_gradient(run):
    """Nothing can be compiled: the forward program is shown, with the cut."""
    assert run("report", "reported_model:hopeless").exit_code == 0
    text = Path("report.html").read_text("utf-8")
    assert "GT-C07" in text and "cut:0" in text and '"stage":"traced"' in text and '"tape":null' in text
    assert '"tensors":4' in text


def test_a_curve_alone(run):
    Path("curve.csv").write_text("step,loss\n1,2.0\n2,1.0\n")
    assert run("report", "--run", "curve.csv").exit_code == 0
    assert '"curves":{"loss":[[1,2.0],[2,1.0]]}' in Path("report.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "give a TARGET"),
        (("reported_model:build", "--run", "nothing"), "there is no run nothing"),
        (("reported_model:build", "--dims", "C=4"), "no spec has a size C"),
        (("reported_model:build", "--layers", "X"), "layers are"),
        (("reported_model:build", "-o", "no/folder.html"), "cannot write no/folder.html"),
        (("reported_model:without_specs",), "add gt.spec"),
        (("reported_model:nothing",), "has no nothing"),
    ],
)
def test_what_cannot_be_reported(run, arguments, said):
    result = run("report", *arguments)
    assert result.exit_code != 0 and said in result.output


# a run, watched -------------------------------------------------------------------------------------------------------
SMALL = "train --model cnn --depth 1 --width 4 --batch 8 --eval-every 4 --no-plot --threads 1 --warmup 2".split()


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_a_watched_run_and_its_report(run):
    """Norms of the first step and of every fourth; the training itself goes bit by bit as it goes without."""
    watched = run(*SMALL, "--steps", "8", "--watch", "4", "--name", "watched")
    alone = run(*SMALL, "--steps", "8", "--name", "alone")
    assert watched.exit_code == alone.exit_code == 0, watched.output
    logs = [Path("runs", name, "log.jsonl").read_text().splitlines() for name in ("watched", "alone")]
    losses = [[line.partition(' "per_second"')[0] for line in log] for log in logs]
    assert losses[0] == losses[1] and len(losses[0]) == 8
    found = rows(Path("runs/watched/norms.csv"))
    assert list(dict.fromkeys(row["step"] for row in found)) == ["1", "4", "8"]
    for row in found:
        assert float(row["weight"]) >= 0 and float(row["update"]) > 0 and float(row["gradient"]) >= 0
    assert not Path("runs/alone/norms.csv").exists()

    result = run("report", "--run", "runs/watched", "-o", "run.html")
    assert result.exit_code == 0, result.output
    text = Path("run.html").read_text("utf-8")
    assert '"norms":{"' in text and '"name":"watched"' in text and '"tape":{' in text
    assert [Path("runs", "watched", "log.jsonl").read_text().splitlines()] == logs[:1]  # a report only reads


def test_norms_go_on_where_a_run_goes_on(run):
    assert run(*SMALL, "--steps", "6", "--watch", "2", "--save-every", "4").exit_code == 0
    path = Path("runs/cnn/norms.csv")
    without_later(path, 4)
    assert {row["step"] for row in rows(path)} == {"1", "2", "4"}
    path.write_text(path.read_text() + "6,half a li")
    without_later(path, 6)
    assert {row["step"] for row in rows(path)} == {"1", "2", "4"}
    # a new run of the same name begins a new file
    assert run(*SMALL, "--steps", "2", "--watch", "2").exit_code == 0
    assert [row["step"] for row in rows(path)] == [str(n) for n in (1, 2) for _ in range(len(rows(path)) // 2)]


def test_updates_are_what_a_step_has_changed(tmp_path):
    import gradtape as gt

    x, y = np.ones((2, 3), "f4"), np.zeros((2, 1), "f4")
    step = gt.compile(gt.nn.Linear(3, 1), loss=gt.mse_loss, optimizer=gt.SGD(lr=0.5), threads=1)
    norms = Norms(step, 2, tmp_path / "norms.csv")
    for number in (1, 2, 3):
        norms.step(x, y)
        assert step.step_count == number
    assert norms.at == 2
    for norm in norms.latest.values():
        assert norm.update == pytest.approx(0.5 * norm.gradient, rel=1e-5)
    table = norms.table(10)
    assert table.row_count == 2 and table.columns[0].header == "layer"


def test_layers_stand_for_their_parameters():
    norms = {
        f"blocks.{i}.{part}": Norm(3.0, 0.0, 4.0) for i in range(3) for part in ("fc.weight", "fc.bias", "ln.weight")
    }
    assert list(by_layer(norms, 10)) == [f"blocks.{i}.{part}" for i in range(3) for part in ("fc", "ln")]
    assert by_layer(norms, 10)["blocks.0.fc"] == Norm(pytest.approx(18**0.5), 0.0, pytest.approx(32**0.5))
    assert list(by_layer(norms, 4)) == ["blocks.0", "blocks.1", "blocks.2"]
    assert list(by_layer(norms, 1)) == ["blocks"]
    assert list(by_layer({"w": Norm(1.0, 1.0, 1.0)}, 5)) == ["w"]


def test_bars():
    assert bars([1.0, 10.0, 100.0]) == "▁▅█"
    assert bars([2.0, 2.0]) == "▁▁" and bars([]) == "" and bars([0.0, float("nan"), 1.0]) == "  ▁"
