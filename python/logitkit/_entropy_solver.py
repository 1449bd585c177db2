"""Newton's method, between bounds, for the temperature that gives a softmax its entropy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_UNIT = 2.0**-53
_MOST = 200  # iterations; bisection of all positive numbers takes 75


class Solution(NamedTuple):
    """Temperatures, and how many times the entropy of each row was evaluated."""

    temperature: Array
    iterations: NDArray[np.int64]


class Landscape(NamedTuple):
    """Rows of logits, as far as the entropy at any temperature depends on them."""

    below: Array  # logits less their maximum, divided by `scale`: from -1 to 0, or -inf
    scale: Array  # the largest logit less the smallest, in units of `unit`
    unit: Array  # 1, or 2 where that difference would overflow
    ties: Array  # how many share the maximum
    visible: Array  # how many are not -inf

    @classmethod
    def of(cls, rows: Array) -> Landscape:
        """Take the rows of a matrix."""
        seen = rows != -np.inf
        size = np.max(np.abs(rows), axis=-1, where=seen, initial=0.0)
        unit = np.where(size > 2.0**1000, 2.0, 1.0)  # so that no difference overflows
        scaled = rows / unit[:, None]
        below = scaled - np.max(scaled, axis=-1, keepdims=True, initial=-np.inf)
        below = np.where(seen, below, -np.inf)
        scale = -np.min(below, axis=-1, where=seen, initial=0.0)
        below /= np.where(scale > 0.0, scale, 1.0)[:, None]
        ties = np.count_nonzero(below == 0.0, axis=-1)
        visible = np.count_nonzero(seen, axis=-1)
        return cls(below, scale, unit, np.maximum(ties, 1.0), np.maximum(visible, 1.0))

    def take(self, index: Any) -> Landscape:
        """Take some of the rows."""
        return Landscape(*(field[index] for field in self))

    def at_ends(self, target: Array, epsilon: float) -> tuple[NDArray[Any], NDArray[Any]]:
        """Whether a target is log(ties) or less, and whether it is log(visible) or more."""
        slack = 4.0 * epsilon
        low, high = np.log(self.ties), np.log(self.visible)
        return target <= low * (1.0 + slack), target >= high * (1.0 - slack)

    def unreachable(self, target: Array, epsilon: float) -> NDArray[np.bool_]:
        """Whether no temperature gives a row its target, not even in the limit."""
        slack = 4.0 * epsilon
        low, high = np.log(self.ties), np.log(self.visible)
        outside = (target < low * (1.0 - slack)) | (target > high * (1.0 + slack))
        return np.isfinite(self.scale) & outside

    def level_variance(self) -> Array:
        """Return the variance of `below` in the limit of high temperatures."""
        seen = np.where(self.below > -np.inf, self.below, 0.0)
        mean = np.sum(seen, axis=-1) / self.visible
        seen = np.where(self.below > -np.inf, seen - mean[:, None], 0.0)
        return np.asarray(np.sum(seen * seen, axis=-1) / self.visible)

    def excess(self, inverse: Array) -> tuple[Array, Array]:
        """
        Return the entropy less its infimum, log(ties), and how fast it falls with log(inverse).

        That is the variance of the exponents. Neither term of the excess is negative, so that
        it keeps its digits when it is tiny.
        """
        exponents = self.below * inverse[:, None]
        weights = np.exp(exponents)
        rest = np.sum(np.where(self.below == 0.0, 0.0, weights), axis=-1)
        weights /= (self.ties + rest)[:, None]
        exponents[weights == 0.0] = 0.0
        mean = np.sum(weights * exponents, axis=-1)
        exponents -= mean[:, None]
        return np.log1p(rest / self.ties) - mean, np.sum(weights * exponents**2, axis=-1)


def solve(landscape: Landscape, target: Array, epsilon: float) -> Solution:
    """
    Find a temperature for each row whose target is known to be within reach.

    Bounds and limits are infinite: the caller silences the warnings of NumPy.
    """
    low, high = landscape.at_ends(target, epsilon)
    level = landscape.ties == landscape.visible
    temperature = np.select([level, low, high], [1.0, 0.0, np.inf], np.nan)
    unknown = ~np.isfinite(landscape.scale) | np.isnan(target)
    temperature[unknown] = np.nan
    iterations = np.zeros(target.shape, np.int64)
    rows = np.flatnonzero(~(unknown | level | low | high))
    search = _Search.start(landscape.take(rows), target[rows])
    while len(rows):
        done = search.advance() | (iterations[rows] >= _MOST)
        iterations[rows] += 1
        temperature[rows] = search.temperature()
        rows, search = (rows[~done], search.take(~done)) if done.any() else (rows, search)
    return Solution(temperature, iterations)


@dataclass
class _Search:
    """
    One inverse temperature for each row, and between which it lies.

    With E = H - log(k) and D = log(n) - H, where k of the n visible logits share the maximum,
    the equation log(D / E) = log(D* / E*) rises with the inverse temperature g. For small g it
    is straight in log(g), with slope 2, as D goes with g^2; for large g it is straight in g, as
    E falls like exp(-g).
    """

    landscape: Landscape
    inverse: Array
    low: Array
    high: Array
    goal: Array
    tolerance: Array

    @classmethod
    def start(cls, landscape: Landscape, target: Array) -> _Search:
        """Begin with D = Var g^2 / 2, the limit of small g."""
        above = target - np.log(landscape.ties)
        beneath = np.log(landscape.visible) - target
        inverse = np.sqrt(2.0 * beneath / landscape.level_variance())
        # The variance is a quarter at most, so that D <= g^2 / 8. And with all else right below
        # the maximum, by `gap`: E <= (n / k - 1) (1 + c) exp(-c), c = g gap.
        lower = landscape.below < 0.0
        gap = -np.max(landscape.below, axis=-1, where=lower, initial=-1.0)
        most = np.maximum(np.log(landscape.visible / landscape.ties - 1.0) - np.log(above), 0.0)
        highest = np.minimum((4.0 + 2.0 * most) / gap, np.finfo(np.float64).max)
        limits = np.sqrt(8.0 * beneath) * 0.999, highest
        # What log(n), log(k) and the target lose to rounding, as the equation sees it.
        tolerance = 1.0 + np.log(landscape.visible) / beneath + np.log(landscape.ties) / above
        goal = np.log(beneath) - np.log(above)
        inverse = np.clip(inverse, *limits)
        return cls(landscape, inverse, *limits, goal, 8.0 * _UNIT * tolerance)

    def take(self, index: Any) -> _Search:
        """Go on with some of the rows."""
        landscape, *arrays = vars(self).values()
        return _Search(landscape.take(index), *(array[index] for array in arrays))

    def temperature(self) -> Array:
        """Return the temperatures, in units of the logits."""
        return self.landscape.scale / self.inverse * self.landscape.unit

    def advance(self) -> NDArray[np.bool_]:
        """Make one step in each row, and say which are done."""
        g = self.inverse
        excess, fall = self.landscape.excess(g)
        deficit = np.log(self.landscape.visible / self.landscape.ties) - excess
        miss = np.log(np.maximum(deficit, 0.0)) - np.log(excess) - self.goal
        slope = fall * (1.0 / deficit + 1.0 / excess)
        self.low = np.where(miss < 0.0, g, self.low)
        self.high = np.where(miss < 0.0, self.high, g)
        # Steps are those of Newton's method in g where the equation is straight in g, and up,
        # where one in log(g) is too long; down, where it is straight in log(g), in that.
        step = -miss / slope
        newton = g * np.where((step > 0.0) | (slope > 4.0), 1.0 + step, np.exp(step))
        middle = np.sqrt(self.low) * np.sqrt(self.high)
        inside = (newton > self.low) & (newton < self.high)
        done = np.abs(miss) <= self.tolerance + 4.0 * _UNIT * slope
        done |= self.high <= self.low * (1.0 + 4.0 * _UNIT)
        self.inverse = np.where(inside, newton, np.where(done, g, middle))
        return done
