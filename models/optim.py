"""Optimizers: functions of (parameter, gradient, state, scalars), written like model code, so that they run
eagerly on arrays and are traced and fused like everything else. Formulas and defaults are PyTorch's;
PyTorch's names for state.

`scalars` holds the runtime values "lr" and "step" (1.0 for the first update): traced 0-d values, or Python
floats.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np

from .. import tracer as gt
from ..ir.location import user_location
from ..tracer import Module, Parameter

RATES_AT = (1, 2, 3, 10, 100, 1000, 10000)  # the steps whose learning rates the lint sees
State = dict[str, Any]
Update = Callable[[Any, Any, State, Mapping[str, Any]], tuple[Any, State]]


# what other libraries' optimizers have, and what it is here
ELSEWHERE = {
    "step": "step = gt.compile(model, loss=..., optimizer=...); step(x, y)",
    "zero_grad": "nothing: gradients are new in every step",
    "param_groups": "optimizer.groups",
    "state_dict": "step.optimizer_state_dict()",
    "load_state_dict": "step.load_optimizer_state_dict(state)",
    "minimize": "step = gt.compile(model, loss=..., optimizer=...); step(x, y)",
}


class Optimizer:
    """The base of all optimizers.

    hyper: the options by name; "lr" is a float or a callable of the step (from 1) that gives one. params:
    None for all trainable parameters, a list of Parameters (or a Module), or a list of groups such as
    `{"params": [...], "lr": 1e-4, "weight_decay": 0.0}`, which override options. groups: (parameters or None,
    options). max_norm: if not None, gradients are scaled so that their global norm is at most that.

    Raises ValueError for an empty list, an unknown option of a group, or a parameter in two groups.
    """

    def __new__(cls, *args: Any, **options: Any) -> Optimizer:
        if args and _are_parameters(args[0]) and next(iter(inspect.signature(cls).parameters)) == "lr":
            raise TypeError(
                f"{cls.__name__}: the learning rate comes first, parameters by name; "
                f"write {cls.__name__}(lr=1e-3), or {cls.__name__}(lr=1e-3, params=model.parameters())"
            )
        return super().__new__(cls)

    def __init__(self, params: Any = None, **hyper: Any) -> None:
        rate = hyper.get("lr", 0.0)
        if not callable(rate) and (isinstance(rate, bool) or not isinstance(rate, (int, float, np.number)) or rate < 0):
            raise ValueError(f"{type(self).__name__}: lr is a number from 0, or a function of the step, not {rate!r}")
        self.hyper = hyper
        self.groups = _groups(type(self).__name__, params, hyper)
        self.max_norm: float | None = None
        self.created = user_location(outside=("models/",))

    def __getattr__(self, name: str) -> NoReturn:
        """Methods of other libraries' optimizers: what they are here."""
        if hasattr(type(self), name):  # a property that failed: Python asks here next, and its own error says more
            object.__getattribute__(self, name)
        advice = f"; write {ELSEWHERE[name]}" if name in ELSEWHERE else ""
        raise AttributeError(f"{type(self).__name__} has no {name}{advice}")

    def init(self, param: np.ndarray) -> dict[str, np.ndarray]:
        """The state of one parameter before the first update."""
        return {}

    def update(self, param: Any, grad: Any, state: State, scalars: Mapping[str, Any]) -> tuple[Any, State]:
        """The parameter and its state after one step. All arrays have the parameter's shape and dtype."""
        raise NotImplementedError(f"{type(self).__name__} has no update(self, param, grad, state, scalars)")

    def with_options(self, hyper: Mapping[str, Any]) -> Optimizer:
        """This optimizer with other options: what updates the parameters of one group."""
        other = copy.copy(self)
        other.hyper = {**self.hyper, **hyper}
        other.groups = [(None, other.hyper)]
        return other

    def learning_rate(self, step: int, group: int = 0) -> float:
        """The learning rate of a group in a step, counted from 1."""
        lr = self.groups[group][1]["lr"]
        rate: Any = lr(step) if callable(lr) else lr
        return float(rate)

    def __repr__(self) -> str:
        options = [f"{k}={v!r}" for k, v in self.hyper.items()]
        options += [f"groups={len(self.groups)}"] if len(self.groups) > 1 else []
        text = f"{type(self).__name__}({', '.join(options)})"
        return text if self.max_norm is None else f"clip_by_global_norm({text}, {self.max_norm})"


def _are_parameters(x: Any) -> bool:
    """What PyTorch's optimizers take first."""
    if isinstance(x, (Module, Parameter)):
        return True
    return isinstance(x, (list, tuple)) and all(isinstance(p, (Parameter, Mapping)) for p in x)


def _groups(kind: str, params: Any, hyper: dict[str, Any]) -> list[tuple[list[Parameter] | None, dict[str, Any]]]:
    if params is None:
        return [(None, hyper)]
    items = _parameters(kind, params) if isinstance(params, (Module, Parameter)) else list(params)
    groups = items if items and all(isinstance(i, Mapping) for i in items) else [{"params": items}]
    out: list[tuple[list[Parameter] | None, dict[str, Any]]] = []
    seen: dict[int, int] = {}
    for number, group in enumerate(groups):
        options = {k: v for k, v in group.items() if k != "params"}
        unknown = sorted(set(options) - set(hyper))
        if "params" not in group or unknown:
            fact = f"has no option {unknown[0]!r}" if unknown else 'needs "params"'
            raise ValueError(f"{kind}: group {number} {fact}; options are {', '.join(hyper)}")
        members = _parameters(kind, group["params"])
        for parameter in members:
            if seen.setdefault(id(parameter), number) != number:
                raise ValueError(f"{kind}: {parameter!r} is in groups {seen[id(parameter)]} and {number}")
        out.append((members, {**hyper, **options}))
    return out


def _parameters(kind: str, params: Any) -> list[Parameter]:
    if isinstance(params, Module):
        params = params.parameters()
    members = [params] if isinstance(params, Parameter) else list(params)
    for item in members:
        if not isinstance(item, Parameter):
            raise ValueError(f"{kind}: {type(item).__name__} is not a Parameter; write params=module.parameters()")
    if not members:
        raise ValueError(f"{kind}: an empty list of parameters (an iterator that was walked before?)")
    return list({id(p): p for p in members}.values())


class SGD(Optimizer):
    """g += weight_decay * p; b = momentum * b + g; p -= lr * b (Nesterov: lr * (g + momentum * b))."""

    def __init__(
        self,
        lr: Any = 1e-3,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        params: Any = None,
    ) -> None:
        if nesterov and momentum <= 0:
            raise ValueError("SGD: nesterov needs a momentum above 0")
        super().__init__(params, lr=lr, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay)

    def init(self, param: np.ndarray) -> dict[str, np.ndarray]:
        return {"momentum_buffer": np.zeros_like(param)} if self.hyper["momentum"] else {}

    def update(self, param: Any, grad: Any, state: State, scalars: Mapping[str, Any]) -> tuple[Any, State]:
        lr, momentum, decay = scalars["lr"], self.hyper["momentum"], self.hyper["weight_decay"]
        if decay:
            grad = grad + decay * param
        if not momentum:
            return param - lr * grad, {}
        b = momentum * state["momentum_buffer"] + grad
        step = grad + momentum * b if self.hyper["nesterov"] else b
        return param - lr * step, {"momentum_buffer": b}


class Adam(Optimizer):
    """g += weight_decay * p; m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g**2;
    p -= lr * m / (1 - b1**t) / (sqrt(v / (1 - b2**t)) + eps)   (Kingma & Ba, 2015)"""

    def __init__(
        self,
        lr: Any = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        params: Any = None,
    ) -> None:
        _check_betas(type(self).__name__, betas)
        super().__init__(params, lr=lr, betas=tuple(betas), eps=eps, weight_decay=weight_decay)

    def init(self, param: np.ndarray) -> dict[str, np.ndarray]:
        return {"exp_avg": np.zeros_like(param), "exp_avg_sq": np.zeros_like(param)}

    def update(self, param: Any, grad: Any, state: State, scalars: Mapping[str, Any]) -> tuple[Any, State]:
        if self.hyper["weight_decay"]:
            grad = grad + self.hyper["weight_decay"] * param
        return self._moments(param, grad, state, scalars)

    def _moments(self, param: Any, grad: Any, state: State, scalars: Mapping[str, Any]) -> tuple[Any, State]:
        (beta1, beta2), eps, step = self.hyper["betas"], self.hyper["eps"], scalars["step"]
        m = beta1 * state["exp_avg"] + (1.0 - beta1) * grad
        v = beta2 * state["exp_avg_sq"] + (1.0 - beta2) * gt.square(grad)
        size = scalars["lr"] / bias_correction(beta1, step, param)
        denominator = gt.sqrt(v) * gt.rsqrt(bias_correction(beta2, step, param)) + eps
        return param - size * m / denominator, {"exp_avg": m, "exp_avg_sq": v}


class AdamW(Adam):
    """p -= lr * weight_decay * p, then Adam without its own decay (Loshchilov & Hutter, 2019)."""

    def __init__(
        self,
        lr: Any = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        params: Any = None,
    ) -> None:
        super().__init__(lr, betas, eps, weight_decay, params)

    def update(self, param: Any, grad: Any, state: State, scalars: Mapping[str, Any]) -> tuple[Any, State]:
        if self.hyper["weight_decay"]:
            param = param * (1.0 - scalars["lr"] * self.hyper["weight_decay"])
        return self._moments(param, grad, state, scalars)


class Lion(Optimizer):
    """p -= lr * weight_decay * p; p -= lr * sign(b1 m + (1 - b1) g); m = b2 m + (1 - b2) g   (Chen et al.,
    2023)"""

    def __init__(
        self,
        lr: Any = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        params: Any = None,
    ) -> None:
        _check_betas("Lion", betas)
        super().__init__(params, lr=lr, betas=tuple(betas), weight_decay=weight_decay)

    def init(self, param: np.ndarray) -> dict[str, np.ndarray]:
        return {"exp_avg": np.zeros_like(param)}

    def update(self, param: Any, grad: Any, state: State, scalars: Mapping[str, Any]) -> tuple[Any, State]:
        beta1, beta2 = self.hyper["betas"]
        lr, m = scalars["lr"], state["exp_avg"]
        if self.hyper["weight_decay"]:
            param = param * (1.0 - lr * self.hyper["weight_decay"])
        direction = gt.sign(beta1 * m + (1.0 - beta1) * grad)
        return param - lr * direction, {"exp_avg": beta2 * m + (1.0 - beta2) * grad}


def bias_correction(beta: float, step: Any, param: Any) -> Any:
    """1 - beta**step in the parameter's dtype. Taken in float64: in float32, 1 - 0.999 is already off by
    1e-5."""
    return gt.astype(1.0 - beta ** gt.astype(step, "f64"), param.dtype)


def _check_betas(kind: str, betas: tuple[float, float]) -> None:
    if not isinstance(betas, (tuple, list)) or len(betas) != 2:
        raise ValueError(f"{kind}: betas are two numbers, such as (0.9, 0.999), not {betas!r}")
    if not all(0.0 <= b < 1.0 for b in betas):
        raise ValueError(f"{kind}: betas lie in [0, 1), got {betas}")


class FromFunction(Optimizer):
    """A user's update function as an optimizer."""

    def __init__(
        self, fn: Callable[..., Any], init: Callable[[np.ndarray], dict[str, np.ndarray]] | None, lr: Any, params: Any
    ) -> None:
        super().__init__(params, lr=lr)
        self.fn = fn
        self._init = init

    def init(self, param: np.ndarray) -> dict[str, np.ndarray]:
        if self._init is not None:
            return self._init(param)
        zeros = np.zeros_like(param)
        try:
            _, state = self.fn(zeros, zeros, {}, {"lr": 0.0, "step": 1.0})
        except KeyError as missing:
            raise ValueError(
                f"{_name(self.fn)} reads state {missing} before it wrote it; write state.get({missing}, 0.0), or give "
                "from_function(fn, init=lambda param: {...})"
            ) from None
        return {name: np.zeros_like(value) for name, value in state.items()}

    def update(self, param: Any, grad: Any, state: State, scalars: Mapping[str, Any]) -> tuple[Any, State]:
        return self.fn(param, grad, state, scalars)

    def __repr__(self) -> str:
        return f"from_function({_name(self.fn)}, lr={self.hyper['lr']!r})"


def _name(fn: Any) -> str:
    return getattr(fn, "__qualname__", repr(fn))


def from_function(
    fn: Update,
    init: Callable[[np.ndarray], dict[str, np.ndarray]] | None = None,
    lr: Any = 1e-3,
    params: Sequence[Any] | None = None,
) -> Optimizer:
    """An optimizer of a function `(param, grad, state, scalars) -> (new_param, new_state)`.

    init: the state before the first update, by name; default: zeros like the state that `fn` returns for an
    empty one.
    """
    return FromFunction(fn, init, lr, params)


def as_optimizer(optimizer: Any) -> Optimizer:
    """An Optimizer as it is, a function by `from_function`. Raises TypeError for anything else."""
    if isinstance(optimizer, Optimizer):
        return optimizer
    if callable(optimizer) and not isinstance(optimizer, type):
        return FromFunction(optimizer, None, 1e-3, None)
    name = type(optimizer).__name__ if not isinstance(optimizer, (str, type)) else repr(optimizer)
    whose = "PyTorch's " if type(optimizer).__module__.startswith("torch") else ""
    raise TypeError(f"optimizer= takes an Optimizer such as gt.AdamW(lr=1e-3), or a function, not {whose}{name}")


def written_update(optimizer: Optimizer) -> Callable[..., Any] | None:
    """The function that a user has written for the update; None for the optimizers of this file."""
    if isinstance(optimizer, FromFunction):
        return optimizer.fn
    update = type(optimizer).update
    return None if update.__module__ == __name__ else update


def clip_by_global_norm(optimizer: Any, max_norm: float) -> Optimizer:
    """`optimizer`, with all gradients of a step scaled by min(1, max_norm / (norm + 1e-6)), norm that of all
    together."""
    if not max_norm > 0:
        raise ValueError(f"clip_by_global_norm: max_norm is above 0, got {max_norm}")
    other = copy.copy(as_optimizer(optimizer))
    other.max_norm = float(max_norm)
    return other


def global_norm(grads: Sequence[Any]) -> Any:
    """sqrt of the sum of squares of all elements of all gradients."""
    total = gt.sum(gt.square(grads[0]))
    for grad in grads[1:]:
        total = total + gt.sum(gt.square(grad))
    return gt.sqrt(total)


def clip_factor(norm: Any, max_norm: float) -> Any:
    """What gradients of the given global norm are multiplied by: min(1, max_norm / (norm + 1e-6))."""
    return gt.minimum(max_norm / (norm + 1e-6), 1.0)
