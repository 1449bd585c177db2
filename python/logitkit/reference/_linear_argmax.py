"""Row maxima of a linear layer's scores, by storing the scores."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray


class LargestScores(NamedTuple):
    """The largest scores of each row, and the classes that have them."""

    values: NDArray[Any]
    indices: NDArray[np.int64]


def linear_argmax(
    x: ArrayLike, weight: ArrayLike, bias: ArrayLike | None = None, /
) -> LargestScores:
    """Maximum of each row of ``x @ weight.T + bias``, and the first index that attains it."""
    scores = _scores(x, weight, bias)
    indices = np.argmax(scores, axis=1)
    return LargestScores(np.take_along_axis(scores, indices[:, None], axis=1)[:, 0], indices)


def linear_topk(
    x: ArrayLike, weight: ArrayLike, bias: ArrayLike | None = None, /, *, k: int
) -> LargestScores:
    """Largest `k` of each row of ``x @ weight.T + bias``: NaN first, then descending, stable."""
    scores = _scores(x, weight, bias)
    # lexsort is stable; its last key is the first to count.
    order = np.lexsort((-scores, ~np.isnan(scores)), axis=1)[:, :k]
    return LargestScores(np.take_along_axis(scores, order, axis=1), order)


def _scores(x: ArrayLike, weight: ArrayLike, bias: ArrayLike | None) -> NDArray[np.float64]:
    scores = np.asarray(x, np.float64) @ np.asarray(weight, np.float64).T
    return scores if bias is None else scores + np.asarray(bias, np.float64)
