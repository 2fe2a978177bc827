"""Layers, `gt.nn`: PyTorch's names, argument order, initial distributions and state_dict keys."""

from ...tracer import Module, Parameter
from .activation import GELU, Activation, ReLU, Sigmoid, SiLU, Tanh
from .attention import MultiHeadAttention, merge_heads, split_heads
from .container import Flatten, Identity, Sequential
from .linear import Embedding, Linear
from .normalisation import Dropout, LayerNorm, RMSNorm
from .recurrent import GRU, LSTM, RNN, GRUCell, LSTMCell, RNNCell

ModuleList = list  # modules in plain lists and dicts are found
ModuleDict = dict

__all__ = [
    "GELU", "Activation", "Dropout", "Embedding", "Flatten", "Identity", "LayerNorm", "Linear", "Module", "ModuleDict",
    "ModuleList", "MultiHeadAttention", "Parameter", "RMSNorm", "ReLU", "Sequential", "SiLU", "Sigmoid", "Tanh",
    "merge_heads", "split_heads",
    "GRU", "GRUCell", "LSTM", "LSTMCell", "RNN", "RNNCell",
]  # fmt: skip
