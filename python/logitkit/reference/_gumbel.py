"""Choices by the largest of logits with Gumbel noise, by storing the noise."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._linear_argmax import LargestScores
from ._philox import Philox


def gumbel_argmax(
    logits: ArrayLike, rng: Any, axis: int = -1, *, rows: ArrayLike | None = None
) -> NDArray[np.int64]:
    """Index of the largest of logits with Gumbel noise: a draw from their softmax."""
    indices: NDArray[np.int64] = np.argmax(_perturbed(logits, rng, axis, rows), axis=axis)
    return indices


def gumbel_top_k(
    logits: ArrayLike, k: int, rng: Any, axis: int = -1, *, rows: ArrayLike | None = None
) -> LargestScores:
    """Largest `k` of logits with Gumbel noise: draws without replacement, in their order."""
    perturbed = _perturbed(logits, rng, axis, rows)
    indices = np.argsort(-perturbed, axis=axis, kind="stable").take(range(k), axis=axis)
    values = np.take_along_axis(perturbed, indices, axis=axis)
    return LargestScores(values, np.where(values > -np.inf, indices, -1))


def _perturbed(
    logits: ArrayLike, rng: Any, axis: int, rows: ArrayLike | None
) -> NDArray[np.float64]:
    """Return the logits with the noise of row `rows[i]` for the i-th line along `axis`."""
    x = np.moveaxis(np.asarray(logits, np.float64), axis, -1)
    lines = int(np.prod(x.shape[:-1]))
    philox = Philox(int(getattr(rng, "seed", rng)), getattr(rng, "step", 0))
    noise = philox.gumbel(lines if rows is None else np.ravel(rows), x.shape[-1])
    return np.moveaxis(x + noise.reshape(x.shape), -1, axis)
