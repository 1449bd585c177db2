"""Log-sum-exp, entropy, maximum and sum of squares of a softmax by their definitions."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ._logsumexp import logsumexp
from ._rows import as_rows, floating


class SoftmaxStats(NamedTuple):
    """
    Log-sum-exp of logits z, and what their softmax p is like: arrays of one shape, or scalars.

    Parameters
    ----------
    logsumexp : ndarray or scalar
        Log-sum-exp of z, in nats.
    entropy : ndarray or scalar
        Entropy of p, in nats.
    max : ndarray or scalar
        Maximum of z.
    sum_of_squares : ndarray or scalar
        Sum of the squares of p.
    """

    logsumexp: Any
    entropy: Any
    max: Any
    sum_of_squares: Any


def softmax_stats(
    x: Any, axis: int | tuple[int, ...] | None = -1, *, scale: float = 1.0
) -> SoftmaxStats:
    """Of z = scale * x and p = softmax(z): logsumexp(z), -sum(p log p), max(z) and sum(p^2)."""
    x = as_rows(np.atleast_1d(floating(x)), axis)
    with np.errstate(invalid="ignore"):
        z = np.where(x == -np.inf, x, scale * x)  # a mask, even where the scale is zero
        total = logsumexp(z, axis=-1, keepdims=True)
        log_p = np.where(z == -np.inf, z, z - total)  # as -inf - -inf would be NaN
    peak = np.max(z, axis=-1, initial=-np.inf)
    p = np.exp(log_p)
    entropy = -np.sum(p * np.where(p == 0.0, 0.0, log_p), axis=-1)
    squares = np.sum(p * p, axis=-1)
    infinite = peak == np.inf  # p has no value
    entropy, squares = (np.where(infinite, np.nan, value)[()] for value in (entropy, squares))
    return SoftmaxStats(total[..., 0], entropy, peak, squares)
