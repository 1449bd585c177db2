"""Proofs that a class cannot win in a box of feature vectors."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._error_free import OUTWARD, TINY, gamma
from ._rows import bias_as_float64, rows_as_float64
from ._verdict import Proof

Array = NDArray[np.float64]

# A value that is this small against its terms may be a tie. Fractions of these denominators are
# told apart by float64.
TIE = 2.0**-24
LARGEST_DENOMINATOR = 1 << 16
MOST_EXACT = 2048  # numbers in a support: about 5 ms
Index = NDArray[np.int64]


def prove_unargmaxable_in_box(
    weight: NDArray[Any],
    bias: NDArray[Any] | None,
    lo: Array,
    hi: Array,
    cls: int,
    support: Index,
    coefficients: Array,
) -> tuple[float, Proof]:
    r"""
    Bound the best margin of a class in a box of features by a convex combination.

    No `x` in the box lets the margins over the support average to more than

    .. math:: \max_{lo \le x \le hi} \sum_j \lambda_j \bigl((w_i - w_j) x + b_i - b_j\bigr)

    Parameters
    ----------
    weight : ndarray, shape (n, d)
        Output layer: finite, of any float dtype.
    bias : ndarray, shape (n,), or None
        Its bias.
    lo, hi : ndarray of float64, shape (d,)
        Finite bounds.
    cls : int
        The class `i`.
    support : ndarray of int64, shape (k,)
        Classes `j`, all other than `i`.
    coefficients : ndarray of float64, shape (k,)
        Weights of the average: not negative, not all zero. Any such numbers will do.

    Returns
    -------
    value : float
        Upper bound of that maximum, in logits, rounding included (``inf`` if the
        arguments do not qualify).
    proof : Proof
        INTERVAL if the value is not positive: the class is unargmaxable in the box. EXACT where
        it is 0 by rational arithmetic, with fractions near the coefficients.

    Examples
    --------
    >>> w = np.array([[1.0], [0.0]])
    >>> b = np.array([0.0, 2.0])
    >>> one = np.ones(1)
    >>> value, proof = prove_unargmaxable_in_box(w, b, -one, one, 0, np.array([1]), one)
    >>> round(value, 9), proof.name
    (-1.0, 'INTERVAL')
    """
    support = np.asarray(support, np.int64)
    coefficients = np.asarray(coefficients, np.float64)
    valid = np.isfinite(coefficients).all() and (coefficients >= 0).all() and coefficients.any()
    if not valid or (support == cls).any() or support.size != coefficients.size:
        return np.inf, Proof.NONE
    d = weight.shape[1]
    index = np.append(support, cls)
    w = rows_as_float64(weight, index)
    b = bias_as_float64(None if bias is None else np.asarray(bias)[index], index.size)
    difference, gap = w[-1] - w[:-1], b[-1] - b[:-1]
    with np.errstate(over="ignore", invalid="ignore"):
        slope, height = coefficients @ difference, float(coefficients @ gap)
        # Each difference is rounded once, each sum of k products k times.
        bound = OUTWARD * gamma(support.size + 2)
        slope_error = bound * (coefficients @ np.abs(difference)) + TINY
        height_error = bound * float(coefficients @ np.abs(gap))
        height_error += TINY if gap.any() else 0.0  # equal biases cancel exactly
        # The slope lies within slope_error; the worst end of each edge, either way. An end
        # at 0 costs nothing, whatever the slope is.
        ends = [slope * end + slope_error * np.abs(end) for end in (lo, hi)]
        top = np.maximum(*ends)
        value = float(top.sum()) + height
        error = gamma(d + 4) * (float(np.abs(top).sum()) + abs(height)) + height_error
        if value + error != 0.0:  # otherwise every term is 0, and so is the sum
            value = float(np.nextafter(value + error * OUTWARD, np.inf))
        reach = float((coefficients @ np.abs(difference)) @ np.maximum(np.abs(lo), np.abs(hi)))
        size = reach + float(coefficients @ np.abs(gap))
    if (
        0.0 < value <= TIE * size
        and difference.size <= MOST_EXACT
        and _ties(w, b, lo, hi, coefficients)
    ):
        return 0.0, Proof.EXACT
    return value, Proof.INTERVAL if value <= 0 else Proof.NONE


def _ties(rows: Array, bias: Array, lo: Array, hi: Array, coefficients: Array) -> bool:
    """
    Tell whether fractions near the coefficients prove a maximum of at most 0, in exact numbers.

    Any weights that are not negative will do, so that nothing depends on how near they are.
    """
    largest = float(coefficients.max())
    weights = [Fraction(c / largest).limit_denominator(LARGEST_DENOMINATOR) for c in coefficients]
    layer = [[Fraction(float(v)) for v in row] for row in np.column_stack([rows, bias])]
    *others, own = layer
    total = sum(weights, Fraction(0))
    *slope, height = (
        total * mine
        - sum((c * row[k] for c, row in zip(weights, others, strict=True)), Fraction(0))
        for k, mine in enumerate(own)
    )
    ends = zip(slope, lo.tolist(), hi.tolist(), strict=True)
    top = sum((max(g * Fraction(low), g * Fraction(high)) for g, low, high in ends), height)
    return top <= 0


def rounding_loss_in_box(
    weight: NDArray[Any],
    bias: NDArray[Any] | None,
    lo: Array,
    hi: Array,
    cls: int,
    support: Index,
    *,
    unit_roundoff: float,
    half_step: float = 0.0,
) -> float:
    """
    Bound how far rounding of a layer raises the value of `prove_unargmaxable_in_box`.

    A certificate with a value of at most minus this bound survives the rounding. The
    arguments are those of `prove_unargmaxable_in_box` and `prove_unargmaxable`.
    """
    rows = rows_as_float64(weight, np.append(np.asarray(support, np.int64), cls))
    lengths = np.linalg.norm(rows, axis=1)
    delta = unit_roundoff * (lengths[-1] + lengths[:-1].max(initial=0.0))
    delta += 2 * half_step * np.sqrt(weight.shape[1])
    reach = float(np.linalg.norm(np.maximum(np.abs(lo), np.abs(hi))))
    largest_bias = 0.0 if bias is None else float(np.abs(bias_as_float64(bias, 0)).max())
    return float(delta * reach + 2 * unit_roundoff * largest_bias) * OUTWARD
