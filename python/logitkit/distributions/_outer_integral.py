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
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ._lattice import normal_lattice

if TYPE_CHECKING:
    from ..random import Philox

GRID_RANK = 3  # the largest
SHIFTS = 8  # of a lattice
_RADIUS = 7.0  # beyond which the normal law has 2e-10 of its mass in three dimensions
_TOLERANCE = 1e-9


class OuterMeans(NamedTuple):
    """Means of rows, (rows, m), their errors, and how many levels of nodes each row took."""

    values: Any
    errors: Any
    levels: Any


class ClassNodes(NamedTuple):
    """Nodes z (g, k, rank) for some rows, and logarithms of their weights and of the integrand."""

    rows: Any
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

    def nodes(self, levels: int) -> tuple[Any, Any]:
        """Return the nodes of the first levels, (k, rank), and their weights, which sum to 1."""
        found = [level for level, _ in zip(self.levels(), range(levels), strict=False)]
        z, log_weights = (np.concatenate(parts) for parts in zip(*found, strict=True))
        weights = np.exp(log_weights)
        return z, weights / np.sum(weights)

    def means(self, sums: Callable[[Any, Any, Any], Any], count: int, size: int) -> OuterMeans:
        """
        Return the means of `size` values of the order of 1 for each of `count` rows.

        ``sums(z, weights, rows)`` returns their sums over nodes, (rows, size). A row takes levels
        until it is exact enough. The error is that of the worst of its values: an estimate for
        grids, 1e-9 at least, and one standard error for lattices.
        """
        totals, values = np.zeros((count, size)), np.zeros((count, size))
        parts: list[Any] = []  # of a lattice, shift by shift
        errors, levels = np.full(count, np.inf), np.zeros(count, int)
        active, mass = np.arange(count), 0.0
        for level, (z, log_weights) in enumerate(self.levels()):
            if not len(active):
                break
            weights = np.exp(log_weights)
            part = sums(z, weights, active)
            totals[active] += part
            mass += np.sum(weights)
            levels[active], fine = level + 1, totals[active] / mass
            change = fine - values[active]
            values[active] = fine
            if self.rng is not None:
                parts.append(part / len(z))
            elif level:
                errors[active] = self._grid_errors(change)
                active = active[errors[active] > _TOLERANCE]
        if parts:
            return OuterMeans(values, _standard_errors(np.array(parts)), levels)
        return OuterMeans(values, np.maximum(errors, _TOLERANCE), levels)

    def _grid_errors(self, changes: Any) -> Any:
        """Return the errors of rows from what the last level changed, (rows, m)."""
        change = np.max(np.abs(changes), axis=-1, initial=0.0)
        # Between that of the coarse grid and its square, since what is in front of the power is
        # unknown.
        return np.where(self.analytic & (change < 1.0), change**1.5, change)

    def class_nodes(self, logs: Callable[[Any, Any], Any], centres: Any) -> Iterator[ClassNodes]:
        """
        Yield nodes about `centres`, (rows, rank), rows of the same number of levels together.

        ``logs(z, rows)`` returns logarithms (rows, k) for nodes (rows, k, rank). Levels are added
        until the logarithm of their mean is exact enough.
        """
        count = len(centres)
        active, levels, found = np.arange(count), np.zeros(count, int), []
        sums, previous, mass = np.full(count, -np.inf), np.full(count, np.inf), -np.inf
        for level, (x, log_weights) in enumerate(self.levels()):
            if not len(active):
                break
            c = centres[active]
            # What is added is log phi(z) / phi(x), for z = x + centre.
            offsets = log_weights - np.sum((x + 0.5 * c[:, None]) * c[:, None], axis=-1)
            values = logs(x + c[:, None], active)
            mass = np.logaddexp(mass, np.logaddexp.reduce(log_weights))
            found.append((active, x, offsets, values, mass))
            new = np.logaddexp.reduce(offsets + values, axis=-1)
            sums[active] = np.logaddexp(sums[active], new)
            levels[active], fine = level + 1, sums[active] - mass
            if self.rng is None and level:
                with np.errstate(invalid="ignore"):  # of -inf, where a class cannot win
                    change = (fine - previous[active])[:, None]
                never = (fine == -np.inf) & (previous[active] == -np.inf)
                done = never | (self._grid_errors(change) <= _TOLERANCE)
                previous[active], active = fine, active[~done]
            else:
                previous[active] = fine
        for last in np.unique(levels):
            yield _joined(np.flatnonzero(levels == last), found[:last], centres)


def _joined(rows: Any, levels: Any, centres: Any) -> ClassNodes:
    """Return the nodes of some rows, which took all of these levels."""
    x = np.concatenate([level[1] for level in levels])
    picks = [np.searchsorted(level[0], rows) for level in levels]
    offsets = np.concatenate([lv[2][i] for i, lv in zip(picks, levels, strict=True)], axis=-1)
    values = np.concatenate([lv[3][i] for i, lv in zip(picks, levels, strict=True)], axis=-1)
    mass = levels[-1][4]
    return ClassNodes(rows, x + centres[rows, None], offsets - mass, values)


@lru_cache(maxsize=32)
def _grid(rank: int, step: float, *, new: bool) -> Any:
    """Return the integer vectors in a ball, those that half of the step brings if `new`."""
    most = int(_RADIUS / step)
    axes = np.meshgrid(*[np.arange(-most, most + 1)] * rank, indexing="ij")
    k = np.stack(axes, axis=-1).reshape(-1, rank)
    k = k[np.sum(k * k, axis=-1) <= (_RADIUS / step) ** 2]
    return k[(k % 2 == 1).any(axis=-1)] if new else k


def _standard_errors(means: Any) -> Any:
    """Return those of rows from means of shifts, (shifts, rows, m)."""
    spread = np.std(means, axis=0, ddof=1)
    return np.max(spread, axis=-1, initial=0.0) / np.sqrt(len(means))
