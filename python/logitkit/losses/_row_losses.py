"""The definitions that become operators of PyTorch."""

from ._class_formulas import BETA_BERNOULLI, FOCAL, GENERALIZED, LOG_LOSS, POLY, SMOOTH_ACCURACY
from ._cross_entropy import CROSS_ENTROPY
from ._entmax_losses import ENTMAX
from ._expected_accuracy import EXPECTED_ACCURACY, LOG_EXPECTED_ACCURACY
from ._fenchel_young import FENCHEL_YOUNG
from ._grouped_kernel import GROUPED
from ._leads import HINGE, POLYNOMIAL, SIGMOID
from ._metric_kernels import AUC, F_SCORE, IOU, MATTHEWS, PRECISION, RECALL
from ._multilabel import MULTILABEL
from ._multilabel_decoding import EXCESS, SYMMETRIC_KL
from ._subsets import CIRCLE, COMBINATORIAL
from ._top_k import TOP_K, Z_LOSS

ROW_LOSSES = (
    AUC,
    BETA_BERNOULLI,
    CIRCLE,
    COMBINATORIAL,
    CROSS_ENTROPY,
    ENTMAX,
    EXCESS,
    EXPECTED_ACCURACY,
    FENCHEL_YOUNG,
    FOCAL,
    GENERALIZED,
    HINGE,
    LOG_EXPECTED_ACCURACY,
    LOG_LOSS,
    MULTILABEL,
    POLY,
    POLYNOMIAL,
    SIGMOID,
    SMOOTH_ACCURACY,
    SYMMETRIC_KL,
    TOP_K,
    Z_LOSS,
    *F_SCORE,
    *GROUPED.values(),
    *IOU,
    *MATTHEWS,
    *PRECISION,
    *RECALL,
)
