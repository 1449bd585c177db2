"""The definitions that become operators of PyTorch."""

from ._class_losses import FOCAL, GENERALIZED, LOG_LOSS, POLY, SMOOTH_ACCURACY
from ._multilabel import MULTILABEL

ROW_LOSSES = (FOCAL, GENERALIZED, LOG_LOSS, MULTILABEL, POLY, SMOOTH_ACCURACY)
