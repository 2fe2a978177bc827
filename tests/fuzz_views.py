"""Views of the values of a random program: cut, turned, repeated, put together."""

from __future__ import annotations

from typing import Any

import numpy as np

from fuzz_pool import FLOATS, Known, Pool
from gradtape.ir.dims import Dim
from gradtape.ir.types import is_one


class Views(Pool):
    """Reshape, permute, slice, broadcast, concat and unslice, with attributes that follow from the shape at hand."""

    def view(self) -> Any:
        x = self.pick(("f32", "f64") if self.chance(0.8) else ("f32", "f64", "i32", "i64", "bool"))
        if x is None:
            return None
        name = self.choose("reshape reshape permute permute slice slice broadcast_to concat unslice".split())
        if name == "reshape":
            known = all(isinstance(d, int) for d in x.shape)
            shape = self.refactored(x.value.size) if known and self.chance(0.5) else self.merged(x.shape)
            return self.emit("reshape", x, shape=shape)
        if name == "permute":
            return self.emit("permute", x, axes=tuple(int(a) for a in self.rng.permutation(x.rank)))
        if name == "broadcast_to":
            extra = [self.choose(self.dims), int(self.rng.integers(1, 4))]
            front = tuple(self.choose(extra) for _ in range(int(self.rng.integers(0, 2))))
            back = tuple(self.choose([1, *extra]) if is_one(d) else d for d in x.shape)
            return self.emit("broadcast_to", x, shape=front + back) if self.count(front + back) < 4096 else None
        if name == "concat":
            axis = int(self.rng.integers(x.rank)) if x.rank else 0
            y = self.pick({x.dtype}, lambda k: k.rank == x.rank and all(
                i == axis or str(a) == str(b) for i, (a, b) in enumerate(zip(k.shape, x.shape, strict=True))
            ))  # fmt: skip
            return self.emit("concat", *self.choose([(x, y), (y, x), (x, x), (x, y, x)]), axis=axis)
        if name == "slice":
            cuts = [self.cut(d) for d in x.shape]
            start, size, step = zip(*cuts, strict=True) if cuts else ((), (), ())
            return self.emit("slice", x, start=start, size=size, step=step)
        places = [self.spread(d) for d in x.shape]
        shape, start, step = zip(*places, strict=True) if places else ((), (), ())
        return self.emit("unslice", x, shape=shape, start=start, step=step)

    def cut(self, d: Any) -> tuple[Any, Any, int]:
        """(start, size, step) of some elements of an axis."""
        if isinstance(d, Dim):
            return self.choose([(0, d, 1), (0, d, 1), (d - 1, d, -1), (1, d - 1, 1), (0, 1, 1), (d - 1, 1, 1)])
        n = int(self.rng.integers(0 if self.chance(0.05) else min(1, d), d + 1)) if d else 0
        n = d if self.chance(0.4) else n
        step = int(self.rng.choice([1, 1, 2, 3, -1, -2]))
        span = (n - 1) * abs(step) + 1 if n else 0
        if span > d:
            step, span = (1 if step > 0 else -1), n
        first = int(self.rng.integers(0, d - span + 1))
        return first + (span - 1 if step < 0 and n else 0), n, step

    def spread(self, d: Any) -> tuple[Any, Any, int]:
        """(size, start, step) of an axis on which the elements of one of size d stand."""
        before, after = (int(n) for n in self.rng.integers(0, 3, 2))
        if isinstance(d, Dim):
            return self.choose([(d, 0, 1), (d + before + after, before, 1), (2 * d, 0, 2), (d + after, d - 1, -1)])
        step = int(self.rng.choice([1, 1, 2, -1, -2]))
        span = (d - 1) * abs(step) + 1 if d else 0
        return before + span + after, before + (span - 1 if step < 0 and d else 0), step

    def refactored(self, size: int) -> tuple[int, ...]:
        """A shape of `size` elements."""
        if size == 0:
            return self.choose([(0,), (0, 3), (2, 0, 1)])
        shape, rest = [], size
        while rest > 1 and len(shape) < 4:
            factor = self.choose([f for f in range(2, rest + 1) if rest % f == 0])
            shape.append(factor)
            rest //= factor
        if rest > 1:
            shape.append(rest)
        if self.chance(0.3):
            shape.insert(int(self.rng.integers(len(shape) + 1)), 1)
        self.rng.shuffle(shape)
        return tuple(int(s) for s in shape)

    def merged(self, shape: tuple[Any, ...]) -> tuple[Any, ...]:
        """The shape with neighbouring axes as one, or one axis split in two: often still a view."""
        if len(shape) > 1 and self.chance(0.6):
            i = int(self.rng.integers(len(shape) - 1))
            return (*shape[:i], shape[i] * shape[i + 1], *shape[i + 2 :])
        for i in self.rng.permutation(len(shape)):
            if isinstance(shape[i], int) and shape[i] % 2 == 0 and shape[i] > 2:
                return (*shape[:i], 2, shape[i] // 2, *shape[i + 1 :])
        place = int(self.rng.integers(len(shape) + 1))
        return (*shape[:place], 1, *shape[place:])

    # into a given shape -----------------------------------------------------------------------------------------------
    def brought(self, dtype: str, shape: tuple[int, ...], low: float, high: float) -> Known | None:
        """A value of exactly that type, inside the span: cut out of one that there is, or a new input."""
        near = self.choose([FLOATS, (dtype,)]) if dtype in FLOATS else (dtype,)
        x = self.pick(near, lambda k: all(isinstance(d, int) for d in k.shape)) if self.chance(0.75) else None
        if x is not None and x.dtype != dtype:
            x = self.emit("cast", x, dtype=dtype)
        x = x and self.fitted(x, shape)
        x = x and self.within(x, low, high)
        if x is None:
            role = "param" if dtype in FLOATS and self.chance(0.5) else "input"
            return self.input(role, dtype, shape, (low, high))
        return x

    def fitted(self, x: Known, shape: tuple[int, ...]) -> Known | None:
        """x with axes turned, cut and repeated so that it has a shape; None where it has too little."""
        if x.value.size == int(np.prod(shape)):
            return self.emit("reshape", x, shape=shape) if x.value.shape != shape else x
        y: Known | None = x
        if x.rank > len(shape):
            rest = x.rank - len(shape)
            y = self.emit(
                "reshape", x, shape=(int(np.prod(x.shape[: rest + 1])), *x.shape[rest + 1 :]) if shape else ()
            )
        elif x.rank < len(shape):
            y = self.emit("reshape", x, shape=(1,) * (len(shape) - x.rank) + x.shape)
        if y is not None and self.chance(0.5):
            y = self.emit("permute", y, axes=tuple(int(a) for a in self.rng.permutation(len(shape))))
        if y is None or any(have < n and have != 1 for have, n in zip(y.value.shape, shape, strict=True)):
            return None
        sizes = tuple(min(have, n) for have, n in zip(y.value.shape, shape, strict=True))
        if sizes != y.value.shape:
            start = tuple(int(self.rng.integers(0, h - n + 1)) for h, n in zip(y.value.shape, sizes, strict=True))
            y = self.emit("slice", y, start=start, size=sizes, step=(1,) * len(sizes))
        return self.emit("broadcast_to", y, shape=shape) if y is not None and sizes != shape else y
