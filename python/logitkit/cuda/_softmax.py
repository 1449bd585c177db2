"""Log-sum-exp, softmax and its statistics, of arrays on a GPU."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..reference import SoftmaxStats
from ._arrays import (
    Lines,
    as_floating,
    compute_name,
    delivered,
    dtype_name,
    empty,
    namespace_of,
    queue,
    with_wide_types,
    workspace,
)
from ._device import kernels
from ._weighted_logsumexp import log_of_sum, sign


@with_wide_types
def logsumexp(
    a: Any,
    axis: int | tuple[int, ...] | None = None,
    b: Any = None,
    keepdims: bool = False,
    return_sign: bool = False,
    *,
    out: Any = None,
) -> Any:
    """
    Logarithm of a sum of exponentials of an array on a GPU, without overflow.

    Parameters
    ----------
    a : array on a GPU, shape (..., n, ...)
        Log-weights, in nats: real numbers.
    axis : int or tuple of ints, optional
        The axis, or the axes, of `n` elements in all that are summed over. Default: all of them.
    b : array on a GPU or array_like, optional
        Weights of the terms, broadcast against `a`; negative ones subtract. A weight of zero drops
        its term, even an infinite one or NaN. Default: all are one.
    keepdims : bool, optional
        Whether the axes that are summed over stay, with length one.
    return_sign : bool, optional
        Whether to return the logarithm of the absolute value of the sum, and its sign. Without
        it the logarithm of a negative sum is NaN.
    out : array on a GPU, optional
        Where to write the result.

    Returns
    -------
    result : array, shape of `a` without `axis`
        In the type of `a` and `b`, or ``float64`` for integers. Without weights within
        2^-21 (1 + abs(result)) of the exact value in ``float32``, 2^-49 in ``float64``.
    sign : array, shape of `result`
        Only with `return_sign`: 1, 0 or -1, or NaN.

    Raises
    ------
    TypeError
        If `a` or `b` does not hold real numbers, or `out` is of another type than the result.
    ValueError
        If `b` cannot be broadcast against `a`, or `out` has another shape than the result.
    numpy.exceptions.AxisError
        If `a` has no such `axis`.

    See Also
    --------
    logitkit.logsumexp : The same for arrays in main memory.

    Notes
    -----
    Weighted sums have no kernel of their own: the array's library computes them, in ``float64``.
    Terms that cancel each other leave the digits of the others.
    """
    a = as_floating(a)
    if b is not None:
        return _weighted(a, b, axis, keepdims, return_sign, out)
    lines = Lines.of(a, axis)
    outer, _, inner = lines.array.shape
    result = empty((outer, inner), dtype_name(a), a)
    queue(kernels().logsumexp, lines.array, result, _memory(lines))
    result = delivered(lines.reduced(result, keepdims), out)
    if not return_sign:
        return result
    xp = namespace_of(result)
    sign = xp.astype(result > -float("inf"), result.dtype)
    return result, xp.where(xp.isnan(result), result, sign)


@with_wide_types
def softmax(x: Any, axis: int | tuple[int, ...] | None = None, *, out: Any = None) -> Any:
    """
    Softmax of an array on a GPU.

    Parameters
    ----------
    x : array on a GPU, shape (..., n, ...)
        Logits, in nats: real numbers.
    axis : int or tuple of ints, optional
        The axis, or the axes, of `n` elements in all that sum to one. Default: all of them.
    out : array on a GPU, optional
        Where to write the result.

    Returns
    -------
    array, shape of `x`
        Probabilities, in the type of `x`, or ``float64`` for integers. NaN along lines with NaN
        or ``+inf``, or with ``-inf`` alone.

    Raises
    ------
    TypeError
        If `x` does not hold real numbers, or `out` is of another type than the result.
    ValueError
        If `n` is zero, or `out` has another shape than `x`.
    numpy.exceptions.AxisError
        If `x` has no such `axis`.

    See Also
    --------
    logitkit.softmax : The same for arrays in main memory.
    """
    return _along(x, axis, out, is_log=False)


@with_wide_types
def log_softmax(x: Any, axis: int | tuple[int, ...] | None = None, *, out: Any = None) -> Any:
    """
    Logarithm of the softmax of an array on a GPU, which does not underflow.

    Parameters
    ----------
    x : array on a GPU, shape (..., n, ...)
        Logits, in nats: real numbers.
    axis : int or tuple of ints, optional
        The axis, or the axes, of `n` elements in all whose exponentials sum to one. Default: all
        of them.
    out : array on a GPU, optional
        Where to write the result.

    Returns
    -------
    array, shape of `x`
        Log-probabilities, in nats, in the type of `x`, or ``float64`` for integers.

    Raises
    ------
    TypeError
        If `x` does not hold real numbers, or `out` is of another type than the result.
    ValueError
        If `n` is zero, or `out` has another shape than `x`.
    numpy.exceptions.AxisError
        If `x` has no such `axis`.

    See Also
    --------
    logitkit.log_softmax : The same for arrays in main memory.
    """
    return _along(x, axis, out, is_log=True)


@with_wide_types
def softmax_stats(x: Any, axis: int | tuple[int, ...] = -1, *, scale: float = 1.0) -> SoftmaxStats:
    """
    Log-sum-exp, entropy, maximum and sum of squares of the softmax of an array on a GPU.

    Parameters
    ----------
    x : array on a GPU, shape (..., n, ...)
        Logits, in nats: real numbers.
    axis : int or tuple of ints, optional
        The axis, or the axes, of `n` elements in all.
    scale : float, optional
        What they are multiplied by first, at least 0.

    Returns
    -------
    SoftmaxStats
        A named tuple of arrays in the type that is computed in, ``float32`` for half types.

    Raises
    ------
    TypeError
        If `x` does not hold real numbers.
    ValueError
        If `scale` is negative or not finite.
    numpy.exceptions.AxisError
        If `x` has no such `axis`.

    See Also
    --------
    logitkit.softmax_stats : The same for arrays in main memory.
    """
    if not 0.0 <= scale < float("inf"):
        raise ValueError(f"expected a finite scale of at least 0, not {scale}")
    x = as_floating(x)
    lines = Lines.of(x, axis)
    outer, _, inner = lines.array.shape
    stats = empty((4, outer, inner), compute_name(x), x)
    queue(kernels().softmax_stats, lines.array, float(scale), stats, _memory(lines, 2))
    return SoftmaxStats(*(lines.reduced(stats[k], keepdims=False) for k in range(4)))


def _weighted(a: Any, b: Any, axis: Any, keepdims: bool, return_sign: bool, out: Any) -> Any:
    xp = namespace_of(a)
    if isinstance(b, (int, float)):
        b = xp.full((), b, dtype=a.dtype, device=a.device)
    b = as_floating(b if type(b) is type(a) else xp.asarray(np.asarray(b), device=a.device))
    dtype = a.dtype if dtype_name(a) == dtype_name(b) else xp.result_type(a, b)
    try:
        shape = np.broadcast_shapes(tuple(a.shape), tuple(b.shape))
    except ValueError:
        raise ValueError(
            f"cannot broadcast a of shape {tuple(a.shape)} against b of shape {tuple(b.shape)}"
        ) from None
    wide = [xp.broadcast_to(xp.astype(x, xp.float64), shape) for x in (a, b)]
    lines, weights = (Lines.of(x, axis) for x in wide)
    found = log_of_sum(lines.array, weights.array)
    log = found.log
    if not return_sign:
        log = xp.where(found.total < 0.0, xp.full_like(log, float("nan")), log)
    result = delivered(lines.reduced(xp.astype(log, dtype), keepdims), out)
    if not return_sign:
        return result
    return result, lines.reduced(xp.astype(sign(found.total), dtype), keepdims)


def _along(x: Any, axis: Any, out: Any, *, is_log: bool) -> Any:
    x = as_floating(x)
    lines = Lines.of(x, axis)
    if lines.array.shape[1] == 0:
        raise ValueError(f"expected lines of at least one element, not x of shape {tuple(x.shape)}")
    result = empty(tuple(lines.array.shape), dtype_name(x), x)
    queue(kernels().softmax, lines.array, result, _memory(lines), is_log=is_log)
    return delivered(lines.spread(result), out)


def _memory(lines: Lines, times: int = 1) -> Any:
    return workspace(times * kernels().softmax_workspace(*lines.array.shape), lines.array)
