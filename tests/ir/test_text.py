import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradtape.ir import ops as _ops  # noqa: F401  fills the registry
from gradtape.ir.build import INLINE_CONSTANT, Builder
from gradtape.ir.dims import Dim, DimScope, Guard, Symbol
from gradtape.ir.graph import Graph, Literal, Node, Value
from gradtape.ir.interp import evaluate_graph
from gradtape.ir.location import Location
from gradtape.ir.op import OPS
from gradtape.ir.text import ParseError, parse, to_text
from gradtape.ir.types import TensorType, parse_type
from gradtape.ir.verify import verify

MLP = """\
graph mlp(%x: f32[B, 3] input, %fc1.weight: f32[3, 2] param, %lr: f32[] scalar) where 2 <= B <= 64, 3 <= T, C <= 9, N {
  %0: f32[B, 2] = matmul(%x, %fc1.weight)  ; mlp.py:12 fc1
  %1: f32[B, 2] = mul(%0, 2.5)
  %2: f32[B] = sum(%1) {axes=[1], keepdims=false}  ; mlp.py:13
  %3: f32[] = sum(%2) {axes=[0], keepdims=true}
  %4: f32[3, 2] = mul(%fc1.weight, %lr)  ; mlp.py:20 fc1 bwd %0
  return out=%2, loss=%3, one=1.0
  update %fc1.weight = %4
  guard B != 3  ; mlp.py:11
  guard B*T <= 4096
}
"""


def test_a_graph_by_hand() -> None:
    graph = parse(MLP)
    assert to_text(graph) == MLP
    assert parse(to_text(graph)) == graph
    assert graph.name == "mlp"
    assert [str(v) for v in graph.inputs] == ["%x: f32[B, 3]", "%fc1.weight: f32[3, 2]", "%lr: f32[]"]
    assert graph.roles == {"x": "input", "fc1.weight": "param", "lr": "scalar"}
    assert graph.symbols == {
        "B": Symbol("B", 2, 64), "T": Symbol("T", 3), "C": Symbol("C", max=9), "N": Symbol("N"),
    }  # fmt: skip
    assert [n.op for n in graph.nodes] == ["matmul", "mul", "sum", "sum", "mul"]
    assert graph.nodes[1].inputs[1] == Literal(2.5)
    assert graph.nodes[2].attrs == {"axes": (1,), "keepdims": False}
    assert graph.nodes[0].location == Location("mlp.py", 12, "fc1")
    assert graph.nodes[1].location is None
    assert graph.nodes[2].location == Location("mlp.py", 13)
    assert graph.nodes[4].location == Location("mlp.py", 20, "fc1", "0")
    assert dict(graph.outputs)["one"] == Literal(1.0)
    assert [name for name, _ in graph.updates] == ["fc1.weight"]
    assert graph.guards == (Guard("!=", Dim("B"), 3, "mlp.py:11"), Guard("<=", Dim("B") * Dim("T"), 4096))


def test_locations_are_comments() -> None:
    graph = parse(MLP)
    plain = to_text(graph, locations=False)
    assert ";" not in plain
    assert parse(plain) == graph
    assert parse(plain).digest() == graph.digest()
    assert parse(plain.replace("2.5", "2.25")) != graph
    assert graph != MLP


def test_blank_lines_comments_and_spaces_do_not_matter() -> None:
    text = """
    ; a comment line
    graph g( %x: f32[ 3 ] input ) {

        %0: f32[3]=add( %x ,1.0 )
      return  y = %0   ; not a location
    }
    """
    graph = parse(text)
    assert to_text(graph) == "graph g(%x: f32[3] input) {\n  %0: f32[3] = add(%x, 1.0)\n  return y=%0\n}\n"


def roundtrip(graph: Graph) -> Graph:
    again = parse(to_text(graph), graph.constants)
    assert again == graph
    assert to_text(again) == to_text(graph)
    return again


def one_node(attrs: dict[str, Any], *inputs: Any, outputs: int = 1) -> Graph:
    values = tuple(Value(str(i), TensorType("f32", (2,))) for i in range(outputs))
    return Graph("g", (), {}, (Node("some_op", inputs, attrs, values),), tuple((f"o{v.name}", v) for v in values))


@pytest.mark.parametrize(
    "value",
    [
        True, False, None, 0, -7, 2**63, 1.0, -0.0, 1e-05, 1e16, 1e300, -2.5e-300, math.inf, -math.inf, "", "f32",
        (), (1,), (1, (2.0, ()), "a"), Dim("T"), -Dim("T") + 4, 3 * Dim("B") * Dim("T") - 1, (Dim("T"), 1, -1),
        'a "quoted" \\ string', "ends in a backslash\\", "two\nlines\ttab", "; no  ; comment", "a, b] c) d} = {%0",
        "naïve \u2028 ✓", "true", "inf", "[1]",
    ],
)  # fmt: skip
def test_attributes(value: Any) -> None:
    back = roundtrip(one_node({"a": value, "b": (value, value)})).nodes[0].attrs
    for got in (back["a"], *back["b"]):
        assert type(got) is type(value)
        assert str(got) == str(value)


def test_a_nan_attribute() -> None:
    value = roundtrip(one_node({"value": math.nan})).nodes[0].attrs["value"]
    assert math.isnan(value)


@settings(derandomize=True, max_examples=150, deadline=None)
@given(
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text()),
        lambda inner: st.lists(inner, max_size=3).map(tuple),
        max_leaves=6,
    )
)
def test_any_attribute(value: Any) -> None:
    assert repr(roundtrip(one_node({"value": value})).nodes[0].attrs["value"]) == repr(value)


@pytest.mark.parametrize("value", [True, 3, -3, 2.5, -0.0, math.inf, -math.inf, math.nan, 1e-30])
def test_literals(value: Any) -> None:
    (literal,) = roundtrip(one_node({}, Literal(value))).nodes[0].inputs
    assert literal == Literal(value)
    assert type(literal.value) is type(value)


def test_several_results() -> None:
    graph = roundtrip(one_node({}, outputs=3))
    assert [v.name for v in graph.nodes[0].outputs] == ["0", "1", "2"]


NAMES = ["x", "0", "fc1.weight", "blocks.0.attn", "adam.m:fc1.weight", "layers[0].w", "a-b", "grad:x", "<lambda>"]
QUOTED = ["batch.input ids", "a,b", "x:", "é", 'he"llo', "50%", "", "a=b", "{", "a;b", "new\nline"]


@pytest.mark.parametrize("name", [*NAMES, *QUOTED])
def test_names(name: str) -> None:
    x, y = Value(name, parse_type("f32[2]")), Value(f"{name}2", parse_type("f32[2]"))
    node = Node("neg", (x,), {}, (y,))
    graph = roundtrip(Graph(name or "g", (x,), {name: "param"}, (node,), ((name, y),), ((name, y),)))
    assert (graph.inputs[0].name, graph.outputs[0][0], graph.updates[0][0]) == (name, name, name)
    assert (f"%{json.dumps(name)}:" in to_text(graph)) == (name in QUOTED)


@pytest.mark.parametrize("dtype", ["f32", "f64", "i32", "i64", "bool"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 2), (0, 3), (4, 4), (17,), (3, 6)])
def test_constants(dtype: str, shape: tuple) -> None:
    builder = Builder("g")
    array = (
        (np.arange(np.prod(shape)) * 0.3 - 1)
        .reshape(shape)
        .astype({"f32": "f4", "f64": "f8"}.get(dtype, dtype.replace("i", "int")))
    )
    graph = builder.graph([("out", builder.wrap(builder.constant(array)))])
    verify(graph)
    text = to_text(graph)
    assert ("data=" in text) == (array.size <= INLINE_CONSTANT) == ("digest=" not in text)
    again = verify(roundtrip(graph))
    back = evaluate_graph(again, {})["out"]
    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(back, array)


def test_a_scalar_and_an_array_of_one_element_are_two_constants() -> None:
    builder = Builder("g")
    outs = [
        ("scalar", builder.wrap(builder.constant(np.array(2.5)))),
        ("array", builder.wrap(builder.constant(np.array([2.5])))),
    ]
    graph = verify(builder.graph(outs))
    values = evaluate_graph(roundtrip(graph), {})
    assert (values["scalar"].shape, values["array"].shape) == ((), (1,))


def test_special_floats_in_a_constant() -> None:
    builder = Builder("g")
    array = np.array([np.nan, np.inf, -np.inf, -0.0, 1e-45, 3.4e38], np.float32)
    graph = roundtrip(builder.graph([("out", builder.wrap(builder.constant(array)))]))
    back = evaluate_graph(graph, {})["out"]
    np.testing.assert_array_equal(back.view(np.int32), array.view(np.int32))


def test_large_constants_are_given_by_digest() -> None:
    builder = Builder("g")
    array = np.arange(40.0)
    text = to_text(builder.graph([("out", builder.wrap(builder.constant(array)))]))
    graph = parse(text)
    assert not graph.constants and to_text(graph) == text
    (digest,) = builder.constants
    np.testing.assert_array_equal(evaluate_graph(parse(text, {digest: array}), {})["out"], array)
    assert parse(text, {digest: array, "unused": array}).constants.keys() == {digest}


def test_what_the_user_does_to_an_array_later_does_not_change_the_program() -> None:
    builder, array = Builder("g"), np.arange(40.0)
    graph = builder.graph([("out", builder.wrap(builder.constant(array)))])
    array[:] = 0
    assert evaluate_graph(graph, {})["out"][-1] == 39


REGIONS = """\
graph outer(%x: f32[3] input) {
  %0: f32[3] = twice(%x) {steps=2} {  ; model.py:3
    region body(%h: f32[3] input) {
      %0: f32[3] = add(%h, 1.0)
      %1: f32[3] = nested(%0) {
        region inner(%h: f32[3] input) {
          return h=%h
        }
      }
      return h=%1
    }
    region other(%h: f32[3] input) {
      %0: f32[1] = constant() {data=[1.5], dtype="f32", shape=[1]}
      return h=%0
    }
  }
  return out=%0
}
"""


def test_regions() -> None:
    graph = parse(REGIONS)
    assert to_text(graph) == REGIONS
    (node,) = graph.nodes
    assert [r.name for r in node.regions] == ["body", "other"]
    assert node.location == Location("model.py", 3)
    assert node.regions[0].nodes[1].regions[0].name == "inner"
    assert len(node.regions[1].constants) == 1 and not graph.constants
    assert parse(REGIONS.replace("h=%1", "h=%0")) != graph


def test_a_traced_graph_comes_back() -> None:
    scope = DimScope({"B": Symbol("B", hint=7)}, [Guard("<", Dim("B"), 100, "a.py:1")])
    builder = Builder("f", lambda: Location("/some where/model.py", 5, "blocks.0"), scope=scope)
    x = builder.input("x", TensorType("f32", (Dim("B"), 2)))
    y = OPS["softmax"](x * np.array([1.0, 2.0], np.float32), axis=1)
    builder.updates["x"] = builder.operand(y)
    graph = roundtrip(builder.graph([("out", y), ("b", builder.wrap(builder.dim_scalar(Dim("B") * 2)))]))
    assert graph.nodes[0].location == Location("model.py", 5, "blocks.0")


@pytest.mark.parametrize(
    "where",
    [
        Location("model.py", 3), Location("my model.py", 3, "a.b"), Location("m.py", 3, "", "12"),
        Location("m.py", 3, "blocks.0", "12"), Location("<stdin>", 1, "bwd", "x"), Location("m.py", 3, "bwd"),
    ],
)  # fmt: skip
def test_locations(where: Location) -> None:
    node = Node("neg", (Literal(1.0),), {}, (Value("0", TensorType("f32")),), (), where)
    again = roundtrip(Graph("g", (), {}, (node,), ()))
    assert again.nodes[0].location == where


def lines(*body: str, header: str = "graph g(%x: f32[3] input) {") -> str:
    return "\n".join([header, *body, "}"])


ERRORS = [
    ("", "line 1: expected 'graph name"),
    ("region g() {\n}", "line 1: expected 'graph name"),
    ("graph g {\n}", r"line 1: expected '\('"),
    ("graph g(x: f32[3] input) {\n}", "line 1: expected '%name: type' at 'x: f32"),
    ("graph g(%x f32[3] input) {\n}", "line 1: expected ':'"),
    ("graph g(%x: f16[3] input) {\n}", "line 1: not a type: 'f16"),
    ("graph g(%x: f32[3.5] input) {\n}", "line 1: not a dimension: '3.5'"),
    ("graph g(%x: f32[3]) {\n}", "line 1: expected the role of x"),
    ("graph g(%x: f32[3] weight) {\n}", "line 1: role 'weight' of x is not one of input, param"),
    ("graph g(%x: f32[3] input, %x: f32[3] input) {\n}", "line 1: two inputs are named x"),
    ("graph g(%x: f32[3] input %y: f32[3] input) {\n}", r"line 1: expected ',' or '\)'"),
    ("graph g() where {\n}", "line 1: expected the name of a dimension"),
    ("graph g() where 2 <= B <= C {\n}", "line 1: expected a size"),
    ("graph g() junk {\n}", "line 1: expected '{' at 'junk {'"),
    ("graph g() {\n  return", r"line 1: the graph g is not closed by '}'"),
    ("graph g() {\n}\n}", "line 3: text after the end of the graph"),
    (lines("%0: f32[3] = neg(%y)"), "line 2: %y is not defined"),
    (lines("%0: f32[3] = neg(%0)"), "line 2: %0 is not defined"),
    (lines("", "%0: f32[3] neg(%x)"), "line 3: expected '=' at 'neg"),
    (lines("%0 = neg(%x)"), "line 2: expected ':'"),
    (lines("%0: f32[3] = neg %x"), r"line 2: expected '\('"),
    (lines("%0: f32[3] = neg(%x"), r"line 2: expected ',' or '\)' at 'the end of the line'"),
    (lines("%0: f32[3] = neg(%x) what"), "line 2: cannot read 'what'"),
    (lines('%0: f32[3] = neg("x")'), 'line 2: an operand is %name or a number, not "x"'),
    (lines("%0: f32[3] = neg(B)"), "line 2: an operand is %name or a number, not B"),
    (lines("%0: f32[3] = neg(%x) {axis}"), "line 2: expected '=' at '}'"),
    (lines("%0: f32[3] = neg(%x) {axis=}"), "line 2: expected a value"),
    (lines("%0: f32[3] = neg(%x) {axis=[1, 2}"), r"line 2: expected ',' or '\]'"),
    (lines("%0: f32[3] = neg(%x) {axis=1 2}"), "line 2: not a dimension: '1 2'"),
    (lines("%0: f32[3] = neg(%x) {axis=3e}"), "line 2: not a dimension: '3e'"),
    (lines('%0: f32[3] = neg(%x) {axis="open}'), "line 2: expected a value"),
    (lines("neg(%x)"), "line 2: expected '%name: type' at 'neg"),
    (lines("return %x"), "line 2: expected the name of an output"),
    (lines("return out %x"), "line 2: expected '='"),
    (lines("return out=%y"), "line 2: %y is not defined"),
    (lines("update x = %x"), "line 2: expected '%name = value'"),
    (lines("guard B ~ 3"), "line 2: not a dimension: .B ~ 3."),
    (lines("guard B == "), "line 2: expected a dimension"),
    (lines('%0: f32[2] = constant() {data=[1.0], dtype="f32", shape=[2]}'), "line 2: the data do not make a constant"),
    (lines('%0: f32[2] = constant() {data=[1.0], dtype="f9", shape=[1]}'), "line 2: the dtype 'f9' of the constant"),
    (lines('%0: i32[1] = constant() {data=["a"], dtype="i32", shape=[1]}'), "line 2: the data do not make a constant"),
    (lines("%0: f32[3] = twice(%x) {", "region r() {", "}"), "line 1: the graph g is not closed|line 2: the regions"),
    (lines("%0: f32[3] = twice(%x) {", "%1: f32[3] = neg(%x)", "}"), "line 3: expected 'region name"),
]


@pytest.mark.parametrize(("text", "says"), ERRORS)
def test_what_is_no_graph(text: str, says: str) -> None:
    with pytest.raises(ParseError, match=says):
        parse(text)


def test_every_prefix_of_a_graph_is_refused_with_a_line() -> None:
    for text in (MLP, REGIONS):
        for end in range(len(text.rstrip()) - 1):
            with pytest.raises(ParseError, match=r"^line \d+: "):
                parse(text[:end])


def test_errors_show_the_line_but_not_a_megabyte() -> None:
    with pytest.raises(ParseError) as error:
        parse(lines("%0: f32[3] = concat(" + ", ".join(["%x"] * 5000) + ")", "%1: f32[3] = neg(%0) oops"))
    assert str(error.value).endswith("%1: f32[3] = neg(%0) oops")
    with pytest.raises(ParseError) as error:
        parse(lines("%0: f32[3] = concat(" + ", ".join(["%x"] * 5000) + ") oops"))
    assert len(str(error.value)) < 400


def test_the_example_of_the_module_is_read() -> None:
    import gradtape.ir.text

    text = str(gradtape.ir.text.__doc__)
    graph = parse(text[text.index("    graph mlp") : text.index("    }\n") + 6])
    assert graph.name == "mlp" and Path(str(graph.nodes[0].location).split(":")[0]).name == "mlp.py"
