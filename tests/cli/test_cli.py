"""The command line, on tiny models: training, resuming after a kill, Ctrl-C, generating, and what goes wrong."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from gradtape.cli import main
from gradtape.cli.checkpoints import CheckpointError, load, save
from gradtape.cli.generate import write
from gradtape.cli.tasks import moved_by
from gradtape.models.data import CharTokenizer

TINY = "--width 16 --depth 1 --heads 2 --context 16 --batch 4 --warmup 5 --threads 1 --no-plot --sample 0".split()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "text.txt"
    path.write_text("the cat sat on the mat. the dog sat on the log.\n" * 40)
    return path


def arguments(corpus: Path, out: Path, *more: object) -> list[str]:
    return ["train", *TINY, "--data", str(corpus), "--out", str(out), *map(str, more)]


def losses(folder: Path) -> list[tuple[int, str]]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [(r["step"], float(r["loss"]).hex()) for r in lines]


@pytest.fixture(scope="module")
def finished(corpus, tmp_path_factory) -> Path:
    """A run of 60 steps."""
    out = tmp_path_factory.mktemp("runs")
    result = CliRunner().invoke(main, arguments(corpus, out, "--steps", 60, "--eval-every", 20, "--dropout", 0.1))
    assert result.exit_code == 0, result.output
    return out / "gpt"


def test_train_learns_logs_and_saves(finished):
    log = [json.loads(line) for line in (finished / "log.jsonl").read_text().splitlines()]
    assert [r["step"] for r in log] == list(range(1, 61))
    read = [r["val_loss"] for r in log if r["val_loss"] is not None]
    assert len(read) == 3 and read[-1] < read[0]
    saved = load(finished)
    assert saved.info["step"] == 60 and "optimizer.exp_avg.tok.weight" in saved.optimizer
    assert not list(finished.glob(".*"))


def test_resuming_after_a_kill_gives_the_same_losses(corpus, tmp_path, finished):
    """SIGKILL in the middle of a run; what is resumed from the checkpoint equals the uninterrupted run bit by bit."""
    args = arguments(corpus, tmp_path, "--steps", 60, "--eval-every", 20, "--dropout", 0.1, "--save-every", 7)
    process = subprocess.Popen([sys.executable, "-m", "gradtape", *args], stdout=subprocess.DEVNULL)
    checkpoint = tmp_path / "gpt" / "checkpoint.safetensors"
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)
    process.kill()
    process.wait()
    assert checkpoint.exists()
    result = CliRunner().invoke(main, [*args, "--resume", str(tmp_path / "gpt")])
    assert result.exit_code == 0, result.output
    assert losses(tmp_path / "gpt") == losses(finished)
    ours, theirs = load(tmp_path / "gpt"), load(finished)
    for name, array in theirs.weights.items():
        np.testing.assert_array_equal(ours.weights[name], array)


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_ctrl_c_saves_and_says_so(corpus, tmp_path):
    args = arguments(corpus, tmp_path, "--steps", 1_000_000, "--save-every", 5)
    process = subprocess.Popen([sys.executable, "-m", "gradtape", *args], stdout=subprocess.PIPE, text=True)
    checkpoint = tmp_path / "gpt" / "checkpoint.safetensors"
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted after step" in output and "--resume" in output
    step = load(tmp_path / "gpt").info["step"]
    assert f"after step {step};" in output


def test_patience_ends_a_run_that_no_longer_learns(corpus, tmp_path):
    """The rate is so high that nothing is learned: the second reading without a better one is the last."""
    args = arguments(corpus, tmp_path, "--steps", 500, "--eval-every", 5, "--patience", 2, "--lr", 3, "--min-lr", 3)
    result = CliRunner().invoke(main, args)
    assert result.exit_code == 0, result.output
    log = [json.loads(line) for line in (tmp_path / "gpt" / "log.jsonl").read_text().splitlines()]
    read = [r["val_loss"] for r in log if r["val_loss"] is not None]
    assert log[-1]["step"] < 500 and min(read[:-2]) < min(read[-2:]) and min(read[:-3]) >= min(read[:-2])
    assert load(tmp_path / "gpt").info["step"] == log[-1]["step"]
    best = load(tmp_path / "gpt" / "best.safetensors")
    assert best.info["step"] == 5 * (1 + read.index(min(read)))


@pytest.mark.parametrize(
    ("model", "options"),
    [("mlp", "--steps 400 --eval-every 200 --width 64"), ("cnn", "--steps 400 --eval-every 200 --width 8")],
)
def test_digits_are_learned_and_write_no_text(tmp_path, model, options):
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn, extra `data`")
    args = f"train --model {model} {options} --threads 1 --no-plot --sample 1 --out".split()
    result = CliRunner().invoke(main, [*args, str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "of 360 held-out images are read right" in result.output
    log = [json.loads(line) for line in (tmp_path / model / "log.jsonl").read_text().splitlines()]
    assert log[399]["val_accuracy"] > 0.85 and log[399]["val_loss"] < log[199]["val_loss"]
    result = CliRunner().invoke(main, ["generate", str(tmp_path / model)])
    assert result.exit_code == 1 and f"holds a model of kind {model}, which writes no text" in result.output


def test_a_gru_learns_and_writes(tmp_path):
    """The text repeats, so that what comes next is certain once it is learned."""
    text = tmp_path / "text.txt"
    text.write_text("abcde fghij " * 200)
    options = "--model gru --width 32 --context 24 --batch 8 --steps 150 --eval-every 50 --lr 0.01 --warmup 10"
    args = f"train {options} --threads 1 --no-plot --sample 10 --data {text} --out {tmp_path}".split()
    result = CliRunner().invoke(main, args)
    assert result.exit_code == 0, result.output
    log = [json.loads(line) for line in (tmp_path / "gru" / "log.jsonl").read_text().splitlines()]
    assert log[149]["val_loss"] < 0.3 < 1.5 < log[0]["loss"]
    written = f"generate {tmp_path / 'gru'} --prompt abcde --tokens 12 --temperature 0.1".split()
    result = CliRunner().invoke(main, written)
    assert result.exit_code == 0 and "abcde fghij abcde" in result.output, result.output


def test_images_are_moved():
    images = np.arange(9.0).reshape(1, 3, 3)
    np.testing.assert_array_equal(moved_by(images, np.array([[1, 0]]))[0], [[0, 0, 0], [0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(moved_by(images, np.array([[0, -1]]))[0], [[1, 2, 0], [4, 5, 0], [7, 8, 0]])


def test_a_run_that_was_moved_goes_on_where_it_is(tmp_path, finished):
    shutil.copytree(finished, tmp_path / "moved")
    before = (finished / "log.jsonl").read_text()
    args = ["train", "--resume", str(tmp_path / "moved"), "--steps", "63", "--no-plot", "--sample", "0"]
    result = CliRunner().invoke(main, args)
    assert result.exit_code == 0, result.output
    assert load(tmp_path / "moved").info["step"] == 63 and len(losses(tmp_path / "moved")) == 63
    assert (finished / "log.jsonl").read_text() == before


def test_resuming_with_other_options_names_them_all(corpus, tmp_path, finished):
    args = ["train", "--resume", str(finished), "--width", "32", "--lr", "0.5", "--no-plot", "--sample", "0"]
    result = CliRunner().invoke(main, args)
    assert result.exit_code == 1
    assert "width: 16 in the checkpoint, 32 asked for" in result.output and "lr: 0.002" in result.output


def test_generate_is_deterministic_and_greedy_at_zero(finished):
    run = CliRunner()
    zero = ["generate", str(finished), "--prompt", "the ", "--tokens", "20", "--temperature", "0"]
    greedy = [run.invoke(main, [*zero, "--seed", seed]) for seed in "05"]
    assert greedy[0].exit_code == 0, greedy[0].output
    assert greedy[0].output == greedy[1].output and greedy[0].output.startswith("the ")
    drawn = [run.invoke(main, ["generate", str(finished), "--tokens", "30", "--seed", s, "--top-k", "3"]).output
             for s in "112"]  # fmt: skip
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["generate", "nowhere"], "no checkpoint at nowhere"),
        (["train", "--data", "nowhere.txt"], "cannot read nowhere.txt"),
        (["train", "--width", "10", "--heads", "3"], "not a multiple of --heads 3"),
        (["train", "--batch", "0"], "--batch"),
        (["train", "--dropout", "1"], "--dropout"),
        (["train", "--resume", "nowhere"], "no checkpoint at nowhere"),
        (
            ["train", "--model", "mlp", "--heads", "2", "--context", "8"],
            "--model mlp has no use for --heads, --context",
        ),
        (["train", "--model", "mlp", "--data", "manual"], "--model mlp reads --data digits, not manual"),
    ],
)
def test_mistakes_get_a_message(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code in (1, 2) and message in result.output
    assert "Traceback" not in result.output


def test_an_empty_corpus(tmp_path):
    (tmp_path / "empty.txt").write_text("")
    result = CliRunner().invoke(main, ["train", "--data", str(tmp_path / "empty.txt"), "--out", str(tmp_path)])
    assert result.exit_code == 1 and "0 characters" in result.output


def test_an_unknown_prompt_character(finished):
    result = CliRunner().invoke(main, ["generate", str(finished), "--prompt", "the ✓"])
    assert result.exit_code == 1 and "'✓' at position 4" in result.output


@pytest.mark.parametrize("part", [0, 3, 8, 100, 0.5, 0.99])
def test_a_truncated_checkpoint_is_named(finished, tmp_path, part):
    data = (finished / "checkpoint.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(data[: part if isinstance(part, int) else int(part * len(data))])
    with pytest.raises(CheckpointError, match="not a whole checkpoint"):
        load(tmp_path / "cut.safetensors")


def test_a_foreign_safetensors_file_is_named(tmp_path):
    from safetensors.numpy import save_file

    save_file({"x": np.zeros(3)}, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match="not a checkpoint of gradtape"):
        load(tmp_path / "x.safetensors")


def test_a_full_disk_leaves_the_earlier_checkpoint(finished, tmp_path, monkeypatch):
    saved = load(finished)
    path = tmp_path / "checkpoint.safetensors"
    save(path, saved)
    before = path.read_bytes()

    def full(path, data):
        path.write_bytes(data[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gradtape.cli.checkpoints.write", full)
    with pytest.raises(CheckpointError, match="No space left on device; the earlier .* is untouched"):
        save(path, saved)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.safetensors"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root writes anywhere")
def test_a_read_only_folder_is_named(corpus, tmp_path):
    tmp_path.chmod(0o500)
    result = CliRunner().invoke(main, arguments(corpus, tmp_path, "--steps", 2))
    assert result.exit_code == 1 and "cannot write" in result.output


def test_the_run_folder_is_a_file(corpus, tmp_path):
    (tmp_path / "gpt").write_text("")
    result = CliRunner().invoke(main, arguments(corpus, tmp_path, "--steps", 2))
    assert result.exit_code == 1 and "cannot write" in result.output


def trigrams(text: str) -> dict[str, float]:
    counts: dict[str, float] = {}
    for i in range(len(text) - 2):
        counts[text[i : i + 3]] = counts.get(text[i : i + 3], 0) + 1
    return {k: v / (len(text) - 2) for k, v in counts.items()}


def divergence(sample: str, corpus: str) -> float:
    """Kullback-Leibler divergence of the sample's trigrams from the corpus's, unseen ones floored at 1e-6."""
    expected = trigrams(corpus)
    return sum(p * np.log(p / expected.get(k, 1e-6)) for k, p in trigrams(sample).items())


def test_what_a_trained_model_writes_is_nearer_to_the_corpus(corpus, tmp_path):
    result = CliRunner().invoke(main, arguments(corpus, tmp_path, "--steps", 400, "--lr", 0.01, "--eval-every", 400))
    assert result.exit_code == 0, result.output
    from gradtape import compile, manual_seed
    from gradtape.cli.tasks import build_model

    saved, text = load(tmp_path / "gpt"), corpus.read_text()
    tokenizer = CharTokenizer(saved.info["vocabulary"])
    samples = []
    for trained in (True, False):
        manual_seed(0)
        model = build_model(saved.info["model"])
        if trained:
            model.load_state_dict(saved.weights)
        step = compile(model, threads=1)
        samples.append(write(step, tokenizer, "\n", 300, saved.info["model"]["context"], seed=1))
    unigram = "".join(np.random.default_rng(0).choice(list(text), 300))
    trained, untrained, drawn = (divergence(s, text) for s in (*samples, unigram))
    assert trained < 0.5 * min(untrained, drawn), (trained, untrained, drawn)
