"""What a program is traced from: a model or function, with its loss, seen from one of its entries, and its arguments.

An entry is `step`, `value_and_grad` or `evaluate` (the loss of `(*inputs, target)`), `forward` (the output), or
`prefill` and `decode` (the last logits of a model that generates, at position 0 and at one of run time).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .ir.foreign import objection
from .ir.graph import Graph, Operand
from .ir.location import scope
from .ir.types import DTYPES, dtype_name, shown
from .tracer.module import Module
from .tracer.structure import rebuild
from .tracer.trace import Spec, spec, trace

READY = frozenset(DTYPES.values())  # of arrays that programs take as they are
FORWARD = ("forward", "prefill", "decode")  # the entries that ask for no loss


class objective:  # noqa: N801  (used like a function: loss=gt.objective(f))
    """Marks a loss that takes the model itself: `f(model, *batch) -> scalar`, for several inputs, masks, a VAE."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function


def check_target(target: Any, loss: Any) -> None:
    """Raises TypeError for what cannot be compiled, or is no loss."""
    if isinstance(target, type):
        raise TypeError(
            f"compile takes a model, not the class {target.__name__}; write compile({target.__name__}(...))"
        )
    if not callable(target):
        raise TypeError(f"compile takes a Module or a function, not {type(target).__name__}")
    for what, thing in (("the model", target), ("the loss", loss)):
        if type(thing).__module__.startswith("torch") or getattr(thing, "__module__", "").startswith("torch"):
            name = getattr(thing, "__name__", type(thing).__name__)
            write = "loss=gt.cross_entropy, gt.mse, ..." if thing is loss else "class Model(gt.Module)"
            raise TypeError(f"{what} is PyTorch's {name}, which takes no traced values; write {write}")
    if loss is not None and not callable(loss) and not isinstance(loss, objective):
        raise TypeError(f"loss is a function such as gt.cross_entropy, not {loss!r}")


def entry_function(target: Any, loss: Any, entry: str) -> Callable[..., Any]:
    """The Python that an entry traces."""
    if entry == "prefill":
        return lambda ids: target(ids, 0)[:, -1]
    if entry == "decode":
        return lambda ids, position: target(ids, position)[:, -1]
    if entry == "forward" or loss is None:
        return target
    if isinstance(loss, objective):
        return lambda *batch: loss.function(target, *batch)

    def run(*batch: Any) -> Any:
        if len(batch) < 2:
            given = "1 argument" if batch else "none"
            raise TypeError(f"a call takes (*inputs, target), got {given}; write step(x, y)")
        output = target(*batch[:-1])
        with scope("loss"):
            return loss(output, batch[-1])

    return run


def input_names(target: Any, loss: Any, entry: str, count: int) -> list[str]:
    """A name for each of `count` arguments of an entry: those of the user's own parameters."""
    function = target.forward if isinstance(target, Module) else target
    if isinstance(loss, objective) and entry not in FORWARD:
        function = loss.function
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if isinstance(loss, objective) and entry not in FORWARD:
        names = names[1:]
    elif loss is not None and entry not in FORWARD:
        names = names[: count - 1] + [f"arg{i}" for i in range(len(names), count - 1)] + ["target"]
    names = [n if names.index(n) == i else f"{n}{i}" for i, n in enumerate(names)]
    return names[:count] if len(names) >= count else names + [f"arg{i}" for i in range(len(names), count)]


def update_graph(optimizer: Any, array: np.ndarray, state: Mapping[str, np.ndarray]) -> Graph:
    """What an optimizer does with one parameter in a step: the inputs are `param`, `grad`, `state.<key>`, `lr` and
    `count`, the outputs `param` and `state.<key>`."""
    kind, keys = dtype_name(array.dtype), list(state)

    def rule(param: Any, grad: Any, *rest: Any) -> dict[str, Any]:
        given = dict(zip(keys, rest, strict=False))
        scalars = {**optimizer.hyper, "lr": rest[-2], "step": rest[-1]}
        new, states = optimizer.update(param, grad, given, scalars)
        return {"param": new, **{f"state.{k}": v for k, v in states.items()}}

    specs = [spec(array.shape, kind), spec(array.shape, kind)]
    specs += [spec(state[k].shape, dtype_name(state[k].dtype)) for k in keys] + [spec((), kind), spec((), kind)]
    traced = trace(rule, *specs, name="update", names=["param", "grad", *(f"state.{k}" for k in keys), "lr", "count"])
    return traced.graph.replace(outputs=tuple((path.removeprefix("out."), v) for path, v in traced.graph.outputs))


def graph_name(target: Any) -> str:
    name = type(target).__name__ if isinstance(target, Module) else getattr(target, "__name__", "fn")
    return name.strip("<>").lower()


def only_output(graph: Graph) -> Operand:
    """The loss of a program: its one output, a float scalar."""
    found = [v for _, v in graph.outputs]
    if len(found) != 1 or found[0].type.shape != () or not found[0].type.is_float:
        listed = ", ".join(str(v.type) for v in found) or "nothing"
        write = "loss.mean()" if found else "return"
        raise TypeError(f"the loss is one float scalar, got {listed}; write {write}")
    return found[0]


# arguments -----------------------------------------------------------------------------------------------------------
def as_arrays(x: Any, where: str, specs: bool = False, inside: bool = False) -> Any:
    """An argument with arrays in the place of what is one. Dicts, and lists and tuples that hold arrays, are
    containers, in which None, bools and strings stay what they are; lists of numbers are arrays."""
    if isinstance(x, dict):
        return {k: as_arrays(v, f"{where}[{k!r}]", specs, True) for k, v in x.items()}
    if not is_input(x):
        return rebuild(x, [as_arrays(v, f"{where}[{i}]", specs, True) for i, v in enumerate(x)])
    if (specs and isinstance(x, Spec)) or (inside and (x is None or isinstance(x, (bool, str, bytes)))):
        return x
    return _as_array(x, where)


def is_input(x: Any) -> bool:
    """Whether an argument is one input: an array, a number, (nested) lists of numbers; not a container of arrays."""
    if isinstance(x, (list, tuple)):
        return all(is_input(i) and (isinstance(i, np.generic) or not is_whole(i)) for i in x)
    return not isinstance(x, dict)


def is_whole(x: Any) -> bool:
    """Whether it is an array, or stands for one."""
    return isinstance(x, Spec) or hasattr(x, "__array__")


def _as_array(x: Any, where: str) -> np.ndarray:
    try:
        array = np.asarray(x)
    except ValueError:
        raise TypeError(f"{where}: the lists in {shown(x)} are not equally long") from None
    if array.dtype.kind not in "fiub":
        fact = objection(x) or f"an array of dtype {array.dtype} is not one of numbers"
        raise TypeError(f"{where}: {fact}")
    if array.dtype == np.float16:
        listed = ", ".join(DTYPES)
        raise TypeError(f"{where}: dtype float16 is not one of {listed}; write x.astype('float32')")
    if array.dtype not in DTYPES.values():
        array = array.astype(np.int64 if array.dtype.kind in "iu" else np.float64)
    if not isinstance(x, (np.ndarray, np.generic)) and array.dtype == np.float64:
        array = array.astype(np.float32)  # Python numbers and lists take the default dtype
    return array
