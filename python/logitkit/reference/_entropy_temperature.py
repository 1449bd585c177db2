"""The temperature of a given entropy by bisection, and its derivative."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike


def entropy_temperature(x: ArrayLike, target_entropy: ArrayLike, axis: int = -1) -> Any:
    """Bisect the interval of all temperatures for entropy(softmax(x / temperature)) = target."""
    rows = np.moveaxis(np.asarray(x, np.float64), axis, -1)
    targets = np.broadcast_to(np.asarray(target_entropy, np.float64), rows.shape[:-1])
    result = np.empty(targets.shape)
    for index, target in np.ndenumerate(targets):
        row = rows[index]
        visible = row[row != -np.inf]
        if np.isnan(visible).any() or (visible == np.inf).any() or np.isnan(target):
            result[index] = np.nan
        elif visible.size == 0 or visible.max() == visible.min():
            result[index] = 1.0
        else:
            result[index] = _bisect(visible, target)
    return result[()]


def entropy_temperature_vjp(
    x: ArrayLike, temperature: ArrayLike, g: ArrayLike, axis: int = -1
) -> Any:
    """G * dt/dx = g * p (z - mean) / variance, and g * dt/dH = g * t / variance, z = x / t."""
    rows = np.moveaxis(np.asarray(x, np.float64), axis, -1)
    t, g = np.asarray(temperature, np.float64)[..., None], np.asarray(g, np.float64)[..., None]
    z = (rows - np.max(rows, axis=-1, keepdims=True)) / t
    p = np.exp(z) / np.sum(np.exp(z), axis=-1, keepdims=True)
    z = np.where(p > 0.0, z, 0.0)
    centred = z - np.sum(p * z, axis=-1, keepdims=True)
    variance = np.sum(p * centred**2, axis=-1, keepdims=True)
    return np.moveaxis(g * p * centred / variance, -1, axis), (g * t / variance)[..., 0]


def _bisect(row: Any, target: float) -> float:
    if target <= np.log(np.sum(row == row.max())):
        return 0.0
    if target >= np.log(row.size):
        return float(np.inf)
    low, high = -700.0, 700.0  # of the logarithm of the temperature
    for _ in range(80):
        middle = (low + high) / 2.0
        low, high = (middle, high) if _entropy(row, np.exp(middle)) < target else (low, middle)
    return float(np.exp((low + high) / 2.0))


def _entropy(row: Any, temperature: float) -> float:
    with np.errstate(over="ignore", under="ignore"):
        z = (row - row.max()) / temperature
        p = np.exp(z) / np.sum(np.exp(z))
    return float(-np.sum(p[p > 0.0] * np.log(p[p > 0.0])))
