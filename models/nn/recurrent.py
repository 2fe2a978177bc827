"""Recurrent layers over `gt.scan`. T steps, B batch, I input size, H hidden size, L layers, D directions (1 or 2).

A layer computes the part of its gates that depends on the inputs for all steps at once; the loop adds the part that
depends on the state. Gates, formulas, keys and initial distribution (uniform in +-1/sqrt(H)) are PyTorch's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ... import tracer as gt
from ...tracer import Module
from .. import init

Step = Callable[[Any, Any, Any, Any], Any]  # (state, gates of the input, weight_hh, bias_hh) -> new state


# one step -------------------------------------------------------------------------------------------------------
def rnn_step(nonlinearity: Callable[[Any], Any]) -> Step:
    """h' = nonlinearity(W_ih x + b_ih + W_hh h + b_hh)"""

    def step(h: Any, gates: Any, weight: Any, bias: Any) -> Any:  # (B, H), (B, H) -> (B, H)
        return nonlinearity(gates + gt.linear(h, weight, bias))

    return step


def gru_step(h: Any, gates: Any, weight: Any, bias: Any) -> Any:  # (B, H), (B, 3H) -> (B, H)
    """r, z = sigmoid(of input and state);  n = tanh(W_in x + b_in + r (W_hn h + b_hn));  h' = (1 - z) n + z h"""
    x_r, x_z, x_n = gt.split(gates, 3, -1)
    h_r, h_z, h_n = gt.split(gt.linear(h, weight, bias), 3, -1)
    r, z = gt.sigmoid(x_r + h_r), gt.sigmoid(x_z + h_z)
    n = gt.tanh(x_n + r * h_n)
    return (1.0 - z) * n + z * h


def lstm_step(state: Any, gates: Any, weight: Any, bias: Any) -> Any:  # two of (B, H), (B, 4H) -> two of (B, H)
    """i, f, g, o = sigmoid, sigmoid, tanh, sigmoid (of input and state);  c' = f c + i g;  h' = o tanh(c')"""
    h, c = state
    i, f, g, o = gt.split(gates + gt.linear(h, weight, bias), 4, -1)
    c = gt.sigmoid(f) * c + gt.sigmoid(i) * gt.tanh(g)
    return gt.sigmoid(o) * gt.tanh(c), c


# layers ---------------------------------------------------------------------------------------------------------
class Recurrent(Module):
    """What RNN, GRU and LSTM share: layers, directions, batches, dropout between the layers."""

    gates = 1  # how many blocks of H rows the weights have
    states = 1  # how many arrays the state consists of

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        dtype: Any = "float32",
    ) -> None:
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.dropout, self.bidirectional = bias, batch_first, dropout, bidirectional
        rows = self.gates * hidden_size
        for name in self._names():
            width = input_size if name.startswith("l0") else hidden_size * (1 + bidirectional)
            setattr(self, f"weight_ih_{name}", _uniform(hidden_size, rows, width, dtype=dtype))
            setattr(self, f"weight_hh_{name}", _uniform(hidden_size, rows, hidden_size, dtype=dtype))
            if bias:
                setattr(self, f"bias_ih_{name}", _uniform(hidden_size, rows, dtype=dtype))
                setattr(self, f"bias_hh_{name}", _uniform(hidden_size, rows, dtype=dtype))

    def _names(self) -> list[str]:
        """The endings of the parameters' names, one for each layer and direction: l0, l0_reverse, l1, ..."""
        ends = ["", "_reverse"] if self.bidirectional else [""]
        return [f"l{layer}{end}" for layer in range(self.num_layers) for end in ends]

    def step(self, state: Any, gates: Any, weight: Any, bias: Any) -> Any:
        raise NotImplementedError

    def forward(self, input: Any, hx: Any = None) -> Any:
        """input (T, B, I), or (B, T, I) if batch_first, or (T, I) without a batch; hx: the state, (L * D, B, H) or
        (L * D, H), for an LSTM a pair of them; default zeros. Returns (output, last state): output is (T, B, D * H)
        or as the input lies."""
        batched = input.ndim == 3
        x = input if batched else gt.expand_dims(input, 0 if self.batch_first else 1)
        if input.ndim not in (2, 3):
            raise ValueError(f"{type(self).__name__}: the input has 3 axes, or 2 without a batch, not {input.ndim}")
        first = self._first_states(x, hx, batched)
        turn = self.batch_first  # the loop goes along the first axis; products do not mind which one that is
        last: list[Any] = []
        directions = 1 + self.bidirectional
        for layer in range(self.num_layers):
            if layer and self.dropout:
                x = gt.dropout(x, self.dropout, self.training)
            outputs = []
            for direction in range(directions):
                at = layer * directions + direction
                state, y = self._run(x, first[at], self._names()[at], turn, reverse=direction == 1)
                last.append(state)
                outputs.append(y)
            x = outputs[0] if directions == 1 else gt.concat(outputs, -1)
            turn = False
        x = gt.permute(x, 1, 0, 2) if self.batch_first else x
        stacked = [gt.stack([s[i] for s in last]) for i in range(self.states)]
        if not batched:
            x = gt.squeeze(x, 0 if self.batch_first else 1)
            stacked = [gt.squeeze(s, 1) for s in stacked]
        return x, stacked[0] if self.states == 1 else tuple(stacked)

    def _run(self, x: Any, first: Any, name: str, turn: bool, reverse: bool) -> tuple[Any, Any]:
        """One layer in one direction: its last state, and its outputs (T, B, H)."""
        weight, bias = getattr(self, f"weight_hh_{name}"), getattr(self, f"bias_hh_{name}", None)
        gates = gt.linear(x, getattr(self, f"weight_ih_{name}"), getattr(self, f"bias_ih_{name}", None))
        gates = gt.permute(gates, 1, 0, 2) if turn else gates

        def round(state: Any, gates: Any) -> tuple[Any, Any]:
            new = self.step(state[0] if self.states == 1 else state, gates, weight, bias)
            new = (new,) if self.states == 1 else new
            return new, new[0]

        return gt.scan(round, first, gates, reverse=reverse)

    def _first_states(self, x: Any, hx: Any, batched: bool) -> list[tuple[Any, ...]]:
        """The first state of each layer and direction: `states` arrays (B, H) each."""
        count = len(self._names())
        if hx is None:
            B = x.shape[0] if self.batch_first else x.shape[1]
            zeros = gt.zeros((B, self.hidden_size), dtype=x.dtype)
            return [(zeros,) * self.states] * count
        given = (hx,) if self.states == 1 else tuple(hx)
        given = given if batched else tuple(gt.expand_dims(h, 1) for h in given)
        for h in given:
            if h.shape[0] != count:
                raise ValueError(
                    f"{type(self).__name__}: the state has {h.shape[0]} layers, not {count} (num_layers * directions)"
                )
        return [tuple(h[i] for h in given) for i in range(count)]

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}"
        shown = {"num_layers": 1, "bias": True, "batch_first": False, "dropout": 0.0, "bidirectional": False}
        return text + "".join(f", {k}={getattr(self, k)}" for k, v in shown.items() if getattr(self, k) != v)


class RNN(Recurrent):
    """h' = tanh(W_ih x + b_ih + W_hh h + b_hh), or relu. Keys: weight_ih_l0 (H, I), weight_hh_l0 (H, H), bias_ih_l0,
    bias_hh_l0 (H,), for further layers l1, ..., for the other direction l0_reverse."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        dtype: Any = "float32",
    ) -> None:
        self.nonlinearity = nonlinearity
        self._step = rnn_step(_nonlinearity(nonlinearity))
        super().__init__(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, dtype)

    def step(self, state: Any, gates: Any, weight: Any, bias: Any) -> Any:
        return self._step(state, gates, weight, bias)


class GRU(Recurrent):
    """Gated recurrent units, see `gru_step`. Keys: weight_ih_l0 (3H, I) and weight_hh_l0 (3H, H) with the rows of r, z
    and n one above the other, bias_ih_l0, bias_hh_l0 (3H,); l1, ...; l0_reverse, ..."""

    gates = 3

    def step(self, state: Any, gates: Any, weight: Any, bias: Any) -> Any:
        return gru_step(state, gates, weight, bias)


class LSTM(Recurrent):
    """Long short-term memory, see `lstm_step`; its state is (h, c). Keys: weight_ih_l0 (4H, I) and weight_hh_l0
    (4H, H) with the rows of i, f, g and o one above the other, bias_ih_l0, bias_hh_l0 (4H,); l1, ...; l0_reverse."""

    gates = 4
    states = 2

    def step(self, state: Any, gates: Any, weight: Any, bias: Any) -> Any:
        return lstm_step(state, gates, weight, bias)


# cells ----------------------------------------------------------------------------------------------------------
class Cell(Module):
    """One step of a recurrent layer: input (B, I), or (I,); state (B, H) or (H,), default zeros."""

    gates = 1
    states = 1

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, dtype: Any = "float32") -> None:
        self.input_size, self.hidden_size = input_size, hidden_size
        rows = self.gates * hidden_size
        self.weight_ih = _uniform(hidden_size, rows, input_size, dtype=dtype)
        self.weight_hh = _uniform(hidden_size, rows, hidden_size, dtype=dtype)
        self.bias_ih = _uniform(hidden_size, rows, dtype=dtype) if bias else None
        self.bias_hh = _uniform(hidden_size, rows, dtype=dtype) if bias else None

    def step(self, state: Any, gates: Any, weight: Any, bias: Any) -> Any:
        raise NotImplementedError

    def forward(self, input: Any, hx: Any = None) -> Any:
        """The new state; for an LSTMCell a pair (h, c), and so is hx."""
        if hx is None:
            zeros = gt.zeros((*input.shape[:-1], self.hidden_size), dtype=input.dtype)
            hx = zeros if self.states == 1 else (zeros, zeros)
        gates = gt.linear(input, self.weight_ih, self.bias_ih)
        return self.step(hx, gates, self.weight_hh, self.bias_hh)

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}" + ("" if self.bias_ih is not None else ", bias=False")


class RNNCell(Cell):
    """h' = tanh(W_ih x + b_ih + W_hh h + b_hh), or relu. Keys: weight_ih (H, I), weight_hh (H, H), bias_ih, bias_hh."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        dtype: Any = "float32",
    ) -> None:
        super().__init__(input_size, hidden_size, bias, dtype)
        self._step = rnn_step(_nonlinearity(nonlinearity))

    def step(self, state: Any, gates: Any, weight: Any, bias: Any) -> Any:
        return self._step(state, gates, weight, bias)


class GRUCell(Cell):
    """One step of a GRU. Keys: weight_ih (3H, I), weight_hh (3H, H), bias_ih, bias_hh (3H,)."""

    gates = 3

    def step(self, state: Any, gates: Any, weight: Any, bias: Any) -> Any:
        return gru_step(state, gates, weight, bias)


class LSTMCell(Cell):
    """One step of an LSTM: (h, c) -> (h', c'). Keys: weight_ih (4H, I), weight_hh (4H, H), bias_ih, bias_hh (4H,)."""

    gates = 4
    states = 2

    def step(self, state: Any, gates: Any, weight: Any, bias: Any) -> Any:
        return lstm_step(state, gates, weight, bias)


def _uniform(hidden_size: int, *shape: int, dtype: Any) -> Any:
    bound = 1.0 / math.sqrt(hidden_size) if hidden_size else 0.0
    return init.uniform_(init.empty(*shape, dtype=dtype), -bound, bound)


def _nonlinearity(name: str) -> Callable[[Any], Any]:
    if name not in ("tanh", "relu"):
        raise ValueError(f'RNN: nonlinearity is "tanh" or "relu", not {name!r}')
    return gt.tanh if name == "tanh" else gt.relu
