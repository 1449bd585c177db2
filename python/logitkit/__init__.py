"""Kernels and methods for everything between logits and decisions."""

from . import reference
from ._linear_argmax import linear_argmax, linear_topk
from ._logsumexp import logsumexp
from .argmaxable import ArgmaxableReport, Box, Verdict, check_argmaxable

__all__ = [
    "ArgmaxableReport",
    "Box",
    "Verdict",
    "check_argmaxable",
    "linear_argmax",
    "linear_topk",
    "logsumexp",
    "reference",
]
