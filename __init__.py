"""gradtape: a tracing compiler for model code in NumPy style.

A model is compiled once and trained by calling it:

    import gradtape as gt

    model = gt.models.GPT(vocab=65, context=64, width=128, depth=4, heads=4)
    step = gt.compile(model, loss=gt.cross_entropy, optimizer=gt.AdamW(lr=1e-3))
    loss = step(x, y)  # forward, backward and update in one call
"""

from typing import TYPE_CHECKING

from . import models, showing
from .compiler import (
    Compiled,
    GradientError,
    IndexOutOfRange,
    NotFinite,
    compile,
    load,
    objective,
)
from .derivatives import grad, value_and_grad
from .ir.dims import Dim
from .models import SGD, Adam, AdamW, Lion, Optimizer, clip_by_global_norm, from_function, generate, init, nn, schedule
from .planning import MemoryBudgetError
from .runtime.cache import CacheWarning

# isort: off
# fmt: off
from .tracer import (  # models and tensors
    Module, Parameter, Tensor, buffer, freeze, manual_seed, no_grad, spec, stop_gradient, tensor, trace,
)
from .tracer import RuleError, callback, checkpoint, custom_vjp  # own rules
from .tracer import (  # elementwise: arithmetic, exponentials, rounding, choice, activations
    abs, absolute, add, ceil, clip, copysign, div, divide, erf, erfinv, exp, exp2, expm1, floor, floor_divide, gelu,
    heaviside, hypot, lerp, log, log10, log1p, log2, logaddexp, maximum, minimum, mul, multiply, neg, negative,
    nextafter, positive, pow, power, reciprocal, relu, remainder, round, rsqrt, sigmoid, sign, silu, sqrt,
    square, sub, subtract, true_divide, trunc, where,
)
from .tracer import (  # elementwise: angles
    acos, acosh, arctan2, asin, asinh, atan, atan2, atanh, cos, cosh, sin, sinh, tan, tanh,
)
from .tracer import (  # elementwise: questions, logic, bits
    bitwise_and, bitwise_invert, bitwise_left_shift, bitwise_or, bitwise_right_shift, bitwise_xor, equal, greater,
    greater_equal, isfinite, isinf, isnan, less, less_equal, logical_and, logical_not, logical_or, logical_xor,
    not_equal, signbit,
)
from .tracer import (  # reductions
    all, any, argmax, argmin, log_softmax, logsumexp, max, mean, min, prod, softmax, std, sum, var,
)
from .tracer import (  # shape
    astype, broadcast_to, chunk, concat, concatenate, expand_dims, flatten, moveaxis, permute, ravel, reshape,
    split, squeeze, stack, swapaxes, transpose, tril, triu,
)
from .tracer import (  # arrays
    arange, eye, full, full_like, linspace, ones, ones_like, zeros, zeros_like,
)
from .tracer import (  # elements arranged anew
    broadcast_arrays, diag, diagonal, diff, flip, meshgrid, pad, repeat, repeat_interleave, roll, split_with_sizes,
    tile, unstack,
)
from .tracer import (  # along an axis
    cummax, cummin, cumprod, cumsum, linear_scan, logcumsumexp,
)
from .tracer import (  # NaN left out, counting, places in order
    bincount, count_nonzero, nan_to_num, nanmean, nansum, searchsorted,
)
from .tracer import (  # random numbers
    bernoulli, categorical, exponential, gumbel, normal, rand, randint, randn, uniform,
)
from .tracer import (  # order
    argsort, median, nonzero, quantile, sort, topk,
)
from .tracer import (  # networks
    batch_norm, cached_attention, cosine_similarity, dropout, dropout1d, dropout2d, embedding, group_norm,
    instance_norm, layer_norm, linear, matmul, normalize, one_hot, pairwise_distance, rms_norm,
    scaled_dot_product_attention,
)
from .tracer import (  # activations
    celu, elu, glu, hardshrink, hardsigmoid, hardswish, hardtanh, leaky_relu, logsigmoid, mish, prelu, relu6, selu,
    softmin, softplus, softshrink, softsign, tanhshrink,
)
from .tracer import (  # products
    addmm, bmm, einsum, outer, tensordot,
)
from .tracer import (  # reading and writing by index
    at, dynamic_slice, dynamic_update_slice, gather, index_add, index_select, masked_fill, put_along_axis, scatter,
    scatter_add, segment_sum, take, take_along_axis,
)
from .tracer import (  # loops
    scan,
)
from .tracer import (  # convolution and pooling
    adaptive_avg_pool1d, adaptive_avg_pool2d, avg_pool1d, avg_pool2d, conv1d, conv2d, conv_transpose1d,
    conv_transpose2d, max_pool1d, max_pool2d, unfold,
)
from .tracer import (  # losses
    binary_cross_entropy, binary_cross_entropy_with_logits, cosine_embedding_loss, cross_entropy, gaussian_nll_loss,
    hinge_embedding_loss, huber_loss, kl_div, l1_loss, margin_ranking_loss, mse, mse_loss,
    multilabel_soft_margin_loss, nll_loss, poisson_nll_loss, smooth_l1_loss, soft_margin_loss, triplet_margin_loss,
)
from .tracer.mistakes import missing as _missing  # names of other libraries: what to write instead
# fmt: on
# isort: on

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .linting import LintError, LintWarning, lint
    from .passes.lint import Report
    from .passes.microbatch import MicrobatchError

# Of what a start from the cache does not need, and saves 40 ms without: imported when it is asked for.
_OF_THE_LINT = ("LintError", "LintWarning", "Report", "lint")


def __getattr__(name: str) -> object:
    if name in _OF_THE_LINT:
        from . import linting

        return getattr(linting, name)
    if name == "MicrobatchError":
        from .passes.microbatch import MicrobatchError

        return MicrobatchError
    return _missing(name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_OF_THE_LINT, "MicrobatchError"})
