"""Profiles: their structure and counts, exactly; that nothing is changed; the trace file. No times are asserted."""

import json
import math
from itertools import pairwise

import numpy as np
import pytest

import gradtape as gt
from gradtape.runtime.cost import INDEXED, KINDS, OPERATIONS
from gradtape.runtime.kernels import FAMILIES
from gradtape.runtime.peak import Peak, peak

WIDTH, HIDDEN, OUT, BATCH = 96, 256, 40, 256


class Net(gt.Module):
    def __init__(self):
        self.a = gt.nn.Linear(WIDTH, HIDDEN)
        self.b = gt.nn.Linear(HIDDEN, OUT)

    def forward(self, x):
        return self.b(gt.relu(self.a(x)))


LINE = Net.forward.__code__.co_firstlineno + 1


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    return rng.standard_normal((BATCH, WIDTH)).astype("f4"), rng.standard_normal((BATCH, OUT)).astype("f4")


@pytest.fixture(scope="module", params=[1, 2])
def step(request, batch):
    gt.manual_seed(0)
    return gt.compile(Net(), *batch, loss=gt.mse_loss, optimizer=gt.AdamW(lr=1e-3), threads=request.param)


@pytest.fixture(scope="module")
def profile(step, batch):
    return step.profile(*batch, repeats=3)


def test_every_family_of_kernels_has_a_kind():
    assert set(KINDS) == set(FAMILIES)
    assert set(OPERATIONS) <= set(FAMILIES) and set(INDEXED) <= set(FAMILIES)


def test_products_count_two_operations_for_a_multiply_add(profile):
    gemms = [w for w in profile.instructions if w.kind == "gemm"]
    # forward, and two products backward; the gradient of x is not wanted
    assert sum(w.flops for w in gemms) == 2 * BATCH * (2 * WIDTH * HIDDEN + 3 * HIDDEN * OUT)
    forward = gemms[0]
    assert forward.axes == (1, 1, BATCH, HIDDEN, WIDTH) and forward.calls == 1
    elements = BATCH * WIDTH + WIDTH * HIDDEN + BATCH * HIDDEN
    shared = WIDTH * HIDDEN * (sum(s > 0 for s in forward.seconds) - 1)  # each thread reads all of the weight
    assert forward.bytes == 4 * (elements + shared)
    assert forward.scope == "a" and forward.where == f"test_profile.py:{LINE} a"


def test_the_optimizers_bytes_are_those_of_what_it_reads_and_writes(profile):
    (update,) = [w for w in profile.instructions if w.axes == (WIDTH * HIDDEN,) and "optimizer" in w.value]
    arrays = 4 * WIDTH * HIDDEN
    # the gradient is read, parameter and both moments are read and written, and some numbers are read
    assert 0 <= update.bytes - 7 * arrays <= 64 * profile.threads
    assert set(update.value.split(", ")) == {"a.weight", "optimizer.exp_avg.a.weight", "optimizer.exp_avg_sq.a.weight"}


def test_instructions_are_those_of_the_tape(step, profile):
    tape = step.graph("tape")
    assert [w.kernel for w in profile.instructions] == [i.kernel for i in tape.instructions()]
    assert [w.number for w in profile.instructions] == list(range(len(profile.instructions)))
    assert sum(k.instructions for k in profile.kinds()) == len(profile.instructions)
    assert {"gemm", "rows", "combine", "check"} <= {k.kind for k in profile.kinds()}


def test_spans_are_whole_and_in_order(profile):
    for thread in range(profile.threads):
        mine = [s for s in profile.spans if s.thread == thread]
        assert all(0 <= s.start <= s.end for s in mine)
        assert all(a.end <= b.start + 1e-12 for a, b in pairwise(mine))
        numbers = [s.instruction for s in mine if s.kind != "wait"]
        assert numbers == sorted(set(numbers))
    taken = {s.instruction for s in profile.spans if s.kind != "wait"}
    assert taken == {w.number for w in profile.instructions}
    for w in profile.instructions:
        parts = [s for s in profile.spans if s.instruction == w.number and s.kind != "wait"]
        assert sum(s.flops for s in parts) == w.flops and sum(s.bytes for s in parts) == w.bytes
        assert {s.kind for s in parts} == {w.kind} and {s.name for s in parts} == {w.name}
        assert {s.thread for s in parts} == {t for t, seconds in enumerate(w.seconds) if seconds or len(parts) == 2}
    assert ("wait" in {s.kind for s in profile.spans}) == (profile.threads > 1)


def test_times_add_up_to_the_step(profile):
    """By construction: what a thread does, its waits and the clock make up the whole of the tape's time."""
    for thread in range(profile.threads):
        mine = [s for s in profile.spans if s.thread == thread]
        inside = sum(s.end - s.start for s in mine)
        assert inside <= profile.tape_seconds + 1e-9
        # marks that take longer than their median cost are in the spans, faster ones are lost at zero
        assert inside >= profile.tape_seconds - 3 * profile.overhead - 1e-6
    assert math.isclose(sum(k.thread_seconds for k in profile.kinds()), profile.thread_seconds)


def test_nothing_is_trained(step, batch):
    before = {k: v.copy() for k, v in {**step.state_dict(), **step.optimizer_state_dict()}.items()}
    step.profile(*batch, repeats=2)
    after = {**step.state_dict(), **step.optimizer_state_dict()}
    assert before.keys() == after.keys() and step.step_count == before["optimizer.step"]
    assert all(np.array_equal(before[k], after[k]) for k in before)


def test_a_marked_run_computes_what_a_plain_one_does(batch):
    from gradtape.runtime.measure import _Measured

    losses = []
    for marked in (False, True):
        gt.manual_seed(0)
        step = gt.compile(Net(), loss=gt.mse_loss, optimizer=gt.AdamW(lr=1e-2), threads=2)
        losses.append([step(*batch)])
        if marked:  # each repeat is a plain and a marked step, after a first plain one
            variant, inputs = step._prepare("step", True, batch)
            step._tell_optimizer(variant, inputs)
            _Measured(variant.program, inputs, 2)
        else:
            for _ in range(5):
                step._step = 1
                step(*batch)
        step._step = 6
        losses[-1] += [step(*batch) for _ in range(3)]
    assert losses[0] == losses[1]


def test_an_error_puts_the_weights_back(batch):
    gt.manual_seed(0)
    step = gt.compile(Net(), loss=gt.mse_loss, optimizer=gt.SGD(lr=1e30), threads=1)
    before = {k: v.copy() for k, v in step.state_dict().items()}
    with pytest.raises(FloatingPointError):  # the second run on such weights overflows
        step.profile(*batch, repeats=5)
    assert all(np.array_equal(v, before[k]) for k, v in step.state_dict().items())


def test_rows_cut_at_the_diagonal_and_triangular_products_are_counted():
    T, D = 40, 8

    def attention(q, k, v):
        scores = q @ k.T
        masked = gt.where(gt.arange(T)[:, None] >= gt.arange(T), scores, -np.inf)
        return gt.softmax(masked, axis=-1) @ v

    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal((T, D)).astype("f4") for _ in range(3))
    compiled = gt.compile(attention, threads=1)
    compiled(q, k, v)
    profile = compiled.profile(q, k, v, repeats=1)
    kinds = {w.name: w for w in profile.instructions if w.kind == "triangle"}
    product = next(w for name, w in kinds.items() if "x_lower" in name)
    heads = T * (T + 1) // 2
    assert product.flops == 2 * D * heads
    assert product.bytes == 4 * (heads + 2 * T * D)
    (rows,) = [w for w in profile.instructions if w.kind == "rows"]
    assert rows.flops == 5 * heads  # maximum, difference, exponential, sum and division
    assert rows.bytes == 4 * (heads + T * T + 2 * T)  # scores up to the diagonal, all of the result, a row in between


def test_loops_have_a_span_for_every_round():
    def f(xs):
        return gt.scan(lambda c, x: (gt.tanh(c + x), c), np.zeros(5, "f4"), xs)

    xs = np.ones((7, 5), "f4")
    compiled = gt.compile(f, threads=1)
    compiled(xs)
    profile = compiled.profile(xs, repeats=2)
    (work,) = [w for w in profile.instructions if "tanh" in w.name]
    assert work.calls == 7
    spans = [s for s in profile.spans if s.instruction == work.number]
    assert len(spans) == 7 and sum(s.flops for s in spans) == work.flops == 7 * 5 * 2


def test_callbacks_are_spans_of_the_caller():
    def f(x):
        y = gt.callback(lambda a: a * 2, x + 1, shape=x.shape, dtype="f32")
        return y + 1

    x = np.ones(4, "f4")
    compiled = gt.compile(f, threads=2, lint="off")
    compiled(x)
    profile = compiled.profile(x, repeats=2)
    (span,) = [s for s in profile.spans if s.kind == "callback"]
    assert span.thread == 0 and profile.callbacks > 0
    assert {k.kind for k in profile.kinds()} >= {"callback"}


def test_trace_file(profile, tmp_path):
    profile.trace(tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    spans = [e for e in events if e["ph"] == "X"]
    assert {e["tid"] for e in spans} == set(range(profile.threads))
    assert {e["args"]["instruction"] for e in spans if e["cat"] != "wait"} == set(range(len(profile.instructions)))
    assert all(e["dur"] >= 0 and e["ts"] >= 0 and e["name"] for e in spans)
    names = {e["tid"]: e["args"]["name"] for e in events if e["name"] == "thread_name"}
    assert names == {t: "caller" if t == 0 else f"worker {t}" for t in range(profile.threads)}
    product = next(e for e in spans if e["cat"] == "gemm")
    assert product["args"]["where"].endswith(" a") and product["args"]["flops"] > 0
    assert json.loads(profile.to_json())["threads"] == profile.threads


def test_a_program_from_a_file_is_profiled_too(step, profile, batch, tmp_path):
    step.save(tmp_path / "step.tape")
    loaded = gt.load(tmp_path / "step.tape")
    found = loaded.profile(*batch, repeats=1)
    assert [(w.kernel, w.axes) for w in found.instructions] == [(w.kernel, w.axes) for w in profile.instructions]


def test_what_is_printed(profile):
    text = str(profile)
    assert text.startswith("net step: ") and "GFLOP/s in float32" in text
    lines = text.split("\n\n")
    assert len(lines) == 3 and lines[1].startswith("kind") and lines[2].startswith("number")
    assert any(line.startswith("gemm") and "% " in line for line in lines[1].splitlines())


def test_other_entries_and_wrong_arguments(step, batch):
    assert step.profile(*batch, entry="evaluate", repeats=1).entry == "evaluate"
    assert not any("optimizer" in w.value for w in step.profile(*batch, entry="value_and_grad", repeats=1).instructions)
    with pytest.raises(ValueError, match="entry is 'step'"):
        step.profile(*batch, entry="decode")
    with pytest.raises(ValueError, match="repeats is at least 1"):
        step.profile(*batch, repeats=0)
    with pytest.raises(TypeError, match="no optimizer"):
        gt.compile(Net(), loss=gt.mse_loss).profile(*batch, entry="step")


def test_the_roofline_takes_the_nearer_side():
    machine = Peak(threads=2, f32=100.0, f64=50.0, bandwidth=10.0)
    assert machine.bound(200, 0) == 2 * 2.0 and machine.bound(200, 0, "f64") == 2 * 4.0
    assert machine.bound(200, 50) == 2 * 5.0 and machine.memory_bound(200, 50) and not machine.memory_bound(200, 10)


def test_the_peak_is_measured_once():
    found = peak(1)
    assert found is peak(1)
    assert found.f32 > found.f64 > 1e8 and found.bandwidth > 1e7  # of any machine that this runs on


def test_attention_counts_the_pairs_of_positions_that_meet():
    """Two products of them forwards, five backwards."""

    class Attention(gt.Module):
        def __init__(self):
            self.qkv = gt.nn.Linear(8, 24)

        def forward(self, x):
            return gt.scaled_dot_product_attention(*gt.split(self.qkv(x), 3, -1), is_causal=True)

    step = gt.compile(Attention(), loss=gt.mse_loss, optimizer=gt.SGD(0.1), lint="off", threads=1)
    x = np.ones((6, 100, 8), np.float32)
    found = {w.kernel: w for w in step.profile(x, x, repeats=1).instructions if w.kind == "attention"}
    pairs = 6 * 100 * 101 // 2
    assert found["attention_f32"].flops == pairs * 2 * 16
    assert found["attention_grad_f32"].flops == pairs * 5 * 2 * 8
