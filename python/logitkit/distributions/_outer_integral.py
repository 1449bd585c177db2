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
from typing import TYPE_CHECKING, Any

import numpy as np

from ._lattice import normal_lattice

if TYPE_CHECKING:
    from ..random import Philox

GRID_RANK = 3  # the largest
SHIFTS = 8  # of a lattice
_RADIUS = 7.0  # beyond which the normal law has 2e-10 of its mass in three dimensions
_TOLERANCE = 1e-9


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

    def mean(self, function: Callable[[Any], Any]) -> tuple[Any, float]:
        """
        Return the mean of values of the order of 1, (k, m) for nodes (k, rank), and its error.

        The error is that of the worst of the m values: an estimate for grids, 1e-9 at least, and
        one standard error for lattices.
        """
        sums, mass, means, previous = 0.0, 0.0, [], None
        for z, log_weights in self.levels():
            weights = np.exp(log_weights)
            part, part_mass = weights @ function(z), weights.sum()
            means.append(part / part_mass)
            sums, mass = sums + part, mass + part_mass
            if self.rng is None:
                result = sums / mass
                error = np.inf if previous is None else self._grid_error(result, previous)
                if error <= _TOLERANCE:
                    break
                previous = result
        if self.rng is None:
            return result, max(error, _TOLERANCE)
        return sums / mass, _standard_error(np.array(means))

    def _grid_error(self, fine: Any, coarse: Any) -> float:
        change = float(np.max(np.abs(fine - coarse), initial=0.0))
        # Between that of the coarse grid and its square, since what is in front of the power is
        # unknown.
        return change**1.5 if self.analytic and change < 1.0 else change

    def log_mean(self, function: Callable[[Any], Any], centre: Any) -> tuple[Any, Any, float]:
        """
        Return nodes about `centre`, logarithms of their shares of a mean, and its log's error.

        `function` returns logarithms (k,). The shares are not normalised: their sum is the mean.
        """
        nodes, logs, masses, previous, error = [], [], [], np.inf, np.inf
        for x, log_weights in self.levels():
            nodes.append(x + centre)
            # The last two are log phi(z) / phi(x), for z = x + centre.
            logs.append(function(nodes[-1]) + log_weights - x @ centre - 0.5 * centre @ centre)
            masses.append(_log_sum(log_weights))
            result = _log_sum(np.concatenate(logs)) - _log_sum(np.array(masses))
            if self.rng is None and len(nodes) > 1:
                never = result == previous == -np.inf
                error = 0.0 if never else self._grid_error(result, previous)
                if error <= _TOLERANCE:
                    break
            previous = result
        shares = np.concatenate(logs) - _log_sum(np.array(masses))
        if self.rng is not None:
            means = [_log_sum(part) - mass for part, mass in zip(logs, masses, strict=True)]
            relative = np.exp(np.array(means) - max(result, -1e300))
            error = _standard_error(relative[:, None])
        return np.concatenate(nodes), shares, error


def _log_sum(x: Any) -> float:
    return float(np.logaddexp.reduce(x))


def _grid(rank: int, step: float, *, new: bool) -> Any:
    """Return the integer vectors in a ball, those that half of the step brings if `new`."""
    most = int(_RADIUS / step)
    axes = np.meshgrid(*[np.arange(-most, most + 1)] * rank, indexing="ij")
    k = np.stack(axes, axis=-1).reshape(-1, rank)
    k = k[np.sum(k * k, axis=-1) <= (_RADIUS / step) ** 2]
    return k[(k % 2 == 1).any(axis=-1)] if new else k


def _standard_error(means: Any) -> float:
    return float(np.max(np.std(means, axis=0, ddof=1), initial=0.0) / np.sqrt(len(means)))
