"""A running trace: the builder behind its Tensors, what it knows of modules and parameters, and the way to
the numbers behind traced values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from ..ir.build import Builder, Ref, TypeRuleViolation, at_line, source_line
from ..ir.crossings import Leak
from ..ir.dims import Dim, DimScope, Shape, dim_scope
from ..ir.graph import Attrs, Graph, Literal, Node, Operand, Value
from ..ir.interp import Interpreter
from ..ir.location import Location, user_location
from ..ir.op import OPS, Op
from ..ir.types import TensorType, type_of
from .apply import from_list
from .escaped import EscapedArray, escaped, plain
from .ledger import Leaf, Ledger, Reentry, Stale, Store, Tag, Write, place_of
from .module import LAYERS, Buffer, Module, Parameter
from .names import name_in, name_in_user_code
from .source import called, written_buffer
from .state import TraceError, current_trace, running
from .tensors import Tensor


class LeakedTensor(TraceError):
    """A traced value is used after its trace has ended; `leak` says where."""

    def __init__(self, message: str, leak: Leak) -> None:
        super().__init__(message)
        self.leak = leak


class NeedsValue(TraceError):
    """Python asks for the number behind a traced value, and the trace has no example data."""


class TraceBuilder(Builder):
    """The builder of a running trace: knows where it was made, notices constants that had left the graph, and
    reads values of enclosing traces as additional inputs."""

    def __init__(self, trace: Trace, name: str, scope: DimScope) -> None:
        super().__init__(name, trace.location, Tensor, scope)  # type: ignore[arg-type]
        self.trace = trace
        self._entering: list[tuple[Tag, str, Operand]] = []

    def new_value(self, value_type: TensorType) -> Value:
        whole = self.trace.whole.builder
        return super().new_value(value_type) if whole is self else whole.new_value(value_type)

    def new_site(self) -> int:
        whole = self.trace.whole.builder
        return super().new_site() if whole is self else whole.new_site()

    def emit(self, op: Op, args: Sequence[Any], attrs: Attrs, regions: tuple[Graph, ...] = ()) -> Any:
        if self.trace.ended:
            raise self.trace.leaked([a for a in args if isinstance(a, Ref) and a._builder is self])
        inner = current_trace()
        if inner is not None and inner is not self.trace:
            return inner.builder.emit(op, args, attrs, regions)
        before, self._entering = self._entering, []
        try:
            operands = self.operands(op, args)
            entering = self._entering
        finally:
            self._entering = before
        block = self.trace.no_grad
        if block is not None and op.name != "stop_gradient":
            operands = [block.cut(self, o) for o in operands]
        first = len(self.nodes)
        result = super().emit(op, [self.wrap(o) for o in operands], attrs, regions)
        if block is not None:
            block.inside.update(self.nodes[-1].outputs)
        if entering:
            self._reentered(entering, self.nodes[first:], operands)
        return result

    def operand(self, arg: Any, index: int = 0) -> Operand:
        if isinstance(arg, (list, tuple)):
            arg = from_list(arg)
        if isinstance(arg, Ref):
            if arg._builder is self:
                return arg._value
            return self.trace.enclosed(arg)._value
        found = None if isinstance(arg, (bool, Dim)) else self.trace.ledger.origin(arg, index)
        result = super().operand(plain(arg))
        if found is not None:
            self._entering.append((*found, result))
        return result

    def violation(self, op: Op, operands: Iterable[Operand], fact: Exception) -> TypeRuleViolation:
        error = super().violation(op, operands, fact)
        self.trace.ledger.refuse(str(error))
        return error

    def replace(self, old: Node, new: Node) -> None:
        super().replace(old, new)
        self.trace._indexed = 0  # who made what is looked up anew

    def flush(self, returned: bool = False) -> None:
        """Constants that came back without being an operand of a node: `gt.tensor(...)`, or a result as it is, which
        comes back where it left."""
        entering, self._entering = self._entering, []
        self._reentered(entering, [], [], returned)

    def _reentered(
        self,
        entering: list[tuple[Tag, str, Operand]],
        nodes: list[Node],
        operands: list[Operand],
        returned: bool = False,
    ) -> None:
        """Records constants that had left the program; `nodes` were recorded for `operands`, the last one with them."""
        ledger = self.trace.ledger
        for tag, how, operand in entering:
            spot = place_of(tag.origins[-1]) if returned else place_of(self.trace.outer_location())
            if tag.ledger.ended:
                old = tag.origins[0]
                ledger.stale.append(Stale(operand=operand, left=old, parameters=tag.ledger.feeding(old.value), **spot))
                continue
            if isinstance(operand, Literal) and nodes:  # promotion may have made it a float
                operand = nodes[-1].inputs[next(i for i, o in enumerate(operands) if o is operand)]
            user = next((n.output for n in nodes if operand in n.inputs), None)
            ledger.reentries.append(Reentry(tag.origins, operand=operand, user=user, how=how, **spot))


class NoGradBlock:
    """One `with no_grad()` of a trace: what is computed inside is a constant for the gradient."""

    def __init__(self, where: Location | None) -> None:
        self.where = where
        self.inside: set[Value] = set()
        self._cut: dict[Value, Value] = {}

    def cut(self, builder: TraceBuilder, operand: Operand) -> Operand:
        """`operand` behind a stop_gradient, if it comes from outside of the block and could carry a
        gradient."""
        if isinstance(operand, Literal) or operand in self.inside or not operand.type.is_float:
            return operand
        if operand not in self._cut:
            location, builder.location = builder.location, lambda: self.where
            try:
                self._cut[operand] = builder.emit(OPS["stop_gradient"], (builder.wrap(operand),), {})._value
            finally:
                builder.location = location
            builder.trace.ledger.cuts[self._cut[operand].name] = self.where
        return self._cut[operand]


class Trace:
    """A running trace. Tensors belong to it; after it has ended they refuse to be used."""

    def __init__(self, name: str, outer: Trace | None) -> None:
        self.outer = outer
        self.ended = False
        self.whole: Trace = self  # the trace of the whole program, which names values and numbers random sites
        self.ledger = Ledger(self.location, self.feeding)
        scope = outer.builder.scope if outer else DimScope(where=self._where)
        scope.scalar = _scalar_of_current
        self.builder = TraceBuilder(self, name, scope)
        self.no_grad: NoGradBlock | None = None
        self.examples: dict[str, Any] = {}  # arrays by input name; a Tensor of the enclosing trace; None for a spec
        self.stored: dict[int, Tensor] = {}  # the present value of a Parameter or Buffer, by id
        self.names: dict[int, str] = {}
        self.parameters: dict[str, Parameter] = {}
        self.buffers: dict[str, Buffer] = {}
        self.captured: dict[str, Parameter] = {}
        self.made: dict[int, tuple[Parameter | Buffer, Tag, str]] = {}  # inside the trace, of what had left it
        self.closure: dict[str, Tensor] = {}
        self.paths: dict[int, str] = {}  # modules
        self.root: Module | None = None  # the traced module
        self.known: Mapping[int, str] = {}  # names of parameters and buffers, by id, from earlier traces
        self.strangers: list[Module] = []  # modules that ran and are no part of the traced one
        self._enclosed: dict[Operand, Tensor] = {}
        self._scopes: list[str] = [""]
        self._arrays: dict[Value, Any] = {}  # numbers computed so far
        self._producers: dict[Value, tuple[int, Node]] = {}
        self._indexed = 0

    # where we are ---------------------------------------------------------------------------------------------------
    def location(self) -> Location | None:
        """The user's line that is running, with the path of the module that it belongs to: for a layer that this
        package ships, the line that calls it."""
        where = user_location(LAYERS)
        return None if where is None else replace(where, scope=self._scopes[-1] or where.scope)

    def outer_location(self) -> Location | None:
        """The same for the user's own code, where it is not a layer of this package that was traced by itself."""
        where = user_location(("models/nn/",)) or user_location()
        return None if where is None else replace(where, scope=self._scopes[-1] or where.scope)

    def _where(self) -> str:
        where = self.location()
        return f"{where.file}:{where.line}" if where else ""

    def at_line(self, fact: str, write: str) -> str:
        """An error text: the fact, the user's line, what to write instead."""
        return "\n".join([fact, *at_line(self.location()), *([f"  write {write}"] if write else [])])

    @contextmanager
    def module_scope(self, module: Module) -> Iterator[None]:
        """Nodes recorded inside belong to `module`; one that is not part of the traced module keeps the
        scope."""
        self._scopes.append(self.paths.get(id(module), self._scopes[-1]))
        if id(module) not in self.paths and all(m is not module for m in self.strangers):
            self.strangers.append(module)
        try:
            yield
        finally:
            self._scopes.pop()

    # inputs ---------------------------------------------------------------------------------------------------------
    def input(self, name: str, kind: TensorType, role: str, example: Any) -> Tensor:
        tensor = self.builder.input(name, TensorType(kind.dtype, kind.shape), role)
        self.examples[name] = example
        return tensor

    def declare(self, name: str, stored: Parameter | Buffer) -> Tensor:
        """Makes a parameter or buffer an input of the program."""
        role = "param" if isinstance(stored, Parameter) else "buffer"
        tensor = self.input(name, type_of(stored.array), role, stored.array)
        self.stored[id(stored)] = tensor
        self.names[id(stored)] = name
        if isinstance(stored, Parameter):
            self.parameters[name] = stored
        else:
            self.buffers[name] = stored
        if id(stored) in self.made:
            _, tag, how = self.made[id(stored)]
            place = place_of(stored.created)
            self.ledger.reentries.append(Reentry(tag.origins, operand=tensor._value, user=None, how=how, **place))
            self.ledger.leaves.append(Leaf(operand=tensor._value, requires_grad=role == "param", **place))
        return tensor

    def stored_made(self, stored: Any, array: Any) -> None:
        """`gt.Parameter(array)` or `gt.buffer(array)` inside the traced program."""
        found = self.ledger.origin(array)
        if found is not None:
            self.made[id(stored)] = (stored, *found)

    def scalar(self, name: str) -> Tensor:
        """The runtime scalar `seed` or `step`, int64."""
        if name in self.builder.roles:
            return self.builder.wrap(next(v for v in self.builder.inputs if v.name == name))
        from . import rng

        return self.input(name, TensorType("i64"), "scalar", np.int64(rng.initial_seed() if name == "seed" else 0))

    def draw(self, op: Op, shape: Shape, attrs: Attrs) -> Tensor:
        """Random numbers of this program: a site of their own at the present seed and step."""
        seed, step, site = self.scalar("seed"), self.scalar("step"), self.builder.new_site()
        with running(self):
            return self.builder.emit(op, (seed, step), {"shape": shape, "site": site, **attrs})

    def dim_scalar(self, dim: Dim, dtype: str = "f32") -> Tensor:
        return self.builder.wrap(self.builder.dim_scalar(dim, dtype))

    def value_of(self, stored: Parameter | Buffer) -> Tensor:
        """What a Parameter or Buffer is at this point of the program. One that no module registered is
        captured."""
        if id(stored) in self.stored:
            return self.stored[id(stored)]
        if self.outer is not None:
            self.stored[id(stored)] = self.enclosed(self.outer.value_of(stored))
            return self.stored[id(stored)]
        name = self.known.get(id(stored), "")
        if not name:
            name = (self.root and name_in(self.root, stored)) or name_in_user_code(stored) or "captured"
            while name in self.builder.roles or name in self.known.values():
                name = f"{name}.{len(self.captured)}"
        tensor = self.declare(name, stored)
        if isinstance(stored, Parameter):
            self.captured[name] = stored
        return tensor

    def update(self, buffer: Buffer, value: Any) -> None:
        """`self.buffer = value` inside forward: an update of the program."""
        self.stored[id(buffer)] = tensor = self.fitted(buffer, value)
        self.builder.updates[self.names[id(buffer)]] = tensor._value

    def fitted(self, buffer: Buffer, value: Any) -> Tensor:
        """A new value of a buffer in its dtype and shape."""
        from .functional import astype, broadcast_to

        before = self.value_of(buffer)
        tensor = value if isinstance(value, Ref) else self.builder.wrap(self.builder.operand(value))
        tensor = astype(tensor, before.type.dtype)
        return tensor if tuple(tensor.shape) == tuple(before.shape) else broadcast_to(tensor, before.shape)

    def closure_name(self, ref: Ref) -> str:
        return f"closure.{len(self.closure)}"

    def enclosed(self, ref: Ref) -> Tensor:
        """A value of an enclosing trace as an input of this one."""
        trace = getattr(ref._builder, "trace", None)
        if trace is None:
            raise ValueError(f"{ref!r} belongs to graph {ref._builder.name}, not to {self.builder.name}")
        if trace.ended:
            raise trace.leaked([ref])
        outer = self.outer
        while outer is not None and outer is not trace:
            outer = outer.outer
        if outer is None:
            raise ValueError(
                f"{ref!r} belongs to trace {ref._builder.name}, which does not enclose {self.builder.name}"
            )
        return self.read(ref)

    def read(self, ref: Ref) -> Tensor:
        """A value of the trace around this one as an input."""
        if ref._value not in self._enclosed:
            name = self.closure_name(ref)
            self.closure[name] = ref  # type: ignore[assignment]
            self._enclosed[ref._value] = self.input(name, ref.type, "input", ref)
        return self._enclosed[ref._value]

    # the boundary with Python -----------------------------------------------------------------------------------------
    def record(self, kind: str, tensor: Ref, detail: str = "", result: Any = None) -> Tag:
        """Notes that a value leaves the program, for a buffer if the user's line fills one."""
        if self.ended:
            raise self.leaked([tensor])
        value = self.outermost(tensor)
        target = written_buffer() if kind not in ("bool", "format") else None
        detail = f"{target[1]}[...] = " if target else detail or called()
        tag = Tag(self.ledger, (self.ledger.record(kind, value, detail, result),))
        if target is not None:
            self.ledger.filled(target[0], tag)
        if kind != "bool":
            self.ledger.left(tag)
        return tag

    def outermost(self, tensor: Ref) -> Value:
        """The value itself, where a region reads it of the program around it."""
        while isinstance(tensor._value, Value) and tensor._value.name in tensor._builder.trace.closure:  # type: ignore[attr-defined]
            tensor = tensor._builder.trace.closure[tensor._value.name]  # type: ignore[attr-defined]
        assert isinstance(tensor._value, Value)
        return tensor._value

    def escape(self, kind: str, tensor: Ref, detail: str = "") -> EscapedArray:
        """The array behind a traced value, tagged with where it left."""
        array = self.concrete(tensor, kind)
        return escaped(np.array(array), self.record(kind, tensor, detail))

    def number(self, kind: str, tensor: Ref, convert: Callable[[np.ndarray], Any]) -> Any:
        """The Python number behind a traced value. Python strips tags off these, so the ledger remembers the
        number."""
        array = self.concrete(tensor, kind)
        if array.size != 1:
            raise self.ambiguous(kind, tensor)
        result = convert(array)
        tag = self.record(kind, tensor, result=result)
        if kind != "bool":
            self.ledger.remember(float(result), tag)
        return result

    def ambiguous(self, kind: str, tensor: Ref) -> Exception:
        """The error for a number asked of something that is not one number; NumPy's types of error."""
        if kind == "bool":
            fact = f"{tensor.type} is neither true nor false: it has several elements, or none"
            advice = "gt.where(condition, a, b) to choose for each element; condition.any() or .all() for one answer"
            return ValueError(self.at_line(fact, advice))
        fact = f"{tensor.type} is not one number, which {kind}() asks for"
        return TraceError(self.at_line(fact, "x.sum(), x.mean() or x[i] first"))

    def feeding(self, value: Value) -> tuple[str, ...]:
        """The parameters that a value of this trace is computed from."""
        read = {v.name for v in self._read_by(value)}
        return tuple(n for n in self.parameters if n in read)

    def _read_by(self, value: Value) -> set[Value]:
        """Everything that a value of this trace is computed from, itself included."""
        producers = {v: n for n in self.builder.nodes for v in n.outputs}
        seen, stack = {value}, [value]
        while stack:
            node = producers.get(stack.pop())
            new = [v for v in node.values() if v not in seen] if node is not None else []
            seen.update(new)
            stack += new
        return seen

    def constant(self, array: np.ndarray, requires_grad: bool) -> Tensor:
        """`gt.tensor(array)` in the traced program."""
        tensor = self.builder.wrap(self.builder.operand(array))
        self.builder.flush()
        self.ledger.leaves.append(Leaf(operand=tensor._value, requires_grad=requires_grad, **self.ledger.spot()))
        return tensor

    def chosen(self, picked: Any) -> None:
        """`x[i]` in the traced program: an index that comes from a value that had left it is one of this call alone."""
        found = self.ledger.chosen() if isinstance(picked, Ref) and isinstance(picked._value, Value) else None
        if found is not None:
            at = place_of(self.outer_location())
            self.ledger.reentries.append(
                Reentry(found[0].origins, operand=picked._value, user=None, how=found[1], choice=True, **at)
            )

    def parameter_data(self, stored: Parameter | Buffer) -> EscapedArray:
        """`parameter.data` inside a traced program: the values leave it; writing to them is noticed."""
        value = self.value_of(stored)
        name = self.whole.names.get(id(stored), "")
        tag = self.record("data", value, name)
        if isinstance(stored, Parameter):

            def written(array: np.ndarray) -> None:
                if np.may_share_memory(array, stored.array):
                    self.ledger.writes.append(Write(name, **self.ledger.spot()))

            tag.written = written
        return escaped(stored.array, tag)

    def attribute_stored(self, module: Module, name: str, old: Any) -> None:
        held = isinstance(old, (int, float, np.ndarray, np.generic)) and not isinstance(old, bool)
        self.ledger.stores.append(Store(self.paths.get(id(module), ""), name, held_numbers=held, **self.ledger.spot()))

    def leaked(self, tensors: Sequence[Ref]) -> LeakedTensor:
        """The error for a Tensor of an ended trace: where it was made, and where it is used."""
        where, made = user_location(), None
        parameters: tuple[str, ...] = ()
        lines = [f"a traced value of {self.builder.name} is used after its trace has ended"]
        for tensor in tensors[:1]:
            value = tensor._value
            assert isinstance(value, Value)
            lines[0] += f": {self.builder.describe(value)}"
            made = next((n.location for n in self.builder.nodes if value in n.outputs), None)
            parameters = self.feeding(value)
            if made is not None:
                lines += [f"  made  {made.file}:{made.line}" + (f"  {made.scope}" if made.scope else "")]
                lines += [f"        {source_line(made)}"]
        if where is not None:
            lines += [f"  used  {where.file}:{where.line}", f"        {source_line(where)}"]
        lines += ["  write return the value from the traced function; keep state in a gt.buffer"]
        return LeakedTensor("\n".join(lines), Leak(made, where, parameters))

    # concrete values --------------------------------------------------------------------------------------------------
    def concrete(self, tensor: Ref, kind: str) -> Any:
        """The array behind a traced value: interprets the part of the program that it needs and has not had
        yet."""
        if self.ended:
            raise self.leaked([tensor])
        if tensor._builder is not self.builder:
            return tensor._builder.trace.concrete(tensor, kind)  # type: ignore[attr-defined]
        operand = tensor._value
        if isinstance(operand, Literal):
            return np.asarray(operand.value)
        nodes, inputs = self._missing(operand)
        for value in inputs:
            self._arrays[value] = self._example(value, tensor, kind)
        if nodes:
            known = {v for n in nodes for v in n.values()} - {v for n in nodes for v in n.outputs}
            outputs = tuple((v.name, v) for n in nodes for v in n.outputs)
            graph = Graph("part", tuple(known), {}, tuple(nodes), outputs, (), self.builder.constants)
            hints = {s.name: s.hint for s in self.builder.scope.symbols.values() if s.hint is not None}
            with running(None), dim_scope(None):
                results, _ = Interpreter(graph, {v.name: self._arrays[v] for v in known}, dims=hints).run()
            self._arrays.update((v, results[name]) for name, v in outputs)
        return self._arrays[operand]

    def _missing(self, wanted: Value) -> tuple[list[Node], list[Value]]:
        """The nodes in order, and the inputs, whose numbers are still unknown and needed for `wanted`."""
        for i in range(self._indexed, len(self.builder.nodes)):
            self._producers.update((v, (i, self.builder.nodes[i])) for v in self.builder.nodes[i].outputs)
        self._indexed = len(self.builder.nodes)
        nodes: dict[int, Node] = {}
        inputs: list[Value] = []
        stack, seen = [wanted], set()
        while stack:
            value = stack.pop()
            if value in seen or value in self._arrays:
                continue
            seen.add(value)
            if value not in self._producers:
                inputs.append(value)
                continue
            i, node = self._producers[value]
            nodes[i] = node
            stack += node.values()
        return [nodes[i] for i in sorted(nodes)], inputs

    def _example(self, value: Value, tensor: Ref, kind: str) -> Any:
        example = self.examples[value.name]
        if isinstance(example, Ref):
            return example._builder.trace.concrete(example, kind)  # type: ignore[attr-defined]
        if example is None:
            raise NeedsValue(
                self.at_line(
                    f"Python needs the value of a traced {tensor.type} here ({kind}), and input {value.name} is a spec",
                    "pass example arrays instead of specs, or keep the value traced (gt.where instead of if)",
                )
            )
        return example


def _scalar_of_current(dim: Dim) -> Any:
    trace = current_trace()
    return int(dim) if trace is None else trace.dim_scalar(dim)
