"""Intervals, equal values and constant axes hold for what programs really compute."""

import numpy as np
import pytest

from cases import special_arrays
from fuzz_programs import draw
from gradtape.ir.build import Builder
from gradtape.ir.dims import Dim, DimScope, Symbol, dim_scope
from gradtape.ir.interp import Interpreter
from gradtape.ir.op import OPS
from gradtape.ir.types import TensorType
from gradtape.passes.lint.along import constant_along, constants
from gradtape.passes.lint.intervals import ANY, Range, of_array, of_type
from gradtape.passes.lint.ranges import RULES, ranges
from gradtape.passes.lint.same import Same
from rows import ROWS


def assert_inside(found, array, what):
    """Every element that is a number lies in the range, but for rounding."""
    known = np.asarray(array, np.float64)
    known = known[~np.isnan(known)]
    if known.size == 0:
        return
    slack = 2e-5 * max([1.0, *(abs(end) for end in found if np.isfinite(end))])
    assert known.min() >= found.low - slack, (what, found, known.min())
    assert known.max() <= found.high + slack, (what, found, known.max())


def computed(graph, values):
    """Every value of the program, by Value."""
    run = Interpreter(graph, values)
    with np.errstate(all="ignore"):
        run.run()
    return run._values


def _rounds_alike(array, axis):
    """Equal along an axis but for the order in which a product of matrices sums."""
    first = array.take([0], axis) if array.size else array
    return array.dtype.kind == "f" and np.allclose(array, first, rtol=1e-5, atol=1e-6)


def assert_true_of(graph, values):
    """All that the analyses say of `graph`, given the ranges of its inputs, holds for these."""
    same, arrays = Same(graph), computed(graph, values)
    known = {v: of_array(arrays[v]) for v in graph.inputs if arrays[v].size}
    found, axes = ranges(graph, same, known), constants(graph, same)
    for node in graph.nodes:
        for value in node.outputs:
            array = arrays[value]
            assert_inside(found[value], array, node)
            alike = constant_along(array) | {axis for axis in range(array.ndim) if _rounds_alike(array, axis)}
            assert axes[value] <= alike or not np.isfinite(array).all(), (node, axes[value])
            first = same.of(value)
            np.testing.assert_allclose(array, arrays.get(first, getattr(first, "value", None)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ROWS)
def test_every_op_keeps_within_its_range(name):
    """From the exact ranges of the operands: nothing is wider than it is."""
    for case, dtype in ROWS[name].runs():
        for seed in range(3):
            assert_true_of(case.graph(dtype), case.values(dtype, seed))


@pytest.mark.parametrize(
    "name", [n for n, r in ROWS.items() if r.op.kind == "elementwise" and not (r.op.generator or r.op.random)]
)
def test_special_values_keep_within_the_range_of_all(name):
    """Zero, infinities, the largest numbers: one of them, or several."""
    row = ROWS[name]
    case = row.cases[0]
    for dtype in row.dtypes:
        if any(not hasattr(x, "shape") for x in case.inputs) or (name == "pow" and dtype[0] == "i"):
            continue  # NumPy has no negative powers of integers
        builder = Builder("special")
        kinds = [t.dtype for t in case.types(dtype)]
        arrays = special_arrays(kinds)
        args = [
            builder.input(f"x{i}", TensorType(k, a.shape)) for i, (k, a) in enumerate(zip(kinds, arrays, strict=True))
        ]
        out = builder.emit(row.op, args, case.attrs)
        graph = builder.graph([("out", out)])
        keep = ~np.any(
            [np.isnan(f) | (np.signbit(f) & (f == 0)) for f in (a.astype(np.float64) for a in arrays)], axis=0
        )
        rng = np.random.default_rng(0)
        for _ in range(20):
            chosen = np.flatnonzero(keep)[rng.permutation(int(keep.sum()))[: rng.integers(1, 6)]]
            some = [np.resize(a[chosen], a.shape) for a in arrays]
            values = {f"x{i}": a for i, a in enumerate(some)}
            known = {v: of_array(values[v.name]) for v in graph.inputs}
            found = ranges(graph, Same(graph), known)[graph.nodes[-1].output]
            assert_inside(found, computed(graph, values)[graph.nodes[-1].output], (name, dtype, values))


@pytest.mark.parametrize("seed", range(150))
def test_random_programs(seed):
    case = draw(seed)
    assert_true_of(case.graph, case.values)


def graph_of(build, **inputs):
    """A program of one expression, and its result."""
    builder = Builder("small", scope=DimScope({"T": Symbol("T", 1, 64)}))
    with dim_scope(builder.scope):
        args = [builder.input(name, kind) for name, kind in inputs.items()]
        out = build(*args)
        return builder.graph([("out", out)])


X = TensorType("f32", (3, 4))


@pytest.mark.parametrize(
    ("build", "low", "high"),
    [
        (lambda x: OPS["sigmoid"](x), 0, 1),
        (lambda x: OPS["exp"](x) + 1.0, 1, np.inf),
        (lambda x: OPS["relu"](x), 0, np.inf),
        (lambda x: OPS["relu"](-OPS["exp"](x)), 0, 0),
        (lambda x: x * x, 0, np.inf),
        (lambda x: x - x, 0, 0),
        (lambda x: x * 0.0, 0, 0),
        (lambda x: OPS["pow"](x, 0), 1, 1),
        (lambda x: OPS["abs"](OPS["tanh"](x)) * -2.0, -2, 0),
        (lambda x: OPS["softmax"](x, axis=1), 0, 1),
        (lambda x: OPS["sum"](OPS["softmax"](x, axis=1), axes=(1,), keepdims=False), 0, 4),
        (lambda x: OPS["layer_norm"](x, axes=(1,), eps=1e-5), -2, 2),
        (lambda x: OPS["reciprocal"](1.0 + OPS["exp"](-x)), 0, 1),
        (lambda x: OPS["clip"](x, -1.0, 2.0), -1, 2),
        (lambda x: OPS["where"](x > 0, 1.0, -3.0), -3, 1),
        (lambda x: OPS["argmax"](x, axis=1, keepdims=False), 0, 3),
        (lambda x: OPS["matmul"](OPS["sigmoid"](x), OPS["permute"](OPS["sigmoid"](x), axes=(1, 0))), 0, 4),
        (lambda x: OPS["cast"](x > 0, dtype="i64") * 5 - 2, -2, 3),
        (lambda x: OPS["square"](OPS["cast"](x, dtype="i64")), -(2.0**63), 2.0**63),
        (lambda x: OPS["sqrt"](-OPS["exp"](x)), -np.inf, np.inf),
    ],
)
def test_ranges_are_as_narrow_as_they_should_be(build, low, high):
    graph = graph_of(build, x=X)
    assert ranges(graph, Same(graph))[graph.output("out")] == Range(low, high)


def test_symbolic_sizes_have_their_bounds():
    kind = TensorType("f32", (Dim.of("T"), 4))
    graph = graph_of(lambda x: OPS["sum"](OPS["sigmoid"](x), axes=(0,), keepdims=False), x=kind)
    assert ranges(graph, Same(graph))[graph.output("out")] == Range(0, 64)


def test_what_an_op_without_a_rule_may_give():
    for name in ROWS:
        if name not in RULES and name != "constant":
            case, dtype = next(ROWS[name].runs())
            graph = case.graph(dtype)
            for node in graph.nodes:
                if node.op == name:
                    for value in node.outputs:
                        assert ranges(graph, Same(graph))[value] == of_type(value.type)
    assert of_type(X) == ANY and of_type(TensorType("bool", ())) == Range(0, 1)
