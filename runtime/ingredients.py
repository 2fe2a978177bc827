"""What a finished tape depends on, by name: the ingredients of the cache's keys.

Each is a short text. The key is the SHA-256 of them all; kept beside the tape they say afterwards why another one did
not fit.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from functools import cache, lru_cache
from pathlib import Path

import numpy as np

from . import container
from .flags import flags_text
from .kernel import Kernel
from .loader import host, installed_version

PACKAGE = Path(__file__).resolve().parents[1]
# Files and folders of the package by what they decide. The tracer and the models are in no row but the lint's: what
# they do is in the text of the program.
COMPILER = ("runtime/jit.py runtime/intrinsics.py runtime/polynomials.py runtime/primitives.py runtime/kernel.py "
            "runtime/driver.py runtime/flags.py runtime/tiles.py")  # fmt: skip
SOURCES = {
    "source of ir": "ir",
    "source of passes": "passes/*.py finished planning.py",
    "source of runtime": "runtime",
    "source of the lint": "passes/lint evidence linting.py tracer",
}
Ingredients = Mapping[str, str]


@lru_cache(maxsize=64)
def source_digest(patterns: str, root: Path = PACKAGE) -> str:
    """A digest of the .py files that `patterns` name (folders with all below), by path and content."""
    files: set[Path] = set()
    for pattern in patterns.split():
        found = root.glob(pattern) if "*" in pattern else [root / pattern]
        for path in found:
            files.update(path.rglob("*.py") if path.is_dir() else [path])
    digest = hashlib.sha256()
    for path in sorted(files):
        content = path.read_bytes() if path.is_file() else b""
        digest.update(f"{path.relative_to(root).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:16]


@cache
def machine_ingredients() -> dict[str, str]:
    """What machine code depends on, beside its source."""
    here = host()
    return {
        "file format": str(container.VERSION),
        "Python": f"{sys.implementation.name} {sys.version_info[0]}.{sys.version_info[1]}",
        "Numba": installed_version("numba"),
        "llvmlite": here.llvmlite,
        "LLVM": here.llvm,
        "NumPy": np.__version__,
        "target": here.triple,
        "CPU": here.cpu,
        "CPU features": " ".join(here.features),
        "flags": flags_text(),
    }


def tape_ingredients(program: str, threads: int) -> dict[str, str]:
    """Those of a tape. `program` is the text of what it computes."""
    sources = {name: source_digest(patterns) for name, patterns in SOURCES.items()}
    digest = hashlib.sha256(program.encode()).hexdigest()
    return {"program": digest, "threads": str(threads), **sources, **machine_ingredients()}


def kernel_ingredients(kernel: Kernel) -> dict[str, str]:
    """Those of one kernel: no model, no pass."""
    params = " ".join(f"{name}:{kind}" for name, kind in kernel.params)
    text = f"{kernel.name} {params}\n{kernel.source}"
    digest = hashlib.sha256(text.encode()).hexdigest()
    return {"kernel": digest, "source of the compiler": source_digest(COMPILER), **machine_ingredients()}


def key_of(ingredients: Ingredients) -> str:
    return hashlib.sha256(json.dumps(dict(ingredients), sort_keys=True).encode()).hexdigest()


def differing(wanted: Ingredients, found: Ingredients) -> list[str]:
    """The names of the ingredients that are not the same."""
    return [name for name in {**wanted, **found} if wanted.get(name) != found.get(name)]


def features_missing(ingredients: Ingredients) -> list[str]:
    """CPU features that code was compiled for and this CPU has not: running it would end the process."""
    return sorted(set(ingredients.get("CPU features", "").split()) - set(host().features))
