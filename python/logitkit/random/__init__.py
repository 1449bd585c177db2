"""
Random numbers that do not depend on batches, chunks, threads or devices.

A `Philox` is a seed and a step; each number that it draws is a function of these two, of the id
of a row and of a position in the row.
"""

from ._gumbel import gumbel_argmax, gumbel_top_k
from ._philox import Philox, as_philox

__all__ = ["Philox", "as_philox", "gumbel_argmax", "gumbel_top_k"]
