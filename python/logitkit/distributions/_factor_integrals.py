"""Integrals over common factors, for many rows of logits at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ._given_factors import GivenFactors
from ._outer_integral import ClassNodes, OuterMeans, OuterRule

_NEWTON_STEPS = 30  # at most
_DIFFERENCE = 1e-4  # of z, for second derivatives
_BLOCK = 2**22  # elements of logits at a time
_PAIRS = 2**12  # elements of logits of a level, for which as many pairs are taken as fit a block


@dataclass(frozen=True)
class FactorIntegrals:
    """
    Integrals of functions of mu + B z over standard normal z.

    Rows do not influence each other, to the bit: each is a product of matrices of its own.

    Parameters
    ----------
    logits : ndarray of float64, shape (rows, n)
        The logits mu.
    factor : ndarray of float64, shape (rows, n, rank)
        The factors B.
    given : GivenFactors
        The integrals for a z that is given.
    rule : OuterRule
        The nodes z.
    concave : bool
        Whether the noise has a log-concave density.
    """

    logits: Any
    factor: Any
    given: GivenFactors
    rule: OuterRule
    concave: bool

    def means(self, sums: Callable[[Any, Any, Any, Any], Any], size: int) -> OuterMeans:
        """
        Return means of `size` values for each row.

        ``sums(x, z, weights, rows)`` returns their sums over nodes, (rows, size), for logits x of
        shape (rows, k, n).
        """
        n, rank = self.factor.shape[1:]
        most = max(1, _BLOCK // (n * (1 + rank)))

        def in_blocks(z: Any, weights: Any, rows: Any) -> Any:
            total = np.zeros((len(rows), size))
            for begin in range(0, len(z), most):
                part = slice(begin, begin + most)
                together = max(1, most // len(z[part]))
                for first in range(0, len(rows), together):
                    some = rows[first : first + together]
                    x = self._sums(z[part], some)
                    total[first : first + together] += sums(x, z[part], weights[part], some)
            return total

        return self.rule.means(in_blocks, len(self.logits), size)

    def class_nodes(self, rows: Any, classes: Any) -> Iterator[tuple[Any, ClassNodes]]:
        """
        Yield nodes for the probabilities of one class of each of some rows.

        Parameters
        ----------
        rows, classes : ndarray of int, shape (pairs,)
            Which rows, and a class for each.

        Yields
        ------
        at : ndarray of int, shape (g,)
            The pairs that the nodes are for.
        nodes : ClassNodes
            Nodes, logarithms of their weights, and those of the probabilities given z.
        """
        together = max(1, _BLOCK // (self.logits.shape[-1] * _PAIRS))
        for begin in range(0, len(rows), together):
            r, i = rows[begin : begin + together], classes[begin : begin + together]
            log_prob = partial(self._log_prob_of, r, i)
            for nodes in self.rule.class_nodes(log_prob, self._centres(r, i)):
                yield begin + nodes.rows, nodes

    def scores(self, z: Any, rows: Any, classes: Any) -> Any:
        """Return the gradients of the logarithms of probabilities given z, (pairs, k, n)."""
        return self.given.score(self._sums(z, rows), classes)

    def _log_prob_of(self, rows: Any, classes: Any, z: Any, at: Any) -> Any:
        return self._log_prob(z, rows[at], classes[at])

    def _log_prob(self, z: Any, rows: Any, classes: Any) -> Any:
        return self.given.log_prob(self._sums(z, rows), classes)

    def _sums(self, z: Any, rows: Any) -> Any:
        """Return mu + B z for nodes (k, rank) or (rows, k, rank), (rows, k, n)."""
        return self.logits[rows, None] + z @ np.swapaxes(self.factor[rows], 1, 2)

    def _centres(self, rows: Any, classes: Any) -> Any:
        """
        Return where log p_i(mu + B z) - |z|^2 / 2 is largest, by Newton's method.

        It is concave if the density of the noise is log-concave (Prekopa, 1973). What is returned
        decides about digits alone, not about the value.
        """
        rank = self.factor.shape[-1]
        z = np.zeros((len(rows), rank))
        if not self.concave:
            return z
        active, lengths = np.arange(len(rows)), 0.5 ** np.arange(8)[:, None]
        for _ in range(_NEWTON_STEPS):
            r, i = rows[active], classes[active]
            move, last = self._newton_move(z[active], r, i)
            ends = z[active, None] + lengths * move[:, None]
            heights = self._log_prob(ends, r, i) - 0.5 * np.sum(ends**2, axis=-1)
            best = np.argmax(heights, axis=1)
            possible = np.max(heights, axis=1) > -np.inf
            z[active[possible]] = ends[possible, best[possible]]
            active = active[possible & ~last]
            if not len(active):
                break
        return z

    def _newton_move(self, z: Any, rows: Any, classes: Any) -> tuple[Any, Any]:
        """Return the steps of Newton's method, (pairs, rank), and which are small enough."""
        rank = z.shape[-1]
        steps = np.concatenate([np.zeros((1, rank)), _DIFFERENCE * np.eye(rank)])
        at = z[:, None] + steps
        slopes = self.scores(at, rows, classes) @ self.factor[rows] - at
        hessian = (slopes[:, 1:] - slopes[:, :1]) / _DIFFERENCE
        curvature = np.linalg.eigh(-0.5 * (hessian + np.swapaxes(hessian, 1, 2)))
        vectors, values = curvature.eigenvectors, np.maximum(curvature.eigenvalues, 1.0)
        along = np.sum(vectors * slopes[:, 0, :, None], axis=1) / values
        move = np.sum(vectors * along[:, None], axis=2)
        return move, np.max(np.abs(move), axis=-1) * np.sqrt(values[:, -1]) < 1e-2
