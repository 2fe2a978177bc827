"""The text form of a Graph: `parse(to_text(g)) == g`. Pass tests are written in it and bug reports use it.

    graph mlp(%x: f32[B, 3] input, %fc1.weight: f32[3, 2] param) where B <= 64 {
      %0: f32[B, 2] = matmul(%x, %fc1.weight)      ; mlp.py:12 fc1
      %1: f32[B] = sum(%0) {axes=[1], keepdims=false}
      return out=%1
      update %fc1.weight = %0
      guard B != 3
    }

A name that is no plain word is quoted (`%"batch.input ids"`), as are strings. Constants of up to 16 elements stand in
the text as `data=[...]`, larger ones as `digest="..."`. What follows a `;` is a comment: the location of a node, the
line that asked for a guard.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from .build import INLINE_CONSTANT
from .dims import Guard, Symbol, parse_dim
from .graph import ROLES, Graph, Literal, Node, Operand, Value, array_digest
from .location import Location
from .types import DTYPES, parse_type


# printing -----------------------------------------------------------------------------------------------------
def to_text(graph: Graph, locations: bool = True) -> str:
    """The graph as text; `locations=False` leaves the comments out: what the program computes, and nothing else."""
    return "\n".join(_lines(graph, locations, "graph")) + "\n"


def _lines(graph: Graph, locations: bool, keyword: str) -> list[str]:
    inputs = ", ".join(f"{_result(v)} {graph.roles[v.name]}" for v in graph.inputs)
    where = ", ".join(_symbol(s) for s in graph.symbols.values())
    lines = [f"{keyword} {_name(graph.name)}({inputs}){' where ' + where if where else ''} {{"]
    for node in graph.nodes:
        text = node_text(node, graph.constants)
        comment = f"  ; {node.location}" if locations and node.location else ""
        if not node.regions:
            lines.append(f"  {text}{comment}")
            continue
        lines.append(f"  {text} {{{comment}")
        for region in node.regions:
            lines += ["    " + line for line in _lines(region, locations, "region")]
        lines.append("  }")
    lines.append(("  return " + ", ".join(f"{_name(name)}={_operand(v)}" for name, v in graph.outputs)).rstrip())
    lines += [f"  update %{_name(name)} = {_operand(v)}" for name, v in graph.updates]
    lines += [f"  guard {g}" + (f"  ; {g.where}" if locations and g.where else "") for g in graph.guards]
    lines.append("}")
    return lines


def node_text(node: Node, constants: Mapping[str, np.ndarray]) -> str:
    """One node without its location and regions; `constants` holds the arrays of small constants."""
    text = f"{', '.join(map(_result, node.outputs))} = {node.op}({', '.join(map(_operand, node.inputs))})"
    attrs = dict(node.attrs)
    array = constants.get(attrs.get("digest", "")) if node.op == "constant" else None
    if array is not None and array.size <= INLINE_CONSTANT:
        del attrs["digest"]
        attrs["data"] = tuple(array.reshape(-1).tolist())
    if attrs:
        text += " {" + ", ".join(f"{k}={_attr(v)}" for k, v in sorted(attrs.items())) + "}"
    return text


def _symbol(symbol: Symbol) -> str:
    low = f"{symbol.min} <= " if symbol.min != 1 else ""
    high = f" <= {symbol.max}" if symbol.max is not None else ""
    return f"{low}{symbol.name}{high}"


def _name(name: str) -> str:
    return name if re.fullmatch(_PLAIN, name) else json.dumps(name)


def _result(value: Value) -> str:
    return f"%{_name(value.name)}: {value.type}"


def _operand(operand: Operand) -> str:
    return f"%{_name(operand.name)}" if isinstance(operand, Value) else _attr(operand.value)


def _attr(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_attr, value)) + "]"
    if isinstance(value, str):
        return json.dumps(value)
    if value is None:
        return "none"
    return repr(value)


# parsing ------------------------------------------------------------------------------------------------------
class ParseError(ValueError):
    """The text is not a graph; says the line number, what is wrong, and the line."""


def parse(text: str, constants: Mapping[str, np.ndarray] | None = None) -> Graph:
    """Reads one graph. Large constants are printed by digest; give their arrays in `constants`.

    Raises ParseError. What the graph means is not checked here: `verify` does that.
    """
    reader = _Reader(text)
    graph = _graph(reader, "graph", dict(constants or {}))
    if reader.lines:
        reader.next()
        raise reader.error("text after the end of the graph")
    return graph


_PLAIN = r"[A-Za-z0-9_.<>\[\]/:-]*[A-Za-z0-9_.<>\]/-]"  # does not end in ":", which a type follows
_STRING = r'"(?:[^"\\]|\\.)*"'
_NAME = rf"(?:{_STRING}|{_PLAIN})"
_INTEGER = r"-?\d+"
_FLOAT = r"-?(?:inf|nan|\d+\.\d*(?:e[+-]?\d+)?|\d+e[+-]?\d+)"


class _Reader:
    """Goes through the text line by line, and through a line from left to right."""

    def __init__(self, text: str) -> None:
        numbered = ((i, line.strip()) for i, line in enumerate(text.split("\n"), 1))
        self.lines = [(i, line) for i, line in numbered if line and not line.startswith(";")]
        self.number, self.line, self.at = 0, "", 0

    def next(self) -> bool:
        """Goes to the next line; False at the end of the text."""
        if not self.lines:
            return False
        (self.number, self.line), self.at = self.lines.pop(0), 0
        return True

    def take(self, pattern: str) -> str | None:
        """The text that `pattern` matches here, and goes past it and the blanks after it; or None."""
        match = re.compile(rf"({pattern})\s*").match(self.line, self.at)
        if match is None:
            return None
        self.at = match.end()
        return match[1]

    def need(self, pattern: str, what: str) -> str:
        found = self.take(pattern)
        if found is None:
            raise self.error(f"expected {what} at {self.line[self.at :][:40] or 'the end of the line'!r}")
        return found

    def name(self, what: str) -> str:
        found = self.need(_NAME, what)
        return json.loads(found) if found.startswith('"') else found

    def end(self) -> str:
        """The comment that ends the line."""
        comment = self.take(r";.*")
        if self.at < len(self.line):
            raise self.error(f"cannot read {self.line[self.at :][:40]!r}")
        return (comment or "")[1:].strip()

    def error(self, fact: str) -> ParseError:
        line = self.line if len(self.line) <= 200 else self.line[:200] + " ..."
        return ParseError(f"line {self.number}: {fact}\n  {line}")


def _graph(r: _Reader, keyword: str, constants: dict[str, np.ndarray]) -> Graph:
    """A graph, or a region; the reader stands before its first line."""
    if not r.next():
        raise ParseError(f"line {r.number + 1}: expected '{keyword} name(...) {{', got the end of the text")
    r.need(rf"{keyword}\b", f"'{keyword} name(...) {{'")
    name = r.name("the name of the graph")
    r.need(r"\(", "'('")
    env: dict[str, Value] = {}
    roles: dict[str, str] = {}
    while not r.take(r"\)"):
        value = _parse_result(r)
        if value.name in env:
            raise r.error(f"two inputs are named {value.name}")
        role = r.need(r"\w+", f"the role of {value.name}: {', '.join(ROLES)}")
        if role not in ROLES:
            raise r.error(f"role {role!r} of {value.name} is not one of {', '.join(ROLES)}")
        env[value.name], roles[value.name] = value, role
        if not r.take(","):
            r.need(r"(?=\))", "',' or ')'")
    inputs = tuple(env.values())
    symbols: dict[str, Symbol] = {}
    if r.take(r"where\b"):
        while not symbols or r.take(","):
            symbol = _parse_symbol(r)
            symbols[symbol.name] = symbol
    r.need(r"\{", "'{'")
    r.end()
    start = r.number
    nodes: list[Node] = []
    outputs: list[tuple[str, Operand]] = []
    updates: list[tuple[str, Operand]] = []
    guards: list[Guard] = []
    while r.next():
        if r.take(r"\}"):
            r.end()
            used = {n.attrs["digest"] for n in nodes if n.op == "constant" and "digest" in n.attrs}
            held = {k: v for k, v in constants.items() if k in used}
            return Graph(
                name,
                inputs,
                roles,
                tuple(nodes),
                tuple(outputs),
                tuple(updates),
                held,
                symbols,
                tuple(guards),
            )
        if r.take(r"return\b"):
            while r.at < len(r.line) and not r.line.startswith(";", r.at):
                key = r.name("the name of an output")
                r.need("=", "'='")
                outputs.append((key, _parse_operand(r, env)))
                if not r.take(","):
                    break
            r.end()
        elif r.take(r"update\b"):
            r.need("%", "'%name = value'")
            target = r.name("the name of an input")
            r.need("=", "'='")
            updates.append((target, _parse_operand(r, env)))
            r.end()
        elif r.take(r"guard\b"):
            left = _parse_dim(r, r.need(r"[^=!<;]+", "a dimension"))
            op = r.need("==|!=|<=|<", "one of == != <= <")
            guards.append(Guard(op, left, _parse_dim(r, r.need(r"[^=!<;]+", "a dimension")), r.end()))
        else:
            node = _parse_node(r, env, constants)
            env.update((v.name, v) for v in node.outputs)
            nodes.append(node)
    raise ParseError(f"line {start}: the {keyword} {name} is not closed by '}}'")


def _parse_node(r: _Reader, env: Mapping[str, Value], constants: dict[str, np.ndarray]) -> Node:
    """`results = op(operands) {attributes}`, perhaps with regions in braces on the lines that follow."""
    outputs = [_parse_result(r)]
    while r.take(","):
        outputs.append(_parse_result(r))
    r.need("=", "'='")
    op = r.need(r"\w+", "the name of an op")
    r.need(r"\(", "'('")
    inputs: list[Operand] = []
    while not r.take(r"\)"):
        inputs.append(_parse_operand(r, env))
        if not r.take(","):
            r.need(r"(?=\))", "',' or ')'")
    attrs: dict[str, Any] = {}
    if r.take(r"\{(?=\s*\w)"):
        while not r.take(r"\}"):
            key = r.need(r"\w+", "the name of an attribute")
            r.need("=", "'='")
            attrs[key] = _parse_attr(r)
            if not r.take(","):
                r.need(r"(?=\})", "',' or '}'")
    if op == "constant" and "data" in attrs:
        _inline_constant(r, attrs, constants)
    opens = r.take(r"\{")
    location = _parse_location(r.end())
    regions: list[Graph] = []
    if opens:
        start = r.number
        while not r.lines or r.lines[0][1] != "}":
            if not r.lines:
                raise ParseError(f"line {start}: the regions of {op} are not closed by '}}'")
            regions.append(_graph(r, "region", constants))
        r.next()
    return Node(op, tuple(inputs), attrs, tuple(outputs), tuple(regions), location)


def _inline_constant(r: _Reader, attrs: dict[str, Any], constants: dict[str, np.ndarray]) -> None:
    """Replaces the attribute `data` by the digest of the array that it gives."""
    dtype, shape, data = attrs.get("dtype"), attrs.get("shape"), attrs.pop("data")
    if dtype not in DTYPES:
        raise r.error(f"the dtype {dtype!r} of the constant is not one of {', '.join(DTYPES)}")
    try:
        array = np.array(data, DTYPES[dtype]).reshape(shape)
    except (ValueError, TypeError, OverflowError) as error:
        raise r.error(f"the data do not make a constant {dtype}{_attr(shape)}: {error}") from None
    attrs["digest"] = array_digest(array)
    constants[attrs["digest"]] = array


def _parse_result(r: _Reader) -> Value:
    r.need("%", "'%name: type'")
    name = r.name("a name")
    r.need(":", "':'")
    return Value(name, _parsed(r, parse_type, r.need(r"\w+\[[^\]]*\]", "a type such as f32[B, 3]")))


def _parse_operand(r: _Reader, env: Mapping[str, Value]) -> Operand:
    if not r.take("%"):
        value = _parse_attr(r)
        if not isinstance(value, (bool, int, float)):
            raise r.error(f"an operand is %name or a number, not {_attr(value)}")
        return Literal(value)
    name = r.name("the name of a value")
    if name not in env:
        raise r.error(f"%{_name(name)} is not defined")
    return env[name]


def _parse_attr(r: _Reader) -> Any:
    if r.take(r"\["):
        items = []
        while not r.take(r"\]"):
            items.append(_parse_attr(r))
            if not r.take(","):
                r.need(r"(?=\])", "',' or ']'")
        return tuple(items)
    string = r.take(_STRING)
    if string is not None:
        return json.loads(string)
    text = r.need(r"[^,\[\]{}()\";=%]+", "a value").strip()
    if text in ("true", "false"):
        return text == "true"
    if text == "none":
        return None
    if re.fullmatch(_INTEGER, text):
        return int(text)
    return float(text) if re.fullmatch(_FLOAT, text) else _parse_dim(r, text)


def _parse_dim(r: _Reader, text: str) -> Any:
    return _parsed(r, parse_dim, text)


def _parsed(r: _Reader, function: Any, text: str) -> Any:
    try:
        return function(text)
    except ValueError as error:
        raise r.error(str(error)) from None


def _parse_symbol(r: _Reader) -> Symbol:
    """`N`, `2 <= N`, `N <= 64`, or `2 <= N <= 64`."""
    low = r.take(r"\d+")
    if low is not None:
        r.need("<=", "'<='")
    name = r.need(r"[A-Za-z_]\w*", "the name of a dimension")
    high = r.need(r"\d+", "a size") if r.take("<=") else None
    return Symbol(name, 1 if low is None else int(low), None if high is None else int(high))


def _parse_location(comment: str) -> Location | None:
    match = re.fullmatch(r"(.+?):(\d+)(?: (?!bwd %)(\S+))?(?: bwd %(\S+))?", comment)
    return Location(match[1], int(match[2]), match[3] or "", match[4] or "") if match else None
