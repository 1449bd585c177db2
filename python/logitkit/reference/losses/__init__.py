"""What every loss computes, in NumPy and float64: row by row, without what is left out."""

from ._classes import (
    focal,
    generalized_cross_entropy,
    logit_adjusted_cross_entropy,
    poly,
    smooth_accuracy,
)
from ._multilabel import multilabel_cross_entropy

__all__ = [
    "focal",
    "generalized_cross_entropy",
    "logit_adjusted_cross_entropy",
    "multilabel_cross_entropy",
    "poly",
    "smooth_accuracy",
]
