"""What every loss computes, in NumPy and float64: row by row, without what is left out."""

from ._classes import (
    beta_bernoulli,
    focal,
    generalized_cross_entropy,
    logit_adjusted_cross_entropy,
    poly,
    smooth_accuracy,
)
from ._cross_entropy import cross_entropy, linear_cross_entropy
from ._exact_training import standardized, standardized_vjp, truncate_classes
from ._expected_accuracy import expected_accuracy
from ._fenchel_young import (
    fenchel_young,
)
from ._grouped import (
    grouped_cross_entropy,
)
from ._implicit import (
    entmax_loss,
    smooth_balanced_accuracy,
    smooth_top_k_accuracy,
    sparsemax_loss,
    z_loss,
)
from ._leads import hinge, polynomial_zero_one, sigmoid_zero_one
from ._metrics import (
    smooth_auc,
    smooth_f_score,
    smooth_iou,
    smooth_matthews,
    smooth_precision,
    smooth_recall,
)
from ._multilabel import (
    excess_multilabel_cross_entropy,
    multilabel_cross_entropy,
    span_cross_entropy,
    sparse_multilabel_cross_entropy,
    symmetric_kl,
)
from ._subsets import (
    circle_loss,
    combinatorial_cross_entropy,
)
from ._with_aux import with_aux

__all__ = [
    "beta_bernoulli",
    "circle_loss",
    "combinatorial_cross_entropy",
    "cross_entropy",
    "entmax_loss",
    "excess_multilabel_cross_entropy",
    "expected_accuracy",
    "fenchel_young",
    "focal",
    "generalized_cross_entropy",
    "grouped_cross_entropy",
    "hinge",
    "linear_cross_entropy",
    "logit_adjusted_cross_entropy",
    "multilabel_cross_entropy",
    "poly",
    "polynomial_zero_one",
    "sigmoid_zero_one",
    "smooth_accuracy",
    "smooth_auc",
    "smooth_balanced_accuracy",
    "smooth_f_score",
    "smooth_iou",
    "smooth_matthews",
    "smooth_precision",
    "smooth_recall",
    "smooth_top_k_accuracy",
    "span_cross_entropy",
    "sparse_multilabel_cross_entropy",
    "sparsemax_loss",
    "standardized",
    "standardized_vjp",
    "symmetric_kl",
    "truncate_classes",
    "with_aux",
    "z_loss",
]
