"""Layers, `gt.nn`: PyTorch's names, argument order, initial distributions and state_dict keys."""

from ...tracer import Module, Parameter
from .activation import GELU, Activation, ReLU, Sigmoid, SiLU, Tanh
from .attention import MultiHeadAttention, merge_heads, split_heads
from .container import Flatten, Identity, Sequential
from .convolution import Conv1d, Conv2d, ConvTranspose1d, ConvTranspose2d
from .linear import Embedding, Linear
from .normalisation import Dropout, LayerNorm, RMSNorm
from .pooling import AdaptiveAvgPool1d, AdaptiveAvgPool2d, AvgPool1d, AvgPool2d, MaxPool1d, MaxPool2d

ModuleList = list  # modules in plain lists and dicts are found
ModuleDict = dict

__all__ = [
    "AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AvgPool1d", "AvgPool2d", "Conv1d", "Conv2d", "ConvTranspose1d",
    "ConvTranspose2d", "MaxPool1d", "MaxPool2d",
    "GELU", "Activation", "Dropout", "Embedding", "Flatten", "Identity", "LayerNorm", "Linear", "Module", "ModuleDict",
    "ModuleList", "MultiHeadAttention", "Parameter", "RMSNorm", "ReLU", "Sequential", "SiLU", "Sigmoid", "Tanh",
    "merge_heads", "split_heads",
]  # fmt: skip
