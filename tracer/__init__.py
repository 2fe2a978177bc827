"""Python model code -> Graph: Tensor, Module, Parameter, trace, ledger, and the op namespace."""

from .context import LeakedTensor, NeedsValue, Trace
from .functional import (
    abs, add, all, any, astype, broadcast_to, chunk, clip, concat, concatenate, div, equal, erf, exp, expand_dims,
    flatten, greater, greater_equal, less, less_equal, log, logical_and, logical_not, logical_or, logsumexp, matmul, max,
    maximum, mean, min, minimum, moveaxis, mul, neg, not_equal, permute, pow, prod, ravel, reciprocal, relu, reshape,
    rsqrt, sigmoid, sign, split, sqrt, square, squeeze, stack, std, stop_gradient, sub, sum, swapaxes, take, tanh,
    transpose, var, where,
)  # fmt: skip
from .generate import arange, eye, full, full_like, one_hot, ones, ones_like, tensor, tril, triu, zeros, zeros_like
from .gradmode import no_grad
from .ledger import Escape, Leaf, Ledger, Reentry, Store, Write
from .module import Buffer, Module, Parameter, buffer, freeze
from .neural import (
    binary_cross_entropy_with_logits, cross_entropy, embedding, gelu, l1_loss, layer_norm, linear, log_softmax, mse,
    mse_loss, nll_loss, rms_norm, scaled_dot_product_attention, silu, softmax,
)  # fmt: skip
from .rng import dropout, generator, initial_seed, manual_seed, next_step, uniform
from .state import TraceError, current_trace
from .structure import Structure
from .tensor import Tensor
from .trace import Spec, Traced, spec, trace
