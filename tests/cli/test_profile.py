"""`gradtape profile` as a user meets it."""

import json
import sys

import pytest
from click.testing import CliRunner

from gradtape.cli import main

SOURCE = """
import gradtape as gt


class Net(gt.Module):
    def __init__(self):
        self.words = gt.nn.Embedding(50, 8)
        self.out = gt.nn.Linear(8, 3)

    def forward(self, ids):
        return self.out(self.words(ids).mean(axis=1))


def build(*specs):
    return gt.compile(Net(), *specs, loss=gt.cross_entropy, optimizer=gt.SGD(lr=0.1), threads=2)


def right():
    return build(gt.spec(("B", gt.Dim("T", max=6)), "i64"), gt.spec(("B",), "i64"))


class Nested(Net):
    def forward(self, batch):
        return super().forward(batch["ids"]) * batch["scale"]


def nested():
    spec = {"ids": gt.spec((4, 6), "i64"), "scale": gt.spec((4, 3))}
    return gt.compile(Nested(), spec, gt.spec((4,), "i64"), loss=gt.cross_entropy, optimizer=gt.SGD(lr=0.1))


def without_specs():
    return build()
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    (tmp_path / "profiled.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    sys.modules.pop("profiled", None)
    yield lambda *args: CliRunner().invoke(main, ["profile", *args])
    sys.modules.pop("profiled", None)


def test_profile_prints_tables_and_writes_files(run, tmp_path):
    done = run("profiled:right", "--dims", "B=7", "--repeats", "2", "--trace", "t.json", "--json", "p.json")
    assert done.exit_code == 0, done.output
    assert done.output.startswith("net step: ") and "median of 2" in done.output
    assert "\nkind " in done.output and "\ngemm " in done.output and "profiled.py:11 words" in done.output
    profile = json.loads((tmp_path / "p.json").read_text())
    events = json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    assert {e["tid"] for e in events if "tid" in e} == set(range(profile["threads"]))
    gather = next(w for w in profile["instructions"] if w["name"] == "take")
    assert gather["axes"] == [1, 7 * 6, 8, 50]  # B as given, T at its bound


def test_other_entries_and_fewer_lines(run):
    done = run("profiled:right", "--entry", "evaluate", "--repeats", "1", "--top", "0")
    assert done.exit_code == 0, done.output
    assert done.output.startswith("net evaluate: ") and "number" not in done.output


def test_nested_examples(run):
    done = run("profiled:nested", "--repeats", "1", "--top", "3")
    assert done.exit_code == 0, done.output
    assert done.output.startswith("nested step: ")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["profiled:right", "--dims", "N=3"], "no spec has a size N; there are: B, T"),
        (["profiled:right", "--dims", "B"], "'B' is no size"),
        (["profiled:without_specs"], "was compiled without examples or specs"),
        (["profiled:right", "--repeats", "1", "--trace", "nowhere/t.json"], "cannot write nowhere/t.json"),
    ],
)
def test_what_cannot_be_profiled(run, args, said):
    done = run(*args)
    assert done.exit_code == 1 and said in done.output, done.output
