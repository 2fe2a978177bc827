"""gradtape: a tracing compiler for model code in NumPy style.

A model is compiled once and trained by calling it:

    import gradtape as gt

    model = gt.models.GPT(vocab=65, context=64, width=128, depth=4, heads=4)
    step = gt.compile(model, loss=gt.cross_entropy, optimizer=gt.AdamW(lr=1e-3))
    loss = step(x, y)  # forward, backward and update in one call
"""

from . import models
from .compiler import (
    Compiled,
    GradientError,
    IndexOutOfRange,
    LintError,
    LintWarning,
    NotFinite,
    compile,
    objective,
)
from .derivatives import grad, value_and_grad
from .ir.dims import Dim
from .linting import lint
from .models import SGD, Adam, AdamW, Lion, Optimizer, clip_by_global_norm, from_function, init, nn, schedule
from .passes.lint import Report

# isort: off
# fmt: off
from .tracer import (  # models and tensors
    Module, Parameter, Tensor, buffer, freeze, manual_seed, no_grad, spec, stop_gradient, tensor, trace,
)
from .tracer import (  # elementwise
    abs, add, clip, div, equal, erf, exp, gelu, greater, greater_equal, less, less_equal, log, logical_and,
    logical_not, logical_or, maximum, minimum, mul, neg, not_equal, pow, reciprocal, relu, rsqrt, sigmoid, sign,
    silu, sqrt, square, sub, tanh, where,
)
from .tracer import (  # reductions
    all, any, log_softmax, logsumexp, max, mean, min, prod, softmax, std, sum, var,
)
from .tracer import (  # shape
    astype, broadcast_to, chunk, concat, concatenate, expand_dims, flatten, moveaxis, permute, ravel, reshape,
    split, squeeze, stack, swapaxes, transpose, tril, triu,
)
from .tracer import (  # arrays
    arange, eye, full, full_like, ones, ones_like, uniform, zeros, zeros_like,
)
from .tracer import (  # networks
    dropout, embedding, layer_norm, linear, matmul, one_hot, rms_norm, scaled_dot_product_attention, take,
)
from .tracer import (  # convolution and pooling
    adaptive_avg_pool1d, adaptive_avg_pool2d, avg_pool1d, avg_pool2d, conv1d, conv2d, conv_transpose1d,
    conv_transpose2d, max_pool1d, max_pool2d,
)
from .tracer import (  # losses
    binary_cross_entropy_with_logits, cross_entropy, l1_loss, mse, mse_loss, nll_loss,
)
# fmt: on
# isort: on

__version__ = "0.1.0"
