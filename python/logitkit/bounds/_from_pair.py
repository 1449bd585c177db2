"""Bounds from two rows: how far their log-sum-exps are apart, and what mixing them does."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._real_array import real_number
from ._rows import (
    UNIT,
    Array,
    Bounds,
    Rows,
    Sides,
    quiet,
    read,
    require_mask_or_finite,
    spread,
)


def difference(x: Any, y: Any, /, *, axis: int = -1) -> Bounds:
    r"""
    Bound the difference of two log-sum-exps by those of the entries.

    .. math::

        \min_i (x_i - y_i) \le \operatorname{lse}(x) - \operatorname{lse}(y)
        \le \max_i (x_i - y_i)

    Parameters
    ----------
    x, y : array_like, shape (..., n, ...)
        Log-weights, in nats. An entry that is -inf in both is left out; in one, it makes the
        side that it concerns infinite.
    axis : int, default -1
        The axis of the `n` entries.

    Returns
    -------
    Bounds
        Of ``logsumexp(x, axis) - logsumexp(y, axis)``, in nats: shape of `x` and `y`,
        broadcast, without `axis`.

    Raises
    ------
    ValueError
        If `y` holds NaN or +inf, or the shapes do not fit each other.

    Notes
    -----
    Holds for every pair; both sides are equal where `x - y` is the same everywhere.
    The difference is a mean of `x - y` between the two rows, weighted by a softmax.
    `lipschitz` is the same without signs.

    References
    ----------
    .. [1] J. Su, on inequalities of log-sum-exp (in Chinese), kexue.fm/archives/9070, 2022.

    Examples
    --------
    >>> from logitkit import bounds
    >>> print(*bounds.difference([1.0, 3.0], [0.0, 0.0]))
    1.0 3.0
    """
    rows, others = read_pair(x, y, axis)
    return rows.rounded(difference_sides(rows, others))


@quiet
def difference_sides(rows: Rows, others: Rows) -> Sides:
    """Evaluate `difference`."""
    change, either = change_of(rows, others)
    lower = np.min(change, axis=-1, where=either, initial=np.inf)
    upper = np.max(change, axis=-1, where=either, initial=-np.inf)
    none = ~either.any(axis=-1)  # -inf - -inf
    lower, upper = np.where(none, np.nan, lower), np.where(none, np.nan, upper)
    return rows.sides(lower, upper, UNIT * np.abs(lower), UNIT * np.abs(upper))


def lipschitz(x: Any, y: Any, /, *, axis: int = -1) -> Bounds:
    r"""
    Bound the difference of two log-sum-exps by the largest change of an entry.

    .. math::

        |\operatorname{lse}(x) - \operatorname{lse}(y)| \le \max_i |x_i - y_i|

    Parameters
    ----------
    x, y : array_like, shape (..., n, ...)
        Log-weights, in nats. An entry that is -inf in both is left out; in one, it makes the
        bound infinite.
    axis : int, default -1
        The axis of the `n` entries.

    Returns
    -------
    Bounds
        Of ``logsumexp(x, axis) - logsumexp(y, axis)``, in nats: shape of `x` and `y`,
        broadcast, without `axis`.

    Raises
    ------
    ValueError
        If `y` holds NaN or +inf, or the shapes do not fit each other.

    Notes
    -----
    Holds for every pair; equal where `x - y` is the same everywhere. `difference` is sharper.

    References
    ----------
    .. [1] J. Su, on inequalities of log-sum-exp (in Chinese), kexue.fm/archives/9070, 2022.

    Examples
    --------
    >>> from logitkit import bounds
    >>> print(*bounds.lipschitz([1.0, 3.0], [0.0, 0.0]))
    -3.0 3.0
    """
    rows, others = read_pair(x, y, axis)
    return rows.rounded(lipschitz_sides(rows, others))


@quiet
def lipschitz_sides(rows: Rows, others: Rows) -> Sides:
    """Evaluate `lipschitz`."""
    change, either = change_of(rows, others)
    most = np.max(np.abs(change), axis=-1, where=either, initial=0.0)
    most = np.where(either.any(axis=-1), most, np.nan)
    return rows.sides(-most, most, UNIT * most, UNIT * most)


def convexity(x: Any, y: Any, /, *, weight: float = 0.5, axis: int = -1) -> Bounds:
    r"""
    Bound the gap of Jensen's inequality between two rows.

    .. math::

        0 \le w \operatorname{lse}(x) + (1 - w) \operatorname{lse}(y)
        - \operatorname{lse}(w x + (1 - w) y)
        \le \tfrac18 w (1 - w) \bigl(\max_i (x_i - y_i) - \min_i (x_i - y_i)\bigr)^2

    Parameters
    ----------
    x, y : array_like, shape (..., n, ...)
        Log-weights, in nats. An entry that is -inf in both is left out; in one, it makes
        `upper` infinite.
    weight : float, default 0.5
        The weight `w` of `x`, between 0 and 1.
    axis : int, default -1
        The axis of the `n` entries.

    Returns
    -------
    Bounds
        Of the gap, in nats: shape of `x` and `y`, broadcast, without `axis`.

    Raises
    ------
    ValueError
        If `weight` is not between 0 and 1, `y` holds NaN or +inf, or the shapes do not fit
        each other.

    Notes
    -----
    Holds for every pair; both sides are equal where `x - y` is the same everywhere. The second
    derivative along the way is a variance of `x - y`, at most a quarter of its squared range.

    References
    ----------
    .. [1] J. Su, on inequalities of log-sum-exp (in Chinese), kexue.fm/archives/9070, 2022.
    .. [2] W. Hoeffding, "Probability inequalities for sums of bounded random variables",
       J. Amer. Statist. Assoc. 58, 1963.

    Examples
    --------
    >>> from logitkit import bounds
    >>> print(*bounds.convexity([2.0, 0.0], [0.0, 0.0]))
    0.0 0.125
    """
    rows, others = read_pair(x, y, axis)
    return rows.rounded(convexity_sides(rows, others, fraction(weight)))


def fraction(weight: float) -> float:
    """Return a weight between 0 and 1, or say what is wrong with it."""
    if not 0.0 < (weight := real_number("weight", weight)) < 1.0:
        raise ValueError(f"expected a weight between 0 and 1, not {weight}")
    return weight


@quiet
def convexity_sides(rows: Rows, others: Rows, weight: float) -> Sides:
    """Evaluate `convexity`."""
    square, error = range_squared(rows, others)
    share = weight * (1.0 - weight) / 8.0
    return rows.sides(0.0, share * square, 0.0, share * (error + 8.0 * UNIT * square))


def read_pair(x: Any, y: Any, axis: int) -> tuple[Rows, Rows]:
    """Return the rows of both, of which the second are masked or finite."""
    rows, others = read(axis, x=x, y=y)
    require_mask_or_finite("y", others)
    return rows, others


@quiet
def step_range(rows: Rows, others: Rows) -> tuple[Array, Array]:
    """Return max(x - y) - min(x - y), and what is lost to rounding the differences."""
    change, either = change_of(rows, others)
    size = spread(change, either)
    largest = np.max(np.abs(change), axis=-1, where=either, initial=0.0)
    return size, UNIT * (2.0 * largest + size)


@quiet
def range_squared(rows: Rows, others: Rows) -> tuple[Array, Array]:
    """Return the square of `step_range`, with its error."""
    size, error = step_range(rows, others)
    return size**2, error * (2.0 * size + error)


def change_of(rows: Rows, others: Rows) -> tuple[Array, Any]:
    """Return x - y, zero where both are masked, and where one of them is not."""
    either = rows.visible | others.visible
    return np.where(either, rows.values - others.values, 0.0), either
