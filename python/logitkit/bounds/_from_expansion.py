"""Bounds on log-sum-exp from its expansion at another row."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._log_arithmetic import smooth_max
from .._softmax import softmax
from ._from_pair import change_of, range_squared, read_pair
from ._rows import UNIT, Array, Bounds, Rows, Sides, positive, quiet, summation


def tangent(x: Any, y: Any, /, *, axis: int = -1) -> Bounds:
    r"""
    Bound log-sum-exp by its expansion at another row, with the range of the step.

    .. math::

        0 \le \operatorname{lse}(x) - \operatorname{lse}(y)
        - \langle \operatorname{softmax}(y), x - y \rangle
        \le \tfrac18 \bigl(\max_i (x_i - y_i) - \min_i (x_i - y_i)\bigr)^2

    Parameters
    ----------
    x, y : array_like, shape (..., n, ...)
        Log-weights, in nats. An entry that is -inf in both is left out; one that is so in `x`
        alone makes `lower` ``-inf``, in either alone `upper` ``inf``.
    axis : int, default -1
        The axis of the `n` entries.

    Returns
    -------
    Bounds
        Of ``logsumexp(x, axis)``, in nats: the expansion, and the expansion with the range's
        term. Infinite both where all of a row of `y` is masked.

    Raises
    ------
    ValueError
        If `y` holds NaN or +inf, or the shapes do not fit each other.

    Notes
    -----
    Holds for every pair; both sides are equal where `x - y` is the same everywhere. On the
    left log-sum-exp is convex, on the right it is Hoeffding's lemma under softmax(y).
    `quadratic` has the norm of the step, and is never sharper.

    References
    ----------
    .. [1] W. Hoeffding, "Probability inequalities for sums of bounded random variables",
       J. Amer. Statist. Assoc. 58, 1963, equation (4.16).

    Examples
    --------
    >>> from logitkit import bounds
    >>> [round(float(side), 4) for side in bounds.tangent([1.0, -1.0], [0.0, 0.0])]
    [0.6931, 1.1931]
    """
    rows, others = read_pair(x, y, axis)
    return rows.rounded(tangent_sides(rows, others))


@quiet
def tangent_sides(rows: Rows, others: Rows) -> Sides:
    """Evaluate `tangent`."""
    square, error = range_squared(rows, others)
    return _expansion(rows, others, square / 8.0, error / 8.0, 1.0)


def quadratic(x: Any, y: Any, /, *, tau: float = 1.0, axis: int = -1) -> Bounds:
    r"""
    Bound a smooth maximum by its expansion at another row, with the norm of the step.

    .. math::

        0 \le \tau \operatorname{lse}(x / \tau) - \tau \operatorname{lse}(y / \tau)
        - \langle \operatorname{softmax}(y / \tau), x - y \rangle
        \le \frac{1}{4 \tau} \|x - y\|_2^2

    Parameters
    ----------
    x, y : array_like, shape (..., n, ...)
        Log-weights, in nats, as in `tangent`.
    tau : float, default 1.0
        The temperature, above 0.
    axis : int, default -1
        The axis of the `n` entries.

    Returns
    -------
    Bounds
        Of ``smooth_max(x, axis, tau=tau)``, which is ``logsumexp(x, axis)`` for ``tau = 1``,
        in nats: the expansion, and the expansion with the square.

    Raises
    ------
    ValueError
        If `tau` is not above 0 and finite, `y` holds NaN or +inf, or the shapes do not fit
        each other.

    Notes
    -----
    Holds for every pair: the gradient of a smooth maximum is :math:`1/(2\tau)`-Lipschitz.
    Both sides are equal for ``x = y``. `tangent` is sharper for ``tau = 1``.

    References
    ----------
    .. [1] D. Boehning, "Multinomial logistic regression algorithm", Ann. Inst. Statist. Math.
       44, 1992.
    .. [2] Y. Nesterov, "Smooth minimization of non-smooth functions", Math. Program. 103, 2005.

    Examples
    --------
    >>> from logitkit import bounds
    >>> [round(float(side), 4) for side in bounds.quadratic([1.0, -1.0], [0.0, 0.0])]
    [0.6931, 1.1931]
    """
    rows, others = read_pair(x, y, axis)
    return rows.rounded(quadratic_sides(rows, others, positive("tau", tau)))


@quiet
def quadratic_sides(rows: Rows, others: Rows, tau: float) -> Sides:
    """Evaluate `quadratic`."""
    change, either = change_of(rows, others)
    square = np.sum(change * change, axis=-1, where=either) / (4.0 * tau)
    return _expansion(rows, others, square, summation(rows.values.shape[-1]) * square, tau)


@quiet
def _expansion(rows: Rows, others: Rows, square: Array, inexact: Any, tau: float) -> Sides:
    """Return the expansion of a smooth maximum at `others`, and the same with `square`."""
    change, _ = change_of(rows, others)
    below = (others.values - others.max[..., None]) / tau
    p = softmax(below, axis=-1) if below.shape[-1] else below
    gone = others.visible & ~rows.visible  # a step to -inf, even if p underflows
    terms = np.where(gone, -np.inf, np.where(others.visible, p * change, 0.0))
    origin = smooth_max(others.values, axis=-1, tau=tau)
    step = np.sum(terms, axis=-1)
    lower = np.where((others.count > 0) & ~np.isnan(step), origin + step, -np.inf)
    upper = np.where(np.isinf(square) | (others.count == 0), np.inf, lower + square)
    n = rows.values.shape[-1]
    # A probability errs like the exponents, in proportion to them, and 2 units besides.
    below = np.where(p > 0.0, -below, 0.0)
    moved = below + np.sum(p * below, axis=-1, keepdims=True)
    many = summation(n) + UNIT * (8.0 + 2.0 * moved)
    error = np.sum(many * np.abs(terms), axis=-1)
    error += UNIT * (3.0 * tau * others.log_count + 2.0 * np.abs(origin) + np.abs(lower))
    more = inexact + 8.0 * UNIT * square + UNIT * np.abs(upper)
    return rows.sides(lower, upper, error, error + more)
