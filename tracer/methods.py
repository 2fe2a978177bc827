"""The functions of the op namespace that are methods of NumPy's or PyTorch's arrays: `x.cumsum(0)`, `x.topk(5)`,
`x.exp()`. Where both have the name the meaning is NumPy's. Plain arrays have NumPy's only: a model that must also run
eagerly calls the function."""

from __future__ import annotations

from ..ir.build import Ref
from . import arrange, einsum, indexing, running, sorting, update
from . import elementwise as e
from . import functional as f


class Methods(Ref):
    """What a Tensor can do beside what stands in its own class."""

    __slots__ = ()

    # NumPy's
    argmax = f.argmax
    argmin = f.argmin
    argsort = sorting.argsort
    clip = f.clip
    cumprod = running.cumprod
    cumsum = running.cumsum
    diagonal = arrange.diagonal
    nonzero = sorting.nonzero
    repeat = arrange.repeat
    round = e.round
    sort = sorting.sort  # a sorted copy, as in JAX; NumPy's sorts in place, PyTorch's returns a pair
    take = indexing.take

    # PyTorch's: elements by index, order, arrangement
    bmm = einsum.bmm
    clamp = f.clip
    cummax = running.cummax
    cummin = running.cummin
    diff = arrange.diff
    flip = arrange.flip
    gather = indexing.gather
    index_add = update.index_add
    index_select = indexing.index_select
    logcumsumexp = running.logcumsumexp
    logsumexp = f.logsumexp
    masked_fill = update.masked_fill
    moveaxis = f.moveaxis
    repeat_interleave = arrange.repeat_interleave
    roll = arrange.roll
    scatter = update.scatter
    scatter_add = update.scatter_add
    split_with_sizes = arrange.split_with_sizes
    tile = arrange.tile
    topk = sorting.topk
    unbind = arrange.unstack
    unfold = indexing.windows

    # PyTorch's: elementwise functions
    abs = e.abs
    acos = e.acos
    acosh = e.acosh
    asin = e.asin
    asinh = e.asinh
    atan = e.atan
    atan2 = e.atan2
    atanh = e.atanh
    ceil = e.ceil
    cos = e.cos
    cosh = e.cosh
    erf = e.erf
    erfinv = e.erfinv
    exp = e.exp
    exp2 = e.exp2
    expm1 = e.expm1
    floor = e.floor
    isfinite = e.isfinite
    isinf = e.isinf
    isnan = e.isnan
    log = e.log
    log10 = e.log10
    log1p = e.log1p
    log2 = e.log2
    maximum = e.maximum
    minimum = e.minimum
    pow = e.pow
    reciprocal = e.reciprocal
    relu = e.relu
    rsqrt = e.rsqrt
    sigmoid = e.sigmoid
    sign = e.sign
    sin = e.sin
    sinh = e.sinh
    sqrt = e.sqrt
    square = e.square
    tan = e.tan
    tanh = e.tanh
    trunc = e.trunc
