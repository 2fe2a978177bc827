"""How fast this machine is at its best: arithmetic by a large matrix product, memory by a streaming copy."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

import numpy as np

from ..ir.types import DTYPES
from . import blas

SIZE = 1024  # of the square matrices: 2.1 GFLOP a product
COPIED = 1 << 26  # bytes read, and as many written: far beyond what is one core's own
TRIES = 5


@dataclass(frozen=True)
class Peak:
    """Operations a second of `threads` threads in products of float32 and float64, and bytes a second, read and
    written, of a copy that does not fit a cache."""

    threads: int
    f32: float
    f64: float
    bandwidth: float

    def rate(self, dtype: str) -> float:
        """Operations a second at this dtype."""
        return self.f64 if dtype == "f64" else self.f32

    def bound(self, flops: float, traffic: float, dtype: str = "f32") -> float:
        """The least thread-seconds for so much work, were it shared by all threads: the roofline."""
        return self.threads * max(flops / self.rate(dtype), traffic / self.bandwidth)

    def memory_bound(self, flops: float, traffic: float) -> bool:
        """Whether memory is what so much work in float32 waits for, rather than arithmetic."""
        return traffic / self.bandwidth > flops / self.f32


@cache
def peak(threads: int) -> Peak:
    """Measured once in a process; takes about half a second and 128 MiB."""
    with ThreadPoolExecutor(threads) as pool:
        products = {d: _products_per_second(pool, threads, d) for d in ("f32", "f64")}
        return Peak(threads, products["f32"], products["f64"], _bytes_per_second(pool, threads))


def _per_second(pool: ThreadPoolExecutor, threads: int, work: Callable[[int], None], amount: float) -> float:
    """`amount` a second, done by work(0) ... work(threads - 1) each, side by side: the best of some tries. By the CPU
    time of each thread, so that other processes which take a CPU away do not count."""

    def timed(thread: int) -> float:
        start = time.thread_time()
        work(thread)
        return time.thread_time() - start

    tries = [list(pool.map(timed, range(threads))) for _ in range(TRIES)]
    return sum(amount / min(seconds) for seconds in zip(*tries, strict=True))


def _products_per_second(pool: ThreadPoolExecutor, threads: int, dtype: str) -> float:
    routine, real = ("sgemm", ctypes.c_float) if dtype == "f32" else ("dgemm", ctypes.c_double)
    size, pointer = ctypes.c_int, ctypes.c_void_p
    types = [size] * 6 + [real, pointer, size, pointer, size, real, pointer, size]
    product = ctypes.CFUNCTYPE(None, *types)(blas.address(routine))
    kind = DTYPES[dtype]
    generator = np.random.default_rng(0)
    a, b = (generator.standard_normal((SIZE, SIZE)).astype(kind) for _ in "ab")
    out = [np.zeros_like(a) for _ in range(threads)]

    def work(thread: int) -> None:
        n = SIZE  # 101: row by row, 111: not transposed
        product(101, 111, 111, n, n, n, 1, a.ctypes.data, n, b.ctypes.data, n, 0, out[thread].ctypes.data, n)

    return _per_second(pool, threads, work, 2 * SIZE**3)


def _bytes_per_second(pool: ThreadPoolExecutor, threads: int) -> float:
    source, target = (np.ones(COPIED, np.uint8) for _ in "st")
    edges = [COPIED * t // threads for t in range(threads + 1)]

    def work(thread: int) -> None:
        part = slice(edges[thread], edges[thread + 1])
        np.copyto(target[part], source[part])

    return _per_second(pool, threads, work, 2 * COPIED / threads)
