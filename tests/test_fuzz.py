"""A few random programs in every run of the suite; that the fuzzer draws every op, finds what is wrong and makes it
small. The large numbers are run by hand: `python tests/fuzz.py --help`."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

import fuzz
import fuzz_tape
from fuzz_judge import Disagreement, compare, expect, named
from fuzz_programs import draw
from gradtape.ir.graph import Graph
from gradtape.ir.interp import Interpreter
from gradtape.ir.op import OPS
from gradtape.ir.tape import View
from gradtape.ir.text import parse
from gradtape.passes import layout, places

SEEDS = 20_261_124


def run(mode: str, count: int, **how: int) -> fuzz.Report:
    report = fuzz.run(mode, range(SEEDS, SEEDS + count), fuzz.Report(), shrinks=1, **how)
    assert not report.failures, "\n\n".join(report.failures)
    assert report.programs == count
    assert np.mean(report.judged) > 0.95 and min(report.judged) >= 0.0
    return report


# what must hold -------------------------------------------------------------------------------------------------------
def test_programs_as_plain_python() -> None:
    run("plain", 60)


def test_gradients_of_gradients_as_plain_python() -> None:
    run("plain", 20, order=2, most=30)


def test_compiled_programs() -> None:
    run("compiled", 16, most=30)


def test_compiled_gradients_of_gradients() -> None:
    run("compiled", 6, order=2, most=20)


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs PyTorch")
def test_programs_by_pytorch() -> None:
    run("torch", 40)
    run("torch", 20, order=2)


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="needs JAX")
def test_programs_by_jax() -> None:
    run("jax", 12)
    run("jax", 4, order=2)


@pytest.mark.slow
@pytest.mark.parametrize("block", range(10))
def test_many_programs(block: int) -> None:
    """The numbers that a release is held to: 10,000 plain, 300 compiled, 100 of second order."""
    report = fuzz.Report()
    fuzz.run("plain", range(1000 * block, 1000 * (block + 1)), report)
    fuzz.run("compiled", range(30 * block, 30 * (block + 1)), report)
    fuzz.run("compiled", range(10 * block, 10 * (block + 1)), report, order=2, most=25)
    assert not report.failures, "\n\n".join(report.failures)


def test_two_processes_make_the_same_tape() -> None:
    """Whatever the order in which they meet sets and dicts of objects."""
    code = (
        "import hashlib, fuzz, fuzz_programs\n"
        "for seed in range(40):\n"
        "    tape = fuzz.checked_tape(fuzz_programs.draw(seed))\n"
        "    text = str(tape) + ''.join(str(r) for r in tape.rows.values())\n"
        "    print(seed, hashlib.sha256(text.encode()).hexdigest())\n"
    )
    package = Path(places.__file__).parents[2]
    said = []
    for seed in ("1", "2"):
        path = os.pathsep.join([str(Path(fuzz.__file__).parent), str(package)])
        env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path}
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        said.append(done.stdout)
    assert said[0].count("\n") == 40
    assert said[0] == said[1]


def test_every_op_is_drawn() -> None:
    """An op joins by its row. One that never appears here needs a move in tests/fuzz_programs.py."""
    seen: set[str] = set()
    for seed in range(500):
        seen |= {n.op for n in draw(seed).graph.nodes}
    assert set(OPS) - seen == set()


def test_draws_are_as_varied_as_they_are_meant_to_be() -> None:
    drawn = [draw(seed) for seed in range(150)]
    graphs = [p.graph for p in drawn]
    sizes = [len(p.forward.nodes) for p in drawn if p.forward]
    assert min(sizes) < 15 and max(sizes) > 50
    assert sum(bool(g.symbols) for g in graphs) > 20
    assert sum(bool(g.updates) for g in graphs) > 50
    assert sum(any(0 in v.shape for v in p.values.values()) for p in drawn) > 10
    assert sum(any(v in g.inputs for _, v in g.outputs) for g in graphs) > 10
    assert sum(any(n.op == "slice" and min(n.attrs["step"], default=1) < 0 for n in g.nodes) for g in graphs) > 10
    assert sum(any(len(n.attrs.get("axes", ())) > 1 and n.op == "sum" for n in g.nodes) for g in graphs) > 50
    assert {v.type.dtype for g in graphs for v in g.inputs} == {"f32", "f64", "i32", "i64", "bool"}
    assert {r for g in graphs for r in g.roles.values()} == {"param", "input", "buffer", "state", "scalar"}
    assert drawn[3].graph == draw(3).graph != draw(4).graph


# that it can fail -----------------------------------------------------------------------------------------------------
def test_a_wrong_pass_is_found_and_made_small() -> None:
    """A slice that forgets where it starts."""
    right = layout.strided_view

    def wrong(node: object, source: View) -> View | None:
        made = right(node, source)  # type: ignore[arg-type]
        return View(source.buffer, source.offset, made.strides) if made and node.op == "slice" else made  # type: ignore[attr-defined]

    with mock.patch.object(places, "strided_view", wrong):
        report = fuzz.run("plain", range(20), fuzz.Report(), shrinks=1, say=lambda text: None)
    assert len(report.failures) > 3
    first = report.failures[0]
    assert first.count(" = ") <= 3 and "slice(" in first, first
    text = first[first.index("graph ") : first.index("\n}\n") + 3]
    assert len(parse(text).nodes) <= 2


@pytest.mark.parametrize("peer", fuzz.PEERS)
def test_a_wrong_derivative_is_found(peer: str) -> None:
    pytest.importorskip(peer)
    with mock.patch.object(OPS["tanh"], "vjp", lambda g, y, x: (g * (1.0 - y),)):
        report = fuzz.run(peer, range(40), fuzz.Report(), shrinks=0, say=lambda text: None)
    assert len(report.failures) > 3


def judged(text: str, **values: float | list) -> tuple:
    graph = parse(text)
    given = {k: np.array(v, np.float32 if "f32" in text else np.float64) for k, v in values.items()}
    return graph, given, expect(graph, given)


def results(graph: Graph, given: dict) -> dict[str, np.ndarray]:
    return named(*Interpreter(graph, given).run())


ONE = """
graph one(%x: f64[3] input) {{
  %0: f64[3] = tanh(%x)
  {}
  return out=%1
}}
"""


def test_a_small_error_is_found_and_a_rounding_is_not() -> None:
    graph, given, expected = judged(ONE.format("%1: f64[3] = exp(%0)"), x=[0.3, -0.7, 1.1])
    assert expected.judged == 1.0
    right = results(graph, given)
    compare(right, expected)
    compare({"out": right["out"] * (1 + 1e-14)}, expected)
    for wrong in (
        right["out"] * (1 + 1e-9),
        np.where([0, 1, 0], np.nan, right["out"]),
        right["out"].astype(np.float32),
    ):
        with pytest.raises(Disagreement, match="out"):
            compare({"out": wrong}, expected)
    with pytest.raises(Disagreement, match="out is missing"):
        compare({}, expected)


def test_what_roundings_decide_is_not_judged() -> None:
    """Beside a jump any result is right; off it none but one. Exact numbers are judged on the jump, too."""
    beside = judged(ONE.format("%1: bool[3] = greater(%0, 0.29131261245159090)"), x=[0.3, -0.7, 1.1])[2]
    assert np.isnan(beside.allowed["out"]).tolist() == [True, False, False]
    text = ONE.format("%1: bool[3] = greater_equal(%x, 0.5)")
    assert judged(text, x=[0.5, -0.5, 0.25])[2].judged == 1.0


def test_cancellation_is_judged_as_loosely_as_it_cancels() -> None:
    graph, given, expected = judged(ONE.format("%1: f64[3] = sub(%0, 0.29131261245159)"), x=[0.3, -0.7, 1.1])
    assert expected.allowed["out"][0] < 1e-9
    compare({"out": results(graph, given)["out"] + 1e-12}, expected)


def test_whatever_is_read_is_a_tape_or_is_told_to_be_none():
    read, sound = fuzz_tape.fuzz(seed=0, count=300)
    assert read == 300 and 0 < sound < 300
