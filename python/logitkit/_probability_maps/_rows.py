"""Arguments as rows of float64, and what all maps do with masks and values that are not finite."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._lines import delivered, one_axis, result_type
from .._real_array import real_array, whole_number

Array = NDArray[np.float64]


def map_rows(of_rows: Callable[[Array], Array], x: Any, axis: int) -> Any:
    """Return `of_rows` of the lines of `x` along `axis`; NaN for lines without a softmax."""
    x = real_array("x", x)
    line = one_axis(axis, x.ndim)
    rows, shape = _rows(x, line)
    result = np.full(rows.shape, np.nan)
    usable = _usable(rows)
    if usable.any():
        result[usable] = of_rows(_within_range(rows[usable]))
    return delivered(np.moveaxis(result.reshape(shape), -1, line), None, result_type(x))


def pull_back(of_rows: Callable[[Array, Array], Array], x: Any, g: Any, axis: int) -> Any:
    """Return `of_rows` of the lines of `x` and `g`: 0 where `x` is masked."""
    x, g = real_array("x", x), real_array("g", g)
    if x.shape != g.shape:
        raise ValueError(f"expected g of shape {x.shape}, that of x, not {g.shape}")
    line = one_axis(axis, x.ndim)
    rows, shape = _rows(x, line)
    masked = rows == -np.inf
    cotangents = np.where(masked, 0.0, _rows(g, line)[0])
    result = np.full(rows.shape, np.nan)
    usable = _usable(rows)
    if usable.any():
        result[usable] = of_rows(_within_range(rows[usable]), cotangents[usable])
    result[masked & usable[:, np.newaxis]] = 0.0
    return delivered(np.moveaxis(result.reshape(shape), -1, line), None, result_type(x, g))


def _rows(x: Any, line: int) -> tuple[Array, tuple[int, ...]]:
    moved = np.moveaxis(x, line, -1)
    lines = int(np.prod(moved.shape[:-1], dtype=np.int64))
    return moved.astype(np.float64).reshape(lines, moved.shape[-1]), moved.shape


def _within_range(x: Array) -> Array:
    """Return rows whose differences are numbers: a quarter of those that are too far apart."""
    least = np.min(x, axis=1, keepdims=True, where=x > -np.inf, initial=np.inf)
    spread = 0.25 * x.max(axis=1, keepdims=True) - 0.25 * least
    quarter: Array = np.where(spread > 0.125 * np.finfo(np.float64).max, 0.25 * x, x)
    return quarter


def _usable(rows: Array) -> NDArray[np.bool_]:
    """Return which rows have a finite maximum: the others have no softmax."""
    if rows.shape[1] == 0:
        return np.zeros(len(rows), bool)
    usable: NDArray[np.bool_] = np.isfinite(rows.max(axis=1))
    return usable


def softmax_rows(x: Array) -> Array:
    """Return the softmax of each row, the maximum of which is finite."""
    power: Array = np.exp(x - x.max(axis=1, keepdims=True))
    power /= power.sum(axis=1, keepdims=True)
    return power


def softmax_pull_back(p: Array, g: Array) -> Array:
    """Return ``(diag(p) - p p^T) g``."""
    result: Array = p * (g - np.sum(p * g, axis=1, keepdims=True))
    return result


def threshold_pull_back(slope: Array, g: Array) -> Array:
    """
    Return ``(diag(s) - s s^T / sum(s)) g``.

    What a map ``p_i = F(x_i - t)`` has whose threshold t makes the sum of p constant, with
    ``s_i = F'(x_i - t)``: ``dt / dx_j = s_j / sum(s)``. Zero where all slopes are.
    """
    total = slope.sum(axis=1, keepdims=True)
    mean = np.sum(slope * g, axis=1, keepdims=True) / np.where(total > 0.0, total, 1.0)
    result: Array = slope * (g - mean)
    return result


def checked_k(k: int, n: int) -> int:
    """Return `k` if it counts some of `n` classes, or say what is wrong."""
    k = whole_number("k", k)
    if not 1 <= k <= n:
        raise ValueError(f"expected k from 1 to the {n} classes, not {k}")
    return k
