"""What the report says, against what the program itself says."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradtape as gt
from gradtape.ir.tape import Tape
from gradtape.report import contents, page, plan_of
from gradtape.report.html import LIBRARIES, SCRIPTS, embedded
from gradtape.report.tape import tape_data
from layout import ROOT

BATCH = np.random.default_rng(0).integers(0, 11, (2, 3, 8))


def compiled(threads: int = 2) -> gt.Compiled:
    model = gt.models.GPT(vocab=11, context=8, width=16, depth=2, heads=2)
    return gt.compile(model, *BATCH, loss=gt.cross_entropy, optimizer=gt.AdamW(lr=1e-3), threads=threads)


def data_of(path: Path) -> dict[str, Any]:
    """The data that a report holds."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', path.read_text("utf-8"), re.DOTALL)
    assert found
    return json.loads(found[1])


@pytest.fixture(scope="module")
def made() -> gt.Compiled:
    return compiled()


@pytest.fixture
def step(made: gt.Compiled) -> gt.Compiled:
    """The training step, whatever was called last."""
    made.prepare("step", True, BATCH)
    return made


@pytest.fixture(scope="module")
def data(made: gt.Compiled, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return data_of(made.report(tmp_path_factory.mktemp("report") / "report.html", *BATCH, target="a:b"))


def test_overview(step: gt.Compiled, data: dict[str, Any]) -> None:
    overview, model = data["overview"], step.model
    assert model is not None
    assert overview["parameters"] == overview["trainable"] == model.num_parameters()
    assert overview["tensors"] == len(model.parameters())
    assert overview["store"] == step.memory().store
    assert overview["nodes"]["traced"] == len(step.graph("traced").nodes)  # type: ignore[union-attr]
    assert overview["ok"] is True and data["target"] == "a:b"
    profile = step.profile(*BATCH, repeats=2)
    assert overview["flops"] == sum(w.flops for w in profile.instructions)
    assert overview["bytes"] == sum(w.bytes for w in profile.instructions)
    assert overview["time"]["share"] > 0  # above 1 where all of it is in a cache
    assert sum(k["count"] for k in overview["kinds"]) == overview["instructions"]


def test_gradients_are_those_of_the_batch(step: gt.Compiled, data: dict[str, Any]) -> None:
    _, gradients = step.value_and_grad(*BATCH)
    assert [row["path"] for row in data["flow"]] == list(gradients)
    for row in data["flow"]:
        np.testing.assert_allclose(row["gradient"], np.linalg.norm(gradients[row["path"]]), rtol=1e-6)
        assert row["verdict"] == "learns" and row["size"] == gradients[row["path"]].size


class Normed(gt.Module):
    def __init__(self) -> None:
        self.norm = gt.nn.BatchNorm2d(1)
        self.last = gt.nn.Linear(64, 10)

    def forward(self, x: Any) -> Any:
        return self.last(self.norm(x).reshape(x.shape[0], 64))


def test_a_report_trains_nothing(tmp_path: Path) -> None:
    """Running statistics of a BatchNorm, weights, optimizer state and the step count are as before, bit by bit."""
    x, y = np.random.default_rng(0).standard_normal((4, 1, 8, 8)).astype("f4"), np.arange(4)
    model = Normed()
    step = gt.compile(model, loss=gt.cross_entropy, optimizer=gt.AdamW(lr=1e-3), threads=1)
    step(x, y)
    names = [name for name, _ in model.named_buffers()]
    assert names
    before = {k: v.copy() for k, v in {**step.state_dict(), **step.optimizer_state_dict()}.items()}
    step.gradient_norms(x, y)
    step.report(tmp_path / "report.html", x, y)
    after = {**step.state_dict(), **step.optimizer_state_dict()}
    assert set(names) <= set(before) and step.step_count == 1
    for name, array in before.items():
        np.testing.assert_array_equal(array, after[name], err_msg=name)


def test_gradient_norms_of_a_function(tmp_path: Path) -> None:
    w = gt.Parameter(np.array([1.0, 2.0, 3.0], "f4"))
    step = gt.compile(lambda x: (w * w * x).sum(), threads=1)
    assert step.gradient_norms(np.ones(3, "f4")) == pytest.approx({"w": np.sqrt(4 * 14)})


# the tape -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("threads", [1, 2])
def test_buffers_are_reserved_while_they_are_used(threads: int) -> None:
    """From the first instruction that touches one to the last; two that share memory are never there together."""
    step = compiled(threads)
    tape = step.graph("tape")
    assert isinstance(tape, Tape)
    latest = step._latest
    assert latest is not None
    found = tape_data(tape, plan_of(latest.program), step.picture("fused"), None)
    buffers, instructions = found["buffers"], found["instructions"]
    assert len(instructions) == len(tape.instructions())
    placed = [b for b in buffers if "offset" in b]
    assert placed and max(b["offset"] + b["bytes"] for b in placed) <= found["arena"]
    for number, instruction in enumerate(instructions):
        for index in {*instruction["reads"], *instruction["writes"]}:
            if "offset" in buffers[index]:
                assert buffers[index]["from"] <= number <= buffers[index]["to"], buffers[index]["name"]
    for i, a in enumerate(placed):
        for b in placed[:i]:
            together = a["from"] <= b["to"] and b["from"] <= a["to"]
            apart = a["offset"] + a["bytes"] <= b["offset"] or b["offset"] + b["bytes"] <= a["offset"]
            assert apart or not together, (a, b)


def test_phases_of_instructions_come_in_order(data: dict[str, Any]) -> None:
    phases = [i["phase"] for i in data["tape"]["instructions"]]
    assert phases[0] == "forward" and phases[-1] == "update" and "backward" in phases
    assert phases.index("backward") > phases.index("forward")
    last = len(phases) - 1 - phases[::-1].index("backward")
    assert last < len(phases) - 1 and "forward" not in phases[last:]


def test_every_measured_span_is_an_instruction_of_a_thread(data: dict[str, Any]) -> None:
    tape = data["tape"]
    shares = {(i, t) for i, instr in enumerate(tape["instructions"]) for t, n in enumerate(instr["shares"]) if n}
    assert {(i, t) for i, t, _, _ in tape["spans"]} == shares
    assert all(start <= stop for _, _, start, stop in tape["spans"])


def test_a_loop(tmp_path: Path) -> None:
    model = gt.models.GRU(11, 8, 1)
    step = gt.compile(model, *BATCH, loss=gt.cross_entropy, optimizer=gt.SGD(lr=0.1), threads=2)
    tape = data_of(step.report(tmp_path / "report.html", *BATCH))["tape"]
    assert any(i["rounds"] == BATCH.shape[-1] for i in tape["instructions"])


# the file -------------------------------------------------------------------------------------------------------------
def test_pictures_are_whole(step: gt.Compiled, data: dict[str, Any]) -> None:
    packed = data["pictures"]
    strings = packed["strings"]
    assert len(strings) == len(set(strings))
    for stage in packed["stages"]:
        if stage["once"]:
            assert len(stage["nodes"]) < len(step.picture(stage["stage"]).nodes)
            continue
        drawn = step.picture(stage["stage"])
        for node, row in zip(drawn.nodes, stage["nodes"], strict=True):
            read = dict(zip(packed["fields"]["node"], row, strict=True))
            assert strings[read["id"]] == node.id and strings[read["derivative"]] == node.derivative
            assert read["line"] == node.line and tuple(read["instructions"]) == node.instructions
        assert len(stage["edges"]) == len(drawn.edges)
    assert {s["stage"] for s in packed["stages"] if s["once"]} == {"traced", "differentiated", "fused"}


def test_source_lines_are_those_of_the_files(data: dict[str, Any]) -> None:
    assert any(entry["name"] == "gradtape/models/gpt.py" for entry in data["source"].values())
    for file, entry in data["source"].items():
        lines = Path(file).read_text("utf-8").splitlines()
        assert entry["lines"]
        for number, text in entry["lines"].items():
            assert lines[int(number) - 1].rstrip() == text


@pytest.mark.parametrize("text", ["</script>", "<!-- <script>", "]]>", "\u2028\u2029", "&amp;", '"\\', "\ud800", "é∂"])
def test_embedded_json_is_the_same_data_and_no_markup(text: str) -> None:
    made = embedded({text: [text]})
    assert json.loads(made) == {text: [text]}
    assert not set(made) & set("<>&\u2028\u2029")
    made.encode("utf-8")


def test_numbers_that_are_no_json_are_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        embedded({"x": float("nan")})


def test_weights_that_are_not_finite_are_left_open(tmp_path: Path) -> None:
    step = compiled(1)
    assert step.model is not None
    step.model.parameters()[0].data[0, 0] = np.inf
    flow = data_of(step.report(tmp_path / "report.html"))["flow"]
    assert flow[0]["weight"] is None and flow[1]["weight"] is not None


def test_the_page_asks_for_nothing() -> None:
    text = page(contents({}, title="<nothing>"))
    assert "<title>&lt;nothing&gt; · gradtape</title>" in text
    own = text
    for name in LIBRARIES:
        own = own.replace((ROOT / "report" / "vendor" / name).read_text("utf-8"), "")
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", own)
    assert not re.search(r"\b(fetch|XMLHttpRequest|WebSocket|innerHTML|outerHTML|insertAdjacentHTML|eval\()", own)
    assert "default-src 'none'" in own


def test_every_script_is_in_the_page() -> None:
    folder = ROOT / "report" / "page"
    assert sorted(SCRIPTS) == sorted(f.name for f in folder.glob("*.js"))
    assert sorted(LIBRARIES) == sorted(f.name for f in (ROOT / "report" / "vendor").glob("*.js"))
    licences = (ROOT / "report" / "vendor" / "LICENSES").read_text("utf-8")
    assert all(name in licences for name in LIBRARIES)


def test_before_a_trace_it_says_what_to_do(tmp_path: Path) -> None:
    step = gt.compile(gt.models.MLP(3, 2), loss=gt.mse_loss, optimizer=gt.SGD(lr=0.1))
    with pytest.raises(RuntimeError, match="call it once"):
        step.report(tmp_path / "report.html")
