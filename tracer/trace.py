"""Tracing: runs a model's Python once on stand-ins for its inputs and parameters, and records the Graph."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..ir.build import Ref
from ..ir.dims import Dim, DimLike, DimScope, Symbol, dim_scope, symbols_of
from ..ir.graph import Graph
from ..ir.op import _resolve
from ..ir.types import TensorType, dtype_name, type_of
from .context import Trace
from .ledger import Ledger
from .module import Buffer, Module, Parameter
from .state import current_trace, running
from .structure import Structure, flatten
from .tensors import Tensor

SCALARS = ("seed", "step")  # names of runtime scalars; an argument of the same name gets an underscore


@dataclass(frozen=True)
class Spec:
    """What an input looks like, without data."""

    shape: tuple[DimLike, ...]
    dtype: str

    def __str__(self) -> str:
        return str(TensorType(self.dtype, self.shape))


def spec(shape: Sequence[int | str | Dim] | int | str | Dim, dtype: Any = "f32") -> Spec:
    """An input without data: `spec(("B", 64), "i64")` has a symbolic size B. `Dim("T", max=64)` gives a name
    bounds."""
    sizes = (shape,) if isinstance(shape, (int, str, Dim)) else tuple(shape)
    return Spec(tuple(Dim(s) if isinstance(s, str) else s for s in sizes), dtype_name(dtype))


@dataclass
class Traced:
    """A recorded program: the graph, what crossed the boundary with Python, how arguments and results are
    nested.

    `parameters` and `buffers` are by input name; `captured` are those parameters that no module of the traced
    one registers; `closure` holds the values of an enclosing trace that the program reads, by input name;
    `strangers` are modules that ran and are no part of the traced one.
    """

    graph: Graph
    ledger: Ledger
    arguments: Structure
    structure: Structure
    parameters: dict[str, Parameter]
    buffers: dict[str, Buffer]
    captured: dict[str, Parameter] = field(default_factory=dict)
    closure: dict[str, Tensor] = field(default_factory=dict)
    strangers: list[Module] = field(default_factory=list)

    def bind(self, *args: Any, **scalars: int) -> dict[str, Any]:
        """The inputs of the graph for these arguments, with the present parameters and buffers.

        `scalars` gives `seed` and `step` where the program draws random numbers. Raises TypeError where the
        arguments are nested in another way than those of the trace.
        """
        structure, found = _flatten_arguments(args, self.arguments.roots)
        if structure.tree != self.arguments.tree:
            raise TypeError(f"{self.graph.name} was traced with other arguments: {', '.join(self.arguments.names)}")
        values: dict[str, Any] = {name: _array(v) for name, v in found}
        values |= {name: stored.array for name, stored in (*self.parameters.items(), *self.buffers.items())}
        return values | {name: np.int64(value) for name, value in scalars.items() if name in self.graph.roles}


def trace(
    fn: Callable[..., Any],
    *args: Any,
    module: Module | None = None,
    name: str | None = None,
    train: bool | None = True,
    names: Sequence[str] | None = None,
    dims: Mapping[str, Mapping[int, str | Dim]] | None = None,
    known: Mapping[int, str] | None = None,
) -> Traced:
    """Records `fn(*args)`.

    args: arrays and Python numbers (examples), `spec(...)`s, and nested tuples, lists and dicts of them;
    bools, strings and None stay what they are. `module` gives the parameters and buffers, declared in
    registration order (default: `fn` itself if it is a Module). `train` sets its mode for the trace (None
    leaves it). `names` names the arguments (default: the parameters of `fn`). `dims={"x": {0: "B"}}` makes
    axes of example arrays symbolic. `known` has names, by id, of parameters and buffers that an earlier trace has met
    and that no module registers.
    """
    if module is None and isinstance(fn, Module):
        module = fn
    running_trace = Trace(name or _name_of(fn), current_trace())
    running_trace.known = known or {}
    stored = [] if module is None else [*module.named_parameters(), *module.named_buffers()]
    wanted = _argument_names(fn, args, names)
    roots = _unlike_stored(wanted, {path for path, _ in stored})
    arguments, leaves = _flatten_arguments(args, roots)
    paths = [path for path, _ in _flatten_arguments(args, wanted)[1]]  # as `dims` has them
    hints: dict[str, int] = {}
    inputs = [
        (path, *_input_type(leaf, (dims or {}).get(given, {}), hints))
        for given, (path, leaf) in zip(paths, leaves, strict=True)
    ]
    _declare_symbols(running_trace.builder.scope, [t for _, t, _ in inputs], hints, [s.array for _, s in stored])
    try:
        with running(running_trace), dim_scope(running_trace.builder.scope), _mode(module, train):
            values = {path: running_trace.input(path, t, "input", example) for path, t, example in inputs}
            for path, item in stored:
                running_trace.declare(path, item)
            if module is not None:
                running_trace.root = module
                running_trace.paths = {id(m): path for path, m in module.named_modules()}
            results = fn(*arguments.restore(values))
            structure, found = flatten(results, "out", is_array)
            graph = running_trace.builder.graph([(path, _resolve(x)) for path, x in found])
            running_trace.builder.flush(returned=True)
    finally:
        running_trace.ended = running_trace.ledger.ended = True
    return Traced(
        graph,
        running_trace.ledger,
        arguments,
        structure,
        running_trace.parameters,
        running_trace.buffers,
        running_trace.captured,
        running_trace.closure,
        running_trace.strangers,
    )


def is_array(x: Any) -> bool:
    """What becomes an input or output: arrays, numbers (not bools), specs, traced values, parameters."""
    if isinstance(x, (bool, str, bytes, type(None))):
        return False
    return isinstance(x, (int, float, np.ndarray, np.generic, Spec, Ref)) or hasattr(x, "__array__")


def _array(x: Any) -> np.ndarray:
    """The array of an example; a Python float is float32."""
    return np.asarray(x, np.float32) if type(x) is float else np.asarray(x)


def _flatten_arguments(
    args: tuple, roots: Sequence[str], is_value: Callable[[Any], bool] = is_array
) -> tuple[Structure, list[tuple[str, Any]]]:
    if len(args) != len(roots):
        raise TypeError(f"{len(args)} arguments for {', '.join(roots)}")
    parts = [flatten(arg, root, is_value) for arg, root in zip(args, roots, strict=True)]
    leaves = [leaf for _, found in parts for leaf in found]
    return Structure(tuple(s.tree for s, _ in parts), tuple(n for n, _ in leaves), tuple(roots)), leaves


def _name_of(fn: Any) -> str:
    return getattr(fn, "__name__", None) or type(fn).__name__.lower()


def _argument_names(fn: Any, args: tuple, names: Sequence[str] | None) -> list[str]:
    """A name for every argument: given, or the parameter of `fn`."""
    if names is None:
        names = []
        try:
            parameters = inspect.signature(fn.forward if isinstance(fn, Module) else fn).parameters.values()
        except (TypeError, ValueError):
            parameters = []
        for parameter in parameters:
            if parameter.kind is parameter.VAR_POSITIONAL:
                names += [f"{parameter.name}.{i}" for i in range(len(args) - len(names))]
            elif parameter.kind is not parameter.KEYWORD_ONLY:
                names.append(parameter.name)
        names += [f"arg{i}" for i in range(len(names), len(args))]
    return list(names)[: len(args)]


def _unlike_stored(names: Sequence[str], taken: set[str]) -> list[str]:
    """The names of arguments, unlike those of stored values and scalars."""
    out = []
    for name in names:
        while name in SCALARS or any(t == name or t.startswith(f"{name}.") for t in taken):
            name += "_"
        out.append(name)
    return out


def _input_type(leaf: Any, axes: Mapping[int, str | Dim], hints: dict[str, int]) -> tuple[TensorType, Any]:
    """The type and the example of an argument; `axes` are made symbolic and their sizes noted in `hints`."""
    if isinstance(leaf, Spec):
        return TensorType(leaf.dtype, leaf.shape), None
    leaf = _resolve(leaf)
    if isinstance(leaf, Ref):
        return leaf.type, leaf
    array = _array(leaf)
    shape: list[DimLike] = list(array.shape)
    for axis, dim in axes.items():
        dim = Dim(dim) if isinstance(dim, str) else dim
        if dim.symbol is None:
            raise ValueError(f"a symbolic axis of an example array is one name, not {dim}")
        if hints.setdefault(dim.symbol, array.shape[axis]) != array.shape[axis]:
            raise ValueError(f"{dim} is {hints[dim.symbol]} in one argument and {array.shape[axis]} in another")
        shape[axis] = dim
    return TensorType(type_of(array).dtype, tuple(shape)), array


def _declare_symbols(scope: DimScope, types: list[TensorType], hints: dict[str, int], arrays: list) -> None:
    """Every symbol of the inputs with its bounds and a concrete value: its size in the examples, or a prime
    that is unlike any other size of the program, so that nothing holds by accident."""
    dims = [d for t in types for d in t.shape]
    used = {d for d in dims if isinstance(d, int)} | {d for a in arrays for d in a.shape} | set(hints.values())
    for name in sorted(symbols_of(*dims)):
        declared = [d for d in dims if isinstance(d, Dim) and d.symbol == name]
        low = max((d.min for d in declared), default=1)
        high = min((d.max for d in declared if d.max is not None), default=None)
        if name in scope.symbols:
            continue
        hint = hints.get(name) or _unlike(used, low, high)
        used.add(hint)
        scope.symbols[name] = Symbol(name, low, high, hint)


def _unlike(used: set[int], low: int, high: int | None) -> int:
    """A prime of at least 5 within the bounds that is not in `used`; where there is none, the bound nearest
    to it."""
    n = max(low, 5)
    while n in used or any(n % k == 0 for k in range(2, int(n**0.5) + 1)):
        n += 1
        if high is not None and n > high:
            return high
    return n if high is None or n <= high else high


@contextmanager
def _mode(module: Module | None, train: bool | None) -> Iterator[None]:
    """Puts the module into training or evaluation mode, and every part of it back into its own. A module that
    is in the mode already is left alone: parts of it may be in the other on purpose."""
    parts = [] if module is None else [m for _, m in module.named_modules()]
    before = [m.training for m in parts]
    if module is not None and train is not None and module.training != train:
        module.train(train)
    try:
        yield
    finally:
        for part, mode in zip(parts, before, strict=True):
            object.__setattr__(part, "training", mode)
