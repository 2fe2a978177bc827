"""Makes a program that fails smaller for as long as it goes on failing, and writes it down for a regression test.

Values in the middle become inputs with the numbers that they had, results are dropped, nodes are passed by, sizes and
numbers made small. Whatever does not fail any more, or is no program any more, is not taken.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from fuzz_programs import Program
from gradtape.ir.build import Builder
from gradtape.ir.dims import Dim, DimScope, dim_scope
from gradtape.ir.graph import Graph, Literal, Node, Operand, Value
from gradtape.ir.interp import Interpreter, concrete
from gradtape.ir.op import OPS
from gradtape.ir.text import to_text
from gradtape.ir.types import TensorType
from gradtape.ir.verify import verify
from gradtape.passes.rewrite import remove_dead

NO_SIZES = ("axis", "axes", "site", "keepdims", "value", "eps", "dtype", "step", "digest")  # attributes that hold none


def shrink(program: Program, fails: Callable[[Program], bool], tries: int = 1500) -> Program:
    """A smallest program found for which `fails` still says True; `tries` bounds how often it is asked."""
    program = replace(program, forward=None, wrt=(), resize=None)
    left = tries
    before = None
    while before != (before := _weight(program)) and left > 0:
        for candidates in (
            _numbers_for_sizes,
            _fewer_results,
            _earlier_results,
            _cuts,
            _detours,
            _sizes,
            _checks,
            _values,
        ):
            again = True
            while again and left > 0:
                again = False
                for candidate in candidates(program):
                    left -= 1
                    if candidate is not None and fails(candidate):
                        program, again = candidate, True
                        break
                    if left <= 0:
                        break
    return program


def _weight(program: Program) -> tuple[int, ...]:
    graph = program.graph
    noise = sum(np.unique(v).size + (v != 0).sum() for v in program.values.values())
    elements = sum(v.size for v in program.values.values())
    return len(graph.nodes), len(graph.outputs) + len(graph.updates), len(graph.inputs), int(elements), int(noise)


# what is tried --------------------------------------------------------------------------------------------------------
def _numbers_for_sizes(program: Program) -> Iterator[Program | None]:
    if program.graph.symbols or any(isinstance(d, Dim) for v in program.graph.inputs for d in v.type.shape):
        yield remade(program, concrete_sizes=True)


def _fewer_results(program: Program) -> Iterator[Program | None]:
    outputs, updates = [n for n, _ in program.graph.outputs], [n for n, _ in program.graph.updates]
    if len(outputs) + len(updates) > 1:
        for name in outputs:
            yield remade(program, outputs=[name], updates=[])
        for name in updates:
            yield remade(program, outputs=[], updates=[name])
        for name in outputs:
            yield remade(program, outputs=[n for n in outputs if n != name])
        for name in updates:
            yield remade(program, updates=[n for n in updates if n != name])


def _earlier_results(program: Program) -> Iterator[Program | None]:
    """Instead of a result, what it was computed from."""
    producer = program.graph.producers()
    for i, (name, value) in enumerate(program.graph.outputs):
        if isinstance(value, Value) and value in producer:
            for operand in producer[value].values():
                outputs = (*program.graph.outputs[:i], (name, operand), *program.graph.outputs[i + 1 :])
                yield remade(replace(program, graph=program.graph.replace(outputs=outputs), checks=()))


def _cuts(program: Program) -> Iterator[Program | None]:
    """Nodes become inputs: half of them at a time, then fewer, the last ones first."""
    nodes = program.graph.nodes
    width = len(nodes)
    while width:
        for end in range(len(nodes), 0, -width):
            yield remade(program, cut=nodes[max(0, end - width) : end])
        width //= 2


def _detours(program: Program) -> Iterator[Program | None]:
    """A node's result is replaced by an earlier value of its type, or by a number everywhere."""
    for node in reversed(program.graph.nodes):
        for operand in node.values():
            if len(node.outputs) == 1 and operand.type == node.output.type:
                yield remade(program, instead={node.output: operand})


def _sizes(program: Program) -> Iterator[Program | None]:
    found = {d for v in program.graph.inputs for d in v.type.shape if isinstance(d, int)}
    found |= {d for n in program.graph.nodes for d in _numbers(n.attrs)}
    for old in sorted(found, reverse=True):
        for new in sorted({1, 2, old // 2, old - 1}):
            if 0 < new < old:
                yield remade(program, size=lambda where, d, o=old, n=new: n if d == o else d)
    for value in program.graph.inputs:
        for axis, old in enumerate(value.type.shape):
            if isinstance(old, int) and old > 1:
                place = (value.name, axis)
                yield remade(program, size=lambda where, d, p=place: 1 if where == p else d)


def _checks(program: Program) -> Iterator[Program | None]:
    if program.checks:
        yield replace(program, checks=())


def _values(program: Program) -> Iterator[Program | None]:
    for name, value in program.values.items():
        for simple in _simpler(value):
            if simple.dtype == value.dtype and not np.array_equal(simple, value, equal_nan=value.dtype.kind == "f"):
                changed = replace(program, values={**program.values, name: simple})
                if _weight(changed) < _weight(program):
                    yield changed


def _simpler(value: np.ndarray) -> Iterator[np.ndarray]:
    yield np.zeros_like(value)
    yield np.ones_like(value)
    if value.dtype.kind == "f":
        yield np.round(value)
        yield np.round(value * 8) / np.asarray(8, value.dtype)
    for i in range(min(value.size, 40)):
        for number in (0, 1):
            one = value.copy()
            one.reshape(-1)[i] = number
            yield one


def _numbers(attrs: Mapping[str, Any]) -> Iterator[int]:
    for name, item in attrs.items():
        if name not in NO_SIZES:
            for d in item if isinstance(item, tuple) else (item,):
                if isinstance(d, int) and not isinstance(d, bool) and d > 1:
                    yield d


# how it is made ---------------------------------------------------------------------------------------------------
def remade(
    program: Program,
    *,
    outputs: Collection[str] | None = None,
    updates: Collection[str] | None = None,
    cut: Collection[Node] = (),
    instead: Mapping[Value, Operand] | None = None,
    size: Callable[[Any, int], int] | None = None,
    concrete_sizes: bool = False,
) -> Program | None:
    """The program changed in one way and brought in order again; None where that makes no program.

    outputs, updates  those that stay      cut      nodes whose results become inputs, with the numbers that they had
    instead           value -> another     size     (place, size) -> size, for every size in inputs and attributes
    """
    graph = program.graph
    if outputs is not None or updates is not None:
        graph = graph.replace(
            outputs=tuple((n, v) for n, v in graph.outputs if outputs is None or n in outputs),
            updates=tuple((n, v) for n, v in graph.updates if updates is None or n in updates),
        )
    try:
        return _remade(replace(program, graph=graph), set(cut), instead or {}, size, concrete_sizes)
    except (TypeError, ValueError, KeyError, IndexError, LookupError):  # no program: whatever says so first
        return None


def _remade(
    program: Program,
    cut: set[Node],
    instead: Mapping[Value, Operand],
    size: Callable[[Any, int], int] | None,
    concrete_sizes: bool,
) -> Program:
    graph = program.graph
    machine = Interpreter(graph, program.values)
    machine.run()
    scope = DimScope() if concrete_sizes else DimScope(dict(graph.symbols), list(graph.guards))
    builder = Builder(graph.name, scope=scope)
    builder.constants = dict(graph.constants)
    values: dict[str, np.ndarray] = {}
    env: dict[Value, Any] = {}

    def sized(where: Any, item: Any) -> Any:
        if concrete_sizes:
            item = concrete(item, machine.dims)
        if isinstance(item, tuple):
            return tuple(sized((where, i) if isinstance(where, str) else where, d) for i, d in enumerate(item))
        plain = isinstance(item, int) and not isinstance(item, bool)
        return size(where, item) if size is not None and plain else item

    def give(value: Value, name: str, role: str) -> None:
        kind = TensorType(value.type.dtype, sized(name, value.type.shape))
        array = np.asarray(machine[value])
        if size is not None:
            array = array[tuple(slice(0, d if isinstance(d, int) else None) for d in kind.shape)]
        env[value] = builder.input(name, kind, role)
        values[name] = np.array(array)

    read = _needed(graph, cut, instead)
    kept = {n for n, _ in graph.updates}
    for value in graph.inputs:
        if value in read or value.name in kept:
            give(value, value.name, graph.roles[value.name])
    with dim_scope(builder.scope):
        for node in graph.nodes:
            if not read.intersection(node.outputs):
                continue
            if node in cut:
                for value in node.outputs:
                    give(value, f"v{value.name}", "input")
                continue
            args = [o.value if isinstance(o, Literal) else env[_other(o, instead)] for o in node.inputs]
            if node.op == "constant":
                array = graph.constants[node.attrs["digest"]]
                shape = sized("constant", node.attrs["shape"])
                made = builder.wrap(builder.constant(array[tuple(slice(0, d) for d in shape)]))
            else:
                attrs = {k: v if k in NO_SIZES else sized(node, v) for k, v in node.attrs.items()}
                made = builder.emit(OPS[node.op], args, attrs, node.regions)
            env.update(zip(node.outputs, made if isinstance(made, tuple) else (made,), strict=True))

        def final(operand: Operand) -> Any:
            return operand.value if isinstance(operand, Literal) else env[_other(operand, instead)]

        builder.updates = {n: builder.operand(final(v)) for n, v in graph.updates}
        made = verify(remove_dead(builder.graph([(n, final(v)) for n, v in graph.outputs])))
    names = {n for n, _ in made.outputs}
    changed = replace(program, graph=made, values=values, checks=tuple(c for c in program.checks if c in names))
    Interpreter(made, values).run()  # it must have a meaning
    return changed


def _other(operand: Value, instead: Mapping[Value, Operand]) -> Any:
    return instead.get(operand, operand)


def _needed(graph: Graph, cut: set[Node], instead: Mapping[Value, Operand]) -> set[Value]:
    """The values that results depend on, where cut nodes depend on nothing."""
    needed = {_other(v, instead) for v in graph.results() if isinstance(v, Value)}
    for node in reversed(graph.nodes):
        if needed.intersection(node.outputs) and node not in cut:
            needed.update(_other(v, instead) for v in node.values())
    return needed


# how it is written down -------------------------------------------------------------------------------------------
def paste(program: Program, fact: str) -> str:
    """An entry of tests/passes/test_fuzzed.py."""
    text = to_text(program.graph, locations=False)
    lines = [f'    "{fact}": (', '        """', text.rstrip(), '""",', "        {"]
    lines += [f'            "{name}": {_listed(value)},' for name, value in program.values.items()]
    lines += ["        },"]
    if program.checks:
        lines += [f"        {program.checks!r},"]
    large = [n.attrs["digest"] for n in program.graph.nodes if n.op == "constant" and f'"{n.attrs["digest"]}"' in text]
    note = [f"    # constants of {', '.join(large)} are too large to be part of the text"] if large else []
    return "\n".join([*note, *lines, "    ),"])


def _listed(value: np.ndarray) -> str:
    if 0 in value.shape:
        return f"np.zeros({value.shape})"
    return repr(value.tolist()).replace("inf", "np.inf").replace("nan", "np.nan")
