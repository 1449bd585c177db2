"""Bounds on how fast softmax changes, which is how strongly log-sum-exp bends."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._from_pair import change_of, read_pair, step_range
from ._rows import UNIT, Array, Bounds, Rows, Sides, quiet, read, refuse, spread, summation


def variance(x: Any, u: Any, /, *, axis: int = -1) -> Bounds:
    r"""
    Bound the curvature of log-sum-exp by the range of the direction.

    .. math::

        0 \le u^\top H u = \operatorname{Var}_p(u)
        \le \tfrac14 (\max_i u_i - \min_i u_i)^2,
        \quad p = \operatorname{softmax}(x), \quad H = \operatorname{diag}(p) - p p^\top

    Parameters
    ----------
    x : array_like, shape (..., n, ...)
        Log-weights, in nats. Of `x` only the mask matters: where it is -inf, `u` does not.
    u : array_like, shape of `x`
        The direction: finite numbers.
    axis : int, default -1
        The axis of the `n` entries.

    Returns
    -------
    Bounds
        Of the variance of `u` under softmax(x), in squared units of `u`: shape of `x` and `u`,
        broadcast, without `axis`; NaN for a row without a softmax.

    Raises
    ------
    ValueError
        If `u` is not finite where `x` is visible, or the shapes do not fit each other.

    Notes
    -----
    Holds for every row. Equal on the left where `u` is the same wherever ``p > 0``, on the
    right where `p` has half of its mass at the smallest `u` and half at the largest, as at
    ``p = (1/2, 1/2, 0)``. So it is 1 at most for entries of `u` in [-1, 1], and 1/4 for those
    in [0, 1] and for the diagonal of `H`, ``p (1 - p)``. Sharper than `boehning`, which is
    sharper than `hessian`.

    References
    ----------
    .. [1] T. Popoviciu, "Sur les equations algebriques ayant toutes leurs racines reelles",
       Mathematica 9, 1935.

    Examples
    --------
    >>> from logitkit import bounds
    >>> print(*bounds.variance([0.0, 0.0, 0.0], [1.0, 0.0, 0.0]))
    0.0 0.25
    """
    rows, direction = read_direction(x, u, axis)
    return rows.rounded(variance_sides(rows, direction))


@quiet
def variance_sides(rows: Rows, direction: Array) -> Sides:
    """Evaluate `variance`."""
    upper = spread(direction, rows.visible) ** 2 / 4.0
    return _up_to(rows, upper, 8.0 * UNIT * upper)


def boehning(x: Any, u: Any, /, *, axis: int = -1) -> Bounds:
    r"""
    Bound the curvature of log-sum-exp by Boehning's matrix.

    .. math::

        0 \le u^\top H u \le \tfrac12 u^\top (I - \tfrac1n 1 1^\top) u
        = \tfrac12 \sum_i (u_i - \bar u)^2,
        \quad H = \operatorname{diag}(p) - p p^\top, \quad p = \operatorname{softmax}(x)

    Parameters
    ----------
    x : array_like, shape (..., n, ...)
        Log-weights, in nats. Of `x` only the mask matters: where it is -inf, `u` does not,
        and `n` does not count it.
    u : array_like, shape of `x`
        The direction: finite numbers.
    axis : int, default -1
        The axis of the `n` entries.

    Returns
    -------
    Bounds
        Of the variance of `u` under softmax(x), in squared units of `u`: shape of `x` and `u`,
        broadcast, without `axis`; NaN for a row without a softmax.

    Raises
    ------
    ValueError
        If `u` is not finite where `x` is visible, or the shapes do not fit each other.

    Notes
    -----
    Holds for every row. Equal on the left as `variance`, on the right for ``p = (1/2, 1/2, 0,
    ...)`` in the limit of these zeros and ``u = (1, -1, 0, ...)``. It is what
    ``H <= (I - 11'/n) / 2`` says of one direction.

    References
    ----------
    .. [1] D. Boehning, "Multinomial logistic regression algorithm", Ann. Inst. Statist. Math.
       44, 1992.

    Examples
    --------
    >>> from logitkit import bounds
    >>> print(*bounds.boehning([0.0, 0.0], [1.0, 0.0]))
    0.0 0.25
    """
    rows, direction = read_direction(x, u, axis)
    return rows.rounded(boehning_sides(rows, direction))


@quiet
def boehning_sides(rows: Rows, direction: Array) -> Sides:
    """Evaluate `boehning`."""
    share = np.maximum(rows.count, 1)[..., None]
    average = np.sum(direction / share, axis=-1, keepdims=True)
    square = np.sum((direction - average) ** 2, axis=-1, where=rows.visible) / 2.0
    # The sum is least at the mean, so that what the mean is off by counts squared.
    n, size = direction.shape[-1], np.max(np.abs(direction), axis=-1, initial=0.0)
    off = 2.0 * summation(n) * size
    return _up_to(rows, square, (summation(n) + 8.0 * UNIT) * square + n * off**2)


def hessian(x: Any, u: Any, /, *, axis: int = -1) -> Bounds:
    r"""
    Bound the curvature of log-sum-exp by the norm of the direction.

    .. math::

        0 \le u^\top H u \le \tfrac12 \|u\|_2^2,
        \quad H = \operatorname{diag}(p) - p p^\top, \quad p = \operatorname{softmax}(x)

    Parameters
    ----------
    x : array_like, shape (..., n, ...)
        Log-weights, in nats. Of `x` only the mask matters: where it is -inf, `u` does not.
    u : array_like, shape of `x`
        The direction: finite numbers.
    axis : int, default -1
        The axis of the `n` entries.

    Returns
    -------
    Bounds
        Of the variance of `u` under softmax(x), in squared units of `u`: shape of `x` and `u`,
        broadcast, without `axis`; NaN for a row without a softmax.

    Raises
    ------
    ValueError
        If `u` is not finite where `x` is visible, or the shapes do not fit each other.

    Notes
    -----
    Holds for every row: no eigenvalue of `H` is negative or above 1/2, which it reaches at
    ``p = (1/2, 1/2, 0, ...)`` for ``u = (1, -1, 0, ...)``. `boehning` and `variance` are
    sharper.

    References
    ----------
    .. [1] D. Boehning, "Multinomial logistic regression algorithm", Ann. Inst. Statist. Math.
       44, 1992.

    Examples
    --------
    >>> from logitkit import bounds
    >>> print(*bounds.hessian([0.0, 0.0], [1.0, 0.0]))
    0.0 0.5
    """
    rows, direction = read_direction(x, u, axis)
    return rows.rounded(hessian_sides(rows, direction))


@quiet
def hessian_sides(rows: Rows, direction: Array) -> Sides:
    """Evaluate `hessian`."""
    square = np.sum(direction * direction, axis=-1) / 2.0
    return _up_to(rows, square, summation(direction.shape[-1]) * square)


def softmax_lipschitz(x: Any, y: Any, /, *, ord: float = 2, axis: int = -1) -> Bounds:
    r"""
    Bound the change of a softmax by that of its argument.

    .. math::

        \|\operatorname{softmax}(x) - \operatorname{softmax}(y)\|_q
        \le \tfrac12 \|x - y\|_q \quad (q = 2, \infty),
        \qquad \|\cdot\|_1 \le \tfrac12 \bigl(\max_i (x_i - y_i) - \min_i (x_i - y_i)\bigr)

    Parameters
    ----------
    x, y : array_like, shape (..., n, ...)
        Log-weights, in nats. An entry that is -inf in both is left out; in one, it makes the
        bound infinite.
    ord : {1, 2, inf}, default 2
        The norm, as in ``numpy.linalg.norm``.
    axis : int, default -1
        The axis of the `n` entries.

    Returns
    -------
    Bounds
        Of the norm of the difference of the softmaxes: shape of `x` and `y`, broadcast, without
        `axis`; NaN where one of them has no softmax.

    Raises
    ------
    ValueError
        If `ord` is another norm, `y` holds NaN or +inf, or the shapes do not fit each other.

    Notes
    -----
    Holds for every pair [1]_. Equal for ``x = y``, in the limit of small steps in two entries
    that share all of the mass, and never else. `total_variation` is sharper for ``ord=1``, and
    half the range is at most the largest change, which is the infinity norm of the step.

    References
    ----------
    .. [1] P. Nair, "Softmax is 1/2-Lipschitz: a tight bound across all lp norms",
       arXiv:2510.23012, 2025.

    Examples
    --------
    >>> from logitkit import bounds
    >>> print(*bounds.softmax_lipschitz([1.0, 0.0], [0.0, 0.0], ord=1))
    0.0 0.5
    """
    rows, others = read_pair(x, y, axis)
    if ord not in (1, 2, np.inf):
        raise ValueError(f"expected ord to be 1, 2 or inf, not {ord}")
    return rows.rounded(softmax_lipschitz_sides(rows, others, ord))


@quiet
def softmax_lipschitz_sides(rows: Rows, others: Rows, ord: float) -> Sides:
    """Evaluate `softmax_lipschitz`."""
    if ord == 1:
        size, error = step_range(rows, others)
    else:
        change, either = change_of(rows, others)
        size = np.linalg.norm(np.where(either, change, 0.0), ord, axis=-1)
        error = summation(change.shape[-1]) * size
    return _up_to(rows, size / 2.0, error / 2.0 + 4.0 * UNIT * size, others)


def total_variation(x: Any, y: Any, /, *, axis: int = -1) -> Bounds:
    r"""
    Bound the total variation between two softmaxes by the range of the step.

    .. math::

        \tfrac12 \|\operatorname{softmax}(x) - \operatorname{softmax}(y)\|_1
        \le \tanh \tfrac14 \bigl(\max_i (x_i - y_i) - \min_i (x_i - y_i)\bigr)

    Parameters
    ----------
    x, y : array_like, shape (..., n, ...)
        Log-weights, in nats. An entry that is -inf in both is left out; in one, it makes the
        bound 1.
    axis : int, default -1
        The axis of the `n` entries.

    Returns
    -------
    Bounds
        Of the total variation, from 0 to 1: shape of `x` and `y`, broadcast, without `axis`;
        NaN where one of them has no softmax.

    Raises
    ------
    ValueError
        If `y` holds NaN or +inf, or the shapes do not fit each other.

    Notes
    -----
    Holds for every pair. Merging the entries that gain and those that lose leaves two ratios
    of probabilities, whose quotient is at most :math:`e^r` for a range `r`; of two entries the
    worst are :math:`\sigma(\pm r / 2)`. Equal for those, and where `x - y` is constant.

    Examples
    --------
    >>> from logitkit import bounds
    >>> [round(float(side), 4) for side in bounds.total_variation([1.0, -1.0], [0.0, 0.0])]
    [0.0, 0.4621]
    """
    rows, others = read_pair(x, y, axis)
    return rows.rounded(total_variation_sides(rows, others))


@quiet
def total_variation_sides(rows: Rows, others: Rows) -> Sides:
    """Evaluate `total_variation`."""
    size, error = step_range(rows, others)
    upper = np.tanh(size / 4.0)
    return _up_to(rows, upper, error / 4.0 + 8.0 * UNIT * upper, others)


def _up_to(rows: Rows, upper: Array, error: Array, others: Rows | None = None) -> Sides:
    """Return the sides 0 and `upper`, NaN where `rows` or `others` have no softmax."""
    proper = np.isfinite(rows.max)
    if others is not None:
        proper &= np.isfinite(others.max)
    lower, upper = np.where(proper, 0.0, np.nan), np.where(proper, upper, np.nan)
    return rows.sides(lower, upper, 0.0, error)


def read_direction(x: Any, u: Any, axis: int) -> tuple[Rows, Array]:
    """Return the rows of `x`, and `u` with zeros where they are masked."""
    rows, direction = read(axis, x=x, u=u)
    wrong = rows.visible & ~np.isfinite(direction.values)
    refuse("u", direction, wrong, "expected a finite number, as x is not -inf there")
    return rows, np.where(rows.visible, direction.values, 0.0)
