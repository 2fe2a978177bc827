"""What the user's source says about the expression that is running: which array it assigns an element of, which
function it calls, and whether a plain number or array that enters the program was computed from one that had left it.

Python hands out plain objects where a traced value is converted (`float(x)`, `out[i] = x`, a call into C): no tag
survives that. The interrupted instruction of a frame knows its line and columns, and so the node of the syntax tree;
from there the names in it are followed to their assignments.
"""

from __future__ import annotations

import ast
import linecache
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import FrameType, FunctionType, ModuleType
from typing import Any

import numpy as np

from ..ir.build import Ref
from ..ir.location import Position, is_user_code, is_user_frame, position, user_frame

FRAMES = 6  # how many of the user's frames are looked at, the innermost first
STEPS = 200  # names that are followed for one number

Site = tuple[str, Position]


# where we are ---------------------------------------------------------------------------------------------------------
def user_frames() -> Iterator[FrameType]:
    """The user's frames, the innermost first."""
    frame = user_frame()
    for _ in range(FRAMES):
        if frame is None:
            return
        yield frame
        frame = frame.f_back
        while frame is not None and not is_user_frame(frame):
            frame = frame.f_back


def sites() -> Iterator[Site]:
    """The expressions that are running, the innermost first: each was called by the next."""
    for frame in user_frames():
        place = position(frame)
        if place is not None:
            yield frame.f_code.co_filename, place


def written_buffer() -> tuple[np.ndarray, str] | None:
    """The array that the user's statement assigns elements of (`out[i, j] = x`), and its name in the source."""
    frame = user_frame()
    if frame is None:
        return None
    for node in reversed(_path(frame)):
        if isinstance(node, ast.stmt):
            break
    else:
        return None
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    for target in targets:
        name = _stored_in(target) if isinstance(target, ast.Subscript) else None
        found = None if name is None else _look_up(name, frame)
        if name is not None and isinstance(found, np.ndarray):
            return found, ast.unparse(name)
    return None


def called() -> str:
    """The dotted name of the function that the user's expression calls: `scipy.linalg.expm`; empty for none."""
    frame = user_frame()
    node = _path(frame)[-1:] if frame is not None else []
    if not node or not isinstance(node[0], ast.Call):
        return ""
    name = node[0].func
    found = _look_up(name, frame) if isinstance(name, (ast.Name, ast.Attribute)) and frame is not None else None
    own_code = isinstance(found, FunctionType) and is_user_code(found.__code__.co_filename, found.__globals__)
    if not callable(found) or own_code:  # a method, or the user's own
        return ""
    module, own = getattr(found, "__module__", None) or "", getattr(found, "__name__", "")
    public = ".".join(part for part in module.split(".") if not part.startswith("_") and part != "builtins")
    return f"{public}.{own}" if public and own.isidentifier() else ast.unparse(name)


@lru_cache(maxsize=64)
def _parsed(_file: str, text: str) -> ast.Module | None:
    try:
        return ast.parse(text)
    except SyntaxError:
        return None


def _tree(file: str) -> ast.Module | None:
    return _parsed(file, "".join(linecache.getlines(file)))


def _path(frame: FrameType) -> list[ast.AST]:
    """The nodes of the syntax tree around the expression that is running, the innermost last."""
    place, tree = position(frame), _tree(frame.f_code.co_filename)
    if place is None or tree is None:
        return []
    path: list[ast.AST] = [tree]
    while True:
        inner = next((n for n in ast.iter_child_nodes(path[-1]) if _spans(n, place)), None)
        if inner is None:
            return path
        path.append(inner)


def _spans(node: ast.AST, place: Position) -> bool:
    if not hasattr(node, "lineno"):  # `arguments`, `comprehension`: look inside
        return any(_spans(n, place) for n in ast.iter_child_nodes(node))
    own = _place(node)
    return (own[0], own[2]) <= (place[0], place[2]) and (own[1], own[3]) >= (place[1], place[3])


def _place(node: Any) -> Position:
    return node.lineno, node.end_lineno, node.col_offset, node.end_col_offset


# where a number comes from --------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Scope:
    """The code that a name belongs to: the functions around it, and its frame where it is running."""

    file: str
    nodes: tuple[ast.AST, ...]
    frame: FrameType | None


class Origins:
    """Follows what enters the program back to those of the sites at which something had left it."""

    def __init__(self, left: Mapping[str, Iterable[Position]]) -> None:
        self.left = left
        self.seen: set[tuple[str, str, int]] = set()
        self.steps = 0

    def of(self, thing: Any, index: int) -> list[Site]:
        """The sites from which `thing`, which enters the program now as operand `index`, was computed."""
        frame = user_frame()
        if frame is None:
            return []
        path = _path(frame)
        if len(path) < 2:
            return []
        scope = _scope(frame, path)
        found: dict[Site, None] = {}
        for expression in _given(path[-1], frame, thing, index):
            found.update(dict.fromkeys(self._from(expression, scope)))
        return list(found)

    def of_index(self) -> list[Site]:
        """The sites from which the index of the subscript that is running was computed."""
        frame = user_frame()
        path = _path(frame) if frame is not None else []
        if frame is None or not path or not isinstance(path[-1], ast.Subscript):
            return []
        return list(dict.fromkeys(self._from(path[-1].slice, _scope(frame, path))))

    def _from(self, expression: ast.AST, scope: _Scope, own: tuple[str, int] = ("", 0)) -> Iterator[Site]:
        """The sites in an expression, and those behind its names. `own` is what it was assigned to, and the line: in
        `n = 2 * n` the other n is an earlier one."""
        if hasattr(expression, "lineno") and _place(expression) in self.left.get(scope.file, ()):
            yield scope.file, _place(expression)
        if isinstance(expression, (ast.Name, ast.Attribute)) and _is_dotted(expression):
            line = own[1] - 1 if ast.unparse(expression) == own[0] else expression.lineno
            yield from self._from_name(expression, line, scope)
        for part in _carrying(expression):
            yield from self._from(part, scope, own)

    def _from_name(self, name: ast.expr, line: int, scope: _Scope) -> Iterator[Site]:
        text = ast.unparse(name)
        key = (scope.file, text, line)
        self.steps += 1
        if key in self.seen or self.steps > STEPS or (scope.frame is not None and not _is_plain(name, scope.frame)):
            return
        self.seen.add(key)
        assigned = _assigned(name, line, scope)
        for at, value in assigned:
            yield from self._from(value, scope, (text, at))
        if not assigned and isinstance(name, ast.Name) and scope.frame is not None:
            yield from self._from_caller(name.id, scope.frame)

    def _from_caller(self, argument: str, frame: FrameType) -> Iterator[Site]:
        """What the caller gave for an argument of the function that runs in `frame`."""
        code = frame.f_code
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        caller = frame.f_back
        while caller is not None and not is_user_frame(caller):
            caller = caller.f_back
        if argument not in names or caller is None:
            return
        path = _path(caller)
        if len(path) < 2 or not isinstance(path[-1], ast.Call):
            return
        call = path[-1]
        given = next((k.value for k in call.keywords if k.arg == argument), None)
        if given is None:
            index = names.index(argument) - (1 if names[:1] == ("self",) else 0)
            given = call.args[index] if 0 <= index < len(call.args) else None
        if given is not None:
            yield from self._from(given, _scope(caller, path))


def _scope(frame: FrameType, path: list[ast.AST]) -> _Scope:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
    return _Scope(frame.f_code.co_filename, tuple(n for n in path if isinstance(n, kinds)) or (path[0],), frame)


def _given(node: ast.AST, frame: FrameType, thing: Any, index: int) -> list[ast.AST]:
    """The expressions among the operands of `node` that may have given `thing`."""
    if isinstance(node, ast.Call):
        parts: list[Any] = [*node.args, *(k.value for k in node.keywords)]
        parts += [node.func.value] if isinstance(node.func, ast.Attribute) else []
    elif isinstance(node, ast.BinOp):
        parts = [(node.left, node.right)[index]] if index < 2 else []
    elif isinstance(node, ast.AugAssign):
        parts = [(node.target, node.value)[index]] if index < 2 else []
    elif isinstance(node, ast.Compare):
        parts = [node.left, *node.comparators]
    else:
        parts = [node]
    maybe: list[ast.AST] = []
    while parts:
        part = parts.pop()
        if isinstance(part, (ast.Tuple, ast.List)):
            parts += part.elts
        elif isinstance(part, ast.Starred):
            parts.append(part.value)
        elif _is_dotted(part):
            found = _look_up(part, frame)
            if found is thing:
                return [part]
            if isinstance(node, ast.Call) and isinstance(found, np.ndarray) and isinstance(thing, np.ndarray):
                maybe.append(part)  # the function may have made another array of it
        elif not isinstance(part, ast.Constant):
            maybe.append(part)
    return maybe


# what tells of an array, and holds none of its numbers
_ABOUT = {"shape", "ndim", "size", "dtype", "itemsize", "nbytes"}
_ASKING = {"len", "isinstance", "type", "id", "hasattr", "callable", "print", "repr"}


def _carrying(expression: ast.AST) -> list[ast.AST]:
    """The parts of an expression whose numbers go into its own: not conditions, indices, sizes."""
    if isinstance(expression, ast.IfExp):
        return [expression.body, expression.orelse]
    if isinstance(expression, ast.Subscript):
        return [expression.value]
    if isinstance(expression, ast.Attribute):
        return [] if expression.attr in _ABOUT else [expression.value]
    if isinstance(expression, ast.Call):
        name, args = expression.func, expression.args
        if isinstance(name, ast.Name) and name.id in _ASKING:
            return []
        if ast.unparse(name).endswith("_like"):  # the shape of the first argument
            args = args[1:]
        return [*([] if isinstance(name, ast.Name) else [name]), *args, *(k.value for k in expression.keywords)]
    if isinstance(expression, (ast.ListComp, ast.SetComp, ast.GeneratorExp)):
        return [expression.elt, *(g.iter for g in expression.generators)]
    if isinstance(expression, (ast.Lambda, ast.Compare, ast.Constant, ast.Name)):
        return []
    return [n for n in ast.iter_child_nodes(expression) if isinstance(n, ast.expr)]


def _is_dotted(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) or (isinstance(node, ast.Attribute) and _is_dotted(node.value))


def _is_plain(name: ast.expr, frame: FrameType) -> bool:
    """Whether a name stands for numbers or arrays, rather than for a traced value, a function or a module."""
    return not isinstance(_look_up(name, frame), (Ref, FunctionType, ModuleType, type))


_FILLING = {"append", "extend", "insert", "add", "update", "setdefault", "fill", "put", "itemset"}


def _assigned(name: ast.expr, line: int, scope: _Scope) -> list[tuple[int, ast.AST]]:
    """The expressions last assigned to `name` up to `line`, with their lines; and all that was put into it."""
    wanted = ast.unparse(name)
    plain: list[tuple[int, ast.AST]] = []
    into: list[ast.AST] = []
    for holder in scope.nodes:
        inside = isinstance(holder, ast.ClassDef)
        if inside and "." not in wanted:
            continue
        for node in ast.walk(holder):
            for target, value in _assignments(node):
                if _is(target, wanted):
                    if isinstance(node, ast.AugAssign):
                        into.append(value)
                    else:
                        plain.append((getattr(node, "lineno", value.lineno), value))  # type: ignore[attr-defined]
                elif isinstance(target, ast.Subscript) and _is(_stored_in(target), wanted):
                    into += [target, value]
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _FILLING:
                into += node.args if _is(node.func.value, wanted) else []
    last = max((at for at, _ in plain if at <= line), default=0)
    chosen = [(at, value) for at, value in plain if at == last] or [(line + 1, value) for _, value in plain]
    return chosen + [(line + 1, value) for value in into]


def _assignments(node: ast.AST) -> Iterator[tuple[ast.AST, ast.AST]]:
    """(target, value) of whatever a node assigns."""
    if isinstance(node, ast.Assign):
        for target in node.targets:
            # `y, k = self.layer(x)`: whatever left the program inside of the call, k need not come from it
            if not (isinstance(target, (ast.Tuple, ast.List)) and isinstance(node.value, ast.Call)):
                yield from _pairs(target, node.value)
    elif isinstance(node, (ast.AugAssign, ast.AnnAssign, ast.NamedExpr)) and node.value is not None:
        yield node.target, node.value
    elif isinstance(node, (ast.For, ast.AsyncFor, ast.comprehension)):
        yield from _pairs(node.target, node.iter)
    elif isinstance(node, ast.withitem) and node.optional_vars is not None:
        yield from _pairs(node.optional_vars, node.context_expr)


def _pairs(target: ast.AST, value: ast.AST) -> Iterator[tuple[ast.AST, ast.AST]]:
    if not isinstance(target, (ast.Tuple, ast.List)):
        yield target, value
        return
    one_each = isinstance(value, (ast.Tuple, ast.List)) and len(value.elts) == len(target.elts)
    for i, part in enumerate(target.elts):
        part = part.value if isinstance(part, ast.Starred) else part
        yield from _pairs(part, value.elts[i] if one_each else value)  # type: ignore[attr-defined]


def _stored_in(target: ast.AST) -> ast.expr | None:
    """The name under subscripts: `out` of `out[i][j]`."""
    while isinstance(target, ast.Subscript):
        target = target.value
    return target if _is_dotted(target) else None  # type: ignore[return-value]


def _is(node: ast.AST | None, wanted: str) -> bool:
    return node is not None and _is_dotted(node) and ast.unparse(node) == wanted


def _look_up(node: ast.expr, frame: FrameType) -> Any:
    """The object that a name or a chain of attributes stands for in `frame`; None for anything else. No property is
    called, for it might have an effect."""
    if isinstance(node, ast.Name):
        return frame.f_locals.get(node.id, frame.f_globals.get(node.id))
    if isinstance(node, ast.Attribute):
        owner = _look_up(node.value, frame)
        inside = getattr(owner, "__dict__", {})
        if node.attr in inside:
            return inside[node.attr]
        of_class = getattr(type(owner), "__dict__", {}).get(node.attr)
        return of_class if isinstance(owner, type) or not hasattr(of_class, "__get__") else None
    return None
