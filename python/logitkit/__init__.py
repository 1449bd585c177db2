"""Kernels and methods for everything between logits and decisions."""

from . import reference
from ._logsumexp import logsumexp

__all__ = ["logsumexp", "reference"]
