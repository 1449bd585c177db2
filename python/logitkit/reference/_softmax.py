"""Softmax and its logarithm by their definitions."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._rows import floating


def softmax(x: Any, axis: int | tuple[int, ...] | None = None) -> Any:
    """exp(x) / sum(exp(x)), shifted by the maximum so that no exponential overflows."""
    x = floating(x)
    with np.errstate(invalid="ignore"):  # inf - inf: without a finite maximum there is no result
        weights = np.exp(x - np.max(x, axis=axis, keepdims=True))
        return weights / np.sum(weights, axis=axis, keepdims=True)


def log_softmax(x: Any, axis: int | tuple[int, ...] | None = None) -> Any:
    """Logarithm of it: x - log(sum(exp(x))), shifted in the same way."""
    x = floating(x)
    shift = np.max(x, axis=axis, keepdims=True)
    shifted = x - np.where(np.isfinite(shift), shift, 0.0)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # log(0), inf - inf
        return shifted - np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True))
