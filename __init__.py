"""gradtape: a tracing compiler for model code in NumPy style.

    import gradtape as gt

    model = gt.models.GPT(vocab=65, context=64, width=128, depth=4, heads=4)
    step = gt.compile(model, loss=gt.cross_entropy, optimizer=gt.AdamW(lr=1e-3))
    loss = step(x, y)              # forward, backward and update in one call
"""

from . import models
from .compiler import (
    Compiled,
    GradientError,
    IndexOutOfRange,
    NotFinite,
    compile,
    objective,
)
from .derivatives import grad, value_and_grad
from .ir.dims import Dim
from .models import SGD, Adam, AdamW, Lion, Optimizer, clip_by_global_norm, from_function, init, nn, schedule
from .tracer import (
    Module, Parameter, Tensor, abs, add, all, any, arange, astype, binary_cross_entropy_with_logits, broadcast_to,
    buffer, chunk, clip, concat, concatenate, cross_entropy, div, dropout, embedding, equal, erf, exp, expand_dims, eye,
    flatten, freeze, full, full_like, gelu, greater, greater_equal, l1_loss, layer_norm, less, less_equal, linear, log,
    log_softmax, logical_and, logical_not, logical_or, logsumexp, manual_seed, matmul, max, maximum, mean, min, minimum,
    moveaxis, mse, mse_loss, mul, neg, nll_loss, no_grad, not_equal, one_hot, ones, ones_like, permute, pow, prod, ravel,
    reciprocal, relu, reshape, rms_norm, rsqrt, scaled_dot_product_attention, sigmoid, sign, silu, softmax, spec, split,
    sqrt, square, squeeze, stack, std, stop_gradient, sub, sum, swapaxes, take, tanh, tensor, trace, transpose, tril,
    triu, uniform, var, where, zeros, zeros_like,
)  # fmt: skip

__version__ = "0.1.0"
