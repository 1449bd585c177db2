"""Bounds on log-sum-exp that need the row alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._real_array import whole_number
from ._rows import (
    UNIT,
    Array,
    Bounds,
    Rows,
    Sides,
    log_sum_exp,
    quiet,
    read,
    spread,
    summation,
    weighted_mean,
)


def basic(x: Any, /, *, axis: int = -1) -> Bounds:
    r"""
    Bound log-sum-exp by the maximum.

    .. math:: \max_i x_i \le \operatorname{lse}(x) \le \max_i x_i + \log n

    Parameters
    ----------
    x : array_like, shape (..., n, ...)
        Log-weights, in nats; -inf masks an entry.
    axis : int, default -1
        The axis of the `n` entries.

    Returns
    -------
    Bounds
        Of ``logsumexp(x, axis)``, in nats: shape of `x` without `axis`.

    Notes
    -----
    Holds for every row. Equal on the left for one visible entry, on the right where all
    visible entries are equal; `n` counts the visible ones. The article's strict inequality on
    the left fails for ``n = 1``, and after rounding for rows like ``[0, -800]``.

    References
    ----------
    .. [1] J. Su, on inequalities of log-sum-exp (in Chinese), kexue.fm/archives/9070, 2022.

    Examples
    --------
    >>> from logitkit import bounds
    >>> [round(float(side), 4) for side in bounds.basic([0.0, 0.0])]
    [0.0, 0.6931]
    """
    (rows,) = read(axis, x=x)
    return rows.rounded(basic_sides(rows))


@quiet
def basic_sides(rows: Rows) -> Sides:
    """Evaluate `basic`; the maximum is exact."""
    upper = rows.max + rows.log_count
    return rows.sides(rows.max, upper, 0.0, UNIT * (2.0 * rows.log_count + np.abs(upper)))


def mean(x: Any, /, *, axis: int = -1) -> Bounds:
    r"""
    Bound log-sum-exp by the mean and the range.

    .. math::

        \bar x + \log n \le \operatorname{lse}(x)
        \le \bar x + \log n + \tfrac18 (\max_i x_i - \min_i x_i)^2

    Parameters
    ----------
    x : array_like, shape (..., n, ...)
        Log-weights, in nats; -inf masks an entry, which then has no part in mean, range
        and `n`.
    axis : int, default -1
        The axis of the `n` entries.

    Returns
    -------
    Bounds
        Of ``logsumexp(x, axis)``, in nats: shape of `x` without `axis`.

    Notes
    -----
    Holds for every row; both sides are equal where all visible entries are. On the left it is
    the convexity of exp [1]_, on the right Hoeffding's lemma [2]_ for an entry drawn at random.

    References
    ----------
    .. [1] J. Su, on inequalities of log-sum-exp (in Chinese), kexue.fm/archives/9070, 2022.
    .. [2] W. Hoeffding, "Probability inequalities for sums of bounded random variables",
       J. Amer. Statist. Assoc. 58, 1963, equation (4.16).

    Examples
    --------
    >>> from logitkit import bounds
    >>> [round(float(side), 4) for side in bounds.mean([-1.0, 1.0])]
    [0.6931, 1.1931]
    """
    (rows,) = read(axis, x=x)
    return rows.rounded(mean_sides(rows))


@quiet
def mean_sides(rows: Rows) -> Sides:
    """Evaluate `mean`."""
    average, error = row_mean(rows)
    lower = average + rows.log_count
    error = error + UNIT * (2.0 * rows.log_count + np.abs(lower))
    square = spread(rows.values, rows.visible) ** 2 / 8.0
    upper = lower + square
    return rows.sides(lower, upper, error, error + UNIT * (4.0 * square + np.abs(upper)))


@quiet
def row_mean(rows: Rows) -> tuple[Array, Array]:
    """Return the mean of what is visible, -inf of nothing, and its rounding error."""
    share = rows.visible / np.maximum(rows.count, 1)[..., None]
    average, magnitude = weighted_mean(share, rows.values)
    average = np.where(rows.count == 0, -np.inf, average)
    return average, (summation(rows.values.shape[-1]) + 2.0 * UNIT) * magnitude


def bouchard(x: Any, a: Any, /, *, axis: int = -1) -> Bounds:
    r"""
    Bound log-sum-exp by a sum of softplus functions.

    .. math:: \operatorname{lse}(x) \le a + \sum_i \log(1 + e^{x_i - a})

    Parameters
    ----------
    x : array_like, shape (..., n, ...)
        Log-weights, in nats; -inf masks an entry.
    a : array_like, shape of `x` without `axis`, or a number
        Where to put the bound: any finite number for each row.
    axis : int, default -1
        The axis of the `n` entries.

    Returns
    -------
    Bounds
        Of ``logsumexp(x, axis)``, in nats: `lower` is ``-inf``.

    Raises
    ------
    ValueError
        If `a` is not finite or does not fit the rows.

    Notes
    -----
    Holds for every row and every `a`, as the product of :math:`1 + e^{x_i - a}` contains their
    sum. Never equal; for one entry in the limit of small `a`, and for more entries best where
    :math:`\sum_i \sigma(x_i - a) = 1`. A sum of terms with one entry each can be integrated
    over a Gaussian `x`, which log-sum-exp cannot.

    References
    ----------
    .. [1] G. Bouchard, "Efficient bounds for the softmax function, applications to inference
       in hybrid models", NIPS 2007 workshop on approximate inference in hybrid models.

    Examples
    --------
    >>> from logitkit import bounds
    >>> round(float(bounds.bouchard([0.0, 0.0], 0.0).upper), 4)
    1.3863
    """
    (rows,) = read(axis, x=x)
    place = np.asarray(a, np.float64)
    if not np.isfinite(place).all():
        raise ValueError(f"expected a finite a, not {place[~np.isfinite(place)][0]}")
    try:
        place = np.broadcast_to(place, rows.max.shape)
    except ValueError as error:
        raise ValueError(
            f"cannot broadcast a of shape {place.shape} to the {rows.max.shape} rows of x"
        ) from error
    return rows.rounded(bouchard_sides(rows, place))


@quiet
def bouchard_sides(rows: Rows, place: Array) -> Sides:
    """Evaluate `bouchard`."""
    terms = np.logaddexp(0.0, rows.values - place[..., None])
    total = np.sum(terms, axis=-1)
    upper = place + total
    # A term is off by the rounding of x - a, at most UNIT (term + 0.3), and of itself.
    n = rows.values.shape[-1]
    error = (summation(n) + 8.0 * UNIT) * (total + n) + UNIT * np.abs(upper)
    return rows.sides(-np.inf, upper, 0.0, error)


def top_k(x: Any, /, *, k: int, axis: int = -1) -> Bounds:
    r"""
    Bound log-sum-exp by its `k` largest terms.

    .. math::

        l_k \le \operatorname{lse}(x) \le l_k + \log(1 + (n - k) e^{x_{(k+1)} - l_k}),
        \quad l_k = \operatorname{lse}(x_{(1)}, \dots, x_{(k)}),
        \quad x_{(1)} \ge x_{(2)} \ge \dots

    Parameters
    ----------
    x : array_like, shape (..., n, ...)
        Log-weights, in nats; -inf masks an entry, which does not count in `n`.
    k : int
        How many terms to sum, from 1 to the length of `axis`.
    axis : int, default -1
        The axis of the `n` entries.

    Returns
    -------
    Bounds
        Of ``logsumexp(x, axis)``, in nats: shape of `x` without `axis`.

    Raises
    ------
    ValueError
        If `k` is not from 1 to the length of `axis`.

    Notes
    -----
    Holds for every row: each of the terms left out is at most the largest of them. Equal on
    the left where at most `k` entries are visible, on the right where those left out are
    equal.

    Examples
    --------
    >>> from logitkit import bounds
    >>> [round(float(side), 4) for side in bounds.top_k([2.0, 0.0, 0.0], k=1)]
    [2.0, 2.2395]
    """
    (rows,) = read(axis, x=x)
    return rows.rounded(top_k_sides(rows, k))


@quiet
def top_k_sides(rows: Rows, k: int) -> Sides:
    """Evaluate `top_k`."""
    n = rows.values.shape[-1]
    if not 1 <= (k := whole_number("k", k)) <= n:
        raise ValueError(f"expected k from 1 to the {n} entries of a row, not {k}")
    parted = np.partition(rows.values, max(n - k - 1, 0), axis=-1)
    head, error = log_sum_exp(parted[..., n - k :])
    rest = parted[..., n - k - 1] if k < n else np.full(head.shape, -np.inf)
    left_out = np.maximum(rows.count - k, 0)
    tail = np.where(np.isfinite(head), np.log1p(left_out * np.exp(rest - head)), 0.0)
    upper = head + tail
    more = UNIT * (8.0 * tail + np.abs(rest - head) * tail + np.abs(upper))
    return rows.sides(head, upper, error, error + np.where(tail > 0.0, more, 0.0))
