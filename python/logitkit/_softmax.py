"""Softmax and its logarithm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from . import _cpu, reference
from ._backend import as_array, bridge_for
from ._lines import (
    Lines,
    check_out,
    compute_type,
    delivered,
    normalized,
    plain,
    plain_result,
    result_type,
)


def softmax(x: Any, axis: int | tuple[int, ...] | None = None, *, out: Any = None) -> Any:
    r"""
    Exponentials, divided by their sum.

    .. math:: \operatorname{softmax}(x)_i = \frac{e^{x_i}}{\sum_{j=1}^{n} e^{x_j}}

    The probabilities whose logits are `x`; the gradient of `logsumexp`. Arguments, defaults
    and special values are those of ``scipy.special.softmax``.

    Parameters
    ----------
    x : array_like, shape (..., n, ...)
        Logits, in nats: real or complex numbers.
    axis : int or tuple of ints, optional
        The axis, or the axes, of `n` elements in all that sum to one. Default: all of them.
    out : ndarray, optional
        Where to write the result: an array of its shape and type, which is also returned. It
        may be `x` itself.

    Returns
    -------
    ndarray or scalar, shape of `x`
        Probabilities, in the floating-point type of `x`, or in ``float64`` if it has none.
        They are NaN along lines with NaN or ``+inf``, or with ``-inf`` alone.

    Raises
    ------
    TypeError
        If `x` does not hold numbers in main memory, or `out` is not an array of the result's
        type.
    ValueError
        If `n` is zero, or `out` has another shape than `x` or is read-only.
    numpy.exceptions.AxisError
        If `x` has no such `axis`.

    See Also
    --------
    logitkit.log_softmax : Its logarithm, which does not underflow.
    logitkit.softmax_vjp : The product of a cotangent with its Jacobian.
    logitkit.reference.softmax : The same in NumPy and ``float64``.

    Notes
    -----
    Real numbers of at most 64 bits run in the kernels: the error is at most 2 ulp in
    ``float32`` and in ``float64``. Half types are computed in ``float32`` and rounded once
    more. No copy is made of a dense ``float32`` or ``float64`` array, in any order of its
    axes, unless other axes lie between those in `axis`; the result has the same order.
    Complex numbers are computed by the reference.

    SciPy 1.17 computes small integers in half precision, wraps unsigned ones and refuses
    booleans; here they count as ``float64``.

    References
    ----------
    .. [1] P. Blanchard, D. J. Higham and N. J. Higham, "Accurately computing the log-sum-exp
       and softmax functions", IMA Journal of Numerical Analysis 41(4), 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit import softmax
    >>> softmax(np.log([1.0, 2.0, 5.0]))
    array([0.125, 0.25 , 0.625])
    >>> x = np.float32([[0.0, 1000.0], [-np.inf, 0.0]])
    >>> softmax(x, axis=1, out=x)
    array([[0., 1.],
           [0., 1.]], dtype=float32)
    """
    if (
        (short := plain(x, axis))
        and x.size > 0
        and (result := plain_result(x, x.shape, out)) is not None
    ):
        _cpu.softmax(*short, result)
        return result
    if (bridge := bridge_for(x)) is not None:
        return bridge.softmax(x, axis, out=out)
    return _along(_cpu.softmax, reference.softmax, x, axis, out)


def log_softmax(x: Any, axis: int | tuple[int, ...] | None = None, *, out: Any = None) -> Any:
    r"""
    Logarithm of `softmax`, which does not underflow.

    .. math:: \operatorname{log\_softmax}(x)_i = x_i - \log \sum_{j=1}^{n} e^{x_j}

    Log-probabilities of the classes whose logits are `x`. Arguments, defaults and special
    values are those of ``scipy.special.log_softmax``.

    Parameters
    ----------
    x : array_like, shape (..., n, ...)
        Logits, in nats: real or complex numbers.
    axis : int or tuple of ints, optional
        The axis, or the axes, of `n` elements in all whose exponentials sum to one. Default:
        all of them.
    out : ndarray, optional
        Where to write the result: an array of its shape and type, which is also returned. It
        may be `x` itself.

    Returns
    -------
    ndarray or scalar, shape of `x`
        Log-probabilities, in nats, in the floating-point type of `x`, or in ``float64`` if it
        has none. They are NaN along lines with NaN, or with ``-inf`` alone. In a line with
        ``+inf`` that element gives NaN, and all others ``-inf``.

    Raises
    ------
    TypeError
        If `x` does not hold numbers in main memory, or `out` is not an array of the result's
        type.
    ValueError
        If `n` is zero, or `out` has another shape than `x` or is read-only.
    numpy.exceptions.AxisError
        If `x` has no such `axis`.

    See Also
    --------
    logitkit.softmax : Its exponential; the notes on types and memory hold here too.
    logitkit.log_softmax_vjp : The product of a cotangent with its Jacobian.
    logitkit.reference.log_softmax : The same in NumPy and ``float64``.

    Notes
    -----
    The error is at most 2 ulp. What is closer to zero than four times the smallest normal
    number may be zero, and in ``float64`` a result near zero may lack ``n * 2**-1021``.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit import log_softmax
    >>> log_softmax(np.float32([0.0, 1000.0]))
    array([-1000.,     0.], dtype=float32)
    """
    if (
        (short := plain(x, axis))
        and x.size > 0
        and (result := plain_result(x, x.shape, out)) is not None
    ):
        _cpu.log_softmax(*short, result)
        return result
    if (bridge := bridge_for(x)) is not None:
        return bridge.log_softmax(x, axis, out=out)
    return _along(_cpu.log_softmax, reference.log_softmax, x, axis, out)


def _along(
    kernel: Callable[..., None], definition: Callable[..., Any], x: Any, axis: Any, out: Any
) -> Any:
    """Return the function that `kernel` computes, and `definition` for complex numbers."""
    x = as_array(x)
    dtype = result_type(x)
    axes = normalized(axis, max(x.ndim, 1))
    check_out(out, x.shape, dtype)
    array = np.atleast_1d(x)
    compute = compute_type(dtype)
    if compute is None:
        return delivered(definition(array, axes).reshape(x.shape), out, dtype)
    lines = Lines.of(array, axes, compute)
    if lines.array.shape[1] == 0:
        raise ValueError(f"expected lines of at least one element, not x of shape {x.shape}")
    folded = None if out is None else lines.fold(np.atleast_1d(out), in_place=True)
    if folded is not None:
        kernel(lines.array, 1, folded)
        return out
    copied = x.size > 0 and not np.may_share_memory(lines.array, x)
    dense = lines.array if copied else np.empty_like(lines.array)
    kernel(lines.array, 1, dense)
    return delivered(lines.unfold(dense, array.shape).reshape(x.shape), out, dtype)
