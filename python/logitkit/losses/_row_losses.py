"""The definitions that become operators of PyTorch."""

from ._class_losses import FOCAL, GENERALIZED, LOG_LOSS, POLY, SMOOTH_ACCURACY
from ._multilabel import MULTILABEL
from ._multilabel_decoding import EXCESS, SYMMETRIC_KL
from ._subsets import CIRCLE, COMBINATORIAL

ROW_LOSSES = (
    CIRCLE,
    COMBINATORIAL,
    EXCESS,
    FOCAL,
    GENERALIZED,
    LOG_LOSS,
    MULTILABEL,
    POLY,
    SMOOTH_ACCURACY,
    SYMMETRIC_KL,
)
