"""Imports run one way. Every .py file of the package is read with `ast`, function bodies included.

The two tables are the rule. A new file at the root or a new folder needs a row in both.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

from layout import ROOT, package_files

# Folder or file at the root -> the others that it may import from. Its own folder is always allowed.
INSIDE = {
    "ir": set(),
    "tracer": {"ir"},
    "passes": {"ir"},
    "models": {"tracer", "ir"},
    "runtime": {"ir"},
    "entries": {"ir", "tracer"},
    "evidence": {"ir", "tracer", "passes", "models", "entries"},
    "linting": {"ir", "tracer", "passes", "models", "entries", "evidence"},
    "watching": {"ir", "tracer", "passes", "evidence", "linting"},
    "store": {"tracer", "runtime"},
    "pictures": {"ir", "passes"},
    "showing": {"ir", "pictures"},
    "report": {"ir", "passes", "runtime", "pictures"},
    "planning": {"ir", "passes", "runtime"},
    "finished": {"ir", "tracer", "passes", "models", "runtime", "linting", "planning"},
    "programs": {"ir", "tracer", "passes", "models", "runtime", "entries", "planning", "store", "finished"},
    "saving": {"ir", "tracer", "models", "runtime", "planning", "finished", "programs"},
    "decoding": {"ir", "tracer", "models", "programs"},
    "compiler": {
        "ir",
        "tracer",
        "passes",
        "models",
        "runtime",
        "entries",
        "linting",
        "pictures",
        "planning",
        "programs",
        "saving",
        "decoding",
        "watching",
        "report",
    },
    "derivatives": {"ir", "tracer", "passes", "entries", "compiler"},
    "__init__": set("ir tracer passes models runtime planning compiler derivatives linting showing".split()),
    "cli": set("ir tracer passes models runtime entries finished compiler linting pictures report __init__".split()),
    "__main__": {"cli"},
}

# The same for what others wrote, beside the standard library; the next table adds to it, file by file.
OUTSIDE = {
    "ir": {"numpy"},
    "tracer": {"numpy"},
    "passes": {"numpy"},
    "models": {"numpy", "safetensors", "sklearn"},
    "runtime": {"numpy", "scipy_openblas32"},
    "entries": {"numpy"},
    "evidence": {"numpy"},
    "linting": set(),
    "watching": {"numpy"},
    "store": {"numpy"},
    "pictures": {"graphviz"},
    "showing": set(),
    "finished": {"numpy"},
    "saving": {"numpy"},
    "report": {"numpy"},
    "planning": set(),
    "programs": {"numpy"},
    "decoding": {"numpy"},
    "compiler": {"numpy", "graphviz"},
    "derivatives": {"numpy"},
    "__init__": set(),
    "cli": {"numpy", "safetensors", "click", "rich", "matplotlib"},
    "__main__": set(),
}

# A tape from disk starts without Numba (1.1 s to import) and without building LLVM IR: only these need them.
HEAVY = {
    "numba": {"runtime/jit.py", "runtime/intrinsics.py"},
    "llvmlite.binding": {"runtime/jit.py", "runtime/intrinsics.py", "runtime/loader.py"},
    "llvmlite.ir": {"runtime/jit.py", "runtime/intrinsics.py", "runtime/polynomials.py"},
}


def imports(tree: ast.AST, package: tuple[str, ...]) -> Iterator[tuple[int, str, bool]]:
    """(line, dotted name, relative) of every import under `tree`, in a file of `package`: ("gradtape", "ir").

    `from a import b` gives a.b; relative names are resolved, to ".." where they leave the package. Calls of
    `import_module` and `__import__` with a literal are imports; those with a variable cannot be followed.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name, False
        elif isinstance(node, ast.ImportFrom):
            if node.level > len(package):
                yield node.lineno, "..", True
                continue
            start = package[: len(package) - node.level + 1] if node.level else ()
            for alias in node.names:
                name = ".".join([*start, *filter(None, [node.module]), alias.name])
                yield node.lineno, name, node.level > 0
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            for argument in node.args[:1]:
                if isinstance(argument, ast.Constant):
                    yield node.lineno, str(argument.value), False


def wrong_imports(path: str, code: str) -> list[str]:
    """What is wrong with the imports of `code`, the text of the package's file `path`: one line for each."""
    file = PurePosixPath(path)
    part = file.parts[0].removesuffix(".py")
    if part not in INSIDE:
        return [f"{path}: {part} is in no row of the tables in tests/test_architecture.py"]
    wrong = []
    for line, name, relative in imports(ast.parse(code, path), ("gradtape", *file.parts[:-1])):
        fact = _wrong_import(path, part, name, relative)
        if fact:
            wrong.append(f"{path}:{line}: {fact}")
    return wrong


def _wrong_import(path: str, part: str, name: str, relative: bool) -> str | None:
    top, *rest = name.split(".")
    heavy = next((h for h in HEAVY if f"{name}.".startswith(f"{h}.")), None)
    if name == "..":
        return "a relative import that leaves the package"
    if relative:
        # What is no folder or file of the root is a name in its __init__.py.
        target = rest[0] if rest[0] in INSIDE else "__init__"
        if target != part and target not in INSIDE[part]:
            return f"{part} imports {target}; it may import {sorted(INSIDE[part]) or 'nothing else'}"
    elif top in ("gradtape", ""):
        return f"import of {name}: inside the package imports are relative statements"
    elif heavy is not None:
        if path not in HEAVY[heavy]:
            return f"{heavy} is imported only in {', '.join(sorted(HEAVY[heavy]))}"
    elif top == "llvmlite":
        return "llvmlite is imported as llvmlite.binding or llvmlite.ir; its version is in importlib.metadata"
    elif top not in sys.stdlib_module_names and top not in OUTSIDE[part]:
        return f"{part} imports {top}; it may import {sorted(OUTSIDE[part]) or 'nothing from outside'}"
    return None


def test_imports_run_one_way() -> None:
    texts = {file.relative_to(ROOT).as_posix(): file.read_text("utf-8") for file in package_files()}
    assert {"__init__.py", "ir/ops/elementwise.py", "runtime/jit.py"} <= set(texts)
    wrong = [line for path, code in texts.items() for line in wrong_imports(path, code)]
    assert not wrong, "\n" + "\n".join(wrong)


@pytest.mark.parametrize(
    ("path", "code", "said"),
    [
        ("ir/graph.py", "from ..tracer import tensor", "ir imports tracer; it may import nothing else"),
        ("ir/graph.py", "from .. import passes", "ir imports passes"),
        ("ir/graph.py", "from .. import Tensor", "ir imports __init__"),
        ("ir/ops/nn.py", "from ...runtime.jit import x", "ir imports runtime"),
        ("ir/ops/nn.py", "from .... import x", "leaves the package"),
        ("ir/graph.py", "import scipy", "ir imports scipy; it may import ['numpy']"),
        ("ir/graph.py", "import gradtape.ir.types", "inside the package imports are relative"),
        ("cli.py", "from gradtape import compiler", "inside the package imports are relative"),
        ("tracer/tensor.py", "def f():\n    from ..passes import fuse", "tensor.py:2: tracer imports passes"),
        ("tracer/tensor.py", "if TYPE_CHECKING:\n    from ..models import gpt", "tracer imports models"),
        ("passes/lint/rules.py", "from ...tracer.ledger import Ledger", "passes imports tracer"),
        ("models/gpt.py", "from ..compiler import compile", "models imports compiler"),
        ("runtime/cache.py", "from ..passes.lower import lower", "runtime imports passes"),
        ("runtime/cache.py", "from ..compiler import compile", "runtime imports compiler"),
        ("runtime/cache.py", "import numba", "imported only in runtime/intrinsics.py, runtime/jit.py"),
        ("runtime/loader.py", "from numba.core import types", "numba is imported only"),
        ("runtime/loader.py", "x = lambda: importlib.import_module('numba.core')", "numba is imported only"),
        ("runtime/loader.py", "__import__('numba')", "numba is imported only"),
        ("runtime/cache.py", "import llvmlite.binding", "llvmlite.binding is imported only"),
        ("runtime/cache.py", "from llvmlite import binding as llvm", "llvmlite.binding is imported only"),
        ("runtime/loader.py", "from llvmlite import ir", "llvmlite.ir is imported only"),
        ("runtime/loader.py", "import llvmlite", "its version is in importlib.metadata"),
        ("runtime/cache.py", "import_module('.jit', __package__)", "imports are relative statements"),
        ("compiler.py", "import numba", "numba is imported only"),
        ("compiler.py", "from .cli import main", "compiler imports cli"),
        ("__init__.py", "from .cli import main", "__init__ imports cli"),
        ("__init__.py", "import numpy", "__init__ imports numpy; it may import nothing from outside"),
        ("helpers.py", "x = 1", "helpers is in no row"),
    ],
)
def test_a_wrong_import_is_found(path: str, code: str, said: str) -> None:
    (line,) = wrong_imports(path, code)
    assert said in line


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("ir/ops/nn.py", "import math\nimport numpy as np\nfrom ..types import f32\nfrom . import rules"),
        ("ir/ops/nn.py", "from ... import ir"),
        ("tracer/tensor.py", "from ..ir.graph import Graph\nfrom . import module"),
        ("passes/lint/rules.py", "from ...ir.graph import Graph\nfrom ..autodiff import vjp"),
        ("models/gpt.py", "from ..tracer.module import Module\nfrom ..ir.dims import Dim"),
        ("runtime/jit.py", "import numba\nimport llvmlite.binding as llvm\nfrom llvmlite import ir"),
        (
            "runtime/loader.py",
            "import llvmlite.binding as llvm\nfrom llvmlite import binding",
        ),
        ("runtime/blas.py", "import scipy_openblas32"),
        ("runtime/kernels/gemm.py", "from ..kernel import template\nfrom ...ir.dims import Dim"),
        (
            "compiler.py",
            "from .runtime import loader\nfrom .models.optim import AdamW\nfrom .passes import fuse",
        ),
        ("cli.py", "import click\nfrom . import compile\ndef f(name): return import_module(name)"),
        ("__init__.py", "from .compiler import compile\nfrom .ir.dims import Dim\nfrom . import models"),
        ("__main__.py", "from .cli import main"),
    ],
)
def test_a_right_import_is_not(path: str, code: str) -> None:
    assert wrong_imports(path, code) == []


def loaded_after(code: str, folder: Path) -> set[str]:
    """The modules in `sys.modules` after `code`, run in a process of its own with warnings as errors."""
    command = [sys.executable, "-P", "-W", "error", "-c", code + "\nimport sys; print(*sys.modules)"]
    done = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_import_gradtape_is_light(tmp_path: Path) -> None:
    loaded = loaded_after("import gradtape", tmp_path)
    assert "gradtape" in loaded
    heavy = {"numba", "llvmlite", "matplotlib", "rich", "click", "safetensors", "graphviz"}
    assert not heavy & loaded
    assert "click" in loaded_after("import gradtape, click", tmp_path)  # the check can see one that is there
