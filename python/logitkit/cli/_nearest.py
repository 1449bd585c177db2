"""The nearest live class of many classes in one pass over the weights."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Index = NDArray[np.int64]

_BLOCK_BYTES = 1 << 25
# Candidates per class: the distances of the pass suffer from cancellation inside of
# collapsed clusters, so the closest few are compared again.
_KEPT = 8


def nearest_live(weight: NDArray[Any], live: Index, classes: Index) -> list[int]:
    """
    Return what `report.nearest_argmaxable` does, for each of `classes`; -1 if none is live.

    One pass costs a conversion of the weights and a product with len(classes) columns;
    the method of the report would read the weights once for each class.
    """
    n, d = weight.shape
    if not live.size:
        return [-1] * classes.size
    own = weight[classes].astype(np.float64)
    center = own.mean(0)  # most of the classes asked for may sit on one point
    alive = np.zeros(n, bool)
    alive[live] = True
    best = np.full((_KEPT, classes.size), np.inf)
    found = np.full((_KEPT, classes.size), -1)
    rows = max(1, _BLOCK_BYTES // (8 * d))
    for start in range(0, n, rows):
        block = weight[start : start + rows].astype(np.float64) - center
        # |w_j - w_i|^2 without |w_i|^2, which is the same for all j
        distance = np.einsum("jk,jk->j", block, block)[:, None] - 2 * (block @ (own - center).T)
        distance[~alive[start : start + rows]] = np.inf
        index = np.arange(start, start + len(block))[:, None].repeat(classes.size, 1)
        distance, index = np.vstack([best, distance]), np.vstack([found, index])
        closest = np.argpartition(distance, _KEPT - 1, axis=0)[:_KEPT]
        best = np.take_along_axis(distance, closest, 0)
        found = np.take_along_axis(index, closest, 0)
    found[~np.isfinite(best)] = -1
    return [_closest(weight, own[q], found[:, q]) for q in range(classes.size)]


def _closest(weight: NDArray[Any], own: NDArray[np.float64], candidates: Index) -> int:
    candidates = np.sort(candidates[candidates >= 0])
    difference = weight[candidates].astype(np.float64) - own
    return int(candidates[np.einsum("jk,jk->j", difference, difference).argmin()])
