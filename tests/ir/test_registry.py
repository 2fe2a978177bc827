"""Every op states what an op must state, and has a row."""

import inspect
from collections.abc import Callable

import numpy as np
import pytest

from cases import Row
from gradtape.ir import ops as _ops  # noqa: F401  fills the registry
from gradtape.ir.op import OPS, NoGradient, Op, no_gradient, op
from gradtape.ir.types import TensorType
from rows import ROWS

KINDS = ("elementwise", "reduce", "view", "copy", "composite", "gemm", "kernel", "constant", "loop", "callback")
WHYS = ("not differentiable", "zero almost everywhere", "not written yet")
REDUCTIONS = ("sum", "prod", "max", "min", "any", "all")


def complaints(record: Op, rows: dict[str, Row]) -> list[str]:
    """What an op's record lacks."""
    found = []
    if not record.formula or record.formula != record.formula.strip():
        found.append("no formula as the first line of the docstring")
    if record.ref is None and record.body is None:
        found.append("neither a reference nor a body")
    if record.vjp is record.derive is None and not (
        record.nondiff and record.nondiff.reason and record.nondiff.kind in WHYS
    ):
        found.append("neither a derivative nor the reason why there is none")
    if record.kind not in KINDS:
        found.append(f"kind {record.kind!r} is not one of {', '.join(KINDS)}")
    if record.reduce is not None and record.reduce not in REDUCTIONS:
        found.append(f"reduces by {record.reduce!r}")
    if record.name not in rows:
        found.append("no row in tests/rows.py")
    elif not any(c.inputs for c in rows[record.name].cases) and not record.generator and record.kind != "constant":
        found.append("no case with an input")
    expected = tuple(attributes(record.infer))
    for field in ("ref", "body", "vjp", "scalar"):
        function = getattr(record, field)
        if function is not None and tuple(attributes(function)) != expected:
            found.append(f"{field} takes attributes {attributes(function)}, infer {list(expected)}")
    return found


def attributes(function: Callable) -> list[str]:
    parameters = inspect.signature(function).parameters.values()
    return [p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]


@pytest.mark.parametrize("name", OPS)
def test_the_record_is_complete(name: str) -> None:
    assert complaints(OPS[name], ROWS) == []


def test_every_row_is_of_an_op() -> None:
    assert set(ROWS) == set(OPS)


@pytest.mark.parametrize("name", [n for n, record in OPS.items() if not record.generator and record.kind != "constant"])
def test_every_row_has_empty_and_single_element_inputs(name: str) -> None:
    sizes = {np.size(a) for case, dtype in ROWS[name].runs() for a in case.arrays(dtype)}
    assert 1 in sizes
    assert 0 in sizes or OPS[name].random  # whose inputs are seed and step


@pytest.mark.parametrize("name", [n for n, record in OPS.items() if record.promote and record.kind == "elementwise"])
def test_every_row_of_several_operands_broadcasts(name: str) -> None:
    shapes = {tuple(np.shape(a) for a in case.arrays(dtype)) for case, dtype in ROWS[name].runs()}
    assert any(len({s for s in group if s}) > 1 for group in shapes)
    assert any(isinstance(x, float) for case in ROWS[name].cases for x in case.inputs), "no number as operand"


@pytest.mark.parametrize("name", [n for n in OPS if n not in ("stop_gradient",)])
def test_every_row_says_what_is_refused(name: str) -> None:
    assert ROWS[name].refused


def bare(**fields: object) -> Op:
    def infer(x: TensorType) -> TensorType:
        return x

    return Op("add", "x", {"infer": infer, **fields})


def test_what_a_record_can_lack() -> None:
    ref = lambda x: x
    whole = bare(ref=ref, vjp=no_gradient("only a test"), kind="kernel")
    assert complaints(whole, ROWS) == []
    whole.doc = whole.formula = ""
    assert complaints(whole, ROWS) == ["no formula as the first line of the docstring"]
    assert complaints(bare(ref=ref), ROWS) == ["neither a derivative nor the reason why there is none"]
    assert complaints(bare(ref=ref, vjp=NoGradient("because", "")), ROWS) == complaints(bare(ref=ref), ROWS)
    assert complaints(bare(vjp=lambda g, y, x: (g,)), ROWS) == ["neither a reference nor a body"]
    assert complaints(bare(ref=ref, vjp=lambda g, y, x: (g,)), {}) == ["no row in tests/rows.py"]
    assert complaints(bare(ref=ref, vjp=lambda g, y, x, *, axis: (g,)), ROWS) == [
        "vjp takes attributes ['axis'], infer []"
    ]
    assert "kind 'magic'" in complaints(bare(ref=ref, vjp=lambda g, y, x: (g,), kind="magic"), ROWS)[0]


def test_a_record_has_known_fields_and_one_name() -> None:
    with pytest.raises(TypeError, match="unknown fields \\['gradient'\\]"):
        bare(gradient=None)
    with pytest.raises(TypeError, match="op add is registered twice"):

        @op
        class add:
            """x + y"""

            def infer(x, y):
                return x

    assert OPS["add"].formula == "x + y"
