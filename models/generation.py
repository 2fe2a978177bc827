"""Text from a model: what comes next is drawn, appended, and fed back. B batch, T length of a prompt, V vocabulary.

A model can generate if its `forward(ids)` maps ids (B, T) to logits (B, T, V) and lets nothing of a later position into
an earlier one. It does so without computing everything again for each token if it is `forward(ids, position)`: with a
`position` the ids stand behind as many earlier ones, of which it keeps what it needs in buffers (`gt.nn.KVCache`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np

from ..tracer import Module


class Step(Protocol):
    """What generation calls for each id: (ids (B, T), how many there were before) -> logits (B, V) of the last.
    `context` is how many ids there may be."""

    context: int

    def __call__(self, ids: np.ndarray, position: int, /) -> np.ndarray: ...


def generate(
    model: Any,
    prompt: Any,
    max_new_tokens: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    stop: int | None = None,
    context: int | None = None,
    keep: int | None = None,
    cache: bool = True,
) -> np.ndarray:
    """`prompt`, ids (T,) or (B, T), with up to `max_new_tokens` more ids behind it, int64.

    model         a Compiled (one call of a tape for each token), or a Module, which runs in NumPy, in eval mode
    temperature   logits are divided by it; 0 takes the likeliest id every time
    top_k         only the k likeliest ids are drawn from
    top_p         only the likeliest ids that together have this probability are drawn from
    seed          of the draws: the same seed gives the same ids
    stop          an id that ends a sequence: it is filled up with this id, and generation ends when all have ended
    context       how many ids the model can see; default: its attribute `context`
    keep          where more ids than that are needed, the model goes on with the last `keep` of them, as if the text
                  began there; default: half of the context. context - 1 always shows it as much as possible, at the
                  price of computing everything again for each id
    cache         False: nothing is kept from token to token, also where the model could

    Raises TypeError and ValueError for a prompt that is not one of ids, is empty, or for options out of range.
    """
    ids, draw = as_ids(prompt), Sampler(temperature, top_k, top_p, seed)
    eager = isinstance(model, Module) or not hasattr(model, "decoder")
    step = eager_step(model, len(ids), context, cache) if eager else model.decoder(len(ids), context, cache)
    kept = max(1, step.context // 2) if keep is None else keep
    if not 1 <= kept <= step.context:
        raise ValueError(f"keep is from 1 to the context, {step.context}; got {keep}")
    new = [n[:, None] for n in tokens(step, ids, max_new_tokens, draw, step.context, kept, stop)]
    result = np.concatenate([ids, *new], axis=1)
    return result[0] if np.ndim(prompt) == 1 else result


def tokens(
    step: Callable[[np.ndarray, int], np.ndarray],
    ids: np.ndarray,
    count: int,
    draw: Sampler,
    context: int,
    keep: int,
    stop: int | None = None,
) -> Iterator[np.ndarray]:
    """Up to `count` times the next ids, (B,), behind `ids` (B, T), one after the other."""
    seen = ids[:, -context:]
    ended = np.zeros(len(ids), bool)
    logits = None
    for left in reversed(range(count)):
        if logits is None:
            logits, length = step(seen, 0), seen.shape[1]
        new = draw(logits)
        if stop is not None:
            new = np.where(ended, stop, new)
            ended |= new == stop
        yield new
        if left == 0 or (stop is not None and ended.all()):
            return
        seen = np.concatenate([seen, new[:, None]], axis=1)
        if length < context:
            logits, length = step(seen[:, -1:], length), length + 1
        else:
            logits, seen = None, seen[:, -keep:]


class Sampler:
    """Draws ids (B,) from logits (B, V): those where logits / temperature + g is greatest, for numbers g of the Gumbel
    distribution, are distributed as softmax(logits / temperature) says."""

    BLOCK = 4096  # numbers that are drawn at once: one by one NumPy spends 10 us on a call

    def __init__(
        self, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None, seed: int = 0
    ) -> None:
        if temperature < 0:
            raise ValueError(f"the temperature is 0 or more, not {temperature}")
        if top_k is not None and top_k < 1:
            raise ValueError(f"top_k is 1 or more, not {top_k}")
        if top_p is not None and not 0 < top_p <= 1:
            raise ValueError(f"top_p is a probability above 0, not {top_p}")
        self.temperature, self.top_k, self.top_p = temperature, top_k, top_p
        self._rng = np.random.default_rng(seed)
        self._noise = np.zeros((0, 0, 0))
        self._used = 0

    def __call__(self, logits: np.ndarray) -> np.ndarray:
        if self.temperature == 0:
            return logits.argmax(-1)
        scaled = logits * (1.0 / self.temperature)
        if self.top_k is not None and self.top_k < logits.shape[-1]:
            least = np.partition(scaled, -self.top_k, axis=-1)[:, -self.top_k, None]
            scaled = np.where(scaled >= least, scaled, -np.inf)
        if self.top_p is not None and self.top_p < 1:
            scaled = likeliest(scaled, self.top_p)
        if self._used == len(self._noise):
            count = max(1, self.BLOCK // max(scaled.size, 1))
            self._noise = self._rng.gumbel(size=(count, *scaled.shape))
            self._used = 0
        self._used += 1
        return (scaled + self._noise[self._used - 1]).argmax(-1)


def likeliest(logits: np.ndarray, top_p: float) -> np.ndarray:
    """logits (B, V) with -inf in the place of all but the least number of ids that have the probability `top_p`."""
    order = np.argsort(-logits, axis=-1, kind="stable")
    ordered = np.take_along_axis(logits, order, -1)
    p = np.exp(ordered - ordered[:, :1])
    p /= p.sum(-1, keepdims=True)
    before = np.cumsum(p, -1) - p  # the probability of all that are likelier
    kept = np.where(before < top_p, ordered, -np.inf)
    out = np.empty_like(logits)
    np.put_along_axis(out, order, kept, -1)
    return out


# steps --------------------------------------------------------------------------------------------------------------
class Recomputing:
    """A step that keeps the ids instead, and computes all of them again: for models that know no position. They stand
    in a window of always the same size, so that one tape at one size serves."""

    def __init__(self, forward: Callable[[np.ndarray], Any], batch: int, context: int) -> None:
        self.forward, self.context = forward, context
        self.window = np.zeros((batch, context), np.int64)

    def __call__(self, ids: np.ndarray, position: int) -> np.ndarray:
        end = position + ids.shape[1]
        self.window[:, position:end] = ids
        return np.asarray(self.forward(self.window))[:, end - 1]


class Eager:
    """A step of a Module that is not compiled and knows a position."""

    def __init__(self, model: Module, batch: int, context: int) -> None:
        self.model, self.context = model, context
        set_up(model, batch)

    def __call__(self, ids: np.ndarray, position: int) -> np.ndarray:
        return np.asarray(_in_eval_mode(self.model, ids, position))[:, -1]


def eager_step(model: Module, batch: int, context: int | None, cache: bool) -> Step:
    context = context_of(model) if context is None else context
    if cache and takes_position(model):
        return Eager(model, batch, context)
    return Recomputing(lambda ids: _in_eval_mode(model, ids), batch, context)


def _in_eval_mode(model: Module, *args: Any) -> Any:
    modes = [(m, m.training) for m in model.modules()] if isinstance(model, Module) else []
    try:
        for module, _ in modes:
            module.training = False
        return model(*args)
    finally:
        for module, mode in modes:
            module.training = mode


def set_up(model: Any, batch: int) -> None:
    """Lets a model make room for a batch; one with buffers of a fixed size needs no such method."""
    make_room = getattr(type(model), "setup_cache", None)
    if make_room is not None:
        make_room(model, batch)


def takes_position(model: Any) -> bool:
    """Whether the model's forward has an argument of that name."""
    try:
        return "position" in inspect.signature(model.forward if isinstance(model, Module) else model).parameters
    except (TypeError, ValueError):
        return False


def context_of(model: Any) -> int:
    """How many positions a model says that it can see."""
    context = getattr(model, "context", None)
    if not isinstance(context, int):
        raise TypeError(
            f"generate needs to know how many ids {type(model).__name__} can see\n"
            "  write generate(..., context=64), or let the model have an attribute context"
        )
    return context


def as_ids(prompt: Any) -> np.ndarray:
    """A prompt as int64 (B, T)."""
    try:
        ids = np.asarray(prompt)
    except ValueError:
        raise ValueError(
            "the prompts differ in length; generate one by one, or those of equal length together"
        ) from None
    if ids.dtype.kind not in "iu" or ids.ndim not in (1, 2):
        write = "tokenizer.encode(text) first" if ids.dtype.kind in "US" else "ids of shape (T,) or (B, T)"
        raise TypeError(
            f"a prompt is integers of shape (T,) or (B, T), not {ids.dtype} of shape {ids.shape}; write {write}"
        )
    if ids.size == 0:
        raise ValueError(f"the prompt has no ids: its shape is {ids.shape}; give at least one id")
    return np.atleast_2d(ids).astype(np.int64)
