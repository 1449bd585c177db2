"""Log-mean-exp and the smooth maximum of tensors."""

import math
from functools import partial
from typing import Any

from torch import Tensor

from .. import _log_arithmetic
from .._real_array import real_number
from ._logsumexp import LogSumExp, reduced
from ._operator import operator
from ._softmax import probabilities
from ._tensors import as_array, as_tensor, kept

_INF = float("inf")


class LogMeanExp(LogSumExp):
    name = "logmeanexp"

    @staticmethod
    def compute(x: Any, dim: Any) -> Any:
        value = _log_arithmetic.logmeanexp(as_array(x), tuple(dim), keepdims=True)
        return as_tensor(value).contiguous()


class SmoothMax:
    name, schema = "smooth_max", "(Tensor x, SymInt[] dim, float tau) -> Tensor"

    @staticmethod
    def compute(x: Any, dim: Any, tau: Any) -> Any:
        value = _log_arithmetic.smooth_max(as_array(x), tuple(dim), tau=tau, keepdims=True)
        return as_tensor(value).contiguous()

    @staticmethod
    def fake(x: Any, dim: Any, tau: Any) -> Any:
        return x.new_empty(kept(x, dim))

    @staticmethod
    def pullback(x: Any, dim: Any, tau: Any, g: Any) -> Any:
        return g * tempered(x, dim, tau)

    @staticmethod
    def pushforward(x: Any, dim: Any, tau: Any, t: Any) -> Any:
        t = t.masked_fill(x == -_INF, 0.0)  # which may be infinite there
        return (tempered(x, dim, tau) * t).sum(dim, keepdim=True)


logmeanexp_op, smooth_max_op = operator(LogMeanExp), operator(SmoothMax)


def tempered(x: Any, dim: Any, tau: Any) -> Any:
    """Return the probabilities of x / tau."""
    return probabilities(below_maximum(x, dim) / tau, dim)


def below_maximum(x: Any, dim: Any) -> Any:
    """Return `x` less the maximum of each line, a constant, which may then be divided by little."""
    if not x.numel():
        return x
    top = x.amax(dim, keepdim=True).detach()
    return x - top.masked_fill(top.isinf(), 0.0)


def logmeanexp(a: Any, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Any:
    r"""
    Logarithm of a mean of exponentials of a tensor, without overflow.

    .. math:: \operatorname{logmeanexp}(a) = \log \frac1n \sum_{j=1}^{n} e^{a_j}

    Parameters
    ----------
    a : Tensor, shape (..., n, ...)
        Log-weights, in nats: real numbers.
    axis : int or tuple of ints, optional
        The axis, or the axes, of `n` elements in all that the mean is taken over. Default: all
        of them.
    keepdims : bool, default False
        Whether to keep these axes, with length one.

    Returns
    -------
    Tensor, shape of `a` without `axis`
        Log of the mean weight, in nats, in the floating-point type of `a`, or in the default
        one.

    Raises
    ------
    TypeError
        If `a` is not a dense tensor of real numbers in main memory.
    numpy.exceptions.AxisError
        If `a` has no such `axis`.

    See Also
    --------
    logitkit.logmeanexp : The same for arrays.

    Examples
    --------
    >>> import torch
    >>> from logitkit import logmeanexp
    >>> logmeanexp(torch.tensor([1000.0, 1000.0])).item()
    1000.0
    """
    return reduced(_log_arithmetic.logmeanexp, logmeanexp_op, a, axis, keepdims)


def smooth_max(
    x: Any, axis: int | tuple[int, ...] | None = None, *, tau: float, keepdims: bool = False
) -> Any:
    r"""
    Smooth maximum of a tensor at a temperature.

    .. math:: \tau \log \sum_{j=1}^{n} e^{x_j / \tau}

    Parameters
    ----------
    x : Tensor, shape (..., n, ...)
        Real numbers.
    axis : int or tuple of ints, optional
        The axis, or the axes, of `n` elements in all. Default: all of them.
    tau : float
        The temperature, in units of `x`: above 0 and finite, a constant.
    keepdims : bool, default False
        Whether to keep these axes, with length one.

    Returns
    -------
    Tensor, shape of `x` without `axis`
        The smooth maximum, in units of `x` and in its floating-point type, or in the default
        one.

    Raises
    ------
    TypeError
        If `x` is not a dense tensor of real numbers in main memory, or `tau` is a tensor.
    ValueError
        If `tau` is not above 0 and finite.
    numpy.exceptions.AxisError
        If `x` has no such `axis`.

    See Also
    --------
    logitkit.smooth_max : The same for arrays.

    Examples
    --------
    >>> import torch
    >>> from logitkit import smooth_max
    >>> x = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    >>> smooth_max(x, tau=1e-3).backward()
    >>> x.grad.tolist()
    [0.0, 0.0, 1.0]
    """
    if isinstance(tau, Tensor):
        raise TypeError("expected tau to be a number: divide x by the tensor, and multiply by it")
    tau = real_number("tau", tau)
    if not (math.isfinite(tau) and tau > 0.0):
        raise ValueError(f"expected tau > 0 and finite, not {tau}")
    function = partial(_log_arithmetic.smooth_max, tau=tau)
    return reduced(function, lambda y, dim: smooth_max_op(y, dim, tau), x, axis, keepdims)
