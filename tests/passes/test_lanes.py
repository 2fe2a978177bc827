"""Rows that lie across memory are computed side by side, in whatever way threads and blocks cut them."""

from typing import Any

import numpy as np
import pytest

import gradtape as gt
from gradtape.ir.tape import RowProgram
from gradtape.passes import lanes
from gradtape.runtime import codegen
from tapes import Batch, interpreted, run_plainly, sharing_everything, split_values, tape_of

RNG = np.random.default_rng(0)


def normalised(x: Any, axes: Any) -> Any:
    top = gt.max(x, axes, keepdims=True)
    e = gt.exp(x - top)
    return e / gt.sum(e, axes, keepdims=True) * gt.min(x * 2.0, axes, keepdims=True), gt.sum(e, axes) + top.sum()


def several(x: Any, axes: Any) -> Any:
    flags = x > 0.5
    return gt.prod(x, axes), flags.any(axes), flags.all(axes), gt.max((x * 9).astype("i32"), axes)


FUNCTIONS = {
    "softmax": lambda x, axes: gt.softmax(x, axes),
    "log_softmax": lambda x, axes: gt.log_softmax(x, axes),
    "logsumexp": lambda x, axes: gt.logsumexp(x, axes),
    "argmax": lambda x, axes: (gt.argmax(x, axes), gt.argmin(x, axes)),
    "normalised": normalised,
    "several": several,
    "total": lambda x, axes: (gt.softmax(x, axes) * x).sum(),
    "beside": lambda x, axes: (x + gt.max(x, axes, keepdims=True), gt.exp(x)),
}
SHAPES = [((3, 20, 33), 1), ((40, 17), 0), ((2, 3, 5, 4, 6), 2), ((1, 4, 1, 30), 1), ((5, 0, 20), 2)]


def side_by_side(tape: Any) -> list[RowProgram]:
    return [p for p in tape.rows.values() if any(s.level == "lane" for s in p.sections)]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_values(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By plain Python and compiled, on one to three threads, in one block of lanes and in many."""
    monkeypatch.setattr(codegen, "LANES", 8)
    monkeypatch.setattr(codegen, "BLOCK", 100)
    batch, found = Batch(), []
    for shape, axis in SHAPES:
        if 0 in shape and name not in ("softmax", "log_softmax", "logsumexp"):
            continue
        x = RNG.standard_normal(shape).astype("f4")
        graph = gt.trace(lambda x, axis=axis: FUNCTIONS[name](x, axis), x).graph
        tape = tape_of(graph)
        assert bool(side_by_side(tape)) == (axis != x.ndim - 1), (shape, axis)
        found.append((graph, {"x": x}, batch.add(tape)))
    batch.compile()
    for graph, values, tape in found:
        expected, _ = interpreted(graph, values)
        inputs, store = split_values(graph, values)
        for threads in (1, 2, 3):
            with sharing_everything():
                plain = run_plainly(tape, inputs, store, threads)
                compiled = batch.program(tape, store, threads).run(inputs)
            for key, want in expected.items():
                for got in (plain[key], compiled[key]):
                    np.testing.assert_allclose(got, want, rtol=2e-5, atol=1e-6, err_msg=f"{key} on {threads}")
                    assert got.dtype == want.dtype


def test_a_softmax_is_one_loop_nest_that_reads_memory_as_it_lies() -> None:
    tape = tape_of(gt.trace(lambda x: gt.softmax(x, 1), gt.spec(("B", "C", 4, "W"))).graph)
    (program,) = side_by_side(tape)
    assert len(tape.instructions()) == 1
    assert [s.level for s in program.sections] == ["lane", "loop", "lane", "loop", "loop"]
    assert all(access.strides[-1] == "1" for access in program.accesses)
    assert program.outer == 1 and program.inner == 2  # 4 and W are one axis


REFUSED = {
    "the last axis": lambda x: gt.softmax(x, -1),
    "few lanes": lambda x: gt.softmax(x[:, :, :3], 1),
    "rows that lie in memory": lambda x: gt.softmax(x.transpose(0, 2, 1), 1),
    "sums of lines": lambda x: gt.sum(x, 1),
    "elementwise": lambda x: gt.exp(x) * x[:, :1],
}


@pytest.mark.parametrize("name", REFUSED)
def test_rows_stay_rows(name: str) -> None:
    x = RNG.standard_normal((2, 5, 20)).astype("f4")
    assert not side_by_side(tape_of(gt.trace(REFUSED[name], x).graph))


def test_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "FEW", 1)
    x = RNG.standard_normal((2, 5, 3)).astype("f4")
    w = RNG.standard_normal((2, 5, 3)).astype("f4")
    for f in (lambda x: gt.softmax(x, 1) * w, lambda x: gt.max(x, 0) ** 2, lambda x: gt.logsumexp(x * w, 1)):
        got = gt.grad(lambda x, f=f: f(x).sum())(x)
        for place in ((0, 0, 0), (1, 4, 2), (1, 2, 1)):
            step = np.zeros_like(x, dtype=np.float64)
            step[place] = 1e-5
            wide = x.astype(np.float64)
            difference = (np.sum(f(wide + step)) - np.sum(f(wide - step))) / 2e-5
            np.testing.assert_allclose(got[place], difference, rtol=1e-4, atol=1e-5)
