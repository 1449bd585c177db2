"""Vector-Jacobian products of the softmax family by their definitions."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._rows import floating
from ._softmax import softmax


def softmax_vjp(y: Any, g: Any, /, axis: int | tuple[int, ...] | None = None) -> Any:
    """Gradient at x of sum(g * y), where y = softmax(x, axis): y * (g - sum(y * g))."""
    y, g = floating(y), floating(g)
    return y * (g - np.sum(y * g, axis=axis, keepdims=True))


def log_softmax_vjp(y: Any, g: Any, /, axis: int | tuple[int, ...] | None = None) -> Any:
    """Gradient at x of sum(g * y), where y = log_softmax(x, axis): g - exp(y) * sum(g)."""
    y, g = floating(y), floating(g)
    masked = np.max(y, axis=axis, keepdims=True, initial=-np.inf) == -np.inf
    return np.where(masked, 0.0, g - np.exp(y) * np.sum(g, axis=axis, keepdims=True))[()]


def logsumexp_vjp(
    x: Any,
    g: Any,
    /,
    axis: int | tuple[int, ...] | None = None,
    keepdims: bool = False,
) -> Any:
    """Gradient at x of sum(g * logsumexp(x, axis)): g * softmax(x, axis), or 0 if all is -inf."""
    x, g = floating(x), floating(g)
    if not keepdims:
        g = np.expand_dims(g, tuple(range(x.ndim)) if axis is None else axis)
    masked = np.max(x, axis=axis, keepdims=True, initial=-np.inf) == -np.inf
    return np.where(masked, 0.0, g * softmax(x, axis=axis))[()]
