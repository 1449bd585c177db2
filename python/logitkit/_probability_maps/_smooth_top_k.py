"""Smooth forms of "is among the k largest": numbers from 0 to 1 that sum to k."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np

from .._backend import bridge_for
from ._rows import Array, checked_k, map_rows, pull_back, softmax_pull_back, softmax_rows
from ._rows import threshold_pull_back as pull_back_threshold

_HALVINGS = 64  # of the interval of the threshold: to the last digit


def gradient_top_k(x: Any, /, axis: int = -1, *, k: int) -> Any:
    r"""
    Probability of each class to be in a random set of `k` classes.

    .. math:: p_i = \frac{\partial}{\partial x_i} \log \sum_{|S| = k} e^{\sum_{j \in S} x_j}

    A set has a probability in proportion to the exponential of the sum of its logits; the sum
    over all sets is an elementary symmetric polynomial. ``k = 1`` is softmax.

    Parameters
    ----------
    x : array_like or tensor, shape (..., n, ...)
        Logits, in nats: real numbers of at most 64 bits. ``-inf`` masks a class.
    axis : int, optional
        The axis of the `n` classes.
    k : int
        How many, from 1 to the number of classes that are not masked.

    Returns
    -------
    ndarray, shape of `x`
        Numbers from 0 to 1 that sum to `k`, in the floating-point type of `x`, ``float64`` for
        integers. A line with NaN or ``+inf``, or with nothing but ``-inf``, gives NaN.

    Raises
    ------
    TypeError
        If `x` does not hold real numbers of at most 64 bits in main memory.
    ValueError
        If `k` is not from 1 to `n`, or a line has fewer classes than `k`.
    numpy.exceptions.AxisError
        If `x` has no such `axis`.

    See Also
    --------
    threshold_top_k : A cheaper form, of another shape.

    Notes
    -----
    Computed from the polynomials of the classes before and after each class, by their logarithms,
    in O(n k); never by dividing a factor out [1]_. The relative error is at most
    ``2**-50 (1 + k d)``, where d is the largest distance of a logit from the `k`-th largest.

    References
    ----------
    .. [1] A. Kulesza, B. Taskar, "Determinantal point processes for machine learning",
       Foundations and Trends in Machine Learning 5, 2012, section 5.2, arXiv:1207.6083.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit.distributions import gradient_top_k
    >>> gradient_top_k(np.log([3.0, 2.0, 1.0]), k=2).round(6)
    array([0.818182, 0.727273, 0.454545])
    """
    if (bridge := bridge_for(x)) is not None:
        return bridge.gradient_top_k(x, axis, k=k)
    return map_rows(lambda rows: _subsets(rows, k).inclusion, x, axis)


def gradient_top_k_vjp(x: Any, g: Any, /, axis: int = -1, *, k: int) -> Any:
    """
    Product of a cotangent with the Jacobian of `gradient_top_k`.

    The Jacobian is the covariance of membership in the random set, so it is symmetric.

    Parameters
    ----------
    x : array_like, shape (..., n, ...)
        The logits that `gradient_top_k` was given.
    g : array_like, shape of `x`
        The gradient of a loss with respect to its result.
    axis : int, optional
        The axis of the `n` classes.
    k : int
        That of `gradient_top_k`.

    Returns
    -------
    ndarray, shape of `x`
        The gradient of the loss with respect to `x`.

    Raises
    ------
    ValueError
        If `x` and `g` differ in shape, `k` is not from 1 to `n`, or a line has fewer classes
        than `k`.

    See Also
    --------
    gradient_top_k : The function itself.
    """
    return pull_back(lambda rows, c: _subsets(rows, k, c).tangent, x, g, axis)


def threshold_top_k(
    x: Any, /, axis: int = -1, *, k: int, cdf: Literal["laplace", "logistic"] = "laplace"
) -> Any:
    r"""
    Apply a distribution function above a threshold that makes the sum `k`.

    .. math:: p_i = F(x_i - \lambda), \quad \sum_i F(x_i - \lambda) = k

    With Laplace's F, ``k = 1`` is softmax where no probability is above one half, and not
    elsewhere.

    Parameters
    ----------
    x : array_like or tensor, shape (..., n, ...)
        Logits: real numbers of at most 64 bits. ``-inf`` masks a class.
    axis : int, optional
        The axis of the `n` classes.
    k : int
        How many, from 1 to the number of classes that are not masked.
    cdf : {"laplace", "logistic"}, optional
        F: ``exp(t) / 2`` for t < 0 and ``1 - exp(-t) / 2`` above, or the sigmoid.

    Returns
    -------
    ndarray, shape of `x`
        Numbers from 0 to 1 that sum to `k`, as `gradient_top_k` returns them.

    Raises
    ------
    TypeError
        If `x` does not hold real numbers of at most 64 bits in main memory.
    ValueError
        If `k` is not from 1 to `n`, a line has fewer classes than `k`, or `cdf` is another name.
    numpy.exceptions.AxisError
        If `x` has no such `axis`.

    See Also
    --------
    gradient_top_k : Softmax of sets, of which ``k = 1`` is softmax everywhere.

    Notes
    -----
    The threshold is found by bisection in ``float64``, to the last digit.

    References
    ----------
    .. [1] J. Su, "A smooth approximation of the top-k operator" (in Chinese), 2024,
       https://kexue.fm/archives/10373.

    Examples
    --------
    >>> from logitkit.distributions import threshold_top_k
    >>> threshold_top_k([2.0, 0.0, 0.0], k=1).round(4)
    array([0.7399, 0.1301, 0.1301])
    """
    if (bridge := bridge_for(x)) is not None:
        return bridge.threshold_top_k(x, axis, k=k, cdf=cdf)
    law = checked_law(cdf)
    return map_rows(lambda rows: _threshold(rows, k, law), x, axis)


def threshold_top_k_vjp(
    x: Any, g: Any, /, axis: int = -1, *, k: int, cdf: Literal["laplace", "logistic"] = "laplace"
) -> Any:
    r"""
    Product of a cotangent with the Jacobian of `threshold_top_k`.

    .. math:: s_i \Bigl(g_i - \frac{\sum_j s_j g_j}{\sum_j s_j}\Bigr), \quad
        s_i = F'(x_i - \lambda)

    Parameters
    ----------
    x : array_like, shape (..., n, ...)
        The logits that `threshold_top_k` was given.
    g : array_like, shape of `x`
        The gradient of a loss with respect to its result.
    axis : int, optional
        The axis of the `n` classes.
    k : int
        That of `threshold_top_k`.
    cdf : {"laplace", "logistic"}, optional
        That of `threshold_top_k`.

    Returns
    -------
    ndarray, shape of `x`
        The gradient of the loss with respect to `x`.

    Raises
    ------
    ValueError
        If `x` and `g` differ in shape, `k` is not from 1 to `n`, a line has fewer classes than
        `k`, or `cdf` is another name.

    See Also
    --------
    threshold_top_k : The function itself.
    """
    law = checked_law(cdf)

    def pulled(rows: Array, cotangents: Array) -> Array:
        p = _threshold(rows, k, law)
        slope = p * (1.0 - p) if law == "logistic" else np.minimum(p, 1.0 - p)
        return pull_back_threshold(slope, cotangents)

    return pull_back(pulled, x, g, axis)


def iterative_top_k(x: Any, /, axis: int = -1, *, k: int) -> Any:
    r"""
    Sum `k` softmaxes, each of what the ones before have left.

    .. math:: p^{(j)} = \mathrm{softmax}\Bigl(\bigl(1 - \sum_{i<j} p^{(i)}\bigr) \odot
        (x - \min x)\Bigr), \quad p = \sum_{j=1}^k p^{(j)}

    It tends to the `k` largest as the logits spread; elements may exceed 1 before.

    Parameters
    ----------
    x : array_like or tensor, shape (..., n, ...)
        Logits: real numbers of at most 64 bits. ``-inf`` masks a class.
    axis : int, optional
        The axis of the `n` classes.
    k : int
        How many, from 1 to the number of classes that are not masked.

    Returns
    -------
    ndarray, shape of `x`
        Positive numbers that sum to `k`, as `gradient_top_k` returns them.

    Raises
    ------
    TypeError
        If `x` does not hold real numbers of at most 64 bits in main memory.
    ValueError
        If `k` is not from 1 to `n`, or a line has fewer classes than `k`.
    numpy.exceptions.AxisError
        If `x` has no such `axis`.

    See Also
    --------
    gradient_top_k : A form with elements from 0 to 1.

    Notes
    -----
    Step by step what [1]_ calls soft-k-max, its last section: subtract the minimum, then `k` times
    multiply by what is left, 1 - p, and add the softmax to p. It depends on the scale and not on a
    shift of the logits; the least of them stays at 0 in all rounds.

    References
    ----------
    .. [1] J. Su, "Smooth approximations of functions that are not differentiable" (in
       Chinese), 2019, https://kexue.fm/archives/6620.

    Examples
    --------
    >>> from logitkit.distributions import iterative_top_k
    >>> iterative_top_k([20.0, 15.0, 0.0], k=2).round(4)
    array([0.9933, 1.0067, 0.    ])
    """
    if (bridge := bridge_for(x)) is not None:
        return bridge.iterative_top_k(x, axis, k=k)
    return map_rows(lambda rows: _rounds(rows, k).probabilities.sum(axis=0), x, axis)


def iterative_top_k_vjp(x: Any, g: Any, /, axis: int = -1, *, k: int) -> Any:
    """
    Product of a cotangent with the transposed Jacobian of `iterative_top_k`.

    Parameters
    ----------
    x : array_like, shape (..., n, ...)
        The logits that `iterative_top_k` was given.
    g : array_like, shape of `x`
        The gradient of a loss with respect to its result.
    axis : int, optional
        The axis of the `n` classes.
    k : int
        That of `iterative_top_k`.

    Returns
    -------
    ndarray, shape of `x`
        The gradient of the loss with respect to `x`; that of the minimum goes to the first one.

    Raises
    ------
    ValueError
        If `x` and `g` differ in shape, `k` is not from 1 to `n`, or a line has fewer classes
        than `k`.

    See Also
    --------
    iterative_top_k : The function itself.
    """

    def pulled(rows: Array, cotangents: Array) -> Array:
        rounds = _rounds(rows, k)
        of_above, later = np.zeros_like(rows), np.zeros_like(rows)
        for p, rest in zip(rounds.probabilities[::-1], rounds.rests[::-1], strict=True):
            # p^(j) counts in the result, and in the rests of all later rounds.
            of_logits = softmax_pull_back(p, cotangents + later)
            of_above += rest * of_logits
            later -= rounds.above * of_logits
        lowest = np.argmin(np.where(rows == -np.inf, np.inf, rows), axis=1)
        of_above[np.arange(len(rows)), lowest] -= of_above.sum(axis=1)
        return of_above

    return pull_back(pulled, x, g, axis)


class _Rounds(NamedTuple):
    """The softmaxes of `iterative_top_k`, what was left before each, and ``x - min(x)``."""

    probabilities: Array
    rests: Array
    above: Array


def _rounds(x: Array, k: int) -> _Rounds:
    k = _checked_rows(x, k)
    masked = x == -np.inf
    lowest = np.where(masked, np.inf, x).min(axis=1, keepdims=True)
    above = np.where(masked, 0.0, x - lowest)
    rest = np.ones_like(x)
    probabilities, rests = np.empty((k, *x.shape)), np.empty((k, *x.shape))
    for j in range(k):
        rests[j] = rest
        probabilities[j] = softmax_rows(np.where(masked, -np.inf, rest * above))
        rest = rest - probabilities[j]
    return _Rounds(probabilities, rests, above)


class _Subsets(NamedTuple):
    """The probability of each class to be in the set, and its derivative along a direction."""

    inclusion: Array
    tangent: Array


def _subsets(x: Array, k: int, direction: Array | None = None) -> _Subsets:
    """
    Return the inclusion probabilities of a softmax over sets of `k` classes.

    Polynomials of the classes before and after each one, with E the elementary symmetric
    polynomials of exponentials::

        p_i = e^x_i sum_j E_j(x_1 .. x_i-1) E_k-1-j(x_i+1 .. x_n) / E_k(x)
    """
    k = _checked_rows(x, k)
    x = x + np.partition(-x, k - 1, axis=1)[:, k - 1, np.newaxis]  # the k-th largest is 0
    v = np.zeros_like(x) if direction is None else direction
    before, after = _polynomials(x, v, k), _polynomials(x[:, ::-1], v[:, ::-1], k)
    n = x.shape[1]
    total, total_tangent = before.log[n][:, k], before.tangent[n][:, k]
    inclusion, tangent = np.empty_like(x), np.empty_like(x)
    for i in range(n):
        rest = n - 1 - i
        logs = before.log[i][:, :k] + after.log[rest][:, k - 1 :: -1]
        tangents = before.tangent[i][:, :k] + after.tangent[rest][:, k - 1 :: -1]
        log, of_rest = _log_sum(logs, tangents)
        inclusion[:, i] = np.exp(x[:, i] + log - total)
        tangent[:, i] = inclusion[:, i] * (v[:, i] + of_rest - total_tangent)
    return _Subsets(np.minimum(inclusion, 1.0), tangent)


class _Polynomials(NamedTuple):
    """``log[i][:, j]``: the logarithm of E_j of the first i classes; and its derivative."""

    log: Array
    tangent: Array


def _polynomials(x: Array, v: Array, k: int) -> _Polynomials:
    rows, n = x.shape
    log, tangent = np.full((n + 1, rows, k + 1), -np.inf), np.zeros((n + 1, rows, k + 1))
    log[0, :, 0] = 0.0
    for i in range(n):
        # E_j(x_1 .. x_i) = E_j(x_1 .. x_i-1) + e^x_i E_j-1(x_1 .. x_i-1)
        log[i + 1, :, 0] = 0.0
        log[i + 1, :, 1:], tangent[i + 1, :, 1:] = _log_sum(
            np.stack([log[i, :, 1:], log[i, :, :-1] + x[:, i, np.newaxis]], axis=-1),
            np.stack([tangent[i, :, 1:], tangent[i, :, :-1] + v[:, i, np.newaxis]], axis=-1),
        )
    return _Polynomials(log, tangent)


def _log_sum(logs: Array, tangents: Array) -> tuple[Array, Array]:
    """Return log-sum-exp along the last axis, and its derivative; -inf and 0 of nothing."""
    top = logs.max(axis=-1, keepdims=True)
    top = np.where(top == -np.inf, 0.0, top)
    power = np.exp(logs - top)
    total = power.sum(axis=-1)
    there = np.where(total > 0.0, total, 1.0)
    log = np.where(total > 0.0, np.log(there) + top[..., 0], -np.inf)
    return log, np.sum(power * tangents, axis=-1) / there


def checked_law(cdf: str) -> str:
    """Return the name of a distribution function, or say what is wrong."""
    if cdf not in ("laplace", "logistic"):
        raise ValueError(f"expected cdf 'laplace' or 'logistic', not {cdf!r}")
    return cdf


def _threshold(x: Array, k: int, law: str) -> Array:
    k = _checked_rows(x, k)
    masked = x == -np.inf
    count = np.sum(~masked, axis=1, keepdims=True)
    lowest = np.where(masked, np.inf, x).min(axis=1, keepdims=True)
    # All logits at one end of the interval would give k or more, or k or less.
    level = _quantile(np.minimum(k / count, 1.0 - 2.0**-53), law)
    lower, upper = lowest - level, x.max(axis=1, keepdims=True) - level
    for _ in range(_HALVINGS):
        middle = lower + 0.5 * (upper - lower)
        enough = np.sum(_distribution(x - middle, law), axis=1, keepdims=True) >= k
        lower, upper = np.where(enough, middle, lower), np.where(enough, upper, middle)
    p = _distribution(x - lower, law)
    return np.where(count == k, np.where(masked, 0.0, 1.0), p)


def _distribution(t: Array, law: str) -> Array:
    power = np.exp(-np.abs(t))
    upper = 1.0 / (1.0 + power) if law == "logistic" else 1.0 - 0.5 * power
    lower = power / (1.0 + power) if law == "logistic" else 0.5 * power
    return np.where(t >= 0.0, upper, lower)


def _quantile(p: Array, law: str) -> Array:
    if law == "logistic":
        result: Array = np.log(p) - np.log1p(-p)
        return result
    return np.where(p < 0.5, np.log(2.0 * p), -np.log(2.0 * (1.0 - p)))


def _checked_rows(x: Array, k: int) -> int:
    k = checked_k(k, x.shape[1])
    fewest = np.sum(x > -np.inf, axis=1).min(initial=k)
    if fewest < k:
        raise ValueError(f"expected at least k = {k} classes that are not masked, not {fewest}")
    return k
