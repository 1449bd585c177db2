"""Error-free transformations and rounding bounds of float64 arithmetic.

The sources are N. J. Higham, "Accuracy and Stability of Numerical Algorithms" (2002),
chapters 2 and 3; T. J. Dekker, Numer. Math. 18 (1971); S. M. Rump, "Verification
methods", Acta Numerica 19 (2010); K. Ozaki, T. Ogita, S. Oishi and S. M. Rump,
"Error-free transformations of matrix multiplication", Numer. Algorithms 59 (2012).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

UNIT = 2.0**-53
UNIT_FLOAT32 = 2.0**-24
# Bounds are sums of non-negative numbers that are rounded themselves: a chain of fewer
# than 2^22 roundings of 2^-53 each stays below this factor.
OUTWARD = 1.0 + 2.0**-30
# Absolute error of underflow, also where the hardware flushes subnormals to zero, for
# quantities that were scaled to about one.
TINY = 2.0**-900


def gamma(terms: int, unit: float = UNIT) -> float:
    """
    Relative error of a sum of `terms` products, in any order, with or without FMA.

    Higham's ``gamma_n = n u / (1 - n u)``, rounded up; infinite where it says nothing.
    """
    return 1.01 * terms * unit if terms * unit < 0.005 else math.inf


def two_difference(a: Array, b: Array) -> tuple[Array, Array]:
    """Return `(d, e)` with ``d + e = a - b`` exactly and ``d = fl(a - b)`` (Knuth)."""
    d = a - b
    z = d - a
    return d, (a - (d - z)) - (b + z)


def _split(a: Array) -> tuple[Array, Array]:
    c = 134217729.0 * a  # 2^27 + 1, Veltkamp
    high = c - (c - a)
    return high, a - high


def two_product(a: Array, b: Array) -> tuple[Array, Array]:
    """Return `(p, e)` with ``p + e = a * b`` exactly, barring over- and underflow (Dekker)."""
    p = a * b
    (ah, al), (bh, bl) = _split(a), _split(b)
    return p, al * bl - (((p - ah * bh) - al * bh) - ah * bl)


def power_of_two_above(a: Array) -> NDArray[np.int32]:
    """Return the least integers `e` with ``abs(a) < 2**e``; 0 where `a` is 0."""
    return np.frexp(a)[1]


def _slices(a: Array, terms: int, axis: int) -> tuple[Array, Array, Array]:
    """Cut `a` into three parts, the first two so short that their products are exact."""
    # Slices with 53 - beta bits below the largest entry of the row (or column): `terms`
    # products of two such numbers sum to less than 2^53 units, in any order.
    beta = math.ceil((53 + math.log2(terms)) / 2)
    parts = []
    rest = a
    for _ in range(2):
        top = np.abs(rest).max(axis=axis, keepdims=True)
        sigma = np.ldexp(1.0, power_of_two_above(top) + beta)
        part = (rest + sigma) - sigma
        rest = rest - part  # exact
        parts.append(part)
    return parts[0], parts[1], rest


def accurate_residual(
    b: Array, b_low: Array, y: Array, n: Array, n_low: Array | None
) -> tuple[Array, Array]:
    """
    Return ``(b + b_low) - y (n + n_low)`` as if computed in twice the precision.

    Parameters
    ----------
    b, b_low : ndarray, shape (g, k)
        Right-hand sides and their low parts.
    y : ndarray, shape (g, k)
        Approximate solutions, one a row.
    n, n_low : ndarray, shape (k, k)
        Matrix, and its low part (None if it has none).

    Returns
    -------
    residual, bound : ndarray, shape (g, k)
        The value and a bound of its absolute error.
    """
    k = n.shape[0]
    y1, y2, y3 = _slices(y, k, axis=1)
    n1, n2, n3 = _slices(n, k, axis=0)
    n23 = n2 + n3  # exact: n - n1
    # y n = y1 n1 + y1 n2 + y2 n1 (each exact) + a remainder some 2^46 times smaller.
    small = y1 @ n3 + y2 @ n23 + y3 @ n
    low = b_low - small
    magnitude = np.abs(b_low) + np.abs(small)
    y_top = [np.abs(part).max(axis=1, keepdims=True) for part in (y1, y2, y3, y)]
    n_top = [np.abs(part).max(axis=0, keepdims=True) for part in (n3, n23, n)]
    error = gamma(k + 3) * k * sum(s * t for s, t in zip(y_top, n_top, strict=False))
    if n_low is not None:
        correction = y @ n_low
        low = low - correction
        magnitude += np.abs(correction)
        error = error + gamma(k) * k * y_top[3] * np.abs(n_low).max(axis=0, keepdims=True)
    high = b
    for product in (y1 @ n1, y1 @ n2, y2 @ n1):
        high, e = two_difference(high, product)
        low = low + e
        magnitude += np.abs(e)
    residual = high + low
    bound = 1.01 * UNIT * np.abs(residual) + gamma(8) * magnitude + error + TINY
    return residual, bound * OUTWARD
