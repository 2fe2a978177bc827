"""`gradtape compile`, `show` and `cache`, on a tiny model."""

import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import gradtape as gt
from gradtape.cli import main

BUILD = """\
import gradtape as gt


def build():
    gt.manual_seed(1)
    tokens = gt.spec(("B", 8), "i64")
    model = gt.models.GPT(vocab=11, context=8, width=16, depth=1, heads=2)
    return gt.compile(model, tokens, tokens, loss=gt.cross_entropy, optimizer=gt.AdamW(lr=1e-2), threads=1)


def forward_only():
    return gt.compile(gt.models.MLP(4, 3), gt.spec((2, 4)), threads=1)


def without_specs():
    return gt.compile(gt.models.MLP(4, 3))
"""


@pytest.fixture
def run(tmp_path, monkeypatch, real_cache):
    (tmp_path / "tape_for_a_test.py").write_text(BUILD)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "tape_for_a_test", raising=False)

    def command(line: str, code: int = 0) -> str:
        result = CliRunner().invoke(main, line.split())
        assert result.exit_code == code, result.output
        return result.output

    return command


def test_a_model_is_compiled_shown_and_loaded(run):
    assert run("compile tape_for_a_test:build --weights seed").startswith("train.tape: 0.")
    step = gt.load("train.tape", threads=1)
    ids = np.arange(24).reshape(3, 8) % 11
    losses = [step(ids, ids) for _ in range(3)]
    assert losses[2] < losses[0] and step.evaluate(ids, ids) > 0 and step.forward(ids).shape == (3, 8, 11)
    shown = run("show train.tape")
    for said in (
        "optimizer AdamW(lr=0.01", "weights from seed 1", "tok.weight", "f32[11, 16]  = head.weight",
        "program step(idx: i64[B, 8], target: i64[B, 8]) in train mode", "program evaluate", "program forward",
        "graph gpt(", "tape gpt:", "CPU features", "object code", "Numba",
    ):  # fmt: skip
        assert said in shown, said
    assert "graph gpt(" not in run("show --short train.tape")


def test_programs_that_generate_are_compiled_on_request(run):
    run("compile tape_for_a_test:build --entries step --texts 1")
    shown = run("show train.tape --short")
    assert "program decode(" in shown and "program prefill(" in shown
    assert gt.load("train.tape", threads=1).generate([3, 1], 4, temperature=0).shape == (6,)


def test_entries_are_chosen(run):
    run("compile tape_for_a_test:build --entries value_and_grad --out one.tape")
    run("compile tape_for_a_test:forward_only --out two.tape")
    assert "program value_and_grad" in run("show one.tape --short")
    assert "program forward(x: f32[2, 4]) in eval mode" in run("show two.tape --short")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("compile tape_for_a_test:without_specs", "without examples or specs"),
        ("compile tape_for_a_test:build --entries fit", "fit is not one of step"),
        ("compile tape_for_a_test:build --out no/where.tape", "cannot write no/where.tape"),
        ("compile tape_for_a_test:nothing", "has no nothing"),
        ("show none.tape", "cannot read none.tape"),
        ("show tape_for_a_test.py", "is no tape of gradtape"),
    ],
)
def test_what_goes_wrong_is_said(run, line, said):
    result = CliRunner().invoke(main, line.split())
    assert result.exit_code != 0 and said in result.output, result.output


def test_the_cache_is_listed_explained_verified_and_cleared(run, tmp_path):
    assert run("cache ls").startswith("0 tapes and 0 kernels")
    assert "miss: the cache is empty" in run("cache explain tape_for_a_test:build")
    assert "hit: " in run("cache explain tape_for_a_test:build")
    listed = run("cache ls")
    assert "gpt step, 1 thread" in listed and "1 tapes and" in listed
    assert len(run("cache ls --kernels").splitlines()) == len(list(Path("cache").iterdir())) + 1
    (entry,) = Path("cache").glob("*.tape")
    assert "entry step" in run(f"show {entry}") and "tape gpt:" in run(f"show {entry}")
    assert run("cache verify").endswith("files are sound\n")
    entry.write_bytes(entry.read_bytes()[:-1])
    assert f"{entry.name}: the file has" in run("cache verify", code=1)
    assert "; removed" in run("cache verify --remove")
    run("cache verify")
    assert run("cache clear").startswith("removed ") and not list(Path("cache").iterdir())


def test_a_cache_that_others_can_open_is_not_used(run, tmp_path):
    (tmp_path / "cache").mkdir(mode=0o755)
    assert "others can open it" in run("cache ls", code=1)
