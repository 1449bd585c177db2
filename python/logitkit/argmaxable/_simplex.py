"""Barycentric coordinates in a simplex of classes, with a bound of every error.

The method is the classical verification of a linear system with an approximate inverse:
S. M. Rump, "Verification methods", Acta Numerica 19 (2010), section 10. Here the systems
are ``y N = b`` with one row `b` for each class that shares the simplex.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ._error_free import (
    OUTWARD,
    TINY,
    UNIT,
    accurate_residual,
    gamma,
    power_of_two_above,
    two_difference,
)

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Enclosure:
    """Coordinates `value` (g, k), each at most `radius` (g, k) from the exact ones."""

    value: Array
    radius: Array


@dataclass(frozen=True, eq=False)
class Simplex:
    """
    A factorised simplex: ``N = [(v_j - c) 2^-f, 2^s] 2^-e_j`` and its approximate inverse.

    Attributes
    ----------
    matrix, low : ndarray, shape (k, k)
        `N` and what rounding the differences lost (None if nothing).
    inverse : ndarray, shape (k, k)
        Approximate inverse `R`.
    contraction : ndarray, shape (k,)
        Bounds of the column sums of ``abs(I - N R)``, all below one.
    centre, columns, rows, total
        The shift `c` and the exponents `f` (k - 1,), `e` (k,) and `s`.
    """

    matrix: Array
    low: Array | None
    inverse: Array
    contraction: Array
    centre: Array
    columns: NDArray[np.int32]
    rows: NDArray[np.int32]
    total: int

    def coordinates(self, points: Array, *, careful: bool) -> Enclosure:
        """
        Enclose the barycentric coordinates of each row of `points`.

        `careful` refines twice with residuals in twice the precision: the coordinates are
        then accurate even where they differ by many orders of magnitude.
        """
        b, b_low = self._right_hand_sides(points)
        k = self.matrix.shape[0]
        y = b @ self.inverse
        if careful:
            for _ in range(2):
                y = y + accurate_residual(b, b_low, y, self.matrix, self.low)[0] @ self.inverse
            residual, bound = accurate_residual(b, b_low, y, self.matrix, self.low)
            step = np.abs(residual @ self.inverse)
            bound = bound + gamma(k) * np.abs(residual)
        else:
            y = y + (b - y @ self.matrix) @ self.inverse  # to a small backward error
            residual = b - y @ self.matrix
            bound = np.abs(residual) + np.abs(b_low) + TINY
            bound += gamma(k + 2) * (np.abs(y) @ np.abs(self.matrix) + np.abs(b))
            if self.low is not None:
                bound += np.abs(y) @ np.abs(self.low)
            step = np.zeros_like(y)
        # The exact solution is y + v + v E + v E^2 + ... with v = residual R, E = I - N R.
        v = step + bound @ np.abs(self.inverse)
        alpha = self.contraction.max()
        tail = v.max(axis=1, keepdims=True) * (self.contraction / (1.0 - alpha))
        radius = (v + tail) * OUTWARD + TINY
        return Enclosure(np.ldexp(y, -self.columns), np.ldexp(radius, -self.columns))

    def _right_hand_sides(self, points: Array) -> tuple[Array, Array]:
        difference, low = two_difference(points, self.centre)
        one = np.full((len(points), 1), np.ldexp(1.0, self.total))
        b = np.hstack([np.ldexp(difference, -self.rows), one])
        return b, np.hstack([np.ldexp(low, -self.rows), np.zeros_like(one)])

    def gradient_norms(self) -> Array:
        """Bound the Euclidean norms of the gradients of the coordinates, shape (k,)."""
        # Entry (r, j) of N^-1 - R = R E (I - E)^-1 is at most max_l |R_rl| a_j / (1 - a).
        gradients = np.ldexp(self.inverse[:-1], -self.rows[:, None])
        largest = np.abs(gradients).max(axis=1, initial=0.0)
        error = float(np.linalg.norm(largest)) * self.contraction / (1.0 - self.contraction.max())
        norms = (np.linalg.norm(gradients, axis=0) + error) * OUTWARD
        scaled: Array = np.ldexp(norms, -self.columns)
        return scaled


def factorise(vertices: Array, centre: Array) -> Simplex | None:
    """
    Factorise the simplex of `vertices`, shape (k, k - 1), shifted by `centre`.

    Returns None where the bound does not prove that the simplex is not degenerate. A
    centre near small coordinates makes their equations accurate: differences of float32
    numbers are exact in float64, and columns are scaled by powers of two, so that vertices
    may be 1e-8 and 1 away from it.
    """
    k = vertices.shape[0]
    difference, low = two_difference(vertices, centre)
    rows = power_of_two_above(np.abs(difference).max(axis=0, initial=0.0))
    difference, low = np.ldexp(difference, -rows), np.ldexp(low, -rows)
    size = np.abs(difference).max(axis=1, initial=0.0)
    if k == 1 or not np.isfinite(difference).all() or not size.any():
        return None
    columns = power_of_two_above(np.where(size > 0, size, size[size > 0].min()))
    total = int(columns.min())
    if int(columns.max()) - total > 500:
        return None  # scaling the last equation would underflow
    last = np.full((k, 1), np.ldexp(1.0, total))
    matrix = np.ldexp(np.hstack([difference, last]), -columns[:, None])
    low = np.ldexp(np.hstack([low, np.zeros((k, 1))]), -columns[:, None])
    try:
        inverse = np.linalg.inv(matrix)
    except np.linalg.LinAlgError:
        return None  # exactly singular: nothing is proved
    if not np.isfinite(inverse).all():
        return None
    # Column sums of |I - N R|, with the rounding of N R and of its difference from I.
    defect = np.abs(np.eye(k) - matrix @ inverse)
    contraction: Array = defect.sum(axis=0) * (1.0 + 4 * UNIT)
    magnitude = np.abs(inverse)
    contraction += gamma(k + 2) * (np.abs(matrix).sum(axis=0) @ magnitude)
    if low.any():
        contraction += np.abs(low).sum(axis=0) @ magnitude
    contraction = contraction * OUTWARD + TINY
    if not contraction.max() < 0.5:
        return None
    return Simplex(
        matrix, low if low.any() else None, inverse, contraction, centre, columns, rows, total
    )
