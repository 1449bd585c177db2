"""Kernels and methods for everything between logits and decisions."""

from . import reference
from ._linear_argmax import linear_argmax, linear_topk
from ._logsumexp import logsumexp
from ._softmax import log_softmax, softmax
from ._softmax_stats import softmax_stats
from ._softmax_vjp import log_softmax_vjp, logsumexp_vjp, softmax_vjp
from .argmaxable import ArgmaxableReport, Box, Verdict, check_argmaxable
from .reference import SoftmaxStats

__all__ = [
    "ArgmaxableReport",
    "Box",
    "SoftmaxStats",
    "Verdict",
    "check_argmaxable",
    "linear_argmax",
    "linear_topk",
    "log_softmax",
    "log_softmax_vjp",
    "logsumexp",
    "logsumexp_vjp",
    "reference",
    "softmax",
    "softmax_stats",
    "softmax_vjp",
]
