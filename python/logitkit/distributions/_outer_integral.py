r"""
Means over a standard normal vector z of few components, with an estimate of their error.

Up to rank 3 by the trapezoidal rule on the grids h k, k integer, within a ball. For functions
that are analytic the error falls faster than any power of h, so that the step is halved until
two grids agree. Beyond, or for who wants it, by a lattice with random shifts.

L. N. Trefethen and J. A. C. Weideman, "The exponentially convergent trapezoidal rule", SIAM
Review 56, 2014.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ._lattice import normal_lattice

if TYPE_CHECKING:
    from ..random import Philox

GRID_RANK = 3  # the largest
SHIFTS = 8  # of a lattice
_RADIUS = 7.0  # beyond which the normal law has 2e-10 of its mass in three dimensions
_TOLERANCE = 1e-9


class OuterMean(NamedTuple):
    """A mean, its error, and the nodes z (k, rank) and weights (k,) that it is made of."""

    value: Any
    error: float
    z: Any
    weights: Any


class ClassNodes(NamedTuple):
    """Nodes z (k, rank) for one class, and logarithms of their weights and of its integrand."""

    z: Any
    log_weights: Any
    log_values: Any


class OuterRule:
    """
    Sums over nodes z that grow until they are exact enough.

    Parameters
    ----------
    rank : int
        The number of components of z.
    points : int
        How many nodes there may be.
    rng : Philox, optional
        What shifts a lattice; without it, a grid.
    analytic : bool
        Whether the functions are, so that a grid of half the step has the square of the error.
    """

    def __init__(self, rank: int, points: int, rng: Philox | None, *, analytic: bool) -> None:
        self.rank, self.points, self.rng, self.analytic = rank, points, rng, analytic
        if rng is None and self.grid_size(0.5) > points:
            raise ValueError(
                f"expected at least {self.grid_size(0.5)} points for a grid of rank {rank}, "
                f"not {points}"
            )

    def levels(self) -> Iterator[tuple[Any, Any]]:
        """
        Yield nodes z, (k, rank), and the logarithms of their weights up to a constant.

        Those that finer and finer grids bring, or those of a lattice, shift by shift.
        """
        if self.rng is not None:
            for shift in self.rng.uniform(SHIFTS, self.rank):
                z = normal_lattice(max(self.points // SHIFTS, 3), shift)
                yield z, np.zeros(len(z))
            return
        step, total = 1.0, 0
        while total <= 0 or self.grid_size(step) <= self.points:
            z = step * _grid(self.rank, step, new=total > 0)
            total += len(z)
            yield z, -0.5 * np.sum(z * z, axis=-1)
            step *= 0.5

    def grid_size(self, step: float) -> int:
        """Return the number of nodes of a grid."""
        return len(_grid(self.rank, step, new=False)) if self.rank <= GRID_RANK else 2**62

    def mean(self, function: Callable[[Any], Any]) -> OuterMean:
        """
        Return the mean of values of the order of 1, (k, m) for nodes (k, rank), and its error.

        The error is that of the worst of the m values: an estimate for grids, 1e-9 at least, and
        one standard error for lattices.
        """
        nodes, weights, parts, previous, error = [], [], [], None, np.inf
        for z, log_weights in self.levels():
            nodes.append(z)
            weights.append(np.exp(log_weights))
            parts.append(weights[-1] @ function(z))
            if self.rng is None:
                result = sum(parts) / sum(map(np.sum, weights))
                error = np.inf if previous is None else self._grid_error(result, previous)
                if error <= _TOLERANCE:
                    break
                previous = result
        mass = sum(map(np.sum, weights))
        if self.rng is None:
            error = max(error, _TOLERANCE)
        else:
            error = _standard_error(np.array(parts) / weights[0].sum())
        z = np.concatenate(nodes)
        return OuterMean(sum(parts) / mass, error, z, np.concatenate(weights) / mass)

    def _grid_error(self, fine: Any, coarse: Any) -> float:
        change = float(np.max(np.abs(fine - coarse), initial=0.0))
        # Between that of the coarse grid and its square, since what is in front of the power is
        # unknown.
        return change**1.5 if self.analytic and change < 1.0 else change

    def class_nodes(self, function: Callable[[Any], Any], centre: Any) -> ClassNodes:
        """
        Return nodes about `centre`, until the logarithm of the mean of a function is exact enough.

        `function` returns logarithms (k,) for nodes (k, rank).
        """
        nodes, offsets, values, masses, previous = [], [], [], [], np.inf
        for x, log_weights in self.levels():
            nodes.append(x + centre)
            # What is added is log phi(z) / phi(x), for z = x + centre.
            offsets.append(log_weights - x @ centre - 0.5 * centre @ centre)
            values.append(function(nodes[-1]))
            masses.append(np.logaddexp.reduce(log_weights))
            result = np.logaddexp.reduce(np.concatenate(offsets) + np.concatenate(values))
            result -= np.logaddexp.reduce(masses)
            if self.rng is None and len(nodes) > 1:
                never = result == previous == -np.inf
                if never or self._grid_error(result, previous) <= _TOLERANCE:
                    break
            previous = result
        log_weights = np.concatenate(offsets) - np.logaddexp.reduce(masses)
        return ClassNodes(np.concatenate(nodes), log_weights, np.concatenate(values))


def _grid(rank: int, step: float, *, new: bool) -> Any:
    """Return the integer vectors in a ball, those that half of the step brings if `new`."""
    most = int(_RADIUS / step)
    axes = np.meshgrid(*[np.arange(-most, most + 1)] * rank, indexing="ij")
    k = np.stack(axes, axis=-1).reshape(-1, rank)
    k = k[np.sum(k * k, axis=-1) <= (_RADIUS / step) ** 2]
    return k[(k % 2 == 1).any(axis=-1)] if new else k


def _standard_error(means: Any) -> float:
    return float(np.max(np.std(means, axis=0, ddof=1), initial=0.0) / np.sqrt(len(means)))
