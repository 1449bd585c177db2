"""One simplex of classes may cover many others: dead classes come in clusters."""

from __future__ import annotations

import numpy as np

from ._lifted import LiftedClasses
from ._problem import FloatArray, IndexArray

FILTER_ROWS = 8  # of the inverse, looked at before the others


class Cover:
    """The classes that a simplex may cover, laid out for the question."""

    def __init__(self, lifted: LiftedClasses, classes: IndexArray) -> None:
        self.lifted = lifted
        self.classes = classes
        points = lifted.points(classes)
        rank = lifted.whitening.rank
        self.columns = np.vstack([points[:, :rank].T, np.ones(len(classes))]).astype(np.float32)

    def keep(self, open_classes: set[int]) -> None:
        """Forget settled classes, once half of them are."""
        if 2 * len(open_classes) >= len(self.classes):
            return
        left = np.fromiter((i in open_classes for i in self.classes.tolist()), bool)
        self.classes = self.classes[left]
        self.columns = self.columns[:, left]

    def inside(self, support: IndexArray) -> IndexArray:
        """Return the classes that seem to lie in the simplex `support`, below its bias."""
        lifted = self.lifted
        rank = lifted.whitening.rank
        if len(support) != rank + 1:
            return self.classes[:0]
        vertices = lifted.points(support)
        try:
            inverse = np.linalg.inv(np.vstack([vertices[:, :rank].T, np.ones(rank + 1)]))
        except np.linalg.LinAlgError:  # flat to working precision: it covers nothing safely
            return self.classes[:0]
        # The steepest coordinates tell most; float32 is enough to rule out.
        steepest = np.argsort(-np.abs(inverse).sum(axis=1), kind="stable")[:FILTER_ROWS]
        rows = inverse[steepest].astype(np.float32)
        noise = (
            1e-6 * np.abs(rows).sum(axis=1, keepdims=True) * np.abs(self.columns).max(initial=0.0)
        )
        likely = (rows @ self.columns > -noise).all(axis=0)
        candidates = self.classes[likely]
        points = lifted.points(candidates)
        coordinates = inverse[:, :rank] @ points[:, :rank].T + inverse[:, rank:]
        inside = coordinates.min(axis=0, initial=np.inf) > 0.0
        if lifted.with_bias:
            inside &= vertices[:, -1] @ coordinates >= points[:, -1]
        return np.compress(inside, candidates)


def below_facet(lifted: LiftedClasses, support: IndexArray, point: FloatArray) -> IndexArray:
    """
    Drop one of rank + 2 classes so that `point` stays inside, and below.

    The lifted point lies in the simplex of rank + 2 points; the ray towards a larger bias
    leaves that simplex through a facet of rank + 1 points, which lies above it.
    """
    rank = lifted.whitening.rank
    if len(support) != rank + 2:
        return support
    matrix = np.vstack([lifted.points(support).T, np.ones(rank + 2)])
    # Barycentric coordinates, and how they change along the ray.
    right = np.zeros((rank + 2, 2))
    right[: rank + 1, 0] = point
    right[rank + 1, 0] = 1.0
    right[rank, 1] = 1.0
    try:
        coordinates, change = np.linalg.solve(matrix, right).T
    except np.linalg.LinAlgError:  # flat: the proof will say what it is worth
        return support
    falling = change < 0.0
    if not falling.any():
        return support
    steps = np.full(rank + 2, np.inf)
    steps[falling] = np.maximum(coordinates[falling], 0.0) / -change[falling]
    return np.delete(support, int(np.argmin(steps)))


def affinely_independent(
    lifted: LiftedClasses, support: IndexArray, weights: FloatArray
) -> IndexArray:
    """
    Drop classes of a convex combination until their rows are affinely independent.

    Caratheodory's reduction: weights may move along an affine dependence until one of them
    is 0. The direction is the one in which the bias of the combination does not fall.
    """
    rank = lifted.whitening.rank
    present = weights > 1e-12 * weights.max()
    support, weights = support[present], weights[present]
    while len(support) > 1:
        z = lifted.points(support)[:, :rank]
        _, singular, rows = np.linalg.svd(np.vstack([z.T, np.ones(len(support))]))
        if len(support) == np.count_nonzero(singular > 1e-9 * singular[0]):
            break
        dependence = rows[-1]
        if dependence @ lifted.beta[support] < 0.0:
            dependence = -dependence
        falling = dependence < 0.0
        steps = np.full(len(support), np.inf)
        steps[falling] = weights[falling] / -dependence[falling]
        leaving = int(np.argmin(steps))
        weights = np.delete(weights + steps[leaving] * dependence, leaving)
        support = np.delete(support, leaving)
    return support


def clusters(points: FloatArray, classes: IndexArray) -> dict[int, IndexArray]:
    """Group classes around leaders: {leader: the others within a tenth of its length}."""
    points = points.astype(np.float32)
    squares = np.einsum("ij,ij->i", points, points)
    free = np.ones(len(classes), bool)
    groups: dict[int, IndexArray] = {}
    block = 256
    for begin in range(0, len(classes), block):
        # Distances from a block of possible leaders, those already led excepted.
        leaders = begin + np.flatnonzero(free[begin : begin + block])
        rest = np.arange(begin, len(classes))
        distance = squares[leaders, None] + squares[rest] - 2.0 * (points[leaders] @ points[rest].T)
        near = distance <= 0.01 * squares[leaders, None]
        for leader, row in zip(leaders.tolist(), near, strict=True):
            if not free[leader]:
                continue
            free[leader] = False
            members = rest[row & free[rest]]
            free[members] = False
            groups[int(classes[leader])] = classes[members]
    return groups
