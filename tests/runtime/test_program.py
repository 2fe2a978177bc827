"""Compiled programs against the interpreter: every row of every op; sizes, errors and results of one program."""

import numpy as np
import pytest

import rows  # noqa: F401  (fills ROWS)
from cases import ROWS
from gradtape.ir.op import OPS
from gradtape.passes.lower import lower
from gradtape.runtime.program import GuardViolation, NotFinite
from tapes import Batch, expanded, interpreted, sharing_everything, split_values, tape_of

TOLERANCE = {np.dtype(np.float32): 2e-5, np.dtype(np.float64): 1e-11}


def agree(actual, expected, what=""):
    """Equal up to rounding, relative to the largest finite element."""
    assert actual.dtype == expected.dtype and actual.shape == expected.shape, what
    if expected.dtype.kind != "f":
        np.testing.assert_array_equal(actual, expected, err_msg=str(what))
        return
    finite = np.abs(expected[np.isfinite(expected)])
    scale = max(1.0, float(finite.max())) if finite.size else 1.0
    tolerance = TOLERANCE[expected.dtype]
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance * scale, err_msg=str(what))


@pytest.fixture(scope="module", params=["f32 i64 bool", pytest.param("f64 i32", marks=pytest.mark.slow)])
def compiled_rows(request):
    """(case, dtype, tape) of every row, compiled in one object."""
    batch, found = Batch(), []
    for row in ROWS.values():
        for case, dtype in row.runs(*request.param.split()):
            graph = case.graph(dtype)
            if graph.inputs:
                found.append((case, dtype, graph, batch.add(tape_of(graph))))
    batch.compile()
    return batch, found


def test_every_row_compiled_equals_the_interpreter(compiled_rows):
    batch, found = compiled_rows
    assert len(found) > 400
    for case, dtype, graph, tape in found:
        values = case.values(dtype)
        expected, _ = interpreted(graph, values)
        # kernels by hand say themselves which part of the work a thread has
        for threads in (1, 3) if OPS[case.op].kind == "kernel" else (1,):
            with sharing_everything():
                actual = batch.program(tape, {}, threads).run(values)
            for name, array in expected.items():
                agree(actual[name], array, f"{case} {dtype} on {threads}")


def test_integers_of_32_bits_wrap_around_inside_a_kernel():
    from gradtape.ir.text import parse

    graph = parse("""
graph wrap(%n: i32[4] input) {
  %0: i32[4] = add(%n, 1)
  %1: bool[4] = greater(%0, 0)
  %2: i32[4] = mul(%n, 2)
  %3: i32[4] = floor_divide(%2, 2)
  %4: i32[] = sum(%n) {axes=[0], keepdims=false}
  %5: bool[] = greater(%4, 0)
  %6: i32[4] = neg(%n)
  %7: bool[4] = less(%6, 0)
  return a=%1, b=%3, c=%5, d=%7
}
""")
    values = {"n": np.array([2**31 - 1, 5, 2**31 - 1, -(2**31)], np.int32)}
    batch = Batch()
    program = batch.program(batch.add(lower(expanded(graph))), {})
    for name, array in interpreted(graph, values)[0].items():
        np.testing.assert_array_equal(program.run(values)[name], array, name)


GRAPH = """
graph step(%x: f32[B, 8] input, %w: f32[8] param, %m: f32[8] state) where B <= 64 {
  %0: f32[B, 8] = mul(%x, %w)
  %1: f32[B, 8] = log(%0)
  %2: f32[] = sum(%1) {axes=[0, 1], keepdims=false}
  %3: f32[8] = sum(%1) {axes=[0], keepdims=false}
  %4: f32[8] = add(%m, %3)
  %5: f32[8] = sub(%w, %4)
  return loss=%2
  update %w = %5
  update %m = %4
}
"""


@pytest.fixture(scope="module")
def step():
    from gradtape.ir.text import parse

    graph = parse(GRAPH)
    batch = Batch()
    tape = batch.add(lower(expanded(graph), ("loss",)))
    batch.compile()
    return graph, batch, tape


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("size", [1, 5, 64])
def test_one_tape_serves_every_size(step, threads, size):
    graph, batch, tape = step
    rng = np.random.default_rng(size)
    values = {"x": rng.uniform(1, 2, (size, 8)).astype("f4"), "w": np.ones(8, "f4"), "m": np.zeros(8, "f4")}
    outputs, updates = interpreted(graph, values)
    inputs, store = split_values(graph, values)
    program = batch.program(tape, store, threads)
    agree(program.run(inputs)["loss"], outputs["loss"])
    agree(store["w"], updates["w"])
    agree(store["m"], updates["m"])


def test_a_loss_that_is_not_finite_updates_nothing(step):
    graph, batch, tape = step
    values = {"x": np.full((3, 8), -1, "f4"), "w": np.ones(8, "f4"), "m": np.full(8, 2, "f4")}
    inputs, store = split_values(graph, values)
    with pytest.raises(NotFinite, match="loss"):
        batch.program(tape, store, 2).run(inputs)
    np.testing.assert_array_equal(store["w"], values["w"])
    np.testing.assert_array_equal(store["m"], values["m"])


def test_sizes_out_of_range_are_refused(step):
    graph, batch, tape = step
    inputs, store = split_values(graph, {"x": np.ones((65, 8), "f4"), "w": np.ones(8, "f4"), "m": np.zeros(8, "f4")})
    with pytest.raises(GuardViolation, match="B = 65, but the program needs 1 <= B <= 64"):
        batch.program(tape, store).run(inputs)
    with pytest.raises(GuardViolation, match="x: .*does not fit"):
        batch.program(tape, store).run({"x": np.ones((3, 7), "f4")})


def test_results_are_copies(step):
    graph, batch, tape = step
    values = {"x": np.ones((3, 8), "f4"), "w": np.ones(8, "f4"), "m": np.zeros(8, "f4")}
    inputs, store = split_values(graph, values)
    program = batch.program(tape, store)
    first = program.run(inputs)["loss"]
    kept = first.copy()
    program.run({"x": np.full((3, 8), 2, "f4")})
    np.testing.assert_array_equal(first, kept)


def test_a_size_may_come_before_the_symbol_that_it_is_made_of():
    from gradtape.ir.text import parse

    graph = parse("""
graph pair(%long: f32[2*T] input, %short: f32[T] input) {
  %0: f32[] = sum(%long) {axes=[0], keepdims=false}
  %1: f32[] = sum(%short) {axes=[0], keepdims=false}
  %2: f32[] = add(%0, %1)
  return out=%2
}
""")
    batch = Batch()
    program = batch.program(batch.add(lower(expanded(graph))), {})
    batch.compile()
    assert program.run({"long": np.ones(6, "f4"), "short": np.ones(3, "f4")})["out"] == 9
    with pytest.raises(GuardViolation, match=r"long: .*2\*T is 6 here, got 7"):
        program.run({"long": np.ones(7, "f4"), "short": np.ones(3, "f4")})
