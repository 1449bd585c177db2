"""The definitions that become operators of PyTorch."""

from ._multilabel import MULTILABEL

ROW_LOSSES = (MULTILABEL,)
