"""Loops on the tape: as plain Python with threads out of step, compiled, at several sizes, and what can go wrong."""

import numpy as np
import pytest

import gradtape as gt
from gradtape.ir.interp import evaluate_graph
from gradtape.ir.tape import Loop
from gradtape.ir.text import parse
from gradtape.passes.lower import lower
from gradtape.runtime import bind
from gradtape.runtime.call import Call, Open
from gradtape.runtime.meetings import Touch, conflict
from loop_programs import PROGRAMS, program
from tapes import Batch, expanded, interpreted, run_plainly, sharing_everything, tape_of

CASES = [(f, order) for f in PROGRAMS for order in (1, 2)]
NAMES = [f"{f.__name__} {order}" for f, order in CASES]


def close(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-9, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_threads_that_run_one_after_the_other_between_meetings_agree_with_the_interpreter(case):
    """In a loop without a barrier, one thread runs all its rounds before the other begins."""
    graph, values = program(*case)
    tape = tape_of(graph)
    expected, _ = interpreted(graph, values)
    close(run_plainly(tape, values, {}), expected)
    with sharing_everything():
        for threads in (2, 3):
            close(run_plainly(tape, values, {}, threads), expected)
            close(run_plainly(tape, values, {}, threads, lambda turn: range(threads)[::-1]), expected)  # noqa: B023


@pytest.fixture(scope="module")
def compiled():
    batch, found = Batch(), {}
    for name, case in zip(NAMES, CASES, strict=True):
        graph, values = program(*case)
        found[name] = graph, values, batch.add(tape_of(graph))
    batch.compile()
    return batch, found


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", NAMES)
def test_compiled_loops_agree_with_the_interpreter(compiled, name, threads):
    batch, found = compiled
    graph, values, tape = found[name]
    expected, _ = interpreted(graph, values)
    with sharing_everything():
        run = batch.program(tape, {}, threads)
        for _ in range(2):  # loops leave their argument words as they were
            close(run.run(values), expected)


# sizes ----------------------------------------------------------------------------------------------------------------
SUMS = """
graph g(%w: f32[3, 3] param, %h: f32[B, 3] input, %xs: f32[T, B, 3] input) where B, 0 <= T {
  %0: f32[B, 3], %1: f32[T, B, 3] = scan(%w, %h, %xs) {carries=1, consts=1, length=T, reverse=false} {
    region body(%w: f32[3, 3] input, %h: f32[B, 3] input, %x: f32[B, 3] input) {
      %0: f32[B, 3] = matmul(%h, %w)
      %1: f32[B, 3] = add(%0, %x)
      %2: f32[B, 3] = tanh(%1)
      return h=%2, y=%1
    }
  }
  return h=%0, y=%1
}"""


def test_one_tape_serves_every_number_of_rounds_also_none():
    graph = parse(SUMS)
    batch = Batch()
    tape = batch.add(tape_of(graph))
    rng = np.random.default_rng(0)
    w = rng.standard_normal((3, 3)).astype(np.float32)
    for threads in (1, 2):
        with sharing_everything():
            run = batch.program(tape, {"w": w}, threads)
            for rounds, size in ((3, 2), (7, 2), (1, 4), (0, 2), (3, 2)):
                xs = rng.standard_normal((rounds, size, 3)).astype(np.float32)
                values = {"w": w, "h": xs[0] if rounds else np.ones((size, 3), np.float32), "xs": xs}
                expected = evaluate_graph(graph, values)
                found = run.run({"h": values["h"], "xs": xs})
                for name, array in expected.items():
                    np.testing.assert_allclose(found[name], array, rtol=1e-5, atol=1e-6)


def test_a_compiled_function_keeps_one_program_for_all_lengths():
    f = gt.compile(lambda xs: gt.scan(lambda c, x: (c * 0.5 + x, c), np.zeros(3, np.float32), xs))
    for rounds in (4, 6, 9, 5):
        xs = np.arange(rounds * 3, dtype=np.float32).reshape(rounds, 3)
        last, ys = f(xs)
        c = np.zeros(3, np.float32)
        for t in range(rounds):
            np.testing.assert_allclose(ys[t], c, rtol=1e-6)
            c = c * np.float32(0.5) + xs[t]
        np.testing.assert_allclose(last, c, rtol=1e-6)
    (family,) = f._programs.families.values()
    assert len(family.variants) == 2  # one for the first length, one for all others


def test_a_compiled_gradient_of_no_round_is_that_of_the_rest():
    f = gt.value_and_grad(lambda w, xs: (gt.scan(lambda c, x: (c * w + x, None), w, xs)[0] ** 2).sum())
    w = np.array([2.0, 3.0])
    value, grad = f(w, np.zeros((0, 2)))
    assert value == 13.0 and grad.tolist() == [4.0, 6.0]
    value, grad = f(w, np.ones((1, 2)))  # (w * w + 1)**2
    np.testing.assert_allclose(grad, 4 * w * (w * w + 1))


# training -------------------------------------------------------------------------------------------------------------
class Cell(gt.Module):
    def __init__(self):
        self.inside = gt.nn.Linear(3, 8)
        self.state = gt.nn.Linear(8, 8)
        self.out = gt.nn.Linear(8, 1)
        self.drop = gt.nn.Dropout(0.1)

    def forward(self, xs):
        def step(h, x):
            h = gt.tanh(self.inside(self.drop(x)) + self.state(h))
            return h, self.out(h)

        return gt.scan(step, gt.zeros(xs.shape[1], 8), xs)[1]


@pytest.mark.parametrize("threads", [1, 2])
def test_a_model_with_a_loop_learns_and_matches_its_eager_loss(threads):
    gt.manual_seed(0)
    model = Cell()
    rng = np.random.default_rng(0)
    xs = rng.standard_normal((12, 16, 3)).astype(np.float32)
    target = np.cumsum(xs.sum(-1, keepdims=True), 0) * np.float32(0.2)
    step = gt.compile(model, loss=gt.mse, optimizer=gt.AdamW(lr=1e-2), threads=threads)
    losses = [float(step(xs, target)) for _ in range(60)]
    assert losses[-1] < 0.3 * losses[0]
    model.eval()
    eager = float(gt.mse(model(xs), target))
    np.testing.assert_allclose(step.evaluate(xs, target), eager, rtol=1e-5)
    assert {n for n, _ in model.named_parameters()} == set(step.value_and_grad(xs, target)[1])


def test_the_gradient_sees_the_numbers_that_the_forward_loop_drew():
    """With dropout inside of the loop, the gradient is that of the loss at the same seed and step."""
    gt.manual_seed(0)
    model = Cell()
    xs = np.random.default_rng(0).standard_normal((4, 2, 3)).astype(np.float32)
    target = np.zeros((4, 2, 1), np.float32)
    compiled = gt.compile(model, loss=gt.mse)

    def drawn():
        compiled.seed = 0
        return compiled.value_and_grad(xs, target)

    value, grads = drawn()
    assert value == drawn()[0]
    weight, direction = model.inside.weight, np.random.default_rng(1).standard_normal((8, 3)).astype(np.float32)
    kept, moved = weight.data.copy(), []
    for sign in (1, -1):
        weight.data[...] = kept + sign * np.float32(1e-2) * direction
        moved.append(float(drawn()[0]))
    weight.data[...] = kept
    slope = float((grads["inside.weight"] * direction).sum())
    np.testing.assert_allclose((moved[0] - moved[1]) / 2e-2, slope, rtol=2e-3)


# errors ---------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("threads", [1, 2])
def test_an_index_out_of_range_in_a_loop_names_the_line_and_nothing_is_updated(threads):
    class Model(gt.Module):
        def __init__(self):
            self.table = gt.Parameter(np.ones((5, 2), np.float32))

        def forward(self, idx):
            def step(h, i):
                rows = gt.take(self.table, i + h[:, 0].astype("i64"))  # depends on the carry: it stays in the loop
                return h * 0.0 + rows * 0.0, rows

            return gt.scan(step, np.zeros((3, 2), np.float32), idx)[1]

    model = Model()
    step = gt.compile(model, loss=lambda y, _: (y * y).sum(), optimizer=gt.SGD(lr=0.1), threads=threads)
    good = np.array([[0, 1, 2], [4, 3, 2]])
    step(good, good)
    before = model.table.data.copy()
    with pytest.raises(gt.IndexOutOfRange, match=r"= 7 is out of range for table with 5 rows") as error:
        step(np.array([[0, 1, 2], [4, 7, 2]]), good)
    line = Model.forward.__code__.co_firstlineno + 2
    assert f"{__file__}:{line}" in str(error.value)
    np.testing.assert_array_equal(model.table.data, before)
    assert np.isfinite(step(good, good))


def test_a_number_that_is_not_finite_is_traced_to_its_line_in_the_body():
    class Model(gt.Module):
        def __init__(self):
            self.w = gt.Parameter(np.ones(3, np.float32))

        def forward(self, xs):
            def step(h, x):
                h = h + self.w
                return gt.log(h - x), h

            return gt.scan(step, np.ones(3, np.float32), xs)[0]

    step = gt.compile(Model(), loss=lambda y, _: y.sum(), optimizer=gt.SGD(lr=0.1))
    xs = np.zeros((3, 3), np.float32)
    assert np.isfinite(step(xs, xs))
    xs[1] = 5.0
    with pytest.raises(gt.NotFinite, match="first    log at ") as error:
        step(xs, xs)
    assert f"{__file__}:{Model.forward.__code__.co_firstlineno + 3}" in str(error.value)


# barriers and memory --------------------------------------------------------------------------------------------------
def barriers(text, threads=2, **sizes):
    """The kernels of a program, each with whether there is a barrier before it; loops in lists."""
    tape = lower(expanded(parse(text)))
    with sharing_everything():
        plan = bind.plan(tape, sizes, threads)
    return [
        "loop" if isinstance(e, Open) else ("|" if e.barrier else "") + e.instr.label
        for e in plan.entries
        if isinstance(e, (Open, Call))
    ], plan, tape  # fmt: skip


ELEMENTWISE = """
graph g(%h: f32[4, 6] input, %xs: f32[9, 4, 6] input) {
  %0: f32[4, 6], %1: f32[9, 4, 6] = scan(%h, %xs) {carries=1, consts=0, length=9, reverse=false} {
    region body(%h: f32[4, 6] input, %x: f32[4, 6] input) {
      %0: f32[4, 6] = mul(%h, %x)
      %1: f32[4, 1] = sum(%0) {axes=[1], keepdims=true}
      %2: f32[4, 6] = sub(%0, %1)
      %3: f32[4, 6] = tanh(%2)
      return h=%3, y=%3
    }
  }
  return h=%0, y=%1
}"""


def test_a_batch_that_is_split_evenly_runs_through_a_loop_without_a_meeting():
    names, plan, _ = barriers(ELEMENTWISE)
    assert names.count("loop") == 1 and not any(n.startswith("|") for n in names)
    assert plan.threads == 2


def test_rounds_that_mix_the_batch_meet_in_every_round():
    mixing = ELEMENTWISE.replace("%1: f32[4, 1] = sum(%0) {axes=[1]", "%1: f32[1, 6] = max(%0) {axes=[0]")
    names, _, _ = barriers(mixing)
    inside = names[names.index("loop") + 1 :]
    assert any(n.startswith("|") for n in inside)


def test_touches_meet_only_where_their_rounds_do():
    loop = Open("i", 10)

    def touch(thread, first, last, step=0, writes=True, loops=(loop,)):
        return Touch(thread, first, last, writes, {"i": step} if step else {}, loops)

    same, next_, any_ = {}, {"i": 1}, {"i": None}
    a, b = touch(0, 0, 3, 8), touch(1, 4, 7, 8)  # halves of rows of 8
    assert not conflict(a, b, same) and not conflict(a, b, next_) and not conflict(a, b, any_)
    row = touch(1, 0, 7, 8)  # whole rows
    assert conflict(a, row, same) and not conflict(a, row, next_) and not conflict(a, row, any_)
    after = touch(0, 8, 11, 8)  # writes its half of the next row
    assert not conflict(after, row, same) and conflict(after, row, next_) and conflict(after, row, any_)
    assert not conflict(after, b, next_)
    assert not conflict(touch(0, 0, 3, 8, False), touch(1, 0, 7, 8, False), same)  # two readers
    fixed = touch(1, 76, 79)  # an element that one round touches only
    assert conflict(a, touch(1, 73, 73, loops=()), same) and not conflict(a, touch(1, 77, 79, loops=()), same)
    assert not conflict(a, fixed, same) and conflict(touch(0, 4, 7, 8), fixed, same)
    assert conflict(touch(0, 0, 3, -8, loops=(loop,)), touch(1, -72, -72), same)
    outside = touch(1, 200, 300, loops=())
    assert not conflict(a, outside, same)


def test_temporaries_of_a_round_share_memory_and_what_comes_in_does_not():
    text = """
graph g(%w: f32[8, 8] param, %h: f32[4, 8] input, %xs: f32[9, 4, 8] input) {
  %0: f32[4, 8] = scan(%w, %h, %xs) {carries=1, consts=1, length=9, reverse=false} {
    region body(%w: f32[8, 8] input, %h: f32[4, 8] input, %x: f32[4, 8] input) {
      %0: f32[4, 8] = matmul(%h, %w)
      %1: f32[4, 8] = tanh(%0)
      %2: f32[4, 8] = matmul(%1, %w)
      %3: f32[4, 8] = tanh(%2)
      %4: f32[4, 8] = matmul(%3, %w)
      %5: f32[4, 8] = add(%4, %x)
      %6: f32[4, 8] = add(%5, %h)
      return h=%6
    }
  }
  return h=%0
}"""
    for threads in (1, 2):
        _, plan, tape = barriers(text, threads)
        arena = [i for i, b in enumerate(tape.buffers) if b.segment == "arena"]
        places = [plan.offsets[i] for i in arena]
        assert len(set(places)) < len(places)  # shared
        (carry,) = {o.view.buffer for i in tape.instructions() for o in i.operands if o.mode == "rw"} & {*arena}
        low, high = plan.lifetimes[carry]
        assert all(low <= plan.lifetimes[i][0] and plan.lifetimes[i][1] <= high for i in arena)
        assert places.count(plan.offsets[carry]) == 1


def test_binding_twice_gives_the_same_plan():
    graph, _ = program(PROGRAMS[2], 2)
    tape = tape_of(graph)
    first, second = (bind.plan(tape, {}, 2) for _ in range(2))
    assert first.offsets == second.offsets
    assert [e.barrier for e in first.entries if isinstance(e, Call)] == [
        e.barrier for e in second.entries if isinstance(e, Call)
    ]
    assert sum(isinstance(s, Loop) for s in tape.steps) >= 2


def test_a_program_that_one_thread_soon_runs_is_not_shared():
    def text(rows):
        return f"graph g(%x: f32[{rows}, 512] input) {{\n  %0: f32[{rows}, 512] = tanh(%x)\n  return y=%0\n}}"

    few, many = (lower(expanded(parse(text(rows)))) for rows in (64, 4096))
    assert bind.plan(few, {}, 2).threads == 1 and bind.plan(many, {}, 2).threads == 2
