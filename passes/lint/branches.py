"""Branches that Python took on a traced value, read off the source: which arm was left out, and what only it uses."""

from __future__ import annotations

import ast
import linecache
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from ...ir.crossings import Escape
from .evidence import Evidence
from .finding import Site


@dataclass(frozen=True)
class Branch:
    """`kind` is if, while, choice (max(a, b)), guard (an assert, or an if that only raises) or other; `words` are the
    names in the arm that was not taken."""

    escape: Escape
    kind: str
    words: frozenset[str] = frozenset()

    @property
    def site(self) -> Site:
        return Site.of(self.escape)


def branches(e: Evidence) -> list[Branch]:
    """Every decision that Python made on a value of the program."""
    return [_branch(x) for x in e.crossings.escapes if x.kind == "bool"]


def only_elsewhere(e: Evidence, branch: Branch) -> list[str]:
    """The unread trainable parameters that the arm which was not taken names."""
    return [p.path for p in e.trainable if not e.is_read(p.path) and branch.words.intersection(p.path.split("."))]


def _branch(escape: Escape) -> Branch:
    for node in _at(escape.file, escape.line):
        if isinstance(node, ast.Assert):
            return Branch(escape, "guard")
        if isinstance(node, ast.If):
            if all(isinstance(s, ast.Raise) for s in node.body) and not node.orelse:
                return Branch(escape, "guard")
            # what an arm that returns leaves out stands behind the whole statement: every name may be in it
            return Branch(escape, "if", _words(node.orelse if escape.result else node.body))
        if isinstance(node, ast.IfExp):
            return Branch(escape, "if", _words([node.orelse if escape.result else node.body]))
        if isinstance(node, ast.While):
            return Branch(escape, "while")
    return Branch(escape, "choice" if _chooses(escape) else "other")


CHOOSERS = ("max", "min", "sorted", "filter")


def _chooses(escape: Escape) -> bool:
    """Whether the statement at this place keeps one of several values: max(a, b), [x for x in xs if x > 0]."""
    tree = _tree(escape.file)
    kept = (ast.Assign, ast.AugAssign, ast.AnnAssign, ast.Return)
    found = [n for n in ast.walk(tree) if isinstance(n, kept) and _holds(n, escape)] if tree is not None else []
    inside = list(ast.walk(found[-1])) if found else []
    called = [n for n in inside if isinstance(n, ast.Call) and getattr(n.func, "id", "") in CHOOSERS]
    tests = [test for n in inside if isinstance(n, ast.comprehension) for test in n.ifs]
    return any(_holds(n, escape) for n in (*called, *tests))


def _holds(node: ast.expr | ast.stmt, escape: Escape) -> bool:
    return node.lineno <= escape.line <= (node.end_lineno or node.lineno)


def is_passed_over(site: Site) -> bool:
    """Whether an error at this line is caught by something that does nothing in its place: `except: pass`, or
    contextlib.suppress."""
    tree = _tree(site.file)
    around = [n for n in ast.walk(tree) if isinstance(n, (ast.Try, ast.With)) and _spans(n.body, site)] if tree else []
    return bool(around) and _does_nothing(around[-1])  # walked from outside in


def _spans(body: list[ast.stmt], site: Site) -> bool:
    return body[0].lineno <= site.line <= (body[-1].end_lineno or body[-1].lineno)


def _does_nothing(node: ast.Try | ast.With) -> bool:
    if isinstance(node, ast.With):
        return any("suppress" in ast.unparse(item.context_expr) for item in node.items)
    done = [s for handler in node.handlers for s in handler.body]
    return not node.orelse and all(isinstance(s, (ast.Pass, ast.Continue, ast.Expr)) for s in done)


def _words(nodes: list) -> frozenset[str]:
    found = set()
    for top in nodes:
        for node in ast.walk(top):
            if isinstance(node, ast.Attribute):
                found.add(node.attr)
            elif isinstance(node, ast.Name):
                found.add(node.id)
    return frozenset(found - {"self"})


def _at(file: str, line: int) -> Iterator[ast.AST]:
    """The branching statements and expressions whose test spans the line, the innermost first."""
    tree = _tree(file)
    if tree is None:
        return
    found = []
    for node in ast.walk(tree):
        test = getattr(node, "test", None)
        if test is not None and test.lineno <= line <= (test.end_lineno or test.lineno):
            found.append(node)
    yield from reversed(found)


@lru_cache(maxsize=32)
def _tree(file: str) -> ast.Module | None:
    text = "".join(linecache.getlines(file))
    try:
        return ast.parse(text) if text else None
    except SyntaxError:
        return None
