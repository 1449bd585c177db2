"""A box of features as constraints on the directions y of the lifted classes.

With x = s T y_x / t, s = `bias_scale` times the scale of the rows, the box lo <= x <= hi
becomes 2 d rays: s T_k . y_x - lo_k t >= 0 and -s T_k . y_x + hi_k t >= 0.
"""

from __future__ import annotations

import numpy as np

from ._features import Box
from ._lifted import LiftedClasses
from ._problem import FloatArray, IndexArray

MORE_RAYS = 32  # a round
RAISE = 1e-9  # of a class, in lifted coordinates


class BoxRays:
    """The rays of a box, of which a search sees those that it violates."""

    def __init__(self, lifted: LiftedClasses, box: Box) -> None:
        self.lo, self.hi = box.bounds(lifted.problem.d)
        self.map = lifted.whitening.transform * (lifted.bias_scale * lifted.problem.scale)
        self.lengths = np.linalg.norm(self.map, axis=1)
        self.raised_by = RAISE * self._handicap(lifted)

    def _handicap(self, lifted: LiftedClasses) -> FloatArray:
        """Return what the class under search gets ahead, so that certificates are strict.

        A certificate against the raised class beats the original one by RAISE, which
        leaves room for rounding. A bias will do, but where all biases are equal and
        x = 0 is a corner of the box, every class ties there, whatever certificate it has:
        then it is the weights that are raised, by one unit along the edges from 0.
        """
        handicap = np.zeros(lifted.dim)
        corner = (self.lo == 0.0) | (self.hi == 0.0)
        if lifted.beta.any() or not corner.all():
            handicap[-1] = 1.0
        else:
            edges = np.where(self.lo == 0.0, 1.0, -1.0)
            handicap[:-1] = self.map.T @ edges / np.linalg.norm(self.map)
        return handicap

    def violated(self, y: FloatArray) -> tuple[FloatArray, IndexArray]:
        """Return the rays that `y` violates most, and their labels (negative, not -1)."""
        at = self.map @ y[:-1]
        t = y[-1]
        d = len(self.lo)
        below = (t * self.lo - at) / np.hypot(self.lengths, self.lo)
        above = (at - t * self.hi) / np.hypot(self.lengths, self.hi)
        violation = np.concatenate([below, above])
        worst = np.argsort(-violation, kind="stable")[:MORE_RAYS]
        worst = worst[violation[worst] > 1e-12 * np.linalg.norm(y)]
        sign = np.where(worst < d, 1.0, -1.0)[:, None]
        limit = np.concatenate([-self.lo, self.hi])[worst]
        return np.column_stack([sign * self.map[worst % d], limit]), -2 - worst

    def shrunk(self, x: FloatArray, error: FloatArray | float = 0.0) -> FloatArray:
        """Return the largest s <= 1 for each row x with s x in the box, 0 if there is none.

        So does s times anything within `error` of x. Only a box around 0 can hold multiples.
        """
        if not ((self.lo < 0.0) & (self.hi > 0.0)).all():
            return np.zeros(len(x))
        used = np.maximum((x + error) / self.hi, (x - error) / self.lo).max(
            axis=1
        )  # share of the box
        scale: FloatArray = 1.0 / np.maximum(used * (1.0 + 2.0**-40), 1.0)
        return scale

    def clip(self, x: FloatArray) -> FloatArray:
        """Return the nearest point of the box."""
        clipped: FloatArray = np.clip(x, self.lo, self.hi)
        return clipped
