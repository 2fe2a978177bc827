from typing import Any

import numpy as np
import pytest

from gradtape.ir import ops as _ops  # noqa: F401  fills the registry
from gradtape.ir.dims import Dim
from gradtape.ir.graph import Node
from gradtape.ir.interp import Interpreter, bind_dims, concrete, evaluate_graph
from gradtape.ir.text import parse

GRAPH = """\
graph g(%x: f32[2*B, 3] input, %y: f32[B] input, %w: f32[3] param) where B <= 9 {
  %0: f32[2*B, 3] = mul(%x, %w)
  %1: f32[2*B] = sum(%0) {axes=[1], keepdims=false}
  %2: f32[] = dim_scalar() {value=2*B + 1}
  %3: f32[3] = mul(%w, %2)
  %4: f32[B, 2] = full() {dtype="f32", shape=[B, 2], value=0.5}
  return sum=%1, count=%2, half=%4, three=3
  update %w = %3
  guard B != 4  ; model.py:3
}
"""
X = np.arange(12, dtype=np.float32).reshape(4, 3)
W = np.array([1, 2, 3], np.float32)
INPUTS = {"x": X, "y": np.zeros(2, np.float32), "w": W}


def test_outputs_and_updates() -> None:
    outputs, updates = Interpreter(parse(GRAPH), INPUTS).run()
    assert list(outputs) == ["sum", "count", "half", "three"] and list(updates) == ["w"]
    np.testing.assert_array_equal(outputs["sum"], X @ W)
    assert (outputs["count"], outputs["half"].shape, outputs["three"]) == (5, (2, 2), 3)
    np.testing.assert_array_equal(updates["w"], W * 5)
    np.testing.assert_array_equal(evaluate_graph(parse(GRAPH), INPUTS)["sum"], X @ W)


def test_results_have_the_declared_dtype() -> None:
    graph = parse(GRAPH)
    outputs = evaluate_graph(graph, {k: v.astype(np.float64) for k, v in INPUTS.items()})
    assert outputs["sum"].dtype == np.float32


def test_every_node_is_watched_once_in_order() -> None:
    graph, seen = parse(GRAPH), []

    def watch(node: Node, operands: list, results: tuple[np.ndarray, ...]) -> None:
        seen.append((node, [r.shape for r in results]))

    Interpreter(graph, INPUTS, watch).run()
    assert [node for node, _ in seen] == list(graph.nodes)
    assert [shapes for _, shapes in seen] == [[(4, 3)], [(4,)], [()], [(3,)], [(2, 2)]]


def test_the_watcher_sees_a_node_before_the_next_one_runs() -> None:
    """That is what a search for the first wrong value stands on."""
    graph = parse("graph g(%x: f32[1] input) {\n %0: f32[1] = log(%x)\n %1: f32[1] = neg(%0)\n return out=%1\n}")

    def watch(node: Node, operands: list, results: tuple[np.ndarray, ...]) -> None:
        if not np.isfinite(results[0]).all():
            raise FloatingPointError(node.op)

    with pytest.raises(FloatingPointError, match="log"):
        Interpreter(graph, {"x": np.array([-1.0])}, watch).run()


def test_values_can_be_asked_for() -> None:
    graph = parse(GRAPH)
    interpreter = Interpreter(graph, INPUTS)
    assert interpreter.dims == {"B": 2}
    interpreter.run()
    np.testing.assert_array_equal(interpreter[graph.nodes[0].output], X * W)
    assert interpreter[graph.output("three")] == 3


def test_sizes_may_be_given() -> None:
    graph = parse(
        'graph g(%x: f32[] input) {\n %0: f32[T] = iota() {axis=0, dtype="f32", shape=[T]}\n return out=%0\n}'
    )
    assert Interpreter(graph, {"x": 1.0}, dims={"T": 4}).run()[0]["out"].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"w": None}, r"g: input w: f32\[3\] is missing"),
        ({"w": np.zeros(4)}, r"g: input w: f32\[3\] does not fit: 3 is 3 here, got 4"),
        ({"w": np.zeros((3, 1))}, r"g: input w: f32\[3\] does not fit: expected 1 dimensions, got 2"),
        ({"y": np.zeros(3)}, r"g: input x: f32\[2\*B, 3\] does not fit: 2\*B is 6 here, got 4"),
        ({"x": np.zeros((20, 3)), "y": np.zeros(10)}, "g: B is 10, it needs 1 <= B <= 9"),
        ({"x": np.zeros((0, 3)), "y": np.zeros(0)}, "g: B is 0, it needs 1 <= B <= 9"),
        ({"x": np.zeros((8, 3)), "y": np.zeros(4)}, r"g is valid for B != 4 only \(model.py:3\)"),
    ],
)
def test_inputs_that_do_not_fit(change: dict[str, Any], says: str) -> None:
    inputs = {k: v for k, v in {**INPUTS, **change}.items() if v is not None}
    with pytest.raises(ValueError, match=says):
        evaluate_graph(parse(GRAPH), inputs)


def test_dims_from_shapes() -> None:
    assert bind_dims(parse(GRAPH), INPUTS) == {"B": 2}
    T = Dim("T")
    assert concrete((T, (T + 1, "a"), 2.5, None), {"T": 3}) == (3, (4, "a"), 2.5, None)


def test_a_reference_that_fails_is_not_hidden() -> None:
    graph = parse("graph g(%t: f32[3] input, %i: i64[2] input) {\n %0: f32[2] = take(%t, %i)\n return out=%0\n}")
    with pytest.raises(IndexError, match="index 3 is out of range for a table of 3 rows"):
        evaluate_graph(graph, {"t": np.zeros(3), "i": np.array([0, 3])})
