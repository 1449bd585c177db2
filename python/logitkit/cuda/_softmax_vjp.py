"""Vector-Jacobian products of the softmax family, of arrays on a GPU."""

from __future__ import annotations

import math
from typing import Any

from .._lines import normalized, reduced
from ._arrays import as_floating, compute_name, dtype_name, namespace_of, with_wide_types
from ._softmax import softmax


@with_wide_types
def softmax_vjp(y: Any, g: Any, /, axis: int | tuple[int, ...] | None = None) -> Any:
    """
    Product of a cotangent with the Jacobian of `softmax`, of arrays on a GPU.

    Parameters
    ----------
    y : array on a GPU, shape (..., n, ...)
        What `softmax` returned: real numbers.
    g : array on a GPU, shape of `y`
        The cotangent: the gradient of a loss with respect to `y`.
    axis : int or tuple of ints, optional
        The axis, or the axes, that `softmax` was given. Default: all of them.

    Returns
    -------
    array, shape of `y`
        The gradient of the loss with respect to the logits, in the type that the arguments are
        promoted to, ``float64`` for integers.

    Raises
    ------
    TypeError
        If an argument does not hold real numbers.
    ValueError
        If `y` and `g` differ in shape.
    numpy.exceptions.AxisError
        If `y` has no such `axis`.

    See Also
    --------
    logitkit.softmax_vjp : The same for arrays in main memory, with explanations.

    Notes
    -----
    Sums of ``float32`` are accumulated in ``float64``. There is no kernel of its own: the array's
    library computes what `logitkit.softmax_vjp` does.
    """
    xp, y, g, axes, dtype = _checked(y, g, axis)
    return xp.astype(y * (g - _total(y * g, axes)), dtype)


@with_wide_types
def log_softmax_vjp(y: Any, g: Any, /, axis: int | tuple[int, ...] | None = None) -> Any:
    """
    Product of a cotangent with the transposed Jacobian of `log_softmax`, of arrays on a GPU.

    Parameters
    ----------
    y : array on a GPU, shape (..., n, ...)
        What `log_softmax` returned, in nats: real numbers.
    g : array on a GPU, shape of `y`
        The cotangent: the gradient of a loss with respect to `y`.
    axis : int or tuple of ints, optional
        The axis, or the axes, that `log_softmax` was given. Default: all of them.

    Returns
    -------
    array, shape of `y`
        The gradient of the loss with respect to the logits, in the type that the arguments are
        promoted to, ``float64`` for integers; zeros along a line of ``-inf`` alone.

    Raises
    ------
    TypeError
        If an argument does not hold real numbers.
    ValueError
        If `y` and `g` differ in shape.
    numpy.exceptions.AxisError
        If `y` has no such `axis`.

    See Also
    --------
    logitkit.log_softmax_vjp : The same for arrays in main memory, with explanations.
    """
    xp, y, g, axes, dtype = _checked(y, g, axis)
    result = g - xp.exp(y) * _total(g, axes)
    return xp.astype(_without_masked(result, y, axes), dtype)


@with_wide_types
def logsumexp_vjp(
    x: Any, g: Any, /, axis: int | tuple[int, ...] | None = None, keepdims: bool = False
) -> Any:
    """
    Product of a cotangent with the gradient of `logsumexp`, of arrays on a GPU.

    Parameters
    ----------
    x : array on a GPU, shape (..., n, ...)
        What `logsumexp` was given, in nats: real numbers.
    g : array on a GPU, shape of ``logsumexp(x, axis, keepdims=keepdims)``
        The cotangent: the gradient of a loss with respect to that.
    axis : int or tuple of ints, optional
        The axis, or the axes, that are summed over. Default: all of them.
    keepdims : bool, optional
        Whether `g` has those axes, with length one.

    Returns
    -------
    array, shape of `x`
        The gradient of the loss with respect to `x`, in the type that the arguments are promoted
        to, ``float64`` for integers. It is zero along a line of ``-inf`` alone.

    Raises
    ------
    TypeError
        If an argument does not hold real numbers.
    ValueError
        If `g` has not the shape of the result of `logsumexp`.
    numpy.exceptions.AxisError
        If `x` has no such `axis`.

    See Also
    --------
    logitkit.logsumexp_vjp : The same for arrays in main memory, with explanations.
    """
    axes = normalized(axis, x.ndim)
    expected = reduced(tuple(x.shape), axes, keepdims)
    if tuple(g.shape) != expected:
        raise ValueError(
            f"expected g of shape {expected}, that of the result, not {tuple(g.shape)}"
        )
    xp, x, g, dtype = _promoted(x, g)
    if 0 in x.shape:
        return xp.astype(x, dtype)
    result = _without_masked(softmax(x, axes if x.ndim else None), x, axes)
    return xp.astype(result * g.reshape(reduced(tuple(x.shape), axes, keepdims=True)), dtype)


def _checked(y: Any, g: Any, axis: Any) -> tuple[Any, Any, Any, tuple[int, ...], Any]:
    """Return the library, arrays of the type to compute in, the axes, and the result's type."""
    if tuple(y.shape) != tuple(g.shape):
        raise ValueError(f"expected g of shape {tuple(y.shape)}, that of y, not {tuple(g.shape)}")
    axes = normalized(axis, y.ndim)
    xp, y, g, dtype = _promoted(y, g)
    return xp, y, g, axes, dtype


def _promoted(x: Any, g: Any) -> tuple[Any, Any, Any, Any]:
    xp, x, g = namespace_of(x), as_floating(x), as_floating(g)
    dtype = x.dtype if dtype_name(x) == dtype_name(g) else xp.result_type(x, g)
    x, g = xp.astype(x, dtype), xp.astype(g, dtype)
    compute = getattr(xp, compute_name(x))
    return xp, xp.astype(x, compute), xp.astype(g, compute), dtype


def _total(x: Any, axes: tuple[int, ...]) -> Any:
    """Return sums over the axes, which stay; accumulated in float64."""
    xp = namespace_of(x)
    if not axes:
        return x
    return xp.astype(xp.sum(x, axis=axes, keepdims=True, dtype=xp.float64), x.dtype)


def _without_masked(result: Any, x: Any, axes: tuple[int, ...]) -> Any:
    """Return `result`, with zeros along lines where all of `x` is -inf."""
    xp = namespace_of(x)
    if 0 in x.shape:
        return result
    largest = xp.max(x, axis=axes, keepdims=True) if axes else x
    return xp.where(largest == -math.inf, xp.zeros_like(result), result)
