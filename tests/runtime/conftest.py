"""Running kernels in tests."""

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from gradtape.runtime import driver, jit
from gradtape.runtime.kernel import Kernel, argument_words
from gradtape.runtime.loader import Loaded, load

Run = Callable[..., None]


def compile_and_load(kernels: Sequence[Kernel]) -> Loaded:
    """All kernels and the driver in one library."""
    names = [kernel.name for kernel in kernels]
    return load(jit.compile_object(kernels), [*names, *driver.SYMBOLS])


def caller(kernels: Sequence[Kernel]) -> Run:
    """run(kernel, *args), where kernel is one of `kernels`, compiled together."""
    loaded = compile_and_load(kernels)

    def run(kernel: Kernel, *args: Any) -> None:
        words = argument_words(kernel, args)
        ctypes.CFUNCTYPE(None, ctypes.c_void_p)(loaded.address[kernel.name])(words.ctypes.data)

    return run


@pytest.fixture(scope="session")
def compiled() -> Callable[[Sequence[Kernel]], Run]:
    return caller


@pytest.fixture(scope="session")
def library() -> Callable[[Sequence[Kernel]], Loaded]:
    return compile_and_load


@pytest.fixture(scope="session")
def driver_code() -> Loaded:
    """The driver's functions alone."""
    return compile_and_load([])
