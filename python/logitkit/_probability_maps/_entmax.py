"""Sparsemax and entmax: probabilities that may be exactly zero."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._backend import bridge_for
from .._real_array import real_number
from ._rows import Array, map_rows, pull_back, softmax_rows, threshold_pull_back


def sparsemax(x: Any, /, axis: int = -1) -> Any:
    r"""
    Find the probabilities nearest to the logits: many are exactly zero.

    .. math:: p = \arg\min_{p \in \Delta} \|p - x\|^2, \quad p_i = \max(x_i - \tau, 0)

    Parameters
    ----------
    x : array_like or tensor, shape (..., n, ...)
        Logits: real numbers of at most 64 bits. ``-inf`` masks a class.
    axis : int, optional
        The axis of the `n` classes.

    Returns
    -------
    ndarray, shape of `x`
        The probabilities, in the floating-point type of `x`, ``float64`` for integers. A line
        with NaN or ``+inf``, or with nothing but ``-inf``, gives NaN.

    Raises
    ------
    TypeError
        If `x` does not hold real numbers of at most 64 bits in main memory.
    numpy.exceptions.AxisError
        If `x` has no such `axis`.

    See Also
    --------
    entmax : The family between softmax and this.

    Notes
    -----
    The threshold comes from sorting, in ``float64``: its error is a few units in the last place.

    References
    ----------
    .. [1] A. F. T. Martins, R. F. Astudillo, "From softmax to sparsemax: a sparse model of
       attention and multi-label classification", ICML 2016, arXiv:1602.02068.

    Examples
    --------
    >>> from logitkit.distributions import sparsemax
    >>> sparsemax([1.0, 0.5, -1.0])
    array([0.75, 0.25, 0.  ])
    """
    if (bridge := bridge_for(x)) is not None:
        return bridge.sparsemax(x, axis)
    return map_rows(_sparsemax, x, axis)


def sparsemax_vjp(x: Any, g: Any, /, axis: int = -1) -> Any:
    """
    Product of a cotangent with the Jacobian of `sparsemax`.

    Parameters
    ----------
    x : array_like, shape (..., n, ...)
        The logits that `sparsemax` was given.
    g : array_like, shape of `x`
        The gradient of a loss with respect to the probabilities.
    axis : int, optional
        The axis of the `n` classes.

    Returns
    -------
    ndarray, shape of `x`
        The gradient of the loss with respect to `x`: one of them where it has a kink.

    Raises
    ------
    ValueError
        If `x` and `g` differ in shape.

    See Also
    --------
    sparsemax : The function itself.
    """
    return entmax_vjp(x, g, axis, alpha=2.0)


def entmax15(x: Any, /, axis: int = -1) -> Any:
    r"""
    Entmax with alpha = 1.5: sparse probabilities with a continuous gradient.

    .. math:: p_i = \max(x_i / 2 - \tau, 0)^2

    Parameters
    ----------
    x : array_like or tensor, shape (..., n, ...)
        Logits: real numbers of at most 64 bits. ``-inf`` masks a class.
    axis : int, optional
        The axis of the `n` classes.

    Returns
    -------
    ndarray, shape of `x`
        The probabilities, as `sparsemax` returns them.

    Raises
    ------
    TypeError
        If `x` does not hold real numbers of at most 64 bits in main memory.
    numpy.exceptions.AxisError
        If `x` has no such `axis`.

    See Also
    --------
    entmax : The same for any alpha.

    Notes
    -----
    The threshold comes from sorting, in ``float64``: its error is a few units in the last place.

    References
    ----------
    .. [1] B. Peters, V. Niculae, A. F. T. Martins, "Sparse sequence-to-sequence models",
       ACL 2019, arXiv:1905.05702.

    Examples
    --------
    >>> from logitkit.distributions import entmax15
    >>> entmax15([1.0, 0.0, 0.0]).round(6)
    array([0.740253, 0.129873, 0.129873])
    """
    if (bridge := bridge_for(x)) is not None:
        return bridge.entmax15(x, axis)
    return map_rows(_entmax15, x, axis)


def entmax15_vjp(x: Any, g: Any, /, axis: int = -1) -> Any:
    """
    Product of a cotangent with the Jacobian of `entmax15`.

    Parameters
    ----------
    x : array_like, shape (..., n, ...)
        The logits that `entmax15` was given.
    g : array_like, shape of `x`
        The gradient of a loss with respect to the probabilities.
    axis : int, optional
        The axis of the `n` classes.

    Returns
    -------
    ndarray, shape of `x`
        The gradient of the loss with respect to `x`.

    Raises
    ------
    ValueError
        If `x` and `g` differ in shape.

    See Also
    --------
    entmax15 : The function itself.
    """
    return entmax_vjp(x, g, axis, alpha=1.5)


def entmax(x: Any, /, axis: int = -1, *, alpha: float = 1.5) -> Any:
    r"""
    Entmax: the family of softmax (alpha = 1) and sparsemax (alpha = 2).

    .. math:: p_i = \max((\alpha - 1) x_i - \tau, 0)^{1 / (\alpha - 1)}

    Parameters
    ----------
    x : array_like or tensor, shape (..., n, ...)
        Logits: real numbers of at most 64 bits. ``-inf`` masks a class.
    axis : int, optional
        The axis of the `n` classes.
    alpha : float, optional
        At least 1: the larger, the sparser.

    Returns
    -------
    ndarray, shape of `x`
        The probabilities, as `sparsemax` returns them.

    Raises
    ------
    TypeError
        If `x` does not hold real numbers of at most 64 bits in main memory.
    ValueError
        If `alpha` is below 1, infinite or NaN.
    numpy.exceptions.AxisError
        If `x` has no such `axis`.

    See Also
    --------
    sparsemax, entmax15 : Two members with thresholds from sorting.

    Notes
    -----
    Maximises :math:`p^T x + H_\alpha(p)` with the entropy of Tsallis [1]_. The threshold is
    found by bisection in ``float64``, to the last digit.

    References
    ----------
    .. [1] B. Peters, V. Niculae, A. F. T. Martins, "Sparse sequence-to-sequence models",
       ACL 2019, arXiv:1905.05702.

    Examples
    --------
    >>> from logitkit.distributions import entmax
    >>> entmax([1.0, 0.5, -1.0], alpha=2.0)
    array([0.75, 0.25, 0.  ])
    """
    if (bridge := bridge_for(x)) is not None:
        return bridge.entmax(x, axis, alpha=alpha)
    alpha = _checked_alpha(alpha)
    return map_rows(lambda rows: _entmax(rows, alpha), x, axis)


def entmax_vjp(x: Any, g: Any, /, axis: int = -1, *, alpha: float = 1.5) -> Any:
    r"""
    Product of a cotangent with the Jacobian of `entmax`.

    .. math:: s_i \Bigl(g_i - \frac{\sum_j s_j g_j}{\sum_j s_j}\Bigr), \quad
        s_i = p_i^{2 - \alpha} \text{ where } p_i > 0

    Parameters
    ----------
    x : array_like, shape (..., n, ...)
        The logits that `entmax` was given.
    g : array_like, shape of `x`
        The gradient of a loss with respect to the probabilities.
    axis : int, optional
        The axis of the `n` classes.
    alpha : float, optional
        That of `entmax`.

    Returns
    -------
    ndarray, shape of `x`
        The gradient of the loss with respect to `x`.

    Raises
    ------
    ValueError
        If `x` and `g` differ in shape, or `alpha` is below 1, infinite or NaN.

    See Also
    --------
    entmax : The function itself.
    """
    alpha = _checked_alpha(alpha)
    of_rows = {1.5: _entmax15, 2.0: _sparsemax}.get(alpha, lambda rows: _entmax(rows, alpha))

    def pulled(rows: Array, cotangents: Array) -> Array:
        p = of_rows(rows)
        slope = np.where(p > 0.0, np.where(p > 0.0, p, 1.0) ** (2.0 - alpha), 0.0)
        return threshold_pull_back(slope, cotangents)

    return pull_back(pulled, x, g, axis)


def _checked_alpha(alpha: float) -> float:
    alpha = real_number("alpha", alpha)
    if not 1.0 <= alpha < np.inf:
        raise ValueError(f"expected 1 <= alpha < inf, not {alpha}")
    return alpha


def _sparsemax(x: Array) -> Array:
    # The largest is at 0 and the threshold above -1, so that nothing below -1 has a part in it.
    z = np.maximum(x - x.max(axis=1, keepdims=True), -1.0)
    ordered = -np.sort(-z, axis=1)
    count = np.arange(1, z.shape[1] + 1)
    threshold = (np.cumsum(ordered, axis=1) - 1.0) / count
    return _normalised(np.maximum(z - _at_support(threshold, ordered), 0.0))


def _entmax15(x: Array) -> Array:
    z = np.maximum((x - x.max(axis=1, keepdims=True)) / 2.0, -1.0)
    ordered = -np.sort(-z, axis=1)
    count = np.arange(1, z.shape[1] + 1)
    # The first `count` squares sum to 1 at mean - sqrt(1 / count - variance).
    mean = np.cumsum(ordered, axis=1) / count
    variance = np.cumsum(ordered * ordered, axis=1) / count - mean * mean
    threshold = mean - np.sqrt(np.maximum(1.0 / count - variance, 0.0))
    return _normalised(np.maximum(z - _at_support(threshold, ordered), 0.0) ** 2)


def _at_support(threshold: Array, ordered: Array) -> Array:
    """Return the threshold of each row for as many of its largest logits as lie above it."""
    last = np.sum(threshold <= ordered, axis=1, keepdims=True) - 1
    # What is masked lies at -1, where rounding must not put the threshold below it.
    result: Array = np.maximum(np.take_along_axis(threshold, last, axis=1), -1.0)
    return result


def _entmax(x: Array, alpha: float) -> Array:
    if alpha == 1.0:
        return softmax_rows(x)
    z = np.maximum((alpha - 1.0) * (x - x.max(axis=1, keepdims=True)), -1.0)
    # One probability of 1 at the lower end, n equal ones of 1 / n at the upper one.
    lower = np.full((len(x), 1), -1.0)
    upper = np.full((len(x), 1), -(float(x.shape[1]) ** (1.0 - alpha)))
    for _ in range(60):
        middle = 0.5 * (lower + upper)
        mass = np.sum(_power(z - middle, alpha), axis=1, keepdims=True)
        lower = np.where(mass >= 1.0, middle, lower)
        upper = np.where(mass >= 1.0, upper, middle)
    return _normalised(_power(z - lower, alpha))


def _power(above: Array, alpha: float) -> Array:
    result: Array = np.maximum(above, 0.0) ** (1.0 / (alpha - 1.0))
    return result


def _normalised(p: Array) -> Array:
    result: Array = p / p.sum(axis=1, keepdims=True)
    return result
