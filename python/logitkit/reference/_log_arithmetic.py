"""Sums, differences and means of exponentials by their definitions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ._logsumexp import logsumexp


def logmeanexp(
    a: ArrayLike, axis: int | tuple[int, ...] | None = None, keepdims: bool = False
) -> Any:
    """log(mean(exp(a)))."""
    a = np.asarray(a, np.float64)
    n = np.sum(np.ones_like(a), axis=axis, keepdims=keepdims)
    with np.errstate(divide="ignore", invalid="ignore"):  # a mean of nothing is NaN
        return (np.reshape(logsumexp(a, axis=axis), np.shape(n)) - np.log(n))[()]


def logaddexp(x1: ArrayLike, x2: ArrayLike, /) -> Any:
    """log(exp(x1) + exp(x2))."""
    return logsumexp(np.stack(np.broadcast_arrays(x1, x2)), axis=0)


def logsubexp(x1: ArrayLike, x2: ArrayLike, /) -> Any:
    """log(exp(x1) - exp(x2)): NaN if it has none, and -inf for no difference."""
    x1, x2 = np.asarray(x1, np.float64), np.asarray(x2, np.float64)
    with np.errstate(invalid="ignore"):  # inf - inf
        return np.where((x1 == x2) & (x1 < np.inf), -np.inf, x1 + log1mexp(x2 - x1))[()]


def log1mexp(x: ArrayLike, /) -> Any:
    """log(1 - exp(x))."""
    x = np.asarray(x, np.float64)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # log(0), x > 0
        return np.where(x > -1.0, np.log(-np.expm1(x)), np.log1p(-np.exp(x)))[()]


def smooth_max(
    x: ArrayLike,
    axis: int | tuple[int, ...] | None = None,
    *,
    tau: float,
    keepdims: bool = False,
) -> Any:
    """Tau * log(sum(exp(x / tau))), shifted by the maximum so that no quotient overflows."""
    x = np.asarray(x, np.float64)
    shift = np.max(x, axis=axis, keepdims=True, initial=-np.inf)
    shift = np.where(np.isfinite(shift), shift, 0.0)
    with np.errstate(over="ignore"):
        total = logsumexp((x - shift) / tau, axis=axis)
    result = shift + tau * np.reshape(total, shift.shape)
    return result[()] if keepdims else np.squeeze(result, axis=axis)[()]
