"""Kernels and methods for everything between logits and decisions."""

from . import reference
from ._linear_argmax import linear_argmax, linear_topk
from ._logsumexp import logsumexp

__all__ = ["linear_argmax", "linear_topk", "logsumexp", "reference"]
