"""What an error says: the fact, the user's line, the operands with their types."""

import re
from typing import Any

import numpy as np
import pytest

from gradtape.ir import ops as _ops  # noqa: F401  fills the registry
from gradtape.ir.build import Builder, TypeRuleViolation
from gradtape.ir.graph import Literal
from gradtape.ir.location import Location, scope, user_location
from gradtape.ir.op import OPS
from gradtape.ir.types import TensorType

HERE = __file__


def a_builder(location: Any = user_location) -> tuple[Builder, Any, Any]:
    builder = Builder("model", location)
    return (
        builder,
        builder.input("x", TensorType("f32", (64, 3))),
        builder.input("fc.weight", TensorType("f32", (4, 2)), "param"),
    )


def test_the_form_of_an_error() -> None:
    _, x, w = a_builder()
    with scope("blocks"), scope("0"), pytest.raises(TypeRuleViolation) as error:
        x @ w  # this line
    lines = str(error.value).splitlines()
    assert lines[0] == (
        "matmul: inner sizes differ: 3 (last axis of the left operand f32[64, 3]) and 4 (second-last axis of the right "
        "operand f32[4, 2])"
    )
    assert re.fullmatch(rf"  at    {re.escape(HERE)}:\d+  blocks\.0", lines[1])
    assert lines[2] == "        x @ w  # this line"
    assert lines[3] == "  with  x: f32[64, 3], fc.weight: f32[4, 2]"
    assert len(lines) == 4


def test_an_intermediate_value_is_named_by_the_op_and_line_that_made_it() -> None:
    _, x, w = a_builder()
    y = OPS["tanh"](x)
    line = user_location()
    assert line is not None
    with pytest.raises(TypeRuleViolation) as error:
        y + w
    assert f"  with  the result of tanh at test_errors.py:{line.line - 1}: f32[64, 3], fc.weight: f32[4, 2]" in str(
        error.value
    )


def test_numbers_and_constants_are_named() -> None:
    builder, x, _ = a_builder()
    with pytest.raises(TypeRuleViolation, match=r"with  2\.5, x: f32\[64, 3\], the array at .*: f64\[5\]"):
        OPS["clip"](2.5, x, np.zeros(5))
    assert builder.describe(Literal(True)) == "True"


def test_without_a_line_none_is_shown() -> None:
    _, x, w = a_builder(lambda: None)
    with pytest.raises(TypeRuleViolation) as error:
        x + w
    assert str(error.value).splitlines() == [
        "add: shapes (64, 3) and (4, 2) do not broadcast: 64 and 4 differ",
        "  with  x: f32[64, 3], fc.weight: f32[4, 2]",
    ]
    with pytest.raises(TypeRuleViolation) as error:
        OPS["tanh"](x) + w
    assert "the result of tanh: f32[64, 3]" in str(error.value)


def test_a_file_that_cannot_be_read_shows_no_source() -> None:
    _, x, w = a_builder(lambda: Location("<stdin>", 3))
    with pytest.raises(TypeRuleViolation) as error:
        x + w
    assert str(error.value).splitlines()[1:] == ["  at    <stdin>:3", "  with  x: f32[64, 3], fc.weight: f32[4, 2]"]


def test_an_op_without_operands() -> None:
    builder, _, _ = a_builder(lambda: None)
    with pytest.raises(TypeRuleViolation) as error:
        builder.emit(OPS["full"], (), {"shape": (-1,), "value": 0, "dtype": "f32"})
    assert str(error.value) == "full: a shape is a tuple of sizes from 0, got (-1,)"


def test_a_refused_op_leaves_no_node() -> None:
    builder, x, w = a_builder()
    with pytest.raises(TypeRuleViolation):
        x + w
    assert builder.nodes == []
    OPS["tanh"](x)
    assert [n.op for n in builder.nodes] == ["tanh"]
    assert builder.nodes[0].output.name == "0"


def test_it_is_a_type_error_without_a_chain() -> None:
    _, x, w = a_builder()
    with pytest.raises(TypeError) as error:
        x + w
    assert error.value.__cause__ is None and error.value.__suppress_context__


def test_values_of_two_programs_do_not_meet() -> None:
    _, x, _ = a_builder()
    other, y, _ = a_builder()
    other.name = "other"
    with pytest.raises(ValueError, match=r"Ref\(%x: f32\[64, 3\]\) belongs to graph model, not to other"):
        y + x


def test_what_is_no_operand() -> None:
    _, x, _ = a_builder()
    with pytest.raises(
        TypeRuleViolation, match=r"add: got None, not an array or a number.*\n  at .*\n.*\n  with  x: f32"
    ):
        OPS["add"](x, None)
    with pytest.raises(TypeRuleViolation, match="add: the right operand: got a str, not an array or a number: 'one'"):
        x + "one"
    with pytest.raises(TypeRuleViolation, match="add: the left operand: got the complex number 1j"):
        1j + x
    with pytest.raises(TypeRuleViolation, match="add: dtype complex128 is not one of f32, .*; there are real numbers"):
        x + np.zeros(3, complex)
    assert (x == None) is False and (x != "one") is True  # noqa: E711  (nothing is equal to None)


class Scaled:
    """What has operators of its own is asked for them."""

    def __radd__(self, other: Any) -> str:
        return "added"


def test_the_other_side_may_know_better() -> None:
    _, x, _ = a_builder()
    assert x + Scaled() == "added"
    with pytest.raises(TypeError, match="unsupported operand type"):
        x * Scaled()


def test_two_inputs_of_one_name() -> None:
    builder, _, _ = a_builder()
    with pytest.raises(ValueError, match="graph model has two inputs named x"):
        builder.input("x", TensorType("f32"))


def test_eager_errors_are_bare_facts() -> None:
    """On plain arrays there is no trace to name: the tracer's functions add the operands."""
    with pytest.raises(TypeError, match=r"^shapes \(2\) and \(3\) do not broadcast: 2 and 3 differ$"):
        OPS["add"](np.zeros(2), np.zeros(3))
