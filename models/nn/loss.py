"""Losses as modules: `gt.nn.CrossEntropyLoss()(logits, target)`. PyTorch's names, argument order and defaults, without
`size_average` and `reduce`, which `reduction` has replaced there. Formulas stand at the functions in `gt`."""

from __future__ import annotations

from typing import Any

from ... import tracer as gt
from .function import Function


class Loss(Function):
    """A loss function as a module."""

    options = ("reduction",)

    def __init__(self, reduction: str = "mean") -> None:
        self.reduction = reduction


def _buffer(array: Any) -> Any:
    """Weights of classes are part of the module, and of its state_dict, but not trained."""
    return None if array is None else gt.buffer(array)


# classes ----------------------------------------------------------------------------------------------------------
class CrossEntropyLoss(Loss):
    """logits (..., classes), target (...) of integers or (..., classes) of probabilities. Key: weight, if given."""

    function = staticmethod(gt.cross_entropy)
    options = ("weight", "ignore_index", "reduction", "label_smoothing")

    def __init__(
        self,
        weight: Any = None,
        ignore_index: int | None = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        self.weight, self.ignore_index, self.reduction = _buffer(weight), ignore_index, reduction
        self.label_smoothing = label_smoothing


class NLLLoss(Loss):
    """log_probs (..., classes), target (...) of integers. Key: weight, if given."""

    function = staticmethod(gt.nll_loss)
    options = ("weight", "ignore_index", "reduction")

    def __init__(self, weight: Any = None, ignore_index: int | None = -100, reduction: str = "mean") -> None:
        self.weight, self.ignore_index, self.reduction = _buffer(weight), ignore_index, reduction


# numbers ----------------------------------------------------------------------------------------------------------
class MSELoss(Loss):
    """(prediction - target)**2"""

    function = staticmethod(gt.mse_loss)


class L1Loss(Loss):
    """|prediction - target|"""

    function = staticmethod(gt.l1_loss)


class SmoothL1Loss(Loss):
    """Quadratic below beta, then linear with slope 1."""

    function = staticmethod(gt.smooth_l1_loss)
    options = ("reduction", "beta")

    def __init__(self, reduction: str = "mean", beta: float = 1.0) -> None:
        self.reduction, self.beta = reduction, beta


class HuberLoss(Loss):
    """Quadratic up to delta, then linear with slope delta."""

    function = staticmethod(gt.huber_loss)
    options = ("reduction", "delta")

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        self.reduction, self.delta = reduction, delta


class GaussianNLLLoss(Loss):
    """Prediction, target and variance."""

    function = staticmethod(gt.gaussian_nll_loss)
    options = ("full", "eps", "reduction")

    def __init__(self, *, full: bool = False, eps: float = 1e-6, reduction: str = "mean") -> None:
        self.full, self.eps, self.reduction = full, eps, reduction


class PoissonNLLLoss(Loss):
    """The logarithm of a rate (or the rate), and a count."""

    function = staticmethod(gt.poisson_nll_loss)
    options = ("log_input", "full", "eps", "reduction")

    def __init__(self, log_input: bool = True, full: bool = False, eps: float = 1e-8, reduction: str = "mean") -> None:
        self.log_input, self.full, self.eps, self.reduction = log_input, full, eps, reduction


# probabilities ----------------------------------------------------------------------------------------------------
class BCELoss(Loss):
    """Probabilities and targets in [0, 1], of one shape. Key: weight, if given."""

    function = staticmethod(gt.binary_cross_entropy)
    options = ("weight", "reduction")

    def __init__(self, weight: Any = None, reduction: str = "mean") -> None:
        self.weight, self.reduction = _buffer(weight), reduction


class BCEWithLogitsLoss(Loss):
    """Logits, and targets in [0, 1], of one shape. Keys: weight and pos_weight, if given."""

    function = staticmethod(gt.binary_cross_entropy_with_logits)
    options = ("weight", "reduction", "pos_weight")

    def __init__(self, weight: Any = None, reduction: str = "mean", pos_weight: Any = None) -> None:
        self.weight, self.reduction, self.pos_weight = _buffer(weight), reduction, _buffer(pos_weight)


class KLDivLoss(Loss):
    """Logarithms of probabilities, and probabilities, or their logarithms with log_target."""

    function = staticmethod(gt.kl_div)
    options = ("reduction", "log_target")

    def __init__(self, reduction: str = "mean", log_target: bool = False) -> None:
        self.reduction, self.log_target = reduction, log_target


class SoftMarginLoss(Loss):
    """Predictions, and targets of 1 and -1."""

    function = staticmethod(gt.soft_margin_loss)


class MultiLabelSoftMarginLoss(Loss):
    """Logits (..., classes), and targets of 0 and 1. Key: weight, if given."""

    function = staticmethod(gt.multilabel_soft_margin_loss)
    options = ("weight", "reduction")

    def __init__(self, weight: Any = None, reduction: str = "mean") -> None:
        self.weight, self.reduction = _buffer(weight), reduction


# margins ----------------------------------------------------------------------------------------------------------
class _MarginLoss(Loss):
    options = ("margin", "reduction")


class HingeEmbeddingLoss(_MarginLoss):
    """Distances, and targets of 1 and -1."""

    function = staticmethod(gt.hinge_embedding_loss)

    def __init__(self, margin: float = 1.0, reduction: str = "mean") -> None:
        self.margin, self.reduction = margin, reduction


class MarginRankingLoss(_MarginLoss):
    """Two scores, and which is to be higher: 1 the first, -1 the second."""

    function = staticmethod(gt.margin_ranking_loss)

    def __init__(self, margin: float = 0.0, reduction: str = "mean") -> None:
        self.margin, self.reduction = margin, reduction


class CosineEmbeddingLoss(MarginRankingLoss):
    """Two vectors (N, width), and whether they belong together: 1, or -1."""

    function = staticmethod(gt.cosine_embedding_loss)


class TripletMarginLoss(Loss):
    """Anchor, positive and negative (..., width)."""

    function = staticmethod(gt.triplet_margin_loss)
    options = ("margin", "p", "eps", "swap", "reduction")

    def __init__(
        self,
        margin: float = 1.0,
        p: float = 2.0,
        eps: float = 1e-6,
        swap: bool = False,
        reduction: str = "mean",
    ) -> None:
        self.margin, self.p, self.eps, self.swap, self.reduction = margin, p, eps, swap, reduction


# distances --------------------------------------------------------------------------------------------------------
class CosineSimilarity(Function):
    """sum(x * y) / (norm(x) * norm(y)) along `dim`."""

    function = staticmethod(gt.cosine_similarity)
    options = ("dim", "eps")

    def __init__(self, dim: int = 1, eps: float = 1e-8) -> None:
        self.dim, self.eps = dim, eps


class PairwiseDistance(Function):
    """The p-norm of x - y + eps along the last axis."""

    function = staticmethod(gt.pairwise_distance)
    options = ("p", "eps", "keepdim")

    def __init__(self, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> None:
        self.p, self.eps, self.keepdim = p, eps, keepdim
