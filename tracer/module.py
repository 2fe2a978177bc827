"""Module, Parameter and buffer: what a model is made of. Modules are plain objects: their parameters are
found by walking attributes, lists, tuples and dicts, so that no constructor has to be called and no container
is special."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, NoReturn

import numpy as np

from ..ir.build import Ref, at_line
from ..ir.foreign import objection
from ..ir.location import Location, user_location
from ..ir.types import TypeRuleError, dtype_name
from .changes import OfModules, is_setting, note_part, note_setting
from .mistakes import MODEL, method_advice
from .state import current_trace, no_gradient_kept

LAYERS = ("models/nn/", "models/init.py")
_assigned: OfModules[dict[str, Location]] = OfModules()  # where modules were last assigned
_overwritten: OfModules[list[Overwritten]] = OfModules()


class Overwritten(NamedTuple):
    """A module or parameter that the same line, run again, has replaced by another: only the last one is left."""

    name: str
    where: Location


class Stored(np.lib.mixins.NDArrayOperatorsMixin):
    """An array that belongs to a model. In model code it stands for itself: eagerly for its array, in a trace
    for the traced value. `data` is the writable array."""

    _array: np.ndarray
    created: Location | None  # the user's line, outside of the layers that this package ships
    is_bound: bool = False  # whether the memory is that of a store
    _write = ".data[...] = value"  # what changes its numbers
    in_trace: bool = False  # whether it was made while a program was traced: another one in every call

    def __init__(self, array: Any) -> None:
        kind = type(self).__name__
        if isinstance(array, Ref):
            raise TypeError(
                f"a {kind} is made of an array, not of the traced value {array.type}; "
                "create it in __init__ and compute from it in forward"
            )
        fact = None if type(array).__module__.split(".")[0] == "torch" else objection(array)
        if fact is not None:
            raise TypeError("\n".join([f"{kind}: {fact}", *at_line(user_location())]))
        own = np.array(array, copy=True)
        if own.dtype == np.float64 and not isinstance(array, (np.ndarray, np.generic, Stored)):
            own = own.astype(np.float32)
        try:
            dtype_name(own.dtype)
        except TypeRuleError as fact:
            raise TypeError("\n".join([f"{kind}: {fact}", *at_line(user_location())])) from None
        self._array = own
        self.created = user_location(LAYERS)
        trace = current_trace()
        self.in_trace = trace is not None
        if trace is not None:
            trace.stored_made(self, array)

    def _resolve(self) -> Any:
        trace = current_trace()
        return self._array if trace is None else trace.value_of(self)  # type: ignore[arg-type]

    def _bind(self, array: np.ndarray) -> None:
        """Makes `array` (a view of a store) the memory of this value, which moves there."""
        array[...] = self._array
        self._array, self.is_bound = array, True

    @property
    def array(self) -> np.ndarray:
        """The array itself, also inside a trace."""
        return self._array

    @property
    def data(self) -> np.ndarray:
        """The writable array. Inside a traced program the values leave it: no gradient flows through
        `data`."""
        trace = current_trace()
        return self._array if trace is None else trace.parameter_data(self)  # type: ignore[arg-type]

    @data.setter
    def data(self, array: Any) -> None:
        array = np.asarray(array)
        if array.shape != self.shape:
            raise ValueError(f"data of shape {array.shape} for a {type(self).__name__} of shape {self.shape}")
        self.data[...] = array

    @property
    def shape(self) -> tuple[int, ...]:
        return self._array.shape

    @property
    def dtype(self) -> np.dtype:
        return self._array.dtype

    @property
    def ndim(self) -> int:
        return self._array.ndim

    @property
    def size(self) -> int:
        return self._array.size

    def numpy(self) -> np.ndarray:
        """A copy of the array."""
        return np.array(self.data)

    # model code: everything else is the value's -----------------------------------------------------------------
    def __getattr__(self, name: str) -> Any:
        kind = type(self).__name__
        if name.startswith("_"):
            raise AttributeError(f"{kind} has no attribute {name}")
        if name in ("grad", "backward", "zero_grad", "retain_grad"):
            raise no_gradient_kept(f"a {kind}", name)
        value = self._resolve()
        if isinstance(value, Ref) or hasattr(value, name):
            return getattr(value, name)
        advice = method_advice(name, dir(value))
        raise AttributeError(f"a {kind} has no {name}" + (f"; write {advice}" if advice else ""))

    def __getitem__(self, key: Any) -> Any:
        return self._resolve()[key]

    def __setitem__(self, key: Any, value: Any) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} is not assigned to; write {self._write}")

    def __len__(self) -> int:
        return len(self._array)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._resolve())

    def __bool__(self) -> bool:
        return bool(self._resolve())

    def __float__(self) -> float:
        return float(self._resolve())

    def __int__(self) -> int:
        return int(self._resolve())

    def __format__(self, spec: str) -> str:
        value = self._resolve()
        return format(value[()] if isinstance(value, np.ndarray) and value.ndim == 0 else value, spec)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self._resolve(), dtype=dtype, copy=copy)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if any(isinstance(out, Stored) for out in kwargs.get("out") or ()):
            raise TypeError(f"a {type(self).__name__} is not changed in place; write {self._write}")
        return getattr(ufunc, method)(*(_plain(i) for i in inputs), **kwargs)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return func(*_plain(args), **_plain(kwargs))

    __hash__ = object.__hash__  # type: ignore[assignment]

    def __deepcopy__(self, memo: dict) -> Any:
        other: Any = object.__new__(type(self))
        memo[id(self)] = other
        vars(other).update(vars(self))
        other._array, other.is_bound = self._array.copy(), False
        return other


class Parameter(Stored):
    """A trainable array of a model.

    array: floats (a list becomes float32); copied. `requires_grad=False` keeps the optimizer away from it.
    Raises TypeError for integers that require a gradient, and for a traced value.
    """

    def __init__(self, array: Any, requires_grad: bool = True) -> None:
        super().__init__(array)
        self.requires_grad_(requires_grad)

    def requires_grad_(self, requires_grad: bool = True) -> Parameter:
        """Whether the optimizer moves it from now on; returns the parameter."""
        if requires_grad and self._array.dtype.kind != "f":
            raise TypeError(
                f"a Parameter of dtype {self._array.dtype} cannot have a gradient; "
                "write Parameter(array.astype('float32')), or gt.buffer(array) for what is not trained"
            )
        self.requires_grad = requires_grad
        return self

    def detach(self) -> Any:
        """PyTorch's name for `stop_gradient`."""
        from .elementwise import stop_gradient

        return stop_gradient(self)

    def __repr__(self) -> str:
        return f"Parameter(shape={self.shape}, dtype={self.dtype}{'' if self.requires_grad else ', frozen'})"


class Buffer(Stored):
    """An array of a model that is not trained: running statistics, masks, caches. Assigning to the attribute
    that holds it (`self.running_mean = ...`, `self.count += 1`) updates it: at once in eager mode, as an update of the
    program in a trace."""

    requires_grad = False

    _write = "self.name = new, as in self.count = self.count + 1"

    def __init__(self, array: Any, persistent: bool = True) -> None:
        super().__init__(array)
        self.persistent = persistent

    def __setitem__(self, key: Any, value: Any) -> NoReturn:
        raise TypeError(
            "a buffer is updated as a whole; in forward write self.name = gt.where(mask, new, self.name), "
            "outside of it .data[...] = value"
        )

    def _assign(self, value: Any) -> None:
        trace = current_trace()
        if trace is not None:
            trace.update(self, value)
            return
        new = np.asarray(value)
        try:
            new = np.broadcast_to(new, self.shape)
        except ValueError:
            raise ValueError(f"a value of shape {new.shape} for a buffer of shape {self.shape}") from None
        self._array[...] = new

    def __repr__(self) -> str:
        return f"buffer(shape={self.shape}, dtype={self.dtype})"


def _in_place(operation: Callable[[Any, Any], Any]) -> Callable[[Buffer, Any], Buffer]:
    def method(self: Buffer, other: Any) -> Buffer:
        self._assign(operation(self._resolve(), other))
        return self

    return method


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow"):
    setattr(Buffer, f"__i{_name}__", _in_place(getattr(operator, _name)))


def buffer(array: Any, persistent: bool = True) -> Any:
    """`self.running_mean = gt.buffer(np.zeros(n))`: state that is not trained. `persistent=False` keeps it
    out of the state_dict."""
    return Buffer(array, persistent)


def _plain(thing: Any) -> Any:
    """(Nested) arguments of a NumPy call with stored arrays replaced by what they stand for."""
    if isinstance(thing, Stored):
        return thing._resolve()
    if type(thing) in (list, tuple):
        return type(thing)(_plain(t) for t in thing)
    if type(thing) is dict:
        return {k: _plain(v) for k, v in thing.items()}
    return thing


class Module:
    """A part of a model. Subclasses assign parameters, buffers and modules to attributes (also in lists,
    tuples and dicts) and define `forward`. Calling `super().__init__()` is not needed."""

    training: bool = True

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no forward(self, ...)")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        trace = current_trace()
        if trace is None:
            return self.forward(*args, **kwargs)
        with trace.module_scope(self):
            return self.forward(*args, **kwargs)

    def __setattr__(self, name: str, value: Any) -> None:
        old = self.__dict__.get(name)
        if isinstance(old, Buffer) and value is not None and not isinstance(value, Buffer):
            old._assign(value)
            return
        if isinstance(old, Parameter) and value is not None and not isinstance(value, Parameter):
            raise TypeError(
                f"{type(self).__name__}.{name} is a Parameter and cannot be replaced by {type(value).__name__}; "
                f"write self.{name}.data[...] = value to change its numbers"
            )
        if isinstance(value, (Module, Parameter)):
            self._note_assignment(name, old)
        trace = current_trace()
        if trace is not None and any(isinstance(v, Ref) for _, v in _walk(value, "")):
            trace.attribute_stored(self, name, old)
        if not (is_setting(old) and is_setting(value)):
            note_part()
        elif name in self.__dict__ and name != "training":
            note_setting(self, name, old, value, trace is not None)
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        note_part()
        object.__delattr__(self, name)

    def __getattr__(self, name: str) -> NoReturn:
        """Methods of other libraries' modules: what they are here."""
        if hasattr(type(self), name):  # a property that failed: Python asks here next, and its own error says more
            object.__getattribute__(self, name)
        advice = f"; write {MODEL[name]}" if name in MODEL else ""
        raise AttributeError(f"{type(self).__name__} has no {name}{advice}")

    def _note_assignment(self, name: str, old: Any) -> None:
        where = user_location(LAYERS)
        before = _assigned.setdefault(self, {}).get(name)
        if where is not None:
            if isinstance(old, (Module, Parameter)) and before == where:
                _overwritten.setdefault(self, []).append(Overwritten(name, where))
            _assigned.setdefault(self, {})[name] = where

    def overwritten(self) -> list[tuple[str, Location]]:
        """(path, line) of every module and parameter that a loop has assigned over and over to the same attribute."""
        return [
            (f"{path}.{item.name}".lstrip("."), item.where)
            for path, module in self.named_modules()
            for item in _overwritten.get(module, [])
        ]

    # the walk ---------------------------------------------------------------------------------------------------------
    def _entries(self) -> Iterator[tuple[str, Any]]:
        """Every parameter, buffer and module below this one with its path, aliases too, in order of
        assignment."""
        yield from _below(self, "", [])

    def named_modules(self) -> list[tuple[str, Module]]:
        """(path, module), this one first with path "", each once."""
        found: dict[int, tuple[str, Module]] = {id(self): ("", self)}
        for path, item in self._entries():
            if isinstance(item, Module):
                found.setdefault(id(item), (path, item))
        return list(found.values())

    def modules(self) -> list[Module]:
        return [m for _, m in self.named_modules()]

    def named_parameters(self) -> list[tuple[str, Parameter]]:
        """(path, parameter); a tied parameter once, under its first path."""
        return _unique((p, x) for p, x in self._entries() if isinstance(x, Parameter))

    def parameters(self) -> list[Parameter]:
        """All parameters (a list, which can be walked more than once)."""
        return [p for _, p in self.named_parameters()]

    def named_buffers(self) -> list[tuple[str, Buffer]]:
        return _unique((p, x) for p, x in self._entries() if isinstance(x, Buffer))

    def buffers(self) -> list[Buffer]:
        return [b for _, b in self.named_buffers()]

    def aliases(self) -> dict[str, list[str]]:
        """All paths of every parameter that has more than one, by its first path."""
        paths: dict[int, list[str]] = {}
        for path, item in self._entries():
            if isinstance(item, Parameter):
                paths.setdefault(id(item), []).append(path)
        return {p[0]: p for p in paths.values() if len(p) > 1}

    def num_parameters(self, trainable_only: bool = False) -> int:
        """The number of numbers in all parameters, tied ones once."""
        return sum(p.size for p in self.parameters() if p.requires_grad or not trainable_only)

    # modes ------------------------------------------------------------------------------------------------------------
    def train(self, mode: bool = True) -> Any:
        """Training mode for this module and all below; returns the module."""
        for module in self.modules():
            object.__setattr__(module, "training", bool(mode))
        return self

    def eval(self) -> Any:
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Any:
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    # state ------------------------------------------------------------------------------------------------------------
    def _state(self) -> Iterator[tuple[str, Stored]]:
        for path, item in self._entries():
            if isinstance(item, Parameter) or (isinstance(item, Buffer) and item.persistent):
                yield path, item

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of all parameters and persistent buffers by path; a tied parameter under each of its
        paths."""
        return {path: item.array.copy() for path, item in self._state()}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> tuple[list[str], list[str]]:
        """Writes `state` into the parameters and buffers, in place.

        Returns the missing and the unexpected paths. A tied parameter needs one of its paths. With `strict`
        any missing or unexpected path, and always any wrong shape, raises ValueError with all that is wrong;
        then nothing is changed.
        """
        mine = dict(self._state())
        given = {id(mine[path]) for path in state if path in mine}
        missing = [path for path, item in mine.items() if id(item) not in given]
        unexpected = [path for path in state if path not in mine]
        arrays = {path: np.asarray(state[path]) for path in mine if path in state}
        wrong = [
            f"  shape       {path}: {mine[path].shape} here, {array.shape} given"
            for path, array in arrays.items()
            if array.shape != mine[path].shape
        ]
        wrong += [
            f"  dtype       {path}: {mine[path].dtype} here, {array.dtype} given"
            for path, array in arrays.items()
            if not np.can_cast(array.dtype, mine[path].dtype, "same_kind")
        ]
        first: dict[int, str] = {}
        for path, array in arrays.items():
            other = first.setdefault(id(mine[path]), path)
            if arrays[other].shape == array.shape and not np.array_equal(arrays[other], array, equal_nan=True):
                wrong.append(f"  tied        {other} and {path} are one parameter here, and differ in what is given")
        if strict:
            wrong += [f"  missing     {path}: {mine[path].dtype}{list(mine[path].shape)}" for path in missing]
            wrong += [f"  unexpected  {path}: {list(np.shape(state[path]))}" for path in unexpected]
        if wrong:
            raise ValueError(f"state does not fit {type(self).__name__}:\n" + "\n".join(wrong))
        for path, array in arrays.items():
            mine[path].array[...] = array
        return missing, unexpected

    # text -------------------------------------------------------------------------------------------------------------
    def extra_repr(self) -> str:
        """What stands in the brackets of the repr: sizes and options."""
        return ""

    def __repr__(self) -> str:
        extra = self.extra_repr()
        lines = [f"{type(self).__name__}({extra}"]
        for name, item in vars(self).items():
            for path, child in _walk(item, name):
                if isinstance(child, Module):
                    lines += [f"  ({path}): " + repr(child).replace("\n", "\n  ")]
                elif isinstance(child, Stored) and not extra:
                    lines += [f"  {path}: {child!r}"]
        return lines[0] + ")" if len(lines) == 1 else "\n".join(lines) + "\n)"


def _walk(item: Any, path: str) -> Iterator[tuple[str, Any]]:
    """`item`, or what lists, tuples and dicts in it hold, with paths."""
    if isinstance(item, dict):
        for key, value in item.items():
            yield from _walk(value, f"{path}.{key}")
    elif isinstance(item, (list, tuple)):
        for i, value in enumerate(item):
            yield from _walk(value, f"{path}.{i}")
    else:
        yield path, item


def _below(module: Module, prefix: str, above: list[Module]) -> Iterator[tuple[str, Any]]:
    """Everything below `module`. A module that contains itself is not entered again."""
    for name, value in vars(module).items():
        for path, item in _walk(value, f"{prefix}{name}"):
            if isinstance(item, Stored):
                yield path, item
            elif isinstance(item, Module) and not any(item is m for m in (*above, module)):
                yield path, item
                yield from _below(item, f"{path}.", [*above, module])


def _unique(entries: Iterator[tuple[str, Any]]) -> list[tuple[str, Any]]:
    found: dict[int, tuple[str, Any]] = {}
    for path, item in entries:
        found.setdefault(id(item), (path, item))
    return list(found.values())


def freeze(part: Module | Parameter | list[Module | Parameter] | tuple[Module | Parameter, ...]) -> Any:
    """Takes a module's parameters, one parameter, or those of a list out of training on purpose; returns it. No lint
    speaks of them. `module.requires_grad_(True)` takes it back; a compiled model notices both at its next step.

        gt.freeze(model.backbone)

    Raises TypeError for anything else: an array has no gradient anyhow.
    """
    for item in part if isinstance(part, (list, tuple)) else (part,):
        if not isinstance(item, (Module, Parameter)):
            raise TypeError(f"freeze takes a Module, a Parameter or a list of them, not {type(item).__name__}")
        item.requires_grad_(False)
    return part
