"""What the programs of a `Compiled` share: the arrays of parameters, buffers and optimizer state, by name."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .runtime.program import aligned_array
from .tracer.module import Buffer, Module, Parameter
from .tracer.trace import Traced


class Store(dict[str, np.ndarray]):
    """Programs read these arrays and write their updates into them; parameters and buffers of the user's are views.

    A model's parameters are known from the start, those that a function or a loss closes over once it has been traced.
    `parameters` are those that can be trained: a model's own, or all that a function reads.
    """

    def __init__(self, model: Module | None) -> None:
        super().__init__()
        self.model = model
        self.parameters: list[tuple[str, Parameter]] = []  # walking the model in every step would cost 0.1 ms
        self.names: dict[int, str] = {}  # of parameters and buffers, by id
        self._holders: list[Parameter | Buffer] = []  # kept, so that their ids stay theirs
        self._others: list[Module] = []  # modules that ran and are no part of the model
        if model is not None:
            self.parameters = model.named_parameters()
            self._adopt(dict([*self.parameters, *model.named_buffers()]))

    def _adopt(self, holders: Mapping[str, Parameter | Buffer]) -> None:
        """Moves parameters and buffers in; their own arrays become views of it."""
        for name, holder in holders.items():
            if id(holder) in self.names:
                continue
            if not holder.is_bound:  # else another Compiled has moved it: its memory is shared
                holder._bind(aligned_array(holder.array.shape, holder.array.dtype))
            self[name] = holder.array
            self.names[id(holder)] = name
            self._holders.append(holder)
            if self.model is None and isinstance(holder, Parameter):
                self.parameters.append((name, holder))

    def note(self, traced: Traced) -> None:
        """What a trace has read and run that was not known before."""
        self._adopt({**traced.parameters, **traced.buffers})
        self._others += [m for m in traced.strangers if all(m is not o for o in self._others)]

    def add(self, name: str, initial: np.ndarray) -> None:
        """An array of the optimizer's, where there is none yet."""
        if name not in self:
            self[name] = aligned_array(initial.shape, initial.dtype)
            self[name][...] = initial

    def trainable(self) -> tuple[str, ...]:
        """The names of all parameters that require a gradient, as of now."""
        return tuple(name for name, p in self.parameters if p.requires_grad)

    def modes(self) -> tuple[bool, ...]:
        """Whether each module that is no part of the model is in training mode, as of now."""
        return tuple(m.training for m in self._others)
