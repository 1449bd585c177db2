"""The definitions that become operators of PyTorch."""

from ._class_losses import FOCAL, GENERALIZED, LOG_LOSS, POLY, SMOOTH_ACCURACY
from ._cross_entropy import CROSS_ENTROPY
from ._expected_accuracy import EXPECTED_ACCURACY, LOG_EXPECTED_ACCURACY
from ._metrics import AUC, F_SCORE, IOU, MATTHEWS, PRECISION, RECALL
from ._multilabel import MULTILABEL
from ._multilabel_decoding import EXCESS, SYMMETRIC_KL
from ._subsets import CIRCLE, COMBINATORIAL

ROW_LOSSES = (
    AUC,
    CIRCLE,
    COMBINATORIAL,
    CROSS_ENTROPY,
    EXCESS,
    EXPECTED_ACCURACY,
    FOCAL,
    GENERALIZED,
    LOG_EXPECTED_ACCURACY,
    LOG_LOSS,
    MULTILABEL,
    POLY,
    SMOOTH_ACCURACY,
    SYMMETRIC_KL,
    *F_SCORE,
    *IOU,
    *MATTHEWS,
    *PRECISION,
    *RECALL,
)
