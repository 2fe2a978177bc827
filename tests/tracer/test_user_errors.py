"""The mistakes of people who come from NumPy, PyTorch and JAX: each is answered with the fact, the types, the line, and
what to write instead."""

import copy
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradtape as gt
from gradtape.ir.interp import evaluate_graph
from gradtape.tracer.mistakes import FUNCTIONS, METHODS
from layout import package_files

X = np.arange(6, dtype="f4").reshape(2, 3) / 6
ONES = np.ones((4, 2), "f4")
HERE = __file__
SYMBOLIC = gt.spec(("B", "T", 3), "f32")


def assigned(x: Any) -> Any:
    x[0] = 1
    return x


def added_to_a_slice(x: Any) -> Any:
    x[:, 0] += 1
    return x


Case = tuple[Callable[[Any], Any], str, str]  # what is written; the fact; what to write instead ("": nothing is said)

# shapes ---------------------------------------------------------------------------------------------------------------
SHAPES: list[Case] = [
    (lambda x: x @ ONES, "matmul: inner sizes differ: 3 (last axis of the left operand f32[2, 3]) and 4", ""),
    (lambda x: x @ 2.0, "matmul: needs arrays of at least one axis, got f32[2, 3] and f32[]", "write x * y"),
    (lambda x: x + np.ones(4, "f4"), "add: shapes (2, 3) and (4) do not broadcast: 3 and 4 differ", ""),
    (lambda x: gt.where(x[:, :2] > 0, x, 0.0), "where: shapes (2, 2) and (2, 3) and () do not broadcast", ""),
    (lambda x: gt.concatenate([x, x.T]), "concat: sizes of axis 1 differ: 3 and 2; only axis 0 may differ", ""),
    (lambda x: gt.stack([x, x[0]]), "arrays differ in rank or dtype: f32[1, 2, 3] and f32[1, 3]", ""),
    (lambda x: x.reshape(4, 2), "reshape: f32[2, 3] has 6 elements, shape (4, 2) has 8", ""),
    (lambda x: x.reshape(-1, -1), "reshape: only one -1 in a shape, got (-1, -1)", ""),
    (lambda x: x.reshape(-1, 4), "reshape: 6 elements do not divide into shape (-1, 4)", ""),
    (lambda x: x.reshape(x.shape[0] / 2, -1), "reshape: a shape is made of ints and Dims, got 1.0", "write n // 2"),
    (lambda x: x.reshape(x.sum(), -1), "got f32[]", "the size of a result must not depend on data"),
    (lambda x: gt.zeros(x.sum()), "zeros: a shape is made of ints and Dims, got f32[]", "must not depend on data"),
    (lambda x: gt.zeros((2, 3), "f4") + x, "zeros: a shape is made of ints and Dims, got (2, 3)", "dtype='float32'"),
    (lambda x: gt.ones(-1) + x, "a shape is made of sizes from 0, got (-1,)", ""),
    (lambda x: gt.broadcast_to(x, (4, 3)), "broadcast_to: shapes (2, 3) and (4, 3) do not broadcast", ""),
    (lambda x: x.squeeze(0), "squeeze: axis 0 has size 2, not 1", ""),
    (lambda x: gt.split(x, 2, axis=1), "split: axis 1 of size 3 does not split into 2 equal parts", ""),
    (lambda x: gt.tril(x[0]), "tril: needs a matrix, got 1 dimensions", ""),
    (lambda x: gt.layer_norm(x, (4,)), "layer_norm: normalized_shape (4,) is not the end of shape (2, 3)", ""),
    (lambda x: gt.linear(x, ONES), "matmul: inner sizes differ: 3 (last axis of the left operand f32[2, 3]) and 2", ""),
    (lambda x: gt.cross_entropy(x, np.array([0, 1, 2])), "logits f32[2, 3] need a target i64[2], got i64[3]", ""),
    (lambda x: gt.cross_entropy(np.array([0, 1]), x), "the logits are float[..., classes], got i64[2]", ""),
]

# axes and indices -----------------------------------------------------------------------------------------------------
AXES: list[Case] = [
    (lambda x: x.sum(2), "sum: axis 2 is out of range for 2 dimensions", ""),
    (lambda x: x.sum(1.0), "sum: an axis is an int, not 1.0", ""),
    (lambda x: x.mean("1"), "mean: an axis is an int, not '1'", ""),
    (lambda x: gt.sum(x, axis=(0, 0)), "sum: an axis appears twice in (0, 0)", ""),
    (lambda x: gt.sum(x, axis=0, dim=1), "sum: axis=0 and dim=1 are one argument", "write one of them"),
    (lambda x: gt.max(x, 0.0), "max: the axis is 0.0", "write gt.maximum(x, y)"),
    (lambda x: gt.min(x, x), "min: the axis is f32[2, 3]", "write gt.minimum(x, y)"),
    (lambda x: gt.concatenate(x, x), "concatenate: the axis is f32[2, 3]", "one list: concatenate([x, y], axis=0)"),
    (lambda x: np.concatenate(x, x), "concatenate: the axis is f32[2, 3]", "one list: concatenate([x, y], axis=0)"),
    (lambda x: gt.softmax(x, 3), "softmax: axis 3 is out of range for 2 dimensions", ""),
    (lambda x: gt.transpose(x[None], 0, 1), "transpose: two axes (0, 1) for 3 dimensions", "write x.swapaxes(0, 1)"),
    (lambda x: gt.transpose(x, (0, 0)), "permute: axes (0, 0) are not an order of the 2 axes of f32[2, 3]", ""),
    (lambda x: x.unsqueeze(5), "expand_dims: axis 5 is out of range for 3 dimensions", ""),
    (lambda x: x[5], "index 5 is out of range for axis 0 of size 2", ""),
    (lambda x: x[0, 0, 0], "too many indices", ""),
    (lambda x: x["a"], "axis 0 is indexed by str", ""),
    (
        lambda x: x[x > 0],
        "a boolean mask selects a number of elements that depends on data",
        "write gt.where(mask, x, 0)",
    ),
    (lambda x: x[: x.sum()], "a traced value cannot bound a slice", ""),
    (lambda x: gt.take(x, np.array([0.5])), "indices are integers, got f64[1]", "write indices.astype("),
    (lambda x: gt.embedding(x, ONES), "indices are integers, got f32[2, 3]", "write indices.astype("),
]

# dtypes and things that are no arrays ---------------------------------------------------------------------------------
KINDS: list[Case] = [
    (lambda x: x.astype(np.float16), "astype: dtype float16 is not one of f32, f64, i32, i64, bool", "write 'float32'"),
    (lambda x: x.astype("floaty"), "astype: dtype 'floaty' is not one of f32, f64, i32, i64, bool", ""),
    (lambda x: gt.softmax(x.astype("i64")), "softmax: needs a float operand, got i64[2, 3]", "write x.astype("),
    (lambda x: x.astype("i64") @ np.ones((3, 2), int), "matmul: needs float operands, got i64[2, 3] and i64[3, 2]", ""),
    (lambda x: x & x, "logical_and: needs bool operands, got f32[2, 3]", "write x != 0"),
    (lambda x: -(x > 0), "neg: needs numbers, got bool[2, 3]", "use & | ~ for logic"),
    (lambda x: (x > 0) - (x < 0), "sub: needs numbers, got bool[2, 3]", "write x.astype("),
    (lambda x: x + 1j, "add: the right operand: got the complex number 1j", "there are real numbers only"),
    (lambda x: x + np.ones(3, complex), "add: dtype complex128 is not one of", "there are real numbers only"),
    (lambda x: x + None, "add: the right operand: got None, not an array or a number", "return its result?"),
    (lambda x: gt.maximum(x, None), "maximum: got None, not an array or a number", "return its result?"),
    (lambda x: x * "a", "mul: the right operand: got a str, not an array or a number: 'a'", ""),
    (lambda x: gt.add(x, {"a": 1}), "add: got a dict, not an array or a number: {'a': 1}", ""),
    (lambda x: gt.add(x, np.tanh), "add: got tanh, which is to be called", ""),
    (lambda x: gt.add(x, [[1, 2], [3]]), "add: the lists in [[1, 2], [3]] are not equally long", ""),
    (
        lambda x: x + np.array([None, 1, 2], object),
        "add: got an array of objects, not of numbers; its first is None",
        "",
    ),
    (lambda x: gt.dropout(x, 1.5), "dropout: a probability lies in [0, 1], got p=1.5", ""),
]

# arguments ------------------------------------------------------------------------------------------------------------
ARGUMENTS: list[Case] = [
    (lambda x: gt.tanh(x, x), "tanh: too many positional arguments; it takes (x)", ""),
    (lambda x: gt.maximum(x), "maximum: missing a required argument: 'y'; it takes (x, y)", ""),
    (lambda x: gt.where(x > 0), "where: missing 2 required positional arguments: 'x' and 'y'", "(condition, x, y)"),
    (lambda x: gt.sum(x, dims=1), "sum: got an unexpected keyword argument 'dims'", "write axis="),
    (lambda x: x.mean(dtype="f8"), "mean: got an unexpected keyword argument 'dtype'", "write f(x.astype(dtype))"),
    (lambda x: x.std(unbiased=False), "std: got an unexpected keyword argument 'unbiased'", "ddof=0 for False"),
    (lambda x: gt.clip(x, a_min=0), "clip: got an unexpected keyword argument 'a_min'", "write min="),
    (lambda x: gt.sum(x, keepdms=True), "sum: got an unexpected keyword argument 'keepdms'", "write keepdims="),
]

# what Python asks of a traced value -----------------------------------------------------------------------------------
PYTHON: list[Case] = [
    (lambda x: x if x > 0 else -x, "bool[2, 3] is neither true nor false", "write gt.where(condition, a, b)"),
    (lambda x: x if x > 0 and x < 1 else -x, "bool[2, 3] is neither true nor false", "write gt.where(condition, a, b)"),
    (lambda x: 0.5 in x, "bool[3] is neither true nor false", ".any() or .all()"),
    (lambda x: float(x), "f32[2, 3] is not one number, which float() asks for", "write x.sum(), x.mean() or x[i]"),
    (lambda x: f"{x:.2f}", "f32[2, 3] is not one number, which format() asks for", "write x.sum(), x.mean() or x[i]"),
    (lambda x: len(x.sum()), "len() of f32[], which has no axes", "write x.size"),
    (lambda x: list(x.sum()), "iteration over f32[], which has no axes", "write x itself"),
    (lambda x: list(range(x.sum())), "f32[] is no integer", "write a size such as x.shape[0]"),
    (assigned, "a traced value cannot be assigned in place: f32[2, 3]", "write x = "),
    (added_to_a_slice, "a traced value cannot be assigned in place: f32[2, 3]", "write x = "),
    (lambda x: np.add(x, 1, out=np.zeros((2, 3), "f4")), "numpy.add would write the traced value f32[2, 3]", "out="),
    (lambda x: x.sum().backward(), "a traced value has no backward()", "write step = gt.compile(model, loss="),
]

# names of other libraries ---------------------------------------------------------------------------------------------
NAMES: list[Case] = [
    (lambda x: x.grad, "a traced value has no grad: f32[2, 3]", "loss, grads = gt.value_and_grad(f)(x)"),
    (lambda x: x.to("cuda"), "a traced value has no to: f32[2, 3]", "write x.astype(dtype)"),
    (lambda x: x.cpu(), "a traced value has no cpu: f32[2, 3]", "there are no devices"),
    (lambda x: x.half(), "a traced value has no half: f32[2, 3]", "write x.astype('float32')"),
    (lambda x: x.long(), "a traced value has no long: f32[2, 3]", "write x.astype('int64')"),
    (lambda x: x.expand(2, 2, 3), "a traced value has no expand: f32[2, 3]", "write gt.broadcast_to(x, shape)"),
    (lambda x: x.add_(1), "a traced value has no add_: f32[2, 3]", "values are never changed in place"),
    (lambda x: x.softmax(-1), "a traced value has no softmax: f32[2, 3]", "write gt.softmax(x, ...)"),
    (lambda x: x.dim(), "a traced value has no dim: f32[2, 3]", "write x.ndim"),
    (lambda x: x.clone(), "a traced value has no clone: f32[2, 3]", "write x: values are never changed"),
    (lambda x: x.reshpe(3, 2), "a traced value has no reshpe: f32[2, 3]", "write x.reshape"),
]


def test_names_of_other_libraries() -> None:
    for name, write in {
        "cat": "gt.concatenate([x, y], axis)", "Linear": "gt.nn.Linear", "GPT": "gt.models.GPT", "softmx": "gt.softmax",
        "float32": "np.float32", "eq": "x == y",
    }.items():  # fmt: skip
        with pytest.raises(AttributeError, match=f"^gradtape has no {name}; write {re.escape(write)}"):
            getattr(gt, name)
    with pytest.raises(AttributeError, match="^gradtape has no zzz$"):
        gt.zzz
    assert not [name for name in FUNCTIONS if name in vars(gt)]
    advised = [name for text in [*FUNCTIONS.values(), *METHODS.values()] for name in re.findall(r"gt\.(\w+)", text)]
    assert all(hasattr(gt, name) for name in advised)


CASES = [*SHAPES, *AXES, *KINDS, *ARGUMENTS, *PYTHON, *NAMES]


@pytest.mark.parametrize(("mistake", "fact", "write"), CASES, ids=[c[1][:50] for c in CASES])
def test_a_mistake_in_a_traced_program(mistake: Callable, fact: str, write: str) -> None:
    with pytest.raises((TypeError, ValueError, IndexError, AttributeError)) as error:
        gt.compile(mistake)(X)
    text = str(error.value)
    assert fact in text
    assert write in text.split(fact, 1)[1]
    code = mistake.__code__
    line = re.search(rf"\n  at    {re.escape(HERE)}:(\d+)", text)
    assert line is not None, text
    assert code.co_firstlineno <= int(line[1]) <= code.co_firstlineno + 2, "the line is not the user's"
    if "zeros((2, 3)" not in text and "ones(-1)" not in text:  # these have no operand
        assert re.search(r"(f32|f64|i32|i64|bool)\[", text), "no type is named"
    assert len(text) < 700


def test_dtypes_in_hints_are_numpys() -> None:
    """`x.astype('f32')` is understood here, but not by NumPy, whose array x may be."""
    named = [name for file in package_files() for name in re.findall(r"astype\('(\w+)'\)", file.read_text())]
    assert named and all(np.dtype(name).name == name for name in named)


EAGER: list[tuple[Callable[[], Any], str]] = [
    (lambda: gt.sum(X, 2), "sum: axis 2 is out of range for 2 dimensions"),
    (lambda: gt.concatenate([X, X.T]), "concat: sizes of axis 1 differ: 3 and 2"),
    (lambda: gt.tanh(None), "tanh: got None, not an array or a number"),
    (lambda: gt.softmax(X.astype(int)), "softmax: needs a float operand, got i64[2, 3]"),
    (lambda: gt.clip(X, a_min=0), "clip: got an unexpected keyword argument 'a_min'"),
    (lambda: gt.embedding(np.array([7]), X), "embedding: index 7 is out of range for a table of 2 rows"),
    (lambda: gt.Parameter(None), "Parameter: got None, not an array or a number"),
    (lambda: gt.Parameter(np.ones(3, "f2")), "Parameter: dtype float16 is not one of"),
]


@pytest.mark.parametrize(("mistake", "fact"), EAGER, ids=[c[1][:50] for c in EAGER])
def test_a_mistake_outside_of_a_program(mistake: Callable, fact: str) -> None:
    """Functions of the namespace answer on plain arrays as they do on traced values."""
    with pytest.raises((TypeError, IndexError)) as error:
        mistake()
    assert str(error.value).startswith(fact)
    assert f"\n  at    {HERE}:{mistake.__code__.co_firstlineno}" in str(error.value)


# symbolic sizes -------------------------------------------------------------------------------------------------------
SIZES: list[Case] = [
    (
        lambda x: x + np.arange(x.shape[1])[:, None],
        "add: got an array of objects, as np.arange(T)",
        "write gt.arange(T)",
    ),
    (lambda x: x.reshape(x.shape[0] // 2, -1), "elements do not divide into shape (2, -1) for every size", ""),
    (lambda x: x[:, 0] + x[0], "add: shapes (B, 3) and (T, 3) do not broadcast: B and T differ", ""),
    (lambda x: x.reshape(x.shape[0], 5), "reshape: f32[B, T, 3] has 3*B*T elements, shape (B, 5) has 5*B", ""),
    (lambda x: gt.split(x, 2, 1), "split: axis 1 of size T does not split into 2 equal parts", ""),
]


@pytest.mark.parametrize(("mistake", "fact", "write"), SIZES, ids=[c[1][:50] for c in SIZES])
def test_a_mistake_with_symbolic_sizes(mistake: Callable, fact: str, write: str) -> None:
    with pytest.raises(TypeError) as error:
        gt.compile(mistake, SYMBOLIC)
    text = str(error.value)
    assert fact in text and write in text
    assert f"\n  at    {HERE}:{mistake.__code__.co_firstlineno}" in text


def test_what_is_done_with_symbolic_sizes() -> None:
    """Habits that are no mistakes: NumPy's functions of a size, comparing shapes, formatting."""

    def scaled(x: Any) -> Any:
        assert f"{x.shape[1]:d}" == "T"
        return x / np.sqrt(x.shape[1]) if x.shape != (1, 1, 3) else x

    compiled = gt.compile(scaled, SYMBOLIC)
    x = np.ones((2, 4, 3), "f4")
    np.testing.assert_allclose(compiled(x), x / 2)


# models, losses, optimizers -------------------------------------------------------------------------------------------
class Net(gt.Module):
    def __init__(self) -> None:
        self.w = gt.Parameter(np.ones((3, 4), "f4"))
        self.b = gt.buffer(np.zeros(4, "f4"))

    def forward(self, x: Any) -> Any:
        return x @ self.w + self.b


class Forgetful(Net):
    def forward(self, x: Any) -> Any:
        x @ self.w


class InPlace(Net):
    def forward(self, x: Any) -> Any:
        self.b += 1
        return x @ self.w


def trained(model: Any = None, loss: Any = gt.cross_entropy, optimizer: Any = None) -> Any:
    return gt.compile(model or Net(), loss=loss, optimizer=optimizer or gt.SGD(lr=0.1))


Y = np.array([0, 1])
MODELS: list[tuple[Callable[[], Any], str, str]] = [
    (lambda: gt.compile(Net), "compile takes a model, not the class Net", "write compile(Net(...))"),
    (lambda: trained(loss="cross_entropy"), "loss is a function such as gt.cross_entropy, not 'cross_entropy'", ""),
    (lambda: trained()(X), "a call takes (*inputs, target), got 1 argument", "write step(x, y)"),
    (
        lambda: trained(loss=lambda out, y: out)(X, Y),
        "the loss is one float scalar, got f32[2, 4]",
        "write loss.mean()",
    ),
    (lambda: trained(loss=lambda out, y: None)(X, Y), "the loss is one float scalar, got nothing", "write return"),
    (lambda: trained(Forgetful())(X, Y), "cross_entropy: got None, not an array or a number", "return its result?"),
    (lambda: trained(optimizer=gt.AdamW), "optimizer= takes an Optimizer such as gt.AdamW(lr=1e-3)", ""),
    (lambda: gt.AdamW(Net().parameters()), "AdamW: the learning rate comes first", "params=model.parameters())"),
    (lambda: gt.SGD([{"params": Net().parameters()}], lr=1), "SGD: the learning rate comes first", "params="),
    (lambda: gt.AdamW(lr=-1), "AdamW: lr is a number from 0, or a function of the step, not -1", ""),
    (lambda: gt.AdamW(lr="1e-3"), "AdamW: lr is a number from 0, or a function of the step, not '1e-3'", ""),
    (lambda: gt.AdamW(betas=0.9), "AdamW: betas are two numbers, such as (0.9, 0.999), not 0.9", ""),
    (lambda: gt.SGD(lr=1).zero_grad(), "SGD has no zero_grad", "gradients are new in every step"),
    (lambda: gt.SGD(lr=1).step(), "SGD has no step", "write step = gt.compile(model, loss=..., optimizer=...)"),
    (lambda: Net().to("cuda"), "Net has no to", "there are no devices"),
    (lambda: Net().zero_grad(), "Net has no zero_grad", "gradients are new in every step"),
    (lambda: Net().register_buffer("b", X), "Net has no register_buffer", "write self.name = gt.buffer(array)"),
    (lambda: Net().w.grad, "a Parameter has no grad", "gt.value_and_grad(f)(x)"),
    (
        lambda: Net().w.backward(),
        "a Parameter has no backward",
        "gt.value_and_grad(f)(x), or step = gt.compile(model, loss=",
    ),
    (lambda: gt.nn.Sequential([gt.nn.Linear(3, 4)]), "Sequential: part 0 is a list", "write Sequential(*layers)"),
    (lambda: gt.nn.Sequential("relu"), "Sequential: part 0 is a str", "write a Module or a function"),
    (lambda: gt.compile(Net())(None), "argument 0: got None, not an array or a number", ""),
    (lambda: gt.compile(Net())({"x": X}), "matmul: got a dict, not an array or a number: {'x':", "w: f32[3, 4]"),
    (lambda: gt.compile(Net())((X, {"y": [None]})), "argument 0[1]['y']: an array of dtype object is not", "numbers"),
    (
        lambda: gt.compile(Net())([[1.0], [1.0, 2.0]]),
        "argument 0: the lists in [[1.0], [1.0, 2.0]] are not equally",
        "",
    ),
    (
        lambda: gt.compile(Net())(X.astype("f2")),
        "argument 0: dtype float16 is not one of f32",
        "write x.astype('float32')",
    ),
    (
        lambda: gt.compile(Net())(X.astype(complex)),
        "argument 0: an array of dtype complex128 is not one of numbers",
        "",
    ),
    (lambda: gt.compile(Net())(np.array([None], object)), "argument 0: got an array of objects", "its first is None"),
    (lambda: gt.grad(lambda x: x * 2.0)(X), "must return a float scalar to have a gradient, not f32[2, 3]", ".mean()"),
    (lambda: gt.grad(lambda x: x.sum())(Y), "argument 0 is i64[2]: only floats have a gradient", "write x.astype("),
    (lambda: gt.grad(lambda x: x.sum(), argnums=3)(X), "argnums names argument 3, and there are 1", ""),
    (lambda: gt.grad(X), "value_and_grad takes a function, not f32[2, 3]", "write gt.value_and_grad(f)(x)"),
]


@pytest.mark.parametrize(("mistake", "fact", "write"), MODELS, ids=[c[1][:50] for c in MODELS])
def test_a_mistake_around_a_program(mistake: Callable, fact: str, write: str) -> None:
    with pytest.raises((TypeError, ValueError, AttributeError)) as error:
        mistake()
    text = str(error.value)
    assert fact in text and write in text.split(fact, 1)[1]
    assert len(text) < 500


class Broken(gt.Module):
    @property
    def width(self) -> int:
        return self.units


def test_a_property_that_fails_says_why() -> None:
    """Not that there is no such property, which is what Python makes of an AttributeError inside of it."""
    with pytest.raises(AttributeError, match="^Broken has no units$"):
        Broken().width
    assert not hasattr(Broken(), "units")


# other libraries ------------------------------------------------------------------------------------------------------
def test_arrays_and_functions_of_pytorch() -> None:
    torch = pytest.importorskip("torch")
    for mistake, said in (
        (lambda x: x + torch.ones(2, 3), r"add: the right operand: got a torch array.*write x\.detach\(\)\.numpy\(\)"),
        (lambda x: gt.maximum(x, torch.ones(3)), r"maximum: got a torch array"),
        (lambda x: torch.ones(2, 3) * x, r"mul: the left operand: got a torch array"),
        (lambda x: torch.add(x, 1), r"PyTorch's add takes no traced value: f32\[2, 3\][\s\S]*write gt\.add"),
        (lambda x: torch.tanh(x), r"PyTorch's tanh takes no traced value: f32\[2, 3\][\s\S]*write gt\.tanh"),
        (lambda x: torch.cat([x, x]), r"PyTorch's cat takes no traced value: f32\[2, 3\]"),
        (lambda x: x.astype(torch.float32), r"dtype torch\.float32 is not one of .*; write 'float32'"),
    ):
        with pytest.raises(TypeError, match=said) as error:
            gt.compile(mistake)(X)
        assert f"\n  at    {HERE}:{mistake.__code__.co_firstlineno}" in str(error.value)
    for wrong in (torch.nn.CrossEntropyLoss(), torch.nn.functional.mse_loss):
        with pytest.raises(TypeError, match="the loss is PyTorch's .*, which takes no traced values; write loss=gt"):
            trained(loss=wrong)
    with pytest.raises(TypeError, match="optimizer= takes an Optimizer .*, not PyTorch's SGD"):
        trained(optimizer=torch.optim.SGD([torch.ones(2, requires_grad=True)]))
    np.testing.assert_array_equal(gt.compile(Net())(torch.tensor(X)), Net()(X))  # what comes from a loader is taken


def test_arrays_of_jax() -> None:
    jax = pytest.importorskip("jax")
    with pytest.raises(TypeError, match=r"add: the right operand: got a jax array.*write np\.asarray\(x\)"):
        gt.compile(lambda x: x + jax.numpy.ones((2, 3)))(X)
    np.testing.assert_array_equal(gt.compile(Net())(jax.numpy.asarray(X)), Net()(X))


# what is no mistake ---------------------------------------------------------------------------------------------------
def test_habits_that_work() -> None:
    """Lists for tuples, torch's names for arguments, uint8 images, copies, comparing with None, numbers returned."""
    image = np.ones((2, 3), np.uint8)
    for habit in (
        lambda x: gt.sum(x, axis=[0, 1]),
        lambda x: gt.sum(x, dim=1, keepdim=True),
        lambda x: gt.transpose(x, [1, 0]),
        lambda x: x.reshape([3, 2]),
        lambda x: gt.zeros([2, 3]) + x,
        lambda x: x + image,
        lambda x: x / 255 + np.float16(0.5),
        lambda x: copy.deepcopy(x) + copy.copy(x),
        lambda x: x * 2 if x is not None and x != None else x,  # noqa: E711
        lambda x: gt.concatenate((x, [[1.0, 2.0, 3.0]])),
    ):
        np.testing.assert_allclose(
            gt.compile(habit)(X), evaluate_graph(gt.trace(habit, X).graph, {"x": X})["out"], rtol=1e-6
        )
    assert gt.compile(lambda x: 1.5)(X) == np.float32(1.5)
    assert gt.compile(lambda x: (x, 3, True))(X)[1:] == (3, True)
    np.testing.assert_array_equal(gt.compile(Net())(image), Net()(image.astype("f4")))
