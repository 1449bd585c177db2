"""Bounds on log-sum-exp at another temperature or scale."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._from_row import row_mean
from ._rows import UNIT, Array, Bounds, Rows, Sides, log_sum_exp, positive, quiet, read, summation


def tempered(x: Any, /, *, tau: float, axis: int = -1) -> Bounds:
    r"""
    Bound a smooth maximum by the maximum.

    .. math::

        \max_i x_i \le \tau \operatorname{lse}(x / \tau) \le \max_i x_i + \tau \log n

    Parameters
    ----------
    x : array_like, shape (..., n, ...)
        Log-weights, in nats; -inf masks an entry, which does not count in `n`.
    tau : float
        The temperature, above 0.
    axis : int, default -1
        The axis of the `n` entries.

    Returns
    -------
    Bounds
        Of ``smooth_max(x, axis, tau=tau)``, in nats: shape of `x` without `axis`.

    Raises
    ------
    ValueError
        If `tau` is not above 0 and finite.

    Notes
    -----
    Holds for every row, and is equal where `basic` is. The limit ``tau = 0`` is the maximum.

    References
    ----------
    .. [1] J. Su, on inequalities of log-sum-exp (in Chinese), kexue.fm/archives/9070, 2022.

    Examples
    --------
    >>> from logitkit import bounds
    >>> [round(float(side), 4) for side in bounds.tempered([0.0, 0.0], tau=0.5)]
    [0.0, 0.3466]
    """
    (rows,) = read(axis, x=x)
    return rows.rounded(tempered_sides(rows, positive("tau", tau)))


@quiet
def tempered_sides(rows: Rows, tau: float) -> Sides:
    """Evaluate `tempered`."""
    most = tau * rows.log_count
    upper = rows.max + most
    return rows.sides(rows.max, upper, 0.0, UNIT * (3.0 * most + np.abs(upper)))


def tempered_mean(x: Any, /, *, tau: float, axis: int = -1) -> Bounds:
    r"""
    Bound a tempered log-mean-exp by the mean and the maximum.

    .. math::

        \bar x \le \tau \bigl(\operatorname{lse}(x / \tau) - \log n\bigr) \le \max_i x_i

    Parameters
    ----------
    x : array_like, shape (..., n, ...)
        Log-weights, in nats; -inf masks an entry, which has no part in the mean and `n`.
    tau : float
        The temperature, above 0.
    axis : int, default -1
        The axis of the `n` entries.

    Returns
    -------
    Bounds
        Of ``smooth_max(x, axis, tau=tau) - tau * log(n)``, in nats: shape of `x` without
        `axis`.

    Raises
    ------
    ValueError
        If `tau` is not above 0 and finite.

    Notes
    -----
    Holds for every row; both sides are equal where all visible entries are. The quantity
    falls from the maximum to the mean as `tau` grows from 0.

    References
    ----------
    .. [1] J. Su, on inequalities of log-sum-exp (in Chinese), kexue.fm/archives/9070, 2022.

    Examples
    --------
    >>> from logitkit import bounds
    >>> print(*bounds.tempered_mean([0.0, 1.0], tau=0.5))
    0.5 1.0
    """
    (rows,) = read(axis, x=x)
    return rows.rounded(tempered_mean_sides(rows, positive("tau", tau)))


@quiet
def tempered_mean_sides(rows: Rows, tau: float) -> Sides:
    """Evaluate `tempered_mean`, whose sides do not depend on `tau`."""
    average, error = row_mean(rows)
    return rows.sides(average, rows.max, error)


def tempered_difference(x: Any, /, *, tau: float, other: float = 1.0, axis: int = -1) -> Bounds:
    r"""
    Bound the difference of smooth maxima at two temperatures by entropies.

    .. math::

        (\tau - \tau') H(x / \tau')
        \le \tau \operatorname{lse}(x / \tau) - \tau' \operatorname{lse}(x / \tau')
        \le (\tau - \tau') H(x / \tau),

    where `H` is the entropy of the softmax.

    Parameters
    ----------
    x : array_like, shape (..., n, ...)
        Log-weights, in nats; -inf masks an entry.
    tau : float
        The temperature, above 0.
    other : float, default 1.0
        The temperature :math:`\tau'` that is compared with, above 0.
    axis : int, default -1
        The axis of the `n` entries.

    Returns
    -------
    Bounds
        Of ``smooth_max(x, axis, tau=tau) - smooth_max(x, axis, tau=other)``, in nats: shape of
        `x` without `axis`; NaN for a row without a softmax.

    Raises
    ------
    ValueError
        If `tau` or `other` is not above 0 and finite.

    Notes
    -----
    Holds for every row and either order of the temperatures: the derivative of
    :math:`\tau \operatorname{lse}(x / \tau)` is the entropy, which is not negative and rises
    with the temperature up to :math:`\log n`. So a smooth maximum rises with `tau`, and the
    same of a mean, in `tempered_mean`, falls. Both sides are equal for equal temperatures
    and where all visible entries are equal.

    Examples
    --------
    >>> from logitkit import bounds
    >>> [round(float(side), 4) for side in bounds.tempered_difference([0.0, 0.0], tau=2.0)]
    [0.6931, 0.6931]
    """
    (rows,) = read(axis, x=x)
    tau, other = positive("tau", tau), positive("other", other)
    return rows.rounded(tempered_difference_sides(rows, tau, other))


@quiet
def tempered_difference_sides(rows: Rows, tau: float, other: float) -> Sides:
    """Evaluate `tempered_difference`."""
    sides, errors = [], []
    for temperature in (other, tau):
        entropy, error = _entropy(rows, temperature)
        sides.append((tau - other) * entropy)
        errors.append(abs(tau - other) * (error + 2.0 * UNIT * entropy))
    return rows.sides(*sides, *errors)


@quiet
def _entropy(rows: Rows, tau: float) -> tuple[Array, Array]:
    """Return the entropy of softmax(x / tau), and its rounding error."""
    below = (rows.values - rows.max[..., None]) / tau
    weights = np.exp(below)
    terms = np.where(weights > 0.0, weights * below, 0.0)
    total = np.sum(weights, axis=-1)
    entropy = np.log(total) - np.sum(terms, axis=-1) / total
    # An exponent errs in proportion to itself, and moves its term by its square.
    moved = np.sum(np.abs(terms) + np.where(weights > 0.0, terms * below, 0.0), axis=-1) / total
    n = rows.values.shape[-1]
    return entropy, (summation(n) + 8.0 * UNIT) * (1.0 + np.abs(entropy) + moved)


def scaled(x: Any, /, *, s: float, axis: int = -1) -> Bounds:
    r"""
    Bound log-sum-exp of scaled log-weights by a multiple of it.

    .. math::

        s \operatorname{lse}(x) - (s - 1) \log n \le \operatorname{lse}(s x)
        \le s \operatorname{lse}(x) \quad \text{for } s \ge 1,

    and the other way round for ``0 < s <= 1``.

    Parameters
    ----------
    x : array_like, shape (..., n, ...)
        Log-weights, in nats; -inf masks an entry, which does not count in `n`.
    s : float
        The scale, above 0.
    axis : int, default -1
        The axis of the `n` entries.

    Returns
    -------
    Bounds
        Of ``logsumexp(s * x, axis)``, in nats: shape of `x` without `axis`.

    Raises
    ------
    ValueError
        If `s` is not above 0 and finite.

    Notes
    -----
    Holds for every row: sums of powers of positive numbers rise when the power is applied
    first, means fall. Equal with ``s lse(x)`` for one visible entry, with the other side where
    all visible entries are equal, and with both for ``s = 1``.

    References
    ----------
    .. [1] G. H. Hardy, J. E. Littlewood and G. Polya, "Inequalities", 1934, sections 2.9, 2.10.

    Examples
    --------
    >>> from logitkit import bounds
    >>> [round(float(side), 4) for side in bounds.scaled([0.0, 0.0], s=2.0)]
    [0.6931, 1.3863]
    """
    (rows,) = read(axis, x=x)
    return rows.rounded(scaled_sides(rows, positive("s", s), *log_sum_exp(rows.values)))


@quiet
def scaled_sides(rows: Rows, s: float, lse: Array, error: Array) -> Sides:
    """Evaluate `scaled`, from a log-sum-exp with its error."""
    multiple, shift = s * lse, (1.0 - s) * rows.log_count
    lower, upper = multiple + np.minimum(shift, 0.0), multiple + np.maximum(shift, 0.0)
    lower = np.where(rows.count == 0, -np.inf, lower)
    upper = np.where(rows.count == 0, -np.inf, upper)
    error = s * error + UNIT * (np.abs(multiple) + 4.0 * np.abs(shift))
    return rows.sides(lower, upper, error + UNIT * np.abs(lower), error + UNIT * np.abs(upper))
