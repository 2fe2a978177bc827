"""Random programs by JAX: the same values, and the same gradients by its own differentiation, compiled by XLA.

JAX is loaded when a program is run, from the extra `peers`. Programs are drawn from `OPS_KNOWN` only.
"""

from __future__ import annotations

import importlib
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
from gradtape.ir.types import DTYPES

# ops that jax.numpy has by the same name, or by another
SAME = """
    abs acos acosh add asin asinh atan atan2 atanh ceil copysign cos cosh exp exp2 expm1 floor hypot isfinite isinf
    isnan log log10 log1p log2 logaddexp logical_and logical_not logical_or logical_xor maximum minimum pow reciprocal
    remainder round sign signbit sin sinh sqrt square tan tanh trunc where matmul bitwise_and bitwise_or bitwise_xor
    less less_equal greater greater_equal equal not_equal
""".split()
RENAMED = {"sub": "subtract", "mul": "multiply", "div": "true_divide", "neg": "negative"}
ACTIVATIONS = ("relu", "sigmoid", "silu", "softplus")
REDUCTIONS = ("sum", "prod", "max", "min", "any", "all", "mean")


@cache
def jax() -> Any:
    return importlib.import_module("jax")


def jnp() -> Any:
    return jax().numpy


def _over(name: str) -> Callable[..., Any]:
    return lambda x, axes, keepdims: getattr(jnp(), name)(x, axis=axes, keepdims=keepdims) if axes else x


def _spread(name: str) -> Callable[..., Any]:
    def reduce(x: Any, axes: tuple[int, ...], keepdims: bool, correction: float = 0) -> Any:
        x, axes = (x, axes) if axes else (x[..., None], (x.ndim,))
        n = np.prod([x.shape[a] for a in axes])
        d = x - x.sum(axes, keepdims=True) / n
        out = (d * d).sum(axes, keepdims=keepdims) / max(n - correction, 0)
        return jnp().sqrt(out) if name == "std" else out

    return reduce


def _slice(x: Any, start: tuple, size: tuple, step: tuple) -> Any:
    for axis, (a, n, b) in enumerate(zip(start, size, step, strict=True)):
        x = jnp().take(x, np.array([a + i * b for i in range(n)], np.int64), axis)
    return x


def _unslice(x: Any, shape: tuple, start: tuple, step: tuple) -> Any:
    at = [np.array([a + i * b for i in range(n)], np.int64) for a, b, n in zip(start, step, x.shape, strict=True)]
    return jnp().zeros(shape, x.dtype).at[np.ix_(*at)].set(x) if at else x


def _from_the_start(indices: Any, size: int) -> Any:
    return jnp().where(indices < 0, indices + size, indices)


def _scatter_add(indices: Any, x: Any, rows: int, axis: int = 0) -> Any:
    before, behind = x.shape[:axis], x.shape[axis + indices.ndim :]
    rest = jnp().moveaxis(x.reshape((*before, indices.size, *behind)), axis, 0)
    zeros = jnp().zeros((rows, *before, *behind), x.dtype)
    return jnp().moveaxis(zeros.at[_from_the_start(indices, rows).reshape(-1)].add(rest), 0, axis)


def _running(name: str) -> Callable[..., Any]:
    def run(x: Any, axis: int, reverse: bool) -> Any:
        out = getattr(jnp(), name)(jnp().flip(x, axis) if reverse else x, axis, dtype=x.dtype)
        return jnp().flip(out, axis) if reverse else out

    return run


def _normed(x: Any, axes: tuple, eps: float, centred: bool) -> Any:
    d = x - x.mean(axes, keepdims=True) if axes and centred else x - x if centred else x
    square = (d * d).mean(axes, keepdims=True) if axes else d * d
    return d / jnp().sqrt(square + eps)


def _nll(logits: Any, target: Any, ignore: int | None = None) -> Any:
    counts = (target != ignore if ignore is not None else target == target)[..., None]
    classes = target[..., None] * counts
    return jnp().where(counts, -jnp().take_along_axis(jax().nn.log_softmax(logits, -1), classes, -1), 0.0)


ADAPTED: dict[str, Callable[..., Any]] = {
    "erf": lambda x: jax().scipy.special.erf(x),
    "erfinv": lambda x: jax().scipy.special.erfinv(x),
    "rsqrt": lambda x: jax().lax.rsqrt(x),
    "gelu_tanh": lambda x: jax().nn.gelu(x, approximate=True),
    "gelu_erf": lambda x: jax().nn.gelu(x, approximate=False),
    "floor_divide": lambda x, y: jnp().floor_divide(jax().lax.stop_gradient(x), jax().lax.stop_gradient(y)),
    "clip": lambda x, low, high: jnp().minimum(jnp().maximum(x, low), high),
    "lerp": lambda x, y, w: x + w * (y - x),
    "cast": lambda x, dtype: x.astype(DTYPES[dtype]),
    "stop_gradient": lambda x: jax().lax.stop_gradient(x),
    "var": _spread("var"),
    "std": _spread("std"),
    "argmax": lambda x, axis, keepdims: jnp().argmax(x, axis, keepdims=keepdims),
    "argmin": lambda x, axis, keepdims: jnp().argmin(x, axis, keepdims=keepdims),
    "softmax": lambda x, axis: jax().nn.softmax(x, axis),
    "log_softmax": lambda x, axis: jax().nn.log_softmax(x, axis),
    "logsumexp": lambda x, axis: jax().nn.logsumexp(x, axis, keepdims=True),
    "layer_norm": lambda x, axes, eps: _normed(x, axes, eps, True),
    "rms_norm": lambda x, axes, eps: _normed(x, axes, eps, False),
    "nll_from_logits": _nll,
    "bounded": lambda x, size, ignore=None: x.astype(np.int64),
    "reshape": lambda x, shape: x.reshape(shape),
    "permute": lambda x, axes: x.transpose(axes),
    "broadcast_to": lambda x, shape: jnp().broadcast_to(x, shape),
    "slice": _slice,
    "unslice": _unslice,
    "concat": lambda *xs, axis: jnp().concatenate(xs, axis),
    "take": lambda x, indices, axis=0: jnp().take(x, _from_the_start(indices, x.shape[axis]), axis),
    "scatter_add": _scatter_add,
    "take_along_axis": lambda x, i, axis: jnp().take_along_axis(x, _from_the_start(i, x.shape[axis]), axis),
    "cumsum": _running("cumsum"),
    "cumprod": _running("cumprod"),
    "full": lambda shape, value, dtype: jnp().full(shape, value, DTYPES[dtype]),
    "iota": lambda shape, axis, dtype: jax().lax.broadcasted_iota(DTYPES[dtype], shape, axis),
    "dim_scalar": lambda value, dtype="f32": jnp().asarray(value, DTYPES[dtype]),
    "constant": lambda digest, dtype, shape: None,  # resolved by `run`
} | {name: _over(name) for name in REDUCTIONS}
OPS_KNOWN = frozenset({*SAME, *RENAMED, *ACTIVATIONS, *ADAPTED})


def function(op: str) -> Callable[..., Any]:
    """The op by JAX."""
    if op in ADAPTED:
        return ADAPTED[op]
    return getattr(jax().nn, op) if op in ACTIVATIONS else getattr(jnp(), RENAMED.get(op, op))


def run(graph: Graph, values: Mapping[str, Any]) -> dict[str, Any]:
    """The outputs of a graph for arrays of JAX, traced ones too."""
    dims = bind_dims(graph, values)
    env: dict[Value, Any] = {v: values[v.name] for v in graph.inputs}

    def operand(o: Any, node: Node) -> Any:
        if not isinstance(o, Literal):
            return env[o]
        # a number takes the dtype of the arrays that it meets
        others = [v.type.dtype for v in node.values() if v.type.dtype != "bool"] or [node.output.type.dtype]
        return jnp().asarray(o.value, DTYPES[others[0]])

    for node in graph.nodes:
        if node.op == "constant":
            result: Any = jnp().asarray(graph.constants[node.attrs["digest"]])
        else:
            attrs = {k: concrete(v, dims) for k, v in node.attrs.items()}
            result = function(node.op)(*(operand(o, node) for o in node.inputs), **attrs)
        kind = node.output.type
        shape = tuple(evaluate(d, dims) for d in kind.shape)
        if tuple(result.shape) != shape:
            raise Disagreement(f"{node.op} gives shape {tuple(result.shape)} in JAX, {shape} here: {node}")
        env[node.output] = result.astype(DTYPES[kind.dtype])
    return {n: jnp().asarray(v.value) if isinstance(v, Literal) else env[v] for n, v in graph.outputs}


def by_jax(program: Program) -> Expected:
    """Holds the interpreter's values and gradients of a program to JAX's."""
    return held_to(_results, program)


def _results(graph: Graph, values: Mapping[str, Any], asked: tuple[str, ...], again: tuple[str, ...]) -> dict[str, Any]:
    with jax().enable_x64(True):
        given = {v.name: jnp().asarray(values[v.name], DTYPES[v.type.dtype]) for v in graph.inputs}

        def loss(chosen: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
            outputs = run(graph, {**given, **chosen})
            return outputs.get("loss"), outputs

        def first(chosen: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
            if not asked:
                return loss(chosen)[1], {}
            (_, outputs), gradients = jax().value_and_grad(loss, has_aux=True)(chosen)
            return outputs, gradients

        def total(chosen: dict[str, Any]) -> Any:
            gradients = first(chosen)[1]
            return weighed([gradients[n].sum() for n in asked])

        def everything(chosen: dict[str, Any]) -> dict[str, Any]:
            outputs, gradients = first(chosen)
            second = jax().grad(total)(chosen) if again else {}
            named = {f"grad:{n}": gradients[n] for n in asked} | {f"grad2:{n}": second[n] for n in again}
            return {**outputs, **named}

        found = jax().jit(everything)({n: given[n] for n in asked})
        return {n: np.asarray(v) for n, v in found.items()}
