"""Coordinates in which the rows of the weight have unit covariance.

With C = cov(W) = V diag(v) V^T and T = V diag(v)^(-1/2), z_j = T^T (w_j - center)
has covariance I, and any y gives logits (T y).w_j = y.z_j + const. In these
coordinates a class tends to win at y = z_i (the self-witness x = C^-1 (w_i -
center)), and working sets are well conditioned. No verdict depends on how
accurate C is: any T of full rank gives the same ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ._problem import FloatArray, IndexArray, Problem

# Covariances are estimated from a sample of rows beyond this many multiply-adds.
COVARIANCE_BUDGET = 1e9
UNIT_ROUNDOFF = 2.0**-53


@dataclass(frozen=True, eq=False)
class Whitening:
    """The affine map z = transform^T (w - center) to `rank` coordinates."""

    center: FloatArray  # (d,), in the units of Problem.rows
    transform: FloatArray  # (d, rank)
    variance: FloatArray  # (rank,), of the rows along each coordinate before scaling

    @property
    def rank(self) -> int:
        """Number of directions in which the rows differ."""
        return int(self.transform.shape[1])

    def completed(self) -> Whitening:
        """Add directions in which all rows agree, so that every feature vector has a y."""
        d, rank = self.transform.shape
        if rank == d:
            return self
        # The complement of the span, orthonormal, scaled like the other columns.
        basis = np.linalg.qr(self.transform, mode="complete").Q[:, rank:]
        deviation = float(np.sqrt(np.median(self.variance))) if rank else 1.0
        return Whitening(
            self.center,
            np.hstack([self.transform, basis / deviation]),
            np.append(self.variance, np.full(d - rank, deviation**2)),
        )

    def __call__(self, rows: FloatArray) -> FloatArray:
        """Return z for each row, in float64."""
        return self.of_centered(rows - self.center)

    def of_centered(self, rows: FloatArray) -> FloatArray:
        """Return z for each row of w - center."""
        z: FloatArray = rows @ self.transform
        return z


def whiten(problem: Problem) -> Whitening:
    """Estimate the metric, and find the directions in which all rows agree."""
    sample = _sample(problem)
    center = _mean(problem, sample)
    whitening = _diagonalise(problem, sample, center)
    if whitening.rank < problem.d and len(sample) < problem.n:
        # A direction may be missing from the sample alone.
        whole = np.arange(problem.n)
        whitening = _diagonalise(problem, whole, _mean(problem, whole))
    return whitening


def _sample(problem: Problem) -> IndexArray:
    size = max(16 * problem.d, int(COVARIANCE_BUDGET / problem.d**2))
    return np.arange(0, problem.n, max(1, problem.n // size))


def _blocks(problem: Problem, sample: IndexArray) -> list[IndexArray]:
    step = max(1, (8 << 20) // (8 * problem.d))
    return [sample[begin : begin + step] for begin in range(0, len(sample), step)]


def _mean(problem: Problem, sample: IndexArray) -> FloatArray:
    total = np.zeros(problem.d)
    for index in _blocks(problem, sample):
        total += problem.rows(index).sum(axis=0)
    return total / len(sample)


def _covariance(
    problem: Problem, sample: IndexArray, center: FloatArray, transform: FloatArray | None = None
) -> FloatArray:
    covariance = np.zeros((problem.d, problem.d))
    for index in _blocks(problem, sample):
        z = problem.rows(index) - center
        if transform is not None:
            z = z @ transform
        covariance += z.T @ z
    return covariance / len(sample)


def _diagonalise(problem: Problem, sample: IndexArray, center: FloatArray) -> Whitening:
    d = problem.d
    covariance = _covariance(problem, sample, center)
    norm = float(np.sqrt(np.trace(covariance)))  # root mean square of |w - center|
    if norm == 0.0:
        return Whitening(center, np.zeros((d, 0)), np.zeros(0))
    variance, basis = np.linalg.eigh(covariance)
    if variance[0] < 1e-8 * variance[-1]:
        # The product has squared the condition number: measure once more in the
        # coordinates found, where small directions are not drowned by large ones.
        deviation = np.sqrt(np.maximum(variance, UNIT_ROUNDOFF * variance[-1]))
        again, turn = np.linalg.eigh(_covariance(problem, sample, center, basis / deviation))
        transform = basis / deviation @ turn
        length = np.linalg.norm(transform, axis=0)
        variance, basis = np.maximum(again, 0.0) / length**2, transform / length
    # Rows that agree along a direction still differ there by the rounding of the
    # product with it, up to about sqrt(d) 2^-53 |w|.
    floor = 8.0 * np.sqrt(d) * UNIT_ROUNDOFF * (norm + float(np.linalg.norm(center)))
    # The smallest first: there the outliers stand out, which helps the self-witness
    # product to see early that a pair is harmless.
    keep = np.flatnonzero(np.sqrt(variance) > floor)
    return Whitening(center, basis[:, keep] / np.sqrt(variance[keep]), variance[keep])
