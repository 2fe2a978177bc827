"""How many slices a batch is cut into: by the size of a slice, or by the memory that a program may take.

Memory is that of the arena, which binding lays out from numbers alone, so that trying a number of slices takes
milliseconds and compiles nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .ir.graph import Graph
from .ir.tape import Tape
from .runtime.bind import plan


class MemoryBudgetError(ValueError):
    """A program that needs more memory than it may take, even with the batch cut as small as it goes."""


@dataclass(frozen=True)
class Limits:
    """What the user allows. memory_budget: bytes of the arena, that is activations, temporaries and gradients
    (parameters and optimizer state are the store's); microbatch: elements of the batch in a slice. False without any.
    """

    memory_budget: int | None = None
    microbatch: int | None = None

    def __post_init__(self) -> None:
        for name, value in (("memory_budget", self.memory_budget), ("microbatch", self.microbatch)):
            if value is not None and (not isinstance(value, int) or value < 1):
                raise ValueError(f"{name} is a whole number from 1, not {value!r}")

    def __bool__(self) -> bool:
        return self.memory_budget is not None or self.microbatch is not None


def batch_of(graph: Graph) -> tuple[list[str], int]:
    """The inputs that hold the batch along their first axis, and its size: those that agree with the first one.

    Raises ValueError where there is no such axis, or its size is not a number.
    """
    shapes = {v.name: v.type.shape for v in graph.with_role("input") if v.type.ndim}
    if not shapes:
        raise ValueError("memory_budget and microbatch cut a batch into slices, and no input has an axis for one")
    size = next(iter(shapes.values()))[0]
    if not isinstance(size, int):
        first = next(iter(shapes))
        raise ValueError(
            f"memory_budget and microbatch need the size of the batch as a number, not {size} (axis 0 of {first}); "
            f"write gt.spec((32, ...)) or call the program with arrays"
        )
    return [name for name, shape in shapes.items() if shape[0] is size or shape[0] == size], size


def sliced(graph: Graph, checks: Sequence[str], threads: int, limits: Limits) -> tuple[Graph, int]:
    """`graph`, expanded, over as few equal slices of its batch as keep the limits, and how many these are.

    Raises MemoryBudgetError, and MicrobatchError where the elements of the batch depend on each other.
    """
    from .passes.lower import lower  # a start from the cache needs none of these
    from .passes.microbatch import microbatch
    from .passes.simplify import simplify

    names, size = batch_of(graph)
    budget, most = limits.memory_budget, limits.microbatch or size
    counts = [n for n in range(1, size + 1) if size % n == 0 and size // n <= most]
    if budget is None:
        return simplify(microbatch(graph, names, counts[0])), counts[0]

    def tried(slices: int) -> tuple[Graph, int]:
        found = simplify(microbatch(graph, names, slices))
        return found, arena_bytes(lower(found, checks), threads)

    low, high = 0, len(counts) - 1  # the first of the counts that fits is among these
    found, whole = tried(counts[low])
    if whole <= budget:
        return found, counts[low]
    found, smallest = tried(counts[high])
    if smallest > budget:  # where gradients are most of it, fewer slices may still take less
        for slices in counts[1:-1]:
            found, needed = tried(slices)
            if needed <= budget:
                return found, slices
        raise MemoryBudgetError(
            f"memory_budget is {_shown(budget)}; the program needs {_shown(whole)} for slices of {size // counts[low]} "
            f"and {_shown(smallest)} for slices of {size // counts[high]}"
        )
    best = found, counts[high]
    while high - low > 1:  # memory falls with the number of slices
        middle = (low + high) // 2
        found, needed = tried(counts[middle])
        if needed <= budget:
            high, best = middle, (found, counts[middle])
        else:
            low = middle
    return best


def arena_bytes(tape: Tape, threads: int) -> int:
    """Bytes of the arena of a tape whose sizes are all numbers. Raises ValueError where they are not."""
    if tape.symbols:
        raise ValueError(
            f"memory_budget needs every size as a number; {', '.join(tape.symbols)} is not; "
            "write gt.spec((32, 64)) or call the program with arrays"
        )
    return plan(tape, {}, threads).arena_bytes


def _shown(size: int) -> str:
    return f"{size / 1e6:.3f} MB"
