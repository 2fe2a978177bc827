"""What the programs of a `Compiled` share: the arrays of parameters, buffers and optimizer state, by name."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from .runtime.program import aligned_array
from .tracer.changes import containers, parts_replaced, same_contents, settings
from .tracer.module import Buffer, Module, Parameter
from .tracer.trace import Traced

MANY = 8  # values of one setting from which on it is taken for a schedule


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
        self._values: dict[tuple[int, str], set[str]] = {}  # that a setting has had
        self._generation = 0  # how often parts of the model were replaced
        self._look()
        self._seen_parts = parts_replaced()
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
        others = [m for m in traced.strangers if all(m is not o for o in self._others)]
        if others:
            self._others += others
            self._look()

    def add(self, name: str, initial: np.ndarray) -> None:
        """An array of the optimizer's, where there is none yet."""
        if name not in self:
            self[name] = aligned_array(initial.shape, initial.dtype)
            self[name][...] = initial

    def trainable(self) -> tuple[str, ...]:
        """The names of all parameters that require a gradient, as of now."""
        return tuple(name for name, p in self.parameters if p.requires_grad)

    def read_by_python(self, derived: bool) -> tuple[Any, ...]:
        """What decides, as of now, whether a program is still that of the user's objects: which parameters require a
        gradient (for programs that are `derived`), the modes of modules that are no part of the model, the settings of
        all, and how often parts have been replaced."""
        self._refresh()
        changed = settings(self._ids)
        for module, name, value in changed:
            self._warn_of_a_schedule(module, name, value)
        modes = tuple(m.training for m in self._others)
        return self.trainable() if derived else (), modes, changed, self._generation

    def _refresh(self) -> None:
        """Takes up what has been put in the place of parameters, buffers and modules: programs that are traced from now
        on read it. The optimizer's state of what is gone goes too."""
        if self._seen_parts == parts_replaced() and same_contents(self._lists):
            return
        self._seen_parts = parts_replaced()
        before, now = self._parts, self._look()
        if before.keys() == now.keys() and all(holder is now[path] for path, holder in before.items()):
            return
        self._generation += 1
        gone = {id(holder) for holder in before.values()} - {id(holder) for holder in now.values()}
        named = dict([*self.model.named_parameters(), *self.model.named_buffers()]) if self.model is not None else {}
        self._rename(gone, {id(holder): path for path, holder in named.items()})
        if self.model is not None:
            self.parameters = self.model.named_parameters()
        self._adopt(named)

    def _rename(self, gone: set[int], paths: Mapping[int, str]) -> None:
        """Takes out what is `gone` (by id), and gives the rest, also the optimizer's arrays, the names in `paths`."""
        names = {old: None if key in gone else paths.get(key, old) for key, old in self.names.items()}
        kept: dict[str, np.ndarray] = {}
        for key, array in self.items():
            prefix, old = key.split(".", 2)[:2], key.split(".", 2)[-1]
            if key not in names and prefix[0] == "optimizer":
                if names.get(old) is not None:
                    kept[f"optimizer.{prefix[1]}.{names[old]}"] = array
            elif names.get(key) is not None:
                kept[names[key]] = array  # type: ignore[index]
        self.clear()
        self.update(kept)
        self.names = {key: new for key, old in self.names.items() if (new := names[old]) is not None}
        self._holders = [h for h in self._holders if id(h) in self.names]
        self.parameters = [(self.names[id(p)], p) for _, p in self.parameters if id(p) in self.names]

    def _look(self) -> dict[tuple[int, str], Parameter | Buffer]:
        """Every part of the model and of other modules that ran, by the module that was walked and its path."""
        roots = [*([self.model] if self.model is not None else ()), *self._others]
        modules = list({id(m): m for root in roots for m in root.modules()}.values())
        self._ids, self._lists = {id(m) for m in modules}, containers(modules)
        self._parts = {
            (id(m), path): x for m in roots for path, x in m._entries() if isinstance(x, (Parameter, Buffer))
        }
        return self._parts

    def _warn_of_a_schedule(self, module: int, name: str, value: str) -> None:
        """A number that changes from step to step would be a program for every step."""
        values = self._values.setdefault((module, name), set())
        values.add(value)
        if len(values) == MANY:
            warnings.warn(
                f"{name} has had {MANY} values since this was compiled, and each is traced and compiled anew\n"
                f"  write {name} as an argument of the step, or self.{name} = gt.buffer(...), whose numbers may change",
                stacklevel=6,
            )

    def buffers(self) -> list[np.ndarray]:
        """The arrays that forward itself may write: running statistics, caches."""
        return [h.array for h in self._holders if isinstance(h, Buffer)]
