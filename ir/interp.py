"""The interpreter: runs a Graph node by node with the NumPy references. Slow, and obviously right: the oracle."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .dims import Dim, bind_shape, evaluate
from .graph import Graph, Literal, Node, Operand, Value
from .op import OPS
from .types import DTYPES, TensorType


def bind_dims(graph: Graph, inputs: Mapping[str, Any]) -> dict[str, int]:
    """The value of every symbol, from the shapes of the inputs. Raises ValueError where a shape does not fit, or where
    the sizes are not those that the graph is valid for."""
    values: dict[str, int] = {}
    for value in graph.inputs:
        if value.name not in inputs:
            raise ValueError(f"{graph.name}: input {value.name}: {value.type} is missing")
    for _ in range(2):  # once more with all symbols: `2*T` can stand before the input that says what T is
        for value in graph.inputs:
            misfit = bind_shape(value.type.shape, np.shape(inputs[value.name]), values)
            if misfit:
                raise ValueError(f"{graph.name}: input {value.name}: {value.type} does not fit: {misfit}")
    for symbol in graph.symbols.values():
        size = values.get(symbol.name, symbol.min)
        if size < symbol.min or (symbol.max is not None and size > symbol.max):
            high = "" if symbol.max is None else f" <= {symbol.max}"
            raise ValueError(f"{graph.name}: {symbol.name} is {size}, it needs {symbol.min} <= {symbol.name}{high}")
    for guard in graph.guards:
        if not guard.holds(values):
            raise ValueError(f"{graph.name} is valid for {guard} only" + (f" ({guard.where})" if guard.where else ""))
    return values


def concrete(item: Any, dims: Mapping[str, int]) -> Any:
    """`item` with every Dim replaced by its value, also inside tuples."""
    if isinstance(item, Dim):
        return evaluate(item, dims)
    if isinstance(item, tuple):
        return tuple(concrete(i, dims) for i in item)
    return item


def concrete_type(t: TensorType, dims: Mapping[str, int]) -> TensorType:
    return TensorType(t.dtype, concrete(t.shape, dims))


Watch = Callable[[Node, list[Any], tuple[np.ndarray, ...]], None]


class Interpreter:
    """Evaluates values of one graph for given inputs, each node once and only when asked for.

    `watch(node, operands, results)` is called after every node, also of regions: it is how a replay finds the first
    node that went wrong.
    """

    def __init__(
        self,
        graph: Graph,
        inputs: Mapping[str, Any],
        watch: Watch | None = None,
        dims: Mapping[str, int] | None = None,
    ) -> None:
        self.graph = graph
        self.dims = dict(dims) if dims is not None else bind_dims(graph, inputs)
        self.watch = watch
        self._values: dict[Value, Any] = {}
        for value in graph.inputs:
            self._values[value] = np.asarray(inputs[value.name], DTYPES[value.type.dtype])

    def run(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """All outputs and all updates by name."""
        for node in self.graph.nodes:
            self._evaluate(node)
        outputs = {name: self._result(v, v.type) for name, v in self.graph.outputs}
        return outputs, {name: self._result(v, self.graph.input(name).type) for name, v in self.graph.updates}

    def _result(self, operand: Operand, like: TensorType) -> np.ndarray:
        """A result as an array, also where it is a number."""
        if not isinstance(operand, Literal):
            return self._values[operand]
        return np.full(concrete(like.shape, self.dims), operand.value, DTYPES[like.dtype])

    def __getitem__(self, operand: Operand) -> Any:
        return operand.value if isinstance(operand, Literal) else self._values[operand]

    def _evaluate(self, node: Node) -> None:
        op = OPS[node.op]
        attrs = {k: concrete(v, self.dims) for k, v in node.attrs.items()}
        args = [self[o] for o in node.inputs]
        if node.op == "constant":
            results: Any = self.graph.constants[node.attrs["digest"]]
        else:
            expected = tuple(concrete_type(v.type, self.dims) for v in node.outputs)
            if node.regions:
                attrs["regions"] = tuple(Region(r, self.watch, self.dims) for r in node.regions)
            one = len(expected) == 1 and not node.regions
            results = op.reference(expected[0] if one else expected, *args, **attrs)
        results = results if isinstance(results, tuple) else (results,)
        self._values.update(zip(node.outputs, results, strict=True))
        if self.watch is not None:
            self.watch(node, args, results)


class Region:
    """A region as a function of arrays, one for each of its inputs; returns its outputs in a tuple, of `types`."""

    def __init__(self, graph: Graph, watch: Watch | None, dims: Mapping[str, int]) -> None:
        self.graph, self.watch, self.dims = graph, watch, dims
        self.types = tuple(concrete_type(v.type, dims) for _, v in graph.outputs)

    def __call__(self, *arrays: Any) -> tuple[Any, ...]:
        inputs = {v.name: a for v, a in zip(self.graph.inputs, arrays, strict=True)}
        return tuple(Interpreter(self.graph, inputs, self.watch, self.dims).run()[0].values())


def evaluate_graph(graph: Graph, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The outputs of `graph` for `inputs` by name."""
    return Interpreter(graph, inputs).run()[0]
