"""Draws of noise, and of the classes with the largest sums."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ._noise import Exponential, Gumbel, Noise, Normal, ReversedExponential

if TYPE_CHECKING:
    from ..random import Philox

_CHUNK = 2**20  # elements of noise at a time


def largest(x: Any, draws: int, k: int, noise: Noise, scale: float, rng: int | Philox) -> Any:
    """Return the classes of the k largest sums, (draws * r, k), for rows (r, n)."""
    result = np.empty((draws * len(x), k), np.int64)
    for ids, sums in _chunks(x, draws, noise, scale, rng):
        if k == 1:
            result[ids, 0] = np.argmax(sums, axis=-1)
        else:
            result[ids] = np.argsort(-sums, axis=-1, kind="stable")[:, :k]
    return result


def sums(x: Any, draws: int, noise: Noise, scale: float, rng: int | Philox) -> Any:
    """Return logits plus noise, (draws * r, n)."""
    result = np.empty((draws * len(x), x.shape[-1]), x.dtype)
    for ids, values in _chunks(x, draws, noise, scale, rng):
        result[ids] = values
    return result


def _chunks(
    x: Any, draws: int, noise: Noise, scale: float, rng: int | Philox
) -> Iterator[tuple[Any, Any]]:
    """Yield ids of draws and their logits plus noise: an id is that of a row of noise."""
    from ..random import as_philox

    generator, (rows, n) = as_philox(rng), x.shape
    size = max(1, _CHUNK // n)
    for begin in range(0, draws * rows, size):
        ids = np.arange(begin, min(begin + size, draws * rows))
        yield ids, x[ids % rows] + scale * draw(noise, generator, ids, n, x.dtype)


def draw(noise: Noise, rng: Philox, ids: Any, n: int, dtype: Any) -> Any:
    """Return noise (ids, n): a row for each id."""
    match noise:
        case Normal():
            return rng.normal(ids, n, dtype)
        case Gumbel():
            return rng.gumbel(ids, n, dtype)
        case Exponential():
            return rng.exponential(ids, n, dtype)
        case ReversedExponential():
            return -rng.exponential(ids, n, dtype)
    return np.asarray(noise.ppf(rng.uniform(ids, n))).astype(dtype)
