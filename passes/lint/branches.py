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
    """`kind` is if, while, guard (an assert, or an if that only raises) or other; `words` are the names in the arm that
    was not taken."""

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
    return Branch(escape, "other")


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
