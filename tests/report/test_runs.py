"""What a training leaves behind, as the report reads it."""

import json
from pathlib import Path

import pytest

from gradtape.report import RunError, read_run
from gradtape.report.runs import thinned

NORMS = "step,parameter,gradient,update,weight\n1,a.weight,0.5,0.01,2.0\n1,b,nan,0.1,1\n2,a.weight,0.25,0.02,2.5\n"


def test_a_folder_of_gradtape_train(tmp_path: Path) -> None:
    lines = [{"step": i, "loss": 3.0 / i, "val_loss": 2.0 if i == 2 else None} for i in (1, 2, 3)]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 4, "lo')
    (tmp_path / "norms.csv").write_text(NORMS)
    training = read_run(tmp_path)
    assert training.name == tmp_path.name
    assert training.curves == {"loss": [(1, 3.0), (2, 1.5), (3, 1.0)], "val_loss": [(2, 2.0)]}
    assert training.norms["a.weight"] == [(1, 0.5, 0.01, 2.0), (2, 0.25, 0.02, 2.5)]
    assert training.gradients() == {"a.weight": 0.25, "b": 0.0}


def test_a_csv_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("step,loss,note\n1,2.5,first\n2,,\n3.0,inf,\n4,1.5,last\n")
    training = read_run(path)
    assert (training.name, training.curves) == ("mine", {"loss": [(1, 2.5), (4, 1.5)]})


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "epoch,loss\n1,2\n", "no column named step"),
        ("a.jsonl", "[1, 2]\nhello\n", "no column named step"),
        ("a.csv", "", "no column named step"),
        ("a.csv", "step,loss\n1.5,2\n", "no column named step"),
    ],
)
def test_what_is_no_run(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(RunError, match=said):
        read_run(tmp_path / name)


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="neither log.jsonl nor norms.csv"):
        read_run(tmp_path)
    with pytest.raises(RunError, match="there is no run"):
        read_run(tmp_path / "nothing")
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RunError, match="cannot read"):
        read_run(tmp_path / "a.csv")


def test_a_long_curve_is_thinned_out_but_keeps_its_peaks() -> None:
    points = [(i, 100.0 if i == 5_003 else float(i % 7)) for i in range(20_000)]
    kept = thinned(points, 1000)
    assert 900 < len(kept) <= 1001 and (5_003, 100.0) in kept and kept[-1] == points[-1]
    assert kept == sorted(kept) and min(y for _, y in kept) == 0.0
    assert thinned(points[:10], 1000) == points[:10]
