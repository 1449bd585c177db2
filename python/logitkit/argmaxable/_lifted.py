"""The classes as points that the solvers work on.

Class j is the point g_j = (z_j, beta_j): whitened weights and the standardised
bias. Class i wins at y = (y_x, t), t > 0, when y.(g_i - g_j) > 0 for every other
j; then x = sigma T y_x / t is a feature vector of the original layer.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .. import _cpu
from ._error_free import gamma
from ._gpu_scores import GpuScores
from ._problem import FloatArray, IndexArray, Problem
from ._whitening import UNIT_ROUNDOFF, Whitening

FLOAT32_ROUNDOFF = 2.0**-24


class LiftedClasses:
    """Whitened classes: all of them in float32, those that were needed in float64."""

    def __init__(self, problem: Problem, whitening: Whitening, *, with_bias: bool) -> None:
        self.problem = problem
        self.whitening = whitening
        n, r = problem.n, whitening.rank
        bias = problem.biases()
        # By a power of two into the range whose squares are finite: exact, as for the rows.
        exponent = int(np.frexp(np.abs(bias).max())[1])
        near_one = np.ldexp(bias, -exponent)
        deviation = float(near_one.std()) or 1.0
        self.bias_scale = float(np.ldexp(deviation, exponent))
        self.beta: FloatArray = (near_one - near_one.mean()) / deviation
        self.with_bias = with_bias
        self.dim = r + int(with_bias)
        z, norms, farthest = self._whiten_all()
        # Rows by ascending norm, as the self-witness kernel wants them.
        self.order: IndexArray = np.argsort(norms, kind="stable").astype(np.int64)
        self.z: NDArray[np.float32] = z[self.order]
        self.norms: FloatArray = norms[self.order]
        self.gpu = None if problem.origin is None else GpuScores(self.z, problem.origin)
        self.position: IndexArray = np.empty(n, np.int64)
        self.position[self.order] = np.arange(n)
        self.beta_sorted = self.beta[self.order].astype(np.float32)
        # |z computed in float64 - z| per row: (d + 4) u |w - center| |T|_F (Higham,
        # Accuracy and Stability, section 3.1); 1e-37 covers underflow in float32.
        frobenius = float(np.linalg.norm(whitening.transform))
        self.whitening_error = (problem.d + 4) * UNIT_ROUNDOFF * farthest * frobenius + 1e-37
        # |float32 product - exact product| <= product_error |z_i| |z_j|: the rounding
        # of both rows to float32, and of the sum in any order.
        self.product_error = 1.01 * (r + 5) * FLOAT32_ROUNDOFF
        self._exact: FloatArray = np.empty((n, self.dim))  # pages are taken when touched
        self._known = np.zeros(n, bool)

    def _whiten_all(self) -> tuple[NDArray[np.float32], FloatArray, float]:
        z = np.empty((self.problem.n, self.whitening.rank), np.float32)
        norms = np.empty(self.problem.n)
        farthest = 0.0
        for block in self.problem.slices():
            rows = self.problem.rows(block)
            rows -= self.whitening.center
            squares = np.einsum("ij,ij->i", rows, rows)
            farthest = max(farthest, float(np.sqrt(squares.max())))
            exact = self.whitening.of_centered(rows)
            z[block] = exact
            # 2^-22 covers the rounding of z to float32, and of the sum.
            norms[block] = np.sqrt(np.einsum("ij,ij->i", exact, exact)) * (1.0 + 2.0**-22)
        return z, norms, farthest

    def points(self, classes: IndexArray) -> FloatArray:
        """Return g of `classes` in float64."""
        missing = classes[~self._known[classes]]
        if len(missing):
            missing = np.unique(missing)
            rank = self.whitening.rank
            self._exact[missing, :rank] = self.whitening(self.problem.rows(missing))
            if self.with_bias:
                self._exact[missing, rank] = self.beta[missing]
            self._known[missing] = True
        return self._exact[classes]

    def best_scores(
        self, y: FloatArray, k: int, threads: int
    ) -> tuple[NDArray[np.float32], IndexArray]:
        """Return the `k` best float32 scores of each direction, and their classes."""
        rank = self.whitening.rank
        values = np.empty((len(y), k), np.float32)
        index = np.empty((len(y), k), np.int64)
        t = y[:, rank] if self.with_bias else np.zeros(len(y))
        length = np.linalg.norm(y[:, :rank], axis=1)
        # y_x.z_j + t beta_j = t (y_x/t . z_j + beta_j); with a tiny t the bias is lost
        # in the rounding anyway.
        tilted = t > 1e-6 * length
        for rows, bias in ((~tilted, None), (tilted, self.beta_sorted)):
            if not rows.any():
                continue
            factor = np.ones(int(rows.sum())) if bias is None else t[rows]
            x = np.ascontiguousarray(y[rows, :rank] / factor[:, None], dtype=np.float32)
            if self.gpu is None:
                v = np.empty((len(x), k), np.float32)
                i = np.empty((len(x), k), np.int64)
                _cpu.linear_topk(x, self.z, bias, v, i, threads=threads)
            else:
                v, i = self.gpu.largest(x, bias, k)
            values[rows] = v * factor[:, None].astype(np.float32)
            index[rows] = self.order[i]
        return values, index

    def exact_scores(self, y: FloatArray) -> FloatArray:
        """Return the float64 scores of all classes in one direction."""
        rank = self.whitening.rank
        x = self.whitening.transform @ y[:rank]
        scores = y[rank] * self.beta if self.with_bias else np.zeros(self.problem.n)
        for block in self.problem.slices():
            scores[block] += (self.problem.rows(block) - self.whitening.center) @ x
        return scores

    def score_error(self, y: FloatArray) -> FloatArray:
        """Bound the error of any float32 score of each direction."""
        rank = self.whitening.rank
        size = np.linalg.norm(y[:, :rank], axis=1) * self.norms[-1]
        if self.with_bias:
            t = np.abs(y[:, rank])
            # Where best_scores drops the bias, all of it is error.
            size = size + t * np.abs(self.beta).max() * np.where(
                t > 1e-6 * np.linalg.norm(y[:, :rank], axis=1), 1.0, 1.0 / self.product_error
            )
        error: FloatArray = 2.0 * self.product_error * size + 1e-37
        return error

    def feature_vectors(self, y: FloatArray) -> FloatArray:
        """Map directions with t > 0 to feature vectors of the original layer."""
        rank = self.whitening.rank
        x = y[:, :rank] @ self.whitening.transform.T
        if self.with_bias:
            x *= self.bias_scale / y[:, rank:]
        return x * self.problem.scale

    def self_witnesses(self, classes: IndexArray) -> FloatArray:
        """Return C^-1 (w_i - center) for each class, as a report computes it."""
        metric = self.whitening.transform * self.problem.scale
        rows = self.problem.weight[classes].astype(np.float64)
        x: FloatArray = (rows - self.whitening.center / self.problem.scale) @ metric @ metric.T
        return x

    def self_witness_error(self, classes: IndexArray) -> FloatArray:
        """Bound how far two computations of `self_witnesses` may differ, by component."""
        d, rank = self.whitening.transform.shape
        metric = np.abs(self.whitening.transform * self.problem.scale)
        rows = np.abs(self.problem.weight[classes].astype(np.float64))
        rows += np.abs(self.whitening.center / self.problem.scale)
        # Each of the two is off by a sum of d products in one of `rank`, and two roundings.
        error: FloatArray = 2.0 * gamma(d + rank + 4) * (rows @ metric @ metric.T)
        return error
