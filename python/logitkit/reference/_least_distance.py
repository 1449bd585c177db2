"""The widest direction against a few constraints, by non-negative least squares."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

ZERO_RESIDUAL = 1e-12  # |r| at or below this is taken for 0


class LeastDistanceSolution(NamedTuple):
    """A direction, or weights that show that there is none."""

    feasible: bool
    direction: NDArray[np.float64]
    margin: float
    weights: NDArray[np.float64]


def least_distance(
    center: ArrayLike, points: ArrayLike, rays: ArrayLike | None = None
) -> LeastDistanceSolution:
    r"""
    Shortest `y` with ``c_j . y >= 1`` for every point and ``e . y >= 0`` for every ray.

    Here `c_j` is ``center - points[j]`` scaled to length 1, and so is `e`. Lawson and
    Hanson [1]_, chapter 23:

    .. math:: \min_{x \ge 0} |E x - f|, \qquad
        E = \begin{pmatrix} c_j & e \\ 1 & 0 \end{pmatrix}, \quad
        f = \begin{pmatrix} 0 \\ 1 \end{pmatrix}

    With the residual ``r = f - E x = (-p, |r|^2)`` other than 0, ``y = p / |r|^2``; a
    residual of 0 gives ``sum x_j c_j + sum x_e e = 0``, so that there is no such `y`.

    Parameters
    ----------
    center : array_like, shape (d,)
        The point that has to win.
    points : array_like, shape (m, d)
        The points that it has to beat. Those that coincide with it are left out.
    rays : array_like, shape (q, d), optional
        Half-spaces through the origin; default none.

    Returns
    -------
    LeastDistanceSolution
        Whether there is such a `y`; its direction; the margin `|r|`, a lower bound of
        every ``c_j . direction``; and the weights of points and rays as they were
        given, those of the points adding up to 1.

    References
    ----------
    .. [1] C. L. Lawson and R. J. Hanson, "Solving Least Squares Problems", 1974.
    """
    from scipy.optimize import nnls

    center = np.asarray(center, np.float64)
    d = len(center)
    differences = center - np.asarray(points, np.float64).reshape(-1, d)
    directions = np.zeros((0, d)) if rays is None else np.asarray(rays, np.float64).reshape(-1, d)
    right_side = np.repeat([1.0, 0.0], [len(differences), len(directions)])
    vectors = np.vstack([differences, directions])
    lengths = np.linalg.norm(vectors, axis=1)
    used = lengths > 0.0  # a vector of length 0 constrains nothing

    e = np.vstack([vectors[used].T / lengths[used], right_side[used]])
    f = np.append(np.zeros(d), 1.0)
    x, margin = nnls(e, f) if used.any() else (np.zeros(0), 1.0)
    residual = f - e @ x
    feasible = margin > ZERO_RESIDUAL
    length = np.linalg.norm(residual[:d])
    direction = -residual[:d] / length if feasible and length > 0.0 else np.zeros(d)
    weights = np.zeros(len(vectors))
    weights[used] = x / lengths[used]
    if (total := weights @ right_side) > 0.0:
        weights /= total
    return LeastDistanceSolution(feasible, direction, float(margin) * feasible, weights)
