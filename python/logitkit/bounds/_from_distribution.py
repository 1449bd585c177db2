"""Lower bounds on log-sum-exp from a point of the simplex: a mean and an entropy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .._real_array import epsilon, real_array, real_number
from ._rows import (
    Array,
    Bounds,
    Rows,
    Sides,
    quiet,
    read,
    refuse,
    row_name,
    summation,
    weighted_mean,
)


def entropy(x: Any, p: Any, /, *, axis: int = -1) -> Bounds:
    r"""
    Bound log-sum-exp by a mean and the entropy of its weights.

    .. math:: \operatorname{lse}(x) \ge \sum_i p_i x_i - \sum_i p_i \log p_i

    Parameters
    ----------
    x : array_like, shape (..., n, ...)
        Log-weights, in nats; -inf masks an entry.
    p : array_like, shape of `x`
        Probabilities: not negative, of sum one along `axis` up to the square root of the
        machine epsilon of their type, as in ``numpy.random``. They are divided by their sum.
    axis : int, default -1
        The axis of the `n` entries.

    Returns
    -------
    Bounds
        Of ``logsumexp(x, axis)``, in nats: `upper` is ``inf``.

    Raises
    ------
    ValueError
        If `p` is not on the simplex.

    Notes
    -----
    Holds for every row. The gap is the Kullback-Leibler divergence of `p` from softmax(x), so
    it is equal where `p` is softmax(x): log-sum-exp is the largest of these sums, and its
    conjugate is the negative entropy. Of the family `hoelder` this is the limit ``t = 1``, and
    the largest. An entry with ``p = 0`` is left out whatever `x` is; one with ``p > 0`` and
    ``x = -inf`` gives ``-inf``.

    References
    ----------
    .. [1] J. Su, on inequalities of log-sum-exp (in Chinese), kexue.fm/archives/9070, 2022.
    .. [2] S. Boyd and L. Vandenberghe, "Convex Optimization", 2004, example 3.25.

    Examples
    --------
    >>> from logitkit import bounds
    >>> round(float(bounds.entropy([0.0, 0.0], [0.5, 0.5]).lower), 4)
    0.6931
    """
    rows, weights = read_distribution(x, p, axis)
    return rows.rounded(hoelder_sides(rows, weights, 1.0))


def cauchy(x: Any, p: Any, /, *, axis: int = -1) -> Bounds:
    r"""
    Bound log-sum-exp by a mean and the sum of its squared weights.

    .. math:: \operatorname{lse}(x) \ge \sum_i p_i x_i - \log \sum_i p_i^2

    Parameters
    ----------
    x : array_like, shape (..., n, ...)
        Log-weights, in nats; -inf masks an entry.
    p : array_like, shape of `x`
        Probabilities, as in `entropy`.
    axis : int, default -1
        The axis of the `n` entries.

    Returns
    -------
    Bounds
        Of ``logsumexp(x, axis)``, in nats: `upper` is ``inf``.

    Raises
    ------
    ValueError
        If `p` is not on the simplex.

    Notes
    -----
    Holds for every row, by Jensen's inequality and that of Cauchy and Schwarz; equal where
    `x` is the same wherever ``p > 0``, those `p` are equal, and all else is masked.
    `entropy` is sharper.

    References
    ----------
    .. [1] J. Su, on inequalities of log-sum-exp (in Chinese), kexue.fm/archives/9070, 2022.

    Examples
    --------
    >>> from logitkit import bounds
    >>> round(float(bounds.cauchy([0.0, 0.0], [0.5, 0.5]).lower), 4)
    0.6931
    """
    rows, weights = read_distribution(x, p, axis)
    return rows.rounded(hoelder_sides(rows, weights, 2.0))


def hoelder(x: Any, p: Any, /, *, t: float, axis: int = -1) -> Bounds:
    r"""
    Bound log-sum-exp by a mean and the Renyi entropy of its weights.

    .. math:: \operatorname{lse}(x) \ge \sum_i p_i x_i - \frac{1}{t - 1} \log \sum_i p_i^t

    Parameters
    ----------
    x : array_like, shape (..., n, ...)
        Log-weights, in nats; -inf masks an entry.
    p : array_like, shape of `x`
        Probabilities, as in `entropy`.
    t : float
        The order, above 1. ``inf`` is the limit, with :math:`-\log \max_i p_i`.
    axis : int, default -1
        The axis of the `n` entries.

    Returns
    -------
    Bounds
        Of ``logsumexp(x, axis)``, in nats: `upper` is ``inf``.

    Raises
    ------
    ValueError
        If `p` is not on the simplex, or `t` is not above 1.

    Notes
    -----
    Holds for every row, and falls as `t` grows: `entropy` is the limit ``t = 1`` and `cauchy`
    has ``t = 2``. Equal where `x` is the same wherever ``p > 0``, those `p` are equal, and all
    else is masked. Below 1 it is false: the term then exceeds the entropy, and
    ``p = softmax(x)`` has nothing to spare.

    References
    ----------
    .. [1] J. Su, on inequalities of log-sum-exp (in Chinese), kexue.fm/archives/9070, 2022.

    Examples
    --------
    >>> from logitkit import bounds
    >>> x, p = [1.0, 0.0], [0.75, 0.25]
    >>> [round(float(bounds.hoelder(x, p, t=t).lower), 4) for t in (1.5, 2.0, float("inf"))]
    [1.261, 1.22, 1.0377]
    """
    rows, weights = read_distribution(x, p, axis)
    return rows.rounded(hoelder_sides(rows, weights, order(t)))


def order(t: float) -> float:
    """Return an order for which the inequality is true."""
    if not (t := real_number("t", t)) > 1.0:
        raise ValueError(
            f"expected t > 1, not {t}: below 1 the inequality is false, and its limit at 1 is "
            "logitkit.bounds.entropy"
        )
    return t


def read_distribution(x: Any, p: Any, axis: int) -> tuple[Rows, Array]:
    """Return the rows of `x`, and `p` divided by its sums, or say which row is wrong."""
    rows, given = read(axis, x=x, p=p)
    refuse("p", given, ~(given.values >= 0.0), "expected a probability")
    total = np.sum(given.values, axis=-1)
    wrong = ~(np.abs(total - 1.0) <= math.sqrt(epsilon(real_array("p", p).dtype)))
    if wrong.any():
        index = np.argwhere(wrong)[0]
        raise ValueError(
            f"{row_name('p', index)} sums to {total[tuple(index)]}, not to 1: divide it by its sum"
        )
    return rows, given.values / total[..., None]


@quiet
def hoelder_sides(rows: Rows, weights: Array, t: float) -> Sides:
    """Evaluate `entropy` for t = 1, `hoelder` above."""
    average, magnitude = weighted_mean(weights, rows.values)
    n = rows.values.shape[-1]
    average = np.where(np.isnan(average), -np.inf, average)  # inf - inf: nothing is claimed
    lower = average + _renyi_entropy(weights, t)
    # Weights, their logarithms, sums and the division by their total: at most four roundings
    # of the size of a sum's, of terms that add up to |p x| and an entropy.
    error = 4.0 * summation(n) * (magnitude + math.log(max(n, 1)) + 1.0)
    return rows.sides(lower, np.inf, error)


def _renyi_entropy(p: Array, t: float) -> Any:
    """Return log(sum(p^t)) / (1 - t), whose limit t = 1 is the entropy."""
    log_p = np.log(np.where(p > 0.0, p, 1.0))
    if t == 1.0:
        return -np.sum(p * log_p, axis=-1)
    top = np.max(p, axis=-1, initial=0.0)
    if t == np.inf:
        return -np.log(top)
    # sum(p^t) - 1 keeps its digits near t = 1; far from it, what matters is the largest p.
    change = np.sum(p * np.expm1((t - 1.0) * log_p), axis=-1)
    near = -np.log1p(change) / (t - 1.0)
    powers = np.sum((p / top[..., None]) ** t, axis=-1)
    far = -np.log(top) * (t / (t - 1.0)) - np.log(powers) / (t - 1.0)
    return np.where(change > -0.5, near, far)
