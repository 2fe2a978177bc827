"""The BLAS library: an OpenBLAS of our own, single-threaded, called from kernels through its address."""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path


@cache
def library() -> ctypes.CDLL:
    """The loaded library with its own threads off: the step's threads call it side by side.

    The instance is apart from NumPy's, whose thread count stays. ImportError if it is not installed.
    """
    try:
        import scipy_openblas32
    except ImportError as error:
        raise ImportError("gradtape needs BLAS from scipy-openblas32: pip install scipy-openblas32") from error
    path = Path(scipy_openblas32.get_lib_dir()) / scipy_openblas32.get_library(fullname=True)
    blas = ctypes.CDLL(str(path))
    blas.scipy_openblas_set_num_threads.argtypes = [ctypes.c_int]
    blas.scipy_openblas_set_num_threads(1)
    return blas


@cache
def address(routine: str) -> int:
    """The address of cblas `routine` ("sgemm", "dgemm"): 32-bit integers, row-major or column-major."""
    function = getattr(library(), f"scipy_cblas_{routine}")
    value = ctypes.cast(function, ctypes.c_void_p).value
    assert value is not None
    return value


@cache
def core_type() -> str:
    """The CPU family that the library chose ("SkylakeX"); results are bit-identical only within one."""
    corename = library().scipy_openblas_get_corename
    corename.restype = ctypes.c_char_p
    return corename().decode()


@cache
def version() -> str:
    """The library's build string ("OpenBLAS 0.3.x ...")."""
    config = library().scipy_openblas_get_config
    config.restype = ctypes.c_char_p
    return config().decode().strip()
