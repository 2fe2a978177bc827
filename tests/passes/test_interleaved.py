"""Every other element: loads beside each other share a pointer, parts of a weave are written where they belong."""

import numpy as np
import pytest

import gradtape.ir.ops  # noqa: F401
from gradtape.ir.text import parse
from tapes import Batch, interpreted, run_plainly, sharing_everything, tape_of

HALVES = """
graph g(%x: f32[3, 10] input) {
  %0: f32[3, 5] = slice(%x) {size=[3, 5], start=[0, 0], step=[1, 2]}
  %1: f32[3, 5] = slice(%x) {size=[3, 5], start=[0, 1], step=[1, 2]}
  %2: f32[3, 5] = maximum(%0, %1)
  return out=%2
}"""
THIRDS = """
graph g(%x: f32[N, 11] input) {
  %0: f32[N, 3] = slice(%x) {size=[N, 3], start=[0, 1], step=[1, 3]}
  %1: f32[N, 3] = slice(%x) {size=[N, 3], start=[0, 3], step=[1, 3]}
  %2: f32[N, 3] = slice(%x) {size=[N, 3], start=[0, 4], step=[1, 3]}
  %3: f32[N, 3] = mul(%0, %1)
  %4: f32[N, 3] = sub(%3, %2)
  return out=%4
}"""
WOVEN = """
graph g(%x: f32[4, 6] input, %g: f32[2, 3] input) {
  %0: f32[2, 3] = slice(%x) {size=[2, 3], start=[0, 0], step=[2, 2]}
  %1: f32[2, 3] = slice(%x) {size=[2, 3], start=[0, 1], step=[2, 2]}
  %2: f32[2, 3] = slice(%x) {size=[2, 3], start=[1, 0], step=[2, 2]}
  %3: f32[2, 3] = slice(%x) {size=[2, 3], start=[1, 1], step=[2, 2]}
  %4: f32[2, 3] = mul(%0, %g)
  %5: f32[2, 3] = mul(%1, %g)
  %6: f32[2, 3] = mul(%2, %g)
  %7: f32[2, 3] = mul(%3, %g)
  %8: f32[4, 6] = weave(%4, %5, %6, %7) {shape=[4, 6], step=[2, 2]}
  return out=%8
}"""
PRODUCT = """
graph g(%x: f32[3, 4] input, %y: f32[4, 2] input) {
  %0: f32[3, 2] = matmul(%x, %y)
  %1: f32[3, 4] = weave(%0, %0) {shape=[3, 4], step=[1, 2]}
  %2: f32[3, 2] = matmul(%x, %y)
  %3: f32[3, 2] = neg(%2)
  %4: f32[3, 4] = weave(%2, %3) {shape=[3, 4], step=[1, 2]}
  %5: f32[3, 4] = add(%1, %4)
  return out=%5
}"""
PROGRAMS = {"halves": HALVES, "thirds": THIRDS, "woven": WOVEN, "a product woven": PRODUCT}


def accesses(text):
    (program,) = tape_of(parse(text)).rows.values()
    return program.accesses


def loads(text):
    """(stride along the row, distance to the load that it lies beside or None) of every load, in order."""
    found = accesses(text)
    return [(a.strides[-1], a.shift if a.base >= 0 else None) for a in found if a.mode == "r"]


def test_what_lies_between_is_read_from_one_pointer():
    assert loads(HALVES) == [("2", None), ("2", 1)]
    assert loads(THIRDS) == [("3", None), ("3", 2), ("3", 1)]  # the last beside the second: it is a step from the first


def test_parts_are_written_where_they_belong():
    tape = tape_of(parse(WOVEN))
    assert len(tape.steps) == 1
    stores = [a for a in accesses(WOVEN) if a.mode == "w"]
    assert len(stores) == 4 and [a.shift for a in stores] == [0, 1, 0, 1]
    assert "copy" in str(tape_of(parse(PRODUCT)))  # a product needs a unit stride


@pytest.fixture(scope="module")
def batch():
    batch = Batch()
    for text in PROGRAMS.values():
        batch.add(tape_of(parse(text)))
    batch.compile()
    return batch


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("threads", [1, 2])
def test_values(batch, name, threads):
    graph = parse(PROGRAMS[name])
    rng = np.random.default_rng(0)
    shapes = {v.name: [3 if str(d) == "N" else d for d in v.type.shape] for v in graph.inputs}
    values = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    expected = interpreted(graph, values)[0]["out"]
    with sharing_everything():
        tape = tape_of(graph)
        for found in (batch.program(tape, {}, threads).run(values), run_plainly(tape, values, {}, threads)):
            np.testing.assert_allclose(found["out"], expected, rtol=1e-5, atol=1e-6)
