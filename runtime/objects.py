"""Kernels -> object code, through the cache: only what is found nowhere is compiled, and only that imports Numba."""

from __future__ import annotations

from collections.abc import Sequence

from . import driver
from .cache import Cache
from .ingredients import kernel_ingredients
from .kernel import Kernel

_known: dict[Kernel, bytes] = {}  # what this process has compiled or read


def objects_of(kernels: Sequence[Kernel], cache: Cache | None = None) -> tuple[bytes, ...]:
    """One relocatable object for each kernel, and for the driver. ImportError where Numba is needed and not there."""
    return tuple(_object(kernel, cache) for kernel in [*kernels, *driver.KERNELS])


def _object(kernel: Kernel, cache: Cache | None) -> bytes:
    if kernel in _known:
        return _known[kernel]
    ingredients = kernel_ingredients(kernel) if cache is not None else {}
    found = None if cache is None else cache.get("kernel", ingredients)[0]
    if found is not None and "object" in found[1]:
        _known[kernel] = found[1]["object"]
        return _known[kernel]
    try:
        from .jit import kernel_object
    except ImportError as error:
        raise ImportError(f"compiling a program needs Numba: pip install numba ({error})") from error
    _known[kernel] = kernel_object(kernel)
    if cache is not None:
        cache.put("kernel", ingredients, {"name": kernel.name}, {"object": _known[kernel]})
    return _known[kernel]
