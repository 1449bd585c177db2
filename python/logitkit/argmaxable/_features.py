"""Sets of feature vectors that a class check may be restricted to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, eq=False)
class Box:
    """
    Feature vectors with bounded coordinates, ``lo <= x <= hi``.

    Parameters
    ----------
    lo, hi : float or array_like of shape (d,)
        Finite bounds, `lo` below `hi` in every coordinate. A scalar holds for all
        coordinates.

    Raises
    ------
    ValueError
        If a bound is not finite, is not a scalar or vector, or `lo` is not below `hi`.

    Examples
    --------
    >>> lo, hi = Box(-100, 100).bounds(2)
    >>> lo.tolist(), hi.tolist()
    ([-100.0, -100.0], [100.0, 100.0])
    """

    lo: float | NDArray[np.float64]
    hi: float | NDArray[np.float64]

    def __init__(self, lo: ArrayLike, hi: ArrayLike) -> None:
        low, high = _bound("lo", lo), _bound("hi", hi)
        if low.ndim and high.ndim and low.shape != high.shape:
            raise ValueError(f"Box: lo has {low.size} entries and hi has {high.size}")
        wrong = np.flatnonzero(np.broadcast_to(low >= high, np.broadcast(low, high).shape))
        if wrong.size:
            k = int(wrong[0])
            a, b = (
                np.broadcast_to(v, wrong[-1] + 1 if v.ndim == 0 else v.shape) for v in (low, high)
            )
            where = f"[{k}]" if low.ndim or high.ndim else ""
            raise ValueError(f"Box: lo{where} = {a[k]} is not below hi{where} = {b[k]}")
        object.__setattr__(self, "lo", low if low.ndim else float(low))
        object.__setattr__(self, "hi", high if high.ndim else float(high))

    def bounds(self, d: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """
        Lower and upper bounds of `d` coordinates.

        Parameters
        ----------
        d : int
            Number of features.

        Returns
        -------
        lo : ndarray of float64, shape (d,)
            Lower bounds, read-only.
        hi : ndarray of float64, shape (d,)
            Upper bounds, read-only.

        Raises
        ------
        ValueError
            If the box was made for another number of features.
        """
        for name, bound in (("lo", self.lo), ("hi", self.hi)):
            if np.ndim(bound) and np.size(bound) != d:
                raise ValueError(
                    f"Box: {name} has {np.size(bound)} entries, but there are {d} features"
                )
        return np.broadcast_to(self.lo, (d,)), np.broadcast_to(self.hi, (d,))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Box):
            return NotImplemented
        return np.array_equal(self.lo, other.lo) and np.array_equal(self.hi, other.hi)

    def __hash__(self) -> int:
        return hash((np.asarray(self.lo).tobytes(), np.asarray(self.hi).tobytes()))


def _bound(name: str, value: ArrayLike) -> NDArray[np.float64]:
    bound = np.array(value, np.float64)
    if bound.ndim > 1:
        raise ValueError(f"Box: {name} must be a number or a vector, not of shape {bound.shape}")
    if not np.isfinite(bound).all():
        k = int(np.flatnonzero(~np.isfinite(bound))[0])
        where = f"[{k}]" if bound.ndim else ""
        raise ValueError(f"Box: {name}{where} = {bound.flat[k]} is not finite")
    bound.setflags(write=False)
    return bound
