"""`gradtape lint` and `gradtape explain` as a user meets them."""

import json
import sys

import pytest
from click.testing import CliRunner
from sarif_pydantic import Sarif

from gradtape.cli import main

SOURCE = """
import numpy as np

import gradtape as gt


class Net(gt.Module):
    def __init__(self, fixed):
        self.fixed = fixed
        self.a = gt.nn.Linear(3, 4)
        self.b = gt.nn.Linear(4, 2)

    def forward(self, x):
        h = self.a(x)
        h = gt.tanh(h) if self.fixed else np.rint(h)
        return self.b(h)


def build(fixed, lint):
    specs = gt.spec(("B", 3)), gt.spec(("B", 2))
    return gt.compile(Net(fixed), *specs, loss=gt.mse_loss, optimizer=gt.SGD(lr=0.1), lint=lint, threads=1)


def broken():
    return build(False, "off")


def refused():
    return build(False, "error")


def right():
    return build(True, "error")


def a_model():
    return Net(True)


def without_specs():
    return gt.compile(Net(True), loss=gt.mse_loss, optimizer=gt.SGD(lr=0.1))
"""
LINE = 1 + SOURCE[: SOURCE.index("np.rint")].count("\n")


@pytest.fixture
def run(tmp_path, monkeypatch):
    (tmp_path / "some_model.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "some_model", raising=False)
    return lambda *args: CliRunner().invoke(main, list(args))


@pytest.mark.parametrize("name", ["broken", "refused"])
def test_an_error_is_shown_with_its_line_and_status_1(run, name):
    result = run("lint", f"some_model:{name}")
    assert result.exit_code == 1
    assert f"GT-C07 error  some_model.py:{LINE}" in result.output
    assert "np.rint(h)" in result.output and "concerns a.weight, a.bias" in result.output
    assert "2/4 parameters learn; 1 error" in result.output
    assert "b.weight   [2, 4]" in result.output


def test_a_right_model_has_status_0(run):
    result = run("lint", "some_model:right", "--no-table")
    assert (result.exit_code, result.output) == (0, "4/4 parameters learn; no findings\n")


def test_json_and_sarif(run, tmp_path):
    result = run("lint", "some_model:broken", "--json", "-", "--sarif", "found.sarif", "--layers", "skt")
    assert result.exit_code == 1
    report = json.loads(result.output)
    (finding,) = report["findings"]
    place = {
        "code": "GT-C07",
        "file": str(tmp_path / "some_model.py"),
        "line": LINE,
        "parameters": ["a.weight", "a.bias"],
    }
    assert {k: finding[k] for k in place} == place
    assert report["layers"] == ["S", "K", "T"]
    assert [p["verdict"] for p in report["parameters"]] == ["dead", "dead", "learns", "learns"]
    log = json.loads((tmp_path / "found.sarif").read_text())
    Sarif.model_validate(log)  # the fields that the standard demands, of the kinds that it demands
    assert (log["version"], len(log["runs"])) == ("2.1.0", 1)
    (sarif,) = log["runs"]
    (found,) = sarif["results"]
    assert (found["ruleId"], found["level"]) == ("GT-C07", "error")
    assert sarif["tool"]["driver"]["rules"][found["ruleIndex"]]["id"] == "GT-C07"
    where = found["locations"][0]["physicalLocation"]
    assert where["artifactLocation"]["uri"] == (tmp_path / "some_model.py").as_uri()
    assert where["region"]["startLine"] == LINE
    assert SOURCE.splitlines()[LINE - 1][where["region"]["startColumn"] - 1 :].startswith("np.rint(h)")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("some_model", "'some_model' is not of the form package.module:function"),
        ("no_such:build", "there is no module no_such"),
        ("some_model:nothing", "some_model has no nothing"),
        ("some_model:a_model", "some_model:a_model gives Net; it has to return gt.compile("),
        ("some_model:without_specs", "was compiled without examples or specs; add gt.spec(...) to gt.compile"),
    ],
)
def test_mistakes(run, target, message):
    result = run("lint", target)
    assert result.exit_code == 1 and message in result.output and "Traceback" not in result.output


def test_an_unknown_layer(run):
    result = run("lint", "some_model:right", "--layers", "SX")
    assert result.exit_code == 1 and "layers are S, K, T, D, G, not X" in result.output


def test_explain(run):
    for code in ("GT-C07", "c07"):
        result = run("explain", code)
        assert result.exit_code == 0
        assert result.output.startswith("GT-C07 error: ")
        assert "Broken:" in result.output and "Right:" in result.output
    result = run("explain", "GT-F07")
    assert result.exit_code == 0 and result.output.startswith("GT-F07 impossible: ") and "`h += 1`" in result.output
    result = run("explain", "Z99")
    assert result.exit_code == 1 and "there is no code Z99; there are GT-A0" in result.output
