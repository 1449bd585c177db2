"""What is done to logits before the expected accuracy, by the definitions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike


def standardized(logits: ArrayLike, /, *, mask: ArrayLike | None = None) -> Any:
    """(x - mean) / deviation, of all numbers that count."""
    x = np.array(logits, np.float64)
    counts = np.isfinite(x) if mask is None else np.broadcast_to(np.asarray(mask), x.shape)
    some = x[counts]
    x[counts] = (some - some.mean()) / (some.std() or 1.0) if some.size else some
    return x


def standardized_vjp(
    logits: ArrayLike, cotangent: ArrayLike, /, *, mask: ArrayLike | None = None
) -> Any:
    """J^T g, J_ij = ((i == j) - 1 / n - z_i z_j / n) / deviation for z = standardized(x)."""
    x, g = np.asarray(logits, np.float64), np.array(cotangent, np.float64)
    counts = np.isfinite(x) if mask is None else np.broadcast_to(np.asarray(mask), x.shape)
    some, z = x[counts], standardized(x, mask=mask)[counts]
    if some.size:
        jacobian = np.eye(some.size) - 1.0 / some.size - np.outer(z, z) / some.size
        g[counts] = (g[counts] @ jacobian) / some.std() if some.std() > 0.0 else 0.0
    return g


def truncate_classes(
    logits: ArrayLike, target: ArrayLike, /, *, rivals: int, axis: int = -1
) -> Any:
    """-inf for all but the class of each row and the largest others."""
    x, y = np.moveaxis(np.array(logits, np.float64), axis, -1), np.asarray(target)
    for i in np.ndindex(*y.shape):
        own = max(y[i], 0)
        others = [j for j in np.argsort(-x[i], kind="stable") if j != own]
        x[i][others[rivals:]] = -np.inf
    return np.moveaxis(x, -1, axis)
