"""What users of NumPy, PyTorch and JAX write, and what it is called here: only errors read this."""

from __future__ import annotations

import difflib
import inspect
import sys
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from ..ir.build import Ref
from .state import TraceError

NO_DEVICES = "nothing: there are no devices"

# methods and attributes of other libraries' arrays
METHODS = {
    "cpu": NO_DEVICES, "cuda": NO_DEVICES,
    "device": NO_DEVICES, "to": "x.astype(dtype), or x: there are no devices",
    "float": "x.astype('float32')", "double": "x.astype('float64')", "half": "x.astype('float32'): there is no float16",
    "bfloat16": "x.astype('float32'): there is no bfloat16", "long": "x.astype('int64')", "int": "x.astype('int32')",
    "bool": "x != 0", "dim": "x.ndim", "numel": "x.size", "nelement": "x.size", "clone": "x: values are never changed",
    "contiguous": "x: memory is laid out by the compiler", "is_cuda": NO_DEVICES,
    "grad": "gradients are results: loss, grads = gt.value_and_grad(f)(x), or step.value_and_grad(...)",
    "backward": "step = gt.compile(model, loss=..., optimizer=...), or gt.value_and_grad(f)",
    "grad_fn": "gradients are results: gt.value_and_grad(f)", "requires_grad_": "gt.value_and_grad(f, argnums=...)",
    "retain_grad": "gt.value_and_grad(f, argnums=...)", "expand": "gt.broadcast_to(x, shape)",
    "expand_as": "gt.broadcast_to(x, y.shape)", "view_as": "x.reshape(y.shape)", "t": "x.T",
    "mm": "x @ y", "bmm": "x @ y", "dot": "x @ y", "mul": "x * y", "add": "x + y", "sub": "x - y", "div": "x / y",
    "pow": "x ** y", "norm": "gt.sqrt(gt.sum(x * x, axis))", "masked_fill": "gt.where(mask, value, x)",
    "clamp": "gt.clip(x, low, high)", "unbind": "[x[i] for i in range(len(x))]", "block_until_ready": "x",
    "fill": "gt.full_like(x, value)", "itemset": "gt.where(mask, new, x)", "tofile": "return it, and save the result",
}  # fmt: skip

# functions and names of other libraries' namespaces
FUNCTIONS = {
    "cat": "gt.concatenate([x, y], axis)", "vstack": "gt.concatenate([x, y], 0)", "hstack": "gt.concatenate([x, y], 1)",
    "unsqueeze": "gt.expand_dims(x, axis), or x[:, None]", "clamp": "gt.clip(x, low, high)", "mm": "x @ y",
    "dot": "x @ y", "mv": "x @ y", "vdot": "gt.sum(x * y)", "inner": "gt.tensordot(x, y, ([-1], [-1]))",
    "amax": "gt.max(x, axis)", "amin": "gt.min(x, axis)", "norm": "gt.sqrt(gt.sum(x * x, axis))",
    "numel": "x.size", "movedim": "gt.moveaxis(x, source, to)",
    "swapdims": "gt.swapaxes(x, a, b)", "view": "gt.reshape(x, shape)", "expand": "gt.broadcast_to(x, shape)",
    "narrow": "x[start : start + length]", "select": "x[i]", "unbind": "gt.unstack(x, axis)", "clone": "x",
    "detach": "gt.stop_gradient(x)", "array": "gt.tensor(data), or np.array(data)", "asarray": "gt.tensor(data)",
    "from_numpy": "x itself: NumPy's arrays are taken everywhere", "empty": "gt.zeros(shape)",
    "empty_like": "gt.zeros_like(x)", "identity": "gt.eye(n)", "tri": "gt.tril(gt.ones((n, n)))",
    "randperm": "gt.argsort(gt.uniform((n,)))", "multinomial": "gt.categorical(logits)",
    "rand_like": "gt.rand(*x.shape)", "randn_like": "gt.randn(*x.shape)", "bucketize": "gt.searchsorted(edges, x)",
    "eq": "x == y", "ne": "x != y", "lt": "x < y", "le": "x <= y", "gt": "x > y", "ge": "x >= y",
    "isclose": "abs(x - y) <= tolerance", "allclose": "np.allclose(x, y) of the results", "fmod": "gt.remainder(x, y)",
    "frac": "x - gt.trunc(x)", "logit": "gt.log(p / (1 - p))", "nanmax": "gt.max(gt.where(gt.isnan(x), -np.inf, x))",
    "std_mean": "gt.std(x, axis), gt.mean(x, axis)", "var_mean": "gt.var(x, axis), gt.mean(x, axis)",
    "cdist": "gt.sqrt(gt.sum((x[:, None] - y) ** 2, -1))",
    "jit": "gt.compile(f)", "vmap": "f on arrays with one axis more: functions broadcast",
    "set_grad_enabled": "gt.no_grad()",
    "optim": "gt.AdamW, gt.SGD, ...", "lax": "gt.scan, gt.where, ...", "functional": "gt.softmax, gt.relu, ...",
    **{name: f"np.{name}" for name in ("float32", "float64", "int32", "int64", "bool_", "pi", "inf", "nan", "newaxis")},
}  # fmt: skip

# of a model
MODEL = {
    "to": NO_DEVICES, "cuda": NO_DEVICES,
    "cpu": NO_DEVICES, "half": "nothing: there is no float16",
    "zero_grad": "nothing: gradients are new in every step",
    "backward": "step = gt.compile(model, loss=..., optimizer=...); step(x, y)",
    "register_buffer": "self.name = gt.buffer(array)", "register_parameter": "self.name = gt.Parameter(array)",
    "add_module": "setattr(self, name, module)", "register_module": "setattr(self, name, module)",
    "children": "model.modules()", "named_children": "model.named_modules()", "compile": "gt.compile(model, ...)",
    "apply": "for module in model.modules(): ...",
    "fit": "step = gt.compile(model, loss=..., optimizer=...), and step(x, y) for each batch",
    "parameters_to_vector": "model.state_dict()", "init": "parameters are made in __init__",
}  # fmt: skip

# arguments of other libraries' functions
KEYWORDS = {
    "dtype": "f(x.astype(dtype))", "device": NO_DEVICES, "out": "x = f(x), without out=",
    "unbiased": "ddof=1 for True, ddof=0 for False", "correction": "ddof=", "dims": "axis=", "axes": "axis=",
    "keep_dims": "keepdims=", "a_min": "min=", "a_max": "max=", "a": "the array first, without a name",
    "input": "the array first, without a name", "inplace": "x = f(x)", "initial": "combine it with the result",
    "order": "nothing: elements are in row-major order", "requires_grad": "gt.tensor(data, requires_grad=True)",
    "indices_or_sections": "sections=", "where": "gt.where(mask, x, 0) first", "other": "y, without a name",
}  # fmt: skip


def method_advice(name: str, own: Iterable[str]) -> str:
    """What to write instead of `x.name`, where that is known; `own` are the names that there are."""
    if name in METHODS:
        return METHODS[name]
    if name.endswith("_"):
        return f"x = ...: values are never changed in place ({name} changes its own)"
    if has_function(name):
        return f"gt.{name}(x, ...)"
    near = difflib.get_close_matches(name, [n for n in own if not n.startswith("_")], 1, 0.8)
    return f"x.{near[0]}" if near else ""


def missing(name: str) -> NoReturn:
    """The package's own `__getattr__`: what a name of NumPy's, PyTorch's or JAX's namespace is called here."""
    package = sys.modules[__name__.split(".")[0]]
    own = [n for n, thing in vars(package).items() if callable(thing) and not n.startswith("_")]
    advice = FUNCTIONS.get(name, "")
    for part in ("nn", "models", "schedule"):
        if not advice and not name.startswith("_") and hasattr(getattr(package, part, None), name):
            advice = f"gt.{part}.{name}"
    if not advice and not name.startswith("_"):
        advice = ", ".join(f"gt.{n}" for n in difflib.get_close_matches(name, own, 2, 0.75))
    raise AttributeError(f"gradtape has no {name}" + (f"; write {advice}" if advice else ""))


def has_function(name: str) -> bool:
    """Whether the package has a public function of that name."""
    package = sys.modules[__name__.split(".")[0]]
    return inspect.isfunction(getattr(package, name, None))


def signature_fact(function: Callable[..., Any], error: TypeError) -> str:
    """The fact of a call that does not fit the function's signature: what is wrong, what it takes, what to write."""
    text = str(error)
    signature = inspect.signature(function)
    fact = f"{text.split('() ', 1)[-1]}; it takes {parameters_of(function)}"
    quoted = text.split("'")
    if "keyword argument" not in text or len(quoted) < 3:
        return fact
    near = difflib.get_close_matches(quoted[1], list(signature.parameters), 1)
    advice = KEYWORDS.get(quoted[1]) or (f"{near[0]}=" if near else "")
    return fact + (f"; write {advice}" if advice else "")


def parameters_of(function: Callable[..., Any]) -> inspect.Signature:
    """What a function takes, without the types."""
    signature = inspect.signature(function)
    named = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    return signature.replace(parameters=named, return_annotation=signature.empty)


class OnlyHere:
    """What PyTorch asks an array for before its functions take it: traced values refuse, with the line."""

    __slots__ = ()

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> NoReturn:
        name = getattr(func, "__name__", str(func)).strip("_")
        ref = _traced((*args, *(kwargs or {}).values()))
        advice = (
            f"gt.{name}(...)" if has_function(name) else "a function of gradtape or NumPy, such as gt.tanh or np.tanh"
        )
        fact = f"PyTorch's {name} takes no traced value" + (f": {ref.type}" if ref is not None else "")
        raise TraceError(ref._builder.trace.at_line(fact, advice) if ref is not None else f"{fact}\n  write {advice}")


def _traced(args: Any) -> Any:
    for arg in args:
        found = arg if isinstance(arg, Ref) else _traced(arg) if isinstance(arg, (list, tuple)) else None
        if found is not None:
            return found
    return None
