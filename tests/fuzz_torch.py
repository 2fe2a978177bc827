"""Random programs by PyTorch: the same values, and the same gradients by its own differentiation.

PyTorch is what the interpreter's references and the derivative rules are held to here; it is loaded when a program is
run, from the extra `peers`. Programs are drawn from `OPS_KNOWN` only.
"""

from __future__ import annotations

import importlib
import operator
import warnings
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np

from fuzz_judge import Disagreement, Expected
from fuzz_peers import held_to
from fuzz_programs import Program, weighed
from gradtape.ir.dims import evaluate
from gradtape.ir.graph import Graph, Literal, Node, Value
from gradtape.ir.interp import bind_dims, concrete
from gradtape.ir.op import OPS

# Ops and what PyTorch calls them (docs/ops.md lists them, too); those in `ADAPTED` take other arguments there.
TORCH = {
    name: f"torch.{name}"
    for name in """
        abs acos acosh add asin asinh atan atan2 atanh ceil copysign cos cosh div erf exp exp2 expm1 floor floor_divide
        heaviside hypot isfinite isinf isnan lerp log log10 log1p log2 logaddexp logical_and logical_not logical_or
        logical_xor maximum minimum mul neg pow reciprocal relu remainder round rsqrt sigmoid sign signbit sin sinh sqrt
        square sub tan tanh trunc where
        bitwise_and bitwise_or bitwise_xor bitwise_left_shift bitwise_right_shift erfinv cummax cummin cumprod cumsum
        sort topk
        sum mean prod any all var std argmax argmin softmax log_softmax logsumexp
        reshape permute broadcast_to full matmul
    """.split()
} | {
    "less": "torch.lt", "less_equal": "torch.le", "greater": "torch.gt", "greater_equal": "torch.ge",
    "equal": "torch.eq", "not_equal": "torch.ne", "clip": "torch.clamp", "cast": "torch.Tensor.to",
    "stop_gradient": "torch.Tensor.detach", "silu": "torch.nn.functional.silu",
    "softplus": "torch.nn.functional.softplus", "gelu_tanh": "torch.nn.functional.gelu",
    "gelu_erf": "torch.nn.functional.gelu", "layer_norm": "torch.nn.functional.layer_norm",
    "rms_norm": "torch.nn.functional.rms_norm", "nll_from_logits": "torch.nn.functional.cross_entropy",
    "max": "torch.amax", "min": "torch.amin", "concat": "torch.cat", "slice": "torch.Tensor.__getitem__",
    "unslice": "torch.nn.functional.pad", "iota": "torch.arange", "scatter_add": "torch.Tensor.index_add",
    "constant": "torch.tensor", "uniform": "torch.rand", "take": "torch.nn.functional.embedding",
    "bitwise_invert": "torch.bitwise_not", "take_along_axis": "torch.gather", "add_along_axis": "torch.scatter_add",
}  # fmt: skip


@cache
def torch() -> Any:
    return importlib.import_module("torch")


def dtype_of(name: str) -> Any:
    return getattr(torch(), {"f32": "float32", "f64": "float64", "i32": "int32", "i64": "int64", "bool": "bool"}[name])


def _over(function: Callable[..., Any]) -> Callable[..., Any]:
    """A reduction over any axes by one that takes a tuple: of no axes it is the operand itself."""
    return lambda x, axes, keepdims: function(x, axes, keepdims) if axes else x


def _one_by_one(name: str) -> Callable[..., Any]:
    def reduce(x: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
        for axis in axes:
            x = getattr(torch(), name)(x, dim=axis, keepdim=True)
        return x if keepdims else x.reshape([d for i, d in enumerate(x.shape) if i not in axes])

    return reduce


def _extreme(name: str) -> Callable[..., Any]:
    return _over(lambda x, axes, keepdims: getattr(torch(), name)(x, dim=axes, keepdim=keepdims))


def _slice(x: Any, start: tuple, size: tuple, step: tuple) -> Any:
    for axis, (a, n, b) in enumerate(zip(start, size, step, strict=True)):
        x = torch().index_select(x, axis, torch().tensor([a + i * b for i in range(n)], dtype=torch().int64))
    return x


def _unslice(x: Any, shape: tuple, start: tuple, step: tuple) -> Any:
    for axis, (d, a, b) in enumerate(zip(shape, start, step, strict=True)):
        at = torch().tensor([a + i * b for i in range(x.shape[axis])], dtype=torch().int64)
        wide = torch().zeros((*x.shape[:axis], d, *x.shape[axis + 1 :]), dtype=x.dtype)
        x = wide.index_add(axis, at, x) if x.dtype != torch().bool else wide.index_copy(axis, at, x)
    return x


def _take(table: Any, indices: Any, axis: int = 0) -> Any:
    flat = _from_the_start(indices, table.shape[axis]).reshape(-1)
    return table.index_select(axis, flat).reshape((*table.shape[:axis], *indices.shape, *table.shape[axis + 1 :]))


def _scatter_add(indices: Any, x: Any, rows: int, axis: int = 0) -> Any:
    flat = _from_the_start(indices, rows).reshape(-1)
    before, behind = x.shape[:axis], x.shape[axis + indices.ndim :]
    zeros = torch().zeros((*before, rows, *behind), dtype=x.dtype)
    return zeros.index_add(axis, flat, x.reshape((*before, len(flat), *behind)))


def _from_the_start(indices: Any, size: int) -> Any:
    return torch().where(indices < 0, indices + size, indices).long()


def _add_along_axis(indices: Any, x: Any, size: int, axis: int) -> Any:
    zeros = torch().zeros((*x.shape[:axis], size, *x.shape[axis + 1 :]), dtype=x.dtype)
    return zeros.scatter_add(axis, _from_the_start(indices, size), x)


def _running(name: str) -> Callable[..., Any]:
    def run(x: Any, axis: int, reverse: bool) -> Any:
        out = getattr(torch(), name)(x.flip(axis) if reverse else x, axis, dtype=x.dtype)
        return out.flip(axis) if reverse else out

    return run


def _linear_scan(a: Any, b: Any, axis: int, reverse: bool) -> Any:
    found: list[Any] = []
    for i in range(b.shape[axis])[:: -1 if reverse else 1]:
        found.append(b.select(axis, i) + (a.select(axis, i) * found[-1] if found else 0))
    return torch().stack(found[:: -1 if reverse else 1], axis) if found else b


def _topk(x: Any, k: int, axis: int, largest: bool) -> tuple[Any, Any]:
    values, indices = torch().sort(x, dim=axis, descending=largest, stable=True)
    return values.narrow(axis, 0, k), indices.narrow(axis, 0, k)


def _iota(shape: tuple, axis: int, dtype: str) -> Any:
    line = torch().arange(shape[axis], dtype=dtype_of(dtype))
    return line.reshape([-1 if i == axis else 1 for i in range(len(shape))]).expand(shape)


def _spread(name: str) -> Callable[..., Any]:
    def reduce(x: Any, axes: tuple[int, ...], keepdims: bool, correction: float = 0) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch's, that elements are no more than the correction
            if not axes:  # to PyTorch, no axes are all
                return getattr(torch(), name)(x[..., None], dim=-1, correction=correction)
            return getattr(torch(), name)(x, dim=axes, keepdim=keepdims, correction=correction)

    return reduce


def _normed(x: Any, axes: tuple, eps: float, centred: bool) -> Any:
    d = x - x.mean(axes, keepdim=True) if axes and centred else x - x if centred else x
    square = (d * d).mean(axes, keepdim=True) if axes else d * d
    return d / torch().sqrt(square + eps)


def _nll(logits: Any, target: Any, ignore: int | None = None) -> Any:
    counts = (target != ignore if ignore is not None else torch().ones_like(target, dtype=torch().bool))[..., None]
    classes = target.long()[..., None] * counts
    return torch().where(counts, -torch().log_softmax(logits, -1).gather(-1, classes), 0.0)


ADAPTED: dict[str, Callable[..., Any]] = {
    "gelu_tanh": lambda x: torch().nn.functional.gelu(x, approximate="tanh"),
    "heaviside": lambda x, y: torch().heaviside(x.detach(), y.detach()) + 0 * y,  # it has no derivative there
    "floor_divide": lambda x, y: torch().floor_divide(x.detach(), y.detach()),
    "clip": lambda x, low, high: torch().minimum(torch().maximum(x, low), high),
    "cast": lambda x, dtype: x.to(dtype_of(dtype)),
    "stop_gradient": lambda x: x.detach(),
    "sum": _over(lambda x, axes, keepdims: x.sum(axes, keepdim=keepdims, dtype=x.dtype)),
    "mean": _over(lambda x, axes, keepdims: x.mean(axes, keepdim=keepdims)),
    "prod": _one_by_one("prod"),
    "max": _extreme("amax"),
    "min": _extreme("amin"),
    "any": _one_by_one("any"),
    "all": _one_by_one("all"),
    "var": _spread("var"),
    "std": _spread("std"),
    "argmax": lambda x, axis, keepdims: x.argmax(axis, keepdim=keepdims),
    "argmin": lambda x, axis, keepdims: x.argmin(axis, keepdim=keepdims),
    "softmax": lambda x, axis: torch().softmax(x, axis),
    "log_softmax": lambda x, axis: torch().log_softmax(x, axis),
    "logsumexp": lambda x, axis: torch().logsumexp(x, axis, keepdim=True),
    "layer_norm": lambda x, axes, eps: _normed(x, axes, eps, True),
    "rms_norm": lambda x, axes, eps: _normed(x, axes, eps, False),
    "nll_from_logits": _nll,
    "bounded": lambda x, size, ignore=None: x.long(),
    "reshape": lambda x, shape: x.reshape(shape),
    "permute": lambda x, axes: x.permute(axes),
    "broadcast_to": lambda x, shape: x.broadcast_to(shape),
    "slice": _slice,
    "unslice": _unslice,
    "concat": lambda *xs, axis: torch().cat(xs, axis),
    "take": _take,
    "scatter_add": _scatter_add,
    "take_along_axis": lambda x, indices, axis: x.gather(axis, _from_the_start(indices, x.shape[axis])),
    "add_along_axis": _add_along_axis,
    "wrapped": lambda x, size, axis: _from_the_start(x, size),
    "cumsum": _running("cumsum"),
    "cumprod": _running("cumprod"),
    "linear_scan": _linear_scan,
    "cummax": lambda x, axis: torch().cummax(x, axis),
    "cummin": lambda x, axis: torch().cummin(x, axis),
    "sort": lambda x, axis, descending: torch().sort(x, dim=axis, descending=descending, stable=True),
    "topk": _topk,
    "full": lambda shape, value, dtype: torch().full(shape, value, dtype=dtype_of(dtype)),
    "iota": _iota,
    "dim_scalar": lambda value, dtype="f32": torch().tensor(value, dtype=dtype_of(dtype)),
    "constant": lambda digest, dtype, shape: None,  # resolved by `run`
}
OPS_KNOWN = frozenset(name for name in {*TORCH, *ADAPTED} if not OPS[name].random)


@cache
def function(op: str) -> Callable[..., Any]:
    """The op by PyTorch."""
    return ADAPTED.get(op) or operator.attrgetter(TORCH[op].removeprefix("torch."))(torch())


def run(graph: Graph, values: Mapping[str, Any], names: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(outputs, inputs) of a graph as torch tensors; the inputs in `names` ask for a gradient."""
    dims = bind_dims(graph, values)
    env: dict[Value, Any] = {}
    for value in graph.inputs:
        tensor = torch().tensor(np.array(values[value.name]), dtype=dtype_of(value.type.dtype))
        env[value] = tensor.requires_grad_() if value.name in names else tensor

    def operand(o: Any, node: Node) -> Any:
        if not isinstance(o, Literal):
            return env[o]
        # a number takes the dtype of the arrays that it meets
        others = [v.type.dtype for v in node.values() if v.type.dtype != "bool"] or [node.outputs[0].type.dtype]
        return torch().tensor(o.value, dtype=dtype_of(others[0]))

    for node in graph.nodes:
        if node.op == "constant":
            result: Any = torch().tensor(graph.constants[node.attrs["digest"]])
        else:
            attrs = {k: concrete(v, dims) for k, v in node.attrs.items()}
            result = function(node.op)(*(operand(o, node) for o in node.inputs), **attrs)
        for value, tensor in zip(node.outputs, (result,) if len(node.outputs) == 1 else result, strict=True):
            shape = tuple(evaluate(d, dims) for d in value.type.shape)
            if tuple(tensor.shape) != shape:
                raise Disagreement(f"{node.op} gives shape {tuple(tensor.shape)} in PyTorch, {shape} here: {node}")
            env[value] = tensor.to(dtype_of(value.type.dtype))
    outputs = {n: torch().tensor(v.value) if isinstance(v, Literal) else env[v] for n, v in graph.outputs}
    return outputs, {v.name: env[v] for v in graph.inputs}


def by_torch(program: Program) -> Expected:
    """Holds the interpreter's values and gradients of a program to PyTorch's."""
    return held_to(_results, program)


def _results(graph: Graph, values: Mapping[str, Any], asked: tuple[str, ...], again: tuple[str, ...]) -> dict[str, Any]:
    outputs, inputs = run(graph, values, asked)
    results = {n: v.detach().numpy() for n, v in outputs.items()}
    if asked and outputs["loss"].requires_grad:
        found = _gradients(outputs["loss"], [inputs[n] for n in asked], bool(again))
        results |= {f"grad:{n}": g.detach().numpy() for n, g in zip(asked, found, strict=True)}
        if again:
            found = _gradients(weighed([g.sum() for g in found]), [inputs[n] for n in again], False)
            results |= {f"grad2:{n}": g.numpy() for n, g in zip(again, found, strict=True)}
    return results


def _gradients(of: Any, inputs: list, again: bool) -> list:
    """Zeros where no path leads to an input."""
    if not of.requires_grad:
        return [torch().zeros_like(x) for x in inputs]
    found = torch().autograd.grad(of, inputs, create_graph=again, allow_unused=True)
    return [torch().zeros_like(x) if g is None else g for x, g in zip(inputs, found, strict=True)]
