"""
Losses of logits, of arrays and of tensors, with exact gradients.

A loss is a function of logits and a target. Tensors are differentiated by ``backward``; for
arrays `value_and_grad` makes of a loss a function that returns its gradient, too. Each has a
namesake in ``logitkit.reference.losses``, which computes it in ``float64`` by its definition.

Every loss has the same further arguments, so far as they make sense: `axis`, `mask`,
`ignore_index`, `label_smoothing`, `weight`, `sample_weight`, `reduction` and `denominator`. A row
that is left out never changes anything, whatever it holds.
"""

from ._bounded_losses import beta_bernoulli, generalized_cross_entropy, smooth_accuracy
from ._class_losses import focal, logit_adjusted_cross_entropy, poly
from ._cross_entropy import cross_entropy
from ._entmax_losses import (
    entmax_loss,
    sparsemax_loss,
)
from ._exact_training import (
    GradientNormalizer,
    NormalizedGradients,
    standardized,
    standardized_vjp,
    truncate_classes,
)
from ._expected_accuracy import expected_accuracy
from ._fenchel_young import (
    fenchel_young,
)
from ._from_metric import from_metric, stretched
from ._grouped import (
    GroupedStationary,
    grouped_cross_entropy,
    grouped_probabilities,
    grouped_stationary_target,
)
from ._leads import hinge, polynomial_zero_one, sigmoid_zero_one
from ._linear_cross_entropy import linear_cross_entropy
from ._metrics import (
    smooth_auc,
    smooth_f_score,
    smooth_iou,
    smooth_matthews,
    smooth_precision,
    smooth_recall,
)
from ._multilabel import (
    multilabel_cross_entropy,
)
from ._multilabel_decoding import (
    excess_multilabel_cross_entropy,
    multilabel_labels,
    multilabel_probabilities,
    symmetric_kl,
)
from ._schedules import CrossEntropyFirst, GeometricSchedule, LinearSchedule
from ._sparse_multilabel import (
    span_cross_entropy,
    sparse_multilabel_cross_entropy,
)
from ._subsets import (
    circle_loss,
    combinatorial_cross_entropy,
)
from ._top_k import (
    smooth_balanced_accuracy,
    smooth_top_k_accuracy,
    z_loss,
)
from ._value_and_grad import (
    value_and_grad,
)
from ._with_aux import (
    LossAux,
    beta_bernoulli_with_aux,
    cross_entropy_with_aux,
    entmax_loss_with_aux,
    expected_accuracy_with_aux,
    fenchel_young_with_aux,
    focal_with_aux,
    generalized_cross_entropy_with_aux,
    hinge_with_aux,
    linear_cross_entropy_with_aux,
    logit_adjusted_cross_entropy_with_aux,
    poly_with_aux,
    polynomial_zero_one_with_aux,
    sigmoid_zero_one_with_aux,
    smooth_accuracy_with_aux,
    smooth_balanced_accuracy_with_aux,
    smooth_top_k_accuracy_with_aux,
    sparsemax_loss_with_aux,
    with_aux,
)

__all__ = [
    "CrossEntropyFirst",
    "GeometricSchedule",
    "GradientNormalizer",
    "GroupedStationary",
    "LinearSchedule",
    "LossAux",
    "NormalizedGradients",
    "beta_bernoulli",
    "beta_bernoulli_with_aux",
    "circle_loss",
    "combinatorial_cross_entropy",
    "cross_entropy",
    "cross_entropy_with_aux",
    "entmax_loss",
    "entmax_loss_with_aux",
    "excess_multilabel_cross_entropy",
    "expected_accuracy",
    "expected_accuracy_with_aux",
    "fenchel_young",
    "fenchel_young_with_aux",
    "focal",
    "focal_with_aux",
    "from_metric",
    "generalized_cross_entropy",
    "generalized_cross_entropy_with_aux",
    "grouped_cross_entropy",
    "grouped_probabilities",
    "grouped_stationary_target",
    "hinge",
    "hinge_with_aux",
    "linear_cross_entropy",
    "linear_cross_entropy_with_aux",
    "logit_adjusted_cross_entropy",
    "logit_adjusted_cross_entropy_with_aux",
    "multilabel_cross_entropy",
    "multilabel_labels",
    "multilabel_probabilities",
    "poly",
    "poly_with_aux",
    "polynomial_zero_one",
    "polynomial_zero_one_with_aux",
    "sigmoid_zero_one",
    "sigmoid_zero_one_with_aux",
    "smooth_accuracy",
    "smooth_accuracy_with_aux",
    "smooth_auc",
    "smooth_balanced_accuracy",
    "smooth_balanced_accuracy_with_aux",
    "smooth_f_score",
    "smooth_iou",
    "smooth_matthews",
    "smooth_precision",
    "smooth_recall",
    "smooth_top_k_accuracy",
    "smooth_top_k_accuracy_with_aux",
    "span_cross_entropy",
    "sparse_multilabel_cross_entropy",
    "sparsemax_loss",
    "sparsemax_loss_with_aux",
    "standardized",
    "standardized_vjp",
    "stretched",
    "symmetric_kl",
    "truncate_classes",
    "value_and_grad",
    "with_aux",
    "z_loss",
]
