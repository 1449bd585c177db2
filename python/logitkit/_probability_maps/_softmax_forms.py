"""Softmax with another exponential, of the largest logits alone, or with a margin."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .._backend import bridge_for
from .._lines import one_axis
from .._real_array import real_array, real_number, whole_number
from ._rows import Array, checked_k, map_rows, pull_back, softmax_pull_back, softmax_rows


def taylor_softmax(x: Any, /, axis: int = -1, *, order: int = 2) -> Any:
    r"""
    Softmax with the Taylor polynomial of the exponential.

    .. math:: p_i = \frac{f_m(x_i)}{\sum_j f_m(x_j)}, \quad f_m(x) = \sum_{l=0}^m \frac{x^l}{l!}

    For an even order m the polynomial is positive. Its tails are heavy, and it is not monotone:
    logits far below zero gain weight again.

    Parameters
    ----------
    x : array_like or tensor, shape (..., n, ...)
        Logits: real numbers of at most 64 bits. ``-inf`` masks a class.
    axis : int, optional
        The axis of the `n` classes.
    order : int, optional
        The degree m of the polynomial: even and positive.

    Returns
    -------
    ndarray, shape of `x`
        The probabilities, in the floating-point type of `x`, ``float64`` for integers. A line
        with NaN or ``+inf``, or with nothing but ``-inf``, gives NaN.

    Raises
    ------
    TypeError
        If `x` does not hold real numbers of at most 64 bits in main memory.
    ValueError
        If `order` is odd or not positive.
    numpy.exceptions.AxisError
        If `x` has no such `axis`.

    See Also
    --------
    taylor_softmax_vjp : Its derivative.

    References
    ----------
    .. [1] A. de Brebisson, P. Vincent, "An exploration of softmax alternatives belonging to the
       spherical loss family", ICLR 2016, arXiv:1511.05042.

    Examples
    --------
    >>> from logitkit.distributions import taylor_softmax
    >>> taylor_softmax([2.0, 0.0, -1.0])
    array([0.76923077, 0.15384615, 0.07692308])
    """
    if (bridge := bridge_for(x)) is not None:
        return bridge.taylor_softmax(x, axis, order=order)
    order = checked_order(order)
    return map_rows(lambda rows: softmax_rows(_log_taylor(rows, order)), x, axis)


def taylor_softmax_vjp(x: Any, g: Any, /, axis: int = -1, *, order: int = 2) -> Any:
    r"""
    Product of a cotangent with the transposed Jacobian of `taylor_softmax`.

    .. math:: \frac{f_{m-1}(x_i)}{f_m(x_i)} \, p_i \Bigl(g_i - \sum_j p_j g_j\Bigr)

    Parameters
    ----------
    x : array_like, shape (..., n, ...)
        The logits that `taylor_softmax` was given.
    g : array_like, shape of `x`
        The gradient of a loss with respect to the probabilities.
    axis : int, optional
        The axis of the `n` classes.
    order : int, optional
        That of `taylor_softmax`.

    Returns
    -------
    ndarray, shape of `x`
        The gradient of the loss with respect to `x`.

    Raises
    ------
    ValueError
        If `x` and `g` differ in shape, or `order` is odd or not positive.

    See Also
    --------
    taylor_softmax : The function itself.
    """
    order = checked_order(order)

    def pulled(rows: Array, cotangents: Array) -> Array:
        finite = np.where(rows == -np.inf, 0.0, rows)
        scale = np.maximum(np.abs(finite), 1.0)
        slope = _scaled_taylor(finite, scale, order - 1) / _scaled_taylor(finite, scale, order)
        p = softmax_rows(_log_taylor(rows, order))
        return slope / scale * softmax_pull_back(p, cotangents)

    return pull_back(pulled, x, g, axis)


def top_k_softmax(x: Any, /, axis: int = -1, *, k: int) -> Any:
    r"""
    Softmax of the `k` largest logits; the others have probability zero.

    Parameters
    ----------
    x : array_like or tensor, shape (..., n, ...)
        Logits, in nats: real numbers of at most 64 bits. ``-inf`` masks a class.
    axis : int, optional
        The axis of the `n` classes.
    k : int
        How many, from 1 to `n`. Of equal logits the first ones count.

    Returns
    -------
    ndarray, shape of `x`
        The probabilities, as `taylor_softmax` returns them.

    Raises
    ------
    TypeError
        If `x` does not hold real numbers of at most 64 bits in main memory.
    ValueError
        If `k` is not from 1 to `n`.
    numpy.exceptions.AxisError
        If `x` has no such `axis`.

    See Also
    --------
    sparsemax : Zeros without a fixed number.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit.distributions import top_k_softmax
    >>> top_k_softmax(np.log([4.0, 1.0, 3.0]), k=2).round(6)
    array([0.571429, 0.      , 0.428571])
    """
    if (bridge := bridge_for(x)) is not None:
        return bridge.top_k_softmax(x, axis, k=k)
    return map_rows(lambda rows: _top_k_softmax(rows, k), x, axis)


def top_k_softmax_vjp(x: Any, g: Any, /, axis: int = -1, *, k: int) -> Any:
    """
    Product of a cotangent with the Jacobian of `top_k_softmax`.

    Parameters
    ----------
    x : array_like, shape (..., n, ...)
        The logits that `top_k_softmax` was given.
    g : array_like, shape of `x`
        The gradient of a loss with respect to the probabilities.
    axis : int, optional
        The axis of the `n` classes.
    k : int
        That of `top_k_softmax`.

    Returns
    -------
    ndarray, shape of `x`
        The gradient of the loss with respect to `x`, for a fixed choice of the largest.

    Raises
    ------
    ValueError
        If `x` and `g` differ in shape, or `k` is not from 1 to `n`.

    See Also
    --------
    top_k_softmax : The function itself.
    """
    return pull_back(lambda rows, c: softmax_pull_back(_top_k_softmax(rows, k), c), x, g, axis)


def margin_softmax(x: Any, target: ArrayLike, /, axis: int = -1, *, margin: float = 0.35) -> Any:
    r"""
    Softmax with the logit of the target lowered by a margin.

    .. math:: p_i \propto e^{x_i - m [i = y]}

    As a loss, :math:`-\log p_y` asks for a target that leads by `m` [1]_.

    Parameters
    ----------
    x : array_like or tensor, shape (..., n, ...)
        Logits, in nats: real numbers of at most 64 bits. ``-inf`` masks a class.
    target : array_like of int, shape of `x` without `axis`
        The classes y, from 0 to `n` - 1.
    axis : int, optional
        The axis of the `n` classes.
    margin : float, optional
        What the logit of the target is lowered by: m, in nats; finite.

    Returns
    -------
    ndarray, shape of `x`
        The probabilities, as `taylor_softmax` returns them.

    Raises
    ------
    TypeError
        If `x` does not hold real numbers of at most 64 bits in main memory, or `target` no
        integers.
    ValueError
        If a target is out of range, its shape does not fit, or `margin` is not finite.
    numpy.exceptions.AxisError
        If `x` has no such `axis`.

    See Also
    --------
    logitkit.softmax : The case ``margin = 0``.

    References
    ----------
    .. [1] F. Wang, J. Cheng, W. Liu, H. Liu, "Additive margin softmax for face verification",
       IEEE Signal Processing Letters 25(7), 2018, arXiv:1801.05599.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit.distributions import margin_softmax
    >>> margin_softmax(np.log([2.0, 1.0]), 0, margin=np.log(2.0))
    array([0.5, 0.5])
    """
    if (bridge := bridge_for(x)) is not None:
        return bridge.margin_softmax(x, target, axis, margin=margin)
    x, shift = _margin_shift(x, target, axis, margin)
    return map_rows(softmax_rows, x - shift, axis)


def margin_softmax_vjp(
    x: Any, target: ArrayLike, g: Any, /, axis: int = -1, *, margin: float = 0.35
) -> Any:
    """
    Product of a cotangent with the Jacobian of `margin_softmax`.

    Parameters
    ----------
    x : array_like, shape (..., n, ...)
        The logits that `margin_softmax` was given.
    target : array_like of int, shape of `x` without `axis`
        The classes that it was given.
    g : array_like, shape of `x`
        The gradient of a loss with respect to the probabilities.
    axis : int, optional
        The axis of the `n` classes.
    margin : float, optional
        That of `margin_softmax`.

    Returns
    -------
    ndarray, shape of `x`
        The gradient of the loss with respect to `x`.

    Raises
    ------
    ValueError
        If a shape does not fit, a target is out of range, or `margin` is not finite.

    See Also
    --------
    margin_softmax : The function itself.
    """
    x, shift = _margin_shift(x, target, axis, margin)
    return pull_back(lambda rows, c: softmax_pull_back(softmax_rows(rows), c), x - shift, g, axis)


def checked_order(order: int) -> int:
    """Return `order` if it is even and positive, or say what is wrong."""
    order = whole_number("order", order)
    if order < 2 or order % 2:
        raise ValueError(f"expected an order that is even and positive, not {order}")
    return order


def _scaled_taylor(x: Array, scale: Array, order: int) -> Array:
    """Return the polynomial over ``scale ** order``, from its highest term down."""
    ratio = x / scale
    total = np.full_like(x, 1.0 / math.factorial(order)) * ratio**order
    for degree in range(order):
        total = total + ratio**degree * scale ** (degree - order) / math.factorial(degree)
    return total


def _log_taylor(x: Array, order: int) -> Array:
    """Return the logarithm of the polynomial, which may be too large for a number itself."""
    finite = np.where(x == -np.inf, 0.0, x)
    scale = np.maximum(np.abs(finite), 1.0)
    log = order * np.log(scale) + np.log(_scaled_taylor(finite, scale, order))
    return np.where(x == -np.inf, -np.inf, log)


def _top_k_softmax(x: Array, k: int) -> Array:
    k = checked_k(k, x.shape[1])
    largest = np.argsort(-x, axis=1, kind="stable")[:, :k]
    kept = np.full_like(x, -np.inf)
    np.put_along_axis(kept, largest, np.take_along_axis(x, largest, axis=1), axis=1)
    return softmax_rows(kept)


def _margin_shift(x: Any, target: ArrayLike, axis: int, margin: float) -> tuple[Any, Any]:
    """Return `x`, and what is taken from it: the margin at the targets, in the type of x."""
    x = real_array("x", x)
    line = one_axis(axis, x.ndim)
    y, margin = checked_margin(x.shape, target, line, margin)
    x = x if x.dtype.kind not in "biu" else x.astype(np.float64)
    shift = np.zeros_like(x)
    np.put_along_axis(shift, np.expand_dims(y, line), margin, axis=line)
    return x, shift


def checked_margin(
    of_x: tuple[int, ...], target: ArrayLike, line: int, margin: float
) -> tuple[Any, float]:
    """Return targets as int64, one for each line of an array of this shape, and the margin."""
    y = np.asarray(target)
    n, shape = of_x[line], of_x[:line] + of_x[line + 1 :]
    if y.dtype.kind not in "iu" and y.size:
        raise TypeError(f"expected target of integers, not {y.dtype}")
    if y.shape != shape:
        raise ValueError(f"expected target of shape {shape}, that of x without axis, not {y.shape}")
    if not math.isfinite(margin := real_number("margin", margin)):
        raise ValueError(f"expected a finite margin, not {margin}")
    if (bad := (y < 0) | (y >= n)).any():
        place = tuple(map(int, np.argwhere(bad)[0]))
        raise ValueError(f"expected targets from 0 to {n - 1}, not {y[place]} at {place}")
    return y.astype(np.int64), margin
