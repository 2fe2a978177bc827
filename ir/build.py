"""Building graphs: `Builder` records nodes (infers types, promotes operands, stamps locations); `Ref` is a value with
operators. The tracer, the derivative rules and the passes all build through here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from .dims import Dim, DimScope, Shape, quiet
from .foreign import objection
from .graph import Attrs, Graph, Literal, Node, Operand, Value, array_digest
from .location import Location
from .op import OPS, Op
from .types import DTYPES, TensorType, TypeRuleError, category, dtype_name, promote, type_of

INLINE_CONSTANT = 16  # arrays up to this many elements are printed in the text, larger ones by digest


class TypeRuleViolation(TypeError):
    """A type rule refused operands: the fact, the user's line, and the operands with their types."""


class Ref:
    """A value of a graph under construction, with NumPy's operators. Operators record nodes in `_builder`."""

    __slots__ = ("_builder", "_value", "__weakref__")
    __array_priority__ = 1000.0

    def __init__(self, builder: Builder, value: Operand) -> None:
        self._builder = builder
        self._value = value

    @property
    def type(self) -> TensorType:
        return self._value.type

    @property
    def shape(self) -> Shape:
        return self._value.type.shape

    @property
    def ndim(self) -> int:
        return len(self._value.type.shape)

    @property
    def size(self) -> Any:
        return self._value.type.size

    # fmt: off
    def __add__(self, other: Any) -> Any: return _binary("add", self, other)
    def __radd__(self, other: Any) -> Any: return _binary("add", other, self)
    def __sub__(self, other: Any) -> Any: return _binary("sub", self, other)
    def __rsub__(self, other: Any) -> Any: return _binary("sub", other, self)
    def __mul__(self, other: Any) -> Any: return _binary("mul", self, other)
    def __rmul__(self, other: Any) -> Any: return _binary("mul", other, self)
    def __truediv__(self, other: Any) -> Any: return _binary("div", self, other)
    def __rtruediv__(self, other: Any) -> Any: return _binary("div", other, self)
    def __floordiv__(self, other: Any) -> Any: return _binary("floor_divide", self, other)
    def __rfloordiv__(self, other: Any) -> Any: return _binary("floor_divide", other, self)
    def __mod__(self, other: Any) -> Any: return _binary("remainder", self, other)
    def __rmod__(self, other: Any) -> Any: return _binary("remainder", other, self)
    def __pow__(self, other: Any) -> Any: return _binary("pow", self, other)
    def __rpow__(self, other: Any) -> Any: return _binary("pow", other, self)
    def __matmul__(self, other: Any) -> Any: return _binary("matmul", self, other)
    def __rmatmul__(self, other: Any) -> Any: return _binary("matmul", other, self)
    def __and__(self, other: Any) -> Any: return _bits("and", self, other)
    def __rand__(self, other: Any) -> Any: return _bits("and", other, self)
    def __or__(self, other: Any) -> Any: return _bits("or", self, other)
    def __ror__(self, other: Any) -> Any: return _bits("or", other, self)
    def __xor__(self, other: Any) -> Any: return _bits("xor", self, other)
    def __rxor__(self, other: Any) -> Any: return _bits("xor", other, self)
    def __lshift__(self, other: Any) -> Any: return _binary("bitwise_left_shift", self, other)
    def __rlshift__(self, other: Any) -> Any: return _binary("bitwise_left_shift", other, self)
    def __rshift__(self, other: Any) -> Any: return _binary("bitwise_right_shift", self, other)
    def __rrshift__(self, other: Any) -> Any: return _binary("bitwise_right_shift", other, self)
    def __invert__(self) -> Any: return OPS["bitwise_invert" if self.type.is_integer else "logical_not"](self)
    def __neg__(self) -> Any: return OPS["neg"](self)
    def __pos__(self) -> Any: return self
    def __abs__(self) -> Any: return OPS["abs"](self)
    def __lt__(self, other: Any) -> Any: return _binary("less", self, other)
    def __le__(self, other: Any) -> Any: return _binary("less_equal", self, other)
    def __gt__(self, other: Any) -> Any: return _binary("greater", self, other)
    def __ge__(self, other: Any) -> Any: return _binary("greater_equal", self, other)
    def __eq__(self, other: Any) -> Any: return _binary("equal", self, other)
    def __ne__(self, other: Any) -> Any: return _binary("not_equal", self, other)
    # fmt: on

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._value!r})"


def _binary(name: str, left: Any, right: Any) -> Any:
    """The op, with the user's line where an operand is none. What is unknown may have an operator of its own."""
    try:
        for side in (left, right):
            if not isinstance(side, _OPERANDS) and not hasattr(side, "_resolve"):
                fact = objection(side)
                if fact is None or name in ("equal", "not_equal"):  # nothing is equal to None
                    return NotImplemented
                raise TypeRuleError(f"the {'left' if side is left else 'right'} operand: {fact}")
        return OPS[name](left, right)
    except TypeRuleError as fact:
        ref = left if isinstance(left, Ref) else right
        raise ref._builder.violation(OPS[name], [r._value for r in (left, right) if isinstance(r, Ref)], fact) from None


_OPERANDS = (Ref, bool, int, float, np.generic, np.ndarray, Dim, list, tuple)


def _bits(name: str, left: Any, right: Any) -> Any:
    """& | ^: of bools logic, of integers their bits."""
    whole = any(isinstance(side, Ref) and side.type.is_integer for side in (left, right))
    return _binary(f"{'bitwise' if whole else 'logical'}_{name}", left, right)


class Builder:
    """Collects the nodes of one graph. `location` is asked for every node; `ref` makes the values that it hands out."""

    def __init__(
        self,
        name: str,
        location: Callable[[], Location | None] = lambda: None,
        ref: Callable[[Builder, Operand], Any] = Ref,
        scope: DimScope | None = None,
    ) -> None:
        self.name = name
        self.location = location
        self.ref = ref
        self.scope = scope or DimScope()
        self.inputs: list[Value] = []
        self.roles: dict[str, str] = {}
        self.nodes: list[Node] = []
        self.constants: dict[str, np.ndarray] = {}
        self.updates: dict[str, Operand] = {}
        self._names = 0
        self._sites = 0
        self._scalars: dict[tuple[Dim, str], Value] = {}
        self._constant_values: dict[str, Value] = {}

    @classmethod
    def extending(cls, graph: Graph, location: Callable[[], Location | None] = lambda: None) -> Builder:
        """A builder that already holds everything of `graph`; new nodes come after."""
        builder = cls(graph.name, location, scope=DimScope(dict(graph.symbols), list(graph.guards)))
        builder.inputs = list(graph.inputs)
        builder.roles = dict(graph.roles)
        builder.nodes = list(graph.nodes)
        builder.constants = dict(graph.constants)
        builder.updates = dict(graph.updates)
        numbers = [int(v.name) for n in graph.nodes for v in n.outputs if v.name.isdigit()]
        builder._names = max(numbers, default=-1) + 1
        builder._sites = graph.sites()
        return builder

    def input(self, name: str, value_type: TensorType, role: str = "input") -> Any:
        if name in self.roles:
            raise ValueError(f"graph {self.name} has two inputs named {name}")
        value = Value(name, value_type)
        self.inputs.append(value)
        self.roles[name] = role
        return self.ref(self, value)

    def wrap(self, operand: Operand) -> Any:
        return self.ref(self, operand)

    @contextmanager
    def at(self, node: Node, serving: bool = False) -> Iterator[None]:
        """Nodes recorded inside come from where `node` comes from; `serving` marks them as its derivative."""
        where, before = node.location, self.location
        if where is not None and serving:
            where = where.serving(node.output.name)
        self.location = lambda: where
        try:
            yield
        finally:
            self.location = before

    def new_site(self) -> int:
        """The number of a random site: what keeps two draws of one program apart."""
        self._sites += 1
        return self._sites - 1

    def new_value(self, value_type: TensorType) -> Value:
        value = Value(str(self._names), value_type)
        self._names += 1
        return value

    def emit(self, op: Op, args: Sequence[Any], attrs: Attrs, regions: tuple[Graph, ...] = ()) -> Any:
        """Records `op` on `args`; returns one value, or a tuple where the op has several results."""
        given = operands = self.operands(op, args)
        with quiet():
            if op.promote:
                operands = self._promoted(op, operands)
            types = [o.type for o in operands]
            attrs = {k: _plain(v) for k, v in attrs.items()}
            try:
                inferred = op.infer(*types, **op.keywords(attrs, regions))
            except TypeRuleError as fact:
                raise self.violation(op, given, fact) from None
        results = inferred if isinstance(inferred, tuple) else (inferred,)
        values = tuple(self.new_value(TensorType(t.dtype, t.shape)) for t in results)
        self.nodes.append(Node(op.name, tuple(operands), attrs, values, regions, self.location()))
        refs = tuple(self.ref(self, v) for v in values)
        return refs if isinstance(inferred, tuple) else refs[0]

    def inline(self, graph: Graph, args: Sequence[Any]) -> list[Any]:
        """Records the nodes of `graph` on `args`, one for each of its inputs; returns its outputs. Nodes keep their own
        lines; those that a derivative asks for serve the value that it serves."""
        env: dict[Value, Any] = dict(zip(graph.inputs, args, strict=True))
        around, before = self.location(), self.location
        self.constants.update(graph.constants)

        def look_up(operand: Operand) -> Any:
            return operand.value if isinstance(operand, Literal) else env[operand]

        try:
            for node in graph.nodes:
                where = node.location or around
                if where is not None and around is not None and around.of:
                    where = where.serving(around.of)
                self.location = lambda where=where: where
                new = self.emit(OPS[node.op], [look_up(o) for o in node.inputs], node.attrs, node.regions)
                env.update(zip(node.outputs, new if isinstance(new, tuple) else (new,), strict=True))
        finally:
            self.location = before
        return [look_up(v) for _, v in graph.outputs]

    def current(self, node: Node) -> Node:
        """The node that now makes the results of `node`: itself, or what `replace` put in its place."""
        return next(n for n in reversed(self.nodes) if n.outputs[:1] == node.outputs[:1])

    def replace(self, old: Node, new: Node) -> None:
        """Puts `new` in the place of `old`: it gives the same values, and perhaps more after them."""
        assert new.outputs[: len(old.outputs)] == old.outputs
        self.nodes[self.nodes.index(old)] = new

    def operands(self, op: Op, args: Sequence[Any]) -> list[Operand]:
        """What a node of `op` reads for all its arguments; raises TypeRuleViolation for what is no operand. A Dim takes
        the dtype of what it meets, as a Python integer does."""
        try:
            known = [None if isinstance(a, Dim) else self.operand(a, i) for i, a in enumerate(args)]
        except TypeRuleError as fact:
            raise self.violation(op, [a._value for a in args if isinstance(a, Ref)], fact) from None
        types = [o.type for o in known if o is not None]
        dtype = promote([*types, TensorType("i64", weak=True)]) if types else "f32"
        return [self.dim_scalar(a, dtype) if o is None else o for a, o in zip(args, known, strict=True)]

    def operand(self, arg: Any, index: int = 0) -> Operand:
        """What a node reads for `arg`, its operand of that index: the value of a Ref, a literal for a Python number, a
        constant for an array."""
        if isinstance(arg, Ref):
            if arg._builder is not self:
                raise self.foreign(arg)
            return arg._value
        if isinstance(arg, (bool, np.bool_)):
            return Literal(bool(arg))
        if isinstance(arg, (int, np.integer)):
            return Literal(int(arg))
        if isinstance(arg, (float, np.floating)):
            return Literal(float(arg))
        if isinstance(arg, Dim):
            return self.dim_scalar(arg)
        fact = objection(arg)
        if fact is not None:
            raise TypeRuleError(fact)
        return self.constant(np.asarray(arg))

    def foreign(self, ref: Ref) -> Exception:
        """The error for a value of another graph."""
        return ValueError(f"{ref!r} belongs to graph {ref._builder.name}, not to {self.name}")

    def constant(self, array: Any) -> Operand:
        array = np.asarray(array)
        if array.dtype not in DTYPES.values():
            kind = array.dtype.kind
            array = array.astype({"f": np.float32, "i": np.int64, "u": np.int64, "b": np.bool_}.get(kind, array.dtype))
        dtype_name(array.dtype)  # raises TypeRuleError for one that programs do not have
        digest = array_digest(array)
        if digest in self._constant_values:
            return self._constant_values[digest]
        self.constants[digest] = np.array(array, order="C")  # the program owns it
        kind = type_of(array)
        attrs = {"digest": digest, "dtype": kind.dtype, "shape": kind.shape}
        self._constant_values[digest] = self.emit(OPS["constant"], (), attrs)._value
        return self._constant_values[digest]

    def dim_scalar(self, dim: Dim, dtype: str = "f32") -> Value:
        key = (dim, dtype)
        if key not in self._scalars:
            attrs = {"value": dim} if dtype == "f32" else {"value": dim, "dtype": dtype}
            self._scalars[key] = self.emit(OPS["dim_scalar"], (), attrs)._value
        return self._scalars[key]

    def _promoted(self, op: Op, operands: list[Operand]) -> list[Operand]:
        types = [o.type for o in operands]
        dtype = promote(types)
        out = []
        for operand in operands:
            if not operand.type.weak and operand.type.dtype != dtype:
                operand = self.emit(OPS["cast"], (self.wrap(operand),), {"dtype": dtype})._value
            elif isinstance(operand, Literal) and category(operand.type.dtype) < category(dtype):
                operand = Literal(float(operand.value) if category(dtype) == 2 else int(operand.value))
            out.append(operand)
        return out

    def violation(self, op: Op, operands: Iterable[Operand], fact: Exception) -> TypeRuleViolation:
        """The error in full: the fact, the user's line, and what the operands are."""
        lines = [f"{op.name}: {fact}", *at_line(self.location())]
        listed = ", ".join(self.describe(o) for o in operands)
        if listed:
            lines.append(f"  with  {listed}")
        return TypeRuleViolation("\n".join(lines))

    def describe(self, operand: Operand) -> str:
        """A value as a message names it: a parameter or input by its name, others by the op and line that made them."""
        if isinstance(operand, Literal):
            return repr(operand.value)
        if operand.name in self.roles:
            return f"{operand.name}: {operand.type}"
        for node in reversed(self.nodes):
            if operand in node.outputs:
                where = node.location
                origin = f" at {str(where).split()[0]}" if where is not None else ""
                what = "the array" if node.op == "constant" else f"the result of {node.op}"
                return f"{what}{origin}: {operand.type}"
        return f"%{operand.name}: {operand.type}"

    def graph(self, outputs: Iterable[tuple[str, Any]], **changes: Any) -> Graph:
        outs = tuple((name, self.operand(v)) for name, v in outputs)
        used = {n.attrs["digest"] for n in self.nodes if n.op == "constant"}
        return Graph(
            self.name,
            tuple(self.inputs),
            dict(self.roles),
            tuple(self.nodes),
            outs,
            tuple(self.updates.items()),
            {k: v for k, v in self.constants.items() if k in used},
            dict(self.scope.symbols),
            tuple(self.scope.guards),
        ).replace(**changes)


class Region:
    """A region of a node in the hands of its op's `body` or `vjp`: called, it records its graph on traced values."""

    def __init__(self, builder: Builder, graph: Graph) -> None:
        self.builder = builder
        self.graph = graph

    def __call__(self, *args: Any) -> tuple[Any, ...]:
        return tuple(self.builder.inline(self.graph, args))


def at_line(where: Location | None) -> list[str]:
    """The lines of an error that name the user's line and show it."""
    if where is None:
        return []
    source = source_line(where)
    return [
        f"  at    {where.file}:{where.line}" + (f"  {where.scope}" if where.scope else ""),
        *([f"        {source}"] if source else []),
    ]


def source_line(where: Location) -> str:
    import linecache

    return linecache.getline(where.file, where.line).strip()


def _plain(attr: Any) -> Any:
    """Attributes are hashable plain data: numbers, strings, Dims and tuples of them."""
    if isinstance(attr, (list, tuple)):
        return tuple(_plain(a) for a in attr)
    if isinstance(attr, np.generic):
        return attr.item()
    return attr
