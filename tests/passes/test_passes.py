"""Passes as text in, text out."""

import numpy as np
import pytest

import gradtape.ir.ops  # noqa: F401
from gradtape.ir.build import Builder
from gradtape.ir.interp import evaluate_graph
from gradtape.ir.op import OPS
from gradtape.ir.tape import Instr, StopIf
from gradtape.ir.text import parse
from gradtape.ir.types import TensorType
from gradtape.ir.verify import verify
from gradtape.passes.autodiff import differentiate
from gradtape.passes.fuse import Group, fuse
from gradtape.passes.layout import reshape_strides, source_strides, strided_view
from gradtape.passes.lower import lower
from gradtape.passes.rewrite import expand
from gradtape.passes.simplify import RULES, _build, _parse, simplify


def after(text, passes=simplify):
    return verify(passes(parse(text)))


def ops(graph):
    return [n.op for n in graph.nodes]


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.before)
def test_both_sides_of_a_rule_agree(rule):
    values = np.array([0.5, -1.5, 3.0, 2.0, 0.0, np.inf, -np.inf, np.nan, -0.0])
    if not rule.exact:
        values = np.abs(values[:4])
    names = {n for n in "xy" if n in rule.before}

    def side(text):
        builder = Builder("side")
        refs = {n: builder.input(n, TensorType("f64", values.shape)) for n in sorted(names)}
        result = _build(_parse(text), refs)
        return evaluate_graph(builder.graph([("out", result)]), dict.fromkeys(names, values))["out"]

    with np.errstate(all="ignore"):
        before, new = side(rule.before), side(rule.after)
    if rule.exact and "pow" not in rule.before:
        np.testing.assert_array_equal(np.signbit(before[~np.isnan(before)]), np.signbit(new[~np.isnan(new)]))
    np.testing.assert_allclose(new, before, rtol=0 if rule.exact else 1e-15)


def test_a_rule_for_floats_leaves_integers_alone():
    graph = after("""
graph g(%n: i64[3] input) {
  %0: i64[3] = pow(%n, -1)
  %1: i64[3] = pow(%n, 2)
  return inverse=%0, square=%1
}""")
    assert ops(graph) == ["pow", "square"]


def test_shape_ops_that_do_nothing_go_and_pairs_join():
    graph = after("""
graph g(%x: f32[2, 3] input) {
  %0: f32[3, 2] = permute(%x) {axes=[1, 0]}
  %1: f32[2, 3] = permute(%0) {axes=[1, 0]}
  %2: f32[6] = reshape(%1) {shape=[6]}
  %3: f32[3, 2] = reshape(%2) {shape=[3, 2]}
  return out=%3
}""")
    assert ops(graph) == ["reshape"]


def test_the_index_along_an_axis_is_not_checked_against_it():
    graph = after("""
graph g(%x: f32[N, 3] input, %t: i64[N] input) {
  %0: i64[N] = iota() {axis=0, dtype="i64", shape=[N]}
  %1: i64[N] = wrapped(%0) {axis=0, size=N}
  %2: i64[N] = wrapped(%t) {axis=1, size=3}
  %3: i64[N] = add(%1, %2)
  return out=%3
}""")
    assert ops(graph) == ["iota", "wrapped", "add"]


def test_equal_nodes_merge_within_forward_but_not_with_backward():
    graph = after("""
graph g(%x: f32[4] input) {
  %0: f32[4] = exp(%x)  ; m.py:1
  %1: f32[4] = exp(%x)  ; m.py:2
  %2: f32[4] = exp(%x)  ; m.py:1 bwd %0
  %3: f32[] = sum(%1) {axes=[0], keepdims=false}  ; m.py:3
  %4: f32[] = sum(%2) {axes=[0], keepdims=false}  ; m.py:1 bwd %0
  %5: f32[4] = mul(%0, %2)  ; m.py:1 bwd %0
  return a=%5, b=%3, c=%4
}""")
    assert ops(graph).count("exp") == 2  # one forward, one recomputed
    assert ops(graph).count("sum") == 1  # the sums are equal, although their operands were kept apart


def test_gradients_of_a_split_become_a_concat():
    graph = after("""
graph g(%q: f32[5, 2] input, %k: f32[5, 2] input) {
  %0: f32[5, 4] = unslice(%k) {shape=[5, 4], start=[0, 2], step=[1, 1]}
  %1: f32[5, 4] = unslice(%q) {shape=[5, 4], start=[0, 0], step=[1, 1]}
  %2: f32[5, 4] = add(%0, %1)
  return out=%2
}""")
    assert ops(graph) == ["concat"]
    values = {"q": np.ones((5, 2), "f4"), "k": np.full((5, 2), 2, "f4")}
    np.testing.assert_array_equal(evaluate_graph(graph, values)["out"][0], [1, 1, 2, 2])


def test_overlapping_parts_stay_a_sum():
    graph = after("""
graph g(%q: f32[3] input, %k: f32[2] input) {
  %0: f32[4] = unslice(%q) {shape=[4], start=[0], step=[1]}
  %1: f32[4] = unslice(%k) {shape=[4], start=[2], step=[1]}
  %2: f32[4] = add(%0, %1)
  return out=%2
}""")
    assert "concat" not in ops(graph)


def test_expand_replaces_bodies_inside_bodies():
    graph = after(
        "graph g(%x: f32[2, 3] input) {\n  %0: f32[2, 3] = layer_norm(%x) {axes=[1], eps=1e-05}\n  return out=%0\n}",
        expand,
    )
    assert all(OPS[op].body is None for op in ops(graph))
    verify(graph, "expanded")


def test_fan_in_is_summed_and_locations_serve_the_forward():
    graph = differentiate(
        parse("""
graph g(%w: f64[3] param) {
  %0: f64[3] = mul(%w, %w)  ; m.py:7 block
  %1: f64[3] = add(%0, %w)  ; m.py:8
  %2: f64[] = sum(%1) {axes=[0], keepdims=false}  ; m.py:9
  return loss=%2
}"""), "loss", ["w"])  # fmt: skip
    w = np.array([1.0, 2.0, -3.0])
    np.testing.assert_allclose(evaluate_graph(graph, {"w": w})["grad:w"], 2 * w + 1)
    derived = [n.location for n in graph.nodes if n.location and n.location.of]
    assert derived and {(where.line, where.of) for where in derived} >= {(7, "0"), (9, "2")}


def test_an_input_without_a_path_has_no_gradient():
    graph = differentiate(
        parse("""
graph g(%w: f32[3] param, %v: f32[3] param) {
  %0: f32[3] = round(%v)
  %1: f32[3] = add(%w, %0)
  %2: f32[] = sum(%1) {axes=[0], keepdims=false}
  return loss=%2
}"""), "loss", ["w", "v"])  # fmt: skip
    assert [name for name, _ in graph.outputs] == ["loss", "grad:w"]


@pytest.mark.parametrize(
    "left,right", [((3,), (3,)), ((3,), (3, 2)), ((2, 3), (3,)), ((4, 2, 3), (3, 5)), ((4, 1, 2, 3), (2, 3, 2))]
)
def test_gradients_of_products(left, right):
    rng = np.random.default_rng(0)
    builder = Builder("g")
    x, y = builder.input("x", TensorType("f64", left), "param"), builder.input("y", TensorType("f64", right), "param")
    out = x @ y
    weights = rng.standard_normal(out.shape)
    loss = OPS["sum"](out * weights, axes=tuple(range(out.ndim)), keepdims=False)
    graph = verify(differentiate(builder.graph([("loss", loss)]), "loss", ["x", "y"]))
    values = {"x": rng.standard_normal(left), "y": rng.standard_normal(right)}
    found = evaluate_graph(graph, values)
    for name in values:
        direction = rng.standard_normal(values[name].shape)
        # the product is linear in each operand: the difference is exact
        moved = evaluate_graph(graph, {**values, name: values[name] + direction})["loss"]
        np.testing.assert_allclose(np.sum(found[f"grad:{name}"] * direction), moved - found["loss"], rtol=1e-9)


def groups(text):
    return [i for i in fuse(simplify(expand(simplify(parse(text))))).items if isinstance(i, Group)]


def test_a_layer_norm_is_one_group():
    found = groups("""
graph g(%x: f32[B, 8] input, %g: f32[8] param) where B {
  %0: f32[B, 8] = layer_norm(%x) {axes=[1], eps=1e-05}
  %1: f32[B, 8] = mul(%0, %g)
  return out=%1
}""")
    assert len(found) == 1


def test_two_different_reductions_are_two_groups():
    found = groups("""
graph g(%x: f32[4, 8] input) {
  %0: f32[4, 1] = max(%x) {axes=[1], keepdims=true}
  %1: f32[1, 8] = max(%x) {axes=[0], keepdims=true}
  return a=%0, b=%1
}""")
    assert len(found) == 2


def test_a_bias_gradient_is_summed_on_the_side_of_what_it_sums():
    found = groups("""
graph g(%x: f32[4, 8] input) {
  %0: f32[4, 8] = exp(%x)
  %1: f32[8] = sum(%0) {axes=[0], keepdims=false}
  return a=%0, b=%1
}""")
    assert len(found) == 1


def test_what_needs_a_finished_sum_comes_later():
    found = groups("""
graph g(%x: f32[4, 8] input) {
  %0: f32[] = sum(%x) {axes=[0, 1], keepdims=false}
  %1: f32[4, 8] = div(%x, %0)
  return a=%1
}""")
    assert len(found) == 2


BATCH_NORM = """
graph g(%x: f32[8, 6, 5] input, %g: f32[8, 6, 5] input, %w: f32[6, 1] param) {{
  %0: f32[8, 6, 5] = layer_norm(%x) {{axes={axes}, eps=1e-05}}
  %1: f32[8, 6, 5] = mul(%0, %w)
  %2: f32[8, 6, 5] = mul(%1, %g)
  %3: f32[] = sum(%2) {{axes=[0, 1, 2], keepdims=false}}
  return loss=%3
}}"""


def test_a_norm_over_axes_that_are_not_adjacent_is_one_group_each_way():
    """Forward, or backward, or both where nothing stands between them: a row is one channel of every example."""
    graph = differentiate(parse(BATCH_NORM.format(axes="[0, 2]")), "loss", ["x", "w"])
    found = [i for i in fuse(simplify(expand(simplify(graph)))).items if isinstance(i, Group)]
    (norm,) = [g for g in found if len(g.nodes) > 1]
    assert norm.inner == {-3, -1}


def test_rows_are_not_columns():
    """A norm over the first axis: read by rows, with sums on the side, not by columns (18 ms for 0.3, 512 x 256)."""
    graph = parse("""
graph g(%x: f32[8, 6] input, %w: f32[6] param) {
  %0: f32[8, 6] = layer_norm(%x) {axes=[0], eps=1e-05}
  %1: f32[8, 6] = mul(%0, %w)
  return out=%1
}""")
    found = [i for i in fuse(simplify(expand(simplify(graph)))).items if isinstance(i, Group)]
    whole = [g for g in found if g.space == (8, 6)]
    assert len(whole) == 3  # the mean, the variance, the result
    assert all(g.inner in (None, {-1}) for g in whole)


@pytest.mark.parametrize(
    ("nodes", "kinds"),
    [
        # what does not depend on the index comes after it, and is written where it belongs
        ("%0: i64[5] = bounded(%i) {size=5}\n  %1: i64[5] = add(%b, 1)", ["bounded", "StopIf", "row"]),
        # an index that depends on the new value: that is computed before, and copied after
        ("%1: i64[5] = add(%b, %i)\n  %0: i64[5] = bounded(%1) {size=5}", ["row", "bounded", "StopIf", "row"]),
        # a kernel by hand has its result elsewhere, too
        (
            "%1: i64[5] = dynamic_update_slice(%b, %i, %s) {axis=0}\n  %2: i64[5] = add(%1, %i)\n"
            "  %0: i64[5] = bounded(%2) {size=5}",
            ["row", "dynamic", "row", "bounded", "StopIf", "row"],
        ),
        (
            "%2: i64[5] = bounded(%i) {size=5}\n  %1: i64[5] = dynamic_update_slice(%b, %i, %s) {axis=0}\n"
            "  %0: i64[5] = add(%1, %2)",
            ["bounded", "StopIf", "dynamic", "row"],
        ),
    ],
)  # fmt: skip
def test_nothing_is_updated_before_an_index_is_checked(nodes, kinds):
    inputs = "%i: i64[5] input, %s: i64[] input, %b: i64[5] buffer"
    tape = lower(expand(parse(f"graph g({inputs}) {{\n  {nodes}\n  return out=%0\n  update %b = %1\n}}")))
    assert [type(s).__name__ if type(s) is not Instr else s.kernel.split("_")[0] for s in tape.steps] == kinds
    stored = next(i for i, b in enumerate(tape.buffers) if b.segment == "buffer")
    stopped = next(i for i, s in enumerate(tape.steps) if type(s) is StopIf)
    written = [
        i for i, s in enumerate(tape.steps)
        if type(s) is Instr and any(o.view.buffer == stored and "w" in o.mode for o in s.operands)
    ]  # fmt: skip
    assert len(written) == 1
    assert stopped < written[0]


@pytest.mark.parametrize("seed", range(40))
def test_reshape_strides_are_numpys(seed):
    rng = np.random.default_rng(seed)
    shape = tuple(int(d) for d in rng.choice([1, 2, 3, 4], rng.integers(1, 5)))
    axes = tuple(int(a) for a in rng.permutation(len(shape)))
    array = np.arange(np.prod(shape)).reshape(shape).transpose(axes)
    sizes = list(array.shape)
    new = []
    for d in sizes:
        new += [2, d // 2] if d % 2 == 0 and rng.random() < 0.5 else [d]
    while len(new) > 1 and rng.random() < 0.5:
        i = int(rng.integers(len(new) - 1))
        new[i : i + 2] = [new[i] * new[i + 1]]
    found = reshape_strides(array.shape, tuple(s // array.itemsize for s in array.strides), tuple(new))
    reshaped = array.reshape(new)
    if found is None:
        assert not np.shares_memory(reshaped, array)
    else:
        view = np.lib.stride_tricks.as_strided(array, new, [s * array.itemsize for s in found])
        np.testing.assert_array_equal(view, reshaped)


def test_views_are_inverted():
    graph = parse("""
graph g(%x: f32[B, 2, T, 4] input) where B, T {
  %0: f32[B, T, 2, 4] = permute(%x) {axes=[0, 2, 1, 3]}
  return out=%0
}""")
    node = graph.nodes[0]
    from gradtape.ir.tape import View, contiguous

    target = contiguous(node.output.type.shape)
    strides = source_strides(node, target)
    assert strided_view(node, View(0, 0, strides)).strides == target


def test_a_product_whose_result_is_wanted_transposed_makes_no_copy():
    tape = lower(simplify(parse("""
graph g(%x: f32[6, 4] input, %g: f32[6, 5] input) {
  %0: f32[4, 6] = permute(%x) {axes=[1, 0]}
  %1: f32[4, 5] = matmul(%0, %g)
  %2: f32[5, 4] = permute(%1) {axes=[1, 0]}
  %3: f32[5, 4] = mul(%2, %2)
  %4: f32[5, 4] = add(%2, %3)
  return out=%4
}""")))  # fmt: skip
    kernels = [i.kernel.split("_")[0] for i in tape.instructions()]
    assert kernels == ["thin", "row"]
    (row,) = tape.rows.values()
    assert row.inner == 1 and row.outer == 0  # dense: one axis


def test_an_index_that_is_turned_is_an_index():
    graph = after("""
graph g(%x: f32[T, T] input) {
  %0: i64[T] = iota() {axis=0, dtype="i64", shape=[T]}
  %1: i64[T, 1] = reshape(%0) {shape=[T, 1]}
  %2: bool[T, T] = greater_equal(%1, %0)
  %3: f32[T, T] = where(%2, %x, 0)
  return out=%3
}""")
    assert ops(graph) == ["iota", "iota", "greater_equal", "where"]
    assert [n.attrs["axis"] for n in graph.nodes[:2]] == [0, 0] and str(graph.nodes[1].output.type) == "i64[T, 1]"


def kernels(text):
    tape = lower(simplify(expand(simplify(parse(text)))))
    return [i.kernel.rpartition("_")[0] for i in tape.instructions()]


@pytest.mark.parametrize(
    ("x", "y", "kernel"),
    [
        ("1, 40", "40, 30", ["thin_gemm"]),
        ("12, 40", "40, 30", ["thin_gemm"]),
        ("13, 40", "40, 30", ["gemm"]),
        ("B, 40", "40, 30", ["gemm"]),
        ("2, 3, 40", "40, 30", ["thin_gemm"]),
        ("2, 3, 40", "2, 40, 30", ["thin_gemm"]),
        ("40", "40, 30", ["thin_gemm"]),
        ("70, 40", "40, 3", ["gemm"]),
    ],
)
def test_products_of_a_few_rows_have_a_kernel_of_their_own(x, y, kernel):
    rank = max(x.count(","), y.count(","))
    out = ", ".join([*x.split(", ")[:-1], "30" if "30" in y else "3"][-rank - 1 :])
    where = " where B" if "B" in x else ""
    inputs = f"%x: f32[{x}] input, %y: f32[{y}] param"
    assert kernels(f"graph g({inputs}){where} {{\n  %0: f32[{out}] = matmul(%x, %y)\n  return out=%0\n}}") == kernel


def test_a_factor_that_the_kernel_for_few_rows_cannot_read_goes_to_blas():
    """Both stored transposed: neither rows of the one nor columns of the other are adjacent."""
    text = """
graph g(%x: f32[40, 4] input, %y: f32[30, 40] param) {
  %0: f32[4, 40] = permute(%x) {axes=[1, 0]}
  %1: f32[40, 30] = permute(%y) {axes=[1, 0]}
  %2: f32[4, 30] = matmul(%0, %1)
  return out=%2
}"""
    assert kernels(text) == ["gemm"]
    text = text.replace("%x: f32[40, 4]", "%x: f32[4, 40]").replace("permute(%x) {axes=[1, 0]}", "neg(%x)")
    assert kernels(text) == ["row", "thin_gemm"]


NORM = """
graph g(%x: f32[1, 64] input, %w: f32[64] param) {
  %0: f32[1, 64] = layer_norm(%x) {axes=[1], eps=1e-05}
  %1: f32[1, 64] = mul(%0, %w)
  return out=%1
}"""


def test_a_norm_of_a_single_row_is_one_loop_nest():
    assert len(kernels(NORM)) == 1
    assert len(kernels(NORM.replace("64", "8192"))) > 1  # long: threads share the sums


def test_a_sum_that_is_a_result_is_shared_out():
    text = """
graph g(%x: f32[64] input) {
  %0: f32[64] = exp(%x)
  %1: f32[] = sum(%0) {axes=[0], keepdims=false}
  return out=%1
}"""
    assert kernels(text)[-1] == "combine"
