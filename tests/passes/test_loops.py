# ruff: noqa: E501  (graphs have long lines)
"""Passes over loops as text in, text out; and loops on the tape."""

import numpy as np
import pytest

import gradtape.ir.ops  # noqa: F401
from gradtape.ir.interp import evaluate_graph
from gradtape.ir.tape import Loop
from gradtape.ir.text import parse, to_text
from gradtape.ir.verify import verify
from gradtape.passes.autodiff import differentiate
from gradtape.passes.hoist import hoist
from gradtape.passes.lower import lower
from gradtape.passes.rewrite import expand
from gradtape.passes.simplify import simplify, slice_operands


def values_of(graph, **sizes):
    rng = np.random.default_rng(0)
    sizes = {"T": 5, "B": 2, **sizes}
    shape = lambda v: tuple(d if isinstance(d, int) else sizes[str(d)] for d in v.type.shape)
    return {v.name: rng.uniform(-1, 1, shape(v)) for v in graph.inputs}


def after(text, *passes):
    """The graph after some passes; it is well-formed and computes the same."""
    before = graph = verify(parse(text))
    values = values_of(before)
    for change in passes:
        graph = verify(change(graph))
    expected, found = evaluate_graph(before, values), evaluate_graph(graph, values)
    assert expected.keys() == found.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-12, atol=1e-13)
    return graph


def body_of(graph, number=0):
    return [n for n in graph.nodes if n.op == "scan"][number].regions[0]


def ops(graph):
    return [n.op for n in graph.nodes]


# simplification -----------------------------------------------------------------------------------------------------
def test_what_is_not_read_goes_with_all_that_only_it_needs():
    graph = after(
        """
graph g(%h: f64[3] input, %n: f64[] input, %w: f64[3] input, %u: f64[3] input, %xs: f64[T, 3] input, %ys: f64[T, 3] input) where T {
  %0: f64[3], %1: f64[], %2: f64[T, 3], %3: f64[T, 3] = scan(%w, %u, %h, %n, %xs, %ys) {carries=2, consts=2, length=T, reverse=false} {
    region body(%w: f64[3] input, %u: f64[3] input, %h: f64[3] input, %n: f64[] input, %x: f64[3] input, %y: f64[3] input) {
      %0: f64[3] = mul(%h, %w)
      %1: f64[3] = add(%0, %x)
      %2: f64[] = add(%n, 1.0)
      %3: f64[3] = mul(%u, %y)
      return h=%1, n=%2, a=%0, b=%3
    }
  }
  return last=%0
}""",
        simplify,
    )
    assert to_text(body_of(graph), locations=False) == (
        "graph body(%w: f64[3] input, %h: f64[3] input, %x: f64[3] input) {\n"
        "  %0: f64[3] = mul(%h, %w)\n"
        "  %1: f64[3] = add(%0, %x)\n"
        "  return h=%1\n"
        "}\n"
    )
    (node,) = graph.nodes
    assert dict(node.attrs)["carries"] == dict(node.attrs)["consts"] == 1


def test_a_carry_that_another_one_needs_stays():
    text = """
graph g(%a: f64[] input, %b: f64[] input, %c: f64[] input, %xs: f64[T] input) where T {
  %0: f64[], %1: f64[], %2: f64[] = scan(%a, %b, %c, %xs) {carries=3, consts=0, length=T, reverse=false} {
    region body(%a: f64[] input, %b: f64[] input, %c: f64[] input, %x: f64[] input) {
      %0: f64[] = mul(%a, %x)
      %1: f64[] = add(%b, %c)
      return a=%b, b=%0, c=%1
    }
  }
  return a=%0
}"""
    assert [v.name for v in body_of(after(text, simplify)).inputs] == ["a", "b", "x"]


def test_what_stays_the_same_is_a_constant_and_what_is_passed_on_is_what_it_was():
    graph = after(
        """
graph g(%h: f64[3] input, %k: f64[3] input, %xs: f64[T, 3] input) where T {
  %0: f64[3], %1: f64[3], %2: f64[T, 3], %3: f64[T, 3], %4: f64[T, 3] = scan(%h, %k, %xs) {carries=2, consts=0, length=T, reverse=true} {
    region body(%h: f64[3] input, %k: f64[3] input, %x: f64[3] input) {
      %0: f64[3] = mul(%h, %k)
      %1: f64[3] = add(%0, %x)
      return h=%1, k=%k, x=%x, again=%1, k2=%k
    }
  }
  return h=%0, k=%1, x=%2, again=%3, k2=%4
}""",
        simplify,
    )
    (node,) = [n for n in graph.nodes if n.op == "scan"]
    assert dict(node.attrs)["consts"] == 1 and len(node.outputs) == 2
    assert [str(v) for _, v in graph.outputs[1:3]] == ["%k: f64[3]", "%xs: f64[T, 3]"]
    assert sorted(ops(graph)) == ["broadcast_to", "scan"]


def test_generators_are_made_in_the_body_and_twins_come_in_once():
    graph = after(
        """
graph g(%h: f64[3] input, %w: f64[3] input) {
  %0: f64[4, 3] = full() {dtype="f64", shape=[4, 3], value=0.5}
  %1: f64[3] = iota() {axis=0, dtype="f64", shape=[3]}
  %2: f64[1, 3] = reshape(%w) {shape=[1, 3]}
  %3: f64[4, 3] = broadcast_to(%2) {shape=[4, 3]}
  %4: f64[3] = scan(%1, %w, %h, %0, %3) {carries=1, consts=2, length=4, reverse=false} {
    region body(%i: f64[3] input, %w: f64[3] input, %h: f64[3] input, %x: f64[3] input, %y: f64[3] input) {
      %0: f64[3] = mul(%h, %x)
      %1: f64[3] = add(%0, %i)
      %2: f64[3] = mul(%w, %y)
      %3: f64[3] = add(%1, %2)
      return h=%3
    }
  }
  return h=%4
}""",
        simplify,
        simplify,
    )
    assert [v.name for v in body_of(graph).inputs] == ["w", "h"]
    assert {n.op for n in body_of(graph).nodes} >= {"full", "iota"} and ops(graph) == ["scan"]


def test_composites_are_expanded_in_bodies_too():
    graph = after(
        """
graph g(%h: f64[2, 3] input) {
  %0: f64[2, 3] = scan(%h) {carries=1, consts=0, length=3, reverse=false} {
    region body(%h: f64[2, 3] input) {
      %0: f64[2, 3] = softmax(%h) {axis=1}
      return h=%0
    }
  }
  return h=%0
}""",
        expand,
    )
    verify(graph, "expanded")


def test_parts_of_an_elementwise_result_are_computed_apart():
    text = """
graph g(%x: f64[2, 6] input, %b: f64[6] input, %c: f64[2, 1] input) {
  %0: f64[2, 6] = add(%x, %b)
  %1: f64[2, 6] = mul(%0, %c)
  %2: f64[2, 3] = slice(%1) {size=[2, 3], start=[0, 0], step=[1, 1]}
  %3: f64[2, 3] = slice(%1) {size=[2, 3], start=[0, 3], step=[1, 1]}
  %4: f64[2, 3] = tanh(%2)
  %5: f64[2, 3] = mul(%4, %3)
  return out=%5
}"""
    graph = after(text, slice_operands)
    assert ops(graph).count("add") == 2 and all(n.inputs[0].name in "xbc" for n in graph.nodes if n.op == "slice")
    whole = text.replace("return out=%5", "return out=%5, whole=%1")
    assert ops(after(whole, slice_operands)) == ops(parse(whole))  # somebody reads the whole
    product = text.replace("%4: f64[2, 3] = tanh(%2)", "%4: f64[2, 2] = matmul(%2, %m)").replace(
        "%5: f64[2, 3] = mul(%4, %3)", "%5: f64[2, 2] = matmul(%3, %m)"
    )
    product = product.replace("%c: f64[2, 1] input", "%c: f64[2, 1] input, %m: f64[3, 2] input")
    assert ops(after(product, slice_operands)) == ops(parse(product))  # a product reads parts where they lie


# products leave loops -------------------------------------------------------------------------------------------------
RNN = """
graph g(%w: f64[4, 4] param, %u: f64[3, 4] param, %v: f64[4, 2] param, %b: f64[4] param, %h: f64[B, 4] input, %xs: f64[T, B, 3] input) where B, T {
  %0: f64[B, 4], %1: f64[T, B, 2] = scan(%w, %u, %v, %b, %h, %xs) {carries=1, consts=4, length=T, reverse=false} {
    region body(%w: f64[4, 4] input, %u: f64[3, 4] input, %v: f64[4, 2] input, %b: f64[4] input, %h: f64[B, 4] input, %x: f64[B, 3] input) {
      %0: f64[B, 4] = matmul(%x, %u)
      %1: f64[B, 4] = add(%0, %b)
      %2: f64[B, 4] = matmul(%h, %w)
      %3: f64[B, 4] = add(%1, %2)
      %4: f64[B, 4] = tanh(%3)
      %5: f64[B, 2] = matmul(%4, %v)
      return h=%4, y=%5
    }
  }
  %2: f64[T, B, 2] = mul(%1, %1)
  %3: f64[] = sum(%2) {axes=[0, 1, 2], keepdims=false}
  return loss=%3
}"""


def test_products_of_inputs_come_before_a_loop_and_products_of_results_after_it():
    graph = after(RNN, hoist, simplify)
    (kind,) = [n for n in graph.nodes if n.op == "scan"]
    assert ops(graph)[:3] == ["matmul", "scan", "matmul"]
    assert [n.op for n in kind.regions[0].nodes] == ["add", "matmul", "add", "tanh"]  # the bias stays in the loop
    assert str(graph.nodes[0].output.type) == "f64[T, B, 4]"


def test_sums_of_products_become_one_product_over_all_rounds():
    def differentiated(graph):
        return differentiate(graph, "loss", ["w", "u", "v", "b"])

    before = verify(simplify(expand(simplify(differentiated(parse(RNN))))))
    graph = verify(simplify(hoist(before)), "expanded")
    values = values_of(before)
    for name, array in evaluate_graph(before, values).items():
        np.testing.assert_allclose(evaluate_graph(graph, values)[name], array, rtol=1e-11)
    loops = [n.regions[0] for n in graph.nodes if n.op == "scan"]
    assert [ops(b).count("matmul") for b in loops] == [1, 1]  # what depends on the state, forward and backward
    assert not any("sum" in ops(b) for b in loops)  # not even the bias is summed round by round
    grads = dict(graph.outputs)
    producers = graph.producers()
    for name in ("grad:w", "grad:u"):
        product = producers[grads[name]]
        assert product.op == "matmul" and str(product.inputs[0].type.shape[1]) == "B*T"


def test_work_that_every_round_repeats_is_done_once():
    graph = after(
        """
graph g(%w: f64[3, 3] param, %h: f64[2, 3] input, %xs: f64[4, 2, 3] input) {
  %0: f64[2, 3] = scan(%w, %h, %xs) {carries=1, consts=1, length=4, reverse=false} {
    region body(%w: f64[3, 3] input, %h: f64[2, 3] input, %x: f64[2, 3] input) {
      %0: f64[3, 3] = tanh(%w)
      %1: f64[3, 3] = matmul(%0, %w)
      %2: f64[2, 3] = matmul(%h, %1)
      %3: f64[2, 3] = add(%2, %x)
      return h=%3
    }
  }
  return h=%0
}""",
        hoist,
        simplify,
    )
    assert ops(graph) == ["tanh", "matmul", "scan"] and ops(body_of(graph)) == ["matmul", "add"]


def test_a_sum_keeps_in_the_loop_what_only_the_loop_can_add():
    graph = after(
        """
graph g(%s: f64[3, 3] input, %c: f64[3, 3] input, %xs: f64[4, 2, 3] input, %ys: f64[4, 2, 3] input) {
  %0: f64[3, 3], %1: f64[3, 3] = scan(%s, %c, %xs, %ys) {carries=2, consts=0, length=4, reverse=false} {
    region body(%s: f64[3, 3] input, %c: f64[3, 3] input, %x: f64[2, 3] input, %y: f64[2, 3] input) {
      %0: f64[3, 2] = permute(%x) {axes=[1, 0]}
      %1: f64[3, 3] = matmul(%0, %y)
      %2: f64[3, 3] = tanh(%c)
      %3: f64[3, 3] = sub(%2, %1)
      %4: f64[3, 3] = add(%s, %3)
      return s=%4, c=%2
    }
  }
  return s=%0, c=%1
}""",
        hoist,
        simplify,
    )
    assert ops(body_of(graph)) == ["tanh", "add"]
    assert ops(graph).count("matmul") == 1 and ops(graph)[-1] == "sub"


def test_a_carry_that_is_read_otherwise_is_no_sum():
    text = """
graph g(%s: f64[3, 3] input, %xs: f64[4, 3, 3] input) {
  %0: f64[3, 3], %1: f64[4, 3, 3] = scan(%s, %xs) {carries=1, consts=0, length=4, reverse=false} {
    region body(%s: f64[3, 3] input, %x: f64[3, 3] input) {
      %0: f64[3, 3] = matmul(%x, %x)
      %1: f64[3, 3] = add(%s, %0)
      return s=%1, y=%s
    }
  }
  return s=%0, y=%1
}"""
    graph = after(text, hoist, simplify)
    assert ops(body_of(graph)) == ["add"] and ops(graph) == ["matmul", "scan"]  # the product still leaves


@pytest.mark.parametrize(
    ("op", "shape", "attrs"),
    [
        ("reshape", "[4, 2]", "{shape=[4, 2]}"),
        ("permute", "[4, 2]", "{axes=[1, 0]}"),
        ("slice", "[2, 2]", "{size=[2, 2], start=[0, 1], step=[1, 2]}"),
        ("unslice", "[2, 6]", "{shape=[2, 6], start=[0, 2], step=[1, 1]}"),
        ("sum", "[2, 1]", "{axes=[1], keepdims=true}"),
        ("max", "[1, 4]", "{axes=[0], keepdims=true}"),
        ("broadcast_to", "[3, 2, 4]", "{shape=[3, 2, 4]}"),
        ("exp", "[2, 4]", ""),
    ],
)
def test_what_stands_between_two_products_goes_with_them(op, shape, attrs):
    rows = {"[4, 2]": 2, "[2, 2]": 2, "[2, 6]": 6, "[2, 1]": 1, "[1, 4]": 4}.get(shape, 4)
    out = shape.rsplit(",", 1)[0] + ", 3]"
    graph = after(
        f"""
graph g(%h: f64[3] input, %w: f64[4, 4] input, %v: f64[{rows}, 3] input, %xs: f64[T, 2, 4] input) where T {{
  %0: f64[3], %1: f64{out.replace("[", "[T, ")} = scan(%w, %v, %h, %xs) {{carries=1, consts=2, length=T, reverse=false}} {{
    region body(%w: f64[4, 4] input, %v: f64[{rows}, 3] input, %h: f64[3] input, %x: f64[2, 4] input) {{
      %0: f64[2, 4] = matmul(%x, %w)
      %1: f64{shape} = {op}(%0) {attrs}
      %2: f64{out} = matmul(%1, %v)
      %3: f64{out} = mul(%2, %h)
      %4: f64[3] = tanh(%h)
      return h=%4, y=%3
    }}
  }}
  return h=%0, y=%1
}}""",
        hoist,
        simplify,
    )
    assert "matmul" not in ops(body_of(graph)) and ops(graph).count("matmul") == 2


# the tape -------------------------------------------------------------------------------------------------------------
def test_a_loop_stands_on_the_tape_with_its_body_inside():
    graph = simplify(hoist(simplify(expand(simplify(parse(RNN))))))
    tape = lower(graph)
    (loop,) = [s for s in tape.steps if isinstance(s, Loop)]
    assert [i.label for i in loop.body] == ["matmul", "add tanh"]
    assert set(loop.body) <= set(tape.instructions())
    text = str(tape).split("\n")
    (at,) = [i for i, line in enumerate(text) if line == "  loop round1 < T"]
    assert text[at + 1].startswith("    gemm_f64") and text[at + 2].startswith("    row_")
    assert not text[at + 3].startswith("    ")


def test_a_stacked_carry_needs_no_copy():
    """The new state is written into the next row of the stacked results, where the next round reads it."""
    text = RNN.replace("y=%5", "y=%5, z=%4").replace(
        "%1: f64[T, B, 2] = scan", "%1: f64[T, B, 2], %9: f64[T, B, 4] = scan"
    )
    graph = parse(text.replace("return loss=%3", "return loss=%3, z=%9"))
    tape = lower(simplify(hoist(simplify(expand(simplify(graph))))))
    (loop,) = [s for s in tape.steps if isinstance(s, Loop)]
    product, cell = loop.body
    reads, writes = product.operands[0].view, next(o.view for o in cell.operands if "w" in o.mode)
    assert reads.buffer == writes.buffer
    assert str(reads.offset) == "4*B*round1" and str(writes.offset) == "4*B*round1 + 4*B"
    assert not any(i.label == "copy" for i in loop.body)
