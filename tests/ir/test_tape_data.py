"""Tapes as plain data: what is written is read again, equal and with the same results, and nothing else is."""

import json
from dataclasses import fields, replace

import numpy as np
import pytest

import gradtape as gt
from gradtape.ir.dims import Guard, Symbol
from gradtape.ir.location import Location
from gradtape.ir.tape import (
    Access,
    Buffer,
    Callback,
    Indexed,
    Instr,
    Loop,
    Operand,
    RowProgram,
    Section,
    Stmt,
    StopIf,
    Tape,
    View,
)  # fmt: skip
from gradtape.ir.tape_data import Damaged, constants_from, plain_fields, tape_data, tape_from, type_from
from gradtape.runtime.program import Program, compile_tape

RNG = np.random.default_rng(0)
X = RNG.standard_normal((6, 8)).astype(np.float32)
BIG = RNG.standard_normal((8, 8)).astype(np.float32)

PROGRAMS = {
    "elementwise": (lambda x: np.tanh(x) * 2.5 + gt.where(x > 0, x, -np.inf), [X]),
    "softmax": (lambda x: gt.softmax(x, axis=1), [X]),
    "a large constant": (lambda x: x @ BIG, [X]),
    "a loop": (lambda x: gt.scan(lambda c, row: (c * 0.5 + row, c), np.zeros(8, np.float32), x), [X]),
    "sorting": (lambda x: gt.sort(x, axis=1), [X]),
    "indices": (lambda x, i: x[i], [X, np.array([3, 1, 5])]),
    "random numbers": (lambda x: gt.dropout(x, 0.5), [X]),
    "strides": (lambda x: x[1::2, ::-1].T + x[::2].T, [X]),
    "several results": (lambda x: {"a": x.sum(), "b": [x.max(axis=0), x > 0]}, [X]),
    "other dtypes": (lambda x: (x.astype("float64") * 1e-300, x.astype("int32") // 3), [X]),
}


def there_and_back(tape):
    places = []

    def place(location):
        places.append(location)
        return len(places) - 1

    data = json.loads(json.dumps(tape_data(tape, place)))
    blob = b"".join(np.ascontiguousarray(a).tobytes() for a in tape.constants.values())
    return tape_from(data, constants_from(data["constants"], blob), lambda i: places[i])


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_tape_is_read_as_it_was(name):
    function, args = PROGRAMS[name]
    compiled = gt.compile(function, threads=1)
    compiled.forward(*args)
    args = [np.concatenate([a, a]) for a in args]
    compiled.forward(*args)  # with a symbolic size
    tape = compiled.graph("tape")
    again = there_and_back(tape)
    assert repr(again.steps) == repr(tape.steps) and again.rows == tape.rows
    assert again.guards == tape.guards and again.symbols == tape.symbols
    assert [repr(x) for x in (again.buffers, again.inputs, again.outputs)] == [
        repr(x) for x in (tape.buffers, tape.inputs, tape.outputs)
    ]
    inputs = dict(zip(compiled._latest.names, args, strict=True), seed=np.int64(3), step=np.int64(4))
    inputs = {n: inputs[n] for n, i, _ in tape.inputs if tape.buffers[i].segment in ("input", "scalar") and n in inputs}
    first, second = (Program(t, compile_tape(t), compiled._store).run(inputs) for t in (tape, again))
    for key, array in first.items():
        np.testing.assert_array_equal(second[key], array)


@pytest.fixture(scope="module")
def data():
    compiled = gt.compile(PROGRAMS["softmax"][0], threads=1)
    compiled.forward(X)
    return json.dumps(tape_data(compiled.graph("tape"), lambda place: 0))


def refused(data, change):
    changed = json.loads(data)
    change(changed)
    with pytest.raises(Damaged) as caught:
        tape_from(changed, {}, lambda i: Location("m.py", 1))
    return str(caught.value)


def an_instruction(data):
    return next(step for step in data["steps"] if step[0] == "call")


def other_row(data):
    row = next(iter(data["rows"].values()))
    row[1][0][0][-1] += 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.pop("rows"), "expected the fields"),
        (lambda d: d.update(more=1), "expected the fields"),
        (lambda d: d["buffers"][0][0].__setitem__(1, "stack"), "segment 'stack'"),
        (lambda d: d["buffers"][0][0].__setitem__(2, "f16"), "dtype 'f16'"),
        (lambda d: d["buffers"][0][0].__setitem__(2, {}), "Buffer.dtype is {}"),
        (lambda d: d["buffers"][0].__setitem__(1, "__import__('os')"), "not a dimension"),
        (lambda d: an_instruction(d)[3][0].__setitem__(0, 10**6), "expected a number from -1 to"),
        (lambda d: an_instruction(d)[3][0].__setitem__(0, -2), "expected a number from -1 to"),
        (lambda d: an_instruction(d)[3][0].__setitem__(3, "x"), "mode 'x'"),
        (lambda d: an_instruction(d)[3].pop(), "does not fit its row program"),
        (lambda d: an_instruction(d)[4].append(9), "expected a number from 0 to"),
        (lambda d: an_instruction(d).__setitem__(0, "jump"), "a step of the kind 'jump'"),
        (lambda d: an_instruction(d)[1].append(1), "expected a list of 2"),
        (other_row, "is another one"),
        (lambda d: d["inputs"][0].__setitem__(1, 99), "expected a number from 0 to"),
        (lambda d: d["inputs"][0].__setitem__(1, True), "expected a number"),
        (lambda d: d["buffers"].append([["c", "const", "f32"], 4]), "constants ['c'] are missing"),
        (lambda d: d.update(steps="stop"), "expected a list"),
    ],
)
def test_what_is_no_tape_is_told(data, change, said):
    assert said in refused(data, change)


def test_loops_are_not_nested_without_end(data):
    step = ["stop"]
    for _ in range(100):
        step = ["loop", ["i"], 2, [step]]
    assert "a step of the kind 'loop'" in refused(data, lambda d: d.update(steps=[step]))


@pytest.mark.parametrize(
    ("listed", "blob", "said"),
    [
        ([["a", "<f4", [2, 3]]], bytes(20), "end too early"),
        ([["a", "<f4", [2, 3]]], bytes(28), "more data than constants"),
        ([["a", "<f4", [-1]]], bytes(4), "expected a number from 0"),
        ([["a", "|O", [1]]], bytes(8), "no dtype of a program"),
        ([["a", "<f4", [1 << 62, 1 << 62]]], bytes(8), "end too early"),
    ],
)
def test_constants_lie_within_their_data(listed, blob, said):
    with pytest.raises(Damaged, match=said):
        constants_from(listed, blob)


def test_what_has_no_place_in_data_is_refused():
    compiled = gt.compile(PROGRAMS["softmax"][0], threads=1)
    compiled.forward(X)
    tape = compiled.graph("tape")
    name, row = next(iter(tape.rows.items()))
    stmt = replace(row.sections[0].stmts[0], attrs=(("what", object()),))
    bad = replace(row, sections=(replace(row.sections[0], stmts=(stmt,)),))
    with pytest.raises(TypeError, match="no place in a file"):
        tape_data(replace(tape, rows={name: bad}), lambda place: 0)
    with pytest.raises(Damaged, match="no dtype"):
        type_from(["c64", [1]])


def test_every_field_of_a_tape_is_written():
    """Numbers, names and truth values are written whatever they are called; the rest is listed here, as it is there."""
    written = {
        Tape: "buffers steps rows inputs outputs symbols guards constants", Buffer: "size", Loop: "count body",
        Callback: "args results location", Instr: "axes operands splits params location indexed", StopIf: "",
        Indexed: "shape size", RowProgram: "accesses sections", Access: "strides", Section: "stmts",
        Stmt: "args attrs", View: "offset strides", Operand: "view", Symbol: "", Guard: "left right",
    }  # fmt: skip
    for kind, names in written.items():
        plain = {name for name, _ in plain_fields(kind)}
        assert {f.name for f in fields(kind)} == plain | set(names.split()), kind
    assert {f.name for f in fields(View)} == {"buffer", "offset", "strides"}
    assert {f.name for f in fields(Operand)} == {"view", "mode"}
