"""Kernels written by hand, as templates over the dtype: each function returns a `Kernel`."""

from __future__ import annotations

from ..kernel import Kernel
from .check import check
from .combine import combine
from .gather import bounded, gather, scatter_add
from .gemm import gemm

FAMILIES = {
    "bounded": bounded,
    "check": check,
    "combine": combine,
    "gather": gather,
    "gemm": gemm,
    "scatter_add": scatter_add,
}


def kernel_named(name: str) -> Kernel:
    """The kernel that an instruction names, such as `gemm_f32`."""
    family, _, dtype = name.rpartition("_")
    if family not in FAMILIES:
        raise KeyError(f"no kernel family {family!r}; there are {', '.join(FAMILIES)}")
    return FAMILIES[family](dtype)
