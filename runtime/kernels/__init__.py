"""Kernels written by hand, as templates over the dtype.

A family is a function dtype -> `Kernel` and a function `Part` -> argument words, side by side in one file.
"""

from __future__ import annotations

from collections.abc import Callable

from ..call import Part
from ..kernel import Kernel
from .check import check, check_words
from .combine import combine, combine_words
from .conv import conv, conv_words
from .gather import bounded, bounded_words, gather, gather_words, scatter_add, scatter_add_words
from .gemm import gemm, gemm_words
from .triangular import triangular_gemm, triangular_gemm_words

FAMILIES: dict[str, tuple[Callable[[str], Kernel], Callable[[Part], list[int]]]] = {
    "bounded": (bounded, bounded_words),
    "check": (check, check_words),
    "combine": (combine, combine_words),
    "conv": (conv, conv_words),
    "gather": (gather, gather_words),
    "gemm": (gemm, gemm_words),
    "scatter_add": (scatter_add, scatter_add_words),
    "triangular_gemm": (triangular_gemm, triangular_gemm_words),
}


def kernel_named(name: str) -> Kernel:
    """The kernel that an instruction names, such as `gemm_f32`."""
    family, _, dtype = name.rpartition("_")
    return _family(family)[0](dtype)


def words_of(name: str) -> Callable[[Part], list[int]]:
    """What writes the argument words of the kernel that an instruction names."""
    return _family(name.rpartition("_")[0])[1]


def _family(family: str) -> tuple[Callable[[str], Kernel], Callable[[Part], list[int]]]:
    if family not in FAMILIES:
        raise KeyError(f"no kernel family {family!r}; there are {', '.join(FAMILIES)}")
    return FAMILIES[family]
