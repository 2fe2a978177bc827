"""What holds for every op, on the cases of its row in tests/rows.py."""

from typing import Any

import numpy as np
import pytest

from cases import FLOATS, Case, record, special_arrays, strided
from gradcheck import check
from gradtape.ir.build import Builder, TypeRuleViolation
from gradtape.ir.graph import Graph
from gradtape.ir.interp import concrete_type, evaluate_graph
from gradtape.ir.op import OPS, Op
from gradtape.ir.scalar import PlainScalars
from gradtape.ir.text import parse, to_text
from gradtape.ir.types import DTYPES, TensorType, promote, type_of
from gradtape.ir.verify import verify
from gradtape.passes.autodiff import differentiate
from gradtape.passes.rewrite import expand
from rows import ROWS

CLOSE = {"f32": 3e-6, "f64": 1e-13}
DIFFERENTIABLE = [name for name, row in ROWS.items() if row.op.vjp or row.op.derive]
COMPOSITE = [name for name, row in ROWS.items() if row.op.body is not None]
OF_ONE_FLOAT = [name for name in COMPOSITE if len(ROWS[name].cases[0].inputs) == 1 and "f64" in ROWS[name].dtypes]
SCALAR = [name for name, row in ROWS.items() if row.op.scalar is not None]


def same(actual: Any, expected: Any, what: object, rtol: float | None = None) -> None:
    """Equal in shape, dtype and value: NaN is NaN; close within `rtol`, by default a few roundings."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert (actual.shape, actual.dtype) == (expected.shape, expected.dtype), f"{what}: {actual.dtype}{actual.shape}"
    if rtol == np.inf:
        return
    if expected.dtype.kind == "f":
        rtol = CLOSE["f32" if expected.dtype == np.float32 else "f64"] if rtol is None else rtol
        np.testing.assert_allclose(actual, expected, rtol, atol=rtol, err_msg=str(what))
    else:
        np.testing.assert_array_equal(actual, expected, err_msg=str(what))


@pytest.mark.parametrize("name", ROWS)
def test_the_reference_has_the_type_that_the_rule_says(name: str) -> None:
    op = OPS[name]
    for case, dtype in ROWS[name].runs():
        graph = verify(case.graph(dtype))
        expected = [concrete_type(v.type, case.sizes) for _, v in graph.outputs]
        for got, want in zip(case.results(dtype), expected, strict=True):
            same(got, np.zeros(want.shape, DTYPES[want.dtype]), case, rtol=np.inf)
        if op.ref is None or op.regions or case.build is not None:
            continue
        # The interpreter casts what a reference returns. But for float32 quotients of integers there must be no need to
        # change the kind, and nothing may have another shape.
        arrays = promoted(op, case.arrays(dtype))[0]
        with np.errstate(all="ignore"):
            raw = op.ref(*arrays, **case.concrete_attrs())
        for got, want in zip(raw if isinstance(raw, tuple) else (raw,), expected, strict=True):
            assert np.shape(got) == want.shape, case
            assert np.asarray(got).dtype.kind == DTYPES[want.dtype].kind, f"{case}: {np.asarray(got).dtype}"


def promoted(op: Op, arrays: list) -> tuple[list, list[TensorType]]:
    """The operands as an interpreter or a kernel meets them, and their types."""
    types = [type_of(a) for a in arrays]
    if op.promote:
        common = promote(types)
        types = [t if t.weak else t.with_dtype(common) for t in types]
        arrays = [a if t.weak else a.astype(DTYPES[common]) for a, t in zip(arrays, types, strict=True)]
    return arrays, types


@pytest.mark.parametrize("name", ROWS)
def test_eager_and_traced_agree(name: str) -> None:
    for case, dtype in ROWS[name].runs():
        if case.build is None:
            eager = OPS[name].eager(*case.arrays(dtype), **case.concrete_attrs())
            for got, want in zip(eager if isinstance(eager, tuple) else (eager,), case.results(dtype), strict=True):
                same(got, want, case)


def scalar_result(case: Case, arrays: list) -> tuple[Any, Any]:
    """What the scalar expression gives for all elements of the result, and what the reference gives."""
    op = OPS[case.op]
    args, types = promoted(op, arrays)
    dtype = op.infer(*types, **case.attrs).dtype
    expected = op.eager(*arrays, **case.attrs)
    rule: Any = op.scalar
    if not op.random:
        args = [np.broadcast_to(a, expected.shape) if isinstance(a, np.ndarray) else a for a in args]
    with np.errstate(all="ignore"):
        value = rule(PlainScalars(dtype, tuple(np.indices(expected.shape))), *args, **case.attrs)
    return np.broadcast_to(value, expected.shape), expected


@pytest.mark.parametrize("name", SCALAR)
def test_the_scalar_expression_means_the_reference(name: str) -> None:
    for case, dtype in ROWS[name].runs():
        if case.build is None:
            same(*scalar_result(case, case.arrays(dtype)), f"{case} {dtype}")


@pytest.mark.parametrize("name", [n for n in SCALAR if not OPS[n].generator and not OPS[n].random])
def test_the_scalar_expression_at_special_values(name: str) -> None:
    row = ROWS[name]
    seen = set()
    for case, dtype in row.runs():
        kinds = tuple(t.dtype for t in case.types(dtype))
        key = (kinds, tuple(case.attrs.items()))
        if key in seen or case.build is not None:
            continue
        seen.add(key)
        arrays = special_arrays(kinds)
        if row.special is not None:
            chosen = row.special(*arrays)
            arrays = [a[chosen] for a in arrays]
        assert arrays[0].size
        same(*scalar_result(case, arrays), f"{case} {dtype} at special values")


@pytest.mark.parametrize("name", DIFFERENTIABLE)
@pytest.mark.parametrize("order", [1, 2])
def test_derivative(name: str, order: int) -> None:
    tried = int(name == "callback" and order == 2)  # whose derivative is opaque too
    for case, dtype in ROWS[name].runs("f64") if not tried else ():
        arrays = case.arrays(dtype)
        function = OPS[name]
        if case.build is not None and OPS[name].derive is not None:
            function = lambda *args, build=case.build, **attrs: build(args[0]._builder, *args)
        if (
            (case.build and function is OPS[name])
            or not ROWS[name].smooth(case)
            or any(np.size(a) == 0 for a in arrays)
        ):
            continue
        # 1e-10 rather than the 1e-6 of `check`: a float32 constant in a float64 derivative must be noticed
        check(function, arrays, case.concrete_attrs(), order=order, tolerance=1e-10)
        tried += 1
    assert tried


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_the_gradient_has_the_type_of_its_operand(name: str) -> None:
    """Also where it is empty, and in float32; and its graph is well-formed."""
    for case, dtype in ROWS[name].runs(*FLOATS):
        if case.graph(dtype).output("out").type.is_float:
            for wrt, gradient in gradients(case.graph(dtype), case, dtype).items():
                value = case.values(dtype)[wrt]
                assert (gradient.shape, gradient.dtype) == (value.shape, value.dtype), f"{case} {dtype} {wrt}"


def gradients(graph: Graph, case: Case, dtype: str) -> dict[str, np.ndarray]:
    """The gradients of a weighted sum of the output, by name of the input; checks that they survive the text form."""
    builder = Builder.extending(graph)
    out: Any = builder.wrap(graph.output("out"))
    weights = np.cos(np.arange(case.expected(dtype).size)).reshape(case.expected(dtype).shape)
    weighted = out * builder.input("weights", out.type)
    loss = OPS["sum"](weighted, axes=tuple(range(out.ndim)), keepdims=False)
    names = [v.name for v in graph.inputs if v.type.is_float]
    result = verify(differentiate(builder.graph([("loss", loss)]), "loss", names))
    assert parse(to_text(result), result.constants) == result
    values = evaluate_graph(result, {**case.values(dtype), "weights": weights})
    return {k.removeprefix("grad:"): v for k, v in values.items() if k.startswith("grad:")}


@pytest.mark.parametrize("name", COMPOSITE)
def test_a_composite_is_its_body(name: str) -> None:
    """Value and derivative by hand against those of the body, in float64."""
    for case, dtype in ROWS[name].runs(*(["f64"] if "f64" in ROWS[name].dtypes else [])):
        graph = case.graph(dtype)
        body = expand(graph)
        assert all(OPS[n.op].body is None for n in body.nodes) and body != graph
        values = case.values(dtype)
        expected = evaluate_graph(graph, values)["out"]
        same(evaluate_graph(verify(body, "expanded"), values)["out"], expected, case, rtol=1e-12)
        if OPS[name].vjp is None:
            continue
        by_hand, of_body = gradients(graph, case, dtype), gradients(body, case, dtype)
        assert by_hand.keys() == of_body.keys() != set()
        for wrt, gradient in by_hand.items():
            same(gradient, of_body[wrt], f"{case} {wrt}", rtol=1e-11)


@pytest.mark.parametrize(
    "name", [n for n in COMPOSITE if len(ROWS[n].cases[0].inputs) == 1 and "f64" in ROWS[n].dtypes]
)
def test_a_composite_is_its_body_at_special_values(name: str) -> None:
    """A row of -inf, an inf, a NaN, equal elements."""
    rows = np.array([[-np.inf] * 3, [1.0, np.inf, 2.0], [1.0, np.nan, 2.0], [-np.inf, 1.0, 2.0], [4.0, 4.0, 4.0]])
    case = ROWS[name].cases[0]
    plain = {
        "axis": 1,
        "axes": (1,),
        "keepdims": True,
        "kernel": (2,),
        "stride": (1,),
        "padding": ((1, 1),),
        "dilation": (1,),
    }
    attrs = {k: plain.get(k, v) for k, v in case.attrs.items()}
    builder = Builder("special")
    graph = builder.graph([("out", OPS[name](builder.input("x", type_of(rows)), **attrs))])
    expected = evaluate_graph(graph, {"x": rows})["out"]
    same(evaluate_graph(expand(graph), {"x": rows})["out"], expected, name, rtol=1e-12)


@pytest.mark.parametrize("name", [n for n, row in ROWS.items() if any(c.inputs for c in row.cases)])
def test_strided_inputs(name: str) -> None:
    for case, dtype in ROWS[name].runs():
        values = {k: strided(v) for k, v in case.values(dtype).items()}
        for got, want in zip(evaluate_graph(case.graph(dtype), values).values(), case.results(dtype), strict=True):
            same(got, want, case)


@pytest.mark.parametrize("name", ROWS)
def test_the_text_comes_back(name: str) -> None:
    for case, dtype in ROWS[name].runs():
        graph = case.graph(dtype)
        again = parse(to_text(graph), graph.constants)
        assert again == graph
        assert to_text(again) == to_text(graph)
        if name == "callback":  # text has no Python in it
            continue
        for got, want in zip(evaluate_graph(again, case.values(dtype)).values(), case.results(dtype), strict=True):
            same(got, want, case)


@pytest.mark.parametrize("name", [n for n, row in ROWS.items() if row.refused])
def test_what_is_refused(name: str) -> None:
    for wrong in ROWS[name].refused:
        builder = Builder("refused")
        args = [builder.input(f"x{i}", t) if isinstance(t, TensorType) else t for i, t in enumerate(wrong.operands)]
        with pytest.raises(TypeRuleViolation, match=wrong.says) as error:
            record(builder, name, args, wrong.attrs)
        assert str(error.value).startswith(f"{name}: ")
