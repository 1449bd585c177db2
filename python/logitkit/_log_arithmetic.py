"""Sums, differences and means of numbers that are given by their logarithms."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ._backend import bridge_for
from ._lines import normalized, result_type
from ._logsumexp import logsumexp
from ._real_array import real_array, real_number


def logmeanexp(a: Any, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Any:
    r"""
    Logarithm of a mean of exponentials, without overflow.

    .. math:: \operatorname{logmeanexp}(a) = \log \frac1n \sum_{j=1}^{n} e^{a_j}
        = \operatorname{logsumexp}(a) - \log n

    Parameters
    ----------
    a : array_like, shape (..., n, ...)
        Log-weights, in nats: real numbers of at most 64 bits.
    axis : int or tuple of ints, optional
        The axis, or the axes, of `n` elements in all that the mean is taken over. Default:
        all of them.
    keepdims : bool, default False
        Whether to keep these axes, with length one.

    Returns
    -------
    ndarray or scalar, shape of `a` without `axis`
        Log of the mean weight, in nats, in the floating-point type of `a`, or in ``float64``
        if it has none. The error is at most one unit in the last place of ``logsumexp(a)``,
        half of log(n) and half of the result. An empty mean is ``nan``; `n` counts masked
        elements, -inf, as well: they are weights of zero.

    Raises
    ------
    TypeError
        If `a` does not hold real numbers of at most 64 bits.
    numpy.exceptions.AxisError
        If `a` has no such `axis`.

    See Also
    --------
    logitkit.logsumexp : With weights too: ``logsumexp(a, b=w / w.sum())`` is a weighted mean.

    Notes
    -----
    Arguments as in ``jax.nn.logmeanexp`` and ``tfp.math.reduce_logmeanexp``.

    Examples
    --------
    >>> from logitkit import logmeanexp
    >>> float(logmeanexp([1000.0, 1000.0]))
    1000.0
    """
    if (bridge := bridge_for(a)) is not None:
        return bridge.logmeanexp(a, axis, keepdims)
    a = real_array("a", a)
    total = logsumexp(a, axis=axis, keepdims=keepdims)
    n = a.size // np.size(total) if np.size(total) else 0
    if n == 0:
        return np.full_like(total, np.nan)[()]
    wide = np.asarray(total, np.float64 if total.dtype.itemsize < 8 else None)
    return (wide - math.log(n)).astype(total.dtype)[()]


def logaddexp(x1: Any, x2: Any, /) -> Any:
    r"""
    Logarithm of the sum of two exponentials, accurate near zero too.

    .. math:: \log(e^{x_1} + e^{x_2})

    Parameters
    ----------
    x1, x2 : array_like
        Log-weights, in nats: real numbers of at most 64 bits, broadcast against each other.

    Returns
    -------
    ndarray or scalar, shape of `x1` and `x2`, broadcast
        Log of the total weight, in nats, with the error of `logsumexp`: 1 unit in the last
        place in ``float32``, and in ``float64`` down to results of 1e-3, below which it is
        2^-100. The type is the one that NumPy promotes the arguments to, ``float64`` for
        integers. Infinities and NaN as in ``numpy.logaddexp``.

    Raises
    ------
    TypeError
        If an argument does not hold real numbers of at most 64 bits.
    ValueError
        If the shapes do not fit each other.

    See Also
    --------
    logitkit.logsubexp : The difference.

    Notes
    -----
    ``numpy.logaddexp`` adds a logarithm to the larger argument, which cancels where the weights
    sum to about one: of ``log(p), log(1 - p)`` it keeps no digit.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit import logaddexp
    >>> logaddexp([0.0, -np.inf], [[0.0], [1.0]])
    array([[0.69314718, 0.        ],
           [1.31326169, 1.        ]])
    """
    x1, x2 = _promoted(x1=x1, x2=x2)
    return logsumexp(np.stack([x1, x2]), axis=0)


def logsubexp(x1: Any, x2: Any, /) -> Any:
    r"""
    Logarithm of the difference of two exponentials.

    .. math:: \log(e^{x_1} - e^{x_2})

    Parameters
    ----------
    x1, x2 : array_like
        Log-weights, in nats: real numbers of at most 64 bits, broadcast against each other.

    Returns
    -------
    ndarray or scalar, shape of `x1` and `x2`, broadcast
        Log of what is left, in nats: ``-inf`` where the arguments are equal, ``nan`` without a
        warning where ``x1 < x2``, where one is ``nan`` and where both are ``inf``. The error is
        at most 2^-51 (1 + abs(x1) + abs(result)), and in ``float32`` half a unit in the last
        place more. The type is the one that NumPy promotes the arguments to, ``float64``
        for integers.

    Raises
    ------
    TypeError
        If an argument does not hold real numbers of at most 64 bits.
    ValueError
        If the shapes do not fit each other.

    See Also
    --------
    logitkit.log1mexp : The same for ``x1 = 0``.

    Notes
    -----
    Computed as ``x1 + log1mexp(x2 - x1)`` in ``float64``, with what the difference loses to
    rounding put back.

    Examples
    --------
    >>> from logitkit import logsubexp
    >>> float(logsubexp(1000.0, 999.0))
    999.5413248546129
    """
    x1, x2 = _promoted(x1=x1, x2=x2)
    result = x1.dtype
    x1, x2 = x1.astype(np.float64, copy=False), x2.astype(np.float64, copy=False)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore", under="ignore"):
        gap = x2 - x1
        # What rounding took from the gap (Knuth's exact difference) matters where e^gap is
        # near 1: log1mexp moves by lost * gap' / gap there.
        part = gap - x2
        lost = (x2 - (gap - part)) - (x1 + part)
        slope = np.where(gap < 0.0, np.exp(gap) / np.expm1(gap), 0.0)
        correction = np.where(np.isfinite(lost) & (lost != 0.0), lost * slope, 0.0)
        left = x1 + (_log1mexp(gap) + correction)
        # The difference of two equal infinities is no number, of two zero weights it is zero.
        left = np.where((x1 == x2) & (x1 < np.inf), -np.inf, left)
        return left.astype(result)[()]


def log1mexp(x: Any, /) -> Any:
    r"""
    Logarithm of one minus an exponential, accurate at both ends.

    .. math:: \log(1 - e^{x}), \quad x \le 0

    Parameters
    ----------
    x : array_like
        Logarithms of probabilities, in nats: real numbers of at most 64 bits.

    Returns
    -------
    ndarray or scalar, shape of `x`
        Logarithms of the complements, in nats, in the floating-point type of `x`, or in
        ``float64`` if it has none: ``-inf`` for zero, zero for ``-inf``, ``nan`` without a
        warning for ``x > 0``. The error is at most 2 units in the last place, 3 with NumPy
        1, whose exponential errs more, and 1 in ``float32``.

    Raises
    ------
    TypeError
        If `x` does not hold real numbers of at most 64 bits.

    See Also
    --------
    logitkit.logsubexp : The difference of two exponentials.

    Notes
    -----
    As ``log(-expm1(x))`` above ``-log(2)`` and ``log1p(-exp(x))`` below [1]_. The sign of `x`
    is that of a log-probability, as the name says; ``jax.nn.log1mexp`` and
    ``tfp.math.log1mexp`` take ``-x``.

    References
    ----------
    .. [1] M. Maechler, "Accurately computing log(1 - exp(-\|a\|))", vignette of the R package
       Rmpfr, 2012.

    Examples
    --------
    >>> from logitkit import log1mexp
    >>> log1mexp([-1e-20, -1.0, -40.0])
    array([-4.60517019e+01, -4.58675145e-01, -4.24835426e-18])
    """
    x = real_array("x", x)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore", under="ignore"):
        return _log1mexp(x.astype(np.float64, copy=False)).astype(result_type(x))[()]


def smooth_max(
    x: Any, axis: int | tuple[int, ...] | None = None, *, tau: float, keepdims: bool = False
) -> Any:
    r"""
    Smooth maximum at a temperature.

    .. math:: \tau \log \sum_{j=1}^{n} e^{x_j / \tau}

    Parameters
    ----------
    x : array_like, shape (..., n, ...)
        Real numbers of at most 64 bits.
    axis : int or tuple of ints, optional
        The axis, or the axes, of `n` elements in all. Default: all of them.
    tau : float
        The temperature, in units of `x`: above 0 and finite.
    keepdims : bool, default False
        Whether to keep these axes, with length one.

    Returns
    -------
    ndarray or scalar, shape of `x` without `axis`
        The smooth maximum, in units of `x` and in its floating-point type, or in ``float64``
        if it has none. It exceeds the maximum by at most ``tau * log(n)``. The error is at most
        ``3 * tau * log(n) + abs(result)`` units of roundoff, which is 2^-53, or 2^-24 in
        ``float32``. Empty, infinite and NaN as in `logsumexp`.

    Raises
    ------
    TypeError
        If `x` does not hold real numbers of at most 64 bits.
    ValueError
        If `tau` is not above 0 and finite.
    numpy.exceptions.AxisError
        If `x` has no such `axis`.

    See Also
    --------
    logitkit.bounds.tempered : How far it is from the maximum.

    Notes
    -----
    It falls to the maximum as `tau` goes to 0, and grows like the mean plus ``tau * log(n)``
    for large `tau`. The maximum is taken out before the division, so that no digit of `x` is
    lost, and a tiny `tau` does not overflow.

    Examples
    --------
    >>> from logitkit import smooth_max
    >>> [round(float(smooth_max([1.0, 2.0, 3.0], tau=tau)), 3) for tau in (2.0, 0.5, 1e-300)]
    [4.361, 3.071, 3.0]
    """
    if (bridge := bridge_for(x)) is not None:
        return bridge.smooth_max(x, axis, tau=tau, keepdims=keepdims)
    tau = real_number("tau", tau)
    if not (math.isfinite(tau) and tau > 0.0):
        raise ValueError(f"expected tau > 0 and finite, not {tau}")
    x = real_array("x", x)
    axis = None if axis is None else normalized(axis, x.ndim)
    x = x.astype(result_type(x), copy=False)
    wider = _wider(x.dtype, tau)
    if wider != x.dtype:
        result = smooth_max(x.astype(wider), axis, tau=tau, keepdims=keepdims)
        with np.errstate(over="ignore", under="ignore"):
            return result.astype(x.dtype)
    peak = np.max(x, axis=axis, keepdims=True, initial=-np.inf)
    peak = np.where(np.isfinite(peak), peak, x.dtype.type(0.0))  # inf - inf would be NaN
    with np.errstate(over="ignore", under="ignore"):
        rest = logsumexp((x - peak) / x.dtype.type(tau), axis=axis, keepdims=True)
        result = (peak + np.asarray(tau * rest.astype(np.float64))).astype(x.dtype)
    return result[()] if keepdims else np.squeeze(result, axis=axis)[()]


def _wider(dtype: np.dtype[Any], tau: float) -> np.dtype[Any]:
    """Return the type to compute in: float32 for half types, float64 if it does not hold tau."""
    limits = np.finfo(np.float32)
    if dtype != np.float64 and float(limits.tiny) <= tau <= float(limits.max):
        return np.dtype(np.float32)
    return np.dtype(np.float64)


def _log1mexp(x: Any) -> Any:
    return np.where(x > -math.log(2.0), np.log(-np.expm1(x)), np.log1p(-np.exp(x)))


def _promoted(**given: Any) -> tuple[Any, Any]:
    """Return two arrays of one floating-point type and shape."""
    arrays = [real_array(name, value) for name, value in given.items()]
    # A Python number takes the type of the array beside it, as in NumPy's own functions.
    operands = [
        v if type(v) in (bool, int, float) else a
        for v, a in zip(given.values(), arrays, strict=True)
    ]
    result = result_type(*operands)
    try:
        first, second = np.broadcast_arrays(*arrays)
    except ValueError:
        shapes = " against ".join(
            f"{n} of shape {a.shape}" for n, a in zip(given, arrays, strict=True)
        )
        raise ValueError(f"cannot broadcast {shapes}") from None
    return first.astype(result, copy=False), second.astype(result, copy=False)
