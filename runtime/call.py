"""An instruction with numbers, and one thread's part of it: what the argument words of a kernel are made from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Union

from ..ir.tape import Callback, Instr

Share = tuple[int, int]  # first index and count along the split axis


@dataclass(frozen=True)
class Slot:
    """An operand with numbers: first element, strides, and its extent over an instruction's axes. `rounds` says by how
    many elements it moves on with every round of the loops around it."""

    buffer: int
    offset: int
    strides: tuple[int, ...]
    mode: str
    rounds: tuple[tuple[str, int], ...] = ()

    def hull(self, starts: Sequence[int], sizes: Sequence[int]) -> tuple[int, int]:
        """First and last element that may be touched."""
        low = high = self.offset
        for stride, start, size in zip(self.strides, starts, sizes, strict=True):
            a, b = stride * start, stride * (start + max(size, 1) - 1)
            low, high = low + min(a, b), high + max(a, b)
        return low, high


@dataclass
class Call:
    """An instruction with numbers: `shares` per thread (None: the thread takes no part) along axis `split`."""

    instr: Instr
    axes: tuple[int, ...]
    slots: tuple[Slot, ...]
    params: tuple[float, ...]
    split: int
    shares: list[Share | None]
    barrier: bool = False
    parts: int = 1

    def part(self, thread: int) -> tuple[list[int], list[int]]:
        """Start and size per axis of a thread's share."""
        starts, sizes = [0] * len(self.axes), list(self.axes)
        share = self.shares[thread]
        if share is not None and self.split >= 0:
            starts[self.split], sizes[self.split] = share
        return starts, sizes


@dataclass(frozen=True)
class Pause:
    """A callback with numbers: every thread has ended its run when Python does its part; a new run goes on after it."""

    step: Callback
    slots: tuple[Slot, ...]


@dataclass(frozen=True)
class Open:
    """A loop begins: `count` rounds of what stands before the next Close of the same depth."""

    index: str
    count: int


@dataclass(frozen=True)
class Close:
    """A loop ends."""


Entry = Union[Call, Pause, Open, Close, None]  # what a plan consists of; None is a StopIf


@dataclass(frozen=True)
class Addresses:
    """Where things are: byte addresses of buffers, of kernels, and of the BLAS routines; and whether products may run
    in register tiles, which want vectors of 512 bits."""

    buffer: Callable[[int, int], int]  # (buffer, thread) -> address of its first element for that thread
    kernel: Mapping[str, int]
    blas: Mapping[str, int]
    tiles: bool


@dataclass(frozen=True)
class Part:
    """One thread's part of a call: the address of each operand's first element, and starts and sizes over the axes."""

    call: Call
    pointers: list[int]
    starts: Sequence[int]
    sizes: Sequence[int]
    at: Addresses
