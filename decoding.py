"""Generation by a compiled model: one call of a tape for each new id."""

from __future__ import annotations

from threading import RLock
from typing import Any

import numpy as np

from .ir.dims import Dim
from .models.generation import set_up
from .programs import Programs, Variant
from .tracer.trace import spec


class Decoder:
    """Steps of generation: (ids (B, T), how many there were before) -> logits (B, V) of the last of them, float.

    Two programs share the model's buffers: `prefill` takes ids (B, T) of any T <= context that begin a sequence, and
    `decode` takes ids (B, 1) and their position, an integer of run time, so that it serves all positions.
    """

    def __init__(self, programs: Programs, batch: int, context: int, lock: RLock) -> None:
        self.programs, self.batch, self.context, self.lock = programs, batch, context, lock
        set_up(programs.target, batch)
        self.decode = self.program("decode", spec((batch, 1), "i64"), spec((), "i64"))
        self.prefill: Variant | None = None  # of use to prompts of more than one id only

    def program(self, entry: str, *inputs: Any) -> Variant:
        with self.lock:
            return self.programs.variant(entry, False, inputs)[0]

    def prepare(self) -> Variant:
        """The program for prompts, made where there is none yet."""
        if self.prefill is None:
            self.prefill = self.program("prefill", spec((self.batch, Dim("T", max=self.context)), "i64"))
        return self.prefill

    def __call__(self, ids: np.ndarray, position: int) -> np.ndarray:
        variant, inputs = self.decode, (ids, position)
        if ids.shape[1] > 1:
            if position:
                raise ValueError(f"{ids.shape[1]} ids at position {position}: behind others they come one by one")
            variant, inputs = self.prepare(), (ids,)
        with self.lock:
            if position == 0:
                self.programs.generating[self.batch] = self
            elif self.programs.generating.get(self.batch) is not self:
                raise RuntimeError(
                    f"another text of a batch of {self.batch} has begun since: the model has room for one at a time; "
                    "let it end first"
                )
            out = variant.program.run(dict(zip(variant.names, inputs, strict=True)))
        return next(iter(out.values()))
