from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gradtape.ir import ops as _ops  # noqa: F401  fills the registry
from gradtape.ir.build import Builder
from gradtape.ir.dims import Dim, DimScope, Symbol, dim_scope
from gradtape.ir.graph import Graph, Literal, Node, Value
from gradtape.ir.op import OPS
from gradtape.ir.text import parse
from gradtape.ir.types import TensorType, parse_type
from gradtape.ir.verify import STAGES, VerificationError, verify
from gradtape.passes.rewrite import expand

GOOD = """\
graph good(%x: f32[B, 3] input, %w: f32[3, 2] param, %m: f32[3, 2] state, %lr: f32[] scalar) {
  %0: f32[B, 2] = matmul(%x, %w)  ; model.py:12 fc1
  %1: f32[B, 2] = softmax(%0) {axis=1}
  %2: f32[] = sum(%1) {axes=[0, 1], keepdims=false}
  %3: f32[3, 2] = mul(%w, %lr)
  %4: f32[2] = constant() {data=[1.0, 2.0], dtype="f32", shape=[2]}
  %5: f32[B, 2] = mul(%1, %4)
  return loss=%2, out=%5
  update %w = %3
  update %m = %3
}
"""


def test_a_good_graph_is_returned() -> None:
    graph = parse(GOOD)
    for stage in ("traced", "differentiated"):
        assert verify(graph, stage) is graph
    with pytest.raises(KeyError):
        verify(graph, "imaginary")


TEXTS = [
    # what is changed in the text of the graph, and what the verifier says
    ("softmax(%0) {axis=1}", "softmex(%0) {axis=1}", "there is no op softmex"),
    ("%1: f32[B, 2] = soft", "%1: f32[B, 3] = soft", r"%1 is declared f32\[B, 3\], its type rule gives f32\[B, 2\]"),
    ("%1: f32[B, 2] = soft", "%1: f64[B, 2] = soft", r"%1 is declared f64\[B, 2\], its type rule gives f32\[B, 2\]"),
    ("%1: f32[B, 2] = soft", "%1: f32[C, 2] = soft", r"%1 is declared f32\[C, 2\], its type rule gives f32\[B, 2\]"),
    ("%2: f32[] = sum", "%2: f32[], %9: f32[] = sum", "it has 2 results, its type rule gives 1"),
    ("axis=1", "axis=2", "its type rule refuses it: axis 2 is out of range"),
    ("axis=1", "axis=[1]", "its type rule refuses it: axis"),
    ("{axis=1}", "", "its type rule refuses it: .* missing 1 required keyword-only argument: 'axis'"),
    ("axis=1", "axis=1, keepdims=true", "its type rule refuses it: .* unexpected keyword argument 'keepdims'"),
    ("matmul(%x, %w)", "matmul(%x)", "its type rule refuses it: .* missing 1 required positional argument"),
    ("matmul(%x, %w)", "matmul(%w, %x)", "inner sizes differ: 2 .* and B"),
    ("mul(%w, %lr)", "mul(%w, %x)", "do not broadcast"),
    ("axes=[0, 1]", "axes=none", "its type rule refuses it"),
    ("update %m = %3", "update %m = %2", r"update of %m: f32\[3, 2\] is replaced by f32\[\]"),
    ("update %m = %3", "update %lr = %2", "update of %lr: a scalar cannot be updated"),
    ("update %m = %3", "update %x = %0", "update of %x: a input cannot be updated"),
    ("update %m = %3", "update %z = %3", "update of %z: there is no such input"),
    ("update %m = %3", "update %w = %3", "there are two updates w"),
    ("update %m = %3", "update %m = 1.0", r"update of %m: f32\[3, 2\] is replaced by f32\[\]"),
    ("out=%5", "loss=%5", "there are two outputs loss"),
    ("%w: f32[3, 2] param", "%w: f64[3, 2] param", r"operand %x: f32\[B, 3\] of matmul is not cast to f64"),
    ("mul(%1, %4)", "mul(%1, 2.5)", None),
    ("[B, 3] input", "[2*B, 3] input", r"%x: f32\[2\*B, 3\] depends on B, which is no axis of any input"),
]


@pytest.mark.parametrize(("old", "new", "says"), TEXTS)
def test_a_graph_with_one_fault(old: str, new: str, says: str | None) -> None:
    assert GOOD.count(old) == 1
    graph = parse(GOOD.replace(old, new))
    if says is None:
        verify(graph)
        return
    with pytest.raises(VerificationError, match=says) as error:
        verify(graph)
    assert len(str(error.value)) < 3000


def changed(graph: Graph, index: int, **fields: Any) -> Graph:
    """`graph` with other fields in one of its nodes."""
    old = graph.nodes[index]
    values = {name: getattr(old, name) for name in ("op", "inputs", "attrs", "outputs", "regions", "location")}
    nodes = list(graph.nodes)
    nodes[index] = Node(**{**values, **fields})
    return graph.replace(nodes=tuple(nodes))


def typed(dtype: str, *shape: Any) -> tuple[Value, ...]:
    return (Value("0", TensorType(dtype, shape)),)


STRANGER = Value("x", parse_type("f32[B, 3]"))  # has the name of an input, but is of another graph
OBJECTS: list[tuple[Callable[[Graph], Graph], str]] = [
    (lambda g: changed(g, 0, inputs=(STRANGER, g.inputs[1])), "%x is used before it is defined, or is of another"),
    (lambda g: g.replace(nodes=(*g.nodes[1:], g.nodes[0])), "%0 is used before it is defined"),
    (lambda g: g.replace(nodes=g.nodes[:-1]), "graph good: output out: %5 is not defined in it"),
    (lambda g: g.replace(inputs=(*g.inputs, STRANGER)), "graph good: %x is defined twice"),
    (lambda g: changed(g, 3, outputs=(Value("1", g.nodes[3].output.type),)), "mul: %1 is defined twice"),
    (lambda g: g.replace(inputs=g.inputs[1:]), "there is a role for %x, which is no input"),
    (lambda g: g.replace(roles={**g.roles, "x": "weight"}), "input %x has no role, 'weight' is none"),
    (lambda g: g.replace(roles={k: v for k, v in g.roles.items() if k != "x"}), "input %x has no role$"),
    (lambda g: g.replace(constants={}), "the graph holds no array for constant '[0-9a-f]{16}'"),
    (lambda g: changed(g, 4, attrs={**g.nodes[4].attrs, "shape": (1,)}), r"is f32\[1\], its array float32\[2\]"),
    (lambda g: changed(g, 4, attrs={**g.nodes[4].attrs, "dtype": "f64"}), r"is f64\[2\], its array float32\[2\]"),
    (lambda g: changed(g, 4, attrs={}), "the graph holds no array for constant None"),
    (lambda g: changed(g, 0, outputs=typed("f16", 2)), r"%0 is declared f16\[2\]"),
    (lambda g: changed(g, 2, attrs={"axes": (np.array([1, 2]), 1), "keepdims": 0}), "its type rule refuses it"),
    (lambda g: changed(g, 1, op="concat", inputs=(), attrs={"axis": 0}), "needs at least one array"),
    (lambda g: changed(g, 1, op="reshape", attrs={"shape": ("a", "b")}), "its type rule refuses it: "),
    (lambda g: changed(g, 1, op="full", inputs=(), attrs={"shape": (-1,), "value": 0, "dtype": "f32"}), "sizes from 0"),
    (lambda g: changed(g, 1, op="add", inputs=(Literal(1), Literal(True)), attrs={}), r"its type rule gives i64\[\]"),
    (lambda g: g.replace(inputs=(*g.inputs, Value("z", TensorType("f32", (-2,)))), roles={**g.roles, "z": "input"}),
     "%z has size -2 in its shape"),
    (lambda g: g.replace(inputs=(*g.inputs, Value("z", TensorType("f32", (2.5,)))), roles={**g.roles, "z": "input"}),  # type: ignore[arg-type]
     "%z has size 2.5 in its shape"),
    (lambda g: g.replace(inputs=(*g.inputs, Value("z", TensorType("f16"))), roles={**g.roles, "z": "input"}),
     "%z has dtype 'f16', not one of f32"),
]  # fmt: skip


@pytest.mark.parametrize(("corrupt", "says"), OBJECTS)
def test_a_graph_that_no_text_gives(corrupt: Callable[[Graph], Graph], says: str) -> None:
    with pytest.raises(VerificationError, match=says) as error:
        verify(corrupt(parse(GOOD)))
    assert len(str(error.value)) < 3000


def test_every_operand_of_every_node_is_checked() -> None:
    """Exchanging any operand for a value of another graph with the same name and type is found."""
    graph, twin = parse(GOOD), parse(GOOD)
    for i, node in enumerate(graph.nodes):
        for j, operand in enumerate(node.inputs):
            inputs = list(node.inputs)
            inputs[j] = twin.nodes[i].inputs[j]
            if isinstance(operand, Value):
                with pytest.raises(VerificationError, match="or is of another graph"):
                    verify(changed(graph, i, inputs=tuple(inputs)))


def test_what_a_message_says() -> None:
    with pytest.raises(VerificationError) as error:
        verify(parse(GOOD.replace("%0: f32[B, 2]", "%0: f32[B, 7]")))
    assert (
        str(error.value)
        == """\
matmul: %0 is declared f32[B, 7], its type rule gives f32[B, 2]
  from  model.py:12
  in graph good, node 1 of 6:
  > %0: f32[B, 7] = matmul(%x, %w)
    %1: f32[B, 2] = softmax(%0) {axis=1}
    %2: f32[] = sum(%1) {axes=[0, 1], keepdims=false}
    %3: f32[3, 2] = mul(%w, %lr)
    %4: f32[2] = constant() {data=[1.0, 2.0], dtype="f32", shape=[2]}
    %5: f32[B, 2] = mul(%1, %4)"""
    )


def test_the_length_of_a_message_is_bounded() -> None:
    """Also in a graph of a thousand nodes with a thousand inputs each and a name of a thousand letters."""
    builder = Builder("g" * 1000)
    xs = [builder.input(f"x{i}" + "y" * 100, TensorType("f32", (2,))) for i in range(1000)]
    for _ in range(40):
        OPS["concat"](*xs, axis=0)
    graph = builder.graph([("out", xs[0])])
    verify(graph)
    for corrupt in ({"attrs": {"axis": "a" * 10_000}}, {"outputs": typed("f32", *range(5000))}):
        with pytest.raises(VerificationError) as error:
            verify(changed(graph, 20, **corrupt))
        assert len(str(error.value)) < 8000
        assert "node 21 of 40" in str(error.value)


def test_composites_are_legal_until_they_are_expanded() -> None:
    graph = parse(GOOD)
    assert set(STAGES) >= {"traced", "differentiated", "expanded"}
    with pytest.raises(VerificationError, match="composite op softmax is not allowed: composites are replaced"):
        verify(graph, "expanded")
    verify(expand(graph), "expanded")


REGION = """\
graph outer(%x: f32[B] input) {
  %0: f32[B] = scan(%x) {carries=1, consts=0, length=3, reverse=false} {
    region body(%h: f32[B] input) {
      %0: f32[B] = softmax(%h) {axis=0}
      return h=%0
    }
  }
  return out=%0
}
"""


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("axis=0", "axis=1", "axis 1 is out of range"),
        ("softmax(%h)", "softmix(%h)", "there is no op softmix"),
        ("(%h: f32[B]", "(%h: f32[C]", r"the body takes %h: f32\[C\], the operand gives f32\[B\]"),
    ],
)
def test_regions_are_checked(old: str, new: str, says: str) -> None:
    verify(parse(REGION))
    with pytest.raises(VerificationError, match=says):
        verify(parse(REGION.replace(old, new)))
    with pytest.raises(VerificationError, match="composite op softmax"):
        verify(parse(REGION), "expanded")


def test_a_region_may_use_the_symbols_of_the_graph_around_it() -> None:
    text = REGION.replace("(%x: f32[B] input", "(%y: f32[B] input, %x: f32[2*B] input").replace(
        "%0: f32[B]", "%0: f32[2*B]"
    )
    verify(parse(text.replace("region body(%h: f32[B] input)", "region body(%h: f32[2*B] input)")))


def test_attributes_cannot_use_unknown_symbols() -> None:
    text = GOOD.replace("mul(%1, %4)", "mul(%1, %6)").replace("  %5", "  %6: f32[] = dim_scalar() {value=N}\n  %5")
    with pytest.raises(VerificationError, match=r"%6: f32\[\] depends on N, which is no axis of any input"):
        verify(parse(text))
    verify(parse(text.replace("value=N", "value=2*B + 1")))


def test_what_was_pinned_while_tracing_holds_when_verified() -> None:
    """A traced program has hints; its text has the guards, which must do as well."""
    scope = DimScope({"B": Symbol("B", hint=8), "T": Symbol("T", hint=8)})
    builder = Builder("pinned", scope=scope)
    x, y = builder.input("x", TensorType("f32", (Dim("B"), 2))), builder.input("y", TensorType("f32", (8, 2)))
    z = builder.input("z", TensorType("f32", (Dim("T"), 2)))
    with dim_scope(scope):
        graph = builder.graph([("out", (x + y) * z)])
    assert [str(g) for g in graph.guards] == ["B == 8", "T == 8"]
    verify(graph)
    again = parse(str(graph))
    assert again.symbols["B"].hint is None
    verify(again)
    with pytest.raises(VerificationError, match="do not broadcast: B and 8 differ"):
        verify(again.replace(guards=again.guards[1:]))


def test_verifying_records_nothing() -> None:
    scope = DimScope({"B": Symbol("B", hint=8), "C": Symbol("C", hint=8)})
    graph = parse(GOOD)
    with dim_scope(scope):
        verify(graph)
        with pytest.raises(VerificationError):
            verify(replace(graph, nodes=graph.nodes[1:]))
    assert scope.guards == []
