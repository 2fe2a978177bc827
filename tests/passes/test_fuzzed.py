"""Programs on which compilation went wrong once, as tests/fuzz.py printed them."""

import numpy as np
import pytest

from fuzz import THREADS, checked_tape, run_compiled, run_plain
from fuzz_judge import expect
from fuzz_programs import Program
from gradtape.ir.text import parse
from gradtape.ir.types import DTYPES
from tapes import Batch

# what was wrong: (the program, the values of its inputs, outputs that must be finite before anything is updated)
FOUND: dict[str, tuple] = {
    "scatter_add wrote to the start of the concat that it is a part of": (
        """
graph scattered(%i: i32[1] input, %x: f64[1] input) {
  %0: f64[2] = scatter_add(%i, %x) {rows=2}
  %1: f64[3] = concat(%x, %0) {axis=0}
  return out=%1
}
""",
        {"i": [1], "x": [4.25]},
    ),
    "take wrote to the start of the concat that it is a part of": (
        """
graph taken(%i: i32[2] input, %x: f64[2] input) {
  %0: f64[2] = take(%x, %i)
  %1: f64[4] = concat(%x, %0) {axis=0}
  return out=%1
}
""",
        {"i": [1, 0], "x": [4.25, 1.5]},
    ),
    "a draw was taken for one number where seed and step are known": (
        """
graph drawn() {
  %0: i64[1] = iota() {axis=0, dtype="i64", shape=[1]}
  %1: i64[] = reshape(%0) {shape=[]}
  %2: f64[2, 1] = uniform(%1, %1) {dtype="f64", shape=[2, 1], site=0}
  return out=%2
}
""",
        {},
    ),
    "a matrix with rows of a size that may be 0 had no product": (
        """
graph cut(%x: f64[B, 2] input, %y: f64[B - 1, B - 1] input) where B <= 4096 {
  %0: f64[B - 1, 1] = slice(%x) {size=[B - 1, 1], start=[1, 1], step=[1, 1]}
  %1: f64[B - 1, 1] = matmul(%y, %0)
  return out=%1
}
""",
        {"x": [[0.5, 1.0], [2.0, 3.0], [4.0, 5.0]], "y": [[1.0, 2.0], [-1.0, 0.5]]},
    ),
    "a matrix with rows of a size that is 0 has an empty product": (
        """
graph empty(%x: f64[B, 2] input, %y: f64[B - 1, B - 1] input) where B <= 4096 {
  %0: f64[B - 1, 2] = slice(%x) {size=[B - 1, 2], start=[1, 0], step=[1, 1]}
  %1: f64[B - 1, 2] = matmul(%y, %0)
  return out=%1
}
""",
        {"x": [[0.5, 1.0]], "y": np.zeros((0, 0))},
    ),
    "a question about a number that is known had no dtype": (
        """
graph asked(%x: f64[1, 1, 1] input) {
  %0: f64[1, 1, 1] = full() {dtype="f64", shape=[1, 1, 1], value=1.0}
  %1: bool[1, 1, 1] = isinf(%0)
  %2: f64[1, 1, 1] = where(%1, %x, 2.0)
  return out=%2
}
""",
        {"x": [[[0.5]]]},
    ),
    "two numbers that are known were compared as bools": (
        """
graph compared(%x: f64[2] input) {
  %0: f64[2] = full() {dtype="f64", shape=[2], value=1.0}
  %1: f64[2] = full() {dtype="f64", shape=[2], value=2.0}
  %2: bool[2] = equal(%0, %1)
  %3: f64[2] = where(%2, %x, 7.0)
  return out=%3
}
""",
        {"x": [0.5, 0.25]},
    ),
    "sums of parts of arrays of different rank were looked at as parts of one": (
        """
graph parts(%x: f64[] input, %y: f64[1, 1, 1] input) {
  %0: f64[] = unslice(%x) {shape=[], start=[], step=[]}
  %1: f64[2, 1, 2] = unslice(%y) {shape=[2, 1, 2], start=[0, 0, 1], step=[2, 2, 1]}
  %2: f64[2, 1, 2] = add(%0, %1)
  return out=%2
}
""",
        {"x": 0.5, "y": [[[2.0]]]},
    ),
    "a result that is worked out at the end read a parameter that had been updated": (
        """
graph late(%w: f64[] param) {
  %0: f64[1] = reshape(%w) {shape=[1]}
  %1: f64[1] = cos(%0)
  %2: f64[] = reshape(%1) {shape=[]}
  %3: f64[] = full() {dtype="f64", shape=[], value=0.5}
  return out=%2
  update %w = %3
}
""",
        {"w": 0.25},
    ),
    "zero was divided by a half of a product that had not been computed": (
        """
graph divided(%x: f64[1, 2] input, %y: f64[2, 2] input) {
  %0: f64[1, 2] = matmul(%x, %y)
  %1: f64[1, 2] = div(0.0, %0)
  return out=%1
}
""",
        {"x": [[1.0, 1.0]], "y": [[1.0, 1.0], [1.0, 1.0]]},
    ),
    "a number that is returned, or stored, had no array": (
        """
graph numbers(%w: f32[] param) {
  return out=1.5, count=3, flag=true
  update %w = 0.25
}
""",
        {"w": 1.0},
    ),
}


def program(name: str) -> Program:
    text, given, *checks = FOUND[name]
    graph = parse(text)
    values = {v.name: np.array(given[v.name], DTYPES[v.type.dtype]) for v in graph.inputs}
    return Program(name, graph, values, *checks)


@pytest.mark.parametrize("name", FOUND)
def test_as_plain_python(name: str) -> None:
    found = program(name)
    for threads in THREADS:
        run_plain(found, expect(found.graph, found.values), checked_tape(found), threads)


@pytest.fixture(scope="module")
def compiled() -> tuple[Batch, dict]:
    batch = Batch()
    return batch, {name: batch.add(checked_tape(program(name))) for name in FOUND}


@pytest.mark.parametrize("name", FOUND)
def test_compiled(name: str, compiled: tuple) -> None:
    batch, tapes = compiled
    found = program(name)
    for threads in THREADS:
        run_compiled(found, expect(found.graph, found.values), tapes[name], batch, threads)
