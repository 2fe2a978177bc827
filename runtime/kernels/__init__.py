"""Kernels written by hand, as templates over the dtype.

A family is a function dtype -> `Kernel` and a function `Part` -> argument words, side by side in one file.
"""

from __future__ import annotations

from collections.abc import Callable

from ..call import Part
from ..kernel import Kernel
from .attention import attention, attention_grad, attention_words
from .cached import cached_attention, cached_attention_words
from .check import check, check_words
from .combine import combine, combine_words
from .conv import conv, conv_words
from .cumulative import cummax, cummin, cumsum, linear_scan, running_words
from .dynamic import dynamic_read, dynamic_words, dynamic_write
from .gather import (
    along_words,
    bounded,
    bounded_words,
    gather,
    gather_along,
    last_index,
    last_index_words,
    rows_words,
    scatter_add,
    scatter_add_along,
)
from .gemm import gemm, gemm_words
from .sort import bottom, sort, sort_descending, sort_words, top, top_words
from .thin import thin_gemm, thin_gemm_words

FAMILIES: dict[str, tuple[Callable[[str], Kernel], Callable[[Part], list[int]]]] = {
    "attention": (attention, attention_words),
    "attention_grad": (attention_grad, attention_words),
    "bottom": (bottom, top_words),
    "bounded": (bounded, bounded_words),
    "cached_attention": (cached_attention, cached_attention_words),
    "check": (check, check_words),
    "combine": (combine, combine_words),
    "conv": (conv, conv_words),
    "cummax": (cummax, running_words),
    "cummin": (cummin, running_words),
    "cumsum": (cumsum, running_words),
    "dynamic_read": (dynamic_read, dynamic_words),
    "dynamic_write": (dynamic_write, dynamic_words),
    "gather": (gather, rows_words),
    "gather_along": (gather_along, along_words),
    "gemm": (gemm, gemm_words),
    "last_index": (last_index, last_index_words),
    "linear_scan": (linear_scan, running_words),
    "scatter_add": (scatter_add, rows_words),
    "scatter_add_along": (scatter_add_along, along_words),
    "sort": (sort, sort_words),
    "sort_descending": (sort_descending, sort_words),
    "thin_gemm": (thin_gemm, thin_gemm_words),
    "top": (top, top_words),
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
