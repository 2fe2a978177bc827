"""The user's line as it is written, and as it could be: without the exits by which its values leave the program."""

from __future__ import annotations

import ast
import linecache
from functools import lru_cache

from .finding import Site

LONGEST = 100

WRAPPERS = {"tensor", "Tensor", "asarray", "array", "ascontiguousarray", "asanyarray", "Parameter", "buffer"}
EXITS = {"numpy", "item", "tolist"}


def without_exits(site: Site) -> str:
    """The statement at `site` with `x.data`, `x.numpy()`, `np.asarray(x)`, `float(x)`, `gt.tensor(x)` replaced by x;
    empty where there is nothing to replace, or where it is no single short statement."""
    statement = _statement(site.file, "".join(linecache.getlines(site.file)), site.line) if site else None
    if statement is None:
        return ""
    before = ast.unparse(statement)
    after = ast.unparse(ast.fix_missing_locations(_WithoutExits().visit(ast.parse(before))))
    return after if after != before and "\n" not in after and len(after) <= LONGEST else ""


def called_at(site: Site) -> str:
    """The function that the expression at `site` calls, as it is written: `gt.argsort`; empty for anything else."""
    tree = _parsed(site.file, "".join(linecache.getlines(site.file))) if site and site.column else None
    here = (site.line, site.column - 1)
    calls = (n for n in ast.walk(tree) if isinstance(n, ast.Call)) if tree is not None else iter(())
    found = [n for n in calls if (n.lineno, n.col_offset) == here and isinstance(n.func, (ast.Name, ast.Attribute))]
    name = ast.unparse(min(found, key=_extent).func) if found else ""
    return name if name.replace(".", "").isidentifier() else ""


def _extent(node: ast.expr) -> tuple[int, int]:
    return (node.end_lineno or 0) - node.lineno, node.end_col_offset or 0


class _WithoutExits(ast.NodeTransformer):
    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        self.generic_visit(node)
        return node.value if node.attr == "data" and isinstance(node.ctx, ast.Load) else node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if isinstance(node.func, ast.Attribute) and name in EXITS and not node.args:
            return node.func.value
        if isinstance(node.func, ast.Name) and name in ("float", "int") and len(node.args) == 1:
            return node.args[0]
        return node.args[0] if name in WRAPPERS and node.args and not isinstance(node.args[0], ast.List) else node


@lru_cache(maxsize=32)
def _parsed(_file: str, text: str) -> ast.Module | None:
    try:
        return ast.parse(text)
    except SyntaxError:
        return None


def _statement(file: str, text: str, line: int) -> ast.stmt | None:
    """The simple statement that stands at `line`."""
    tree = _parsed(file, text)
    simple = (ast.Assign, ast.AugAssign, ast.AnnAssign, ast.Return, ast.Expr)
    found = (n for n in ast.walk(tree) if isinstance(n, simple)) if tree is not None else iter(())
    return next((n for n in found if n.lineno <= line <= (n.end_lineno or n.lineno)), None)
