"""Vector-Jacobian products of the softmax family: what a backward pass needs."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._backend import as_array, gpu_bridge_for
from ._lines import compute_type, delivered, normalized, reduced, result_type
from ._softmax import softmax


def softmax_vjp(y: Any, g: Any, /, axis: int | tuple[int, ...] | None = None) -> Any:
    r"""
    Product of a cotangent with the Jacobian of `softmax`.

    .. math:: y_i \Bigl(g_i - \sum_{j=1}^{n} y_j g_j\Bigr)

    The gradient of :math:`\sum_i g_i y_i` with respect to `x`, where
    ``y = softmax(x, axis)``.

    Parameters
    ----------
    y : array_like, shape (..., n, ...)
        What `softmax` returned: real numbers of at most 64 bits, like `g`.
    g : array_like, shape of `y`
        The cotangent: the gradient of a loss with respect to `y`.
    axis : int or tuple of ints, optional
        The axis, or the axes, that `softmax` was given. Default: all of them.

    Returns
    -------
    ndarray or scalar, shape of `y`
        The gradient of the loss with respect to `x`, in the type that NumPy promotes the
        arguments to, ``float64`` for integers. A line of zeros, as some define the softmax
        of a fully masked one, gives zeros; NaN propagates.

    Raises
    ------
    TypeError
        If an argument does not hold real numbers of at most 64 bits in main memory.
    ValueError
        If `y` and `g` differ in shape.
    numpy.exceptions.AxisError
        If `y` has no such `axis`.

    See Also
    --------
    logitkit.softmax : The function itself.
    logitkit.reference.softmax_vjp : The same in NumPy and ``float64``.

    Notes
    -----
    The Jacobian is symmetric, so this is the product with a tangent, too. The error is at most
    :math:`4 u y_i (|g_i| + \sum_j |y_j g_j|)`, where :math:`u` is ``2**-24`` in ``float32``, whose
    sums are accumulated in ``float64``, and ``2**-53`` in ``float64``, with :math:`n + 4` in place
    of 4.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit import softmax, softmax_vjp
    >>> y = softmax(np.log([1.0, 1.0, 2.0]))
    >>> softmax_vjp(y, [0.0, 0.0, 1.0])
    array([-0.125, -0.125,  0.25 ])
    """
    if (bridge := gpu_bridge_for(y)) is not None:
        return bridge.softmax_vjp(y, g, axis)
    shape, y, g, axes, dtype = _checked(y, g, axis)
    result = y * g
    dot = result.sum(axis=axes, keepdims=True, dtype=np.float64).astype(result.dtype)
    np.subtract(g, dot, out=result)
    result *= y
    return delivered(result.reshape(shape), None, dtype)


def log_softmax_vjp(y: Any, g: Any, /, axis: int | tuple[int, ...] | None = None) -> Any:
    r"""
    Product of a cotangent with the transposed Jacobian of `log_softmax`.

    .. math:: g_i - e^{y_i} \sum_{j=1}^{n} g_j

    The gradient of :math:`\sum_i g_i y_i` with respect to `x`, where
    ``y = log_softmax(x, axis)``.

    Parameters
    ----------
    y : array_like, shape (..., n, ...)
        What `log_softmax` returned, in nats: real numbers of at most 64 bits, like `g`.
    g : array_like, shape of `y`
        The cotangent: the gradient of a loss with respect to `y`.
    axis : int or tuple of ints, optional
        The axis, or the axes, that `log_softmax` was given. Default: all of them.

    Returns
    -------
    ndarray or scalar, shape of `y`
        The gradient of the loss with respect to `x`, in the type that NumPy promotes the
        arguments to, ``float64`` for integers. A line of ``-inf`` alone, as some define the
        result of a fully masked one, gives zeros; NaN propagates.

    Raises
    ------
    TypeError
        If an argument does not hold real numbers of at most 64 bits in main memory.
    ValueError
        If `y` and `g` differ in shape.
    numpy.exceptions.AxisError
        If `y` has no such `axis`.

    See Also
    --------
    logitkit.log_softmax : The function itself.
    logitkit.reference.log_softmax_vjp : The same in NumPy and ``float64``.

    Notes
    -----
    Sums of ``float32`` are accumulated in ``float64``.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit import log_softmax, log_softmax_vjp
    >>> y = log_softmax(np.log([1.0, 1.0, 2.0]))
    >>> log_softmax_vjp(y, [0.0, 0.0, 1.0])
    array([-0.25, -0.25,  0.5 ])
    """
    if (bridge := gpu_bridge_for(y)) is not None:
        return bridge.log_softmax_vjp(y, g, axis)
    shape, y, g, axes, dtype = _checked(y, g, axis)
    total = g.sum(axis=axes, keepdims=True, dtype=np.float64).astype(g.dtype)
    result = np.exp(y)
    result *= total
    np.subtract(g, result, out=result)
    masked = np.max(y, axis=axes, keepdims=True, initial=-np.inf) == -np.inf
    np.copyto(result, 0.0, where=masked)
    return delivered(result.reshape(shape), None, dtype)


def logsumexp_vjp(
    x: Any, g: Any, /, axis: int | tuple[int, ...] | None = None, keepdims: bool = False
) -> Any:
    r"""
    Product of a cotangent with the gradient of `logsumexp`.

    .. math:: g \frac{e^{x_i}}{\sum_{j=1}^{n} e^{x_j}}

    The gradient of ``g * logsumexp(x, axis)``, summed over all lines, with respect to `x`.

    Parameters
    ----------
    x : array_like, shape (..., n, ...)
        What `logsumexp` was given, in nats: real numbers of at most 64 bits, like `g`.
    g : array_like, shape of ``logsumexp(x, axis, keepdims=keepdims)``
        The cotangent: the gradient of a loss with respect to that.
    axis : int or tuple of ints, optional
        The axis, or the axes, that are summed over. Default: all of them.
    keepdims : bool, optional
        Whether `g` has those axes, with length one.

    Returns
    -------
    ndarray or scalar, shape of `x`
        The gradient of the loss with respect to `x`, in the type that NumPy promotes the
        arguments to, ``float64`` for integers. It is zero along a line of ``-inf`` alone,
        where there is nothing to gain, and NaN along one with NaN or ``+inf``.

    Raises
    ------
    TypeError
        If an argument does not hold real numbers of at most 64 bits in main memory.
    ValueError
        If `g` has not the shape of the result of `logsumexp`.
    numpy.exceptions.AxisError
        If `x` has no such `axis`.

    See Also
    --------
    logitkit.logsumexp : The function itself.
    logitkit.softmax : The gradient of a single line.
    logitkit.reference.logsumexp_vjp : The same in NumPy and ``float64``.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit import logsumexp_vjp
    >>> x = np.log([[1.0, 1.0, 2.0], [3.0, 1.0, 4.0]])
    >>> logsumexp_vjp(x, [1.0, -8.0], axis=1)
    array([[ 0.25,  0.25,  0.5 ],
           [-3.  , -1.  , -4.  ]])
    """
    if (bridge := gpu_bridge_for(x)) is not None:
        return bridge.logsumexp_vjp(x, g, axis, keepdims)
    x, g = as_array(x), as_array(g)
    given, dtype = x.shape, _real_type(x, g)
    x = np.atleast_1d(x).astype(compute_type(dtype), copy=False)
    axes = normalized(axis, x.ndim)
    expected = reduced(x.shape, axes, keepdims)
    if g.shape != expected:
        raise ValueError(f"expected g of shape {expected}, that of the result, not {g.shape}")
    result = softmax(x, axes)
    # All elements of a line are NaN, or none is.
    first = result[tuple(slice(1) if i in axes else slice(None) for i in range(x.ndim))]
    if np.isnan(first).any():
        np.copyto(result, 0.0, where=np.max(x, axis=axes, keepdims=True) == -np.inf)
    result *= g.reshape(reduced(x.shape, axes, keepdims=True))
    return delivered(result.reshape(given), None, dtype)


def _real_type(*arrays: Any) -> np.dtype[Any]:
    """Return the type of the result, if the kernels can compute it."""
    dtype = result_type(*arrays)
    if compute_type(dtype) is None:
        raise TypeError(f"expected real numbers of at most 64 bits, not {dtype}")
    return dtype


def _checked(
    y: Any, g: Any, axis: Any
) -> tuple[tuple[int, ...], Any, Any, tuple[int, ...], np.dtype[Any]]:
    """Return a shape, arrays of the type to compute in, the axes, and the type of the result."""
    y, g = as_array(y), as_array(g)
    if y.shape != g.shape:
        raise ValueError(f"expected g of shape {y.shape}, that of y, not {g.shape}")
    shape, dtype = y.shape, _real_type(y, g)
    compute = compute_type(dtype)
    y, g = (np.atleast_1d(array).astype(compute, copy=False) for array in (y, g))
    return shape, y, g, normalized(axis, y.ndim), dtype
