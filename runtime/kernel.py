"""A kernel: one function over raw pointers and numbers, as restricted Python text."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

POINTERS = {"f32*": "float32", "f64*": "float64", "i64*": "int64", "i32*": "int32", "u8*": "uint8"}
SCALARS = {"f32": "float32", "f64": "float64", "i64": "int64", "i32": "int32"}
FLOATS = ("f32", "f64")
NUMBERS = (*FLOATS, "i32", "i64")


@dataclass(frozen=True)
class Kernel:
    """One compiled loop nest, described by its source.

    name    C symbol of the compiled kernel, `void name(int64_t *args)`.
    params  (name, type) in the order of the argument words. Types: `f32* f64* i64* i32* u8*` (addresses) and
            `i64 i32 f32 f64` (numbers). A word holds an address, an integer, or the bits of a float (float32
            in its low half).
    source  text of `def name(<param names>):` with range loops, `if`, `while`, arithmetic and the primitives
            of `primitives.py`; no arrays, no allocation, no result.

    Pointers are compiled as `noalias`: what a kernel writes through one parameter it must not read or write
    through another one. An update in place therefore takes one pointer, which it both loads and stores.
    """

    name: str
    params: tuple[tuple[str, str], ...]
    source: str

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise ValueError(f"kernel name {self.name!r} is not an identifier")
        for param, type_ in self.params:
            if type_ not in POINTERS and type_ not in SCALARS:
                raise ValueError(f"kernel {self.name}: parameter {param} has unknown type {type_!r}")

    @cached_property
    def tree(self) -> ast.FunctionDef:
        """The parsed function; ValueError if name or parameters differ from the record."""
        try:
            body = ast.parse(self.source).body
        except SyntaxError as error:
            raise ValueError(f"kernel {self.name}: {error}\n{self.numbered_source()}") from error
        if len(body) != 1 or not isinstance(body[0], ast.FunctionDef) or body[0].name != self.name:
            raise ValueError(f"kernel {self.name}: source is not one function of that name\n{self.source}")
        names = tuple(arg.arg for arg in body[0].args.args)
        if names != tuple(name for name, _ in self.params):
            raise ValueError(f"kernel {self.name}: the source takes {names}, params say {self.params}")
        return body[0]

    def numbered_source(self) -> str:
        """The source with line numbers, for error messages."""
        return "\n".join(f"{number:4} | {line}" for number, line in enumerate(self.source.splitlines(), 1))


def argument_words(kernel: Kernel, values: Sequence[Any]) -> np.ndarray:
    """The int64 words that the compiled kernel reads, one per parameter.

    A pointer is given as an array (its first element) or an address, a number as itself. The array's dtype
    must be that of the parameter (bool counts as u8): TypeError otherwise. The words do not keep the arrays
    alive.
    """
    words = np.zeros(len(kernel.params), np.int64)
    for i, ((name, type_), value) in enumerate(zip(kernel.params, values, strict=True)):
        if type_ in SCALARS:
            words[i : i + 1].view(SCALARS[type_])[0] = value
        elif isinstance(value, np.ndarray):
            if value.dtype != POINTERS[type_] and not (type_ == "u8*" and value.dtype == bool):
                raise TypeError(f"{kernel.name}: {name} is {type_}, the array is {value.dtype}")
            words[i] = value.ctypes.data
        else:
            words[i] = value
    return words


def template(name: str, dtype: str, params: str, source: str, dtypes: Sequence[str] = FLOATS) -> Kernel:
    """A kernel from a text over a dtype letter: `T` stands for `dtype`, one of `dtypes`.

    `params` is "a:T* n:i64 ..."; the kernel is called `<name>_<dtype>` and `source` holds only the body,
    whose first line may be blank. In the body `T(...)` is the cast.
    """
    if dtype not in dtypes:
        raise ValueError(f"{name}: dtype is {dtype!r}; write " + " or ".join(map(repr, dtypes)))
    pointer, cast = ("u8*", "boolean") if dtype == "bool" else (f"{dtype}*", dtype)
    kinds = {"T*": pointer, "T": dtype}
    pairs = tuple((p, kinds.get(t, t)) for p, t in (item.split(":") for item in params.split()))
    head = f"def {name}_{dtype}({', '.join(p for p, _ in pairs)}):"
    body = source.rstrip().replace("T(", f"{cast}(")
    return Kernel(f"{name}_{dtype}", pairs, head + body + "\n")
