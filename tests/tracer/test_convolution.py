"""Convolution and pooling in the op namespace: values by their definitions, symbolic sizes, and what is refused."""

import re

import numpy as np
import pytest

import gradtape
from gradtape import tracer as gt
from gradtape.ir.build import TypeRuleViolation
from gradtape.ir.interp import evaluate_graph

RNG = np.random.default_rng(0)
LINE = RNG.standard_normal((2, 4, 9)).astype(np.float32)
PLANE = RNG.standard_normal((2, 4, 6, 7)).astype(np.float32)
W1 = RNG.standard_normal((6, 4, 3)).astype(np.float32)
W2 = RNG.standard_normal((6, 4, 3, 2)).astype(np.float32)
BIAS = RNG.standard_normal(6).astype(np.float32)


def test_conv1d_by_its_definition():
    out = gt.conv1d(LINE, W1, BIAS, stride=2, padding=1, dilation=2)
    assert out.shape == (2, 6, (9 + 2 - 4 - 1) // 2 + 1) and out.dtype == np.float32
    wide = np.pad(LINE, ((0, 0), (0, 0), (1, 1)))
    for i in range(out.shape[2]):
        expected = np.einsum("nck,ock->no", wide[:, :, 2 * i : 2 * i + 5 : 2], W1) + BIAS
        np.testing.assert_allclose(out[:, :, i], expected, rtol=1e-5, atol=1e-5)


def test_conv2d_groups_are_convolutions_side_by_side():
    out = gt.conv2d(PLANE, W2[:, :2], groups=2)
    halves = [gt.conv2d(PLANE[:, :2], W2[:3, :2]), gt.conv2d(PLANE[:, 2:], W2[3:, :2])]
    np.testing.assert_allclose(out, np.concatenate(halves, 1), rtol=1e-5, atol=1e-5)


def test_padding_by_name():
    same = gt.conv2d(PLANE, W2, padding="same")
    assert same.shape == (2, 6, 6, 7)
    np.testing.assert_array_equal(same[:, :, 1:-1, :-1], gt.conv2d(PLANE, W2, padding="valid"))
    np.testing.assert_array_equal(gt.conv2d(PLANE, W2), gt.conv2d(PLANE, W2, padding="valid"))


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_a_transposed_convolution_is_the_transpose(stride):
    """<conv(x), y> = <x, conv_transpose(y)>, at the size that output_padding asks for."""
    y = gt.conv1d(LINE, W1, stride=stride, padding=1)
    v = RNG.standard_normal(y.shape).astype(np.float32)
    extra = (9 + 2 - 3) % stride
    back = gt.conv_transpose1d(v, W1, stride=stride, padding=1, output_padding=extra)
    assert back.shape == LINE.shape
    np.testing.assert_allclose((y * v).sum(), (LINE * back).sum(), rtol=1e-4)


def test_pooling_by_its_definition():
    most, mean = gt.max_pool2d(PLANE, (2, 3), (2, 1)), gt.avg_pool2d(PLANE, (2, 3), (2, 1))
    assert most.shape == mean.shape == (2, 4, 3, 5)
    for i, j in np.ndindex(3, 5):
        window = PLANE[:, :, 2 * i : 2 * i + 2, j : j + 3]
        np.testing.assert_array_equal(most[:, :, i, j], window.max((2, 3)))
        np.testing.assert_allclose(mean[:, :, i, j], window.mean((2, 3)), rtol=1e-5, atol=1e-6)


def test_of_several_greatest_elements_the_first_gets_the_gradient():
    traced = gt.trace(lambda x: gt.max_pool1d(x, 3).sum(), np.zeros((1, 1, 6), np.float32))
    from gradtape.passes.autodiff import differentiate

    graph = differentiate(traced.graph, "out", ["x"])
    found = evaluate_graph(graph, {"x": np.array([[[1, 1, 0, 0, 2, 2]]], np.float32)})["grad:x"]
    assert found.tolist() == [[[1, 0, 0, 0, 1, 0]]]


def test_nan_is_the_greatest():
    x = np.array([[[np.nan, 1.0, 2.0, 3.0]]], np.float32)
    np.testing.assert_array_equal(gt.max_pool1d(x, 2), [[[np.nan, 3.0]]])


def test_adaptive_parts_overlap_where_they_do_not_divide():
    x = np.arange(5, dtype=np.float32).reshape(1, 1, 5)
    np.testing.assert_allclose(gt.adaptive_avg_pool1d(x, 3), [[[0.5, 2.0, 3.5]]])  # [0, 2), [1, 4), [3, 5)


FUNCTIONS = {
    "conv1d": (lambda x: gt.conv1d(x, W1, BIAS, padding=1), LINE),
    "conv2d": (lambda x: gt.conv2d(x, W2, BIAS, padding="same"), PLANE),
    "conv_transpose1d": (lambda x: gt.conv_transpose1d(x, W1.swapaxes(0, 1), BIAS, stride=2), LINE),
    "max_pool1d": (lambda x: gt.max_pool1d(x, 3, 1, 1), LINE),
    "avg_pool1d": (lambda x: gt.avg_pool1d(x, 3, 1, 1, count_include_pad=False), LINE),
    "adaptive_avg_pool2d": (lambda x: gt.adaptive_avg_pool2d(x, 1), PLANE),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_batch_and_length_may_be_symbolic(name):
    function, x = FUNCTIONS[name]
    sizes = ("N", 4, *(["L"] if x.ndim == 3 else ["H", "W"]))
    traced = gt.trace(function, gt.spec(sizes, "f32"))
    assert all(g.op != "==" for g in traced.graph.guards)
    for part in (x, x[:1, ..., :5]):
        found = evaluate_graph(traced.graph, traced.bind(part))["out"]
        np.testing.assert_allclose(found, function(part), rtol=1e-5, atol=1e-5)


def test_that_a_window_fits_is_a_guard():
    traced = gt.trace(lambda x: gt.conv1d(x, W1), gt.spec((2, 4, "L"), "f32"))
    assert [str(g) for g in traced.graph.guards] == ["3 <= L"]
    assert __file__ in traced.graph.guards[0].where


def test_a_stride_over_a_symbolic_length_pins_it():
    traced = gt.trace(lambda x: gt.conv1d(x, W1, stride=2), LINE, dims={"x": {2: "L"}})
    assert "L == 9" in [str(g) for g in traced.graph.guards]


def test_a_batch_is_not_needed():
    for function, x in FUNCTIONS.values():
        np.testing.assert_allclose(function(x[1]), function(x)[1], rtol=1e-6, atol=1e-6)


REFUSED = {
    "channels": (lambda x: gt.conv2d(x, W2[:, :3]), "x has 4 channels, the weight takes 3$"),
    "channels in groups": (lambda x: gt.conv2d(x, W2[:, :3], groups=2), "the weight in 2 groups takes 6$"),
    "channels last": (
        lambda x: gt.conv2d(x.transpose(0, 2, 3, 1), W2),
        r"x has 6 channels, the weight takes 4; channels come first: write x.transpose\(0, 3, 1, 2\)$",
    ),
    "channels last, one image": (
        lambda x: gt.conv2d(x[0].transpose(1, 2, 0), W2),
        r"channels come first: write x.transpose\(2, 0, 1\)$",
    ),
    "no channel axis": (
        lambda x: gt.conv2d(x[:, 0], W2[:, :1]),
        r"x has 2 channels, the weight takes 1; where the axis of the channels is missing write x\[:, None\]$",
    ),
    "outputs in groups": (
        lambda x: gt.conv2d(x, W2[:5, :2], groups=2),
        "5 output channels do not divide into 2 groups",
    ),
    "no groups": (lambda x: gt.conv2d(x, W2, groups=0), "groups is an integer from 1, got 0"),
    "axes of x": (
        lambda x: gt.conv2d(x[0, 0], W2),
        r"x is \(batch, channels, height, width\), or that without the batch, got \(6, 7\)$",
    ),
    "axes of the weight": (
        lambda x: gt.conv2d(x, W1),
        r"the weight is \(out, channels / groups, 2 kernel sizes\), got \(6, 4, 3\)$",
    ),
    "too many axes": (lambda x: gt.conv1d(x, W1), r"x is \(batch, channels, length\)"),
    "integers": (lambda x: gt.conv2d(gt.astype(x, "i64"), W2.astype(np.int64)), "needs a float operand"),
    "a window too large": (
        lambda x: gt.conv2d(x, W2, dilation=4),
        "a window of 9 elements .kernel 3, dilation 4. does not fit into 6$",
    ),
    "stride 0": (lambda x: gt.conv2d(x, W2, stride=0), "are integers from 1, got 3, 0 and 1"),
    "three strides": (
        lambda x: gt.conv2d(x, W2, stride=(1, 1, 1)),
        r"stride is an integer, or one for each of the 2 axes, got \(1, 1, 1\)",
    ),
    "half a stride": (lambda x: gt.conv2d(x, W2, stride=0.5), "stride is an integer, or one for each of the 2 axes"),
    "negative padding": (lambda x: gt.conv2d(x, W2, padding=-1), "the padding is not negative"),
    "unknown padding": (lambda x: gt.conv2d(x, W2, padding="full"), '"same" or "valid", got \'full\''),
    "same with stride": (lambda x: gt.conv2d(x, W2, padding="same", stride=2), 'padding "same" needs stride 1'),
    "the bias": (lambda x: gt.conv2d(x, W2, BIAS[:4]), r"the bias is one number for each of the 6 outputs, got \(4\)"),
    "transposed channels": (lambda x: gt.conv_transpose2d(x, W2), "x has 4 channels, the weight takes 6$"),
    "output padding": (
        lambda x: gt.conv_transpose2d(x, W2[:4], output_padding=1),
        r"below the stride, got \(1, 1\) for stride \(1, 1\)",
    ),
    "nothing left": (lambda x: gt.conv_transpose2d(x, W2[:4], padding=4), "nothing is left of axis 2"),
    "padding by name": (lambda x: gt.conv_transpose2d(x, W2[:4], padding="same"), "is a number, one for each axis"),
    "pooled axes": (lambda x: gt.max_pool2d(x[0, 0], 2), r"x is \(batch, channels, height, width\)"),
    "a kernel too large": (lambda x: gt.max_pool2d(x, 7), "a window of 7 elements"),
    "three kernels": (
        lambda x: gt.avg_pool2d(x, (2, 2, 2)),
        "kernel_size is an integer, or one for each of the 2 axes",
    ),
    "padding above half": (lambda x: gt.max_pool2d(x, 2, padding=2), "at most half of the kernel"),
    "pooled integers": (lambda x: gt.max_pool2d(gt.astype(x, "i64"), 2), "needs a float operand"),
    "divisor": (lambda x: gt.avg_pool2d(x, 2, divisor_override=0), "is an integer other than 0, got 0"),
    "adaptive size": (lambda x: gt.adaptive_avg_pool2d(x, (2, 0)), "output_size is a number from 1 or None"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name):
    """The same fact eagerly and in a trace, where the message also has the line and the operands."""
    function, says = REFUSED[name]
    with pytest.raises(TypeRuleViolation) as eager:
        function(PLANE)
    assert re.search(says, str(eager.value).splitlines()[0]), eager.value
    with pytest.raises(TypeRuleViolation) as traced:
        gt.trace(function, PLANE)
    fact, where, *_, operands = str(traced.value).splitlines()
    assert re.search(says, fact), traced.value
    assert where.startswith("  at    ") and __file__ in where
    assert re.match(r"  with  .*: (f32|i64)\[", operands)


def test_windows_as_columns_are_pytorchs():
    torch = pytest.importorskip("torch")
    x = np.arange(2 * 3 * 6 * 5, dtype="f4").reshape(2, 3, 6, 5)
    for how in ({"kernel_size": 2}, {"kernel_size": (3, 2), "dilation": (1, 2), "padding": (1, 0), "stride": (2, 1)}):
        expected = torch.nn.functional.unfold(torch.tensor(x), **how).numpy()
        np.testing.assert_array_equal(gt.unfold(x, **how), expected)
        np.testing.assert_array_equal(gradtape.compile(lambda x, h=how: gt.unfold(x, **h))(x), expected)
        np.testing.assert_array_equal(gt.unfold(x[0], **how), expected[0])
    counts = gradtape.grad(lambda x: gt.unfold(x, 3).sum())(x)
    np.testing.assert_array_equal(counts[0, 0, 0], [1, 2, 3, 2, 1])
