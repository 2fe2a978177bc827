"""Convolutions as tapes against the interpreter: boxes of all shapes, threads, operands that lie in unusual ways."""

import sys
from contextlib import contextmanager
from unittest import mock

import numpy as np
import pytest

import rows  # noqa: F401  (fills ROWS)
from cases import ROWS
from gradtape.ir.build import Builder
from gradtape.ir.op import OPS
from gradtape.ir.types import type_of
from gradtape.passes import conv as lowering
from gradtape.runtime.bind import plan, words
from gradtape.runtime.call import Addresses, Call
from tapes import Batch, interpreted, run_plainly, sharing_everything, tape_of

KERNEL = sys.modules["gradtape.runtime.kernels.conv"]  # the package holds a function of that name
OPERATIONS = ("conv", "conv_input", "conv_weight")
# how much a box may hold of patches, and of a channel: one window, a part of a row, some rows, some images, everything
LIMITS = ((1, 1), (30, lowering.LINES), (120, 25), (600, lowering.LINES), (lowering.SCRATCH, lowering.LINES))


@contextmanager
def boxes_of(scratch, lines=lowering.LINES):
    """Inside, a box fills at most so much memory, and no product is too small to be read where it lies."""
    with (
        mock.patch.object(lowering, "SCRATCH", scratch),
        mock.patch.object(lowering, "LINES", lines),
        mock.patch.object(KERNEL, "DIRECT_COLUMNS", 1),
    ):
        yield


def close(found, expected, what):
    assert found.dtype == expected.dtype and found.shape == expected.shape, what
    tolerance = 2e-5 if expected.dtype == np.float32 else 1e-12
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance, err_msg=str(what))


def image(*shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def op(name, *args, **attrs):
    return OPS[name](*args, **attrs)


PLAIN = {"stride": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1), "groups": 1}
POINT = {**PLAIN, "padding": ((0, 0), (0, 0))}
LAST = (0, 3, 1, 2)
# operands that are not laid out row by row, results that go on into views: (program, inputs)
LAYOUTS = {
    "channels last": (
        lambda x, w: op("conv", op("permute", x, axes=LAST), w, **PLAIN),
        {"x": image(3, 5, 4, 2), "w": image(4, 2, 3, 3)},
    ),
    "backwards": (
        lambda x, w: op("conv", op("slice", x, start=(0, 1, 0, 3), size=(3, 2, 5, 4), step=(1, -1, 1, -1)), w, **PLAIN),
        {"x": image(3, 2, 5, 4), "w": image(4, 2, 3, 3)},
    ),
    "rows and images backwards": (
        lambda x, w: op("conv", op("slice", x, start=(2, 0, 4, 0), size=(3, 2, 5, 4), step=(-1, 1, -1, 1)), w, **PLAIN),
        {"x": image(3, 2, 5, 4), "w": image(4, 2, 3, 3)},
    ),
    "every other element": (
        lambda x, w: op("conv", op("slice", x, start=(0, 0, 1, 0), size=(3, 2, 5, 4), step=(1, 1, 2, 2)), w, **PLAIN),
        {"x": image(3, 2, 11, 8), "w": image(4, 2, 3, 3)},
    ),
    "one image for all": (
        lambda x, w: op("conv", op("broadcast_to", x, shape=(3, 2, 5, 4)), w, **PLAIN),
        {"x": image(1, 2, 5, 1), "w": image(4, 2, 3, 3)},
    ),
    "a weight turned": (
        lambda x, w: op("conv", x, op("permute", w, axes=(1, 0, 3, 2)), **PLAIN),
        {"x": image(3, 2, 5, 4), "w": image(2, 4, 3, 3)},
    ),
    "one weight for all": (
        lambda x, w: op("conv", x, op("broadcast_to", w, shape=(4, 2, 3, 3)), **PLAIN),
        {"x": image(3, 2, 5, 4), "w": image(1, 2, 3, 1)},
    ),
    "an even gradient": (
        lambda x, g: op("conv_weight", x, op("broadcast_to", g, shape=(3, 4, 5, 4)), kernel=(3, 3), **PLAIN),
        {"x": image(3, 2, 5, 4), "g": image(1, 1, 1, 1)},
    ),
    "a gradient with channels last": (
        lambda g, w: op("conv_input", op("permute", g, axes=LAST), w, size=(5, 4), **PLAIN),
        {"g": image(3, 5, 4, 4), "w": image(4, 2, 3, 3)},
    ),
    "one after the other": (
        lambda x, w, v: op("conv", op("conv", x, w, **PLAIN), v, **PLAIN),
        {"x": image(3, 2, 5, 4), "w": image(4, 2, 3, 3), "v": image(2, 4, 3, 3)},
    ),
    "a point after a plane": (
        lambda x, w, v: op("conv", op("conv", x, w, **PLAIN), v, **POINT),
        {"x": image(3, 2, 5, 4), "w": image(4, 2, 3, 3), "v": image(2, 4, 1, 1)},
    ),
    "a point of what lies image by image": (
        lambda x, v: op("conv", x, v, **POINT),
        {"x": image(3, 4, 5, 4), "v": image(2, 4, 1, 1)},
    ),
    "groups of points": (
        lambda x, v: op("conv", x, v, **{**POINT, "groups": 2}),
        {"x": image(3, 4, 5, 4), "v": image(6, 2, 1, 1)},
    ),
    "back from a point": (
        lambda g, w, v: op("conv_input", op("conv", g, w, **PLAIN), v, size=(5, 4), **POINT),
        {"g": image(3, 2, 5, 4), "w": image(4, 2, 3, 3), "v": image(4, 3, 1, 1)},
    ),
    "a result turned and flattened": (
        lambda x, w: op("reshape", op("permute", op("conv", x, w, **PLAIN), axes=(0, 2, 3, 1)), shape=(3, 80)),
        {"x": image(3, 2, 5, 4), "w": image(4, 2, 3, 3)},
    ),
    "results side by side": (
        lambda x, w: op("concat", op("conv", x, w, **PLAIN), x, op("conv", x, w, **PLAIN), axis=1),
        {"x": image(3, 2, 5, 4), "w": image(4, 2, 3, 3)},
    ),
}


def graph_of(build, inputs):
    builder = Builder("case")
    refs = {name: builder.input(name, type_of(array)) for name, array in inputs.items()}
    return builder.graph([("out", build(**refs))])


@pytest.fixture(scope="module")
def batch():
    """All kernels of this file, compiled once."""
    batch = Batch()
    for dtype in ("f32", "f64"):
        batch.add(tape_of(ROWS["conv_weight"].cases[0].graph(dtype)))  # conv and combine
    for build, inputs in LAYOUTS.values():
        batch.add(tape_of(graph_of(build, inputs)))
    batch.compile()
    return batch


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize(("scratch", "lines"), LIMITS)
def test_boxes_of_every_size_on_every_number_of_threads(batch, name, scratch, lines):
    for case, dtype in ROWS[name].runs():
        graph, values = case.graph(dtype), case.values(dtype)
        expected = interpreted(graph, values)[0]["out"]
        with boxes_of(scratch, lines), sharing_everything():
            tape = tape_of(graph)
            for threads in (1, 2, 3):
                close(batch.program(tape, {}, threads).run(values)["out"], expected, (case, threads))
            if lines == 25:  # every access checked, memory poisoned
                close(run_plainly(tape, values, {}, 2)["out"], expected, case)


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("scratch", [120, lowering.SCRATCH])
def test_operands_may_lie_in_any_way(batch, name, scratch):
    build, inputs = LAYOUTS[name]
    graph = graph_of(build, inputs)
    expected = interpreted(graph, inputs)[0]["out"]
    with boxes_of(scratch), sharing_everything():
        tape = tape_of(graph)
        for threads in (1, 2, 3):
            close(batch.program(tape, {}, threads).run(inputs)["out"], expected, threads)
        close(run_plainly(tape, inputs, {}, 2)["out"], expected, name)


# what binding decides ------------------------------------------------------------------------------------------------
def bound(build, inputs, threads):
    """The convolutions of a program: their calls, and their argument words by name, of every thread."""
    tape = tape_of(graph_of(build, inputs))
    names = [p.split(":")[0] for p in KERNEL.PARAMS.split()]
    at = Addresses(lambda buffer, thread: 0, {}, {"sgemm": 0, "dgemm": 0}, tiles=False)
    with sharing_everything():
        entries = plan(tape, {}, threads).entries
    calls = [c for c in entries if isinstance(c, Call) and c.instr.kernel.startswith("conv")]
    return [(c, [dict(zip(names, words(tape, c, t, at), strict=True)) for t in range(threads)]) for c in calls]


def test_threads_share_images_or_else_rows():
    weight = image(16, 8, 3, 3)
    many = {"x": image(4, 8, 16, 16), "w": weight}
    [(call, [first, second])] = bound(lambda x, w: op("conv", x, w, **PLAIN), many, 2)
    assert call.split == 0 and first["n"] == second["n"] == 2 and first["ph"] == second["ph"] == 1
    one = {"x": image(1, 8, 16, 16), "w": weight}
    [(call, [first, second])] = bound(lambda x, w: op("conv", x, w, **PLAIN), one, 2)
    assert call.split == 6 and first["h"] == second["h"] == 8
    assert (first["ph"], second["ph"]) == (1, -7)  # the second half begins with row 7 of x


def test_a_point_is_read_where_it_lies():
    point = {"x": image(2, 8, 16, 16), "v": image(4, 8, 1, 1)}
    [(_, [words])] = bound(lambda x, v: op("conv", x, v, **POINT), point, 1)
    assert words["direct"] == 1 and (words["bn"], words["bh"], words["bw"]) == (1, 16, 16)  # image by image
    after = {"x": image(2, 3, 16, 16), "w": image(8, 3, 3, 3), "v": image(4, 8, 1, 1)}
    _, (_, [words]) = bound(lambda x, w, v: op("conv", op("conv", x, w, **PLAIN), v, **POINT), after, 1)
    assert words["direct"] == 1 and words["bn"] == 2  # outputs before images: both are one matrix
    small = {"x": image(2, 8, 4, 4), "v": image(4, 8, 1, 1)}
    assert bound(lambda x, v: op("conv", x, v, **POINT), small, 1)[0][1][0]["direct"] == 0


def test_scratch_memory_does_not_grow_with_the_batch():
    graphs = [graph_of(lambda x, w: op("conv", x, w, **PLAIN), {"x": image(n, 8, 32, 32), "w": image(8, 8, 3, 3)})
              for n in (64, 512)]  # fmt: skip
    own = [[b.size for b in tape_of(g).buffers if b.segment == "partial"] for g in graphs]
    assert own[0] == own[1] and sum(own[0]) < 1.3 * (lowering.SCRATCH + lowering.LINES)
